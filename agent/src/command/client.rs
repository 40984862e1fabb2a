//! Asking the agent that runs on this node, by its `listen`.
//!
//! In: an address. Out: its answers, or what to do where there is none. Never changes anything there.

use std::time::Duration;

use reqwest::{Client, Response};

use crate::admin::status::Status;

/// Where an agent listens by default.
pub const ADDRESS: &str = "127.0.0.1:9600";

/// How long the beginning of an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

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
             kubectl -n taffrail port-forward POD 9600. At another address: --address",
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
