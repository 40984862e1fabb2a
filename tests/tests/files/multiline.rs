//! Records of several lines: what real runtimes print of a failure is one record, however it was cut on its way.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use taffrail_tests::agent::Agent;
use taffrail_tests::node::{self, Node};
use taffrail_tests::programs;
use taffrail_tests::verify::{self, Document};
use taffrail_tests::{eventually, let_pass, seconds, seed};

/// What each program prints of its failure. A language that is not there is left out, and it is said which.
fn failures(folder: &Path) -> Vec<Vec<String>> {
    let mut failures = Vec::new();
    let (made, left_out) = programs::make(folder);
    left_out.iter().for_each(|why| eprintln!("{why}"));
    for program in made {
        let mut command = Command::new("sh");
        command.args(["-c", program.run]).current_dir(folder).stdin(Stdio::null());
        let printed = command.env_remove("RUST_BACKTRACE").output().expect("a shell").stderr;
        let printed = String::from_utf8(printed).expect("text");
        let lines: Vec<String> = printed.trim_matches('\n').lines().map(str::to_owned).collect();
        let is_trace = lines.len() >= 3 && !printed.contains("compilation failed");
        assert!(is_trace, "{} printed no trace: {printed}", program.run);
        failures.push(lines);
    }
    failures
}

fn config(node: &Node, multiline: &str) -> String {
    let path = node.path().join("out/{namespace}.ndjson");
    node.config(&format!(
        "[outputs.local]\ntype = \"file\"\npath = \"{}\"\n[[routes]]\nmultiline = {multiline}\noutputs = [\"local\"]\n",
        path.display()
    ))
}

/// Its messages on standard error, but for those in JSON.
fn messages(documents: &[Document]) -> Vec<String> {
    let of = |document: &Document| {
        let text = document.source["message"].as_str().map(str::to_owned);
        text.filter(|_| document.source["stream"] == "stderr" && document.source.get("app").is_none())
    };
    documents.iter().filter_map(of).collect()
}

#[test]
fn what_real_runtimes_print_of_a_failure_is_one_record_through_pieces_rotations_and_kills() {
    let mut random = fastrand::Rng::with_seed(seed());
    let node = Node::new();
    let programs = tempfile::tempdir().expect("a folder for programs");
    let failures = failures(programs.path());
    assert!(failures.len() >= 5, "java, python3, go, node and rustc are to be there");
    let mut web = node.pod("web").container("app").keeps(1_000);
    // Its clock stands still but for a nanosecond a line: how fast this test writes is nothing that it asks for.
    web.clock_jumps(600).writes(1).lives_behind(1_200_000_000_000);
    let config = config(&node, "{ timeout = \"30s\" }");
    let mut expected = Vec::new();
    for round in 0..6 {
        let agent = Agent::start(&config, &node);
        for failure in &failures {
            web.writes_bytes("stderr", format!(r#"{{"before":{round}}}"#).as_bytes());
            // A record may go on in the next file, not in a third one.
            let rotated = random.usize(..2 * failure.len());
            for (at, line) in failure.iter().enumerate() {
                let pieces = line.len() > node::PIECE && random.bool();
                if pieces {
                    // Kubelet may rotate between two pieces of a line, too.
                    let (piece, rest) = line.as_bytes().split_at(node::PIECE);
                    web.writes_piece("stderr", 'P', piece);
                    if at == rotated {
                        web.rotate();
                    }
                    web.writes_bytes("stderr", rest);
                } else {
                    web.writes_bytes("stderr", line.as_bytes());
                }
                if random.u32(..4) == 0 {
                    web.writes(random.u64(1..4));
                }
                if at == rotated && !pieces {
                    web.rotate();
                }
                if random.u32(..12) == 0 {
                    let_pass(Duration::from_millis(random.u64(..30)));
                }
            }
            expected.push(failure.join("\n"));
        }
        agent.kill9();
    }
    web.writes_bytes("stderr", br#"{"after":1}"#);
    let agent = Agent::start(&config, &node);
    agent.has_said("started", 1);
    let ended = agent.terminate();
    assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
    let documents = node.delivered().expect("documents");
    let mut found = messages(&documents);
    found.sort();
    expected.sort();
    let torn: Vec<&String> = found.iter().filter(|message| !expected.contains(message)).collect();
    assert!(torn.is_empty(), "no failure, but a part of one: {torn:#?}");
    assert_eq!(found.len(), expected.len());
    let faults = verify::faults(&documents, &web);
    assert!(faults.is_clean(), "{faults}");
}

#[test]
fn the_last_lines_of_a_program_come_once_it_is_silent_and_come_once() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_line("starting");
    web.writes_line("ERROR could not add");
    web.writes_line("java.io.IOException: no such file");
    web.writes_line("\tat shop.Cart.add(Cart.java:10)");
    let config = config(&node, "{ timeout = \"300ms\" }");
    let texts = || -> Result<Vec<Value>, String> {
        Ok(node.delivered()?.iter().map(|document| document.source["message"].clone()).collect())
    };
    let whole = "ERROR could not add\njava.io.IOException: no such file\n\tat shop.Cart.add(Cart.java:10)";
    let holds = |wanted: &[&str]| {
        eventually(seconds(40), &format!("{wanted:?}"), || {
            let found = texts()?;
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    let agent = Agent::start(&config, &node);
    holds(&["starting", whole]);
    agent.kill9();
    // What was cut stays cut, though it may look as if it went on.
    web.writes_line("\tat shop.Late.frame(Late.java:1)");
    web.writes_line("done");
    let agent = Agent::start(&config, &node);
    let late = "\tat shop.Late.frame(Late.java:1)";
    holds(&["starting", whole, late, "done"]);
    // One that was rotated before it ended, and nothing follows.
    web.writes_line("panic: broken");
    web.rotate();
    web.writes_line("goroutine 1 [running]:");
    holds(&["starting", whole, late, "done", "panic: broken\ngoroutine 1 [running]:"]);
    let ended = agent.terminate();
    assert!(ended.code == Some(0) && ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
}

#[test]
fn a_pattern_of_ones_own_joins_lines_of_host_files_too() {
    let node = Node::new();
    let log = node.path().join("app.log");
    fs::write(&log, "2026-11-23 one\n  more\n\nstill one\n2026-11-23 two\n2026-11-23 three\n")
        .expect("a log");
    let files = format!("[files.app]\npaths = [\"{}\"]\n", log.display());
    let config = format!("{}{files}", config(&node, r"{ start = '^\d{4}-', timeout = '300ms' }"));
    let _agent = Agent::start(&config, &node);
    eventually(seconds(40), "three records", || {
        let found: Vec<Value> = node.delivered()?.iter().map(|d| d.source["message"].clone()).collect();
        let wanted = ["2026-11-23 one\n  more\n\nstill one", "2026-11-23 two", "2026-11-23 three"];
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn what_is_written_wrong_is_told_with_its_place() {
    let node = Node::new();
    for (wrong, told) in [
        ("true", "expected a way to join lines"),
        ("{ start = '(' }", "is not a regular expression"),
        ("{ start = 'a', continue = 'b' }", "expected a way to join lines"),
        ("{ start = '\\w{1,120}' }", "the pattern needs too much memory"),
        ("{ max_lines = 0 }", "expected a way to join lines"),
    ] {
        let ended = taffrail_tests::agent::check(&config(&node, wrong), &node);
        assert_eq!(ended.code, Some(2), "{wrong}");
        assert!(
            ended.stderr.contains(told) && ended.stderr.contains("multiline"),
            "{wrong}: {}",
            ended.stderr
        );
    }
}
