//! Reload: another configuration takes the place of the one that runs, whole or not at all.
//!
//! In: contents of the configuration's file. Out: configurations that are to run, and what became of them in the log: once
//! for each content, and once more for who asks. What cannot run is told and the old one kept. The swap is the end of one
//! agent and the start of another over the same state directory, and takes as long as what is under way takes to be
//! settled. Never looks at the file itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::source::{Content, Reading, Source};
use crate::command::check::obstacles;
use crate::config::{Changes, Config, Diagnostics};
use crate::pipeline::{Agent, Carried, Hasten, PutOff, StartError, memory_shares};
use crate::stats::Reloads;

/// How long what is under way may take to be settled.
const SETTLE: Duration = Duration::from_secs(5);

/// After what time a configuration that could not take over is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The same where each try stops the agent for a moment: doubled up to this.
const RETRY_AT_MOST: Duration = Duration::from_secs(600);

/// The configuration that an agent last ran with here, for `taffrail check` to compare with. Without secrets, since a
/// configuration has none.
pub const LAST_RUN: &str = "configuration.toml";

/// A configuration with the text that it was read from.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The bytes of its file; empty without one.
    pub bytes: Vec<u8>,
}

impl Loaded {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
        Loaded::parse(Config::read(path)?, path)
    }

    fn parse(bytes: Vec<u8>, path: &Path) -> Result<Loaded, Diagnostics> {
        Ok(Loaded { config: Config::parse_bytes(bytes.clone(), path)?, bytes })
    }

    /// What is different in another one.
    pub fn changes_to(&self, new: &Loaded) -> Changes {
        // Both were parsed, so that they are UTF-8.
        let [old_text, new_text] =
            [self, new].map(|loaded| std::str::from_utf8(&loaded.bytes).unwrap_or_default());
        Changes::between(&self.config, old_text, &new.config, new_text)
    }
}

/// The agent between two swaps.
#[derive(Debug)]
pub enum Life {
    /// It runs.
    Agent(Box<Agent>),
    /// None runs, since neither the new configuration nor the old one could be started: what the last one left.
    Down(Carried),
}

impl Life {
    /// For ending a swap that is under way sooner.
    pub fn hasten(&self) -> Option<Hasten> {
        match self {
            Life::Agent(agent) => Some(agent.hasten()),
            Life::Down(_) => None,
        }
    }
}

/// What became of a swap.
#[derive(Debug)]
pub enum Swapped {
    /// The new configuration runs.
    Done(Agent),
    /// The old agent goes on: it could not give way.
    PutOff(Box<Agent>, PutOff),
    /// The new one could not be started; an agent by the old configuration runs again.
    Back(Agent, StartError),
    /// Neither could be started.
    Down(Carried, StartError, StartError),
}

/// Takes the agent that runs by `old` down and starts one by `new`. Blocks for as long as that takes.
pub fn swap(life: Life, old: &Config, new: &Config) -> Swapped {
    let carried = match life {
        Life::Down(carried) => carried,
        Life::Agent(agent) => match agent.give_way(SETTLE) {
            Ok(carried) => carried,
            Err((agent, reason)) => return Swapped::PutOff(agent, reason),
        },
    };
    let reason = match Agent::follow(new, &carried) {
        Ok(agent) => return Swapped::Done(agent),
        Err(reason) => reason,
    };
    match Agent::follow(old, &carried) {
        Ok(agent) => Swapped::Back(agent, reason),
        Err(also) => Swapped::Down(carried, reason, also),
    }
}

/// A configuration that is to run.
#[derive(Debug)]
pub struct Wanted {
    /// It.
    pub new: Loaded,
    changes: Changes,
    /// When it is tried next, and the pause after that.
    at: Instant,
    pause: Duration,
    /// Its trouble has been told, and counted.
    told: bool,
    counted: bool,
}

/// Which configuration runs, and which should.
#[derive(Debug)]
pub struct Reload {
    path: PathBuf,
    /// What runs.
    pub running: Loaded,
    source: Option<Source>,
    contents: UnboundedReceiver<Content>,
    wanted: Option<Wanted>,
    /// What was in the file and could not be taken.
    refused: Option<Reading>,
    /// How often it was tried.
    pub counts: Arc<Reloads>,
}

impl Reload {
    /// Watches the file that `running` was read from; nothing will ever come where there is none. What it does is counted.
    pub fn watch(path: Option<&Path>, running: Loaded, counts: Arc<Reloads>) -> io::Result<Reload> {
        let (tell, contents) = unbounded_channel();
        let source = path.map(|path| Source::watch(path, running.bytes.clone(), tell)).transpose()?;
        let reload = Reload {
            path: path.unwrap_or(Path::new("")).to_owned(),
            running,
            source,
            contents,
            wanted: None,
            refused: None,
            counts,
        };
        reload.remember();
        Ok(reload)
    }

    /// Reads the file again; false if there is none.
    pub fn ask(&self) -> bool {
        self.source.iter().for_each(Source::ask);
        self.source.is_some()
    }

    /// Waits for a configuration that can take the place of the one that runs. `down`: none runs.
    pub async fn next(&mut self, down: bool) -> Wanted {
        loop {
            let at = self.wanted.as_ref().map(|wanted| wanted.at);
            tokio::select! {
                Some(content) = self.contents.recv() => self.judge(content),
                () = sleep_until(at), if at.is_some() => {}
            }
            if down && self.wanted.is_none() {
                let (new, changes) = (self.running.clone(), Changes::default());
                self.want(new, changes);
            }
            if let Some(wanted) = self.wanted.take_if(|wanted| wanted.at <= Instant::now()) {
                match obstacles(&wanted.new.config) {
                    obstacles if obstacles.is_empty() => return wanted,
                    obstacles => self.try_again(wanted, RETRY, &obstacles.join("; ")),
                }
            }
        }
    }

    fn want(&mut self, new: Loaded, changes: Changes) {
        self.wanted =
            Some(Wanted { new, changes, at: Instant::now(), pause: RETRY, told: false, counted: false });
    }

    fn judge(&mut self, content: Content) {
        let Content { reading, asked } = content;
        if reading.as_ref() == Ok(&self.running.bytes) {
            let other = self.wanted.take().is_some() | self.refused.take().is_some();
            if other {
                tracing::info!(file = %self.path.display(), "the configuration is the one that runs again");
            } else if asked {
                tracing::info!(file = %self.path.display(), "the configuration has not changed");
            }
            return;
        }
        if let Some(wanted) = self.wanted.as_mut().filter(|wanted| reading.as_ref() == Ok(&wanted.new.bytes))
        {
            (wanted.at, wanted.told) = (Instant::now(), wanted.told && !asked);
            return;
        }
        let checked = reading.clone().and_then(|bytes| Loaded::parse(bytes, &self.path));
        let new = match checked {
            Ok(new) => new,
            Err(problems) => return self.refuse(reading, asked, &problems.to_string()),
        };
        if let Err(error) = memory_shares(&new.config) {
            return self.refuse(reading, asked, &error.to_string());
        }
        let changes = self.running.changes_to(&new);
        if !changes.only_by_restart.is_empty() {
            let why = format!(
                "only a restart of the agent can change {}: records are known, and positions found, by these",
                changes.only_by_restart.join(", ")
            );
            return self.refuse(reading, asked, &why);
        }
        self.refused = None;
        self.want(new, changes);
    }

    fn refuse(&mut self, reading: Reading, asked: bool, why: &str) {
        self.wanted = None;
        let again = self.refused.as_ref() == Some(&reading);
        self.refused = Some(reading);
        if !again {
            self.counts.failed.add(1);
            let why = on_one_line(why);
            tracing::error!(file = %self.path.display(), "the new configuration is refused, the old one is kept: {why}");
        } else if asked {
            tracing::error!(file = %self.path.display(), "the configuration is still the one that was refused; the old one is kept");
        }
    }

    fn try_again(&mut self, mut wanted: Wanted, after: Duration, why: &str) {
        if !std::mem::replace(&mut wanted.counted, true) {
            self.counts.failed.add(1);
        }
        if !std::mem::replace(&mut wanted.told, true) {
            let why = on_one_line(why);
            tracing::error!(file = %self.path.display(),
                "the new configuration cannot run yet, the old one is kept; trying again and again: {why}");
        }
        wanted.at = Instant::now() + after;
        self.wanted = Some(wanted);
    }

    /// It needed no stop: it runs.
    pub fn is_light(&self, wanted: &Wanted) -> bool {
        !wanted.changes.stops_pipeline
    }

    /// The configuration runs.
    pub fn succeeded(&mut self, wanted: Wanted) {
        let changes = wanted.changes.to_string();
        self.running = wanted.new;
        self.remember();
        if changes.is_empty() {
            tracing::info!(file = %self.path.display(), "the configuration is written otherwise, and says the same");
        } else {
            self.counts.succeeded.add(1);
            tracing::info!(file = %self.path.display(), changes, "reloaded the configuration");
        }
    }

    /// What a swap has come to.
    pub fn swapped(&mut self, mut wanted: Wanted, swapped: Swapped) -> Life {
        match swapped {
            Swapped::Done(agent) => {
                self.succeeded(wanted);
                Life::Agent(Box::new(agent))
            }
            Swapped::PutOff(agent, PutOff::Hastened) => Life::Agent(agent),
            Swapped::PutOff(agent, reason) => {
                let pause = wanted.pause;
                wanted.pause = (pause * 2).min(RETRY_AT_MOST);
                self.try_again(wanted, pause, &reason.to_string());
                Life::Agent(agent)
            }
            Swapped::Back(agent, reason) => {
                self.refuse(Ok(wanted.new.bytes), false, &reason.to_string());
                Life::Agent(Box::new(agent))
            }
            Swapped::Down(carried, reason, also) => {
                tracing::error!(%reason, old = %also, "neither the new configuration nor the old one can be started: nothing is read, and both are tried again every ten seconds");
                self.try_again(wanted, RETRY, &reason.to_string());
                Life::Down(carried)
            }
        }
    }

    /// Leaves what runs in the state directory.
    fn remember(&self) {
        let path = self.running.config.state_dir.join(LAST_RUN);
        if self.source.is_none() {
            // The defaults are nobody's text. Most often there is none.
            let _ = std::fs::remove_file(path);
        } else if let Err(error) = crate::position::replace(&path, &self.running.bytes) {
            tracing::warn!(path = %path.display(), %error, "cannot note which configuration runs: `taffrail check` will compare with another");
        }
    }
}

/// What is shown on several lines on one: as a pod's log each line would be a record.
fn on_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !matches!(*line, "" | "|"));
    lines.collect::<Vec<_>>().join(" ")
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_that_is_shown_in_its_line_is_told_on_one() {
        let problems = Loaded::parse(b"keeep = 3\n".to_vec(), Path::new("t.toml")).unwrap_err().to_string();
        let told = on_one_line(&problems);
        assert!(problems.lines().count() > 3 && told.lines().count() == 1, "{told}");
        assert!(told.starts_with("error: ") && told.contains(" --> t.toml:1:1 1 | keeep = 3 | "), "{told}");
    }
}
