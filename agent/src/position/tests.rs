//! What is saved is read back, whatever happens to the files.

use super::*;
use proptest::prelude::*;

fn key(n: u8) -> FileKey {
    FileKey::parse(&format!("{}AAAAAAAAAAAAAAAAAAAAA", char::from(b'A' + n))).unwrap()
}

#[test]
fn what_was_saved_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let group = OpenGroup {
        first: 7,
        end: 8,
        content: 16_384,
        last: 5,
        part: 1,
        before: 3,
        stream: Some(Lane::Stderr),
        lines: 3,
        state: 2,
        whole: true,
    };
    let position =
        Position { offset: 99, open: [None, Some(group), None], time: 12, skipped: Skipped([0, 5]) };
    let ledger = Ledger::open(dir.path(), "search").unwrap();
    ledger.change(|state| {
        state.since = Some(-4);
        state.acknowledge(key(0), position);
        state.cut(key(1), Cut { first: 3, end: 9 });
        state.written.insert("/x/y.ndjson".into(), Written { length: 3, rotations: 1 });
    });
    ledger.save().unwrap();
    let again = Ledger::open(dir.path(), "search").unwrap();
    again.read(|state| {
        assert_eq!(state.since, Some(-4));
        assert_eq!(state.entry(key(0)).unwrap().position, position);
        assert_eq!(state.entry(key(1)).unwrap().cuts, [Cut { first: 3, end: 9 }]);
        assert_eq!(state.written[Path::new("/x/y.ndjson")], Written { length: 3, rotations: 1 });
    });
}

#[test]
fn what_was_there_at_the_very_first_start_is_known_until_it_is_dealt_with() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Ledger::open(dir.path(), "o").unwrap();
    let ledger = open();
    assert!(ledger.read(State::is_new));
    ledger.change(|s| s.was_there(key(0), 100));
    ledger.save().unwrap();
    for (offset, past) in [(60, 100), (99, 100), (100, 0)] {
        let ledger = open();
        assert!(!ledger.read(State::is_new));
        ledger.change(|s| {
            s.was_there(key(0), 1_000);
            s.acknowledge(key(0), Position { offset, ..Position::default() });
        });
        ledger.save().unwrap();
        assert_eq!(open().read(|s| s.entry(key(0)).unwrap().past), past, "at {offset}");
    }
}

#[test]
fn cuts_are_kept_until_their_group_is_acknowledged() {
    let mut state = State::default();
    state.cut(key(0), Cut { first: 10, end: 20 });
    let open = OpenGroup { first: 10, end: 20, content: 1, last: 0, part: 0, ..OpenGroup::default() };
    state.acknowledge(key(0), Position { offset: 20, open: [Some(open), None, None], ..Position::default() });
    assert_eq!(state.entry(key(0)).unwrap().cuts.len(), 1);
    state.acknowledge(key(0), Position { offset: 20, ..Position::default() });
    assert!(state.entry(key(0)).unwrap().cuts.is_empty());
}

#[test]
fn a_damaged_file_falls_back_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), "o").unwrap();
    for offset in [1, 2] {
        ledger.change(|s| s.acknowledge(key(0), Position { offset, ..Position::default() }));
        ledger.save().unwrap();
    }
    let path = dir.path().join("o.positions");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let again = Ledger::open(dir.path(), "o").unwrap();
    assert_eq!(again.read(|s| s.entry(key(0)).unwrap().position.offset), 1);
    assert!(dir.path().join("o.damaged").exists());
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_fail_hard(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }
}

#[test]
fn a_cut_is_entered_once_however_often_it_is_tried() {
    let mut state = State::default();
    for _ in 0..3 {
        state.cut(key(0), Cut { first: 10, end: 20 });
    }
    assert_eq!(state.entry(key(0)).unwrap().cuts.len(), 1);
}

#[test]
fn what_went_while_no_agent_ran_is_forgotten_after_a_day_and_what_is_found_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), "o").unwrap();
    ledger.change(|s| {
        (0..2).for_each(|n| s.acknowledge(key(n), Position { offset: 1, ..Position::default() }))
    });
    ledger.save().unwrap();
    let again = Ledger::open(dir.path(), "o").unwrap();
    assert_eq!(again.change(|s| s.found(key(0)).unwrap().position.offset), 1);
    again.read(|s| assert!(s.entry(key(0)).unwrap().gone == 0 && s.entry(key(1)).unwrap().gone > 0));
    // A day later.
    again.change(|s| {
        s.entries.values_mut().filter(|e| e.gone > 0).for_each(|e| e.gone -= KEEP_GONE_SECONDS + 1)
    });
    again.save().unwrap();
    let last = Ledger::open(dir.path(), "o").unwrap();
    last.read(|s| assert!(s.entry(key(0)).is_some() && s.entry(key(1)).is_none()));
}

#[test]
fn a_crash_at_any_step_of_saving_leaves_one_of_the_two_states() {
    // The steps: a fresh file half written, whole, the old one moved aside, the fresh one in its place.
    for step in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.positions");
        let ledger = Ledger::open(dir.path(), "o").unwrap();
        let mut texts = Vec::new();
        for offset in [1, 2, 3] {
            ledger.change(|s| s.acknowledge(key(0), Position { offset, ..Position::default() }));
            ledger.save().unwrap();
            texts.push(fs::read(&path).unwrap());
        }
        fs::write(previous(&path), &texts[0]).unwrap();
        fs::write(&path, &texts[1]).unwrap();
        let fresh = path.with_extension("tmp");
        fs::write(&fresh, if step == 0 { &texts[2][..20] } else { &texts[2] }).unwrap();
        if step >= 2 {
            fs::rename(&path, previous(&path)).unwrap();
        }
        if step == 3 {
            fs::rename(&fresh, &path).unwrap();
        }
        assert!(Ledger::saved_at(dir.path(), "o").is_some(), "step {step}: somebody has run before");
        let again = Ledger::open(dir.path(), "o").unwrap();
        let offset = again.read(|s| s.entry(key(0)).unwrap().position.offset);
        assert_eq!(offset, if step == 3 { 3 } else { 2 }, "step {step}");
        again.change(|s| s.acknowledge(key(0), Position { offset: 4, ..Position::default() }));
        again.save().unwrap();
        let last = Ledger::open(dir.path(), "o").unwrap();
        assert_eq!(last.read(|s| s.entry(key(0)).unwrap().position.offset), 4);
    }
}

/// What the first version of the format reads, as it stood in its source: an agent that is rolled back must find in our file
/// what it needs, under the names that it knows, and pass over the rest.
mod first {
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    pub struct Header {
        pub taffrail_positions: u32,
        pub output: String,
        pub since: Option<i64>,
        #[serde(default)]
        pub written: BTreeMap<String, Written>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    pub struct Written {
        pub length: u64,
        pub rotations: u64,
    }

    #[derive(Deserialize)]
    pub struct Line {
        pub k: String,
        pub o: u64,
        #[serde(default)]
        pub p: [Option<Group>; 3],
        #[serde(default)]
        pub t: i64,
        #[serde(default)]
        pub c: Vec<Cut>,
        #[serde(default)]
        pub g: u64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    pub struct Group {
        pub f: u64,
        pub z: u64,
        pub n: u64,
        pub l: i64,
        #[serde(default)]
        pub s: u32,
        #[serde(default)]
        pub b: u64,
        pub e: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    pub struct Cut {
        pub f: u64,
        pub e: u64,
    }
}

#[test]
fn the_first_version_of_the_format_can_read_what_this_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), "search").unwrap();
    let group = OpenGroup {
        first: 7,
        end: 8,
        content: 6,
        last: 5,
        part: 1,
        before: 3,
        stream: Some(Lane::Stderr),
        lines: 2,
        state: 3,
        whole: true,
    };
    ledger.change(|state| {
        state.since = Some(-4);
        state.was_there(key(0), 1_000);
        state.acknowledge(
            key(0),
            Position { offset: 99, open: [None, None, Some(group)], time: 12, skipped: Skipped([7, 0]) },
        );
        state.cut(key(0), Cut { first: 99, end: 120 });
        state.gone(key(0));
        state.written.insert("/x/y.ndjson".into(), Written { length: 3, rotations: 1 });
    });
    ledger.save().unwrap();
    let text = fs::read_to_string(dir.path().join("search.positions")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let header: first::Header = serde_json::from_str(lines[0]).unwrap();
    assert!(header.taffrail_positions <= 2, "the first version reads its own and the next");
    assert_eq!((&*header.output, header.since), ("search", Some(-4)));
    assert_eq!(header.written["/x/y.ndjson"], first::Written { length: 3, rotations: 1 });
    let line: first::Line = serde_json::from_str(lines[1]).unwrap();
    assert_eq!((line.k, line.o, line.t), (key(0).to_string(), 99, 12));
    let e = Some("Stderr".to_owned());
    assert_eq!(line.p, [None, None, Some(first::Group { f: 7, z: 8, n: 6, l: 5, s: 1, b: 3, e })]);
    assert_eq!(line.c, [first::Cut { f: 99, e: 120 }]);
    assert!(line.g > 0, "gone");
    let end: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(format!("{}\n{}\n", lines[0], lines[1]).as_bytes());
    assert_eq!((lines.len(), &end["crc"]), (3, &serde_json::json!(crc.sum())));
}
