//! A server that has too much to do, takes no large requests, or dies in the middle of one.

use crate::dead_letters::letters;
use crate::trial::{PATIENCE, Trial};
use std::sync::mpsc;
use std::time::Duration;
use taffrail_tests::eventually;
use taffrail_tests::let_pass;
use taffrail_tests::node::Container;
use taffrail_tests::proxy::Action;
use taffrail_tests::seconds;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;

on_every_server!(
    items_answered_429_are_sent_again,
    requests_answered_429_are_sent_again,
    requests_that_are_too_large_are_split,
    a_record_that_is_too_large_by_itself_is_a_dead_letter,
    a_server_that_dies_in_the_middle_of_a_bulk_doubles_nothing,
);

/// One writing thread with room for one waiting: a bulk for a dozen indices is a dozen tasks, and most are turned away.
fn items_answered_429_are_sent_again(kind: Kind) {
    let server = Server::start(kind, &["thread_pool.write.size=1", "thread_pool.write.queue_size=1"]);
    let trial = Trial::new(server.space().takes_indices());
    let mut containers: Vec<Container> = (0..12).map(|n| trial.container(&format!("team-{n}"))).collect();
    for container in &mut containers {
        container.writes(60);
    }
    let agent = trial.agent(&trial.config_to(Target::Indices, "{namespace}"));
    let all: Vec<&Container> = containers.iter().collect();
    trial.arrives(&all);
    assert!(trial.proxy.tally().items(429) > 0, "{:?}", trial.proxy.tally());
    trial.adds_up(agent, &all, 0, "429 by item");
}

/// The server's memory for documents under way is less than what the agent's parallel requests hold together.
fn requests_answered_429_are_sent_again(kind: Kind) {
    let server = Server::start(kind, &["indexing_pressure.memory.limit=200kb"]);
    let trial = Trial::new(server.space().takes_indices());
    let mut web = trial.container("web");
    web.writes_json(3_000, |_| format!(r#""pad":"{}""#, "x".repeat(300)));
    let config = trial.config(Target::Indices) + "batch = \"64KiB\"\nin_flight = 16\n";
    let agent = trial.agent(&config);
    trial.arrives(&[&web]);
    let tally = trial.proxy.tally();
    assert!(tally.requests(429) > 0, "{tally:?}");
    trial.adds_up(agent, &[&web], 0, "429 by request");
}

/// Batches of 4 MiB, which the server refuses whole: none may be lost, and none tried in vain for ever. The limit is on
/// what a body is when it is inflated: so it is no different with gzip.
fn requests_that_are_too_large_are_split(kind: Kind) {
    let server = Server::start(kind, &["http.max_content_length=1mb"]);
    for compression in ["none", "gzip"] {
        let trial = Trial::new(server.space().takes_indices());
        let mut web = trial.container("web");
        web.writes_json(1_500, |_| format!(r#""pad":"{}""#, "x".repeat(3_000)));
        let keys = format!("batch = \"4MiB\"\ncompression = \"{compression}\"\n");
        let agent = trial.agent(&(trial.config(Target::Indices) + &keys));
        trial.arrives(&[&web]);
        assert!(trial.proxy.tally().requests(413) > 0, "{:?}", trial.proxy.tally());
        trial.adds_up(agent, &[&web], 0, &format!("413: split, compression {compression}"));
    }
}

/// No half of a request helps here: the one record is put aside, those beside it are delivered.
fn a_record_that_is_too_large_by_itself_is_a_dead_letter(kind: Kind) {
    let server = Server::start(kind, &["http.max_content_length=300kb"]);
    for compression in ["none", "gzip"] {
        let trial = Trial::new(server.space().takes_indices());
        let mut web = trial.container("web");
        web.writes_json(100, |n| format!(r#""pad":"{}""#, "x".repeat(if n == 50 { 600_000 } else { 100 })));
        let keys = format!("compression = \"{compression}\"\n");
        let agent = trial.agent(&(trial.config(Target::Indices) + &keys));
        eventually(PATIENCE, "one dead letter and 99 documents", || {
            let (letters, documents) = (letters(&trial.node), trial.space.documents()?.len());
            let [letter] = letters.as_slice() else { return Err(format!("{} dead letters", letters.len())) };
            assert_eq!(letter["status"], 413, "{}", letter["reason"]);
            assert!(letter["document"]["message"].as_str().is_some_and(|text| text.starts_with("line 50 ")));
            if documents == 99 { Ok(()) } else { Err(format!("{documents} documents")) }
        });
        trial.adds_up(agent, &[&web], 1, &format!("413 for one record, compression {compression}"));
    }
}

/// Killed while a bulk is on its way, and started again on its data: some of it may have been carried out.
fn a_server_that_dies_in_the_middle_of_a_bulk_doubles_nothing(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (comes, seventh) = mpsc::channel();
    let trial = Trial::ruled(server.space().takes_indices(), move |number, _| {
        // With four under way at a time: the first are answered, and the index is there.
        if number == 6 {
            // Nobody listens any more only when the test has failed already.
            let _ = comes.send(());
        }
        Action::Forward
    });
    let mut web = trial.container("web");
    web.writes(3_000);
    let agent = trial.agent(&(trial.config(Target::Indices) + "batch = \"128KiB\"\n"));
    seventh.recv_timeout(seconds(60)).expect("a seventh bulk request");
    // A moment for the server to begin with it; short, so that not all are done.
    let_pass(Duration::from_millis(20));
    server.kill9();
    web.writes(100).rotate().writes(100);
    server.returns();
    let documents = trial.arrives(&[&web]);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // What was carried out without an answer is answered 409 later: each line was acknowledged one way or the other.
    let tally = trial.proxy.tally();
    let answered: usize = tally.requests.values().sum();
    assert!(trial.proxy.bulks() > answered, "the server died with a request under way; {tally:?}");
    assert!(tally.items(201) + tally.items(409) >= web.written().len(), "{tally:?}");
    assert_eq!(documents.len(), web.written().len());
    trial.enter(web.written().len(), documents.len(), 0, "restart in the middle of a bulk");
}
