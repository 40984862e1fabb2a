//! What happens to files and pods while the agent runs or is away, delivered to a file.

use std::time::Duration;
use taffrail_tests::agent::Agent;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{clock, eventually, let_pass, seconds, seed, verify};

#[test]
fn cargo_run_in_the_checkout_runs_the_agent() {
    // As the README has it: `cargo run --release -- demo`.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let asked = ["metadata", "--no-deps", "--offline", "--locked", "--format-version=1"];
    let told = std::process::Command::new(env!("CARGO")).args(asked).current_dir(root).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let members = told["workspace_default_members"].as_array().unwrap();
    let default = |package: &&serde_json::Value| members.contains(&package["id"]);
    let packages: Vec<_> = told["packages"].as_array().unwrap().iter().filter(default).collect();
    let runs: Vec<_> = packages.iter().filter_map(|package| package["default_run"].as_str()).collect();
    assert_eq!((packages.len(), &runs[..]), (1, &["taffrail"][..]));
}

#[test]
fn rotation_before_and_while_the_agent_runs_loses_nothing() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    // Found at the start: a .gz, a plain rotated file and the current one.
    web.writes(300).rotate().writes(300).rotate().writes(300);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    web.writes(300).rename().writes(50).reopen().writes(300).rotate().writes(10);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&node.delivered().unwrap(), &[&web]);
}

#[test]
fn a_signal_that_flushes_other_collectors_ends_nothing() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    for (number, signal) in (1..).zip(["-USR1", "-USR2"]) {
        let sent = std::process::Command::new("kill").args([signal, &agent.pid.to_string()]).status();
        assert!(sent.unwrap().success());
        agent.has_said("this signal asks for nothing here", number);
    }
    web.writes(10);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let ended = agent.terminate();
    assert!(ended.code == Some(0) && ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
}

#[test]
fn rotation_while_the_agent_is_away_is_found_again_in_the_gz() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(200);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));
    // What was read to line 200 is now a .gz that holds more.
    web.writes(200).rotate().writes(200).rotate().writes(200);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}

#[test]
fn killed_at_ten_random_moments_a_file_output_has_every_line_once() {
    let mut random = fastrand::Rng::with_seed(seed());
    let node = Node::new();
    let mut containers: Vec<Container> =
        ["web", "api", "db"].map(|name| node.pod(name).container("app").keeps(100)).into();
    for _ in 0..10 {
        let agent = Agent::start(&node.to_file(), &node);
        // Half of the kills fall into the start, half into a run with lines in flight.
        let moments = random.u32(1..40);
        for _ in 0..moments {
            let container = &mut containers[random.usize(..3)];
            container.writes(random.u64(1..40));
            // Kubelet removes none of them unread.
            if random.u32(..30) == 0 {
                container.rotate();
            }
            let_pass(Duration::from_millis(random.u64(1..40)));
        }
        agent.kill9();
    }
    let agent = Agent::start(&node.to_file(), &node);
    let all: Vec<&Container> = containers.iter().collect();
    verify::exactly_once(seconds(60), || node.delivered(), &all);
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&node.delivered().unwrap(), &all);
}

#[test]
fn a_pod_deleted_while_it_is_being_read_is_delivered_to_its_end() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // The agent has the file open now, and is behind by far when it goes.
    web.writes(20_000);
    web.delete();
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}

#[test]
fn a_restarted_container_goes_on_in_its_next_file() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100).restart().writes(100);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    web.writes(100).restart().writes(100);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}

#[test]
fn a_pod_reborn_under_the_same_name_is_another_pod() {
    let node = Node::new();
    let mut first = node.pod("db-0").container("app");
    first.writes(50);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&first]);
    first.delete();
    let mut second = node.pod("db-0").container("app");
    second.writes(70);
    let documents = verify::exactly_once(seconds(40), || node.delivered(), &[&first, &second]);
    assert_eq!(documents.len(), 120);
    assert!(documents.iter().all(|document| document.text("kubernetes.pod.name") == "db-0"));
}

#[test]
fn containers_and_namespaces_do_not_mix() {
    let node = Node::new();
    let shop = node.pod("web").namespace("shop");
    let (mut app, mut proxy) = (shop.container("app"), shop.container("proxy"));
    let mut other = node.pod("web").namespace("bank").container("app");
    app.writes(10);
    proxy.writes_text(20);
    other.writes(30);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&app, &proxy, &other]);
    let bank = verify::read_ndjson(&node.path().join("out")).unwrap();
    let bank = bank.iter().filter(|document| document.text("kubernetes.namespace") == "bank").count();
    assert_eq!(bank, 30);
    let file = std::fs::read_to_string(node.path().join("out/bank.ndjson")).unwrap();
    assert_eq!(file.lines().count(), 30, "each namespace has its own file");
}

#[test]
fn sigterm_with_a_backlog_catches_up_and_ends_with_zero() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    web.writes(50_000);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    verify::clean(&node.delivered().unwrap(), &[&web]);
}

#[test]
fn a_link_out_of_the_roots_and_a_fifo_are_neither_read_nor_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let node = Node::new();
    let secret = node.path().join("secret");
    std::fs::write(&secret, format!("{} stdout F the secret\n", clock::rfc3339(clock::now()))).unwrap();
    let trap = |name: &str| {
        let trap = node.pod(name).container("app");
        std::fs::remove_file(trap.current()).unwrap();
        trap.current()
    };
    std::os::unix::fs::symlink(&secret, trap("link")).unwrap();
    mknodat(CWD, trap("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // A whole folder that is a link, too.
    std::fs::create_dir_all(node.path().join("outside/app")).unwrap();
    std::fs::copy(&secret, node.path().join("outside/app/0.log")).unwrap();
    std::os::unix::fs::symlink(node.path().join("outside"), node.pod("linked").folder()).unwrap();
    let agent = Agent::start(&node.to_file(), &node);
    // Two pods, the second one new while the agent runs: it has looked at everything and goes on.
    for name in ["early", "late"] {
        let mut pod = node.pod(name).container("app");
        pod.writes(10);
        verify::exactly_once(seconds(40), || node.delivered(), &[&pod]);
    }
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let documents = node.delivered().unwrap();
    assert_eq!(documents.len(), 20);
    assert!(documents.iter().all(|document| !document.message().contains("secret")));
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_stops_nothing_else() {
    let node = Node::new();
    let broken = node.pod("broken").container("app");
    // A directory where a file belongs: no permissions are needed for this to fail, and root is not exempt.
    std::fs::remove_file(broken.current()).unwrap();
    std::fs::create_dir(broken.current()).unwrap();
    let mut torn = node.pod("torn").container("app");
    std::fs::write(torn.folder.join("0.log.20261123-155401.gz"), b"\x1f\x8b not gzip at all").unwrap();
    torn.writes(10);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&torn]);
    eventually(seconds(20), "a message that names the torn file", || {
        let said = agent.stderr();
        if said.contains("20261123-155401") { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_backlog_is_told_while_it_is_delivered_and_once_it_is() {
    let node = Node::new();
    let mut pod = node.pod("web").namespace("shop").container("app");
    pod.writes_megabytes(100);
    let agent = Agent::start(&node.to_file_slowly(), &node);
    agent.has_said("catching up output=\"local\" percent=", 1);
    agent.has_said("caught up output=\"local\" delivered=", 1);
    assert!(agent.stderr().contains("seconds_left="), "{}", agent.stderr());
    assert_eq!(agent.terminate().code, Some(0));
}
