//! `rate_limit` of an output: how much of a container, and of a namespace, it takes in a second.
//!
//! In: one table of an output. Out: a [`RateLimitConfig`], each field a key. What must fit together is checked where the
//! table is read.

use std::time::Duration;

use serde::Deserialize;

use super::{ByteSize, units};

/// `[outputs.NAME.rate_limit]`. The output reads no faster than that; what is written meanwhile waits on disk, or is
/// dropped. A host file counts as a container, all files of a `[files.NAME]` as a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// For each container: `{ bytes = "1MiB" }`, `{ lines = 500 }`, or both. Default: no limit.
    #[serde(skip)]
    pub container: Option<Rate>,
    /// For all containers of each namespace together, in the same form. Default: no limit.
    #[serde(skip)]
    pub namespace: Option<Rate>,
    /// How much may come at once after a silence: what the rate gives in that time, 1 s to 1 h. Default `"10s"`.
    #[serde(deserialize_with = "units::duration")]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// Bytes that the program wrote, newlines included, 1 B to 1 TiB. Default: any number.
    pub bytes: Option<ByteSize>,
    /// Records, 1 to 1,000,000,000: a line that the runtime has cut in pieces is one. Default: any number.
    pub lines: Option<u64>,
}

/// What becomes of what is over a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitAction {
    /// It waits in its file, as long as that is there.
    Wait,
    /// It is read, counted and not sent.
    Drop,
}
