//! Dead letters whose destination is away.

use std::fs;

use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::Node;

#[test]
fn a_replay_says_what_keeps_it_and_loses_nothing_when_it_is_ended() {
    let node = Node::new();
    let letters = node.state().join("dead-letters");
    fs::create_dir_all(&letters).expect("a folder");
    let letter = r#"{"time":"2026-11-23T15:54:01Z","output":"search","status":400,"type":"t","reason":"r","index":"i","id":"one","document":{"message":"x"}}"#;
    fs::write(letters.join("search.ndjson"), format!("{letter}\n")).expect("a dead letter");
    let search = "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:1\"]\nindex = \"i\"\n\
                  retry_initial = \"10ms\"\n";
    let file = node.path().join("taffrail.toml");
    fs::write(&file, node.config(search)).expect("a configuration");
    let file = file.to_str().expect("plain letters");
    let replay = Agent::run_beside(&["dead-letter", "replay", "--config", file], &node);
    replay.has_said("search: http://127.0.0.1:1: cannot connect", 1);
    replay.has_said("trying again for up to 30 s", 1);
    replay.kill9();
    let listed = agent::run(&["dead-letter", "list", "--config", file], &node);
    assert!(listed.code == Some(0) && listed.stdout.contains("\"id\":\"one\""), "{listed:?}");
}
