//! The `elasticsearch` output: bulk requests to Elasticsearch or OpenSearch.
//!
//! In: sealed batches, several at a time. Out: each settled by the server's own word on every item. A request that
//! failed is sent again with back-off, one that is too large in halves, and likewise one that is refused while others are
//! taken; items that were refused for now are sent again alone, and after some tries their container is set aside; items
//! refused for good are sent once more in safe form, and then go to the dead letters. Never decides what to read, never
//! builds a tree of a reply. No call but `_bulk` is made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::sync::{Semaphore, watch};

use super::backoff::Backoff;
use super::credit::Credit;
use super::dead_letter::DeadLetters;
use super::http::{HttpClient, SetupError};
use super::load::{self, BatchLimit, Load, Taken, Target};
use super::refused::{self, Refusals, Verdict};
use super::reply::{self, Item};
use super::rollover::{self, Unknown};
use super::{Fate, Settled, Stop};
use crate::batch::{Run, Sealed};
use crate::config::{self, ElasticsearchConfig};
use crate::stats::OutputStats;

/// How often an item that is refused for now is sent again before its container is set aside.
const ITEM_TRIES: u32 = 4;

/// One destination.
#[derive(Debug)]
pub struct Elasticsearch {
    name: String,
    client: HttpClient,
    retry: Backoff,
    level: Option<u32>,
    dead_letters: DeadLetters,
    batch_limit: BatchLimit,
    /// When a part of a body was taken that had been refused as a whole.
    part_taken: Mutex<Option<Instant>>,
    /// Whether records in doubt are looked for where a data stream has rolled over.
    looks_back: bool,
    /// Whether documents name their own `_id`.
    ids: bool,
    /// Whether documents go through an ingest pipeline that the configuration names.
    pipeline: bool,
    /// Whether an earlier process has sent to it.
    follows: bool,
    /// What is in doubt after a restart, or after a container was set aside, was not sent before this.
    doubt_began: SystemTime,
    told_rollover: AtomicBool,
    told_refused: AtomicBool,
    told_apart: AtomicBool,
    stats: Arc<OutputStats>,
    stop: watch::Receiver<Stop>,
    /// What is left of batches is sent one request at a time, beyond those in flight.
    remainders: Semaphore,
    /// Whether the present trouble has been told.
    told: AtomicBool,
}

/// Why a request is to be sent again.
#[derive(Default)]
struct Trouble {
    what: String,
    retry_after: Option<Duration>,
    /// Whether the server may have taken it nevertheless.
    in_doubt: bool,
    /// The server takes no request of this size (413).
    too_large: bool,
    /// What is in it may be the reason (403, 400 and the like).
    of_body: bool,
    /// The status of the answer, if there was one.
    status: u16,
}

/// How the delivery of a batch stands.
struct Standing {
    /// Its body, while most of it is still to be sent.
    whole: Bytes,
    /// What it holds of the output's credit; `None` where nobody counts.
    credit: Option<Credit>,
    /// When it was first sent, by the server's kind of clock.
    begun: SystemTime,
    /// The same by a clock that does not jump.
    started: Instant,
    /// Runs that the destination does not take for now.
    parked: BTreeSet<usize>,
    /// A request's end was not seen: what it held may be there already.
    in_doubt: bool,
    /// The server has judged some of it.
    answered: bool,
    /// It was taken apart, for its size or for what is in it.
    apart: bool,
    /// How often some of it was refused as a whole.
    refusals: Option<Refusals>,
    /// The waits before what is taken apart for that is sent.
    pace: Backoff,
}

impl Standing {
    /// Where only `waiting` bytes are left of the batch, and those are few, neither its body nor its credit is kept for
    /// them.
    fn lighten(&mut self, waiting: usize) {
        if waiting * 4 <= self.whole.len() {
            self.whole = Bytes::new();
            if let Some(credit) = &mut self.credit {
                credit.keep_only(waiting as u64);
            }
        }
    }
}

impl Elasticsearch {
    /// A client for the configured endpoints; `previous_end` is when an earlier process last saved its positions. Nothing is sent yet: a server that is away is waited for.
    pub fn new(
        name: &str,
        config: &ElasticsearchConfig,
        dead_letters: DeadLetters,
        previous_end: Option<SystemTime>,
        stats: Arc<OutputStats>,
        stop: watch::Receiver<Stop>,
    ) -> Result<Elasticsearch, SetupError> {
        Ok(Elasticsearch {
            name: name.to_owned(),
            client: HttpClient::new(config)?,
            retry: Backoff::new(config.retry_initial, config.retry_max),
            level: config.gzip_level(),
            dead_letters,
            batch_limit: BatchLimit::new(config.reading.batch.bytes()),
            part_taken: Mutex::default(),
            looks_back: config.document_id && matches!(config.target, config::Target::DataStream(_)),
            ids: config.document_id,
            pipeline: config.pipeline.is_some(),
            follows: previous_end.is_some(),
            doubt_began: doubt_began(previous_end),
            told_rollover: AtomicBool::new(false),
            told_refused: AtomicBool::new(false),
            told_apart: AtomicBool::new(false),
            stats,
            stop,
            remainders: Semaphore::new(1),
            told: AtomicBool::new(false),
        })
    }

    /// Sends a batch until every item of it is settled, or the agent stops. When little of it is left, most of `credit` is
    /// given back.
    pub async fn deliver(&self, sealed: Sealed, credit: Option<Credit>) -> Settled {
        let Sealed { body, compressed, runs, items, .. } = sealed;
        let mut standing = Standing {
            whole: Bytes::from(body),
            credit,
            begun: SystemTime::now(),
            started: Instant::now(),
            parked: BTreeSet::new(),
            in_doubt: false,
            answered: false,
            apart: false,
            refusals: None,
            pace: self.retry.clone(),
        };
        let first = Load::whole(standing.whole.clone(), self.level.filter(|_| compressed), items);
        let mut loads = VecDeque::from([first]);
        while let Some(load) = loads.pop_front() {
            // What stands beside the fault is read again with it. Sent piece by piece it would be thousands of requests.
            if standing.apart
                && !load.safe
                && (0..load.items).all(|item| standing.parked.contains(&run_of(&runs, load.place(item))))
            {
                continue;
            }
            match self.send(load, &runs, &mut standing).await {
                Some(more) => more.into_iter().rev().for_each(|load| loads.push_front(load)),
                None => return settle(runs, |_| Fate::Abandoned, standing.whole),
            }
        }
        settle(
            runs,
            |run| if standing.parked.contains(&run) { Fate::Parked } else { Fate::Acknowledged },
            standing.whole,
        )
    }

    /// Sends a load until each of its items is taken, refused, parked, or part of a further load, which is returned;
    /// `None` if the agent stops.
    async fn send(&self, mut load: Load, runs: &[Run], standing: &mut Standing) -> Option<Vec<Load>> {
        let mut stop = self.stop.clone();
        let mut backoff = self.retry.clone();
        let (mut more, mut tries) = (Vec::new(), 0);
        // At the very first start there is nobody who could have sent anything before.
        let mut doubtful =
            standing.in_doubt || runs.iter().any(|run| run.in_doubt && (self.follows || run.epoch > 0));
        loop {
            let doubt = doubtful.then(|| self.doubt_began(standing));
            let patient = standing.started.elapsed() < SHARDS_COME_BACK;
            let is_remainder = standing.whole.is_empty();
            let attempt = async {
                // It is never closed.
                let _turn = if is_remainder { self.remainders.acquire().await.ok() } else { None };
                self.attempt_once(&mut load, doubt, patient).await
            };
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                _ = stop.wait_for(|stop| *stop == Stop::Now) => return None,
            };
            if load.items == 0 {
                return Some(more);
            }
            let wait = match attempt {
                Err(trouble) if trouble.too_large => {
                    self.tell_trouble(&trouble.what);
                    let item = Item { index: 0, status: 413, reason: trouble.what, ..Item::default() };
                    let parts = self.make_smaller(&load, item, runs, standing).await;
                    more.extend(self.or_park(&load, parts, runs, standing));
                    return Some(more);
                }
                Err(trouble) if trouble.of_body && self.blames_the_body(standing) => {
                    self.tell_apart(&trouble.what);
                    let wait = standing.pace.next(trouble.retry_after);
                    self.wait(wait, standing).await?;
                    let item =
                        Item { index: 0, status: trouble.status, reason: trouble.what, ..Item::default() };
                    let parts = self.take_apart(&load, item, runs, standing).await;
                    more.extend(self.or_park(&load, parts, runs, standing));
                    return Some(more);
                }
                Err(trouble) => {
                    standing.in_doubt |= trouble.in_doubt;
                    doubtful |= trouble.in_doubt;
                    self.tell_trouble(&trouble.what);
                    self.stats.retries.add(1);
                    backoff.next(trouble.retry_after)
                }
                Ok(failed) => {
                    self.tell_recovery();
                    doubtful = false;
                    standing.answered = true;
                    if standing.apart && standing.refusals.is_some() {
                        *self.part_taken.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some(Instant::now());
                    }
                    let (again, refused) = self.judge(&load, failed, runs, standing);
                    if !refused.is_empty() {
                        let parts = self.put_aside(&load, refused).await;
                        more.extend(self.or_park(&load, parts, runs, standing));
                    }
                    if again.is_empty() {
                        return Some(more);
                    }
                    tries += 1;
                    if tries == ITEM_TRIES {
                        standing.parked.extend(again.iter().map(|&item| run_of(runs, load.place(item))));
                        return Some(more);
                    }
                    self.stats.retries.add(again.len() as u64);
                    let rest = load.take(&again).and_then(|items| load.with(items, load.safe));
                    match rest {
                        Ok(rest) => {
                            let waiting = rest.body.len()
                                + more.iter().map(|load: &Load| load.body.len()).sum::<usize>();
                            load = rest;
                            standing.lighten(waiting);
                        }
                        rest => {
                            more.extend(self.or_park(&load, rest.map(|_| Vec::new()), runs, standing));
                            return Some(more);
                        }
                    }
                    backoff.next(None)
                }
            };
            self.wait(wait, standing).await?;
        }
    }

    /// Lets a time pass before a batch is sent again; `None` if the agent stops.
    async fn wait(&self, time: Duration, standing: &Standing) -> Option<()> {
        // A batch of which the server may hold a part is tried to the last: it should not go elsewhere as well.
        let unsent = !standing.in_doubt && !standing.answered;
        let mut stop = self.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(time) => Some(()),
            _ = stop.wait_for(|stop| *stop == Stop::Now || (unsent && *stop == Stop::Unsent)) => None,
        }
    }

    /// What is in a body was one time more the likely reason that it was refused as a whole: whether it is to be taken apart.
    fn blames_the_body(&self, standing: &mut Standing) -> bool {
        let (taken, now) = (self.stats.requests.get(), Instant::now());
        let part_taken = *self.part_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let refusals = standing.refusals.get_or_insert_with(|| Refusals::new(taken, now));
        let likely = refusals.concern_the_body(taken, part_taken, now);
        if likely {
            standing.pace.reset();
        }
        refusals.are_enough(likely, now)
    }

    /// Further loads, or, if they could not be made (a dead letter that could not be written), the whole load's runs
    /// parked: their records stay in their logs.
    fn or_park(
        &self,
        load: &Load,
        loads: io::Result<Vec<Load>>,
        runs: &[Run],
        standing: &mut Standing,
    ) -> Vec<Load> {
        loads.unwrap_or_else(|error| {
            self.stats.fail(&error);
            tracing::error!(output = self.name, %error, dead_letters = %self.dead_letters.path().display(),
                "cannot put refused records aside; their containers wait");
            standing.parked.extend((0..load.items).map(|item| run_of(runs, load.place(item))));
            Vec::new()
        })
    }

    /// Since when something of a batch may have been sent before.
    fn doubt_began(&self, standing: &Standing) -> SystemTime {
        if standing.in_doubt { standing.begun.min(self.doubt_began) } else { self.doubt_began }
    }

    /// Sends once, without what an older backing index of its data stream holds, where something may have been sent
    /// since `doubt`.
    async fn attempt_once(
        &self,
        load: &mut Load,
        doubt: Option<SystemTime>,
        patient: bool,
    ) -> Result<Vec<Item>, Trouble> {
        if let Some(since) = doubt.filter(|_| self.looks_back) {
            self.leave_out_held(load, since, patient).await?;
            if load.items == 0 {
                return Ok(Vec::new());
            }
        }
        self.attempt(load).await
    }

    /// With `patient`, an older index that is not served now is waited for.
    async fn leave_out_held(&self, load: &mut Load, since: SystemTime, patient: bool) -> Result<(), Trouble> {
        let broken = |error: io::Error| Trouble { what: error.to_string(), ..Trouble::default() };
        let all: Vec<u32> = (0..load.items).collect();
        let items = load.take(&all).map_err(broken)?;
        let mut streams: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
        for (at, item) in items.iter().enumerate() {
            let (_, Target { index, id }) = item.target().map_err(broken)?;
            // A dead letter of a time when the server made ids has none.
            if !id.is_empty() {
                streams.entry(index).or_default().push((at, id));
            }
        }
        let mut held = vec![false; items.len()];
        for (stream, members) in &streams {
            let ids: Vec<&str> = members.iter().map(|(_, id)| id.as_str()).collect();
            match rollover::held_by_older(&self.client, stream, &ids, since).await {
                Ok(found) => members.iter().zip(found).for_each(|((at, _), found)| held[*at] = found),
                Err(Unknown::NoAnswer(what)) => return Err(Trouble { what, ..Trouble::default() }),
                Err(Unknown::NotServed(what)) if patient => {
                    return Err(Trouble { what, ..Trouble::default() });
                }
                Err(Unknown::NotServed(what) | Unknown::Declined(what)) => {
                    if !self.told_rollover.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            output = self.name,
                            answer = what,
                            "cannot ask the backing indices of a data stream (they are not served, or the privileges `view_index_metadata` and `read` are missing): after a lost reply, a record could stand twice across a rollover"
                        );
                    }
                }
            }
        }
        let count = held.iter().filter(|held| **held).count();
        if count > 0 {
            self.stats.records_delivered.add(count as u64);
            self.stats.duplicates.add(count as u64);
            let left = items.into_iter().zip(held).filter(|(_, held)| !held).map(|(item, _)| item).collect();
            *load = load.with(left, load.safe).map_err(broken)?;
        }
        Ok(())
    }

    /// Sends once; the items that were not created, or why all is to be sent again.
    async fn attempt(&self, load: &Load) -> Result<Vec<Item>, Trouble> {
        let sent = self.client.bulk(load.body.clone(), load.level.is_some()).await;
        let reply = sent.map_err(|error| Trouble {
            what: error.what,
            in_doubt: error.in_doubt,
            ..Trouble::default()
        })?;
        let trouble = |what: String| Trouble {
            what,
            retry_after: reply.retry_after,
            in_doubt: reply.status.is_success() || reply.status.is_server_error(),
            too_large: reply.status == StatusCode::PAYLOAD_TOO_LARGE,
            status: reply.status.as_u16(),
            of_body: refused::may_be_for_its_body(reply.status.as_u16(), &reply.body),
        };
        if matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.stats.auth_failures.add(1);
        }
        if reply.status != StatusCode::OK {
            return Err(trouble(format!("{}{}", reply.told(), advice(reply.status))));
        }
        self.batch_limit.taken(Instant::now());
        self.stats.requests.add(1);
        self.stats.sent_bytes.add(load.body.len() as u64);
        reply::judge(&reply.body, load.items)
            .map_err(|what| trouble(format!("{}: not a bulk reply: {what}", reply.from)))
    }

    /// Counts what became of each item; returns which are to be sent again, and those that were refused.
    fn judge(
        &self,
        load: &Load,
        failed: Vec<Item>,
        runs: &[Run],
        standing: &mut Standing,
    ) -> (Vec<u32>, Vec<Item>) {
        let mut delivered = u64::from(load.items) - failed.len() as u64;
        let (mut again, mut refused) = (Vec::new(), Vec::new());
        for item in failed {
            let run = run_of(runs, load.place(item.index));
            match refused::verdict(&item, self.pipeline) {
                Verdict::Exists => {
                    delivered += 1;
                    self.stats.duplicates.add(1);
                    if self.ids && !standing.in_doubt && !runs[run].in_doubt {
                        self.tell_unexpected(&item);
                    }
                }
                Verdict::Again => {
                    self.stats.fail(&item);
                    again.push(item.index);
                }
                Verdict::Park => {
                    self.stats.fail(format_args!("{item}{}", refused::advice(&item)));
                    standing.parked.insert(run);
                }
                Verdict::Refused => {
                    if !self.told_refused.swap(true, Ordering::Relaxed) {
                        tracing::warn!(output = self.name, answer = %item,
                            "the destination refused a record: such records are sent once more with their JSON as text, then kept as dead letters");
                    }
                    self.stats.fail(&item);
                    refused.push(item);
                }
            }
        }
        self.stats.records_delivered.add(delivered);
        (again, refused)
    }

    /// Refused items: once more in safe form, in a load of their own, or to the dead letters.
    async fn put_aside(&self, load: &Load, refused: Vec<Item>) -> io::Result<Vec<Load>> {
        let indices: Vec<u32> = refused.iter().map(|item| item.index).collect();
        let (mut safe, mut letters) = (Vec::new(), Vec::new());
        for (item, taken) in refused.into_iter().zip(load.take(&indices)?) {
            let form = if load.safe { None } else { refused::safe_form(&taken.document, &item.reason) };
            match form {
                Some(document) => safe.push(Taken { document, ..taken }),
                None => letters.push(taken.letter(&self.name, item)?),
            }
        }
        if !letters.is_empty() {
            let count = letters.len() as u64;
            self.stats.dead_letters_dropped.add(self.dead_letters.keep(letters).await?);
            self.stats.refused.add(count);
        }
        if safe.is_empty() {
            return Ok(Vec::new());
        }
        self.stats.reshaped.add(safe.len() as u64);
        Ok(vec![load.with(safe, true)?])
    }

    /// A load of which the server takes no request of its size, as its answer, `item`'s reason, says: in halves, and batches to come
    /// are made no larger. A record that is too large by itself is put aside. One that is not waits: whoever refuses it
    /// refuses everything now.
    async fn make_smaller(
        &self,
        load: &Load,
        item: Item,
        runs: &[Run],
        standing: &mut Standing,
    ) -> io::Result<Vec<Load>> {
        let bytes = load.plain()?.len() as u64;
        if load.items > 1 {
            self.batch_limit.refused(bytes, Instant::now());
        } else if bytes > load::LEAST {
            return self.put_aside(load, vec![item]).await;
        }
        self.take_apart(load, item, runs, standing).await
    }

    /// A load in halves. A single record has none: its run waits. Where documents have no `_id`, what was taken beside it
    /// would be stored again at each try: then it is put aside.
    async fn take_apart(
        &self,
        load: &Load,
        item: Item,
        runs: &[Run],
        standing: &mut Standing,
    ) -> io::Result<Vec<Load>> {
        standing.apart = true;
        if load.items > 1 {
            return load.halves();
        }
        if !self.ids && standing.answered {
            return self.put_aside(load, vec![item]).await;
        }
        standing.parked.insert(run_of(runs, load.place(0)));
        Ok(Vec::new())
    }

    /// Bytes that a batch may have before compression, as far as the server's refusals have taught.
    pub fn batch_limit(&self) -> u64 {
        self.batch_limit.get()
    }

    #[cold]
    fn tell_unexpected(&self, item: &Item) {
        if self.stats.unexpected_duplicates.get() == 0 {
            tracing::warn!(
                output = self.name,
                reason = item.reason,
                "a record that was never sent before exists already: do two agents run with the same cluster and node name?"
            );
        }
        self.stats.unexpected_duplicates.add(1);
    }

    fn tell_trouble(&self, what: &str) {
        self.stats.fail(what);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                output = self.name,
                trouble = what,
                "cannot deliver; trying again until it works, nothing is lost meanwhile"
            );
        }
    }

    fn tell_apart(&self, what: &str) {
        self.stats.fail(what);
        if !self.told_apart.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                output = self.name,
                answer = what,
                "a request is refused for what is in it: it is sent in halves, and the container of a record that is refused by itself is set aside; look for a proxy's rule"
            );
        }
    }

    fn tell_recovery(&self) {
        if self.told.load(Ordering::Relaxed) && self.told.swap(false, Ordering::Relaxed) {
            self.told_apart.store(false, Ordering::Relaxed);
            tracing::info!(output = self.name, "delivering again");
        }
    }
}

/// An earlier process saved its positions every second; what it had sent by then without an answer can be older by as
/// long as a request may hang.
const UNANSWERED: Duration = Duration::from_secs(300);

/// An older backing index that is not served for longer than this, since the batch was first to be sent, is given up:
/// its shards may be lost, and records would wait for them for ever.
const SHARDS_COME_BACK: Duration = Duration::from_secs(600);

fn doubt_began(previous_end: Option<SystemTime>) -> SystemTime {
    let now = SystemTime::now();
    previous_end.map_or(now, |end| end.min(now).checked_sub(UNANSWERED).unwrap_or(SystemTime::UNIX_EPOCH))
}

fn settle(runs: Vec<Run>, fate: impl Fn(usize) -> Fate, body: Bytes) -> Settled {
    let runs = runs.into_iter().enumerate().map(|(at, run)| (run, fate(at))).collect();
    let spare = body.try_into_mut().map(Vec::from).unwrap_or_default();
    Settled { runs, spare, lost: Vec::new() }
}

/// Which run an item belongs to.
fn run_of(runs: &[Run], item: u32) -> usize {
    let mut end = 0;
    runs.iter()
        .position(|run| {
            end += run.items;
            item < end
        })
        .unwrap_or(runs.len().saturating_sub(1))
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => " (the server wants credentials, or others)",
        403 => {
            " (the credentials lack the permission to create documents, or a proxy forbids what is in them)"
        }
        404 => " (is the endpoint that of Elasticsearch or OpenSearch, and not of Kibana?)",
        413 => " (the batch is sent in halves, and later ones are made smaller)",
        301 | 302 | 307 | 308 => " (the endpoint redirects: name the place that it redirects to)",
        _ => "",
    }
}
