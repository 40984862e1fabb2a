//! What lines of known forms are, and that no line can be more.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn parsed(parser: &Parser, line: &str) -> Option<Value> {
    let mut out = b"{".to_vec();
    parser.append(&mut out, line.as_bytes())?;
    out.push(b'}');
    Some(serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", out.escape_ascii())))
}

fn known(name: &str) -> Parser {
    let (_, form) = Form::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
    Parser::known(form).unwrap()
}

#[test]
fn lines_of_known_forms_have_fields() {
    let cases = [
        (
            "nginx",
            r#"10.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET /cart?id=7&x=\"1 HTTP/1.1" 200 612 "-" "curl/8 \"x\"""#,
            json!({
                "source.address": "10.0.0.1", "http.request.method": "GET", "url.original": "/cart?id=7&x=\\\"1",
                "url.path": "/cart", "url.query": "id=7&x=\\\"1", "http.version": "1.1",
                "http.response.status_code": 200, "http.response.body.bytes": 612,
                "user_agent.original": "curl/8 \\\"x\\\"",
            }),
        ),
        (
            "nginx",
            r#"10.0.0.1 - bob [23/Nov/2026:10:00:00 +0000] "POST /a HTTP/2.0" 503 - "https://x/" "curl" 331 0.012 [shop-web-80] [] 10.1.2.3:80 5 0.012 503 abc"#,
            json!({
                "source.address": "10.0.0.1", "user.name": "bob", "http.request.method": "POST", "url.original": "/a",
                "url.path": "/a", "http.version": "2.0", "http.response.status_code": 503,
                "http.request.referrer": "https://x/", "user_agent.original": "curl", "http.request.bytes": 331,
                "event.duration": 12_000_000, "service.name": "shop-web-80",
            }),
        ),
        (
            "apache",
            r#"::1 - - [23/Nov/2026:10:00:00 +0000] "\x16\x03" 400 226"#,
            json!({ "source.address": "::1", "http.response.status_code": 400, "http.response.body.bytes": 226 }),
        ),
        (
            "klog",
            r#"E1123 10:00:00.000000       1 reflector.go:5] failed to list: "x""#,
            json!({
                "message": "failed to list: \"x\"", "log": { "level": "error" }, "process.thread.id": 1,
                "app": { "file": "reflector.go", "line": 5 },
            }),
        ),
        (
            "logfmt",
            r#"ts=2026-11-23T10:00:00Z level=warn msg="it \"took\" long" took=12ms n=7 ok=true empty= id=007"#,
            json!({
                "message": "it \"took\" long", "log": { "level": "warn" },
                "app": {
                    "ts": "2026-11-23T10:00:00Z", "level": "warn", "took": "12ms", "n": 7, "ok": true, "empty": "",
                    "id": "007",
                },
            }),
        ),
        (
            "envoy",
            r#"[2026-11-23T10:00:00.000Z] "GET /a HTTP/1.1" 200 - 0 15 3 2 "10.0.0.9" "curl" "id-1" "shop.example" "10.1.2.3:80""#,
            json!({
                "http.request.method": "GET", "url.original": "/a", "url.path": "/a", "http.version": "1.1",
                "http.response.status_code": 200, "http.request.body.bytes": 0, "http.response.body.bytes": 15,
                "event.duration": 3_000_000, "source.address": "10.0.0.9", "user_agent.original": "curl",
                "trace.id": "id-1", "url.domain": "shop.example", "server.address": "10.1.2.3:80",
            }),
        ),
        (
            "istio",
            r#"[2026-11-23T10:00:00.000Z] "GET /a HTTP/1.1" 503 UF via_upstream - "-" 0 95 3 - "-" "curl" "id-1" "shop" "10.1.2.3:80" outbound|80||shop - 1.2.3.4:80 5.6.7.8:1 - default"#,
            json!({
                "http.request.method": "GET", "url.original": "/a", "url.path": "/a", "http.version": "1.1",
                "http.response.status_code": 503, "http.request.body.bytes": 0, "http.response.body.bytes": 95,
                "event.duration": 3_000_000, "user_agent.original": "curl", "trace.id": "id-1", "url.domain": "shop",
                "server.address": "10.1.2.3:80",
                "app": { "response_flags": "UF", "response_code_details": "via_upstream" },
            }),
        ),
    ];
    for (form, line, mut expected) in cases {
        if expected.get("message").is_none() {
            expected["message"] = line.into();
        }
        let mut found = parsed(&known(form), line).unwrap_or_else(|| panic!("{form}: {line}"));
        // What a line of access says of a level is nobody's.
        if expected.get("log").is_none() {
            found.as_object_mut().unwrap().remove("log");
        }
        assert_eq!(found, expected, "{form}: {line}");
    }
}

#[test]
fn lines_of_another_form_are_left_alone() {
    for (name, _) in Form::ALL {
        for line in [
            "",
            "starting",
            "{\"msg\":\"a=b\"}",
            "a=b \"",
            "2026/11/23 10:00:00 [error] 7#7: *1 open() failed",
        ] {
            assert_eq!(parsed(&known(name), line), None, "{name}: {line}");
        }
    }
    let mut out = Vec::new();
    assert!(known("logfmt").append(&mut out, b"a=\xff").is_none() && out.is_empty());
}

#[test]
fn a_pattern_of_ones_own_names_its_fields_and_no_others() {
    let own = Parser::pattern(
        r"^(?<level>[A-Z]+) (?<user.name>\w+) (?<app.code>\d+) (?<event.duration.ms>[0-9.]+) (?<message>.*)$",
    )
    .unwrap();
    assert_eq!(
        parsed(&own, "WARN bob 0012 1.5 it is done"),
        Some(json!({
            "message": "it is done", "log": { "level": "warn" }, "user.name": "bob", "event.duration": 1_500_000,
            "app": { "code": "0012" },
        }))
    );
    for (wrong, told) in [
        ("(", "unclosed"),
        ("a", "no named group"),
        ("(?<kubernetes.namespace>a)", "no field that may be written"),
        ("(?<taffrail.id>a)", "no field that may be written"),
        ("(?<_id>a)", "no field that may be written"),
        ("(?<app>a)", "no field that may be written"),
        ("(?<cloud.region>a)", "no field that may be written"),
        ("(?<event.duration.h>a)", "the unit is one of"),
    ] {
        let error = Parser::pattern(wrong).map(drop).unwrap_err();
        assert!(error.contains(told), "{wrong}: {error}");
    }
}

#[test]
fn a_line_of_which_no_fields_are_made_has_no_time_either() {
    let own = Parser::pattern(r"(?<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)").unwrap();
    let time = b"2026-11-23T12:00:00Z";
    let lines: [(&[u8], bool); 4] = [
        (b"at 2026-11-23T12:00:00Z", true),
        (br#"{"until":"2026-11-23T12:00:00Z"}"#, false),
        (br#"  {"until":"2026-11-23T12:00:00Z""#, false),
        (b"\xff 2026-11-23T12:00:00Z", false),
    ];
    for (line, is_there) in lines {
        assert_eq!(own.time(line), is_there.then_some(&time[..]), "{}", line.escape_ascii());
        assert_eq!(own.append(&mut Vec::new(), line).is_some(), is_there, "{}", line.escape_ascii());
    }
}

/// Pieces of which lines consist that mean something to one form or another.
fn line() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "10.0.0.1 - - [t] ",
        "\"GET /a HTTP/1.1\" ",
        "200 ",
        "5 ",
        "\"-\" ",
        "\"\\\" ",
        "I1123 10:00:00.0 1 a.go:5] ",
        "kubernetes=x ",
        "taffrail=",
        "a=",
        "\"",
        "=",
        "\\",
        "[2026] ",
        "}",
        ",\"kubernetes\":{",
        "é",
        "_id=1 ",
        "1 2 3 - ",
    ]);
    prop_oneof![prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat()), any::<String>()]
}

proptest! {
    #[test]
    fn whatever_a_line_says_it_writes_no_field_that_is_not_its_own(line in line(), cut in 0..20_usize) {
        for (name, _) in Form::ALL {
            let bytes = &line.as_bytes()[..line.len().saturating_sub(cut)];
            let mut out = b"{".to_vec();
            let Some(_) = known(name).append(&mut out, bytes) else {
                prop_assert_eq!(&out, b"{");
                continue;
            };
            out.push(b'}');
            let document: Map<String, Value> = serde_json::from_slice(&out).unwrap();
            prop_assert!(document["message"].is_string());
            for key in document.keys() {
                let root = key.split('.').next().unwrap();
                let known = ROOTS.contains(&root) || ["message", "log", "user_agent"].contains(&root);
                prop_assert!(known, "{key} of {line}");
            }
        }
    }
}
