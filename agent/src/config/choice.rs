//! A choice among names: a list of patterns, as for labels and for fields.
//!
//! In: `["*", "!helm.sh/*"]`. Out: whether a name is chosen. Knows nothing of what the names are of.

use std::fmt;

use glob::Pattern;
use serde::{Deserialize, Deserializer};

use super::diagnostic::Refusal;
use super::schema::form;
use super::units::{pattern, text};

/// Patterns with `*`, `?` and `[…]`, each of which takes names in, or, behind a `!`, leaves them out: a name is chosen
/// that some pattern takes in and none leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice(Vec<One>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct One {
    pattern: Pattern,
    out: bool,
}

impl Choice {
    /// Every name.
    pub fn all() -> Choice {
        // Nothing is simpler than this pattern: it cannot be refused.
        Choice(Pattern::new("*").map(|pattern| One { pattern, out: false }).into_iter().collect())
    }

    /// Whether a name is chosen.
    pub fn has(&self, name: &str) -> bool {
        let matches = |one: &&One| one.pattern.matches(name);
        self.0.iter().filter(|one| !one.out).any(|one| matches(&one))
            && !self.0.iter().filter(|one| one.out).any(|one| matches(&one))
    }

    /// Whether no name can be chosen.
    pub fn is_nothing(&self) -> bool {
        self.0.iter().all(|one| one.out)
    }

    /// The patterns that match none of `names`, as they were written.
    pub fn idle<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let idle = self.0.iter().filter(|one| !names.iter().any(|name| one.pattern.matches(name)));
        idle.map(|one| one.pattern.as_str())
    }
}

form!(
    Choice,
    "Choice",
    "A list of patterns with `*`, `?` and `[…]`, of which one takes a name in; one behind a `!` leaves out what it matches, as in \
     `[\"*\", \"!helm.sh/*\"]`.",
    { "type": "array", "items": { "type": "string", "pattern": "^!?[^!]" } }
);

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.0.iter().map(|one| format!("{}{}", if one.out { "!" } else { "" }, one.pattern));
        f.write_str(&patterns.collect::<Vec<_>>().join(", "))
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "a pattern in quotes", |text| {
            let (out, bare) = text.strip_prefix('!').map_or((false, text), |bare| (true, bare));
            if bare.is_empty() {
                return Err(Refusal::new(
                    "a pattern cannot be empty",
                    "write a name or a pattern, as in \"app\" or \"*\"",
                ));
            }
            let help = "wildcards are `*`, `?` and `[…]`; a `!` in front leaves names out";
            let pattern = pattern(bare, text, help)?;
            Ok(One { pattern, out })
        })
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<One>::deserialize(deserializer).map(Choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(patterns: &[&str]) -> Choice {
        let list: Vec<toml::Value> = patterns.iter().map(|&pattern| pattern.into()).collect();
        toml::Value::Array(list).try_into().expect("patterns")
    }

    #[test]
    fn a_name_is_chosen_that_is_taken_in_and_not_left_out() {
        let most = choice(&["*", "!helm.sh/*", "!pod-template-hash"]);
        assert!(most.has("app") && most.has("app.kubernetes.io/name"), "a `*` passes over dots and slashes");
        assert!(!most.has("helm.sh/chart") && !most.has("pod-template-hash"));
        let one = choice(&["team"]);
        assert!(one.has("team") && !one.has("teams"));
        assert!(!choice(&[]).has("x") && choice(&["!x"]).is_nothing() && !choice(&["!x"]).has("y"));
        assert!(Choice::all().has("") && !Choice::all().is_nothing());
        assert_eq!(most.to_string(), "*, !helm.sh/*, !pod-template-hash");
        assert_eq!(most.idle(&["app"]).collect::<Vec<_>>(), ["helm.sh/*", "pod-template-hash"]);
    }
}
