//! The `cloudwatch` output: PutLogEvents to Amazon CloudWatch Logs.
//!
//! In: sealed batches of events, several at a time. Out: each run of them settled by the service's own word on its events.
//! A batch is taken apart by stream: calls of one stream follow each other ([`Sender`] sees to the order), those of others
//! go on beside them ([`lane`]). What passes (throttling, 5xx, lost connections) is tried again for as long as it takes; a
//! stream that refuses, or that nothing passes for while the service is there for others, parks the containers that it
//! concerns, and no others. Groups and streams are made when they are missing ([`names`]). Never decides what to read.

pub(crate) mod client;
mod lane;
mod limits;
pub(crate) mod names;
mod pace;
pub(crate) mod rejected;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use self::client::{Service, denial};
use self::lane::{End, Job};
use self::names::Names;
use self::pace::Pace;
use super::dead_letter::DeadLetters;
use super::{Fate, Settled, Stop};
use crate::batch::events::{Event, Events};
use crate::batch::{Run, Sealed};
use crate::config::{CloudWatchConfig, EventFormat, Rejected};
use crate::stats::{LossReason, OutputStats};

/// The tag of groups that Taffrail has made: by its set-up, or by an agent.
pub(crate) const MADE_BY: &str = "taffrail:made-by";

/// After the service has denied a stream, nothing is sent there for so long.
const DENIED_AGAIN: Duration = Duration::from_secs(30);

/// What nobody has come back to for so long is of containers that are gone: a parked one is tried every minute or two.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// What has been told of denials is remembered for so many groups and actions; beyond it all is told anew.
const MOST_TOLD: usize = 4096;

/// How long all must go well before that is told: calls are many at a time, and one that failed says little of others.
const WELL: Duration = Duration::from_secs(10);

/// Streams whose last call is remembered, for the order; beyond it those that are done are forgotten.
const MOST_TAILS: usize = 4096;

/// One destination.
#[derive(Debug)]
pub struct CloudWatch {
    name: String,
    service: Service,
    names: Names,
    format: EventFormat,
    rejected: Rejected,
    linger: Duration,
    dead_letters: DeadLetters,
    pace: Mutex<Pace>,
    /// Calls that may be under way at a time.
    calls: Semaphore,
    /// Calls that the service has taken.
    taken: AtomicU64,
    /// Until when a stream is left alone, because it was denied or nothing passed for it; kept until something does.
    denied: Mutex<HashMap<Arc<str>, Instant>>,
    /// What has been told of these, once each.
    told_denied: Mutex<HashSet<String>>,
    told_rejected: AtomicU8,
    told_linger: AtomicBool,
    /// Whether the present trouble has been told, and when there last was any.
    told: AtomicBool,
    troubled: Mutex<Option<Instant>>,
    stats: Arc<OutputStats>,
    stop: watch::Receiver<Stop>,
}

/// A worker's way to the destination: keeps the order of its batches within each stream.
#[derive(Debug)]
pub struct Sender {
    client: Arc<CloudWatch>,
    /// For each stream, resolved when its last call is done.
    tails: HashMap<Arc<str>, oneshot::Receiver<()>>,
    barred: Arc<Barred>,
}

/// Cursors that were parked, each with the epoch of the runs that were, and when: what was dispatched before the worker knew
/// of it must not be sent, since it will be read again.
#[derive(Debug, Default)]
struct Barred(Mutex<HashMap<u64, (u32, Instant)>>);

impl Barred {
    fn add(&self, run: &Run) {
        let now = Instant::now();
        let mut barred = lock(&self.0);
        let (epoch, at) = barred.entry(run.cursor).or_insert((run.epoch, now));
        (*epoch, *at) = (run.epoch.max(*epoch), now);
    }

    fn has(&self, run: &Run) -> bool {
        lock(&self.0).get(&run.cursor).is_some_and(|(epoch, _)| run.epoch <= *epoch)
    }

    /// Forgets what was parked long ago. No batch may be under way, since it could hold runs of that time.
    fn forget(&self, now: Instant) {
        lock(&self.0).retain(|_, (_, at)| now.saturating_duration_since(*at) < FORGOTTEN);
    }
}

/// A batch that is being sent, shared by the calls that carry it.
#[derive(Debug)]
struct Shipment {
    body: Vec<u8>,
    /// Sorted by stream, then time.
    events: Events,
    runs: Vec<Run>,
    /// The number of the first item behind each run.
    ends: Vec<u32>,
    barred: Arc<Barred>,
}

impl Shipment {
    /// Which run an event belongs to.
    fn run(&self, event: &Event) -> usize {
        self.ends.partition_point(|end| *end <= event.item).min(self.runs.len().saturating_sub(1))
    }

    fn text(&self, event: &Event) -> &str {
        let begin = event.begin as usize;
        let bytes = self.body.get(begin..begin + event.length as usize).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or("(not text: a bug in Taffrail)")
    }
}

impl CloudWatch {
    /// An output as configured. Nothing is sent yet: credentials and a service that are away are waited for.
    pub fn new(
        name: &str,
        config: &CloudWatchConfig,
        dead_letters: DeadLetters,
        stats: Arc<OutputStats>,
        stop: watch::Receiver<Stop>,
    ) -> CloudWatch {
        let share = f64::from(config.account_tps) / f64::from(config.nodes);
        CloudWatch {
            name: name.to_owned(),
            service: Service::new(config),
            names: Names::new(name, config),
            format: config.format,
            rejected: config.rejected,
            linger: config.reading.linger,
            dead_letters,
            pace: Mutex::new(Pace::new(share, Instant::now())),
            calls: Semaphore::new(config.in_flight),
            taken: AtomicU64::new(0),
            denied: Mutex::default(),
            told_denied: Mutex::default(),
            told_rejected: AtomicU8::new(0),
            told_linger: AtomicBool::new(false),
            told: AtomicBool::new(false),
            troubled: Mutex::default(),
            stats,
            stop,
        }
    }

    /// How long a batch should wait to become fuller, by the configuration and by what the account may call.
    pub fn linger(&self) -> Duration {
        lock(&self.pace).linger(self.linger)
    }

    async fn deliver(self: Arc<CloudWatch>, shipment: Arc<Shipment>, jobs: Vec<Job>) -> Settled {
        let mut under_way = JoinSet::new();
        for job in jobs {
            under_way.spawn(self.clone().send(shipment.clone(), job));
        }
        let mut fates = vec![Fate::Acknowledged; shipment.runs.len()];
        let mut lost = Vec::new();
        while let Some(ended) = under_way.join_next().await {
            let End { parked, abandoned, lost: more } = match ended {
                Ok(end) => end,
                // A bug in us: the worker learns of it by our own end, and reads all of it again.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            parked.into_iter().for_each(|run| fates[run] = Fate::Parked);
            abandoned.into_iter().for_each(|run| fates[run] = Fate::Abandoned);
            lost.extend(
                more.into_iter().map(|(run, reason, loss)| (shipment.runs[run].cursor, reason, loss)),
            );
        }
        let (runs, spare) = match Arc::try_unwrap(shipment) {
            Ok(shipment) => (shipment.runs, shipment.body),
            Err(shipment) => (shipment.runs.clone(), Vec::new()),
        };
        Settled { runs: runs.into_iter().zip(fates).collect(), spare, lost }
    }

    fn tell_trouble(&self, what: &str) {
        self.stats.fail(what);
        *lock(&self.troubled) = Some(Instant::now());
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                output = self.name,
                trouble = what,
                "cannot deliver; trying again until it works, nothing is lost meanwhile"
            );
        }
    }

    fn tell_recovery(&self) {
        let over = || lock(&self.troubled).is_none_or(|at| at.elapsed() >= WELL);
        if self.told.load(Ordering::Relaxed) && over() && self.told.swap(false, Ordering::Relaxed) {
            tracing::info!(output = self.name, "delivering again");
        }
    }

    /// A denial is told once for each group and action, and the stream left alone for a while.
    fn deny(&self, target: &Arc<str>, action: &str, what: &str) {
        self.stats.auth_failures.add(1);
        let (group, _) = split(target);
        let (denied, resource) = denial(what);
        let action = denied.unwrap_or_else(|| action.to_owned());
        let resource = resource.unwrap_or_else(|| format!("arn:aws:logs:*:*:log-group:{group}:*"));
        if self.sets_aside(target, what, &action) {
            tracing::error!(
                output = self.name,
                action,
                resource,
                answer = what,
                "not allowed: the containers of this log group wait, and are tried again every half minute; others go on. Allow the action on the resource in the agent's role"
            );
        }
    }

    /// A group or stream that cannot be made: told once for each group.
    fn leave_alone(&self, target: &Arc<str>, what: &str) {
        if self.sets_aside(target, what, "make") {
            let (group, _) = split(target);
            tracing::error!(
                output = self.name,
                group,
                answer = what,
                "CloudWatch refuses to make a log group or stream: its containers wait, and are tried again every half minute; others go on"
            );
        }
    }

    /// A stream for which nothing passes, while the service is there: told once for each group.
    fn give_way(&self, target: &Arc<str>, what: &str) {
        if self.sets_aside(target, what, "wait") {
            let (group, stream) = split(target);
            tracing::warn!(
                output = self.name,
                group,
                stream,
                trouble = what,
                "nothing passes for a log stream: its containers wait, and are tried again every half minute; others go on"
            );
        }
    }

    /// Leaves a stream alone for a while, for this error; whether that is yet to be told of its group, for this reason.
    fn sets_aside(&self, target: &Arc<str>, error: &str, reason: &str) -> bool {
        self.stats.fail(error);
        self.leave(target, Instant::now());
        self.is_news(format!("{reason} {}", split(target).0))
    }

    /// Leaves a stream alone for a while.
    fn leave(&self, target: &Arc<str>, now: Instant) {
        let mut denied = lock(&self.denied);
        denied.retain(|_, until| *until + FORGOTTEN > now);
        denied.insert(target.clone(), now + DENIED_AGAIN);
    }

    /// Whether it has not been told yet.
    fn is_news(&self, key: String) -> bool {
        let mut told = lock(&self.told_denied);
        if told.len() >= MOST_TOLD {
            told.clear();
        }
        told.insert(key)
    }

    /// Whether a stream is left alone for now.
    fn is_denied(&self, target: &str) -> bool {
        lock(&self.denied).get(target).is_some_and(|until| *until > Instant::now())
    }

    /// A call went through.
    fn allow(&self, target: &str) {
        let mut denied = lock(&self.denied);
        if !denied.is_empty() && denied.remove(target).is_some() {
            let (group, _) = split(target);
            lock(&self.told_denied).retain(|told| !told.ends_with(&format!(" {group}")));
            tracing::info!(output = self.name, group, "delivering again what was left alone");
        }
    }

    /// Tells once for each reason that the service rejects events, where that is not counted as a loss.
    fn tell_rejected(&self, reason: LossReason) {
        let bit = 1 << (reason as u8 % 8);
        if self.told_rejected.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let what = match self.rejected {
                Rejected::Now => "sent again with the time now",
                _ => "kept as dead letters",
            };
            tracing::warn!(
                output = self.name,
                why = rejected::told(reason),
                "CloudWatch rejected an event: such events are {what}, and counted"
            );
        }
    }

    /// Tells once that the quota makes batches wait for long.
    fn tell_linger(&self, streams: usize) {
        let linger = self.linger();
        if linger > Duration::from_secs(60)
            && linger > self.linger
            && !self.told_linger.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                output = self.name,
                streams,
                seconds = linger.as_secs(),
                "the account's quota (`account_tps`, `nodes`) makes batches wait this long: fewer streams would help, such as `log_stream = \"{{node}}\"`, or a higher quota"
            );
        }
    }
}

impl Sender {
    /// The way of one worker.
    pub fn new(client: Arc<CloudWatch>) -> Sender {
        Sender { client, tails: HashMap::new(), barred: Arc::default() }
    }

    /// How long a batch should wait to become fuller.
    pub fn linger(&self) -> Duration {
        self.client.linger()
    }

    /// Takes a batch: its events have their places behind those of earlier batches when this returns. The delivery ends
    /// when all of it is settled, or the agent stops.
    pub fn send(&mut self, sealed: Sealed) -> impl Future<Output = Settled> + Send + use<> {
        let Sealed { body, runs, mut events, .. } = sealed;
        // What has the same millisecond stays in the order in which it was read, which is that of the body. (A stable sort would
        // need room for as many once more.)
        events.list.sort_unstable_by_key(|event| (event.target, event.time, event.begin));
        let mut end = 0;
        let ends = runs.iter().map(|run| {
            end += run.items;
            end
        });
        let ends = ends.collect();
        let mut jobs = Vec::with_capacity(events.targets.len());
        let mut begin = 0;
        for group in events.list.chunk_by(|a, b| a.target == b.target) {
            let target = events.targets[group[0].target as usize].clone();
            let (done, tail) = oneshot::channel();
            let before = self.tails.insert(target.clone(), tail);
            jobs.push(Job { target, events: begin..begin + group.len(), before, done });
            begin += group.len();
        }
        if self.tails.len() > MOST_TAILS {
            self.tails.retain(|_, tail| matches!(tail.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        }
        lock(&self.client.pace).batch_of(jobs.len());
        self.client.tell_linger(jobs.len());
        self.client.stats.split.add(events.split.into());
        // Every batch under way has it too.
        if Arc::strong_count(&self.barred) == 1 {
            self.barred.forget(Instant::now());
        }
        let shipment = Shipment { body, events, runs, ends, barred: self.barred.clone() };
        self.client.clone().deliver(Arc::new(shipment), jobs)
    }
}

/// Group and stream of a target.
fn split(target: &str) -> (&str, &str) {
    target.split_once(':').unwrap_or((target, ""))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;
    use crate::position::Position;

    fn client() -> CloudWatch {
        let letters = DeadLetters::new(std::path::Path::new("/nowhere"), "cw", ByteSize::mib(1));
        let (_stopping, stop) = watch::channel(Stop::No);
        CloudWatch::new("cw", &CloudWatchConfig::default(), letters, Arc::default(), stop)
    }

    #[test]
    fn what_was_parked_or_left_alone_is_forgotten_when_nobody_comes_back_to_it() {
        let (client, now) = (client(), Instant::now());
        for n in 0..10 {
            client.leave(&format!("g:{n}").into(), now);
        }
        assert!(client.is_denied("g:9"));
        client.leave(&"g:new".into(), now + DENIED_AGAIN + FORGOTTEN / 2);
        assert_eq!(lock(&client.denied).len(), 11, "what is tried again is known for what it was");
        client.leave(&"g:new".into(), now + DENIED_AGAIN + FORGOTTEN);
        assert_eq!(lock(&client.denied).len(), 1);

        let barred = Barred::default();
        let run = |cursor, epoch| Run {
            cursor,
            epoch,
            number: 0,
            start: Position::default(),
            end: Position::default(),
            items: 1,
            line_bytes: 1,
            begun: 0,
            in_doubt: false,
        };
        barred.add(&run(1, 3));
        barred.add(&run(1, 2));
        assert!(barred.has(&run(1, 3)) && !barred.has(&run(1, 4)) && !barred.has(&run(2, 0)));
        barred.forget(Instant::now());
        assert!(barred.has(&run(1, 3)));
        barred.forget(Instant::now() + FORGOTTEN);
        assert!(lock(&barred.0).is_empty());
    }

    #[test]
    fn what_is_told_once_takes_no_memory_without_end() {
        let client = client();
        let is_news = |n: usize| client.is_news(format!("wait {n}"));
        assert!(is_news(0) && !is_news(0));
        assert!((1..=MOST_TOLD).all(is_news));
        assert!(lock(&client.told_denied).len() <= MOST_TOLD);
    }
}
