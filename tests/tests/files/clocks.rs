//! Clocks that jump: those by which records are dated, and the agent's own. Every line arrives once all the same.

use std::fs;
use std::ops::Range;
use taffrail_tests::agent::Agent;
use taffrail_tests::fake_clock::FakeClock;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{eventually, seconds, verify};

const HOUR: i64 = 3600;

/// Waits until a word stands in what is saved of the output's positions.
fn saved(node: &Node, word: &str) {
    eventually(seconds(20), word, || {
        let saved = fs::read_to_string(node.state().join("local.positions")).unwrap_or_default();
        if saved.contains(word) { Ok(()) } else { Err(saved) }
    });
}

fn has_message(node: &Node, message: &str) {
    eventually(seconds(40), message, || {
        let count = node.delivered()?.iter().filter(|document| document.message() == message).count();
        if count == 1 { Ok(()) } else { Err(format!("{count} times")) }
    });
}

#[test]
fn times_that_jump_back_and_forth_within_a_file_lose_and_double_nothing() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    for hours in [0, 5, -3, 0] {
        web.clock_jumps(hours * HOUR).writes(50);
    }
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    for hours in [2, -20, 12, 0] {
        web.clock_jumps(hours * HOUR).writes(50).rotate().writes(50);
        verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    }
    // A line in pieces: the clock is set back between them, which says nothing; and forward by hours, after which nobody
    // would still be writing the same line.
    web.writes_piece("stdout", 'P', b"set back, ");
    web.clock_jumps(-5 * HOUR).writes_piece("stdout", 'F', b"and joined");
    web.writes_piece("stdout", 'P', b"set forward, ");
    web.clock_jumps(5 * HOUR).writes_piece("stdout", 'F', b"and apart");
    for message in ["set back, and joined", "set forward, ", "and apart"] {
        has_message(&node, message);
    }
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&node.delivered().unwrap(), &[&web]);
}

/// Waits until of these numbers every one is there once, and no other.
#[track_caller]
fn only(node: &Node, container: &Container, numbers: Range<u64>) {
    eventually(seconds(40), "what was written after the start", || {
        let faults = verify::faults(&node.delivered()?, container);
        let before: Vec<u64> = (0..numbers.start).collect();
        assert!(faults.doubled.is_empty() && faults.out_of_order.is_empty(), "{faults}");
        if faults.missing == before { Ok(()) } else { Err(faults.to_string()) }
    });
}

#[test]
fn what_is_written_after_an_output_began_arrives_though_the_clock_was_set_back_since() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(20);
    let config = node.to_file() + "\nstart = \"now\"\n";
    let agent = Agent::start(&config, &node);
    saved(&node, "\"k\"");
    web.clock_jumps(-30 * HOUR).writes(20);
    let mut late = node.pod("late").container("app");
    late.clock_jumps(-30 * HOUR).writes(20);
    only(&node, &web, 20..40);
    only(&node, &late, 0..20);
    agent.kill9();
    web.writes(20).rotate().writes(20);
    let mut later = node.pod("later").container("app");
    later.clock_jumps(-30 * HOUR).writes(20);
    let _agent = Agent::start(&config, &node);
    only(&node, &web, 20..80);
    only(&node, &late, 0..20);
    only(&node, &later, 0..20);
}

#[test]
fn the_agents_own_clock_may_jump_by_hours_while_it_runs() {
    let node = Node::new();
    let Some(clock) = FakeClock::new(&node, "the_agents_own_clock_may_jump_by_hours_while_it_runs") else {
        return;
    };
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let config = format!("join_timeout = \"1s\"\n{}max_age = \"1h\"\n", node.to_file());
    let mut agent = Agent::start_by(&clock.way(), &config, &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let mut pods = vec![web];
    for (n, hours) in [5, -10, 0, 40, -40].into_iter().enumerate() {
        clock.jumps(hours);
        let web = &mut pods[0];
        web.writes(50).rotate().writes(50);
        // Its end never comes: after the timeout it is delivered as it is.
        let unended = format!("half a line, {n}");
        web.writes_piece("stderr", 'P', unended.as_bytes());
        let mut new = node.pod(&format!("new-{n}")).container("app");
        new.writes(20);
        pods.push(new);
        verify::exactly_once(seconds(40), || node.delivered(), &pods.iter().collect::<Vec<_>>());
        has_message(&node, &unended);
        if n == 1 {
            agent.kill9();
            pods[0].writes(50);
            agent = Agent::start_by(&clock.way(), &config, &node);
        }
    }
    // Logs out of sight for a moment, in which a day goes by on the clock: they are known when they are back.
    clock.jumps(0);
    let (folder, aside) = (pods[1].pod.folder(), node.path().join("aside"));
    fs::rename(&folder, &aside).unwrap();
    saved(&node, "\"g\":");
    clock.jumps(40);
    pods[0].writes(50);
    let before = node.delivered().unwrap().len();
    verify::exactly_once(seconds(40), || node.delivered(), &[&pods[0]]);
    // Saved once more: whatever was to be thrown away by that clock is thrown away.
    let path = node.state().join("local.positions");
    let changed = fs::metadata(&path).unwrap().modified().unwrap();
    pods[0].writes(10);
    eventually(seconds(20), "the positions to be saved", || {
        let now = fs::metadata(&path).and_then(|file| file.modified()).map_err(|error| error.to_string())?;
        if now > changed { Ok(()) } else { Err(format!("{before} lines before")) }
    });
    fs::rename(&aside, &folder).unwrap();
    pods[1].writes(10);
    verify::exactly_once(seconds(40), || node.delivered(), &pods.iter().collect::<Vec<_>>());
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    verify::clean(&node.delivered().unwrap(), &pods.iter().collect::<Vec<_>>());
}
