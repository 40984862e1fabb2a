//! `taffrail setup subscription`: what carries events of log groups on to a stream or a function.
//!
//! In: the outputs with a table `subscription`. Out: a plan for its role or permission, and for a filter on each group, a policy
//! of the account, or a destination for other accounts. What is there under the subscription's name and leads elsewhere is
//! changed; filters of other names are somebody else's, are told and left. Removes nothing that it did not make.

mod access;
mod beyond;

use std::process::ExitCode;
use std::sync::Arc;

use aws_sdk_cloudwatchlogs::types::SubscriptionFilter;

use super::account::{Account, told};
use super::cloudwatch::{self, Group};
use super::cost::Prices;
use super::deeds::{Deed, What, act};
use super::plan::{Plan, Sign, Step};
use super::{Options, outputs, policies};
use crate::config::subscription::Distribution;
use crate::config::{CloudWatchConfig, Config, SubscriptionConfig, SubscriptionScope};

/// One output's subscription, and what is there.
struct Look<'a> {
    account: Arc<Account>,
    config: &'a Config,
    output: &'a CloudWatchConfig,
    subscription: &'a SubscriptionConfig,
    groups: Vec<Group>,
}

/// Makes a plan for all outputs and carries it out.
///
/// # Errors
/// The account could not be looked at, or it is of another region.
pub async fn setup(config: &Config, options: Options, prices: &Prices) -> Result<ExitCode, String> {
    let mut plan = Plan::new();
    let looks = looks(config).await?;
    for look in &looks {
        if options.remove {
            look.without_filters(&mut plan).await?;
            let left = look.without_policy(&mut plan, true).await?;
            look.without_destination(&mut plan).await?;
            look.permission(&mut plan, true).await?;
            if !left {
                look.role(&mut plan, true).await?;
            }
        } else {
            let fresh = look.role(&mut plan, false).await?;
            look.permission(&mut plan, false).await?;
            look.make(&mut plan, fresh).await?;
        }
    }
    let code = plan.carry_out(options, act).await;
    if options.plan && !options.remove {
        let outputs: Vec<_> = looks.iter().map(|look| look.output).collect();
        print!("{}", prices.show(&outputs, 0));
    }
    Ok(code)
}

/// Names the groups whose events do not go on.
///
/// # Errors
/// The account could not be looked at.
pub async fn audit(config: &Config) -> Result<ExitCode, String> {
    let (mut subscribed, mut not) = (0, Vec::new());
    for look in looks(config).await? {
        let name = &look.subscription.name;
        let policy = look.account_policy().await?;
        let ours = policy.filter(|policy| look.is_ours(policy));
        let left_out =
            ours.as_ref().map(|policy| policies::left_out_by(policy.selection_criteria().unwrap_or("")));
        for group in &look.groups {
            let by_policy = left_out.as_ref().is_some_and(|left_out| !left_out.contains(&group.name));
            let filters = look.filters_of(&group.name).await?;
            let by_filter =
                filters.iter().any(|filter| filter.destination_arn() == Some(&look.subscription.to.arn));
            if by_policy || by_filter {
                subscribed += 1;
            } else {
                not.push(format!("{} (by {name} to {})", group.name, look.subscription.to.arn));
            }
        }
    }
    not.iter().for_each(|group| println!("! not subscribed: {group}"));
    println!("{subscribed} of {} log groups are subscribed", subscribed + not.len());
    Ok(if not.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn looks(config: &Config) -> Result<Vec<Look<'_>>, String> {
    let mut looks = Vec::new();
    for (name, output) in outputs(config) {
        let Some(subscription) = &output.subscription else { continue };
        let of = |error: String| format!("output {name}: {error}");
        let account = Arc::new(Account::open(output).await.map_err(of)?);
        if account.region != subscription.to.region {
            let (here, there) = (&account.region, &subscription.to.region);
            return Err(of(format!("a subscription in {here} cannot lead to {there}: set `region`")));
        }
        let groups = if subscription.senders.is_empty() {
            cloudwatch::groups(&account, config, output).await?
        } else {
            Vec::new()
        };
        looks.push(Look { account, config, output, subscription, groups });
    }
    if looks.is_empty() {
        return Err(
            "no output of type `cloudwatch` has a table `subscription` in this configuration".to_owned()
        );
    }
    Ok(looks)
}

impl Look<'_> {
    fn deed(&self, what: What) -> Deed {
        (self.account.clone(), what)
    }

    /// Filters, policy or destination.
    async fn make(&self, plan: &mut Plan<Deed>, fresh: bool) -> Result<(), String> {
        if !self.subscription.senders.is_empty() {
            return self.destination(plan, fresh).await;
        }
        if self.subscription.scope == SubscriptionScope::Account {
            self.policy(plan, fresh).await?;
            // Events would go on twice.
            return self.without_filters(plan).await;
        }
        let (name, whole) = self.output.log_group.known_of(&self.config.cluster);
        cloudwatch::add_groups(plan, &self.account, self.config, self.output, &self.groups).await?;
        if whole && self.groups.is_empty() {
            plan.add(self.filter_step(Sign::Create, &name, fresh));
        }
        for group in &self.groups {
            self.filter(plan, &group.name, fresh).await?;
        }
        self.without_policy(plan, false).await.map(drop)
    }

    fn filter_step(&self, sign: Sign, group: &str, fresh: bool) -> Step<Deed> {
        let subscription = self.subscription;
        let step = Step::new(sign, format!("subscription filter {} of {group}", subscription.name));
        if sign != Sign::Create {
            return step;
        }
        step.detail(format!("to {}", subscription.to.arn)).deed(self.deed(What::PutFilter(
            group.to_owned(),
            subscription.clone(),
            fresh,
        )))
    }

    async fn filters_of(&self, group: &str) -> Result<Vec<SubscriptionFilter>, String> {
        let reply = self.account.logs.describe_subscription_filters().log_group_name(group).send().await;
        let reply = reply.map_err(|error| {
            told("logs:DescribeSubscriptionFilters", &self.account.group_arn(group), &error)
        })?;
        Ok(reply.subscription_filters.unwrap_or_default())
    }

    async fn filter(&self, plan: &mut Plan<Deed>, group: &str, fresh: bool) -> Result<(), String> {
        let subscription = self.subscription;
        let mut ours = None;
        for filter in self.filters_of(group).await? {
            if filter.filter_name() == Some(&subscription.name) {
                ours = Some(filter);
            } else {
                let (name, to) =
                    (filter.filter_name().unwrap_or("?"), filter.destination_arn().unwrap_or("?"));
                plan.add(Step::new(
                    Sign::Left,
                    format!("subscription filter {name} of {group} to {to}: not ours, left"),
                ));
            }
        }
        let Some(filter) = ours else {
            plan.add(self.filter_step(Sign::Create, group, fresh));
            return Ok(());
        };
        let spread = subscription.distribution().map(Distribution::as_str);
        let role = subscription.role_arn();
        let compared = [
            ("to", filter.destination_arn(), Some(subscription.to.arn.as_str())),
            ("role", filter.role_arn(), role.as_deref()),
            ("filter_pattern", filter.filter_pattern(), Some(subscription.filter_pattern.as_str())),
            ("distribution", spread.and(filter.distribution().map(|kind| kind.as_str())), spread),
        ];
        let mut step = self.filter_step(Sign::Same, group, fresh);
        let mut differs = false;
        for (key, before, after) in compared {
            if before.unwrap_or_default() != after.unwrap_or_default() {
                differs = true;
                let shown = |value: Option<&str>| {
                    value.filter(|value| !value.is_empty()).unwrap_or("none").to_owned()
                };
                step = step.detail(format!("{key} {} → {}", shown(before), shown(after)));
            }
        }
        if differs {
            let put = What::PutFilter(group.to_owned(), subscription.clone(), fresh);
            step = step.change("put again", self.deed(put));
        }
        plan.add(step);
        Ok(())
    }

    /// Takes the filters of this subscription away.
    async fn without_filters(&self, plan: &mut Plan<Deed>) -> Result<(), String> {
        for group in &self.groups {
            for filter in self.filters_of(&group.name).await? {
                let (name, to) =
                    (filter.filter_name().unwrap_or("?"), filter.destination_arn().unwrap_or("?"));
                let what = format!("subscription filter {name} of {}", group.name);
                plan.add(if name == self.subscription.name && to == self.subscription.to.arn {
                    let delete = What::DeleteFilter(group.name.clone(), name.to_owned());
                    Step::new(Sign::Remove, what).deed(self.deed(delete))
                } else {
                    Step::new(Sign::Left, format!("{what} to {to}: not ours, left"))
                });
            }
        }
        Ok(())
    }
}
