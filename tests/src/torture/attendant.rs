//! Who starts, ends and kills the agent of a torture, and listens to what it says.
//!
//! What comes in: a configuration and orders. What goes out: an agent that runs when it is wanted, and what it did that it
//! should not have done. It never looks at what is delivered.

use crate::agent::{Agent, Ended};
use crate::node::Node;
use crate::seconds;
use std::fs;
use std::time::{Duration, Instant};

/// How long an agent must have run for it to have seen what was there before: it looks everywhere every two seconds.
const SEEN_AFTER: Duration = seconds(5);

/// What an agent must not say.
const FAULTS: [&str; 6] = [
    "bug in Taffrail",
    "panicked",
    "these bytes are lost",
    "the damage is lost",
    "read of it is lost",
    "never sent before",
];

/// See the module.
#[derive(Default)]
pub(super) struct Attendant {
    /// What the agent is started by.
    way: Vec<String>,
    config: String,
    agent: Option<Agent>,
    /// Since when it runs undisturbed; `None` once it was asked to end.
    since: Option<Instant>,
    wanted: bool,
    /// What was there by then an agent has seen.
    pub seen_until: Option<Instant>,
    /// Its state directory has no room, or had none until then: that may keep it from starting.
    state_is_full: bool,
    state_was_full: Option<Instant>,
    pub starts: usize,
    pub kills: usize,
    pub terms: usize,
    /// Starts that it refused for want of room.
    pub refused: usize,
    faults: Vec<String>,
}

impl Attendant {
    pub fn new(way: Vec<String>, config: String) -> Attendant {
        Attendant { way, config, ..Attendant::default() }
    }

    /// Starts it; one that is ending is waited for.
    pub fn starts(&mut self, node: &Node) {
        self.wanted = true;
        if self.agent.is_none() {
            self.starts += 1;
            self.since = Some(Instant::now());
            self.agent = Some(Agent::start_by(&self.way, &self.config, node));
        }
    }

    /// Kills it, wherever it is.
    pub fn kills(&mut self, node: &Node) {
        // One that has just ended by itself is not killed.
        self.looks(node);
        self.wanted = false;
        // Killed when it goes.
        if self.agent.take().is_some() {
            self.kills += 1;
        }
    }

    /// Asks it to end.
    pub fn asks_to_end(&mut self) {
        self.wanted = false;
        if let (Some(agent), Some(_)) = (&self.agent, self.since.take()) {
            self.terms += 1;
            agent.ask_to_end();
        }
    }

    /// Whether it is there, and be it that it is ending.
    pub fn runs(&self) -> bool {
        self.agent.is_some()
    }

    /// The state directory has no room from now on, or has.
    pub fn state_is_full(&mut self, full: bool) {
        self.state_is_full = full;
        self.state_was_full = Some(Instant::now());
    }

    /// Sees whether it has ended, and starts it again if it is wanted.
    pub fn looks(&mut self, node: &Node) {
        if let Some(mut agent) = self.agent.take() {
            if agent.runs() {
                self.agent = Some(agent);
                if self.since.is_some_and(|since| since.elapsed() > SEEN_AFTER) {
                    self.seen_until = Instant::now().checked_sub(SEEN_AFTER);
                }
                return;
            }
            self.has_ended(agent.ends());
        }
        if self.wanted {
            self.starts(node);
        }
    }

    fn has_ended(&mut self, ended: Ended) {
        let was_full = self.state_is_full || self.state_was_full.is_some_and(|at| at.elapsed() < seconds(1));
        match ended.code {
            Some(0) if self.since.is_none() => {}
            // Asked before it could listen.
            None if self.since.is_none() && ended.stderr.is_empty() => {}
            Some(1) if was_full && ended.stderr.contains("No space left") => self.refused += 1,
            code => {
                let lines: Vec<&str> = ended.stderr.lines().collect();
                let last = lines[lines.len().saturating_sub(5)..].join(" / ");
                self.faults.push(format!("the agent ended with {code:?}: {last}"));
            }
        }
    }

    /// What agents did and said that they should not have.
    pub fn faults(&self, node: &Node) -> Vec<String> {
        let mut faults = self.faults.clone();
        for (agent, said) in words(node) {
            for line in said.lines() {
                let lost = line.split("lost_bytes=").nth(1).and_then(|rest| rest.split(' ').next());
                if FAULTS.iter().any(|words| line.contains(words)) || lost.is_some_and(|bytes| bytes != "0") {
                    faults.push(format!("{agent}: {line}"));
                }
            }
        }
        faults
    }
}

/// What each agent of the node said.
fn words(node: &Node) -> Vec<(String, String)> {
    let entries = fs::read_dir(node.path()).into_iter().flatten().flatten();
    let said = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "stderr"));
    let mut words: Vec<(String, String)> = said
        .map(|entry| {
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default()).into_owned();
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    words.sort();
    words
}
