//! Counters: what each output and each container's reader has done, for the page, the table and the metrics.
//!
//! In: additions from the threads that do the work, a few per batch. Out: numbers that anyone may read at any time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::origin::Origin;

/// A number that only grows, or a level that is set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
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

/// What one output has done since the start.
#[derive(Debug, Default)]
pub struct OutputStats {
    /// Records taken from files (those read again after a set-back included).
    pub records_read: Counter,
    /// Records that the destination holds by its own word.
    pub records_delivered: Counter,
    /// Records passed over as older than the output's beginning.
    pub records_too_old: Counter,
    /// Records that the destination had already ("exists", 409).
    pub duplicates: Counter,
    /// Of these, the ones that this process is certain not to have sent: a sign of two agents with one name, or of a
    /// fault in us.
    pub unexpected_duplicates: Counter,
    /// Records that the destination refused, and that were sent once more with their JSON as text.
    pub reshaped: Counter,
    /// Records that the destination refused for good: they are dead letters.
    pub refused: Counter,
    /// Dead letters that had to go for newer ones.
    pub dead_letters_dropped: Counter,
    /// Bytes that went away unread, such as a file deleted while nobody could hold it.
    pub lost_bytes: Counter,
    /// Requests that succeeded.
    pub requests: Counter,
    /// Requests, or items of one, that were sent again.
    pub retries: Counter,
    /// Times that a container was set aside because the destination did not take its records.
    pub parked: Counter,
    /// Bytes of requests, as sent.
    pub sent_bytes: Counter,
    last_error: Mutex<Option<String>>,
    containers: Mutex<Vec<Arc<ContainerStats>>>,
}

impl OutputStats {
    /// Remembers the last error, for people.
    pub fn fail(&self, error: impl fmt::Display) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// The last error.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counters for a container that this output begins to read.
    pub fn container(&self, origin: Arc<Origin>) -> Arc<ContainerStats> {
        let stats = Arc::new(ContainerStats::new(origin));
        self.lock().push(stats.clone());
        stats
    }

    /// The container is gone and read.
    pub fn forget(&self, container: &Arc<ContainerStats>) {
        self.lock().retain(|stats| !Arc::ptr_eq(stats, container));
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
}

impl ContainerStats {
    fn new(origin: Arc<Origin>) -> ContainerStats {
        ContainerStats {
            origin,
            read_bytes: Counter::default(),
            lag_bytes: Counter::default(),
            records_read: Counter::default(),
            records_delivered: Counter::default(),
        }
    }
}
