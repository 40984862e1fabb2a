//! `match`: which containers a route is for.
//!
//! In: a table of patterns. Out: the patterns, known to be valid. What they are held against, `route` decides.

use std::collections::BTreeMap;
use std::fmt;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use toml::Value;

use crate::config::diagnostic::Refusal;
use crate::config::units::{pattern, refused};

/// What a container must be. Each key is a pattern with `*`, `?` and `[…]`, or a list of them; those that begin with `!` must
/// not match. All keys that are given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
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

    /// Whether it surely takes whatever `other` takes, as far as that is seen from the patterns: false says nothing.
    pub fn covers(&self, other: &MatchConfig) -> bool {
        let keys = |of: &MatchConfig| {
            let named = [&of.namespace, &of.pod, &of.container, &of.node, &of.image, &of.source, &of.file];
            named.map(Option::clone)
        };
        let maps = [(&self.labels, &other.labels), (&self.annotations, &other.annotations)];
        // A pod has several owners, of which one may match and another be among those that must not.
        let owner = match (&self.workload, &other.workload) {
            (None, _) => true,
            (Some(ours), Some(theirs)) => ours.none.is_empty() && ours.covers(theirs) || ours == theirs,
            (Some(_), None) => false,
        };
        let covered = |ours: &Option<Globs>, theirs: &Option<Globs>| match (ours, theirs) {
            (None, _) => true,
            (Some(ours), theirs) => ours.covers(theirs.as_ref().unwrap_or(&Globs::default())),
        };
        owner
            && keys(self).iter().zip(&keys(other)).all(|(ours, theirs)| covered(ours, theirs))
            && maps.into_iter().all(|(ours, theirs)| {
                ours.iter().all(|(key, globs)| covered(&Some(globs.clone()), &theirs.get(key).cloned()))
            })
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

    /// Whether every value that `other` matches is surely matched, and so is a missing one.
    fn covers(&self, other: &Globs) -> bool {
        let taken = |theirs: &Pattern| self.any.iter().any(|ours| includes(ours, theirs));
        let left_out = |ours: &Pattern| {
            other.none.iter().any(|theirs| includes(theirs, ours))
                || (!other.any.is_empty()
                    && other.any.iter().all(|theirs| is_literal(theirs) && !ours.matches(theirs.as_str())))
        };
        // A value that is missing is matched by patterns that must not match, and by those alone.
        let any = self.any.is_empty() || (!other.any.is_empty() && other.any.iter().all(taken));
        any && self.none.iter().all(left_out)
    }

    /// Whether some of several values match, and none is among those that must not.
    pub fn matches_some(&self, values: &[String]) -> bool {
        let found = |list: &[Pattern]| list.iter().any(|p| values.iter().any(|value| p.matches(value)));
        (self.any.is_empty() || found(&self.any)) && !found(&self.none)
    }
}

const WILD: [char; 3] = ['*', '?', '['];

fn is_literal(pattern: &Pattern) -> bool {
    !pattern.as_str().contains(WILD)
}

/// Whether a pattern surely matches whatever another one matches.
fn includes(wide: &Pattern, narrow: &Pattern) -> bool {
    let (head, rest) = wide.as_str().split_at(wide.as_str().find(WILD).unwrap_or(wide.as_str().len()));
    let begins = narrow.as_str().split(WILD).next().unwrap_or_default();
    wide == narrow
        || (rest == "*" && begins.starts_with(head))
        || (is_literal(narrow) && wide.matches(narrow.as_str()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(text: &str) -> MatchConfig {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_covers_another_is_seen_from_the_patterns() {
        for (wide, narrow, covers) in [
            ("", "namespace = 'a'", true),
            ("namespace = 'a'", "namespace = 'a'", true),
            ("namespace = 'a'", "namespace = 'a'\ncontainer = 'app'", true),
            ("namespace = 'a'\ncontainer = 'app'", "namespace = 'a'", false),
            ("namespace = 'team-*'", "namespace = 'team-a'", true),
            ("namespace = 'team-*'", "namespace = ['team-a', 'team-b-*']", true),
            ("namespace = 'team-*'", "namespace = ['team-a', 'shop']", false),
            ("namespace = 'team-a*'", "namespace = 'team-*'", false),
            ("namespace = '*'", "namespace = 'x?'", true),
            ("namespace = '*'", "pod = 'x'", false),
            ("namespace = '!a'", "namespace = 'b'", true),
            ("namespace = '!a*'", "namespace = 'ab'", false),
            ("namespace = '!a*'", "namespace = 'b*'", false),
            ("namespace = '!a'", "namespace = '!a*'", true),
            ("namespace = '!a*'", "namespace = '!a'", false),
            ("namespace = ['*', '!a']", "namespace = ['x*', '!a']", true),
            ("labels.app = 'api'", "labels.app = 'api'\nlabels.team = 'x'", true),
            ("labels.app = 'api'", "labels.team = 'x'", false),
            ("labels.app = '!api'", "labels.team = 'x'", false),
            ("workload = 'deployment/*'", "workload = 'deployment/a'", true),
            ("workload = '!replicaset/*'", "workload = 'deployment/a'", false),
        ] {
            let (wide, narrow) = (matching(wide), matching(narrow));
            assert_eq!(wide.covers(&narrow), covers, "{wide} of {narrow}");
        }
    }
}
