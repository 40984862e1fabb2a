//! What reading promises: the same records however the file is read, and every byte in exactly one of them.

use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

mod multiline;

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    time: String,
    stream: Option<Stream>,
    content: Vec<u8>,
    first: u64,
    last: u64,
    marks: Marks,
}

impl Own {
    fn of(record: Record<'_>) -> Own {
        let time = match record.time {
            Time::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            Time::Nanos(nanos) => time::format_nanos(nanos),
        };
        let (stream, content) = (record.stream, record.content.to_vec());
        Own { time, stream, content, first: record.first, last: record.last, marks: record.marks }
    }
}

/// Small bounds, so that small files meet them.
fn rules(oversize: Oversize) -> Rules {
    Rules { max_record: 100, oversize, join_gap: Duration::from_secs(5), since: None }
}

fn manner<'a>(
    framing: Framing,
    cuts: &'a [Cut],
    ended: bool,
    multiline: Option<&'a Multiline>,
) -> Manner<'a> {
    Manner { framing, cuts, multiline, end: if ended { End::Final } else { End::Open } }
}

fn source(content: &[u8]) -> Source {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Source::Plain(Arc::new(file))
}

/// Reads on until nothing is left; `stop` says before each record whether the batch is full with it.
fn read_on(
    reader: &mut Reader,
    source: &mut Source,
    at: &mut Position,
    cuts: &[Cut],
    ended: bool,
    stop: &mut dyn FnMut() -> bool,
) -> Vec<Own> {
    read_framed(reader, Framing::Runtime, source, at, cuts, ended, stop)
}

fn read_framed(
    reader: &mut Reader,
    framing: Framing,
    source: &mut Source,
    at: &mut Position,
    cuts: &[Cut],
    ended: bool,
    stop: &mut dyn FnMut() -> bool,
) -> Vec<Own> {
    let mut records = Vec::new();
    for _ in 0..100_000 {
        let before = *at;
        let turn = reader.turn(source, at, manner(framing, cuts, ended, None), |record| {
            records.push(Own::of(record));
            if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if turn.unwrap() == Turn::End {
            return records;
        }
        assert_ne!(before, *at, "a turn that promises more has to come forward");
    }
    panic!("no end");
}

fn read_all(content: &[u8], rules: Rules, window: usize) -> Vec<Own> {
    let mut at = Position::default();
    read_on(&mut Reader::with_window(rules, window), &mut source(content), &mut at, &[], true, &mut || false)
}

/// A line to be written.
#[derive(Debug, Clone)]
enum Written {
    Cri { stderr: bool, partial: bool, content: String },
    Docker { stderr: bool, partial: bool, content: String },
    Raw(String),
    Pause,
}

fn written() -> impl Strategy<Value = Written> {
    let content = prop_oneof![
        5 => "[a-z]{0,20}",
        2 => "[a-z]{60,120}",
        1 => "[a-z]{500,520}",
        1 => "[a-z]{521,1500}",
    ];
    let escaped = prop_oneof![4 => "[a-z\"\\\\\u{1}é🚢\r]{0,40}", 1 => content.clone()];
    prop_oneof![
        8 => (any::<bool>(), any::<bool>(), content.clone())
            .prop_map(|(stderr, partial, content)| Written::Cri { stderr, partial, content }),
        4 => (any::<bool>(), any::<bool>(), escaped)
            .prop_map(|(stderr, partial, content)| Written::Docker { stderr, partial, content }),
        2 => content.prop_map(Written::Raw),
        1 => Just(Written::Pause),
    ]
}

/// The file, and for each stream (standard output, standard error, none) what was written to it.
fn file_of(lines: &[Written], ended: bool) -> (Vec<u8>, [Vec<u8>; 3]) {
    let (mut file, mut contents, mut second) = (Vec::new(), [const { Vec::new() }; 3], 0);
    for (number, line) in lines.iter().enumerate() {
        let time = format!("2026-11-23T10:{:02}:{:02}.{number:09}Z", second / 60, second % 60);
        match line {
            Written::Cri { stderr, partial, content } => {
                let (stream, tag) =
                    (if *stderr { "stderr" } else { "stdout" }, if *partial { 'P' } else { 'F' });
                file.extend_from_slice(format!("{time} {stream} {tag} {content}\n").as_bytes());
                contents[usize::from(*stderr)].extend_from_slice(content.as_bytes());
            }
            Written::Docker { stderr, partial, content } => {
                let stream = if *stderr { "stderr" } else { "stdout" };
                let log = if *partial { content.clone() } else { format!("{content}\n") };
                let line = serde_json::json!({ "log": log, "stream": stream, "time": time }).to_string();
                file.extend_from_slice(format!("{line}\n").as_bytes());
                // One that is too long is taken in parts as it stands.
                if line.len() < 100 + HEAD_ROOM {
                    contents[usize::from(*stderr)].extend_from_slice(content.as_bytes());
                } else {
                    contents[2].extend_from_slice(line.as_bytes());
                }
            }
            Written::Raw(content) => {
                file.extend_from_slice(format!("{content}\n").as_bytes());
                contents[2].extend_from_slice(content.as_bytes());
            }
            Written::Pause => second += 6,
        }
    }
    if !ended {
        file.pop();
    }
    (file, contents)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn records_do_not_depend_on_how_the_file_is_read(
        lines in prop::collection::vec(written(), 0..40),
        last_newline: bool,
        cut: bool,
        window in prop_oneof![Just(16usize), 100..2000usize, Just(TURN)],
        breaks in prop::collection::vec(any::<bool>(), 1..20),
        steps in prop::collection::vec(1..400usize, 1..20),
    ) {
        let rules = rules(if cut { Oversize::Cut } else { Oversize::Split });
        let (file, contents) = file_of(&lines, last_newline);
        let whole = read_all(&file, rules, TURN);

        // Every byte is in exactly one record, in its order.
        for (place, stream) in [Some(Stream::Stdout), Some(Stream::Stderr), None].into_iter().enumerate() {
            let own = whole.iter().filter(|r| r.stream == stream);
            if cut {
                let length: usize = own.map(|r| r.marks.original_length.map_or(r.content.len(), |n| n as usize)).sum();
                prop_assert_eq!(length, contents[place].len());
            } else {
                let content: Vec<u8> = own.flat_map(|r| r.content.clone()).collect();
                prop_assert_eq!(String::from_utf8(content), String::from_utf8(contents[place].clone()));
            }
        }
        let mut places: Vec<_> = whole.iter().map(|r| (r.first, r.last)).collect();
        places.sort_unstable();
        places.dedup();
        prop_assert_eq!(places.len(), whole.len(), "two records in one place");

        // In windows of any size.
        prop_assert_eq!(&read_all(&file, rules, window), &whole);

        // Stopped at any record, and each time gone on by a new reader, as after a crash.
        let mut source = source(&file);
        let mut turn = 0;
        let mut stop = || { turn += 1; breaks[turn % breaks.len()] };
        let (mut at, mut records, mut resumed) = (Position::default(), Vec::new(), Vec::new());
        loop {
            resumed.push((at, records.len()));
            let mut reader = Reader::with_window(rules, window);
            let end = reader.turn(&mut source, &mut at, manner(Framing::Runtime, &[], true, None), |record| {
                records.push(Own::of(record));
                if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }).unwrap();
            if end == Turn::End {
                break;
            }
        }
        prop_assert_eq!(&records, &whole);
        // Each position on the way, having been saved as text, leads to the records behind it.
        for (at, before) in resumed {
            let text = serde_json::to_string(&at).unwrap();
            let mut at: Position = serde_json::from_str(&text).unwrap();
            let rest = read_on(&mut Reader::new(rules), &mut source, &mut at, &[], true, &mut || false);
            prop_assert_eq!(&rest[..], &whole[before..]);
        }

        // Growing under the reader, also in the middle of a line.
        let mut reader = Reader::with_window(rules, window);
        let (mut at, mut grown, mut length, mut step) = (Position::default(), Vec::new(), 0, 0);
        while length < file.len() {
            length = (length + steps[step % steps.len()]).min(file.len());
            step += 1;
            let mut so_far = self::source(&file[..length]);
            grown.extend(read_on(&mut reader, &mut so_far, &mut at, &[], false, &mut || false));
        }
        grown.extend(read_on(&mut reader, &mut source, &mut at, &[], true, &mut || false));
        prop_assert_eq!(&grown, &whole);
    }

    #[test]
    fn what_our_clock_cut_is_cut_there_again(
        lines in prop::collection::vec(written(), 0..30),
        steps in prop::collection::vec(1..400usize, 1..20),
        window in 100..2000usize,
    ) {
        let rules = rules(Oversize::Split);
        let (file, _) = file_of(&lines, true);
        let mut reader = Reader::with_window(rules, window);
        let (mut at, mut records, mut length, mut step) = (Position::default(), Vec::new(), 0, 0);
        let mut cuts = Vec::new();
        while length < file.len() {
            length = (length + steps[step % steps.len()]).min(file.len());
            step += 1;
            let mut so_far = source(&file[..length]);
            records.extend(read_on(&mut reader, &mut so_far, &mut at, &cuts, false, &mut || false));
            let open = at.open[..2].iter().flatten();
            cuts.extend(open.map(|group| Cut { first: group.first, end: group.end }));
            reader.close_groups(&mut so_far, &mut at, Framing::Runtime, |record| {
                records.push(Own::of(record));
                ControlFlow::Continue(())
            }).unwrap();
        }
        let mut whole = source(&file);
        records.extend(read_on(&mut reader, &mut whole, &mut at, &cuts, true, &mut || false));
        let mut again =
            read_on(&mut Reader::new(rules), &mut whole, &mut Position::default(), &cuts, true, &mut || false);
        // A cut record is handed out at once the first time, with the piece behind it the second.
        records.sort_by_key(|r| (r.first, r.last));
        again.sort_by_key(|r| (r.first, r.last));
        prop_assert_eq!(again, records);
    }
}

/// Lines of a host's own file: anything, and what would be a runtime's.
fn bare_lines() -> impl Strategy<Value = Vec<String>> {
    let line = prop_oneof![
        4 => "[ -~]{0,20}",
        1 => "[a-z]{90,130}",
        1 => "[a-z]{600,1500}",
        1 => "2026-11-23T10:00:00Z std(out|err) [PF] [a-z]{0,9}",
        1 => Just(r#"{"log":"x","stream":"stdout","time":"2026-11-23T10:00:00Z"}"#.to_owned()),
    ];
    prop::collection::vec(line, 0..30)
}

proptest! {
    #[test]
    fn each_line_of_a_hosts_file_is_a_record_of_its_own(
        lines in bare_lines(),
        last_newline: bool,
        cut: bool,
        window in prop_oneof![Just(16usize), 100..2000usize, Just(TURN)],
        steps in prop::collection::vec(1..400usize, 1..20),
    ) {
        // Nothing is too old, whatever it looks like.
        let since = time::unix_nanos(b"2200-01-01T00:00:00Z");
        let rules = Rules { since, ..rules(if cut { Oversize::Cut } else { Oversize::Split }) };
        let mut file = lines.join("\n").into_bytes();
        file.extend(last_newline.then_some(b'\n'));
        let mut reader = Reader::with_window(rules, window);
        let mut read = |content: &[u8], at: &mut Position, ended| {
            let framing = Framing::Lines;
            read_framed(&mut reader, framing, &mut source(content), at, &[], ended, &mut || false)
        };
        let begun = time::format_nanos(unix_now());
        let whole = read(&file, &mut Position::default(), true);
        prop_assert!(whole.iter().all(|r| r.stream.is_none() && !r.marks.unframed));
        let ended = time::format_nanos(unix_now());
        prop_assert!(whole.iter().all(|r| begun <= r.time && r.time <= ended), "{begun} {whole:?}");

        // Each line by its place, those that are too long in parts or cut.
        let mut offset = 0;
        for line in file.split(|byte| *byte == b'\n') {
            let end = offset + line.len() as u64;
            let own: Vec<&Own> = whole.iter().filter(|r| r.first >= offset && r.first < end).collect();
            if line.len() < 100 + HEAD_ROOM {
                prop_assert_eq!(own.len(), usize::from(!line.is_empty()));
                prop_assert!(own.iter().all(|r| r.content == line && r.marks == Marks::default()));
            } else {
                prop_assert_eq!(own.last().unwrap().marks.original_length, Some(line.len() as u64));
                let content: Vec<u8> = own.iter().flat_map(|r| r.content.clone()).collect();
                prop_assert_eq!(&content[..], if cut { &line[..100] } else { line });
            }
            offset = end + 1;
        }
        prop_assert!(whole.iter().all(|r| r.last <= file.len() as u64));

        // Growing under the reader: the same, but for the times.
        let (mut at, mut grown, mut length, mut step) = (Position::default(), Vec::new(), 0, 0);
        while length < file.len() {
            length = (length + steps[step % steps.len()]).min(file.len());
            step += 1;
            grown.extend(read(&file[..length], &mut at, false));
        }
        grown.extend(read(&file, &mut at, true));
        let timeless = |records: Vec<Own>| -> Vec<Own> {
            records.into_iter().map(|record| Own { time: String::new(), ..record }).collect()
        };
        prop_assert_eq!(timeless(grown), timeless(whole));
    }
}

fn unix_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

#[test]
fn pieces_of_dockers_are_joined_to_what_was_written() {
    let body = r#"{"msg":"a \"quoted\" word","n":1}"#;
    let pieces: Vec<String> = (0..body.len())
        .step_by(10)
        .map(|at| {
            let log = &body[at..body.len().min(at + 10)];
            let log = if at + 10 < body.len() { log.to_owned() } else { format!("{log}\n") };
            serde_json::json!({ "log": log, "stream": "stderr", "time": "2026-11-23T10:00:00.5Z" })
                .to_string()
        })
        .collect();
    let file = pieces.join("\n") + "\n{\"log\":\"torn\n";
    for window in [16, 150, TURN] {
        let records = read_all(file.as_bytes(), rules(Oversize::Split), window);
        assert_eq!(contents(&records), [body, "{\"log\":\"torn"]);
        assert_eq!((&*records[0].time, records[0].stream), ("2026-11-23T10:00:00.5Z", Some(Stream::Stderr)));
        assert_eq!(records[0].marks, Marks::default());
        assert!(records[1].marks.unframed);
    }
}

fn contents(records: &[Own]) -> Vec<&str> {
    records.iter().map(|r| std::str::from_utf8(&r.content).unwrap()).collect()
}

#[test]
fn a_long_tail_of_a_file_that_has_ended_is_delivered() {
    // Longer than a window, shorter than a record may be.
    let rules = Rules { max_record: 1 << 20, ..rules(Oversize::Split) };
    let tail = "x".repeat(300 << 10);
    assert_eq!(contents(&read_all(tail.as_bytes(), rules, TURN)), [&tail]);
}

#[test]
fn a_line_over_the_bound_is_taken_in_parts_though_it_fits_the_window() {
    let line = "x".repeat(1000);
    let file = format!("2026-11-23T10:00:00Z stdout F {line}\n");
    let split = read_all(file.as_bytes(), rules(Oversize::Split), TURN);
    assert_eq!(split.iter().map(|r| r.marks.part).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(contents(&split).concat(), line);
    assert_eq!(split[5].marks.original_length, Some(1000));
    let cut = read_all(file.as_bytes(), rules(Oversize::Cut), TURN);
    assert_eq!((cut.len(), cut[0].content.len() <= 100), (1, true));
    assert_eq!(cut[0].marks.original_length, Some(1000));
}

#[test]
fn a_long_line_between_the_pieces_of_another_is_not_read_into_it() {
    let long = "l".repeat(1000);
    let file = format!(
        "2026-11-23T10:00:00Z stdout P before \n2026-11-23T10:00:00Z stdout F {long}\n\
         2026-11-23T10:00:00Z stdout F after\n"
    );
    let records = read_all(file.as_bytes(), rules(Oversize::Cut), TURN);
    let contents = contents(&records);
    assert_eq!((contents.len(), contents[0], contents[2]), (3, "before ", "after"));
}

#[test]
fn records_older_than_the_beginning_are_passed_over_whatever_their_form() {
    let old = "2026-11-23T09:00:00.000000000Z";
    let long = "l".repeat(1000);
    let file = format!(
        "no time yet\n{old} stdout F one\n{{\"log\":\"docker\\n\",\"stream\":\"stdout\",\"time\":\"{old}\"}}\n\
         {old} stdout P two\n{old} stdout F , joined\nno time of its own\n\
         {old} stderr F {long}\n2026-11-23T11:00:00.000000000Z stdout F new\nraw and new\n"
    );
    let since = time::unix_nanos(b"2026-11-23T10:00:00Z");
    for oversize in [Oversize::Split, Oversize::Cut] {
        let records = read_all(file.as_bytes(), Rules { since, ..rules(oversize) }, TURN);
        assert_eq!(contents(&records), ["no time yet", "new", "raw and new"]);
    }
}

#[test]
fn what_was_written_after_the_output_began_is_never_too_old() {
    let (old, new) = ("2026-11-23T09:00:00.000000000Z", "2026-11-23T11:00:00.000000000Z");
    let before = format!("{old} stdout F one\n{new} stdout F two\n");
    let after = format!("{old} stdout F three\n{old} stdout P fo\n{old} stdout F ur\nraw\n");
    let since = time::unix_nanos(b"2026-11-23T10:00:00Z");
    for (past, expected) in [
        (before.len(), &["two", "three", "four", "raw"][..]),
        (0, &["one", "two", "three", "four", "raw"][..]),
        (usize::MAX, &["two"][..]),
    ] {
        let mut reader = Reader::with_window(Rules { since, ..rules(Oversize::Split) }, TURN);
        reader.past = past as u64;
        let (mut file, mut at) = (source(format!("{before}{after}").as_bytes()), Position::default());
        let records = read_on(&mut reader, &mut file, &mut at, &[], true, &mut || false);
        assert_eq!(contents(&records), expected, "before {past}");
    }
}

#[test]
fn a_file_that_became_shorter_is_an_error_and_hands_out_nothing_twice() {
    let file = b"2026-11-23T10:00:00Z stdout P one\n2026-11-23T10:00:00Z stderr F two\n";
    let mut reader = Reader::with_window(rules(Oversize::Split), 16);
    let mut at = Position::default();
    let first = read_on(&mut reader, &mut source(file), &mut at, &[], false, &mut || false);
    assert_eq!(contents(&first), ["two"]);
    let before = at;
    let mut shorter = source(&file[..10]);
    let nothing = |_: Record<'_>| panic!("a record from nowhere");
    let error =
        reader.turn(&mut shorter, &mut at, manner(Framing::Runtime, &[], true, None), nothing).unwrap_err();
    assert_eq!((error.kind(), at), (io::ErrorKind::UnexpectedEof, before));
}
