//! `taffrail dead-letter`: the records that a destination refused, to look at and to send again.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use tokio::sync::watch;

use super::configured;
use crate::batch::Sealed;
use crate::batch::events::Event;
use crate::config::{CloudWatchConfig, ElasticsearchConfig, OutputConfig, Rejected};
use crate::output::cloudwatch::{CloudWatch, Sender, rejected};
use crate::output::dead_letter::{self, DeadLetters, Letter};
use crate::output::elasticsearch::Elasticsearch;
use crate::output::{Fate, Settled, Stop};
use crate::stats::OutputStats;

/// Records sent in one request of a replay.
const AT_ONCE: usize = 500;

/// What to do with the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Action {
    /// Show what was refused and why, a JSON object on a line
    List,
    /// Send it again; what is refused once more stays
    Replay,
}

/// Lists or replays the dead letters of every output in the configuration.
pub fn dead_letter(path: Option<&Path>, action: Action) -> ExitCode {
    let config = match configured(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut code = ExitCode::SUCCESS;
    for (name, output) in &config.outputs {
        let bound = match output {
            OutputConfig::Elasticsearch(output) => output.dead_letters,
            OutputConfig::CloudWatch(output) => output.dead_letters,
            OutputConfig::File(_) | OutputConfig::Stdout(_) => continue,
        };
        let letters = || DeadLetters::new(&config.state_dir, name, bound);
        let result = match (action, output) {
            (Action::List, _) => list(&letters()),
            (Action::Replay, OutputConfig::Elasticsearch(output)) => {
                replay(name, output, &letters(), letters())
            }
            (Action::Replay, OutputConfig::CloudWatch(output)) => {
                replay_events(name, output, &letters(), letters())
            }
            (Action::Replay, _) => Ok(()),
        };
        if let Err(error) = result {
            eprintln!("error: the dead letters of `{name}`: {error}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn list(letters: &DeadLetters) -> Result<(), String> {
    for letter in letters.list().map_err(|e| e.to_string())? {
        println!("{}", serde_json::to_string(&letter).map_err(|e| e.to_string())?);
    }
    Ok(())
}

/// Sends `letters` again; what is refused once more is appended to `again`, the same letters in the client's hands.
fn replay(
    name: &str,
    output: &ElasticsearchConfig,
    letters: &DeadLetters,
    again: DeadLetters,
) -> Result<(), String> {
    let stats = Arc::new(OutputStats::default());
    let (_never, stop) = watch::channel(Stop::No);
    let client =
        Elasticsearch::new(name, output, again, None, stats.clone(), stop).map_err(|e| e.to_string())?;
    resend(name, letters, &stats, async |some| client.deliver(dead_letter::sealed(some), None).await)
}

/// The same for CloudWatch. What is still too old or too new stays, unless the output sends it with the time now.
fn replay_events(
    name: &str,
    output: &CloudWatchConfig,
    letters: &DeadLetters,
    again: DeadLetters,
) -> Result<(), String> {
    let stats = Arc::new(OutputStats::default());
    let (_never, stop) = watch::channel(Stop::No);
    // What is rejected once more is not to be dropped by a replay.
    let rejected = if output.rejected == Rejected::Now { Rejected::Now } else { Rejected::DeadLetter };
    let output = CloudWatchConfig { rejected, ..output.clone() };
    let mut sender = Sender::new(Arc::new(CloudWatch::new(name, &output, again, stats.clone(), stop)));
    resend(name, letters, &stats, async |some| sender.send(events(some)).await)
}

/// Takes all letters aside and delivers them, so many at a time.
fn resend(
    name: &str,
    letters: &DeadLetters,
    stats: &OutputStats,
    mut deliver: impl AsyncFnMut(&[Letter]) -> Settled,
) -> Result<(), String> {
    let aside = letters.begin_replay().map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    for some in aside.chunks(AT_ONCE) {
        let settled = runtime.block_on(deliver(some));
        if settled.runs.iter().any(|(_, fate)| *fate != Fate::Acknowledged) || !settled.lost.is_empty() {
            let why = stats.last_error().unwrap_or_default();
            return Err(format!("the destination does not take them now ({why}); they are kept"));
        }
    }
    letters.end_replay().map_err(|e| e.to_string())?;
    println!("{name}: {} sent again, {} refused once more", aside.len(), stats.refused.get());
    Ok(())
}

fn events(letters: &[Letter]) -> Sealed {
    let mut sealed = dead_letter::batch(Vec::new(), letters.len());
    let found = &mut sealed.events;
    for (item, letter) in letters.iter().enumerate() {
        let number = |known: &mut Vec<Arc<str>>, text: &str| {
            known.iter().position(|one| **one == *text).unwrap_or_else(|| {
                known.push(text.into());
                known.len() - 1
            }) as u32
        };
        let (time, text) = rejected::event(letter);
        found.list.push(Event {
            time,
            begin: sealed.body.len() as u32,
            length: text.len() as u32,
            item: item as u32,
            target: number(&mut found.targets, &letter.index),
            meta: letter.meta.as_ref().map(|meta| number(&mut found.metas, meta)),
        });
        sealed.body.extend_from_slice(text.as_bytes());
    }
    sealed
}
