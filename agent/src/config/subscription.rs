//! The table `subscription` of a `cloudwatch` output: where what is in its groups goes on to.
//!
//! In: `[outputs.NAME.subscription]`. Out: a [`SubscriptionConfig`], each field a key. The agent puts the filter on groups
//! that it makes, `taffrail setup subscription` does all the rest; what both need to agree on, such as the name of a role, is
//! worked out here.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;

use super::connection::{RoleArn, role_arn};
use super::diagnostic::Refusal;
use super::schema::form;
use super::template::fnv1a;
use super::units::{quoted, refused, text};

/// PutSubscriptionFilter, `filterName`: at most 512 letters without `:` and `*`. Less serves for names of roles and policies.
const NAME_LETTERS: usize = 64;

/// PutSubscriptionFilter, `filterPattern`: at most 1024 letters.
const PATTERN_LETTERS: usize = 1024;

/// Letters of a cluster's name in names of ours.
const CLUSTER_LETTERS: usize = 20;

/// The group of the forwarder. Where `manifests/aws/path.yaml` made it, the cluster follows.
const FORWARDER_GROUP: &str = "/aws/lambda/taffrail-forwarder";

/// Where events go on to: what is delivered to the groups of this output goes on to a stream or a function.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionConfig {
    /// Where to: the ARN of a Kinesis data stream, a Lambda function, a Firehose stream, or a destination of CloudWatch Logs
    /// in another account. Required.
    pub to: Target,
    /// The name of the filter, and of all else that is made for it. Default `"taffrail"`.
    #[serde(default = "default_name", deserialize_with = "name")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_.-]{1,64}$"))]
    pub name: String,
    /// The role by which CloudWatch Logs writes to a stream. Default: one that `taffrail setup subscription` makes.
    #[serde(default, deserialize_with = "role_arn")]
    #[schemars(with = "RoleArn")]
    pub role: Option<String>,
    /// Which events go on, in CloudWatch's pattern language; `""` is all of them. Default `""`.
    #[serde(default, deserialize_with = "pattern")]
    #[schemars(length(max = 1024))]
    pub filter_pattern: String,
    /// How events are spread over the shards of a Kinesis stream. Default `"random"`.
    #[serde(default)]
    pub distribution: Distribution,
    /// Whether each of the output's groups has the filter, or the account as a whole. Default `"group"`.
    #[serde(default)]
    pub scope: SubscriptionScope,
    /// With `scope = "account"`: groups besides the pipeline's own that are left out. Default none.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Accounts that may subscribe to `to` as well: `taffrail setup subscription` then makes a destination for them, with the
    /// name of the subscription, and no filter here. Default none.
    #[serde(default, deserialize_with = "accounts")]
    #[schemars(with = "Vec<Account>")]
    pub senders: Vec<String>,
    /// The configuration's cluster, which names what is made for this configuration alone. No key: it is filled in.
    #[serde(skip)]
    pub cluster: String,
}

impl SubscriptionConfig {
    /// The role by which the service writes to the target: the configured one, or the one that set-up makes. None is needed
    /// for a function, which has a permission instead, nor for a destination, which has a role of its own.
    pub fn role_arn(&self) -> Option<String> {
        let role = || format!("arn:{}:iam::{}:role/{}", self.to.partition, self.to.account, self.made_role());
        self.needs_role().then(|| self.role.clone().unwrap_or_else(role))
    }

    /// The name of the role that set-up makes. IAM has no regions, so the name has it; and the cluster and the subscription,
    /// so that another configuration that leads to the same stream does not take this one's role away with its own.
    pub fn made_role(&self) -> String {
        let of = [self.to.arn.as_str(), &self.cluster, &self.name].join("\n");
        format!(
            "taffrail-logs-{}-{}-{:08x}",
            self.to.region,
            self.short_cluster(),
            fnv1a(of.as_bytes()) as u32
        )
    }

    /// The cluster, as far as it fits into a name of IAM (64 letters, with those of the longest region) and with letters that
    /// may be in one. Names that it goes into have a hash of all of it too.
    pub fn short_cluster(&self) -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        self.cluster.chars().take(CLUSTER_LETTERS).map(legal).collect()
    }

    /// Whether the service needs a role to write to the target.
    pub fn needs_role(&self) -> bool {
        matches!(self.to.kind, TargetKind::Kinesis | TargetKind::Firehose)
    }

    /// How events are spread, where the target can be told.
    pub fn distribution(&self) -> Option<Distribution> {
        matches!(self.to.kind, TargetKind::Kinesis | TargetKind::Destination).then_some(self.distribution)
    }

    /// Whether each group of the output has a filter of its own.
    pub fn is_by_group(&self) -> bool {
        self.scope == SubscriptionScope::Group && self.senders.is_empty()
    }

    /// Groups that a policy of the account must leave out: what the pipeline itself logs would go round for ever.
    pub fn left_out(&self) -> Vec<String> {
        let mut groups = vec![FORWARDER_GROUP.to_owned()];
        if !self.cluster.is_empty() {
            groups.push(format!("{FORWARDER_GROUP}-{}", self.cluster));
        }
        match self.to.kind {
            TargetKind::Lambda => groups.push(format!("/aws/lambda/{}", self.to.function().0)),
            TargetKind::Firehose => groups.push(format!("/aws/kinesisfirehose/{}", self.to.name())),
            TargetKind::Kinesis | TargetKind::Destination => {}
        }
        groups.extend(self.exclude.iter().cloned());
        groups.sort();
        groups.dedup();
        groups
    }
}

/// An ARN that a subscription can lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it was written.
    pub arn: String,
    /// What is there.
    pub kind: TargetKind,
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// Its region, in which the groups must be too.
    pub region: String,
    /// Its account.
    pub account: String,
    resource: String,
}

form!(
    Target,
    "SubscriptionTarget",
    "The ARN of a Kinesis data stream, a Lambda function, a Firehose stream or a destination of CloudWatch Logs.",
    {
        "type": "string",
        "pattern": "^arn:aws[a-z-]*:(kinesis:[^:]+:[0-9]{12}:stream/|lambda:[^:]+:[0-9]{12}:function:|firehose:[^:]+:[0-9]{12}:deliverystream/|logs:[^:]+:[0-9]{12}:destination:)",
    }
);

/// An account of AWS, for the schema.
pub(super) struct Account;

form!(
    Account,
    "Account",
    "An AWS account: twelve digits in quotes.",
    { "type": "string", "pattern": "^[0-9]{12}$" }
);

/// What a subscription leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A Kinesis data stream, which keeps events while nobody reads them.
    Kinesis,
    /// A function, called by the service without waiting for its end.
    Lambda,
    /// A Firehose stream.
    Firehose,
    /// A destination of CloudWatch Logs, in another account.
    Destination,
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetKind::Kinesis => "Kinesis stream",
            TargetKind::Lambda => "Lambda function",
            TargetKind::Firehose => "Firehose stream",
            TargetKind::Destination => "destination of another account",
        })
    }
}

impl Target {
    fn parse(arn: &str) -> Result<Target, Refusal> {
        let refuse = || {
            Refusal::new(
                format!("{} is not the ARN of anything that a subscription can lead to", quoted(arn)),
                "write \"arn:aws:kinesis:REGION:ACCOUNT:stream/NAME\", \"arn:aws:lambda:REGION:ACCOUNT:function:NAME\", \
                 \"arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME\" or \"arn:aws:logs:REGION:ACCOUNT:destination:NAME\"",
            )
        };
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, resource] = parts[..] else { return Err(refuse()) };
        let (kind, name) = match service {
            "kinesis" => (TargetKind::Kinesis, resource.strip_prefix("stream/")),
            "lambda" => (TargetKind::Lambda, resource.strip_prefix("function:")),
            "firehose" => (TargetKind::Firehose, resource.strip_prefix("deliverystream/")),
            "logs" => (TargetKind::Destination, resource.strip_prefix("destination:")),
            _ => return Err(refuse()),
        };
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:$".contains(&b))
        };
        let name = name.filter(|name| plain(name)).ok_or_else(refuse)?;
        if !partition.starts_with("aws") || !plain(partition) || !plain(region) || !is_account(account) {
            return Err(refuse());
        }
        Ok(Target {
            arn: arn.to_owned(),
            kind,
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            resource: name.to_owned(),
        })
    }

    /// The name within its kind.
    pub fn name(&self) -> &str {
        &self.resource
    }

    /// Of a function: its name, and its alias or version if the ARN has one.
    pub fn function(&self) -> (&str, Option<&str>) {
        match self.resource.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (&self.resource, None),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "an ARN in quotes", Target::parse)
    }
}

/// How events are spread over shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Evenly. Records of ours say their place, so their order is not lost.
    #[default]
    Random,
    /// Those of a log stream to one shard, which a busy stream can fill.
    ByLogStream,
}

impl Distribution {
    /// The service's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Distribution::Random => "Random",
            Distribution::ByLogStream => "ByLogStream",
        }
    }
}

/// What has the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionScope {
    /// Each group of the output.
    #[default]
    Group,
    /// All groups of the account and region, whoever writes to them, but the pipeline's own and those of `exclude`.
    Account,
}

fn default_name() -> String {
    "taffrail".to_owned()
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, "a name in quotes", |name| {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=NAME_LETTERS).contains(&name.len()) || !name.chars().all(legal) {
            return Err(Refusal::new(
                format!("{} cannot be the name of a subscription", quoted(name)),
                format!("use 1 to {NAME_LETTERS} letters, digits and any of - _ ."),
            ));
        }
        Ok(name.to_owned())
    })
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, "a filter pattern in quotes", |pattern| {
        if pattern.chars().count() > PATTERN_LETTERS {
            let message = format!("a filter pattern cannot have {} letters", pattern.chars().count());
            return Err(Refusal::new(message, format!("at most {PATTERN_LETTERS}")));
        }
        Ok(pattern.to_owned())
    })
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn accounts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let accounts = Vec::<String>::deserialize(deserializer)?;
    match accounts.iter().find(|account| !is_account(account)) {
        None => Ok(accounts),
        Some(other) => Err(refused(Refusal::new(
            format!("{} is not the number of an account", quoted(other)),
            "write its twelve digits in quotes, as in [\"123456789012\"]",
        ))),
    }
}
