//! The backlog at the start of an agent: told while it is delivered, and once it is.
//!
//! In: each output's counters. Out: a line now and then for an output that begins far behind, with how much is done and how
//! long the rest will take at that rate, and one when it has caught up. Of an output that gets on without one, or that delivers
//! nothing, which is told by itself, not a word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::terminal::size;
use crate::stats::OutputStats;

/// The first look: by then the logs have been found.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// A backlog is more than this.
const LEAST: u64 = 64 << 20;

/// What is left at any time of an output that has caught up.
const CAUGHT_UP: u64 = 1 << 20;

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    /// So many bytes are delivered, so many are left, for about that long.
    On(u64, u64, Duration),
    /// It is done: bytes.
    Done(u64),
}

/// What of an output was behind.
#[derive(Debug)]
struct Backlog {
    output: String,
    stats: Arc<OutputStats>,
    /// Bytes delivered at the start, and at the last word.
    base: u64,
    told: u64,
}

impl Backlog {
    fn look(&mut self, lag: u64, delivered: u64, elapsed: Duration) -> Option<Told> {
        let done = delivered.saturating_sub(self.base);
        if lag <= CAUGHT_UP {
            return Some(Told::Done(done));
        }
        if delivered == std::mem::replace(&mut self.told, delivered) {
            return None;
        }
        let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
        Some(Told::On(done, lag, Duration::from_secs_f64((lag as f64 / rate).min(1e9))))
    }
}

/// Tells, until all outputs have caught up. Those are the outputs of an agent that has just started.
pub async fn tell(outputs: Vec<(String, Arc<OutputStats>)>) {
    let begun = Instant::now();
    let of = |(output, stats): (String, Arc<OutputStats>)| {
        let base = stats.delivered_bytes.get();
        Backlog { output, stats, base, told: base }
    };
    let mut backlogs: Vec<Backlog> = outputs.into_iter().map(of).collect();
    tokio::time::sleep(FIRST_LOOK).await;
    backlogs.retain(|backlog| lag(&backlog.stats) > LEAST);
    while !backlogs.is_empty() {
        backlogs.retain_mut(|backlog| {
            let (lag, delivered) = (lag(&backlog.stats), backlog.stats.delivered_bytes.get());
            match backlog.look(lag, delivered, begun.elapsed()) {
                Some(Told::Done(done)) => {
                    let seconds = begun.elapsed().as_secs();
                    tracing::info!(output = backlog.output, delivered = size(done), seconds, "caught up");
                    return false;
                }
                Some(Told::On(done, left, time)) => tracing::info!(
                    output = backlog.output,
                    percent = done * 100 / (done + left),
                    delivered = size(done),
                    left = size(left),
                    seconds_left = time.as_secs(),
                    "catching up"
                ),
                None => {}
            }
            true
        });
        tokio::time::sleep(EVERY).await;
    }
}

fn lag(stats: &OutputStats) -> u64 {
    stats.containers().iter().map(|container| container.lag_bytes.get()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_rate_so_far_says_and_who_stands_still_is_not_spoken_of() {
        let mut backlog = Backlog { output: "o".into(), stats: Arc::default(), base: 100, told: 100 };
        let ten = Duration::from_secs(10);
        assert_eq!(backlog.look(900 << 20, 100, ten), None, "nothing is delivered");
        let done = 100 << 20;
        let on = Some(Told::On(done, 900 << 20, Duration::from_secs(90)));
        assert_eq!(backlog.look(900 << 20, 100 + done, ten), on);
        assert_eq!(backlog.look(900 << 20, 100 + done, 2 * ten), None, "nothing more is");
        assert_eq!(backlog.look(CAUGHT_UP, 100 + 2 * done, 3 * ten), Some(Told::Done(2 * done)));
    }
}
