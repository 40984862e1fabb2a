//! What every test here needs: a space on a server, a node, a counting proxy between, and the sum at the end.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use taffrail_tests::agent::Agent;
use taffrail_tests::http::Request;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::proxy::{Action, Proxy};
use taffrail_tests::space::{Space, Target};
use taffrail_tests::verify::Document;
use taffrail_tests::{seconds, verify};

/// How long everything may take to arrive. A container that a server refused is tried again after up to a minute.
pub const PATIENCE: std::time::Duration = seconds(180);

/// A test's world. The agent's requests go through the proxy, so that what was answered is known.
pub struct Trial<'s> {
    pub space: Space<'s>,
    pub node: Node,
    pub proxy: Proxy,
}

impl<'s> Trial<'s> {
    /// With a proxy that only counts.
    pub fn new(space: Space<'s>) -> Trial<'s> {
        Trial::ruled(space, |_, _| Action::Forward)
    }

    /// With a proxy that spoils requests by a rule.
    pub fn ruled(
        space: Space<'s>,
        rule: impl FnMut(usize, &Request) -> Action + Send + 'static,
    ) -> Trial<'s> {
        let proxy = Proxy::open(space.server.address(), rule);
        Trial { space, node: Node::new(), proxy }
    }

    /// A container of a pod in a namespace of its own name.
    pub fn container(&self, name: &str) -> Container {
        self.node.pod(name).namespace(name).container("app")
    }

    /// The agent's configuration; further keys of the output may be added to its end.
    pub fn config(&self, target: Target) -> String {
        let name = match target {
            Target::Indices => "{date}",
            Target::DataStreams => "all",
        };
        self.config_to(target, name)
    }

    /// The same for indices or data streams `<prefix>-<name>`.
    pub fn config_to(&self, target: Target, name: &str) -> String {
        self.space.config_at(&self.node, self.proxy.address(), target, name)
    }

    /// Starts an agent.
    pub fn agent(&self, config: &str) -> Agent {
        Agent::start(config, &self.node)
    }

    /// Waits until every line is there, and asserts that it is so exactly once.
    #[track_caller]
    pub fn arrives(&self, containers: &[&Container]) -> Vec<Document> {
        verify::exactly_once(PATIENCE, || self.space.documents(), containers)
    }

    /// Ends the agent, and asserts that the counts add up: what was written is stored or a dead letter; every stored
    /// document was answered 201 once; what was answered 201 is stored. Then the counts go into the table.
    #[track_caller]
    pub fn adds_up(&self, agent: Agent, containers: &[&Container], dead: usize, behaviour: &str) {
        let ended = agent.terminate();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let documents = self.space.documents().expect("the documents");
        let written: usize = containers.iter().map(|container| container.written().len()).sum();
        let tally = self.proxy.tally();
        assert_eq!(written, documents.len() + dead, "written = stored + dead letters; {tally:?}");
        assert_eq!(tally.items(201), documents.len(), "answered 201 = stored; {tally:?}");
        self.enter(written, documents.len(), dead, behaviour);
    }

    /// Enters the counts into the table.
    pub fn enter(&self, written: usize, stored: usize, dead: usize, behaviour: &str) {
        let tally = self.proxy.tally();
        let list = |counts: &std::collections::BTreeMap<u16, usize>| {
            counts.iter().map(|(status, count)| format!("{status}: {count}")).collect::<Vec<_>>().join(", ")
        };
        let line = format!(
            "| {behaviour} | {} | {written} | {stored} | {dead} | {} | {} |\n",
            self.space.server.kind().name(),
            list(&tally.items),
            list(&tally.requests),
        );
        print!("{line}");
        let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("servers.table");
        let table = OpenOptions::new().create(true).append(true).open(table);
        // In one call: other tests append at the same time.
        table.and_then(|mut table| table.write_all(line.as_bytes())).expect("to write the table");
    }
}
