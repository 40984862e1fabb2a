//! The agent is killed, or its saved positions are: nothing missing and nothing twice in a real OpenSearch.

use std::time::Duration;
use taffrail_tests::agent::Agent;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::{let_pass, seconds, seed, verify};

/// At most so many documents a test: this OpenSearch takes one or two thousand a second.
const DOCUMENTS: u64 = 20_000;

#[test]
fn killed_at_ten_random_moments_nothing_is_missing_and_nothing_twice() {
    let mut random = fastrand::Rng::with_seed(seed());
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    // Kubelet keeps ten files here: this test is of kills; what kubelet removes unread is another's.
    let mut containers: Vec<Container> =
        ["web", "api", "db"].map(|name| node.pod(name).namespace("shop").container("app").keeps(10)).into();
    let mut written = 0;
    for _ in 0..10 {
        let agent = Agent::start(&space.dated(&node), &node);
        let lifetime = random.u32(1..60);
        for moment in 0..lifetime {
            let lines = random.u64(1..60).min(DOCUMENTS - written);
            let container = &mut containers[random.usize(..3)];
            container.writes(lines);
            written += lines;
            if moment == lifetime / 2 && random.bool() {
                container.rotate();
            }
            let_pass(Duration::from_millis(random.u64(1..50)));
        }
        agent.kill9();
    }
    let agent = Agent::start(&space.dated(&node), &node);
    let all: Vec<&Container> = containers.iter().collect();
    let documents = verify::exactly_once(seconds(120), || space.documents(), &all);
    println!("{} documents", documents.len());
    assert_eq!(documents.len() as u64, written);
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&space.documents().unwrap(), &all);
}

#[test]
fn corrupt_positions_are_reported_and_nothing_is_missing_or_twice() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(500).rotate().writes(500);
    let agent = Agent::start(&space.dated(&node), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));
    assert!(node.corrupt_positions() > 0, "there is no position file in {}", node.state().display());
    web.writes(500);
    let agent = Agent::start(&space.dated(&node), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.to_lowercase().contains("position"), "{}", ended.stderr);
    verify::clean(&space.documents().unwrap(), &[&web]);
}

#[test]
fn sigterm_with_a_backlog_catches_up_and_ends_with_zero() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let agent = Agent::start(&space.dated(&node), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    web.writes(5_000);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    verify::clean(&space.documents().unwrap(), &[&web]);
}

#[test]
fn a_pod_deleted_while_it_is_being_read_arrives_to_its_end() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let _agent = Agent::start(&space.dated(&node), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    web.writes(3_000);
    web.delete();
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
}

#[test]
fn a_pod_reborn_under_the_same_name_is_another_pod() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut first = node.pod("db-0").container("app");
    first.writes(300);
    let _agent = Agent::start(&space.dated(&node), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&first]);
    first.delete();
    let mut second = node.pod("db-0").container("app");
    second.writes(400);
    let documents = verify::exactly_once(seconds(60), || space.documents(), &[&first, &second]);
    assert_eq!(documents.len(), 700);
}
