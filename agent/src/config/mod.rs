//! What the agent is told to do: TOML made into checked types.
//!
//! In: one file, or none. Out: a [`Config`] in which every value is usable as it stands, or [`Diagnostics`] that say
//! for each mistake where it is and what would be right. It is strict: an unknown key is a mistake. It never
//! touches the network, and of the file system nothing but the one file and the host's name.
//!
//! The structs are the documentation of the keys: every field is a key of the same name, with its default and its
//! unit. [`elasticsearch`] and [`cloudwatch`] have those of these outputs, [`connection`] those of authentication and TLS,
//! [`files`] those of host files, [`forward`] those of the forwarder, [`metadata`] those of what is told of pods, [`retain`]
//! those of what is kept unread, [`limits`] those of rate limits, [`subscription`] those of where events go on to. `load`
//! reads them all, `values`, [`units`], [`choice`] and [`template`] read single
//! values, [`diagnostic`] shows mistakes.

pub mod annotations;
pub mod changes;
pub mod choice;
pub mod cloudwatch;
pub mod connection;
pub mod diagnostic;
pub mod drain;
pub mod elasticsearch;
pub mod files;
pub mod forward;
pub mod health;
pub mod index_setup;
mod keys;
pub mod limits;
pub mod listen;
mod load;
pub mod metadata;
pub mod reference;
pub mod retain;
pub mod routes;
pub mod schema;
pub mod subscription;
pub mod template;
pub mod units;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

pub use annotations::{AnnotationsConfig, Wish};
pub use changes::Changes;
pub use choice::Choice;
pub use cloudwatch::{CloudWatchConfig, EventFormat, FieldNames, LogClass, Rejected};
pub use connection::{AuthConfig, SecretSource, TlsConfig};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use drain::DrainConfig;
pub use elasticsearch::{BulkOp, Compression, ElasticsearchConfig, Target};
pub use files::{FilesConfig, FilesFormat};
pub use forward::{ForwardConfig, LeasesConfig, LettersAway, TrustedConfig};
pub use health::HealthConfig;
pub use index_setup::IndexSetup;
pub use limits::{LimitAction, Rate, RateLimitConfig};
pub use listen::Listen;
pub use metadata::{MetadataConfig, MetadataSource};
pub use retain::RetainConfig;
pub use routes::RouteConfig;
use schema::Named;
pub use subscription::{SubscriptionConfig, SubscriptionScope, TargetKind};
pub use template::{Names, Prepared, Safe, Template};
pub use units::ByteSize;
use units::Time;

/// The whole configuration. Without a file: the pod logs of this node, to standard output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The cluster's name, in every document and for templates. Default `"default"`.
    #[serde(deserialize_with = "values::name")]
    #[schemars(with = "values::Name")]
    pub cluster: String,
    /// The node's name. Default: the environment's `NODE_NAME`, else the host's name.
    #[serde(deserialize_with = "values::name")]
    #[schemars(with = "values::Name")]
    pub node: String,
    /// Where kubelet has the logs of pods, absolute. Default `"/var/log/pods"`.
    #[serde(deserialize_with = "values::absolute_path")]
    #[schemars(with = "values::AbsolutePath")]
    pub pod_logs: PathBuf,
    /// Where links among the pod logs may lead, absolute; a link to elsewhere is not followed. Default
    /// `["/var/lib/docker/containers"]`.
    #[serde(deserialize_with = "values::absolute_paths")]
    #[schemars(with = "Vec<values::AbsolutePath>")]
    pub link_roots: Vec<PathBuf>,
    /// Where positions and retained files are kept, absolute; one agent at a time. Default `"/var/log/taffrail"`.
    #[serde(deserialize_with = "values::absolute_path")]
    #[schemars(with = "values::AbsolutePath")]
    pub state_dir: PathBuf,
    /// What the agent may use in memory for records in flight, in bytes; at least 16 MiB. Default `"64MiB"`.
    pub memory: ByteSize,
    /// The pod's `terminationGracePeriodSeconds`: how long the agent may go on after SIGTERM, 1 s to 24 h. Default
    /// `"30s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "Time")]
    pub grace: Duration,
    /// How often the folders are looked through for what no notification told of, 10 ms to 1 h. Default `"10s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "Time")]
    pub rescan: Duration,
    /// The longest record, in bytes, 16 KiB to 64 MiB. Default `"1MiB"`.
    pub max_record: ByteSize,
    /// What becomes of a longer one. Default `"split"`.
    pub oversize: Oversize,
    /// How long the beginning of a line waits for its end, 10 ms to 1 h. Default `"5s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "Time")]
    pub join_timeout: Duration,
    /// The secret that hashes are made with (`hash` and `redact_as` of routes): `{ env = "NAME" }` or `{ file = "/path" }`, read at
    /// start and at a reload that changes something. Default none.
    pub hash_key: Option<SecretSource>,
    /// Where the agent's own page and its live tail are, an address and a port: port 0 is a free one, `"off"` none. For those
    /// on this node alone, or by `kubectl port-forward`. Default `"127.0.0.1:9600"`.
    pub listen: Listen,
    /// Where metrics and health are, as for `listen`. Default: the environment's `TAFFRAIL_METRICS_LISTEN`, else
    /// `"127.0.0.1:9601"`.
    pub metrics_listen: Listen,
    /// What the agent says of itself, on standard error.
    #[serde(skip)]
    #[schemars(!skip)]
    pub log: LogConfig,
    /// What is kept of logs that are rotated or deleted unread.
    #[serde(skip)]
    #[schemars(!skip)]
    pub retain: RetainConfig,
    /// Which logs go where: `[[routes]]`, in their order. Default: everything goes to every output.
    #[serde(skip)]
    #[schemars(!skip)]
    pub routes: Vec<RouteConfig>,
    /// What is done once the node is going away.
    #[serde(skip)]
    #[schemars(!skip)]
    pub drain: DrainConfig,
    /// What the agent tells of itself. Default: nothing but its log and its metrics.
    #[serde(skip)]
    #[schemars(!skip)]
    pub health: HealthConfig,
    /// What documents say of pods.
    #[serde(skip)]
    #[schemars(!skip)]
    pub metadata: MetadataConfig,
    /// What pods may say of their own logs.
    #[serde(skip)]
    #[schemars(!skip)]
    pub annotations: AnnotationsConfig,
    /// What carries logs on from CloudWatch: for `taffrail forward`.
    #[serde(skip)]
    #[schemars(!skip)]
    pub forward: ForwardConfig,
    /// Files of the host that are read too, by a name of your choice: `[files.NAME]`. Default none.
    #[serde(skip)]
    #[schemars(!skip, with = "Named<FilesConfig>")]
    pub files: BTreeMap<String, FilesConfig>,
    /// Where records go, by a name of your choice: `[outputs.NAME]`, 1 to 64 small letters, digits, `-` and `_`.
    #[serde(skip)]
    #[schemars(!skip, with = "Named<OutputConfig>")]
    pub outputs: BTreeMap<String, OutputConfig>,
}

impl Default for Config {
    fn default() -> Config {
        let stdout = OutputConfig::Stdout(StdoutConfig::default());
        Config {
            cluster: "default".to_owned(),
            node: values::default_node(std::env::var("NODE_NAME").ok()),
            pod_logs: PathBuf::from("/var/log/pods"),
            link_roots: vec![PathBuf::from("/var/lib/docker/containers")],
            state_dir: PathBuf::from("/var/log/taffrail"),
            memory: ByteSize::mib(64),
            grace: Duration::from_secs(30),
            rescan: Duration::from_secs(10),
            max_record: ByteSize::mib(1),
            oversize: Oversize::Split,
            join_timeout: Duration::from_secs(5),
            hash_key: None,
            listen: Listen::page(),
            metrics_listen: Listen::metrics(),
            log: LogConfig::default(),
            retain: RetainConfig::default(),
            routes: Vec::new(),
            annotations: AnnotationsConfig::default(),
            drain: DrainConfig::default(),
            health: HealthConfig::default(),
            metadata: MetadataConfig::default(),
            forward: ForwardConfig::default(),
            files: BTreeMap::new(),
            outputs: BTreeMap::from([("stdout".to_owned(), stdout)]),
        }
    }
}

/// What becomes of a record longer than `max_record`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Oversize {
    /// It is sent in several records.
    Split,
    /// Its beginning is sent, with its true length.
    Cut,
}

/// What the agent says of itself, on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How it is written. Default `"text"`.
    pub format: LogFormat,
    /// The least level that is written. Default `"info"`.
    pub level: LogLevel,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { format: LogFormat::Text, level: LogLevel::Info }
    }
}

/// How the agent's own log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line to read.
    Text,
    /// A JSON object on a line.
    Json,
}

/// Levels of the agent's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What needs a human.
    Error,
    /// What may need one.
    Warn,
    /// What the agent does.
    Info,
    /// How it does it.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name, as tracing's filters know it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// One `[outputs.NAME]`, chosen by its key `type`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case", transform = both_names)]
pub enum OutputConfig {
    /// Documents to Elasticsearch or OpenSearch, by the bulk API: `type = "elasticsearch"`, or `"opensearch"`, which is the same.
    Elasticsearch(ElasticsearchConfig),
    /// Events to Amazon CloudWatch Logs, by PutLogEvents: `type = "cloudwatch"`. Delivery is at least once: a call whose answer was
    /// lost is made again, and may double what it held.
    #[schemars(rename = "cloudwatch")]
    CloudWatch(CloudWatchConfig),
    /// One JSON object on a line, in files that are rotated by size: `type = "file"`.
    File(FileConfig),
    /// Records on standard output, as for a look at what would be sent: `type = "stdout"`.
    Stdout(StdoutConfig),
}

/// `opensearch` is another name of `elasticsearch`.
fn both_names(schema: &mut schemars::Schema) {
    for output in schema.get_mut("oneOf").and_then(serde_json::Value::as_array_mut).into_iter().flatten() {
        let kind = &mut output["properties"]["type"];
        if kind["const"] == "elasticsearch" {
            *kind = serde_json::json!({ "type": "string", "enum": ["elasticsearch", "opensearch"] });
        }
    }
}

impl OutputConfig {
    /// The keys that every output has.
    pub fn reading(&self) -> &ReadingConfig {
        match self {
            OutputConfig::Elasticsearch(output) => &output.reading,
            OutputConfig::CloudWatch(output) => &output.reading,
            OutputConfig::File(output) => &output.reading,
            OutputConfig::Stdout(output) => &output.reading,
        }
    }

    /// The keys of the labels that decide where records go.
    pub fn labels(&self) -> Vec<&str> {
        match self {
            OutputConfig::Elasticsearch(output) => output.target.template().labels().collect(),
            OutputConfig::CloudWatch(output) => {
                output.log_group.labels().chain(output.log_stream.labels()).collect()
            }
            OutputConfig::File(output) => output.path.labels().collect(),
            OutputConfig::Stdout(_) => Vec::new(),
        }
    }

    /// Whether where records go depends on the id of the container's run.
    pub fn goes_by_run(&self) -> bool {
        match self {
            OutputConfig::Elasticsearch(output) => output.target.template().has_container_id(),
            OutputConfig::CloudWatch(output) => output.target().has_container_id(),
            OutputConfig::File(output) => output.path.has_container_id(),
            OutputConfig::Stdout(_) => false,
        }
    }

    /// The output's type, as `type` names it.
    pub fn kind(&self) -> &'static str {
        match self {
            OutputConfig::Elasticsearch(_) => "elasticsearch",
            OutputConfig::CloudWatch(_) => "cloudwatch",
            OutputConfig::File(_) => "file",
            OutputConfig::Stdout(_) => "stdout",
        }
    }
}

/// How an output reads the logs: keys of every output, whatever its type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReadingConfig {
    /// Where the output begins on its very first start. Default `"oldest"`.
    pub start: Start,
    /// No record older than this is sent on the very first start, 1 s or more. Default `"24h"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "Time")]
    pub max_age: Duration,
    /// How long a batch waits to become fuller, 0 to 5 min. Default `"1s"`; of cloudwatch `"5s"`, of
    /// file and stdout `"200ms"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "Time")]
    pub linger: Duration,
    /// How large a batch grows before compression, in bytes, 64 KiB to 32 MiB. Default `"4MiB"`.
    pub batch: ByteSize,
    /// Threads that read and encode for this output, 1 to 64. Default `1`.
    #[schemars(range(min = 1, max = 64))]
    pub workers: usize,
    /// What becomes of logs that the output does not get done with. Default `"wait"`.
    pub on_full: OnFull,
    /// How much of a container may be unread before its oldest is dropped, in bytes, 1 MiB to 1 TiB. Required
    /// with `on_full = "drop_oldest"`, and only there. Default: none.
    pub max_lag: Option<ByteSize>,
    /// How much of a container and of a namespace it takes in a second. Default: no limit.
    #[serde(skip)]
    #[schemars(!skip)]
    pub rate_limit: Option<RateLimitConfig>,
}

impl Default for ReadingConfig {
    fn default() -> ReadingConfig {
        ReadingConfig {
            start: Start::Oldest,
            max_age: Duration::from_secs(24 * 3600),
            linger: Duration::from_secs(1),
            batch: ByteSize::mib(4),
            workers: 1,
            on_full: OnFull::Wait,
            max_lag: None,
            rate_limit: None,
        }
    }
}

impl ReadingConfig {
    /// The defaults of an output on this machine, which gains little from waiting.
    fn local() -> ReadingConfig {
        ReadingConfig { linger: Duration::from_millis(200), ..ReadingConfig::default() }
    }
}

/// Where an output begins that has no positions yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest record that is there and not older than `max_age`.
    Oldest,
    /// With what is written from now on.
    Now,
}

/// What becomes of logs that an output does not get done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// They are read on in order, whenever that is; lost is only what the disk has no room to retain.
    Wait,
    /// Of a container of which more than `max_lag` is unread, the oldest records are passed over, counted as lost.
    DropOldest,
}

/// One JSON object on a line, in files that are rotated by size.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// How it reads.
    #[serde(skip)]
    #[schemars(!skip, flatten)]
    pub reading: ReadingConfig,
    /// The files, a template of an absolute path such as `"/var/log/taffrail-out/{namespace}.ndjson"`. Required.
    #[serde(deserialize_with = "values::path_template")]
    #[schemars(with = "values::PathTemplate")]
    pub path: Template,
    /// At what size a file is rotated, in bytes, 1 KiB to 1 TiB. Default `"100MiB"`.
    #[serde(default = "FileConfig::default_max_size")]
    pub max_size: ByteSize,
    /// How many rotated files are kept, 0 to 1000. Default `5`.
    #[serde(default = "FileConfig::default_keep")]
    #[schemars(range(min = 0, max = 1000))]
    pub keep: usize,
}

impl FileConfig {
    /// An output with the defaults of everything that has one.
    pub fn new(path: Template) -> FileConfig {
        let (max_size, keep) = (Self::default_max_size(), Self::default_keep());
        FileConfig { reading: ReadingConfig::local(), path, max_size, keep }
    }

    fn default_max_size() -> ByteSize {
        ByteSize::mib(100)
    }

    fn default_keep() -> usize {
        5
    }
}

/// Records on standard output, as for a look at what would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StdoutConfig {
    /// How it reads.
    #[serde(skip)]
    #[schemars(!skip, flatten)]
    pub reading: ReadingConfig,
    /// How a record is written. Default `"json"`.
    pub format: StdoutFormat,
    /// Whether text is coloured. Default `"auto"`.
    pub color: Color,
}

impl Default for StdoutConfig {
    fn default() -> StdoutConfig {
        StdoutConfig { reading: ReadingConfig::local(), format: StdoutFormat::Json, color: Color::Auto }
    }
}

/// How a record is written to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdoutFormat {
    /// A JSON object on a line.
    Json,
    /// A line to read.
    Text,
}

/// Whether text on standard output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// When it goes to a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod metadata_tests;
#[cfg(test)]
mod routes_tests;
#[cfg(test)]
mod tests;
