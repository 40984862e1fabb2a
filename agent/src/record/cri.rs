//! The line format of container runtimes (CRI): `<RFC 3339 time> <stdout|stderr> <P|F>[:tag…] <content>`.
//!
//! In: one line, without its newline. Out: its four parts, borrowed from it. Never: joins partial lines, or looks into
//! the content.

use super::time;

/// Which of the container's two streams a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name that the runtime writes, and that documents carry: `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The parts of one line of a CRI log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CriLine<'a> {
    /// When the runtime read the content: a valid RFC 3339 time, safe to be copied into JSON as it is.
    pub time: &'a [u8],
    /// Where the container wrote it.
    pub stream: Stream,
    /// Whether this is only a piece (`P`): the container's line goes on in the next one of the same stream.
    pub partial: bool,
    /// What the container wrote, maybe nothing. A carriage return at its end is part of it.
    pub content: &'a [u8],
}

/// Takes a line apart. None if it is not one of a CRI log: then it is best delivered whole, as plain text.
///
/// A line that ends right after its `P` or `F` has empty content. Tags beyond the first, which nobody writes yet, are
/// skipped.
#[inline]
pub fn parse(line: &[u8]) -> Option<CriLine<'_>> {
    let (time, rest) = line.split_at(time::prefix_len(line)?);
    let (stream, rest) = match rest.split_first_chunk::<8>()? {
        (b" stdout ", rest) => (Stream::Stdout, rest),
        (b" stderr ", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let (tag, rest) = rest.split_first()?;
    let partial = match tag {
        b'P' => true,
        b'F' => false,
        _ => return None,
    };
    let content = match rest {
        [b' ', content @ ..] => content,
        [] => rest,
        [b':', tags @ ..] => memchr::memchr(b' ', tags).map_or(&[][..], |space| &tags[space + 1..]),
        _ => return None,
    };
    Some(CriLine { time, stream, partial, content })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(line: &str) -> Option<(&str, &str, bool, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        parse(line.as_bytes())
            .map(|cri| (text(cri.time), cri.stream.as_str(), cri.partial, text(cri.content)))
    }

    #[test]
    fn lines_of_a_log() {
        let t = "2026-11-23T15:54:01.123456789Z";
        let tokyo = "2026-11-24T00:54:01.123456789+09:00";
        let short = "2026-11-23T15:54:01.12Z";
        let cases = [
            (format!("{t} stdout F hello"), (t, "stdout", false, "hello")),
            (format!("{t} stderr P half a li"), (t, "stderr", true, "half a li")),
            (format!("{tokyo} stdout F hello"), (tokyo, "stdout", false, "hello")),
            (format!("{short} stdout F hello"), (short, "stdout", false, "hello")),
            (format!("{t} stdout F "), (t, "stdout", false, "")),
            (format!("{t} stdout F"), (t, "stdout", false, "")),
            (format!("{t} stdout P"), (t, "stdout", true, "")),
            (format!("{t} stdout F   indented"), (t, "stdout", false, "  indented")),
            (format!("{t} stdout F dos\r"), (t, "stdout", false, "dos\r")),
            (format!("{t} stdout P:tag1:tag2 with tags"), (t, "stdout", true, "with tags")),
            (format!("{t} stdout F:tag1"), (t, "stdout", false, "")),
            (format!("{t} stdout F: odd"), (t, "stdout", false, "odd")),
            ("2016-12-31t23:59:60z stderr F x".into(), ("2016-12-31t23:59:60z", "stderr", false, "x")),
        ];
        for (line, expected) in cases {
            assert_eq!(parts(&line), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_of_a_log() {
        let t = "2026-11-23T15:54:01.123456789Z";
        let cases = [
            String::new(),
            t.into(),
            format!("{t} "),
            format!("{t} stdout"),
            format!("{t} stdout "),
            format!("{t} stdin F x"),
            format!("{t} STDOUT F x"),
            format!("{t}  stdout F x"),
            format!("{t} stdout  F x"),
            format!("{t} stdout X x"),
            format!("{t} stdout FP x"),
            format!("{t} stdout F\tx"),
            format!(" {t} stdout F x"),
            "2026-02-30T15:54:01.123456789Z stdout F x".into(),
            "2026-11-23T15:54:01.123456789\" stdout F x".into(),
            "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-23T15:54:01.123456789Z\"}".into(),
            "plain text".into(),
        ];
        for line in cases {
            assert_eq!(parts(&line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0..60_usize) {
            let _ = parse(&bytes);
            let mut line = b"2026-11-23T15:54:01.123456789Z stdout F:tag ".to_vec();
            line.truncate(cut);
            line.extend(bytes);
            let _ = parse(&line);
        }

        #[test]
        fn the_parts_join_to_the_line(
            nanos: i64,
            digits in 0..=9_usize,
            zone in prop::sample::select(vec!["Z", "z", "+09:00", "-03:30", "+00:00"]),
            stream in prop::sample::select(vec!["stdout", "stderr"]),
            tag in prop::sample::select(vec!["P", "F", "F:a", "P:a:b", "F:"]),
            content: Vec<u8>,
        ) {
            let nanos = super::time::format_nanos(nanos);
            let mut time = nanos[..if digits == 0 { 19 } else { 20 + digits }].to_owned();
            time.push_str(zone);
            let mut line = format!("{time} {stream} {tag} ").into_bytes();
            line.extend(&content);
            let cri = parse(&line).expect("a valid line");
            prop_assert_eq!(cri.time, time.as_bytes());
            prop_assert_eq!(cri.stream.as_str(), stream);
            prop_assert_eq!(cri.partial, tag.starts_with('P'));
            prop_assert_eq!(cri.content, &content[..]);
        }
    }
}
