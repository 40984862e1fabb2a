//! The part of the metrics that is by container.
//!
//! In: each output's containers. Out: rows, those with the same labels made one (a pod reborn under its name is another
//! container, but the same series), and their families. Beyond [`MOST_ROWS`], containers share a row for each output.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::registry::Unit;

use super::{BYTES, Families, SECONDS};
use crate::clock::unix_millis;
use crate::stats::OutputStats;

/// So many containers, counted for each output, have rows of their own.
pub const MOST_ROWS: usize = 2000;

/// What the others are called.
pub const OTHER: &str = "_other";

/// A container at an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The output's name.
    pub output: String,
    /// Namespace, pod and container.
    pub place: (String, String, String),
    /// How many it stands for.
    pub containers: u64,
    /// Bytes taken from its files.
    pub read_bytes: u64,
    /// Records taken from its files.
    pub read_records: u64,
    /// Records acknowledged.
    pub delivered: u64,
    /// Records that its route does not send.
    pub filtered: u64,
    /// Bytes on disk that are not acknowledged.
    pub lag_bytes: u64,
    /// Age of the oldest record that is not.
    pub lag_millis: u64,
    /// How many wait for what is not known of their pods.
    pub waiting: u64,
    /// How many are set aside.
    pub parked: u64,
}

impl Row {
    /// All of them.
    pub fn all(outputs: &[(String, Arc<OutputStats>)]) -> Vec<Row> {
        Row::up_to(MOST_ROWS, outputs)
    }

    pub(super) fn up_to(most: usize, outputs: &[(String, Arc<OutputStats>)]) -> Vec<Row> {
        let (mut rows, now) = (BTreeMap::<_, Row>::new(), unix_millis());
        for (output, stats) in outputs {
            // In the order in which they were found: the ones that have series keep them.
            for container in stats.containers() {
                let (namespace, pod, name) = container.origin.place();
                let mut key = (output.clone(), (namespace.to_owned(), pod.to_owned(), name));
                if rows.len() >= most && !rows.contains_key(&key) {
                    key.1 = (OTHER.to_owned(), OTHER.to_owned(), OTHER.to_owned());
                }
                let row = rows.entry(key).or_default();
                row.containers += 1;
                row.read_bytes += container.read_bytes.get();
                row.read_records += container.records_read.get();
                row.delivered += container.records_delivered.get();
                row.filtered += container.records_filtered.get();
                row.lag_bytes += container.lag_bytes.get();
                row.lag_millis = row.lag_millis.max(container.lag_millis(now));
                row.waiting += container.waits_metadata.get();
                row.parked += container.parked.get();
            }
        }
        rows.into_iter().map(|((output, place), row)| Row { output, place, ..row }).collect()
    }

    fn is_other(&self) -> bool {
        self.place.0 == OTHER
    }

    fn labels(&self) -> [(&str, &str); 4] {
        let (namespace, pod, container) = &self.place;
        [("output", &self.output), ("namespace", namespace), ("pod", pod), ("container", container)]
    }
}

/// The families of the rows.
pub fn encode(families: &mut Families<'_>, rows: &[Row]) -> fmt::Result {
    type Counted = (&'static str, &'static str, Option<&'static Unit>, fn(&Row) -> u64);
    let counters: [Counted; 4] = [
        ("container_read", "Bytes taken from a container's log", BYTES, |row| row.read_bytes),
        ("container_read_records", "Records taken from a container's log", None, |row| row.read_records),
        ("container_delivered_records", "Records of a container that are acknowledged", None, |row| {
            row.delivered
        }),
        ("container_filtered_records", "Records of a container that its route does not send", None, |row| {
            row.filtered
        }),
    ];
    for (name, help, unit, of) in counters {
        let mut family = families.counter(name, help, unit)?;
        // A sum over others falls when one of them goes, which a counter cannot.
        for row in rows.iter().filter(|row| !row.is_other()) {
            family.counter(&row.labels(), of(row))?;
        }
    }
    let bytes = "Bytes of a container on disk that are not acknowledged";
    let mut family = families.gauge("container_lag", bytes, BYTES)?;
    rows.iter().try_for_each(|row| family.gauge(&row.labels(), row.lag_bytes))?;
    let age = "Age of the oldest record of a container that is not acknowledged";
    let mut family = families.gauge("container_lag", age, SECONDS)?;
    rows.iter().try_for_each(|row| family.gauge(&row.labels(), row.lag_millis as f64 / 1e3))
}

/// What was lost, by container: the last that lost something are told, also when they are gone.
pub fn encode_losses(families: &mut Families<'_>, outputs: &[(String, Arc<OutputStats>)]) -> fmt::Result {
    let mut rows = BTreeMap::<_, (u64, u64)>::new();
    for (output, stats) in outputs {
        for (origin, reason, loss) in stats.losses.containers() {
            let (namespace, pod, container) = origin.place();
            let key = (output, namespace.to_owned(), pod.to_owned(), container, reason.as_str());
            let row = rows.entry(key).or_default();
            *row = (row.0 + loss.bytes, row.1 + loss.records);
        }
    }
    let help = "What of a container was not delivered and never will be, or was dropped by a rate limit";
    for (name, unit) in [("container_lost", BYTES), ("container_lost_records", None)] {
        let is_bytes = unit.is_some();
        let mut family = families.counter(name, help, unit)?;
        for ((output, namespace, pod, container, reason), (bytes, records)) in &rows {
            let labels = [
                ("output", output.as_str()),
                ("namespace", namespace.as_str()),
                ("pod", pod.as_str()),
                ("container", container.as_str()),
                ("reason", reason),
            ];
            family.counter(&labels, if is_bytes { *bytes } else { *records })?;
        }
    }
    Ok(())
}
