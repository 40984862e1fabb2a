//! What `listen` answers, and to whom.

use serde_json::Value;
use taffrail_tests::agent::{self, Agent};
use taffrail_tests::browser::Browser;
use taffrail_tests::listeners::{Door, address, get, get_with};
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds, verify};

#[test]
fn the_status_tells_of_the_agent_its_outputs_and_containers() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(100);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let (status, text) = get(&node, Door::Page, "/api/v1/status");
    assert_eq!(status, 200, "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["agent"]["health"], &said["agent"]["ready"]), (&"ok".into(), &"ok".into()));
    assert_eq!(said["agent"]["node"], "n1");
    assert_eq!(
        (&said["outputs"][0]["kind"], &said["outputs"][0]["delivered"]),
        (&"file".into(), &100.into())
    );
    let container = &said["containers"][0];
    assert_eq!((&container["pod"], &container["delivered"]), (&"web".into(), &100.into()));
    let target = node.path().join("out/shop.ndjson");
    assert_eq!(container["plan"], format!("to {}", target.display()));
    assert_eq!(get(&node, Door::Page, "/api/v1/history"), (200, "[]".to_owned()));
}

#[test]
fn what_was_behind_at_the_start_is_shown_until_it_is_caught_up_with() {
    let node = Node::new();
    node.pod("web").namespace("shop").container("app").writes_megabytes(100);
    let _agent = Agent::start(&node.to_file_slowly(), &node);
    let browser = Browser::open(node.path());
    let now = || {
        let (_, text) = get(&node, Door::Page, "/api/v1/status");
        let said: Value = serde_json::from_str(&text).unwrap();
        said["outputs"][0]["catching_up"].clone()
    };
    let first = eventually(seconds(40), "an output that catches up", || {
        let now = now();
        if now["seconds_left"].is_number() { Ok(now) } else { Err(now.to_string()) }
    });
    let of = |key: &str| first[key].as_f64().unwrap_or_else(|| panic!("no {key} in {first}"));
    assert_eq!(of("behind_bytes"), 100e6, "all that was there");
    // What is done is told a moment before what is left.
    let sum = of("done_bytes") + of("left_bytes");
    assert!((100e6..110e6).contains(&sum) && of("done_bytes") > 0.0, "{first}");
    let left = of("left_bytes") / of("bytes_per_second");
    assert!((of("seconds_left") - left).abs() < 0.1, "{first}");
    if let Some(browser) = &browser {
        browser.goes_to(&format!("http://{}/", address(&node, Door::Page)));
        let told = browser.shows("#catching-up p", "the output that catches up", |shown| shown.len() == 1);
        for part in
            ["local is catching up: ", " MiB wait, 95.4 MiB at the start; ", " MiB/s, about ", " s left"]
        {
            assert!(told[0].contains(part), "{part:?} in {told:?}");
        }
    }
    eventually(seconds(60), "nothing more of it", || match now() {
        Value::Null => Ok(()),
        now => Err(now.to_string()),
    });
    if let Some(browser) = &browser {
        browser.shows("#catching-up p", "nothing more of it", |shown| shown.is_empty());
    }
}

#[test]
fn a_page_that_has_a_name_of_its_own_lead_here_is_refused() {
    let node = Node::new();
    let _agent = Agent::start(&node.to_file(), &node);
    let address = address(&node, Door::Page);
    let ask = |host: &str, origin: Option<&str>| {
        let mut head = format!("GET /api/v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        head += &origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
        answer(address, &(head + "\r\n"))
    };
    assert!(ask(&address.to_string(), None).starts_with("HTTP/1.1 200"));
    assert!(ask("localhost:1234", Some("http://localhost:1234")).starts_with("HTTP/1.1 200"));
    for (host, origin) in [
        ("evil.example", None),
        (&*format!("evil.example:{}", address.port()), None),
        ("localhost", Some("http://evil.example")),
        ("localhost", Some("null")),
    ] {
        let said = ask(host, origin);
        assert!(said.starts_with("HTTP/1.1 403"), "{host} {origin:?}: {said}");
        assert!(!said.contains("outputs"), "{said}");
    }
    let post = format!("POST /api/v1/status HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    assert!(answer(address, &post).starts_with("HTTP/1.1 405"));
    let reply = get_with(&node, Door::Page, "/api/v1/status", &[]);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'self'"),
    ] {
        let sent = reply.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1);
        assert!(sent.starts_with(value), "{name}: {sent}");
    }
}

fn answer(address: std::net::SocketAddr, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn no_secret_is_in_what_is_told() {
    let node = Node::new();
    let secret = node.path().join("secret");
    std::fs::write(&secret, "hunter2-hunter2").unwrap();
    let output = format!(
        "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:9\"]\nindex = \"x\"\n\
         auth = {{ type = \"basic\", username = \"me\", password = {{ file = \"{}\" }} }}",
        secret.display()
    );
    let mut web = node.pod("web").container("app");
    web.writes(1);
    let _agent = Agent::start(&node.config(&output), &node);
    eventually(seconds(40), "an error to be told", || {
        let (_, text) = get(&node, Door::Page, "/api/v1/status");
        let said: Value = serde_json::from_str(&text).unwrap();
        if said["told"].as_array().is_some_and(|told| !told.is_empty()) { Ok(()) } else { Err(text) }
    });
    for (door, target) in [(Door::Page, "/api/v1/status"), (Door::Metrics, "/metrics")] {
        let (_, text) = get(&node, door, target);
        assert!(!text.contains("hunter2") && !text.contains("username"), "{text}");
    }
}

#[test]
fn top_prints_what_the_agent_does_once() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(100);
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    let address = address(&node, Door::Page).to_string();
    let ended = agent::run(&["top", "--once", "--address", &address], &node);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(
        ended.stdout.starts_with("taffrail ") && ended.stdout.contains(" on n1 (test), up "),
        "{}",
        ended.stdout
    );
    let row = |first: &str| lines.iter().find(|words| words.first() == Some(&first)).expect(first).clone();
    assert_eq!(row("OUTPUT")[..4], ["OUTPUT", "TYPE", "LINES/S", "BYTES/S"]);
    assert_eq!(row("local")[..3], ["local", "file", "0"]);
    assert_eq!(row("shop/web")[..4], ["shop/web", "app", "local", "0"]);
}

#[test]
fn a_trouble_that_is_over_is_shown_as_over_whatever_the_level_of_the_log() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(10);
    // In the place of the output's file.
    let place = node.path().join("out/shop.ndjson");
    std::fs::create_dir_all(&place).unwrap();
    let agent = Agent::start(&(node.to_file() + "\n[log]\nlevel = \"error\"\n"), &node);
    let told = |is_over: bool| {
        let (_, text) = get(&node, Door::Page, "/api/v1/status");
        let said: Value = serde_json::from_str(&text).unwrap();
        let is_it = |told: &&Value| {
            let message = told["message"].as_str().unwrap_or_default();
            message.starts_with("cannot write; ") && told["over"].is_u64() == is_over
        };
        said["told"].as_array().and_then(|told| told.iter().find(is_it)).cloned().ok_or(text)
    };
    let now = eventually(seconds(40), "the trouble to be told", || told(false));
    let details = now["details"].as_str().unwrap();
    assert!(details.contains("shop.ndjson: ") && !details.contains("over since"), "{details}");
    std::fs::remove_dir(&place).unwrap();
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    eventually(seconds(40), "the trouble to be over", || told(true));
    let address = address(&node, Door::Page).to_string();
    let shown = agent::run(&["top", "--once", "--address", &address], &node);
    assert!(shown.stdout.contains("(over since 20"), "{}", shown.stdout);
    let ended = agent.terminate();
    assert!(ended.code == Some(0) && !ended.stderr.contains("cannot write"), "{}", ended.stderr);
}

#[test]
fn where_no_agent_listens_top_and_tap_say_what_to_do() {
    let node = Node::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for arguments in [vec!["top", "--once"], vec!["tap", "shop/web"]] {
        let ended = agent::run(&[&arguments[..], &["--address", &nobody]].concat(), &node);
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.stderr.starts_with(&format!("error: no agent answers at {nobody}: nobody listens there\n")),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("port-forward"), "{}", ended.stderr);
    }
    let ended = agent::run(&["tap", "web"], &node);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}
