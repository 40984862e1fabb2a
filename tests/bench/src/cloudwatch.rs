//! Scenario `cloudwatch`: a corpus at rest, shipped to CloudWatch Logs with a stream for each container.
//!
//! In: the corpus and the formats of events to compare. Out: a table of records per CPU second, and of memory. A run in which
//! not every record came, or a call was illegal, is an error and no row. Streams are made no faster than the service allows, so
//! the wall time says nothing.

use crate::Outcome;
use crate::agent::Compression;
use crate::corpus::{self, Plan};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, number, table};
use crate::sink::Options;
use clap::ValueEnum;

const MIB: f64 = 1_048_576.0;

/// What an event holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The line.
    Raw,
    /// The document.
    Json,
    /// The document without the metadata.
    Compact,
}

impl Format {
    /// The word for it in configurations and tables.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Json => "json",
            Format::Compact => "compact",
        }
    }
}

/// Runs each of `formats` `repetitions` times, in turns, and prints the table.
pub fn run(bench: &Bench, plan: &Plan, formats: &[Format], repetitions: u32) -> Outcome<()> {
    let corpus = corpus::prepare(&bench.cache, plan)?;
    corpus.warm()?;
    let mut rows: Vec<[Samples; 4]> = formats.iter().map(|_| Default::default()).collect();
    for repetition in 1..=repetitions {
        for (row, format) in rows.iter_mut().zip(formats) {
            let failed = |error| format!("cloudwatch, {}, run {repetition}: {error}", format.name());
            let folder = bench.folder()?;
            let options = Options { events: Some(*format), ..Options::default() };
            let mut run = bench.start_with(&corpus.pods, folder.path(), Compression::None, options)?;
            run.wait_for(corpus.records).map_err(failed)?;
            let (usage, rss, totals) = (run.usage()?, run.peak_rss()?, run.sink.totals());
            run.finish(corpus.records).map_err(failed)?;
            let cpu = usage.cpu.max(0.01);
            let values = [corpus.records as f64 / cpu, cpu, rss, totals.inflated as f64 / MIB];
            eprintln!("{} {repetition}/{repetitions}: {values:.1?}", format.name());
            row.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        }
    }
    let shown: Vec<Vec<String>> = rows
        .iter()
        .zip(formats)
        .map(|([rate, cpu, rss, bytes], format)| {
            vec![format.name().to_owned(), rate.show(0), cpu.show(2), rss.show(1), bytes.show(0)]
        })
        .collect();
    println!("{}", table(&["format", "records per CPU s", "CPU s", "peak RSS MiB", "events MiB"], &shown));
    println!(
        "{} records, {} MiB of logs in {} streams, all confirmed;",
        number(corpus.records as f64, 0),
        number(corpus.bytes as f64 / MIB, 0),
        plan.containers
    );
    println!("median (lowest–highest) of {repetitions}; agent on one core; {}.\n", machine());
    println!("    {}", command_line());
    Ok(())
}
