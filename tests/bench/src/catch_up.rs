//! Scenario `catch-up`: a corpus at rest, shipped as fast as one core allows.
//!
//! In: the corpus and the ways of sending to compare. Out: a table of records per CPU second, memory and bytes. A
//! run in which not every record came, each once, is an error and no row.

use crate::Outcome;
use crate::agent::Compression;
use crate::corpus::{self, Corpus, Plan};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, number, table};
use crate::sink::Options;

const MIB: f64 = 1_048_576.0;

#[derive(Default)]
struct Row {
    rate: Samples,
    ratio: Samples,
    cpu: Samples,
    wall: Samples,
    rss: Samples,
    wire: Samples,
    inflated: Samples,
}

/// A way of sending that is compared with others.
#[derive(Clone, Copy)]
pub struct Way {
    /// How request bodies travel.
    pub compression: Compression,
    /// Whether by TLS.
    pub tls: bool,
    /// Of a hundred documents the sink refuses so many for now.
    pub refused: u32,
    /// Of so many it says that it holds them already.
    pub held: u32,
}

impl Way {
    /// The plain way, and what is asked for beside it.
    pub fn all(compression: Compression, tls: bool, refused: u32, held: u32) -> Vec<Way> {
        let plain = Way { compression, tls: false, refused: 0, held: 0 };
        let mut ways = vec![plain];
        if tls {
            ways.push(Way { tls, ..plain });
        }
        if refused > 0 {
            ways.push(Way { refused, ..plain });
        }
        if held > 0 {
            ways.push(Way { held, ..plain });
        }
        ways
    }

    fn is_plain(&self) -> bool {
        !self.tls && self.refused == 0 && self.held == 0
    }

    fn name(&self) -> String {
        let mut name = self.compression.name().to_owned();
        if self.tls {
            name += ", TLS";
        }
        if self.refused > 0 {
            name += &format!(", {}% refused", self.refused);
        }
        if self.held > 0 {
            name += &format!(", {}% held already", self.held);
        }
        name
    }
}

/// Runs each of `ways` `repetitions` times, in turns, and prints the table. Each is compared with the last
/// plain one before it. `delivered`: how many records the agent makes of the lines, if not one of each; what is measured are lines.
pub fn run(
    bench: &Bench,
    plan: &Plan,
    ways: &[Way],
    delivered: Option<u64>,
    repetitions: u32,
) -> Outcome<()> {
    let corpus = corpus::prepare(&bench.cache, plan)?;
    let expected = delivered.unwrap_or(corpus.records);
    let made = number(corpus.bytes as f64 / MIB, 0);
    let mean = number(corpus.bytes as f64 / corpus.lines as f64, 0);
    let records = number(corpus.records as f64, 0);
    eprintln!("{made} MiB of logs, {records} records, {mean} bytes a line, {} containers", plan.containers);
    corpus.warm()?;
    let mut rows: Vec<Row> = ways.iter().map(|_| Row::default()).collect();
    for repetition in 1..=repetitions {
        let mut plain = None;
        // In turns, so that a change of the machine's mood falls on all alike.
        for (row, way) in rows.iter_mut().zip(ways) {
            let rate = once(bench, &corpus, expected, *way, row)
                .map_err(|error| format!("catch-up, {}, run {repetition}: {error}", way.name()))?;
            if way.is_plain() {
                plain = Some(rate);
            }
            row.ratio.push(rate / plain.unwrap_or(rate));
            let last = format!("{} s of CPU", number(row.cpu.median(), 2));
            eprintln!("{} {repetition}/{repetitions}: median {last}", way.name());
        }
    }
    let shown: Vec<Vec<String>> = rows
        .iter()
        .zip(ways)
        .map(|(row, way)| {
            vec![
                way.name(),
                row.rate.show(0),
                row.ratio.show(2),
                row.cpu.show(2),
                row.wall.show(2),
                row.rss.show(1),
                row.wire.show(1),
                row.inflated.show(0),
            ]
        })
        .collect();
    let head = [
        "sent",
        "records per CPU s",
        "ratio to plain",
        "CPU s",
        "wall s",
        "peak RSS MiB",
        "wire MiB",
        "documents MiB",
    ];
    println!("{}", table(&head, &shown));
    println!(
        "{records} records of {mean} bytes a line, {made} MiB in {} containers, all confirmed;",
        plan.containers
    );
    println!("median (lowest–highest) of {repetitions}; agent on one core; {}.\n", machine());
    println!("    {}", command_line());
    Ok(())
}

/// One run; its records per CPU second.
fn once(bench: &Bench, corpus: &Corpus, expected: u64, way: Way, row: &mut Row) -> Outcome<f64> {
    let folder = bench.folder()?;
    let options = Options { tls: way.tls, refused: way.refused, held: way.held, ..Options::default() };
    let mut run = bench.start_with(&corpus.pods, folder.path(), way.compression, options)?;
    run.wait_for(expected)?;
    let (usage, wall) = (run.usage()?, run.elapsed());
    let (rss, totals) = (run.peak_rss()?, run.sink.totals());
    run.finish(expected)?;
    // A tick of the kernel's clock at least, so that a tiny corpus gives no infinity.
    let rate = corpus.records as f64 / usage.cpu.max(0.01);
    row.rate.push(rate);
    row.cpu.push(usage.cpu);
    row.wall.push(wall.as_secs_f64());
    row.rss.push(rss);
    row.wire.push(totals.wire as f64 / MIB);
    row.inflated.push(totals.inflated as f64 / MIB);
    Ok(rate)
}
