//! The forwarder: subscription records of CloudWatch Logs become documents in Elasticsearch or OpenSearch.
//!
//! In: records as they come from Kinesis or in a Lambda event. Out: for each whether all of its events are held by the
//! destination (or, refused for good, by the dead letters); else it is to be brought again, which is harmless. Events of our
//! agents become exactly the documents, `_id`s and indices of the direct path ([`own`], [`trust`]); all others are
//! foreign ([`foreign`]). Sent by the `elasticsearch` output itself. Never keeps what it was given beyond a call, and
//! loses no event without counting it.

pub mod bounded;
pub mod bulk;
pub mod checkpoint;
pub mod foreign;
pub mod keeper;
pub mod kinesis;
pub mod lambda;
mod lease;
pub mod leases;
pub mod letters;
pub mod lookup;
pub mod own;
pub mod record;
pub mod replay;
pub mod share;
mod ship;
pub mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;

use crate::config::template::Prepared;
use crate::config::{Config, ElasticsearchConfig, ForwardConfig, OutputConfig};
use crate::output::backoff::Backoff;
use crate::output::dead_letter::{self, DeadLetters, Letter};
use crate::output::elasticsearch::Elasticsearch;
use crate::output::{Fate, Stop};
use crate::stats::{Counter, OutputStats};
use bulk::Bulk;
use letters::Letters;
use lookup::{Lookup, Metas, Unanswered};
use ship::{Shipping, Waiting};
use trust::Trust;

/// How far back a record may have been sent before, by us or by the agent itself: a Kinesis stream's usual retention.
const SENT_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// The client is made anew so often: what it holds to be a long time ago would else grow with its age.
const CLIENT_AGE: Duration = Duration::from_secs(3600);

/// What the first question may take, if less time than that is set for all of them.
const ONE_QUESTION: Duration = Duration::from_secs(2);

/// What was done since the start.
#[derive(Debug, Default)]
pub struct ForwardStats {
    /// Subscription records.
    pub records: Counter,
    /// Of these, those that hold no events by their own word.
    pub control: Counter,
    /// Of these, those that cannot be read: they are dead letters.
    pub unreadable: Counter,
    /// Events.
    pub events: Counter,
    /// Of these, records of ours.
    pub own: Counter,
    /// Of these, metadata of ours: no documents.
    pub metas: Counter,
    /// Of these, foreign ones.
    pub foreign: Counter,
    /// Of these, records of ours that are sent as foreign ones, since nobody has their metadata.
    pub unresolved: Counter,
    /// Objects that a replay has to do with.
    pub objects: Counter,
    /// Of these, those that it is done with.
    pub objects_done: Counter,
    behind: Mutex<BTreeMap<String, u64>>,
}

impl ForwardStats {
    /// A shard's reader is so many milliseconds behind its newest record; with `None` it reads no longer.
    fn set_behind(&self, shard: &str, millis: Option<u64>) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        match millis {
            Some(millis) => behind.insert(shard.to_owned(), millis),
            None => behind.remove(shard),
        };
    }

    /// How far the shard that is furthest behind is so, by the stream's own word; nothing before the first is read.
    pub fn behind(&self) -> Option<Duration> {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.values().max().copied().map(Duration::from_millis)
    }
}

/// What carries records on.
#[derive(Debug)]
pub struct Forwarder {
    name: String,
    config: ForwardConfig,
    output: ElasticsearchConfig,
    foreign: Prepared,
    letters: Letters,
    state: Mutex<State>,
    lookup: Lookup,
    aws: OnceCell<SdkConfig>,
    client: Mutex<(Arc<Elasticsearch>, Instant)>,
    stop: watch::Sender<Stop>,
    told: Mutex<Option<String>>,
    /// What the output has done.
    pub output_stats: Arc<OutputStats>,
    /// What the forwarder has done.
    pub stats: ForwardStats,
}

#[derive(Debug)]
struct State {
    trust: Trust,
    metas: Metas,
}

/// Why it cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(String);

impl Forwarder {
    /// By a configuration with one output, of type `elasticsearch`. Nothing is sent yet.
    ///
    /// # Errors
    /// What the configuration lacks for this, or a secret that is not there.
    pub fn new(config: &Config, state_dir: &Path) -> Result<Forwarder, SetupError> {
        let mut outputs = config.outputs.iter();
        let (Some((name, OutputConfig::Elasticsearch(output))), None) = (outputs.next(), outputs.next())
        else {
            let what =
                "the forwarder needs exactly one output, of type `elasticsearch`: say where documents go";
            return Err(SetupError(what.to_owned()));
        };
        let letters = DeadLetters::new(state_dir, name, output.dead_letters);
        let stop = watch::Sender::new(Stop::No);
        let output_stats = Arc::new(OutputStats::default());
        let client = client(name, output, state_dir, &output_stats, &stop)?;
        let forward = &config.forward;
        Ok(Forwarder {
            name: name.clone(),
            foreign: trust::foreign_target(forward.foreign.as_ref(), &output.target, &config.cluster),
            letters: Letters::new(name, letters, forward.dead_letters.clone(), state_dir),
            state: Mutex::new(State {
                trust: Trust::new(&forward.trusted, &output.target),
                metas: Metas::new(),
            }),
            lookup: Lookup::default(),
            aws: OnceCell::new(),
            client: Mutex::new((Arc::new(client), Instant::now())),
            config: forward.clone(),
            output: output.clone(),
            stop,
            told: Mutex::default(),
            output_stats,
            stats: ForwardStats::default(),
        })
    }

    /// How AWS is spoken to: region and credentials as the AWS CLI finds them.
    pub async fn aws(&self) -> &SdkConfig {
        self.aws.get_or_init(|| async { aws_config::load_defaults(BehaviorVersion::latest()).await }).await
    }

    /// From now on nothing is waited for any more, or everything again: what is under way ends unsettled.
    pub fn stop(&self, stop: Stop) {
        self.stop.send_replace(stop);
    }

    /// What was last in the way, for people.
    pub fn last_error(&self) -> Option<String> {
        self.output_stats.last_error()
    }

    /// Sends the events of these records, and returns what became of each. What is not acknowledged is to be brought again.
    pub async fn send(&self, records: &[&[u8]]) -> Vec<Fate> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => {
                self.output_stats.fail(error);
                return vec![Fate::Parked; records.len()];
            }
        };
        let mut shipping = Shipping {
            forwarder: self,
            client,
            bulk: Bulk::new(&self.output),
            under_way: JoinSet::new(),
            fates: vec![Fate::Acknowledged; records.len()],
        };
        let before = self.output_stats.dead_letters_dropped.get();
        let mut waiting = Vec::new();
        let mut text = Vec::new();
        for (number, bytes) in records.iter().enumerate() {
            self.stats.records.add(1);
            let most = self.config.max_inflated.bytes();
            let read = record::inflate(bytes, most, &mut text).and_then(|()| record::read(&text));
            match read {
                Ok(None) => self.stats.control.add(1),
                Ok(Some(record)) => shipping.take(number, &record, &mut waiting).await,
                Err(why) => {
                    self.stats.unreadable.add(1);
                    let letter = self.letters.unreadable(bytes, &why, &self.foreign);
                    match self.letters.append(&[letter]) {
                        Ok(dropped) => self.output_stats.dead_letters_dropped.add(dropped),
                        Err(error) => shipping.failed(number, &error),
                    }
                }
            }
        }
        self.resolve(waiting, &mut shipping).await;
        shipping.flush(true).await;
        let mut fates = shipping.fates;
        if let Err(error) = self.letters.send_away(self).await.and_then(|()| self.all_went_away(before)) {
            // They are on disk here, which a function's next life does not have.
            self.complain(&error);
            fates.fill(Fate::Parked);
        }
        fates
    }

    /// Sends letters again. What is refused once more becomes a letter again.
    ///
    /// # Errors
    /// The destination does not take them for now.
    pub async fn send_letters(&self, letters: &[Letter]) -> Result<(), String> {
        let client = self.client().map_err(|error| error.to_string())?;
        let before = self.output_stats.dead_letters_dropped.get();
        let settled = client.deliver(dead_letter::sealed(letters), None).await;
        if settled.runs.iter().any(|(_, fate)| *fate != Fate::Acknowledged) {
            return Err(self
                .last_error()
                .unwrap_or_else(|| "the destination does not take them now".to_owned()));
        }
        self.letters.send_away(self).await?;
        self.all_went_away(before)
    }

    /// Fails if letters that were to go away had to leave the disk before they did, since so many were `before`. Whose they
    /// are nobody knows: whatever was under way meanwhile comes again.
    fn all_went_away(&self, before: u64) -> Result<(), String> {
        if !self.letters.go_away() || self.output_stats.dead_letters_dropped.get() == before {
            return Ok(());
        }
        Err("more dead letters than the output's `dead_letters` leaves room for until they are sent away"
            .to_owned())
    }

    /// Sends the events of ours that came without their metadata, with what other events have brought meanwhile or CloudWatch
    /// has; after some time as foreign ones, marked.
    async fn resolve(&self, mut waiting: Vec<Waiting>, shipping: &mut Shipping<'_>) {
        let began = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
        let mut asked = !self.config.lookup;
        loop {
            let mut still = Vec::new();
            for event in waiting {
                let known = self.state().metas.get(event.source(), &event.revision);
                match known {
                    Some(fields) => {
                        let Waiting { record, event: id, millis, text, .. } = &event;
                        if !shipping.push_own(*record, event.source(), text, Some(&fields)) {
                            shipping.push_foreign(*record, event.source(), (id, *millis, text), None);
                        }
                    }
                    None => still.push(event),
                }
                shipping.flush(false).await;
            }
            waiting = still;
            let late = began.elapsed() >= self.config.lookup_for || *self.stop.borrow() != Stop::No;
            if waiting.is_empty() || (asked && (late || !self.config.lookup)) {
                break;
            }
            if asked {
                let _ = tokio::time::timeout(backoff.next(None), self.stopped()).await;
            }
            asked = true;
            if !self.ask(&waiting, began).await {
                break;
            }
        }
        if *self.stop.borrow() != Stop::No {
            // Not sent in a worse form for want of time.
            return waiting.iter().for_each(|event| shipping.fates[event.record] = Fate::Abandoned);
        }
        if !waiting.is_empty() {
            // What becomes of the rest of their records: one that comes again may then have its metadata, and would have
            // the event twice.
            shipping.flush(true).await;
        }
        for event in waiting {
            if shipping.fates[event.record] != Fate::Acknowledged {
                continue;
            }
            self.stats.unresolved.add(1);
            let Waiting { record, event: id, millis, text, revision, .. } = &event;
            shipping.push_foreign(*record, event.source(), (id, *millis, text), Some(revision));
            shipping.flush(false).await;
        }
    }

    /// Returns when nothing, or not everything, is waited for any more.
    async fn stopped(&self) {
        // The sender is our own: it cannot be gone.
        let _ = self.stop.subscribe().wait_for(|stop| *stop != Stop::No).await;
    }

    /// Asks CloudWatch for what is waited for since `began`, as long as that may take; false if there is no sense in asking
    /// again.
    async fn ask(&self, waiting: &[Waiting], began: Instant) -> bool {
        let mut sense = false;
        let end = began + self.config.lookup_for.max(ONE_QUESTION);
        let mut asked = BTreeSet::new();
        for event in waiting {
            let source = event.source();
            if !asked.insert((&event.source, &event.revision)) {
                continue;
            }
            if self.state().metas.get(source, &event.revision).is_some() {
                sense = true;
                continue;
            }
            // By the hundred, each of many pages, they take longer than there is time. What was found until then is of use.
            let found = tokio::select! {
                biased;
                () = self.stopped() => return true,
                () = tokio::time::sleep_until(end.into()) => return true,
                found = async {
                    self.lookup.find(self.aws().await, source, (&event.revision, event.millis)).await
                } => found,
            };
            match found {
                Ok(Some(fields)) => {
                    sense = true;
                    let text = format!("{{\"taffrail\":{{\"meta\":\"{}\"}}{fields}", event.revision);
                    self.state().metas.take(source, &text);
                }
                Ok(None) => sense = true,
                Err(Unanswered::Later(what)) => {
                    sense = true;
                    self.complain(&what);
                }
                Err(Unanswered::Never(what)) => self.complain(&what),
            }
        }
        sense
    }

    fn client(&self) -> Result<Arc<Elasticsearch>, SetupError> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if held.1.elapsed() > CLIENT_AGE {
            let made =
                client(&self.name, &self.output, self.letters.state_dir(), &self.output_stats, &self.stop)?;
            *held = (Arc::new(made), Instant::now());
        }
        Ok(held.0.clone())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change of it is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of what is in the way, once until it is something else.
    pub fn complain(&self, what: &str) {
        self.output_stats.fail(what);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_deref() != Some(what) {
            tracing::warn!(output = self.name, trouble = what, "cannot go on as it should; trying again");
            *told = Some(what.to_owned());
        }
    }
}

fn client(
    name: &str,
    output: &ElasticsearchConfig,
    state_dir: &Path,
    stats: &Arc<OutputStats>,
    stop: &watch::Sender<Stop>,
) -> Result<Elasticsearch, SetupError> {
    let letters = DeadLetters::new(state_dir, name, output.dead_letters);
    let before = SystemTime::now().checked_sub(SENT_BEFORE);
    Elasticsearch::new(name, output, letters, before, stats.clone(), stop.subscribe())
        .map_err(|error| SetupError(error.to_string()))
}

#[cfg(test)]
#[path = "forward/forward_tests.rs"]
mod tests;
