//! The last hour: a sample a minute of what each output does, for plots.
//!
//! In: counters. Out: differences between one minute and the next, for an hour. It is the only thing here that wakes up by
//! itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::process::Process;
use super::{Shared, Shown};
use crate::clock::unix_millis;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(60);

/// So many are kept.
const MOST: usize = 60;

/// What happened in a minute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Its end, in milliseconds since the epoch.
    pub at: u64,
    /// Resident memory then.
    pub resident_bytes: u64,
    /// Share of a core.
    pub cpu: f64,
    /// Each output's part.
    pub outputs: BTreeMap<String, OutputSample>,
}

/// What one output did in a minute.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OutputSample {
    /// Records a second.
    pub records_per_second: f64,
    /// Bytes a second, as sent.
    pub bytes_per_second: f64,
    /// Bytes not acknowledged at the end.
    pub lag_bytes: u64,
    /// The age of the oldest of these, in seconds.
    pub lag_seconds: f64,
}

/// The samples.
#[derive(Debug, Default)]
pub struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    samples: VecDeque<Sample>,
    /// The counters at the last one: records and bytes of each output.
    last: BTreeMap<String, (u64, u64)>,
    cpu_seconds: f64,
}

impl History {
    /// All there are, the oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.lock().samples.iter().cloned().collect()
    }

    fn take(&self, shown: &Shown) {
        let (process, seconds, now) = (Process::now(), EVERY.as_secs_f64(), unix_millis());
        let mut kept = self.lock();
        let mut outputs = BTreeMap::new();
        for (name, stats) in &shown.view.outputs {
            let counted = (stats.records_delivered.get(), stats.sent_bytes.get());
            let before = kept.last.insert(name.clone(), counted).unwrap_or_default();
            let containers = stats.containers();
            let sample = OutputSample {
                records_per_second: counted.0.saturating_sub(before.0) as f64 / seconds,
                bytes_per_second: counted.1.saturating_sub(before.1) as f64 / seconds,
                lag_bytes: containers.iter().map(|container| container.lag_bytes.get()).sum(),
                lag_seconds: containers.iter().map(|c| c.lag_millis(now)).max().unwrap_or_default() as f64
                    / 1e3,
            };
            outputs.insert(name.clone(), sample);
        }
        let cpu = (process.cpu_seconds - kept.cpu_seconds) / seconds;
        kept.cpu_seconds = process.cpu_seconds;
        if kept.samples.len() >= MOST {
            kept.samples.pop_front();
        }
        let resident_bytes = process.resident_bytes.unwrap_or_default();
        kept.samples.push_back(Sample { at: now, resident_bytes, cpu, outputs });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes samples until it is dropped.
pub async fn keep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Some(shown) = shared.shown() {
            shared.history.take(&shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::health::tests::shown;

    #[test]
    fn a_sample_is_what_came_since_the_last_and_an_hour_is_kept() {
        let (history, shown) = (History::default(), shown());
        let stats = &shown.view.outputs[0].1;
        stats.records_delivered.add(600);
        history.take(&shown);
        stats.records_delivered.add(60);
        stats.sent_bytes.add(6_000);
        history.take(&shown);
        let samples = history.samples();
        assert_eq!(samples[0].outputs["search"].records_per_second, 10.0);
        let second = &samples[1].outputs["search"];
        assert_eq!((second.records_per_second, second.bytes_per_second, second.lag_bytes), (1.0, 100.0, 0));
        (0..MOST).for_each(|_| history.take(&shown));
        assert_eq!(history.samples().len(), MOST);
    }
}
