//! A torture of the agent: containers write, rotate, restart and go; ways, servers and disks fail; the agent is killed
//! again and again; and at the end every line is looked for in every destination.
//!
//! What comes in: a seed. What goes out: an [`Outcome`] with a line of counts. What happens when is drawn from the seed
//! alone ([`schedule`]) and written down; how far the agent has come by then is not, so that a run that is repeated is
//! alike but not the same.

mod attendant;
mod delivered;
pub mod judge;
pub mod lines;
pub mod mood;
pub mod schedule;
mod stage;
mod world;

use crate::server::Server;
use judge::Verdict;
use schedule::{Plan, schedule};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use world::World;

/// What a torture is made of.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What all is drawn from.
    pub seed: u64,
    /// How long things happen.
    pub length: Duration,
    /// Whether logs go as kubelet lets them go, unread too, once the agent has seen them: it must have kept them. Else
    /// they go when they are delivered.
    pub any_time: bool,
    /// Whether the server is killed now and then: it is nobody else's.
    pub server_dies: bool,
}

/// How a torture ended.
#[derive(Debug)]
pub struct Outcome {
    /// The counts, in one line.
    pub line: String,
    /// Whether something was wrong.
    pub failed: bool,
    /// What was wrong, or is to be looked at.
    pub faults: Vec<String>,
    /// Where the logs, the agent's words and the list of events are kept, if there is something to be looked at.
    pub kept: Option<PathBuf>,
}

/// The events of a torture, as it writes them down.
pub fn events(options: &Options) -> Vec<String> {
    let (lives, events) = schedule(&plan(options));
    let lives = lives.iter().enumerate().map(|(number, life)| format!("life {number}: {life:?}"));
    lives
        .chain(events.iter().map(|event| format!("{:>9.3} {:?}", event.at.as_secs_f64(), event.what)))
        .collect()
}

fn plan(options: &Options) -> Plan {
    Plan { seed: options.seed, length: options.length, server_dies: options.server_dies }
}

/// Runs one.
///
/// # Panics
/// When its own world breaks: a server that does not start, a disk that cannot be written to.
pub fn run(options: &Options, server: &Server) -> Outcome {
    let (lives, events) = schedule(&plan(options));
    std::thread::scope(|threads| {
        let mut world = World::new(options, lives, server, threads);
        let begun = Instant::now();
        for event in &events {
            world.wait_until(begun + event.at);
            world.applies(event);
        }
        world.calms_down();
        let patience = Duration::from_secs(180) + options.length;
        world.catches_up(patience);
        let verdicts = world.ends();
        outcome(options, world, verdicts)
    })
}

fn outcome(options: &Options, world: World, verdicts: Vec<(&'static str, Verdict)>) -> Outcome {
    let mut faults = world.faults();
    let sum = |count: fn(&Verdict) -> u64| verdicts.iter().map(|(_, verdict)| count(verdict)).sum::<u64>();
    for (name, verdict) in &verdicts {
        if !verdict.is_clean() {
            let (missing, doubled, wrong) = (verdict.missing, verdict.doubled, verdict.wrong);
            faults.push(format!("{name}: {missing} missing, {doubled} doubled, {wrong} wrong"));
        }
        faults.extend(verdict.examples.iter().filter(|_| !verdict.is_clean() || verdict.across > 0).cloned());
    }
    let failed = !world.faults().is_empty() || verdicts.iter().any(|(_, verdict)| !verdict.is_clean());
    let stored: Vec<String> =
        verdicts.iter().map(|(name, verdict)| format!("{name}:{}", verdict.stored)).collect();
    let line = format!(
        "{} seed={} seconds={} {} stored={} missing={} doubled={} wrong={} across_rollovers={} out_of_order={}",
        if failed { "FAILED" } else { "ok" },
        options.seed,
        options.length.as_secs(),
        world.counts(),
        stored.join(","),
        sum(|verdict| verdict.missing),
        sum(|verdict| verdict.doubled),
        sum(|verdict| verdict.wrong),
        sum(|verdict| verdict.across),
        sum(|verdict| verdict.out_of_order),
    );
    let kept = if failed || sum(|verdict| verdict.across) > 0 { Some(world.keeps()) } else { None };
    Outcome { line, failed, faults, kept }
}
