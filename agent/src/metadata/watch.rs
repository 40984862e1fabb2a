//! The watch: one request that brings the pods of this node, and then what becomes of them.
//!
//! In: events of the API server. Out: changes of the table. First everything there is, out of the server's cache (a
//! streaming list where the server knows it, which needs no memory for all of it at once; else a plain one), then what
//! changes, for minutes on one request. A request that ends is followed by the next from where it ended; only where the
//! server has forgotten that (410) everything comes again. After failures it waits, longer each time, at random: a
//! thousand agents that lost one server must not fall on it together when it is back.

use std::collections::BTreeSet;
use std::mem::{self, Discriminant};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use kube::api::WatchEvent;

use super::api::Pod;
use super::connection::{Connection, Failure};
use super::facts::PodKey;
use super::table::{Change, Table};
use crate::output::backoff::Backoff;

/// How long one request is for, chosen anew for each from this much up to a fifth more. Whoever ends it earlier (a load
/// balancer) makes no difference.
pub(super) const WATCH_TIME: Duration = Duration::from_secs(240);

/// A request that ends sooner than this was no success, whatever it said: the next one waits.
pub(super) const LEAST_TIME: Duration = Duration::from_secs(5);

/// How long the first request waits at most, chosen at random, while nothing that is being read is unknown.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// Waits after failures.
pub(super) const LEAST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Events that are there together are entered together.
const EVENTS_AT_ONCE: usize = 256;

/// The annotation of the bookmark that ends a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How an attempt ended that did not fail.
enum Ended {
    /// The server ended the request, as it does after a while.
    InTurn,
    /// The server cannot stream a list.
    NoStreaming,
}

/// The watch's own state.
pub struct Watch {
    connection: Arc<Connection>,
    table: Arc<Table>,
    node: String,
    /// The version of the cluster's state up to which everything is in the table; none, until all was seen.
    seen: Option<String>,
    /// The least version that a list may be of: an older one would bring back what is gone.
    least: Option<String>,
    /// When everything was last seen.
    listed: Instant,
    /// Whether the server streams lists.
    streams: bool,
    /// The trouble that has been told and lasts, and since when.
    trouble: Option<(Discriminant<Failure>, Instant)>,
    in_step: bool,
}

impl Watch {
    /// A watch over the pods of `node`.
    pub fn new(connection: Arc<Connection>, table: Arc<Table>, node: String) -> Watch {
        let listed = Instant::now();
        Watch {
            connection,
            table,
            node,
            seen: None,
            least: None,
            listed,
            streams: true,
            trouble: None,
            in_step: false,
        }
    }

    /// Without any chance in its pauses. For a simulation that shows what the chance is for.
    pub fn in_step(self) -> Watch {
        Watch { in_step: true, ..self }
    }

    /// Watches until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(LEAST_PAUSE, LONGEST_PAUSE);
        if self.in_step {
            backoff = backoff.in_step();
        } else {
            self.first_pause().await;
        }
        loop {
            let begun = Instant::now();
            let ended = self.attempt().await;
            if begun.elapsed() >= LEAST_TIME && self.seen.is_some() {
                backoff.reset();
            }
            let pause = match ended {
                Ok(Ended::NoStreaming) => {
                    tracing::debug!("the API server does not stream lists: asking for plain ones");
                    self.streams = false;
                    continue;
                }
                Ok(Ended::InTurn) if begun.elapsed() >= LEAST_TIME => continue,
                Ok(Ended::InTurn) => backoff.next(None),
                Err(failure) => {
                    let pause = self.fail(&failure, &mut backoff);
                    self.tell(failure);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Agents that start together do not ask together. Where all that is being read is known, from before a restart,
    /// nobody waits for the answer; else it comes well within `wait`.
    async fn first_pause(&self) {
        let wait = self.table.config().wait;
        // Whoever waits for less than that does not expect it for the first lines.
        let hurried = if wait < LEAST_PAUSE { LEAST_PAUSE } else { (wait / 2).min(FIRST_PAUSE) };
        let share = fastrand::f64();
        tokio::select! {
            () = tokio::time::sleep(FIRST_PAUSE.mul_f64(share)) => {}
            () = self.table.missing.notified() => tokio::time::sleep(hurried.mul_f64(share)).await,
        }
    }

    /// One request, with a list before it if that is how everything comes.
    async fn attempt(&mut self) -> Result<Ended, Failure> {
        let time = WATCH_TIME.mul_f64(1.0 + 0.2 * fastrand::f64());
        if self.seen.is_none() && !self.streams {
            self.list().await?;
        }
        let from = match &self.seen {
            Some(version) => version.clone(),
            None => self.least.clone().unwrap_or_else(|| "0".to_owned()),
        };
        let streaming = self.seen.is_none();
        let events = match self.connection.watch(&self.node, &from, streaming, time).await {
            Err(Failure::NotUnderstood(_)) if streaming => return Ok(Ended::NoStreaming),
            events => events?,
        };
        self.follow(pin!(events)).await
    }

    async fn list(&mut self) -> Result<(), Failure> {
        let least = self.least.as_deref().unwrap_or("0");
        let list = self.connection.list(&self.node, least).await?;
        let seen = list.items.iter().map(PodKey::of_object).collect();
        self.table.apply(list.items.into_iter().map(|pod| Change::Is(Box::new(pod))));
        self.all_seen(list.metadata.resource_version, &seen);
        Ok(())
    }

    /// Everything there is at `version` is in the table: so nothing else is.
    fn all_seen(&mut self, version: String, seen: &BTreeSet<PodKey>) {
        self.table.only(seen);
        self.least = Some(version.clone());
        self.seen = Some(version);
        self.listed = Instant::now();
        self.tell_recovery();
    }

    /// Enters events until the request ends.
    async fn follow(
        &mut self,
        events: impl Stream<Item = Result<WatchEvent<Pod>, Failure>>,
    ) -> Result<Ended, Failure> {
        let mut events = pin!(events.ready_chunks(EVENTS_AT_ONCE));
        let mut seen = BTreeSet::new();
        loop {
            let Some(chunk) = self.connection.next(&mut events).await? else { return Ok(Ended::InTurn) };
            self.table.stats.events.add(chunk.len() as u64);
            self.enter(chunk, &mut seen)?;
        }
    }

    fn enter(
        &mut self,
        chunk: Vec<Result<WatchEvent<Pod>, Failure>>,
        seen: &mut BTreeSet<PodKey>,
    ) -> Result<(), Failure> {
        let mut changes = Vec::with_capacity(chunk.len());
        let mut version = None;
        let mut failure = None;
        for event in chunk {
            let change = match event {
                Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => Change::Is(Box::new(pod)),
                Ok(WatchEvent::Deleted(pod)) => Change::Gone(Box::new(pod)),
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    if self.seen.is_none() && bookmark.metadata.annotations.contains_key(INITIAL_EVENTS_END) {
                        self.table.apply(changes.drain(..));
                        self.all_seen(bookmark.metadata.resource_version, &mem::take(seen));
                        version = None;
                    } else {
                        version = Some(bookmark.metadata.resource_version);
                    }
                    continue;
                }
                Ok(WatchEvent::Error(status)) => {
                    failure = Some(Failure::of_status(&status));
                    break;
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            let (Change::Is(pod) | Change::Gone(pod)) = &change;
            version = Some(pod.metadata.resource_version.clone());
            if self.seen.is_none() {
                match &change {
                    Change::Is(pod) => seen.insert(PodKey::of_object(pod)),
                    Change::Gone(pod) => seen.remove(&PodKey::of_object(pod)),
                };
            }
            changes.push(change);
        }
        self.table.apply(changes);
        if version.is_some() {
            self.tell_recovery();
        }
        // In the middle of a list, which has no order, a version says nothing.
        if let (Some(version), true) = (version, self.seen.is_some()) {
            self.least = Some(version.clone());
            self.seen = Some(version);
        }
        failure.map_or(Ok(()), Err)
    }

    /// What follows from a failure; how long to wait.
    fn fail(&mut self, failure: &Failure, backoff: &mut Backoff) -> Duration {
        match failure {
            // Forgotten by the server, which is no trouble: everything is asked for anew, at once but for a moment of
            // chance. Unless that is all it ever says.
            Failure::Gone(_) if self.seen.take().is_some() && self.listed.elapsed() >= LEAST_TIME => {
                LEAST_PAUSE.mul_f64(fastrand::f64())
            }
            Failure::Other { retry_after, .. } => {
                if self.seen.is_none() {
                    // It may be behind the version asked for, even for ever, if its store was put back from a copy.
                    self.least = None;
                }
                backoff.next(*retry_after)
            }
            _ => backoff.next(None),
        }
    }

    fn tell(&mut self, failure: Failure) {
        let kind = mem::discriminant(&failure);
        match failure {
            Failure::Gone(said) => {
                return tracing::debug!(said, "the API server has forgotten where the watch was");
            }
            _ if self.trouble.is_some_and(|(told, _)| told == kind) => {
                return tracing::debug!(error = %failure, "no metadata from the API server");
            }
            _ => {}
        }
        let since = self.trouble.map_or_else(Instant::now, |(_, since)| since);
        self.trouble = Some((kind, since));
        self.table.stats.failing.set(1);
        let advice = match &failure {
            Failure::Forbidden(_) => {
                "; let its service account `get`, `list` and `watch` pods in all namespaces"
            }
            Failure::Unauthorized(_) => "; give it a service account with a token, or another KUBECONFIG",
            _ => "",
        };
        tracing::warn!(
            error = format_args!("{failure}{advice}"),
            "no metadata from the API server: trying again until there is; what is known of pods stays in use"
        );
    }

    fn tell_recovery(&mut self) {
        if let Some((_, since)) = self.trouble.take() {
            self.table.stats.failing.set(0);
            tracing::info!(seconds = since.elapsed().as_secs(), "metadata comes from the API server again");
        }
    }
}

#[cfg(test)]
mod tests;
