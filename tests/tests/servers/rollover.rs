//! A data stream that rolls over while a batch is in doubt: `_id` is unique within a backing index only, and yet no
//! document may be twice in the stream.

use crate::trial::Trial;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use taffrail_tests::http;
use taffrail_tests::proxy::Action;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, seconds};

on_every_server!(
    a_rollover_between_a_lost_reply_and_its_retry_doubles_nothing,
    a_rollover_while_the_agent_is_dead_doubles_nothing,
);

#[track_caller]
fn lie_in_two_generations(documents: &[Document]) {
    let indices: HashSet<&str> = documents.iter().map(|document| document.index.as_str()).collect();
    assert_eq!(indices.len(), 2, "{indices:?}");
}

fn a_rollover_between_a_lost_reply_and_its_retry_doubles_nothing(kind: Kind) {
    let server = Server::shared(kind);
    let space = server.space().takes_data_streams();
    let (address, rollover) = (server.address(), format!("/{}-all/_rollover", space.prefix));
    // One request at a time: what follows the lost one is its retry.
    let trial = Trial::ruled(space, move |number, _| {
        match number {
            1 => return Action::LoseReply,
            2 => {
                let reply = http::send(address, "POST", &rollover, b"").expect("a server that answers");
                assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
                // The agent looks for a rollover before each retry: this one it cannot have seen, the next it must.
                return Action::Hangup;
            }
            _ => {}
        }
        Action::Forward
    });
    let mut web = trial.container("web");
    web.writes(300);
    let agent = trial.agent(&(trial.config(Target::DataStreams) + "in_flight = 1\n"));
    trial.arrives(&[&web]);
    web.writes(300);
    trial.arrives(&[&web]);
    web.writes(300);
    let documents = trial.arrives(&[&web]);
    lie_in_two_generations(&documents);
    trial.adds_up(agent, &[&web], 0, "rollover between lost reply and retry");
}

fn a_rollover_while_the_agent_is_dead_doubles_nothing(kind: Kind) {
    let silent = Arc::new(AtomicBool::new(false));
    let loses = Arc::clone(&silent);
    let trial = Trial::ruled(Server::shared(kind).space().takes_data_streams(), move |_, _| {
        if loses.load(Ordering::SeqCst) { Action::LoseReply } else { Action::Forward }
    });
    let mut web = trial.container("web");
    web.writes(300);
    let config = trial.config(Target::DataStreams);
    let agent = trial.agent(&config);
    trial.arrives(&[&web]);
    silent.store(true, Ordering::SeqCst);
    web.writes(300);
    eventually(seconds(60), "documents that the agent does not know of", || {
        let documents = trial.space.documents()?.len();
        if documents > 300 { Ok(()) } else { Err(format!("{documents}")) }
    });
    agent.kill9();
    let stream = format!("{}-all", trial.space.prefix);
    trial.space.server.send("POST", &format!("/{stream}/_rollover"), &Value::Null);
    silent.store(false, Ordering::SeqCst);
    web.writes(300);
    let agent = trial.agent(&config);
    let documents = trial.arrives(&[&web]);
    lie_in_two_generations(&documents);
    trial.adds_up(agent, &[&web], 0, "rollover while the agent was dead");
}
