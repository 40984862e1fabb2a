//! How documents are written, as the output is configured: with ids of the server's own, replacing, or by way of an
//! ingest pipeline, which may fail on some or not be there.

use crate::dead_letters::letters;
use crate::trial::{PATIENCE, Trial};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use taffrail_tests::proxy::Action;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;
use taffrail_tests::{agent, eventually, seconds, verify};

on_every_server!(
    without_ids_everything_arrives,
    what_is_sent_again_by_index_replaces_itself,
    a_pipeline_is_applied,
    what_a_pipeline_fails_on_is_a_dead_letter_and_nothing_else_is,
    a_pipeline_that_is_not_there_is_waited_for,
);

/// Puts a pipeline of these processors for this test alone, and gives its name, which wants encoding.
fn pipeline(trial: &Trial<'_>, processors: Value) -> String {
    let name = format!("{} a+b&c", trial.space.prefix);
    put_pipeline(trial, processors);
    name
}

fn put_pipeline(trial: &Trial<'_>, processors: Value) {
    let target = format!("/_ingest/pipeline/{}%20a%2Bb%26c", trial.space.prefix);
    trial.space.server.send("PUT", &target, &json!({ "processors": processors }));
}

/// Numbers, and a word in every tenth record.
fn writes_a_word_in_ten(web: &mut taffrail_tests::node::Container) {
    web.writes_json(
        100,
        |n| {
            if n % 10 == 7 { format!(r#""code":"word{n}""#) } else { format!(r#""code":{n}"#) }
        },
    );
}

fn without_ids_everything_arrives(kind: Kind) {
    for (target, name) in [(Target::Indices, "dated index"), (Target::DataStreams, "data stream")] {
        let trial = Trial::new(Server::shared(kind).space().takes(target, json!({})));
        let mut web = trial.container("web");
        web.writes(400).rotate().writes(400);
        let agent = trial.agent(&(trial.config(target) + "document_id = false\n"));
        let documents = trial.arrives(&[&web]);
        let ids: HashSet<&str> = documents.iter().map(|document| document.id.as_str()).collect();
        assert_eq!(ids.len(), 800);
        // Ours are a key of 22 characters and two numbers; those of all servers are of 20.
        assert!(ids.iter().all(|id| id.len() == 20), "{:?}", ids.iter().next());
        trial.adds_up(agent, &[&web], 0, &format!("no ids, {name}"));
    }
}

/// The first two requests are carried out, and nobody hears of it.
fn what_is_sent_again_by_index_replaces_itself(kind: Kind) {
    let space = Server::shared(kind).space().takes_indices();
    let trial = Trial::ruled(space, |number, _| if number < 2 { Action::LoseReply } else { Action::Forward });
    let mut web = trial.container("web");
    web.writes(500);
    let agent = trial.agent(&(trial.config(Target::Indices) + "op = \"index\"\n"));
    trial.arrives(&[&web]);
    web.writes(100);
    trial.arrives(&[&web]);
    // What was carried out without an answer is answered 200 later: replaced, and not refused.
    eventually(seconds(30), "the last answer", || {
        let tally = trial.proxy.tally();
        if tally.items(200) > 0 && tally.items(201) == 600 { Ok(()) } else { Err(format!("{tally:?}")) }
    });
    assert_eq!(trial.proxy.tally().items(409), 0, "{:?}", trial.proxy.tally());
    trial.adds_up(agent, &[&web], 0, "op = index, lost reply: replaced");
}

fn a_pipeline_is_applied(kind: Kind) {
    for target in [Target::Indices, Target::DataStreams] {
        let trial = Trial::new(Server::shared(kind).space().takes(target, json!({})));
        let name = pipeline(&trial, json!([{"set": {"field": "via", "value": "pipeline"}}]));
        let mut web = trial.container("web");
        web.writes(300);
        let agent = trial.agent(&(trial.config(target) + &format!("pipeline = \"{name}\"\n")));
        let documents = trial.arrives(&[&web]);
        assert!(documents.iter().all(|document| document.text("via") == "pipeline"), "{:?}", documents[0]);
        trial.adds_up(agent, &[&web], 0, "ingest pipeline");
    }
}

/// By a processor's complaint, which is answered 400, and by `fail`, which is answered 500. Then the pipeline is mended,
/// and what it refused is sent again: with ids, and by `index` without.
fn what_a_pipeline_fails_on_is_a_dead_letter_and_nothing_else_is(kind: Kind) {
    let fail = json!([{"fail": {"message": "not one of ours"}}]);
    for (status, on_failure, reason, keys) in [
        (400, Value::Null, "unable to convert [word", ""),
        (500, fail, "not one of ours", "op = \"index\"\ndocument_id = false\n"),
    ] {
        let mut convert = json!({"field": "app.code", "type": "integer"});
        if !on_failure.is_null() {
            convert["on_failure"] = on_failure;
        }
        let trial = Trial::new(Server::shared(kind).space().takes_indices());
        let name = pipeline(&trial, json!([{ "convert": convert }]));
        let mut web = trial.container("web");
        writes_a_word_in_ten(&mut web);
        let config = trial.config(Target::Indices) + &format!("pipeline = \"{name}\"\n{keys}");
        let running = trial.agent(&config);
        let refused = eventually(PATIENCE, "ten dead letters and ninety documents", || {
            let (letters, documents) = (letters(&trial.node), trial.space.documents()?.len());
            if letters.len() >= 10 && documents >= 90 {
                Ok(letters)
            } else {
                Err(format!("{} dead letters, {documents} documents", letters.len()))
            }
        });
        assert_eq!(refused.len(), 10);
        for letter in &refused {
            assert_eq!(letter["status"], status, "{letter}");
            let source = letter["document"].clone();
            let why = source["taffrail"]["error"].as_str().unwrap_or_default();
            assert!(why.contains(reason), "{letter}");
            let document = verify::Document { id: String::new(), index: String::new(), source };
            assert!(document.number().is_some_and(|n| n % 10 == 7), "{letter}");
        }
        let tally = trial.proxy.tally();
        assert_eq!((tally.items(status), tally.items(201)), (20, 90), "as it is, in safe form; {tally:?}");
        trial.adds_up(running, &[&web], 10, &format!("pipeline fails, {status}: dead letters"));

        put_pipeline(&trial, json!([{"set": {"field": "via", "value": "mended"}}]));
        let path = trial.node.path().join("replay.toml");
        fs::write(&path, &config).expect("to write the configuration");
        let path = path.to_str().expect("plain letters");
        let ended = agent::run(&["dead-letter", "replay", "--config", path], &trial.node);
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
        assert_eq!(trial.arrives(&[&web]).len(), 100);
        assert!(letters(&trial.node).is_empty(), "what is delivered is no dead letter any more");
    }
}

fn a_pipeline_that_is_not_there_is_waited_for(kind: Kind) {
    let trial = Trial::new(Server::shared(kind).space().takes_indices());
    let mut web = trial.container("web");
    writes_a_word_in_ten(&mut web);
    let name = format!("{} a+b&c", trial.space.prefix);
    let running = trial.agent(&(trial.config(Target::Indices) + &format!("pipeline = \"{name}\"\n")));
    eventually(seconds(60), "the agent to tell of it", || {
        let said = running.stderr();
        let told = said.contains("does not exist (create the pipeline there") && said.contains("set aside");
        if told { Ok(()) } else { Err(said) }
    });
    web.writes(50);
    put_pipeline(&trial, json!([{"set": {"field": "via", "value": "pipeline"}}]));
    let documents = trial.arrives(&[&web]);
    assert!(documents.iter().all(|document| document.text("via") == "pipeline"), "{:?}", documents[0]);
    assert!(letters(&trial.node).is_empty(), "nothing was wrong with any record");
    trial.adds_up(running, &[&web], 0, "pipeline missing, then created");
}
