//! Scenario `idle`: many files that have been shipped and in which nothing happens.
//!
//! In: a number of files and a time. Out: what the agent takes for doing nothing.

use crate::Outcome;
use crate::agent::Compression;
use crate::corpus::{self, LINE_BYTES, Plan};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, table};
use std::time::Duration;

/// Lines in each of the silent files.
const LINES: u64 = 20;

/// Left to the agent after the last record, to save its positions and come to rest.
const REST: Duration = Duration::from_secs(5);

/// Ships `files` small files, rests, measures for `time`, all `repetitions` times, and prints the table.
pub fn run(bench: &Bench, files: u64, time: Duration, repetitions: u32) -> Outcome<()> {
    let plan = Plan { bytes: files * LINES * LINE_BYTES, containers: files, seed: bench.seed, long: false };
    let corpus = corpus::prepare(&bench.cache, &plan)?;
    let (mut cpu, mut wakeups, mut rss) = (Samples::default(), Samples::default(), Samples::default());
    for repetition in 1..=repetitions {
        let folder = bench.folder()?;
        let mut run = bench.start(&corpus.pods, folder.path(), Compression::Gzip, false)?;
        run.wait_for(corpus.records)?;
        run.watch(REST)?;
        let before = run.usage()?;
        run.watch(time)?;
        let share = run.usage()?.since(&before);
        cpu.push(share.cpu);
        wakeups.push(share.wakeups);
        rss.push(run.peak_rss()?);
        run.finish(corpus.records).map_err(|error| format!("idle, run {repetition}: {error}"))?;
    }
    let head = ["silent files", "% of a core", "wake-ups/s", "peak RSS MiB"];
    println!("{}", table(&head, &[vec![files.to_string(), cpu.show(3), wakeups.show(1), rss.show(1)]]));
    println!("over {} s; median (lowest–highest) of {repetitions}; {}.\n", time.as_secs(), machine());
    println!("    {}", command_line());
    Ok(())
}
