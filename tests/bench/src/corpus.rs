//! The logs of a node at rest.
//!
//! In: a size, a number of containers and a seed. Out: files as kubelet and containerd leave them, in
//! `<dir>/pods/<namespace>_<pod>_<uid>/<container>/0.log`, and the exact number of records in them. They are kept
//! between runs and never written again; the agent under test only reads them.

use crate::Outcome;
use crate::clock::{Nanos, Stamp};
use crate::lines::{LineMaker, Style};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Raised whenever the generator writes other bytes for the same parameters.
const GENERATION: u32 = 1;

/// The mean length of a line, CRI head and newline included, that [`crate::lines`] is tuned to.
pub const LINE_BYTES: u64 = 265;

/// The mean length of a long record.
const LONG_BYTES: u64 = 40_000;

/// The runtime cuts longer lines into pieces of this many bytes.
const PIECE: usize = 16_384;

/// One in this many JSON lines is long.
const LONG_EVERY: u32 = 10_000;

/// A kept corpus older than this is made anew: agents leave out what is older than their `max_age`.
const KEPT_DAYS: u64 = 14;

const SECOND: u64 = 1_000_000_000;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes of all files together, met within a few percent.
    pub bytes: u64,
    /// Containers, each in a pod of its own, all with the same number of lines.
    pub containers: u64,
    /// Same seed, same logs, but for the times.
    pub seed: u64,
    /// Every record is a long line of JSON, in pieces.
    pub long: bool,
}

impl Plan {
    fn lines_each(&self) -> u64 {
        let bytes = if self.long { LONG_BYTES } else { LINE_BYTES };
        (self.bytes / bytes / self.containers.max(1)).max(1)
    }

    fn folder(&self) -> String {
        let long = if self.long { "-long" } else { "" };
        format!("corpus-{GENERATION}-{}b-{}c-{}s{long}", self.bytes, self.containers, self.seed)
    }
}

/// What was made; also the text of `corpus.json` beside the files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Corpus {
    /// The folder of the pods.
    #[serde(skip)]
    pub pods: PathBuf,
    /// When the corpus was made, in seconds since the epoch; its records are of the hour before.
    pub made: u64,
    /// What applications wrote: lines after pieces are joined. Each line of a stack trace is one.
    pub records: u64,
    /// Lines in the files.
    pub lines: u64,
    /// Bytes in the files.
    pub bytes: u64,
    /// Records whose body is a JSON object.
    pub json: u64,
    /// Records that are lines of stack traces.
    pub trace: u64,
    /// Records on stderr.
    pub stderr: u64,
}

impl Corpus {
    fn add(&mut self, other: &Corpus) {
        self.records += other.records;
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.json += other.json;
        self.trace += other.trace;
        self.stderr += other.stderr;
    }

    /// Reads every file once, so that the first measured run does not pay for the disk alone.
    pub fn warm(&self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        for pod in fs::read_dir(&self.pods)? {
            for container in fs::read_dir(pod?.path())? {
                let mut file = File::open(container?.path().join("0.log"))?;
                while file.read(&mut buffer)? > 0 {}
            }
        }
        Ok(())
    }
}

/// The corpus of `plan`, made in the folder `cache` unless it is there already.
pub fn prepare(cache: &Path, plan: &Plan) -> Outcome<Corpus> {
    let folder = cache.join(plan.folder());
    let now = Nanos::now().seconds();
    if let Ok(text) = fs::read(folder.join("corpus.json")) {
        let mut corpus: Corpus = serde_json::from_slice(&text)?;
        if now.saturating_sub(corpus.made) < KEPT_DAYS * 86_400 {
            corpus.pods = folder.join("pods");
            return Ok(corpus);
        }
    }
    let failed = |error: io::Error| format!("the corpus in {} could not be made: {error}", folder.display());
    fs::create_dir_all(cache).map_err(failed)?;
    // Made aside and renamed, so that an interrupted run leaves no half corpus behind that looks whole.
    let aside = tempfile::Builder::new().prefix("making-").tempdir_in(cache).map_err(failed)?;
    let mut corpus = write_all(&aside.path().join("pods"), plan, now).map_err(failed)?;
    fs::write(aside.path().join("corpus.json"), serde_json::to_vec_pretty(&corpus)?).map_err(failed)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::rename(aside.keep(), &folder).map_err(failed)?;
    corpus.pods = folder.join("pods");
    Ok(corpus)
}

fn write_all(pods: &Path, plan: &Plan, now: u64) -> io::Result<Corpus> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(plan.containers as usize);
    let work = || -> io::Result<Corpus> {
        let mut sum = Corpus::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= plan.containers {
                return Ok(sum);
            }
            sum.add(&write_container(pods, plan, index, now)?);
        }
    };
    let mut corpus = Corpus { made: now, ..Corpus::default() };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            corpus.add(&worker.join().map_err(|_| io::Error::other("a generating thread panicked"))??);
        }
        Ok(corpus)
    })
}

/// Where the log of the container number `index` lies, such as `shop_orders-0-7d9f8b6c5d-x2k4q_<uid>/app/0.log`.
pub fn log_path(pods: &Path, seed: u64, index: u64) -> PathBuf {
    const NAMESPACES: [&str; 5] = ["default", "payments", "shop", "platform", "kube-system"];
    const NAMES: [&str; 7] = ["orders", "checkout", "catalogue", "gateway", "ledger", "search", "mailer"];
    let mut random = Rng::with_seed(seed.wrapping_add(index << 20));
    let namespace = NAMESPACES[(index % 5) as usize];
    let name = NAMES[(index % 7) as usize];
    let mut word = |length: usize| -> String {
        (0..length).map(|_| char::from(b"bcdfghjklmnpqrstvwxz2456789"[random.usize(..27)])).collect()
    };
    let pod = format!("{name}-{index}-{}-{}", word(10), word(5));
    let uid = random.u128(..);
    let hex = format!("{uid:032x}");
    let uid = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    pods.join(format!("{namespace}_{pod}_{uid}")).join(Style::of(index).container()).join("0.log")
}

fn write_container(pods: &Path, plan: &Plan, index: u64, now: u64) -> io::Result<Corpus> {
    let path = log_path(pods, plan.seed, index);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(path)?;
    let lines = plan.lines_each();
    // From 55 to 5 minutes ago.
    let step = 50 * 60 * SECOND / lines;
    let mut time = Nanos((now - 55 * 60) * SECOND);
    let mut random = Rng::with_seed(plan.seed ^ index.rotate_left(32) ^ 0xc0ff_ee00);
    let mut log = ContainerLog::new(index, plan.seed);
    let mut buffer = Vec::with_capacity(2 << 20);
    let mut bytes = 0;
    while log.counts.records < lines {
        // What a program writes in one go carries times a few microseconds apart.
        let gap = if log.maker.in_trace() { random.u64(5_000..50_000) } else { random.u64(0..=2 * step) };
        time = Nanos(time.0 + gap);
        let long = plan.long || Style::of(index).is_json() && random.u32(0..LONG_EVERY) == 0;
        log.append(time, long, &mut buffer);
        if buffer.len() > 1 << 20 {
            file.write_all(&buffer)?;
            bytes += buffer.len() as u64;
            buffer.clear();
        }
    }
    file.write_all(&buffer)?;
    bytes += buffer.len() as u64;
    // Else the kernel writes the pages back while the first run is being measured.
    file.sync_all()?;
    Ok(Corpus { bytes, ..log.counts })
}

/// One container's log as the runtime writes it.
pub struct ContainerLog {
    maker: LineMaker,
    stamp: Stamp,
    body: Vec<u8>,
    /// What was appended; bytes are left at nought.
    counts: Corpus,
}

impl ContainerLog {
    /// The log of the container number `index`.
    pub fn new(index: u64, seed: u64) -> ContainerLog {
        ContainerLog {
            maker: LineMaker::new(index, seed),
            stamp: Stamp::new(),
            body: Vec::with_capacity(64 << 10),
            counts: Corpus::default(),
        }
    }

    /// Appends one record, written at `time`, with its heads and newlines; `long` asks for one in several pieces.
    pub fn append(&mut self, time: Nanos, long: bool, out: &mut Vec<u8>) {
        self.body.clear();
        let line = if long && !self.maker.in_trace() {
            self.maker.next_long(time, &mut self.body)
        } else {
            self.maker.next(time, &mut self.body)
        };
        let stream = if line.stderr { "stderr" } else { "stdout" };
        let pieces = self.body.len().div_ceil(PIECE);
        for (number, piece) in self.body.chunks(PIECE).enumerate() {
            let tag = if number + 1 < pieces { "P" } else { "F" };
            for part in [self.stamp.text(Nanos(time.0 + number as u64 * 1_000)), " ", stream, " ", tag, " "] {
                out.extend_from_slice(part.as_bytes());
            }
            out.extend_from_slice(piece);
            out.push(b'\n');
        }
        self.counts.lines += pieces as u64;
        self.counts.records += 1;
        self.counts.json += u64::from(self.body.starts_with(b"{"));
        self.counts.trace += u64::from(line.trace);
        self.counts.stderr += u64::from(line.stderr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const PLAN: Plan = Plan { bytes: 12 << 20, containers: 20, seed: 1, long: false };

    fn share(part: u64, whole: u64) -> f64 {
        100.0 * part as f64 / whole as f64
    }

    #[test]
    fn the_mix_is_as_promised() {
        let cache = tempfile::tempdir().unwrap();
        let corpus = prepare(cache.path(), &PLAN).unwrap();
        let mean = corpus.bytes as f64 / corpus.lines as f64;
        let (json, trace) = (share(corpus.json, corpus.records), share(corpus.trace, corpus.records));
        let stderr = share(corpus.stderr, corpus.records);
        println!("mean {mean:.1}, json {json:.1}%, trace {trace:.1}%, stderr {stderr:.1}%: {corpus:?}");
        assert!((260.0..270.0).contains(&mean), "{mean}");
        assert!((79.5..80.5).contains(&json), "{json}");
        assert!((1.6..2.4).contains(&trace), "{trace}");
        assert!((9.0..11.0).contains(&stderr), "{stderr}");
        assert!(corpus.bytes.abs_diff(PLAN.bytes) < PLAN.bytes / 20);
        assert!(corpus.lines > corpus.records);
    }

    #[test]
    fn what_the_files_hold_is_what_was_counted() {
        let cache = tempfile::tempdir().unwrap();
        let corpus = prepare(cache.path(), &PLAN).unwrap();
        corpus.warm().unwrap();
        let (mut lines, mut records, mut bytes) = (0, 0, 0);
        for index in 0..PLAN.containers {
            let text = fs::read(log_path(&corpus.pods, PLAN.seed, index)).unwrap();
            bytes += text.len() as u64;
            let mut last = Nanos(0);
            for line in text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n') {
                let time = clock::parse(&line[..30]).unwrap();
                assert!(
                    time >= last && time.seconds() <= corpus.made && time.seconds() + 3_600 >= corpus.made
                );
                last = time;
                lines += 1;
                records += u64::from(&line[38..40] == b"F ");
                assert!(line.len() <= 40 + PIECE);
            }
        }
        assert_eq!((lines, records, bytes), (corpus.lines, corpus.records, corpus.bytes));
    }

    #[test]
    fn a_corpus_is_kept_until_it_is_too_old() {
        let cache = tempfile::tempdir().unwrap();
        let plan = Plan { bytes: 100_000, ..PLAN };
        let first = prepare(cache.path(), &plan).unwrap();
        let again = prepare(cache.path(), &plan).unwrap();
        assert_eq!((first.made, first.records, &first.pods), (again.made, again.records, &again.pods));
        let old = Corpus { made: 1, ..first.clone() };
        let manifest = cache.path().join(plan.folder()).join("corpus.json");
        fs::write(manifest, serde_json::to_vec(&old).unwrap()).unwrap();
        assert!(prepare(cache.path(), &plan).unwrap().made >= first.made);
    }
}
