//! Files of the host: `[files.NAME]`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use taffrail_tests::agent::Agent;
use taffrail_tests::listeners::{Door, get};
use taffrail_tests::node::Node;
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, seconds};

/// A program of the host that numbers its lines, as long as a real one's.
struct Program {
    path: PathBuf,
    written: u64,
}

impl Program {
    fn new(node: &Node) -> Program {
        let folder = node.path().join("log");
        fs::create_dir_all(&folder).unwrap();
        Program { path: folder.join("app.log"), written: 0 }
    }

    fn writes(&mut self, lines: u64) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        for _ in 0..lines {
            writeln!(
                file,
                "line {} of app, on a host, in a file that is no container's, at length",
                self.written
            )
            .unwrap();
            self.written += 1;
        }
    }

    /// As logrotate's `dateext` names it: never as an earlier one.
    fn rotated(&self) -> PathBuf {
        self.path.with_extension(format!("log-{}", self.written))
    }

    /// logrotate's default.
    fn is_renamed(&self) {
        fs::rename(&self.path, self.rotated()).unwrap();
    }

    /// logrotate's `copytruncate`.
    fn is_copied_and_cut(&self) {
        fs::copy(&self.path, self.rotated()).unwrap();
        OpenOptions::new().write(true).open(&self.path).unwrap().set_len(0).unwrap();
    }
}

fn config(node: &Node, rest: &str) -> String {
    format!(
        "{rest}\n{}\n[files.app]\npaths = [\"{}\"]\nlabels = {{ team = \"infra\" }}\n",
        node.to_file(),
        node.path().join("log/*.log").display()
    )
}

/// Waits until each line that the program wrote, from number `from` on, has been delivered once.
fn each_once(node: &Node, program: &Program, from: u64) -> Vec<Document> {
    let numbers = |documents: &[Document]| -> Vec<u64> {
        let mut numbers: Vec<u64> = documents.iter().filter_map(Document::number).collect();
        numbers.sort_unstable();
        numbers
    };
    let documents = eventually(seconds(40), "every line of the host's program", || {
        let documents = node.delivered()?;
        let count = numbers(&documents).len() as u64;
        if count >= program.written - from {
            Ok(documents)
        } else {
            Err(format!("{count} of {}", program.written))
        }
    });
    assert_eq!(numbers(&documents), (from..program.written).collect::<Vec<_>>());
    documents
}

#[test]
fn a_hosts_file_is_delivered_with_where_it_lies_and_as_no_pods() {
    let node = Node::new();
    let mut program = Program::new(&node);
    program.writes(3);
    let _agent = Agent::start(&config(&node, ""), &node);
    let documents = each_once(&node, &program, 0);
    let first = &documents[0];
    assert_eq!(first.text("log.file.path"), program.path.display().to_string());
    assert_eq!((first.text("host.name"), first.text("event.dataset")), ("n1", "app"));
    assert_eq!((first.text("labels.team"), first.text("orchestrator.cluster.name")), ("infra", "test"));
    assert!(
        first.get("kubernetes").is_none() && first.get("taffrail").is_none() && first.get("stream").is_none()
    );
    assert!(first.text("@timestamp").starts_with("20"), "{}", first.text("@timestamp"));
    assert!(node.path().join("out/_host.ndjson").exists(), "no namespace can be called so");
}

#[test]
fn a_last_line_whose_end_has_not_come_is_no_lag_and_is_delivered_when_it_comes() {
    let node = Node::new();
    let mut program = Program::new(&node);
    program.writes(3);
    let writes = |text: &str| {
        let mut file = OpenOptions::new().append(true).open(node.path().join("log/app.log")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    writes("half of a");
    let config = config(&node, "");
    let agent = Agent::start(&config, &node);
    each_once(&node, &program, 0);
    eventually(seconds(40), "no lag", || {
        let (_, text) = get(&node, Door::Page, "/api/v1/status");
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        let output = &said["outputs"][0];
        let is_even = output["lag_bytes"] == 0 && output["lag_seconds"] == 0.0;
        if is_even { Ok(()) } else { Err(text) }
    });
    let ended = agent.terminate();
    assert!(ended.code == Some(0) && ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
    let _agent = Agent::start(&config, &node);
    writes(" line\n");
    eventually(seconds(40), "the whole line", || {
        let documents = node.delivered()?;
        let is_whole = documents.iter().any(|document| document.text("message") == "half of a line");
        if is_whole { Ok(()) } else { Err(format!("{} documents", documents.len())) }
    });
}

#[test]
fn what_an_output_writes_is_not_read_by_way_of_a_link() {
    let node = Node::new();
    let mut program = Program::new(&node);
    program.writes(10);
    std::os::unix::fs::symlink(node.path().join("out"), node.path().join("log/link")).unwrap();
    let linked = format!("[files.linked]\npaths = [\"{}\"]\n", node.path().join("log/link/*").display());
    let agent = Agent::start(&(config(&node, "rescan = \"200ms\"") + &linked), &node);
    each_once(&node, &program, 0);
    // Whatever was found by then has been looked through once more, and read.
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(node.delivered().unwrap().len(), 10);
}

#[test]
fn rotations_by_renaming_and_by_copying_lose_and_double_nothing_whether_an_agent_runs_or_not() {
    let node = Node::new();
    let mut program = Program::new(&node);
    let config = config(&node, "rescan = \"200ms\"");
    program.writes(1_000);
    let mut agent = Agent::start(&config, &node);
    each_once(&node, &program, 0);
    for rotate in
        [Program::is_renamed, Program::is_copied_and_cut, Program::is_renamed, Program::is_copied_and_cut]
    {
        program.writes(500);
        rotate(&program);
        program.writes(700);
        each_once(&node, &program, 0);
        // And without a witness.
        assert_eq!(agent.terminate().code, Some(0));
        program.writes(200);
        Program::is_copied_and_cut(&program);
        program.writes(300);
        agent = Agent::start(&config, &node);
        each_once(&node, &program, 0);
    }
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn an_output_that_begins_now_passes_over_what_is_there() {
    let node = Node::new();
    let mut program = Program::new(&node);
    program.writes(100);
    let from = program.written;
    let config = config(&node, "").replace("type = \"file\"", "type = \"file\"\nstart = \"now\"");
    let agent = Agent::start(&config, &node);
    eventually(seconds(20), "the file to be known", || {
        let known = fs::read_to_string(node.state().join("local.positions")).unwrap_or_default();
        if known.contains("\"k\"") { Ok(()) } else { Err(known) }
    });
    // Nothing of it later either, when its time of change is that of the new lines.
    agent.kill9();
    program.writes(5);
    let _agent = Agent::start(&config, &node);
    each_once(&node, &program, from);
}
