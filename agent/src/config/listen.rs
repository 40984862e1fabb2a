//! `listen` and `metrics_listen`: where the agent answers whoever asks how it is.
//!
//! In: an address in quotes. Out: the same checked, or none. Never binds it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer};

use super::diagnostic::Refusal;
use super::schema::form;
use super::units::{quoted, text};

/// The environment's default of `metrics_listen`: the manifests set it, so that probes and Prometheus reach every pod
/// whatever its configuration leaves out.
pub const METRICS_VARIABLE: &str = "TAFFRAIL_METRICS_LISTEN";

/// Where one of the two listeners is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere: `""` or `"off"`.
    Off,
    /// There; port 0 is a free one of the system's choice.
    At(SocketAddr),
}

form!(
    Listen,
    "Listen",
    "An address and a port, as in `\"127.0.0.1:9600\"` or `\"[::]:9600\"`; port 0 is a free one. `\"off\"`: nowhere.",
    { "type": "string", "pattern": "^$|^off$|:[0-9]{1,5}$" }
);

impl Listen {
    /// At this port of the loopback.
    pub fn loopback(port: u16) -> Listen {
        Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// The default of `listen`.
    pub fn page() -> Listen {
        Listen::loopback(9600)
    }

    /// The default of `metrics_listen`, which the environment may set.
    pub fn metrics() -> Listen {
        Listen::metrics_by(std::env::var(METRICS_VARIABLE).ok())
    }

    fn metrics_by(environment: Option<String>) -> Listen {
        let said = environment.and_then(|text| Listen::parse(&text).ok());
        said.unwrap_or(Listen::loopback(9601))
    }

    /// Whether the system would not let both be listened at.
    pub fn clashes_with(self, other: Listen) -> bool {
        let (Listen::At(one), Listen::At(other)) = (self, other) else { return false };
        let (ours, theirs) = (one.ip(), other.ip());
        // `[::]` is every address, `0.0.0.0` every one of IPv4.
        let has = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        one.port() != 0
            && one.port() == other.port()
            && (ours == theirs || has(ours, theirs) || has(theirs, ours))
    }

    /// Reads `"ADDRESS:PORT"`, or nothing.
    pub fn parse(text: &str) -> Result<Listen, Refusal> {
        if matches!(text, "" | "off") {
            return Ok(Listen::Off);
        }
        let numbers = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numbers.as_deref().unwrap_or(text).parse().map(Listen::At).map_err(|_| {
            Refusal::new(
                format!("{} is not an address to listen at", quoted(text)),
                "write an address and a port, as in \"127.0.0.1:9600\" or \"[::]:9600\", or \"off\"",
            )
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Off => f.write_str("off"),
            Listen::At(address) => address.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "an address in quotes", Listen::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn an_address_is_numbers_or_the_loopbacks_name_or_nothing() {
        for (text, read) in [
            ("127.0.0.1:9600", "127.0.0.1:9600"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::]:9601", "[::]:9601"),
            ("", "off"),
            ("off", "off"),
        ] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), read, "{text}");
        }
        for text in ["9600", "example.com:80", "127.0.0.1", "::1", "on", "127.0.0.1:99999"] {
            assert!(Listen::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_listeners_are_not_at_one_address() {
        for (page, metrics, clash) in [
            ("127.0.0.1:9600", "127.0.0.1:9601", false),
            ("127.0.0.1:9600", "127.0.0.1:9600", true),
            ("127.0.0.1:9600", "[::]:9600", true),
            ("127.0.0.1:9600", "0.0.0.0:9600", true),
            ("127.0.0.1:9600", "[::1]:9600", false),
            ("[::1]:9600", "0.0.0.0:9600", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("off", "off", false),
        ] {
            let text = format!(
                "listen = \"{page}\"\nmetrics_listen = \"{metrics}\"\n[outputs.o]\ntype = \"stdout\"\n"
            );
            let said = Config::parse(&text, "t").err().map(|told| told.to_string()).unwrap_or_default();
            assert_eq!(said.contains("are at one address"), clash, "{page} and {metrics}: {said}");
            assert!(!clash || said.contains("t:2:"), "{said}");
        }
    }

    #[test]
    fn the_environment_says_where_metrics_are_unless_the_configuration_does() {
        assert_eq!(Listen::metrics_by(None), Listen::loopback(9601));
        assert_eq!(Listen::metrics_by(Some("[::]:9601".into())).to_string(), "[::]:9601");
        assert_eq!(Listen::metrics_by(Some("nonsense".into())), Listen::loopback(9601));
        let parse = |text: &str| Config::parse(&format!("{text}\n[outputs.o]\ntype = \"stdout\"\n"), "t");
        let config = parse("listen = \"off\"\nmetrics_listen = \"localhost:7\"").unwrap();
        assert_eq!((config.listen, config.metrics_listen), (Listen::Off, Listen::loopback(7)));
        let told = parse("listen = \"9600\"").unwrap_err().to_string();
        assert!(told.contains("is not an address to listen at"), "{told}");
    }
}
