//! `taffrail forward --kinesis`: every line once, as the direct path has it.

use super::kit::{World, base64, by_id};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use taffrail_tests::http::Reply;
use taffrail_tests::moto::Moto;
use taffrail_tests::proxy::{Action, Proxy};
use taffrail_tests::{eventually, let_pass, seconds, seed, verify};

#[test]
fn every_line_arrives_once_as_the_direct_path_sends_it() {
    for format in ["json", "compact"] {
        let world = World::new(2);
        let mut web = world.node.pod("web").namespace("shop").container("app");
        let mut db = world.node.pod("db").container("db");
        web.writes(500).rotate().writes_text(300);
        db.writes(200);
        web.writes_line("");
        web.writes_line(r#"{"kubernetes":{"namespace":"other"},"taffrail":{"id":"x"},"emoji":"\ud83d\udea2"}"#);
        web.writes_bytes("stderr", b"\xff\xfe\xfd");
        let agent = world.agent(format, &world.direct);
        let forwarder = world.forwarder(&world.config(""));
        let all = [&web, &db];
        let directly = eventually(seconds(90), "the direct path", || {
            let documents = world.direct.documents()?;
            if documents.len() == 1_003 { Ok(documents) } else { Err(documents.len().to_string()) }
        });
        let forwarded = eventually(seconds(90), "the other path", || {
            let documents = world.forwarded.documents()?;
            if documents.len() >= 1_003 { Ok(documents) } else { Err(documents.len().to_string()) }
        });
        verify::clean(&forwarded, &all);
        assert_eq!(by_id(&world.forwarded, &forwarded), by_id(&world.direct, &directly), "{format}");
        let ended = forwarder.terminate();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("own=1003") && ended.stderr.contains("foreign=0"), "{}", ended.stderr);
        assert_eq!(agent.terminate().code, Some(0));
    }
}

#[test]
fn both_paths_at_once_leave_each_line_once_whoever_is_killed() {
    let mut random = fastrand::Rng::with_seed(seed());
    for format in ["json", "compact"] {
        let world = World::new(3);
        let mut web = world.node.pod("web").namespace("shop").container("app");
        let mut db = world.node.pod("db").container("app");
        // Both into the same indices.
        let config = world.config("");
        let mut agent = Some(world.agent(format, &world.forwarded));
        let mut forwarder = Some(world.forwarder(&config));
        for round in 0..10 {
            web.writes(40);
            db.writes_text(40);
            if round == 5 {
                web.rotate();
            }
            let_pass(Duration::from_millis(random.u64(50..700)));
            if random.bool() {
                agent.take().expect("the agent").kill9();
                agent = Some(world.agent(format, &world.forwarded));
            } else {
                forwarder.take().expect("the forwarder").kill9();
                forwarder = Some(world.forwarder(&config));
            }
        }
        verify::exactly_once(seconds(120), || world.forwarded.documents(), &[&web, &db]);
        // By the forwarder too: what it alone has carried stands elsewhere.
        let ended = forwarder.take().expect("the forwarder").terminate();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let alone = World { forwarded: world.direct, direct: world.forwarded, ..world };
        std::fs::remove_dir_all(alone.node.path().join("forwarder")).expect("its checkpoints");
        let _forwarder = alone.forwarder(&alone.config(""));
        let forwarded = verify::exactly_once(seconds(120), || alone.forwarded.documents(), &[&web, &db]);
        let both = alone.direct.documents().expect("the documents of both");
        assert_eq!(by_id(&alone.forwarded, &forwarded), by_id(&alone.direct, &both), "{format}");
    }
}

/// An answer that ends its shard, if nothing is left in that.
fn ends(mut reply: Reply) -> Reply {
    let mut body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if body["Records"].as_array().is_some_and(Vec::is_empty) {
        body["NextShardIterator"] = Value::Null;
    }
    reply.body = body.to_string().into_bytes();
    reply
}

#[test]
fn a_stream_that_is_split_is_read_on_and_nothing_twice_after_a_restart() {
    let world = World::new(1);
    let mut web = world.node.pod("web").container("app");
    web.writes(100);
    // moto never says that a closed shard is at its end.
    static SPLIT: AtomicBool = AtomicBool::new(false);
    let of_first = base64(format!("{}:shardId-000000000000:0", world.stream).as_bytes());
    let closes = Proxy::open(Moto::shared().address(), move |_, request| {
        let reads = request.header("x-amz-target").is_some_and(|target| target.ends_with(".GetRecords"));
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        // The last letter has to do with the place in the shard.
        let is_first = body["ShardIterator"].as_str().is_some_and(|it| it.starts_with(&of_first[..47]));
        if reads && is_first && SPLIT.load(Ordering::SeqCst) { Action::Falsify(ends) } else { Action::Forward }
    })
    .spoils_all();
    let way = [format!("AWS_ENDPOINT_URL_KINESIS=http://{}", closes.address())];
    let _agent = world.agent("compact", &world.direct);
    let forwarder = world.forwarder_by(&world.config(""), &way);
    verify::exactly_once(seconds(90), || world.forwarded.documents(), &[&web]);
    let split = json!({ "StreamName": world.stream, "ShardToSplit": "shardId-000000000000",
        "NewStartingHashKey": "170141183460469231731687303715884105728" });
    let (status, answer) = Moto::shared().call_of("kinesis", "Kinesis_20131202.SplitShard", &split);
    assert_eq!(status, 200, "{answer}");
    SPLIT.store(true, Ordering::SeqCst);
    web.writes(100);
    verify::exactly_once(seconds(90), || world.forwarded.documents(), &[&web]);
    forwarder.has_said("a closed shard was read to its end", 1);
    let ended = forwarder.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    web.writes(50);
    let again = world.forwarder_by(&world.config(""), &way);
    verify::exactly_once(seconds(90), || world.forwarded.documents(), &[&web]);
    let ended = again.terminate();
    assert!(ended.stderr.contains("duplicates=0"), "it went on where it was: {}", ended.stderr);
}

#[test]
fn a_server_that_is_away_is_waited_for_and_the_end_is_clean_meanwhile() {
    let world = World::new(2);
    let mut web = world.node.pod("web").container("app");
    web.writes(300);
    let mut proxy = Proxy::away(world.forwarded.server.address(), |_, _| Action::Forward);
    let config = world.config_at(proxy.address(), "");
    let _agent = world.agent("json", &world.direct);
    let forwarder = world.forwarder(&config);
    verify::exactly_once(seconds(90), || world.direct.documents(), &[&web]);
    forwarder.has_said("cannot deliver", 1);
    assert_eq!(forwarder.terminate().code, Some(0));
    let _forwarder = world.forwarder(&config);
    proxy.comes_up();
    verify::exactly_once(seconds(90), || world.forwarded.documents(), &[&web]);
}

#[test]
fn metadata_that_came_to_nobody_is_asked_of_cloudwatch_or_the_event_says_so() {
    let world = World::new(1);
    let mut web = world.node.pod("web").container("app");
    web.writes(20);
    let _agent = world.agent("compact", &world.direct);
    verify::exactly_once(seconds(90), || world.direct.documents(), &[&web]);
    let stream = format!("{}/{}/{}", web.pod.namespace, web.pod.name, web.name);
    let stored = eventually(seconds(60), "events in CloudWatch", || {
        let stored = Moto::shared().events(&world.group, &stream);
        if stored.len() >= 21 { Ok(stored) } else { Err(stored.len().to_string()) }
    });
    let texts: Vec<&str> = stored.iter().map(|event| event.message.as_str()).collect();
    let events: Vec<&str> = texts.iter().copied().filter(|text| text.contains("@timestamp")).collect();
    // Another stream brings the events without what they refer to; and some whose metadata nobody ever had.
    let alone = World { stream: format!("{}-alone", world.stream), ..world };
    Moto::shared().make_stream(&alone.stream, 1);
    let source = (super::kit::OWNER, alone.group.as_str(), stream.as_str());
    Moto::shared().put_record(&alone.stream, &alone.record(source, &events));
    let lost = events[0].split("\"meta\":\"").nth(1).map(|rest| &rest[..16]).expect("a revision");
    let unknown = events[0].replace(lost, "0123456789abcdef").replace("line 0", "unknown 0");
    Moto::shared().put_record(&alone.stream, &alone.record(source, &[&unknown]));
    let forwarder = alone.forwarder(&alone.config("lookup_for = \"1s\""));
    let documents = eventually(seconds(90), "all documents", || {
        let documents = alone.forwarded.documents()?;
        if documents.len() >= 21 { Ok(documents) } else { Err(documents.len().to_string()) }
    });
    verify::clean(&documents, &[&web]);
    let marked: Vec<_> = documents.iter().filter(|document| document.id.starts_with("cw.")).collect();
    let [marked] = &marked[..] else { panic!("{marked:?}") };
    assert_eq!(marked.text("taffrail.unresolved"), "0123456789abcdef");
    assert_eq!(marked.get("kubernetes"), None);
    assert!(forwarder.terminate().stderr.contains("unresolved=1"));
}
