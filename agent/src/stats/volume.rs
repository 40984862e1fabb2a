//! Volume: what containers have delivered, told by namespace and by the labels that documents bear as fields.
//!
//! In: counters of containers, and of those that go what is left to tell. Out: each of it once, to the one who asks. Holds so
//! many places at most: behind them, first labels and then namespaces are told no more. Some places are for namespaces alone: one
//! whose pods change their labels again and again takes none of another's.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};
use std::sync::{Arc, Mutex, PoisonError};

/// Labels by the names of their fields.
pub type Labels = BTreeMap<String, String>;

/// Whose records they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The namespace, or what stands for it.
    pub namespace: String,
    /// The chosen labels of the pod.
    pub labels: Arc<Labels>,
}

/// How much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// Records acknowledged.
    pub records: u64,
    /// Bytes of the log lines that were delivered.
    pub bytes: u64,
}

impl AddAssign for Volume {
    fn add_assign(&mut self, more: Volume) {
        self.records += more.records;
        self.bytes += more.bytes;
    }
}

impl Sub for Volume {
    type Output = Volume;
    fn sub(self, less: Volume) -> Volume {
        Volume {
            records: self.records.saturating_sub(less.records),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }
}

/// Volumes by their owners.
#[derive(Debug, Clone, Default)]
pub struct Volumes(BTreeMap<Owner, Volume>);

impl Volumes {
    /// How many owners are told apart.
    pub const MOST: usize = 1000;

    /// How many of them bear labels, at most.
    const MOST_LABELLED: usize = 750;

    /// What the others are called.
    pub const OTHER: &str = "_other";

    /// Adds what there is of an owner.
    pub fn add(&mut self, owner: Owner, volume: Volume) {
        if volume == Volume::default() {
            return;
        }
        let mut owner = owner;
        if !owner.labels.is_empty() && self.0.len() >= Self::MOST_LABELLED && !self.0.contains_key(&owner) {
            owner.labels = Arc::default();
        }
        if self.0.len() >= Self::MOST && !self.0.contains_key(&owner) {
            owner = Owner { namespace: Self::OTHER.to_owned(), ..Owner::default() };
        }
        *self.0.entry(owner).or_default() += volume;
    }

    /// Each owner with its volume.
    pub fn iter(&self) -> impl Iterator<Item = (&Owner, &Volume)> {
        self.0.iter()
    }
}

/// Volumes of containers that are gone, until somebody asks.
#[derive(Debug, Default)]
pub struct Gone(Mutex<Volumes>);

impl Gone {
    /// A container goes.
    pub fn add(&self, owner: Owner, volume: Volume) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(owner, volume);
    }

    /// All since the last time.
    pub fn take(&self) -> Volumes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_labels_and_then_namespaces_are_told_no_more_and_nothing_is_left_out() {
        let mut volumes = Volumes::default();
        let owner = |namespace: &str, pod: usize| Owner {
            namespace: namespace.to_owned(),
            labels: Arc::new(Labels::from([("team".to_owned(), pod.to_string())])),
        };
        let one = Volume { records: 1, bytes: 10 };
        (0..2 * Volumes::MOST).for_each(|pod| volumes.add(owner("shop", pod), one));
        (0..3).for_each(|pod| volumes.add(owner("late", pod), one));
        let sum = |volumes: &Volumes, namespace: &str| {
            volumes.iter().filter(|(o, _)| o.namespace == namespace).map(|(_, v)| v.records).sum::<u64>()
        };
        // However many labels there are of one namespace, another is told of.
        assert_eq!((sum(&volumes, "shop"), sum(&volumes, "late")), (2 * Volumes::MOST as u64, 3));
        assert_eq!(sum(&volumes, Volumes::OTHER), 0);
        (0..Volumes::MOST).for_each(|number| volumes.add(owner(&format!("ns-{number}"), 0), one));
        assert!(volumes.iter().count() <= Volumes::MOST + 1);
        assert!((1..Volumes::MOST as u64).contains(&sum(&volumes, Volumes::OTHER)));
        let all: u64 = volumes.iter().map(|(_, volume)| volume.records).sum();
        assert_eq!(all, 3 * Volumes::MOST as u64 + 3);
    }
}
