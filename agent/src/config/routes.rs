//! `[[routes]]`: which logs go where, which records of them, and in what form.
//!
//! In: one table of the configuration. Out: its checked values: patterns and expressions that are known to be valid. Never
//! decides anything itself: that is `route`'s.

pub mod fields;
mod forms;
mod matches;
mod multiline;
mod parse;
mod time;

use std::collections::{BTreeMap, BTreeSet};

use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Value;

use super::ByteSize;
use super::diagnostic::{Refusal, suggestion};
use super::units::{quoted, refused};
use crate::record::Level;
use crate::record::condition::{Comparison, Condition, Conditions, Field, Test};
use crate::record::hash::HashKey;
use crate::record::parse::ROOTS;
use crate::record::redact::{Builtin, Redactor};
use matches::texts;
pub use matches::{Earlier, Globs, MatchConfig};
pub use multiline::Lines;
pub use parse::Parse;
pub use time::TimeConfig;

/// One `[[routes]]`. The first that matches a container decides, unless it says `continue`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Which containers it is for. Default: all.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    /// The outputs that get them, by name; none, to send them nowhere. Required.
    pub outputs: Vec<String>,
    /// Whether the routes below are asked too, for other outputs. Default `false`.
    #[serde(default, rename = "continue")]
    pub goes_on: bool,
    /// Whether it follows no annotation of a pod: its logs go here as they are. Default `false`.
    #[serde(default)]
    pub mandatory: bool,
    /// The outputs among which a pod may choose by `taffrail.io/output`, instead of those above. Default none.
    #[serde(default)]
    pub selectable_outputs: Vec<String>,
    /// Which records are sent: a table of conditions that must all hold, or a list of such tables, of which one must.
    /// A condition on the level holds for records without one. Default: all records.
    #[serde(default, deserialize_with = "conditions")]
    pub keep: Option<ConditionsConfig>,
    /// Which records are not, in the same form. A condition on the level holds for no record without one. Default: none.
    #[serde(default, deserialize_with = "conditions")]
    pub drop: Option<ConditionsConfig>,
    /// How much of the rest is sent: a share above 0 and up to 1, or `{ rate = 0.1, by = "app.trace_id" }`, which keeps or
    /// drops all records of one value together. Default: everything.
    #[serde(default, deserialize_with = "sample")]
    pub sample: Option<SampleConfig>,
    /// Which lines are one record: `"auto"`, which joins traces of Java, .NET, Python, Go, Node, Ruby, PHP and Rust, and the
    /// line before them; `{ start = 'regex' }` for first lines, `{ continue = 'regex' }` for all others. With
    /// `timeout = "1s"`, the time between two lines of a record at most, and `max_lines = 1000`. Default `"off"`.
    #[serde(default, deserialize_with = "multiline::lines")]
    pub multiline: Option<Lines>,
    /// What of an application's JSON becomes of a record. Default `"nest"`.
    #[serde(default)]
    pub json: Json,
    /// The form of lines that are text, to make fields of: `"nginx"`, `"apache"`, `"envoy"`, `"istio"`, `"logfmt"`, `"klog"`,
    /// or `{ regex = '…' }`, whose named groups are fields, such as `(?<http.response.status_code>\d+)`, `(?<message>.*)`,
    /// `(?<level>\w+)`, `(?<app.code>\d+)`; `(?<timestamp>…)` is for `time`. Lines of another form keep their text. Default: none.
    #[serde(default, deserialize_with = "parse::parse")]
    pub parse: Option<Parse>,
    /// What is replaced by a mark in what a program wrote: `"email"`, `"card"`, `"ipv4"`, `"ipv6"`, `"jwt"`, `"aws_key"`,
    /// `"bearer"`, or patterns of your own, `{ name = "ssn", regex = '\d{3}-\d{2}-\d{4}' }`. Default none.
    #[serde(default, deserialize_with = "redactions")]
    #[schemars(with = "forms::Redactions")]
    pub redact: Vec<Redaction>,
    /// What stands for what is redacted. Default `"mask"`; `"hash"` needs `hash_key`.
    #[serde(default)]
    pub redact_as: RedactAs,
    /// Fields that are called otherwise, as `{ "app.user_id" = "user.id" }`. One that is there already stays what it is, and
    /// so does the other. First of what is done with fields; those below answer to both names. Default none.
    #[serde(default, deserialize_with = "fields::renames")]
    #[schemars(with = "forms::Renames")]
    pub rename: BTreeMap<String, String>,
    /// Fields that are left out, in lists too, and with `.*` all beneath one: `["app.password", "app.debug.*"]`. Default none.
    #[serde(default, deserialize_with = "fields::names")]
    #[schemars(with = "forms::Names")]
    pub remove: Vec<String>,
    /// Fields for whose texts, numbers and truth values a keyed hash stands: 32 hexadecimal digits of the HMAC-SHA256 with
    /// `hash_key`, the same for the same value. Default none.
    #[serde(default, deserialize_with = "fields::names")]
    #[schemars(with = "forms::Names")]
    pub hash: Vec<String>,
    /// The longest texts of fields, as `{ message = "8KiB" }`, at least 64 bytes. What is cut ends with a mark, and is counted in
    /// `taffrail.truncated`. Default: no bound.
    #[serde(default, deserialize_with = "fields::lengths")]
    #[schemars(with = "forms::Lengths")]
    pub truncate: BTreeMap<String, ByteSize>,
    /// Fields that every record is given, last: `{ "labels.team" = "shop", "app.env" = "prod" }`. What a program says of them is
    /// replaced. Default none.
    #[serde(default, deserialize_with = "fields::given")]
    #[schemars(with = "forms::Given")]
    pub add: BTreeMap<String, serde_json::Value>,
    /// Where records have times of their own: `"auto"` (what `parse` says, `app.@timestamp`, `timestamp`, `time`, `ts` or `datetime`,
    /// the beginning of the message), a field, or `{ field = "app.ts", format = "auto", zone = "+00:00", past = "14d", ahead = "1d" }`
    /// with a format `"rfc3339"`, `"epoch_s"`, `"epoch_ms"`, `"epoch_us"`, `"epoch_ns"` or as `"%Y-%m-%d %H:%M:%S"`, and how far before and
    /// behind the runtime's time it may be. That one is then `event.created`; it stays the time where none is found. Default:
    /// the runtime's time.
    #[serde(default, deserialize_with = "time::time")]
    pub time: Option<TimeConfig>,
}

impl RouteConfig {
    /// What stands for none: everything goes to the output of this name.
    pub fn everything(output: &str) -> RouteConfig {
        RouteConfig {
            matches: MatchConfig::default(),
            outputs: vec![output.to_owned()],
            goes_on: false,
            mandatory: false,
            selectable_outputs: Vec::new(),
            keep: None,
            drop: None,
            sample: None,
            multiline: None,
            json: Json::Nest,
            parse: None,
            redact: Vec::new(),
            redact_as: RedactAs::Mask,
            rename: BTreeMap::new(),
            remove: Vec::new(),
            hash: Vec::new(),
            truncate: BTreeMap::new(),
            add: BTreeMap::new(),
            time: None,
        }
    }
}

/// What becomes of a body that is a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Json {
    /// It goes under `app`; its message becomes the message.
    #[default]
    Nest,
    /// Its members go to the top of the document. Those that only the agent writes, that come twice, that a route gives, or that
    /// are written with escapes stay under `app`, and so do all beyond 128.
    Merge,
    /// It stays the text that it is.
    Text,
}

/// What stands for what is redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedactAs {
    /// A mark that says what it was, such as `[email]`.
    #[default]
    Mask,
    /// The same with a keyed hash of it, such as `[email:0123456789abcdef]`: the same for the same value.
    Hash,
}

/// Which records: one of the inner lists must hold whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionsConfig(Vec<Vec<ConditionConfig>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct ConditionConfig {
    field: Field,
    any: Vec<TestConfig>,
    negated: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum TestConfig {
    Levels(Vec<Level>),
    Contains(String),
    Regex(String),
    Is(String),
    Number(Comparison, f64),
}

// No configuration holds what is not a number: they are read from text that is one.
impl Eq for TestConfig {}

impl ConditionsConfig {
    /// The fields that are asked, as they are written.
    pub fn fields(&self) -> BTreeSet<String> {
        let name = |condition: &ConditionConfig| match &condition.field {
            Field::Level => "level".to_owned(),
            Field::Stream => "stream".to_owned(),
            Field::Message => "message".to_owned(),
            Field::App(path) => format!("app.{}", path.join(".")),
            Field::Parsed(name) => name.clone(),
        };
        self.0.iter().flatten().map(name).collect()
    }

    /// What records are asked by.
    pub fn compile(&self) -> Conditions {
        let all = |all: &Vec<ConditionConfig>| all.iter().map(ConditionConfig::compile).collect();
        Conditions::new(self.0.iter().map(all).collect())
    }
}

impl ConditionConfig {
    fn compile(&self) -> Condition {
        let test = |test: &TestConfig| match test {
            TestConfig::Levels(levels) => Some(Test::LevelIn(levels.clone())),
            TestConfig::Contains(text) => Some(Test::contains(text)),
            // It was compiled once when it was read.
            TestConfig::Regex(pattern) => Regex::new(pattern).ok().map(Test::Matches),
            TestConfig::Is(text) => Some(Test::Is(text.clone())),
            TestConfig::Number(comparison, than) => Some(Test::Number(*comparison, *than)),
        };
        let any = self.any.iter().filter_map(test).collect();
        Condition { field: self.field.clone(), any, negated: self.negated }
    }
}

fn conditions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConditionsConfig>, D::Error> {
    let lists = match Value::deserialize(deserializer)? {
        Value::Table(table) => vec![all_of(table)],
        Value::Array(list) if !list.is_empty() => list
            .into_iter()
            .map(|one| match one {
                Value::Table(table) => all_of(table),
                _ => Err(no_conditions()),
            })
            .collect(),
        _ => vec![Err(no_conditions())],
    };
    let lists: Result<Vec<_>, Refusal> = lists.into_iter().collect();
    lists.map(|lists| Some(ConditionsConfig(lists))).map_err(refused)
}

fn no_conditions() -> Refusal {
    Refusal::new(
        "expected a table of conditions, or a list of such tables",
        "as in { level = \">=info\" } or [{ level = \"error\" }, { message = \"panic\" }]",
    )
}

fn all_of(table: toml::Table) -> Result<Vec<ConditionConfig>, Refusal> {
    let mut all = Vec::new();
    for (key, value) in table {
        match (key.as_str(), value) {
            ("level", value) => all.push(level(value)?),
            ("message", value) => all.push(condition(Field::Message, value)?),
            ("stream", value) => all.push(stream(value)?),
            ("app", Value::Table(inner)) => app(&mut Vec::new(), inner, &mut all)?,
            (root, Value::Table(inner)) if ROOTS.contains(&root) || root == "user_agent" => {
                parsed(root, inner, &mut all)?;
            }
            (name, value)
                if name.split_once('.').is_some_and(|(root, _)| root != "app" && ROOTS.contains(&root)) =>
            {
                all.push(condition(Field::Parsed(name.to_owned()), value)?);
            }
            (path, value) if path.starts_with("app.") => {
                let path = path.split('.').skip(1).map(str::to_owned).collect();
                all.push(condition(Field::App(path), value)?);
            }
            (other, _) => {
                return Err(Refusal::new(
                    format!("records have no field {}", quoted(other)),
                    suggestion(other, &["level", "message", "stream", "app.…"]),
                ));
            }
        }
    }
    if all.is_empty() { Err(no_conditions()) } else { Ok(all) }
}

/// Conditions on fields that `parse` makes.
fn parsed(name: &str, table: toml::Table, all: &mut Vec<ConditionConfig>) -> Result<(), Refusal> {
    for (key, value) in table {
        let name = format!("{name}.{key}");
        match value {
            Value::Table(inner) => parsed(&name, inner, all)?,
            value => all.push(condition(Field::Parsed(name), value)?),
        }
    }
    Ok(())
}

fn app(path: &mut Vec<String>, table: toml::Table, all: &mut Vec<ConditionConfig>) -> Result<(), Refusal> {
    for (key, value) in table {
        path.push(key);
        match value {
            Value::Table(inner) => app(path, inner, all)?,
            value => all.push(condition(Field::App(path.clone()), value)?),
        }
        path.pop();
    }
    Ok(())
}

/// A condition on the stream, which has one of two names.
fn stream(value: Value) -> Result<ConditionConfig, Refusal> {
    const NAMES: [&str; 2] = ["stdout", "stderr"];
    let condition = condition(Field::Stream, exact(value))?;
    let may_hold = |test: &TestConfig| match test {
        TestConfig::Is(name) => NAMES.contains(&name.as_str()),
        TestConfig::Contains(part) => NAMES.iter().any(|name| name.contains(part.as_str())),
        TestConfig::Regex(_) => true,
        TestConfig::Levels(_) | TestConfig::Number(..) => false,
    };
    if !condition.any.iter().all(may_hold) {
        return Err(Refusal::new(
            "a stream is `stdout` or `stderr`, and nothing else",
            "write \"stdout\" or \"stderr\"",
        ));
    }
    Ok(condition)
}

/// The name of a stream is not searched in.
fn exact(value: Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(exact).collect()),
        Value::String(text) if !text.starts_with(['!', '=', '/']) => Value::String(format!("= {text}")),
        other => other,
    }
}

fn level(value: Value) -> Result<ConditionConfig, Refusal> {
    const ALL: [Level; 8] = [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Notice,
        Level::Warn,
        Level::Error,
        Level::Critical,
        Level::Fatal,
    ];
    let (mut levels, mut negated) = (Vec::new(), false);
    for text in texts(value, "a level in quotes, such as \">=info\", or a list of levels")? {
        let (not, rest) = text.strip_prefix('!').map_or((false, text.as_str()), |rest| (true, rest));
        negated |= not;
        let (comparison, name) = compared(rest).unwrap_or((Comparison::Equal, rest));
        let names = ALL.map(Level::as_str);
        let than = Level::from_name(name.as_bytes()).filter(|_| name.len() > 1).ok_or_else(|| {
            Refusal::new(format!("{} is not a level", quoted(name)), suggestion(name, &names))
        })?;
        levels.extend(ALL.into_iter().filter(|level| match comparison {
            Comparison::Less => *level < than,
            Comparison::AtMost => *level <= than,
            Comparison::Equal => *level == than,
            Comparison::AtLeast => *level >= than,
            Comparison::More => *level > than,
        }));
    }
    Ok(ConditionConfig { field: Field::Level, any: vec![TestConfig::Levels(levels)], negated })
}

/// `>= x` in its two parts.
fn compared(text: &str) -> Option<(Comparison, &str)> {
    let signs = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        (">", Comparison::More),
        ("<", Comparison::Less),
        ("=", Comparison::Equal),
    ];
    signs.into_iter().find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?.trim())))
}

fn condition(field: Field, value: Value) -> Result<ConditionConfig, Refusal> {
    let values = match value {
        Value::Array(list) if !list.is_empty() => list,
        other => vec![other],
    };
    let (mut any, mut negated) = (Vec::new(), false);
    for value in values {
        any.push(match value {
            Value::Integer(number) => TestConfig::Number(Comparison::Equal, number as f64),
            Value::Float(number) if number.is_finite() => TestConfig::Number(Comparison::Equal, number),
            Value::Boolean(truth) => TestConfig::Is(truth.to_string()),
            Value::String(text) => {
                let (not, rest) = text.strip_prefix('!').map_or((false, text.as_str()), |rest| (true, rest));
                negated |= not;
                test(rest.trim_start())?
            }
            _ => {
                return Err(Refusal::new(
                    "expected a text, a number, true or false",
                    "as in \"contained text\", \"/regex/\", \"= exact text\", \">= 500\", 200; `!` before a text negates it",
                ));
            }
        });
    }
    Ok(ConditionConfig { field, any, negated })
}

fn test(text: &str) -> Result<TestConfig, Refusal> {
    if let Some(pattern) =
        text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|p| !p.is_empty())
    {
        checked_regex(pattern)?;
        return Ok(TestConfig::Regex(pattern.to_owned()));
    }
    match compared(text) {
        Some((comparison, than)) => match (comparison, than.parse::<f64>()) {
            (comparison, Ok(number)) if number.is_finite() => Ok(TestConfig::Number(comparison, number)),
            (Comparison::Equal, _) => Ok(TestConfig::Is(than.to_owned())),
            _ => Err(Refusal::new(
                format!("{} is not a number", quoted(than)),
                "compare with a number, as in \">= 500\"",
            )),
        },
        None if text.is_empty() => {
            Err(Refusal::new("every text contains the empty one", "write what it must contain"))
        }
        None => Ok(TestConfig::Contains(text.to_owned())),
    }
}

fn checked_regex(pattern: &str) -> Result<(), Refusal> {
    Regex::new(pattern).map(drop).map_err(|error| {
        let said = error.to_string();
        let reason = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Refusal::new(
            format!("{} is not a regular expression: {reason}", quoted(pattern)),
            "write it as the Rust crate `regex` reads it: no look-around, no back-references",
        )
    })
}

/// How much is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleConfig {
    /// The share, above 0 and up to 1.
    pub rate: f64,
    /// Records with one value of this field are kept or dropped together.
    pub by: Option<Vec<String>>,
}

// Never not a number: it was compared with 0 and 1.
impl Eq for SampleConfig {}

fn sample<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SampleConfig>, D::Error> {
    read_sample(Value::deserialize(deserializer)?).map(Some).map_err(refused)
}

fn read_sample(value: Value) -> Result<SampleConfig, Refusal> {
    let refuse = || {
        Refusal::new(
            "expected a share above 0 and up to 1",
            "as in 0.1, or { rate = 0.1, by = \"app.trace_id\" } to keep or drop the records of one value together",
        )
    };
    let (rate, by) = match value {
        Value::Table(mut table) => {
            let (rate, by) = (table.remove("rate"), table.remove("by"));
            if !table.is_empty() {
                return Err(refuse());
            }
            (rate.ok_or_else(refuse)?, by)
        }
        other => (other, None),
    };
    let rate = match rate {
        Value::Float(rate) => rate,
        Value::Integer(1) => 1.0,
        _ => return Err(refuse()),
    };
    if !(rate > 0.0 && rate <= 1.0) {
        return Err(refuse());
    }
    let by = match by {
        None => None,
        Some(Value::String(path)) if path.starts_with("app.") || path == "message" => {
            Some(path.split('.').map(str::to_owned).collect())
        }
        Some(_) => {
            return Err(Refusal::new(
                "`by` names no field",
                "name a field of the document, as in \"app.trace_id\"",
            ));
        }
    };
    Ok(SampleConfig { rate, by })
}

impl Redaction {
    /// What stands in its mark.
    pub fn name(&self) -> &str {
        match self {
            Redaction::Known(kind) => kind.as_str(),
            Redaction::Own { name, .. } => name,
        }
    }
}

/// One thing that is redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redaction {
    /// A kind that is known.
    Known(Builtin),
    /// A pattern of one's own.
    Own {
        /// What stands in the mark.
        name: String,
        /// What is replaced.
        regex: String,
    },
}

fn redactions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Redaction>, D::Error> {
    let list = match Value::deserialize(deserializer)? {
        Value::Array(list) => list,
        other => vec![other],
    };
    let list = list.into_iter().map(redaction).collect::<Result<Vec<_>, _>>().map_err(refused)?;
    // Each may be one and all together too many.
    redactor(&list, None)
        .map_err(|error| refused(Refusal::new(error.to_string(), "make the patterns simpler")))?;
    Ok(list)
}

/// What replaces all that is to be redacted, with hashes if there is a key; `None` if that is nothing.
///
/// # Errors
/// Of patterns that are none, or too large together.
pub fn redactor(redact: &[Redaction], key: Option<HashKey>) -> Result<Option<Redactor>, regex::Error> {
    let (mut builtins, mut own) = (Vec::new(), Vec::new());
    for redaction in redact {
        match redaction {
            Redaction::Known(kind) => builtins.push(*kind),
            Redaction::Own { name, regex } => own.push((name.clone(), regex.clone())),
        }
    }
    if redact.is_empty() { Ok(None) } else { Redactor::new(&builtins, &own, key).map(Some) }
}

fn redaction(value: Value) -> Result<Redaction, Refusal> {
    match value {
        Value::String(name) => match Builtin::ALL.into_iter().find(|kind| kind.as_str() == name) {
            Some(kind) => Ok(Redaction::Known(kind)),
            None => Err(Refusal::new(
                format!("{} is nothing that can be redacted", quoted(&name)),
                suggestion(&name, &Builtin::ALL.map(Builtin::as_str)),
            )),
        },
        Value::Table(table) => match (table.get("name"), table.get("regex"), table.len()) {
            (Some(Value::String(name)), Some(Value::String(regex)), 2) => {
                checked_regex(regex)?;
                if Regex::new(regex).is_ok_and(|regex| regex.is_match(b"")) {
                    return Err(Refusal::new(
                        format!(
                            "{} matches the empty text too: there would be marks between all letters",
                            quoted(regex)
                        ),
                        "let it ask for something, as `a+` does and `a*` does not",
                    ));
                }
                let plain = !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                if !plain {
                    return Err(Refusal::new(
                        format!("{} cannot be the name of a redaction", quoted(name)),
                        "use letters, digits, `-` and `_`",
                    ));
                }
                Ok(Redaction::Own { name: name.clone(), regex: regex.clone() })
            }
            _ => Err(no_redaction()),
        },
        _ => Err(no_redaction()),
    }
}

fn no_redaction() -> Refusal {
    Refusal::new(
        "expected the name of what is redacted, or a pattern with a name",
        r#"as in "email", or { name = "ssn", regex = '\d{3}-\d{2}-\d{4}' }"#,
    )
}
