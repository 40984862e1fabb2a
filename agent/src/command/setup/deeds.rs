//! What a plan does to an account, one call or two at a time.
//!
//! In: a deed. Out: it is done, or a text that says why not. What is done already is no error.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::types::{PolicyType, Scope};
use aws_sdk_iam::types::Tag;
use serde_json::Value;

use super::account::{Account, MARK, code, told};
use super::policies;
use crate::command::progress::Progress;
use crate::config::{CloudWatchConfig, SubscriptionConfig};
use crate::output::cloudwatch::names::{creating, subscribing};

/// The name of the policy in a role that set-up makes.
pub const ROLE_POLICY: &str = "write-to-the-stream";

/// A role takes some seconds until other services know it: tries, and the wait between them.
const ROLE_TRIES: u32 = 15;
const ROLE_WAIT: Duration = Duration::from_secs(2);

/// In which account, and what.
pub type Deed = (Arc<Account>, What);

/// What is done.
#[derive(Debug)]
pub enum What {
    CreateGroup(String, Box<CloudWatchConfig>),
    Retain(String, u32),
    /// A group by its ARN, and tags that it lacks.
    Tag(String, Vec<(String, String)>),
    Encrypt(String, String),
    DeleteGroup(String),
    CreateRole(SubscriptionConfig),
    Trust(SubscriptionConfig),
    RolePolicy(SubscriptionConfig),
    DeleteRole(String),
    Permit(Permission),
    Forbid(Permission),
    /// On a group; patiently if its role has just been made.
    PutFilter(String, SubscriptionConfig, bool),
    DeleteFilter(String, String),
    PutAccountPolicy(SubscriptionConfig, bool),
    DeleteAccountPolicy(String),
    PutDestination(SubscriptionConfig, bool),
    PutDestinationPolicy(SubscriptionConfig, String),
    DeleteDestination(String),
}

/// The right of CloudWatch Logs to call a function.
#[derive(Debug, Clone)]
pub struct Permission {
    pub function: String,
    pub qualifier: Option<String>,
    pub statement: String,
    pub source: String,
    pub account: String,
}

/// Does it, and says what it waits for.
///
/// # Errors
/// Why it could not be done, and what to do.
pub async fn act((account, what): &Deed, progress: &Progress) -> Result<(), String> {
    let Account { logs, iam, lambda, .. } = &**account;
    let group_arn = |group: &str| account.group_arn(group);
    match what {
        What::CreateGroup(name, config) => match creating(logs, name, config, MARK.1).send().await {
            Err(error) if code(&error) == "ResourceAlreadyExistsException" => Ok(()),
            done => done.map(drop).map_err(|error| told("logs:CreateLogGroup", &group_arn(name), &error)),
        },
        What::Retain(name, days) => {
            let call = logs.put_retention_policy().log_group_name(name).retention_in_days(*days as i32);
            let done = call.send().await;
            done.map(drop).map_err(|error| told("logs:PutRetentionPolicy", &group_arn(name), &error))
        }
        What::Tag(arn, tags) => {
            let mut call = logs.tag_resource().resource_arn(arn);
            for (key, value) in tags {
                call = call.tags(key, value);
            }
            call.send().await.map(drop).map_err(|error| told("logs:TagResource", arn, &error))
        }
        What::Encrypt(name, key) => {
            let done = logs.associate_kms_key().log_group_name(name).kms_key_id(key).send().await;
            done.map(drop).map_err(|error| told("logs:AssociateKmsKey", &group_arn(name), &error))
        }
        What::DeleteGroup(name) => {
            let done = logs.delete_log_group().log_group_name(name).send().await;
            done.map(drop).map_err(|error| told("logs:DeleteLogGroup", &group_arn(name), &error))
        }
        What::CreateRole(subscription) => {
            let name = subscription.made_role();
            let tag = Tag::builder().key(MARK.0).value(MARK.1).build().map_err(|error| error.to_string())?;
            let call = iam
                .create_role()
                .role_name(&name)
                .description(format!("CloudWatch Logs writes to {}", subscription.to.arn))
                .assume_role_policy_document(policies::trust(subscription).to_string())
                .tags(tag);
            let done = call.send().await;
            done.map(drop).map_err(|error| told("iam:CreateRole", &role_arn(subscription), &error))
        }
        What::Trust(subscription) => {
            let call = iam
                .update_assume_role_policy()
                .role_name(subscription.made_role())
                .policy_document(policies::trust(subscription).to_string());
            let done = call.send().await;
            done.map(drop)
                .map_err(|error| told("iam:UpdateAssumeRolePolicy", &role_arn(subscription), &error))
        }
        What::RolePolicy(subscription) => {
            let call = iam
                .put_role_policy()
                .role_name(subscription.made_role())
                .policy_name(ROLE_POLICY)
                .policy_document(policies::writing(subscription).to_string());
            let done = call.send().await;
            done.map(drop).map_err(|error| told("iam:PutRolePolicy", &role_arn(subscription), &error))
        }
        What::DeleteRole(name) => {
            let arn = format!("arn:aws:iam::*:role/{name}");
            match iam.delete_role_policy().role_name(name).policy_name(ROLE_POLICY).send().await {
                Err(error) if code(&error) != "NoSuchEntity" => {
                    return Err(told("iam:DeleteRolePolicy", &arn, &error));
                }
                _ => {}
            }
            let done = iam.delete_role().role_name(name).send().await;
            done.map(drop).map_err(|error| told("iam:DeleteRole", &arn, &error))
        }
        What::Permit(permission) => {
            let call = lambda
                .add_permission()
                .function_name(&permission.function)
                .set_qualifier(permission.qualifier.clone())
                .statement_id(&permission.statement)
                .action("lambda:InvokeFunction")
                .principal("logs.amazonaws.com")
                .source_arn(&permission.source)
                .source_account(&permission.account);
            let done = call.send().await;
            done.map(drop).map_err(|error| told("lambda:AddPermission", &permission.function, &error))
        }
        What::Forbid(permission) => {
            let call = lambda
                .remove_permission()
                .function_name(&permission.function)
                .set_qualifier(permission.qualifier.clone())
                .statement_id(&permission.statement);
            let done = call.send().await;
            done.map(drop).map_err(|error| told("lambda:RemovePermission", &permission.function, &error))
        }
        What::PutFilter(group, subscription, fresh) => {
            let fresh = fresh.then_some(progress);
            put_filter(account, group, subscription, fresh).await
        }
        What::DeleteFilter(group, name) => {
            let done = logs.delete_subscription_filter().log_group_name(group).filter_name(name).send().await;
            done.map(drop).map_err(|error| told("logs:DeleteSubscriptionFilter", &group_arn(group), &error))
        }
        What::PutAccountPolicy(subscription, fresh) => {
            let call = || {
                logs.put_account_policy()
                    .policy_name(&subscription.name)
                    .policy_type(PolicyType::SubscriptionFilterPolicy)
                    .policy_document(policies::account(subscription).to_string())
                    .scope(Scope::All)
                    .selection_criteria(policies::selection(subscription))
                    .send()
            };
            let fresh = fresh.then_some(progress);
            patiently(fresh, call, |error| told("logs:PutAccountPolicy", "*", error)).await
        }
        What::DeleteAccountPolicy(name) => {
            let kind = PolicyType::SubscriptionFilterPolicy;
            let done = logs.delete_account_policy().policy_name(name).policy_type(kind).send().await;
            done.map(drop).map_err(|error| told("logs:DeleteAccountPolicy", "*", &error))
        }
        What::PutDestination(subscription, fresh) => {
            let call = || {
                logs.put_destination()
                    .destination_name(&subscription.name)
                    .target_arn(&subscription.to.arn)
                    .set_role_arn(subscription.role_arn())
                    .send()
            };
            let fresh = fresh.then_some(progress);
            patiently(fresh, call, |error| told("logs:PutDestination", &subscription.name, error)).await
        }
        What::PutDestinationPolicy(subscription, arn) => {
            let call = logs
                .put_destination_policy()
                .destination_name(&subscription.name)
                .access_policy(policies::senders(subscription, arn).to_string());
            call.send().await.map(drop).map_err(|error| told("logs:PutDestinationPolicy", arn, &error))
        }
        What::DeleteDestination(name) => {
            let done = logs.delete_destination().destination_name(name).send().await;
            done.map(drop).map_err(|error| told("logs:DeleteDestination", name, &error))
        }
    }
}

async fn put_filter(
    account: &Account,
    group: &str,
    subscription: &SubscriptionConfig,
    fresh: Option<&Progress>,
) -> Result<(), String> {
    let call = || subscribing(&account.logs, group, subscription).send();
    let mut limited = false;
    let arn = account.group_arn(group);
    let done = patiently(fresh, call, |error| {
        limited = code(error) == "LimitExceededException";
        told("logs:PutSubscriptionFilter", &arn, error)
    });
    let Err(error) = done.await else { return Ok(()) };
    if !limited {
        return Err(error);
    }
    let there = account.logs.describe_subscription_filters().log_group_name(group).send().await;
    let there = there.map(|reply| reply.subscription_filters.unwrap_or_default()).unwrap_or_default();
    let there: Vec<String> = there
        .iter()
        .map(|filter| {
            let (name, to) = (filter.filter_name().unwrap_or("?"), filter.destination_arn().unwrap_or("?"));
            format!("{name} to {to}")
        })
        .collect();
    Err(format!(
        "{group} has as many subscription filters as it may ({}): take one away, or ask AWS for a higher quota",
        there.join(", ")
    ))
}

/// Makes a call, and where a role has just been made again while the service does not know it yet: `fresh` is where that is
/// said.
async fn patiently<T, E, F>(
    fresh: Option<&Progress>,
    mut call: impl FnMut() -> F,
    told: impl FnOnce(&aws_sdk_cloudwatchlogs::error::SdkError<E>) -> String,
) -> Result<(), String>
where
    F: Future<Output = Result<T, aws_sdk_cloudwatchlogs::error::SdkError<E>>>,
    E: aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata,
{
    let mut tries = 0;
    loop {
        match call().await {
            Ok(_) => return Ok(()),
            Err(error) => match fresh {
                Some(progress) if code(&error) == "InvalidParameterException" && tries < ROLE_TRIES => {
                    tries += 1;
                    progress.says(&format!("waits until the new role is known, {tries} of {ROLE_TRIES}"));
                    tokio::time::sleep(ROLE_WAIT).await;
                }
                _ => return Err(told(&error)),
            },
        }
    }
}

fn role_arn(subscription: &SubscriptionConfig) -> String {
    subscription.role_arn().unwrap_or_default()
}

/// The statement of a function's policy that a permission becomes.
pub fn statement_of<'a>(policy: &'a Value, permission: &Permission) -> Option<&'a Value> {
    policy["Statement"].as_array()?.iter().find(|statement| statement["Sid"] == permission.statement.as_str())
}
