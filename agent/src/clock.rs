//! What time it is: by the wall clock, and by one for what is kept for a day or so, over restarts, which begins with the wall
//! clock's time and then runs evenly.
//!
//! In: nothing. Out: time since the epoch, of the even clock roughly. The wall clock itself jumps, on a machine that boots
//! without one by decades, and whatever is kept for a day would be thrown away in that moment.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than any agent runs: the wait of whoever has nothing to wait for.
pub const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// Nanoseconds since the epoch by the wall clock; before it, 0.
pub fn unix_nanos() -> i64 {
    i64::try_from(since_epoch().as_nanos()).unwrap_or(i64::MAX)
}

/// The same in milliseconds.
pub fn unix_millis() -> u64 {
    since_epoch().as_millis() as u64
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct EvenClock {
    began_at: u64,
    began: Instant,
}

impl EvenClock {
    /// A clock that begins now.
    pub fn new() -> EvenClock {
        EvenClock { began_at: since_epoch().as_secs(), began: Instant::now() }
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> u64 {
        self.began_at + self.began.elapsed().as_secs()
    }
}

impl Default for EvenClock {
    fn default() -> EvenClock {
        EvenClock::new()
    }
}
