//! Scenario `catch-up`: a corpus at rest, shipped as fast as one core allows.
//!
//! In: the corpus and the compressions to compare. Out: a table of records per CPU second, memory and bytes. A
//! run in which not every record came, each once, is an error and no row.

use crate::Outcome;
use crate::agent::Compression;
use crate::corpus::{self, Corpus, Plan};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, number, table};

const MIB: f64 = 1_048_576.0;

#[derive(Default)]
struct Row {
    rate: Samples,
    cpu: Samples,
    wall: Samples,
    rss: Samples,
    wire: Samples,
    inflated: Samples,
}

/// Runs each of `compressions` `repetitions` times, in turns, and prints the table.
pub fn run(bench: &Bench, plan: &Plan, compressions: &[Compression], repetitions: u32) -> Outcome<()> {
    let corpus = corpus::prepare(&bench.cache, plan)?;
    let made = number(corpus.bytes as f64 / MIB, 0);
    let mean = number(corpus.bytes as f64 / corpus.lines as f64, 0);
    let records = number(corpus.records as f64, 0);
    eprintln!("{made} MiB of logs, {records} records, {mean} bytes a line, {} containers", plan.containers);
    corpus.warm()?;
    let mut rows: Vec<Row> = compressions.iter().map(|_| Row::default()).collect();
    for repetition in 1..=repetitions {
        // In turns, so that a change of the machine's mood falls on all alike.
        for (row, compression) in rows.iter_mut().zip(compressions) {
            once(bench, &corpus, *compression, row)
                .map_err(|error| format!("catch-up, {}, run {repetition}: {error}", compression.name()))?;
            let last = format!("{} s of CPU", number(row.cpu.median(), 2));
            eprintln!("{} {repetition}/{repetitions}: median {last}", compression.name());
        }
    }
    let shown: Vec<Vec<String>> = rows
        .iter()
        .zip(compressions)
        .map(|(row, compression)| {
            vec![
                compression.name().to_owned(),
                row.rate.show(0),
                row.cpu.show(2),
                row.wall.show(2),
                row.rss.show(1),
                row.wire.show(1),
                row.inflated.show(0),
            ]
        })
        .collect();
    let head =
        ["compression", "records per CPU s", "CPU s", "wall s", "peak RSS MiB", "wire MiB", "documents MiB"];
    println!("{}", table(&head, &shown));
    println!(
        "{records} records of {mean} bytes a line, {made} MiB in {} containers, all confirmed;",
        plan.containers
    );
    println!("median (lowest–highest) of {repetitions}; agent on one core; {}.\n", machine());
    println!("    {}", command_line());
    Ok(())
}

fn once(bench: &Bench, corpus: &Corpus, compression: Compression, row: &mut Row) -> Outcome<()> {
    let folder = bench.folder()?;
    let mut run = bench.start(&corpus.pods, folder.path(), compression, false)?;
    run.wait_for(corpus.records)?;
    let (usage, wall) = (run.usage()?, run.elapsed());
    let (rss, totals) = (run.peak_rss()?, run.sink.totals());
    run.finish(corpus.records)?;
    // A tick of the kernel's clock at least, so that a tiny corpus gives no infinity.
    row.rate.push(corpus.records as f64 / usage.cpu.max(0.01));
    row.cpu.push(usage.cpu);
    row.wall.push(wall.as_secs_f64());
    row.rss.push(rss);
    row.wire.push(totals.wire as f64 / MIB);
    row.inflated.push(totals.inflated as f64 / MIB);
    Ok(())
}
