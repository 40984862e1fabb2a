//! Scenario `beside`: an output beside one whose server accepts and never answers.
//!
//! In: a corpus at rest. Out: the rate at which it is delivered, with that output alone and beside the other, in turns,
//! and the ratio of the two. Every record must arrive.

use crate::Outcome;
use crate::agent::Compression;
use crate::corpus::{self, Corpus, Plan};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, number, table};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Ships the corpus alone and beside a black hole, `repetitions` times each, and prints the table.
pub fn run(bench: &mut Bench, plan: &Plan, compression: Compression, repetitions: u32) -> Outcome<()> {
    let corpus = corpus::prepare(&bench.cache, plan)?;
    corpus.warm()?;
    let hole = black_hole()?;
    let alone = bench.agent.output_settings().clone();
    let table_of_hole = format!(
        "[outputs.hole]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:{hole}\"]\nindex = \"hole\"\nmax_age = \"720h\""
    );
    let both = [alone.clone(), vec![table_of_hole]].concat();
    let mut rows: [[Samples; 2]; 2] = Default::default();
    let mut ratio = Samples::default();
    for repetition in 1..=repetitions {
        let mut rates = [0.0; 2];
        for (at, settings) in [&alone, &both].into_iter().enumerate() {
            bench.agent.output_settings().clone_from(settings);
            let (rate, rss) = once(bench, &corpus, compression)
                .map_err(|error| format!("beside, {}, run {repetition}: {error}", NAMES[at]))?;
            rates[at] = rate;
            rows[at][0].push(rate);
            rows[at][1].push(rss);
        }
        eprintln!("{repetition}/{repetitions}: {:.0} and {:.0} records/s", rates[0], rates[1]);
        ratio.push(rates[1] / rates[0]);
    }
    let row = |(name, [rate, rss]): (&str, &[Samples; 2])| vec![name.to_owned(), rate.show(0), rss.show(1)];
    let rows: Vec<Vec<String>> = NAMES.into_iter().zip(&rows).map(row).collect();
    println!("{}", table(&["the output", "records/s", "peak RSS MiB"], &rows));
    println!("ratio of each pair: {}", ratio.show(2));
    println!(
        "{} records, compression {}, all confirmed; median (lowest–highest) of {repetitions}; agent on one core; {}.\n",
        number(corpus.records as f64, 0),
        compression.name(),
        machine()
    );
    println!("    {}", command_line());
    Ok(())
}

const NAMES: [&str; 2] = ["alone", "beside one that is not answered"];

fn once(bench: &Bench, corpus: &Corpus, compression: Compression) -> Outcome<(f64, f64)> {
    let folder = bench.folder()?;
    let mut run = bench.start(&corpus.pods, folder.path(), compression, false)?;
    run.wait_for(1)?;
    let (begun, before) = (run.elapsed(), run.sink.totals().documents);
    run.wait_for(corpus.records)?;
    let rate = (corpus.records - before) as f64 / (run.elapsed() - begun).as_secs_f64().max(0.001);
    let rss = run.peak_rss()?;
    run.finish(corpus.records)?;
    Ok((rate, rss))
}

/// The port of a server that takes connections and never says anything.
fn black_hole() -> Outcome<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let held = Arc::new(Mutex::new(Vec::new()));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
    });
    Ok(port)
}
