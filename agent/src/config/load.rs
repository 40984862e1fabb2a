//! From the text of a file to a [`Config`], finding as many mistakes at once as there are.
//!
//! In: TOML. Out: a checked configuration, or every mistake with its place. The document is first parsed to values
//! that know where they stand; then each table is deserialized by serde on its own. Serde stops at the first
//! mistake: the key that holds it is then taken out, and the table tried again. That, and not serde's tagged or
//! flattened types, which lose the places of what they hold, is why outputs are put together by hand here.

mod cloudwatch;
mod connection;
mod files;
mod forward;
mod limits;
mod metadata;
mod outputs;
mod routes;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::diagnostic::{Diagnostic, Diagnostics, Source, nearest, suggestion};
use super::keys::{TARGET, keys_of, place_of, top_level};
use super::units::{quoted, show_duration};
use super::{
    AnnotationsConfig, ByteSize, CloudWatchConfig, Config, DrainConfig, HealthConfig, LogConfig,
    MetadataSource, OutputConfig, RetainConfig,
};

/// A larger file is no configuration, and is not read into memory.
const FILE_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or holds mistakes: all that were found.
    pub fn load(path: &Path) -> Result<Config, Diagnostics> {
        Config::parse_bytes(Config::read(path)?, path)
    }

    /// Reads the bytes of a file, up to one more than a configuration may have.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Vec<u8>, Diagnostics> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes));
        let Err(error) = read else { return Ok(bytes) };
        let source = Source { file: &path.display().to_string(), text: "" };
        Err(Diagnostics(vec![source.nowhere(
            &format!("the configuration cannot be read: {error}"),
            match error.kind() {
                io::ErrorKind::NotFound => "check the path given with --config",
                io::ErrorKind::PermissionDenied => "let the user that runs the agent read the file",
                io::ErrorKind::IsADirectory => "name the file in it",
                _ => "check the file and what it lies on",
            },
        )]))
    }

    /// Reads the bytes of a file; `path` is what messages call it.
    ///
    /// # Errors
    /// All mistakes that were found.
    pub fn parse_bytes(bytes: Vec<u8>, path: &Path) -> Result<Config, Diagnostics> {
        let file = path.display().to_string();
        let source = Source { file: &file, text: "" };
        if bytes.len() as u64 > FILE_BYTES {
            let limit = ByteSize::new(FILE_BYTES);
            let message = format!("the configuration is larger than {limit}");
            return Err(Diagnostics(vec![source.nowhere(&message, "check the path given with --config")]));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Config::parse(&text, &file),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes());
                let problem = Source { file: &file, text: &text }.at(
                    valid..valid + char::REPLACEMENT_CHARACTER.len_utf8(),
                    "the configuration is not valid UTF-8",
                    "save the file as UTF-8",
                );
                Err(Diagnostics(vec![problem]))
            }
        }
    }

    /// Reads the text of a file; `file` is what messages call it.
    ///
    /// # Errors
    /// All mistakes that were found, in the order of the text.
    pub fn parse(text: &str, file: &str) -> Result<Config, Diagnostics> {
        let mut loader = Loader { source: Source { file, text }, problems: Vec::new() };
        let (document, errors) = DeTable::parse_recoverable(text);
        let config = if errors.is_empty() {
            let span = document.span();
            loader.document(Table { span, entries: document.into_inner(), reported: Vec::new() })
        } else {
            // What TOML makes of a broken text is a guess: mistakes found in it would be guesses too.
            errors.iter().for_each(|error| loader.syntax(error));
            None
        };
        let mut problems = loader.problems;
        problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
        if !errors.is_empty() {
            // A slip makes several errors; the first of a line is the one to mend.
            problems.dedup_by_key(|problem| problem.place.as_ref().map(|place| place.line));
        }
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Diagnostics(problems)),
        }
    }
}

/// A table of the document, on its way to be deserialized.
struct Table<'i> {
    /// Its header, where one is written; what a missing key is shown at.
    span: Range<usize>,
    entries: DeTable<'i>,
    /// Keys that a mistake was already reported of, so that none is reported twice or for being taken out.
    reported: Vec<String>,
}

impl Table<'_> {
    /// Where the value of a key stands; the table's header if it is not there.
    fn value_span(&self, key: &str) -> Range<usize> {
        self.entries.get(key).map_or(self.span.clone(), Spanned::span)
    }
}

struct Loader<'a> {
    source: Source<'a>,
    problems: Vec<Diagnostic>,
}

impl<'a> Loader<'a> {
    fn problem(&mut self, span: Range<usize>, message: &str, help: &str) {
        self.problems.push(self.source.at(span, message, help));
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        let (message, help) = match error.message().split_once(", expected ") {
            Some(("string values must be quoted", _)) => {
                ("a value that is text must be quoted", "write it in quotes")
            }
            Some((message, expected)) => (message, &*format!("expected {expected}")),
            None if error.message() == "duplicate key" => {
                ("this key is already set above", "leave one of them out")
            }
            None => (error.message(), ""),
        };
        self.problem(error.span().unwrap_or_default(), &format!("not valid TOML: {message}"), help);
    }

    fn document(&mut self, mut document: Table<'a>) -> Option<Config> {
        let log = self.table(&mut document, "log", "write `[log]` above its keys");
        let retain = self.table(&mut document, "retain", "write `[retain]` above its keys");
        let routes = document.entries.remove("routes");
        let drain = self.table(&mut document, "drain", "write `[drain]` above its keys");
        let health = self.table(&mut document, "health", "write `[health]` above its keys");
        let metadata = self.table(&mut document, "metadata", "write `[metadata]` above its keys");
        let annotations = self.table(&mut document, "annotations", "write `[annotations]` above its keys");
        let forward = self.table(&mut document, "forward", "write `[forward]` above its keys");
        let files =
            self.table(&mut document, "files", "host files have a name of your choice: `[files.NAME]`");
        let outputs =
            self.table(&mut document, "outputs", "an output has a name of your choice: `[outputs.NAME]`");
        self.unknown_keys(&mut document, &top_level());
        let config = self.read::<Config>(&mut document);
        let log = log.and_then(|mut log| {
            self.unknown_keys(&mut log, &keys_of::<LogConfig>());
            self.read::<LogConfig>(&mut log)
        });
        let retain = retain.and_then(|mut retain| {
            self.unknown_keys(&mut retain, &keys_of::<RetainConfig>());
            let read = self.read::<RetainConfig>(&mut retain)?;
            let allowed = Duration::from_secs(1)..=Duration::from_secs(3600);
            self.time(&retain, "copy_after", read.copy_after, allowed);
            Some(read)
        });
        let drain = drain.and_then(|mut drain| {
            self.unknown_keys(&mut drain, &keys_of::<DrainConfig>());
            let read = self.read::<DrainConfig>(&mut drain)?;
            self.time(&drain, "deadline", read.deadline, Duration::from_secs(1)..=Duration::from_secs(3600));
            Some((read, drain.value_span("enabled"), drain.value_span("fallback")))
        });
        let outputs =
            self.outputs(outputs, document.reported.iter().any(|key| key == "outputs"), config.as_ref());
        let health = health.and_then(|health| self.health(health, &outputs));
        let files = self.files(files, config.as_ref());
        let keyed = config.as_ref().is_none_or(|config| config.hash_key.is_some());
        let metadata = metadata.and_then(|metadata| self.metadata(metadata));
        let routes = self.routes(routes, &outputs, &files, metadata.as_ref(), keyed);
        let forward = forward.and_then(|forward| self.forward(forward));
        let annotations = annotations.and_then(|mut annotations| {
            self.unknown_keys(&mut annotations, &keys_of::<AnnotationsConfig>());
            self.read::<AnnotationsConfig>(&mut annotations)
        });

        let asked = metadata.as_ref().is_none_or(|metadata| metadata.source != MetadataSource::Path);
        if let Some((DrainConfig { fallback: Some(name), .. }, _, place)) = &drain
            && !matches!(
                outputs.get(name),
                Some(OutputConfig::Elasticsearch(_) | OutputConfig::CloudWatch(_))
            )
        {
            let names: Vec<&str> = outputs.keys().map(String::as_str).collect();
            let message =
                format!("there is no output {} of type `elasticsearch` or `cloudwatch`", quoted(name));
            self.problem(place.clone(), &message, &suggestion(name, &names));
        }
        if let Some((_, place, _)) = drain.as_ref().filter(|(read, ..)| read.enabled && !asked) {
            self.problem(
                place.clone(),
                "`[drain]` asks the API server, and `metadata.source` is `\"path\"`",
                "leave one of them out",
            );
        }
        let mut config = config?;
        self.check_config(&document, &config);
        config.log = log.unwrap_or_default();
        config.retain = retain.unwrap_or_default();
        config.drain = drain.map(|(read, ..)| read).unwrap_or_default();
        config.health = health.unwrap_or_default();
        config.metadata = metadata.unwrap_or_default();
        config.metadata.asked =
            routes.iter().flat_map(|route| route.matches.annotations.keys().cloned()).collect();
        config.annotations = annotations.unwrap_or_default();
        config.forward = forward.unwrap_or_default();
        config.files = files;
        config.routes = routes;
        config.outputs = outputs;
        for output in config.outputs.values_mut() {
            if let OutputConfig::CloudWatch(CloudWatchConfig { subscription: Some(subscription), .. }) =
                output
            {
                subscription.cluster.clone_from(&config.cluster);
            }
        }
        Some(config)
    }

    /// `[health]`, whose outputs are there.
    fn health(
        &mut self,
        mut table: Table<'a>,
        outputs: &BTreeMap<String, OutputConfig>,
    ) -> Option<HealthConfig> {
        self.unknown_keys(&mut table, &keys_of::<HealthConfig>());
        let read = self.read::<HealthConfig>(&mut table)?;
        self.time(&table, "interval", read.interval, Duration::from_secs(1)..=Duration::from_secs(3600));
        if read.outputs.is_empty() && !table.reported.iter().any(|key| key == "outputs") {
            self.problem(
                table.value_span("outputs"),
                "the list is empty",
                "name an output, as in [\"search\"], or leave `[health]` out",
            );
        }
        let names: Vec<&str> = outputs.keys().map(String::as_str).collect();
        for name in read.outputs.iter().filter(|name| !names.contains(&name.as_str())) {
            let message = format!("there is no output {}", quoted(name));
            self.problem(table.value_span("outputs"), &message, &suggestion(name, &names));
        }
        self.no_name_twice(&table, "outputs", &read.outputs);
        Some(read)
    }

    /// A list of names has each of them once.
    fn no_name_twice(&mut self, table: &Table<'_>, key: &str, names: &[String]) {
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                let message = format!("{} stands here twice", quoted(name));
                self.problem(table.value_span(key), &message, "leave one of them out");
            }
        }
    }

    /// Takes a table out of another.
    fn table(&mut self, from: &mut Table<'a>, key: &str, help: &str) -> Option<Table<'a>> {
        let (name, value) = from.entries.remove_entry(key)?;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(entries) => Some(Table { span, entries, reported: Vec::new() }),
            _ => {
                self.problem(name.span(), &format!("`{key}` must be a table"), help);
                from.reported.push(key.to_owned());
                None
            }
        }
    }

    /// Deserializes what of a table belongs to a struct, and reports every mistake in it.
    fn read<T: DeserializeOwned>(&mut self, table: &mut Table<'a>) -> Option<T> {
        let keys = keys_of::<T>();
        let own = table.entries.iter().filter(|(key, _)| keys.contains(&key.get_ref().as_ref()));
        let mut entries: DeTable<'_> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        loop {
            let value = Spanned::new(table.span.clone(), DeValue::Table(entries.clone()));
            let error = match T::deserialize(ValueDeserializer::from(value)) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_else(|| table.span.clone());
            let Some((key, name)) = holder(&entries, &span) else {
                self.missing(table, error.message());
                return None;
            };
            let found = self.source.text.get(span.clone()).unwrap_or_default();
            let (message, help) = explained(&name, error.message(), found);
            self.problem(span, &message, &help);
            entries.remove(key.as_str());
            table.reported.push(key);
        }
    }

    /// What serde says of a table as a whole: that it lacks a key.
    fn missing(&mut self, table: &Table<'_>, said: &str) {
        let Some(key) = said.strip_prefix("missing field ").map(|key| key.trim_matches('`')) else {
            return self.problem(table.span.clone(), said, "");
        };
        if table.reported.iter().any(|reported| reported == key) {
            return;
        }
        let help = match key {
            "endpoints" => "add the servers, as in `endpoints = [\"https://HOST:9200\"]`",
            "username" => "add the user, as in `username = \"taffrail\"`",
            "password" | "key" | "token" => {
                "say where it comes from: { env = \"NAME\" } or { file = \"/path\" }"
            }
            "to" => "say where events go on to, as in `to = \"arn:aws:kinesis:REGION:ACCOUNT:stream/NAME\"`",
            "outputs" => "name them, as in `outputs = [\"search\"]`",
            "paths" => "add the files, as in `paths = [\"/var/log/syslog\"]`",
            "path" => "add the files, as in `path = \"/var/log/taffrail-out/{namespace}.ndjson\"`",
            _ => "",
        };
        self.problem(table.span.clone(), &format!("missing key `{key}`"), help);
    }

    fn unknown_keys(&mut self, table: &mut Table<'_>, known: &[&str]) {
        let Table { entries, reported, .. } = table;
        for name in entries.keys() {
            let key = name.get_ref().as_ref();
            if known.contains(&key) {
                continue;
            }
            // A letter too few is a slip, also where another table has a key of that name.
            let slip = nearest(key, known.iter().copied()).is_some_and(|near| near.starts_with(key));
            let place = if slip { None } else { place_of(key) };
            let help = place.unwrap_or_else(|| suggestion(key, known));
            self.problem(name.span(), &format!("unknown key {}", quoted(key)), &help);
            // That `endpoints` is missing need not be said of a table that has an `endpoint`.
            reported.extend(nearest(key, known.iter().copied()).map(str::to_owned));
        }
    }

    fn check_config(&mut self, table: &Table<'_>, config: &Config) {
        let (hour, soon) = (Duration::from_secs(3600), Duration::from_millis(10));
        let shown = |size: ByteSize| size.to_string();
        self.between(table, "memory", config.memory, ByteSize::mib(16)..=ByteSize::mib(1 << 20), shown);
        self.between(table, "max_record", config.max_record, ByteSize::kib(16)..=ByteSize::mib(64), shown);
        self.time(table, "grace", config.grace, Duration::from_secs(1)..=24 * hour);
        self.time(table, "rescan", config.rescan, soon..=hour);
        self.time(table, "join_timeout", config.join_timeout, soon..=hour);
        if config.listen.clashes_with(config.metrics_listen) {
            let keys = ["metrics_listen", "listen"];
            let key = keys.into_iter().find(|key| table.entries.contains_key(*key)).unwrap_or("listen");
            self.problem(
                table.value_span(key),
                "`listen` and `metrics_listen` are at one address",
                "give each a port of its own, such as 9600 and 9601",
            );
        }
        if config.state_dir.starts_with(&config.pod_logs) {
            let key = if table.entries.contains_key("state_dir") { "state_dir" } else { "pod_logs" };
            self.problem(
                table.value_span(key),
                "`state_dir` cannot lie within `pod_logs`",
                "choose a folder elsewhere: the agent would take its own files for logs",
            );
        }
    }

    fn time(&mut self, table: &Table<'_>, key: &str, value: Duration, allowed: RangeInclusive<Duration>) {
        self.between(table, key, value, allowed, show_duration);
    }

    fn between<T: PartialOrd + Copy>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
        show: fn(T) -> String,
    ) {
        let (least, most) = (*allowed.start(), *allowed.end());
        let (message, help) = if value < least {
            (format!("`{key}` is too small"), format!("at least {}", show(least)))
        } else if value > most {
            (format!("`{key}` is too large"), format!("at most {}", show(most)))
        } else {
            return;
        };
        self.problem(table.value_span(key), &message, &help);
    }
}

/// The entry that holds a place, and the name that the user wrote for it.
fn holder(entries: &DeTable<'_>, span: &Range<usize>) -> Option<(String, String)> {
    entries.iter().find_map(|(key, value)| {
        let name = key.get_ref().clone().into_owned();
        // The span of a table is its header or its key alone, so what it holds must be asked too.
        if let Some((_, inner)) = value.get_ref().as_table().and_then(|inner| holder(inner, span)) {
            let written = if name == TARGET { inner } else { name.clone() };
            return Some((name, written));
        }
        let within =
            |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end && !span.is_empty();
        (within(value.span()) || within(key.span())).then(|| (name.clone(), name))
    })
}

/// Serde's message for a value, in our words. What [`super::units::text`] and its like refuse comes in two lines.
fn explained(key: &str, said: &str, found: &str) -> (String, String) {
    if let Some((message, help)) = said.split_once('\n') {
        return (format!("`{key}`: {message}"), help.to_owned());
    }
    if let Some((field, known)) = said.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return (format!("unknown key {} in `{key}`", quoted(field)), suggestion(field, &known));
    }
    if let Some(missing) = said.strip_prefix("missing field ") {
        return (format!("`{key}` lacks the key {missing}"), "add it".to_owned());
    }
    let name = found.trim_matches(['"', '\'']);
    let message = format!("`{key}` cannot be {}", quoted(name));
    let help = match said.rsplit_once(", expected ") {
        Some((what, variants)) if what.starts_with("unknown variant ") => {
            let known: Vec<&str> = variants.split('`').skip(1).step_by(2).collect();
            suggestion(name, &known)
        }
        Some((_, "usize" | "u32" | "u64")) => {
            "expected a whole number, not negative and without quotes".to_owned()
        }
        Some((_, "a boolean")) => "expected a boolean: true or false, without quotes".to_owned(),
        Some((_, "a sequence")) => "expected a list, as in [\"…\"]".to_owned(),
        Some((_, "a map")) => "expected a table, as in { KEY = … }".to_owned(),
        Some((_, expected)) => format!("expected {expected}"),
        None => "expected a string".to_owned(),
    };
    (message, help)
}

/// Whether it can be the name of an output, or of host files.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}
