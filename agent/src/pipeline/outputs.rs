//! Making what the configuration names: outputs with their workers, and the catalog of host files' settings.
//!
//! In: an output's table and its share of the memory. Out: workers that lack nothing but their threads. Nothing runs yet.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use glob::Pattern;
use tokio::sync::watch;

use super::budget::{batch_within, workers_of};
use super::{Agent, Carried, Seat, StartError};
use crate::batch::Format;
use crate::batch::events::RECORD_BYTES;
use crate::catalog::file::{KeyMaker, LogFile};
use crate::catalog::host;
use crate::catalog::origin::HostLog;
use crate::catalog::place::Descriptors;
use crate::clock::unix_nanos;
use crate::config::template::{Safe, Template};
use crate::config::{
    ByteSize, Color, Config, FieldNames, FilesFormat, OutputConfig, RouteConfig, Start, StdoutFormat,
};
use crate::health::file as health;
use crate::metadata::{NodeFacts, Room};
use crate::output::Stop;
use crate::output::cloudwatch::{self, CloudWatch};
use crate::output::dead_letter::DeadLetters;
use crate::output::elasticsearch::Elasticsearch;
use crate::output::file::Files;
use crate::output::http::secret::read_secret;
use crate::output::stdout::Stdout;
use crate::position::Ledger;
use crate::read::{Framing, Rules};
use crate::record::hash::HashKey;
use crate::retain::{self, Retainer};
use crate::route::Routes;
use crate::stats::OutputStats;
use crate::wake::Wake;
use crate::worker::{self, Channels, RateLimits, Sink, Standing, Worker};

/// Batches to CloudWatch under way at a time: one whose calls are made, one whose calls follow in the same streams, one that
/// comes back. Each has a call for every stream, so that more of them make no more calls at a time.
const CLOUDWATCH_BATCHES: usize = 3;

/// A worker that has all it needs but its thread.
pub(super) struct Ready {
    pub worker: Worker,
    pub files: Sender<Arc<LogFile>>,
    pub seat: Seat,
}

impl Agent {
    /// Makes an output and its workers. Nothing of it runs yet. `share`: bytes of batches under way for each worker.
    pub(super) fn make_output(
        &mut self,
        config: &Config,
        name: &str,
        output: &OutputConfig,
        share: u64,
        stop: &watch::Receiver<Stop>,
        carried: &Carried,
    ) -> Result<(Arc<Ledger>, Vec<Ready>), StartError> {
        let refused = |reason: String| StartError::Output { output: name.to_owned(), reason };
        let positions = |error| {
            let path = config.state_dir.join(format!("{name}.positions"));
            StartError::Positions { output: name.to_owned(), path, error }
        };
        let reading = output.reading();
        let previous_end = Ledger::saved_at(&config.state_dir, name);
        let ledger = Arc::new(Ledger::open(&config.state_dir, name).map_err(positions)?);
        if ledger.read(|state| state.since).is_none() {
            // The very first start: remembered, so that a later one does not pass over what an outage delayed.
            let age = if reading.start == Start::Now { Duration::ZERO } else { reading.max_age };
            ledger.change(|state| state.since = Some(nanos_ago(age)));
            ledger.save().map_err(positions)?;
        }
        let counted = carried.stats.iter().find(|(output, _)| output == name);
        let stats: Arc<OutputStats> = counted.map(|(_, stats)| stats.clone()).unwrap_or_default();
        self.outputs.push((name.to_owned(), stats.clone()));
        let (workers, batch) = (workers_of(output), batch_within(reading.batch.bytes(), share));
        if batch < reading.batch.bytes() {
            tracing::info!(output = name, batch = %ByteSize::new(batch), wanted = %reading.batch,
                "batches are smaller than configured, so that they fit its share of `memory`");
        }
        let facts = facts_for(config, output);
        let Form { format, target } = form_of(output);
        let (gzip, in_flight) = match output {
            OutputConfig::Elasticsearch(es) => (es.gzip_level(), es.in_flight),
            OutputConfig::CloudWatch(_) => (None, CLOUDWATCH_BATCHES),
            OutputConfig::File(_) | OutputConfig::Stdout(_) => (None, 1),
        };
        let client = match output {
            OutputConfig::Elasticsearch(es) => Some(Arc::new(
                Elasticsearch::new(
                    name,
                    es,
                    DeadLetters::new(&config.state_dir, name, es.dead_letters),
                    previous_end,
                    stats.clone(),
                    stop.clone(),
                )
                .map_err(|e| refused(e.to_string()))?,
            )),
            _ => None,
        };
        let cloudwatch = match output {
            OutputConfig::CloudWatch(cw) => {
                let letters = DeadLetters::new(&config.state_dir, name, cw.dead_letters);
                Some(Arc::new(CloudWatch::new(name, cw, letters, stats.clone(), stop.clone())))
            }
            _ => None,
        };
        let limits = reading.rate_limit.clone().map(|limits| Arc::new(RateLimits::new(limits)));
        let unread = unread_pod(output);
        if let Some((namespace, pod)) = &unread {
            tracing::info!(
                output = name,
                namespace,
                pod,
                "the logs of the agent's own pod are left out: what is written to its standard output is in them"
            );
        }
        let routes = Routes::of(config, name, hash_key(config).map_err(refused)?).without(unread);
        let mut ready = Vec::with_capacity(workers);
        for shard in 0..workers {
            let sink = match (output, &client, &self.runtime) {
                (OutputConfig::File(file), ..) => Sink::Files(
                    Files::recover(ledger.clone(), file.max_size.bytes(), file.keep)
                        .map_err(|e| refused(format!("cannot go on with its files: {e}")))?,
                ),
                (OutputConfig::Elasticsearch(_), Some(client), Some(runtime)) => {
                    Sink::Elasticsearch(client.clone(), runtime.handle().clone())
                }
                (OutputConfig::CloudWatch(_), _, Some(runtime)) if let Some(client) = &cloudwatch => {
                    Sink::CloudWatch(cloudwatch::Sender::new(client.clone()), runtime.handle().clone())
                }
                _ => Sink::Stdout(Stdout::default()),
            };
            let (files, files_in) = mpsc::channel();
            let (settle, settled) = mpsc::channel();
            let seat = Seat {
                output: name.to_owned(),
                wake: Arc::new(Wake::default()),
                standing: Arc::new(Standing::default()),
                pulse: Arc::default(),
            };
            let worker = Worker::new(
                worker::Settings {
                    output: name.to_owned(),
                    shard: (shard, workers),
                    facts: facts.clone(),
                    table: self.metadata.as_ref().map(Room::table),
                    target: target.clone(),
                    routes: routes.clone(),
                    format,
                    gzip,
                    rules: rules_of(config, output, ledger.read(|state| state.since)),
                    linger: reading.linger,
                    batch,
                    in_flight,
                    in_flight_bytes: share,
                    limits: limits.clone(),
                    max_lag: reading.max_lag.map(ByteSize::bytes),
                },
                Channels {
                    files: files_in,
                    settled,
                    settle,
                    wake: seat.wake.clone(),
                    standing: seat.standing.clone(),
                    events: self.events.0.clone(),
                    pulse: seat.pulse.clone(),
                    taps: self.taps.clone(),
                },
                ledger.clone(),
                stats.clone(),
                self.phase.clone(),
                sink,
            );
            ready.push(Ready { worker, files, seat });
        }
        Ok((ledger, ready))
    }
}

/// What an output makes of records, and where each goes.
pub(crate) struct Form {
    pub format: Format,
    pub target: Option<(Template, Safe)>,
}

/// The form of an output's records.
pub(crate) fn form_of(output: &OutputConfig) -> Form {
    match output {
        OutputConfig::Elasticsearch(es) => Form {
            format: Format::Bulk { op: es.op, ids: es.document_id },
            target: Some((es.target.template().clone(), Safe::Index)),
        },
        OutputConfig::CloudWatch(cw) => {
            Form { format: Format::Events(cw.event_format()), target: Some((cw.target(), Safe::LogStream)) }
        }
        OutputConfig::File(file) => {
            Form { format: Format::Lines, target: Some((file.path.clone(), Safe::Path)) }
        }
        OutputConfig::Stdout(out) => {
            let color = match out.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => {
                    io::IsTerminal::is_terminal(&io::stdout()) && std::env::var_os("NO_COLOR").is_none()
                }
            };
            let format = match out.format {
                StdoutFormat::Json => Format::Lines,
                StdoutFormat::Text => Format::Text { color },
            };
            Form { format, target: None }
        }
    }
}

/// The secret that hashes are made with, if there are any to make.
///
/// # Errors
/// It is not there: why, and what to do.
pub(crate) fn hash_key(config: &Config) -> Result<Option<HashKey>, String> {
    let source = config.hash_key.as_ref().filter(|_| config.routes.iter().any(RouteConfig::needs_key));
    let Some(source) = source else { return Ok(None) };
    let secret = read_secret(source).map_err(|error| format!("hash_key: {error}"))?;
    Ok(Some(HashKey::new(secret.expose().as_bytes())))
}

/// The pod that the agent runs in, by namespace and name, where the environment says so, as the manifests let it.
pub(crate) fn own_pod() -> Option<(String, String)> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    env("POD_NAMESPACE").zip(env("POD_NAME"))
}

/// The pod whose logs an output leaves out: what it writes to the agent's standard output would be read and written again,
/// without an end.
fn unread_pod(output: &OutputConfig) -> Option<(String, String)> {
    if matches!(output, OutputConfig::Stdout(_)) { own_pod() } else { None }
}

/// What an output says of the node in all documents.
pub(crate) fn facts_for(config: &Config, output: &OutputConfig) -> NodeFacts {
    let names = match output {
        OutputConfig::CloudWatch(cw) => cw.fields,
        _ => FieldNames::default(),
    };
    NodeFacts { cluster: config.cluster.clone(), node: config.node.clone(), names }
}

/// How an output reads lines; `since`: what is older is passed over.
pub(crate) fn rules_of(config: &Config, output: &OutputConfig, since: Option<i64>) -> Rules {
    let max_record = match output {
        OutputConfig::CloudWatch(_) => config.max_record.as_usize().min(RECORD_BYTES),
        _ => config.max_record.as_usize(),
    };
    Rules { max_record, oversize: config.oversize, join_gap: config.join_timeout, since }
}

/// Keeps what is deleted unread, unless the configuration keeps nothing.
pub(super) fn start_retention(
    config: &Config,
    ledgers: Vec<Arc<Ledger>>,
    readers: Vec<Arc<Wake>>,
) -> Result<Option<Retainer>, StartError> {
    if config.retain.max_bytes.bytes() == 0 {
        return Ok(None);
    }
    let settings = retain::Settings {
        state_dir: config.state_dir.clone(),
        config: config.retain.clone(),
        ledgers,
        readers,
    };
    let started = Retainer::start(settings);
    started.map(Some).map_err(|error| StartError::State { path: config.state_dir.join("retained"), error })
}

fn nanos_ago(age: Duration) -> i64 {
    let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    unix_nanos().saturating_sub(age).max(0)
}

/// What the catalog of host files needs to know. It never reads what this agent writes, but for its health records, nor the
/// pod logs again.
pub(super) fn host_settings(
    config: &Config,
    keys: KeyMaker,
    tick: Duration,
    descriptors: usize,
) -> host::Settings {
    let sources = config.files.iter().map(|(name, files)| host::Source {
        name: name.clone(),
        paths: files.paths.clone(),
        exclude: files.exclude.clone(),
        framing: match files.format {
            FilesFormat::Plain => Framing::Lines,
            FilesFormat::Container => Framing::Runtime,
        },
        labels: files.labels.clone(),
    });
    let own = config.health.is_wanted().then(|| {
        let folder = config.state_dir.join(health::FOLDER);
        let path = |name| Pattern::escape(&folder.join(name).to_string_lossy());
        host::Source {
            name: HostLog::HEALTH.to_owned(),
            // What is escaped is a pattern.
            paths: health::NAMES.iter().filter_map(|name| Pattern::new(&path(name)).ok()).collect(),
            exclude: Vec::new(),
            framing: Framing::Runtime,
            labels: BTreeMap::new(),
        }
    });
    let folders = [&config.state_dir, &config.pod_logs].map(|folder| format!("{}/", folder.display()));
    let written = config.outputs.values().filter_map(|output| match output {
        OutputConfig::File(file) => Some(file.path.fixed_beginning().to_owned()),
        _ => None,
    });
    host::Settings {
        sources: sources.chain(own).collect(),
        links: config.link_roots.clone(),
        never: folders.into_iter().chain(written).collect(),
        keys,
        state_dir: config.state_dir.clone(),
        rescan: config.rescan,
        tick,
        outputs: config.outputs.len(),
        descriptors: Descriptors::new(descriptors),
        retention: None,
        kept: Vec::new(),
    }
}
