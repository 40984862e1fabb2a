//! Health records: what the agent has done since the last of them, as documents.
//!
//! In: counters. Out: JSON, one object a record: of the agent one, of each output one, of each output, namespace and reason
//! with a loss one, of each output, namespace and set of chosen labels that delivered something one. All numbers are of the
//! interval, but for levels: lag, what is under way, memory, what is retained, files and containers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::admin::process::Process;
use crate::catalog::origin::Origin;
use crate::clock::unix_millis;
use crate::command::terminal::size;
use crate::pipeline::View;
use crate::stats::volume::Volumes;
use crate::stats::{Loss, LossReason, OutputStats};

/// The object in a document that holds what only the agent writes. With a dot in its name, since a record may have an object
/// `taffrail` of its own.
pub const FIELD: &str = "taffrail.health";

/// The object that says of what node and pod it is.
pub const KUBERNETES: &str = "kubernetes";

/// What is the same for all records of a configuration.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// The agent's own namespace and pod, where they are known.
    pub pod: Option<(String, String)>,
    /// Bytes that may be retained.
    pub retained_limit: u64,
    /// Each output's type.
    pub kinds: BTreeMap<String, &'static str>,
}

/// What was counted at the last records.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    at: Instant,
    cpu_seconds: f64,
    errors: u64,
    outputs: HashMap<String, Counted>,
    lost: HashMap<(String, LossReason), Loss>,
    lost_by_container: HashMap<(String, LossReason, Arc<Origin>), Loss>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    records: u64,
    bytes: u64,
    retries: u64,
    refused: u64,
}

impl Counted {
    fn of(stats: &OutputStats) -> Counted {
        Counted {
            records: stats.records_delivered.get(),
            bytes: stats.delivered_bytes.get(),
            retries: stats.retries.get(),
            refused: stats.refused.get(),
        }
    }
}

impl Recorder {
    /// For a process that began then.
    pub fn new(started: Instant) -> Recorder {
        Recorder {
            started,
            at: started,
            cpu_seconds: 0.0,
            errors: 0,
            outputs: HashMap::new(),
            lost: HashMap::new(),
            lost_by_container: HashMap::new(),
        }
    }

    /// The records of the time since the last ones. `errors`: those that the agent has told of so far.
    pub fn take(&mut self, view: &View, place: &Place, errors: u64) -> Vec<String> {
        let (now, process) = (Instant::now(), Process::now());
        let interval = now.duration_since(std::mem::replace(&mut self.at, now));
        let writer = Writer { place, interval };
        let mut records = vec![self.of_agent(&writer, view, &process, errors)];
        for (output, stats) in &view.outputs {
            records.push(self.of_output(&writer, output, stats));
            self.losses(&writer, output, stats, &mut records);
        }
        // Of these there may be many: what is more important stands first.
        for (output, stats) in &view.outputs {
            of_volumes(&writer, output, &stats.take_volumes(), &mut records);
        }
        records.iter().map(Value::to_string).collect()
    }

    /// Forgets what was counted of outputs but these: one that comes later under the name of an earlier one counts from 0.
    pub fn keep_only(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.outputs.retain(|output, _| is_kept(output));
        self.lost.retain(|(output, _), _| is_kept(output));
        self.lost_by_container.retain(|(output, ..), _| is_kept(output));
    }

    fn of_agent(&mut self, writer: &Writer<'_>, view: &View, process: &Process, errors: u64) -> Value {
        let cpu = process.cpu_seconds - std::mem::replace(&mut self.cpu_seconds, process.cpu_seconds);
        let errors = errors - std::mem::replace(&mut self.errors, errors);
        let read: Vec<_> = view.outputs.iter().flat_map(|(_, stats)| stats.containers()).collect();
        let waiting = read.iter().filter(|container| container.waits_metadata.get() > 0);
        let waiting: HashSet<&Arc<Origin>> = waiting.map(|container| &container.origin).collect();
        let containers: HashSet<&Arc<Origin>> = read.iter().map(|container| &container.origin).collect();
        let files: u64 = view.files.iter().map(|files| files.get()).sum();
        let memory = process.resident_bytes.unwrap_or_default();
        let uptime = self.started.elapsed();
        let message = format!(
            "agent {} on {} up {}: {} of memory, {:.2} s of processor in {}, {files} files of {} containers, {errors} errors",
            env!("CARGO_PKG_VERSION"),
            writer.place.node,
            seconds(uptime),
            size(memory),
            cpu,
            seconds(writer.interval),
            containers.len(),
        );
        let fields = json!({
            "uptime": uptime.as_secs_f64(),
            "cpu": cpu,
            "memory": memory,
            "files": files,
            "containers": containers.len(),
            "waiting_metadata": waiting.len(),
            "retained": view.retained.as_ref().map_or(0, |retained| retained.bytes.get()),
            "retained_limit": writer.place.retained_limit,
            "errors": errors,
        });
        writer.record("agent", "info", message, fields)
    }

    fn of_output(&mut self, writer: &Writer<'_>, output: &str, stats: &OutputStats) -> Value {
        let counted = Counted::of(stats);
        let before = self.outputs.insert(output.to_owned(), counted).unwrap_or_default();
        let containers = stats.containers();
        let lag_bytes: u64 = containers.iter().map(|container| container.lag_bytes.get()).sum();
        let now = unix_millis();
        let lag = containers.iter().map(|container| container.lag_millis(now)).max().unwrap_or_default();
        let fresh = |now: u64, before: u64| now.saturating_sub(before);
        let records = fresh(counted.records, before.records);
        let (retries, refused) =
            (fresh(counted.retries, before.retries), fresh(counted.refused, before.refused));
        let message = format!(
            "output {output}: {records} records in {}, {} behind ({}), {retries} retries, {refused} refused",
            seconds(writer.interval),
            size(lag_bytes),
            seconds(Duration::from_millis(lag)),
        );
        let fields = json!({
            "output": output,
            "type": writer.place.kinds.get(output),
            "records": records,
            "bytes": fresh(counted.bytes, before.bytes),
            "lag_bytes": lag_bytes,
            "lag_seconds": lag as f64 / 1e3,
            "in_flight": stats.in_flight.get(),
            "retries": retries,
            "refused": refused,
        });
        writer.record("output", if refused > 0 { "warn" } else { "info" }, message, fields)
    }

    /// What was lost, by namespace. Containers that were told apart no more when they lost something are in no namespace.
    fn losses(&mut self, writer: &Writer<'_>, output: &str, stats: &OutputStats, records: &mut Vec<Value>) {
        let mut fresh: BTreeMap<(LossReason, String), Loss> = BTreeMap::new();
        let mut told = HashMap::new();
        let mut known = HashMap::new();
        let (totals, containers) = stats.losses.all();
        for (origin, reason, loss) in containers {
            let key = (output.to_owned(), reason, origin.clone());
            let more = less(loss, self.lost_by_container.get(&key).copied().unwrap_or_default());
            known.insert(key, loss);
            if more != Loss::default() {
                fresh.entry((reason, origin.place().0.to_owned())).or_default().add(more);
                told.entry(reason).or_insert_with(Loss::default).add(more);
            }
        }
        self.lost_by_container.retain(|(of, ..), _| of != output);
        self.lost_by_container.extend(known);
        for reason in LossReason::ALL {
            let total = totals[reason as usize];
            let before = self.lost.insert((output.to_owned(), reason), total).unwrap_or_default();
            let rest = less(less(total, before), told.get(&reason).copied().unwrap_or_default());
            if rest != Loss::default() {
                fresh.entry((reason, Volumes::OTHER.to_owned())).or_default().add(rest);
            }
        }
        records.extend(fresh.into_iter().map(|((reason, namespace), loss)| {
            let (verb, level) = if reason.is_drop() { ("dropped", "warn") } else { ("lost", "error") };
            let message = format!(
                "output {output} {verb} {} of {namespace} ({} records seen): {}",
                size(loss.bytes),
                loss.records,
                reason.as_str()
            );
            let fields = json!({
                "output": output,
                "namespace": namespace,
                "reason": reason.as_str(),
                "records": loss.records,
                "bytes": loss.bytes,
            });
            writer.record("lost", level, message, fields)
        }));
    }
}

fn of_volumes(writer: &Writer<'_>, output: &str, volumes: &Volumes, records: &mut Vec<Value>) {
    records.extend(volumes.iter().map(|(owner, volume)| {
        let namespace = &owner.namespace;
        let message = format!("{namespace}: {} records, {} to {output}", volume.records, size(volume.bytes));
        let fields = json!({
            "output": output,
            "namespace": namespace,
            "records": volume.records,
            "bytes": volume.bytes,
        });
        let mut record = writer.record("volume", "info", message, fields);
        if !owner.labels.is_empty() {
            record["labels"] = json!(*owner.labels);
        }
        record
    }));
}

fn less(now: Loss, before: Loss) -> Loss {
    Loss {
        records: now.records.saturating_sub(before.records),
        bytes: now.bytes.saturating_sub(before.bytes),
    }
}

/// For people.
fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

/// What every record has.
struct Writer<'a> {
    place: &'a Place,
    interval: Duration,
}

impl Writer<'_> {
    fn record(&self, kind: &str, level: &str, message: String, mut fields: Value) -> Value {
        fields["kind"] = json!(kind);
        fields["interval"] = json!(self.interval.as_secs_f64());
        fields["version"] = json!(env!("CARGO_PKG_VERSION"));
        let mut kubernetes = json!({ "node": { "name": self.place.node } });
        if let Some((namespace, pod)) = &self.place.pod {
            kubernetes["namespace"] = json!(namespace);
            kubernetes["pod"] = json!({ "name": pod });
        }
        let mut record = Map::new();
        record.insert("message".to_owned(), json!(message));
        record.insert("log".to_owned(), json!({ "level": level }));
        record.insert(KUBERNETES.to_owned(), kubernetes);
        record.insert(FIELD.to_owned(), fields);
        Value::Object(record)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
pub(super) mod tests;
