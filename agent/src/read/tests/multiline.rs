//! Records of several lines: the same ones however the file is read, and wherever it was rotated.

use super::*;
use crate::position::{Lane, Skipped};
use crate::record::multiline::Rule;

/// What programs print, as far as it matters to how lines are joined.
const LINES: [&str; 24] = [
    "all is well",
    "{\"level\":\"error\",\"msg\":\"in one line\"}",
    "2026-11-23 ERROR could not do it",
    "WARN slow",
    "java.io.IOException: no such file",
    "Exception in thread \"main\" java.lang.Error: end",
    "\tat shop.Cart.add(Cart.java:10)",
    "\t... 8 more",
    "Caused by: java.lang.IllegalStateException: inner",
    "second line of the message",
    "Traceback (most recent call last):",
    "  File \"shop.py\", line 5, in add",
    "ValueError: bad",
    "",
    "During handling of the above exception, another exception occurred:",
    "panic: broken",
    "goroutine 1 [running]:",
    "main.main()",
    "\t/srv/main.go:5 +0x46",
    "thread 'main' panicked at src/main.rs:2:5:",
    "note: run with `RUST_BACKTRACE=1`",
    "/srv/shop.js:1",
    "TypeError: x is not y",
    "Node.js v20.20.2",
];

/// A line as it stands in the file.
#[derive(Debug, Clone)]
struct Printed {
    stderr: bool,
    docker: bool,
    partial: bool,
    pause: bool,
    text: String,
}

fn printed() -> impl Strategy<Value = Printed> {
    let text = prop_oneof![
        12 => prop::sample::select(LINES.to_vec()).prop_map(str::to_owned),
        1 => "[a-z ]{30,90}",
        1 => "\t[a-z]{600,700}",
    ];
    let rarely = || prop::sample::select(vec![false, false, false, false, true]);
    (any::<bool>(), rarely(), rarely(), rarely(), text)
        .prop_map(|(stderr, docker, partial, pause, text)| Printed { stderr, docker, partial, pause, text })
}

/// Each line with its newline.
fn lines_of(printed: &[Printed]) -> Vec<String> {
    let mut second = 0;
    let line = |(number, line): (usize, &Printed)| {
        second += if line.pause { 3 } else { 0 };
        let time = format!("2026-11-23T10:{:02}:{:02}.{number:09}Z", second / 60, second % 60);
        let stream = if line.stderr { "stderr" } else { "stdout" };
        if line.docker {
            let log = if line.partial { line.text.clone() } else { format!("{}\n", line.text) };
            return format!("{}\n", serde_json::json!({ "log": log, "stream": stream, "time": time }));
        }
        format!("{time} {stream} {} {}\n", if line.partial { 'P' } else { 'F' }, line.text)
    };
    printed.iter().enumerate().map(line).collect()
}

fn rule(which: u8, max_lines: u32) -> Multiline {
    let regex = |pattern| regex::bytes::Regex::new(pattern).unwrap();
    let rule = match which {
        0 => Rule::Auto,
        1 => Rule::Start(regex("^[A-Za-z0-9]")),
        _ => Rule::Continue(regex(r"^\s|^Caused")),
    };
    Multiline { rule, timeout: Duration::from_secs(1), max_lines }
}

fn read_on(
    reader: &mut Reader,
    source: &mut Source,
    at: &mut Position,
    manner: &mut dyn FnMut() -> Manner<'static>,
    stop: &mut dyn FnMut() -> bool,
) -> Vec<Own> {
    let mut records = Vec::new();
    for _ in 0..100_000 {
        let turn = reader.turn(source, at, manner(), |record| {
            records.push(Own::of(record));
            if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if turn.unwrap() != Turn::More {
            return records;
        }
    }
    panic!("no end");
}

fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn texts(records: &[Own], stream: Stream) -> Vec<(String, Marks)> {
    let own = records
        .iter()
        .filter(|r| r.stream == Some(stream) || (stream == Stream::Stdout && r.stream.is_none()));
    own.map(|r| (String::from_utf8(r.content.clone()).unwrap(), r.marks)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn records_of_several_lines_do_not_depend_on_how_the_file_is_read(
        printed in prop::collection::vec(printed(), 0..40),
        which in 0..3u8,
        max_lines in prop_oneof![Just(3u32), Just(1000)],
        bare: bool,
        window in prop_oneof![Just(16usize), 100..2000usize],
        breaks in prop::collection::vec(any::<bool>(), 1..20),
        steps in prop::collection::vec(1..400usize, 1..20),
    ) {
        let rules = Rules { max_record: 200, ..rules(Oversize::Split) };
        let rule = leaked(rule(which, max_lines));
        let framing = if bare { Framing::Lines } else { Framing::Runtime };
        let file = if bare {
            printed.iter().map(|line| format!("{}\n", line.text)).collect::<String>()
        } else {
            lines_of(&printed).concat()
        };
        let manner = |ended| super::manner(framing, &[], ended, Some(rule));
        let all = |window| {
            let mut at = Position::default();
            let mut reader = Reader::with_window(rules, window);
            read_on(&mut reader, &mut source(file.as_bytes()), &mut at, &mut || manner(true), &mut || false)
        };
        // A host's lines bear the time of their reading.
        let timeless = |records: Vec<Own>| -> Vec<Own> {
            let time = |r: Own| if bare { Own { time: String::new(), ..r } } else { r };
            records.into_iter().map(time).collect()
        };
        let whole = timeless(all(TURN));
        prop_assert_eq!(&timeless(all(window)), &whole);
        let mut places: Vec<_> = whole.iter().map(|r| (r.first, r.last)).collect();
        places.sort_unstable();
        places.dedup();
        prop_assert_eq!(places.len(), whole.len(), "two records in one place");

        // Stopped at any record, gone on by a new reader from what was saved.
        let (mut at, mut records, mut turn) = (Position::default(), Vec::new(), 0);
        let mut bytes = source(file.as_bytes());
        loop {
            let end = Reader::with_window(rules, window).turn(&mut bytes, &mut at, manner(true), |record| {
                records.push(Own::of(record));
                turn += 1;
                if breaks[turn % breaks.len()] { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            at = serde_json::from_str(&serde_json::to_string(&at).unwrap()).unwrap();
            if end.unwrap() == Turn::End {
                break;
            }
        }
        prop_assert_eq!(&timeless(records), &whole);

        // Growing under the reader.
        let mut reader = Reader::with_window(rules, window);
        let (mut at, mut grown, mut length, mut step) = (Position::default(), Vec::new(), 0, 0);
        while length < file.len() {
            length = (length + steps[step % steps.len()]).min(file.len());
            step += 1;
            let mut so_far = source(&file.as_bytes()[..length]);
            grown.extend(read_on(&mut reader, &mut so_far, &mut at, &mut || manner(false), &mut || false));
        }
        grown.extend(read_on(&mut reader, &mut bytes, &mut at, &mut || manner(true), &mut || false));
        prop_assert_eq!(&timeless(grown), &whole);
    }

    #[test]
    fn a_rotation_changes_nothing_of_what_is_joined(
        printed in prop::collection::vec(printed(), 1..40),
        at_line: prop::sample::Index,
        which in 0..3u8,
        steps in prop::collection::vec(1..600usize, 1..20),
    ) {
        let rules = Rules { max_record: 1 << 20, ..rules(Oversize::Split) };
        let rule = leaked(rule(which, 1000));
        let lines = lines_of(&printed);
        let at_line = at_line.index(lines.len());
        let (first, second) = (lines[..at_line].concat(), lines[at_line..].concat());
        let manner = |ended| super::manner(Framing::Runtime, &[], ended, Some(rule));
        let mut reader = Reader::with_window(rules, 300);
        let mut whole_at = Position::default();
        let whole = lines.concat();
        let whole = read_on(&mut reader, &mut source(whole.as_bytes()), &mut whole_at, &mut || manner(true), &mut || false);

        // The second file grows while the end of what is open is looked for there.
        let (mut at, mut skipped, mut length, mut step) = (Position::default(), Skipped::default(), 0, 0);
        let mut before = source(first.as_bytes());
        let mut records = read_on(&mut reader, &mut before, &mut at, &mut || manner(false), &mut || false);
        loop {
            let ended = length >= second.len();
            let mut follower = Follower {
                source: source(&second.as_bytes()[..length.min(second.len())]),
                limit: if ended { [second.len() as u64; 2] } else { [u64::MAX; 2] },
                skipped: Skipped::default(),
                pending: [None; 2],
            };
            let end = Manner { end: End::Followed(&mut follower), ..manner(true) };
            let turn = reader.turn(&mut before, &mut at, end, |record| {
                records.push(Own::of(record));
                ControlFlow::Continue(())
            }).unwrap();
            for lane in [Lane::Stdout, Lane::Stderr] {
                skipped.0[lane as usize] = skipped.0[lane as usize].max(follower.skipped.0[lane as usize]);
            }
            if turn == Turn::End {
                break;
            }
            prop_assert!(turn == Turn::Waits && !ended);
            prop_assert!(follower.pending.iter().any(Option::is_some));
            length += steps[step % steps.len()];
            step += 1;
        }
        let mut at = Position { skipped, ..Position::default() };
        let mut after = source(second.as_bytes());
        records.extend(read_on(&mut reader, &mut after, &mut at, &mut || manner(true), &mut || false));
        for stream in [Stream::Stdout, Stream::Stderr] {
            prop_assert_eq!(texts(&records, stream), texts(&whole, stream));
        }
    }
}
