//! Rate limits, and an output that lags: what is left out is counted, what waits comes, and nothing comes twice.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};
use taffrail_tests::agent::Agent;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::verify::{self, faults};
use taffrail_tests::{eventually, let_pass, seconds, seed};

/// A configuration that delivers to a file, with these lines for the output.
fn with(node: &Node, lines: &str) -> String {
    format!("{}\n{lines}", node.to_file())
}

/// A number that the agent's last lines tell, as `name=17`.
fn told(stderr: &str, name: &str) -> u64 {
    let said =
        stderr.rsplit_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in:\n{stderr}")).1;
    said.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().expect("a number")
}

/// How many of a container's lines there are, each once.
fn delivered(node: &Node, container: &Container) -> usize {
    let documents = node.delivered().expect("the documents");
    let faults = faults(&documents, container);
    assert!(faults.doubled.is_empty() && faults.invented.is_empty(), "{faults}");
    container.written().len() - faults.missing.len()
}

#[test]
fn what_is_over_a_rate_limit_waits_and_another_container_does_not_wait_for_it() {
    let node = Node::new();
    let (mut flood, mut quiet) = (node.pod("flood").container("app"), node.pod("quiet").container("app"));
    let config = with(&node, "rate_limit = { container = { lines = 100 }, burst = \"1s\" }");
    flood.writes(600);
    let begun = Instant::now();
    let _agent = Agent::start(&config, &node);
    eventually(seconds(30), "the flood's first lines", || match delivered(&node, &flood) {
        0 => Err("none yet".into()),
        _ => Ok(()),
    });
    quiet.writes(20);
    verify::exactly_once(seconds(30), || node.delivered(), &[&quiet]);
    let (so_far, since) = (delivered(&node, &flood), begun.elapsed());
    // 100 at once, 100 a second, and one more that found a token left.
    assert!(so_far as f64 <= 101.0 + 100.0 * since.as_secs_f64(), "{so_far} lines after {since:?}");
    verify::exactly_once(seconds(40), || node.delivered(), &[&flood, &quiet]);
    assert!(begun.elapsed() >= Duration::from_millis(4900), "{:?}", begun.elapsed());
}

#[test]
fn containers_share_the_limit_of_their_namespace() {
    let node = Node::new();
    let mut shop = ["a", "b"].map(|name| node.pod(name).namespace("shop").container("app"));
    let mut other = node.pod("c").namespace("bank").container("app");
    shop.iter_mut().for_each(|container| _ = container.writes(200));
    other.writes(90);
    let begun = Instant::now();
    let config = with(&node, "rate_limit = { namespace = { lines = 100 }, burst = \"1s\" }");
    let _agent = Agent::start(&config, &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&other]);
    // Neither waits for the other's end.
    eventually(seconds(40), "lines of both", || {
        let counts = shop.each_ref().map(|container| delivered(&node, container));
        if counts.iter().all(|count| *count > 20) { Ok(counts) } else { Err(format!("{counts:?}")) }
    });
    verify::exactly_once(seconds(40), || node.delivered(), &[&shop[0], &shop[1], &other]);
    assert!(begun.elapsed() >= Duration::from_millis(2900), "{:?}", begun.elapsed());
}

#[test]
fn what_is_dropped_is_counted_told_once_and_not_read_again_after_a_restart() {
    let node = Node::new();
    let (mut flood, mut quiet) = (node.pod("flood").container("app"), node.pod("quiet").container("app"));
    let config =
        with(&node, "rate_limit = { container = { lines = 100 }, action = \"drop\", burst = \"1s\" }");
    flood.writes(3000).rotate().writes(2000);
    quiet.writes(50);
    let agent = Agent::start(&config, &node);
    verify::exactly_once(seconds(30), || node.delivered(), &[&quiet]);
    let ended = agent.terminate();
    let kept = delivered(&node, &flood);
    assert!((100..5000).contains(&kept), "{kept}");
    assert_eq!(kept as u64 + told(&ended.stderr, "dropped"), 5000, "{}", ended.stderr);
    assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("`rate_limit`").count(), 1, "{}", ended.stderr);
    // The bucket is full again, and of what was dropped nothing is left to fill it with.
    let agent = Agent::start(&config, &node);
    quiet.writes(50);
    verify::exactly_once(seconds(30), || node.delivered(), &[&quiet]);
    let ended = agent.terminate();
    assert_eq!((delivered(&node, &flood), told(&ended.stderr, "dropped")), (kept, 0), "{}", ended.stderr);
}

#[test]
fn killed_while_it_drops_an_agent_doubles_nothing() {
    let mut random = fastrand::Rng::with_seed(seed());
    let node = Node::new();
    let (mut flood, mut quiet) = (node.pod("flood").container("app"), node.pod("quiet").container("app"));
    let config =
        with(&node, "rate_limit = { container = { lines = 300 }, action = \"drop\", burst = \"1s\" }");
    for _ in 0..6 {
        flood.writes(1000);
        quiet.writes(5);
        let agent = Agent::start(&config, &node);
        verify::exactly_once(seconds(30), || node.delivered(), &[&quiet]);
        flood.writes(random.u64(1..500));
        let_pass(Duration::from_millis(random.u64(1..300)));
        agent.kill9();
    }
    let agent = Agent::start(&config, &node);
    quiet.writes(5);
    verify::exactly_once(seconds(30), || node.delivered(), &[&quiet]);
    let ended = agent.terminate();
    let faults = faults(&node.delivered().unwrap(), &flood);
    assert!(faults.doubled.is_empty() && faults.out_of_order.is_empty(), "{faults}");
    assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
}

#[test]
fn an_output_that_lags_goes_on_with_the_newest_and_counts_the_rest() {
    let node = Node::new();
    let (mut flood, mut quiet) = (node.pod("flood").container("app"), node.pod("quiet").container("app"));
    let padding = |_| format!(r#""padding":"{}""#, "x".repeat(200));
    // Where the output's folder should be is a file: it can write nothing.
    let out = node.path().join("out");
    fs::write(&out, "in the way").unwrap();
    flood.writes_json(6000, padding).rotate().writes_json(6000, padding);
    quiet.writes(100);
    let config = with(&node, "on_full = \"drop_oldest\"\nmax_lag = \"1MiB\"\nbatch = \"64KiB\"");
    let agent = Agent::start(&config, &node);
    flood.rotate().writes_json(6000, padding).rotate().writes_json(9000, padding);
    eventually(seconds(30), "the agent to tell of it", || match agent.stderr() {
        said if said.contains("`max_lag`") => Ok(()),
        said => Err(said),
    });
    fs::remove_file(&out).unwrap();
    verify::exactly_once(seconds(60), || node.delivered(), &[&quiet]);
    flood.writes_json(100, padding);
    let last = flood.written().len() as u64 - 1;
    eventually(seconds(60), "the last line", || {
        let missing = faults(&node.delivered()?, &flood).missing;
        if missing.contains(&last) { Err(format!("{} missing", missing.len())) } else { Ok(()) }
    });
    let ended = agent.terminate();
    assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
    let found = faults(&node.delivered().unwrap(), &flood);
    assert!(found.doubled.is_empty() && found.out_of_order.is_empty(), "{found}");
    // No more than the bound was left unread, and no less than it was delivered.
    let length = |number: &u64| {
        let written = &flood.written()[*number as usize];
        let json = format!(r#"{{"n":{number},"msg":"{}","level":"info",{}}}"#, written.message, padding(0));
        (written.time.len() + " stdout F \n".len() + json.len()) as u64
    };
    let missing: BTreeSet<u64> = found.missing.iter().copied().collect();
    let bytes = |numbers: &mut dyn Iterator<Item = u64>| numbers.map(|number| length(&number)).sum::<u64>();
    assert_eq!(bytes(&mut missing.iter().copied()), told(&ended.stderr, "lost_bytes"), "{}", ended.stderr);
    let behind = bytes(&mut (missing.last().unwrap() + 1..=last));
    assert!(behind + 1024 >= 1 << 20, "{behind} bytes behind the last one that is lost");
    assert!(
        ended.stderr.contains(&format!("lost=lag {}", told(&ended.stderr, "lost_bytes"))),
        "{}",
        ended.stderr
    );
}
