//! What an event is made of, in each format.

use serde_json::{Value, json};

use super::*;
use crate::batch::{Batch, Format, Sealed};
use crate::catalog::origin::{Container, HostLog, Origin};
use crate::config::FieldNames;
use crate::config::template::{Safe, Template};
use crate::metadata::{Extent, NodeFacts};
use crate::read::Time;
use crate::record::Stream;
use crate::route::Plan;

fn plan(pod: &str) -> Plan {
    plan_of(pod, FieldNames::Ecs)
}

fn plan_of(pod: &str, names: FieldNames) -> Plan {
    let container =
        Container { namespace: "shop".into(), pod: pod.into(), uid: "u1".into(), name: "app".into() };
    let facts = NodeFacts { cluster: "prod".into(), node: "n1".into(), names };
    let template = Template::parse("/eks/{cluster}:{namespace}/{pod}").unwrap();
    Plan::new(&facts, &Origin::Container(container), Extent::Path, Some((&template, Safe::LogStream)))
}

fn record(content: &[u8]) -> Record<'_> {
    Record {
        time: Time::Text(b"2026-11-23T15:54:01.123456789Z"),
        stream: Some(Stream::Stderr),
        content,
        first: 100,
        last: 260,
        marks: Marks::default(),
    }
}

fn sealed(format: EventFormat, contents: &[&[u8]]) -> Sealed {
    let mut batch = Batch::new(Format::Events(format), None);
    contents.iter().for_each(|content| {
        batch.put(plan("web-0").of_run(0), b"KEY-", &record(content));
    });
    batch.seal(Vec::new()).unwrap()
}

/// The texts of the events.
fn texts(sealed: &Sealed) -> Vec<&str> {
    let text = |event: &Event| {
        let bytes = &sealed.body[event.begin as usize..][..event.length as usize];
        std::str::from_utf8(bytes).expect("text")
    };
    sealed.events.list.iter().map(text).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const EMF: &[u8] = br#"{ "_aws":{"Timestamp":1,"CloudWatchMetrics":[]}, "n":1 }"#;

#[test]
fn a_raw_event_is_the_line_and_never_empty() {
    let sealed = sealed(EventFormat::Raw, &[b"hi \xff", b"", br#"{"a": 1}"#, EMF]);
    assert_eq!(texts(&sealed), ["hi \u{fffd}", " ", r#"{"a": 1}"#, std::str::from_utf8(EMF).unwrap()]);
    let event = sealed.events.list[2];
    assert_eq!((event.time, event.item, event.meta), (1_795_449_241_123, 2, None));
    assert_eq!(sealed.events.targets, ["/eks/prod:shop/web-0".into()]);
}

#[test]
fn a_json_event_is_the_direct_document_with_its_id() {
    let sealed = sealed(EventFormat::Json, &[br#"{"msg":"hi","n":1}"#, b"\xff", EMF]);
    let texts = texts(&sealed);
    let mut lines = Batch::new(Format::Lines, None);
    lines.put(plan("web-0").of_run(0), b"KEY-", &record(br#"{"msg":"hi","n":1}"#));
    let direct = String::from_utf8(lines.seal(Vec::new()).unwrap().body).unwrap();
    assert_eq!(texts[0].replace(r#","taffrail":{"id":"KEY-100-260"}"#, "") + "\n", direct);
    assert_eq!(parsed(texts[1])["taffrail"], json!({ "id": "KEY-100-260", "invalid_utf8": true }));
    assert_eq!(texts[2].as_bytes(), EMF, "what CloudWatch reads as metrics is not touched");
}

#[test]
fn a_compact_event_and_its_metadata_are_the_whole_document() {
    let mut batch = Batch::new(Format::Events(EventFormat::Compact), None);
    for pod in ["a", "b", "a"] {
        batch.put(plan(pod).of_run(0), b"KEY-", &record(b"WARN hi"));
    }
    let compact = batch.seal(Vec::new()).unwrap();
    let full = sealed(EventFormat::Json, &[b"WARN hi"]);
    let numbers: Vec<_> = compact.events.list.iter().map(|event| event.meta).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(0)], "each container's once");
    let event = parsed(texts(&compact)[0]);
    let meta = parsed(&compact.events.metas[0]);
    assert_eq!(event["taffrail"]["meta"], meta["taffrail"]["meta"]);
    let mut document = parsed(texts(&full)[0]);
    document["kubernetes"]["pod"]["name"] = json!("a");
    let mut restored = event;
    restored["taffrail"].as_object_mut().unwrap().remove("meta");
    for (key, value) in meta.as_object().unwrap().iter().filter(|(key, _)| *key != "taffrail") {
        restored[key] = value.clone();
    }
    assert_eq!(restored, document);
    assert!(texts(&compact)[0].len() + 100 < texts(&full)[0].len());
}

#[test]
fn what_escaping_makes_too_large_is_split_and_nothing_of_it_is_missing() {
    let content = "\u{1}\u{e9}".repeat(RECORD_BYTES / 3);
    for format in [EventFormat::Json, EventFormat::Compact] {
        let sealed = sealed(format, &[content.as_bytes()]);
        let documents: Vec<Value> = texts(&sealed).into_iter().map(parsed).collect();
        assert!(documents.len() > 1 && sealed.events.split == 1);
        let together: String = documents.iter().map(|d| d["message"].as_str().unwrap()).collect();
        assert_eq!(together, content);
        assert_eq!(documents[1]["taffrail"]["part"], 2);
        assert_eq!(documents[1]["taffrail"]["id"], "KEY-100-260-2");
        assert!(sealed.events.list.iter().all(|event| event.item == 0));
    }
    let binary = vec![0xff; RECORD_BYTES];
    let sealed = sealed(EventFormat::Raw, &[&binary]);
    let texts = texts(&sealed);
    assert!(texts.iter().all(|text| text.len() <= EVENT_BYTES) && texts[1].ends_with("[taffrail: piece 2]"));
    assert_eq!(texts.iter().map(|text| text.matches('\u{fffd}').count()).sum::<usize>(), RECORD_BYTES);
}

#[test]
fn a_part_of_a_long_line_says_so() {
    let mut batch = Batch::new(Format::Events(EventFormat::Raw), None);
    for (part, original_length) in [(1, None), (2, Some(9)), (0, Some(7))] {
        let marks = Marks { part, original_length, ..Marks::default() };
        batch.put(plan("a").of_run(0), b"", &Record { marks, ..record(b"x") });
    }
    let sealed = batch.seal(Vec::new()).unwrap();
    let expected = [
        "x [taffrail: part 1]",
        "x [taffrail: part 2, the last, of 9 bytes]",
        "x [taffrail: cut, of 7 bytes]",
    ];
    assert_eq!(texts(&sealed), expected);
}

#[test]
fn in_the_names_of_container_insights_a_document_is_as_awss_set_up_writes_it() {
    let mut batch = Batch::new(Format::Events(EventFormat::Insights), None);
    let plan = plan_of("web-0", FieldNames::ContainerInsights);
    batch.put(plan.of_run(0), b"KEY-", &record(br#"{"level":"warn"}"#));
    let large = [br#"{"a":""#, "x".repeat(600_000).as_bytes(), b"\"}"].concat();
    batch.put(plan.of_run(0), b"KEY-", &record(&large));
    let host = HostLog { source: "messages".into(), path: "/var/log/messages".into(), labels: [].into() };
    let facts = NodeFacts { cluster: "prod".into(), node: "n1".into(), names: FieldNames::ContainerInsights };
    let template = Template::parse("/eks/{cluster}:{node}.host.{source}").unwrap();
    let target = Some((&template, Safe::LogStream));
    let host = Plan::new(&facts, &Origin::Host(host), Extent::Path, target);
    batch.put(host.of_run(0), b"K-", &Record { stream: None, ..record(b"Nov 24 15:54:01 n1 cron[7]: hi") });
    let sealed = batch.seal(Vec::new()).unwrap();
    let texts = texts(&sealed);
    assert_eq!(
        texts[0],
        r#"{"time":"2026-11-23T15:54:01.123456789Z","log":"{\"level\":\"warn\"}","log_processed":{"level":"warn"},"taffrail":{"id":"KEY-100-260"},"stream":"stderr","kubernetes":{"pod_name":"web-0","namespace_name":"shop","pod_id":"u1","host":"n1","container_name":"app"}}"#
    );
    assert_eq!(
        texts[texts.len() - 1],
        r#"{"host":"n1","ident":"cron","pid":"7","message":"hi","taffrail":{"id":"K-100-260"},"log.file.path":"/var/log/messages"}"#
    );
    // With its JSON beside it, it is too large.
    let parts: String = texts[1..texts.len() - 1]
        .iter()
        .map(|text| parsed(text)["log"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((texts.len(), parts.as_bytes()), (7, &large[..]));
}
