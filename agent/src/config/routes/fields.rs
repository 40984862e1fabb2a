//! `add`, `rename`, `remove`, `hash`, `truncate`: what a route does with single fields.
//!
//! In: their values. Out: names that a record may have, and what is to become of them. What of it cannot be meant together is
//! told by [`conflicts`]. What becomes of records is `record::shape`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{Parse, RouteConfig, TimeConfig};
use crate::config::ByteSize;
use crate::config::diagnostic::Refusal;
use crate::config::units::{quoted, refused, without_variables};
use crate::record::escape;
use crate::record::fields::{is_within, may_be_changed, may_be_given, overlap};
use crate::record::hash::HashKey;
use crate::record::shape::{Edit, Shape};
use crate::record::treatment::Given;

/// A text is cut to no fewer bytes: the mark of it must fit.
const LEAST: u64 = 64;

/// What is told of names that only the agent writes.
const OWN: &str = "only the agent writes kubernetes.*, orchestrator.*, cloud.*, container.*, host.*, log.*, stream, \
                   event.dataset, event.created, taffrail.*, @timestamp and names that begin with `_`";

pub(super) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Json>, D::Error> {
    let expected = || {
        Refusal::new("expected a table of fields and their values", "as in { \"labels.team\" = \"shop\" }")
    };
    each(deserializer, expected, |name, value| {
        given_name(name)?;
        match &value {
            Value::String(text) => without_variables(text)?,
            Value::Integer(_) | Value::Boolean(_) => {}
            Value::Float(number) if number.is_finite() => {}
            _ => {
                return Err(Refusal::new(
                    format!("{} cannot be given this value", quoted(name)),
                    "give it a text, a number, true or false",
                ));
            }
        }
        serde_json::to_value(value).map_err(|error| Refusal::new(error.to_string(), "give it a text"))
    })
}

pub(super) fn renames<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let expected = || {
        Refusal::new(
            "expected a table of fields and their new names",
            "as in { \"app.user_id\" = \"user.id\" }",
        )
    };
    each(deserializer, expected, |from, to| {
        let Value::String(to) = to else { return Err(expected()) };
        changed_name(from)?;
        given_name(&to)?;
        if overlap(from, &to) {
            return Err(Refusal::new(
                format!("{} cannot become {}: one is a part of the other", quoted(from), quoted(&to)),
                "choose another name",
            ));
        }
        Ok(to)
    })
}

pub(super) fn lengths<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ByteSize>, D::Error> {
    let expected = || Refusal::new("expected a table of fields and sizes", "as in { message = \"8KiB\" }");
    each(deserializer, expected, |name, value| {
        patterned_name(name)?;
        let size = match value {
            Value::String(text) => ByteSize::parse(&text)?,
            Value::Integer(bytes) => ByteSize::new(u64::try_from(bytes).unwrap_or_default()),
            _ => return Err(expected()),
        };
        if size.bytes() < LEAST {
            return Err(Refusal::new(
                format!("{} would be cut to less than {LEAST} bytes", quoted(name)),
                "let it be longer: the mark that says so must fit",
            ));
        }
        Ok(size)
    })
}

pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = match Value::deserialize(deserializer)? {
        Value::Array(list) => list,
        other => vec![other],
    };
    let name = |value: Value| match value {
        Value::String(name) => patterned_name(&name).map(|()| name),
        _ => Err(Refusal::new(
            "expected names of fields in quotes",
            "as in [\"app.password\", \"app.debug.*\"]",
        )),
    };
    all_of(list.into_iter().map(name)).map_err(refused)
}

/// What is read of each, or what is wrong with every one that is wrong.
fn all_of<T>(read: impl Iterator<Item = Result<T, Refusal>>) -> Result<Vec<T>, Refusal> {
    let (mut good, mut messages, mut help) = (Vec::new(), Vec::new(), None);
    for one in read {
        match one {
            Ok(one) => good.push(one),
            Err(refusal) => {
                messages.push(refusal.message);
                help = help.or(Some(refusal.help));
            }
        }
    }
    messages.dedup();
    help.map_or(Ok(good), |help| Err(Refusal::new(messages.join("; "), help)))
}

/// Reads each pair of a table, whose names may be written with dots in quotes or as tables within tables.
fn each<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: impl Fn() -> Refusal,
    read: impl Fn(&str, Value) -> Result<T, Refusal>,
) -> Result<BTreeMap<String, T>, D::Error> {
    let Value::Table(table) = Value::deserialize(deserializer)? else { return Err(refused(expected())) };
    let mut all = Vec::new();
    flatten("", table, &mut all);
    let pairs = all.into_iter().map(|(name, value)| read(&name, value).map(|value| (name, value)));
    let mut read_all = BTreeMap::new();
    for (name, value) in all_of(pairs).map_err(refused)? {
        if read_all.insert(name.clone(), value).is_some() {
            return Err(refused(Refusal::new(
                format!("{} stands here twice", quoted(&name)),
                "leave one of them out",
            )));
        }
    }
    Ok(read_all)
}

fn flatten(prefix: &str, table: Table, all: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&name, inner, all),
            value => all.push((name, value)),
        }
    }
}

fn given_name(name: &str) -> Result<(), Refusal> {
    if may_be_given(name) {
        Ok(())
    } else {
        Err(no_name(name, "given to a record", "labels.team or app.env"))
    }
}

pub(super) fn changed_name(name: &str) -> Result<(), Refusal> {
    if may_be_changed(name) {
        Ok(())
    } else {
        Err(no_name(name, "changed", "app.user_id, message or url.query"))
    }
}

fn patterned_name(name: &str) -> Result<(), Refusal> {
    match name.strip_suffix(".*") {
        Some("app") => Ok(()),
        Some(path) => changed_name(path),
        None => changed_name(name),
    }
}

fn no_name(name: &str, what: &str, such_as: &str) -> Refusal {
    let help = match name {
        "app" => "for all of an application's own write app.*".to_owned(),
        _ => format!("{OWN}; name a field such as {such_as}"),
    };
    Refusal::new(format!("{} is no field that can be {what}", quoted(name)), help)
}

/// What of a route's keys cannot be meant together: the key, what is wrong, and what to do. `labels`: those that documents have
/// without it, by the key that gives them and their names; `keyed`: there is a key for hashes.
pub fn conflicts(
    route: &RouteConfig,
    labels: &[(String, String)],
    keyed: bool,
) -> Vec<(&'static str, String, String)> {
    let mut found = Vec::new();
    let mut refuse = |key, message: String, help: &str| found.push((key, message, help.to_owned()));
    let needs_key = [("hash", !route.hash.is_empty()), ("redact_as", route.hashes_what_it_redacts())];
    for (key, _) in needs_key.into_iter().filter(|(_, needs)| *needs && !keyed) {
        refuse(
            key,
            "hashes need a key, and there is none".to_owned(),
            "set `hash_key = { env = \"NAME\" }` or { file = \"/path\" } above the first `[…]`",
        );
    }
    if route.hashes_what_it_redacts() && route.redact.is_empty() {
        refuse("redact_as", "nothing is redacted here".to_owned(), "add `redact`, or leave this out");
    }
    let of_text = [
        ("rename", route.rename.keys().find(|name| *name != "message")),
        ("remove", route.remove.iter().find(|name| *name != "message")),
        ("hash", route.hash.iter().find(|name| *name != "message")),
        ("truncate", route.truncate.keys().find(|name| *name != "message")),
    ];
    for (key, name) in of_text {
        if let Some(name) = name.filter(|_| route.json == super::Json::Text && route.parse.is_none()) {
            refuse(
                key,
                format!("by `json = \"text\"` records have no field {}", quoted(name)),
                "leave `json` out, or redact by patterns",
            );
        }
    }
    let parser = route.parse.as_ref().and_then(Parse::compile);
    let parsed: Vec<&str> = parser.iter().flat_map(|parser| parser.fields()).collect();
    let given =
        route.add.keys().map(|name| ("add", name)).chain(route.rename.values().map(|name| ("rename", name)));
    let given: Vec<(&str, &String)> = given.collect();
    for (at, (key, name)) in given.iter().enumerate() {
        let other = given[..at].iter().find(|(_, other)| overlap(name, other));
        if let Some((_, other)) = other {
            refuse(
                key,
                format!("{} and {} cannot both be given", quoted(name), quoted(other)),
                "leave one of them out",
            );
        }
        if let Some(other) = parsed.iter().find(|other| *key == "add" && overlap(name, other)) {
            refuse(key, format!("`parse` makes {} here", quoted(other)), "choose another name");
        }
        let label = labels.iter().find(|(_, label)| overlap(name, &format!("labels.{label}")));
        if let Some((by, label)) = label {
            refuse(
                key,
                format!("the label {} is given by {} already", quoted(label), quoted(by)),
                "choose another name",
            );
        }
    }
    if let Some(name) = route.time.as_ref().and_then(TimeConfig::field).filter(|name| *name != "message") {
        let is_text = route.json == super::Json::Text && parser.is_none();
        let is_made = is_within(name, "app") || parsed.contains(&name) || route.json == super::Json::Merge;
        if is_text {
            refuse(
                "time",
                format!("by `json = \"text\"` records have no field {}", quoted(name)),
                "leave `json` out, or write \"auto\" or \"message\"",
            );
        } else if !is_made {
            refuse(
                "time",
                format!("records have no field {} here", quoted(name)),
                &format!(
                    "a field of an application's JSON is under `app`: write \"app.{name}\", or \"auto\""
                ),
            );
        }
    }
    let has_time = parser.as_ref().is_some_and(|parser| parser.has_time());
    if matches!(route.parse, Some(Parse::Pattern(_))) && has_time && route.time.is_none() {
        refuse(
            "parse",
            "the group `timestamp` is the record's time, and this route takes none".to_owned(),
            "add `time = \"auto\"`, or name the group by a field, as in (?<app.ts>…)",
        );
    }
    found
}

impl RouteConfig {
    /// Whether what is redacted leaves a keyed hash.
    pub fn hashes_what_it_redacts(&self) -> bool {
        self.redact_as == super::RedactAs::Hash
    }

    /// Whether it needs the key for hashes.
    pub fn needs_key(&self) -> bool {
        !self.hash.is_empty() || self.hashes_what_it_redacts()
    }

    /// Whether it changes single fields: then pods do not choose where fields are.
    pub fn changes_fields(&self) -> bool {
        !(self.rename.is_empty()
            && self.remove.is_empty()
            && self.hash.is_empty()
            && self.truncate.is_empty())
    }

    /// What is done with single fields, if anything is.
    pub fn shape(&self, key: Option<&HashKey>) -> Option<Shape> {
        let mut shape = Shape::new(self.json == super::Json::Merge, key.cloned());
        self.rename.iter().for_each(|(from, to)| shape.rename(from, to));
        self.remove.iter().for_each(|name| shape.edit(name, Edit::Remove));
        self.hash.iter().for_each(|name| shape.edit(name, Edit::Hash));
        self.truncate.iter().for_each(|(name, size)| shape.edit(name, Edit::Truncate(size.as_usize())));
        for (name, value) in &self.add {
            if let Some(name) = name.strip_prefix("app.") {
                shape.give(name, value.to_string().into_bytes());
            }
        }
        (!shape.is_nothing()).then_some(shape)
    }

    /// Fields that every record is given, if any is.
    pub fn given(&self) -> Option<Given> {
        let (mut top, mut app) = (Vec::new(), Vec::new());
        for (name, value) in &self.add {
            let under_app = name.strip_prefix("app.");
            let out = if under_app.is_some() { &mut app } else { &mut top };
            out.extend_from_slice(b",\"");
            escape::append_str(out, under_app.unwrap_or(name));
            out.extend_from_slice(format!("\":{value}").as_bytes());
        }
        let mut all = top.clone();
        if let Some(app) = app.strip_prefix(b",") {
            all.extend_from_slice(b",\"app\":{");
            all.extend_from_slice(app);
            all.push(b'}');
        }
        (!self.add.is_empty()).then_some(Given { top, all })
    }

    /// Names at the top of a document that merged JSON may not have, since this route gives them.
    pub fn taken(&self) -> Vec<String> {
        let given = self.add.keys().chain(self.rename.values());
        given.map(|name| name.strip_prefix("app.").unwrap_or(name).to_owned()).collect()
    }
}
