//! Disks that fill up: the one of the state directory, and the one that an output writes to. Each is told, nothing is
//! lost or doubled, and when there is room again all goes on. `tests/run` names these tests where the system permits no
//! mounts.

use taffrail_tests::agent::Agent;
use taffrail_tests::disk::SmallDisks;
use taffrail_tests::node::Node;
use taffrail_tests::verify::{self, Document};
use taffrail_tests::{eventually, seconds};

/// Waits until an agent has said something.
#[track_caller]
fn says(agent: &Agent, words: &str) {
    eventually(seconds(30), words, || {
        let said = agent.stderr();
        if said.contains(words) { Ok(()) } else { Err(said) }
    });
}

fn start(node: &Node, disks: &SmallDisks) -> Agent {
    Agent::start_by(&disks.entry(), &("join_timeout = \"200ms\"\n".to_owned() + &node.to_file()), node)
}

#[test]
fn a_full_state_directory_stops_no_delivery_and_a_kill_meanwhile_doubles_nothing() {
    let node = Node::new();
    let Some(disks) = SmallDisks::mount(&[&node.state()]) else { return };
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = start(&node, &disks);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    disks.fill(&node.state());
    web.writes(100);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    says(&agent, "cannot save positions");
    agent.kill9();
    web.writes(100).rotate().writes(100);
    // Nothing of the second hundred is known: a new file is not begun, nor an old one gone on with, before that is saved.
    let agent = start(&node, &disks);
    says(&agent, "cannot write; trying again");
    assert!(agent.stderr().contains("No space left"), "{}", agent.stderr());
    disks.free(&node.state());
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    disks.fill(&node.state());
    web.writes(100);
    says(&agent, "cannot save positions");
    disks.free(&node.state());
    says(&agent, "positions are saved again");
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("cannot save positions").count(), 1, "told once: {}", ended.stderr);
    verify::clean(&node.delivered().unwrap(), &[&web]);
}

#[test]
fn an_end_with_a_full_state_directory_is_told_and_the_next_start_doubles_nothing() {
    let node = Node::new();
    let Some(disks) = SmallDisks::mount(&[&node.state()]) else { return };
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = start(&node, &disks);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    disks.fill(&node.state());
    web.writes(100);
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("positions could not be saved at the end"), "{}", ended.stderr);
    disks.free(&node.state());
    web.writes(100);
    let agent = start(&node, &disks);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&node.delivered().unwrap(), &[&web]);
}

/// Where our clock ends a partial line is saved before the line is sent. Killed then, or gone on with, it is neither
/// doubled nor swallowed.
#[test]
fn a_partial_line_waits_for_room_in_the_state_directory_and_ends_once() {
    for is_killed in [false, true] {
        let node = Node::new();
        let Some(disks) = SmallDisks::mount(&[&node.state()]) else { return };
        let (mut web, mut other) = (node.pod("web").container("app"), node.pod("other").container("app"));
        other.writes(10);
        let mut agent = start(&node, &disks);
        verify::exactly_once(seconds(40), || node.delivered(), &[&other]);
        disks.fill(&node.state());
        web.writes_piece("stdout", 'P', b"the beginning, ");
        says(&agent, "cannot save where partial lines end");
        web.writes_piece("stdout", 'F', b"and the end");
        // Others are not held up by it.
        other.writes(10);
        verify::exactly_once(seconds(40), || node.delivered(), &[&other]);
        if is_killed {
            agent.kill9();
            disks.free(&node.state());
            agent = start(&node, &disks);
        } else {
            disks.free(&node.state());
        }
        let arrived = || -> Result<String, String> {
            let documents = node.delivered()?;
            Ok(documents.iter().filter(|document| document.is_of(&web)).map(Document::message).collect())
        };
        eventually(seconds(40), "the whole line", || {
            let text = arrived()?;
            if text == "the beginning, and the end" { Ok(()) } else { Err(text) }
        });
        assert_eq!(agent.terminate().code, Some(0));
        assert_eq!(arrived().unwrap(), "the beginning, and the end");
    }
}

#[test]
fn an_agent_does_not_begin_without_room_for_its_state_and_says_where_it_wants_it() {
    let node = Node::new();
    let Some(disks) = SmallDisks::mount(&[&node.state()]) else { return };
    let mut web = node.pod("web").container("app");
    web.writes(10);
    disks.fill(&node.state());
    let ended = start(&node, &disks).ends();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = &ended.stderr;
    assert!(said.contains("No space left") && said.contains(&*node.state().to_string_lossy()), "{said}");
    disks.free(&node.state());
    let _agent = start(&node, &disks);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}

#[test]
fn an_output_whose_disk_is_full_waits_for_room_and_another_goes_on() {
    let node = Node::new();
    let small = node.path().join("small");
    let Some(disks) = SmallDisks::mount(&[&small]) else { return };
    let config = format!(
        "{}\n[outputs.second]\ntype = \"file\"\npath = \"{}/{{namespace}}.ndjson\"\n",
        node.to_file(),
        small.display()
    );
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let mut agent = Agent::start_by(&disks.entry(), &config, &node);
    let on_small_disk = || verify::read_ndjson(&disks.inside(&small));
    verify::exactly_once(seconds(40), on_small_disk, &[&web]);
    for _ in 0..2 {
        disks.fill(&small);
        web.writes(2_000);
        says(&agent, "cannot write; trying again");
        assert!(agent.stderr().contains("No space left"), "{}", agent.stderr());
        verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
        // Killed with half a batch written, it goes on at what was acknowledged.
        agent.kill9();
        agent = Agent::start_by(&disks.entry(), &config, &node);
        says(&agent, "cannot write; trying again");
        disks.free(&small);
        verify::exactly_once(seconds(40), on_small_disk, &[&web]);
        says(&agent, "writing again");
    }
    assert_eq!(agent.terminate().code, Some(0));
    verify::clean(&on_small_disk().unwrap(), &[&web]);
    verify::clean(&node.delivered().unwrap(), &[&web]);
}
