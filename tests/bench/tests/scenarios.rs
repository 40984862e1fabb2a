//! The bench over its own stand-in agent: each scenario must pass on an honest one and fail on one that cheats.

use std::path::Path;
use std::process::{Command, Output};

/// Runs a scenario in `cache` with the stand-in as the agent.
fn bench(cache: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_taffrail-bench");
    let common = ["--agent", program, "--stall", "5", "--cache"];
    Command::new(program)
        .args(arguments)
        .args(common)
        .arg(cache)
        .output()
        .expect("the bench could not be started")
}

/// The table of a run that must pass.
fn passes(arguments: &[&str]) -> String {
    let cache = tempfile::tempdir().expect("a folder for the cache");
    let output = bench(cache.path(), arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("a table in UTF-8")
}

/// The complaint of a run that must fail.
fn fails(arguments: &[&str]) -> String {
    let cache = tempfile::tempdir().expect("a folder for the cache");
    let output = bench(cache.path(), arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "a failed run must print no table");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SMALL: [&str; 5] = ["catch-up", "--size", "8MiB", "--repetitions", "2"];

#[test]
fn catch_up_confirms_every_record_plain_and_gzip() {
    let table = passes(&[SMALL.as_slice(), &["--verify-ids"]].concat());
    assert!(table.contains("\n| none | ") && table.contains("\n| gzip | "), "{table}");
    assert!(table.contains("cargo run --release -p taffrail-bench -- catch-up --size 8MiB"), "{table}");
}

#[test]
fn a_lost_record_fails_the_run() {
    let complaint = fails(&[SMALL.as_slice(), &["--set-output", "lose = 1000"]].concat());
    assert!(complaint.contains("1 missing"), "{complaint}");
}

#[test]
fn a_doubled_record_fails_the_run() {
    let complaint = fails(&[SMALL.as_slice(), &["--set-output", "double = 1000"]].concat());
    assert!(complaint.contains("were delivered"), "{complaint}");
}

#[test]
fn a_doubled_record_cannot_make_up_for_a_lost_one() {
    let cheat = ["--set-output", "double = 1000", "--set-output", "lose = 2000", "--verify-ids"];
    let complaint = fails(&[SMALL.as_slice(), &cheat].concat());
    assert!(complaint.contains("1 documents came twice"), "{complaint}");
}

#[test]
fn an_agent_that_cannot_start_is_told() {
    let complaint = fails(&[SMALL.as_slice(), &["--set", "not toml"]].concat());
    assert!(complaint.contains("the agent ended by itself"), "{complaint}");
}

#[test]
fn scale_gives_its_table() {
    let small = ["--size", "2MiB", "--containers", "2,40", "--outputs", "1", "--repetitions", "1"];
    let table = passes(&[["scale"].as_slice(), &small].concat());
    assert!(table.contains("\n| 2 | 1 | ") && table.contains("\n| 40 | 1 | "), "{table}");
}

#[test]
fn idle_wakeups_and_steady_give_their_tables() {
    let table = passes(&["idle", "--files", "50", "--seconds", "1"]);
    assert!(table.contains("| 50 | "), "{table}");
    let quick = ["--seconds", "1", "--repetitions", "1"];
    let table = passes(&[["wakeups", "--rate", "5000"].as_slice(), &quick].concat());
    assert!(table.contains("| each line by itself | ") && table.contains("| batches of 10 ms | "), "{table}");
    let table = passes(&[["steady"].as_slice(), &quick].concat());
    assert!(table.contains("10,000 lines a second over 20 files for 1 s, compression gzip"), "{table}");
}

#[test]
fn flood_beside_and_outage_give_their_tables() {
    let table = passes(&["flood", "--rate", "2MiB", "--seconds", "1", "--repetitions", "1"]);
    assert!(table.contains("| none | 0.0 | ") && table.contains("| 1 containers | "), "{table}");
    let table = passes(&["beside", "--size", "4MiB", "--repetitions", "2"]);
    assert!(table.contains("| alone | ") && table.contains("ratio of each pair: "), "{table}");
    let small = ["--size", "4MiB", "--containers", "20", "--away", "1", "--presence", "refusing"];
    let table = passes(&[["outage"].as_slice(), &small].concat());
    assert!(table.contains("| 20 | 4 | ") && table.contains("server away for 1 s (refusing)"), "{table}");
}
