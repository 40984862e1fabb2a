//! The policies that a subscription takes, each with no more in it than that.
//!
//! In: what a subscription leads to, and where its groups are. Out: JSON documents. They are compared as values, so that
//! neither order nor spaces make a difference.

use reqwest::Url;
use serde_json::{Value, json};

use crate::config::{SubscriptionConfig, TargetKind};

const VERSION: &str = "2012-10-17";

/// Who may be given the role: CloudWatch Logs, for log groups of this account and, with senders, of theirs.
pub fn trust(subscription: &SubscriptionConfig) -> Value {
    let to = &subscription.to;
    let mut accounts = vec![to.account.clone()];
    accounts.extend(subscription.senders.iter().cloned());
    accounts.dedup();
    let sources: Vec<String> = accounts
        .iter()
        .map(|account| format!("arn:{}:logs:{}:{account}:*", to.partition, to.region))
        .collect();
    json!({ "Version": VERSION, "Statement": [{
        "Effect": "Allow",
        "Principal": { "Service": "logs.amazonaws.com" },
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringLike": { "aws:SourceArn": one_or_all(sources) },
            "StringEquals": { "aws:SourceAccount": one_or_all(accounts) },
        },
    }] })
}

/// What the role may do: write to the one stream.
pub fn writing(subscription: &SubscriptionConfig) -> Value {
    let action = match subscription.to.kind {
        TargetKind::Firehose => json!(["firehose:PutRecord", "firehose:PutRecordBatch"]),
        _ => json!("kinesis:PutRecord"),
    };
    json!({ "Version": VERSION, "Statement": [statement(&action, &subscription.to.arn)] })
}

/// Who may subscribe to a destination.
pub fn senders(subscription: &SubscriptionConfig, destination: &str) -> Value {
    json!({ "Version": VERSION, "Statement": [{
        "Sid": "senders",
        "Effect": "Allow",
        "Principal": { "AWS": one_or_all(subscription.senders.clone()) },
        "Action": ["logs:PutSubscriptionFilter", "logs:PutAccountPolicy"],
        "Resource": destination,
    }] })
}

/// The document of a subscription policy of the account.
pub fn account(subscription: &SubscriptionConfig) -> Value {
    let mut document = json!({
        "DestinationArn": subscription.to.arn,
        "FilterPattern": subscription.filter_pattern,
    });
    if let Some(role) = subscription.role_arn() {
        document["RoleArn"] = json!(role);
    }
    if let Some(distribution) = subscription.distribution() {
        document["Distribution"] = json!(distribution.as_str());
    }
    document
}

/// Which groups of the account have the policy.
pub fn selection(subscription: &SubscriptionConfig) -> String {
    format!("LogGroupName NOT IN {}", json!(subscription.left_out()))
}

/// The groups that a selection leaves out.
pub fn left_out_by(selection: &str) -> Vec<String> {
    let list = selection.split_once("NOT IN").map_or("", |(_, list)| list.trim());
    serde_json::from_str(list).unwrap_or_default()
}

/// One statement that allows something.
pub fn statement(action: &Value, resource: &str) -> Value {
    json!({ "Effect": "Allow", "Action": action, "Resource": resource })
}

/// A document as a service gave it, of which IAM escapes all as in a URL.
pub fn read(document: &str) -> Value {
    let plain = Url::parse(&format!("http://x/?d={document}"));
    let escaped = document.starts_with('%').then_some(plain).and_then(Result::ok);
    let text = escaped.and_then(|url| url.query_pairs().next().map(|(_, text)| text.into_owned()));
    serde_json::from_str(text.as_deref().unwrap_or(document)).unwrap_or_default()
}

fn one_or_all(mut list: Vec<String>) -> Value {
    if list.len() == 1 { json!(list.remove(0)) } else { json!(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(lines: &str) -> SubscriptionConfig {
        toml::from_str(lines).expect("a subscription")
    }

    const STREAM: &str = "to = \"arn:aws:kinesis:eu-west-1:111111111111:stream/logs\"\n";

    #[test]
    fn the_role_is_for_the_service_only_on_behalf_of_these_accounts_and_for_the_one_stream() {
        let own = subscription(STREAM);
        let condition = trust(&own)["Statement"][0]["Condition"].clone();
        assert_eq!(condition["StringEquals"]["aws:SourceAccount"], "111111111111");
        assert_eq!(condition["StringLike"]["aws:SourceArn"], "arn:aws:logs:eu-west-1:111111111111:*");
        assert_eq!(writing(&own)["Statement"][0]["Resource"], own.to.arn.as_str());
        let shared = subscription(&format!("{STREAM}senders = [\"222222222222\"]"));
        let condition = trust(&shared)["Statement"][0]["Condition"].clone();
        assert_eq!(condition["StringEquals"]["aws:SourceAccount"], json!(["111111111111", "222222222222"]));
        let policy = senders(&shared, "arn:d");
        assert_eq!(policy["Statement"][0]["Principal"]["AWS"], "222222222222");
    }

    #[test]
    fn a_policy_of_the_account_leaves_out_what_the_pipeline_logs_itself() {
        let lambda = subscription(
            "to = \"arn:aws:lambda:eu-west-1:111111111111:function:fwd:live\"\nscope = \"account\"\nexclude = [\"/x\"]",
        );
        let selection = selection(&lambda);
        assert_eq!(
            selection,
            r#"LogGroupName NOT IN ["/aws/lambda/fwd","/aws/lambda/taffrail-forwarder","/x"]"#
        );
        assert_eq!(left_out_by(&selection), lambda.left_out());
        assert_eq!(account(&lambda)["RoleArn"], Value::Null, "a function has a permission instead");
        assert_eq!(account(&lambda)["Distribution"], Value::Null);
        let role = account(&subscription(STREAM))["RoleArn"].as_str().map(str::to_owned);
        assert!(
            role.is_some_and(
                |role| role.starts_with("arn:aws:iam::111111111111:role/taffrail-logs-eu-west-1-")
            )
        );
    }

    #[test]
    fn documents_are_read_as_they_come() {
        assert_eq!(read("%7B%22a%22%3A%20%22b%2Bc%22%7D"), json!({ "a": "b+c" }));
        assert_eq!(read(r#"{"a": "b+c"}"#), json!({ "a": "b+c" }));
        assert_eq!(read("nonsense"), Value::Null);
    }
}
