//! Conditions on single records: which are kept, which are dropped.
//!
//! In: the document that a record is becoming, up to its body's members, and its level and stream. Out: whether it meets the
//! condition. The cheapest tests of a condition come first. Never changes the document; a document without conditions costs nothing.

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::json::Scanner;
use super::level::Level;
use super::{Stream, escape};

/// What a test looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `log.level`.
    Level,
    /// `stream`.
    Stream,
    /// `message`.
    Message,
    /// A member of the application's own JSON, by the names on the way to it.
    App(Vec<String>),
    /// A field that was made of a line of text, by its name with the dots.
    Parsed(String),
}

/// What is asked of a field.
#[derive(Debug)]
pub enum Test {
    /// It is one of these levels.
    LevelIn(Vec<Level>),
    /// It contains this text, as it is escaped in JSON.
    Contains(Box<Finder<'static>>),
    /// The pattern is found in it.
    Matches(Regex),
    /// It is this text, or a scalar that is written so.
    Is(String),
    /// It is a number that compares so.
    Number(Comparison, f64),
}

/// How a number compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    More,
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Less => left < right,
            Comparison::AtMost => left <= right,
            Comparison::Equal => left == right,
            Comparison::AtLeast => left >= right,
            Comparison::More => left > right,
        }
    }
}

impl Test {
    /// For text that is contained.
    pub fn contains(text: &str) -> Test {
        let mut escaped = Vec::new();
        escape::append_escaped(&mut escaped, text.as_bytes());
        Test::Contains(Box::new(Finder::new(&escaped).into_owned()))
    }

    /// Cheaper ones first.
    fn cost(&self) -> u8 {
        match self {
            Test::LevelIn(_) => 0,
            Test::Is(_) | Test::Contains(_) | Test::Number(..) => 1,
            Test::Matches(_) => 2,
        }
    }

    /// Of a value as it is written in JSON: a text with its quotes.
    fn holds(&self, value: &[u8]) -> bool {
        let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        match self {
            Test::LevelIn(_) => false,
            Test::Contains(finder) => finder.find(inner.unwrap_or(value)).is_some(),
            Test::Matches(regex) => match inner {
                Some(inner) if memchr::memchr(b'\\', inner).is_some() => {
                    serde_json::from_slice::<String>(value)
                        .map_or_else(|_| regex.is_match(inner), |text| regex.is_match(text.as_bytes()))
                }
                _ => regex.is_match(inner.unwrap_or(value)),
            },
            Test::Is(text) => match inner {
                Some(inner) if memchr::memchr(b'\\', inner).is_some() => {
                    serde_json::from_slice::<String>(value).is_ok_and(|value| value == *text)
                }
                _ => inner.unwrap_or(value) == text.as_bytes(),
            },
            Test::Number(comparison, than) => {
                let number =
                    std::str::from_utf8(inner.unwrap_or(value)).ok().and_then(|text| text.parse().ok());
                number.is_some_and(|number| comparison.holds(number, *than))
            }
        }
    }
}

/// One field, and what it must be: one of several, or none of them.
#[derive(Debug)]
pub struct Condition {
    /// What is looked at.
    pub field: Field,
    /// Any of these holds.
    pub any: Vec<Test>,
    /// Or rather: none of them.
    pub negated: bool,
}

/// What a record is asked by.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The document so far: from its `{` to the last of the body's members, without a comma or brace behind it.
    pub document: &'a [u8],
    /// Its level.
    pub level: Option<Level>,
    /// Its stream.
    pub stream: Option<Stream>,
}

/// Any of some lists of conditions, of which each must hold.
#[derive(Debug)]
pub struct Conditions(Vec<Vec<Condition>>);

impl Conditions {
    /// Of these lists, one must hold whole.
    pub fn new(mut any: Vec<Vec<Condition>>) -> Conditions {
        let cost = |condition: &Condition| {
            let of_field = if matches!(condition.field, Field::App(_)) { 4 } else { 0 };
            of_field + condition.any.iter().map(Test::cost).max().unwrap_or(0)
        };
        any.iter_mut().for_each(|all| all.sort_by_key(cost));
        Conditions(any)
    }

    /// Whether the record meets them. `unknown`: what a condition on the level comes to where there is none.
    pub fn hold(&self, subject: Subject<'_>, unknown: bool) -> bool {
        self.0.iter().any(|all| all.iter().all(|condition| condition.holds(subject, unknown)))
    }
}

impl Condition {
    fn holds(&self, subject: Subject<'_>, unknown: bool) -> bool {
        let found = match &self.field {
            Field::Level => {
                let Some(level) = subject.level else { return unknown };
                self.any.iter().any(|test| matches!(test, Test::LevelIn(levels) if levels.contains(&level)))
            }
            Field::Stream => {
                let name: &[u8] = match subject.stream {
                    Some(Stream::Stdout) => b"stdout",
                    Some(Stream::Stderr) => b"stderr",
                    None => b"",
                };
                self.any.iter().any(|test| test.holds(name))
            }
            Field::Message => self.of_member(subject.document, &["message"]),
            Field::Parsed(name) => self.of_member(subject.document, &[name]),
            Field::App(path) => {
                let path: Vec<&str> = std::iter::once("app").chain(path.iter().map(String::as_str)).collect();
                self.of_member(subject.document, &path)
            }
        };
        found != self.negated
    }

    fn of_member(&self, document: &[u8], path: &[&str]) -> bool {
        member(document, path).is_some_and(|value| self.any.iter().any(|test| test.holds(value)))
    }
}

/// The value that a path of names leads to in an object, which need not be closed. The first of several members of one name.
pub fn member<'a>(object: &'a [u8], path: &[&str]) -> Option<&'a [u8]> {
    let (name, rest) = path.split_first()?;
    let mut found = None;
    Scanner { bytes: object, repair: false }.members(|scanner, member| {
        let (from, to) = member.name;
        if scanner.bytes[from + 1..to - 1] == *name.as_bytes() {
            found = Some(member.value);
        }
        found.is_some()
    });
    let (from, to) = found?;
    let value = &object[from..to];
    if rest.is_empty() { Some(value) } else { member(value, rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"@timestamp":"t","message":"GET \"/a\" 500","log":{"level":"warn"},"app":{"status":503,"s":"503","a":{"b":true,"x":"é\n"}}"#;

    fn holds(field: Field, test: Test) -> bool {
        let subject =
            Subject { document: DOCUMENT.as_bytes(), level: Some(Level::Warn), stream: Some(Stream::Stderr) };
        Conditions::new(vec![vec![Condition { field, any: vec![test], negated: false }]]).hold(subject, true)
    }

    fn app(path: &str) -> Field {
        Field::App(path.split('.').map(str::to_owned).collect())
    }

    #[test]
    fn every_test_sees_what_was_written() {
        let regex = |pattern: &str| Test::Matches(Regex::new(pattern).expect("a pattern"));
        for (field, test, expected) in [
            (Field::Message, Test::contains("\"/a\""), true),
            (Field::Message, Test::contains("/b"), false),
            (Field::Message, regex("^GET \"/a\" 5..$"), true),
            (Field::Message, Test::Is("GET \"/a\" 500".to_owned()), true),
            (Field::Stream, Test::Is("stderr".to_owned()), true),
            (Field::Level, Test::LevelIn(vec![Level::Warn, Level::Error]), true),
            (Field::Level, Test::LevelIn(vec![Level::Error]), false),
            (app("status"), Test::Number(Comparison::AtLeast, 500.0), true),
            (app("status"), Test::Number(Comparison::Less, 503.0), false),
            (app("s"), Test::Number(Comparison::Equal, 503.0), true),
            (app("status"), Test::Is("503".to_owned()), true),
            (app("a.b"), Test::Is("true".to_owned()), true),
            (app("a.x"), regex("(?u)^é\n$"), true),
            (app("a.none"), regex(""), false),
            (app("none.b"), regex(""), false),
            (app("status.b"), regex(""), false),
        ] {
            let shown = format!("{field:?} {test:?}");
            assert_eq!(holds(field, test), expected, "{shown}");
        }
    }

    #[test]
    fn lists_are_alternatives_tables_are_all_of_it_and_a_missing_level_is_as_said() {
        let level = |levels: &[Level], negated| Condition {
            field: Field::Level,
            any: vec![Test::LevelIn(levels.to_vec())],
            negated,
        };
        let message =
            |text: &str| Condition { field: Field::Message, any: vec![Test::contains(text)], negated: false };
        let of = |any, level, unknown| {
            let subject = Subject { document: DOCUMENT.as_bytes(), level, stream: None };
            Conditions::new(any).hold(subject, unknown)
        };
        let both = || vec![vec![level(&[Level::Info], true), message("GET")], vec![message("none")]];
        assert!(of(both(), Some(Level::Warn), false));
        assert!(!of(both(), Some(Level::Info), false));
        assert!(of(both(), None, true) && !of(both(), None, false));
    }
}
