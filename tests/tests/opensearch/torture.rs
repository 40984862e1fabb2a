//! A minute of torture, its choices always the same; `tests/torture` has others, for as long as you like.

use std::time::Duration;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::torture::{Options, run};

fn half_a_minute(seed: u64) {
    let options = Options { seed, length: Duration::from_secs(30), any_time: false, server_dies: false };
    let outcome = run(&options, Server::shared(Kind::OpenSearch));
    println!("{}", outcome.line);
    assert!(!outcome.failed, "{}\n{}\nkept: {:?}", outcome.line, outcome.faults.join("\n"), outcome.kept);
}

#[test]
fn half_a_minute_of_torture_loses_and_doubles_nothing() {
    half_a_minute(1);
}

#[test]
fn another_half_loses_and_doubles_nothing() {
    half_a_minute(2);
}
