//! Who reads which shard, where several replicas share a stream.
//!
//! In: the replicas that are there, the shards that may be read now with whoever holds each, and leases as they are seen
//! from time to time. Out: whose each shard is to be, the same for all that know the same; and which leases have run out.
//! Never asks or changes anything, and never compares the clocks of two machines.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::config::template::fnv1a;

/// Whose each shard is to be: as many for each replica as for any other, give or take one, and no shard changes hands
/// beyond what that takes. `open` are shards in their order, each with its holder, if it has one.
pub fn assign<'a>(
    replicas: &BTreeSet<&'a str>,
    open: &BTreeMap<&'a str, Option<&'a str>>,
) -> BTreeMap<&'a str, &'a str> {
    let mut loads: BTreeMap<&str, usize> = replicas.iter().map(|replica| (*replica, 0)).collect();
    let each = open.len().checked_div(loads.len()).unwrap_or(0);
    let mut one_more = open.len().checked_rem(loads.len()).unwrap_or(0);
    let (mut plan, mut free) = (BTreeMap::new(), Vec::new());
    for (shard, holder) in open {
        match holder.and_then(|holder| Some((holder, loads.get_mut(holder)?))) {
            Some((holder, load)) if *load < each || (*load == each && one_more > 0) => {
                one_more -= usize::from(*load == each);
                *load += 1;
                plan.insert(*shard, holder);
            }
            _ => free.push(*shard),
        }
    }
    for shard in free {
        let weight = |replica: &str| fnv1a(format!("{shard} {replica}").as_bytes());
        let least = loads.iter_mut().min_by_key(|(replica, load)| (**load, Reverse(weight(replica))));
        if let Some((replica, load)) = least {
            *load += 1;
            plan.insert(shard, replica);
        }
    }
    plan
}

/// Leases as they have been seen. One has run out when it did not change for as long as it lasts, by the clock of whoever
/// looks: what time it says itself is the time of another machine.
#[derive(Debug, Default)]
pub struct Seen(HashMap<String, (String, Instant)>);

impl Seen {
    /// Takes in all leases there are, each by its name with whatever changes when it is renewed, as they are `now`.
    pub fn look(&mut self, leases: impl Iterator<Item = (String, String)>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = leases
            .map(|(name, state)| {
                let same = before.remove(&name).filter(|(was, _)| *was == state);
                (name, same.unwrap_or((state, now)))
            })
            .collect();
    }

    /// For how long a lease has not changed; for no time if it was not seen yet.
    pub fn unchanged(&self, name: &str, now: Instant) -> Duration {
        self.0.get(name).map(|(_, since)| now.saturating_duration_since(*since)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan<'a>(replicas: &[&'a str], open: &[(&'a str, Option<&'a str>)]) -> Vec<(&'a str, &'a str)> {
        assign(&replicas.iter().copied().collect(), &open.iter().copied().collect()).into_iter().collect()
    }

    #[test]
    fn a_replica_that_comes_is_given_its_share_and_no_more_changes_hands() {
        let held = ["1", "2", "3", "4", "5"].map(|shard| (shard, Some("a")));
        let after = plan(&["a", "b"], &held);
        assert_eq!(after, [("1", "a"), ("2", "a"), ("3", "a"), ("4", "b"), ("5", "b")]);
        // And one that goes leaves the others what they have.
        let left = after.iter().map(|(shard, holder)| (*shard, Some(*holder))).collect::<Vec<_>>();
        assert_eq!(plan(&["b"], &left), ["1", "2", "3", "4", "5"].map(|shard| (shard, "b")));
        let alone = plan(&["a", "c"], &left);
        assert_eq!(alone[..3], after[..3]);
        assert!(alone[3..].iter().all(|(_, replica)| *replica == "c"), "{alone:?}");
        assert_eq!(plan(&["a", "b"], &[]), []);
        assert_eq!(plan(&[], &held), []);
    }

    #[test]
    fn a_lease_runs_out_by_the_clock_of_whoever_looks() {
        let (mut seen, zero) = (Seen::default(), Instant::now());
        let at = |seconds| zero + Duration::from_secs(seconds);
        let lease = |state: &str| std::iter::once(("l".to_owned(), state.to_owned()));
        seen.look(lease("1999"), zero);
        seen.look(lease("1999"), at(10));
        assert_eq!(seen.unchanged("l", at(15)), Duration::from_secs(15));
        // Backwards by its own word: it is a change like any other.
        seen.look(lease("1998"), at(16));
        assert_eq!(seen.unchanged("l", at(20)), Duration::from_secs(4));
        seen.look(std::iter::empty(), at(21));
        assert_eq!(seen.unchanged("l", at(90)), Duration::ZERO, "gone");
    }

    proptest! {
        #[test]
        fn every_shard_has_one_replica_and_none_has_two_more_than_another(
            replicas in prop::collection::btree_set("[a-e]", 1..5),
            open in prop::collection::btree_map("[0-9]{2}", prop::option::of("[a-g]"), 0..40),
        ) {
            let names: BTreeSet<&str> = replicas.iter().map(String::as_str).collect();
            let open: BTreeMap<&str, Option<&str>> =
                open.iter().map(|(shard, holder)| (shard.as_str(), holder.as_deref())).collect();
            let plan = assign(&names, &open);
            prop_assert!(plan.keys().eq(open.keys()));
            let load = |name: &&str| plan.values().filter(|replica| *replica == name).count();
            let loads: Vec<usize> = names.iter().map(load).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
            // Whoever acts by it, the next plan is the same.
            let after = plan.iter().map(|(shard, replica)| (*shard, Some(*replica))).collect();
            prop_assert_eq!(assign(&names, &after), plan);
        }
    }
}
