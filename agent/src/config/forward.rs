//! `[forward]`: what carries logs from CloudWatch Logs' subscription to Elasticsearch.
//!
//! In: one table of the configuration. Out: its checked values. The agent itself has no use for it: it is for `taffrail
//! forward` and the Lambda function `taffrail-forwarder`, whose one output says where documents go.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;

use super::diagnostic::Refusal;
use super::schema::form;
use super::subscription::Account;
use super::units::{self, quoted, text};
use super::{ByteSize, Start, Template, values};

/// What carries logs on from CloudWatch Logs' subscription to the one output, of type `elasticsearch`: for `taffrail forward` and
/// the Lambda function `taffrail-forwarder`. The agent itself has no use for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardConfig {
    /// Whose events are Taffrail's own records, and become the agent's documents under the agent's `_id`s. Name only
    /// groups that agents alone may write to, with `format` `"json"` or `"compact"`. Default none: all is foreign.
    pub trusted: Vec<TrustedConfig>,
    /// Index or data stream (whichever the output writes to) of foreign events, a template in which only `{date}`,
    /// `{cluster}` and `{source}` (`cloudwatch`) say something. Default: the output's own, in which then `{namespace}` is
    /// `cloudwatch` and the other placeholders `none`.
    #[serde(deserialize_with = "foreign")]
    pub foreign: Option<Template>,
    /// Whether CloudWatch is asked (FilterLogEvents) for the metadata of a compact event that came without it. Default `true`.
    pub lookup: bool,
    /// For how long it is asked again, 0 to 1 h; then the event is sent as a foreign one that says so. Default `"20s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub lookup_for: Duration,
    /// Where records go that can never be indexed: `"s3://BUCKET/PREFIX"` or `"sqs:URL"`. The Lambda function must have one.
    /// Default: the state directory, as the agent's (`taffrail dead-letter`).
    #[serde(deserialize_with = "dead_letters")]
    #[schemars(with = "LettersAway")]
    pub dead_letters: Option<LettersAway>,
    /// How large a subscription record may be once it is inflated, in bytes, 1 MiB to 1 GiB. Default `"64MiB"`.
    pub max_inflated: ByteSize,
    /// Where reading a Kinesis stream begins that was not read before. Default `"oldest"`.
    pub start: Start,
    /// How often a shard in which nothing comes is asked, 200 ms to 1 min. Default `"1s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub poll: Duration,
    /// How often the stream is asked for new shards, 1 s to 1 h. Default `"30s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub discover: Duration,
    /// How several replicas share the shards of one stream: the table `leases`. Default: one process reads them all.
    #[serde(skip)]
    #[schemars(!skip)]
    pub leases: Option<LeasesConfig>,
}

impl Default for ForwardConfig {
    fn default() -> ForwardConfig {
        ForwardConfig {
            trusted: Vec::new(),
            foreign: None,
            lookup: true,
            lookup_for: Duration::from_secs(20),
            dead_letters: None,
            max_inflated: ByteSize::mib(64),
            start: Start::Oldest,
            poll: Duration::from_secs(1),
            discover: Duration::from_secs(30),
            leases: None,
        }
    }
}

/// `[forward.leases]`: replicas that share a stream's shards, by Leases of the Kubernetes API. Checkpoints are kept there, and
/// `dead_letters` must be set, since a replica's disk goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeasesConfig {
    /// Where the Leases are made. Default: the namespace of the service account, or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// What the replicas have in common, and their Leases' names begin with: another name, and it is another reader of the
    /// stream, with checkpoints of its own. Default `"taffrail-forward"`.
    #[serde(deserialize_with = "lease_name")]
    pub name: String,
    /// Who this replica is, for people: a few letters of chance are added at each start. Default: the environment's `POD_NAME`,
    /// else the host's name.
    pub identity: String,
    /// A replica that has not renewed its Leases for so long has lost them, and reads no more; others take them over when they
    /// have seen no renewal for so long. A third of it is how often they are renewed, 3 s to 5 min. Default `"15s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub duration: Duration,
}

impl Default for LeasesConfig {
    fn default() -> LeasesConfig {
        LeasesConfig {
            namespace: None,
            name: "taffrail-forward".to_owned(),
            identity: values::default_node(std::env::var("POD_NAME").ok()),
            duration: Duration::from_secs(15),
        }
    }
}

/// Groups whose events are Taffrail's own records: `{ owner = "123456789012", log_group = "/eks/prod" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedConfig {
    /// The account that owns the group, twelve digits. Required.
    #[serde(deserialize_with = "owner")]
    #[schemars(with = "Account")]
    pub owner: String,
    /// The group, as the agent's `log_group`: what a document says of its cluster, pod and so on must give that name.
    /// Required.
    #[serde(deserialize_with = "values::log_group_template")]
    pub log_group: Template,
    /// The stream, as the agent's `log_stream`. Default `"{namespace}/{pod}/{container}"`.
    #[serde(default = "TrustedConfig::default_stream", deserialize_with = "values::log_stream_template")]
    #[schemars(with = "values::StreamTemplate")]
    pub log_stream: Template,
}

impl TrustedConfig {
    fn default_stream() -> Template {
        super::CloudWatchConfig::default().log_stream
    }
}

/// A place for dead letters beyond this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LettersAway {
    /// Objects in a bucket, under a prefix (empty, or without its last `/`).
    S3 {
        /// The bucket.
        bucket: String,
        /// What keys begin with.
        prefix: String,
    },
    /// Messages in a queue, by its URL.
    Sqs(String),
}

form!(
    LettersAway,
    "LettersAway",
    "`\"s3://BUCKET/PREFIX\"`, or `\"sqs:\"` and the queue's URL.",
    { "type": "string", "pattern": "^(s3://[a-z0-9.-]{3,63}(/|$)|sqs:https?://)" }
);

impl LettersAway {
    /// Reads `s3://BUCKET/PREFIX` or `sqs:URL`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<LettersAway, Refusal> {
        if let Some(place) = text.strip_prefix("s3://") {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            let legal =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
            if (3..=63).contains(&bucket.len()) && bucket.bytes().all(legal) {
                let (bucket, prefix) = (bucket.to_owned(), prefix.trim_end_matches('/').to_owned());
                return Ok(LettersAway::S3 { bucket, prefix });
            }
        }
        if let Some(url) = text.strip_prefix("sqs:")
            && (url.starts_with("https://") || url.starts_with("http://"))
        {
            return Ok(LettersAway::Sqs(url.to_owned()));
        }
        Err(Refusal::new(
            format!("{} is no place for dead letters", quoted(text)),
            "write \"s3://BUCKET/PREFIX\", or \"sqs:\" and the queue's URL",
        ))
    }
}

fn dead_letters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LettersAway>, D::Error> {
    text(deserializer, "a place such as \"s3://BUCKET/PREFIX\"", |text| LettersAway::parse(text).map(Some))
}

fn foreign<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    values::index_template(deserializer).map(Some)
}

fn lease_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, "a name in quotes", |text| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        // With what is added to it, it is a name and a label's value of the Kubernetes API.
        if (1..=63).contains(&text.len())
            && text.bytes().all(legal)
            && !text.starts_with('-')
            && !text.ends_with('-')
        {
            return Ok(text.to_owned());
        }
        let message = format!("{} cannot begin the name of a Lease", quoted(text));
        Err(Refusal::new(
            message,
            "write small letters, digits and hyphens, 63 at most, such as \"taffrail-forward\"",
        ))
    })
}

fn owner<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, "an account in quotes", |text| {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(text.to_owned());
        }
        let message = format!("{} is not the number of an AWS account", quoted(text));
        Err(Refusal::new(message, "write its twelve digits in quotes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(lines: &str) -> Result<Config, String> {
        let text = format!(
            "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://a:1\"]\nindex = \"logs\"\n[forward]\n{lines}\n"
        );
        Config::parse(&text, "t.toml").map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_table_is_read() {
        let config = parse(
            "trusted = [{ owner = \"123456789012\", log_group = \"/eks/{cluster}\" }]\ndead_letters = \"s3://letters/a/b/\"\nforeign = \"logs-other\"\nlookup = false",
        )
        .unwrap();
        let forward = config.forward;
        assert_eq!(forward.trusted[0].log_stream.text(), "{namespace}/{pod}/{container}");
        let away = LettersAway::S3 { bucket: "letters".into(), prefix: "a/b".into() };
        assert_eq!((forward.dead_letters, forward.lookup), (Some(away), false));
        assert_eq!(parse("").unwrap().forward, ForwardConfig::default());
        let shared =
            parse("dead_letters = \"s3://letters\"\n[forward.leases]\nidentity = \"r1\"\nduration = \"30s\"")
                .unwrap();
        let leases = shared.forward.leases.unwrap();
        assert_eq!((leases.identity.as_str(), leases.duration.as_secs(), leases.namespace), ("r1", 30, None));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (lines, message) in [
            ("trusted = [{ owner = \"1\", log_group = \"/eks/a\" }]", "is not the number of an AWS account"),
            ("trusted = [{ owner = \"123456789012\" }]", "`trusted` lacks the key `log_group`"),
            ("dead_letters = \"/tmp\"", "is no place for dead letters"),
            ("foreign = \"Logs\"", "capital letter"),
            ("max_inflated = \"2GiB\"", "`max_inflated` is too large"),
            ("poll = \"1ms\"", "`poll` is too small"),
            ("discover = \"1ms\"", "`discover` is too small"),
            ("lookup_for = \"2h\"", "`lookup_for` is too large"),
            ("trust = []", "unknown key `trust`"),
            (
                "dead_letters = \"s3://letters\"\n[forward.leases]\nduration = \"1s\"",
                "`duration` is too small",
            ),
            (
                "dead_letters = \"s3://letters\"\nleases = { name = \"A b\" }",
                "cannot begin the name of a Lease",
            ),
            ("dead_letters = \"s3://letters\"\n[forward.leases]\nnamespce = \"a\"", "unknown key `namespce`"),
            ("leases = true", "`leases` must be a table"),
            ("[forward.leases]", "`dead_letters` is missing"),
        ] {
            let said = parse(lines).expect_err(lines);
            assert!(said.contains(message), "{said}");
        }
    }
}
