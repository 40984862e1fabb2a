//! How long to wait before trying again: exponential, with full jitter.
//!
//! Full jitter (a uniform draw between nothing and the ceiling) spreads a thousand agents that lost one server over the
//! whole interval, as AWS's architecture blog measured ("Exponential Backoff and Jitter").

use std::time::Duration;

/// Waiting times of one thing that is tried again.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
    in_step: bool,
}

impl Backoff {
    /// Ceilings of `first`, twice `first`, and so on up to `most`.
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, tries: 0, in_step: false }
    }

    /// Without any chance: each wait is its ceiling. For a simulation that shows what the chance is for.
    pub fn in_step(self) -> Backoff {
        Backoff { in_step: true, ..self }
    }

    /// The next wait, at least `asked` if the server named a time (Retry-After).
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.tries.min(20)).min(self.most);
        self.tries += 1;
        let wait = if self.in_step { ceiling } else { ceiling.mul_f64(fastrand::f64()) };
        // A server that asks for a day is asked again after ten times the usual most.
        asked.map_or(wait, |asked| asked.min(self.most * 10) + wait)
    }

    /// How often [`next`](Self::next) was called.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// It worked: the next trouble begins anew.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_heed_the_server() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for ceiling in [100, 200, 400, 800, 1000, 1000] {
            assert!(backoff.next(None) <= Duration::from_millis(ceiling));
        }
        let asked = backoff.next(Some(Duration::from_secs(3)));
        assert!(asked >= Duration::from_secs(3) && asked <= Duration::from_secs(4));
        assert!(backoff.next(Some(Duration::from_secs(86_400))) <= Duration::from_secs(11));
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }
}
