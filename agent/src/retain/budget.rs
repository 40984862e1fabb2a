//! Which retained files go when there is no room for all of them.
//!
//! In: how large each is, and whose. Out: the ones that must go: of the namespace that has most, the oldest, again and again
//! until there is room. So a namespace loses nothing while another has more than it.

use std::collections::{BTreeMap, VecDeque};

/// A file that could go.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The namespace of its pod.
    pub namespace: &'a str,
    /// Older ones have lower numbers.
    pub age: u64,
    /// Bytes on disk that its going would free.
    pub bytes: u64,
}

/// The places of those that must go, so that `bytes` and `files` (inodes) are freed; all of them if that is not enough.
pub fn victims(candidates: &[Candidate<'_>], bytes: u64, files: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|at| candidates[*at].age);
    let mut namespaces: BTreeMap<&str, (u64, VecDeque<usize>)> = BTreeMap::new();
    for at in order {
        let (sum, queue) = namespaces.entry(candidates[at].namespace).or_default();
        *sum += candidates[at].bytes;
        queue.push_back(at);
    }
    let (mut freed, mut gone) = (0, Vec::new());
    while freed < bytes || (gone.len() as u64) < files {
        let most = namespaces.values_mut().filter(|(_, queue)| !queue.is_empty()).max_by_key(|(sum, _)| *sum);
        let Some((sum, queue)) = most else { break };
        let Some(at) = queue.pop_front() else { break };
        *sum -= candidates[at].bytes;
        freed += candidates[at].bytes;
        gone.push(at);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files<'a>(of: &[(&'a str, u64, u64)]) -> Vec<Candidate<'a>> {
        of.iter().map(|&(namespace, age, bytes)| Candidate { namespace, age, bytes }).collect()
    }

    #[test]
    fn the_greediest_namespace_loses_its_oldest() {
        let all = files(&[("quiet", 1, 10), ("loud", 4, 40), ("loud", 2, 40), ("loud", 3, 40)]);
        assert_eq!(victims(&all, 1, 0), [2]);
        assert_eq!(victims(&all, 75, 0), [2, 3]);
        assert_eq!(victims(&all, 130, 0).len(), 4);
        assert_eq!(victims(&all, 0, 2), [2, 3]);
        assert!(victims(&all, 0, 0).is_empty());
    }

    proptest! {
        #[test]
        fn enough_goes_and_nobody_loses_while_another_has_more(
            sizes in prop::collection::vec((0_usize..4, 1_u64..100), 0..40), wanted in 0_u64..3_000,
        ) {
            let names = ["a", "b", "c", "d"];
            let all: Vec<Candidate<'_>> = sizes.iter().enumerate()
                .map(|(age, (of, bytes))| Candidate { namespace: names[*of], age: age as u64, bytes: *bytes })
                .collect();
            let gone = victims(&all, wanted, 0);
            let total: u64 = all.iter().map(|c| c.bytes).sum();
            let freed: u64 = gone.iter().map(|at| all[*at].bytes).sum();
            prop_assert!(freed >= wanted.min(total));
            if let Some((last, before)) = gone.split_last() {
                prop_assert!(before.iter().map(|at| all[*at].bytes).sum::<u64>() < wanted, "no more than needed");
                let left = |name: &str| all.iter().enumerate()
                    .filter(|(at, c)| c.namespace == name && !before.contains(at)).map(|(_, c)| c.bytes).sum::<u64>();
                prop_assert!(names.iter().all(|name| left(name) <= left(all[*last].namespace)));
            }
        }
    }
}
