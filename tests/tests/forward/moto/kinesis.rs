//! `taffrail forward --kinesis`: every line once, as the direct path has it.

use super::kit::{OWNER, World, by_id, credentials};
use super::lambda::own;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use taffrail_tests::agent::Agent;
use taffrail_tests::kinesis::Kinesis;
use taffrail_tests::moto::Moto;
use taffrail_tests::proxy::{Action, Proxy};
use taffrail_tests::space::Space;
use taffrail_tests::terminal::on_a_terminal;
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
        web.writes_line(
            r#"{"kubernetes":{"namespace":"other"},"taffrail":{"id":"x"},"emoji":"\ud83d\udea2"}"#,
        );
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
fn what_a_route_makes_of_records_is_the_same_by_both_ways() {
    let keys = "[[routes]]\njson = \"merge\"\ntime = \"app.ts\"\nrename = { user_id = \"user.id\" }\nremove = [\"password\"]\n\
                hash = [\"user.id\"]\ntruncate = { message = \"1KiB\" }\nadd = { labels.team = \"shop\", app.env = \"prod\" }\n\
                outputs = [\"cw\", \"search\"]\n";
    for format in ["json", "compact"] {
        let world = World::new(1);
        let mut web = world.node.pod("web").namespace("shop").container("app");
        // Hours before it is written: perhaps of another day, and so of another index.
        let own = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis() - 20 * 3_600_000;
        for line in [
            format!(
                r#"{{"msg":"a","level":"warn","user_id":7,"password":"hunter2","order":{{"id":1}},"ts":{own}}}"#
            ),
            r#"{"kubernetes":{"namespace":"other"},"kubernete\u0073":1,"taffrail":{"id":"x"},"n":1,"n":2}"#
                .to_owned(),
            r#"{"labels":{"team":"x"},"event.created":"x","_id":"x","env":"dev"}"#.to_owned(),
            "text".to_owned(),
            "y".repeat(3000),
        ] {
            web.writes_line(&line);
        }
        web.writes_bytes("stderr", b"\xff\xfe\xfd");
        let config = format!(
            "hash_key = {{ env = \"HASH_KEY\" }}\n{}{keys}",
            world.agent_config(format, &world.direct)
        );
        let agent = Agent::start_by(&credentials(&["HASH_KEY=key".to_owned()]), &config, &world.node);
        let forwarder = world.forwarder(&world.config(""));
        let six = |space: &Space<'_>| {
            eventually(seconds(90), "six documents", || {
                let documents = space.documents()?;
                if documents.len() >= 6 { Ok(documents) } else { Err(documents.len().to_string()) }
            })
        };
        let (directly, forwarded) = (six(&world.direct), six(&world.forwarded));
        assert_eq!(by_id(&world.forwarded, &forwarded), by_id(&world.direct, &directly), "{format}");
        assert!(directly.iter().all(|document| document.text("labels.team") == "shop"));
        assert!(directly.iter().any(|document| document.get("event.created").is_some()));
        assert!(!directly.iter().any(|document| document.source.to_string().contains("hunter2")));
        let ended = forwarder.terminate();
        assert!(ended.stderr.contains("own=6") && ended.stderr.contains("foreign=0"), "{}", ended.stderr);
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

#[test]
fn shards_come_and_go_and_calls_fail_and_each_record_is_carried_once_in_its_order() {
    let world = World::new(1);
    let kinesis = Kinesis::open();
    let way = [format!("AWS_ENDPOINT_URL_KINESIS=http://{}", kinesis.address())];
    let ours = (OWNER, world.group.as_str(), "shop/web-0/app");
    let mut number = 0;
    let mut put = |shard: usize, records: u32| {
        for _ in 0..records {
            number += 1;
            kinesis.put(shard, &world.record(ours, &[&own(number, "shop", "web-0", "{}")]));
        }
        number as usize
    };
    let arrives = |expected: usize| {
        eventually(seconds(90), "the documents", || {
            let documents = world.forwarded.documents()?;
            if documents.len() >= expected { Ok(documents.len()) } else { Err(documents.len().to_string()) }
        })
    };
    put(0, 30);
    let forwarder = world.forwarder_by(&world.config(""), &way);
    let [left, right] = kinesis.split(0);
    put(left, 20);
    let all = put(right, 20);
    assert_eq!(arrives(all), all);
    forwarder.has_said("a closed shard was read to its end", 1);
    // Iterators that are too old are asked for anew, where the shard was.
    kinesis.expire();
    let [further, _] = kinesis.split(left);
    put(further, 10);
    let all = put(right, 10);
    assert_eq!(arrives(all), all);
    let ended = forwarder.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("duplicates=0"), "{}", ended.stderr);
    // The next begins where that has ended: the parents are known to be done.
    let all = put(right, 5);
    let again = world.forwarder_by(&world.config(""), &way);
    assert_eq!(arrives(all), all);
    let ended = again.terminate();
    assert!(ended.stderr.contains("records=5") && ended.stderr.contains("duplicates=0"), "{}", ended.stderr);
    let (violations, throttled, expired) = kinesis.seen();
    assert!(violations.is_empty(), "{violations:?}");
    assert!(expired > 0 && throttled < 10, "{throttled} throttled, {expired} expired");
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
    let source = (OWNER, alone.group.as_str(), stream.as_str());
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

#[test]
fn how_far_it_is_is_drawn_on_a_terminal_and_nowhere_else() {
    let world = World::new(1);
    let ours = (OWNER, world.group.as_str(), "shop/web-0/app");
    for number in 0..20 {
        let record = world.record(ours, &[&own(number, "shop", "web-0", "{}")]);
        Moto::shared().put_record_into(&world.stream, (0, 1), &record);
    }
    let arguments = ["forward", "--kinesis", &world.stream];
    let config = world.config("");
    let forwarder = Agent::start_as(&credentials(&on_a_terminal()), &arguments, &config, &world.node);
    eventually(seconds(90), "all records, and that it is not behind", || {
        let drawn = forwarder.stdout();
        let is_so = drawn.contains("20 records delivered, ") && drawn.contains("/s, not behind");
        if is_so { Ok(()) } else { Err(drawn) }
    });
    drop(forwarder);
    let plain = world.forwarder(&config);
    plain.has_said("began to read a shard", 1);
    let ended = plain.terminate();
    assert!(ended.code == Some(0) && !ended.stderr.contains(['\u{1b}', '\r']), "{}", ended.stderr);
}
