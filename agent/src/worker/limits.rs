//! Rate limits: what a container and a namespace may send in a second.
//!
//! In: the limits of an output, and each record that is read. Out: whether it is kept, and when there is something to be
//! read again. A limit is a bucket of tokens that fills at its rate; who finds a token in it may take as many as a record
//! needs, so that one that is larger than the bucket passes too. Containers of one namespace share its buckets, in
//! whichever worker they are read. The clock is the monotonic one: setting the time fills no bucket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::catalog::origin::Origin;
use crate::config::{LimitAction, Rate, RateLimitConfig};
use crate::read::Record;
use crate::stats::{Loss, LossReason};

/// Who has used up what it may send is left alone until there are tokens for this long: else it would be read record by
/// record.
const PAUSE: Duration = Duration::from_millis(250);

/// The limits of one output, shared by its workers.
#[derive(Debug)]
pub struct RateLimits {
    config: RateLimitConfig,
    namespaces: Mutex<HashMap<String, Weak<Mutex<Buckets>>>>,
}

/// The limits of one container.
#[derive(Debug)]
pub(super) struct Limit {
    container: Option<Buckets>,
    namespace: Option<Arc<Mutex<Buckets>>>,
    drops: bool,
}

/// What a turn's records are judged by.
pub(super) struct Gate<'a> {
    container: Option<&'a mut Buckets>,
    namespace: Option<MutexGuard<'a, Buckets>>,
    drops: bool,
    /// What it has turned away.
    pub dropped: Dropped,
}

/// What was dropped, by whose limit it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    container: Loss,
    namespace: Loss,
}

#[derive(Debug)]
struct Buckets {
    bytes: Option<Bucket>,
    lines: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Tokens a second.
    rate: f64,
    most: f64,
    /// Below 0 where a record needed more than there was.
    tokens: f64,
    filled: Instant,
}

impl RateLimits {
    /// Limits as configured.
    pub fn new(config: RateLimitConfig) -> RateLimits {
        RateLimits { config, namespaces: Mutex::default() }
    }

    /// Those of a container. A host file counts as a container, and all files of a `[files.NAME]` as a namespace.
    pub(super) fn of(&self, origin: &Origin, now: Instant) -> Limit {
        let buckets = |rate: &Rate| Buckets::new(rate, self.config.burst, now);
        let namespace = self.config.namespace.as_ref().map(|rate| {
            let (namespace, pod, _) = origin.place();
            let name = match origin {
                Origin::Container(_) => namespace.to_owned(),
                Origin::Host(_) => format!("{namespace}/{pod}"),
            };
            let mut all = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
                all.retain(|_, known| known.strong_count() > 0);
                let fresh = Arc::new(Mutex::new(buckets(rate)));
                all.insert(name, Arc::downgrade(&fresh));
                fresh
            })
        });
        let drops = self.config.action == LimitAction::Drop;
        Limit { container: self.config.container.as_ref().map(buckets), namespace, drops }
    }
}

impl Limit {
    /// Fills the buckets up to now.
    pub fn open(&mut self, now: Instant) -> Gate<'_> {
        let mut container = self.container.as_mut();
        let shared = self.namespace.as_ref();
        let mut namespace = shared.map(|shared| shared.lock().unwrap_or_else(PoisonError::into_inner));
        for buckets in container.as_deref_mut().into_iter().chain(namespace.as_deref_mut()) {
            buckets.all().for_each(|bucket| bucket.fill(now));
        }
        Gate { container, namespace, drops: self.drops, dropped: Dropped::default() }
    }

    /// As if that much time had passed.
    #[cfg(test)]
    pub fn age(&mut self, by: Duration) {
        let mut shared = self.namespace.as_ref().map(|shared| shared.lock().unwrap());
        for buckets in self.container.as_mut().into_iter().chain(shared.as_deref_mut()) {
            buckets.all().for_each(|bucket| bucket.filled -= by);
        }
    }
}

impl Gate<'_> {
    /// Whether a record is kept; its tokens are then taken.
    pub fn admits(&mut self, record: &Record<'_>) -> bool {
        // What the program wrote: its line, and the newline.
        let bytes = record.content.len() as u64 + 1;
        let full = |buckets: Option<&Buckets>| buckets.is_some_and(Buckets::is_used_up);
        let over = if !self.drops {
            None
        } else if full(self.container.as_deref()) {
            Some(&mut self.dropped.container)
        } else if full(self.namespace.as_deref()) {
            Some(&mut self.dropped.namespace)
        } else {
            None
        };
        if let Some(dropped) = over {
            dropped.add(Loss { records: 1, bytes });
            return false;
        }
        for buckets in self.buckets() {
            for (bucket, tokens) in [(&mut buckets.bytes, bytes), (&mut buckets.lines, 1)] {
                bucket.iter_mut().for_each(|bucket| bucket.tokens -= tokens as f64);
            }
        }
        true
    }

    /// Whether the container is to wait.
    pub fn is_shut(&self) -> bool {
        let all = [self.container.as_deref(), self.namespace.as_deref()];
        !self.drops && all.into_iter().flatten().any(Buckets::is_used_up)
    }

    /// Until when it is to wait, if it is.
    pub fn shut_until(&mut self) -> Option<Instant> {
        if !self.is_shut() {
            return None;
        }
        self.buckets().flat_map(Buckets::all).map(|bucket| bucket.fit_at()).max()
    }

    fn buckets(&mut self) -> impl Iterator<Item = &mut Buckets> {
        self.container.as_deref_mut().into_iter().chain(self.namespace.as_deref_mut())
    }
}

impl Dropped {
    /// What was dropped, for each reason that there was.
    pub fn by_reason(&self) -> impl Iterator<Item = (LossReason, Loss)> {
        let all = [(LossReason::ContainerRate, self.container), (LossReason::NamespaceRate, self.namespace)];
        all.into_iter().filter(|(_, loss)| *loss != Loss::default())
    }

    /// With what was dropped besides.
    pub fn add(&mut self, more: Dropped) {
        self.container.add(more.container);
        self.namespace.add(more.namespace);
    }
}

impl Buckets {
    fn new(rate: &Rate, burst: Duration, now: Instant) -> Buckets {
        let bucket = |rate: u64| {
            let rate = rate as f64;
            let most = (rate * burst.as_secs_f64()).max(1.0);
            Bucket { rate, most, tokens: most, filled: now }
        };
        Buckets { bytes: rate.bytes.map(|size| bucket(size.bytes())), lines: rate.lines.map(bucket) }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.bytes.iter_mut().chain(self.lines.iter_mut())
    }

    fn is_used_up(&self) -> bool {
        self.bytes.iter().chain(&self.lines).any(|bucket| bucket.tokens <= 0.0)
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + self.rate * seconds).min(self.most);
        self.filled = now;
    }

    /// When it will hold what is worth a turn.
    fn fit_at(&self) -> Instant {
        let wanted = (self.rate * PAUSE.as_secs_f64()).clamp(1.0, self.most);
        self.filled + Duration::from_secs_f64(((wanted - self.tokens) / self.rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::origin::Container;
    use crate::config::ByteSize;
    use crate::read::{Marks, Time};

    fn origin(namespace: &str, name: &str) -> Origin {
        let (namespace, name) = (namespace.into(), name.into());
        Origin::Container(Container { namespace, pod: "web".into(), uid: "u".into(), name })
    }

    fn lines(lines: u64) -> Option<Rate> {
        Some(Rate { bytes: None, lines: Some(lines) })
    }

    fn bytes(bytes: u64) -> Option<Rate> {
        Some(Rate { bytes: Some(ByteSize::new(bytes)), lines: None })
    }

    fn limits(container: Option<Rate>, namespace: Option<Rate>, action: LimitAction) -> RateLimits {
        RateLimits::new(RateLimitConfig { container, namespace, action, burst: Duration::from_secs(2) })
    }

    fn record(content: &[u8]) -> Record<'_> {
        let (time, marks) = (Time::Nanos(0), Marks::default());
        Record { time, stream: None, content, first: 0, last: 1, marks }
    }

    /// How many of `count` records with `content` are kept now; reading ends where it is to wait.
    fn kept(limit: &mut Limit, now: Instant, count: usize, content: &[u8]) -> usize {
        let mut gate = limit.open(now);
        let mut kept = 0;
        for _ in 0..count {
            if gate.is_shut() {
                break;
            }
            kept += usize::from(gate.admits(&record(content)));
        }
        kept
    }

    #[test]
    fn so_many_at_once_and_then_so_many_a_second() {
        let begun = Instant::now();
        for action in [LimitAction::Wait, LimitAction::Drop] {
            let limits = limits(lines(100), None, action);
            let mut limit = limits.of(&origin("shop", "app"), begun);
            let at = |millis| begun + Duration::from_millis(millis);
            assert_eq!(kept(&mut limit, begun, 1000, b"x"), 200);
            assert_eq!(kept(&mut limit, begun, 1000, b"x"), 0);
            assert_eq!(kept(&mut limit, at(500), 1000, b"x"), 50);
            assert_eq!(kept(&mut limit, at(3_600_000), 1000, b"x"), 200);
        }
    }

    #[test]
    fn a_record_larger_than_the_bucket_passes_and_is_waited_for_afterwards() {
        let begun = Instant::now();
        let limits = limits(bytes(10), None, LimitAction::Wait);
        let mut limit = limits.of(&origin("shop", "app"), begun);
        assert_eq!(kept(&mut limit, begun, 5, &[b'x'; 99]), 1);
        let until = limit.open(begun).shut_until().unwrap();
        // 80 too many, and 2.5 for the next turn.
        assert_eq!(until - begun, Duration::from_millis(8250));
        assert_eq!(kept(&mut limit, until, 5, b"x"), 2);
    }

    #[test]
    fn containers_share_what_their_namespace_has_and_no_other_and_who_dropped_is_told() {
        let begun = Instant::now();
        let limits = limits(lines(100), lines(150), LimitAction::Drop);
        let mut all = [("shop", "a"), ("shop", "b"), ("bank", "a")]
            .map(|(namespace, name)| limits.of(&origin(namespace, name), begun));
        assert_eq!(all.each_mut().map(|limit| kept(limit, begun, 1000, b"x")), [200, 100, 200]);
        let mut gate = all[1].open(begun);
        assert!(!gate.admits(&record(b"xy")));
        let told: Vec<(LossReason, Loss)> = gate.dropped.by_reason().collect();
        assert_eq!(told, [(LossReason::NamespaceRate, Loss { records: 1, bytes: 3 })]);
        drop(gate);
        // What is gone leaves nothing behind, and comes back with a full bucket.
        drop(all);
        limits.of(&origin("other", "a"), begun);
        assert_eq!(limits.namespaces.lock().unwrap().len(), 1);
        assert_eq!(kept(&mut limits.of(&origin("shop", "b"), begun), begun, 1000, b"x"), 200);
    }

    #[test]
    fn who_waits_is_read_in_turns_worth_reading() {
        let begun = Instant::now();
        let limits = limits(lines(1000), bytes(1 << 20), LimitAction::Wait);
        let mut limit = limits.of(&origin("shop", "app"), begun);
        assert_eq!(limit.open(begun).shut_until(), None);
        assert_eq!(kept(&mut limit, begun, 9000, b"x"), 2000);
        let until = limit.open(begun).shut_until().unwrap();
        assert_eq!(until - begun, PAUSE);
        assert_eq!(kept(&mut limit, until, 9000, b"x"), 250);
    }
}
