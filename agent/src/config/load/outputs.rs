//! The tables `[outputs.NAME]`.
//!
//! In: the table of all outputs. Out: each output as its type reads it; every mistake at its place. What concerns
//! several keys of an output, or several outputs, is checked here too; `auth` and `tls` have a module of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Loader, Table, connection, is_name};
use crate::config::diagnostic::{listed, suggestion};
use crate::config::keys::{TARGET, TARGETS, TYPES, elasticsearch, keys_of, reading};
use crate::config::units::{quoted, show_duration};
use crate::config::{
    BulkOp, ByteSize, Compression, Config, ElasticsearchConfig, FileConfig, IndexSetup, OutputConfig,
    ReadingConfig, StdoutConfig, Target,
};

impl<'a> Loader<'a> {
    /// All outputs, by name.
    pub(super) fn outputs(
        &mut self,
        outputs: Option<Table<'a>>,
        reported: bool,
        config: Option<&Config>,
    ) -> BTreeMap<String, OutputConfig> {
        let mut read = BTreeMap::new();
        let entries = outputs.map(|table| table.entries).unwrap_or_default();
        if entries.is_empty() && !reported {
            self.problems.push(self.source.nowhere(
                "no output is configured",
                &format!("add a table `[outputs.NAME]` with a `type`: {}", listed(&TYPES)),
            ));
        }
        let mut paths: Vec<String> = Vec::new();
        for (name, value) in entries {
            let (name_span, span) = (name.span(), value.span());
            let name = name.into_inner().into_owned();
            let DeValue::Table(entries) = value.into_inner() else {
                self.problem(
                    name_span,
                    &format!("`outputs.{}` must be a table", name.escape_debug()),
                    "an output has a name of your choice: write `[outputs.NAME]` above its keys",
                );
                continue;
            };
            if !is_name(&name) {
                self.problem(
                    name_span,
                    &format!("{} cannot be the name of an output", quoted(&name)),
                    "use 1 to 64 small letters, digits, `-` and `_`",
                );
            }
            let mut table = Table { span, entries, reported: Vec::new() };
            let Some(output) = self.output(&mut table) else { continue };
            if let OutputConfig::File(file) = &output {
                self.check_path(&table, file, &mut paths, config);
            }
            read.insert(name, output);
        }
        read
    }

    fn output(&mut self, table: &mut Table<'a>) -> Option<OutputConfig> {
        let Some(kind) = table.entries.remove("type") else {
            self.problem(table.span.clone(), "missing key `type`", &format!("one of {}", listed(&TYPES)));
            return None;
        };
        let reading_keys = reading();
        let output = match kind.get_ref().as_str() {
            Some("elasticsearch" | "opensearch") => {
                self.unknown_keys(table, &[elasticsearch(), reading_keys].concat());
                let reading = self.reading(table, ReadingConfig::default());
                let output = self.elasticsearch(table);
                OutputConfig::Elasticsearch(ElasticsearchConfig { reading: reading?, ..output? })
            }
            Some("cloudwatch") => OutputConfig::CloudWatch(self.cloudwatch(table)?),
            Some("file") => {
                self.unknown_keys(table, &[keys_of::<FileConfig>(), reading_keys].concat());
                let reading = self.reading(table, ReadingConfig::local());
                let output = self.read::<FileConfig>(table);
                if let Some(file) = &output {
                    let size = ByteSize::kib(1)..=ByteSize::mib(1 << 20);
                    self.between(table, "max_size", file.max_size, size, |size| size.to_string());
                    self.between(table, "keep", file.keep, 0..=1000, |count| count.to_string());
                }
                OutputConfig::File(FileConfig { reading: reading?, ..output? })
            }
            Some("stdout") => {
                self.unknown_keys(table, &[keys_of::<StdoutConfig>(), reading_keys].concat());
                let reading = self.reading(table, ReadingConfig::local());
                let output = self.read::<StdoutConfig>(table);
                OutputConfig::Stdout(StdoutConfig { reading: reading?, ..output? })
            }
            Some(other) => {
                let message = format!("there is no output of type {}", quoted(other));
                self.problem(kind.span(), &message, &suggestion(other, &TYPES));
                return None;
            }
            None => {
                let help = format!("one of {}", listed(&TYPES));
                self.problem(kind.span(), "`type` must be a string", &help);
                return None;
            }
        };
        Some(output)
    }

    /// The keys that all outputs share; `defaults` are those of this type of output.
    pub(super) fn reading(
        &mut self,
        table: &mut Table<'a>,
        defaults: ReadingConfig,
    ) -> Option<ReadingConfig> {
        let rate_limit = self.rate_limit(table);
        let mut reading = self.read::<ReadingConfig>(table)?;
        reading.rate_limit = rate_limit;
        if !table.entries.contains_key("linger") {
            reading.linger = defaults.linger;
        }
        self.time(table, "max_age", reading.max_age, Duration::from_secs(1)..=Duration::MAX);
        self.time(table, "linger", reading.linger, Duration::ZERO..=Duration::from_secs(300));
        let batch = ByteSize::kib(64)..=ByteSize::mib(32);
        self.between(table, "batch", reading.batch, batch, |size| size.to_string());
        self.between(table, "workers", reading.workers, 1..=64, |count| count.to_string());
        self.check_lag(table, &reading);
        Some(reading)
    }

    fn elasticsearch(&mut self, table: &mut Table<'a>) -> Option<ElasticsearchConfig> {
        self.fold_target(table);
        let tls_span = connection::key_span(&table.entries, "tls");
        let (auth, tls) = (self.auth(table), self.tls(table));
        let setup = self.index_setup(table);
        let output = self.read::<ElasticsearchConfig>(table)?;
        self.check_tls(tls_span, &output.endpoints);
        let hour = Duration::from_secs(3600);
        self.between(table, "compression_level", output.compression_level, 1..=9, |level| level.to_string());
        self.between(table, "in_flight", output.in_flight, 1..=64, |count| count.to_string());
        self.time(table, "timeout", output.timeout, Duration::from_millis(100)..=hour);
        self.time(table, "retry_initial", output.retry_initial, Duration::from_millis(1)..=hour);
        self.time(table, "retry_max", output.retry_max, Duration::from_millis(1)..=hour);
        if table.reported.is_empty() && output.retry_max < output.retry_initial {
            let key = if table.entries.contains_key("retry_max") { "retry_max" } else { "retry_initial" };
            let (initial, max) = (show_duration(output.retry_initial), show_duration(output.retry_max));
            let help = format!("`retry_initial` is {initial}, `retry_max` is {max}");
            self.problem(table.value_span(key), "`retry_max` cannot be less than `retry_initial`", &help);
        }
        let letters = ByteSize::mib(1)..=ByteSize::mib(1024);
        self.between(table, "dead_letters", output.dead_letters, letters, |size| size.to_string());
        if let (Target::Index(index), Some(Some(_))) =
            (&output.target, setup.as_ref().map(|setup| setup.keep))
            && !index.has_date()
        {
            let message = "`keep` would delete an index with all that is in it: its name has no `{date}`";
            self.problem(
                table.span.clone(),
                message,
                "write `index = \"logs-{date}\"`, or use a data stream",
            );
        }
        if output.op == BulkOp::Index && matches!(output.target, Target::DataStream(_)) {
            self.problem(
                table.value_span("op"),
                "a data stream does not take `op = \"index\"`",
                "leave it out: a record that is sent again is recognised by its `_id`; or write to an `index`",
            );
        }
        if output.compression == Compression::None
            && let Some((key, _)) = table.entries.get_key_value("compression_level")
        {
            let message = "`compression_level` has no meaning without compression";
            self.problem(key.span(), message, "leave it out, or write `compression = \"gzip\"`");
        }
        Some(ElasticsearchConfig { auth: auth?, tls: tls?, setup: setup?, ..output })
    }

    /// `setup = true`, or a table.
    fn index_setup(&mut self, output: &mut Table<'a>) -> Option<IndexSetup> {
        let default = IndexSetup::default();
        match output.entries.get("setup").map(|value| value.get_ref()) {
            None => return Some(default),
            Some(DeValue::Boolean(at_start)) => {
                let at_start = *at_start;
                output.entries.remove("setup");
                return Some(IndexSetup { at_start, ..default });
            }
            Some(_) => {}
        }
        let help = "write `setup = true`, or `[outputs.NAME.setup]` above its keys";
        let target = output.entries.get(TARGET).and_then(|target| target.get_ref().as_table());
        let is_index = target.is_some_and(|target| target.contains_key("index"));
        let mut table = self.inner_table(output, "setup", help)?;
        self.unknown_keys(&mut table, &keys_of::<IndexSetup>());
        let setup = self.read::<IndexSetup>(&mut table)?;
        for key in ["rollover_size", "rollover_age"].into_iter().filter(|_| is_index) {
            if let Some(span) = connection::key_span(&table.entries, key) {
                let message = format!("`{key}` has no meaning for an `index`, which is never rolled over");
                self.problem(span, &message, "leave it out, or write to a `data_stream`");
            }
        }
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let hour = Duration::from_secs(3600);
        if let Some(keep) = setup.keep {
            self.time(&table, "keep", keep, hour..=days(3650));
        }
        self.time(&table, "rollover_age", setup.rollover_age, hour..=days(365));
        let size = ByteSize::mib(1)..=ByteSize::mib(1 << 20);
        self.between(&table, "rollover_size", setup.rollover_size, size, |size| size.to_string());
        self.between(&table, "shards", setup.shards, 1..=1024, |count| count.to_string());
        self.between(&table, "replicas", setup.replicas, 0..=16, |count| count.to_string());
        Some(setup)
    }

    /// `data_stream` and `index` are one choice and one field: `index = T` becomes `target = { index = T }`, which is
    /// how serde writes the choice.
    fn fold_target(&mut self, table: &mut Table<'a>) {
        let [stream, index] = TARGETS.map(|key| table.entries.remove_entry(key));
        let (key, value) = match (stream, index) {
            (Some(target), None) | (None, Some(target)) => target,
            (Some(stream), Some(index)) => {
                let second = stream.0.span().start.max(index.0.span().start);
                let key = if second == index.0.span().start { index.0 } else { stream.0 };
                self.problem(key.span(), "both `data_stream` and `index` are given", "leave one of them out");
                return table.reported.push(TARGET.to_owned());
            }
            (None, None)
                if TARGETS.iter().any(|key| table.reported.iter().any(|reported| reported == key)) =>
            {
                return table.reported.push(TARGET.to_owned());
            }
            (None, None) => {
                self.problem(
                    table.span.clone(),
                    "missing key `data_stream` or `index`",
                    "say where documents go, as in `data_stream = \"logs-{namespace}-prod\"`",
                );
                return table.reported.push(TARGET.to_owned());
            }
        };
        let (key_span, span) = (key.span(), value.span());
        let choice = DeTable::from_iter([(key, value)]);
        let target = Spanned::new(key_span, DeString::Borrowed(TARGET));
        table.entries.insert(target, Spanned::new(span, DeValue::Table(choice)));
    }

    /// Two outputs to one file would write over each other; one within the logs would be fed its own output.
    fn check_path(
        &mut self,
        table: &Table<'_>,
        file: &FileConfig,
        seen: &mut Vec<String>,
        config: Option<&Config>,
    ) {
        let path = file.path.text();
        if seen.iter().any(|other| other == path) {
            self.problem(
                table.value_span("path"),
                "another output has this path",
                "give each a path of its own",
            );
        }
        seen.push(path.to_owned());
        if config.is_some_and(|config| Path::new(file.path.directory()).starts_with(&config.pod_logs)) {
            self.problem(
                table.value_span("path"),
                "`path` cannot lie within `pod_logs`",
                "choose a folder elsewhere: the agent would read what it wrote",
            );
        }
    }
}
