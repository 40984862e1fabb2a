//! The file and stdout outputs, and `demo`.

use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds, verify};

#[test]
fn a_delivered_line_has_the_fields_of_its_place() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(1);
    web.writes_bytes("stderr", b"oh no");
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = eventually(seconds(40), "two documents", || {
        let documents = node.delivered()?;
        if documents.len() == 2 { Ok(documents) } else { Err(format!("{} documents", documents.len())) }
    });
    for (document, message, stream) in
        [(&documents[0], "line 0 of web", "stdout"), (&documents[1], "oh no", "stderr")]
    {
        let fields = [
            ("message", message),
            ("stream", stream),
            ("kubernetes.namespace", "shop"),
            ("kubernetes.pod.name", "web"),
            ("kubernetes.pod.uid", &web.pod.uid),
            ("kubernetes.container.name", "app"),
            ("kubernetes.node.name", "n1"),
            ("orchestrator.cluster.name", "test"),
        ];
        for (name, value) in fields {
            assert_eq!(document.text(name), value, "{name} of {}", document.source);
        }
    }
    assert_eq!(documents[0].text("@timestamp"), web.written()[0].time, "to the nanosecond");
    assert_eq!(documents[0].text("log.level"), "info");
    assert_eq!(documents[0].get("app.n"), Some(&0.into()));
}

#[test]
fn output_files_rotate_at_their_size_and_hold_every_line_once() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(5_000);
    let config = node.to_file() + "max_size = \"256KiB\"\nkeep = 100\n";
    let agent = Agent::start(&config, &node);
    // Not `exactly_once`: the order of rotated files is theirs to name.
    let found = eventually(seconds(40), "every line", || {
        let faults = verify::faults(&node.delivered()?, &web);
        if faults.missing.is_empty() { Ok(faults) } else { Err(faults.to_string()) }
    });
    assert!(found.doubled.is_empty(), "{found}");
    assert_eq!(agent.terminate().code, Some(0));
    assert!(std::fs::read_dir(node.path().join("out")).unwrap().count() > 3, "it never rotated");
    for entry in std::fs::read_dir(node.path().join("out")).unwrap() {
        let entry = entry.unwrap();
        let size = entry.metadata().unwrap().len();
        assert!(size <= 300 * 1024, "{}: {size} bytes", entry.path().display());
    }
}

#[test]
fn standard_output_in_a_pod_does_not_feed_itself_whatever_the_routes_say() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    let mut own = node.pod("taffrail-x").namespace("logs").container("taffrail");
    own.writes(1);
    web.writes(1);
    let way = ["env", "POD_NAMESPACE=logs", "POD_NAME=taffrail-x"].map(str::to_owned);
    let routes = "[[routes]]\nmatch = { namespace = \"logs\" }\noutputs = [\"screen\"]\n[[routes]]\noutputs = [\"screen\"]\n";
    let config = node.config(&format!("[outputs.screen]\ntype = \"stdout\"\n{routes}"));
    let agent = Agent::start_by(&way, &config, &node);
    agent.has_said("the logs of the agent's own pod are left out", 1);
    eventually(seconds(40), "the other pod's line on stdout", || {
        let said = agent.stdout();
        if said.contains("line 0 of web") { Ok(()) } else { Err(said) }
    });
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("taffrail-x"), "{}", ended.stdout);
    assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
}

#[test]
fn stdout_carries_every_line_and_no_terminal_control_of_theirs() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100).writes_line("\u{1b}[2J\u{1b}]0;owned\u{7}the screen is mine");
    let agent = Agent::start(&node.config("[outputs.screen]\ntype = \"stdout\""), &node);
    eventually(seconds(40), "the last line on stdout", || {
        let said = agent.stdout();
        if said.contains("the screen is mine") { Ok(()) } else { Err(said) }
    });
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for written in web.written() {
        assert!(ended.stdout.contains(&written.message), "{} is not there", written.message);
    }
    assert!(!ended.stdout.contains("\u{1b}[2J") && !ended.stdout.contains('\u{7}'), "controls pass through");
}

#[test]
fn what_is_too_old_at_the_first_start_is_told_before_the_end() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.lives_behind(2 * 3_600_000_000_000).writes(3);
    web.lives_behind(0).writes(2);
    let agent = Agent::start(&(node.to_file() + "\nmax_age = \"1h\"\n"), &node);
    agent.has_said("records are passed over that were older than `max_age`", 1);
    let ended = agent.terminate();
    assert!(ended.code == Some(0) && ended.stderr.contains("too_old=3"), "{}", ended.stderr);
    assert_eq!(node.delivered().unwrap().len(), 2);
}

#[test]
fn two_outputs_each_deliver_everything() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(500).rotate().writes(500);
    let other = node.path().join("other");
    let config = format!(
        "{}\n[outputs.second]\ntype = \"file\"\npath = \"{}/{{namespace}}.ndjson\"\n",
        node.to_file(),
        other.display()
    );
    let _agent = Agent::start(&config, &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    verify::exactly_once(seconds(40), || verify::read_ndjson(&other), &[&web]);
}

#[test]
fn demo_shows_that_every_line_was_delivered_exactly_once() {
    let node = Node::new();
    let ended = agent::run(&["demo", "--seconds", "5", "--rate", "500"], &node);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("exactly once"), "{said}");
    assert!(said.contains("ndjson"), "it says where the documents lie: {said}");
}
