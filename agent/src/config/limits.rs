//! `rate_limit` of an output: how much of a container, and of a namespace, it takes in a second.
//!
//! In: one table of an output. Out: a [`RateLimitConfig`], each field a key. What must fit together is checked where the
//! table is read.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ByteSize, units};

/// How much of a container, and of a namespace, the output takes in a second. It reads no faster than that; what is written meanwhile waits on disk, or is
/// dropped. A host file counts as a container, all files of a `[files.NAME]` as a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// For each container: `{ bytes = "1MiB" }`, `{ lines = 500 }`, or both. Default: no limit.
    #[serde(skip)]
    #[schemars(!skip)]
    pub container: Option<Rate>,
    /// For all containers of each namespace together, in the same form. Default: no limit.
    #[serde(skip)]
    #[schemars(!skip)]
    pub namespace: Option<Rate>,
    /// How much may come at once after a silence: what the rate gives in that time, 1 s to 1 h. Default `"10s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub burst: Duration,
    /// What becomes of the rest. Default `"wait"`.
    pub action: LimitAction,
}

impl Default for RateLimitConfig {
    fn default() -> RateLimitConfig {
        RateLimitConfig {
            container: None,
            namespace: None,
            burst: Duration::from_secs(10),
            action: LimitAction::Wait,
        }
    }
}

/// How much in a second: at least one of both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// Bytes that the program wrote, newlines included, 1 B to 1 TiB. Default: any number.
    pub bytes: Option<ByteSize>,
    /// Records, 1 to 1,000,000,000: a line that the runtime has cut in pieces is one. Default: any number.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub lines: Option<u64>,
}

/// What becomes of what is over a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitAction {
    /// It waits in its file, as long as that is there.
    Wait,
    /// It is read, counted and not sent.
    Drop,
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// What is said of an output with this line, one mistake or none.
    fn said(line: &str) -> String {
        match Config::parse(&format!("[outputs.o]\ntype = \"stdout\"\n{line}\n"), "t.toml") {
            Ok(_) => String::new(),
            Err(problems) => {
                let [problem] = problems.0.as_slice() else { panic!("{problems}") };
                assert!(problem.place.as_ref().is_some_and(|place| place.line >= 3), "{problem}");
                format!("{}; {}", problem.message, problem.help)
            }
        }
    }

    #[test]
    fn a_rate_limit_may_have_any_of_its_parts() {
        for line in [
            "rate_limit = { container = { bytes = \"1MiB\" } }",
            "rate_limit = { namespace = { lines = 1, bytes = 1 }, action = \"drop\", burst = \"1h\" }",
            "[outputs.o.rate_limit]\ncontainer.lines = 5\nnamespace.lines = 50",
        ] {
            assert_eq!(said(line), "");
        }
    }

    #[test]
    fn what_a_rate_limit_cannot_be_is_told() {
        for (line, message) in [
            ("rate_limit = \"1MiB\"", "`rate_limit` must be a table; write `[outputs.NAME.rate_limit]`"),
            ("rate_limit = {}", "`rate_limit` limits nothing; say how much: container = "),
            ("rate_limit = { burst = \"5s\" }", "`rate_limit` limits nothing; "),
            ("rate_limit = { container = 5 }", "`container` must be a table; write it as { bytes = "),
            ("rate_limit = { container = {} }", "this limits nothing; say how much a second: bytes = "),
            ("rate_limit = { container = { lines = 0 } }", "`lines` is too small; at least 1"),
            (
                "rate_limit = { container = { lines = -1 } }",
                "`lines` cannot be `-1`; expected a whole number",
            ),
            ("rate_limit = { container = { bytes = \"x\" } }", "`bytes`: `x` is not a size; write a whole"),
            ("rate_limit = { container = { records = 5 } }", "unknown key `records`; "),
            ("rate_limit = { pod = { lines = 5 }, container = { lines = 5 } }", "unknown key `pod`; "),
            (
                "rate_limit = { container = { lines = 5 }, action = \"lose\" }",
                "`action` cannot be `lose`; allowed here: `wait` or `drop`",
            ),
            (
                "rate_limit = { container = { lines = 5 }, burst = \"100ms\" }",
                "`burst` is too small; at least 1s",
            ),
        ] {
            let said = said(line);
            assert!(said.starts_with(message), "{line}: {said}");
        }
    }

    #[test]
    fn to_drop_the_oldest_needs_a_bound_and_a_bound_needs_that() {
        assert_eq!(said("on_full = \"drop_oldest\"\nmax_lag = \"1GiB\""), "");
        assert_eq!(said("on_full = \"wait\""), "");
        for (line, message) in [
            ("on_full = \"drop_oldest\"", "`on_full = \"drop_oldest\"` needs a `max_lag`; say how much"),
            ("max_lag = \"1GiB\"", "`max_lag` has no meaning unless the oldest is dropped; leave it out, or"),
            ("on_full = \"drop_oldest\"\nmax_lag = \"1KiB\"", "`max_lag` is too small; at least 1MiB"),
            ("on_full = \"drop_newest\"", "`on_full` cannot be `drop_newest`; did you mean `drop_oldest`?"),
        ] {
            let said = said(line);
            assert!(said.starts_with(message), "{line}: {said}");
        }
    }
}
