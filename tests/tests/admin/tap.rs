//! `taffrail tap`: what is shown is what is sent.

use serde_json::Value;
use taffrail_tests::agent::Agent;
use taffrail_tests::listeners::{Door, address, get};
use taffrail_tests::node::{Container, Node};
use taffrail_tests::{eventually, seconds, verify};

/// Starts a tap, and waits until it is open: it shows only what is sent from then on.
fn tap(node: &Node, what: &str, container: &mut Container) -> Agent {
    let address = address(node, Door::Page).to_string();
    let tap = Agent::run_beside(&["tap", what, "--address", &address], node);
    tap.has_said("as output local sends them", 1);
    // Open, so that what is written now must be shown.
    container.writes(5);
    tap
}

#[test]
fn a_tap_shows_the_very_documents_that_are_delivered() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    let mut other = node.pod("other").namespace("shop").container("app");
    web.writes(3);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let tap = tap(&node, "shop/web/app", &mut web);
    other.writes(5);
    let shown = eventually(seconds(40), "five documents", || {
        let shown = tap.stdout();
        if shown.lines().count() >= 5 { Ok(shown) } else { Err(shown) }
    });
    verify::exactly_once(seconds(40), || node.delivered(), &[&web, &other]);
    let delivered = std::fs::read_to_string(node.path().join("out/shop.ndjson")).unwrap();
    let of_web: Vec<&str> = delivered.lines().filter(|line| line.contains("of web")).skip(3).collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), of_web, "to the byte");
    // Nobody looks any more, and nothing is kept for him.
    drop(tap);
    web.writes(100);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web, &other]);
}

#[test]
fn a_line_that_would_steer_the_terminal_is_written_out() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(1);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let tap = tap(&node, "shop/web", &mut web);
    web.writes_line("\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m the screen is mine");
    let shown = eventually(seconds(40), "the line", || {
        let shown = tap.stdout();
        if shown.contains("the screen is mine") { Ok(shown) } else { Err(shown) }
    });
    assert!(shown.chars().all(|character| character == '\n' || !character.is_control()), "{shown:?}");
    let line = shown.lines().find(|line| line.contains("mine")).unwrap();
    let document: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        document["message"], "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m the screen is mine",
        "still the same JSON"
    );
}

#[test]
fn a_tap_that_does_not_follow_slows_nothing_and_is_told_what_it_missed() {
    use std::io::{Read, Write};
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(1);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let address = address(&node, Door::Page);
    let mut tap = std::net::TcpStream::connect(address).unwrap();
    tap.set_read_timeout(Some(seconds(5))).unwrap();
    let request = format!("GET /api/v1/tap?namespace=shop&pod=web HTTP/1.1\r\nhost: {address}\r\n\r\n");
    tap.write_all(request.as_bytes()).unwrap();
    let mut begin = [0; 200];
    assert!(tap.read(&mut begin).unwrap() > 0);
    // More than its buffers, ours and the system's hold.
    web.writes(60_000);
    verify::exactly_once(seconds(60), || node.delivered(), &[&web]);
    web.writes(1);
    let (mut said, mut piece) = (String::new(), [0; 1 << 16]);
    while !said.contains("\"missed\":") {
        let read = tap.read(&mut piece).unwrap();
        assert!(read > 0, "the tail ended");
        said += &String::from_utf8_lossy(&piece[..read]);
    }
    assert_eq!(get(&node, Door::Metrics, "/healthz").0, 200);
}

#[test]
fn a_tap_asks_where_the_configuration_says_and_tells_of_a_pod_that_is_not_there() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(1);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // Its port is one of the system's choice.
    address(&node, Door::Page);
    let tap = |what: &str| {
        let file = node.path().join("tap.toml");
        std::fs::write(&file, node.to_file()).unwrap();
        Agent::run_beside(&["tap", what, "--config", file.to_str().unwrap()], &node)
    };
    let slip = tap("nope/web-9");
    slip.has_said("reads no log of nope/web-9; waiting for one", 1);
    slip.has_said("as output local sends them", 1);
    let other = tap("shop/web/sidecar");
    other.has_said("reads no log of shop/web/sidecar; waiting for one", 1);
    let right = tap("shop/web/app");
    right.has_said("as output local sends them", 1);
    assert!(!right.stderr().contains("reads no log"), "{}", right.stderr());
}

#[test]
fn a_tap_of_an_output_that_there_is_not_is_told_which_there_are() {
    let node = Node::new();
    let _agent = Agent::start(&node.to_file(), &node);
    let address = address(&node, Door::Page).to_string();
    let ended =
        taffrail_tests::agent::run(&["tap", "shop/web", "--output", "x", "--address", &address], &node);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("there is no output `x`; there are: local"), "{}", ended.stderr);
}
