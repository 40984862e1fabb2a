//! `match`: which containers a route is for.
//!
//! In: a table of patterns. Out: the patterns, known to be valid. What they are held against, `route` decides.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use glob::Pattern;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Value;

use crate::config::diagnostic::Refusal;
use crate::config::units::{pattern, refused, variables};

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
    #[serde(deserialize_with = "by_key")]
    pub labels: BTreeMap<String, Globs>,
    /// Annotations of the pod, by their keys.
    #[serde(deserialize_with = "by_key")]
    pub annotations: BTreeMap<String, Globs>,
}

impl MatchConfig {
    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        *self == MatchConfig::default()
    }

    /// Whether it surely takes whatever `other` takes, as far as that is seen from the patterns: false says nothing.
    pub fn covers(&self, other: &MatchConfig) -> bool {
        let named = [
            (&self.namespace, &other.namespace),
            (&self.pod, &other.pod),
            (&self.container, &other.container),
            (&self.node, &other.node),
            (&self.image, &other.image),
            (&self.source, &other.source),
            (&self.file, &other.file),
        ];
        let maps = [(&self.labels, &other.labels), (&self.annotations, &other.annotations)];
        // A pod has several owners, of which one may match and another be among those that must not.
        let owner = match (&self.workload, &other.workload) {
            (None, _) => true,
            (Some(ours), Some(theirs)) => ours.none.is_empty() && ours.covers(theirs) || ours == theirs,
            (Some(_), None) => false,
        };
        let nothing = Globs::default();
        let covered = |ours: &Globs, theirs: Option<&Globs>| ours.covers(theirs.unwrap_or(&nothing));
        owner
            && named
                .into_iter()
                .all(|(ours, theirs)| ours.as_ref().is_none_or(|ours| covered(ours, theirs.as_ref())))
            && maps
                .into_iter()
                .all(|(ours, theirs)| ours.iter().all(|(key, globs)| covered(globs, theirs.get(key))))
    }

    /// Why a pattern of it is no name's, if one is: a name is never empty, and nobody puts variables in.
    pub fn in_vain(&self) -> Option<Refusal> {
        self.keys().find_map(|(key, globs)| {
            let has = |wrong: fn(&str) -> bool| {
                globs.any.iter().chain(&globs.none).any(|pattern| wrong(pattern.as_str()))
            };
            // The value of a label may be empty, and that of an annotation anything.
            let is_name = !key.starts_with("labels.") && !key.starts_with("annotations.");
            if is_name && has(str::is_empty) {
                let message = format!("`{key}` is empty nowhere, so that nothing is matched by \"\"");
                return Some(Refusal::new(message, format!("write its name, or leave `{key}` out for all")));
            }
            let is_variable = !key.starts_with("annotations.") && has(|pattern: &str| pattern.contains("${"));
            is_variable.then(variables)
        })
    }

    /// Each key that is given, as it is written, and its patterns.
    fn keys(&self) -> impl Iterator<Item = (String, &Globs)> {
        let named = [
            ("namespace", &self.namespace),
            ("pod", &self.pod),
            ("container", &self.container),
            ("node", &self.node),
            ("image", &self.image),
            ("workload", &self.workload),
            ("source", &self.source),
            ("file", &self.file),
        ];
        let named = named.into_iter().filter_map(|(key, globs)| Some((key.to_owned(), globs.as_ref()?)));
        let labels = self.labels.iter().map(|(key, globs)| (format!("labels.{key}"), globs));
        let annotations = self.annotations.iter().map(|(key, globs)| (format!("annotations.{key}"), globs));
        named.chain(labels).chain(annotations)
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
        let all: Vec<String> = self.keys().map(|(key, globs)| format!("{key} {globs}")).collect();
        f.write_str(if all.is_empty() { "everything" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

/// Routes by the names that they ask for, so that a new one is held against few of those before it. Held against all of
/// them, 5,000 routes took 14 s (2026-11).
#[derive(Debug, Default)]
pub struct Earlier {
    /// By a key of which they take whole names alone, and each of the names.
    by_name: HashMap<(String, String), Vec<usize>>,
    /// Those that have no such key.
    others: Vec<usize>,
}

impl Earlier {
    /// Enters the route at this place, which is behind all that were entered.
    pub fn add(&mut self, at: usize, matches: &MatchConfig) {
        let names = |(key, globs): (String, &Globs)| -> Vec<(String, String)> {
            globs.any.iter().map(|name| (key.clone(), name.as_str().to_owned())).collect()
        };
        // Of several keys the one that tells it from most of those before it.
        let company = |names: &Vec<(String, String)>| {
            names.iter().map(|name| self.by_name.get(name).map_or(0, Vec::len)).sum::<usize>()
        };
        let named = matches.keys().filter(|(_, globs)| globs.takes_names_alone()).map(names);
        match named.min_by_key(company) {
            Some(names) => {
                names.into_iter().for_each(|name| self.by_name.entry(name).or_default().push(at));
            }
            None => self.others.push(at),
        }
    }

    /// Places of the routes that may take all that `matches` does, in their order. No other does: one that takes whole
    /// names alone must have each of its names, and so the first.
    pub fn candidates(&self, matches: &MatchConfig) -> Vec<usize> {
        let first = |(key, globs): (String, &Globs)| Some((key, globs.any.first()?.as_str().to_owned()));
        let names = matches.keys().filter_map(first);
        let mut found = self.others.clone();
        found.extend(names.filter_map(|name| self.by_name.get(&name)).flatten());
        found.sort_unstable();
        found
    }
}

/// Patterns of which one must match, and others that must not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Globs {
    any: Vec<Pattern>,
    none: Vec<Pattern>,
}

impl Globs {
    /// Whether it takes nothing but values that it names whole.
    fn takes_names_alone(&self) -> bool {
        !self.any.is_empty() && self.any.iter().all(is_literal)
    }

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

/// Reads patterns by the keys of labels or annotations.
fn by_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Globs>, D::Error> {
    struct ByKey;
    impl<'de> Visitor<'de> for ByKey {
        type Value = BTreeMap<String, Globs>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("labels or annotations by their keys, as in { labels.app = \"api\" }")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            BTreeMap::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(ByKey)
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

    #[test]
    fn a_route_is_held_against_those_that_may_cover_it_alone() {
        let of_two = |n| [format!("namespace = 'n{n}'"), format!("namespace = 's'\npod = ['p{n}', 'q{n}']")];
        let mut texts: Vec<String> = (0..500).flat_map(of_two).collect();
        let others = ["labels.app = 'api'", "namespace = 'team-*'", "pod = 'p7'\nnamespace = 'x'"];
        texts.extend(others.map(str::to_owned));
        let routes: Vec<MatchConfig> = texts.iter().map(|text| matching(text)).collect();
        let mut earlier = Earlier::default();
        for (at, route) in routes.iter().enumerate() {
            let candidates = earlier.candidates(route);
            assert!(candidates.len() < 6 && candidates.is_sorted(), "{route}: {candidates:?}");
            earlier.add(at, route);
        }
        for (narrow, covered) in [
            ("namespace = 'n3'\npod = 'x'", true),
            ("namespace = 'team-a'", true),
            ("pod = 'q7'\nnamespace = 's'", true),
            ("labels.app = ['api']\nnode = 'n'", true),
            ("pod = '*'", false),
            ("", false),
        ] {
            let narrow = matching(narrow);
            let all: Vec<usize> = (0..routes.len()).filter(|&at| routes[at].covers(&narrow)).collect();
            let candidates = earlier.candidates(&narrow);
            assert_eq!(!all.is_empty(), covered, "{narrow}");
            assert!(all.iter().all(|at| candidates.contains(at)), "{narrow}: {all:?}, {candidates:?}");
        }
    }
}
