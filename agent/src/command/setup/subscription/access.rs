//! How CloudWatch Logs may write to where a subscription leads: by a role for a stream, by a permission for a function.
//!
//! In: a subscription. Out: steps for the one or the other. A role that is configured is not looked at.

use serde_json::json;

use super::Look;
use crate::command::setup::account::{MARK, code, told};
use crate::command::setup::deeds::{Deed, Permission, ROLE_POLICY, What, statement_of};
use crate::command::setup::plan::{Plan, Sign, Step};
use crate::command::setup::policies;
use crate::config::template::fnv1a;
use crate::config::{SubscriptionScope, TargetKind};

impl Look<'_> {
    /// The role, if it is for us to make; true if it will be new.
    pub(super) async fn role(&self, plan: &mut Plan<Deed>, remove: bool) -> Result<bool, String> {
        let subscription = self.subscription;
        if !subscription.needs_role() || subscription.role.is_some() {
            return Ok(false);
        }
        let name = subscription.made_role();
        let arn = subscription.role_arn().unwrap_or_default();
        let what = format!("role {name}");
        let found = match self.account.iam.get_role().role_name(&name).send().await {
            Ok(reply) => reply.role,
            Err(error) if code(&error) == "NoSuchEntity" => None,
            Err(error) => return Err(told("iam:GetRole", &arn, &error)),
        };
        let Some(role) = found else {
            if remove {
                return Ok(false);
            }
            let step = Step::new(Sign::Create, what)
                .detail(format!("by which CloudWatch Logs writes to {}", subscription.to.arn))
                .deed(self.deed(What::CreateRole(subscription.clone())))
                .deed(self.deed(What::RolePolicy(subscription.clone())));
            plan.add(step);
            return Ok(true);
        };
        if !role.tags().iter().any(|tag| (tag.key(), tag.value()) == MARK) {
            let why = "not made by `taffrail setup`";
            plan.add(match remove {
                true => Step::new(Sign::Left, format!("{what}: {why}, left")),
                false => {
                    Step::new(Sign::Wrong, what).detail(format!("{why}; name it as `role` if it is meant"))
                }
            });
            return Ok(false);
        }
        if remove {
            plan.add(Step::new(Sign::Remove, what).deed(self.deed(What::DeleteRole(name))).only_if_well());
            return Ok(false);
        }
        let mut step = Step::new(Sign::Same, what);
        if policies::read(role.assume_role_policy_document().unwrap_or_default())
            != policies::trust(subscription)
        {
            step = step.change("who may assume it", self.deed(What::Trust(subscription.clone())));
        }
        let policy =
            self.account.iam.get_role_policy().role_name(&name).policy_name(ROLE_POLICY).send().await;
        let policy = match policy {
            Ok(reply) => policies::read(&reply.policy_document),
            Err(error) if code(&error) == "NoSuchEntity" => json!(null),
            Err(error) => return Err(told("iam:GetRolePolicy", &arn, &error)),
        };
        if policy != policies::writing(subscription) {
            step = step.change("what it may do", self.deed(What::RolePolicy(subscription.clone())));
        }
        plan.add(step);
        Ok(false)
    }

    /// The right to call the function: one statement for all groups of the output.
    pub(super) async fn permission(&self, plan: &mut Plan<Deed>, remove: bool) -> Result<(), String> {
        let to = &self.subscription.to;
        if to.kind != TargetKind::Lambda {
            return Ok(());
        }
        let groups = match (self.subscription.scope, self.output.log_group.known_of(&self.config.cluster)) {
            (SubscriptionScope::Account, _) => "*".to_owned(),
            (_, (name, true)) => format!("{name}:*"),
            (_, (prefix, false)) => format!("{prefix}*"),
        };
        let source = format!("arn:{}:logs:{}:{}:log-group:{groups}", to.partition, to.region, to.account);
        let (function, qualifier) = to.function();
        let permission = Permission {
            function: function.to_owned(),
            qualifier: qualifier.map(str::to_owned),
            statement: format!(
                "{}-{}-{:08x}",
                self.subscription.name.replace('.', "-"),
                self.subscription.short_cluster(),
                fnv1a(
                    [&groups, &self.subscription.cluster, &self.subscription.name]
                        .map(String::as_str)
                        .join("\n")
                        .as_bytes()
                ) as u32
            ),
            source,
            account: to.account.clone(),
        };
        let call = self
            .account
            .lambda
            .get_policy()
            .function_name(function)
            .set_qualifier(permission.qualifier.clone());
        let policy = match call.send().await {
            Ok(reply) => policies::read(&reply.policy.unwrap_or_default()),
            Err(error) if code(&error) == "ResourceNotFoundException" => json!(null),
            Err(error) => return Err(told("lambda:GetPolicy", &to.arn, &error)),
        };
        let what = format!("permission {} of function {}", permission.statement, to.name());
        let Some(found) = statement_of(&policy, &permission) else {
            if !remove {
                let step = Step::new(Sign::Create, what)
                    .detail(format!("CloudWatch Logs calls it for {}", permission.source));
                plan.add(step.deed(self.deed(What::Permit(permission))));
            }
            return Ok(());
        };
        if remove {
            plan.add(Step::new(Sign::Remove, what).deed(self.deed(What::Forbid(permission))).only_if_well());
            return Ok(());
        }
        let source = &found["Condition"]["ArnLike"]["AWS:SourceArn"];
        let account = &found["Condition"]["StringEquals"]["AWS:SourceAccount"];
        let step = Step::new(Sign::Same, what);
        plan.add(if *source == permission.source.as_str() && *account == permission.account.as_str() {
            step
        } else {
            step.change(
                format!("for {source} → {}", permission.source),
                self.deed(What::Forbid(permission.clone())),
            )
            .deed(self.deed(What::Permit(permission)))
        });
        Ok(())
    }
}
