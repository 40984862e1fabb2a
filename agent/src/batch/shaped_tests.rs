//! Documents of routes that merge JSON, change fields and take times from records, by their configuration, in every form of
//! output.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::catalog::origin::{Container, Origin};
use crate::config::Config;
use crate::config::template::{Safe, Template};
use crate::forward::own;
use crate::metadata::{Extent, NodeFacts};
use crate::record::Stream;
use crate::record::fields::{CREATED, is_own, text_of};
use crate::record::hash::HashKey;
use crate::record::json::Scanner;
use crate::record::treatment::Treatment;
use crate::route::{Course, Plan, Routes};

const WRITTEN: &str = "2026-11-23T15:54:01.123456789Z";

fn origin() -> Origin {
    Origin::Container(Container {
        namespace: "shop".into(),
        pod: "web-0".into(),
        uid: "u1".into(),
        name: "app".into(),
    })
}

fn facts() -> NodeFacts {
    NodeFacts { cluster: "prod".into(), node: "n1".into(), names: Default::default() }
}

/// What a route of this text does with records.
fn treatment(route: &str) -> Option<Arc<Treatment>> {
    let text = format!(
        "hash_key = {{ env = \"KEY\" }}\n[[routes]]\n{route}\noutputs = [\"o\"]\n[outputs.o]\ntype = \"stdout\"\n"
    );
    let config = Config::parse(&text, "f").unwrap_or_else(|error| panic!("{error}"));
    let routes = Routes::of(&config, "o", Some(HashKey::new(b"key")));
    match routes.course(&facts(), &origin(), Extent::Path) {
        Course::Sent(treatment) => treatment,
        other => panic!("{other:?}"),
    }
}

fn plan(treatment: Option<Arc<Treatment>>) -> Plan {
    let template = Template::parse("x-{date}").expect("a template");
    Plan::new(&facts(), &origin(), Extent::Path, Some((&template, Safe::Index))).treating(treatment)
}

fn record(content: &[u8]) -> Record<'_> {
    let (time, stream) = (Time::Text(WRITTEN.as_bytes()), Some(Stream::Stderr));
    Record { time, stream, content, first: 100, last: 260, marks: Marks::default() }
}

/// What a batch of this one record is.
fn sealed(treatment: &Option<Arc<Treatment>>, format: Format, content: &[u8]) -> Sealed {
    let mut batch = Batch::new(format, None);
    batch.put(plan(treatment.clone()).of_run(0), b"AAAAAAAAAAAAAAAAAAAAAA-", &record(content));
    batch.seal(Vec::new()).expect("a batch")
}

/// Its document as text, and read.
fn document(treatment: &Option<Arc<Treatment>>, content: &[u8]) -> (String, Value) {
    let text = String::from_utf8(sealed(treatment, Format::Lines, content).body).expect("text");
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (text, value)
}

/// The text of its one event.
fn event(treatment: &Option<Arc<Treatment>>, format: EventFormat, content: &[u8]) -> (String, i64) {
    let sealed = sealed(treatment, Format::Events(format), content);
    let [event] = &sealed.events.list[..] else { panic!("{:?}", sealed.events.list) };
    let text = &sealed.body[event.begin as usize..][..event.length as usize];
    (String::from_utf8(text.to_vec()).expect("text"), event.time)
}

/// The names of an object's members as they are read, and its values as they are written.
fn members(object: &[u8]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    Scanner { bytes: object, repair: false }.members(|_, member| {
        let name = text_of(&object[member.name.0..member.name.1]).into_owned();
        all.push((name, String::from_utf8_lossy(&object[member.value.0..member.value.1]).into_owned()));
        false
    });
    all
}

#[test]
fn each_key_does_what_it_says() {
    let hash = |text: &str| {
        let mut out = Vec::new();
        HashKey::new(b"key").append_of_field(&mut out, text.as_bytes());
        String::from_utf8(out).expect("digits")
    };
    let utf16: Vec<u8> = r#"{"msg":"é","password":1}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let long = format!("{} at x", "y".repeat(100));
    let cases: [(&str, &[u8], Value); 17] = [
        (
            "json = \"merge\"",
            br#"{"msg":"a","order":7,"stream":"x"}"#,
            json!({ "message": "a", "order": 7, "app": { "stream": "x" } }),
        ),
        ("remove = [\"app.password\"]", br#"{"msg":"a","password":1}"#, json!({ "message": "a" })),
        ("remove = [\"app.*\"]", br#"{"n":1}"#, json!({ "message": "" })),
        (
            "json = \"merge\"\nremove = [\"app.*\"]",
            br#"{"msg":"a","password":1,"stream":"x"}"#,
            json!({ "message": "a" }),
        ),
        (
            "remove = [\"app.password\"]",
            &utf16,
            json!({ "message": "é", "taffrail": { "encoding": "utf-16" } }),
        ),
        ("remove = [\"message\"]", b"a\xff", json!({ "message": "", "taffrail": { "invalid_utf8": true } })),
        ("hash = [\"message\"]", b"a", json!({ "message": hash("a") })),
        (
            "json = \"merge\"\nhash = [\"user.email\"]",
            br#"{"user":{"email":"e","x":1}}"#,
            json!({ "user": { "email": hash("e"), "x": 1 } }),
        ),
        (
            "rename = { app.user_id = \"user.id\" }\nhash = [\"user.id\"]",
            br#"{"user_id":7,"n":1}"#,
            json!({ "app": { "n": 1 }, "user.id": hash("7") }),
        ),
        (
            "json = \"merge\"\nrename = { user_id = \"user.id\" }",
            br#"{"user_id":7,"user":{"id":8}}"#,
            json!({ "user.id": 7, "app": { "user": { "id": 8 } } }),
        ),
        (
            "add = { labels.team = \"shop\", app.env = \"prod\", app.n = 1.5 }",
            b"a",
            json!({ "message": "a", "labels.team": "shop", "app": { "env": "prod", "n": 1.5 } }),
        ),
        (
            "add = { labels.team = \"shop\", env = \"prod\" }\njson = \"merge\"",
            br#"{"env":"dev","labels.team":"x"}"#,
            json!({ "app": { "env": "dev", "labels.team": "x" }, "labels.team": "shop", "env": "prod" }),
        ),
        (
            "truncate = { message = 64 }",
            long.as_bytes(),
            json!({ "message": format!("{} [taffrail: cut, of 105 bytes]", "y".repeat(34)), "taffrail": { "truncated": 1 } }),
        ),
        (
            "parse = \"logfmt\"\nremove = [\"app.password\"]\nrename = { app.took = \"event.duration\" }",
            b"level=info msg=hi password=x took=5",
            json!({ "message": "hi", "log": { "level": "info" }, "app": { "level": "info" }, "event.duration": 5 }),
        ),
        (
            "parse = { regex = '^(?<app.user>\\w+) (?<message>.*)' }\nhash = [\"app.user\"]",
            b"eve did it",
            json!({ "message": "did it", "app": { "user": hash("eve") } }),
        ),
        (
            "redact = [\"email\"]\nredact_as = \"hash\"",
            b"to a@b.de",
            json!({ "message": format!("to [email:{}]", &hash("a@b.de")[..16]) }),
        ),
        (
            "redact = [\"email\"]\nremove = [\"app.x\"]\njson = \"merge\"",
            br#"{"to":"a@b.de","x":"a@b.de"}"#,
            json!({ "to": "[email]" }),
        ),
    ];
    for (route, content, expected) in cases {
        let (text, mut found) = document(&treatment(route), content);
        let found = found.as_object_mut().expect("an object");
        for own in ["@timestamp", "stream", "kubernetes", "orchestrator"] {
            assert!(found.remove(own).is_some(), "{own} in {text}");
        }
        assert_eq!(Value::Object(found.clone()), expected, "{route}: {}", content.escape_ascii());
    }
}

#[test]
fn what_is_removed_is_nowhere_and_what_was_written_is_kept_where_lines_go_as_they_are() {
    let removing =
        treatment("remove = [\"app.password\"]\nadd = { labels.team = \"shop\", app.env = \"prod\" }");
    for format in [EventFormat::Raw, EventFormat::Json, EventFormat::Compact, EventFormat::Insights] {
        let content = br#"{"msg":"a","password":"hunter2","n":1}"#;
        let (text, _) = event(&removing, format, content);
        assert!(!text.contains("hunter2") && text.contains("\"n\":1"), "{text}");
        // The metric format too, which is sent as it stands otherwise.
        let emf = br#"{"_aws":{"CloudWatchMetrics":[]},"password":"hunter2"}"#;
        assert!(!event(&removing, format, emf).0.contains("hunter2"));
    }
    assert_eq!(event(&removing, EventFormat::Raw, br#"{"msg":"a","n":1}"#).0, r#"{"msg":"a","n":1}"#);
    assert_eq!(event(&treatment("hash = [\"message\"]"), EventFormat::Raw, b"a").0.len(), 32);
    let (text, _) = event(&removing, EventFormat::Insights, b"hi");
    assert!(text.contains(r#""log":"hi","labels.team":"shop","app":{"env":"prod"},"taffrail""#), "{text}");
    let shown = sealed(&removing, Format::Text { color: false }, br#"{"msg":"a","password":"hunter2"}"#).body;
    assert!(!String::from_utf8_lossy(&shown).contains("hunter2"));
}

#[test]
fn what_is_left_of_a_line_of_metrics_is_a_record_and_a_whole_one_is_metrics() {
    let removing = treatment("remove = [\"app.password\"]");
    let line = r#"{"_aws":{"CloudWatchMetrics":[]},"n":1}"#;
    let with_more = r#"{"_aws":{"CloudWatchMetrics":[]},"n":1,"password":"hunter2"}"#;
    let inside = r#"{"a":{"_aws":{"CloudWatchMetrics":[]}}}"#;
    for format in [EventFormat::Json, EventFormat::Compact, EventFormat::Insights] {
        assert_eq!(event(&removing, format, line.as_bytes()).0, line);
        for line in [with_more, inside] {
            let (text, _) = event(&removing, format, line.as_bytes());
            assert!(text.contains(r#""taffrail":{"id":""#) && !text.contains("hunter2"), "{text}");
        }
    }
    let (text, _) = event(&removing, EventFormat::Json, with_more.as_bytes());
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found["app"], json!({ "_aws": { "CloudWatchMetrics": [] }, "n": 1 }));
    assert_eq!(found["kubernetes"]["pod"]["name"], "web-0", "{text}");
}

#[test]
fn a_body_as_deep_as_may_be_is_kept_timed_shaped_and_forwarded_like_any_other() {
    let deep = format!("{}1{}", "[".repeat(63), "]".repeat(63));
    let content =
        format!(r#"{{"stream":{deep},"ts":"2026-11-22T12:00:00Z","password":"hunter2","user_id":"eve@x"}}"#);
    let content = content.as_bytes();
    for json in ["", "json = \"merge\"\n"] {
        let route = format!(
            "{json}keep = {{ app.password = \"hunter2\" }}\nremove = [\"app.password\"]\nrename = {{ app.user_id = \"user.id\" }}\n\
             time = \"app.ts\""
        );
        let treatment = treatment(&route);
        let (text, found) = document(&treatment, content);
        assert!(!text.contains("hunter2") && found["app"]["stream"].is_array(), "{text}");
        assert_eq!(
            (&found["user.id"], &found["@timestamp"]),
            (&json!("eve@x"), &json!("2026-11-22T12:00:00.000000000Z")),
            "{text}"
        );
        let (raw, _) = event(&treatment, EventFormat::Raw, content);
        assert!(!raw.contains("hunter2") && raw.contains(&deep), "{raw}");
        let (event, _) = event(&treatment, EventFormat::Json, content);
        let own = own::read(&event).expect("a record of ours");
        let mut forwarded = Vec::new();
        own.append_document(&mut forwarded, own.tail);
        assert_eq!(String::from_utf8_lossy(&forwarded), text);
    }
}

#[test]
fn a_record_that_is_split_has_what_its_route_gives_in_every_part() {
    let giving = treatment("add = { labels.team = \"shop\", app.env = \"prod\" }\nremove = [\"app.x\"]");
    let content = "\u{1}".repeat(400_000);
    let sealed = sealed(&giving, Format::Events(EventFormat::Json), content.as_bytes());
    assert_eq!(sealed.events.list.len(), 3);
    let mut whole = String::new();
    for event in &sealed.events.list {
        let text = &sealed.body[event.begin as usize..][..event.length as usize];
        let part: Value = serde_json::from_slice(text).expect("JSON");
        assert_eq!((&part["labels.team"], &part["app"]), (&json!("shop"), &json!({ "env": "prod" })));
        whole.push_str(part["message"].as_str().expect("a text"));
    }
    assert_eq!(whole, content);
}

#[test]
fn a_time_of_its_own_is_the_documents_and_names_its_index_and_the_runtimes_is_kept() {
    let timed = treatment("time = \"auto\"");
    let own = "2026-11-22T12:00:00.250000000Z";
    for content in [
        r#"{"msg":"a","ts":"2026-11-22T12:00:00.25Z"}"#,
        r#"{"msg":"a","time":1795348800250}"#,
        "2026-11-22 12:00:00.25 hello",
    ] {
        let (text, found) = document(&timed, content.as_bytes());
        assert_eq!((&found["@timestamp"], &found[CREATED]), (&json!(own), &json!(WRITTEN)), "{text}");
        let bulk = sealed(&timed, Format::Bulk { op: BulkOp::Create, ids: true }, content.as_bytes()).body;
        let bulk = String::from_utf8(bulk).expect("text");
        assert!(bulk.contains(r#""_index":"x-2026.11.22","_id":"AAAAAAAAAAAAAAAAAAAAAA-100-260""#), "{bulk}");
        // The service goes by the runtime's; names go by the document's.
        let events = sealed(&timed, Format::Events(EventFormat::Json), content.as_bytes()).events;
        assert_eq!((events.list[0].time, &*events.targets[0]), (1_795_449_241_123, "x-2026.11.22"));
        let merged = treatment("time = { field = \"auto\", past = \"3d\" }\njson = \"merge\"");
        assert_eq!(document(&merged, content.as_bytes()).1["@timestamp"], own);
    }
    for field in ["ts", "app.ts"] {
        let merged = treatment(&format!("time = \"{field}\"\njson = \"merge\""));
        let (text, found) = document(&merged, br#"{"msg":"a","ts":"2026-11-22T12:00:00.25Z"}"#);
        assert_eq!(found["@timestamp"], own, "{text}");
    }
    // Of a line of JSON the pattern is not asked, for its time no more than for fields.
    let patterned = treatment("parse = { regex = '(?<timestamp>\\d{4}-\\S+Z)' }\ntime = \"auto\"");
    for content in [
        r#"{"msg":"a","until":"2026-11-23T00:00:00Z","ts":"2026-11-22T12:00:00.25Z"}"#,
        "at 2026-11-22T12:00:00.25Z",
    ] {
        assert_eq!(document(&patterned, content.as_bytes()).1["@timestamp"], own, "{content}");
    }
    for (route, content) in [
        ("time = \"auto\"", r#"{"msg":"a","ts":"x"}"#),
        ("time = \"auto\"", "2026-10-22 12:00:00 too old"),
        ("time = \"auto\"", "2026-11-25 12:00:00 too new"),
        ("time = { field = \"auto\", past = \"1h\" }", "2026-11-22 12:00:00 too old here"),
        ("time = \"app.at\"", r#"{"msg":"a","ts":"2026-11-22T12:00:00.25Z"}"#),
    ] {
        let (text, found) = document(&treatment(route), content.as_bytes());
        assert!(found["@timestamp"] == WRITTEN && found.get(CREATED).is_none(), "{text}");
    }
    let nginx = treatment("parse = \"nginx\"\ntime = \"auto\"");
    let line = r#"10.0.0.1 - - [22/Nov/2026:13:00:00 +0100] "GET / HTTP/1.1" 200 612 "-" "curl/8""#;
    assert_eq!(document(&nginx, line.as_bytes()).1["@timestamp"], "2026-11-22T12:00:00.000000000Z");
    let pattern = treatment(
        "parse = { regex = '^\\w+ (?<timestamp>\\S+) (?<message>.*)' }\ntime = { format = \"%Y%m%dT%H%M%S\" }",
    );
    let (text, found) = document(&pattern, b"x 20261122T120000 hi");
    assert_eq!(
        (&found["@timestamp"], &found["message"]),
        (&json!("2026-11-22T12:00:00.000000000Z"), &json!("hi")),
        "{text}"
    );
}

#[test]
fn a_line_of_the_host_has_no_time_but_its_own() {
    let timed = treatment("time = \"auto\"");
    let mut batch = Batch::new(Format::Lines, None);
    let read_at = time::unix_nanos(WRITTEN.as_bytes()).expect("a time");
    let line = b"Nov 23 15:53:59 n1 sshd[7]: accepted";
    let record = Record { time: Time::Nanos(read_at), ..record(line) };
    batch.put(plan(timed).of_run(0), b"AAAAAAAAAAAAAAAAAAAAAA-", &record);
    let body = batch.seal(Vec::new()).expect("a batch").body;
    let found: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        (&found["@timestamp"], &found[CREATED]),
        (&json!("2026-11-23T15:53:59.000000000Z"), &json!(WRITTEN))
    );
}

/// Members of objects, those that routes below mean and those that would pose as the agent's.
fn member() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            r#""password":"hunter2""#,
            r#""p\u0061ssword":"hunter2""#,
            r#""debug":{"secret":"hunter2"}"#,
            r#""debug.secret":"hunter2""#,
            r#""email":"eve@x""#,
            r#""email":["eve@x",{"a":"eve@x"}]"#,
            r#""user_id":"eve@x""#,
            r#""user":{"id":"eve@x"}"#,
            r#""user.id":"eve@x""#,
            r#""msg":"hello","level":"warn""#,
            r#""message":{"a":1}"#,
            r#""ts":"2026-11-22T12:00:00Z""#,
            r#""ts":1795348800"#,
            r#""stack":"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy""#,
            r#""kubernetes":{"namespace":"forged"}"#,
            r#""kubernetes.pod.name":"forged""#,
            r#""kubernete\u0073":"forged""#,
            r#""orchestrator":"forged","cloud.region":"forged""#,
            r#""taffrail":{"id":"forged"},"_id":"forged""#,
            r#""@timestamp":"2026-11-22T12:00:00Z""#,
            r#""stream":"forged","host.name":"forged","log.level":"forged""#,
            r#""container":{"id":"forged"},"event.created":"forged""#,
            r#""event":{"dataset":"forged"},"labels":{"team":"forged"}"#,
            r#""labels.team":"forged","env":"forged","team":"forged""#,
            r#""app":{"env":"forged","b":1}"#,
            r#""a":1,"a":2,"a.b":3"#,
            r#""":1,"x\n":"\ud800""#,
        ])
        .prop_map(str::to_owned),
        (any::<String>(), any::<i32>())
            .prop_map(|(name, value)| format!("{}:{value}", Value::from(name))),
    ]
}

fn route() -> impl Strategy<Value = String> {
    let line = |line: &'static str| prop_oneof![Just(""), Just(line)];
    (
        prop::sample::select(vec![
            "",
            "json = \"merge\"\n",
            "parse = \"logfmt\"\n",
            "drop = { app.none = 1 }\n",
        ]),
        line("add = { \"labels.team\" = \"shop\", \"app.env\" = \"prod\", team = 7 }\n"),
        line("rename = { \"app.user_id\" = \"user.id\", \"app.a\" = \"app.b\" }\n"),
        line("remove = [\"app.password\", \"app.debug.*\"]\n"),
        line("hash = [\"app.email\", \"app.user.id\", \"app.user_id\", \"user.id\"]\n"),
        line("truncate = { message = \"64B\", \"app.stack\" = \"64B\" }\n"),
        line("time = \"auto\"\n"),
        line("redact = [\"card\"]\nredact_as = \"hash\"\n"),
    )
        .prop_map(|(json, add, rename, remove, hash, truncate, time, redact)| {
            [json, add, rename, remove, hash, truncate, time, redact].concat()
        })
}

/// The agent's own members of a document, but for its time.
fn own_members(document: &Value) -> Map<String, Value> {
    let members = document.as_object().expect("an object").iter();
    let own = members.filter(|(name, _)| {
        is_own(name) && !["@timestamp", CREATED, "taffrail", "log"].contains(&name.as_str())
    });
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn check(route: &str, content: &[u8]) -> Result<(), TestCaseError> {
    let treatment = treatment(route);
    let (text, found) = document(&treatment, content);
    let (_, plain) = document(&None, content);
    // The agent's own is as it is without the route, and nothing poses as it.
    prop_assert_eq!(own_members(&found), own_members(&plain), "{}", &text);
    let time = found["@timestamp"].as_str().unwrap_or_default();
    match found.get(CREATED) {
        None => prop_assert_eq!(time, WRITTEN),
        Some(created) => {
            prop_assert!(created == WRITTEN && route.contains("time"), "{}", &text);
            let [own, written] = [time, WRITTEN].map(|time| time::unix_nanos(time.as_bytes()).unwrap_or(0));
            prop_assert!(written - own <= 14 * 86_400_000_000_000 && own - written <= 86_400_000_000_000);
        }
    }
    // No name is there twice, nor one that is a part of another.
    let names: Vec<String> = members(text.as_bytes()).into_iter().map(|(name, _)| name).collect();
    for (at, name) in names.iter().enumerate() {
        let other = names[..at].iter().find(|other| crate::record::fields::overlap(name, other));
        let of_log = |name: &str| name == "log" || name == "event";
        prop_assert!(other.is_none_or(|other| of_log(other)), "{:?} and {} in {}", other, name, &text);
    }
    let is_shop = found.get("labels.team") == Some(&json!("shop")) && found["app"]["env"] == "prod";
    prop_assert!(is_shop == route.contains("add"), "{}", &text);
    // What is to go is gone, wherever lines go as they are.
    let is_object = std::str::from_utf8(content).is_ok_and(|text| {
        let text = text.trim_ascii().as_bytes();
        Scanner { bytes: text, repair: false }.object(|_, _| {}) == Some(text.len())
    });
    let mut all = text.clone();
    for format in [EventFormat::Raw, EventFormat::Json, EventFormat::Compact, EventFormat::Insights] {
        all.push_str(&event(&treatment, format, content).0);
    }
    if is_object {
        prop_assert!(!route.contains("remove") || !all.contains("hunter2"), "{}", &all);
        prop_assert!(!route.contains("hash = [") || !all.contains("eve@x"), "{}", &all);
    }
    // What the forwarder makes of an event is the document.
    let (json, _) = event(&treatment, EventFormat::Json, content);
    if !(json.contains("\"_aws\"") && json.contains("\"CloudWatchMetrics\"")) {
        let Some(own) = own::read(&json) else { return Err(TestCaseError::fail(json)) };
        let mut forwarded = Vec::new();
        own.append_document(&mut forwarded, own.tail);
        prop_assert_eq!(String::from_utf8_lossy(&forwarded), text);
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_written_and_configured_what_is_ours_is_ours_and_what_is_to_go_is_gone(
        route in route(),
        members in prop::collection::vec(member(), 0..8),
        space in prop::sample::select(vec!["", " ", "\n"]),
        bytes: Vec<u8>,
        text: String,
        utf16: bool,
        torn: Option<prop::sample::Index>,
    ) {
        let mut object = format!("{space}{{{space}{}{space}}}{space}", members.join(&format!("{space},{space}")));
        if let Some(at) = torn {
            let at = object.floor_char_boundary(at.index(object.len()));
            object.truncate(at);
        }
        check(&route, object.as_bytes())?;
        if utf16 {
            check(&route, &object.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>())?;
        }
        check(&route, format!("level=info password=hunter2 a={text}").as_bytes())?;
        check(&route, text.as_bytes())?;
        check(&route, &bytes)?;
    }

    #[test]
    fn merging_loses_no_member(members_of in prop::collection::vec(member(), 0..12)) {
        let object = format!("{{{}}}", members_of.join(","));
        prop_assume!(!object.contains("\\ud800"));
        let (text, _) = document(&treatment("json = \"merge\""), object.as_bytes());
        let of = members(text.as_bytes());
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in of {
            match name.as_str() {
                "app" => found.extend(members(value.as_bytes())),
                "message" => found.push((name, value)),
                name if is_own(name) => {}
                _ => found.push((name, value)),
            }
        }
        let mut expected = members(object.as_bytes());
        // The message may have had another name.
        if let Some(at) = found.iter().position(|(name, value)| name == "message" && value.starts_with('"')) {
            let (_, value) = found.remove(at);
            let at = expected.iter().position(|(name, own)| {
                ["message", "msg", "log"].contains(&name.as_str()) && *own == value
            });
            if let Some(at) = at {
                expected.remove(at);
            }
        }
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected, "{}", text);
    }
}
