//! How often this node may call: its share of what the account may, less where the service says that it is too much.
//!
//! In: the account's quota, the number of nodes, and what became of each call. Out: how long to wait before a call, and
//! how long batches should linger so that the calls of all streams stay within the share. Reads no clock: the time is the
//! caller's, so that a fleet can be simulated.

use std::time::{Duration, Instant};

/// Of its share a node plans to use so much: the rest is for full batches, and for what others call.
const PLANNED: f64 = 0.8;

/// No batch lingers longer than this, whatever the quota: then calls wait for each other.
pub const LONGEST_LINGER: Duration = Duration::from_secs(300);

/// The rate is lowered at most so often: calls that were under way together fail together.
const LOWER_EVERY: Duration = Duration::from_secs(1);

/// Calls that may be made at once after a pause, in seconds of the rate.
const BURST: f64 = 1.0;

/// A node's rate of calls.
#[derive(Debug)]
pub struct Pace {
    /// Calls a second, at most and at least.
    share: f64,
    least: f64,
    rate: f64,
    /// Calls that could be made now; negative where some have been granted for later.
    tokens: f64,
    at: Instant,
    lowered: Option<Instant>,
    /// Streams that a batch has lately had.
    streams: f64,
}

impl Pace {
    /// A share of so many calls a second.
    pub fn new(share: f64, now: Instant) -> Pace {
        // However small the share, a call a minute must be possible; however often the service says no, a hundredth.
        let least = (share / 100.0).max(1.0 / 60.0).min(share);
        Pace {
            share,
            least,
            rate: share,
            tokens: (share * BURST).max(1.0),
            at: now,
            lowered: None,
            streams: 0.0,
        }
    }

    /// Takes the next place: how long to wait for it.
    pub fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate).min((self.rate * BURST).max(1.0)) - 1.0;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }

    /// The service said that there were too many calls.
    pub fn throttled(&mut self, now: Instant) {
        if self.lowered.is_none_or(|at| now.saturating_duration_since(at) >= LOWER_EVERY) {
            self.lowered = Some(now);
            self.rate = (self.rate / 2.0).max(self.least);
        }
    }

    /// A call went through: the rate comes back, slowly.
    pub fn passed(&mut self) {
        self.rate = (self.rate + (self.share - self.rate) / 100.0).min(self.share);
    }

    /// A batch had so many streams, each of which takes a call.
    pub fn batch_of(&mut self, streams: usize) {
        // A smaller batch need not mean fewer streams: some are closed early, being full.
        self.streams = (streams as f64).max(self.streams * 0.9);
    }

    /// How long a batch should linger, at least `configured`.
    pub fn linger(&self, configured: Duration) -> Duration {
        let needed = Duration::try_from_secs_f64(self.streams / (self.rate * PLANNED));
        configured.max(needed.unwrap_or(LONGEST_LINGER).min(LONGEST_LINGER))
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
