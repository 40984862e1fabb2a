//! Plain delivery, and the documents that a killed agent sends twice.

use crate::trial::Trial;
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use taffrail_tests::proxy::Action;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;
use taffrail_tests::{eventually, seconds};

on_every_server!(
    lines_arrive_in_a_dated_index,
    lines_arrive_in_a_data_stream,
    what_a_killed_agent_had_sent_is_answered_409_and_not_doubled,
);

/// Two rotations in, each document once under an `_id` of its own, and fields of the application's JSON found.
fn lines_arrive(kind: Kind, target: Target, behaviour: &str) {
    let server = Server::shared(kind);
    let trial = Trial::new(server.space().takes(target, json!({})));
    let mut web = trial.container("web");
    web.writes(400).rotate().writes(400).rotate().writes(400);
    let agent = trial.agent(&trial.config(target));
    let documents = trial.arrives(&[&web]);
    let ids: HashSet<&str> = documents.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(ids.len(), 1_200, "an `_id` for each");
    for document in &documents {
        // The index of a document is that of its own time: over midnight there are two.
        let date = document.text("@timestamp")[..10].replace('-', ".");
        let index = match target {
            Target::Indices => document.index == format!("{}-{date}", trial.space.prefix),
            Target::DataStreams => document.index.starts_with(&format!(".ds-{}-all-", trial.space.prefix)),
        };
        assert!(index, "{}", document.index);
        let written = &web.written()[document.number().expect("a number") as usize];
        assert_eq!(document.text("@timestamp"), written.time, "to the nanosecond");
        assert_eq!(document.text("kubernetes.namespace"), "web");
    }
    assert_eq!(trial.space.count(json!({"term": {"app.n": "17"}})), 1, "a field under `app` is found");
    assert_eq!(trial.space.count(json!({"term": {"@timestamp": web.written()[17].time}})), 1);
    trial.adds_up(agent, &[&web], 0, behaviour);
}

fn lines_arrive_in_a_dated_index(kind: Kind) {
    lines_arrive(kind, Target::Indices, "dated index");
}

fn lines_arrive_in_a_data_stream(kind: Kind) {
    lines_arrive(kind, Target::DataStreams, "data stream");
}

fn what_a_killed_agent_had_sent_is_answered_409_and_not_doubled(kind: Kind) {
    // Until the kill no reply comes back: the agent cannot know what it has delivered.
    let silent = Arc::new(AtomicBool::new(true));
    let loses = Arc::clone(&silent);
    let trial = Trial::ruled(Server::shared(kind).space().takes_indices(), move |_, _| {
        if loses.load(Ordering::SeqCst) { Action::LoseReply } else { Action::Forward }
    });
    let mut web = trial.container("web");
    web.writes(1_000);
    let agent = trial.agent(&trial.config(Target::Indices));
    eventually(seconds(60), "documents that the agent does not know of", || {
        let documents = trial.space.documents()?.len();
        if documents > 0 { Ok(()) } else { Err("none".into()) }
    });
    agent.kill9();
    silent.store(false, Ordering::SeqCst);
    web.writes(200);
    let agent = trial.agent(&trial.config(Target::Indices));
    trial.arrives(&[&web]);
    assert!(trial.proxy.tally().items(409) > 0, "{:?}", trial.proxy.tally());
    trial.adds_up(agent, &[&web], 0, "kill -9, sent again: 409");
}
