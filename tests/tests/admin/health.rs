//! Health and readiness, and ports that cannot be had.

use std::net::TcpListener;
use std::process::Command;
use std::time::Instant;
use taffrail_tests::agent::Agent;
use taffrail_tests::listeners::{Door, address, get};
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds, verify};

#[test]
fn an_agent_whose_output_hangs_in_a_write_is_not_well_and_says_which() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(20_000);
    // Nobody reads from it: once it is full, who writes hangs, as on a disk that is away.
    let pipe = node.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let into_pipe = format!("exec \"$@\" 1<>{}", pipe.display());
    let way = ["sh", "-c", &into_pipe, "sh"].map(str::to_owned);
    let (config, begun) = (node.config("[outputs.local]\ntype = \"stdout\""), Instant::now());
    let _agent = Agent::start_by(&way, &config, &node);
    eventually(seconds(40), "the agent to be ready", || match get(&node, Door::Metrics, "/readyz") {
        (200, _) => Ok(()),
        (_, said) => Err(said),
    });
    let said = eventually(seconds(100), "the agent not to be well", || {
        let (status, said) = get(&node, Door::Metrics, "/healthz");
        if status == 503 { Ok(said) } else { Err(format!("{status} {said}")) }
    });
    assert!(said.starts_with("output local is stuck for 6"), "{said}");
    assert!(begun.elapsed() >= seconds(60), "not before a minute has passed");
}

#[test]
fn an_agent_whose_server_is_away_is_well() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output =
        format!("[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://{nobody}\"]\nindex = \"x\"");
    let agent = Agent::start(&node.config(&output), &node);
    agent.has_said("trying again", 1);
    assert_eq!(get(&node, Door::Metrics, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&node, Door::Metrics, "/readyz"), (200, "ok\n".to_owned()));
}

#[test]
fn ports_that_are_in_use_are_told_and_end_nothing() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = [&one, &other].map(|taken| taken.local_addr().unwrap());
    let listen = format!("listen = \"{}\"\nmetrics_listen = \"{}\"\n", taken[0], taken[1]);
    let output = format!(
        "{listen}[outputs.local]\ntype = \"file\"\npath = \"{}\"",
        node.path().join("out/x.ndjson").display()
    );
    let agent = Agent::start(&node.config(&output), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    agent.has_said("cannot listen: set `listen` to another port", 1);
    agent.has_said("cannot listen: set `metrics_listen` to another port", 1);
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn a_reload_moves_the_listeners_and_ends_no_delivery() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let file = node.path().join("moving.toml");
    let config = node.to_file();
    std::fs::write(&file, &config).unwrap();
    let agent = Agent::start_at(&[], &file, &node);
    let before = address(&node, Door::Page);
    let metrics = address(&node, Door::Metrics);
    std::fs::write(&file, config.replace("\nlisten = \"127.0.0.1:0\"", "\nlisten = \"[::1]:0\"")).unwrap();
    agent.hang_up();
    eventually(seconds(40), "the page to have moved", || match address(&node, Door::Page) {
        now if now != before => Ok(()),
        now => Err(now.to_string()),
    });
    assert_eq!(address(&node, Door::Metrics), metrics);
    std::fs::write(&file, config.replace("\nlisten = \"127.0.0.1:0\"", "\nlisten = \"off\"")).unwrap();
    agent.hang_up();
    eventually(seconds(40), "the page to be gone", || {
        let noted = std::fs::read_to_string(node.state().join("listen.json")).unwrap_or_default();
        if noted.contains("\"listen\":\"off\"") { Ok(()) } else { Err(noted) }
    });
    web.writes(10);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}
