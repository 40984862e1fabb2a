//! Scenario `scale`: what the number of containers and of outputs costs.
//!
//! In: corpora of one size, spread over few and many containers, and numbers of outputs. Out: records per CPU second of
//! each, beside those of the first. Every output must get every record.

use crate::Outcome;
use crate::agent::Compression;
use crate::corpus::{self, Plan};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, number, table};

const MIB: f64 = 1_048_576.0;

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    containers: u64,
    outputs: u64,
}

impl Way {
    /// Each number of containers with one output, and the first of them with each number of outputs.
    pub fn all(containers: &[u64], outputs: &[u64]) -> Vec<Way> {
        let first = containers.first().copied().unwrap_or(1);
        let by_containers = containers.iter().map(|&containers| Way { containers, outputs: 1 });
        by_containers.chain(outputs.iter().map(|&outputs| Way { containers: first, outputs })).collect()
    }
}

/// Runs each of `ways` `repetitions` times, in turns, and prints the table. `size`: bytes of each corpus, and its seed.
pub fn run(
    bench: &mut Bench,
    (bytes, seed): (u64, u64),
    ways: &[Way],
    compression: Compression,
    repetitions: u32,
) -> Outcome<()> {
    let plain = bench.agent.output_settings().clone();
    let mut rows: Vec<[Samples; 4]> = ways.iter().map(|_| Default::default()).collect();
    for repetition in 1..=repetitions {
        let mut first = None;
        for (row, way) in rows.iter_mut().zip(ways) {
            let plan = Plan { bytes, containers: way.containers.max(1), seed, long: false };
            let corpus = corpus::prepare(&bench.cache, &plan)?;
            corpus.warm()?;
            let failed = |error| format!("scale, {way:?}, run {repetition}: {error}");
            let folder = bench.folder()?;
            // Each with an index of its own, and the rest as the first has it.
            let more = (2..=way.outputs).map(|number| {
                format!(
                    "[outputs.more{number}]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:{{port}}\"]\n\
                     index = \"more{number}-{{date}}\"\ncompression = \"{}\"\nmax_age = \"720h\"\n{}",
                    compression.name(),
                    plain.join("\n")
                )
            });
            *bench.agent.output_settings() = plain.iter().cloned().chain(more).collect();
            let expected = corpus.records * way.outputs.max(1);
            let mut run = bench.start(&corpus.pods, folder.path(), compression, false)?;
            run.wait_for(expected).map_err(failed)?;
            let (usage, rss) = (run.usage()?, run.peak_rss()?);
            run.finish(expected).map_err(failed)?;
            // Of what is sent: an output reads for itself.
            let rate = expected as f64 / usage.cpu.max(0.01);
            let values = [rate, rate / *first.get_or_insert(rate), usage.cpu, rss];
            eprintln!("{way:?} {repetition}/{repetitions}: {values:.2?}");
            row.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        }
    }
    let shown: Vec<Vec<String>> = rows
        .iter()
        .zip(ways)
        .map(|([rate, ratio, cpu, rss], way)| {
            let [containers, outputs] = [way.containers, way.outputs].map(|count| number(count as f64, 0));
            vec![containers, outputs, rate.show(0), ratio.show(2), cpu.show(2), rss.show(1)]
        })
        .collect();
    let head =
        ["containers", "outputs", "records sent per CPU s", "ratio to the first", "CPU s", "peak RSS MiB"];
    println!("{}", table(&head, &shown));
    println!(
        "{} MiB of logs each, compression {}, all confirmed; median (lowest–highest) of {repetitions}; agent on one core; {}.\n",
        number(bytes as f64 / MIB, 0),
        compression.name(),
        machine()
    );
    println!("    {}", command_line());
    Ok(())
}
