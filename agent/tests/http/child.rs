//! Requests from a process of its own: the environment is read there as the agent reads it.

use std::process::{Output, Stdio};

use tokio::process::{Child, Command};

use crate::kit::{bulk, config};
use taffrail::output::http::HttpClient;

/// Carries the configuration's lines to the child.
const LINES: &str = "TAFFRAIL_TEST_LINES";

/// How often the child tries, one line of output for each.
const TRIES: &str = "TAFFRAIL_TEST_TRIES";

/// Starts a process that tries a bulk request until it succeeds, at most `tries` times, with nothing in its environment
/// but `environment`. Each line of its output that begins with `> ` tells of a try.
pub fn start(lines: &str, tries: u32, environment: &[(&str, &str)]) -> Child {
    let program = std::env::current_exe().expect("this program");
    Command::new(program)
        .args(["child::sends", "--exact", "--nocapture", "--quiet"])
        .env_clear()
        .env(LINES, lines)
        .env(TRIES, tries.to_string())
        // No test may ask a cloud's metadata service.
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a process")
}

/// Runs such a process for one try; what it told.
pub async fn run(lines: &str, environment: &[(&str, &str)]) -> String {
    let output = start(lines, 1, environment).wait_with_output().await.expect("an end");
    told(&output)
}

fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().find_map(|line| line.split_once("> ").map(|(_, told)| told.to_owned()));
    told.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// What the other tests run in a process of its own; without their environment there is nothing to send.
#[test]
fn sends() {
    let (Ok(lines), Ok(tries)) = (std::env::var(LINES), std::env::var(TRIES)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = match HttpClient::new(&config(&lines)) {
            Ok(client) => client,
            Err(error) => return println!("\n> {error}"),
        };
        for _ in 0..tries.parse::<u32>().expect("a number") {
            match bulk(&client).await {
                Ok(reply) if reply.status.is_success() => return println!("\n> done"),
                Ok(reply) => println!("\n> {}", reply.told()),
                Err(error) => println!("\n> {error}"),
            }
            // What is waited for comes from outside.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
}
