//! Health records: what the agent tells of itself through its own outputs.
//!
//! In: what of the running agent may be looked at, and the wish for a last word. Out: records in a file of the state
//! directory ([`file`]), one set of them ([`records`]) an interval and one at the end. The outputs that `[health]` names read it
//! like any log, with positions, ids and retries as for all else: nothing here waits for any of them. Its own thread, since the
//! disk may hang; asleep between two records, and not there before somebody wants any.

pub mod file;
pub mod records;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use crate::admin::told::Told;
use crate::clock::FOR_EVER;
use crate::config::Config;
use crate::pipeline::{View, own_pod};
use crate::stats::OutputStats;
use file::HealthFile;
use records::{Place, Recorder};

/// How long the end of the agent waits for the last records.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What is recorded, and how often.
#[derive(Debug)]
struct Shown {
    view: View,
    place: Place,
    interval: Duration,
    state_dir: PathBuf,
}

#[derive(Debug)]
enum Ask {
    /// This agent runs now; nothing if it is to be silent.
    Shows(Option<Box<Shown>>),
    /// A record now, and an answer once it is written.
    Last(SyncSender<()>),
}

/// What is asked of the thread that writes, which is there from the first agent on that is to tell of itself, and ends with
/// the process.
#[derive(Debug)]
pub struct Health {
    told: Arc<Told>,
    started: Instant,
    /// An agent has run that was to be silent.
    was_silent: bool,
    asks: Option<Sender<Ask>>,
}

impl Health {
    /// For a process that begins now. `told`: what the agent has warned of, of which errors are counted.
    pub fn new(told: Arc<Told>) -> Health {
        Health { told, started: Instant::now(), was_silent: false, asks: None }
    }

    /// This agent runs now, by this configuration.
    pub fn shows(&mut self, view: View, config: &Config) {
        let shown = config.health.is_wanted().then(|| {
            let kinds = config.outputs.iter().map(|(name, output)| (name.clone(), output.kind()));
            Box::new(Shown {
                view,
                place: Place {
                    node: config.node.clone(),
                    pod: own_pod(),
                    retained_limit: config.retain.max_bytes.bytes(),
                    kinds: kinds.collect(),
                },
                interval: config.health.interval,
                state_dir: config.state_dir.clone(),
            })
        });
        if self.asks.is_none() && shown.is_some() {
            match self.start() {
                Ok(asks) => self.asks = Some(asks),
                Err(error) => tracing::warn!(%error, "no thread to be had: no health records are written"),
            }
        }
        self.was_silent |= shown.is_none();
        if let Some(asks) = &self.asks {
            // The thread lives as long as this.
            let _ = asks.send(Ask::Shows(shown));
        }
    }

    fn start(&self) -> io::Result<Sender<Ask>> {
        let (asks, asked) = mpsc::channel();
        let mut writer = HealthWriter {
            told: self.told.clone(),
            shown: None,
            file: None,
            recorder: Recorder::new(self.started),
            was_silent: self.was_silent,
            failed: false,
        };
        std::thread::Builder::new().name("health".into()).spawn(move || writer.run(&asked))?;
        Ok(asks)
    }

    /// Writes a last record, so that the last that outputs read says how far they were. Waits a moment at most.
    pub async fn last(&self) {
        let Some(asks) = self.asks.clone() else { return };
        let waits = move || {
            let (done, written) = mpsc::sync_channel(1);
            let _ = asks.send(Ask::Last(done));
            let _ = written.recv_timeout(LAST_WORD);
        };
        // An error would be a panic in there.
        let _ = tokio::task::spawn_blocking(waits).await;
    }
}

struct HealthWriter {
    told: Arc<Told>,
    shown: Option<Box<Shown>>,
    file: Option<HealthFile>,
    recorder: Recorder,
    /// What was counted so far was while nobody was to be told.
    was_silent: bool,
    /// It has been told that the file cannot be written.
    failed: bool,
}

impl HealthWriter {
    fn run(&mut self, asked: &Receiver<Ask>) {
        let mut due: Option<Instant> = None;
        loop {
            let wait = due.map_or(FOR_EVER, |due| due.saturating_duration_since(Instant::now()));
            match asked.recv_timeout(wait) {
                Ok(Ask::Shows(shown)) => {
                    self.leave(shown.as_deref());
                    let interval = |shown: &Option<Box<Shown>>| shown.as_ref().map(|shown| shown.interval);
                    if interval(&self.shown) != interval(&shown) {
                        due = shown.as_ref().map(|shown| Instant::now() + shown.interval);
                    }
                    let same = self.shown.as_ref().zip(shown.as_ref());
                    if same.is_none_or(|(old, new)| old.state_dir != new.state_dir) {
                        self.file = shown.as_ref().map(|shown| HealthFile::new(&shown.state_dir));
                    }
                    match &shown {
                        None => self.was_silent = true,
                        Some(shown) if std::mem::take(&mut self.was_silent) => {
                            // What was before is not told.
                            self.recorder.take(&shown.view, &shown.place, self.told.errors());
                        }
                        Some(_) => {}
                    }
                    self.shown = shown;
                }
                Ok(Ask::Last(done)) => {
                    self.write();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.write();
                    due = self.shown.as_ref().map(|shown| Instant::now() + shown.interval);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Another agent takes the place of the one that is shown: what is left to tell of outputs that go with it is told.
    fn leave(&mut self, next: Option<&Shown>) {
        let Some(next) = next else { return };
        let stays = |output: &str, stats: &Arc<OutputStats>| {
            next.view.outputs.iter().any(|(name, new)| name == output && Arc::ptr_eq(new, stats))
        };
        let outputs = self.shown.iter().flat_map(|shown| &shown.view.outputs).cloned();
        let (kept, gone): (Vec<_>, Vec<_>) = outputs.partition(|(output, stats)| stays(output, stats));
        if !gone.is_empty() {
            self.write();
        }
        self.recorder.keep_only(|output| kept.iter().any(|(name, _)| name == output));
    }

    fn write(&mut self) {
        let (Some(shown), Some(file)) = (&self.shown, &mut self.file) else { return };
        let records = self.recorder.take(&shown.view, &shown.place, self.told.errors());
        match file.append(&records) {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(%error, "cannot write health records: those of this time are left out");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::records::tests::view;

    /// A silent configuration, and one of which all is told.
    fn configs(folder: &tempfile::TempDir) -> (Config, Config) {
        let text = "[outputs.search]\ntype = \"stdout\"\n";
        let of = |text: &str| {
            let config = Config::parse(text, "t.toml").unwrap_or_else(|error| panic!("{error}"));
            Config { state_dir: folder.path().to_owned(), ..config }
        };
        (of(text), of(&format!("{text}[health]\noutputs = [\"search\"]\n")))
    }

    /// The retries that have been told of an output, after a last record.
    fn told(health: &Health, folder: &tempfile::TempDir, output: &str) -> Vec<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(health.last());
        let text = std::fs::read_to_string(folder.path().join(file::FOLDER).join(file::NAMES[0])).unwrap();
        let records = text.lines().map(|line| {
            serde_json::from_str::<serde_json::Value>(line.split_once(" F ").unwrap().1).unwrap()
        });
        let of_it = records.map(|record| record[records::FIELD].clone());
        let of_it = of_it.filter(|told| told["kind"] == "output" && told["output"] == output);
        of_it.map(|told| told["retries"].as_u64().unwrap()).collect()
    }

    #[test]
    fn what_the_first_agent_has_counted_is_told_and_what_nobody_was_to_be_told_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let ((silent, told_of), stats) = (configs(&folder), Arc::new(OutputStats::default()));
        let shown = view(&[("search", &stats)]);
        stats.retries.add(2);
        let mut health = Health::new(Arc::default());
        health.shows(shown.clone(), &told_of);
        assert_eq!(told(&health, &folder, "search"), [2]);
        health.shows(shown.clone(), &silent);
        stats.retries.add(5);
        health.shows(shown.clone(), &told_of);
        // Once it has been told of nothing, what was before is behind it.
        assert_eq!(told(&health, &folder, "search"), [2, 0]);
        stats.retries.add(1);
        assert_eq!(told(&health, &folder, "search"), [2, 0, 1]);
        // The same where the first agent was silent: then there is no thread before the second.
        let mut later = Health::new(Arc::default());
        later.shows(shown.clone(), &silent);
        assert!(later.asks.is_none());
        later.shows(shown, &told_of);
        assert_eq!(told(&later, &folder, "search"), [2, 0, 1, 0]);
    }

    #[test]
    fn an_output_that_goes_is_told_of_once_more_and_counts_anew_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (_, config) = configs(&folder);
        let [first, other, second] = std::array::from_fn(|_| Arc::new(OutputStats::default()));
        let mut health = Health::new(Arc::default());
        first.retries.add(3);
        health.shows(view(&[("search", &first), ("other", &other)]), &config);
        assert_eq!(told(&health, &folder, "search"), [3]);
        first.retries.add(4);
        other.retries.add(1);
        health.shows(view(&[("other", &other)]), &config);
        assert_eq!(told(&health, &folder, "search"), [3, 4]);
        assert_eq!(told(&health, &folder, "other")[..2], [0, 1]);
        second.retries.add(1);
        health.shows(view(&[("search", &second)]), &config);
        assert_eq!(told(&health, &folder, "search"), [3, 4, 1]);
    }
}
