//! What is read of an event of ours, and what is none.

use super::*;

const TEXT: &str = r#"{"@timestamp":"2026-11-23T15:54:01Z","message":"hi","log":{"level":"warn"},"app":{"n":1},"taffrail":{"id":"AAAAAAAAAAAAAAAAAAAAAA-1-2","part":2},"stream":"stdout","kubernetes":{}}"#;

#[test]
fn an_event_is_taken_apart_and_put_together() {
    let own = read(TEXT).unwrap();
    assert_eq!(
        (own.time, own.id, own.meta, own.marks),
        ("2026-11-23T15:54:01Z", "AAAAAAAAAAAAAAAAAAAAAA-1-2", None, r#""part":2"#)
    );
    let mut out = Vec::new();
    own.append_document(&mut out, own.constant(None, &mut String::new()).unwrap());
    let expected = TEXT.replace(r#""id":"AAAAAAAAAAAAAAAAAAAAAA-1-2","#, "");
    assert_eq!(String::from_utf8(out).unwrap(), expected + "\n");
    let compact = r#"{"@timestamp":"2026-11-23T15:54:01Z","message":"","taffrail":{"id":"AAAAAAAAAAAAAAAAAAAAAA-1-2-1","meta":"0123456789abcdef"},"stream":"stdout"}"#;
    let own = read(compact).unwrap();
    assert_eq!((own.meta, own.tail), (Some("0123456789abcdef"), r#","stream":"stdout"}"#));
    assert_eq!(own.constant(Some(r#","a":1}"#), &mut String::new()), Some(r#","stream":"stdout","a":1}"#));
}

#[test]
fn what_a_route_gives_is_ours_and_what_only_the_agent_writes_is_not_before_it() {
    let of = |fields: &str| TEXT.replace(r#","app":{"n":1}"#, fields);
    for (fields, is) in [
        (r#","order":7,"user.id":1,"app":{"n":1},"labels.team":"x","event.created":"t""#, true),
        (r#","url.path":"/","user_agent.original":"x""#, true),
        (r#","order":7,"order":8"#, false),
        (r#","kubernetes":{}"#, false),
        (r#","kubernetes.pod.name":"x""#, false),
        (r#","host":{}"#, false),
        (r#","_id":"x""#, false),
        (r#","event":{"dataset":"x"}"#, false),
        (r#","event.dataset":"x""#, false),
        (r#","kubernete\u0073":"x""#, false),
        (r#","app":{},"app":{}"#, false),
        (r#","app.env":"x""#, false),
    ] {
        let text = of(fields);
        assert_eq!(read(&text).is_some_and(|own| !own.is_health), is, "{text}");
    }
}

#[test]
fn a_health_record_holds_each_of_its_names_once_and_behind_its_time() {
    let of = |fields: &str| {
        format!(
            r#"{{"@timestamp":"2026-11-23T15:54:01Z"{fields},"taffrail":{{"id":"AAAAAAAAAAAAAAAAAAAAAA-1-2"}},"event":{{}}}}"#
        )
    };
    for (fields, is) in [
        (r#","kubernetes":{},"log":{"level":"info"},"message":"hi","taffrail.health":{}"#, true),
        (r#","message":"hi","log":{"level":"info"},"taffrail.health":{}"#, true),
        (r#","kubernetes":{},"taffrail.health":{},"taffrail.health":{}"#, false),
        (r#","kubernetes":{},"message":"hi","message":"ho""#, false),
        (r#","kubernetes":{},"kubernetes":{}"#, false),
        (r#","kubernetes":{},"taffrail.metadata":"path""#, false),
    ] {
        let text = of(fields);
        assert_eq!(read(&text).is_some_and(|own| own.is_health), is, "{text}");
    }
}

#[test]
fn ids_and_revisions_have_one_form() {
    for (id, is) in [
        ("AAAAAAAAAAAAAAAAAAAAAA-1-2", true),
        ("AAAAAAAAAAAAAAAAAAAAAA-1-2-3", true),
        ("--_-AAAAAAAAAAAAAAAAAA-1-2", true),
        ("AAAAAAAAAAAAAAAAAAAAAA-1", false),
        ("AAAAAAAAAAAAAAAAAAAAAA-1-", false),
        ("AAAAAAAAAAAAAAAAAAAAAA-1-2-3-4", false),
        ("AAAAAAAAAAAAAAAAAAAAA-1-2", false),
        ("AAAAAAAAAAAAAAAAAAAA.A-1-2", false),
        ("AAAAAAAAAAAAAAAAAAAAA\u{e9}-1-2", false),
        ("", false),
    ] {
        assert_eq!(is_id(id), is, "{id}");
    }
    assert!(is_revision("00ff00ff00ff00ff") && !is_revision("00FF00ff00ff00ff") && !is_revision("0"));
}

#[test]
fn metadata_is_what_its_revision_is_the_hash_of() {
    let fields = r#","kubernetes":{"namespace":"shop"}}"#;
    let revision = format!("{:016x}", fnv1a(format!("{fields}\n").as_bytes()));
    let meta = format!("{{\"taffrail\":{{\"meta\":\"{revision}\"}}{fields}");
    assert_eq!(read_meta(&meta), Some((revision.as_str(), fields)));
    assert_eq!(read_meta(&meta.replace("shop", "bank")), None);
    assert_eq!(read_meta(TEXT), None);
}
