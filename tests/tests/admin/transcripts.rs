//! The transcripts of `top`, `tap` and metrics in the README and docs/operation.md: what the agent shows that a test runs has
//! their shape.
//!
//! Numbers, times and rates differ from run to run: where a page has one, a run must have one too, and all words must be
//! the same, in the same order.

use std::path::Path;
use std::process::{Command, Stdio};
use taffrail_tests::agent::{self, Agent};
use taffrail_tests::listeners::{Door, address};
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds};

/// Words that stand behind a number, and differ with it.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "s", "min", "h"];

/// A line without what differs: numbers become `0`, their units go, spaces too.
fn shape(line: &str) -> String {
    let mut letters = String::new();
    for letter in line.chars() {
        match letter {
            '0'..='9' if letters.ends_with('0') => {}
            '0'..='9' => letters.push('0'),
            // Within a number.
            '.' | ',' if letters.ends_with('0') => {}
            _ => letters.push(letter),
        }
    }
    let words = letters.split_whitespace().map(|word| if word == "-" { "0" } else { word });
    words.filter(|word| !UNITS.contains(&word.trim_end_matches(','))).collect::<Vec<_>>().join(" ")
}

/// The commands of these pages that begin with one of these, each with what it printed.
fn transcripts(beginnings: &[&str]) -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = ["README.md", "docs/operation.md"]
        .map(|page| std::fs::read_to_string(root.join(page)).expect("a page"))
        .concat();
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            within = within && line.is_empty();
            continue;
        };
        if let Some(command) = line.strip_prefix("$ ") {
            within = beginnings.iter().any(|beginning| command.starts_with(beginning));
            if within {
                let command = command.split(" #").next().unwrap_or(command).trim();
                found.push((command.to_owned(), Vec::new()));
            }
        } else if within && !line.trim().is_empty() {
            found.last_mut().expect("a command").1.push(line.to_owned());
        }
    }
    found
}

/// Lines in the order of their words: which container lags more than another differs.
fn shapes<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut shapes: Vec<String> = lines.into_iter().map(shape).filter(|line| !line.is_empty()).collect();
    shapes.sort();
    shapes
}

#[test]
fn transcripts_in_the_pages_have_the_shape_of_what_is_printed() {
    let transcripts = transcripts(&["taffrail top", "taffrail tap", "curl -s localhost:9601/metrics"]);
    assert_eq!(transcripts.len(), 3, "{transcripts:?}");
    let node = Node::new().called("node-1");
    let mut web = node.pod("storefront-7d9f").namespace("shop").container("web");
    let mut ledger = node.pod("ledger-0").namespace("payments").container("app");
    web.writes(600);
    ledger.writes(100);
    let out = node.path().join("out/{namespace}.ndjson");
    let outputs = format!(
        "[outputs.local]\ntype = \"file\"\npath = \"{}\"\n[outputs.search]\ntype = \"elasticsearch\"\n\
         endpoints = [\"http://127.0.0.1:1\"]\nindex = \"logs-{{date}}\"\n",
        out.display()
    );
    let config = node.config(&outputs).replace("cluster = \"test\"", "cluster = \"prod-tokyo\"");
    let agent = Agent::start(&config, &node);
    agent.has_said("cannot deliver; trying again", 1);
    let at = |door| address(&node, door).to_string();
    let commands = format!(
        "PATH={}:$PATH; top() {{ taffrail top --address {page} \"$@\"; }}; tap() {{ taffrail tap --address {page} \"$@\"; }}; ",
        agent::binary().parent().expect("a folder").display(),
        page = at(Door::Page)
    );
    for (command, printed) in transcripts {
        let script = command
            .replace("taffrail top", "top")
            .replace("taffrail tap", "tap")
            .replace("localhost:9601", &at(Door::Metrics));
        let expected = shapes(printed.iter().map(String::as_str));
        let tapped = command.contains("tap ");
        let mut run = Command::new("sh");
        run.args(["-c", &format!("{commands}{script}")]).stdin(Stdio::null()).stdout(Stdio::piped());
        if !tapped {
            // Lag and rates come with the next look of the agent at its own counts.
            eventually(seconds(60), &command, || {
                let output = run.output().map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let found = shapes(text.lines());
                if found == expected {
                    Ok(())
                } else {
                    Err(format!("{text}\n{found:#?}\nin place of\n{expected:#?}"))
                }
            });
            continue;
        }
        let child = run.spawn().expect("a shell");
        // A tap shows what is sent from when it is open; it ends with the first line behind those that are wanted.
        let done = std::thread::spawn(move || child.wait_with_output().expect("its end"));
        while !done.is_finished() {
            web.writes_line("{\"level\":\"info\",\"msg\":\"cart paid\",\"cart\":7,\"eur\":12.5}");
            taffrail_tests::let_pass(std::time::Duration::from_millis(20));
        }
        let output = done.join().expect("what it printed");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(shapes(found.lines()), expected, "{found}");
    }
}
