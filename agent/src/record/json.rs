//! JSON bodies: one pass over the bytes that checks them and notes what is wanted of the top level.
//!
//! In: text that begins with `{`. Out: that it is one complete JSON object (RFC 8259, to the letter), and where its
//! message lies and which level it gives; or that it is not. Never: builds a tree, unescapes or copies anything, calls
//! itself, or accepts what could end the object that it is spliced into.

use super::escape;
use super::level::Level;

/// How deep objects and arrays may nest, the body itself being the first. Elasticsearch's own limit for a flattened
/// field is lower (20 by default), but also settable.
pub(crate) const MAX_DEPTH: u32 = 64;

/// How deep they may nest in what was made of a body: under `app` it is one level deeper. What looked into a document only
/// as deep as into a body would miss the fields of one that is as deep as it may be.
const MAX_MADE_DEPTH: u32 = MAX_DEPTH + 1;

/// What a valid object holds that the record wants.
#[derive(Debug)]
pub(super) struct Object {
    /// Its message, if any member is one.
    pub message: Option<Member>,
    /// The level that it gives itself.
    pub level: Option<Level>,
    /// It holds line breaks between its tokens, or escapes of surrogates: `repair` what was spliced.
    pub repair: bool,
}

/// Where one member of an object lies in the object's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// The `{` or `,` before it.
    pub before: usize,
    /// The name, with its quotes.
    pub name: (usize, usize),
    /// The value.
    pub value: (usize, usize),
    /// The `,` or `}` after it.
    pub after: usize,
}

impl Member {
    /// The value as it is written: of a string the token with its quotes.
    pub fn value<'a>(&self, object: &'a str) -> &'a [u8] {
        &object.as_bytes()[self.value.0..self.value.1]
    }

    /// The object without this member, in two pieces with one comma fewer. None if no member is left.
    pub fn cut_out_of<'a>(&self, object: &'a str) -> Option<(&'a [u8], &'a [u8])> {
        let bytes = object.as_bytes();
        match (bytes[self.before], bytes[self.after]) {
            (b',', _) => Some((&bytes[..self.before], &bytes[self.after..])),
            (_, b',') => Some((&bytes[..=self.before], &bytes[self.after + 1..])),
            _ => None,
        }
    }
}

/// Reads `text`, which has no white space around it, as one JSON object. None if it is anything else.
pub(super) fn read(text: &str) -> Option<Object> {
    read_each(text, |_| {})
}

/// The same, showing each member of the object.
#[inline]
pub(super) fn read_each(text: &str, mut each: impl FnMut(Member)) -> Option<Object> {
    let mut scanner = Scanner { bytes: text.as_bytes(), repair: false };
    // Both with a rank: of several candidates the lowest counts, and of equal ones the first.
    let mut message: Option<(u8, Member)> = None;
    let mut level: Option<(u8, Level)> = None;
    let end = scanner.object(|scanner, member| {
        each(member);
        let bytes = scanner.bytes;
        let (message_rank, level_rank) = match &bytes[member.name.0 + 1..member.name.1 - 1] {
            b"message" => (0, NONE),
            b"msg" => (1, NONE),
            b"log" => (2, 4),
            b"level" => (NONE, 0),
            b"severity" => (NONE, 1),
            b"lvl" => (NONE, 2),
            b"log.level" => (NONE, 3),
            _ => return,
        };
        let value = &bytes[member.value.0..member.value.1];
        if value[0] == b'"' && message_rank < message.map_or(NONE, |(rank, _)| rank) {
            message = Some((message_rank, member));
        }
        if level_rank < level.map_or(NONE, |(rank, _)| rank) {
            let found = if level_rank == 4 { level_of_log(value) } else { level_of(value) };
            level = found.map(|found| (level_rank, found)).or(level);
        }
    })?;
    if end != text.len() {
        return None;
    }
    let repair = scanner.repair;
    Some(Object { message: message.map(|(_, member)| member), level: level.map(|(_, level)| level), repair })
}

/// The rank of what is no candidate.
const NONE: u8 = u8::MAX;

/// The level that a valid JSON value stands for: a name, or a number, quoted or not.
fn level_of(value: &[u8]) -> Option<Level> {
    let text = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    match *text {
        [one @ b'0'..=b'9'] => Level::from_number(one - b'0'),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9'] => Level::from_number((ten - b'0') * 10 + one - b'0'),
        _ => Level::from_name(text),
    }
}

/// The level in a valid `{"level":…}`, which is how `log` looks in the Elastic Common Schema.
fn level_of_log(value: &[u8]) -> Option<Level> {
    let mut level = None;
    if value[0] == b'{' {
        Scanner { bytes: value, repair: false }.object(|scanner, member| {
            if level.is_none() && scanner.bytes[member.name.0..member.name.1] == *b"\"level\"" {
                level = level_of(&scanner.bytes[member.value.0..member.value.1]);
            }
        })?;
    }
    level
}

/// Makes spliced JSON, which `read` has found valid but for `repair`, fit for every reader: line breaks between
/// tokens become spaces (a body of several lines must not break the line that it is sent in), and escapes of lone
/// surrogates become that of U+FFFD (they are JSON, but stand for no text, and strict readers refuse them). No byte
/// moves.
#[cold]
pub(super) fn repair(json: &mut [u8]) {
    for byte in &mut *json {
        // Within strings valid JSON has none.
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    let mut at = 0;
    while let Some(backslash) = memchr::memchr(b'\\', &json[at..]) {
        at += backslash;
        let (this, next) = (surrogate(&json[at..]), surrogate(json.get(at + 6..).unwrap_or_default()));
        at += match (this, next) {
            (Some(Surrogate::High), Some(Surrogate::Low)) => 12,
            (Some(_), _) => {
                json[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            // Whatever is escaped, it is not a backslash after the second byte.
            (None, _) => 2,
        };
    }
}

enum Surrogate {
    High,
    Low,
}

/// Which half of a pair the escape that valid JSON goes on with stands for, if any.
fn surrogate(json: &[u8]) -> Option<Surrogate> {
    match json {
        [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..] => Some(Surrogate::High),
        [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', ..] => Some(Surrogate::Low),
        _ => None,
    }
}

/// Checks JSON from a place on: some 1.05 GB/s with the check of UTF-8 and the splicing, strings (`plain_until`) taking
/// the most of it. Each method takes where its token begins and returns where it ends, or None if the
/// bytes are not JSON. That strings are valid UTF-8 is for the caller to check, for the whole body at once.
pub(crate) struct Scanner<'a> {
    pub bytes: &'a [u8],
    pub repair: bool,
}

impl Scanner<'_> {
    /// The object that the bytes begin with, showing each member.
    #[inline]
    pub fn object(&mut self, mut visit: impl FnMut(&Self, Member)) -> Option<usize> {
        if self.bytes.first() != Some(&b'{') {
            return None;
        }
        let mut before = 0;
        let mut at = self.white(1);
        if self.bytes.get(at) == Some(&b'}') {
            return Some(at + 1);
        }
        loop {
            let name_end = self.string(at)?;
            let value = self.colon(name_end)?;
            let value_end = self.value(value, MAX_DEPTH)?;
            let after = self.white(value_end);
            let separator = self.bytes.get(after)?;
            if !matches!(separator, b',' | b'}') {
                return None;
            }
            visit(self, Member { before, name: (at, name_end), value: (value, value_end), after });
            if *separator == b'}' {
                return Some(after + 1);
            }
            before = after;
            at = self.white(after + 1);
        }
    }

    /// The members of the object that the bytes begin with, which need not be closed, until `visit` has seen enough: of a
    /// document that was made, or of a part of one.
    pub fn members(&mut self, mut visit: impl FnMut(&Self, Member) -> bool) {
        let mut before = 0;
        let mut at = self.white(1);
        while let Some(name_end) = self.string(at)
            && let Some(value) = self.colon(name_end)
            && let Some(value_end) = self.value(value, MAX_MADE_DEPTH)
        {
            let after = self.white(value_end);
            let member = Member { before, name: (at, name_end), value: (value, value_end), after };
            if visit(self, member) || self.bytes.get(after) != Some(&b',') {
                return;
            }
            before = after;
            at = self.white(after + 1);
        }
    }

    /// The values of the valid array that the bytes begin with, by where each begins and ends: likewise.
    pub fn elements(&mut self, mut visit: impl FnMut(&Self, (usize, usize))) {
        let mut at = self.white(1);
        while let Some(end) = self.value(at, MAX_MADE_DEPTH) {
            visit(self, (at, end));
            let after = self.white(end);
            if self.bytes.get(after) != Some(&b',') {
                return;
            }
            at = self.white(after + 1);
        }
    }

    /// Any value of a member of what the bytes are, which nests so deep at most. Containers are followed with one bit a level
    /// instead of by recursion: all but the first level fit in 64.
    #[inline]
    fn value(&mut self, at: usize, max_depth: u32) -> Option<usize> {
        match self.bytes.get(at)? {
            b'{' | b'[' => self.container(at, max_depth),
            _ => self.scalar(at),
        }
    }

    fn container(&mut self, mut at: usize, max_depth: u32) -> Option<usize> {
        // The lowest bit tells whether the innermost open container is an object.
        let mut objects: u64 = 0;
        let mut depth = 1;
        loop {
            match self.bytes.get(at)? {
                open @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > max_depth {
                        return None;
                    }
                    let object = *open == b'{';
                    objects = objects << 1 | u64::from(object);
                    at = self.white(at + 1);
                    if self.bytes.get(at)? != if object { &b'}' } else { &b']' } {
                        if object {
                            at = self.name(at)?;
                        }
                        continue;
                    }
                    // It is empty: its end is met below.
                }
                _ => at = self.scalar(at)?,
            }
            // Behind a value, or at the end of an empty container.
            loop {
                at = self.white(at);
                let object = objects & 1 == 1;
                match self.bytes.get(at)? {
                    b',' => {
                        at = self.white(at + 1);
                        if object {
                            at = self.name(at)?;
                        }
                        break;
                    }
                    b'}' if object => at += 1,
                    b']' if !object => at += 1,
                    _ => return None,
                }
                objects >>= 1;
                depth -= 1;
                if depth == 1 {
                    return Some(at);
                }
            }
        }
    }

    /// A member's name and the colon after it, to where the value begins.
    #[inline]
    fn name(&mut self, at: usize) -> Option<usize> {
        let end = self.string(at)?;
        self.colon(end)
    }

    /// The colon between a name and a value, with white space around it.
    #[inline]
    fn colon(&mut self, at: usize) -> Option<usize> {
        let at = self.white(at);
        (self.bytes.get(at)? == &b':').then(|| self.white(at + 1))
    }

    /// White space, if there is any.
    #[inline]
    fn white(&mut self, mut at: usize) -> usize {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.bytes.get(at) {
            self.repair |= matches!(byte, b'\n' | b'\r');
            at += 1;
        }
        at
    }

    #[inline]
    fn scalar(&mut self, at: usize) -> Option<usize> {
        match self.bytes.get(at)? {
            b'"' => self.string(at),
            b'-' | b'0'..=b'9' => self.number(at),
            b't' => self.literal(at, b"true"),
            b'f' => self.literal(at, b"false"),
            b'n' => self.literal(at, b"null"),
            _ => None,
        }
    }

    fn literal(&self, at: usize, literal: &[u8]) -> Option<usize> {
        self.bytes[at..].starts_with(literal).then_some(at + literal.len())
    }

    #[inline]
    fn string(&mut self, at: usize) -> Option<usize> {
        if self.bytes.get(at)? != &b'"' {
            return None;
        }
        let mut at = at + 1;
        loop {
            at = escape::plain_until(self.bytes, at);
            match self.bytes.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at = self.escape(at)?,
                _ => return None,
            }
        }
    }

    #[cold]
    fn escape(&mut self, at: usize) -> Option<usize> {
        match self.bytes.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
            b'u' => {
                let digits = self.bytes.get(at + 2..at + 6)?;
                self.repair |= surrogate(&self.bytes[at..]).is_some();
                digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 6)
            }
            _ => None,
        }
    }

    #[inline]
    fn number(&self, at: usize) -> Option<usize> {
        let digits = |at| at + self.bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = at + usize::from(self.bytes[at] == b'-');
        let mut end = digits(whole);
        if end == whole || (self.bytes[whole] == b'0' && end > whole + 1) {
            return None;
        }
        if self.bytes.get(end) == Some(&b'.') {
            let fraction = end + 1;
            end = digits(fraction);
            if end == fraction {
                return None;
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(end) {
            let exponent = end + 1 + usize::from(matches!(self.bytes.get(end + 1), Some(b'+' | b'-')));
            end = digits(exponent);
            if end == exponent {
                return None;
            }
        }
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::tests::nearly_json;
    use super::*;

    #[test]
    fn what_is_an_object() {
        let cases = [
            "{}",
            "{ }",
            r#"{"a":1}"#,
            "{ \"a\"\t: 1 , \"b\" :\r\n[ ] }",
            r#"{"a":{"b":[1,{"c":null}],"d":{}},"e":[[],[[]],{}]}"#,
            r#"{"a":true,"b":false,"c":null}"#,
            r#"{"a":0,"b":-0,"c":10,"d":1.5,"e":-1.50e+10,"f":1E5,"g":0e-0,"h":1e999}"#,
            r#"{"":""}"#,
            r#"{"a":"\"\\\/\b\f\n\r\t\u0041\ud83d\udea2\ud800"}"#,
            r#"{"日本":"🚢"}"#,
            r#"{"a":1,"a":2}"#,
            "{\"a\":\"\x7f\u{2028}\"}",
        ];
        for text in cases {
            assert!(read(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        let in_one_line = r#"
            { | } | [] | 1 | "a" | null | {}} | {} {} | {}x | {,} | {"a"} | {"a":} | {"a":1 | {"a":1, | {"a":1,}
            {,"a":1} | {"a":1 "b":2} | {"a":1,,"b":2} | {"a" 1} | {"a"::1} | {a:1} | {'a':1} | {1:1} | {"a":1}/**/
            {"a":01} | {"a":-} | {"a":-01} | {"a":.5} | {"a":1.} | {"a":1.e5} | {"a":1e} | {"a":1e+} | {"a":+1}
            {"a":0x1} | {"a":NaN} | {"a":Infinity} | {"a":tru} | {"a":True} | {"a":nulll} | {"a":/**/1}
            {"a":"} | {"a":"\"} | {"a":"\x"} | {"a":"\u12"} | {"a":"\u12g4"} | {"a":"\U1234"}
            {"a":[1,]} | {"a":[,1]} | {"a":[1 2]} | {"a":[} | {"a":{]} | {"a":[1}] | {"a":{"b":1]} | {"a":{"b"}}
            {"a":{"b":1,}} | {"a":[]]} | {"a":["b":1]} | {"a":{1}}
        "#;
        let with_other_bytes = [
            "",
            " {}",
            "{} ",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\0\"}",
            "{\"\u{1}\":1}",
            "{\"a\":1\u{a0}}",
            "{\u{feff}}",
            "{\u{b}}",
        ];
        let cases = in_one_line.trim().lines().flat_map(|line| line.split(" | ")).map(str::trim);
        for text in cases.chain(with_other_bytes) {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize, open: &str, close: &str| {
            format!("{{\"a\":{}1{}}}", open.repeat(depth - 1), close.repeat(depth - 1))
        };
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(read(&nested(64, open, close)).is_some());
            assert!(read(&nested(65, open, close)).is_none());
            assert!(read(&nested(100_000, open, close)).is_none());
        }
        assert!(read(&format!("{{\"a\":[{}[]]}}", "[[[]]],".repeat(1000))).is_some());
    }

    #[test]
    fn what_was_made_of_a_body_is_looked_through_one_level_deeper() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for (depth, found) in [(64, true), (65, true), (66, false)] {
                let value = format!("{}1{}", open.repeat(depth - 1), close.repeat(depth - 1));
                let (object, array) = (format!("{{\"a\":{value},\"b\":1"), format!("[{value},1]"));
                let (mut members, mut elements) = (0, 0);
                Scanner { bytes: object.as_bytes(), repair: false }.members(|_, _| {
                    members += 1;
                    false
                });
                Scanner { bytes: array.as_bytes(), repair: false }.elements(|_, _| elements += 1);
                assert_eq!((members == 2, elements == 2), (found, found), "{depth}: {object}");
            }
        }
    }

    #[test]
    fn the_level_and_where_it_is_looked_for() {
        let cases = [
            (r#"{"level":"info"}"#, Some(Level::Info)),
            (r#"{"severity":"WARNING"}"#, Some(Level::Warn)),
            (r#"{"lvl":"E"}"#, Some(Level::Error)),
            (r#"{"log.level":"debug"}"#, Some(Level::Debug)),
            (r#"{"log":{"logger":"x","level":"warn"}}"#, Some(Level::Warn)),
            (r#"{"log":{"level":{"level":"warn"}}}"#, None),
            (r#"{"log":{"x":{"level":"warn"}}}"#, None),
            (r#"{"log":["level"]}"#, None),
            (r#"{"app":{"level":"info"}}"#, None),
            (r#"{"level":30}"#, Some(Level::Info)),
            (r#"{"level":"50"}"#, Some(Level::Error)),
            (r#"{"level":3}"#, Some(Level::Error)),
            (r#"{"level":0}"#, Some(Level::Fatal)),
            (r#"{"level":3.0}"#, None),
            (r#"{"level":-4}"#, None),
            (r#"{"level":300}"#, None),
            (r#"{"level":null}"#, None),
            (r#"{"level":""}"#, None),
            (r#"{"level":"x","severity":"error"}"#, Some(Level::Error)),
            (r#"{"severity":"error","level":"info"}"#, Some(Level::Info)),
            (r#"{"log":{"level":"warn"},"lvl":"info"}"#, Some(Level::Info)),
            (r#"{"level":"info","level":"error"}"#, Some(Level::Info)),
            (r#"{"l\u0065vel":"info"}"#, None),
            (r#"{"Level":"info"}"#, None),
        ];
        for (text, level) in cases {
            assert_eq!(read(text).unwrap().level, level, "{text}");
        }
    }

    #[test]
    fn repairs_move_nothing() {
        let cases = [
            ("{\"a\":\r\n1,\n\"b\":\"\\n\"}", r#"{"a":  1, "b":"\n"}"#),
            (r#"{"a":"\ud83d\udea2"}"#, r#"{"a":"\ud83d\udea2"}"#),
            (r#"{"a":"\uD83D"}"#, r#"{"a":"\ufffd"}"#),
            (r#"{"a":"\udea2\ud83d"}"#, r#"{"a":"\ufffd\ufffd"}"#),
            (r#"{"a":"\ud83d\ud83d\udea2"}"#, r#"{"a":"\ufffd\ud83d\udea2"}"#),
            (r#"{"a":"\ud83d\\udea2"}"#, r#"{"a":"\ufffd\\udea2"}"#),
            (r#"{"a":"\\\ud83d","b":"\udfff"}"#, r#"{"a":"\\\ufffd","b":"\ufffd"}"#),
        ];
        for (text, expected) in cases {
            assert!(read(text).unwrap().repair, "{text}");
            let mut bytes = text.as_bytes().to_vec();
            repair(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
        for text in [r#"{"a":"\u00e9\ud7ff\ue000\\ud800"}"#, r#"{"a": "b"}"#] {
            assert!(!read(text).unwrap().repair, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json(text in nearly_json()) {
            let theirs = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
            match read(&text) {
                Some(_) => {
                    let mut repaired = text.clone().into_bytes();
                    repair(&mut repaired);
                    // A number that no double holds is JSON, and all that a reader into doubles may refuse.
                    if let Err(error) = theirs(std::str::from_utf8(&repaired).unwrap()) {
                        prop_assert!(error.starts_with("number out of range"), "{error}: {text}");
                    }
                }
                None if text.starts_with('{') && text.ends_with('}') => prop_assert!(theirs(&text).is_err(), "{text}"),
                None => {}
            }
        }
    }
}
