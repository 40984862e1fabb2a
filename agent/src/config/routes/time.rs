//! `time`: where records have times of their own.
//!
//! In: `"auto"`, the name of a field, or a table. Out: checked values. What is read by them is `record::stamp`'s.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Value;

use super::fields::changed_name;
use crate::config::diagnostic::Refusal;
use crate::config::units::{parse_duration, quoted, refused};
use crate::record::stamp::{Format, Stamp, parse_zone};

/// CloudWatch too takes nothing that is older.
const PAST: Duration = Duration::from_secs(14 * 86_400);

const AHEAD: Duration = Duration::from_secs(86_400);

/// Where the time of a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeConfig {
    /// The field; none for wherever it usually is.
    field: Option<String>,
    format: String,
    /// Minutes east of UTC where none are written.
    zone: i32,
    /// How much before the runtime's time it may be.
    past: Duration,
    /// How much behind it.
    ahead: Duration,
}

impl TimeConfig {
    /// The field; none for wherever it usually is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What times are read by; nothing, if the format is none, which it was when it was read.
    pub fn compile(&self) -> Option<Stamp> {
        let format = Format::parse(&self.format).ok()?;
        Some(Stamp::new(self.field.as_deref(), format, self.zone, (self.past, self.ahead)))
    }
}

impl fmt::Display for TimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.as_deref().unwrap_or("wherever a record has one"))
    }
}

pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TimeConfig>, D::Error> {
    read(Value::deserialize(deserializer)?).map(Some).map_err(refused)
}

fn read(value: Value) -> Result<TimeConfig, Refusal> {
    let mut config = TimeConfig { field: None, format: "auto".to_owned(), zone: 0, past: PAST, ahead: AHEAD };
    let table = match value {
        Value::String(name) => {
            config.field = field(name)?;
            return Ok(config);
        }
        Value::Table(table) => table,
        _ => return Err(expected()),
    };
    for (key, value) in table {
        let Value::String(text) = value else { return Err(expected()) };
        match key.as_str() {
            "field" => config.field = field(text)?,
            "format" => {
                Format::parse(&text).map_err(|error| {
                    Refusal::new(
                        format!("{} is no format of times: {error}", quoted(&text)),
                        "write \"auto\", \"rfc3339\", \"epoch_s\", \"epoch_ms\", \"epoch_us\", \"epoch_ns\", or a pattern such as \
                         \"%d.%m.%Y %H:%M:%S\"",
                    )
                })?;
                config.format = text;
            }
            "zone" => {
                config.zone = parse_zone(&text).ok_or_else(|| {
                    Refusal::new(format!("{} is no offset from UTC", quoted(&text)), "write it as \"+09:00\"")
                })?;
            }
            "past" => config.past = parse_duration(&text)?,
            "ahead" => config.ahead = parse_duration(&text)?,
            _ => return Err(expected()),
        }
    }
    Ok(config)
}

fn field(name: String) -> Result<Option<String>, Refusal> {
    if name == "auto" {
        return Ok(None);
    }
    changed_name(&name)?;
    Ok(Some(name))
}

fn expected() -> Refusal {
    Refusal::new(
        "expected where the time of a record is",
        "as in \"auto\", \"app.ts\", or { field = \"app.ts\", format = \"epoch_ms\", zone = \"+09:00\", past = \"14d\", ahead = \"1d\" }",
    )
}
