//! Asking the agent that runs on this node, by its `listen`.
//!
//! In: an address, or the configuration that says it. Out: its answers, or what to do where there is none. Never changes
//! anything there.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::Value;

use super::configured;
use crate::admin::ADDRESSES;
use crate::admin::status::Status;
use crate::config::{Config, Listen};

/// How long the beginning of an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the agent is asked: at `given`, else where the configuration lets it listen. What is wrong is told.
///
/// # Errors
/// The exit code, where nobody can be asked.
pub fn address(given: Option<&str>, config: Option<&Path>) -> Result<String, ExitCode> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let config = configured(config)?;
    listened(&config).map(|address| address.to_string()).ok_or_else(|| {
        eprintln!(
            "error: the agent of this configuration is not to be asked: its `listen` is {}\n  give it an address there, or \
             say --address",
            config.listen
        );
        ExitCode::FAILURE
    })
}

/// Where the agent of a configuration is reached from its own node.
fn listened(config: &Config) -> Option<SocketAddr> {
    let Listen::At(mut address) = config.listen else { return None };
    if address.port() == 0 {
        // The system has chosen one, which the agent has noted.
        let noted: Value = serde_json::from_slice(&fs::read(config.state_dir.join(ADDRESSES)).ok()?).ok()?;
        address = noted["listen"].as_str()?.parse().ok()?;
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Some(address)
}

/// The agent at an address.
#[derive(Debug)]
pub struct Asked {
    client: Client,
    address: String,
}

impl Asked {
    /// The agent at `address`, such as `127.0.0.1:9600`.
    ///
    /// # Errors
    /// When there can be no client.
    pub fn at(address: &str) -> Result<Asked, String> {
        // No proxy leads to a loopback.
        let client = Client::builder().no_proxy().connect_timeout(PATIENCE).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Asked { client, address: address.trim_start_matches("http://").trim_end_matches('/').to_owned() })
    }

    /// Its answer to a GET.
    ///
    /// # Errors
    /// When there is none, or it is a refusal.
    pub async fn get(&self, target: &str) -> Result<Response, String> {
        let url = format!("http://{}{target}", self.address);
        let answered = tokio::time::timeout(PATIENCE, self.client.get(url).send()).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Err(self.nobody("nobody listens there")),
            Ok(Err(error)) => return Err(self.nobody(&error.to_string())),
            Err(_) => return Err(self.nobody("no answer in time")),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let said = response.text().await.unwrap_or_default();
        Err(format!("the agent at {} answers {status}: {}", self.address, said.trim_end()))
    }

    /// Its status.
    ///
    /// # Errors
    /// As [`get`](Self::get), or when it is no agent's of this version.
    pub async fn status(&self) -> Result<Status, String> {
        let bytes = self.get("/api/v1/status").await?.bytes().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("what answers at {} is no agent of this version: {error}", self.address))
    }

    fn nobody(&self, why: &str) -> String {
        format!(
            "no agent answers at {}: {why}\n  is one running here, and `listen` not \"off\" in its configuration? In a cluster: \
             kubectl -n taffrail port-forward POD 9600. At another address: --address, or --config",
            self.address
        )
    }
}

/// A runtime for one command.
///
/// # Errors
/// When the system has none.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_asked_where_its_configuration_lets_it_listen() {
        let state = tempfile::tempdir().unwrap();
        let at = |listen: &str| {
            let listen = Listen::parse(listen).unwrap();
            let config = Config { listen, state_dir: state.path().to_owned(), ..Config::default() };
            listened(&config).map(|address| address.to_string())
        };
        assert_eq!(at("127.0.0.1:7000").as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(at("0.0.0.0:7000").as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(at("[::]:7000").as_deref(), Some("[::1]:7000"));
        assert_eq!((at("off"), at("127.0.0.1:0")), (None, None));
        fs::write(state.path().join(ADDRESSES), r#"{"listen":"127.0.0.1:7777"}"#).unwrap();
        assert_eq!(at("127.0.0.1:0").as_deref(), Some("127.0.0.1:7777"));
    }
}
