//! The keys of outputs of type `elasticsearch`.
//!
//! In: an output's table. Out: an [`ElasticsearchConfig`], each field a key. What must fit together is checked where
//! the table is read.

use std::time::Duration;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::{AuthConfig, TlsConfig};
use super::{ByteSize, IndexSetup, ReadingConfig, Template, index_setup, units, values};

/// Documents to Elasticsearch or OpenSearch, by the bulk API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// How it reads.
    #[serde(skip)]
    #[schemars(!skip, flatten)]
    pub reading: ReadingConfig,
    /// The nodes of the destination, one or more, such as `"https://search.example:9200"`: http or https, a path
    /// only where a proxy wants a prefix (kept without its last `/`), no credentials. Required.
    #[serde(deserialize_with = "values::endpoints")]
    #[schemars(with = "Vec<values::Endpoint>")]
    pub endpoints: Vec<Url>,
    /// Where documents go: by exactly one of the keys `data_stream` and `index`, each a template. Required.
    #[schemars(flatten)]
    pub target: Target,
    /// How requests are authenticated: `"aws"`, or a table with a `type`. Default: not at all.
    #[serde(skip)]
    #[schemars(!skip, default)]
    pub auth: AuthConfig,
    /// Whom the output trusts on https, and what it shows of itself. Default: the authorities that the system trusts.
    #[serde(skip)]
    #[schemars(!skip, default)]
    pub tls: TlsConfig,
    /// How the indices that it fills are made, and how long they are kept: a table, for `taffrail setup elasticsearch`; or
    /// `true`, which lets an agent do it when it starts. Default `false`.
    #[serde(skip)]
    #[schemars(!skip, default, schema_with = "index_setup::or_the_word")]
    pub setup: IndexSetup,
    /// Whether each document has an `_id` made of its place in its log, so that one that is sent twice is recognised.
    /// `false`: the server makes ids, which it indexes faster, and delivery is at least once: a retry after a lost reply,
    /// or a restart, may double records. For serverless time-series collections, which refuse custom ids. Default `true`.
    #[serde(default = "ElasticsearchConfig::default_document_id")]
    pub document_id: bool,
    /// What the bulk API does with a document, `"create"` or `"index"`; a data stream takes only `create`. Default
    /// `"create"`.
    #[serde(default)]
    pub op: BulkOp,
    /// The ingest pipeline that documents go through, by its name there, 1 to 255 bytes. What it fails on is refused, as
    /// by a mapping; while there is no such pipeline, records wait. Default: what the index itself says.
    #[serde(default, deserialize_with = "values::pipeline")]
    #[schemars(length(min = 1, max = 255))]
    pub pipeline: Option<String>,
    /// How much of what the destination refused is kept on disk, 1 MiB to 1 GiB; beyond it the oldest goes, counted.
    /// Default `"100MiB"`.
    #[serde(default = "ElasticsearchConfig::default_dead_letters")]
    pub dead_letters: ByteSize,
    /// How requests are compressed. Default `"gzip"`.
    #[serde(default)]
    pub compression: Compression,
    /// How hard gzip tries, 1 (quick) to 9 (small). Default `1`.
    #[serde(default = "ElasticsearchConfig::default_compression_level")]
    #[schemars(range(min = 1, max = 9))]
    pub compression_level: u32,
    /// Requests under way at a time, 1 to 64. Default `4`.
    #[serde(default = "ElasticsearchConfig::default_in_flight")]
    #[schemars(range(min = 1, max = 64))]
    pub in_flight: usize,
    /// How long one request may take, 100 ms to 1 h. Default `"60s"`.
    #[serde(default = "ElasticsearchConfig::default_timeout", deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub timeout: Duration,
    /// The longest wait before the first retry, doubled with each further one, 1 ms to 1 h. An endpoint of several that
    /// failed is left alone as long. Default `"500ms"`.
    #[serde(default = "ElasticsearchConfig::default_retry_initial", deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub retry_initial: Duration,
    /// The longest wait before any retry, from `retry_initial` to 1 h. Default `"30s"`.
    #[serde(default = "ElasticsearchConfig::default_retry_max", deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub retry_max: Duration,
}

impl ElasticsearchConfig {
    /// An output with the defaults of everything that has one.
    pub fn new(endpoints: Vec<Url>, target: Target) -> ElasticsearchConfig {
        ElasticsearchConfig {
            reading: ReadingConfig::default(),
            endpoints,
            target,
            auth: AuthConfig::None,
            tls: TlsConfig::default(),
            setup: IndexSetup::default(),
            document_id: Self::default_document_id(),
            op: BulkOp::default(),
            pipeline: None,
            dead_letters: Self::default_dead_letters(),
            compression: Compression::default(),
            compression_level: Self::default_compression_level(),
            in_flight: Self::default_in_flight(),
            timeout: Self::default_timeout(),
            retry_initial: Self::default_retry_initial(),
            retry_max: Self::default_retry_max(),
        }
    }

    /// The level for gzip, or `None` where requests are not compressed.
    pub fn gzip_level(&self) -> Option<u32> {
        match self.compression {
            Compression::Gzip => Some(self.compression_level),
            Compression::None => None,
        }
    }

    fn default_document_id() -> bool {
        true
    }

    fn default_dead_letters() -> ByteSize {
        ByteSize::mib(100)
    }

    fn default_compression_level() -> u32 {
        1
    }

    fn default_in_flight() -> usize {
        4
    }

    fn default_timeout() -> Duration {
        Duration::from_secs(60)
    }

    fn default_retry_initial() -> Duration {
        Duration::from_millis(500)
    }

    fn default_retry_max() -> Duration {
        Duration::from_secs(30)
    }
}

/// Where documents go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The data stream that documents go to, such as `"logs-{namespace}-prod"`: it needs an index template with `data_stream`
    /// at the server. Either this or `index` is required. Default: none.
    DataStream(#[serde(deserialize_with = "values::index_template")] Template),
    /// The index that documents go to, such as `"logs-{date}"`. Either this or `data_stream` is required. Default: none.
    Index(#[serde(deserialize_with = "values::index_template")] Template),
}

impl Target {
    /// The name's template.
    pub fn template(&self) -> &Template {
        match self {
            Target::DataStream(template) | Target::Index(template) => template,
        }
    }
}

/// What the bulk API does with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkOp {
    /// It is created, unless one with its `_id` exists.
    #[default]
    Create,
    /// It is created, or replaces the one with its `_id`.
    Index,
}

impl BulkOp {
    /// The action's name in a bulk request, and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            BulkOp::Create => "create",
            BulkOp::Index => "index",
        }
    }
}

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// gzip, at `compression_level`.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// What is said of an output with these lines, one mistake or none.
    fn said(lines: &str) -> String {
        let text = format!("[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://a:1\"]\n{lines}\n");
        match Config::parse(&text, "t.toml") {
            Ok(_) => String::new(),
            Err(problems) => {
                let [problem] = problems.0.as_slice() else { panic!("{problems}") };
                assert_eq!(problem.place.as_ref().map(|place| place.line), Some(5), "{problem}");
                format!("{}; {}", problem.message, problem.help)
            }
        }
    }

    #[test]
    fn what_an_option_cannot_be_is_told() {
        for (line, message) in [
            ("document_id = \"no\"", "`document_id` cannot be `no`; expected a boolean: true or false"),
            ("op = \"update\"", "`op` cannot be `update`; allowed here: `create` or `index`"),
            ("pipeline = \"\"", "`pipeline`: `` cannot be the name of a pipeline; 1 to 255 bytes"),
            ("pipeline = \"a\\nb\"", "`pipeline`: `a\\nb` cannot be the name of a pipeline; 1 to 255 bytes"),
            ("dead_letters = \"2GiB\"", "`dead_letters` is too large; at most 1GiB"),
            ("dead_letters = \"1KiB\"", "`dead_letters` is too small; at least 1MiB"),
        ] {
            let said = said(&format!("index = \"logs\"\n{line}"));
            assert!(said.starts_with(message), "{said}");
        }
        let long = |length| said(&format!("index = \"logs\"\npipeline = \"{}\"", "p".repeat(length)));
        assert!(long(255).is_empty() && long(256).contains("1 to 255 bytes"));
    }

    #[test]
    fn a_data_stream_takes_only_create() {
        assert_eq!(said("index = \"logs\"\nop = \"index\""), "");
        assert_eq!(said("data_stream = \"logs\"\nop = \"create\""), "");
        let refused = said("data_stream = \"logs\"\nop = \"index\"");
        assert!(
            refused.starts_with("a data stream does not take `op = \"index\"`; leave it out"),
            "{refused}"
        );
    }
}
