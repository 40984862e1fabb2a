//! The promises of the `file` output: every line once, whatever fails, and whenever.

use super::*;
use crate::batch::Segment;

fn batch(parts: &[(&Path, &str)]) -> Sealed {
    let mut sealed = Sealed {
        body: Vec::new(),
        compressed: false,
        plain_bytes: 0,
        runs: Vec::new(),
        segments: Vec::new(),
        events: Default::default(),
        items: 0,
    };
    for (path, text) in parts {
        sealed.body.extend_from_slice(text.as_bytes());
        sealed.segments.push(Segment { path: path.display().to_string(), end: sealed.body.len() });
    }
    sealed
}

struct World {
    state: tempfile::TempDir,
    out: tempfile::TempDir,
}

impl World {
    fn start(&self) -> (Arc<Ledger>, Files) {
        let ledger = Arc::new(Ledger::open(self.state.path(), "o").unwrap());
        let files = Files::recover(ledger.clone(), 10, 2).unwrap();
        (ledger, files)
    }
}

fn world() -> World {
    World { state: tempfile::tempdir().unwrap(), out: tempfile::tempdir().unwrap() }
}

#[test]
fn what_was_not_saved_is_cut_off_after_a_crash() {
    let world = world();
    let (a, b) = (world.out.path().join("a"), world.out.path().join("b/c"));
    fs::write(&a, "old\n").unwrap();
    let (ledger, mut files) = world.start();
    files.write(&batch(&[(&a, "1\n"), (&b, "2\n")])).unwrap();
    ledger.change(|state| files.note(state));
    ledger.save().unwrap();
    files.write(&batch(&[(&a, "3\n"), (&b, "4\n")])).unwrap();
    ledger.change(|state| files.note(state));
    // Killed here: the last change was never saved.
    let (_, mut files) = world.start();
    assert_eq!(fs::read_to_string(&a).unwrap(), "old\n1\n");
    files.write(&batch(&[(&a, "5\n")])).unwrap();
    assert_eq!(fs::read_to_string(&a).unwrap(), "old\n1\n5\n");
    assert_eq!(fs::read_to_string(&b).unwrap(), "2\n");
}

#[test]
fn a_rotation_that_was_not_saved_is_undone() {
    let world = world();
    let a = world.out.path().join("a");
    let (ledger, mut files) = world.start();
    files.write(&batch(&[(&a, "0123456789\n")])).unwrap();
    ledger.change(|state| files.note(state));
    ledger.save().unwrap();
    for text in ["second file\n", "third file\n"] {
        files.write(&batch(&[(&a, text)])).unwrap();
    }
    assert_eq!(fs::read_to_string(numbered(&a, 2)).unwrap(), "second file\n");
    let (_, _files) = world.start();
    assert_eq!(fs::read_to_string(&a).unwrap(), "0123456789\n");
    assert!(!numbered(&a, 1).exists() && !numbered(&a, 2).exists());
}

#[test]
fn one_batch_may_fill_several_files_each_with_whole_lines() {
    let world = world();
    let a = world.out.path().join("a");
    let (_, mut files) = world.start();
    files.write(&batch(&[(&a, "1234\n1234\n123456789012\n12\n")])).unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(read(&numbered(&a, 1)), "1234\n1234\n");
    assert_eq!(read(&numbered(&a, 2)), "123456789012\n");
    assert_eq!(read(&a), "12\n");
}

#[test]
fn only_as_many_rotated_files_as_wished_are_kept() {
    let world = world();
    let a = world.out.path().join("a");
    let (ledger, mut files) = world.start();
    for n in 0..5 {
        files.write(&batch(&[(&a, &format!("{n} is ten or more\n"))])).unwrap();
        ledger.change(|state| files.note(state));
    }
    assert_eq!(fs::read_to_string(&a).unwrap(), "4 is ten or more\n");
    assert_eq!(fs::read_to_string(numbered(&a, 3)).unwrap(), "2 is ten or more\n");
    assert!(!numbered(&a, 2).exists() && numbered(&a, 4).exists());
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn many_rotations_within_one_batch_are_undone_too() {
    let world = world();
    let a = world.out.path().join("a");
    let (ledger, mut files) = world.start();
    files.write(&batch(&[(&a, "acknowledged\n")])).unwrap();
    ledger.change(|state| files.note(state));
    ledger.save().unwrap();
    // Far more than the two that are kept.
    files.write(&batch(&[(&a, &"eleven bytes\n".repeat(9))])).unwrap();
    let (_, _files) = world.start();
    assert_eq!(text(&a), "acknowledged\n");
    assert_eq!(fs::read_dir(world.out.path()).unwrap().count(), 1);
}

#[test]
fn a_batch_that_fills_many_files_leaves_no_more_than_are_kept_once_it_is_saved() {
    let world = world();
    let a = world.out.path().join("a");
    let (ledger, mut files) = world.start();
    files.write(&batch(&[(&a, &"eleven bytes\n".repeat(9))])).unwrap();
    files.trim();
    assert!(numbered(&a, 1).exists(), "needed, should the agent be killed now");
    ledger.change(|state| files.note(state));
    files.trim();
    assert!(a.exists() && numbered(&a, 8).exists() && numbered(&a, 7).exists());
    assert_eq!(fs::read_dir(world.out.path()).unwrap().count(), 3);
    // What is on disk says so.
    let (_, _files) = world.start();
    assert_eq!(fs::read_dir(world.out.path()).unwrap().count(), 3);
}

#[test]
fn an_error_names_the_file() {
    let world = world();
    let a = world.out.path().join("a");
    let (_, mut files) = world.start();
    fs::create_dir(&a).unwrap();
    let error = files.write(&batch(&[(&a, "1\n")])).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: ", a.display())), "{error}");
}

#[test]
fn a_file_that_is_taken_away_is_begun_anew_and_a_shortened_one_is_gone_on_with() {
    let world = world();
    let a = world.out.path().join("a");
    let (ledger, mut files) = world.start();
    let mut write = |text: &str| {
        files.write(&batch(&[(&a, text)])).unwrap();
        ledger.change(|state| files.note(state));
    };
    write("1\n2\n");
    fs::remove_file(&a).unwrap();
    write("3\n");
    assert_eq!(text(&a), "3\n");
    File::create(&a).unwrap();
    write("4\n");
    assert_eq!(text(&a), "4\n");
    // At the size of rotation.
    write("0123456789\n");
    fs::remove_file(&a).unwrap();
    write("5\n");
    assert_eq!(text(&a), "5\n");
    fs::rename(&a, numbered(&a, 7)).unwrap();
    write("0123456789\n");
    write("6\n");
    assert_eq!(
        (text(&a), text(&numbered(&a, 7)), text(&numbered(&a, 8))),
        ("6\n".into(), "5\n".into(), "0123456789\n".into())
    );
}

#[test]
fn a_file_that_was_taken_away_and_begun_anew_is_cut_back_after_a_crash() {
    let world = world();
    let a = world.out.path().join("a");
    let (ledger, mut files) = world.start();
    files.write(&batch(&[(&a, "1\n2\n")])).unwrap();
    ledger.change(|state| files.note(state));
    ledger.save().unwrap();
    fs::remove_file(&a).unwrap();
    files.write(&batch(&[(&a, "3\n")])).unwrap();
    let (_, _files) = world.start();
    assert_eq!(text(&a), "");
}

#[test]
fn what_a_failed_write_left_is_written_over() {
    let world = world();
    let a = world.out.path().join("a");
    let (ledger, mut files) = world.start();
    files.write(&batch(&[(&a, "1\n")])).unwrap();
    ledger.change(|state| files.note(state));
    File::options().write(true).open(&a).unwrap().write_all_at(b"2 ha", 2).unwrap();
    files.write(&batch(&[(&a, "2 half\n")])).unwrap();
    assert_eq!(text(&a), "1\n2 half\n");
}

#[test]
fn a_rotation_that_is_not_possible_does_not_stop_the_output() {
    let world = world();
    // No room for a number in the name.
    let a = world.out.path().join("a".repeat(255));
    let (_, mut files) = world.start();
    files.write(&batch(&[(&a, "0123456789\n0123456789\n")])).unwrap();
    assert_eq!(text(&a), "0123456789\n0123456789\n");
}

#[test]
fn a_batch_goes_on_where_it_failed_once_the_trouble_is_over() {
    let world = world();
    let (a, b) = (world.out.path().join("a"), world.out.path().join("b"));
    let (_, mut files) = world.start();
    files.write(&batch(&[(&a, "0123456789\n")])).unwrap();
    // After the rotation of `a`, its next file cannot be made, nor can `b`.
    let whole = batch(&[(&a, "1\n"), (&b, "2\n"), (&a, "3\n")]);
    fs::create_dir(&b).unwrap();
    assert!(files.write(&whole).is_err());
    fs::remove_dir(&b).unwrap();
    files.write(&whole).unwrap();
    assert_eq!(
        (text(&numbered(&a, 1)), text(&a), text(&b)),
        ("0123456789\n".into(), "1\n3\n".into(), "2\n".into())
    );
}

#[test]
fn a_fifo_in_place_of_a_file_is_an_error_and_blocks_nobody() {
    let world = world();
    let a = world.out.path().join("a");
    rustix::fs::mkfifoat(rustix::fs::CWD, &a, 0o600.into()).unwrap();
    let (_, mut files) = world.start();
    assert!(files.write(&batch(&[(&a, "1\n")])).is_err());
}

#[test]
fn neither_open_files_nor_the_state_grow_with_the_number_of_paths() {
    let world = world();
    let (ledger, mut files) = world.start();
    let paths: Vec<_> = (0..2 * MOST_OPEN).map(|n| world.out.path().join(n.to_string())).collect();
    for some in paths.chunks(300) {
        let parts: Vec<_> = some.iter().map(|path| (path.as_path(), "1\n")).collect();
        files.write(&batch(&parts)).unwrap();
        ledger.change(|state| files.note(state));
    }
    assert_eq!((files.open.len(), ledger.read(|state| state.written.len())), (MOST_OPEN, MOST_OPEN));
    let again = world.out.path().join("0");
    files.write(&batch(&[(&again, "2\n")])).unwrap();
    assert_eq!(text(&again), "1\n2\n");
}
