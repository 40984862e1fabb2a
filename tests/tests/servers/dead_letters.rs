//! Documents that are refused in every form: kept in a file with the reason, listed, and sent once the server takes them.

use crate::trial::{PATIENCE, Trial};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use taffrail_tests::agent;
use taffrail_tests::eventually;
use taffrail_tests::node::Node;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;
use taffrail_tests::verify::{self, Document};

on_every_server!(
    what_is_refused_twice_is_a_dead_letter_and_can_be_replayed,
    neither_the_safe_form_nor_a_dead_letter_holds_what_was_redacted,
);

fn file(node: &Node) -> PathBuf {
    node.state().join("dead-letters/search.ndjson")
}

/// The dead letters now; none without the file.
pub fn letters(node: &Node) -> Vec<Value> {
    let text = fs::read_to_string(file(node)).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn what_is_refused_twice_is_a_dead_letter_and_can_be_replayed(kind: Kind) {
    // The safe form carries its reason, and here not even that is taken.
    let hostile = json!({
        "app": {"properties": {"code": {"type": "integer"}}},
        "taffrail": {"properties": {"error": {"type": "integer"}}},
    });
    let trial = Trial::new(Server::shared(kind).space().takes(Target::DataStreams, hostile));
    let mut web = trial.container("web");
    web.writes_json(
        100,
        |n| {
            if n % 10 == 7 { format!(r#""code":"word{n}""#) } else { format!(r#""code":{n}"#) }
        },
    );
    let config = trial.config(Target::DataStreams);
    let running = trial.agent(&config);
    let letters = eventually(PATIENCE, "ten dead letters and ninety documents", || {
        let (letters, documents) = (letters(&trial.node), trial.space.documents()?.len());
        if letters.len() >= 10 && documents >= 90 {
            Ok(letters)
        } else {
            Err(format!("{} dead letters, {documents} documents", letters.len()))
        }
    });
    assert_eq!(letters.len(), 10);
    let mode = fs::metadata(file(&trial.node)).expect("the file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "log lines are nobody else's to read");
    for letter in &letters {
        assert_eq!((&letter["output"], &letter["status"]), (&json!("search"), &json!(400)), "{letter}");
        for text in ["time", "type", "reason", "index", "id"] {
            assert!(letter[text].as_str().is_some_and(|text| !text.is_empty()), "{text} of {letter}");
        }
        assert_eq!(letter["index"], format!("{}-all", trial.space.prefix), "where it was to go: {letter}");
        let source = letter["document"].clone();
        let document = Document { id: String::new(), index: String::new(), source };
        assert!(document.is_of(&web) && document.number().is_some_and(|n| n % 10 == 7), "{letter}");
    }
    let tally = trial.proxy.tally();
    assert_eq!((tally.items(400), tally.items(201)), (20, 90), "twice each; {tally:?}");
    trial.adds_up(running, &[&web], 10, "400 twice: dead letter");

    let path = trial.node.path().join("replay.toml");
    fs::write(&path, &config).expect("to write the configuration");
    let command = |what: &str| {
        let ended = agent::run(
            &["dead-letter", what, "--config", path.to_str().expect("plain letters")],
            &trial.node,
        );
        assert_eq!(ended.code, Some(0), "{what}: {}\n{}", ended.stdout, ended.stderr);
        ended.stdout
    };
    let listed = command("list");
    assert!(listed.contains("search") && listed.contains("400"), "{listed}");
    // The administrator mends the mapping; of a data stream the next generation has it.
    trial.space.put_template(Target::DataStreams, json!({}));
    let stream = format!("{}-all", trial.space.prefix);
    trial.space.server.send("POST", &format!("/{stream}/_rollover"), &Value::Null);
    command("replay");
    let documents = verify::exactly_once(PATIENCE, || trial.space.documents(), &[&web]);
    assert_eq!(documents.len(), 100);
    assert!(self::letters(&trial.node).is_empty(), "what is delivered is no dead letter any more");
    trial.enter(100, documents.len(), 0, "dead letters replayed");
}

fn neither_the_safe_form_nor_a_dead_letter_holds_what_was_redacted(kind: Kind) {
    const CARD: &str = "4111111111111111";
    let hostile = |more: Value| {
        let mut properties = json!({ "app": {"properties": {"code": {"type": "integer"}}} });
        properties.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        Trial::new(Server::shared(kind).space().takes(Target::DataStreams, properties))
    };
    let routed = |trial: &Trial| {
        let config = trial.config(Target::DataStreams);
        trial.agent(&format!("{config}\n[[routes]]\nredact = [\"card\"]\noutputs = [\"search\"]\n"))
    };
    let code = |n| format!(r#""code":"word{n} {CARD}""#);
    // Once more with its JSON as text.
    let trial = hostile(json!({}));
    let mut web = trial.container("web");
    web.writes_json(10, code);
    let running = routed(&trial);
    let documents = verify::exactly_once(PATIENCE, || trial.space.documents(), &[&web]);
    for document in &documents {
        let text = document.source.to_string();
        assert!(text.contains("[card]") && text.contains("error") && !text.contains(CARD), "{text}");
    }
    drop(running);
    // Not even that is taken.
    let trial = hostile(json!({ "taffrail": {"properties": {"error": {"type": "integer"}}} }));
    let mut web = trial.container("web");
    web.writes_json(10, code);
    let _running = routed(&trial);
    eventually(PATIENCE, "ten dead letters", || match letters(&trial.node).len() {
        10 => Ok(()),
        found => Err(format!("{found}")),
    });
    let text = fs::read_to_string(file(&trial.node)).expect("the dead letters");
    assert!(text.contains("[card]") && !text.contains(CARD), "{text}");
}
