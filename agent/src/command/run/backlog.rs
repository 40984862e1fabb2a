//! The backlog at the start of an agent: told while it is delivered, and once it is.
//!
//! In: each output's counters. Out: a line for what is too old to be delivered; for an output that begins far behind, how much
//! is done and how long the rest will take at that rate: beside its counters, for the page, and as a line in the log now and
//! then; and a line when it has caught up, or has delivered as much as was behind. Of an output that gets on without one not a
//! word, nor in the log of one that delivers nothing, which is told by itself. A reload ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::unix_millis;
use crate::command::terminal::size;
use crate::stats::{CatchingUp, OutputStats};

/// The first look: by then the logs have been found.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// So many looks make a line.
const LOOKS_A_LINE: u32 = 5;

/// A backlog is more than this.
const LEAST: u64 = 64 << 20;

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    /// It has come so far.
    On(CatchingUp),
    /// It has caught up: bytes done.
    CaughtUp(u64),
    /// As much is done as was behind, and so much is left.
    Passed(u64, u64),
}

/// How far an output is behind: bytes, and how long ago the oldest of them was written.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Lag {
    bytes: u64,
    age: Duration,
}

/// What of an output was behind.
#[derive(Debug)]
struct Backlog {
    output: String,
    stats: Arc<OutputStats>,
    /// Bytes that were behind.
    behind: u64,
    /// Bytes done at the start, and at the last word.
    base: u64,
    told: u64,
}

impl Backlog {
    /// `lag`: nothing where it is not known, as while containers are taken up again after a fault. `is_line`: whether a line may
    /// be said of it.
    fn look(&mut self, lag: Option<Lag>, passed: u64, elapsed: Duration, is_line: bool) -> Option<Told> {
        let (lag, done) = (lag?, passed.saturating_sub(self.base));
        // All that is left was written since the first look: on a busy node there is always something.
        if lag.age + FIRST_LOOK <= elapsed {
            return Some(Told::CaughtUp(done));
        }
        let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
        let now = CatchingUp {
            behind_bytes: self.behind,
            done_bytes: done,
            left_bytes: lag.bytes,
            bytes_per_second: rate,
            seconds_left: (done > 0).then(|| (lag.bytes as f64 / rate).min(1e9)),
        };
        self.stats.set_catching_up(Some(now));
        if !is_line {
            return None;
        }
        let told = std::mem::replace(&mut self.told, passed);
        // At the last line already: what is left is told a little later than what is done.
        if told.saturating_sub(self.base) >= self.behind {
            return Some(Told::Passed(done, lag.bytes));
        }
        (passed > told).then_some(Told::On(now))
    }
}

impl Drop for Backlog {
    /// However it ends, as by a reload too.
    fn drop(&mut self) {
        self.stats.set_catching_up(None);
    }
}

/// Tells, until all outputs have caught up. Those are the outputs of an agent that has just started.
pub async fn tell(outputs: Vec<(String, Arc<OutputStats>)>) {
    let begun = Instant::now();
    let of = |(output, stats): (String, Arc<OutputStats>)| {
        let base = stats.passed_bytes.get();
        Backlog { output, stats, behind: 0, base, told: base }
    };
    let mut backlogs: Vec<Backlog> = outputs.into_iter().map(of).collect();
    tokio::time::sleep(FIRST_LOOK).await;
    for Backlog { output, stats, .. } in &backlogs {
        let records = stats.records_too_old.get();
        if records > 0 {
            tracing::info!(
                output,
                records,
                "records are passed over that were older than `max_age` when the output first began; more of them are counted"
            );
        }
    }
    backlogs.retain_mut(|backlog| {
        let left = lag_bytes(&backlog.stats);
        backlog.behind = left + backlog.stats.passed_bytes.get() - backlog.base;
        left > LEAST
    });
    for look in 0_u32.. {
        if backlogs.is_empty() {
            break;
        }
        let is_line = look.is_multiple_of(LOOKS_A_LINE);
        backlogs.retain_mut(|backlog| {
            let (output, seconds) = (&backlog.output.clone(), begun.elapsed().as_secs());
            let passed = backlog.stats.passed_bytes.get();
            match backlog.look(lag(&backlog.stats), passed, begun.elapsed(), is_line) {
                Some(Told::CaughtUp(done)) => {
                    tracing::info!(output, delivered = size(done), seconds, "caught up");
                    return false;
                }
                Some(Told::Passed(done, left)) => {
                    let (delivered, left) = (size(done), size(left));
                    tracing::info!(output, delivered, left, seconds, "delivered as much as was behind");
                    return false;
                }
                Some(Told::On(now)) => tracing::info!(
                    output,
                    percent = now.done_bytes * 100 / (now.done_bytes + now.left_bytes),
                    delivered = size(now.done_bytes),
                    left = size(now.left_bytes),
                    seconds_left = now.seconds_left.unwrap_or_default() as u64,
                    "catching up"
                ),
                None => {}
            }
            true
        });
        tokio::time::sleep(EVERY).await;
    }
}

fn lag_bytes(stats: &OutputStats) -> u64 {
    stats.containers().iter().map(|container| container.lag_bytes.get()).sum()
}

/// Nothing where it is not known.
fn lag(stats: &OutputStats) -> Option<Lag> {
    let (containers, now) = (stats.containers(), unix_millis());
    let mut lag = Lag { bytes: 0, age: Duration::ZERO };
    for container in &containers {
        let bytes = container.lag_bytes.get();
        // It has not been looked yet how old these are.
        if bytes > 0 && container.oldest.get() == 0 {
            return None;
        }
        lag.bytes += bytes;
        lag.age = lag.age.max(Duration::from_millis(container.lag_millis(now)));
    }
    (!containers.is_empty()).then_some(lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn backlog() -> Backlog {
        Backlog { output: "o".into(), stats: Arc::default(), behind: GIB, base: 100, told: 100 }
    }

    fn old(bytes: u64) -> Option<Lag> {
        Some(Lag { bytes, age: Duration::from_secs(3600) })
    }

    #[test]
    fn the_rest_takes_as_long_as_the_rate_so_far_says_and_who_stands_still_is_not_spoken_of() {
        let (mut backlog, ten) = (backlog(), Duration::from_secs(10));
        let stats = backlog.stats.clone();
        assert_eq!(backlog.look(old(900 << 20), 100, ten, true), None, "nothing is delivered");
        let stuck = stats.catching_up().expect("what waits is shown nevertheless");
        assert_eq!((stuck.left_bytes, stuck.seconds_left), (900 << 20, None));
        let done = 100 << 20;
        let on = CatchingUp {
            behind_bytes: GIB,
            done_bytes: done,
            left_bytes: 900 << 20,
            bytes_per_second: (10 << 20) as f64,
            seconds_left: Some(90.0),
        };
        assert_eq!(backlog.look(old(900 << 20), 100 + done, ten, false), None, "not yet time for a line");
        assert_eq!(stats.catching_up(), Some(on));
        assert_eq!(backlog.look(old(900 << 20), 100 + done, ten, true), Some(Told::On(on)));
        assert_eq!(backlog.look(old(900 << 20), 100 + done, 2 * ten, true), None, "nothing more is");
        // However much a busy node has just written.
        let fresh = Some(Lag { bytes: 300 << 20, age: ten });
        assert_eq!(backlog.look(fresh, 100 + 2 * done, 3 * ten, false), Some(Told::CaughtUp(2 * done)));
        drop(backlog);
        assert_eq!(stats.catching_up(), None);
    }

    #[test]
    fn who_has_done_what_was_behind_is_not_told_of_for_ever_and_nothing_known_is_not_nothing_left() {
        let (mut backlog, ten) = (backlog(), Duration::from_secs(10));
        assert_eq!(backlog.look(None, 100 + GIB / 2, ten, true), None);
        let on = backlog.look(old(7), 100 + GIB, ten, true);
        assert!(matches!(on, Some(Told::On(CatchingUp { done_bytes: GIB, left_bytes: 7, .. }))), "{on:?}");
        assert_eq!(backlog.look(old(7), 100 + GIB, 2 * ten, false), None);
        assert_eq!(backlog.look(old(7), 100 + GIB, 2 * ten, true), Some(Told::Passed(GIB, 7)));
    }
}
