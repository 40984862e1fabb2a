//! `taffrail dead-letter`: the records that a destination refused, to look at and to send again.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// How long a destination that does not take a request is asked again before a replay ends: somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at what keeps a request.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
    let (stop, stopped) = watch::channel(Stop::No);
    let client =
        Elasticsearch::new(name, output, again, None, stats.clone(), stopped).map_err(|e| e.to_string())?;
    resend(name, letters, &stats, &stop, async |some| client.deliver(dead_letter::sealed(some), None).await)
}

/// The same for CloudWatch. What is still too old or too new stays, unless the output sends it with the time now.
fn replay_events(
    name: &str,
    output: &CloudWatchConfig,
    letters: &DeadLetters,
    again: DeadLetters,
) -> Result<(), String> {
    let stats = Arc::new(OutputStats::default());
    let (stop, stopped) = watch::channel(Stop::No);
    // What is rejected once more is not to be dropped by a replay.
    let rejected = if output.rejected == Rejected::Now { Rejected::Now } else { Rejected::DeadLetter };
    let output = CloudWatchConfig { rejected, ..output.clone() };
    let mut sender = Sender::new(Arc::new(CloudWatch::new(name, &output, again, stats.clone(), stopped)));
    resend(name, letters, &stats, &stop, async |some| sender.send(events(some)).await)
}

/// Takes all letters aside and delivers them, so many at a time. It is an error where some of them stay.
fn resend(
    name: &str,
    letters: &DeadLetters,
    stats: &OutputStats,
    stop: &watch::Sender<Stop>,
    mut deliver: impl AsyncFnMut(&[Letter]) -> Settled,
) -> Result<(), String> {
    let aside = letters.begin_replay().map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    if !aside.is_empty() {
        eprintln!("{name}: {} to be sent again", aside.len());
    }
    for some in aside.chunks(AT_ONCE) {
        let settled = runtime.block_on(patiently(name, stats, stop, PATIENCE, deliver(some)));
        if settled.runs.iter().any(|(_, fate)| *fate != Fate::Acknowledged) || !settled.lost.is_empty() {
            let why = stats.last_error().unwrap_or_default();
            return Err(format!("the destination does not take them now ({why}); they are kept"));
        }
    }
    letters.end_replay().map_err(|e| e.to_string())?;
    let refused = stats.refused.get();
    println!("{name}: {} sent again, {refused} refused once more", aside.len());
    if refused > 0 {
        return Err(format!(
            "{refused} of {} were refused once more, and are kept; `taffrail dead-letter list` says why",
            aside.len()
        ));
    }
    Ok(())
}

/// Waits for a delivery, tells what keeps it, and after `patience` with that gives it up.
async fn patiently(
    name: &str,
    stats: &OutputStats,
    stop: &watch::Sender<Stop>,
    patience: Duration,
    delivery: impl Future<Output = Settled>,
) -> Settled {
    let mut delivery = pin!(delivery);
    let retries = stats.retries.get();
    let (mut since, mut told) = (None, None);
    loop {
        if let Ok(settled) = tokio::time::timeout(LOOK_EVERY, delivery.as_mut()).await {
            return settled;
        }
        if stats.retries.get() == retries {
            continue;
        }
        let since = *since.get_or_insert_with(Instant::now);
        let trouble = stats.last_error();
        if trouble != told {
            let what = trouble.as_deref().unwrap_or_default();
            eprintln!("{name}: {what}; trying again for up to {} s", patience.as_secs());
            told = trouble;
        }
        if since.elapsed() >= patience {
            stop.send_replace(Stop::Now);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_destination_that_takes_nothing_is_given_up() {
        let stats = OutputStats::default();
        let (stop, mut stopped) = watch::channel(Stop::No);
        let delivery = async {
            stats.fail("nobody is there");
            stats.retries.add(1);
            let ended = stopped.wait_for(|stop| *stop == Stop::Now).await.is_ok();
            assert!(ended);
            Settled { runs: Vec::new(), spare: Vec::new(), lost: Vec::new() }
        };
        let settled = patiently("search", &stats, &stop, Duration::ZERO, delivery);
        assert!(tokio::time::timeout(Duration::from_secs(60), settled).await.is_ok());
    }
}
