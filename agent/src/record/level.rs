//! How severe a record is.
//!
//! In: the name or number that a program's JSON gives, or the text of a message. Out: one of eight levels, or none.
//! Never: reads further than the first 128 bytes of a message in search of one, or guesses from ordinary words: a
//! message that says "no errors found" has no level.

/// A record's severity, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The finest detail.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// The ordinary course of things.
    Info,
    /// Ordinary but worth a look (syslog's own level between info and warning).
    Notice,
    /// Something may be wrong.
    Warn,
    /// Something failed.
    Error,
    /// A part of the program is failing (syslog's critical and alert).
    Critical,
    /// The program cannot go on (syslog's emergency).
    Fatal,
}

impl Level {
    /// The name that documents carry in `log.level`: lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Notice => "notice",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Fatal => "fatal",
        }
    }

    /// What sets its colour on a terminal.
    pub fn colour(self) -> &'static str {
        match self {
            Level::Trace | Level::Debug => "\x1b[2m",
            Level::Info | Level::Notice => "\x1b[32m",
            Level::Warn => "\x1b[33m",
            Level::Error | Level::Critical | Level::Fatal => "\x1b[31m",
        }
    }

    /// The level that a name stands for, in any case and with white space around it. Knows the names of the usual
    /// logging libraries, and their single letters (`W`): for a field that says it holds a level. None for others.
    pub fn from_name(name: &[u8]) -> Option<Level> {
        let name = name.trim_ascii();
        if name.len() > 8 {
            return LONG_NAMES
                .iter()
                .find(|(long, _)| name.eq_ignore_ascii_case(long))
                .map(|(_, level)| *level);
        }
        let mut eight = [b' '; 8];
        eight[..name.len()].copy_from_slice(name);
        eight.make_ascii_lowercase();
        let packed = u64::from_le_bytes(eight);
        NAMES.iter().find(|(name, _)| *name == packed).map(|(_, level)| *level)
    }

    /// The level that a number stands for: 0 to 7 in syslog's scale (0 is an emergency), 10 to 60 in that of pino and
    /// bunyan (60 is fatal), where a custom number counts as the level below it.
    pub(super) fn from_number(number: u8) -> Option<Level> {
        Some(match number {
            0 | 60 => Level::Fatal,
            1 | 2 => Level::Critical,
            3 | 50..60 => Level::Error,
            4 | 40..50 => Level::Warn,
            5 => Level::Notice,
            6 | 30..40 => Level::Info,
            7 | 20..30 => Level::Debug,
            10..20 => Level::Trace,
            _ => return None,
        })
    }
}

/// What logging libraries call the levels, packed into eight bytes. The commonest come first.
const NAMES: [(u64, Level); 36] = [
    (packed("info"), Level::Info),
    (packed("error"), Level::Error),
    (packed("warn"), Level::Warn),
    (packed("debug"), Level::Debug),
    (packed("warning"), Level::Warn),
    (packed("trace"), Level::Trace),
    (packed("fatal"), Level::Fatal),
    (packed("critical"), Level::Critical),
    (packed("notice"), Level::Notice),
    (packed("severe"), Level::Error),
    (packed("verbose"), Level::Trace),
    (packed("alert"), Level::Critical),
    (packed("panic"), Level::Fatal),
    (packed("dpanic"), Level::Critical),
    (packed("emerg"), Level::Fatal),
    (packed("fine"), Level::Debug),
    (packed("finer"), Level::Trace),
    (packed("finest"), Level::Trace),
    (packed("err"), Level::Error),
    (packed("eror"), Level::Error),
    (packed("crit"), Level::Critical),
    (packed("dbg"), Level::Debug),
    (packed("dbug"), Level::Debug),
    (packed("inf"), Level::Info),
    (packed("wrn"), Level::Warn),
    (packed("trc"), Level::Trace),
    (packed("ftl"), Level::Fatal),
    (packed("i"), Level::Info),
    (packed("w"), Level::Warn),
    (packed("e"), Level::Error),
    (packed("d"), Level::Debug),
    (packed("t"), Level::Trace),
    (packed("v"), Level::Trace),
    (packed("n"), Level::Notice),
    (packed("c"), Level::Critical),
    (packed("f"), Level::Fatal),
];

/// Those that eight bytes do not hold.
const LONG_NAMES: [(&[u8], Level); 3] =
    [(b"information", Level::Info), (b"informational", Level::Info), (b"emergency", Level::Fatal)];

/// A name of at most eight bytes as a number, padded with spaces.
const fn packed(name: &str) -> u64 {
    let mut eight = [b' '; 8];
    let (filled, _) = eight.split_at_mut(name.len());
    filled.copy_from_slice(name.as_bytes());
    u64::from_le_bytes(eight)
}

/// How far into a message a level is looked for, in bytes. It stands in the prefix that the logging library wrote.
const WINDOW: usize = 128;

/// The level that a message gives itself in a form that logging libraries write: klog's first letter
/// (`E1123 15:54:01.000000`), logfmt's `level=warn`, `lvl=`, `severity=`, a name in brackets (`[error]`, `<Info>`,
/// `[core:warn]`) or between colour codes in any case, and a word in upper case (`ERROR`). The first counts. None if
/// there is none within the first 128 bytes.
pub fn from_text(message: &[u8]) -> Option<Level> {
    if let Some(level) = from_klog(message) {
        return Some(level);
    }
    // Eight bytes a step to where a form may begin: an access log's line takes 60 ns and a plain sentence 33, against
    // 175 and 260 byte by byte.
    let window = &message[..message.len().min(WINDOW)];
    let (chunks, rest) = window.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let mut starts = form_starts(u64::from_le_bytes(*chunk));
        while starts != 0 {
            if let Some(level) = from_form(message, index * 8 + starts.trailing_zeros() as usize / 8) {
                return Some(level);
            }
            starts &= starts - 1;
        }
    }
    (window.len() - rest.len()..window.len()).find_map(|at| from_form(message, at))
}

/// The highest bit of each byte that may begin or bear a form: A to Z, `[`, `<`, `=`. Exact: the sums are of seven bits
/// and cannot carry into the next byte.
#[inline]
fn form_starts(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = eight & (ONES * 0x7f);
    let at_least = |byte: u8| low + ONES * u64::from(0x80 - byte);
    let letter_or_bracket = at_least(b'A') & !at_least(b'[' + 1);
    let less_or_equals = at_least(b'<') & !at_least(b'=' + 1);
    (letter_or_bracket | less_or_equals) & !eight & (ONES * 0x80)
}

/// The level of the form that begins at `at` (or, at a `=`, bears it). None if there is none right here.
fn from_form(message: &[u8], at: usize) -> Option<Level> {
    let (before, rest) = (&message[..at], &message[at + 1..]);
    match message[at] {
        b'A'..=b'Z' => from_upper_case(before, &message[at..]),
        b'=' => from_logfmt(before, rest),
        b'[' if before.ends_with(b"\x1b") || before.ends_with(b"\\u001b") => from_coloured(rest),
        bracket @ (b'[' | b'<') => from_bracketed(before, rest, bracket),
        _ => None,
    }
}

/// klog and glog: a letter, the month and day, a space and the time, at the very beginning.
fn from_klog(message: &[u8]) -> Option<Level> {
    let level = match message.first()? {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        _ => return None,
    };
    let [month_day @ .., b' ', h1, h2, b':'] = message.get(1..9)? else { return None };
    (month_day.iter().all(u8::is_ascii_digit) && h1.is_ascii_digit() && h2.is_ascii_digit()).then_some(level)
}

/// `level=info`, where `before` ends with the key and `value` begins with the value, maybe quoted.
fn from_logfmt(before: &[u8], value: &[u8]) -> Option<Level> {
    let key = ["level", "lvl", "severity"].iter().find(|key| ends_with_ignoring_case(before, key))?;
    // Neither a flag (`--log-level=debug`), nor a part of an address (`?level=info`), nor of a longer name.
    match before[..before.len() - key.len()].last() {
        None | Some(b' ' | b'\t' | b'\n' | b',' | b';' | b'|' | b'.' | b'[' | b'(' | b'{' | b'"' | b'\'') => {
        }
        // The end of a colour code.
        Some(b'm') if before[..before.len() - key.len()].ends_with(b"\x1b[0m") => {}
        Some(_) => return None,
    }
    // A quote is escaped where the text is the inside of a JSON string.
    let value = value.strip_prefix(b"\\").unwrap_or(value);
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    match value {
        [0x1b, b'[', coloured @ ..] => from_coloured(coloured),
        _ => from_word(word(value), &value[word(value).len()..]),
    }
}

/// `[WARN]`, `[ warn ]`, `<info>`, and Apache's `[core:error]`, where `inside` begins after the bracket.
fn from_bracketed(before: &[u8], inside: &[u8], bracket: u8) -> Option<Level> {
    // `values[error]` and `List<Error>` are code, not a level.
    if before.last().is_some_and(|byte| is_word(*byte)) {
        return None;
    }
    // Longer than any level with padding or a module before it would be.
    let inside = &inside[..inside.len().min(40)];
    let end = memchr::memchr(if bracket == b'[' { b']' } else { b'>' }, inside)?;
    let inside = inside[..end].trim_ascii();
    let name = match memchr::memchr(b':', inside) {
        Some(colon) if bracket == b'[' => &inside[colon + 1..],
        _ => inside,
    };
    (name.len() > 1).then(|| Level::from_name(name))?
}

/// The word right after `ESC [`: behind the colour code, in upper case, or in any if the next code ends it.
fn from_coloured(code: &[u8]) -> Option<Level> {
    let digits = code.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
    let coloured = code[digits..].strip_prefix(b"m")?.trim_ascii_start();
    let name = word(coloured);
    let after = &coloured[name.len()..];
    let alone = after.starts_with(b"\x1b[") || after.starts_with(b"\\u001b[");
    if !alone && !name.iter().all(u8::is_ascii_uppercase) {
        return None;
    }
    from_word(name, after)
}

/// A word of upper-case letters that begins at the beginning of `rest` and stands for itself.
#[inline]
fn from_upper_case(before: &[u8], rest: &[u8]) -> Option<Level> {
    // Not within a word, a path (`/var/ERROR`) or a qualified name (`Level.ERROR`).
    if before.last().is_some_and(|byte| is_word(*byte) || matches!(byte, b'/' | b'.')) {
        return None;
    }
    let name = word(rest);
    if name.len() < 3 || !name.iter().all(u8::is_ascii_uppercase) {
        return None;
    }
    from_word(name, &rest[name.len()..])
}

/// The level named by a whole word, `after` being what follows it. Single letters are no levels in a text.
fn from_word(name: &[u8], after: &[u8]) -> Option<Level> {
    if name.len() < 3 || after.first().is_some_and(|byte| is_word(*byte)) {
        return None;
    }
    Level::from_name(name)
}

/// The letters that `text` begins with.
fn word(text: &[u8]) -> &[u8] {
    &text[..text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()]
}

/// Whether a byte belongs to a word as programs name things. Letters beyond ASCII do not: they end a level's name.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn ends_with_ignoring_case(text: &[u8], end: &str) -> bool {
    text.len() >= end.len() && text[text.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        let cases: [(Level, &[&str]); 8] = [
            (Level::Trace, &["trace", "TRC", "verbose", "finest", "finer", "T", "V"]),
            (Level::Debug, &["debug", "Debug", "DBG", "dbug", "fine", "D"]),
            (Level::Info, &["info", "INFO", "inf", "information", "Informational", "i", " INFO "]),
            (Level::Notice, &["notice", "N"]),
            (Level::Warn, &["warn", "WARNING", "Warning", "wrn", "w"]),
            (Level::Error, &["error", "ERR", "eror", "SEVERE", "E"]),
            (Level::Critical, &["critical", "CRIT", "alert", "dpanic", "c"]),
            (Level::Fatal, &["fatal", "FTL", "panic", "emerg", "EMERGENCY", "f"]),
        ];
        for (level, names) in cases {
            for name in names {
                assert_eq!(Level::from_name(name.as_bytes()), Some(level), "{name}");
            }
            assert_eq!(Level::from_name(level.as_str().as_bytes()), Some(level));
        }
        for name in ["", " ", "x", "infos", "in fo", "warn\0", "information schema", "30", "errors"] {
            assert_eq!(Level::from_name(name.as_bytes()), None, "{name:?}");
        }
        assert!(Level::Trace < Level::Info && Level::Notice < Level::Warn && Level::Critical < Level::Fatal);
    }

    #[test]
    fn numbers() {
        let syslog: Vec<&str> = (0..8).map(|number| Level::from_number(number).unwrap().as_str()).collect();
        assert_eq!(syslog, ["fatal", "critical", "critical", "error", "warn", "notice", "info", "debug"]);
        let pino: Vec<&str> = (1..=6).map(|ten| Level::from_number(ten * 10).unwrap().as_str()).collect();
        assert_eq!(pino, ["trace", "debug", "info", "warn", "error", "fatal"]);
        assert_eq!(Level::from_number(35), Some(Level::Info));
        assert!([8, 9, 61, 255].map(Level::from_number).iter().all(Option::is_none));
    }

    #[test]
    fn texts_with_a_level() {
        let far = format!("{} ERROR", "x".repeat(120));
        let cases = [
            ("I1123 15:54:01.000000       1 main.go:42] started", Level::Info),
            ("W1123 15:54:01.000000       1 main.go:42] slow", Level::Warn),
            ("E1123 15:54:01.000000       1 main.go:42] INFO failed", Level::Error),
            ("F1123 15:54:01.000000       1 main.go:42] gone", Level::Fatal),
            ("time=2026-11-23T15:54:01Z level=info msg=\"GET /ERROR\"", Level::Info),
            ("level=WARN msg=x", Level::Warn),
            ("level=error", Level::Error),
            ("ts=1 lvl=dbug msg=x", Level::Debug),
            ("ts=1 severity=\"critical\" msg=x", Level::Critical),
            (r#"ts=1 level=\"warning\" msg=x"#, Level::Warn),
            ("Level='notice'", Level::Notice),
            ("\x1b[36mlevel\x1b[0m=\x1b[31merror\x1b[0m", Level::Error),
            ("[WARN] disk is nearly full", Level::Warn),
            ("[ WARN ] disk is nearly full", Level::Warn),
            ("2026/11/23 15:54:01 [error] 29#29: *1 open() failed", Level::Error),
            ("[Mon Nov 23 15:54:01 2026] [core:notice] [pid 1] AH00094: ready", Level::Notice),
            ("<info> [1795449241.1] device ready", Level::Info),
            ("[main] [Debug] x", Level::Debug),
            ("2026-11-23 12:00:00,123 ERROR [main] c.e.Shop - failed", Level::Error),
            ("2026-11-23T12:00:00.123Z  INFO 1 --- [main] c.e.Shop : up", Level::Info),
            ("2026-11-23T12:00:00.123Z\tWARN\tmain.go:1\tslow", Level::Warn),
            ("WARNING:root:slow", Level::Warn),
            ("SEVERE: Servlet threw", Level::Error),
            ("[2026-11-23 12:00:00,123: ERROR/MainProcess] Task failed", Level::Error),
            ("2026-11-23 12:00:00 UTC [61] FATAL:  the database system is starting up", Level::Fatal),
            ("GET /DEBUG_pages INFO", Level::Info),
            ("\x1b[31mERROR\x1b[0m failed", Level::Error),
            ("\x1b[1;33m WARN\x1b[0m slow", Level::Warn),
            (r"\u001b[31mERROR\u001b[0m failed", Level::Error),
            ("[\x1b[31mERROR\x1b[0m] failed", Level::Error),
            ("\x1b[32minfo\x1b[39m: up", Level::Info),
            ("\x1b[36mINFO\x1b[0m[0000] up", Level::Info),
            ("エラーERROR発生", Level::Error),
            ("ERROR", Level::Error),
            (&far, Level::Error),
        ];
        for (text, level) in cases {
            assert_eq!(from_text(text.as_bytes()), Some(level), "{text}");
        }
    }

    #[test]
    fn texts_without_a_level() {
        let too_far = format!("{} ERROR", "x".repeat(128));
        let cases = [
            "",
            "E",
            "[",
            "=",
            "level=",
            "[]",
            "\x1b[",
            "\x1b[m",
            "no errors found",
            "Error: no such file",
            "select * from INFORMATION_SCHEMA.TABLES",
            "open /var/ERROR_pages",
            "open /var/ERROR",
            "case Level.ERROR of",
            "MY_ERROR ERROR_2 ERROR2 2ERROR ERRORS",
            "I1123 is a part number",
            "W112 15:54:01",
            "started with --log-level=debug",
            "GET /logs?level=error&x=1",
            "sealevel=info level=infos level=e level=1",
            "values[error] and List<Error>",
            "[W] <3> [info",
            "[2026-11-23 12:00:00] hello",
            "<errors>",
            "an \x1b[31merror in\x1b[0m colour",
            "10.0.0.1 - - [23/Nov/2026:15:54:01 +0000] \"GET /a HTTP/1.1\" 200 12 \"-\" \"Mozilla/5.0 (X11)\"",
            &too_far,
        ];
        for text in cases {
            assert_eq!(from_text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_form_is_found_at_every_place_of_a_chunk() {
        for indent in 0..=WINDOW {
            for (form, level) in [("ERROR", Level::Error), ("[warn]", Level::Warn)] {
                let text = format!("{}{form}", " ".repeat(indent));
                assert_eq!(from_text(text.as_bytes()), (indent < WINDOW).then_some(level), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn steps_of_eight_find_what_steps_of_one_do(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "level=", "lvl=\"", "[", "]", "<", ">", "\x1b[31m", "\x1b", "m", "error", "ERROR", "Info", "W", "_", " ", "é", "/",
            ]), 0..20),
            bytes: Vec<u8>,
        ) {
            for text in [pieces.concat().as_bytes(), &bytes] {
                let one_by_one = || (0..text.len().min(WINDOW)).find_map(|at| from_form(text, at));
                prop_assert_eq!(from_text(text), from_klog(text).or_else(one_by_one));
            }
        }
    }
}
