//! A tree of many thousand files: all of them are delivered, memory does not grow with them, and whoever speaks is heard
//! at once though the tree is large.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};
use taffrail_tests::agent::Agent;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, seconds, verify};

/// Files of each container: it was restarted as often, and nobody has cleared them away.
const FILES: usize = 50;

/// How many containers: 10,000 files, or what env `TAFFRAIL_CONTAINERS` says (2,000 for the 100,000 files that an agent
/// must bear).
fn containers() -> usize {
    std::env::var("TAFFRAIL_CONTAINERS").map_or(200, |text| text.parse().expect("a number"))
}

/// The most memory of its own that the agent has had, in KiB. The pages of its program are not: how many there are depends on
/// how it was built.
fn peak_memory(agent: &Agent) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid)).expect("the agent's status");
    let kib = |of: &str| -> usize {
        let line = status.lines().find_map(|line| line.strip_prefix(of)).expect(of);
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    };
    kib("VmHWM:") - kib("RssFile:")
}

#[test]
fn of_a_tree_of_many_thousand_files_all_is_delivered_in_bounded_memory_and_whoever_speaks_is_heard_at_once() {
    let node = Node::new();
    let mut tree: Vec<Container> = (0..containers())
        .map(|n| {
            let mut container = node.pod(&format!("pod-{n}")).namespace("tree").container("app");
            for _ in 1..FILES {
                container.writes(2).restart();
            }
            container.writes(2);
            container
        })
        .collect();
    let mut web = node.pod("web").namespace("shop").container("app");
    let agent = Agent::start(&node.to_file(), &node);
    let delivered = |what: &str| {
        let path = node.path().join(format!("out/{what}.ndjson"));
        fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    let all = tree.len() * FILES * 2;
    eventually(seconds(180), "the whole tree", || match delivered("tree") {
        count if count >= all => Ok(()),
        count => Err(format!("{count} of {all} lines")),
    });
    let mut by_pod: HashMap<String, Vec<Document>> = HashMap::new();
    for document in node.delivered().unwrap() {
        by_pod.entry(document.text("kubernetes.pod.uid").to_owned()).or_default().push(document);
    }
    tree.iter().for_each(|container| verify::clean(&by_pod[&container.pod.uid], &[container]));
    // One container among them all speaks, again and again, and one that had been silent.
    let mut longest = Duration::ZERO;
    for n in 1..=20 {
        let begun = Instant::now();
        web.writes(1);
        eventually(seconds(60), "a line of a busy container", || match delivered("shop") {
            count if count >= n => Ok(()),
            count => Err(format!("{count} of {n} lines")),
        });
        longest = longest.max(begun.elapsed());
    }
    // linger 0.2 s, and a tick of 25 ms; the rest is room for a loaded machine.
    assert!(longest < seconds(3), "{longest:?} for one line");
    let last = tree.len() - 1;
    tree[last].writes(10);
    verify::exactly_once(seconds(60), || node.delivered(), &[&web, &tree[last]]);
    let (peak, files) = (peak_memory(&agent), tree.len() * FILES);
    println!("{files} files: a peak of {peak} KiB, {longest:?} for the slowest line");
    // What a batch takes and what every program does, the listeners among it, and of each file a kibibyte.
    assert!(peak < 16 * 1024 + files, "{peak} KiB for {files} files");
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&node.delivered().unwrap(), &[&web]);
}
