//! What a record costs, as work and not as time: instructions and allocations, which are the same on a busy machine.
//!
//! In: two files of lines. Out: what shipping them ([`way`]) takes, by valgrind's count, and of both the difference, thus
//! without what a process costs that does nothing. A change that makes it a tenth more fails here, and says by how much. Who
//! means it writes the new number down, with the reason in the commit; so does who has made it less, so that it stays so.

use std::path::Path;
use std::process::Command;

#[path = "../../benches/rooms/way.rs"]
#[allow(dead_code)]
mod way;

/// Set for the process that is counted: the file that it is to ship.
const FILE: &str = "TAFFRAIL_WORK_FILE";

/// Records of the two files. Both are enough for several blocks of gzip.
const FEW: usize = 4_000;
const MANY: usize = 24_000;

/// Instructions for a record with gzip, in a build for tests on x86-64 by Rust 1.95; of other builds nothing is known.
const INSTRUCTIONS: f64 =
    if cfg!(all(debug_assertions, target_arch = "x86_64")) { 12_981.0 } else { f64::INFINITY };

/// Blocks of memory that are taken, for each record: some thirty whenever gzip makes new codes, and none by any other room.
const ALLOCATIONS: f64 = 0.091;

/// So much more is a change.
const TOLERATED: f64 = 0.1;

#[test]
fn the_work_for_a_record_has_not_grown_by_a_tenth() {
    if let Some(file) = std::env::var_os(FILE) {
        way::ship(Path::new(&file), true);
        return;
    }
    let instructions = for_a_record("callgrind", "Collected :", 0);
    let allocations = for_a_record("dhat", "Total:", 3);
    println!("{instructions:.0} instructions and {allocations:.4} allocations a record");
    for (what, seen, known) in
        [("instructions", instructions, INSTRUCTIONS), ("allocations", allocations, ALLOCATIONS)]
    {
        let more = 100.0 * (seen / known - 1.0);
        assert!(
            seen < known * (1.0 + TOLERATED),
            "{seen:.4} {what} a record, {more:.0}% more than the {known} that are known: see the head of this file"
        );
    }
}

/// What a tool of valgrind's counts for each record: the number that is word `place` behind `label`.
fn for_a_record(tool: &str, label: &str, place: usize) -> f64 {
    let [few, many] = [FEW, MANY].map(|records| count(tool, label, place, records));
    (many - few) / (MANY - FEW) as f64
}

fn count(tool: &str, label: &str, place: usize, records: usize) -> f64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("lines");
    std::fs::write(&file, way::lines(records)).expect("to write the lines");
    let output = Command::new("valgrind")
        .arg(format!("--tool={tool}"))
        .arg(format!("--{tool}-out-file={}", folder.path().join("out").display()))
        .arg(std::env::current_exe().expect("this test's own path"))
        .args(["--exact", "the_work_for_a_record_has_not_grown_by_a_tenth", "--test-threads=1"])
        .env(FILE, &file)
        .output()
        .expect("valgrind (Debian: apt-get install valgrind)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let rest = said.lines().find_map(|line| line.split_once(label)).map(|(_, rest)| rest);
    let word = rest.and_then(|rest| rest.split_whitespace().nth(place)).unwrap_or_else(|| panic!("{said}"));
    word.replace(',', "").parse().unwrap_or_else(|error| panic!("{word}: {error}"))
}
