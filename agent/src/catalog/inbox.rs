//! The way into the catalog's thread, which hints and outputs share.
//!
//! In: hints, questions and the wish to stop, from any thread. Out: what has gathered, to the catalog's thread, which
//! alone takes it. Never makes anyone wait but the one who takes.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Subscriber;
use crate::pulse::Pulse;
use crate::stats::Counter;

/// What others ask of the catalog's thread.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Directories (below the root, empty for the root itself) that may have changed.
    pub dirty: HashSet<PathBuf>,
    /// Everything may have changed: the watcher lost events.
    pub lost: bool,
    /// Who wants to be answered when everything has been listed.
    pub refresh: Vec<SyncSender<()>>,
    /// Who wants to be told of files.
    pub subscribe: Vec<Subscriber>,
    /// The end.
    pub stop: bool,
}

impl Requests {
    fn has_hints(&self) -> bool {
        self.lost || !self.dirty.is_empty()
    }

    fn is_urgent(&self) -> bool {
        self.stop || !self.refresh.is_empty() || !self.subscribe.is_empty()
    }
}

/// Where they gather.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    requests: Mutex<Requests>,
    arrived: Condvar,
    /// That of the thread which takes.
    pub pulse: Arc<Pulse>,
    /// How many files it knows, as of its last look through everything.
    pub files: Arc<Counter>,
    /// How many logs it could not read in that look.
    pub unreadable: Counter,
}

impl Inbox {
    /// Asks for something that is answered at once.
    pub fn post(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.lock());
        self.arrived.notify_one();
    }

    /// Leaves a hint. It wakes the thread only if none was there: a storm of them costs one wake-up.
    pub fn hint(&self, change: impl FnOnce(&mut Requests)) {
        let mut requests = self.lock();
        let first = !requests.has_hints();
        change(&mut requests);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Whether the thread is to end.
    pub fn is_stopping(&self) -> bool {
        self.lock().stop
    }

    /// Takes what has been asked, waiting for it up to `until`; hints are left to gather up to `hints_from`.
    pub fn take(&self, until: Instant, hints_from: Instant) -> Requests {
        self.pulse.rest();
        let mut requests = self.lock();
        loop {
            let now = Instant::now();
            let wake = if requests.has_hints() { until.min(hints_from) } else { until };
            if requests.is_urgent() || now >= wake {
                self.pulse.beat();
                return std::mem::take(&mut requests);
            }
            (requests, _) =
                self.arrived.wait_timeout(requests, wake - now).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
