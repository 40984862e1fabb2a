//! The table of a `cloudwatch` output.
//!
//! In: the output's table. Out: its struct; every mistake at its place. What concerns several of its keys is checked
//! here.

use super::{Loader, Table};
use crate::config::ByteSize;
use crate::config::cloudwatch::{CloudWatchConfig, EventFormat, FieldNames};
use crate::config::keys::{keys_of, reading};

impl<'a> Loader<'a> {
    pub(super) fn cloudwatch(&mut self, table: &mut Table<'a>) -> Option<CloudWatchConfig> {
        self.unknown_keys(table, &[keys_of::<CloudWatchConfig>(), reading()].concat());
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
        Some(CloudWatchConfig { reading: reading?, ..output })
    }
}
