//! Containers that the routes send here, or not, or no longer; and records that they do not send.

use super::*;
use crate::config::Config;

impl World {
    /// The same, with routes to the output.
    fn routed(mut self, routes: &str) -> World {
        let text = format!("{routes}\n[outputs.o]\ntype = \"stdout\"\n[outputs.p]\ntype = \"stdout\"\n");
        let config = Config::parse(&text, "f").unwrap_or_else(|error| panic!("{error}"));
        self.routes = Routes::of(&config, "o", None);
        self
    }

    /// Lets the worker do all that there is to be done.
    fn works(&self, worker: &mut Worker) {
        self.catalog.refresh(soon());
        worker.take_news();
        while worker.step() {}
        worker.tell_lag();
    }
}

const BY_LABEL: &str = "[[routes]]\nmatch = { labels.team = \"x\" }\noutputs = [\"o\"]\n";

#[test]
fn what_is_not_sent_here_is_let_go_of_at_once() {
    let world = World::with(&[
        ("a_b_u/app/0.log", &format!("{LINE} one\n")),
        ("a_b_u/side/0.log", &format!("{LINE} other\n")),
    ])
    .routed("[[routes]]\nmatch = { container = \"app\" }\noutputs = [\"o\"]\n");
    let mut worker = world.worker();
    world.works(&mut worker);
    assert_eq!(world.messages(), ["one"]);
    let side = worker.containers.iter().find(|c| !c.is_here()).expect("the other one");
    assert!(side.cursors.is_empty() && side.shelf.lag() == 0 && !side.has_readable());
    assert_eq!((worker.stats.containers().len(), worker.stats.nowhere()), (1, 1));
    // It goes with the file, and the output keeps nothing of it.
    fs::remove_file(world.log("a_b_u/side/0.log")).unwrap();
    world.works(&mut worker);
    world.phase.drain();
    assert!(worker.run());
    assert_eq!((worker.containers.len(), worker.stats.nowhere()), (1, 0));
}

#[test]
fn a_record_that_is_not_sent_is_counted_and_not_read_again() {
    let text =
        ["one", "DEBUG two", "three", "DEBUG four"].map(|message| format!("{LINE} {message}\n")).concat();
    let world = World::with(&[("a_b_u/app/0.log", &text)])
        .routed("[[routes]]\ndrop = { level = \"debug\" }\noutputs = [\"o\"]\n");
    let mut worker = world.worker();
    world.works(&mut worker);
    assert_eq!(world.messages(), ["one", "three"]);
    assert_eq!(acknowledged(&worker, 0), text.len() as u64);
    let told = |worker: &Worker| {
        let container = &worker.stats.containers()[0];
        (
            worker.stats.records_filtered.get(),
            container.records_filtered.get(),
            container.records_delivered.get(),
        )
    };
    assert_eq!(told(&worker), (2, 2, 2));
    let bytes = |worker: &Worker| {
        let container = &worker.stats.containers()[0];
        (container.delivered_bytes.get(), worker.stats.delivered_bytes.get(), worker.stats.passed_bytes.get())
    };
    // What was left out is no byte of what was delivered.
    let lines = "one\nthree\n".len() as u64;
    assert_eq!(bytes(&worker), (lines, lines, text.len() as u64));
    let mut again = world.worker();
    world.works(&mut again);
    assert_eq!((world.messages().len(), told(&again)), (2, (0, 0, 0)));
}

#[test]
fn nothing_is_counted_twice_that_is_set_back() {
    let text = ["DEBUG one", "two", "DEBUG three"].map(|message| format!("{LINE} {message}\n")).concat();
    let world = World::with(&[("a_b_u/app/0.log", &text)])
        .routed("[[routes]]\ndrop = { level = \"debug\" }\noutputs = [\"o\"]\n");
    let mut worker = world.worker();
    worker.round();
    let runs = send(&mut worker);
    land(&mut worker, runs, Fate::Parked);
    assert_eq!((acknowledged(&worker, 0), worker.stats.records_filtered.get()), (0, 0));
    worker.containers[0].parked = None;
    world.works(&mut worker);
    assert_eq!((acknowledged(&worker, 0), worker.stats.records_filtered.get()), (text.len() as u64, 2));
}

#[test]
fn a_container_that_may_be_sent_here_waits_until_that_is_known() {
    let world = World::with(&[("a_b_u/app/0.log", &format!("{LINE} one\n"))])
        .asking(Duration::from_secs(1))
        .routed(BY_LABEL);
    let mut worker = world.worker();
    world.works(&mut worker);
    assert_eq!((world.messages().len(), worker.stats.waiting_metadata()), (0, 1));
    assert!(matches!(worker.containers[0].waits, Waits::ForIt(_)));
    assert!(worker.containers[0].shelf.has_waiting(), "its file is wanted");
    world.tells("b", "x");
    world.works(&mut worker);
    assert_eq!((world.messages(), worker.stats.waiting_metadata()), (vec!["one".to_owned()], 0));
}

#[test]
fn a_container_comes_and_goes_with_its_label_and_every_line_that_is_there_when_it_comes_is_sent_once() {
    let path = "a_b_u/app/0.log";
    let world =
        World::with(&[(path, &format!("{LINE} one\n"))]).asking(Duration::from_secs(60)).routed(BY_LABEL);
    world.tells("b", "y");
    let mut worker = world.worker();
    world.works(&mut worker);
    assert_eq!((world.messages().len(), worker.stats.containers().len()), (0, 0));
    for (team, line, expected) in [
        ("x", "two", &["one", "two"][..]),
        ("y", "three", &["one", "two"]),
        ("z", "four", &["one", "two"]),
        ("x", "five", &["one", "two", "three", "four", "five"]),
    ] {
        world.tells("b", team);
        append(&world.log(path), &format!("{LINE} {line}\n"));
        world.works(&mut worker);
        assert_eq!(world.messages(), expected, "{team}");
        assert_eq!(worker.stats.containers().len(), usize::from(team == "x"));
    }
    // What is in flight when it goes lands, and another process goes on behind it.
    append(&world.log(path), &format!("{LINE} six\n"));
    world.catalog.refresh(soon());
    worker.take_news();
    worker.round();
    let runs = send(&mut worker);
    world.tells("b", "y");
    worker.take_news();
    assert_eq!(worker.containers[0].cursors.len(), 1);
    land(&mut worker, runs, Fate::Acknowledged);
    assert!(worker.containers[0].cursors.is_empty());
    append(&world.log(path), &format!("{LINE} seven\n"));
    let mut again = world.worker();
    world.works(&mut again);
    assert_eq!(world.messages().len(), 5);
    world.tells("b", "x");
    world.works(&mut again);
    assert_eq!(world.messages()[5..], ["seven"]);
}

#[test]
fn after_a_fault_what_was_not_here_is_where_it_belongs() {
    let world = World::with(&[("a_b_u/app/0.log", &format!("{LINE} one\n"))])
        .asking(Duration::from_secs(60))
        .routed(BY_LABEL);
    world.tells("b", "y");
    let mut worker = world.worker();
    worker.begin_again().unwrap();
    world.works(&mut worker);
    assert!(world.messages().is_empty());
    // Nobody had told the worker before it failed.
    world.tells("b", "x");
    worker.begin_again().unwrap();
    world.works(&mut worker);
    assert_eq!(world.messages(), ["one"]);
}
