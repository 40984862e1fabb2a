//! What arrives, in each format, and within which limits.

use super::kit::World;
use serde_json::{Value, json};
use taffrail_tests::cloudwatch::Action;
use taffrail_tests::{clock, seed, verify};

const EMF: &str = r#"{ "_aws": {"Timestamp": 1, "CloudWatchMetrics": []}, "latency": 12 }"#;

#[test]
fn every_line_arrives_once_in_every_format() {
    for format in ["raw", "json", "compact"] {
        let world = World::new(|_| Action::Do);
        let mut web = world.node.pod("web").namespace("shop").container("app");
        let mut db = world.node.pod("db").container("db");
        web.writes(500).rotate().writes_text(300);
        db.writes(200);
        web.writes_line("");
        web.writes_bytes("stderr", b"\xff\xfe\xfd");
        web.writes_line(EMF);
        let agent = world.agent(&format!("format = \"{format}\""));
        // One of metadata for each call of compact comes on top.
        world.takes(1_003);
        world.exactly_once(&[&web, &db]);
        let texts: Vec<String> = world.stored(&web).into_iter().map(|event| event.message).collect();
        assert!(
            texts.iter().any(|text| text == EMF),
            "what CloudWatch reads as metrics is not touched: {format}"
        );
        if format == "raw" {
            assert!(
                texts.contains(&web.written()[0].message) || texts[0].contains("\"n\":0"),
                "{}",
                texts[0]
            );
            assert!(texts.iter().any(|text| text == " "), "an empty line is a line");
        } else {
            let ids = texts.iter().filter(|text| text.contains("\"id\":\"")).count();
            assert_eq!(ids, web.written().len() + 2, "{format}");
        }
        assert_eq!(agent.terminate().code, Some(0));
    }
}

#[test]
fn groups_and_streams_are_made_once_as_configured() {
    let world = World::new(|_| Action::Do);
    let mut containers: Vec<_> =
        (0..30).map(|n| world.node.pod(&format!("pod-{n}")).container("app")).collect();
    containers.iter_mut().for_each(|container| {
        container.writes(20);
    });
    let _agent =
        world.agent("retention_days = 14\ntags = { team = \"infra\" }\nclass = \"infrequent_access\"");
    let all: Vec<_> = containers.iter().collect();
    world.exactly_once(&all);
    let seen = world.clean();
    assert_eq!((seen.calls["CreateLogGroup"], seen.calls["CreateLogStream"]), (1, 30));
    let group = json!({ "logGroupName": world.group, "tags": { "team": "infra", "taffrail:made-by": "agent" }, "logGroupClass": "INFREQUENT_ACCESS" });
    let retention = json!({ "logGroupName": world.group, "retentionInDays": 14 });
    assert_eq!(seen.made, [group, retention]);
}

#[test]
fn one_stream_a_node_holds_all_of_its_containers() {
    let world = World::new(|_| Action::Do);
    let mut web = world.node.pod("web").container("app");
    let mut db = world.node.pod("db").container("app");
    for _ in 0..20 {
        web.writes(25);
        db.writes(25);
    }
    let _agent = world.agent("log_stream = \"{node}\"\nformat = \"compact\"");
    world.takes(1_001);
    let stored = taffrail_tests::moto::Moto::shared().events(&world.group, "n1");
    let documents = super::kit::documents(&stored, &web);
    for container in [&web, &db] {
        assert!(
            verify::faults(&documents, container).is_clean(),
            "{}",
            verify::faults(&documents, container)
        );
    }
    assert!(stored.is_sorted_by_key(|event| event.time));
    assert_eq!(world.clean().calls["CreateLogStream"], 1);
}

/// Show: varied records without one violation; then throttled and with lost replies, and nothing missing.
#[test]
fn a_hundred_thousand_varied_records_keep_every_limit_and_survive_a_bad_service() {
    let mut random = fastrand::Rng::with_seed(seed());
    let world = World::new(|_| Action::Do);
    let mut containers: Vec<_> = (0..20)
        .map(|n| world.node.pod(&format!("pod-{n}")).namespace(["shop", "bank"][n % 2]).container("app"))
        .collect();
    let mut others = 0;
    let mut dice = fastrand::Rng::with_seed(random.u64(..));
    let mut write = |containers: &mut Vec<taffrail_tests::node::Container>, lines: u64, days: u64| {
        for (at, container) in containers.iter_mut().enumerate() {
            // Spans of several days, and back to now within a file.
            container.lives_behind(if at % 4 == 0 { days * 86_400_000_000_000 } else { 0 });
            let mut left = lines;
            while left > 0 {
                let n = random.u64(1..500).min(left);
                left -= n;
                match random.u32(..4) {
                    0 => container.writes_text(n),
                    _ => container.writes(n),
                };
                others += 1;
                match random.u32(..30) {
                    0 => drop(container.writes_line(&"\u{e9}\"\\".repeat(random.usize(..260_000)))),
                    1 => drop(
                        container
                            .writes_line(&format!("{{\"msg\":\"{}\"}}", "x".repeat(random.usize(..990_000)))),
                    ),
                    2 => drop(container.writes_bytes("stderr", &vec![0xff; random.usize(1..30_000)])),
                    3 => drop(container.writes_line("")),
                    4 => drop(container.writes_line(EMF)),
                    5 => drop(container.rotate()),
                    _ => others -= 1,
                }
                if days > 0 && at % 4 == 0 {
                    container.lives_behind(random.u64(..=days) * 86_400_000_000_000);
                }
            }
        }
    };
    write(&mut containers, 2_500, 10);
    let _agent = world.agent("max_age = \"2000h\"\nformat = \"json\"");
    let numbered = 20 * 2_500;
    world.takes(numbered);
    let all: Vec<_> = containers.iter().collect();
    verify::exactly_once(taffrail_tests::seconds(120), || Ok(world.documents(&all)), &all);
    let before = world.clean();
    assert_eq!(before.lost, 0);

    let mut first = true;
    world.service.obeys(move |call| match dice.u32(..100) {
        // One at least, however few calls are made.
        _ if call.action == "PutLogEvents" && std::mem::take(&mut first) => Action::LoseReply,
        0..30 => Action::Throttle,
        30..35 if call.action == "PutLogEvents" => Action::LoseReply,
        35..37 => Action::Fail,
        37..39 => Action::Reset,
        _ => Action::Do,
    });
    write(&mut containers, 2_500, 0);
    let all: Vec<_> = containers.iter().collect();
    taffrail_tests::eventually(taffrail_tests::seconds(240), "all lines", || {
        let documents = world.documents(&all);
        let missing: usize = all.iter().map(|c| verify::faults(&documents, c).missing.len()).sum();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} missing")) }
    });
    let seen = world.clean();
    let documents = world.documents(&all);
    let doubled: usize = all.iter().map(|c| verify::faults(&documents, c).doubled.len()).sum();
    println!("{others} other lines; lost {}, doubled {doubled}, spoilt {}", seen.lost, seen.spoilt);
    assert!(
        doubled as u64 <= seen.lost,
        "only what was in a call whose reply was lost: {doubled} of {}",
        seen.lost
    );
    assert!(seen.spoilt > 3 && seen.lost > 0, "{seen:?}");
}

#[test]
fn times_are_those_of_the_lines_to_the_millisecond() {
    let world = World::new(|_| Action::Do);
    let mut web = world.node.pod("web").container("app");
    web.writes(10);
    let _agent = world.agent("");
    world.exactly_once(&[&web]);
    for (event, written) in world.stored(&web).iter().zip(web.written()) {
        let document: Value = serde_json::from_str(&event.message).unwrap();
        assert_eq!(document["@timestamp"], written.time);
        let nanos = event.time as u64 * 1_000_000;
        assert_eq!(clock::rfc3339(nanos)[..23], written.time[..23]);
    }
}

#[test]
fn nothing_that_is_to_be_redacted_is_in_an_event_of_any_format() {
    const CARD: &str = "4111111111111111";
    for format in ["raw", "json", "compact"] {
        let world = World::new(|_| Action::Do);
        let mut web = world.node.pod("web").namespace("shop").container("app");
        web.writes_line(&format!("text {CARD} \"quoted\""));
        web.writes_line(&format!(r#"{{"msg":"json","card":{CARD},"to":"jane@example.com"}}"#));
        web.writes_line(&format!(r#"{{"_aws":{{"CloudWatchMetrics":[]}},"card":"{CARD}","n":1}}"#));
        web.writes_line("DEBUG dropped");
        // Too large for an event once it is escaped, so that it is split.
        web.writes_line(&format!("{}{CARD}{}", "\" ".repeat(350_000), " \"".repeat(100_000)));
        let route =
            "[[routes]]\nredact = [\"card\", \"email\"]\ndrop = { level = \"debug\" }\noutputs = [\"cw\"]";
        let agent = world.agent(&format!("format = \"{format}\"\n{route}"));
        world.takes(4);
        let ended = agent.terminate();
        assert!(
            ended.stderr.contains("filtered=1") && ended.stderr.contains("caught_up=true"),
            "{}",
            ended.stderr
        );
        let texts: Vec<String> = world.stored(&web).into_iter().map(|event| event.message).collect();
        for secret in [CARD, "jane@", "dropped"] {
            assert!(!texts.iter().any(|text| text.contains(secret)), "{secret} in an event of {format}");
        }
        let with = |part: &str| texts.iter().filter(|text| text.contains(part)).count();
        assert_eq!(with("[card]"), 4, "{format}");
        assert!(
            texts.contains(&r#"{"_aws":{"CloudWatchMetrics":[]},"card":"[card]","n":1}"#.to_owned()),
            "{texts:?}"
        );
        world.clean();
    }
}
