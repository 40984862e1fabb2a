//! Bodies in the names of CloudWatch Container Insights, as AWS's own Fluent Bit set-up writes them.
//!
//! In: the body of a record. Out: its fields, appended to the document being built: of a container `log`, the line as it
//! stands, and `log_processed`, its JSON if it is an object; of a host file `message`, with `host`, `ident` and `pid`
//! before it where the line is one of syslog. Never: lets a body write any other field.

use std::borrow::Cow;

use super::{Notes, escape, json, utf16};

/// Months as syslog writes them: what such a line begins with.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The length of `Nov 24 15:54:01 `.
const STAMP: usize = 16;

/// Appends the fields of a container's line.
pub fn append_line(out: &mut Vec<u8>, content: &[u8]) -> Notes {
    let (text, mut notes) = text_of(content);
    put(out, "\"log\":\"", &text);
    let object = text.trim_ascii();
    if object.starts_with('{')
        && let Some(found) = json::read(object)
    {
        out.extend_from_slice(b",\"log_processed\":");
        let begin = out.len();
        out.extend_from_slice(object.as_bytes());
        if found.repair {
            json::repair(&mut out[begin..]);
        }
        notes.json = true;
    }
    notes
}

/// Appends the fields of a host file's line.
pub fn append_host_line(out: &mut Vec<u8>, content: &[u8]) -> Notes {
    let (text, notes) = text_of(content);
    let Some(syslog) = Syslog::read(&text) else {
        put(out, "\"message\":\"", &text);
        return notes;
    };
    put(out, "\"host\":\"", syslog.host);
    put(out, ",\"ident\":\"", syslog.ident);
    if let Some(pid) = syslog.pid {
        put(out, ",\"pid\":\"", pid);
    }
    put(out, ",\"message\":\"", syslog.message);
    notes
}

fn text_of(content: &[u8]) -> (Cow<'_, str>, Notes) {
    if let Some(text) = utf16::read(content) {
        return (Cow::Owned(text), Notes { utf16: true, ..Notes::default() });
    }
    let text = String::from_utf8_lossy(content);
    let invalid_utf8 = matches!(text, Cow::Owned(_));
    (text, Notes { invalid_utf8, ..Notes::default() })
}

fn put(out: &mut Vec<u8>, before: &str, value: &str) {
    out.extend_from_slice(before.as_bytes());
    escape::append_str(out, value);
    out.push(b'"');
}

/// A line of syslog, as RFC 3164 describes them: `Nov 24 15:54:01 host ident[pid]: message`.
#[derive(Debug, PartialEq, Eq)]
struct Syslog<'a> {
    host: &'a str,
    ident: &'a str,
    pid: Option<&'a str>,
    message: &'a str,
}

impl Syslog<'_> {
    fn read(line: &str) -> Option<Syslog<'_>> {
        let (stamp, rest) = line.split_at_checked(STAMP)?;
        let shape = stamp.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
        let day = stamp.as_bytes()[4];
        if !MONTHS.iter().any(|month| stamp.starts_with(month))
            || !(day == b' ' || day.is_ascii_digit())
            || !shape.skip(5).eq(*b"0 00:00:00 ")
        {
            return None;
        }
        let (host, rest) = rest.split_once(' ')?;
        let letter = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
        let (ident, rest) = rest.split_at(rest.find(|c| !letter(c)).unwrap_or(rest.len()));
        let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (pid, rest) = match bracketed {
            Some((pid, rest)) if !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) => {
                (Some(pid), rest)
            }
            _ => (None, rest),
        };
        let message = rest.split_once(':').map_or(rest, |(_, message)| message).trim_start_matches(' ');
        Some(Syslog { host, ident, pid, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn shown(append: fn(&mut Vec<u8>, &[u8]) -> Notes, content: &[u8]) -> (Value, Notes) {
        let mut out = b"{".to_vec();
        let notes = append(&mut out, content);
        out.push(b'}');
        (serde_json::from_slice(&out).unwrap(), notes)
    }

    #[test]
    fn a_line_stays_whole_and_its_json_stands_beside_it() {
        let json = Notes { json: true, ..Notes::default() };
        for (line, fields, notes) in [
            ("plain \"text\"", json!({ "log": "plain \"text\"" }), Notes::default()),
            ("", json!({ "log": "" }), Notes::default()),
            (
                r#" {"level":"warn","kubernetes":{"pod_name":"x"}}"#,
                json!({ "log": r#" {"level":"warn","kubernetes":{"pod_name":"x"}}"#,
                    "log_processed": { "level": "warn", "kubernetes": { "pod_name": "x" } } }),
                json,
            ),
            (r#"{"a":1}}"#, json!({ "log": r#"{"a":1}}"# }), Notes::default()),
            (
                "{\"a\":\n\"\\ud800\"}",
                json!({ "log": "{\"a\":\n\"\\ud800\"}", "log_processed": { "a": "\u{fffd}" } }),
                json,
            ),
            ("[1]", json!({ "log": "[1]" }), Notes::default()),
        ] {
            assert_eq!(shown(append_line, line.as_bytes()), (fields, notes), "{line}");
        }
        let broken = shown(append_line, b"a\xff");
        assert_eq!(broken.0, json!({ "log": "a\u{fffd}" }));
        assert!(broken.1.invalid_utf8);
        let wide = shown(append_line, b"\xff\xfeh\0i\0");
        assert_eq!((wide.0, wide.1.utf16), (json!({ "log": "hi" }), true));
    }

    #[test]
    fn a_line_of_syslog_is_taken_apart_and_any_other_is_the_message() {
        for (line, fields) in [
            (
                "Nov 24 15:54:01 ip-10-0-0-1 systemd[1]: Started a: b.",
                json!({ "host": "ip-10-0-0-1", "ident": "systemd", "pid": "1", "message": "Started a: b." }),
            ),
            (
                "Nov  4 05:04:01 n1 kernel: [    1.0] up",
                json!({ "host": "n1", "ident": "kernel", "message": "[    1.0] up" }),
            ),
            ("Nov  4 05:04:01 n1 sshd[x]: no", json!({ "host": "n1", "ident": "sshd", "message": "no" })),
            ("Nov  4 05:04:01 n1 no colon", json!({ "host": "n1", "ident": "no", "message": "colon" })),
            ("[    0.000000] Linux version 6", json!({ "message": "[    0.000000] Linux version 6" })),
            ("Nov 24 15:54:01", json!({ "message": "Nov 24 15:54:01" })),
            ("Nov 24 15:54:01 n1", json!({ "message": "Nov 24 15:54:01 n1" })),
            ("Now 24 15:54:01 n1 a: b", json!({ "message": "Now 24 15:54:01 n1 a: b" })),
            ("Nov 24 15:54:é1 n1 a: b", json!({ "message": "Nov 24 15:54:é1 n1 a: b" })),
            ("", json!({ "message": "" })),
        ] {
            assert_eq!(shown(append_host_line, line.as_bytes()).0, fields, "{line}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_line_holds_it_writes_its_own_fields_only(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let own = ["log", "log_processed", "host", "ident", "pid", "message"];
            for append in [append_line, append_host_line] {
                let (fields, _) = shown(append, &line);
                prop_assert!(fields.as_object().unwrap().keys().all(|key| own.contains(&&**key)));
            }
        }
    }
}
