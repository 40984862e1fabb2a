//! The keys of outputs of type `cloudwatch`.
//!
//! In: an output's table. Out: a [`CloudWatchConfig`], each field a key. What must fit together is checked where the
//! table is read (`load/cloudwatch.rs`).

use std::collections::BTreeMap;
use std::fmt;

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;

use super::connection::{AwsAuth, AwsName, RoleArn, aws_name, role_arn};
use super::diagnostic::Refusal;
use super::schema::form;
use super::units::{quoted, refused, text};
use super::{ByteSize, ReadingConfig, SubscriptionConfig, Template, values};

/// The days that PutRetentionPolicy takes, `retentionInDays`.
pub const RETENTION_DAYS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// CreateLogGroup, `tags`: at most 50; a key has at most 128 letters, a value 256.
const MOST_TAGS: usize = 50;
const TAG_KEY: usize = 128;
const TAG_VALUE: usize = 256;

/// Events to Amazon CloudWatch Logs, by PutLogEvents. Delivery is at least once: a call whose answer was lost is made again,
/// and may double what it held.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloudWatchConfig {
    /// How it reads. Here `linger` is at least so long: it grows as far as `account_tps` and `nodes` ask for. Default of
    /// `linger`: `"5s"`.
    #[serde(skip)]
    #[schemars(!skip, flatten)]
    pub reading: ReadingConfig,
    /// The log group, a template that begins with fixed text. Made on first need. Default `"/eks/{cluster}"`.
    #[serde(deserialize_with = "values::log_group_template")]
    pub log_group: Template,
    /// The log stream, a template. Made on first need. In large fleets `"{node}"` makes one stream a node, which needs the
    /// fewest calls. Default `"{namespace}/{pod}/{container}"`.
    #[serde(deserialize_with = "values::log_stream_template")]
    #[schemars(with = "values::StreamTemplate")]
    pub log_stream: Template,
    /// How long a group that the output makes keeps its events, in days: one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180,
    /// 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653. A group that is there already stays as it is.
    /// Default: for ever.
    #[serde(deserialize_with = "retention_days")]
    #[schemars(extend("enum" = RETENTION_DAYS))]
    pub retention_days: Option<u32>,
    /// Tags of a group that the output makes, at most 50. Default none.
    #[serde(deserialize_with = "tags")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub tags: BTreeMap<String, String>,
    /// The ARN of the KMS key that a group which the output makes is encrypted with. Default: CloudWatch's own.
    #[serde(deserialize_with = "kms_key")]
    #[schemars(with = "KmsKey")]
    pub kms_key: Option<String>,
    /// The class of a group that the output makes: it can never be changed, and `"infrequent_access"` costs half but has
    /// neither subscriptions nor metric filters. Default `"standard"`.
    pub class: LogClass,
    /// The region. Default: as the AWS CLI finds it (`AWS_REGION`, profile, instance).
    #[serde(deserialize_with = "aws_name")]
    #[schemars(with = "AwsName")]
    pub region: Option<String>,
    /// The address of the service where it is not the public one of the region, such as a VPC endpoint. Default: that of
    /// the region.
    #[serde(deserialize_with = "endpoint")]
    #[schemars(with = "values::Endpoint")]
    pub endpoint: Option<Url>,
    /// A role to assume with the credentials found. Default: none.
    #[serde(deserialize_with = "role_arn")]
    #[schemars(with = "RoleArn")]
    pub role_arn: Option<String>,
    /// What the role's trust policy may ask for besides. Only with `role_arn`. Default: none.
    #[serde(deserialize_with = "aws_name")]
    #[schemars(with = "AwsName")]
    pub external_id: Option<String>,
    /// Whether the FIPS endpoint of the region is used. Not with `endpoint`. Default `false`.
    pub fips: bool,
    /// Whether the endpoint of IPv6 and IPv4 is used. Not with `endpoint`. Default `false`.
    pub dual_stack: bool,
    /// The only regions that logs may go to: in any other nothing is sent. Default: any.
    pub allowed_regions: Vec<String>,
    /// What an event holds. Default `"json"`.
    pub format: EventFormat,
    /// What the fields of an event are called. Only with `format = "json"`. Default `"ecs"`.
    pub fields: FieldNames,
    /// What becomes of records that CloudWatch does not take: older than 14 days or the group's retention, or more than
    /// two hours ahead. What is dropped is counted by container. Default `"drop"`.
    pub rejected: Rejected,
    /// How much of what was rejected or refused is kept on disk, 1 MiB to 1 GiB. Default `"100MiB"`.
    pub dead_letters: ByteSize,
    /// PutLogEvents calls a second that the account may make in this region (Service Quotas), 1 to 1,000,000. Default `5000`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub account_tps: u32,
    /// How many nodes share them: batches then wait longer, as far as needed, 1 to 100,000. Default `1`.
    #[schemars(range(min = 1, max = 100_000))]
    pub nodes: u32,
    /// PutLogEvents calls under way at a time, 1 to 64; those of one stream follow each other. Default `8`.
    #[schemars(range(min = 1, max = 64))]
    pub in_flight: usize,
    /// Where what is in its groups goes on to: the table `subscription`. Groups that the agent makes have the filter from the
    /// start; `taffrail setup subscription` sees to the rest. Default: nowhere.
    #[serde(skip)]
    #[schemars(!skip)]
    pub subscription: Option<Box<SubscriptionConfig>>,
}

impl Default for CloudWatchConfig {
    fn default() -> CloudWatchConfig {
        CloudWatchConfig {
            reading: CloudWatchConfig::default_reading(),
            log_group: fixed("/eks/{cluster}"),
            log_stream: fixed("{namespace}/{pod}/{container}"),
            retention_days: None,
            tags: BTreeMap::new(),
            kms_key: None,
            class: LogClass::default(),
            region: None,
            endpoint: None,
            role_arn: None,
            external_id: None,
            fips: false,
            dual_stack: false,
            allowed_regions: Vec::new(),
            format: EventFormat::default(),
            fields: FieldNames::default(),
            rejected: Rejected::default(),
            dead_letters: ByteSize::mib(100),
            account_tps: 5000,
            nodes: 1,
            in_flight: 8,
            subscription: None,
        }
    }
}

impl CloudWatchConfig {
    /// How it reads where nothing is said.
    pub fn default_reading() -> ReadingConfig {
        ReadingConfig { linger: std::time::Duration::from_secs(5), ..ReadingConfig::default() }
    }

    /// Group and stream as one template, with a `:` between them, which neither can hold.
    pub fn target(&self) -> Template {
        self.log_group.joined(":", &self.log_stream)
    }

    /// How events are made.
    pub fn event_format(&self) -> EventFormat {
        match self.fields {
            FieldNames::Ecs => self.format,
            FieldNames::ContainerInsights => EventFormat::Insights,
        }
    }

    /// How its requests are signed.
    pub fn auth(&self) -> AwsAuth {
        AwsAuth {
            service: None,
            region: self.region.clone(),
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
        }
    }

    /// Whether logs may go to a region.
    pub fn allows(&self, region: &str) -> bool {
        self.allowed_regions.is_empty() || self.allowed_regions.iter().any(|allowed| allowed == region)
    }
}

fn fixed(text: &str) -> Template {
    Template::parse_unanchored(text).unwrap_or_else(|refusal| unreachable!("a template of ours: {refusal}"))
}

/// What an event holds. Events of the embedded metric format (EMF) are the line as it stands in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventFormat {
    /// The line as the program wrote it. An empty line is a space, since an event cannot be empty.
    Raw,
    /// The document that an Elasticsearch output sends, with the record's id as `taffrail.id`.
    #[default]
    Json,
    /// The document without the metadata of its container, which each call carries once: `taffrail.meta` is the revision
    /// that both have.
    Compact,
    /// The document in the names of Container Insights, which `fields` asks for.
    #[serde(skip)]
    Insights,
}

impl EventFormat {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            EventFormat::Raw => "raw",
            EventFormat::Json => "json",
            EventFormat::Compact => "compact",
            EventFormat::Insights => "json",
        }
    }
}

/// What the fields of an event are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FieldNames {
    /// As in the documents of an Elasticsearch output: `message`, `kubernetes.pod.name`.
    #[default]
    Ecs,
    /// As AWS's Fluent Bit set-up for Container Insights has them, so that queries of its log groups go on working: of a
    /// container `time`, `stream`, `log`, `log_processed` (a JSON line's object) and `kubernetes.pod_name`,
    /// `namespace_name`, `pod_id`, `host`, `container_name`, `docker_id`, `container_image`, `pod_ip`, `labels` and
    /// `annotations`, as `[metadata]` chooses; of a host file `message`, and of a line of syslog `host`, `ident` and `pid`.
    ContainerInsights,
}

/// What becomes of a record that is too old or too new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    /// It is dropped and counted.
    #[default]
    Drop,
    /// It is kept on this node.
    DeadLetter,
    /// It is sent with the time now: a raw line then begins with its own time in brackets, a document has it anyway.
    Now,
}

/// The class of a log group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogClass {
    /// With all there is.
    #[default]
    Standard,
    /// Cheaper, without subscriptions.
    InfrequentAccess,
}

impl fmt::Display for LogClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogClass::Standard => "STANDARD",
            LogClass::InfrequentAccess => "INFREQUENT_ACCESS",
        })
    }
}

fn retention_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let days = u32::deserialize(deserializer)?;
    if RETENTION_DAYS.contains(&days) {
        return Ok(Some(days));
    }
    let next = RETENTION_DAYS.iter().find(|allowed| **allowed > days).unwrap_or(&RETENTION_DAYS[21]);
    let all: Vec<String> = RETENTION_DAYS.iter().map(u32::to_string).collect();
    Err(refused(Refusal::new(
        format!("CloudWatch cannot keep events for {days} days"),
        format!("write {next}, or another of {}; leave it out for ever", all.join(", ")),
    )))
}

fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let tags = BTreeMap::<String, String>::deserialize(deserializer)?;
    if tags.len() > MOST_TAGS {
        let message = format!("a group cannot have {} tags", tags.len());
        return Err(refused(Refusal::new(message, format!("at most {MOST_TAGS}"))));
    }
    for (key, value) in &tags {
        let strange = |text: &str| !text.chars().all(|c| c.is_alphanumeric() || " _.:/=+@-".contains(c));
        if key.is_empty() || key.chars().count() > TAG_KEY || strange(key) || key.starts_with("aws:") {
            return Err(refused(Refusal::new(
                format!("{} cannot be the key of a tag", quoted(key)),
                format!(
                    "1 to {TAG_KEY} letters, digits, spaces and any of _ . : / = + @ -, not beginning with `aws:`"
                ),
            )));
        }
        if value.chars().count() > TAG_VALUE || strange(value) {
            return Err(refused(Refusal::new(
                format!("{} cannot be the value of a tag", quoted(value)),
                format!("at most {TAG_VALUE} letters, digits, spaces and any of _ . : / = + @ -"),
            )));
        }
    }
    Ok(tags)
}

/// The ARN of a KMS key, for the schema.
struct KmsKey;

form!(
    KmsKey,
    "KmsKey",
    "The ARN of a KMS key, as in `\"arn:aws:kms:REGION:ACCOUNT:key/ID\"`; an alias will not do.",
    { "type": "string", "pattern": "^arn:aws.*:kms:.*:key/" }
);

fn kms_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "an ARN in quotes", |arn| {
        if !arn.starts_with("arn:aws") || !arn.contains(":kms:") || !arn.contains(":key/") {
            let message = format!("{} is not the ARN of a KMS key", quoted(arn));
            return Err(Refusal::new(
                message,
                "write it as \"arn:aws:kms:REGION:ACCOUNT:key/ID\"; an alias will not do",
            ));
        }
        Ok(Some(arn.to_owned()))
    })
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    text(deserializer, "a URL in quotes", |text| values::endpoint(text).map(Some))
}

#[cfg(test)]
#[path = "cloudwatch_tests.rs"]
mod tests;
