//! Subscriptions beyond single groups: a policy of the whole account, and a destination for other accounts.
//!
//! In: a subscription with `scope = "account"`, or with `senders`. Out: steps for the policy or the destination. One of the same
//! name that leads elsewhere is changed; it is taken away only if it leads where this subscription does.

use aws_sdk_cloudwatchlogs::types::{AccountPolicy, PolicyType};

use super::Look;
use crate::command::setup::account::told;
use crate::command::setup::deeds::{Deed, What};
use crate::command::setup::plan::{Plan, Sign, Step};
use crate::command::setup::policies;
use crate::config::SubscriptionScope;

impl Look<'_> {
    /// The account's policy of the subscription's name.
    pub(super) async fn account_policy(&self) -> Result<Option<AccountPolicy>, String> {
        let call = self
            .account
            .logs
            .describe_account_policies()
            .policy_type(PolicyType::SubscriptionFilterPolicy)
            .send();
        let reply = call.await.map_err(|error| told("logs:DescribeAccountPolicies", "*", &error))?;
        let named = |policy: &AccountPolicy| policy.policy_name() == Some(&self.subscription.name);
        Ok(reply.account_policies.unwrap_or_default().into_iter().find(named))
    }

    /// Whether a policy leads where the subscription does.
    pub(super) fn is_ours(&self, policy: &AccountPolicy) -> bool {
        let document = policies::read(policy.policy_document().unwrap_or_default());
        document["DestinationArn"] == self.subscription.to.arn.as_str()
    }

    pub(super) async fn policy(&self, plan: &mut Plan<Deed>, fresh: bool) -> Result<(), String> {
        let subscription = self.subscription;
        let put = self.deed(What::PutAccountPolicy(subscription.clone(), fresh));
        let what = format!("subscription policy {} of the account", subscription.name);
        let selection = policies::selection(subscription);
        let Some(found) = self.account_policy().await? else {
            let step = Step::new(Sign::Create, what).detail(format!("to {}", subscription.to.arn));
            plan.add(step.detail(format!("where {selection}")).deed(put));
            return Ok(());
        };
        let step = Step::new(Sign::Same, what);
        let before = policies::read(found.policy_document().unwrap_or_default());
        let selected = found.selection_criteria().unwrap_or_default();
        plan.add(if before != policies::account(subscription) {
            step.change(format!("{before} → {}", policies::account(subscription)), put)
        } else if policies::left_out_by(selected) != subscription.left_out() {
            step.change(format!("where {selected} → {selection}"), put)
        } else {
            step
        });
        Ok(())
    }

    /// Takes the policy away, where it is this configuration's. A subscription of groups only tells that events go on by it too:
    /// it may be that of another configuration, for all other groups of the account. True if it is left and has our role.
    pub(super) async fn without_policy(&self, plan: &mut Plan<Deed>, remove: bool) -> Result<bool, String> {
        let Some(found) = self.account_policy().await? else { return Ok(false) };
        let goes = remove && self.subscription.scope == SubscriptionScope::Account && self.is_ours(&found);
        let document = policies::read(found.policy_document().unwrap_or_default());
        let role = self.subscription.role_arn();
        let left = !goes && role.is_some_and(|role| document["RoleArn"] == role.as_str());
        let name = self.subscription.name.clone();
        let what = format!("subscription policy {name} of the account");
        let to = &self.subscription.to.arn;
        plan.add(if !self.is_ours(&found) {
            Step::new(Sign::Left, format!("{what}: leads elsewhere, left"))
        } else if goes {
            Step::new(Sign::Remove, what).deed(self.deed(What::DeleteAccountPolicy(name)))
        } else {
            Step::new(
                Sign::Left,
                format!(
                    "{what}: also leads to {to}, left; remove it with --remove where scope = \"account\""
                ),
            )
        });
        Ok(left)
    }

    fn destination_arn(&self) -> String {
        let to = &self.subscription.to;
        let name = &self.subscription.name;
        format!("arn:{}:logs:{}:{}:destination:{name}", to.partition, to.region, to.account)
    }

    /// The destination, and who may subscribe to it.
    pub(super) async fn destination(&self, plan: &mut Plan<Deed>, fresh: bool) -> Result<(), String> {
        let subscription = self.subscription;
        let arn = self.destination_arn();
        let put = self.deed(What::PutDestination(subscription.clone(), fresh));
        let allow = self.deed(What::PutDestinationPolicy(subscription.clone(), arn.clone()));
        let what = format!("destination {arn}");
        let Some(found) = self.found_destination().await? else {
            let step = Step::new(Sign::Create, what).detail(format!("to {}", subscription.to.arn));
            let step = step.detail(format!("for accounts {}", subscription.senders.join(", ")));
            plan.add(step.deed(put).deed(allow));
            return Ok(());
        };
        let mut step = Step::new(Sign::Same, what);
        let before = found.target_arn().unwrap_or("none");
        if before != subscription.to.arn {
            step = step.change(format!("to {before} → {}", subscription.to.arn), put);
        } else if found.role_arn() != subscription.role_arn().as_deref() {
            let role = subscription.role_arn().unwrap_or_default();
            step = step.change(format!("role {} → {role}", found.role_arn().unwrap_or("none")), put);
        }
        if policies::read(found.access_policy().unwrap_or_default()) != policies::senders(subscription, &arn)
        {
            step = step.change(format!("for accounts {}", subscription.senders.join(", ")), allow);
        }
        plan.add(step);
        Ok(())
    }

    pub(super) async fn without_destination(&self, plan: &mut Plan<Deed>) -> Result<(), String> {
        if self.subscription.senders.is_empty() {
            return Ok(());
        }
        let Some(found) = self.found_destination().await? else { return Ok(()) };
        let what = format!("destination {}", self.destination_arn());
        plan.add(if found.target_arn() == Some(&self.subscription.to.arn) {
            let delete = What::DeleteDestination(self.subscription.name.clone());
            Step::new(Sign::Remove, what).deed(self.deed(delete))
        } else {
            Step::new(Sign::Left, format!("{what}: leads elsewhere, left"))
        });
        Ok(())
    }

    async fn found_destination(&self) -> Result<Option<aws_sdk_cloudwatchlogs::types::Destination>, String> {
        let name = &self.subscription.name;
        let reply = self.account.logs.describe_destinations().destination_name_prefix(name).send().await;
        let reply =
            reply.map_err(|error| told("logs:DescribeDestinations", &self.destination_arn(), &error))?;
        let mut found = reply.destinations.unwrap_or_default().into_iter();
        Ok(found.find(|found| found.destination_name() == Some(name)))
    }
}
