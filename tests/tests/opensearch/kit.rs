//! The kit, proven without the agent: what it finds in a real server is what was put there.

use serde_json::json;
use taffrail_tests::http::{self, Reply};
use taffrail_tests::node::{Container, Node};
use taffrail_tests::proxy::{Action, Proxy};
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Space;
use taffrail_tests::{clock, seconds, verify};

/// A bulk body for these numbered lines of a container, `_id` included.
fn bulk(space: &Space, container: &Container, numbers: impl Iterator<Item = u64>) -> String {
    let index = format!("{}-{}", space.prefix, clock::index_date(clock::now()));
    numbers
        .map(|number| {
            let written = &container.written()[number as usize];
            let action =
                json!({"create": {"_index": index, "_id": format!("{}-{number}", container.pod.uid)}});
            let document = json!({
                "@timestamp": written.time, "message": written.message, "app": {"n": number},
                "kubernetes": {"pod.uid": container.pod.uid, "container": {"name": container.name}},
            });
            format!("{action}\n{document}\n")
        })
        .collect()
}

#[test]
fn every_page_of_an_index_is_fetched_and_each_line_is_found() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(5_001);
    assert_eq!(space.documents().unwrap().len(), 0);
    let body = bulk(&space, &web, 0..5_000);
    let reply = http::send(space.server.address(), "POST", "/_bulk", body.as_bytes()).unwrap();
    assert_eq!(reply.status, 200);
    let documents = space.documents().unwrap();
    assert_eq!(documents.len(), 5_000);
    assert_eq!(verify::faults(&documents, &web).missing, [5_000]);
    assert!(documents.iter().all(|document| document.id.starts_with(&web.pod.uid)));
}

#[test]
fn a_space_leaves_nothing_behind() {
    let server = Server::shared(Kind::OpenSearch);
    let space = server.space().takes_data_streams();
    let stream = format!("{}-default", space.prefix);
    server.send(
        "POST",
        &format!("/{stream}/_doc?refresh=true"),
        &json!({"@timestamp": clock::rfc3339(clock::now())}),
    );
    assert_eq!(space.documents().unwrap().len(), 1);
    drop(space);
    let streams = server.send("GET", "/_data_stream", &json!(null));
    assert!(!streams.to_string().contains(&format!("\"{stream}\"")), "{streams}");
}

#[test]
fn the_proxy_loses_replies_and_refuses_items_and_the_server_keeps_the_rest() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(20);
    let proxy = Proxy::open(space.server.address(), |number, _| match number {
        0 => Action::Answer(Reply::json(503, &json!({"error": "not now"}))),
        1 => Action::Hangup,
        2 => Action::LoseReply,
        3 => Action::RefuseItems(Box::new(|document| document.contains("line 13 of").then_some(429))),
        _ => Action::Forward,
    });
    let send = |numbers| {
        http::send(
            proxy.address(),
            "POST",
            "/_bulk?filter_path=errors,items.*.status",
            bulk(&space, &web, numbers).as_bytes(),
        )
    };
    assert_eq!(send(0..10).unwrap().status, 503);
    assert!(send(0..10).is_err());
    assert_eq!(space.documents().unwrap().len(), 0);
    assert!(send(0..10).is_err());
    assert_eq!(space.documents().unwrap().len(), 10);
    let reply: serde_json::Value = serde_json::from_slice(&send(9..20).unwrap().body).unwrap();
    let statuses: Vec<u64> = reply["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["create"]["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [409, 201, 201, 201, 429, 201, 201, 201, 201, 201, 201]);
    assert_eq!((proxy.refused(), proxy.bulks()), (1, 4));
    // The second request was never answered; the third was, though the answer was lost on its way.
    let tally = proxy.tally();
    assert_eq!((tally.requests(503), tally.requests(200)), (1, 2), "{tally:?}");
    assert_eq!((tally.items(201), tally.items(409), tally.items(429)), (19, 1, 1), "{tally:?}");
    assert_eq!(verify::faults(&space.documents().unwrap(), &web).missing, [13]);
    send(13..14).unwrap();
    verify::clean(&space.documents().unwrap(), &[&web]);
}

#[test]
fn a_server_of_its_own_takes_settings_and_goes_with_its_value() {
    let server = Server::start(Kind::OpenSearch, &["http.max_content_length=1mb"]);
    let address = server.address();
    let reply = http::send(address, "POST", "/x/_doc", &vec![b' '; 2 << 20]);
    assert!(reply.is_err() || reply.unwrap().status == 413);
    drop(server);
    assert!(http::send(address, "GET", "/", b"").is_err());
}

#[test]
fn a_server_that_was_killed_returns_at_its_address_with_its_data() {
    let server = Server::start(Kind::OpenSearch, &[]);
    let space = server.space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let body = bulk(&space, &web, 0..10);
    http::send(server.address(), "POST", "/_bulk", body.as_bytes()).unwrap();
    server.kill9();
    assert!(http::send(server.address(), "GET", "/", b"").is_err());
    server.returns();
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
}
