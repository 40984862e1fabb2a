//! Scenario `compare`: our agent and others over the same files, in turns.
//!
//! In: a corpus, the pods of which a real API server knows, and the agents to compare. Out: a table and a plot of records per CPU
//! second, memory and bytes, and what each does for it. A run in which not every record came is an error and no row; an agent
//! that cannot be had is left out, which is said.

use crate::Outcome;
use crate::agent::{Agent, Compression, Metadata};
use crate::corpus::{self, Corpus, Plan};
use crate::measure::Bench;
use crate::node::KnownNode;
use crate::peers::{Kind, Peer};
use crate::plot::{self, Bar};
use crate::report::{Samples, command_line, machine, number, table};
use std::path::{Path, PathBuf};

const MIB: f64 = 1_048_576.0;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The corpus.
    pub plan: Plan,
    /// Who is compared with ours.
    pub peers: Vec<Kind>,
    /// Runs of each.
    pub repetitions: u32,
    /// Where the plot is written.
    pub plot: Option<PathBuf>,
}

struct Contender {
    agent: Agent,
    name: String,
    work: String,
    compression: Compression,
    /// Records that it makes of the corpus.
    records: u64,
    /// The place of ours that does the same, for the ratio.
    ours: usize,
    rate: Samples,
    ratio: Samples,
    cpu: Samples,
    rss: Samples,
    wire: Samples,
    plain: Samples,
}

/// Runs everything `repetitions` times, and prints the table.
pub fn run(bench: &mut Bench, request: &Request) -> Outcome<()> {
    let Request { plan, peers, repetitions, plot } = request;
    let corpus = corpus::prepare(&bench.cache, plan)?;
    corpus.warm()?;
    eprintln!("an API server is being started, and told of {} pods", plan.containers);
    let node = KnownNode::new(&corpus.pods, bench.folder()?)?;
    let (mut contenders, left_out) = contenders(bench, &corpus, &node.kubeconfig(), peers);
    let pods = node.pods();
    for repetition in 1..=*repetitions {
        let mut rates: Vec<f64> = Vec::new();
        // In turns, so that a change of the machine's mood falls on all alike.
        for contender in &mut contenders {
            bench.agent = contender.agent.clone();
            let rate = once(bench, &pods, &corpus, contender)
                .map_err(|error| format!("compare, {}, run {repetition}: {error}", contender.name))?;
            rates.push(rate);
            contender.rate.push(rate);
            contender.ratio.push(rates[contender.ours] / rate);
            eprintln!("{} {repetition}/{repetitions}: {} records per CPU s", contender.name, number(rate, 0));
        }
    }
    print(&contenders, &corpus, request);
    for reason in left_out {
        println!("\nLeft out: {reason}");
    }
    if let Some(file) = plot {
        let bars: Vec<Bar<'_>> = contenders
            .iter()
            .map(|contender| Bar {
                name: &contender.name,
                note: contender.compression_and_metadata(),
                ours: matches!(contender.agent, Agent::Taffrail { .. }),
                samples: &contender.rate,
            })
            .collect();
        let title = "Records per CPU second of the agent, catch-up on one core: more is better";
        std::fs::write(file, plot::bars(title, &bars))?;
    }
    Ok(())
}

impl Contender {
    fn new(
        agent: Agent,
        name: &str,
        work: &str,
        compression: Compression,
        records: u64,
        ours: usize,
    ) -> Self {
        let s = Samples::default;
        let (name, work) = (name.to_owned(), work.to_owned());
        let (rate, ratio, cpu, rss, wire, plain) = (s(), s(), s(), s(), s(), s());
        Contender { agent, name, work, compression, records, ours, rate, ratio, cpu, rss, wire, plain }
    }

    fn compression_and_metadata(&self) -> &'static str {
        let (packs, enriches) = match &self.agent {
            Agent::Taffrail { metadata, .. } => {
                (self.compression == Compression::Gzip, *metadata != Metadata::Path)
            }
            Agent::Peer(peer) => (peer.compresses(), peer.enriches()),
        };
        match (packs, enriches) {
            (true, true) => "compressed, pod metadata",
            (true, false) => "compressed",
            (false, true) => "pod metadata",
            (false, false) => "plain",
        }
    }
}

/// Ours in its four forms, and the others; and why some are not there.
fn contenders(
    bench: &Bench,
    corpus: &Corpus,
    kubeconfig: &Path,
    kinds: &[Kind],
) -> (Vec<Contender>, Vec<String>) {
    let metadatas = [Metadata::Path, Metadata::Server(kubeconfig.into())];
    let (mut contenders, mut left_out) = (Vec::new(), Vec::new());
    // In this order the place of one is 2 for compression and 1 for metadata.
    for compression in [Compression::None, Compression::Gzip] {
        for metadata in &metadatas {
            let mut agent = bench.agent.clone();
            agent.know_pods_by(metadata.clone());
            let facts = if *metadata == Metadata::Path { "" } else { "pod metadata, " };
            let packs = if compression == Compression::Gzip { ", gzip" } else { "" };
            let work = format!(
                "CRI, {facts}JSON checked and nested, level; bulk with `_id`s{packs}, each item's reply judged"
            );
            let place = contenders.len();
            contenders.push(Contender::new(agent, "Taffrail", &work, compression, corpus.records, place));
        }
    }
    for kind in kinds {
        match Peer::get(*kind, kubeconfig) {
            Ok(peer) => {
                let compression = if peer.compresses() { Compression::Gzip } else { Compression::None };
                let records = if peer.joins() { corpus.records } else { corpus.lines };
                let ours = 2 * usize::from(peer.compresses()) + usize::from(peer.enriches());
                let (name, work) = (peer.name(), peer.work());
                contenders.push(Contender::new(Agent::Peer(peer), name, work, compression, records, ours));
            }
            Err(error) => left_out.push(error.to_string()),
        }
    }
    (contenders, left_out)
}

/// One run; its records per CPU second. Records are those of the corpus, whatever an agent makes of them.
fn once(bench: &Bench, pods: &Path, corpus: &Corpus, contender: &mut Contender) -> Outcome<f64> {
    let folder = bench.folder()?;
    let mut run = bench.start(pods, folder.path(), contender.compression, false)?;
    run.wait_for(contender.records)?;
    let (usage, rss, totals) = (run.usage()?, run.peak_rss()?, run.sink.totals());
    run.finish(contender.records)?;
    contender.cpu.push(usage.cpu);
    contender.rss.push(rss);
    contender.wire.push(totals.wire as f64 / MIB);
    contender.plain.push(totals.inflated as f64 / MIB);
    Ok(corpus.records as f64 / usage.cpu.max(0.01))
}

fn print(contenders: &[Contender], corpus: &Corpus, request: &Request) {
    let head = [
        "agent",
        "what it does",
        "records per CPU s",
        "Taffrail, doing the same, is faster",
        "CPU s",
        "peak RSS MiB",
        "wire MiB",
        "documents MiB",
        "confirmed",
    ];
    let rows: Vec<Vec<String>> = contenders
        .iter()
        .map(|one| {
            let ratio =
                if let Agent::Taffrail { .. } = one.agent { "".into() } else { one.ratio.show(1) + " times" };
            vec![
                one.name.clone(),
                one.work.clone(),
                one.rate.show(0),
                ratio,
                one.cpu.show(2),
                one.rss.show(1),
                one.wire.show(0),
                one.plain.show(0),
                number(one.records as f64, 0),
            ]
        })
        .collect();
    println!("{}", table(&head, &rows));
    println!(
        "{} records in {} lines, {} MiB in {} containers, pods known to a real API server; each agent on one core, all confirmed;",
        number(corpus.records as f64, 0),
        number(corpus.lines as f64, 0),
        number(corpus.bytes as f64 / MIB, 0),
        request.plan.containers
    );
    println!("median (lowest–highest) of {} runs in turns; {}.\n", request.repetitions, machine());
    println!("    {}", command_line());
}
