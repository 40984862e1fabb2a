//! An index that takes nothing for a while: its container waits, others go on, and afterwards everything is there.

use crate::dead_letters::letters;
use crate::trial::Trial;
use serde_json::{Value, json};
use taffrail_tests::node::Container;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::{Space, Target};
use taffrail_tests::{eventually, seconds};

on_every_server!(
    an_index_read_only_for_want_of_disk_is_waited_for,
    an_index_blocked_for_writing_is_waited_for,
    a_closed_index_is_waited_for,
    an_index_that_nobody_has_made_is_waited_for,
);

/// `shut` and `open` act on the index of the namespace `full`.
fn is_waited_for(kind: Kind, behaviour: &str, shut: fn(&Space), open: fn(&Space)) {
    let trial = Trial::new(Server::shared(kind).space().takes_indices());
    let (mut full, mut other) = (trial.container("full"), trial.container("other"));
    full.writes(50);
    other.writes(50);
    let agent = trial.agent(&trial.config_to(Target::Indices, "{namespace}"));
    trial.arrives(&[&full, &other]);
    shut(&trial.space);
    full.writes(100);
    other.writes(100);
    trial.arrives(&[&other]);
    // Longer than the tries of one batch: the others go on while the one is refused again and again.
    for _ in 0..5 {
        other.writes(20);
        trial.arrives(&[&other]);
    }
    full.writes(50).rotate().writes(50);
    let stored = trial.space.documents().expect("the documents");
    let stored = stored.iter().filter(|document| document.is_of(&full)).count();
    // Of a closed index none can be seen.
    assert!(stored <= 50, "{stored} documents in an index that takes none");
    open(&trial.space);
    let containers: [&Container; 2] = [&full, &other];
    trial.arrives(&containers);
    trial.adds_up(agent, &containers, 0, behaviour);
}

fn set(space: &Space, block: &str, value: Value) {
    space.server.send("PUT", &format!("/{}-full/_settings", space.prefix), &json!({ block: value }));
}

fn an_index_read_only_for_want_of_disk_is_waited_for(kind: Kind) {
    const BLOCK: &str = "index.blocks.read_only_allow_delete";
    is_waited_for(
        kind,
        "read-only block, lifted",
        |space| set(space, BLOCK, json!(true)),
        |space| set(space, BLOCK, json!(null)),
    );
}

fn an_index_blocked_for_writing_is_waited_for(kind: Kind) {
    const BLOCK: &str = "index.blocks.write";
    is_waited_for(
        kind,
        "write block, lifted",
        |space| set(space, BLOCK, json!(true)),
        |space| set(space, BLOCK, json!(null)),
    );
}

fn a_closed_index_is_waited_for(kind: Kind) {
    is_waited_for(kind, "closed index, opened", |space| act(space, "_close"), |space| act(space, "_open"));
}

fn act(space: &Space, what: &str) {
    space.server.send("POST", &format!("/{}-full/{what}", space.prefix), &Value::Null);
}

/// Where indices do not come into being by themselves, only the container whose index is missing waits.
fn an_index_that_nobody_has_made_is_waited_for(kind: Kind) {
    let server = Server::start(kind, &["action.auto_create_index=false"]);
    let trial = Trial::new(server.space().takes_indices());
    let make = |name: &str| {
        trial.space.server.send("PUT", &format!("/{}-{name}", trial.space.prefix), &Value::Null);
    };
    make("other");
    let (mut full, mut other) = (trial.container("full"), trial.container("other"));
    full.writes(100);
    other.writes(100);
    let agent = trial.agent(&trial.config_to(Target::Indices, "{namespace}"));
    trial.arrives(&[&other]);
    eventually(seconds(60), "the agent to tell of it", || {
        let said = agent.stderr();
        if said.contains("no such index") && said.contains("set aside") { Ok(()) } else { Err(said) }
    });
    other.writes(100);
    trial.arrives(&[&other]);
    make("full");
    full.writes(50);
    trial.arrives(&[&full, &other]);
    assert!(letters(&trial.node).is_empty(), "nothing was wrong with any record");
    trial.adds_up(agent, &[&full, &other], 0, "missing index, made");
}
