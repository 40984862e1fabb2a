//! Which files there are, whatever happens to them; and that the agent starts and stops as it should.
//!
//! Most agents here rescan once an hour: what they deliver they have found by hints and by asking.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{clock, eventually, let_pass, seconds, verify};

const SELDOM: &str = "rescan = \"1h\"\n";

/// A configuration that delivers to a server that is not there.
fn to_nobody(node: &Node, grace: &str) -> String {
    node.config(&format!(
        "grace = \"{grace}\"\n[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:9\"]\nindex = \"logs\""
    ))
}

fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::TERM).expect("to signal the agent");
}

#[test]
fn a_line_after_a_long_silence_and_a_new_pod_are_delivered_without_a_rescan() {
    let node = Node::new();
    let (mut web, mut late) = (node.pod("web").container("app"), node.pod("late").container("app"));
    // A runtime that links to files elsewhere: no event among the pods' logs tells of a write to them.
    let docker = node.path().join("docker");
    fs::create_dir(&docker).unwrap();
    let linked = node.pod("linked").container("app");
    fs::remove_file(linked.current()).unwrap();
    let mut target = File::create(docker.join("json.log")).unwrap();
    std::os::unix::fs::symlink(docker.join("json.log"), linked.current()).unwrap();
    let mut say = |what: &str| writeln!(target, "{} stdout F {what}", clock::rfc3339(clock::now())).unwrap();
    web.writes(1);
    say("first");
    let roots = format!("link_roots = [\"{}\"]\n", docker.display());
    let _agent = Agent::start(&(roots + SELDOM + &node.to_file()), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // A silent container is watched after 10 s.
    let_pass(seconds(12));
    let begun = Instant::now();
    web.writes(1);
    late.writes(1);
    say("second");
    let mut fresh = node.pod("fresh").container("app");
    fresh.writes(1);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web, &late, &fresh]);
    eventually(seconds(40), "the line behind the link", || {
        let all = node.delivered()?;
        if all.iter().any(|document| document.message() == "second") { Ok(()) } else { Err("no".into()) }
    });
    // linger 0.2 s, a tick of 25 ms; the rest is room for a loaded machine.
    assert!(begun.elapsed() < seconds(5), "{:?}", begun.elapsed());
}

#[test]
fn a_thousand_pods_at_once_are_all_found_without_a_rescan() {
    let node = Node::new();
    let _agent = Agent::start(&(SELDOM.to_owned() + &node.to_file()), &node);
    eventually(seconds(20), "its start", || {
        if node.state().join("local.positions").exists() { Ok(()) } else { Err("not yet".into()) }
    });
    let mut pods: Vec<Container> =
        (0..1000).map(|n| node.pod(&format!("pod-{n}")).container("app")).collect();
    pods.iter_mut().for_each(|pod| {
        pod.writes(2);
    });
    let all: Vec<&Container> = pods.iter().collect();
    verify::exactly_once(seconds(60), || node.delivered(), &all);
}

/// Runs the agent in a user namespace of its own, where this limit of inotify holds for it alone. `None` where the
/// system allows no such namespace.
fn start_limited(node: &Node, limit: &str) -> Option<std::process::Child> {
    let allowed = Command::new("unshare").args(["--user", "--map-root-user", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: no user namespaces here");
        return None;
    }
    let file = node.path().join("limited.toml");
    fs::write(&file, SELDOM.to_owned() + &node.to_file()).unwrap();
    let agent = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg(format!("echo {limit} && exec setpriv --pdeathsig KILL \"$0\" run --config \"$1\""))
        .arg(agent::binary())
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(File::create(node.path().join("limited.stderr")).unwrap())
        .spawn();
    Some(agent.unwrap())
}

#[test]
fn without_watches_everything_is_found_all_the_same_and_that_is_said_once() {
    for (limit, said) in [
        ("3 > /proc/sys/user/max_inotify_watches", "out of inotify watches"),
        ("0 > /proc/sys/user/max_inotify_instances", "cannot watch directories"),
    ] {
        let node = Node::new();
        let mut pods: Vec<Container> =
            (0..5).map(|n| node.pod(&format!("pod-{n}")).container("app")).collect();
        pods[0].writes(10);
        let Some(mut agent) = start_limited(&node, limit) else { return };
        verify::exactly_once(seconds(40), || node.delivered(), &[&pods[0]]);
        // New containers of pods of which some are watched, and a new pod.
        let sidecars: Vec<Container> = pods.iter().map(|pod| pod.pod.container("sidecar")).collect();
        pods.extend(sidecars);
        pods.push(node.pod("new").container("app"));
        pods.iter_mut().for_each(|pod| {
            pod.writes(5);
        });
        let all: Vec<&Container> = pods.iter().collect();
        verify::exactly_once(seconds(40), || node.delivered(), &all);
        // Long enough that silent containers would be watched, if they could be.
        let_pass(seconds(12));
        pods[3].writes(5);
        let all: Vec<&Container> = pods.iter().collect();
        verify::exactly_once(seconds(40), || node.delivered(), &all);
        terminate(agent.id());
        assert_eq!(agent.wait().unwrap().code(), Some(0));
        let told = fs::read_to_string(node.path().join("limited.stderr")).unwrap();
        assert_eq!(told.matches(said).count(), 1, "{told}");
    }
}

#[test]
fn logs_that_are_away_for_a_while_are_not_deleted_and_go_on() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let aside = node.path().join("aside");
    fs::rename(node.pods(), &aside).unwrap();
    web.writes(10);
    web.writes_piece("stdout", 'P', b"half a line, ");
    let_pass(seconds(2));
    fs::rename(&aside, node.pods()).unwrap();
    web.writes_piece("stdout", 'F', b"and its end");
    web.writes(10);
    let documents = verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    assert!(documents.iter().any(|document| document.message() == "half a line, and its end"));
    assert!(!agent.stderr().contains("lost"), "{}", agent.stderr());
}

#[test]
fn an_empty_root_in_place_of_the_logs_for_a_while_loses_and_doubles_nothing() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let _agent = Agent::start(&("rescan = \"100ms\"\n".to_owned() + &node.to_file()), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // As when the volume is unmounted and mounted again.
    let aside = node.path().join("aside");
    for _ in 0..3 {
        fs::rename(node.pods(), &aside).unwrap();
        fs::create_dir(node.pods()).unwrap();
        web.writes(10);
        let_pass(seconds(1));
        fs::remove_dir(node.pods()).unwrap();
        fs::rename(&aside, node.pods()).unwrap();
        web.writes(10);
        verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    }
}

#[test]
fn a_log_that_is_cut_short_goes_on_with_what_is_written_next() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = Agent::start(&(SELDOM.to_owned() + &node.to_file()), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    File::options().write(true).open(web.current()).unwrap().set_len(0).unwrap();
    eventually(seconds(20), "a word of it", || {
        let said = agent.stderr();
        if said.contains("cut a log file short") { Ok(()) } else { Err(said) }
    });
    web.writes(50);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}

#[test]
fn a_dead_server_does_not_hold_up_the_end_and_nothing_is_lost() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = Agent::start(&to_nobody(&node, "2s"), &node);
    eventually(seconds(20), "a word of the dead server", || {
        let said = agent.stderr();
        if said.contains("cannot deliver") { Ok(()) } else { Err(said) }
    });
    let begun = Instant::now();
    assert_eq!(agent.terminate().code, Some(0));
    assert!(begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
    let saved = fs::read_to_string(node.state().join("search.positions")).unwrap();
    let positions: Vec<&str> = saved.lines().filter(|line| line.contains("\"k\":")).collect();
    assert!(positions.iter().all(|line| line.contains("\"o\":0,")), "nothing was acknowledged: {saved}");
}

#[test]
fn a_second_signal_ends_the_agent_at_once() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = Agent::start(&to_nobody(&node, "10m"), &node);
    eventually(seconds(20), "a word of the dead server", || {
        let said = agent.stderr();
        if said.contains("cannot deliver") { Ok(()) } else { Err(said) }
    });
    terminate(agent.pid);
    let_pass(Duration::from_millis(500));
    let begun = Instant::now();
    assert_eq!(agent.terminate().code, Some(0));
    assert!(begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
}

#[test]
fn a_signal_during_the_start_is_heeded() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    for wait in [20, 50, 100, 200] {
        let agent = Agent::start(&node.to_file(), &node);
        let_pass(Duration::from_millis(wait));
        let ended = agent.terminate();
        // Before it listens for signals, a signal ends it as it ends any program.
        assert!(matches!(ended.code, Some(0) | None), "{:?}: {}", ended.code, ended.stderr);
    }
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}

#[test]
fn a_reader_of_standard_output_that_hangs_does_not_hold_up_the_end() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(20_000);
    let file = node.path().join("stdout.toml");
    fs::write(&file, node.config("grace = \"2s\"\n[outputs.out]\ntype = \"stdout\"\n")).unwrap();
    let mut agent = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(agent::binary())
        .args(["run", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(File::create(node.path().join("stdout.stderr")).unwrap())
        .spawn()
        .unwrap();
    // It fills the pipe, which nobody reads.
    let_pass(seconds(2));
    terminate(agent.id());
    let begun = Instant::now();
    while agent.try_wait().unwrap().is_none() && begun.elapsed() < seconds(20) {
        let_pass(Duration::from_millis(20));
    }
    let (took, _) = (begun.elapsed(), agent.kill());
    let status = agent.wait().unwrap();
    assert!(took < seconds(10) && status.code() == Some(0), "{status} after {took:?}");
}

#[test]
fn more_outputs_than_the_memory_allows_are_refused_with_what_would_do() {
    let node = Node::new();
    let mut config = node.config("memory = \"16MiB\"");
    for n in 0..9 {
        config +=
            &format!("[outputs.o{n}]\ntype = \"file\"\npath = \"{}/{n}.ndjson\"\n", node.path().display());
    }
    for ended in [agent::check(&config, &node), Agent::start(&config, &node).ends()] {
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("`memory` to \"18MiB\""), "{}", ended.stderr);
    }
    let config = config.replace("16MiB", "18MiB");
    assert_eq!(agent::check(&config, &node).code, Some(0));
}

#[test]
fn an_output_that_cannot_be_made_is_named_before_any_other_begins() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    // A folder where its positions belong.
    fs::create_dir_all(node.state().join("other.positions")).unwrap();
    let other =
        format!("[outputs.other]\ntype = \"file\"\npath = \"{}/other.ndjson\"\n", node.path().display());
    let begun = Instant::now();
    let ended = Agent::start(&format!("{}\n{other}", node.to_file()), &node).ends();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
    assert!(ended.stderr.contains("other.positions"), "{}", ended.stderr);
    assert_eq!(node.delivered().unwrap().len(), 0, "the other output has not begun");
}
