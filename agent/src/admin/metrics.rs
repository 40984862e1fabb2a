//! Metrics: everything that is counted, in the text form of OpenMetrics.
//!
//! In: the counters as they stand, by loads that hold up nobody. Out: families under Prometheus's conventions, with units.
//! The series of a container end with it, and there is a bound to how many containers have series of their own: those
//! beyond it share the gauges of `_other`, and their counters are in those of their outputs, which count everything.

mod containers;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::process::{Process, seconds};
use super::{Shared, Shown};
use crate::config::Wish;
use crate::stats::{Counter, Loss, LossReason, OutputStats};
use containers::Row;

/// What the answer is, as its header says.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything, as text.
pub fn text(shared: &Arc<Shared>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(OfProcess(shared.started.1)));
    registry.sub_registry_with_prefix("taffrail").register_collector(Box::new(OfAgent(shared.clone())));
    let mut text = String::new();
    // Writing to a string fails only by a mistake of ours in a family's form, which the tests see.
    let _ = text::encode(&mut text, &registry);
    text
}

/// A family that is being written.
struct Family<'a>(MetricEncoder<'a>);

impl Family<'_> {
    fn counter(&mut self, labels: &impl EncodeLabelSet, value: impl EncodeCounterValue) -> fmt::Result {
        self.0.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, labels: &impl EncodeLabelSet, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_family(labels)?.encode_gauge(&value)
    }

    fn sole_counter(&mut self, value: impl EncodeCounterValue) -> fmt::Result {
        self.0.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn sole_gauge(&mut self, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_gauge(&value)
    }
}

/// Begins families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'static Unit>,
    ) -> Result<Family<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, MetricType::Counter).map(Family)
    }

    fn gauge<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'static Unit>,
    ) -> Result<Family<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge).map(Family)
    }
}

const BYTES: Option<&Unit> = Some(&Unit::Bytes);

const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

#[derive(Debug)]
struct OfProcess(SystemTime);

impl Collector for OfProcess {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut families, process) = (Families(encoder), Process::now());
        let cpu = families.counter("process_cpu", "Processor time", SECONDS);
        cpu?.sole_counter(process.cpu_seconds)?;
        let start = "Start of the process since the epoch";
        families.gauge("process_start_time", start, SECONDS)?.sole_gauge(seconds(self.0))?;
        for (name, help, unit, value) in [
            ("process_resident_memory", "Resident memory", BYTES, process.resident_bytes),
            ("process_virtual_memory", "Address space", BYTES, process.virtual_bytes),
            ("process_open_fds", "Open descriptors", None, process.open_fds),
            ("process_max_fds", "Descriptors that may be open", None, process.max_fds),
            ("process_threads", "Threads", None, process.threads),
        ] {
            if let Some(value) = value {
                families.gauge(name, help, unit)?.sole_gauge(value)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct OfAgent(Arc<Shared>);

impl Collector for OfAgent {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        families.gauge("build_info", "The agent's version", None)?.gauge(&version, 1_u64)?;
        let reloads = &self.0.reloads;
        let mut family = families.counter("reloads", "Configurations that were to take over", None)?;
        family.counter(&[("result", "succeeded")], reloads.succeeded.get())?;
        family.counter(&[("result", "failed")], reloads.failed.get())?;
        let Some(shown) = self.0.shown() else { return Ok(()) };
        let rows = Row::all(&shown.view.outputs);
        of_outputs(&mut families, &shown)?;
        of_annotations(&mut families, &shown)?;
        of_losses(&mut families, &shown)?;
        of_lag(&mut families, &shown, &rows)?;
        of_node(&mut families, &shown)?;
        containers::encode(&mut families, &rows)?;
        containers::encode_losses(&mut families, &shown.view.outputs)
    }
}

type OfOutput = (&'static str, &'static str, Option<&'static Unit>, fn(&OutputStats) -> &Counter);

/// What each output has counted.
const COUNTERS: [OfOutput; 20] = [
    ("read", "Bytes taken from log files, those read again included", BYTES, |s| &s.read_bytes),
    ("read_records", "Records taken from log files, those read again included", None, |s| &s.records_read),
    ("delivered_records", "Records that the destination holds by its own word", None, |s| {
        &s.records_delivered
    }),
    ("sent", "Bytes of requests, as sent", BYTES, |s| &s.sent_bytes),
    ("requests", "Requests, or writes, that succeeded", None, |s| &s.requests),
    ("retries", "Requests, or items of one, that were sent again", None, |s| &s.retries),
    ("duplicate_records", "Records that the destination had already", None, |s| &s.duplicates),
    (
        "unexpected_duplicate_records",
        "Records that it had already though this process never sent them: two agents of one name",
        None,
        |s| &s.unexpected_duplicates,
    ),
    ("in_doubt_records", "Records that may stand twice, since a call was made again", None, |s| &s.in_doubt),
    ("too_old_records", "Records passed over as older than the output's beginning", None, |s| {
        &s.records_too_old
    }),
    ("filtered_records", "Records that their route does not send", None, |s| &s.records_filtered),
    ("reshaped_records", "Records sent once more with their JSON as text", None, |s| &s.reshaped),
    ("restamped_records", "Records taken with the time of sending", None, |s| &s.restamped),
    ("split_records", "Records split or cut for their length", None, |s| &s.split),
    ("refused_records", "Records refused for good: dead letters", None, |s| &s.refused),
    ("dead_letters_dropped", "Dead letters that had to go for newer ones", None, |s| &s.dead_letters_dropped),
    ("auth_failures", "Answers that the credentials are not good, or not good enough", None, |s| {
        &s.auth_failures
    }),
    ("timed_records", "Records delivered, of logs whose lines have times", None, |s| &s.timed_records),
    ("late_records", "Of these, those delivered more than 60 s after they were written", None, |s| {
        &s.late_records
    }),
    ("parked", "Times that a container was set aside, its records not being taken", None, |s| &s.parked),
];

fn of_outputs(families: &mut Families<'_>, shown: &Shown) -> fmt::Result {
    for (name, help, unit, counter) in COUNTERS {
        let mut family = families.counter(name, help, unit)?;
        for (output, stats) in &shown.view.outputs {
            family.counter(&[("output", output.as_str())], counter(stats).get())?;
        }
    }
    Ok(())
}

/// What pods wish for their logs and is not followed.
fn of_annotations(families: &mut Families<'_>, shown: &Shown) -> fmt::Result {
    let help =
        "Annotations of pods that are not followed, being not allowed: each time a container is taken up";
    let mut family = families.counter("suppressed_annotations", help, None)?;
    for (output, stats) in &shown.view.outputs {
        for wish in Wish::ALL {
            let labels = [("output", output.as_str()), ("annotation", wish.as_str())];
            family.counter(&labels, stats.suppressed[wish as usize].get())?;
        }
    }
    Ok(())
}

fn of_losses(families: &mut Families<'_>, shown: &Shown) -> fmt::Result {
    type Part = (Option<&'static Unit>, &'static str, fn(Loss) -> u64);
    let parts: [Part; 2] = [(BYTES, "", |loss| loss.bytes), (None, "_records", |loss| loss.records)];
    for (name, is_drop, help) in [
        ("lost", false, "What was not delivered and never will be"),
        ("dropped", true, "What rate limits left out, as configured"),
    ] {
        for (unit, ending, of) in &parts {
            let full = format!("{name}{ending}");
            let mut family = families.counter(&full, help, *unit)?;
            for (output, stats) in &shown.view.outputs {
                for reason in LossReason::ALL.into_iter().filter(|reason| reason.is_drop() == is_drop) {
                    let labels = [("output", output.as_str()), ("reason", reason.as_str())];
                    family.counter(&labels, of(stats.losses.of(reason)))?;
                }
            }
        }
    }
    Ok(())
}

/// What of each output is under way or waits now.
fn of_lag(families: &mut Families<'_>, shown: &Shown, rows: &[Row]) -> fmt::Result {
    let of = |output: &str| rows.iter().filter(|row| row.output == output).collect::<Vec<&Row>>();
    let outputs: Vec<_> =
        shown.view.outputs.iter().map(|(output, stats)| (output, stats, of(output))).collect();
    type Level = (&'static str, &'static str, Option<&'static Unit>, fn(&OutputStats, &[&Row]) -> f64);
    let levels: [Level; 9] = [
        ("in_flight_requests", "Batches under way", None, |stats, _| stats.in_flight.get() as f64),
        ("in_flight", "Bytes of batches under way", BYTES, |stats, _| stats.in_flight_bytes.get() as f64),
        ("lag", "Bytes on disk that are not acknowledged", BYTES, |_, rows| {
            rows.iter().map(|row| row.lag_bytes).sum::<u64>() as f64
        }),
        ("lag", "Age of the oldest record that is not acknowledged", SECONDS, |_, rows| {
            rows.iter().map(|row| row.lag_millis).max().unwrap_or_default() as f64 / 1e3
        }),
        ("containers", "Containers and host files that are read", None, |_, rows| {
            rows.iter().map(|row| row.containers).sum::<u64>() as f64
        }),
        (
            "waiting_metadata_containers",
            "Containers that wait for what is not known of their pods",
            None,
            |_, rows| rows.iter().map(|row| row.waiting).sum::<u64>() as f64,
        ),
        ("parked_containers", "Containers set aside, their records not being taken", None, |_, rows| {
            rows.iter().map(|row| row.parked).sum::<u64>() as f64
        }),
        ("unrouted_containers", "Containers that no route matches", None, |stats, _| stats.nowhere() as f64),
        ("excluded_containers", "Containers whose pods exclude them", None, |stats, _| {
            stats.excluded() as f64
        }),
    ];
    for (name, help, unit, level) in levels {
        let mut family = families.gauge(name, help, unit)?;
        for (output, stats, rows) in &outputs {
            family.gauge(&[("output", output.as_str())], level(stats, rows))?;
        }
    }
    Ok(())
}

/// What is kept unread, and what the API server says.
fn of_node(families: &mut Families<'_>, shown: &Shown) -> fmt::Result {
    let files: u64 = shown.view.files.iter().map(|files| files.get()).sum();
    families.gauge("files", "Log files that are known", None)?.sole_gauge(files)?;
    if let Some(retained) = &shown.view.retained {
        let help = "Log files that lie on disk for the agent alone";
        families.gauge("retained_files", help, None)?.sole_gauge(retained.files.get())?;
        let limit = families.gauge("retained_limit", "Bytes of disk that they may take", BYTES);
        limit?.sole_gauge(retained.limit.get())?;
        let bytes = families.gauge("retained", "Bytes of disk that these take", BYTES);
        bytes?.sole_gauge(retained.bytes.get())?;
        let help = "Bytes of disk that had to be let go unread";
        families.counter("retained_let_go", help, BYTES)?.sole_counter(retained.let_go_bytes.get())?;
    }
    if let Some(table) = &shown.view.metadata {
        for (name, help, counter) in [
            ("metadata_requests", "Requests to the API server", &table.stats.requests),
            (
                "metadata_failures",
                "Requests to the API server that failed, and watches that broke",
                &table.stats.failures,
            ),
            ("metadata_events", "Events of watches at the API server", &table.stats.events),
        ] {
            families.counter(name, help, None)?.sole_counter(counter.get())?;
        }
        let help = "1 once all pods of the node have been seen";
        families.gauge("metadata_complete", help, None)?.sole_gauge(u64::from(table.is_complete()))?;
        let help = "1 while the watch of the node's pods fails";
        families.gauge("metadata_watch_failing", help, None)?.sole_gauge(table.stats.failing.get())?;
        let help = "1 while the node is going away";
        families.gauge("node_leaving", help, None)?.sole_gauge(u64::from(table.is_leaving()))?;
    }
    Ok(())
}
