//! The line format of docker's `json-file` log driver: `{"log":"text\n","stream":"stdout","time":"<RFC 3339 time>"}`.
//!
//! In: one line, without its newline. Out: its four parts, borrowed from it, the content as JSON escapes it; and what
//! escaped content stands for. Never: joins partial lines, or takes for docker's what is not one whole, valid object.

use super::cri::Stream;
use super::json::Scanner;
use super::time;

/// The parts of one line of a `json-file` log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DockerLine<'a> {
    /// When docker read the content: a valid RFC 3339 time, safe to be copied into JSON as it is.
    pub time: &'a [u8],
    /// Where the container wrote it.
    pub stream: Stream,
    /// Whether this is only a piece: docker cuts at 16 KiB, and gives only the last piece the line's newline.
    pub partial: bool,
    /// What the container wrote, without the newline, as the inside of a valid JSON string: see [`unescape`].
    pub escaped: &'a [u8],
}

/// Takes a line apart. None if it is not one of docker's: then it is best delivered whole, as plain text.
///
/// The members may come in any order with others among them (`attrs`), and with white space between. Of two with one
/// name the last counts, as it does for docker itself.
pub fn parse(line: &[u8]) -> Option<DockerLine<'_>> {
    let line = line.trim_ascii_end();
    let (mut log, mut stream, mut time) = (None, None, None);
    let end = Scanner { bytes: line, repair: false }.object(|_, member| {
        let value = string(&line[member.value.0..member.value.1]);
        match string(&line[member.name.0..member.name.1]) {
            Some(b"log") => log = value,
            Some(b"stream") => stream = value,
            Some(b"time") => time = value,
            _ => {}
        }
    })?;
    let stream = match stream? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let (log, time) = (log?, time?);
    if end != line.len() || time::prefix_len(time) != Some(time.len()) {
        return None;
    }
    let ended = without_newline(log);
    Some(DockerLine { time, stream, partial: ended.is_none(), escaped: ended.unwrap_or(log) })
}

/// The inside of a JSON token, if that is a string.
fn string(token: &[u8]) -> Option<&[u8]> {
    token.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Escaped content without the newline that it ends with; None if it ends otherwise.
fn without_newline(escaped: &[u8]) -> Option<&[u8]> {
    let forms: [&[u8]; 3] = [br"\n", br"\u000a", br"\u000A"];
    let rest = forms.iter().find_map(|form| escaped.strip_suffix(*form))?;
    // `\\n` is a backslash and an n.
    let backslashes = rest.iter().rev().take_while(|byte| **byte == b'\\').count();
    (backslashes % 2 == 0).then_some(rest)
}

/// Appends what escaped content stands for. A surrogate without its other half becomes U+FFFD. Bytes that are not
/// UTF-8, which docker does not write, stay as they are.
pub fn unescape(out: &mut Vec<u8>, escaped: &[u8]) {
    // Never longer than what stands for it.
    out.reserve(escaped.len());
    let mut rest = escaped;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        let Some((&letter, after)) = rest[backslash + 1..].split_first() else { return };
        rest = after;
        match letter {
            b'u' => {
                let (character, length) = character(after);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &after[length..];
            }
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            itself => out.push(itself),
        }
    }
    out.extend_from_slice(rest);
}

/// The character that `\u` and these digits stand for, maybe with a second escape behind them, and their length.
fn character(digits: &[u8]) -> (char, usize) {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(digits.get(at..at + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else { return (char::REPLACEMENT_CHARACTER, 0) };
    if let Some(character) = char::from_u32(first) {
        return (character, 4);
    }
    let second = if digits[4..].starts_with(br"\u") { unit(6) } else { None };
    let pair = match (first, second) {
        (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
            char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00))
        }
        _ => None,
    };
    pair.map_or((char::REPLACEMENT_CHARACTER, 4), |character| (character, 10))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parts(line: &str) -> Option<(&str, &str, bool, String)> {
        let docker = parse(line.as_bytes())?;
        let mut content = Vec::new();
        unescape(&mut content, docker.escaped);
        let time = std::str::from_utf8(docker.time).unwrap();
        Some((time, docker.stream.as_str(), docker.partial, String::from_utf8(content).unwrap()))
    }

    #[test]
    fn lines_of_a_log() {
        let t = "2026-11-23T15:54:01.123456789Z";
        let line = |log: &str| format!(r#"{{"log":"{log}","stream":"stdout","time":"{t}"}}"#);
        let cases = [
            (line(r"hello\n"), (false, "hello")),
            (line("half a li"), (true, "half a li")),
            (line(""), (true, "")),
            (line(r"\n"), (false, "")),
            (line(r"two\n\n"), (false, "two\n")),
            (line(r"dos\r\n"), (false, "dos\r")),
            (line(r"hello\u000a"), (false, "hello")),
            (line(r"C:\\temp\\n"), (true, r"C:\temp\n")),
            (line(r"C:\\\n"), (false, r"C:\")),
            (line(r#"{\"msg\":\"a \\\"b\\\"\"}\n"#), (false, r#"{"msg":"a \"b\""}"#)),
            (line(r"\u003ca\u003E \u00e9\u2028\t\b\f\/ 日本\n"), (false, "<a> é\u{2028}\t\u{8}\u{c}/ 日本")),
            (
                line(r"\ud83d\udea2 \ud83d \uDEA2 \ud83dx\ud83d\u0041\n"),
                (false, "🚢 \u{fffd} \u{fffd} \u{fffd}x\u{fffd}A"),
            ),
            (
                format!(r#"{{ "time" : "{t}", "attrs":{{"a":[1]}},	"stream":"stdout" ,"log":"x\n" }} "#),
                (false, "x"),
            ),
            (format!(r#"{{"log":1,"log":"x\n","stream":"stdout","time":"{t}"}}"#), (false, "x")),
        ];
        for (line, (partial, content)) in cases {
            assert_eq!(parts(&line), Some((t, "stdout", partial, content.to_owned())), "{line}");
        }
        let tokyo = r#"{"log":"x","stream":"stderr","time":"2026-11-24T00:54:01+09:00"}"#;
        assert_eq!(parts(tokyo), Some(("2026-11-24T00:54:01+09:00", "stderr", true, "x".into())));
    }

    #[test]
    fn what_is_no_line_of_a_log() {
        let t = "2026-11-23T15:54:01.123456789Z";
        let line = |log: &str| format!(r#"{{"log":{log},"stream":"stdout","time":"{t}"}}"#);
        let cases = [
            String::new(),
            "{}".into(),
            format!("{t} stdout F hello"),
            format!(" {}", line(r#""x""#)),
            format!("{}x", line(r#""x""#)),
            line(r#""x"#),
            line(r#""\x""#),
            line(r#""\u12""#),
            line(r#""\"#),
            line("\"a\tb\""),
            line("1"),
            line("null"),
            line(r#"["x"]"#),
            line(r#""x""#).replace("stdout", "stdin"),
            line(r#""x""#).replace("\"stdout\"", "1"),
            line(r#""x""#).replace("2026-11", "2026-13"),
            line(r#""x""#).replace("789Z", "789Z "),
            line(r#""x""#).replace("\"log\"", "\"msg\""),
            line(r#""x""#).replace("\"time\"", "\"ts\""),
            line(r#""x""#).replace("\"stream\"", "\"st\\u0072eam\""),
        ];
        for line in cases {
            assert_eq!(parts(&line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, places: [prop::sample::Index; 2], nearly in r#"(\\u?|[0-9a-dA-Du"]|d8|D[cC]){0,20}"#) {
            let mut out = Vec::new();
            unescape(&mut out, &bytes);
            unescape(&mut out, nearly.as_bytes());
            let mut line = br#"{"log":"hello\n","stream":"stdout","time":"2026-11-23T15:54:01.123456789Z"}"#.to_vec();
            let [from, to] = places.map(|place| place.index(line.len() + 1));
            line.splice(from.min(to)..from.max(to), bytes);
            if let Some(docker) = parse(&line) {
                unescape(&mut out, docker.escaped);
            }
        }

        #[test]
        fn what_a_writer_of_json_wrote_reads_back(
            content: String,
            stderr: bool,
            partial: bool,
            attrs: Option<String>,
            nanos: i64,
        ) {
            let (stream, time) = (if stderr { "stderr" } else { "stdout" }, time::format_nanos(nanos));
            let log = if partial { content.clone() } else { content.clone() + "\n" };
            let mut line = json!({ "log": log, "stream": stream, "time": time });
            if let Some(attrs) = &attrs {
                line["attrs"] = json!({ "log": attrs, attrs: "x" });
            }
            let partial = partial && !content.ends_with('\n');
            let expected = if partial { &content } else { log.strip_suffix('\n').unwrap() };
            let line = line.to_string();
            prop_assert_eq!(parts(&line), Some((&*time, stream, partial, expected.to_owned())));
        }

        #[test]
        fn escapes_read_as_serde_json_reads_them(content in r#"(\\["\\/bfnrt]|\\u00[0-7][0-9a-f]|\\u[0-9a-cE-F][0-9A-F]{3}|\\ud8[0-9a-f]{2}\\udc[0-9A-F]{2}|[a-zé🚢]){0,20}"#) {
            let mut out = Vec::new();
            unescape(&mut out, content.as_bytes());
            let theirs: String = serde_json::from_str(&format!("\"{content}\"")).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), theirs);
        }
    }
}
