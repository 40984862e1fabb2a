//! Which endpoint a request goes to.
//!
//! In: what became of the requests before. Out: the index of an endpoint. One that failed is left alone for a back-off
//! period, then tried by a single request; once it answers, its share grows slowly. Never sends anything itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an endpoint that returned has less than its share: its caches are cold, and every agent returns at once.
const SLOW_START: Duration = Duration::from_secs(30);

/// The share that it begins with.
const FIRST_SHARE: f64 = 0.1;

/// The state of all endpoints of an output.
#[derive(Debug)]
pub struct Balance {
    first: Duration,
    most: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoints: Vec<State>,
    random: fastrand::Rng,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Requests that it has not answered yet.
    under_way: u32,
    /// Failures in a row, each in a period of its own.
    failures: u32,
    /// Failed: not to be asked before this.
    until: Option<Instant>,
    /// The one request that may find out whether it is back is under way.
    probing: bool,
    /// When it came back.
    back: Option<Instant>,
}

/// A request on its way. Dropping it, as when the request is abandoned, says nothing of the endpoint.
#[derive(Debug)]
pub struct Lease<'a> {
    balance: &'a Balance,
    /// Which endpoint is to be asked.
    pub endpoint: usize,
    probe: bool,
}

impl Balance {
    /// For so many endpoints, all taken for well. A failed one is left alone for about `first`, then twice that, up to
    /// `most`.
    pub fn new(count: usize, first: Duration, most: Duration) -> Balance {
        let endpoints = vec![State::default(); count];
        Balance { first, most, inner: Mutex::new(Inner { endpoints, random: fastrand::Rng::new() }) }
    }

    /// The endpoint for a request that was tried at the endpoints `tried` before; `None` when there is none left that
    /// is worth trying. For a request not tried yet there is always one.
    pub fn choose(&self, tried: &[usize], now: Instant) -> Option<Lease<'_>> {
        let mut inner = self.lock();
        let Inner { endpoints, random } = &mut *inner;
        let free = |at: &usize| !tried.contains(at);
        let due = |state: &State| !state.probing && state.until.is_some_and(|until| until <= now);
        let probe = (0..endpoints.len()).filter(free).find(|&at| due(&endpoints[at]));
        let well = || (0..endpoints.len()).filter(free).filter(|&at| endpoints[at].until.is_none());
        let endpoint = if probe.is_some() {
            probe
        } else if well().next().is_some() {
            let mut taking: Vec<usize> =
                well().filter(|&at| random.f64() < share(&endpoints[at], now)).collect();
            if taking.is_empty() {
                taking = well().collect();
            }
            random.shuffle(&mut taking);
            taking.into_iter().min_by_key(|&at| endpoints[at].under_way)
        } else if tried.is_empty() {
            // All are bad. The caller has its own back-off: it may ask the one whose time comes first.
            (0..endpoints.len()).min_by_key(|&at| (endpoints[at].probing, endpoints[at].until))
        } else {
            None
        }?;
        endpoints[endpoint].under_way += 1;
        endpoints[endpoint].probing |= probe.is_some();
        Some(Lease { balance: self, endpoint, probe: probe.is_some() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole before anything could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// It answered.
    pub fn succeed(self, now: Instant) {
        let mut inner = self.balance.lock();
        let state = &mut inner.endpoints[self.endpoint];
        if state.until.take().is_some() {
            state.back = Some(now);
        }
        state.failures = 0;
    }

    /// It did not, or cannot for now; `asked` is the time that it named itself (Retry-After).
    pub fn fail(self, now: Instant, asked: Option<Duration>) {
        let mut inner = self.balance.lock();
        let Inner { endpoints, random } = &mut *inner;
        let state = &mut endpoints[self.endpoint];
        // Requests that were under way together fail together: that is one failure.
        if !self.probe && state.until.is_some_and(|until| now < until) {
            return;
        }
        let ceiling = self.balance.first.saturating_mul(1 << state.failures.min(20)).min(self.balance.most);
        // Never nothing, unlike the wait before a retry: the period is what spares the other requests.
        let wait = ceiling.mul_f64(0.5 + random.f64() / 2.0);
        state.failures += 1;
        state.until = Some(now + wait.max(asked.unwrap_or_default().min(self.balance.most)));
        state.back = None;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut inner = self.balance.lock();
        let state = &mut inner.endpoints[self.endpoint];
        state.under_way = state.under_way.saturating_sub(1);
        if self.probe {
            state.probing = false;
        }
    }
}

/// How likely an endpoint takes part in a choice.
fn share(state: &State, now: Instant) -> f64 {
    let Some(back) = state.back else { return 1.0 };
    let grown = now.duration_since(back).as_secs_f64() / SLOW_START.as_secs_f64();
    (FIRST_SHARE + (1.0 - FIRST_SHARE) * grown).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn balance(count: usize) -> Balance {
        let balance = Balance::new(count, SECOND, 8 * SECOND);
        balance.lock().random = fastrand::Rng::with_seed(1);
        balance
    }

    fn endpoint(balance: &Balance, now: Instant) -> usize {
        let lease = balance.choose(&[], now).expect("there is always one");
        let endpoint = lease.endpoint;
        lease.succeed(now);
        endpoint
    }

    fn count(balance: &Balance, at: usize, now: Instant) -> usize {
        (0..1000).filter(|_| endpoint(balance, now) == at).count()
    }

    #[test]
    fn requests_go_where_fewest_are_under_way() {
        let (balance, now) = (balance(3), Instant::now());
        let mut leases: Vec<_> = (0..6).filter_map(|_| balance.choose(&[], now)).collect();
        let mut chosen: Vec<usize> = leases.iter().map(|lease| lease.endpoint).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 0, 1, 1, 2, 2]);
        leases.retain(|lease| lease.endpoint != 1);
        assert_eq!(balance.choose(&[], now).map(|lease| lease.endpoint), Some(1));
    }

    #[test]
    fn a_bad_endpoint_costs_one_request_in_each_period() {
        let (balance, mut now) = (balance(2), Instant::now());
        let lease = loop {
            let lease = balance.choose(&[], now).expect("one");
            if lease.endpoint == 1 {
                break lease;
            }
        };
        lease.fail(now, None);
        for period in [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 8 * SECOND] {
            // At least half of the period passes without a request to it.
            assert_eq!(count(&balance, 1, now + period / 2 - Duration::from_millis(1)), 0, "{period:?}");
            now += period;
            let probe = balance.choose(&[], now).expect("one");
            assert_eq!(probe.endpoint, 1, "after {period:?}");
            // While it is found out, nobody else is sent there.
            assert_eq!(count(&balance, 1, now), 0);
            probe.fail(now, None);
        }
    }

    #[test]
    fn failures_of_requests_under_way_together_are_one() {
        let (balance, now) = (balance(1), Instant::now());
        let leases: Vec<_> = (0..4).filter_map(|_| balance.choose(&[], now)).collect();
        for lease in leases {
            lease.fail(now, None);
        }
        let inner = balance.lock();
        assert_eq!(inner.endpoints[0].failures, 1);
        assert_eq!(inner.endpoints[0].under_way, 0);
    }

    #[test]
    fn a_returned_endpoint_gets_its_share_slowly() {
        let (balance, now) = (balance(2), Instant::now());
        balance.lock().endpoints[1].until = Some(now);
        assert_eq!(endpoint(&balance, now), 1, "the probe");
        // Half of what it takes part in goes to it.
        assert!((20..90).contains(&count(&balance, 1, now)));
        assert!((200..350).contains(&count(&balance, 1, now + SLOW_START / 2)));
        assert!((430..570).contains(&count(&balance, 1, now + SLOW_START)));
    }

    #[test]
    fn when_all_are_bad_the_first_to_be_due_is_asked_and_no_request_goes_round() {
        let (balance, now) = (balance(2), Instant::now());
        for at in [0, 1] {
            balance.lock().endpoints[at].until = Some(now + (2 - at as u32) * SECOND);
        }
        let lease = balance.choose(&[], now).expect("always one");
        assert_eq!(lease.endpoint, 1);
        lease.fail(now, None);
        assert!(balance.choose(&[1], now).is_none());
    }

    #[test]
    fn a_server_that_names_a_time_is_left_alone_until_then_and_an_abandoned_probe_is_no_answer() {
        let (balance, now) = (balance(1), Instant::now());
        balance.choose(&[], now).expect("one").fail(now, Some(5 * SECOND));
        assert_eq!(balance.lock().endpoints[0].until, Some(now + 5 * SECOND));
        drop(balance.choose(&[], now + 6 * SECOND).expect("a probe"));
        let inner = balance.lock();
        assert!(!inner.endpoints[0].probing && inner.endpoints[0].until.is_some());
    }
}
