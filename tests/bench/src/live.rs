//! Scenarios `wakeups` and `steady`: logs that are being written while the agent reads them.
//!
//! In: a rate and the size of a write. Out: the agent's share of a core, its wake-ups, and the delay from the
//! time in a line to its arrival at the sink. The writer counts what it wrote; every record must arrive.

use crate::Outcome;
use crate::agent::{Compression, Metadata};
use crate::clock::Nanos;
use crate::corpus::{ContainerLog, log_path};
use crate::measure::{Bench, Share};
use crate::node::KnownNode;
use crate::report::{Samples, command_line, machine, number, table};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Before the measured time, so that start-up and the first connection are not in it.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// What is asked of a scenario here.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Lines a second over all files together.
    pub rate: u64,
    /// Files, each of a container of its own.
    pub files: u64,
    /// How long to measure, after the warm-up.
    pub time: Duration,
    /// How the agent sends.
    pub compression: Compression,
    /// Runs of each variant.
    pub repetitions: u32,
    /// A real API server knows the pods.
    pub server: bool,
}

/// How logs are written.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Lines a second over all files together.
    pub rate: u64,
    /// Files, each of a container of its own, written in turn.
    pub files: u64,
    /// The number of the first container.
    pub first: u64,
    /// Lines in one `write`.
    pub lines_a_write: u64,
    /// Never sleep between writes but spin, so that loads of different write sizes keep the core equally busy:
    /// the agent's core may be the other half of the same physical one.
    pub spin: bool,
}

/// A node whose applications write; one thread plays them all.
pub struct Writer {
    logs: Vec<(File, ContainerLog)>,
    load: Load,
    /// Lines written, each a record.
    pub lines: u64,
    /// And their bytes.
    pub bytes: u64,
    writes: u64,
}

impl Writer {
    /// Makes the files with a first line in each, so that an agent finds them all at its start.
    pub fn new(pods: &Path, load: Load, seed: u64) -> io::Result<Writer> {
        Writer::at(load, seed, |index| log_path(pods, seed, index))
    }

    /// The same with the log of each container where `place` says.
    fn at(load: Load, seed: u64, place: impl Fn(u64) -> PathBuf) -> io::Result<Writer> {
        let mut logs = Vec::new();
        for index in load.first..load.first + load.files {
            let path = place(index);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            logs.push((
                File::options().create(true).append(true).open(path)?,
                ContainerLog::new(index, seed),
            ));
        }
        let mut writer = Writer { logs, load, lines: 0, bytes: 0, writes: 0 };
        for number in 0..load.files {
            writer.write(number, 1)?;
        }
        Ok(writer)
    }

    /// One `write` of `lines` lines with the present time to the next file in turn.
    fn write(&mut self, turn: u64, lines: u64) -> io::Result<()> {
        let mut text = Vec::with_capacity(lines as usize * 512);
        let index = (turn % self.load.files) as usize;
        let (file, log) = &mut self.logs[index];
        for _ in 0..lines {
            log.append(Nanos::now(), false, &mut text);
        }
        file.write_all(&text)?;
        self.lines += lines;
        self.bytes += text.len() as u64;
        self.writes += 1;
        Ok(())
    }

    /// Writes at the load's rate until told to stop; what fell behind is made up for without a pause.
    pub fn play(mut self, stop: &AtomicBool) -> io::Result<Writer> {
        let interval = self.load.lines_a_write as f64 / self.load.rate as f64;
        let started = Instant::now();
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let ahead = turn as f64 * interval - started.elapsed().as_secs_f64();
            if ahead <= 0.0 {
                self.write(turn, self.load.lines_a_write)?;
                turn += 1;
            } else if self.load.spin || ahead < 100e-6 {
                // The sink may be waiting for this core.
                thread::yield_now();
            } else {
                thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(self)
    }
}

/// What one run under load gave.
struct Measured {
    share: Share,
    rss: f64,
    /// What the writer reached, over warm-up and measurement.
    writes: f64,
    /// Microseconds, sorted; empty unless asked for.
    delays: Vec<u32>,
}

fn once(
    bench: &Bench,
    load: Load,
    time: Duration,
    compression: Compression,
    delays: bool,
) -> Outcome<Measured> {
    let folder = bench.folder()?;
    let pods = folder.path().join("pods");
    let writer = Writer::new(&pods, load, bench.seed)?;
    measure(bench, (&pods, folder.path()), writer, time, compression, delays)
}

/// The same with pods that a real API server knows.
fn once_known(bench: &mut Bench, load: Load, time: Duration, compression: Compression) -> Outcome<Measured> {
    let folder = bench.folder()?;
    let found = folder.path().join("found");
    // Files without a line, for the server to be told of.
    for index in load.first..load.first + load.files {
        let path = log_path(&found, bench.seed, index);
        fs::create_dir_all(path.parent().unwrap_or(&found))?;
        File::create(path)?;
    }
    let node = KnownNode::new(&found, bench.folder()?)?;
    let place = |index| node.place(&log_path(&found, bench.seed, index)).to_owned();
    let writer = Writer::at(load, bench.seed, place)?;
    bench.agent.know_pods_by(Metadata::Server(node.kubeconfig()));
    measure(bench, (&node.pods(), folder.path()), writer, time, compression, true)
}

/// One run over a folder as `/var/log/pods`, with another for its own files.
fn measure(
    bench: &Bench,
    (pods, own): (&Path, &Path),
    writer: Writer,
    time: Duration,
    compression: Compression,
    delays: bool,
) -> Outcome<Measured> {
    let mut run = bench.start(pods, own, compression, delays)?;
    run.wait_for(writer.lines)?;
    let stop = AtomicBool::new(false);
    let (result, writer) = thread::scope(|scope| {
        let playing = scope.spawn(|| writer.play(&stop));
        let mut measure = || -> Outcome<_> {
            let started = Instant::now();
            run.watch(WARM_UP)?;
            run.sink.take_delays();
            let before = run.usage()?;
            run.watch(time)?;
            let share = run.usage()?.since(&before);
            Ok((share, run.sink.take_delays(), started.elapsed()))
        };
        let result = measure();
        // Before any error is passed on: the scope waits for the writer.
        stop.store(true, Ordering::Relaxed);
        (result, playing.join())
    });
    let (share, mut delays, wrote_for) = result?;
    let writer = writer.map_err(|_| "the writing thread panicked")??;
    run.wait_for(writer.lines)?;
    let rss = run.peak_rss()?;
    run.finish(writer.lines)?;
    delays.sort_unstable();
    Ok(Measured { share, rss, writes: writer.writes as f64 / wrote_for.as_secs_f64(), delays })
}

/// Scenario `wakeups`: the same bytes, line by line and in a batch every 10 ms; the difference is what the number
/// of writes costs. Prints a table of both.
pub fn wakeups(bench: &Bench, request: Request) -> Outcome<()> {
    let Request { rate, files, time, compression, repetitions, .. } = request;
    // Each file gets one write every 10 ms.
    let batch = (rate / 100 / files).max(1);
    let variants = [("each line by itself", 1), ("batches of 10 ms", batch)];
    let mut samples: [[Samples; 4]; 2] = Default::default();
    let mut difference = Samples::default();
    for repetition in 1..=repetitions {
        let mut shares = Vec::new();
        for ((name, lines_a_write), samples) in variants.iter().zip(&mut samples) {
            let load = Load { rate, files, first: 0, lines_a_write: *lines_a_write, spin: true };
            let measured = once(bench, load, time, compression, false)
                .map_err(|error| format!("wakeups, {name}, run {repetition}: {error}"))?;
            let values = [measured.writes, measured.share.cpu, measured.share.wakeups, measured.rss];
            samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
            shares.push(measured.share.cpu);
        }
        difference.push(shares[0] - shares[1]);
    }
    let rows: Vec<Vec<String>> = variants
        .iter()
        .zip(&samples)
        .map(|((name, _), [writes, cpu, wakeups, rss])| {
            vec![(*name).to_owned(), writes.show(0), cpu.show(2), wakeups.show(0), rss.show(1)]
        })
        .collect();
    println!("{}", table(&["writes", "writes/s", "% of a core", "wake-ups/s", "peak RSS MiB"], &rows));
    println!("difference by the number of writes: {} % of a core\n", difference.show(2));
    footer(&request);
    Ok(())
}

/// Scenario `steady`: an even load well below what the agent can do. Prints delays and the share of a core.
pub fn steady(bench: &mut Bench, request: Request) -> Outcome<()> {
    let Request { rate, files, time, compression, repetitions, server } = request;
    let mut samples: [Samples; 6] = Default::default();
    for repetition in 1..=repetitions {
        let load = Load { rate, files, first: 0, lines_a_write: 1, spin: false };
        let measured = match server {
            true => once_known(bench, load, time, compression),
            false => once(bench, load, time, compression, true),
        };
        let measured = measured.map_err(|error| format!("steady, run {repetition}: {error}"))?;
        let delay = |part: f64| percentile(&measured.delays, part) / 1_000.0;
        let values =
            [delay(0.5), delay(0.99), delay(1.0), measured.share.cpu, measured.share.wakeups, measured.rss];
        samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
    }
    let [p50, p99, max, cpu, wakeups, rss] = samples;
    let head = ["records/s", "p50 ms", "p99 ms", "max ms", "% of a core", "wake-ups/s", "peak RSS MiB"];
    let row = vec![
        number(rate as f64, 0),
        p50.show(0),
        p99.show(0),
        max.show(0),
        cpu.show(2),
        wakeups.show(0),
        rss.show(1),
    ];
    println!("{}", table(&head, &[row]));
    footer(&request);
    Ok(())
}

fn footer(request: &Request) {
    let Request { rate, files, time, compression, repetitions, .. } = request;
    let (rate, compression) = (number(*rate as f64, 0), compression.name());
    println!(
        "{rate} lines a second over {files} files for {} s, compression {compression}, all",
        time.as_secs()
    );
    println!("confirmed; median (lowest–highest) of {repetitions}; agent on one core; {}.\n", machine());
    println!("    {}", command_line());
}

/// The value below which `part` of the sorted `values` lie; 0 without any.
pub fn percentile(values: &[u32], part: f64) -> f64 {
    let rank = (values.len() as f64 * part).ceil() as usize;
    values.get(rank.max(1) - 1).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!(percentile(&values, 0.5), 100.0);
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&values, 1.0), 200.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_load_is_written_at_its_rate_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let load = Load { rate: 5_000, files: 3, first: 0, lines_a_write: 5, spin: false };
        let writer = Writer::new(folder.path(), load, 1).unwrap();
        let stop = AtomicBool::new(false);
        let writer = thread::scope(|scope| {
            let playing = scope.spawn(|| writer.play(&stop));
            thread::sleep(Duration::from_millis(400));
            stop.store(true, Ordering::Relaxed);
            playing.join().unwrap().unwrap()
        });
        let mut found = 0;
        for index in 0..load.files {
            let text = fs::read(log_path(folder.path(), 1, index)).unwrap();
            found += text.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        assert_eq!(found, writer.lines);
        // Loose: the machine may be busy.
        assert!((1_000..=3_000).contains(&writer.lines), "{}", writer.lines);
    }
}
