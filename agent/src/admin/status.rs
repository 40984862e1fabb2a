//! The status: all there is to say of the agent, its outputs and its containers, as JSON.
//!
//! In: the counters, and what they were at an earlier look. Out: `/api/v1/status`, from which the page and `taffrail top`
//! are made. Rates are since the last look of anybody, if that is not long ago. Holds no secret: a configuration has none.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Shared;
use super::health;
use super::process::Process;
use super::told::Saying;
use crate::catalog::origin::Origin;
use crate::clock::unix_millis;
use crate::stats::{CatchingUp, LossReason, OutputStats};

/// Rates are of no less time than this,
const LEAST_WINDOW: Duration = Duration::from_millis(900);

/// and of no more.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);

/// Everything.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Of the agent itself.
    pub agent: AgentStatus,
    /// Of its outputs, by name.
    pub outputs: Vec<OutputStatus>,
    /// Of the containers of each.
    pub containers: Vec<ContainerStatus>,
    /// Warnings and errors, the latest first.
    pub told: Vec<Saying>,
}

/// The agent itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Seconds since it was started.
    pub uptime_seconds: f64,
    /// Bytes of memory that are resident.
    pub resident_bytes: u64,
    /// Path of the configuration; none for the defaults.
    pub config: Option<String>,
    /// `ok`, or what is stuck.
    pub health: String,
    /// `ok`, or why it does not work yet.
    pub ready: String,
    /// Bytes of deleted logs that are kept, being unread.
    pub retained_bytes: u64,
}

/// An output.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OutputStatus {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Where it sends to.
    pub destination: String,
    /// Records delivered a second; none where nobody has looked lately.
    pub records_per_second: Option<f64>,
    /// Bytes sent a second.
    pub bytes_per_second: Option<f64>,
    /// Records delivered since the start.
    pub delivered: u64,
    /// Bytes not acknowledged.
    pub lag_bytes: u64,
    /// Age of the oldest of these.
    pub lag_seconds: f64,
    /// How far it has come with what was behind at the agent's start; none once it has caught up.
    pub catching_up: Option<CatchingUp>,
    /// Batches under way.
    pub in_flight: u64,
    /// Requests or items sent again.
    pub retries: u64,
    /// Records refused for good.
    pub refused: u64,
    /// Bytes lost, by reason.
    pub lost_bytes: BTreeMap<String, u64>,
    /// Containers set aside, their records not being taken.
    pub parked: u64,
    /// Containers that wait for what is not known of their pods.
    pub waiting_metadata: u64,
    /// Containers that no route matches.
    pub nowhere: u64,
    /// The last thing that went wrong; none once that has been over for a minute.
    pub last_error: Option<String>,
    /// When that was: milliseconds since the epoch.
    #[serde(default)]
    pub last_error_at: Option<u64>,
}

/// A container at an output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The output's name.
    pub output: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// Where its records go, in words.
    pub plan: String,
    /// Records read a second.
    pub records_per_second: Option<f64>,
    /// Bytes read a second.
    pub bytes_per_second: Option<f64>,
    /// Records delivered since the start.
    pub delivered: u64,
    /// Bytes not acknowledged.
    pub lag_bytes: u64,
    /// Age of the oldest of these.
    pub lag_seconds: f64,
    /// Bytes of its deleted logs that are kept.
    pub retained_bytes: u64,
    /// `reading`, `waiting` for what is not known of its pod, or `parked`.
    pub state: String,
}

/// The counters at earlier looks.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Looks>);

/// Records and bytes, of an output or of a container of one.
type Counts = HashMap<(String, Option<Arc<Origin>>), (u64, u64)>;

#[derive(Debug, Default)]
struct Looks {
    before: Option<(Instant, Counts)>,
    last: Option<(Instant, Counts)>,
}

impl Looks {
    /// Enters a look at `now`, unless the last was a moment ago.
    fn enter(&mut self, now: Instant, counts: Counts) {
        let since = self.last.as_ref().map(|(last, _)| now.duration_since(*last));
        if since.is_none_or(|since| since >= LEAST_WINDOW) {
            self.before = self.last.replace((now, counts));
        }
    }

    fn rate(&self, key: &(String, Option<Arc<Origin>>)) -> Option<(f64, f64)> {
        let ((before, old), (last, new)) = (self.before.as_ref()?, self.last.as_ref()?);
        let window = last.duration_since(*before);
        if window > LONGEST_WINDOW {
            return None;
        }
        let (new, old) = (new.get(key)?, old.get(key).copied().unwrap_or_default());
        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / window.as_secs_f64();
        Some((rate(new.0, old.0), rate(new.1, old.1)))
    }
}

/// The status now.
pub fn status(shared: &Shared) -> Status {
    let (life, process) = (shared.life(), Process::now());
    let word = |health: Result<(), String>| health.err().unwrap_or_else(|| "ok".to_owned());
    let mut status = Status {
        agent: AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: String::new(),
            node: String::new(),
            uptime_seconds: shared.started.0.elapsed().as_secs_f64(),
            resident_bytes: process.resident_bytes.unwrap_or_default(),
            config: shared.config.as_ref().map(|path| path.display().to_string()),
            health: word(health::live(&life)),
            ready: word(health::ready(&life)),
            retained_bytes: 0,
        },
        outputs: Vec::new(),
        containers: Vec::new(),
        told: shared.told.all(),
    };
    let Some(shown) = shared.shown() else { return status };
    status.agent.cluster.clone_from(&shown.cluster);
    status.agent.node.clone_from(&shown.node);
    let retained = shown.view.retained.as_ref();
    status.agent.retained_bytes = retained.map_or(0, |retained| retained.bytes.get());
    let of_containers = retained.map(|retained| retained.by_container()).unwrap_or_default();
    let mut looks = shared.rates.0.lock().unwrap_or_else(PoisonError::into_inner);
    looks.enter(Instant::now(), counts(&shown.view.outputs));
    for (name, stats) in &shown.view.outputs {
        let containers =
            containers(name, stats, &looks, |origin| of_containers.get(origin).copied().unwrap_or(0));
        let (kind, destination) = shown.outputs.get(name).cloned().unwrap_or_default();
        let rates = looks.rate(&(name.clone(), None));
        let (last_error, last_error_at) = stats.error_now(unix_millis()).unzip();
        let lost = LossReason::ALL
            .into_iter()
            .map(|reason| (reason.as_str().to_owned(), stats.losses.of(reason).bytes));
        let count =
            |state: &str| containers.iter().filter(|container| container.state == state).count() as u64;
        status.outputs.push(OutputStatus {
            name: name.clone(),
            kind: kind.to_owned(),
            destination,
            records_per_second: rates.map(|rates| rates.0),
            bytes_per_second: rates.map(|rates| rates.1),
            delivered: stats.records_delivered.get(),
            lag_bytes: containers.iter().map(|container| container.lag_bytes).sum(),
            lag_seconds: containers.iter().map(|container| container.lag_seconds).fold(0.0, f64::max),
            catching_up: stats.catching_up(),
            in_flight: stats.in_flight.get(),
            retries: stats.retries.get(),
            refused: stats.refused.get(),
            lost_bytes: lost.filter(|(_, bytes)| *bytes > 0).collect(),
            parked: count("parked"),
            waiting_metadata: count("waiting"),
            nowhere: stats.nowhere(),
            last_error,
            last_error_at,
        });
        status.containers.extend(containers);
    }
    status
}

fn counts(outputs: &[(String, Arc<OutputStats>)]) -> Counts {
    let mut counts = Counts::new();
    for (name, stats) in outputs {
        counts.insert((name.clone(), None), (stats.records_delivered.get(), stats.sent_bytes.get()));
        for container in stats.containers() {
            let key = (name.clone(), Some(container.origin.clone()));
            counts.insert(key, (container.records_read.get(), container.read_bytes.get()));
        }
    }
    counts
}

fn containers(
    output: &str,
    stats: &OutputStats,
    looks: &Looks,
    retained: impl Fn(&Arc<Origin>) -> u64,
) -> Vec<ContainerStatus> {
    let now = unix_millis();
    let all = stats.containers().into_iter().map(|container| {
        let (namespace, pod, name) = container.origin.place();
        let rates = looks.rate(&(output.to_owned(), Some(container.origin.clone())));
        let state = match (container.waits_metadata.get(), container.parked.get()) {
            (0, 0) => "reading",
            (0, _) => "parked",
            _ => "waiting",
        };
        ContainerStatus {
            output: output.to_owned(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: name,
            plan: container.plan(),
            records_per_second: rates.map(|rates| rates.0),
            bytes_per_second: rates.map(|rates| rates.1),
            delivered: container.records_delivered.get(),
            lag_bytes: container.lag_bytes.get(),
            lag_seconds: container.lag_millis(now) as f64 / 1e3,
            retained_bytes: retained(&container.origin),
            state: state.to_owned(),
        }
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_since_the_look_before_if_that_is_not_long_ago() {
        let (mut looks, begin, key) = (Looks::default(), Instant::now(), ("search".to_owned(), None));
        let counts = |records| Counts::from([(key.clone(), (records, 10 * records))]);
        looks.enter(begin, counts(5));
        assert_eq!(looks.rate(&key), None);
        looks.enter(begin + Duration::from_secs(2), counts(25));
        assert_eq!(looks.rate(&key), Some((10.0, 100.0)));
        // A moment later somebody else looks, and sees the same.
        looks.enter(begin + Duration::from_millis(2001), counts(26));
        assert_eq!(looks.rate(&key), Some((10.0, 100.0)));
        looks.enter(begin + Duration::from_secs(100), counts(26));
        assert_eq!(looks.rate(&key), None);
    }
}
