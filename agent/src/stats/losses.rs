//! Losses: what was not delivered and never will be, by container and reason.
//!
//! In: each loss, as it is found. Out: sums for each reason, and for as many containers as there is room.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::origin::Origin;

/// Why something was not delivered and never will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossReason {
    /// A compressed file could be inflated only as far as it is whole.
    Damaged,
    /// A file was deleted, and nobody could hold it.
    Deleted,
    /// A file was cut shorter while something of it was unread.
    Cut,
    /// The output lagged by more than its `max_lag`, and was to drop the oldest.
    Lag,
    /// What is retained had outgrown its budget.
    Budget,
    /// The disk had less room than is to be left free.
    DiskFloor,
    /// The container wrote more than its rate limit, and the rest was to be dropped.
    ContainerRate,
    /// The same of its namespace.
    NamespaceRate,
    /// CloudWatch takes nothing older than 14 days.
    TooOld,
    /// It was older than its log group keeps events.
    Expired,
    /// Its time was more than two hours ahead, which CloudWatch does not take.
    TooNew,
}

impl LossReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in the order of the enum.
    pub const ALL: [LossReason; 11] = [
        LossReason::Damaged,
        LossReason::Deleted,
        LossReason::Cut,
        LossReason::Lag,
        LossReason::Budget,
        LossReason::DiskFloor,
        LossReason::ContainerRate,
        LossReason::NamespaceRate,
        LossReason::TooOld,
        LossReason::Expired,
        LossReason::TooNew,
    ];

    /// Its name in messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::Damaged => "damaged",
            LossReason::Deleted => "deleted",
            LossReason::Cut => "cut",
            LossReason::Lag => "lag",
            LossReason::Budget => "budget",
            LossReason::DiskFloor => "disk_floor",
            LossReason::ContainerRate => "container_rate",
            LossReason::NamespaceRate => "namespace_rate",
            LossReason::TooOld => "too_old",
            LossReason::Expired => "expired",
            LossReason::TooNew => "too_new",
        }
    }

    /// Whether a rate limit was to drop it: told apart from what was lost.
    pub fn is_drop(self) -> bool {
        matches!(self, LossReason::ContainerRate | LossReason::NamespaceRate)
    }
}

/// How much was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Records, where they were seen: what goes away unread is known by its bytes alone.
    pub records: u64,
    /// Bytes of the log.
    pub bytes: u64,
}

impl Loss {
    /// Bytes that nobody has read.
    pub fn unread(bytes: u64) -> Loss {
        Loss { records: 0, bytes }
    }

    /// With what was lost besides.
    pub fn add(&mut self, more: Loss) {
        self.records += more.records;
        self.bytes += more.bytes;
    }
}

/// By the number of their reason.
pub type ByReason = [Loss; LossReason::COUNT];

/// What a container has lost for a reason.
pub type OfContainer = (Arc<Origin>, LossReason, Loss);

/// What one output has lost, by container and reason. The containers that lost something last are told one by one, also
/// when they are gone; the others are summed up.
#[derive(Debug, Default)]
pub struct Losses(Mutex<LossTable>);

#[derive(Debug, Default)]
struct LossTable {
    total: ByReason,
    /// With the number of each one's last loss.
    containers: HashMap<Arc<Origin>, (u64, ByReason)>,
    count: u64,
}

impl Losses {
    /// How many containers are told one by one.
    pub const MOST_CONTAINERS: usize = 1000;

    /// Enters a loss. True if it is the container's first for that reason, which is to be told.
    pub fn add(&self, origin: &Arc<Origin>, reason: LossReason, loss: Loss) -> bool {
        let mut table = self.lock();
        let table = &mut *table;
        table.total[reason as usize].add(loss);
        table.count += 1;
        if !table.containers.contains_key(origin) && table.containers.len() >= Self::MOST_CONTAINERS {
            let oldest = table.containers.iter().min_by_key(|(_, (last, _))| *last);
            if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
                table.containers.remove(&oldest);
            }
        }
        let (last, by_reason) = table.containers.entry(origin.clone()).or_default();
        *last = table.count;
        let sum = &mut by_reason[reason as usize];
        let first = *sum == Loss::default();
        sum.add(loss);
        first
    }

    /// The sum for one reason.
    pub fn of(&self, reason: LossReason) -> Loss {
        self.lock().total[reason as usize]
    }

    /// All that was lost, without what rate limits dropped.
    pub fn lost(&self) -> Loss {
        self.sum(|reason| !reason.is_drop())
    }

    /// All that rate limits dropped.
    pub fn dropped(&self) -> Loss {
        self.sum(LossReason::is_drop)
    }

    /// What each container has lost, for each reason that there was.
    pub fn containers(&self) -> Vec<OfContainer> {
        self.all().1
    }

    /// The sums, and what each container has lost, of one moment.
    pub fn all(&self) -> (ByReason, Vec<OfContainer>) {
        let table = self.lock();
        let all = table.containers.iter().flat_map(|(origin, (_, by_reason))| {
            LossReason::ALL.iter().map(move |&reason| (origin.clone(), reason, by_reason[reason as usize]))
        });
        (table.total, all.filter(|(_, _, loss)| *loss != Loss::default()).collect())
    }

    fn sum(&self, of: impl Fn(LossReason) -> bool) -> Loss {
        let table = self.lock();
        let mut sum = Loss::default();
        LossReason::ALL.iter().filter(|r| of(**r)).for_each(|r| sum.add(table.total[*r as usize]));
        sum
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LossTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Losses {
    /// Bytes by reason, such as `deleted 1234, lag 99`; `nothing` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for reason in LossReason::ALL {
            let loss = self.of(reason);
            if loss != Loss::default() {
                write!(f, "{before}{} {}", reason.as_str(), loss.bytes)?;
                before = ", ";
            }
        }
        if before.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::origin::Container;

    fn origin(pod: usize) -> Arc<Origin> {
        let (namespace, name) = ("shop".into(), "app".into());
        Arc::new(Origin::Container(Container { namespace, pod: format!("web-{pod}"), uid: "u".into(), name }))
    }

    #[test]
    fn losses_are_told_by_container_and_reason_and_the_first_of_each_is_known() {
        let losses = Losses::default();
        assert_eq!((losses.to_string(), losses.containers()), ("nothing".into(), Vec::new()));
        let (one, two) = (origin(1), origin(2));
        assert!(losses.add(&one, LossReason::Deleted, Loss::unread(100)));
        assert!(!losses.add(&one, LossReason::Deleted, Loss::unread(20)));
        assert!(losses.add(&one, LossReason::Cut, Loss::unread(3)));
        assert!(losses.add(&two, LossReason::ContainerRate, Loss { records: 2, bytes: 50 }));
        assert_eq!(losses.lost(), Loss::unread(123));
        assert_eq!(losses.dropped(), Loss { records: 2, bytes: 50 });
        assert_eq!(losses.to_string(), "deleted 120, cut 3, container_rate 50");
        let mut told = losses.containers();
        told.sort_by_key(|(origin, reason, _)| (origin.to_string(), *reason as usize));
        let expected = [
            (one.clone(), LossReason::Deleted, Loss::unread(120)),
            (one, LossReason::Cut, Loss::unread(3)),
            (two, LossReason::ContainerRate, Loss { records: 2, bytes: 50 }),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn however_many_containers_lose_something_memory_is_bounded_and_the_sum_is_right() {
        let losses = Losses::default();
        for pod in 0..Losses::MOST_CONTAINERS + 5 {
            losses.add(&origin(pod), LossReason::Lag, Loss::unread(1));
            losses.add(&origin(0), LossReason::Lag, Loss::unread(1));
        }
        let told = losses.containers();
        assert_eq!(told.len(), Losses::MOST_CONTAINERS);
        assert_eq!(losses.lost().bytes, 2 * (Losses::MOST_CONTAINERS as u64 + 5));
        let of = |pod| told.iter().find(|(who, ..)| *who == origin(pod)).map(|(_, _, loss)| loss.bytes);
        assert_eq!((of(0), of(1)), (Some(Losses::MOST_CONTAINERS as u64 + 6), None));
        assert_eq!(of(Losses::MOST_CONTAINERS + 4), Some(1));
    }

    #[test]
    fn reasons_are_numbered_as_they_are_listed() {
        assert!(LossReason::ALL.iter().enumerate().all(|(number, reason)| *reason as usize == number));
    }
}
