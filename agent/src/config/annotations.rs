//! `[annotations]`: what pods may say of their own logs.
//!
//! In: the table. Out: what the administrator allows, by namespace. What a pod says is read by `metadata`, and `route`
//! decides by both.

use std::collections::BTreeMap;
use std::fmt;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::schema::form;
use super::units::{pattern, text};

/// What pods may say of their own logs, by annotations that are followed only as far as this table allows. A route with
/// `mandatory = true` follows none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnnotationsConfig {
    /// Which of `"multiline"`, `"json"`, `"exclude"`, `"sample"` and `"output"` are followed on every pod: `taffrail.io/json` and so on,
    /// or, for one container, `taffrail.io/json.CONTAINER`. Those of the default change how a log is read, not whether or where
    /// it goes. Default `["multiline", "json"]`.
    pub allow: Vec<Wish>,
    /// Which more are followed in namespaces, by patterns of their names: `"team-*" = ["exclude", "sample"]`. Default none.
    pub namespaces: BTreeMap<Namespaces, Vec<Wish>>,
    /// Whether what is written wrong there is told as a Kubernetes Event on the pod too; the agent then needs the right to
    /// `create` events. Default `false`.
    pub report_events: bool,
}

impl Default for AnnotationsConfig {
    fn default() -> AnnotationsConfig {
        AnnotationsConfig {
            allow: vec![Wish::Multiline, Wish::Json],
            namespaces: BTreeMap::new(),
            report_events: false,
        }
    }
}

impl AnnotationsConfig {
    /// Whether pods of a namespace may say this.
    pub fn allows(&self, namespace: &str, wish: Wish) -> bool {
        let mut here = self.namespaces.iter().filter(|(names, _)| names.0.matches(namespace));
        self.allow.contains(&wish) || here.any(|(_, wishes)| wishes.contains(&wish))
    }

    /// Whether nobody may say anything.
    pub fn is_nothing(&self) -> bool {
        self.allow.is_empty() && self.namespaces.values().all(Vec::is_empty)
    }
}

/// What a pod may wish for its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// How lines are joined: `"auto"`, `"off"` or `"/regex/"`, which the first lines of records match.
    Multiline,
    /// Whether JSON is taken apart: `"nest"` or `"text"`.
    Json,
    /// That they are not sent: `"true"`.
    Exclude,
    /// How much of them is sent: a share above 0 and up to 1.
    Sample,
    /// To which of a route's `selectable_outputs` they are sent, by name; several with commas between.
    Output,
}

impl Wish {
    /// All there are.
    pub const ALL: [Wish; 5] = [Wish::Multiline, Wish::Json, Wish::Exclude, Wish::Sample, Wish::Output];

    /// Its name, in the configuration and behind `taffrail.io/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Wish::Multiline => "multiline",
            Wish::Json => "json",
            Wish::Exclude => "exclude",
            Wish::Sample => "sample",
            Wish::Output => "output",
        }
    }

    /// Whether it decides over whether or where records go: without knowing it none may be sent.
    pub fn is_decisive(self) -> bool {
        !matches!(self, Wish::Multiline | Wish::Json)
    }
}

impl fmt::Display for AnnotationsConfig {
    /// `json; in team-*: exclude, sample`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |wishes: &[Wish]| wishes.iter().map(|wish| wish.as_str()).collect::<Vec<_>>().join(", ");
        f.write_str(if self.allow.is_empty() { "none" } else { "" })?;
        f.write_str(&list(&self.allow))?;
        self.namespaces.iter().try_for_each(|(names, wishes)| write!(f, "; in {}: {}", names.0, list(wishes)))
    }
}

/// A pattern of the names of namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespaces(Pattern);

form!(Namespaces, "Namespaces", "A pattern of the names of namespaces.", { "type": "string" });

impl<'de> Deserialize<'de> for Namespaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "a pattern in quotes", |text| {
            pattern(text, text, "wildcards are `*`, `?` and `[…]`").map(Namespaces)
        })
    }
}
