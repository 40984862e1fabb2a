//! What happens when in a soak: a pure function of its seed.
//!
//! What comes in: a seed and a length. What goes out: events in the order of their times. It never looks at a clock or at what
//! comes of them, so that a run can be repeated as far as a real node lets itself be.

use std::time::Duration;

use fastrand::Rng;

use crate::torture::mood::{Mood, Moods};

/// Deployments whose replicas come and go.
pub const DEPLOYMENTS: usize = 6;

/// Deployments whose pods crash.
pub const CRASHING: usize = 2;

/// The most replicas of one.
const REPLICAS: usize = 3;

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, from the beginning.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A Deployment of writers is to have so many pods.
    Scale(usize, usize),
    /// A Job writes so many lines, as quickly as it can, and ends with this code.
    Job(u64, u8),
    /// Whether a Deployment of pods that crash has one.
    Crash(usize, bool),
    /// The agent's process is killed.
    Kill,
    /// The agent's pod is evicted.
    Evict,
    /// The agent's DaemonSet is rolled over.
    Roll,
    /// The agent's ConfigMap changes, in place.
    Reload,
    /// One of the node's programs is killed and started again.
    Restart(&'static str),
    /// The node is rebooted.
    Reboot,
    /// The way to OpenSearch changes.
    Way(Moods),
    /// OpenSearch is killed, and started again on its data.
    ServerDies,
}

impl What {
    /// Whether pods may lose their logs by it, which is for a time when there is an agent.
    pub fn lets_go_of_logs(self) -> bool {
        matches!(self, What::Scale(..) | What::Crash(..) | What::Job(..))
    }
}

/// What happens, in the order of time.
pub fn schedule(seed: u64, length: Duration) -> Vec<Event> {
    let mut random = Rng::with_seed(seed);
    let mut events = Vec::new();
    // Seconds between two of a kind, at least and at most.
    let mut of_kind = |every: std::ops::Range<u64>, make: &mut dyn FnMut(&mut Rng) -> Vec<(u64, What)>| {
        let mut random = random.fork();
        let mut at = random.u64(every.start / 2 * 1_000..every.end * 1_000);
        while at < length.as_millis() as u64 {
            for (later, what) in make(&mut random) {
                events.push(Event { at: Duration::from_millis(at + later), what });
            }
            at += random.u64(every.start * 1_000..every.end * 1_000);
        }
    };
    for place in 0..DEPLOYMENTS {
        of_kind(15..60, &mut |random| vec![(0, What::Scale(place, random.usize(..=REPLICAS)))]);
    }
    for place in 0..CRASHING {
        of_kind(30..90, &mut |random| vec![(0, What::Crash(place, random.u32(..3) > 0))]);
    }
    of_kind(5..25, &mut |random| vec![(0, What::Job(random.u64(1..400), random.u8(..2)))]);
    of_kind(60..240, &mut |_| vec![(0, What::Kill)]);
    of_kind(60..240, &mut |random| vec![(0, if random.bool() { What::Evict } else { What::Roll })]);
    of_kind(90..300, &mut |_| vec![(0, What::Reload)]);
    of_kind(40..150, &mut |random| {
        vec![(0, What::Restart(["kubelet", "containerd", "server", "scheduler"][random.usize(..4)]))]
    });
    of_kind(300..700, &mut |_| vec![(0, What::Reboot)]);
    of_kind(10..40, &mut |random| {
        let mood = random.choice(Mood::ALL).unwrap_or(Mood::Calm);
        let percent = if random.u32(..3) == 0 { 100 } else { random.u32(10..80) };
        vec![(0, What::Way(Moods { mood, percent })), (random.u64(2_000..15_000), What::Way(Moods::CALM))]
    });
    of_kind(120..360, &mut |_| vec![(0, What::ServerDies)]);
    // Stable: events of one time stay in the order of their making.
    events.sort_by_key(|event| event.at);
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_events_each_time_and_all_kinds_in_half_an_hour() {
        let half_an_hour = Duration::from_secs(1_800);
        let text = |seed| format!("{:?}", schedule(seed, half_an_hour));
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        let events = schedule(3, half_an_hour);
        assert!(events.is_sorted_by_key(|event| event.at));
        let mut kinds: Vec<String> = events
            .iter()
            .map(|event| format!("{:?}", event.what).split('(').next().unwrap_or_default().to_owned())
            .collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), 11, "{kinds:?}");
    }
}
