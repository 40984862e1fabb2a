//! An AWS account, as an output reaches it: its clients, and what their errors mean for people.
//!
//! In: an output's configuration, whose credentials, region and endpoint are used here too. Out: clients of CloudWatch Logs,
//! IAM and Lambda; for an error a text that says what to do. The endpoints of the latter two can be set as for any AWS tool, by
//! `AWS_ENDPOINT_URL_IAM`, `AWS_ENDPOINT_URL_LAMBDA` or `AWS_ENDPOINT_URL`.

use std::error::Error;

use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use serde_json::json;

use super::policies::statement;
use crate::config::CloudWatchConfig;
use crate::output::cloudwatch::MADE_BY;
use crate::output::cloudwatch::client::{Service, denial};
use crate::output::http::words;

/// Tries of a call: services limit calls of this kind to a few a second.
const TRIES: u32 = 8;

/// What marks things that set-up has made, where they can have tags.
pub const MARK: (&str, &str) = (MADE_BY, "setup");

/// An account and region.
#[derive(Debug)]
pub struct Account {
    /// CloudWatch Logs.
    pub logs: aws_sdk_cloudwatchlogs::Client,
    /// IAM.
    pub iam: aws_sdk_iam::Client,
    /// Lambda.
    pub lambda: aws_sdk_lambda::Client,
    /// The region.
    pub region: String,
}

impl Account {
    /// The account of an output.
    ///
    /// # Errors
    /// There are no credentials or no region, or logs may not go there.
    pub async fn open(config: &CloudWatchConfig) -> Result<Account, String> {
        let (shared, region) = Service::new(config).account().await?;
        let to = |endpoint: Option<String>| {
            let mut shared =
                shared.to_builder().retry_config(RetryConfig::standard().with_max_attempts(TRIES));
            shared.set_endpoint_url(endpoint);
            shared
        };
        let logs = config.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let logs = to(logs).use_dual_stack(config.dual_stack).build();
        Ok(Account {
            logs: aws_sdk_cloudwatchlogs::Client::new(&logs),
            iam: aws_sdk_iam::Client::new(&to(endpoint("IAM")).build()),
            lambda: aws_sdk_lambda::Client::new(&to(endpoint("LAMBDA")).build()),
            region,
        })
    }

    /// A log group, as policies name it.
    pub fn group_arn(&self, group: &str) -> String {
        let partition = match self.region.split('-').next() {
            Some("cn") => "aws-cn",
            _ if self.region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:logs:{}:*:log-group:{group}:*", self.region)
    }
}

fn endpoint(service: &str) -> Option<String> {
    let variables = [format!("AWS_ENDPOINT_URL_{service}"), "AWS_ENDPOINT_URL".to_owned()];
    variables.iter().find_map(|name| std::env::var(name).ok()).filter(|url| !url.is_empty())
}

/// The service's code for an error, such as `ResourceNotFoundException`.
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

/// What an error of an action on a resource means. Where something is not allowed: what, on what, and the statement to add.
pub fn told<E>(action: &str, resource: &str, error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(service) = error.as_service_error() else {
        return format!("{action}: {}", words::line(&words::innermost(error)));
    };
    let code = service.code().unwrap_or("no code");
    let said = words::line(service.message().unwrap_or("without a word"));
    if !["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"].contains(&code) {
        return format!("{action} on {resource}: {code}: {said}");
    }
    denied(action, resource, &said)
}

fn denied(action: &str, resource: &str, said: &str) -> String {
    let (asked, on) = denial(said);
    let action = asked.unwrap_or_else(|| action.to_owned());
    let resource = on.unwrap_or_else(|| resource.to_owned());
    let mut statement = statement(&json!(action), &resource);
    if action == "iam:PassRole" {
        statement["Condition"] = json!({ "StringEquals": { "iam:PassedToService": "logs.amazonaws.com" } });
    }
    format!(
        "not allowed: {action} on {resource}; allow it to whoever runs this:\n    {statement}\n  answer: {said}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_denied_comes_with_the_statement_that_allows_it() {
        let said = "User: arn:aws:iam::1:user/me is not authorized to perform: iam:PassRole on resource: \
                    arn:aws:iam::1:role/r because no identity-based policy allows the iam:PassRole action";
        let text = denied("logs:PutSubscriptionFilter", "arn:g", said);
        assert!(text.starts_with("not allowed: iam:PassRole on arn:aws:iam::1:role/r; "), "{text}");
        assert!(text.contains(r#"{"iam:PassedToService":"logs.amazonaws.com"}"#), "{text}");
        let text = denied("iam:GetRole", "arn:r", "Denied.");
        assert!(text.contains(r#"{"Action":"iam:GetRole","Effect":"Allow","Resource":"arn:r"}"#), "{text}");
    }
}
