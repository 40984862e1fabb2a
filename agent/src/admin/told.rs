//! What the agent has warned of: the last of it, kept for the page and `taffrail top`.
//!
//! In: every event of the agent's own log, as a layer of tracing. Out: warnings and errors with how often and when, the
//! latest first, up to a bound; what was said before of the same thing counts up, and what was said to have ended comes
//! last, with when. A message says what to do, as it does in the log. Never a line of anybody's log.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock::unix_millis;
use crate::record::time;
use crate::stats::Counter;

/// So many different ones are kept.
const MOST: usize = 100;

/// Characters of one, at most.
const MOST_TEXT: usize = 2000;

/// What is said when a trouble has ended, and how its warning begins: of the same output and container.
const ENDS: [(&str, &str); 8] = [
    ("delivering again", "cannot deliver; "),
    ("writing again", "cannot write; "),
    ("the destination takes the container's records again", "the destination does not take a container's"),
    ("positions are saved again", "cannot save positions; "),
    ("metadata comes from the API server again", "no metadata from the API server"),
    ("the pod logs can be listed now", "cannot list the pod logs"),
    ("reloaded the configuration", "the new configuration "),
    ("the configuration is the one that runs again", "the new configuration "),
];

/// One warning or error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// `warn` or `error`.
    pub level: String,
    /// What was said, and what to do.
    pub message: String,
    /// Of which output, where it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Of which container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The other fields, as they were the last time.
    pub details: String,
    /// How often it was said.
    pub count: u64,
    /// When first and when last: milliseconds since the epoch.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// When it was over, where that was said: likewise. It is said in `details` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<u64>,
}

/// What is kept of them.
#[derive(Debug, Default)]
pub struct Told {
    sayings: Mutex<VecDeque<Saying>>,
    errors: Counter,
}

impl Told {
    /// All, the latest first, and behind them those that are over.
    pub fn all(&self) -> Vec<Saying> {
        let mut all: Vec<Saying> = self.lock().iter().rev().cloned().collect();
        all.sort_by_key(|saying| saying.over.is_some());
        for saying in &mut all {
            let Some(over) = saying.over else { continue };
            let before = if saying.details.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = write!(saying.details, "{before}(over since {})", second(over));
        }
        all
    }

    /// How many errors there were since the start.
    pub fn errors(&self) -> u64 {
        self.errors.get()
    }

    fn keep(&self, new: Saying) {
        if new.level == "error" {
            self.errors.add(new.count);
        }
        let mut sayings = self.lock();
        let is_same = |old: &Saying| {
            (&old.message, &old.output, &old.container) == (&new.message, &new.output, &new.container)
        };
        // What begins again is not over.
        let known = sayings.iter().position(is_same).and_then(|at| sayings.remove(at));
        let known = known.map_or((0, new.first), |known| (known.count, known.first));
        if sayings.len() >= MOST {
            sayings.pop_front();
        }
        sayings.push_back(Saying { count: known.0 + new.count, first: known.1, ..new });
    }

    /// What was said of a trouble is over, if this is the end of one.
    fn end(&self, message: &str, output: Option<&str>, container: Option<&str>) {
        for (_, begins) in ENDS.iter().filter(|(end, _)| *end == message) {
            let is_it = |old: &&mut Saying| {
                old.over.is_none()
                    && old.message.starts_with(begins)
                    && (old.output.as_deref(), old.container.as_deref()) == (output, container)
            };
            self.lock().iter_mut().filter(is_it).for_each(|old| old.over = Some(unix_millis()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Saying>> {
        self.sayings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layer that keeps them.
pub struct Listening(pub Arc<Told>);

impl<S: Subscriber> Layer<S> for Listening {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => return,
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, output, container, details } = fields;
        if level == "info" {
            return self.0.end(&message, output.as_deref(), container.as_deref());
        }
        let now = unix_millis();
        self.0.keep(Saying {
            level: level.to_owned(),
            message,
            output,
            container,
            details,
            count: 1,
            first: now,
            last: now,
            over: None,
        });
    }
}

/// A time to the second.
fn second(millis: u64) -> String {
    let nanos = i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    format!("{}Z", time::format_nanos(nanos).get(..19).unwrap_or_default())
}

/// An event's fields.
#[derive(Default)]
struct Fields {
    message: String,
    output: Option<String>,
    container: Option<String>,
    details: String,
}

impl Fields {
    fn put(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let cut = |text: String| text.chars().take(MOST_TEXT).collect::<String>();
        match name {
            "message" => self.message = cut(value.to_string()),
            "output" => self.output = Some(cut(value.to_string())),
            "container" => self.container = Some(cut(value.to_string())),
            _ => {
                let before = if self.details.is_empty() { "" } else { " " };
                // Writing to a string cannot fail.
                let _ = write!(self.details, "{before}{name}={value}");
                self.details = cut(std::mem::take(&mut self.details));
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn what_is_said_again_counts_up_and_the_oldest_goes() {
        let told = Arc::new(Told::default());
        let subscriber = tracing_subscriber::registry().with(Listening(told.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(output = "search", "started");
            for tries in 1..=3 {
                tracing::warn!(output = "search", tries, error = %"refused", "cannot write; trying again");
            }
            tracing::error!(output = "other", "cannot write; trying again");
        });
        let all = told.all();
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].level.as_str(), all[0].output.as_deref(), all[0].count),
            ("error", Some("other"), 1)
        );
        let Saying { message, count, details, first, last, .. } = &all[1];
        assert_eq!((message.as_str(), *count), ("cannot write; trying again", 3));
        assert_eq!(details, "tries=3 error=refused");
        assert!(first <= last && *first > 0);
        for number in 0..MOST {
            told.keep(Saying { message: number.to_string(), ..all[0].clone() });
        }
        assert_eq!(told.all().len(), MOST);
        assert!(told.all().iter().all(|saying| saying.message != message.as_str()));
    }

    #[test]
    fn what_is_over_is_told_last_and_with_when_and_may_begin_again() {
        let told = Arc::new(Told::default());
        let subscriber = tracing_subscriber::registry().with(Listening(told.clone()));
        let of = |all: &[Saying]| -> Vec<(Option<String>, Option<String>, bool)> {
            all.iter().map(|s| (s.output.clone(), s.container.clone(), s.over.is_some())).collect()
        };
        let (a, b, c) = (Some("a".to_owned()), Some("b".to_owned()), Some("shop/web/app".to_owned()));
        tracing::subscriber::with_default(subscriber, || {
            for output in ["b", "a"] {
                tracing::warn!(output, trouble = "503", "cannot deliver; trying again until it works");
            }
            tracing::warn!(
                output = "a",
                container = "shop/web/app",
                "the destination does not take a container's records: set aside"
            );
            tracing::info!(output = "a", "delivering again");
            assert_eq!(
                of(&told.all()),
                [(a.clone(), c.clone(), false), (b.clone(), None, false), (a.clone(), None, true)]
            );
            let details = told.all()[2].details.clone();
            assert!(details.starts_with("trouble=503 (over since 2") && details.ends_with("Z)"), "{details}");
            tracing::info!(
                output = "a",
                container = "shop/web/app",
                "the destination takes the container's records again"
            );
            tracing::warn!(output = "a", trouble = "429", "cannot deliver; trying again until it works");
        });
        let all = told.all();
        assert_eq!(of(&all), [(a.clone(), None, false), (b, None, false), (a, c, true)]);
        assert_eq!((all[0].count, all[0].details.as_str()), (2, "trouble=429"), "it is the same trouble");
    }

    #[test]
    fn a_time_is_told_to_the_second() {
        assert_eq!(second(1_500), "1970-01-01T00:00:01Z");
    }
}
