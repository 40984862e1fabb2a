//! Counters: what each output and each container's reader has done, for the page, the table and the metrics.
//!
//! In: additions from the threads that do the work, a few per batch. Out: numbers that anyone may read at any time.
//! What was lost is told by [`Losses`]: by container and [`LossReason`], for as many containers as there is room; what was
//! delivered also by [`volume`].

pub mod losses;
pub mod volume;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::origin::Origin;
use crate::clock::unix_millis;
use crate::config::Wish;
pub use losses::{Loss, LossReason, Losses};
use volume::{Gone, Labels, Owner, Volume, Volumes};

/// Records that are delivered within this time of their writing are in time.
pub const IN_TIME: Duration = Duration::from_secs(60);

/// For so long at least an error is told as the one that an output has: what is refused of one container is tried again
/// only now and then, while requests succeed for the others.
const LASTS: Duration = Duration::from_secs(60);

/// The last error of an output.
#[derive(Debug)]
struct Failed {
    error: String,
    /// When that was, in milliseconds since the epoch.
    at: u64,
    /// Requests that had succeeded by then.
    requests: u64,
}

/// A number that only grows, or a level that is set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes away `n` of what was added.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Sets the level.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often another configuration was to take the place of the one that runs, since the start.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Times that it did.
    pub succeeded: Counter,
    /// Times that it could not, and the old one was kept; a content that is tried again and again counts once.
    pub failed: Counter,
}

/// How far an output has come with what was behind when the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CatchingUp {
    /// Bytes that were behind at the start.
    pub behind_bytes: u64,
    /// Bytes done since.
    pub done_bytes: u64,
    /// Bytes that wait now, those written since among them.
    pub left_bytes: u64,
    /// Bytes done a second, from the start on.
    pub bytes_per_second: f64,
    /// Seconds that the rest takes at that rate; none while nothing is delivered.
    pub seconds_left: Option<f64>,
}

/// What one output has done since the start.
#[derive(Debug, Default)]
pub struct OutputStats {
    /// Records taken from files (those read again after a set-back included).
    pub records_read: Counter,
    /// Records that the destination holds by its own word.
    pub records_delivered: Counter,
    /// Bytes of the log lines that were delivered: what programs wrote, with a newline each, and nothing of what routes and rate
    /// limits left out.
    pub delivered_bytes: Counter,
    /// Bytes of logs that are done with, whatever of them was sent.
    pub passed_bytes: Counter,
    /// Records passed over as older than the output's beginning.
    pub records_too_old: Counter,
    /// Records that their routes do not send.
    pub records_filtered: Counter,
    /// Records that the destination had already ("exists", 409).
    pub duplicates: Counter,
    /// Of these, the ones that this process is certain not to have sent: a sign of two agents with one name, or of a
    /// fault in us.
    pub unexpected_duplicates: Counter,
    /// Records that the destination refused, and that were sent once more with their JSON as text.
    pub reshaped: Counter,
    /// Events of calls to CloudWatch that were made again though the first may have been carried out: they may stand twice.
    pub in_doubt: Counter,
    /// Records that CloudWatch rejected for their time and took with the time now.
    pub restamped: Counter,
    /// Records that were split or cut, being longer than an event can be.
    pub split: Counter,
    /// Records that the destination refused for good: they are dead letters.
    pub refused: Counter,
    /// Dead letters that had to go for newer ones.
    pub dead_letters_dropped: Counter,
    /// What was not delivered and never will be.
    pub losses: Losses,
    /// Requests that succeeded.
    pub requests: Counter,
    /// Requests, or items of one, that were sent again.
    pub retries: Counter,
    /// Answers that the credentials are not good, or not good enough.
    pub auth_failures: Counter,
    /// Records that the destination took, of logs whose lines have times;
    pub timed_records: Counter,
    /// of these, the ones that were older than [`IN_TIME`] by then.
    pub late_records: Counter,
    /// Annotations of pods that are not followed, by the numbers of their wishes: each, each time that a container is taken up.
    pub suppressed: [Counter; Wish::ALL.len()],
    /// Times that a container was set aside because the destination did not take its records.
    pub parked: Counter,
    /// Bytes of requests, as sent.
    pub sent_bytes: Counter,
    /// Bytes taken from files, likewise read again or not.
    pub read_bytes: Counter,
    /// Batches under way.
    pub in_flight: Counter,
    /// Bytes of these.
    pub in_flight_bytes: Counter,
    nowhere: AtomicU64,
    excluded: AtomicU64,
    last_error: Mutex<Option<Failed>>,
    catching_up: Mutex<Option<CatchingUp>>,
    containers: Mutex<Vec<Arc<ContainerStats>>>,
    gone: Gone,
}

impl OutputStats {
    /// Counts records that the destination took, the first of which was written at `first` and the last at `last`; 0 for a
    /// time that is not known. Between two times they are taken to lie evenly.
    pub fn count_in_time(&self, records: u64, (first, last): (i64, i64), now: i64) {
        if last == 0 {
            return;
        }
        let (in_time, first) =
            (now - IN_TIME.as_nanos() as i64, if first == 0 { last } else { first.min(last) });
        let late = match (first < in_time, last < in_time) {
            (false, _) => 0,
            (true, true) => records,
            (true, false) => (records as f64 * (in_time - first) as f64 / (last - first) as f64) as u64,
        };
        self.timed_records.add(records);
        self.late_records.add(late.min(records));
    }

    /// Remembers the last error, for people.
    pub fn fail(&self, error: impl fmt::Display) {
        let failed = Failed { error: error.to_string(), at: unix_millis(), requests: self.requests.get() };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }

    /// The last error.
    pub fn last_error(&self) -> Option<String> {
        let failed = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().map(|failed| failed.error.clone())
    }

    /// The last error and when that was, while it is not over: while no request has succeeded since, or for a minute.
    pub fn error_now(&self, now: u64) -> Option<(String, u64)> {
        let failed = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |failed: &Failed| {
            self.requests.get() > failed.requests && now.saturating_sub(failed.at) >= LASTS.as_millis() as u64
        };
        failed.as_ref().filter(|failed| !is_over(failed)).map(|failed| (failed.error.clone(), failed.at))
    }

    /// It catches up, this far; with `None` it no longer does.
    pub fn set_catching_up(&self, now: Option<CatchingUp>) {
        *self.catching_up.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// How far it has come with what was behind at the start, as long as it has not caught up.
    pub fn catching_up(&self) -> Option<CatchingUp> {
        *self.catching_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counters for a container that this output begins to read.
    pub fn container(&self, origin: Arc<Origin>) -> Arc<ContainerStats> {
        let stats = Arc::new(ContainerStats::new(origin));
        self.lock().push(stats.clone());
        stats
    }

    /// A container that was forgotten is read after all.
    pub fn remember(&self, container: &Arc<ContainerStats>) {
        let mut containers = self.lock();
        if !containers.iter().any(|stats| Arc::ptr_eq(stats, container)) {
            containers.push(container.clone());
        }
    }

    /// How many containers no route matches, so that nobody gets their records.
    pub fn nowhere(&self) -> u64 {
        self.nowhere.load(Ordering::Relaxed)
    }

    /// How many containers are not sent because their pods say so.
    pub fn excluded(&self) -> u64 {
        self.excluded.load(Ordering::Relaxed)
    }

    /// Of the containers of one worker so many went nowhere, and were excluded, and so many are now.
    pub fn change_unsent(&self, before: (usize, usize), now: (usize, usize)) {
        let counts = [(&self.nowhere, before.0, now.0), (&self.excluded, before.1, now.1)];
        for (count, before, now) in counts {
            count.fetch_add(now as u64, Ordering::Relaxed);
            count.fetch_sub(before as u64, Ordering::Relaxed);
        }
    }

    /// The container is gone and read, or not read here any more.
    pub fn forget(&self, container: &Arc<ContainerStats>) {
        self.lock().retain(|stats| !Arc::ptr_eq(stats, container));
        self.gone.add(container.owner(), container.take_volume());
    }

    /// Nobody reads any more; whoever comes next begins with its own.
    pub fn forget_containers(&self) {
        self.nowhere.store(0, Ordering::Relaxed);
        self.excluded.store(0, Ordering::Relaxed);
        self.in_flight.set(0);
        self.in_flight_bytes.set(0);
        for container in self.lock().drain(..) {
            self.gone.add(container.owner(), container.take_volume());
        }
    }

    /// How many containers wait for what is not known of their pods yet.
    pub fn waiting_metadata(&self) -> usize {
        self.lock().iter().filter(|stats| stats.waits_metadata.get() > 0).count()
    }

    /// What was delivered since the last time that somebody asked, also of containers that are gone.
    pub fn take_volumes(&self) -> Volumes {
        let mut volumes = self.gone.take();
        for container in self.containers() {
            volumes.add(container.owner(), container.take_volume());
        }
        volumes
    }

    /// All containers being read.
    pub fn containers(&self) -> Vec<Arc<ContainerStats>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<ContainerStats>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one output has done with one container.
#[derive(Debug)]
pub struct ContainerStats {
    /// The container, or the host file.
    pub origin: Arc<Origin>,
    /// Bytes taken from its files.
    pub read_bytes: Counter,
    /// Bytes on disk that are not acknowledged (of compressed files: inflated).
    pub lag_bytes: Counter,
    /// Records taken from its files.
    pub records_read: Counter,
    /// Records acknowledged.
    pub records_delivered: Counter,
    /// Bytes of its log lines that were delivered.
    pub delivered_bytes: Counter,
    /// Records that its route does not send.
    pub records_filtered: Counter,
    /// 1 while it waits for what is not known of its pod yet, else 0.
    pub waits_metadata: Counter,
    /// 1 while it is set aside because the destination did not take its records, else 0.
    pub parked: Counter,
    /// When the oldest record that is not acknowledged was written, in milliseconds since the epoch; 0 where there is none.
    pub oldest: Counter,
    /// Where its records go, in words.
    plan: Mutex<String>,
    /// What its documents bear as `labels.*`.
    labels: Mutex<Arc<Labels>>,
    /// What of its volume has been told.
    told: Mutex<Volume>,
}

impl ContainerStats {
    fn new(origin: Arc<Origin>) -> ContainerStats {
        ContainerStats {
            labels: Mutex::new(Arc::new(origin.labels().clone())),
            origin,
            read_bytes: Counter::default(),
            lag_bytes: Counter::default(),
            records_read: Counter::default(),
            records_delivered: Counter::default(),
            delivered_bytes: Counter::default(),
            records_filtered: Counter::default(),
            waits_metadata: Counter::default(),
            parked: Counter::default(),
            oldest: Counter::default(),
            plan: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Another plan has been made for it.
    pub fn set_plan(&self, plan: String) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// Where its records go, in words.
    pub fn plan(&self) -> String {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its documents bear these labels from now on.
    pub fn set_labels(&self, labels: Labels) {
        *self.labels.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(labels);
    }

    fn owner(&self) -> Owner {
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Owner { namespace: self.origin.place().0.to_owned(), labels }
    }

    /// What was delivered since the last time.
    fn take_volume(&self) -> Volume {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Volume { records: self.records_delivered.get(), bytes: self.delivered_bytes.get() };
        now - std::mem::replace(&mut *told, now)
    }

    /// How long ago its oldest record was written that is not acknowledged, where `now` is in milliseconds since the epoch.
    pub fn lag_millis(&self, now: u64) -> u64 {
        match self.oldest.get() {
            0 => 0,
            oldest => now.saturating_sub(oldest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_over_a_while_after_requests_succeed_again() {
        let (stats, lasts) = (OutputStats::default(), LASTS.as_millis() as u64);
        stats.requests.add(1);
        stats.fail("refused");
        let now = |later: u64| unix_millis() + later;
        assert!(stats.error_now(now(10 * lasts)).is_some_and(|(error, _)| error == "refused"));
        stats.requests.add(1);
        assert!(stats.error_now(now(0)).is_some(), "others go on while one is refused");
        assert_eq!(stats.error_now(now(lasts)), None);
        assert_eq!(stats.last_error().as_deref(), Some("refused"));
    }

    #[test]
    fn records_are_late_by_when_they_were_written_and_those_between_two_times_by_their_share() {
        let second = 1_000_000_000;
        let now = 1_000 * second;
        for (first, last, late) in [
            (now - 5 * second, now, 0),
            (now - 100 * second, now - 61 * second, 100),
            (now - 110 * second, now - 10 * second, 50),
            // Where the first line says nothing, the last is asked.
            (0, now - 61 * second, 100),
            (0, now - 59 * second, 0),
        ] {
            let stats = OutputStats::default();
            stats.count_in_time(100, (first, last), now);
            assert_eq!(
                (stats.timed_records.get(), stats.late_records.get()),
                (100, late),
                "{first} to {last}"
            );
        }
        let stats = OutputStats::default();
        stats.count_in_time(100, (0, 0), now);
        assert_eq!(stats.timed_records.get(), 0, "of logs without times nothing can be said");
    }
}
