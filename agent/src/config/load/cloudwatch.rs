//! The table of a `cloudwatch` output.
//!
//! In: the output's table. Out: its struct; every mistake at its place. What concerns several of its keys is checked
//! here.

use super::{Loader, Table};
use crate::config::cloudwatch::{CloudWatchConfig, EventFormat, FieldNames, LogClass};
use crate::config::keys::{cloudwatch, keys_of, reading};
use crate::config::{ByteSize, SubscriptionConfig, SubscriptionScope};

impl<'a> Loader<'a> {
    pub(super) fn cloudwatch(&mut self, table: &mut Table<'a>) -> Option<CloudWatchConfig> {
        self.unknown_keys(table, &[cloudwatch(), reading()].concat());
        let subscription = self.subscription(table);
        let reading = self.reading(table, CloudWatchConfig::default_reading());
        let output = self.read::<CloudWatchConfig>(table)?;
        let count = |count: u32| count.to_string();
        self.between(table, "account_tps", output.account_tps, 1..=1_000_000, count);
        self.between(table, "nodes", output.nodes, 1..=100_000, count);
        self.between(table, "in_flight", output.in_flight, 1..=64, |count| count.to_string());
        let letters = ByteSize::mib(1)..=ByteSize::mib(1024);
        self.between(table, "dead_letters", output.dead_letters, letters, |size| size.to_string());
        if output.log_group.has_date() && output.log_stream.has_date() {
            self.problem(
                table.value_span("log_stream"),
                "both `log_group` and `log_stream` have `{date}`",
                "leave one of them out",
            );
        }
        if output.external_id.is_some() && output.role_arn.is_none() {
            self.problem(
                table.value_span("external_id"),
                "`external_id` has no meaning without `role_arn`",
                "add `role_arn`",
            );
        }
        if output.fields == FieldNames::ContainerInsights && output.format != EventFormat::Json {
            let message = format!("`fields` has no meaning with `format = \"{}\"`", output.format.as_str());
            self.problem(table.value_span("fields"), &message, "leave one of them out");
        }
        for (key, set) in [("fips", output.fips), ("dual_stack", output.dual_stack)] {
            if set && output.endpoint.is_some() {
                let message = format!("`{key}` has no meaning beside `endpoint`");
                self.problem(table.value_span(key), &message, "leave one of them out");
            }
        }
        if let Some(region) = output.region.as_deref().filter(|region| !output.allows(region)) {
            let message = format!("`region`: {region} is not one of `allowed_regions`");
            let help = format!("logs may only go to {}", output.allowed_regions.join(", "));
            self.problem(table.value_span("region"), &message, &help);
        }
        if output.class == LogClass::InfrequentAccess && subscription.is_some() {
            self.problem(
                table.value_span("class"),
                "groups of class INFREQUENT_ACCESS can have no subscription",
                "leave `class` out, or `subscription`; the class of a group can never be changed",
            );
        }
        if let (Some(region), Some(subscription)) = (&output.region, &subscription)
            && *region != subscription.to.region
        {
            let message = format!("a subscription in {region} cannot lead to {}", subscription.to.region);
            self.problem(table.value_span("region"), &message, "both are in one region");
        }
        Some(CloudWatchConfig { reading: reading?, subscription: subscription.map(Box::new), ..output })
    }

    /// The table `subscription`, if there is one.
    fn subscription(&mut self, output: &mut Table<'a>) -> Option<SubscriptionConfig> {
        let help = "write `[outputs.NAME.subscription]`, with `to`";
        let mut table = self.inner_table(output, "subscription", help)?;
        self.unknown_keys(&mut table, &keys_of::<SubscriptionConfig>());
        let read = self.read::<SubscriptionConfig>(&mut table)?;
        if read.role.is_some() && !read.needs_role() {
            let message = format!("`role` has no meaning where `to` is a {}", read.to.kind);
            self.problem(table.value_span("role"), &message, "leave it out");
        }
        let spread = table.entries.contains_key("distribution");
        if spread && read.distribution().is_none() {
            let message = format!("`distribution` has no meaning where `to` is a {}", read.to.kind);
            self.problem(table.value_span("distribution"), &message, "leave it out");
        }
        if !read.exclude.is_empty() && read.scope == SubscriptionScope::Group {
            let message = "`exclude` has no meaning where each group has its own filter";
            self.problem(
                table.value_span("exclude"),
                message,
                "leave it out, or write `scope = \"account\"`",
            );
        }
        if !read.senders.is_empty() && !read.needs_role() {
            let message = format!("other accounts cannot send to a {}", read.to.kind);
            self.problem(
                table.value_span("senders"),
                &message,
                "a destination leads to a Kinesis or Firehose stream",
            );
        }
        Some(read)
    }
}
