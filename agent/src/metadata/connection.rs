//! The connection to the API server.
//!
//! In: paths of the API. Out: what the server answers, as small objects, or a [`Failure`] that says what follows
//! from it. A refused token is read anew, and the request made once more. Nothing is tried again beyond that: whoever
//! asks knows how long it can wait.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::{DeleteParams, GetParams, ListParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::core::Status;
use kube::{Client, Config};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api::{List, Node, Pod};
use super::table::Stats;
use crate::config::{MetadataConfig, MetadataSource};

/// Where Kubernetes puts the token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A connection that is not there after this long will not be there.
const TIME_TO_CONNECT: Duration = Duration::from_secs(10);

/// How the API server is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// By the file, or files, that the environment's `KUBECONFIG` names: this.
    Kubeconfig(OsString),
    /// As a pod of the cluster, by its service account.
    ServiceAccount,
}

/// How the API server is found here; `None` if it is not wanted, or there is none.
pub fn access(config: &MetadataConfig) -> Option<Access> {
    if config.source == MetadataSource::Path {
        return None;
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match set("KUBECONFIG") {
        Some(files) => Some(Access::Kubeconfig(files)),
        None if set("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists() => {
            Some(Access::ServiceAccount)
        }
        None => None,
    }
}

/// Why a request was not answered as it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// 401, with a token that was just read.
    #[error("the API server does not accept the agent's credentials: {0}")]
    Unauthorized(String),
    /// 403.
    #[error("the API server forbids it: {0}")]
    Forbidden(String),
    /// 404.
    #[error("not found: {0}")]
    NotFound(String),
    /// 409: it is there already, or is not as it was any more.
    #[error("it was changed meanwhile: {0}")]
    Conflict(String),
    /// 410: the version that was asked for is too long ago.
    #[error("the version is gone: {0}")]
    Gone(String),
    /// 400 or 422: the server does not know what was asked for.
    #[error("the API server does not understand it: {0}")]
    NotUnderstood(String),
    /// Nothing came for too long.
    #[error("the API server was silent for {0:?}")]
    Silent(Duration),
    /// Anything else, such as a server that is away.
    #[error("{what}")]
    Other {
        /// What it was.
        what: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
}

impl Failure {
    /// What the server said instead of an answer, or in the middle of one.
    pub fn of_status(status: &Status) -> Failure {
        let said = status.message.clone();
        match status.code {
            401 => Failure::Unauthorized(said),
            403 => Failure::Forbidden(said),
            404 => Failure::NotFound(said),
            409 => Failure::Conflict(said),
            410 => Failure::Gone(said),
            400 | 422 => Failure::NotUnderstood(said),
            code => Failure::Other {
                what: format!("{code} {said}"),
                retry_after: status
                    .details
                    .as_ref()
                    .map(|details| Duration::from_secs(details.retry_after_seconds.into()))
                    .filter(|wait| !wait.is_zero()),
            },
        }
    }

    fn of(error: kube::Error) -> Failure {
        match &error {
            kube::Error::Api(status) => Failure::of_status(status),
            error => Failure::Other { what: with_causes(error), retry_after: None },
        }
    }
}

/// An error with what it came of: the outermost alone often says no more than "client error".
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// The connection.
#[derive(Debug)]
pub struct Connection {
    access: Access,
    /// How long an answer may take, and an answer that goes on be silent.
    timeout: Duration,
    stats: Arc<Stats>,
    client: Mutex<Option<KubeClient>>,
}

/// `kube`'s client, which has no `Debug`.
#[derive(Clone)]
struct KubeClient(Client);

impl std::fmt::Debug for KubeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Connection {
    /// A connection of which nothing is tried yet. `timeout`: how long an answer may take; what is asked is counted in `stats`.
    pub fn new(access: Access, timeout: Duration, stats: Arc<Stats>) -> Connection {
        Connection { access, timeout, stats, client: Mutex::new(None) }
    }

    /// How long the server may be silent.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// One object.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn get<T: DeserializeOwned>(&self, collection: &str, name: &str) -> Result<T, Failure> {
        // From the server's cache, as everything here: a store that a thousand agents ask is a store that falls over.
        self.ask(|client| {
            let request = Request::new(collection).get(name, &GetParams::any());
            async move { client.request(request.map_err(kube::Error::BuildRequest)?).await }
        })
        .await
    }

    /// The namespace that whoever asks is in: its service account's, or that of the kubeconfig's context.
    ///
    /// # Errors
    /// What the connection would be made from cannot be read.
    pub async fn namespace(&self) -> Result<String, Failure> {
        Ok(self.client().await?.default_namespace().to_owned())
    }

    /// Makes an object in a collection; returns it as it is then.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn create<T: DeserializeOwned>(
        &self,
        collection: &str,
        object: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = json(object)?;
        self.ask(|client| {
            let request = Request::new(collection).create(&PostParams::default(), body.clone());
            async move { client.request(request.map_err(kube::Error::BuildRequest)?).await }
        })
        .await
    }

    /// Puts an object in the place of the one that it names, if that is still of the version that it names; returns it as it
    /// is then.
    ///
    /// # Errors
    /// As [`Failure`] says: a conflict where somebody else has changed it.
    pub async fn replace<T: DeserializeOwned>(
        &self,
        collection: &str,
        name: &str,
        object: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = json(object)?;
        self.ask(|client| {
            let request = Request::new(collection).replace(name, &PostParams::default(), body.clone());
            async move { client.request(request.map_err(kube::Error::BuildRequest)?).await }
        })
        .await
    }

    /// Deletes an object, if it is still of this version.
    ///
    /// # Errors
    /// As [`Connection::replace`].
    pub async fn delete(&self, collection: &str, name: &str, version: &str) -> Result<(), Failure> {
        let preconditions = Preconditions { resource_version: Some(version.to_owned()), uid: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.ask(|client| {
            let request = Request::new(collection).delete(name, &parameters);
            async move {
                let _: serde_json::Value =
                    client.request(request.map_err(kube::Error::BuildRequest)?).await?;
                Ok(())
            }
        })
        .await
    }

    /// The objects of a collection that have these labels, as the store has them now.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn labelled<T: DeserializeOwned>(
        &self,
        collection: &str,
        labels: &str,
    ) -> Result<List<T>, Failure> {
        let parameters = ListParams::default().labels(labels);
        self.ask(|client| {
            let request = Request::new(collection).list(&parameters);
            async move { client.request(request.map_err(kube::Error::BuildRequest)?).await }
        })
        .await
    }

    /// The pods of a node, not older than `version`.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn list(&self, node: &str, version: &str) -> Result<List<Pod>, Failure> {
        let parameters = ListParams::default().fields(&of_node(node)).at(version);
        self.ask(|client| {
            let request = Request::new(PODS).list(&parameters);
            async move { client.request(request.map_err(kube::Error::BuildRequest)?).await }
        })
        .await
    }

    /// What happens to the pods of a node after `version`; with `first`, all there are before that.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn watch(
        &self,
        node: &str,
        version: &str,
        first: bool,
        time: Duration,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Pod>, Failure>> + use<>, Failure> {
        let parameters = WatchParams {
            field_selector: Some(of_node(node)),
            timeout: Some(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
            send_initial_events: first,
            ..WatchParams::default()
        };
        let events = self
            .ask(|client| {
                let request = Request::new(PODS).watch(&parameters, version);
                async move { client.request_events::<Pod>(request.map_err(kube::Error::BuildRequest)?).await }
            })
            .await?;
        Ok(events.map(|event| event.map_err(Failure::of)))
    }

    /// What happens to a node, beginning with how it is.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub async fn watch_node(
        &self,
        node: &str,
        time: Duration,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Node>, Failure>> + use<>, Failure> {
        let parameters = WatchParams {
            field_selector: Some(format!("metadata.name={node}")),
            timeout: Some(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
            ..WatchParams::default()
        };
        let events = self
            .ask(|client| {
                let request = Request::new("/api/v1/nodes").watch(&parameters, "0");
                async move { client.request_events::<Node>(request.map_err(kube::Error::BuildRequest)?).await }
            })
            .await?;
        Ok(events.map(|event| event.map_err(Failure::of)))
    }

    /// What comes next of an answer that goes on; `None` at its end.
    ///
    /// # Errors
    /// The server is silent. A bookmark comes every minute: whoever should send it is not there any more, and whoever asks
    /// next connects anew.
    pub async fn next<S: Stream + Unpin>(&self, answer: &mut S) -> Result<Option<S::Item>, Failure> {
        tokio::time::timeout(self.timeout, answer.next()).await.map_err(|_| {
            self.reset();
            Failure::Silent(self.timeout)
        })
    }

    /// Asks once, and once more with credentials read anew if those in hand were refused.
    async fn ask<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let mut again = true;
        loop {
            let client = self.client().await?;
            self.stats.requests.add(1);
            let answer = tokio::time::timeout(self.timeout, request(client)).await;
            let failure = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::of(error),
                Err(_) => Failure::Silent(self.timeout),
            };
            self.stats.failures.add(1);
            if matches!(failure, Failure::Unauthorized(_) | Failure::Silent(_)) {
                // A connection that is half open is taken up by nobody any more.
                *self.lock() = None;
            }
            if !(matches!(failure, Failure::Unauthorized(_)) && std::mem::take(&mut again)) {
                return Err(failure);
            }
        }
    }

    async fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = &*self.lock() {
            return Ok(client.0.clone());
        }
        let other =
            |error: &dyn std::error::Error| Failure::Other { what: with_causes(error), retry_after: None };
        let mut config = match &self.access {
            Access::Kubeconfig(files) => {
                let read = std::env::split_paths(files).try_fold(Kubeconfig::default(), |merged, file| {
                    merged.merge(Kubeconfig::read_from(file)?)
                });
                let read = read.map_err(|e| other(&e))?;
                Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                    .await
                    .map_err(|e| other(&e))?
            }
            Access::ServiceAccount => Config::incluster().map_err(|e| other(&e))?,
        };
        config.connect_timeout = Some(TIME_TO_CONNECT.min(self.timeout));
        // Its own would be 5 ms at first, whatever the number of agents.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|e| other(&e))?;
        *self.lock() = Some(KubeClient(client.clone()));
        Ok(client)
    }

    /// Whoever asks next connects anew.
    fn reset(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<KubeClient>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object as it is sent.
fn json(object: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(object).map_err(|error| Failure::Other { what: error.to_string(), retry_after: None })
}

const PODS: &str = "/api/v1/pods";

fn of_node(node: &str) -> String {
    format!("spec.nodeName={node}")
}
