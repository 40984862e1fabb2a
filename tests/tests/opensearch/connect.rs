//! `check --connect`: what a server says of an output, before a record is sent.

use taffrail_tests::agent::{self, Ended};
use taffrail_tests::node::Node;
use taffrail_tests::server::{Kind, Server};

fn connect(node: &Node, endpoint: &str, target: &str) -> Ended {
    let file = node.path().join("connect.toml");
    let output =
        format!("[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"{endpoint}\"]\n{target}\n");
    std::fs::write(&file, node.config(&output)).expect("a configuration");
    agent::run(&["check", "--connect", "--config", file.to_str().expect("plain letters")], node)
}

#[test]
fn a_server_is_asked_whether_it_would_take_records_and_no_document_is_made() {
    let server = Server::shared(Kind::OpenSearch);
    let space = server.space().takes_data_streams();
    let node = Node::new();
    let address = server.address();
    let endpoint = format!("http://{address}");
    let without = "data_stream = \"nothing-of-the-kind\"";
    let plain = "index = \"nothing-{namespace}-{date}\"";
    let stream = format!("data_stream = \"{}-{{namespace}}\"", space.prefix);
    let cases = [
        (&*endpoint, plain, Some(0), "ok     search  http"),
        (&endpoint, without, Some(1), "no index template matches nothing-of-the-kind"),
        (&format!("https://{address}"), plain, Some(1), "FAILS  search  https"),
        ("http://127.0.0.1:1", plain, Some(1), "FAILS  search  http://127.0.0.1:1/: "),
        (
            "http://no-such-host.invalid:9200",
            plain,
            Some(1),
            "FAILS  search  http://no-such-host.invalid:9200/: ",
        ),
    ];
    for (endpoint, target, code, told) in cases {
        let ended = connect(&node, endpoint, target);
        assert!(
            ended.code == code && ended.stdout.contains(told),
            "{told}\n{}{}",
            ended.stdout,
            ended.stderr
        );
    }
    let ended = connect(&node, &endpoint, &stream);
    assert!(
        ended.code == Some(0) && ended.stdout.contains("is a data stream by the template"),
        "{}",
        ended.stdout
    );
    assert!(space.documents().expect("an answer").is_empty());
}
