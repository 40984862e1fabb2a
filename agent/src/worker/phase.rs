//! How far the agent has come with stopping, and how its workers stand with that.
//!
//! In: the wish of those who stop the agent, or let another follow it. Out: their workers' answers. Never waits.

use std::sync::atomic::{AtomicU8, Ordering};

/// How far the agent has come with stopping.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

impl Phase {
    const WORK: u8 = 0;
    const SETTLE: u8 = 1;
    const DRAIN: u8 = 2;
    const ABORT: u8 = 3;

    /// Read and send nothing more for now; what is under way comes back. Not for an agent that is ending already.
    pub fn settle(&self) {
        let _ = self.0.compare_exchange(Self::WORK, Self::SETTLE, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Go on after [`settle`](Self::settle).
    pub fn resume(&self) {
        let _ = self.0.compare_exchange(Self::SETTLE, Self::WORK, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Read on until nothing is left, without waiting for more; then end.
    pub fn drain(&self) {
        self.0.fetch_max(Self::DRAIN, Ordering::AcqRel);
    }

    /// End now.
    pub fn abort(&self) {
        self.0.store(Self::ABORT, Ordering::Release);
    }

    fn now(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn is_settling(&self) -> bool {
        self.now() == Self::SETTLE
    }

    pub(super) fn is_draining(&self) -> bool {
        self.now() >= Self::DRAIN
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.now() == Self::ABORT
    }
}

/// How a worker stands while the agent settles, told by the worker itself: one that hangs says nothing.
#[derive(Debug, Default)]
pub struct Standing(AtomicU8);

impl Standing {
    const WORKS: u8 = 0;
    pub(super) const PAUSED: u8 = 1;
    pub(super) const SETTLED: u8 = 2;

    /// Before the workers are told to settle: what they say from now on counts.
    pub fn ask(&self) {
        self.0.store(Self::WORKS, Ordering::Release);
    }

    /// It reads and writes nothing; requests may be under way.
    pub fn is_paused(&self) -> bool {
        self.0.load(Ordering::Acquire) >= Self::PAUSED
    }

    /// And nothing is under way.
    pub fn is_settled(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::SETTLED
    }

    /// It has ended.
    pub fn ended(&self) {
        self.tell(Self::SETTLED);
    }

    /// True if that is news.
    pub(super) fn tell(&self, standing: u8) -> bool {
        self.0.swap(standing, Ordering::AcqRel) != standing
    }
}

/// What those who stop the agent are told.
#[derive(Debug)]
pub enum Event {
    /// A worker's [`Standing`] is another.
    Stands,
    /// A worker has ended; whether it had delivered everything.
    Ended(bool),
    /// From elsewhere: nobody wants to wait any longer.
    Hasten,
}
