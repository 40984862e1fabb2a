//! What is put on a server: templates and lifecycles, as JSON.
//!
//! In: an output, and what its server can. Out: bodies of requests. What panels add up are fields of their own types;
//! an application's own JSON, and labels, are one field each, so that no log line can add to the mapping or contradict it.
//! A value that is not of its field's type is kept and shown, and the document is not refused for it.

use serde_json::{Map, Value, json};

use super::server::Abilities;
use super::{COMPONENT, Lifecycle, Place, TEMPLATE};
use crate::config::metadata::FIELDS;
use crate::config::template::Safe;
use crate::config::units::show_duration;
use crate::config::{Config, ElasticsearchConfig, IndexSetup, Target};
use crate::record::json::MAX_DEPTH;
use crate::record::parse::NUMBERS;

/// Above 200, since Elastic's own template for `logs-*-*` is at 100 and it reserves up to 200.
const PRIORITY: u32 = 250;

/// What marks a thing as ours.
const MARK: &str = "taffrail";

/// A keyword of more letters is kept and not searched: Lucene refuses a term above 32,766 bytes, and a letter has up to four.
const LETTERS: u32 = 8_000;

/// Keywords besides those that `metadata.fields` chooses among.
const KEYWORDS: [&str; 42] = [
    "client.address",
    "cloud.account.id",
    "destination.address",
    "error.type",
    "event.dataset",
    "host.name",
    "http.request.id",
    "http.request.method",
    "http.request.referrer",
    "http.version",
    "kubernetes.container.name",
    "kubernetes.namespace",
    "kubernetes.node.name",
    "kubernetes.pod.name",
    "kubernetes.pod.uid",
    "log.file.path",
    "log.level",
    "log.logger",
    "orchestrator.cluster.name",
    "process.thread.name",
    "server.address",
    "service.name",
    "source.address",
    "span.id",
    "stream",
    "taffrail.encoding",
    "taffrail.health.kind",
    "taffrail.health.namespace",
    "taffrail.health.output",
    "taffrail.health.reason",
    "taffrail.health.type",
    "taffrail.health.version",
    "taffrail.metadata",
    "trace.id",
    "transaction.id",
    "url.domain",
    "url.original",
    "url.path",
    "url.query",
    "url.scheme",
    "user.name",
    "user_agent.original",
];

/// Whole numbers besides those that `parse` makes.
const LONGS: [&str; 16] = [
    "taffrail.health.bytes",
    "taffrail.health.containers",
    "taffrail.health.errors",
    "taffrail.health.files",
    "taffrail.health.in_flight",
    "taffrail.health.lag_bytes",
    "taffrail.health.memory",
    "taffrail.health.records",
    "taffrail.health.refused",
    "taffrail.health.retained",
    "taffrail.health.retained_limit",
    "taffrail.health.retries",
    "taffrail.health.waiting_metadata",
    "taffrail.original_length",
    "taffrail.part",
    "taffrail.truncated",
];

/// What is counted in parts of one.
const DOUBLES: [&str; 4] = [
    "taffrail.health.cpu",
    "taffrail.health.interval",
    "taffrail.health.lag_seconds",
    "taffrail.health.uptime",
];

const ADDRESSES: [&str; 4] = ["client.ip", "destination.ip", "kubernetes.pod.ip", "source.ip"];

const BOOLEANS: [&str; 2] = ["taffrail.invalid_utf8", "taffrail.unframed"];

const TEXTS: [&str; 2] = ["error.message", "message"];

/// Objects of any shape.
const FLAT: [&str; 6] = [
    "app",
    "kubernetes.annotations",
    "kubernetes.labels",
    "kubernetes.namespace_annotations",
    "kubernetes.namespace_labels",
    "kubernetes.node.labels",
];

fn keywords() -> impl Iterator<Item = &'static str> {
    let typed = |field: &&str| !FLAT.contains(field) && !ADDRESSES.contains(field);
    KEYWORDS.into_iter().chain(FIELDS.into_iter().filter(typed))
}

fn longs() -> impl Iterator<Item = &'static str> {
    LONGS.into_iter().chain(NUMBERS)
}

/// What an output needs on its server.
pub struct Design<'a> {
    /// What everything that is made for it is called.
    pub name: String,
    /// The names of its indices or data streams.
    pub pattern: String,
    /// Whether they are data streams.
    pub is_stream: bool,
    /// As configured.
    pub setup: &'a IndexSetup,
    config: &'a Config,
    managed: bool,
}

impl<'a> Design<'a> {
    /// Of an output.
    pub fn of(config: &'a Config, output: &'a ElasticsearchConfig, can: &Abilities) -> Design<'a> {
        let pattern = output.target.template().pattern(&config.cluster, Safe::Index);
        let name = format!("taffrail-{}", pattern.replace('*', "any"));
        let is_stream = matches!(output.target, Target::DataStream(_));
        let mut design = Design { name, pattern, is_stream, setup: &output.setup, config, managed: false };
        design.managed = can.lifecycle == Lifecycle::Ilm && !design.is_nothing_to_manage();
        design
    }

    /// Whether indices neither grow without end nor are ever deleted.
    pub fn is_nothing_to_manage(&self) -> bool {
        !self.is_stream && self.setup.keep.is_none()
    }

    /// Everything that is made, in that order: what it is, where, and where a reply has it.
    pub fn places(&self, can: &Abilities) -> Vec<(String, String, Place)> {
        let name = &self.name;
        let component = |kind: &str| {
            let what = format!("component template {name}@{kind}");
            (what, format!("/_component_template/{name}@{kind}"), COMPONENT.to_owned())
        };
        let template =
            (format!("index template {name}"), format!("/_index_template/{name}"), TEMPLATE.to_owned());
        let lifecycle =
            self.lifecycle(can.lifecycle).map(|(path, _, place)| (format!("lifecycle {name}"), path, place));
        lifecycle.into_iter().chain([component("mappings"), component("settings"), template]).collect()
    }

    /// The policy for whoever ends indices: where it is, what it is, and where a reply has it.
    pub fn lifecycle(&self, by: Lifecycle) -> Option<(String, Value, Place)> {
        let name = &self.name;
        match by {
            Lifecycle::Ilm => Some((format!("/_ilm/policy/{name}"), self.ilm(), format!("/{name}/policy"))),
            Lifecycle::Ism => {
                Some((format!("/_plugins/_ism/policies/{name}"), self.ism(), "/policy".to_owned()))
            }
            Lifecycle::None => None,
        }
    }

    /// The component template of mappings.
    pub fn mappings(&self, can: &Abilities) -> Value {
        let mut properties = Map::new();
        // Dates of more than milliseconds: the order of lines within one is theirs.
        put(&mut properties, "@timestamp", json!({ "type": "date_nanos" }));
        for field in keywords() {
            put(&mut properties, field, keyword());
        }
        for (_, field) in self.config.metadata.label_fields() {
            put(&mut properties, &format!("labels.{field}"), keyword());
        }
        for field in longs() {
            put(&mut properties, field, json!({ "type": "long", "ignore_malformed": true }));
        }
        for field in DOUBLES {
            put(&mut properties, field, json!({ "type": "double" }));
        }
        for field in ADDRESSES {
            put(&mut properties, field, json!({ "type": "ip", "ignore_malformed": true }));
        }
        // Where a program's own time is the document's, the runtime's.
        put(&mut properties, "event.created", json!({ "type": "date_nanos" }));
        for field in BOOLEANS {
            put(&mut properties, field, json!({ "type": "boolean" }));
        }
        for field in TEXTS {
            put(&mut properties, field, json!({ "type": "text" }));
        }
        for field in FLAT {
            put(
                &mut properties,
                field,
                match can.flat_type {
                    Some("flattened") => {
                        json!({ "type": "flattened", "ignore_above": LETTERS, "depth_limit": MAX_DEPTH })
                    }
                    Some(kind) => json!({ "type": kind }),
                    None => json!({ "type": "object", "enabled": false }),
                },
            );
        }
        let texts = json!({ "match_mapping_type": "string", "mapping": keyword() });
        json!({
            "_meta": mark(),
            "template": { "mappings": {
                "date_detection": false,
                "dynamic_templates": [{ "texts": texts }],
                "properties": properties,
            } },
        })
    }

    /// The component template of settings.
    pub fn settings(&self, can: &Abilities) -> Value {
        let mut index = json!({
            "number_of_shards": self.setup.shards.to_string(),
            "number_of_replicas": self.setup.replicas.to_string(),
            "codec": "best_compression",
            "refresh_interval": "5s",
            "query": { "default_field": ["message"] },
        });
        if can.index_mode {
            // Said, since Elasticsearch 9 takes another one for whatever is called `logs-*-*`.
            index["mode"] = json!("standard");
        }
        if self.managed {
            index["lifecycle"] = json!({ "name": self.name });
        }
        json!({ "_meta": mark(), "template": { "settings": { "index": index } } })
    }

    /// The index template; `custom`: an administrator's own component template is there.
    pub fn template(&self, custom: bool) -> Value {
        let mut composed = vec![format!("{}@mappings", self.name), format!("{}@settings", self.name)];
        if custom {
            composed.push(format!("{}@custom", self.name));
        }
        let mut template = json!({
            "_meta": mark(),
            "index_patterns": [self.pattern],
            "priority": PRIORITY,
            "composed_of": composed,
        });
        if self.is_stream {
            template["data_stream"] = json!({});
        }
        template
    }

    /// How long things are kept.
    pub fn lifecycle_in_words(&self) -> String {
        let size = self.setup.rollover_size;
        let age = show_duration(self.setup.rollover_age);
        let rolls =
            if self.is_stream { format!("a new index at {size} a shard or {age}; ") } else { String::new() };
        match self.setup.keep {
            Some(keep) => format!("{rolls}deleted after {}", show_duration(keep)),
            None => format!("{rolls}nothing is deleted (`keep` says after how long)"),
        }
    }

    fn rollover_bytes(&self) -> String {
        format!("{}b", self.setup.rollover_size.as_usize())
    }

    /// For Elasticsearch.
    fn ilm(&self) -> Value {
        let mut phases = json!({ "hot": { "actions": {} } });
        if self.is_stream {
            phases["hot"]["actions"]["rollover"] = json!({
                "max_primary_shard_size": self.rollover_bytes(),
                "max_age": show_duration(self.setup.rollover_age),
            });
        }
        if let Some(keep) = self.setup.keep {
            phases["delete"] = json!({ "min_age": show_duration(keep), "actions": { "delete": {} } });
        }
        json!({ "policy": { "_meta": mark(), "phases": phases } })
    }

    /// For OpenSearch.
    fn ism(&self) -> Value {
        let mut hot = json!({ "name": "hot", "actions": [], "transitions": [] });
        if self.is_stream {
            hot["actions"] = json!([{ "rollover": {
                "min_primary_shard_size": self.rollover_bytes(),
                "min_index_age": show_duration(self.setup.rollover_age),
            } }]);
        }
        let mut states = vec![];
        if let Some(keep) = self.setup.keep {
            let age = if self.is_stream { "min_rollover_age" } else { "min_index_age" };
            let conditions = json!({ age: show_duration(keep) });
            hot["transitions"] = json!([{ "state_name": "delete", "conditions": conditions }]);
            states.push(json!({ "name": "delete", "actions": [{ "delete": {} }], "transitions": [] }));
        }
        states.insert(0, hot);
        json!({ "policy": {
            "description": MARK,
            "default_state": "hot",
            "states": states,
            "ism_template": [{ "index_patterns": [self.pattern], "priority": PRIORITY }],
        } })
    }
}

fn mark() -> Value {
    json!({ "made_by": MARK })
}

/// Whether a thing is ours. A policy of OpenSearch can say so in its description only.
pub fn is_ours(there: &Value) -> bool {
    there["_meta"]["made_by"] == MARK || there["description"] == MARK
}

fn keyword() -> Value {
    json!({ "type": "keyword", "ignore_above": LETTERS })
}

/// Puts a field under its name's parts.
fn put(properties: &mut Map<String, Value>, name: &str, field: Value) {
    match name.split_once('.') {
        None => {
            properties.insert(name.to_owned(), field);
        }
        Some((outer, inner)) => {
            let outer = properties.entry(outer).or_insert_with(|| json!({ "properties": {} }));
            if let Some(Value::Object(properties)) = outer.get_mut("properties") {
                put(properties, inner, field);
            }
        }
    }
}

/// A size in bytes or a time in milliseconds, as servers write them: `50gb` is `51200mb`, and `7d` is `168h`.
fn measure(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
    let (kib, second) = (1024_f64, 1e3);
    let factor = match unit {
        "b" => 1.0,
        "kb" => kib,
        "mb" => kib.powi(2),
        "gb" => kib.powi(3),
        "tb" => kib.powi(4),
        "ms" => 1.0,
        "s" => second,
        "m" => 60.0 * second,
        "h" => 3600.0 * second,
        "d" => 86_400.0 * second,
        _ => return None,
    };
    text[..text.len() - unit.len()].parse::<f64>().ok().map(|number| number * factor)
}

/// What means something by being there or not: more of it than is wanted is a difference.
const WHOLE: [&str; 4] = ["phases", "states", "data_stream", "lifecycle"];

/// Whether all that is wanted is there, whatever else is; servers write numbers and truths as texts, and sizes and times in
/// other units.
///
/// # Errors
/// The first place that differs, in words.
pub fn is_within(wanted: &Value, there: &Value) -> Result<(), String> {
    differs(wanted, there, &mut Vec::new()).map_or(Ok(()), Err)
}

fn differs<'a>(wanted: &'a Value, there: &Value, path: &mut Vec<&'a str>) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => {
            let whole = path.last().is_some_and(|key| *key == "phases");
            let more = |key: &&String| !wanted.contains_key(*key) && (whole || WHOLE.contains(&key.as_str()));
            if let Some(key) =
                there.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key).find(more)
            {
                return Some(format!(
                    "{}: is there, and is not wanted",
                    [path.join("."), key.clone()].join(".")
                ));
            }
            wanted.iter().find_map(|(key, wanted)| {
                path.push(key);
                let found = differs(wanted, there.get(key).unwrap_or(&Value::Null), path);
                path.pop();
                found
            })
        }
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => {
            wanted.iter().zip(there).find_map(|(wanted, there)| differs(wanted, there, path))
        }
        // An empty object is often left out.
        (Value::Object(wanted), Value::Null) if wanted.is_empty() => None,
        _ if text(wanted) == text(there) => None,
        _ if measure(&text(wanted)).is_some_and(|wanted| Some(wanted) == measure(&text(there))) => None,
        _ => Some(format!("{}: {} instead of {}", path.join("."), text(there), text(wanted))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_writes_otherwise_is_the_same() {
        let wanted = json!({ "index": { "shards": "1", "size": "53687091200b", "age": "7d", "none": {} }, "list": ["a"] });
        let there =
            json!({ "index": { "shards": 1, "size": "50gb", "age": "168h", "more": true }, "list": ["a"] });
        assert_eq!(is_within(&wanted, &there), Ok(()));
        let other = |key: &str, value: Value| {
            let mut there = there.clone();
            there["index"][key] = value;
            there
        };
        for (there, differs) in [
            (other("shards", json!("2")), "index.shards: 2 instead of 1"),
            (other("size", json!("49gb")), "index.size: 49gb instead of 53687091200b"),
            (other("age", Value::Null), "index.age: null instead of 7d"),
            (json!({ "index": there["index"], "list": ["a", "b"] }), r#"list: ["a","b"] instead of ["a"]"#),
            (json!({ "index": there["index"] }), r#"list: null instead of ["a"]"#),
        ] {
            assert_eq!(is_within(&wanted, &there), Err(differs.to_owned()));
        }
        for (wanted, there, differs) in [
            (
                json!({ "phases": { "hot": {} } }),
                json!({ "phases": { "hot": {}, "delete": {} } }),
                "phases.delete: is there, and is not wanted",
            ),
            (
                json!({ "a": {} }),
                json!({ "a": { "data_stream": {} } }),
                "a.data_stream: is there, and is not wanted",
            ),
            (
                json!({ "index": {} }),
                json!({ "index": { "lifecycle": { "name": "x" } } }),
                "index.lifecycle: is there, and is not wanted",
            ),
        ] {
            assert_eq!(is_within(&wanted, &there), Err(differs.to_owned()));
        }
    }

    #[test]
    fn a_field_stands_once() {
        let all: Vec<&str> =
            keywords().chain(longs()).chain(ADDRESSES).chain(BOOLEANS).chain(TEXTS).chain(FLAT).collect();
        for field in &all {
            let inner = format!("{field}.");
            assert_eq!(all.iter().filter(|other| *other == field).count(), 1, "{field}");
            assert!(!all.iter().any(|other| other.starts_with(&inner)), "{field} is an object elsewhere");
        }
    }
}
