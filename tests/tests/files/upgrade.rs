//! Positions over a change of the agent's version, in the middle of a backlog.

use std::fs;
use std::path::Path;

use serde_json::Value;
use taffrail_tests::agent::Agent;
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds};

/// As the first format was saved after a kill: a rotated file that was read whole, and one of which the first piece of a
/// partial line and a line of the other stream after it had been read.
const FIRST_FORMAT: &str = r#"{"taffrail_positions":1,"output":"out","since":1787757410092394093}
{"k":"efXwgnRPwLXaVl4bWl897g","o":4790,"t":1795168800000000099}
{"k":"EytB-D0HB6J1pxF-3ccFOw","o":2546,"p":[{"f":2450,"z":2497,"n":6,"l":1795168800000000150,"s":0,"b":0},null,null],"t":1795168800000000151}
{"end":2,"crc":348216134}
"#;

fn line(number: u64, stream: &str, tag: char, text: &str) -> String {
    format!("2026-11-20T10:00:00.{number:09}Z {stream} {tag} {text}\n")
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| line(number, "stdout", 'F', &format!("line {number}"))).collect()
}

fn write_logs(pods: &Path) {
    let folder = pods.join("shop_web_0a1b2c3d-0000-4000-8000-00000000000a/app");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("0.log.20261120-100001"), lines(0..100)).unwrap();
    let begun = line(150, "stdout", 'P', "line 1") + &line(151, "stderr", 'F', "line 151");
    let rest = line(152, "stdout", 'F', "50") + &lines(153..200);
    fs::write(folder.join("0.log"), lines(100..150) + &begun + &rest).unwrap();
}

#[test]
fn an_agent_goes_on_where_one_of_the_first_format_was_killed() {
    let node = Node::new();
    write_logs(&node.pods());
    fs::create_dir_all(node.state()).unwrap();
    fs::write(node.state().join("out.positions"), FIRST_FORMAT).unwrap();
    let config = node.config("[outputs.out]\ntype = \"stdout\"");
    let config = config.replace("cluster = \"test\"", "cluster = \"gold\"");
    let agent = Agent::start(&config, &node);
    eventually(seconds(40), "the last line on stdout", || {
        let said = agent.stdout();
        if said.contains("line 199") { Ok(()) } else { Err(said) }
    });
    let ended = agent.terminate();
    let messages: Vec<String> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a document")["message"].to_string())
        .collect();
    let expected: Vec<String> =
        std::iter::once(150).chain(153..200).map(|number| format!("\"line {number}\"")).collect();
    assert_eq!(messages, expected, "{}", ended.stderr);
}
