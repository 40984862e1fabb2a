//! `parse`: the form that lines of text have.
//!
//! In: the name of a form, or a pattern. Out: checked values. What becomes of lines is `record::parse`'s.

use std::fmt;

use serde::{Deserialize, Deserializer};
use toml::Value;

use crate::config::diagnostic::{Refusal, suggestion};
use crate::config::units::{quoted, refused};
use crate::record::parse::{Form, Parser};

/// The form of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parse {
    /// One that is known, by its name.
    Known(&'static str, Form),
    /// A pattern, whose named groups are fields.
    Pattern(String),
}

impl Parse {
    /// What lines are read by; nothing, if the pattern is none, which it was when it was read.
    pub fn compile(&self) -> Option<Parser> {
        match self {
            Parse::Known(_, form) => Parser::known(*form).ok(),
            Parse::Pattern(pattern) => Parser::pattern(pattern).ok(),
        }
    }
}

impl fmt::Display for Parse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parse::Known(name, _) => f.write_str(name),
            Parse::Pattern(_) => f.write_str("a pattern"),
        }
    }
}

pub(super) fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Parse>, D::Error> {
    read(Value::deserialize(deserializer)?).map(Some).map_err(refused)
}

fn read(value: Value) -> Result<Parse, Refusal> {
    match value {
        Value::String(name) => {
            let form = Form::ALL.into_iter().find(|(known, _)| *known == name);
            form.map(|(name, form)| Parse::Known(name, form)).ok_or_else(|| {
                Refusal::new(
                    format!("{} is no form of lines that is known", quoted(&name)),
                    suggestion(&name, &Form::ALL.map(|(known, _)| known)),
                )
            })
        }
        Value::Table(table) => match (table.get("regex"), table.len()) {
            (Some(Value::String(pattern)), 1) => {
                Parser::pattern(pattern).map_err(|error| {
                    Refusal::new(
                        format!("{} cannot be used: {error}", quoted(pattern)),
                        "name groups by the fields that they are, as in '^(?<http.request.method>[A-Z]+) (?<app.code>\\d+)'",
                    )
                })?;
                Ok(Parse::Pattern(pattern.clone()))
            }
            _ => Err(expected()),
        },
        _ => Err(expected()),
    }
}

fn expected() -> Refusal {
    Refusal::new(
        "expected the name of a form, or a pattern",
        "as in \"nginx\", or { regex = '^(?<http.request.method>[A-Z]+) (?<app.code>\\d+)' }",
    )
}
