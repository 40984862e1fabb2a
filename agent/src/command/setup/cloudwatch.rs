//! `taffrail setup cloudwatch`: log groups, as the configuration has them.
//!
//! In: the CloudWatch outputs. Out: a plan for the groups whose names are known without a pod, made if they are missing, and for
//! those of a template that are there and have our mark, since another's name may look like one; what the configuration does not speak of (no `retention_days`, further tags) stays as it
//! is. A group's class can never be changed, which is told. Removes only groups that it has made, and without events, unless it
//! is told otherwise.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use aws_sdk_cloudwatchlogs::types::OrderBy;

use super::account::{Account, MARK, told};
use super::cost::Prices;
use super::deeds::{Deed, What, act};
use super::plan::{Plan, Sign, Step};
use super::{Options, outputs};
use crate::config::{CloudWatchConfig, Config, LogClass};

/// A group that is there.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name.
    pub name: String,
    arn: String,
    retention: Option<u32>,
    kms_key: Option<String>,
    class: String,
    stored: u64,
}

/// Makes a plan for all outputs and carries it out. `with_logs`: groups with events are removed too, if any are.
///
/// # Errors
/// The account could not be looked at.
pub async fn setup(
    config: &Config,
    options: Options,
    with_logs: bool,
    prices: &Prices,
) -> Result<ExitCode, String> {
    let mut plan = Plan::new();
    let (mut stored, mut all) = (0, Vec::new());
    for (name, output) in outputs(config) {
        let account =
            Arc::new(Account::open(output).await.map_err(|error| format!("output {name}: {error}"))?);
        let groups = groups(&account, config, output).await?;
        stored += groups.iter().map(|group| group.stored).sum::<u64>();
        if options.remove {
            for group in &groups {
                plan.add(removal(&account, group, with_logs).await?);
            }
        } else {
            add_groups(&mut plan, &account, config, output, &groups).await?;
        }
        all.push(output);
    }
    if all.is_empty() {
        return Err("no output of type `cloudwatch` in this configuration".to_owned());
    }
    let code = plan.carry_out(options, act).await;
    if options.plan && !options.remove {
        print!("{}", prices.show(&all, stored));
    }
    Ok(code)
}

/// Steps for the groups of an output.
///
/// # Errors
/// A group could not be looked at.
pub async fn add_groups(
    plan: &mut Plan<Deed>,
    account: &Arc<Account>,
    config: &Config,
    output: &CloudWatchConfig,
    groups: &[Group],
) -> Result<(), String> {
    let (name, whole) = output.log_group.known_of(&config.cluster);
    if whole && groups.is_empty() {
        plan.add(creation(account, &name, output));
    }
    for group in groups {
        let asked = !whole || !output.tags.is_empty();
        let there = if asked { tags(account, group).await? } else { HashMap::new() };
        // A name that a template recognises may be another team's; one that is written out is meant.
        if whole || there.contains_key(MARK.0) {
            plan.add(upkeep(account, group, output, &there));
        } else {
            let what = format!("log group {}", group.name);
            plan.add(Step::new(Sign::Left, format!("{what}: left as it is: not made by Taffrail")));
        }
    }
    if !whole {
        plan.add(Step::new(
            Sign::Left,
            format!("log groups {}: the agent makes them as they are needed", output.log_group),
        ));
    }
    Ok(())
}

/// The groups of an output that are there.
///
/// # Errors
/// They could not be listed.
pub async fn groups(
    account: &Account,
    config: &Config,
    output: &CloudWatchConfig,
) -> Result<Vec<Group>, String> {
    let (prefix, whole) = output.log_group.known_of(&config.cluster);
    let mut found = Vec::new();
    let mut pages = account.logs.describe_log_groups().log_group_name_prefix(&prefix).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| told("logs:DescribeLogGroups", &account.group_arn(""), &error))?;
        for group in page.log_groups.unwrap_or_default() {
            let name = group.log_group_name.unwrap_or_default();
            let ours =
                if whole { name == prefix } else { output.log_group.recognises(&config.cluster, &name) };
            if !ours {
                continue;
            }
            let arn = group.log_group_arn.or(group.arn).unwrap_or_default();
            found.push(Group {
                name,
                arn: arn.trim_end_matches(":*").to_owned(),
                retention: group.retention_in_days.and_then(|days| u32::try_from(days).ok()),
                kms_key: group.kms_key_id,
                class: group.log_group_class.map_or("STANDARD".to_owned(), |class| class.as_str().to_owned()),
                stored: group.stored_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
            });
        }
    }
    Ok(found)
}

fn creation(account: &Arc<Account>, name: &str, output: &CloudWatchConfig) -> Step<Deed> {
    let create = What::CreateGroup(name.to_owned(), Box::new(output.clone()));
    let mut step = Step::new(Sign::Create, format!("log group {name}")).deed((account.clone(), create));
    if output.class != LogClass::Standard {
        step = step.detail(format!("class {}", output.class));
    }
    if let Some(days) = output.retention_days {
        let retain = What::Retain(name.to_owned(), days);
        step = step.detail(format!("retention_days {days}")).deed((account.clone(), retain));
    }
    if let Some(key) = &output.kms_key {
        step = step.detail(format!("kms_key {key}"));
    }
    for (key, value) in &output.tags {
        step = step.detail(format!("tag {key} = {value}"));
    }
    step
}

fn upkeep(
    account: &Arc<Account>,
    group: &Group,
    output: &CloudWatchConfig,
    there: &HashMap<String, String>,
) -> Step<Deed> {
    let name = &group.name;
    let mut step = Step::new(Sign::Same, format!("log group {name}"));
    if let Some(days) = output.retention_days.filter(|days| group.retention != Some(*days)) {
        let before = group.retention.map_or("for ever".to_owned(), |days| days.to_string());
        let retain = What::Retain(name.clone(), days);
        step = step.change(format!("retention_days {before} → {days}"), (account.clone(), retain));
    }
    if let Some(key) = output.kms_key.as_ref().filter(|key| group.kms_key.as_ref() != Some(*key)) {
        let before = group.kms_key.as_deref().unwrap_or("CloudWatch's own");
        let encrypt = What::Encrypt(name.clone(), key.clone());
        step = step.change(format!("kms_key {before} → {key}"), (account.clone(), encrypt));
    }
    let other = |(key, value): &(&String, &String)| there.get(*key) != Some(*value);
    let missing: Vec<_> =
        output.tags.iter().filter(other).map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in &missing {
        let before = there.get(key).map_or("none", String::as_str);
        step = step.detail(format!("tag {key} {before} → {value}"));
    }
    if !missing.is_empty() {
        let tag = What::Tag(group.arn.clone(), missing);
        step = step.change("with these tags", (account.clone(), tag));
    }
    if group.class != output.class.to_string() {
        step = step.wrong(format!(
            "class {}, where {} is configured: it can never be changed; use another group",
            group.class, output.class
        ));
    }
    step
}

async fn tags(account: &Account, group: &Group) -> Result<HashMap<String, String>, String> {
    let reply = account.logs.list_tags_for_resource().resource_arn(&group.arn).send().await;
    let reply = reply.map_err(|error| told("logs:ListTagsForResource", &group.arn, &error))?;
    Ok(reply.tags.unwrap_or_default())
}

async fn removal(account: &Arc<Account>, group: &Group, with_logs: bool) -> Result<Step<Deed>, String> {
    let name = &group.name;
    let what = format!("log group {name}");
    if tags(account, group).await?.get(MARK.0).map(String::as_str) != Some(MARK.1) {
        return Ok(Step::new(Sign::Left, format!("{what}: not made by `taffrail setup`, left")));
    }
    if !with_logs {
        // What it says of stored bytes comes hours later.
        let call = account.logs.describe_log_streams().log_group_name(name).order_by(OrderBy::LastEventTime);
        let reply = call.descending(true).limit(1).send().await;
        let reply =
            reply.map_err(|error| told("logs:DescribeLogStreams", &account.group_arn(name), &error))?;
        if !reply.log_streams().is_empty() {
            return Ok(Step::new(
                Sign::Left,
                format!("{what}: has log streams, left; --with-logs removes it"),
            ));
        }
    }
    let deed = (account.clone(), What::DeleteGroup(name.clone()));
    Ok(Step::new(Sign::Remove, what).deed(deed))
}
