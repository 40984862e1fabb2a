//! Shaping: what routes do with single fields, with JSON and with the times of records.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::{Node, PIECE};
use taffrail_tests::verify::{self, Document};
use taffrail_tests::{eventually, seconds};

const SECRET: &str = "an-unlikely-secret";

/// An output to a file for these keys of its route, and one for what is written as it is.
fn config(node: &Node, keys: &str) -> String {
    let secret = node.path().join("hash-key");
    fs::write(&secret, format!("{SECRET}\n")).expect("a secret");
    let output = |name: &str| {
        let path = node.path().join(name).join("{namespace}.ndjson");
        format!("[outputs.{name}]\ntype = \"file\"\npath = \"{}\"\n", path.display())
    };
    let config = node.config(&format!(
        "{}{}[[routes]]\n{keys}\noutputs = [\"shaped\"]\ncontinue = true\n[[routes]]\noutputs = [\"plain\"]\n",
        output("shaped"),
        output("plain")
    ));
    format!("hash_key = {{ file = \"{}\" }}\n{config}", secret.display())
}

/// Waits until `shaped` and `plain` hold so many documents each, in the order of writing.
#[track_caller]
fn documents(node: &Node, count: usize) -> [Vec<Document>; 2] {
    eventually(seconds(60), &format!("{count} documents"), || {
        let read = |name: &str| verify::read_ndjson(&node.path().join(name));
        let all = [read("shaped")?, read("plain")?];
        let counts = all.each_ref().map(Vec::len);
        if counts == [count, count] { Ok(all) } else { Err(format!("{counts:?}")) }
    })
}

/// What a document says besides what is the agent's.
fn said(document: &Document) -> Value {
    let mut source = document.source.clone();
    let members = source.as_object_mut().expect("an object");
    ["@timestamp", "stream", "kubernetes", "orchestrator"]
        .iter()
        .for_each(|name| drop(members.remove(*name)));
    source
}

fn written(folder: &Path) -> String {
    let files = fs::read_dir(folder).expect("a folder").flatten();
    files.map(|file| fs::read_to_string(file.path()).expect("text")).collect()
}

/// What comes of these lines by these keys, after each of them is compared with what the agent itself says of the line.
fn shaped(keys: &str, lines: &[&str], expected: &[Value]) -> (Node, Vec<Document>) {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    lines.iter().for_each(|line| drop(web.writes_line(line)));
    let _agent = Agent::start(&config(&node, keys), &node);
    let [shaped, plain] = documents(&node, expected.len());
    for ((document, plain), expected) in shaped.iter().zip(&plain).zip(expected) {
        assert_eq!(said(document), *expected, "{keys}");
        for own in ["stream", "kubernetes", "orchestrator"] {
            assert_eq!(document.source[own], plain.source[own]);
        }
    }
    drop(_agent);
    (node, shaped)
}

#[test]
fn merged_json_stands_beside_the_message_and_never_where_the_agent_writes() {
    let lines = [
        r#"{"message":"placed","level":"info","order":{"id":7},"user.id":"u1"}"#,
        r#"{"kubernetes":{"namespace":"forged"},"kubernetes.pod.name":"forged","orchestrator":1,"order":1}"#,
        r#"{"kubernete\u0073":{"namespace":"forged"},"_id":"forged","@timestamp":"forged","stream":"forged"}"#,
        r#"{"order":1,"order":2,"order.id":3}"#,
        "not JSON",
    ];
    let expected = [
        json!({ "message": "placed", "log": { "level": "info" }, "level": "info", "order": { "id": 7 }, "user.id": "u1" }),
        json!({ "order": 1, "app": { "kubernetes": { "namespace": "forged" }, "kubernetes.pod.name": "forged", "orchestrator": 1 } }),
        json!({ "app": { "kubernetes": { "namespace": "forged" }, "_id": "forged", "@timestamp": "forged", "stream": "forged" } }),
        json!({ "order": 1, "app": { "order": 2, "order.id": 3 } }),
        json!({ "message": "not JSON" }),
    ];
    shaped("json = \"merge\"", &lines, &expected);
}

#[test]
fn fields_are_added_renamed_and_removed() {
    let lines = [
        r#"{"msg":"in","user_id":7,"password":"hunter2","debug":{"a":"hunter2"},"env":"dev"}"#,
        r#"{"p\u0061ssword":"hunter2","users":[{"password":"x"}],"debug.a":"hunter2"}"#,
        "text",
    ];
    let keys = "add = { labels.team = \"shop\", app.env = \"prod\" }\nrename = { app.user_id = \"user.id\" }\n\
                remove = [\"app.password\", \"app.debug.*\", \"app.users.password\"]";
    let expected = [
        json!({ "message": "in", "user.id": 7, "app": { "env": "prod" }, "labels.team": "shop" }),
        json!({ "app": { "users": [{}], "env": "prod" }, "labels.team": "shop" }),
        json!({ "message": "text", "app": { "env": "prod" }, "labels.team": "shop" }),
    ];
    let (node, _) = shaped(keys, &lines, &expected);
    assert!(!written(&node.path().join("shaped")).contains("hunter2"));
}

#[test]
fn hashes_are_the_same_on_every_node_that_has_the_key_and_the_key_is_nowhere() {
    let lines = [r#"{"msg":"to a@example.com","email":"a@example.com","id":7}"#, "from a@example.com"];
    let keys = "hash = [\"app.email\", \"app.id\"]\nredact = [\"email\"]\nredact_as = \"hash\"";
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    lines.iter().for_each(|line| drop(web.writes_line(line)));
    let agent = Agent::start(&config(&node, keys), &node);
    let [shaped, _] = documents(&node, 2);
    // printf a@example.com | openssl dgst -sha256 -hmac an-unlikely-secret
    let mark = "[email:MARK]";
    let found = shaped[0].message();
    assert!(found.starts_with("to [email:") && found.len() == "to ".len() + mark.len() + 12, "{found}");
    assert_eq!(shaped[1].message(), found.replacen("to", "from", 1));
    let digits = |name: &str| shaped[0].text(name).to_owned();
    for hash in [digits("app.email"), digits("app.id")] {
        assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    }
    let file = node.path().join("taffrail.toml");
    fs::write(&file, config(&node, keys)).expect("a configuration");
    let check = agent::run(&["check", "--config", file.to_str().expect("plain letters")], &node);
    let all = [agent.stderr(), check.stdout, check.stderr, written(&node.path().join("shaped"))].concat();
    assert!(!all.contains(SECRET) && all.contains("hashes app.email, app.id"), "{all}");
    assert!(!written(&node.path().join("shaped")).contains("a@example.com"));
}

#[test]
fn without_the_secret_nothing_starts_and_check_says_why() {
    let node = Node::new();
    let file = node.path().join("taffrail.toml");
    let config = config(&node, "hash = [\"app.email\"]");
    fs::remove_file(node.path().join("hash-key")).expect("a secret");
    fs::write(&file, &config).expect("a configuration");
    let file = file.to_str().expect("plain letters");
    let check = agent::run(&["check", "--config", file], &node);
    assert!(
        check.stderr.contains("hash_key: ") && check.stderr.contains("is it mounted"),
        "{}",
        check.stderr
    );
    let run = agent::run(&["run", "--config", file], &node);
    assert!(run.code != Some(0) && run.stderr.contains("hash_key: "), "{}", run.stderr);
}

#[test]
fn long_texts_are_cut_and_say_so() {
    let stack = "é".repeat(200);
    let lines =
        [format!(r#"{{"msg":"{}","stack":"{stack}","n":1}}"#, "x".repeat(100)), "y".repeat(PIECE * 2)];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mark = |kept: String, of: usize| format!("{kept} [taffrail: cut, of {of} bytes]");
    let expected = [
        json!({ "message": "x".repeat(100), "app": { "stack": mark("é".repeat(17), 400), "n": 1 }, "taffrail": { "truncated": 1 } }),
        json!({ "message": mark("y".repeat(1024 - 32), PIECE * 2), "taffrail": { "truncated": 1 } }),
    ];
    shaped("truncate = { message = \"1KiB\", app.stack = \"64B\" }", &lines, &expected);
}

#[test]
fn a_time_in_the_record_is_the_documents_and_an_absurd_one_is_not() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_line("without");
    // A second before the line is written, to the millisecond.
    let own = web.last_time() / 1_000_000 - 1000;
    for line in [
        format!(r#"{{"msg":"a","ts":{own}}}"#),
        r#"{"msg":"b","ts":12345}"#.to_owned(),
        r#"{"msg":"c","ts":"2001-01-01T00:00:00Z"}"#.to_owned(),
    ] {
        web.writes_line(&line);
    }
    let _agent = Agent::start(&config(&node, "time = \"app.ts\""), &node);
    let [shaped, plain] = documents(&node, 4);
    let (timed, written) = (&shaped[1], &plain[1]);
    assert_eq!(timed.text("event.created"), written.text("@timestamp"));
    let seconds = format!(".{:03}000000Z", own % 1000);
    assert!(timed.text("@timestamp").ends_with(&seconds), "{:?}", timed.source);
    assert!(timed.text("@timestamp") < written.text("@timestamp"));
    for at in [0, 2, 3] {
        assert_eq!(shaped[at].source, plain[at].source);
    }
}

#[test]
fn lines_that_are_joined_are_shaped_as_one_record() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    for line in ["2026-11-23 ERROR no cart", "java.io.IOException: gone", "\tat shop.Cart.add(Cart.java:10)"]
    {
        web.writes_line(line);
    }
    // In pieces, as JSON of a program that writes long lines.
    web.writes_line(&format!(r#"{{"msg":"big","pad":"{}","password":"hunter2"}}"#, "x".repeat(PIECE)));
    let keys = "multiline = \"auto\"\nremove = [\"app.password\"]\nadd = { labels.team = \"shop\" }";
    let _agent = Agent::start(&config(&node, keys), &node);
    let shaped = eventually(seconds(60), "two records", || {
        let found = verify::read_ndjson(&node.path().join("shaped"))?;
        if found.len() == 2 { Ok(found) } else { Err(format!("{}", found.len())) }
    });
    assert_eq!(shaped[0].message().lines().count(), 3);
    assert!(shaped.iter().all(|document| document.source["labels.team"] == "shop"));
    assert_eq!((shaped[1].message(), shaped[1].source["app"].get("password")), ("big".into(), None));
}
