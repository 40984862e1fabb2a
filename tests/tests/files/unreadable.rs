//! Logs that the agent may not read: told with their place, others go on, and read when that has been mended. Whoever runs
//! these tests, the agent has no power over permissions.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use taffrail_tests::agent::{Agent, powerless};
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{eventually, seconds, verify};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("to set permissions");
}

/// Waits until an agent has said all of these words in one line.
#[track_caller]
fn says(agent: &Agent, words: &[&str]) {
    eventually(seconds(30), &words.join(" … "), || {
        let said = agent.stderr();
        if said.lines().any(|line| words.iter().all(|word| line.contains(word))) { Ok(()) } else { Err(said) }
    });
}

fn start(node: &Node) -> Agent {
    Agent::start_by(&powerless(), &("rescan = \"500ms\"\n".to_owned() + &node.to_file()), node)
}

#[test]
fn what_may_not_be_read_is_named_once_and_read_when_it_may() {
    // A pod's folder, a container's, a log; there at the start, or new.
    for early in [true, false] {
        let node = Node::new();
        let mut open = node.pod("open").container("app");
        let make = |name: &str| node.pod(name).container("app");
        let mut shut: Vec<Container> = Vec::new();
        let mut agent = (!early).then(|| start(&node));
        for name in ["pod", "container", "log"] {
            let mut container = make(name);
            let place = match name {
                "pod" => container.pod.folder(),
                "container" => container.folder.clone(),
                _ => container.current(),
            };
            // Before there is a line in it: the agent may have opened it by then, and reads on what it has open.
            allow(&place, 0);
            if name == "log" {
                fs::remove_file(&place).expect("to replace the log");
                container.reopen();
                allow(&place, 0);
            }
            container.writes(20);
            shut.push(container);
        }
        let agent = agent.get_or_insert_with(|| start(&node));
        open.writes(20);
        verify::exactly_once(seconds(40), || node.delivered(), &[&open]);
        for container in &shut {
            let folder = container.pod.folder();
            let pod = folder.file_name().expect("a name").to_string_lossy();
            says(agent, &["cannot read a log", &pod, "Permission denied"]);
        }
        for container in &mut shut {
            container.writes(20);
        }
        open.writes(20);
        verify::exactly_once(seconds(40), || node.delivered(), &[&open]);
        for container in &shut {
            for place in [container.pod.folder(), container.folder.clone(), container.current()] {
                allow(&place, 0o755);
            }
        }
        let all: Vec<&Container> = shut.iter().chain([&open]).collect();
        verify::exactly_once(seconds(40), || node.delivered(), &all);
        for container in &shut {
            let folder = container.pod.folder();
            let pod = folder.file_name().expect("a name").to_string_lossy().into_owned();
            says(agent, &["can be read again", &pod]);
            let said = agent.stderr();
            let told =
                said.lines().filter(|line| line.contains("cannot read a log") && line.contains(&pod)).count();
            assert_eq!(told, 1, "{said}");
        }
    }
}

#[test]
fn who_leaves_an_unreadable_log_behind_does_not_say_that_all_is_delivered() {
    let node = Node::new();
    let (mut open, mut shut) = (node.pod("open").container("app"), node.pod("shut").container("app"));
    open.writes(20);
    shut.writes(20);
    allow(&shut.current(), 0);
    let agent = start(&node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&open]);
    says(&agent, &["cannot read a log", "shut", "Permission denied"]);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("logs that could not be read are left behind"), "{}", ended.stderr);
    assert!(ended.stderr.contains("caught_up=false"), "{}", ended.stderr);
}

#[test]
fn logs_that_may_not_be_listed_are_waited_for_and_nothing_of_them_is_taken_for_deleted() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(20);
    let agent = start(&node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    allow(&node.pods(), 0);
    let mut late = Node::pod(&node, "late").container("app");
    late.writes(20);
    web.writes(20);
    says(&agent, &["cannot list the pod logs", "Permission denied"]);
    allow(&node.pods(), 0o755);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web, &late]);
    says(&agent, &["the pod logs can be listed now"]);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("lost_bytes=0"), "{}", ended.stderr);
}
