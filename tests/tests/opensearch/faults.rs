//! A server that is away, overloaded, refuses or answers into the void: everything arrives, once.

use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use taffrail_tests::agent::Agent;
use taffrail_tests::http::{Reply, Request};
use taffrail_tests::node::Node;
use taffrail_tests::proxy::{Action, Proxy};
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::{Space, Target};
use taffrail_tests::{eventually, lies, seconds, verify};

fn through(space: &Space, node: &Node, address: SocketAddr) -> String {
    space.config_at(node, address, Target::Indices, "{date}")
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(500);
    let mut proxy = Proxy::away(space.server.address(), |_, _| Action::Forward);
    let mut agent = Agent::start(&through(&space, &node, proxy.address()), &node);
    eventually(seconds(30), "a message that names the server", || {
        let said = agent.stderr();
        if said.contains(&proxy.address().to_string()) { Ok(()) } else { Err(said) }
    });
    assert!(agent.runs(), "not a reason to end: {}", agent.stderr());
    web.writes(100).rotate().writes(100);
    proxy.comes_up();
    verify::exactly_once(seconds(90), || space.documents(), &[&web]);
}

#[test]
fn requests_answered_503_and_429_are_sent_again() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(500);
    let proxy = Proxy::open(space.server.address(), |number, _| match number {
        0 => Action::Answer(Reply::json(503, &json!({"error": {"type": "unavailable"}, "status": 503}))),
        1 => {
            let mut reply = Reply::json(429, &json!({"error": {"type": "too many"}, "status": 429}));
            reply.headers.push(("retry-after".into(), "1".into()));
            Action::Answer(reply)
        }
        2 => {
            Action::Answer(Reply { status: 502, headers: Vec::new(), body: b"<html>no JSON</html>".to_vec() })
        }
        3 => Action::Hangup,
        _ => Action::Forward,
    });
    let _agent = Agent::start(&through(&space, &node, proxy.address()), &node);
    verify::exactly_once(seconds(90), || space.documents(), &[&web]);
    assert!(proxy.bulks() >= 5, "{} bulk requests", proxy.bulks());
}

#[test]
fn items_answered_429_are_sent_again_alone() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(300);
    // In the first three requests every line whose number ends in 7 is too much.
    let proxy = Proxy::open(space.server.address(), |number, _| match number {
        0..3 => Action::RefuseItems(Box::new(|document| document.contains("7 of web").then_some(429))),
        _ => Action::Forward,
    });
    let _agent = Agent::start(&through(&space, &node, proxy.address()), &node);
    verify::exactly_once(seconds(90), || space.documents(), &[&web]);
    assert!(proxy.refused() >= 30, "{} refused", proxy.refused());
}

#[test]
fn an_item_that_is_refused_for_good_is_reported_and_blocks_nothing() {
    let space = Server::shared(Kind::OpenSearch).space().takes_typed(json!({"code": {"type": "integer"}}));
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100).writes_line(r#"{"msg":"poison","level":"info","code":"not a number"}"#);
    web.writes(100);
    let agent = Agent::start(&space.dated(&node), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    // The one that the server cannot take as it is comes as text, with the reason.
    let found = eventually(seconds(60), "the refused one as text", || {
        let documents = space.documents()?;
        let mut refused = documents.into_iter().filter(|d| d.get("taffrail.error").is_some());
        refused.next().ok_or_else(|| "it is not there yet".to_owned())
    });
    assert!(found.source.to_string().contains("poison"), "{}", found.source);
    // Lines behind it arrive too, though the server said 400 to one of their batch.
    web.writes(100);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("mapper_parsing_exception"),
        "the server's reason is told: {}",
        ended.stderr
    );
}

#[test]
fn a_lost_reply_doubles_nothing() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(1_000);
    let proxy = Proxy::open(space.server.address(), |number, _| match number {
        0..3 => Action::LoseReply,
        _ => Action::Forward,
    });
    let agent = Agent::start(&through(&space, &node, proxy.address()), &node);
    verify::exactly_once(seconds(90), || space.documents(), &[&web]);
    web.writes(200);
    verify::exactly_once(seconds(90), || space.documents(), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&space.documents().unwrap(), &[&web]);
    assert!(proxy.bulks() >= 4, "{} bulk requests", proxy.bulks());
}

#[test]
fn a_lost_reply_and_a_kill_double_nothing_in_a_data_stream() {
    let space = Server::shared(Kind::OpenSearch).space().takes_data_streams();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(1_000);
    // No reply ever comes back, and yet all is there.
    let proxy = Proxy::open(space.server.address(), |_, _| Action::LoseReply);
    let config = space.config_at(&node, proxy.address(), Target::DataStreams, "{namespace}");
    let agent = Agent::start(&config, &node);
    eventually(seconds(60), "documents that the agent does not know of", || {
        let documents = space.documents()?.len();
        if documents > 0 { Ok(()) } else { Err("none".into()) }
    });
    agent.kill9();
    let _agent = Agent::start(&space.stream(&node), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
}

/// What is too much for a while: the answer to requests of which `is_too_much` is true, until the switch is put off.
fn for_a_while(space: &Space, answer: Reply, is_too_much: fn(&Request) -> bool) -> (Proxy, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(true));
    let lasts = Arc::clone(&switch);
    let proxy = Proxy::open(space.server.address(), move |_, request| {
        if lasts.load(Ordering::SeqCst) && is_too_much(request) {
            Action::Answer(answer.clone())
        } else {
            Action::Forward
        }
    });
    (proxy, switch)
}

/// A proxy that looks for attacks finds one in a log line. It says so of the whole request, which holds others' lines too.
#[test]
fn a_line_that_a_proxy_takes_for_an_attack_stops_its_own_container_only() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let (mut web, mut api) = (node.pod("web").container("app"), node.pod("api").container("app"));
    let (proxy, lasts) = for_a_while(&space, lies::page(403), |request| {
        String::from_utf8_lossy(&request.plain_body().unwrap_or_default()).contains("line 7 of web")
    });
    let quick = "\nin_flight = 2\nretry_initial = \"20ms\"\nretry_max = \"100ms\"\n";
    web.writes(50);
    api.writes(50);
    let agent = Agent::start(&(through(&space, &node, proxy.address()) + quick), &node);
    eventually(seconds(60), "a request that is refused again", || match proxy.tally().requests(403) {
        0 | 1 => Err(format!("{:?}", proxy.tally())),
        _ => Ok(()),
    });
    // That others are taken meanwhile shows whose fault it is.
    for _ in 0..5 {
        api.writes(20);
        verify::exactly_once(seconds(60), || space.documents(), &[&api]);
    }
    agent.has_said("set aside and tried again", 1);
    web.writes(20);
    lasts.store(false, Ordering::SeqCst);
    verify::exactly_once(seconds(90), || space.documents(), &[&web, &api]);
    assert!(!node.state().join("dead-letters/search.ndjson").exists(), "nothing is wrong with the line");
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    verify::clean(&space.documents().unwrap(), &[&web, &api]);
    assert!(!ended.stderr.contains("never sent before"), "{}", ended.stderr);
}

/// A proxy that is badly configured for a while finds everything too large, single lines too.
#[test]
fn what_is_too_large_only_for_a_while_is_no_dead_letter() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(200);
    let (proxy, lasts) = for_a_while(&space, lies::too_large(), |_| true);
    let agent = Agent::start(&through(&space, &node, proxy.address()), &node);
    agent.has_said("set aside and tried again", 1);
    // From the whole batch to a single line, and not to each of them.
    assert!(proxy.bulks() < 100, "{} requests", proxy.bulks());
    lasts.store(false, Ordering::SeqCst);
    verify::exactly_once(seconds(90), || space.documents(), &[&web]);
    assert!(!node.state().join("dead-letters/search.ndjson").exists(), "nothing is wrong with any line");
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&space.documents().unwrap(), &[&web]);
}
