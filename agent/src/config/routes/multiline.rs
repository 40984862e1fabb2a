//! `multiline`: which lines of a log are one record.
//!
//! In: `"auto"`, or a table with a pattern. Out: checked values. What they do with lines is `record::multiline`'s.

use std::fmt;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer};
use toml::Value;

use super::checked_regex;
use crate::config::diagnostic::Refusal;
use crate::config::units::{parse_duration, refused};
use crate::record::multiline::{Multiline, Rule};

/// A trace is written in one go: a line that comes later than this after the one before is another record's.
const TIMEOUT: Duration = Duration::from_secs(1);

/// More than any trace that somebody would read.
const MAX_LINES: u32 = 1000;

/// Pods may give patterns of their own: one that needs more memory than this is no pattern of lines.
const PATTERN_BYTES: usize = 256 << 10;

/// How lines are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    rule: By,
    timeout: Duration,
    max_lines: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Auto,
    Start(String),
    Continue(String),
}

impl Lines {
    /// What an annotation says: `auto`, or `/regex/`, which the first lines of records match.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Lines, &'static str> {
        let pattern =
            text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|p| !p.is_empty());
        let rule = match (text, pattern) {
            ("auto", _) => By::Auto,
            (_, Some(pattern)) if compile(pattern).is_ok() => By::Start(pattern.to_owned()),
            _ => return Err("\"auto\", \"off\", or \"/regex/\", which the first lines of records match"),
        };
        Ok(Lines { rule, timeout: TIMEOUT, max_lines: MAX_LINES })
    }

    /// What lines are joined by; nothing, if the pattern is none, which it was when it was read.
    pub fn compile(&self) -> Option<Multiline> {
        let rule = match &self.rule {
            By::Auto => Rule::Auto,
            By::Start(pattern) => Rule::Start(compile(pattern).ok()?),
            By::Continue(pattern) => Rule::Continue(compile(pattern).ok()?),
        };
        Some(Multiline { rule, timeout: self.timeout, max_lines: self.max_lines })
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            By::Auto => f.write_str("auto"),
            By::Start(pattern) => write!(f, "start /{pattern}/"),
            By::Continue(pattern) => write!(f, "continue /{pattern}/"),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build()
}

pub(super) fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lines>, D::Error> {
    read(Value::deserialize(deserializer)?).map_err(refused)
}

fn expected() -> Refusal {
    Refusal::new(
        "expected a way to join lines",
        "as in \"auto\", { start = '^\\d{4}-\\d\\d-' } or { continue = '^\\s' }, with `timeout = \"1s\"` and `max_lines = 1000` if you like",
    )
}

fn read(value: Value) -> Result<Option<Lines>, Refusal> {
    let table = match value {
        Value::String(text) if text == "auto" => toml::Table::new(),
        Value::String(text) if text == "off" => return Ok(None),
        Value::Table(table) => table,
        _ => return Err(expected()),
    };
    let mut lines = Lines { rule: By::Auto, timeout: TIMEOUT, max_lines: MAX_LINES };
    for (key, value) in table {
        match (key.as_str(), value) {
            ("start", Value::String(pattern)) if lines.rule == By::Auto => {
                lines.rule = By::Start(checked(pattern)?)
            }
            ("continue", Value::String(pattern)) if lines.rule == By::Auto => {
                lines.rule = By::Continue(checked(pattern)?);
            }
            ("timeout", Value::String(text)) => lines.timeout = parse_duration(&text)?,
            ("max_lines", Value::Integer(number)) => {
                lines.max_lines = u32::try_from(number).ok().filter(|n| *n > 0).ok_or_else(expected)?;
            }
            _ => return Err(expected()),
        }
    }
    Ok(Some(lines))
}

fn checked(pattern: String) -> Result<String, Refusal> {
    checked_regex(&pattern)?;
    compile(&pattern).map_err(|_| {
        Refusal::new("the pattern needs too much memory", "make it simpler, or `{m,n}` smaller")
    })?;
    Ok(pattern)
}
