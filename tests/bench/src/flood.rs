//! Scenario `flood`: quiet containers beside ones that write as fast as they are told to.
//!
//! In: how many bytes a second the flood has, over how many containers. Out: the delay of the quiet containers' lines,
//! without the flood and with it, and how far behind the output was when the flood ended: a delay says something about
//! fairness only where the output keeps up. Every record of both must arrive.

use crate::Outcome;
use crate::agent::Compression;
use crate::clock::Nanos;
use crate::corpus::{ContainerLog, log_path};
use crate::live::{Load, WARM_UP, Writer, percentile};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, number, table};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of one write of the flood, made once and written again and again: to make them would take the sink's core.
const BLOCK: u64 = 1000;

/// The number of the first container of the flood; those before it are quiet.
const FLOOD: u64 = 1000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Bytes a second of the flood.
    pub rate: u64,
    /// Containers that it comes from.
    pub floods: u64,
    /// Quiet containers, each of which writes a line ten times a second.
    pub quiet: u64,
    /// How long to measure, after the warm-up.
    pub time: Duration,
    /// How the agent sends.
    pub compression: Compression,
    /// Runs of each variant.
    pub repetitions: u32,
}

/// Containers that write the same lines over and over.
struct Flood {
    files: Vec<(File, Vec<u8>)>,
    lines: u64,
    bytes: u64,
}

impl Flood {
    fn new(pods: &Path, floods: u64, seed: u64) -> io::Result<Flood> {
        let mut files = Vec::new();
        for index in FLOOD..FLOOD + floods {
            let path = log_path(pods, seed, index);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let (mut log, mut block) = (ContainerLog::new(index, seed), Vec::new());
            (0..BLOCK).for_each(|_| log.append(Nanos::now(), false, &mut block));
            files.push((File::options().create(true).append(true).open(path)?, block));
        }
        Ok(Flood { files, lines: 0, bytes: 0 })
    }

    /// Writes at `rate` bytes a second until told to stop.
    fn play(mut self, rate: u64, stop: &AtomicBool) -> io::Result<Flood> {
        let started = Instant::now();
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let due = rate as f64 * started.elapsed().as_secs_f64();
            if self.files.is_empty() || self.bytes as f64 > due {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let count = self.files.len();
            let (file, block) = &mut self.files[turn % count];
            file.write_all(block)?;
            self.lines += BLOCK;
            self.bytes += block.len() as u64;
            turn += 1;
        }
        Ok(self)
    }
}

/// What one run gave.
struct Measured {
    /// Of the quiet containers' lines: microseconds, sorted.
    delays: Vec<u32>,
    /// Bytes a second that the flood reached.
    rate: f64,
    /// Seconds from the end of the flood to its last record at the sink.
    behind: f64,
    cpu: f64,
    rss: f64,
}

/// The uids of the quiet containers' pods, which stand in their documents only.
fn uids(pods: &Path, seed: u64, quiet: u64) -> Vec<Vec<u8>> {
    let uid = |index| {
        let path = log_path(pods, seed, index);
        let pod = path.strip_prefix(pods).ok().and_then(|path| path.iter().next()).unwrap_or_default();
        pod.to_string_lossy().rsplit('_').next().unwrap_or_default().as_bytes().to_vec()
    };
    (0..quiet).map(uid).collect()
}

fn once(bench: &Bench, request: &Request, floods: u64) -> Outcome<Measured> {
    let folder = bench.folder()?;
    let pods = folder.path().join("pods");
    let load =
        Load { rate: 10 * request.quiet, files: request.quiet, first: 0, lines_a_write: 1, spin: false };
    let quiet = Writer::new(&pods, load, bench.seed)?;
    let flood = Flood::new(&pods, floods, bench.seed)?;
    let mut run = bench.start(&pods, folder.path(), request.compression, true)?;
    run.sink.delays_only_of(uids(&pods, bench.seed, request.quiet));
    run.wait_for(quiet.lines)?;
    let stop = AtomicBool::new(false);
    let (result, quiet, flood) = thread::scope(|scope| {
        let (quiet, flood) =
            (scope.spawn(|| quiet.play(&stop)), scope.spawn(|| flood.play(request.rate, &stop)));
        let mut measure = || -> Outcome<_> {
            let started = Instant::now();
            run.watch(WARM_UP)?;
            run.sink.take_delays();
            let before = run.usage()?;
            run.watch(request.time)?;
            Ok((run.usage()?.since(&before), run.sink.take_delays(), started.elapsed()))
        };
        let result = measure();
        // Before any error is passed on: the scope waits for the writers.
        stop.store(true, Ordering::Relaxed);
        (result, quiet.join(), flood.join())
    });
    let (share, mut delays, wrote_for) = result?;
    let quiet = quiet.map_err(|_| "the writing thread panicked")??;
    let flood = flood.map_err(|_| "the flooding thread panicked")??;
    let ended = Instant::now();
    run.wait_for(quiet.lines + flood.lines)?;
    let behind = ended.elapsed().as_secs_f64();
    let rss = run.peak_rss()?;
    run.finish(quiet.lines + flood.lines)?;
    delays.sort_unstable();
    let rate = flood.bytes as f64 / wrote_for.as_secs_f64();
    Ok(Measured { delays, rate, behind, cpu: share.cpu, rss })
}

/// Runs both variants in turns and prints the table.
pub fn run(bench: &Bench, request: Request) -> Outcome<()> {
    let mut rows: [[Samples; 7]; 2] = Default::default();
    for repetition in 1..=request.repetitions {
        for (samples, floods) in rows.iter_mut().zip([0, request.floods]) {
            let measured = once(bench, &request, floods)
                .map_err(|error| format!("flood of {floods}, run {repetition}: {error}"))?;
            let delay = |part: f64| percentile(&measured.delays, part) / 1_000.0;
            let Measured { rate, behind, cpu, rss, .. } = measured;
            let values = [rate / 1e6, behind, delay(0.5), delay(0.99), delay(1.0), cpu, rss];
            samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
            eprintln!("{floods} floods {repetition}/{}: {values:.2?}", request.repetitions);
        }
    }
    let names = ["none".to_owned(), format!("{} containers", request.floods)];
    let row = |(name, [rate, behind, p50, p99, max, cpu, rss]): (String, &[Samples; 7])| {
        let delays = [p50, p99, max].map(|samples| samples.show(0));
        let rest = [cpu.show(1), rss.show(1)];
        [vec![name, rate.show(1), behind.show(2)], delays.to_vec(), rest.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = names.into_iter().zip(&rows).map(row).collect();
    let head = [
        "flood",
        "MB/s",
        "s behind at its end",
        "quiet p50 ms",
        "p99 ms",
        "max ms",
        "% of a core",
        "peak RSS MiB",
    ];
    println!("{}", table(&head, &rows));
    let Request { rate, quiet, time, compression, repetitions, .. } = request;
    println!(
        "{quiet} quiet containers of 10 lines a second, a flood of {} MB/s for {} s, compression {},",
        number(rate as f64 / 1e6, 0),
        time.as_secs(),
        compression.name()
    );
    println!("all confirmed; median (lowest–highest) of {repetitions}; agent on one core; {}.\n", machine());
    println!("    {}", command_line());
    Ok(())
}
