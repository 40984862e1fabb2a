//! A Kinesis stream, read to its end for ever: the forwarder as a long-running process.
//!
//! In: a stream's name. Out: its records to the forwarder, shard by shard, each shard in its order; the children of a shard
//! after it. A checkpoint moves over what is settled. Throttling is backed off from. One process reads all shards, or those
//! that the [`Keeper`] says are its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, Shard, ShardIteratorType};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Forwarder;
use super::checkpoint::Reached;
use super::keeper::Keeper;
use super::leases::Listed;
use crate::config::Start;
use crate::output::Fate;
use crate::output::backoff::Backoff;
use crate::output::http::words;

/// GetRecords: five calls a second for a shard.
const PACE: Duration = Duration::from_millis(210);

/// Records asked for at once: of 1 MiB at most, and 10 MiB a call.
const AT_ONCE: i32 = 500;

/// Waits after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// A reader that is so far behind is told of: a stream keeps its records for a day, if it was not set to keep them longer.
const FAR_BEHIND: Duration = Duration::from_secs(4 * 3600);

/// How long one call may take.
const CALL_WITHIN: Duration = Duration::from_secs(60);

/// Who reads a stream.
#[derive(Debug, Clone)]
pub struct Reader {
    forwarder: Arc<Forwarder>,
    client: Client,
    stream: String,
    keeper: Arc<Keeper>,
    stop: watch::Receiver<bool>,
    /// For who reads a shard: it is to be another's.
    leave: watch::Receiver<bool>,
}

/// Shards that are being read, each with the word to leave it.
type Reading = BTreeMap<String, watch::Sender<bool>>;

impl Reader {
    /// Of this stream, by its name or ARN, until `stop` says so.
    pub async fn new(
        forwarder: Arc<Forwarder>,
        stream: &str,
        keeper: Keeper,
        stop: watch::Receiver<bool>,
    ) -> Reader {
        let client = Client::new(forwarder.aws().await);
        let (keeper, leave) = (Arc::new(keeper), watch::channel(false).1);
        Reader { forwarder, client, stream: stream.to_owned(), keeper, stop, leave }
    }

    /// Reads every shard that is its own, as they come and go.
    ///
    /// # Errors
    /// A shard's reader failed in a way that is a bug.
    pub async fn run(mut self) -> Result<(), String> {
        let mut readers = JoinSet::new();
        let (mut reading, mut shards) = (Reading::new(), Vec::new());
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let every = self.keeper.every(self.forwarder.config.discover);
        while !self.stopped() {
            let wait = match self.turn(&mut shards, &mut reading, &mut readers).await {
                Ok(()) => {
                    backoff.reset();
                    every
                }
                Err(what) => {
                    self.forwarder.complain(&what);
                    backoff.next(None).min(every)
                }
            };
            // What is another's by now, or may be.
            for (_, leave) in reading.iter().filter(|(shard, _)| !self.keeper.may_read(shard)) {
                leave.send_replace(true);
            }
            tokio::select! {
                Some(ended) = readers.join_next() => {
                    let shard: String = ended.map_err(|error| format!("reading a shard failed: {error}"))?;
                    reading.remove(&shard);
                }
                () = self.sleep(wait) => {}
            }
        }
        while let Some(ended) = readers.join_next().await {
            ended.map_err(|error| format!("reading a shard failed: {error}"))?;
        }
        if let Err(what) = self.keeper.leave().await {
            tracing::warn!(
                stream = self.stream,
                trouble = what,
                "could not give back its shards: others take them over when the leases have run out"
            );
        }
        Ok(())
    }

    /// Begins with what is not read yet, and may be: a child's records come after all of its parents'.
    /// `shards` is what the stream listed last.
    async fn turn(
        &self,
        shards: &mut Vec<Listed>,
        reading: &mut Reading,
        readers: &mut JoinSet<String>,
    ) -> Result<(), String> {
        let listing = tokio::time::timeout(self.keeper.patience(), self.shards()).await;
        match listing.unwrap_or_else(|_| Err(format!("kinesis:ListShards on {}: no answer", self.stream))) {
            Ok(listed) => *shards = listed,
            // What is held is to be renewed nevertheless.
            Err(what) if self.keeper.is_shared() && !shards.is_empty() => self.forwarder.complain(&what),
            Err(what) => return Err(what),
        }
        let read: BTreeSet<String> = reading.keys().cloned().collect();
        let turned = self.keeper.turn(&self.stream, shards, &read).await;
        if turned.is_err() && !self.keeper.is_shared() {
            // What is out of date would be taken for read: rather nothing is begun until it is kept.
            return turned;
        }
        // What is held goes on being renewed whatever else failed, and nobody else could read it meanwhile.
        let is_listed = |parent: &str| shards.iter().any(|shard| shard.id == parent);
        let is_done = |parent: &String| !is_listed(parent) || self.keeper.of(parent).finished;
        for Listed { id, begins, parents } in shards.iter() {
            let reached = self.keeper.of(id);
            // Of another: the stream was made again, and that is not yet kept.
            let is_unread = !reached.finished && !reached.is_of_another(begins.as_deref());
            let is_free = !read.contains(id) && is_unread && self.keeper.may_read(id);
            if !is_free || !parents.iter().all(is_done) {
                continue;
            }
            tracing::info!(stream = self.stream, shard = id, "began to read a shard");
            let (leave, heard) = watch::channel(false);
            reading.insert(id.clone(), leave);
            let mut reader = Reader { leave: heard, ..self.clone() };
            let (name, begins) = (id.clone(), begins.clone());
            readers.spawn(async move {
                reader.read(&name, begins.as_deref()).await;
                reader.forwarder.stats.set_behind(&name, None);
                name
            });
        }
        turned
    }

    async fn shards(&self) -> Result<Vec<Listed>, String> {
        let (mut shards, mut token) = (Vec::new(), None::<String>);
        loop {
            let mut call = self.client.list_shards();
            call = match token.take() {
                // With a token nothing else may be named.
                Some(token) => call.next_token(token),
                None if self.stream.starts_with("arn:") => call.stream_arn(&self.stream),
                None => call.stream_name(&self.stream),
            };
            let page = within(call.send()).await.map_err(|fault| self.told("ListShards", &fault))?;
            shards.extend(page.shards().iter().map(listed));
            token = page.next_token;
            if token.is_none() {
                return Ok(shards);
            }
        }
    }

    /// Reads a shard until it is closed and done, or the process stops.
    async fn read(&mut self, shard: &str, begins: Option<&str>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut iterator: Option<String> = None;
        let (mut anew, mut told) = (false, false);
        // One that was made again has a reader of its own after this one.
        while !self.stopped() && !self.keeper.of(shard).is_of_another(begins) {
            let called = Instant::now();
            let Some(here) = iterator.take() else {
                match self.iterator(shard, anew).await {
                    Ok(found) => (iterator, anew) = (found, false),
                    Err(fault) => {
                        self.forwarder.complain(&self.told("GetShardIterator", &fault));
                        if fault.code == "ResourceNotFoundException" {
                            // All of it is too old. If the stream still lists it, it is begun again.
                            return self.sleep(self.forwarder.config.discover).await;
                        }
                        // A stream of that name that was made anew knows none of the old numbers.
                        anew = fault.code == "InvalidArgumentException";
                        self.sleep(backoff.next(None)).await;
                    }
                }
                continue;
            };
            let reply = within(self.client.get_records().shard_iterator(&here).limit(AT_ONCE).send()).await;
            let reply = match reply {
                Ok(reply) => reply,
                Err(fault) => {
                    match fault.code.as_str() {
                        "ExpiredIteratorException" => {}
                        "ProvisionedThroughputExceededException" if backoff.tries() < 5 => {
                            iterator = Some(here)
                        }
                        _ => {
                            self.forwarder.complain(&self.told("GetRecords", &fault));
                            iterator = Some(here);
                        }
                    }
                    self.sleep(backoff.next(None)).await;
                    continue;
                }
            };
            backoff.reset();
            let behind = Duration::from_millis(reply.millis_behind_latest.unwrap_or(0).max(0) as u64);
            self.forwarder.stats.set_behind(shard, Some(behind.as_millis() as u64));
            if behind > FAR_BEHIND && !std::mem::replace(&mut told, true) {
                let hours = behind.as_secs() / 3600;
                tracing::warn!(
                    stream = self.stream,
                    shard,
                    hours,
                    "far behind: what becomes older than the stream's retention is lost"
                );
            }
            told &= behind > FAR_BEHIND;
            let is_idle = reply.records.is_empty();
            if !self.carry((shard, begins), reply.records).await {
                return;
            }
            iterator = reply.next_shard_iterator;
            if iterator.is_none() {
                let Reached { sequence, .. } = self.keeper.of(shard);
                let reached = Reached { sequence, finished: true, begins: begins.map(str::to_owned) };
                self.save(shard, reached).await;
                tracing::info!(stream = self.stream, shard, "a closed shard was read to its end");
                return;
            }
            let pause = if is_idle { self.forwarder.config.poll } else { PACE };
            self.sleep(pause.saturating_sub(called.elapsed())).await;
        }
    }

    /// Where to go on; with `anew` from the oldest record that there is.
    async fn iterator(&self, shard: &str, anew: bool) -> Result<Option<String>, Fault> {
        let mut call = self.client.get_shard_iterator().shard_id(shard);
        call = if self.stream.starts_with("arn:") {
            call.stream_arn(&self.stream)
        } else {
            call.stream_name(&self.stream)
        };
        let Reached { sequence, .. } = self.keeper.of(shard);
        call = if !sequence.is_empty() && !anew {
            call.shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(sequence)
        } else if self.forwarder.config.start == Start::Now {
            let since = DateTime::from_millis(self.keeper.since() as i64);
            call.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(since)
        } else {
            call.shard_iterator_type(ShardIteratorType::TrimHorizon)
        };
        within(call.send()).await.map(|reply| reply.shard_iterator)
    }

    /// Carries records on until all of them are settled; false if the process stops before.
    async fn carry(&mut self, (shard, begins): (&str, Option<&str>), mut records: Vec<Record>) -> bool {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut settled: Vec<bool> = vec![false; records.len()];
        let mut left: Vec<usize> = (0..records.len()).collect();
        let mut saved = 0;
        while !left.is_empty() {
            let bytes: Vec<&[u8]> = left.iter().map(|at| records[*at].data().as_ref()).collect();
            let fates = self.forwarder.send(&bytes).await;
            let ended = left.iter().zip(fates).filter(|(_, fate)| *fate == Fate::Acknowledged);
            ended.for_each(|(at, _)| settled[*at] = true);
            // The checkpoint goes only so far as there is no gap.
            let reached = settled.iter().position(|settled| !settled).unwrap_or(settled.len());
            if reached > saved {
                saved = reached;
                let sequence = std::mem::take(&mut records[reached - 1].sequence_number);
                let begins = begins.map(str::to_owned);
                if !self.save(shard, Reached { sequence, finished: false, begins }).await {
                    return false;
                }
            }
            left.retain(|at| !settled[*at]);
            if left.is_empty() {
                return true;
            }
            if self.stopped() {
                return false;
            }
            self.sleep(backoff.next(None)).await;
        }
        true
    }

    /// Saves a checkpoint, however long the disk takes; false if the process stops before, or the shard is another's.
    async fn save(&mut self, shard: &str, reached: Reached) -> bool {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match self.keeper.reach(shard, reached.clone()) {
                Ok(is_held) => return is_held,
                Err(error) => self.forwarder.complain(&format!("cannot save checkpoints: {error}")),
            }
            if self.stopped() {
                return false;
            }
            self.sleep(backoff.next(None)).await;
        }
    }

    /// Whether to end: the process stops, or the shard is to be another's.
    fn stopped(&self) -> bool {
        *self.stop.borrow() || *self.leave.borrow()
    }

    /// Lets time pass, unless it is to end.
    async fn sleep(&mut self, time: Duration) {
        let Reader { stop, leave, .. } = self;
        let left = async {
            // Of the process's own there is nobody who could say so.
            if leave.wait_for(|leave| *leave).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            // Whoever could say so is gone: as good as said.
            _ = stop.wait_for(|stop| *stop) => {}
            () = left => {}
        }
    }

    fn told(&self, action: &str, fault: &Fault) -> String {
        format!("kinesis:{action} on {}: {}", self.stream, fault.what)
    }
}

/// What matters of a shard: its first sequence number is one that no other shard has.
fn listed(shard: &Shard) -> Listed {
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()].into_iter().flatten();
    let range = shard.sequence_number_range();
    Listed {
        id: shard.shard_id().to_owned(),
        begins: range.map(|range| range.starting_sequence_number().to_owned()),
        parents: parents.map(str::to_owned).collect(),
    }
}

/// Why a call failed.
#[derive(Debug, Default)]
struct Fault {
    code: String,
    what: String,
}

/// A call's answer, in time.
async fn within<T, E>(call: impl Future<Output = Result<T, SdkError<E>>>) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    SdkError<E>: ProvideErrorMetadata,
{
    match tokio::time::timeout(CALL_WITHIN, call).await {
        Err(_) => {
            Err(Fault { what: format!("no answer within {} s", CALL_WITHIN.as_secs()), ..Fault::default() })
        }
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(Fault {
            code: error.code().unwrap_or_default().to_owned(),
            what: words::line(&DisplayErrorContext(&error).to_string()),
        }),
    }
}
