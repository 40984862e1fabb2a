//! What an output's `rate_limit`, `on_full` and `max_lag` say.
//!
//! In: the output's table. Out: the checked values, `rate_limit` taken out of it; every mistake at its place.

use std::time::Duration;

use toml::de::DeValue;

use super::{Loader, Table};
use crate::config::keys::keys_of;
use crate::config::limits::{Rate, RateLimitConfig};
use crate::config::{ByteSize, OnFull, ReadingConfig};

/// The tables within `rate_limit`.
const RATES: [&str; 2] = ["container", "namespace"];

impl<'a> Loader<'a> {
    /// The table `rate_limit` of an output, if it has one.
    pub(super) fn rate_limit(&mut self, output: &mut Table<'a>) -> Option<RateLimitConfig> {
        let mut table = self.inner_table(output, "rate_limit", "write `[outputs.NAME.rate_limit]`")?;
        let rates = RATES.map(|key| {
            let rate =
                self.inner_table(&mut table, key, "write it as { bytes = \"1MiB\" }, or { lines = 500 }");
            rate.and_then(|rate| self.rate(rate))
        });
        self.unknown_keys(&mut table, &[keys_of::<RateLimitConfig>(), RATES.to_vec()].concat());
        if rates == [None; 2] && !RATES.iter().any(|key| table.reported.iter().any(|said| said == key)) {
            let help =
                "say how much: container = { bytes = \"1MiB\" }, namespace = { lines = 5000 }, or both";
            self.problem(table.span.clone(), "`rate_limit` limits nothing", help);
        }
        let limits = self.read::<RateLimitConfig>(&mut table)?;
        self.time(&table, "burst", limits.burst, Duration::from_secs(1)..=Duration::from_secs(3600));
        let [container, namespace] = rates;
        Some(RateLimitConfig { container, namespace, ..limits })
    }

    fn rate(&mut self, mut table: Table<'a>) -> Option<Rate> {
        let mistakes = self.problems.len();
        self.unknown_keys(&mut table, &keys_of::<Rate>());
        let rate = self.read::<Rate>(&mut table)?;
        if rate == Rate::default() && self.problems.len() == mistakes {
            self.problem(
                table.span.clone(),
                "this limits nothing",
                "say how much a second: bytes = \"1MiB\", or lines = 500",
            );
        }
        if let Some(bytes) = rate.bytes {
            let allowed = ByteSize::new(1)..=ByteSize::mib(1 << 20);
            self.between(&table, "bytes", bytes, allowed, |size| size.to_string());
        }
        if let Some(lines) = rate.lines {
            self.between(&table, "lines", lines, 1..=1_000_000_000, |count| count.to_string());
        }
        Some(rate)
    }

    /// Takes a table out of another, and remembers that it was there.
    pub(super) fn inner_table(&mut self, from: &mut Table<'a>, key: &str, help: &str) -> Option<Table<'a>> {
        let (name, value) = from.entries.remove_entry(key)?;
        from.reported.push(key.to_owned());
        // A table's own span is its header; of an inline table that would be its key alone.
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(entries) => Some(Table { span, entries, reported: Vec::new() }),
            _ => {
                self.problem(name.span(), &format!("`{key}` must be a table"), help);
                None
            }
        }
    }

    /// `on_full` and `max_lag`, which belong together.
    pub(super) fn check_lag(&mut self, table: &Table<'_>, reading: &ReadingConfig) {
        match (reading.on_full, reading.max_lag) {
            (OnFull::DropOldest, None) if !table.reported.iter().any(|key| key == "max_lag") => self.problem(
                table.value_span("on_full"),
                "`on_full = \"drop_oldest\"` needs a `max_lag`",
                "say how much of a container may be unread, as in `max_lag = \"100MiB\"`",
            ),
            (OnFull::Wait, Some(_)) if !table.reported.iter().any(|key| key == "on_full") => self.problem(
                table.value_span("max_lag"),
                "`max_lag` has no meaning unless the oldest is dropped",
                "leave it out, or write `on_full = \"drop_oldest\"`",
            ),
            _ => {}
        }
        if let Some(lag) = reading.max_lag {
            let allowed = ByteSize::mib(1)..=ByteSize::mib(1 << 20);
            self.between(table, "max_lag", lag, allowed, |size| size.to_string());
        }
    }
}
