//! From the bytes of a line to the fields of a document: the hot path.
//!
//! In: whole lines as the container runtime wrote them (`cri`, `docker`), and the bodies in them. Out: the time, the
//! stream and, appended to the document being built, the body's fields: `message`, `log.level`, and an application's own
//! JSON under `app`, or, where a route says so, beside these ([`fields`] says which names that may be). Never: allocates
//! beyond the buffer it appends to (but for UTF-16 and by such routes), builds a tree of a body, lets a body write any other
//! field, or gives up a body that it cannot read: that is text.

pub mod condition;
pub mod cri;
pub mod docker;
pub mod escape;
pub mod fields;
pub mod hash;
pub mod insights;
pub(crate) mod json;
pub mod level;
mod merge;
pub mod multiline;
pub mod parse;
pub mod redact;
pub mod shape;
pub mod stamp;
mod suspect;
pub mod time;
pub mod treatment;
mod utf16;

use std::borrow::Cow;

pub use cri::{CriLine, Stream};
pub use level::Level;

/// What the body of a record turned out to be, for the caller to mark and count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// It was a JSON object and is now under `app`.
    pub json: bool,
    /// It held bytes that are not UTF-8, which were replaced by U+FFFD.
    pub invalid_utf8: bool,
    /// It was UTF-16; the fields hold its text.
    pub utf16: bool,
    /// The level that the record was given, if any.
    pub level: Option<Level>,
    /// Texts of it that its route has cut.
    pub truncated: u32,
}

impl Notes {
    /// Whether a document says any of it of itself.
    #[inline]
    pub fn are_marks(&self) -> bool {
        self.invalid_utf8 || self.utf16 || self.truncated > 0
    }
}

/// What becomes of a body that is a JSON object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Json<'a> {
    /// It goes under `app`.
    #[default]
    Nest,
    /// Its members go to the top of the document, but for those whose names may not be there, or are among these.
    Merge(&'a [String]),
    /// It stays the text that it is.
    Text,
}

/// Appends the fields of a record's body to `out`: `"message":"…"`, then, if it is known, `,"log":{"level":"warn"}`,
/// then, for a JSON body, `,"app":{…}`. There is always at least one field, and no comma before the first or behind
/// the last.
///
/// A body that is one valid JSON object (white space around it aside, and nested at most 64 deep) goes under `app` as it
/// stands. Its message (the first string among `message`, `msg`, `log`) is moved out to be the document's; without one
/// the document has none, and all is under `app`. Its level (`level`, `severity`, `lvl`, `log.level`, `log: {level}`)
/// stays there too. Every other body is text, and the message.
///
/// The bytes are spliced, not rebuilt, so what a reader could trip over stays: members of one name twice, numbers too
/// large for a double. Changed are only line breaks between tokens (to spaces) and escapes of lone surrogates (to that
/// of U+FFFD).
///
/// A body in UTF-16 is taken as the text that it stands for.
pub fn append_body(out: &mut Vec<u8>, content: &[u8]) -> Notes {
    append_body_as(out, content, Json::Nest)
}

/// The same for who wants something else of JSON. Where it is to stay the text that it is, every body is the message; its
/// level is the one that its JSON gives itself.
#[inline]
pub fn append_body_as(out: &mut Vec<u8>, content: &[u8], json: Json<'_>) -> Notes {
    if utf16::may_be(content)
        && let Some(notes) = append_utf16(out, content, json)
    {
        return notes;
    }
    // What a body needs beside itself, so that it grows the buffer at most once unless it is full of escapes.
    out.reserve(content.len() + 64);
    let Ok(text) = std::str::from_utf8(content) else {
        out.extend_from_slice(b"\"message\":\"");
        escape::append_lossy(out, content);
        return Notes { invalid_utf8: true, level: end_text(out, content, None), ..Notes::default() };
    };
    let object = text.trim_ascii();
    let mut level = None;
    if object.starts_with('{') {
        let appended = match json {
            Json::Nest => append_object(out, object),
            Json::Merge(taken) => merge::append(out, object, taken),
            Json::Text => {
                level = json::read(object).and_then(|object| object.level);
                None
            }
        };
        if let Some(notes) = appended {
            return notes;
        }
    }
    out.extend_from_slice(b"\"message\":\"");
    escape::append_str(out, text);
    Notes { level: end_text(out, content, level), ..Notes::default() }
}

/// `append` for what may be UTF-16. None, with nothing appended, if it is not.
#[cold]
fn append_utf16(out: &mut Vec<u8>, content: &[u8], json: Json<'_>) -> Option<Notes> {
    // Its text is UTF-8 without NULs, so that this comes back here no second time.
    let text = utf16::decode(content)?;
    Some(Notes { utf16: true, ..append_body_as(out, text.as_bytes(), json) })
}

/// A body as text for people: what is neither UTF-8 nor UTF-16 becomes U+FFFD.
pub fn readable(content: &[u8]) -> Cow<'_, str> {
    let utf16 = utf16::read(content);
    utf16.map_or_else(|| String::from_utf8_lossy(content), Cow::Owned)
}

/// Closes the message of a text and appends its level, which it returns: the one that is known, or what the text says.
fn end_text(out: &mut Vec<u8>, content: &[u8], known: Option<Level>) -> Option<Level> {
    out.push(b'"');
    let level = known.or_else(|| level::from_text(content));
    if let Some(level) = level {
        out.push(b',');
        append_level(out, level);
    }
    level
}

/// `append_body` for what may be a JSON object. None, with nothing appended, if it is none or has no member.
fn append_object(out: &mut Vec<u8>, text: &str) -> Option<Notes> {
    let object = json::read(text)?;
    let start = out.len();
    let app = match object.message {
        Some(message) => message.cut_out_of(text),
        // An object of no members has nothing to put under `app`.
        None if text[1..].trim_ascii_start() == "}" => return None,
        None => Some((text.as_bytes(), &[][..])),
    };
    let level = lift(out, text, &object);
    if let Some((before, after)) = app {
        separate(out, start);
        out.extend_from_slice(b"\"app\":");
        out.extend_from_slice(before);
        out.extend_from_slice(after);
    }
    Some(end_of_lift(out, start, &object, level))
}

/// Appends what an object gives the document of its own: its message, and its level, which it returns.
#[inline]
fn lift(out: &mut Vec<u8>, text: &str, object: &json::Object) -> Option<Level> {
    let start = out.len();
    let mut level = object.level;
    if let Some(message) = object.message {
        let value = message.value(text);
        out.extend_from_slice(b"\"message\":");
        out.extend_from_slice(value);
        level = level.or_else(|| level::from_text(&value[1..value.len() - 1]));
    }
    if let Some(level) = level {
        separate(out, start);
        append_level(out, level);
    }
    level
}

/// Makes what was spliced of an object since `start` fit for every reader.
#[inline]
fn end_of_lift(out: &mut [u8], start: usize, object: &json::Object, level: Option<Level>) -> Notes {
    if object.repair {
        json::repair(&mut out[start..]);
    }
    Notes { json: true, level, ..Notes::default() }
}

/// A comma, if anything was appended since `start`.
fn separate(out: &mut Vec<u8>, start: usize) {
    if out.len() > start {
        out.push(b',');
    }
}

fn append_level(out: &mut Vec<u8>, level: Level) {
    out.extend_from_slice(b"\"log\":{\"level\":\"");
    out.extend_from_slice(level.as_str().as_bytes());
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// What a body becomes, and its notes.
    fn body(content: &[u8]) -> (String, Notes) {
        let mut out = b"before:".to_vec();
        let notes = append_body(&mut out, content);
        let out = String::from_utf8(out).expect("valid UTF-8");
        (out.strip_prefix("before:").expect("what was there stays").to_owned(), notes)
    }

    #[test]
    fn bodies() {
        let cases = [
            ("", r#""message":"""#),
            ("hello", r#""message":"hello""#),
            ("  say \"hi\"\n\tat x", r#""message":"  say \"hi\"\n\tat x""#),
            ("[WARN] slow", r#""message":"[WARN] slow","log":{"level":"warn"}"#),
            ("\x1b[31mERROR\x1b[0m x", r#""message":"\u001b[31mERROR\u001b[0m x","log":{"level":"error"}"#),
            // JSON, but no object with members.
            ("1", r#""message":"1""#),
            (r#"["a"]"#, r#""message":"[\"a\"]""#),
            ("{}", r#""message":"{}""#),
            ("{ }", r#""message":"{ }""#),
            // Nearly JSON.
            (r#"{"msg":"a"} x"#, r#""message":"{\"msg\":\"a\"} x""#),
            (r#"{"msg":"a"}}"#, r#""message":"{\"msg\":\"a\"}}""#),
            (
                r#"{"msg":"a"},"kubernetes":{"a":1}"#,
                r#""message":"{\"msg\":\"a\"},\"kubernetes\":{\"a\":1}""#,
            ),
            // The message and what is left, wherever it stands.
            (r#"{"msg":"a"}"#, r#""message":"a""#),
            (r#"{"msg":"a","x":1}"#, r#""message":"a","app":{"x":1}"#),
            (r#"{"x":1,"msg":"a"}"#, r#""message":"a","app":{"x":1}"#),
            (r#"{"x":1,"msg":"a","y":2}"#, r#""message":"a","app":{"x":1,"y":2}"#),
            (r#" { "msg" : "a" , "x" : 1 } "#, r#""message":"a","app":{ "x" : 1 }"#),
            (r#"{ "x" : 1 , "msg" : "a" }"#, r#""message":"a","app":{ "x" : 1 }"#),
            (r#"{ "msg" : "a" }"#, r#""message":"a""#),
            (
                r#"{"x":[{"msg":"b"}],"msg":"\"\u00e9\/"}"#,
                r#""message":"\"\u00e9\/","app":{"x":[{"msg":"b"}]}"#,
            ),
            (r#"{"msg":""}"#, r#""message":"""#),
            // Which member is the message.
            (r#"{"log":"c","msg":"b","message":"a"}"#, r#""message":"a","app":{"log":"c","msg":"b"}"#),
            (r#"{"log":"c","msg":"b","message":1}"#, r#""message":"b","app":{"log":"c","message":1}"#),
            (r#"{"log":"c","msg":{}}"#, r#""message":"c","app":{"msg":{}}"#),
            (r#"{"msg":"a","msg":"b"}"#, r#""message":"a","app":{"msg":"b"}"#),
            (r#"{"m\u0073g":"a","Msg":"b"}"#, r#""app":{"m\u0073g":"a","Msg":"b"}"#),
            (r#"{"x":{"msg":"a"}}"#, r#""app":{"x":{"msg":"a"}}"#),
            // The level.
            (
                r#"{"level":"WARN","msg":"a"}"#,
                r#""message":"a","log":{"level":"warn"},"app":{"level":"WARN"}"#,
            ),
            (r#"{"level":50}"#, r#""log":{"level":"error"},"app":{"level":50}"#),
            (r#"{"log":{"level":"info"}}"#, r#""log":{"level":"info"},"app":{"log":{"level":"info"}}"#),
            (r#"{"log":"[error] x"}"#, r#""message":"[error] x","log":{"level":"error"}"#),
            (
                r#"{"level":"?","msg":"[error] x"}"#,
                r#""message":"[error] x","log":{"level":"error"},"app":{"level":"?"}"#,
            ),
            // What is repaired.
            ("{\r\n\"msg\":\"a\",\n\"x\":1\n}\n", r#""message":"a","app":{ "x":1 }"#),
            (r#"{"msg":"\ud83d","x":"\ud83d\udea2"}"#, r#""message":"\ufffd","app":{"x":"\ud83d\udea2"}"#),
        ];
        for (content, expected) in cases {
            let (out, notes) = body(content.as_bytes());
            assert_eq!(out, expected, "{content}");
            assert!(serde_json::from_str::<Value>(&format!("{{{out}}}")).is_ok(), "{out}");
            assert!(!notes.invalid_utf8);
        }
    }

    #[test]
    fn notes_say_what_the_body_was() {
        let info = Some(Level::Info);
        let cases: [(&[u8], Notes); 7] = [
            (b"hello", Notes::default()),
            (b"[info] hello", Notes { level: info, ..Notes::default() }),
            (br#"{"level":"info"}"#, Notes { json: true, level: info, ..Notes::default() }),
            (b"level=info \xff", Notes { invalid_utf8: true, level: info, ..Notes::default() }),
            (b"{\"msg\":\"\xff\"}", Notes { invalid_utf8: true, ..Notes::default() }),
            (b"\0[\0i\0n\0f\0o\0]\0", Notes { utf16: true, level: info, ..Notes::default() }),
            (b"\xff\xfeno UTF-16", Notes { invalid_utf8: true, ..Notes::default() }),
        ];
        for (content, expected) in cases {
            assert_eq!(body(content).1, expected, "{}", content.escape_ascii());
        }
    }

    #[test]
    fn json_that_is_to_stay_text_stays_it_and_keeps_its_level() {
        for (content, expected) in [
            (
                r#"{"msg":"a","level":40}"#,
                r#""message":"{\"msg\":\"a\",\"level\":40}","log":{"level":"warn"}"#,
            ),
            ("[WARN] slow", r#""message":"[WARN] slow","log":{"level":"warn"}"#),
            ("{", r#""message":"{""#),
        ] {
            let mut out = Vec::new();
            let notes = append_body_as(&mut out, content.as_bytes(), Json::Text);
            assert_eq!((String::from_utf8(out).expect("text").as_str(), notes.json), (expected, false));
        }
    }

    #[test]
    fn a_body_in_utf16_is_read_as_its_text() {
        let text = "{\"msg\":\"café \\\"1\\\"\",\"level\":\"warn\"}\r";
        let content: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (out, notes) = body(&content);
        assert_eq!(
            out,
            "\"message\":\"café \\\"1\\\"\",\"log\":{\"level\":\"warn\"},\"app\":{\"level\":\"warn\"}"
        );
        assert_eq!(notes, Notes { json: true, utf16: true, level: Some(Level::Warn), ..Notes::default() });
        assert_eq!(readable(&content), text);
        assert_eq!(readable(b"a\xff"), "a\u{fffd}");
    }

    /// The names that mean something to the room, and some that do not.
    fn name() -> impl Strategy<Value = String> {
        let known = ["message", "msg", "log", "level", "severity", "lvl", "log.level", "app", "", "a\"b"];
        prop_oneof![2 => prop::sample::select(known.map(str::to_owned).to_vec()), 1 => any::<String>()]
    }

    /// Any JSON value. Its numbers are whole: that doubles survive is not this room's doing.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (0..70_u8).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop::sample::select(vec!["info", "WARN", "[error] x", "10"]).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(name(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Any JSON object that is not empty, its members in any order.
    fn object() -> impl Strategy<Value = Vec<(String, Value)>> {
        prop::collection::btree_map(name(), value(), 1..8)
            .prop_map(|map| map.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    }

    /// An object as text, with white space around its members.
    fn text(members: &[(String, Value)], space: &str) -> String {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| {
                format!("{space}{}{space}:{space}{value}{space}", Value::from(name.as_str()))
            })
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// JSON objects as they are and with a few places changed, which leaves some of them valid.
    pub(super) fn nearly_json() -> impl Strategy<Value = String> {
        let pieces = [
            "",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\\",
            ",",
            ":",
            " ",
            "\n",
            "0",
            "-",
            ".",
            "e",
            "1e999",
            "null",
            "\\u",
            "\\ud83d",
            "\\udea2",
            "\t",
            "\u{1}",
            "é",
            "\"msg\":\"a\",",
            "[1,2]",
            "{}",
        ];
        let change = (any::<prop::sample::Index>(), 0..3_usize, prop::sample::select(pieces.to_vec()));
        let space = prop::sample::select(vec!["", " ", "\n\t"]);
        (object(), space, prop::collection::vec(change, 0..4)).prop_map(|(members, space, changes)| {
            let mut chars: Vec<char> = text(&members, space).chars().collect();
            for (index, removed, piece) in changes {
                let at = index.index(chars.len() + 1);
                chars.splice(at..(at + removed).min(chars.len()), piece.chars());
            }
            chars.into_iter().collect()
        })
    }

    fn parsed(out: &str) -> Result<Map<String, Value>, String> {
        serde_json::from_str(&format!("{{{out}}}")).map_err(|error| error.to_string())
    }

    /// Every document has these fields and no others, whatever the body.
    fn check_document(content: &[u8]) -> Result<(), TestCaseError> {
        let (out, notes) = body(content);
        prop_assert!(!out.contains(['\n', '\r']));
        match parsed(&out) {
            Ok(document) => {
                prop_assert!(!document.is_empty());
                prop_assert!(
                    document.keys().all(|key| ["message", "log", "app"].contains(&key.as_str())),
                    "{out}"
                );
                prop_assert!(document.get("message").is_none_or(Value::is_string));
                prop_assert!(document.get("app").is_none_or(|app| notes.json && app.is_object()));
                let level = notes.level.map(|level| serde_json::json!({ "level": level.as_str() }));
                prop_assert_eq!(document.get("log"), level.as_ref());
                if !notes.json {
                    prop_assert_eq!(&document["message"], &Value::from(readable(content)));
                }
            }
            Err(error) => {
                prop_assert!(notes.json && error.starts_with("number out of range"), "{error}: {out}")
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_become_fields_of_a_document(bytes: Vec<u8>) {
            check_document(&bytes)?;
        }

        #[test]
        fn what_begins_as_utf16_may_becomes_fields_of_a_document(
            begin in prop::sample::select(vec![&b"\xff\xfe"[..], b"\xfe\xff", b"\0", b"a\0", b"\xff\xfe{\0"]),
            units: Vec<u16>,
            text in nearly_json(),
            big: bool,
            torn: bool,
        ) {
            let order = if big { u16::to_be_bytes } else { u16::to_le_bytes };
            for units in [units, text.encode_utf16().collect()] {
                let mut bytes = begin.to_vec();
                bytes.extend(units.into_iter().flat_map(order));
                bytes.truncate(bytes.len() - usize::from(torn));
                check_document(&bytes)?;
            }
        }

        #[test]
        fn nearly_json_becomes_fields_of_a_document(text in nearly_json(), junk: Option<(prop::sample::Index, u8)>) {
            let mut bytes = text.into_bytes();
            if let Some((index, byte)) = junk {
                bytes.insert(index.index(bytes.len() + 1), byte);
            }
            check_document(&bytes)?;
        }

        #[test]
        fn an_object_is_all_there(
            members in object(),
            space in prop::sample::select(vec!["", " ", "\t ", "\r\n"]),
        ) {
            let (out, notes) = body(text(&members, space).as_bytes());
            prop_assert!(notes.json);
            let document = parsed(&out).expect("a document");
            let mut app: Map<String, Value> = members.into_iter().collect();
            let lifted = ["message", "msg", "log"].into_iter().find(|name| app.get(*name).is_some_and(Value::is_string));
            let message = lifted.and_then(|name| app.remove(name));
            prop_assert_eq!(document.get("message"), message.as_ref());
            let app = (!app.is_empty()).then_some(Value::Object(app));
            prop_assert_eq!(document.get("app"), app.as_ref());
        }
    }
}
