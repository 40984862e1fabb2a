//! `match`: which containers a route is for.
//!
//! In: a table of patterns. Out: the patterns, known to be valid. What they are held against, `route` decides.

use std::collections::BTreeMap;
use std::fmt;

use glob::Pattern;
use serde::{Deserialize, Deserializer};
use toml::Value;

use crate::config::diagnostic::Refusal;
use crate::config::units::{pattern, refused};

/// What a container must be. Each key is a pattern with `*`, `?` and `[…]`, or a list of them; those that begin with `!` must
/// not match. All keys that are given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchConfig {
    /// Namespace of the pod; `_host` for host files.
    pub namespace: Option<Globs>,
    /// Name of the pod.
    pub pod: Option<Globs>,
    /// Name of the container.
    pub container: Option<Globs>,
    /// Name of the node.
    pub node: Option<Globs>,
    /// Image of the container, as the pod names it.
    pub image: Option<Globs>,
    /// Owner of the pod, as `"deployment/checkout"`.
    pub workload: Option<Globs>,
    /// Where it is read: `pods`, or NAME of a `[files.NAME]`.
    pub source: Option<Globs>,
    /// Path of a host file.
    pub file: Option<Globs>,
    /// Labels of the pod, or of `[files.NAME]`, by their keys.
    pub labels: BTreeMap<String, Globs>,
    /// Annotations of the pod, by their keys.
    pub annotations: BTreeMap<String, Globs>,
}

impl MatchConfig {
    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        *self == MatchConfig::default()
    }

    /// The same, each key in a table of its own.
    pub fn parts(&self) -> Vec<MatchConfig> {
        let none = MatchConfig::default;
        let keys = [
            MatchConfig { namespace: self.namespace.clone(), ..none() },
            MatchConfig { pod: self.pod.clone(), ..none() },
            MatchConfig { container: self.container.clone(), ..none() },
            MatchConfig { node: self.node.clone(), ..none() },
            MatchConfig { image: self.image.clone(), ..none() },
            MatchConfig { workload: self.workload.clone(), ..none() },
            MatchConfig { source: self.source.clone(), ..none() },
            MatchConfig { file: self.file.clone(), ..none() },
        ];
        let one = |(key, globs): (&String, &Globs)| BTreeMap::from([(key.clone(), globs.clone())]);
        let labels = self.labels.iter().map(|label| MatchConfig { labels: one(label), ..none() });
        let annotations = self.annotations.iter().map(|a| MatchConfig { annotations: one(a), ..none() });
        keys.into_iter().chain(labels).chain(annotations).filter(|part| !part.is_empty()).collect()
    }

    /// Whether it asks what only the API server knows.
    pub fn needs_metadata(&self) -> bool {
        self.image.is_some()
            || self.workload.is_some()
            || !self.labels.is_empty()
            || !self.annotations.is_empty()
    }
}

impl fmt::Display for MatchConfig {
    /// Each key and its patterns: `namespace a-*, labels.app api`; `everything` where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = [
            ("namespace", &self.namespace),
            ("pod", &self.pod),
            ("container", &self.container),
            ("node", &self.node),
            ("image", &self.image),
            ("workload", &self.workload),
            ("source", &self.source),
            ("file", &self.file),
        ];
        let keys = keys.into_iter().filter_map(|(key, globs)| Some(format!("{key} {}", globs.as_ref()?)));
        let labels = self.labels.iter().map(|(key, globs)| format!("labels.{key} {globs}"));
        let annotations = self.annotations.iter().map(|(key, globs)| format!("annotations.{key} {globs}"));
        let all: Vec<String> = keys.chain(labels).chain(annotations).collect();
        f.write_str(if all.is_empty() { "everything" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

/// Patterns of which one must match, and others that must not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Globs {
    any: Vec<Pattern>,
    none: Vec<Pattern>,
}

impl Globs {
    /// Whether a value matches. One that is missing matches only where no pattern asks for it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match value {
            Some(value) => {
                (self.any.is_empty() || self.any.iter().any(|pattern| pattern.matches(value)))
                    && !self.none.iter().any(|pattern| pattern.matches(value))
            }
            None => self.any.is_empty(),
        }
    }

    /// Whether some of several values match, and none is among those that must not.
    pub fn matches_some(&self, values: &[String]) -> bool {
        let found = |list: &[Pattern]| list.iter().any(|p| values.iter().any(|value| p.matches(value)));
        (self.any.is_empty() || found(&self.any)) && !found(&self.none)
    }
}

impl fmt::Display for Globs {
    /// As they are written: `a-* or !a-b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = self.any.iter().map(|pattern| pattern.to_string());
        let none = self.none.iter().map(|pattern| format!("!{pattern}"));
        f.write_str(&any.chain(none).collect::<Vec<_>>().join(" or "))
    }
}

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        globs(Value::deserialize(deserializer)?).map_err(refused)
    }
}

fn globs(value: Value) -> Result<Globs, Refusal> {
    let mut globs = Globs::default();
    for text in texts(value, "a pattern in quotes, or a list of them")? {
        let (list, bare) = match text.strip_prefix('!') {
            Some(rest) => (&mut globs.none, rest),
            None => (&mut globs.any, text.as_str()),
        };
        let help = "wildcards are `*`, `?` and `[…]`; `!` before it for what must not match";
        list.push(pattern(bare, &text, help)?);
    }
    Ok(globs)
}

pub(super) fn texts(value: Value, expected: &str) -> Result<Vec<String>, Refusal> {
    let refuse = || Refusal::new(format!("expected {expected}"), "write it as \"…\" or [\"…\", \"…\"]");
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(list) if !list.is_empty() => {
            list.into_iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(refuse)).collect()
        }
        _ => Err(refuse()),
    }
}
