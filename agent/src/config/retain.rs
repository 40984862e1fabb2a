//! `[retain]`: what is kept of logs that kubelet rotates or deletes before every output has read them.
//!
//! In: one table of the configuration. Out: its checked values. Never touches the disk.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::ByteSize;
use super::diagnostic::Refusal;
use super::schema::form;
use super::units::{self, quoted, text};

/// What is kept of logs that kubelet rotates or deletes before every output has read them. Unread files are kept by a hard link in `state_dir` where that works (same mount, same owner), else open, and
/// copied.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetainConfig {
    /// Bytes on disk that unread files may take once nobody but the agent has them. 0 keeps none beyond what is held open.
    /// Default `"2GiB"`.
    pub max_bytes: ByteSize,
    /// What of the disk must stay free, in percent, 0% to 95%; below it, retained files go. Kubelet evicts pods at 10%, and
    /// collects images between 15% and 20%, where a node's disk therefore is for most of its life. Default `"12%"`.
    pub min_free: Percent,
    /// What of the inodes of the disk must stay free, likewise. Default `"10%"`.
    pub min_free_inodes: Percent,
    /// Where no hard link can be made: how long a deleted file is only held open before what is unread of it is copied, 1 s
    /// to 1 h. Default `"30s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub copy_after: Duration,
}

impl Default for RetainConfig {
    fn default() -> RetainConfig {
        RetainConfig {
            max_bytes: ByteSize::mib(2 << 10),
            min_free: Percent(12),
            min_free_inodes: Percent(10),
            copy_after: Duration::from_secs(30),
        }
    }
}

/// A whole number of hundredths, written `"20%"`, 0 to 95.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

form!(
    Percent,
    "Percent",
    "A whole number from 0 to 95 and `%`, as in `\"20%\"`.",
    { "type": "string", "pattern": "^[0-9]{1,3} *%$" }
);

impl Percent {
    /// So many hundredths of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        whole / 100 * u64::from(self.0)
    }

    fn parse(text: &str) -> Result<Percent, Refusal> {
        let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        number.filter(|number| *number <= 95).map(Percent).ok_or_else(|| {
            Refusal::new(
                format!("{} is not a percentage", quoted(text)),
                "write a whole number from 0 to 95 and `%`, as in \"20%\"",
            )
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "a percentage such as \"20%\"", Percent::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_read() {
        let text = "[retain]\nmax_bytes = \"1GiB\"\nmin_free = \"5%\"\nmin_free_inodes = \"0%\"\ncopy_after = \"1m\"\n\
                    [outputs.a]\ntype = \"stdout\"\n";
        let config = Config::parse(text, "f").expect("a valid configuration");
        let expected = RetainConfig {
            max_bytes: ByteSize::mib(1024),
            min_free: Percent(5),
            min_free_inodes: Percent(0),
            copy_after: Duration::from_secs(60),
        };
        assert_eq!(config.retain, expected);
        assert_eq!((Percent(20).of(1000), Percent(0).of(1000)), (200, 0));
    }

    #[test]
    fn mistakes_are_told_with_what_would_be_right() {
        for (line, said) in [
            ("min_free = 20", "expected a percentage such as \"20%\""),
            ("min_free = \"20\"", "is not a percentage"),
            ("min_free = \"96%\"", "0 to 95"),
            ("max_byte = \"1GiB\"", "did you mean `max_bytes`?"),
            ("copy_after = \"1ms\"", "`copy_after` is too small"),
        ] {
            let error = Config::parse(&format!("[retain]\n{line}\n[outputs.a]\ntype = \"stdout\"\n"), "f")
                .expect_err(line)
                .to_string();
            assert!(error.contains(said) && error.contains("f:2:"), "{line}: {error}");
        }
    }
}
