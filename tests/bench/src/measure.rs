//! One run of an agent, watched from outside.
//!
//! In: an agent, its job and a sink. Out: what the kernel says of the process: CPU time of all its threads, peak
//! resident memory, wake-ups. The agent has one core for itself; the sink, the writers and this program have the
//! others. It never instruments the agent and believes nothing that the agent says of itself.

use crate::Outcome;
use crate::agent::{Agent, Compression, Job};
use crate::sink::{Options, Presence, Sink};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// After its last record is confirmed, an agent is watched this long for records too many.
const SETTLE: Duration = Duration::from_millis(500);

/// An agent that has nothing to send must end this soon after SIGTERM.
const STOP: Duration = Duration::from_secs(40);

/// Which cores belong to whom.
pub struct Cores {
    agent: CpuSet,
    bench: CpuSet,
    /// How many the bench has.
    pub bench_count: usize,
}

impl Cores {
    /// The first core for the agent, the others for the bench, this thread and its future children included. On
    /// a machine with a single core both share it, and a warning says so.
    pub fn divide() -> Outcome<Cores> {
        let all = sched_getaffinity(None)?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
        let first = numbers.next().ok_or("no core to run on")?;
        let (mut agent, mut bench) = (CpuSet::new(), CpuSet::new());
        agent.set(first);
        numbers.for_each(|cpu| bench.set(cpu));
        if bench.count() == 0 {
            eprintln!(
                "warning: one core only: the agent shares it with the sink, and wall times mean little"
            );
            bench = agent;
        }
        sched_setaffinity(None, &bench)?;
        Ok(Cores { agent, bench, bench_count: bench.count() as usize })
    }

    /// Starts `command` on the agent's core.
    fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        // A child inherits the affinity of the thread that makes it. To change it in the child itself would be
        // unsafe code between fork and exec.
        sched_setaffinity(None, &self.agent)?;
        let child = command.spawn();
        sched_setaffinity(None, &self.bench)?;
        child
    }
}

/// What all scenarios share.
pub struct Bench {
    /// Who is measured.
    pub agent: Agent,
    /// Who has which core.
    pub cores: Cores,
    /// The folder for corpora and for the files of runs.
    pub cache: PathBuf,
    /// A run fails after this long without a new record at the sink.
    pub stall: Duration,
    /// Corpora are made from it.
    pub seed: u64,
    /// Every `_id` is kept to prove that none came twice.
    pub verify_ids: bool,
}

impl Bench {
    /// A fresh folder for one run, on the file system of the logs, so that hard links work as on a node.
    pub fn folder(&self) -> Outcome<TempDir> {
        fs::create_dir_all(&self.cache)?;
        Ok(tempfile::Builder::new().prefix("run-").tempdir_in(&self.cache)?)
    }

    /// Starts a sink and the agent over `pods`, with `folder` for its own files.
    pub fn start(&self, pods: &Path, folder: &Path, compression: Compression, delays: bool) -> Outcome<Run> {
        self.start_with(pods, folder, compression, Options { delays, ..Options::default() })
    }

    /// The same with a sink that is away at first.
    pub fn start_away(
        &self,
        pods: &Path,
        folder: &Path,
        compression: Compression,
        presence: Presence,
    ) -> Outcome<Run> {
        self.start_with(pods, folder, compression, Options { presence, ..Options::default() })
    }

    /// The same with a sink as it is told to be.
    pub fn start_with(
        &self,
        pods: &Path,
        folder: &Path,
        compression: Compression,
        options: Options,
    ) -> Outcome<Run> {
        self.start_by(folder, options, |sink| {
            self.agent.command(&Job {
                pods,
                folder,
                port: sink.port(),
                certificate: sink.certificate(),
                compression,
                events: options.events,
            })
        })
    }

    /// Starts a sink, and whatever command is made for its port.
    pub fn start_command(
        &self,
        folder: &Path,
        options: Options,
        command: impl FnOnce(u16) -> Outcome<Command>,
    ) -> Outcome<Run> {
        self.start_by(folder, options, |sink| command(sink.port()))
    }

    fn start_by(
        &self,
        folder: &Path,
        options: Options,
        command: impl FnOnce(&Sink) -> Outcome<Command>,
    ) -> Outcome<Run> {
        let options = Options { verify_ids: self.verify_ids, ..options };
        let sink = Sink::start(options, self.cores.bench_count)?;
        let log = folder.join("agent.log");
        let mut command = command(&sink)?;
        command
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("agent.out"))?)
            .stderr(File::create(&log)?);
        let started = Instant::now();
        let child = self.cores.spawn(&mut command).map_err(|error| {
            let program = Path::new(command.get_program()).display();
            format!(
                "{program} could not be started ({error}); ours is built with `cargo build --release -p taffrail`"
            )
        })?;
        Ok(Run { sink, child, log, started, stall: self.stall })
    }
}

/// A running agent with its sink; killed when dropped.
pub struct Run {
    /// Where it sends.
    pub sink: Sink,
    child: Child,
    log: PathBuf,
    started: Instant,
    stall: Duration,
}

/// What a process has used since it began.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// When this was read.
    pub at: Instant,
    /// Seconds of CPU, user and system, of all threads, ended ones too.
    pub cpu: f64,
    /// How often its present threads gave up the core to wait, thus were woken.
    pub wakeups: u64,
}

/// Usage between two readings.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Per cent of one core.
    pub cpu: f64,
    /// Wake-ups a second.
    pub wakeups: f64,
}

impl Usage {
    /// What was used from `earlier` to this.
    pub fn since(&self, earlier: &Usage) -> Share {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64().max(1e-9);
        Share {
            cpu: 100.0 * (self.cpu - earlier.cpu) / seconds,
            wakeups: self.wakeups.saturating_sub(earlier.wakeups) as f64 / seconds,
        }
    }
}

impl Run {
    /// Time since the agent was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until the sink has at least `records`. An agent that ends, or sends nothing for the stall time, is
    /// an error that shows the end of its log.
    pub fn wait_for(&mut self, records: u64) -> Outcome<()> {
        let mut last = (self.sink.totals().documents, Instant::now());
        loop {
            let documents = self.sink.totals().documents;
            if documents >= records {
                return Ok(());
            }
            self.check_alive()?;
            if documents > last.0 {
                last = (documents, Instant::now());
            } else if last.1.elapsed() > self.stall {
                let (stall, missing) = (self.stall.as_secs(), records - documents);
                let what =
                    format!("nothing new for {stall} s; {documents} records of {records}, {missing} missing");
                return Err(self.failure(&what));
            }
            // The resolution of the wall time; what polling costs falls on the bench's core.
            sleep(Duration::from_millis(1));
        }
    }

    /// Sleeps for `time`, and fails at once if the agent ends meanwhile.
    pub fn watch(&mut self, time: Duration) -> Outcome<()> {
        let end = Instant::now() + time;
        loop {
            self.check_alive()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                left => sleep(left.min(Duration::from_millis(200))),
            }
        }
    }

    fn check_alive(&mut self) -> Outcome<()> {
        match self.child.try_wait()? {
            Some(status) => Err(self.failure(&format!("the agent ended by itself, {status}"))),
            None => Ok(()),
        }
    }

    /// What the agent has used up to now.
    pub fn usage(&self) -> Outcome<Usage> {
        let at = Instant::now();
        let (mut cpu, mut wakeups) = (0.0, 0);
        for folder in self.processes()? {
            cpu += cpu_seconds(&fs::read_to_string(folder.join("stat"))?)
                .ok_or("/proc/PID/stat is not understood")?;
            for task in fs::read_dir(folder.join("task"))? {
                // A thread may end between the listing and the reading.
                let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
                wakeups += status_field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            }
        }
        Ok(Usage { at, cpu, wakeups })
    }

    /// The highest resident memory so far, in MiB; with children, the sum of what each had.
    pub fn peak_rss(&self) -> Outcome<f64> {
        let mut kib = 0;
        for folder in self.processes()? {
            let status = fs::read_to_string(folder.join("status"))?;
            kib += status_field(&status, "VmHWM:").ok_or("/proc/PID/status has no VmHWM")?;
        }
        Ok(kib as f64 / 1024.0)
    }

    /// The folders in `/proc` of the agent and of the processes that it has started, and these in turn.
    fn processes(&self) -> Outcome<Vec<PathBuf>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // Others' processes end as they like.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            parents.extend(parent(&stat).map(|parent| (pid, parent)));
        }
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(&one) = found.get(at) {
            found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| pid));
            at += 1;
        }
        Ok(found.into_iter().map(|pid| PathBuf::from(format!("/proc/{pid}"))).collect())
    }

    /// Ends the run by SIGTERM. Fails unless the sink has exactly `records`, also after the agent has ended,
    /// every request was well-formed, and the agent's exit code is 0.
    pub fn finish(mut self, records: u64) -> Outcome<()> {
        sleep(SETTLE);
        self.check_alive()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let asked = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if asked.elapsed() > STOP => {
                    return Err(self.failure(&format!("still running {} s after SIGTERM", STOP.as_secs())));
                }
                None => sleep(Duration::from_millis(5)),
            }
        };
        if !status.success() {
            return Err(self.failure(&format!("after SIGTERM, {status}")));
        }
        let documents = self.sink.totals().documents;
        if documents != records {
            return Err(self.failure(&format!("{records} records were written, {documents} were delivered")));
        }
        self.sink.check()
    }

    /// An error with the end of the agent's log.
    fn failure(&self, what: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n  ");
        let refused = self.sink.check().err().map(|error| format!("\n{error}")).unwrap_or_default();
        format!("{what}{refused}\nthe end of the agent's log:\n  {tail}").into()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Nothing to do about a failure here; after `finish` it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `utime`, `stime` and the same of children that have ended, fields 14 to 17 of `/proc/PID/stat`, in seconds. The name
/// before them may hold blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = 0;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    for _ in 0..4 {
        ticks += fields.next()?.parse::<u64>().ok()?;
    }
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Who started a process: field 4.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 250 40 6 4 20 0 4 0 100 0 0";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat), Some(300.0 / ticks));
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(parent(stat), Some(1));
        let status = "VmHWM:\t    2048 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(status_field(status, "VmHWM:"), Some(2048));
        assert_eq!(status_field(status, "voluntary_ctxt_switches:"), Some(7));
    }
}
