//! `taffrail check --connect` of a `cloudwatch` output: whether CloudWatch Logs would take its events, and has its groups.
//!
//! In: the configuration. Out: what the service says, as the agent would hear it: names, TLS, credentials, region, rights,
//! quotas, groups that are there or would be made, their subscription. Sends questions, and one event to a stream that there is
//! not, which is refused either way: for its rights or for the stream. Stores nothing, makes nothing.

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::types::{InputLogEvent, PolicyType};

use super::example;
use crate::clock::unix_nanos;
use crate::config::template::Safe;
use crate::config::{CloudWatchConfig, Config, SubscriptionConfig};
use crate::output::cloudwatch::client::{Fault, Service, denial, is_identity};
use crate::output::http::words;

/// Credentials alone may take half a minute, where the instance's metadata does not answer.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Tries of a call that is throttled, and the first wait between them, which doubles.
const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_millis(250);

/// DescribeLogGroups, `limit`: at most 50. More are not looked at.
const GROUPS: i32 = 50;

/// Groups whose filter is asked for, of the many that a template may have.
const FILTERS: usize = 5;

/// Where an output sends to, in words.
pub fn place(output: &CloudWatchConfig) -> String {
    let region = output.region.as_ref().map_or(String::new(), |region| format!(" in {region}"));
    let at = output.endpoint.as_ref().map_or(String::new(), |url| format!(" at {url}"));
    format!("CloudWatch Logs{region}{at}")
}

/// What the service says.
pub async fn ask(config: &Config, output: &CloudWatchConfig) -> Result<String, String> {
    let service = Service::new(output);
    let (client, region) = service.client().await?;
    let asked = Asked { service: &service, client, region, output };
    let group = example(config, &output.log_group, Safe::LogGroup);
    asked.may_write(&group).await?;
    let (mut said, groups) = asked.groups(config).await?;
    if let Some(subscription) = &output.subscription {
        said.push_str(&asked.subscription(subscription, &groups).await?);
    }
    Ok(format!("takes events in {region}; {said}"))
}

struct Asked<'a> {
    service: &'a Service,
    client: &'a Client,
    region: &'a str,
    output: &'a CloudWatchConfig,
}

impl Asked<'_> {
    /// Whether events may be put to a group. Who may not is told so before the service looks for the stream.
    async fn may_write(&self, group: &str) -> Result<(), String> {
        let stream = format!("taffrail-check-{:016x}", fastrand::u64(..));
        let event = InputLogEvent::builder().timestamp(unix_nanos() / 1_000_000).message("check");
        let event = event.build().map_err(|error| error.to_string())?;
        let put = || {
            let call = self.client.put_log_events().log_group_name(group).log_stream_name(&stream);
            call.log_events(event.clone()).send()
        };
        match self.call(put).await {
            Ok(_) | Err(Fault::Missing) => Ok(()),
            Err(fault) => Err(self.told("logs:PutLogEvents", group, &fault)),
        }
    }

    /// What of the output's groups is there, in words and by name.
    async fn groups(&self, config: &Config) -> Result<(String, Vec<String>), String> {
        let template = &self.output.log_group;
        let (prefix, whole) = template.known_of(&config.cluster);
        let list = || self.client.describe_log_groups().log_group_name_prefix(&prefix).limit(GROUPS).send();
        let reply = match self.call(list).await {
            Ok(reply) => reply,
            // The agent itself asks for nothing: a role that is made for it alone may not.
            Err(fault @ Fault::Denied(_)) => {
                let why = self.told("logs:DescribeLogGroups", &prefix, &fault);
                return Ok((
                    format!(
                        "which groups are there may not be asked, which the agent itself never does ({why})"
                    ),
                    Vec::new(),
                ));
            }
            Err(fault) => return Err(self.told("logs:DescribeLogGroups", &prefix, &fault)),
        };
        let names = reply.log_groups().iter().filter_map(|group| group.log_group_name());
        let ours =
            |name: &&str| if whole { *name == prefix } else { template.recognises(&config.cluster, name) };
        let groups: Vec<String> = names.filter(ours).map(str::to_owned).collect();
        let said = match (whole, groups.len()) {
            (true, 0) => format!(
                "the log group {prefix} is not there yet: the agent makes it, for which it needs logs:CreateLogGroup"
            ),
            (true, _) => format!("the log group {prefix} is there"),
            (false, count) => {
                let more = if reply.next_token().is_some() { " at least" } else { "" };
                format!(
                    "of {template}{more} {count} are there, and the agent makes others as they are needed"
                )
            }
        };
        Ok((said, groups))
    }

    /// Whether events go on to where the subscription says.
    async fn subscription(&self, wanted: &SubscriptionConfig, groups: &[String]) -> Result<String, String> {
        const REMEDY: &str = "`taffrail setup subscription` puts that right";
        let to = &wanted.to.arn;
        if !wanted.is_by_group() {
            if !wanted.senders.is_empty() {
                return Ok(format!("; whether other accounts send to {to} is not asked here"));
            }
            let kind = PolicyType::SubscriptionFilterPolicy;
            let list = || self.client.describe_account_policies().policy_type(kind.clone()).send();
            let reply = match self.call(list).await {
                Ok(reply) => reply,
                Err(fault) => return self.unknown("logs:DescribeAccountPolicies", "*", &fault),
            };
            let ours = |document: &str| document.contains(&format!("\"{to}\""));
            let mut named =
                reply.account_policies().iter().filter(|policy| policy.policy_name() == Some(&wanted.name));
            return match named.next() {
                Some(policy) if policy.policy_document().is_some_and(ours) => {
                    Ok(format!("; the account's policy {} leads to {to}", wanted.name))
                }
                Some(_) => {
                    Err(format!("the account's policy {} does not lead to {to}: {REMEDY}", wanted.name))
                }
                None => {
                    Err(format!("the account has no subscription policy {} to {to}: {REMEDY}", wanted.name))
                }
            };
        }
        for group in groups.iter().take(FILTERS) {
            let list = || self.client.describe_subscription_filters().log_group_name(group).send();
            let reply = match self.call(list).await {
                Ok(reply) => reply,
                Err(fault) => return self.unknown("logs:DescribeSubscriptionFilters", group, &fault),
            };
            let filters = reply.subscription_filters();
            match filters.iter().find(|filter| filter.filter_name() == Some(&wanted.name)) {
                Some(filter) if filter.destination_arn() == Some(to) => {}
                Some(filter) => {
                    let other = filter.destination_arn().unwrap_or("nowhere");
                    return Err(format!(
                        "the filter {} of {group} leads to {other}, not to {to}: {REMEDY}",
                        wanted.name
                    ));
                }
                None => {
                    let mut text =
                        format!("{group} has no subscription filter {} to {to}: {REMEDY}", wanted.name);
                    if !filters.is_empty() {
                        let names: Vec<&str> =
                            filters.iter().filter_map(|filter| filter.filter_name()).collect();
                        let _ = write!(text, "; it has {}, and a group can have two", names.join(", "));
                    }
                    return Err(text);
                }
            }
        }
        Ok(match groups.len() {
            0 => format!("; groups that it makes are subscribed to {to}"),
            _ => format!("; subscribed to {to} by the filter {}", wanted.name),
        })
    }

    /// What may not be asked says nothing of what is there.
    fn unknown(&self, action: &str, resource: &str, fault: &Fault) -> Result<String, String> {
        let told = self.told(action, resource, fault);
        match fault {
            Fault::Denied(_) => Ok(format!("; whether it is subscribed to may not be asked: {told}")),
            _ => Err(told),
        }
    }

    /// Makes a call, again where it is throttled.
    async fn call<T, E, F>(&self, call: impl Fn() -> F) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + Error + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let mut wait = WAIT;
        for tried in 1.. {
            let error = match call().await {
                Ok(reply) => return Ok(reply),
                Err(error @ SdkError::DispatchFailure(_)) => {
                    return Err(Fault::Passing { what: self.unreached(&error), in_doubt: false });
                }
                Err(error) => error,
            };
            match self.service.fault(error).await {
                Fault::Throttled(_) if tried < TRIES => tokio::time::sleep(wait).await,
                fault => return Err(fault),
            }
            wait *= 2;
        }
        Err(Fault::Missing)
    }

    /// Why nobody was reached.
    fn unreached(&self, error: &(dyn Error + 'static)) -> String {
        if let Some(tls) = words::tls_error(error) {
            return format!(
                "TLS fails: {tls}: what opens TLS on the way must be vouched for by an authority that the system trusts \
                 (SSL_CERT_FILE); is `endpoint` that of CloudWatch Logs?"
            );
        }
        let cause = words::line(&words::innermost(error));
        let lower = cause.to_ascii_lowercase();
        let about =
            if ["name", "dns", "lookup", "address information"].iter().any(|word| lower.contains(word)) {
                format!(": its name is not known (DNS); is `region` right ({})?", self.region)
            } else {
                "; is there a way to it from here, as a NAT gateway or a VPC endpoint of `logs`?".to_owned()
            };
        format!("cannot connect: {cause}{about}")
    }

    /// What stands against an action, with what to do.
    fn told(&self, action: &str, group: &str, fault: &Fault) -> String {
        match fault {
            Fault::Denied(what) => {
                let (denied, on) = denial(what);
                let action = denied.unwrap_or_else(|| action.to_owned());
                let on = on.unwrap_or_else(|| format!("arn:aws:logs:{}:*:log-group:{group}:*", self.region));
                format!("not allowed: {action} on {on}: allow it in the policy of the agent's role ({what})")
            }
            Fault::Throttled(what) => format!(
                "{action} is throttled, {TRIES} times in a row ({what}): others use up the calls of the account; the agent waits \
                 and goes on"
            ),
            Fault::Passing { what, .. } if what.starts_with("Expired") => {
                format!("the credentials have expired, and no others are found: renew them ({what})")
            }
            Fault::Passing { what, .. } if is_identity(what) => format!(
                "the credentials are refused in {}: is `region` right, and enabled for the account, and this machine's clock? \
                 ({what})",
                self.region
            ),
            Fault::Passing { what, .. } => what.clone(),
            Fault::Refused(what) => format!("{action} is refused: {what}"),
            Fault::Missing | Fault::Exists => format!("{action}: an answer that says nothing"),
        }
    }
}
