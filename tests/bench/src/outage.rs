//! Scenario `outage`: many containers with a backlog, and a server that is away for long and then back.
//!
//! In: the backlog, with lines of 1 MiB in it, and how long the server is away. Out: the agent's memory before the
//! server is back and at the end: it must not depend on either. Every record must arrive.

use crate::Outcome;
use crate::agent::Compression;
use crate::clock::{Nanos, Stamp};
use crate::corpus::{self, Plan, log_path};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, number, table};
use crate::sink::Presence;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The backlog; its long lines come on top.
    pub plan: Plan,
    /// Every so many containers has lines of 1 MiB at the end.
    pub long_every: u64,
    /// How long the server is away.
    pub away: Duration,
    /// What it does meanwhile.
    pub presence: Presence,
    /// How the agent sends.
    pub compression: Compression,
    /// Runs.
    pub repetitions: u32,
}

/// Runs it `repetitions` times and prints the table.
pub fn run(bench: &Bench, request: &Request) -> Outcome<()> {
    let corpus = corpus::prepare(&bench.cache, &request.plan)?;
    let mut samples: [Samples; 4] = Default::default();
    for repetition in 1..=request.repetitions {
        let folder = bench.folder()?;
        let pods = folder.path().join("pods");
        let long = with_long_lines(&corpus.pods, &pods, request)?;
        let records = corpus.records + long;
        let failed = |error| format!("outage, run {repetition}: {error}");
        let mut run = bench.start_away(&pods, folder.path(), request.compression, request.presence)?;
        run.watch(request.away / 2).map_err(failed)?;
        let half = run.peak_rss()?;
        run.watch(request.away / 2).map_err(failed)?;
        let away = run.peak_rss()?;
        let begun = run.elapsed();
        run.sink.comes_back();
        run.wait_for(records).map_err(failed)?;
        let values = [half, away, run.peak_rss()?, (run.elapsed() - begun).as_secs_f64()];
        run.finish(records).map_err(failed)?;
        eprintln!("{repetition}/{}: {values:.1?}", request.repetitions);
        samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
    }
    let [half, away, end, seconds] = samples;
    let Request { plan, away: time, compression, repetitions, .. } = request;
    let head = [
        "containers",
        "backlog MiB",
        "peak RSS MiB after half the outage",
        "after it",
        "at the end",
        "s to catch up",
    ];
    let row = vec![
        plan.containers.to_string(),
        number(corpus.bytes as f64 / MIB as f64, 0),
        half.show(1),
        away.show(1),
        end.show(1),
        seconds.show(1),
    ];
    println!("{}", table(&head, &[row]));
    println!(
        "two lines of 1 MiB in every {}th container, server away for {} s ({}), compression {},",
        request.long_every,
        time.as_secs(),
        format!("{:?}", request.presence).to_lowercase(),
        compression.name()
    );
    println!("all confirmed; median (lowest–highest) of {repetitions}; {}.\n", machine());
    println!("    {}", command_line());
    Ok(())
}

/// The corpus again, by hard links, but for the containers that get long lines; how many lines that is.
fn with_long_lines(corpus: &Path, pods: &Path, request: &Request) -> Outcome<u64> {
    let Plan { containers, seed, .. } = request.plan;
    let mut lines = 0;
    for index in 0..containers {
        let (from, to) = (log_path(corpus, seed, index), log_path(pods, seed, index));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        if !index.is_multiple_of(request.long_every) {
            fs::hard_link(from, to)?;
            continue;
        }
        fs::copy(from, &to)?;
        let mut file = File::options().append(true).open(to)?;
        let mut stamp = Stamp::new();
        // One in pieces, as containerd cuts it, and one as it came: 32 bytes short of a record's bound.
        for pieces in [64, 1] {
            let piece = vec![b'x'; (MIB - 32) / pieces];
            for number in 1..=pieces {
                let tag = if number < pieces { "P" } else { "F" };
                write!(file, "{} stdout {tag} ", stamp.text(Nanos::now()))?;
                file.write_all(&piece)?;
                file.write_all(b"\n")?;
            }
            lines += 1;
        }
    }
    Ok(lines)
}
