//! Wishes: what a pod's annotations say of its own logs.
//!
//! In: annotations. Out: what each container's logs are wished to be, and what is written wrong. Whether a wish is followed
//! is not decided here: that is the administrator's, by `[annotations]` and routes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::api::Texts;
use crate::config::annotations::Wish;
use crate::config::routes::{Json, Lines};

/// Before the name of a wish.
const OURS: &str = "taffrail.io/";
/// Fluent Bit's word for the whole pod, and the beginning of that for one container.
const FLUENT_BIT: &str = "fluentbit.io/exclude";

/// A share is kept in millionths, so that facts can be compared.
const WHOLE: f64 = 1_000_000.0;

/// What the logs of a pod are wished to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Those of all its containers.
    #[serde(skip_serializing_if = "Wanted::is_nothing")]
    all: Wanted,
    /// Those of single ones, by name, which go before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    containers: BTreeMap<String, Wanted>,
}

/// What the logs of a container are wished to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// How lines are joined: `off`, or as [`Lines::parse`] reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    multiline: Option<String>,
    /// What becomes of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// Whether they are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<bool>,
    /// Millionths of them that are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<u32>,
    /// The outputs that they go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
}

impl Wanted {
    /// Whether nothing is wished.
    pub fn is_nothing(&self) -> bool {
        *self == Wanted::default()
    }

    /// How lines are joined, or that they are not.
    pub fn multiline(&self) -> Option<Option<Lines>> {
        // It was one when it was read.
        self.multiline.as_ref().map(|text| Lines::parse(text).ok())
    }

    /// The share that is sent, above 0 and up to 1.
    pub fn sample(&self) -> Option<f64> {
        self.sample.map(|millionths| f64::from(millionths) / WHOLE)
    }

    /// Whether there is such a wish.
    pub fn has(&self, wish: Wish) -> bool {
        self.clone().without(wish) != *self
    }

    /// Takes back a wish.
    pub fn without(mut self, wish: Wish) -> Wanted {
        match wish {
            Wish::Multiline => self.multiline = None,
            Wish::Json => self.json = None,
            Wish::Exclude => self.exclude = None,
            Wish::Sample => self.sample = None,
            Wish::Output => self.outputs = None,
        }
        self
    }

    fn set(&mut self, wish: Wish, value: &str) -> Result<(), &'static str> {
        match wish {
            Wish::Multiline => {
                if value != "off" {
                    Lines::parse(value)?;
                }
                self.multiline = Some(value.to_owned());
            }
            Wish::Json => {
                self.json = Some(match value {
                    "nest" => Json::Nest,
                    "text" => Json::Text,
                    _ => return Err("\"nest\" or \"text\""),
                });
            }
            Wish::Exclude => {
                self.exclude = Some(value.parse().map_err(|_| "\"true\" or \"false\"")?);
            }
            Wish::Sample => {
                let share: f64 = value.parse().unwrap_or_default();
                let millionths = (share * WHOLE).round();
                if !(1.0..=WHOLE).contains(&millionths) {
                    return Err("a share above 0 and up to 1, such as \"0.1\"");
                }
                // Between 1 and a million.
                self.sample = Some(millionths as u32);
            }
            Wish::Output => {
                let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
                if names.iter().any(String::is_empty) {
                    return Err("the name of an output, or several with commas between");
                }
                self.outputs = Some(names);
            }
        }
        Ok(())
    }
}

impl Wishes {
    /// What annotations say, and, for people, what of them is not understood.
    pub fn read(annotations: &Texts) -> (Wishes, Vec<String>) {
        let (mut wishes, mut mistakes) = (Wishes::default(), Vec::new());
        // Ours come after Fluent Bit's in the alphabet, and go before them.
        for (key, value) in annotations {
            let (wish, container) = match (key.strip_prefix(OURS), key.strip_prefix(FLUENT_BIT)) {
                (Some(name), _) => {
                    let (name, container) = name.split_once('.').unwrap_or((name, ""));
                    let Some(wish) = Wish::ALL.into_iter().find(|wish| wish.as_str() == name) else {
                        let known = Wish::ALL.map(|wish| format!("{OURS}{}", wish.as_str())).join(", ");
                        mistakes.push(format!("{key}: there is no such annotation; there are {known}"));
                        continue;
                    };
                    (wish, container)
                }
                (None, Some("")) => (Wish::Exclude, ""),
                (None, Some(rest)) => match rest.strip_prefix('-') {
                    Some(container) => (Wish::Exclude, container),
                    None => continue,
                },
                (None, None) => continue,
            };
            let wanted = match container {
                "" => &mut wishes.all,
                container => wishes.containers.entry(container.to_owned()).or_default(),
            };
            if let Err(expected) = wanted.set(wish, value) {
                let shown: String = value.chars().take(60).collect();
                mistakes.push(format!("{key}: {shown:?} is not {expected}"));
            }
        }
        (wishes, mistakes)
    }

    /// Whether nothing is wished.
    pub fn is_nothing(&self) -> bool {
        *self == Wishes::default()
    }

    /// What the logs of a container are wished to be.
    pub fn of(&self, container: &str) -> Wanted {
        let all = self.all.clone();
        let Some(own) = self.containers.get(container).cloned() else { return all };
        Wanted {
            multiline: own.multiline.or(all.multiline),
            json: own.json.or(all.json),
            exclude: own.exclude.or(all.exclude),
            sample: own.sample.or(all.sample),
            outputs: own.outputs.or(all.outputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(annotations: &[(&str, &str)]) -> (Wishes, Vec<String>) {
        let texts = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Wishes::read(&texts.collect())
    }

    #[test]
    fn a_containers_own_word_goes_before_the_pods_and_ours_before_fluent_bits() {
        let (wishes, mistakes) = read(&[
            ("taffrail.io/json", "text"),
            ("taffrail.io/sample", "0.25"),
            ("taffrail.io/json.app", "nest"),
            ("taffrail.io/output", "archive, search"),
            ("fluentbit.io/exclude", "true"),
            ("fluentbit.io/exclude-proxy", "true"),
            ("fluentbit.io/parser", "apache"),
            ("taffrail.io/exclude", "false"),
            ("team", "x"),
        ]);
        assert_eq!(mistakes, [""; 0]);
        let app = wishes.of("app");
        assert_eq!((app.json, app.sample(), app.exclude), (Some(Json::Nest), Some(0.25), Some(false)));
        assert_eq!(app.outputs.unwrap(), ["archive", "search"]);
        assert_eq!((wishes.of("proxy").exclude, wishes.of("proxy").json), (Some(true), Some(Json::Text)));
    }

    #[test]
    fn what_is_not_understood_is_told_and_changes_nothing() {
        let (wishes, mistakes) = read(&[
            ("taffrail.io/exclude", "yes"),
            ("taffrail.io/json.app", "merge"),
            ("taffrail.io/output", "a,,b"),
            ("taffrail.io/parser", "apache"),
            ("taffrail.io/sample", "0"),
        ]);
        assert_eq!(wishes.of("app"), Wanted::default());
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        assert_eq!(mistakes[0], "taffrail.io/exclude: \"yes\" is not \"true\" or \"false\"");
        assert!(
            mistakes[3].contains("no such annotation; there are taffrail.io/multiline, "),
            "{}",
            mistakes[3]
        );
    }

    proptest! {
        #[test]
        fn whatever_a_pod_says_is_read_and_a_share_is_one(value: String, number in -2.0..2.0f64) {
            for value in [value, number.to_string()] {
                let (wishes, _) = read(&[("taffrail.io/sample", &value), ("taffrail.io/json", &value)]);
                prop_assert!(wishes.of("app").sample().is_none_or(|share| share > 0.0 && share <= 1.0));
            }
        }
    }
}
