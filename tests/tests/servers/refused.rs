//! Documents that a mapping refuses: they are stored in a form that nothing can refuse, and found.

use crate::trial::Trial;
use serde_json::{Value, json};
use taffrail_tests::node::Container;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;
use taffrail_tests::verify::Document;

on_every_server!(
    a_mapping_conflict_is_stored_in_safe_form,
    conflicting_types_do_not_conflict_where_app_is_one_flat_field,
    of_ten_thousand_records_with_conflicting_types_all_are_found,
);

/// The safe form: the line's JSON as text, no `app`, and why.
#[track_caller]
fn is_in_safe_form(document: &Document, of: &Container) {
    let source = &document.source;
    assert!(document.get("app").is_none(), "{source}");
    let reason = document.text("taffrail.error");
    assert!(reason.contains("code"), "the reason names the field: {source}");
    // The line's words may stand before its JSON: people read the beginning of a message.
    let message = document.text("message");
    let json = message.find('{').map_or("", |start| &message[start..]);
    let line: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {source}"));
    assert!(!line["code"].is_null() && line["n"].is_u64(), "{source}");
    // Everything else is as it would have been.
    let written = &of.written()[document.number().expect("a number") as usize];
    assert_eq!(document.text("@timestamp"), written.time);
    assert_eq!(document.text("kubernetes.pod.uid"), of.pod.uid);
    assert_eq!(document.text("log.level"), "info", "{source}");
}

fn a_mapping_conflict_is_stored_in_safe_form(kind: Kind) {
    for target in [Target::Indices, Target::DataStreams] {
        let typed = json!({"app": {"properties": {"code": {"type": "integer"}}}});
        let trial = Trial::new(Server::shared(kind).space().takes(target, typed));
        let (mut numbers, mut objects) = (trial.container("numbers"), trial.container("objects"));
        numbers.writes_json(200, |n| format!(r#""code":{n}"#));
        objects.writes_json(200, |n| format!(r#""code":{{"value":{n}}}"#));
        let agent = trial.agent(&trial.config(target));
        let documents = trial.arrives(&[&numbers, &objects]);
        for document in &documents {
            if document.is_of(&objects) {
                is_in_safe_form(document, &objects);
            } else {
                assert!(document.get("taffrail.error").is_none(), "{}", document.source);
                assert_eq!(document.get("app.code").and_then(Value::as_u64), document.number());
            }
        }
        // Each of the one pod's was refused once and taken once; no other was refused.
        let tally = trial.proxy.tally();
        assert_eq!((tally.items(400), tally.items(201)), (200, 400), "{tally:?}");
        let name = if target == Target::Indices { "dated index" } else { "data stream" };
        trial.adds_up(agent, &[&numbers, &objects], 0, &format!("400 by mapping: safe form, {name}"));
    }
}

/// Three pods, and one key that is now a number, now a word, now an object.
fn three_pods(trial: &Trial, lines: [u64; 3]) -> [Container; 3] {
    let mut pods = ["numbers", "words", "objects"].map(|name| trial.container(name));
    pods[0].writes_json(lines[0], |n| format!(r#""code":{n}"#));
    pods[1].writes_json(lines[1], |n| format!(r#""code":"word{n}""#));
    pods[2].writes_json(lines[2], |n| format!(r#""code":{{"deep":{{"value":"v{n}"}}}}"#));
    pods
}

fn conflicting_types_do_not_conflict_where_app_is_one_flat_field(kind: Kind) {
    let trial = Trial::new(Server::shared(kind).space().takes_indices());
    let pods = three_pods(&trial, [100; 3]);
    let agent = trial.agent(&trial.config(Target::Indices));
    trial.arrives(&[&pods[0], &pods[1], &pods[2]]);
    assert_eq!(trial.proxy.tally().items(400), 0, "{:?}", trial.proxy.tally());
    for (field, value) in [("app.code", "17"), ("app.code", "word17"), ("app.code.deep.value", "v17")] {
        assert_eq!(trial.space.count(json!({"term": {field: value}})), 1, "{field}: {value}");
    }
    trial.adds_up(agent, &[&pods[0], &pods[1], &pods[2]], 0, "conflicting types, flat field");
}

fn of_ten_thousand_records_with_conflicting_types_all_are_found(kind: Kind) {
    let server = Server::shared(kind);
    let trial = Trial::new(server.space().takes_typed(json!({"code": {"type": "integer"}})));
    let pods = three_pods(&trial, [3_334, 3_333, 3_333]);
    let agent = trial.agent(&trial.config(Target::Indices));
    let documents = trial.arrives(&[&pods[0], &pods[1], &pods[2]]);
    assert_eq!(documents.len(), 10_000);
    // By what people would search for: the pod, the words of the message, and what went wrong.
    for pod in &pods {
        let own = json!({"match_phrase": {"message": format!("of {}", pod.pod.name)}});
        assert_eq!(trial.space.count(own), pod.written().len() as u64, "of {}", pod.pod.name);
        let one = json!({"match_phrase": {"message": format!("line 3000 of {}", pod.pod.name)}});
        assert_eq!(trial.space.count(one), 1, "line 3000 of {}", pod.pod.name);
    }
    assert_eq!(trial.space.count(json!({"exists": {"field": "taffrail.error"}})), 6_666);
    let tally = trial.proxy.tally();
    assert_eq!((tally.items(400), tally.items(201)), (6_666, 10_000), "{tally:?}");
    trial.adds_up(agent, &[&pods[0], &pods[1], &pods[2]], 0, "10,000 records, conflicting types");
}
