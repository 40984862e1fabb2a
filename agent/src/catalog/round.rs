//! A round over what is silent and not watched: as much of it at a tick as there is time for.
//!
//! In: names, in ascending order, at each tick all of them. Out: which to ask now. Never asks itself.

use std::time::Duration;

use super::cpu_time;

/// How many are asked between two looks at the clock, which costs about as much as asking does.
const STRIDE: u32 = 16;

/// Where a round has come to. `K` is a name.
#[derive(Debug)]
pub(super) struct Round<K> {
    /// The last one that was asked; none at the beginning of a round.
    last: Option<K>,
    begun: Duration,
    limit: Duration,
    asked: u32,
    /// The time is up: the rest is for the next tick.
    over: bool,
}

impl<K: Ord + Clone> Round<K> {
    /// A round of which each tick may take `limit` of the processor's time.
    pub fn new(limit: Duration) -> Round<K> {
        Round { last: None, begun: Duration::ZERO, limit, asked: 0, over: false }
    }

    /// A tick begins.
    pub fn begin(&mut self) {
        if !std::mem::take(&mut self.over) {
            self.last = None;
        }
        (self.begun, self.asked) = (cpu_time(), 0);
    }

    /// Whether this one is to be asked now.
    pub fn takes(&mut self, name: &K) -> bool {
        if self.over || self.last.as_ref().is_some_and(|last| name <= last) {
            return false;
        }
        self.asked += 1;
        if self.asked.is_multiple_of(STRIDE) && cpu_time() - self.begun >= self.limit {
            self.over = true;
            self.last = Some(name.clone());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(round: &mut Round<u32>, names: &[u32]) -> Vec<u32> {
        round.begin();
        names.iter().copied().filter(|name| round.takes(name)).collect()
    }

    #[test]
    fn with_time_enough_all_are_asked_at_every_tick() {
        let names: Vec<u32> = (0..100).collect();
        let mut round = Round::new(Duration::from_secs(3600));
        assert_eq!(tick(&mut round, &names), names);
        assert_eq!(tick(&mut round, &names), names);
    }

    #[test]
    fn without_each_is_asked_once_in_a_round_whatever_comes_and_goes() {
        let mut round = Round::new(Duration::ZERO);
        let names: Vec<u32> = (0..40).collect();
        assert_eq!(tick(&mut round, &names), names[..16]);
        // The last one that was asked is gone, and one has come before it.
        let names: Vec<u32> = names.into_iter().filter(|name| *name != 15).collect();
        assert_eq!(tick(&mut round, &names), names[15..31]);
        assert_eq!(tick(&mut round, &names), names[31..]);
        assert_eq!(tick(&mut round, &names), names[..16], "and again from the beginning");
    }
}
