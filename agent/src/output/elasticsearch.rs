//! The `elasticsearch` output: bulk requests to Elasticsearch or OpenSearch.
//!
//! In: sealed batches, several at a time. Out: each settled by the server's own word on every item. A request that
//! failed is sent again with back-off; items that were refused for now are sent again alone, and after some tries their
//! container is set aside; items refused for good are counted and told. Never decides what to read, never builds a tree
//! of a reply. No call but `_bulk` is made.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::http::{HttpClient, SetupError};
use super::reply::{self, Item};
use super::{Fate, Settled};
use crate::batch::{Run, Sealed};
use crate::config::ElasticsearchConfig;
use crate::stats::OutputStats;

/// How often an item that is refused for now is sent again before its container is set aside.
const ITEM_TRIES: u32 = 4;

/// One destination.
#[derive(Debug)]
pub struct Elasticsearch {
    name: String,
    client: HttpClient,
    retry: Backoff,
    level: Option<u32>,
    stats: Arc<OutputStats>,
    stop: watch::Receiver<bool>,
    /// Whether the present trouble has been told.
    told: AtomicBool,
}

/// Why a request is to be sent again.
struct Trouble {
    what: String,
    retry_after: Option<Duration>,
    /// Whether the server may have taken it nevertheless.
    in_doubt: bool,
}

/// What is being sent: the batch, or what is left of it.
struct Load {
    body: Bytes,
    compressed: bool,
    /// For each item its place in the batch; empty while it is the whole batch.
    places: Vec<u32>,
    items: u32,
}

impl Elasticsearch {
    /// A client for the configured endpoints. Nothing is sent yet: a server that is away is waited for.
    pub fn new(
        name: &str,
        config: &ElasticsearchConfig,
        stats: Arc<OutputStats>,
        stop: watch::Receiver<bool>,
    ) -> Result<Elasticsearch, SetupError> {
        Ok(Elasticsearch {
            name: name.to_owned(),
            client: HttpClient::new(config)?,
            retry: Backoff::new(config.retry_initial, config.retry_max),
            level: config.gzip_level(),
            stats,
            stop,
            told: AtomicBool::new(false),
        })
    }

    /// Sends a batch until every item of it is settled, or the agent stops.
    pub async fn deliver(&self, sealed: Sealed) -> Settled {
        let Sealed { body, compressed, runs, items, .. } = sealed;
        let whole = Bytes::from(body);
        let mut load = Load { body: whole.clone(), compressed, places: Vec::new(), items };
        let mut backoff = self.retry.clone();
        let mut item_tries = 0;
        let mut in_doubt = false;
        let mut parked = BTreeSet::new();
        let mut stop = self.stop.clone();
        loop {
            let attempt = tokio::select! {
                attempt = self.attempt(&load) => attempt,
                _ = stop.wait_for(|stop| *stop) => return settle(runs, |_| Fate::Abandoned, whole),
            };
            let wait = match attempt {
                Err(trouble) => {
                    in_doubt |= trouble.in_doubt;
                    self.tell_trouble(&trouble.what);
                    self.stats.retries.add(1);
                    backoff.next(trouble.retry_after)
                }
                Ok(failed) => {
                    self.tell_recovery();
                    let again = self.judge(&load, failed, &runs, in_doubt);
                    if again.is_empty() {
                        break;
                    }
                    item_tries += 1;
                    if item_tries == ITEM_TRIES {
                        parked.extend(again.iter().map(|item| run_of(&runs, item.index)));
                        break;
                    }
                    self.stats.retries.add(again.len() as u64);
                    match self.only(&load, again) {
                        Ok(rest) => load = rest,
                        Err(error) => {
                            // Our own bytes cannot be read back: nothing of the batch is taken as sent.
                            tracing::error!(output = self.name, %error, "cannot take a batch apart; reading it again");
                            parked.extend(0..runs.len());
                            break;
                        }
                    }
                    backoff.next(None)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => return settle(runs, |_| Fate::Abandoned, whole),
            }
        }
        drop(load);
        settle(runs, |run| if parked.contains(&run) { Fate::Parked } else { Fate::Acknowledged }, whole)
    }

    /// Sends once; the items that were not created, or why all is to be sent again.
    async fn attempt(&self, load: &Load) -> Result<Vec<Item>, Trouble> {
        let sent = self.client.bulk(load.body.clone(), load.compressed).await;
        let reply =
            sent.map_err(|error| Trouble { what: error.what, retry_after: None, in_doubt: error.in_doubt })?;
        let in_doubt = reply.status.is_success() || reply.status.is_server_error();
        let trouble = |what: String| Trouble { what, retry_after: reply.retry_after, in_doubt };
        if reply.status != StatusCode::OK {
            return Err(trouble(format!("{}{}", reply.told(), advice(reply.status))));
        }
        self.stats.requests.add(1);
        self.stats.sent_bytes.add(load.body.len() as u64);
        reply::judge(&reply.body, load.items)
            .map_err(|what| trouble(format!("{}: not a bulk reply: {what}", reply.from)))
    }

    /// Counts what became of each item; returns those to be sent again, with their places in the batch.
    fn judge(&self, load: &Load, failed: Vec<Item>, runs: &[Run], in_doubt: bool) -> Vec<Item> {
        let mut delivered = u64::from(load.items) - failed.len() as u64;
        let mut again = Vec::new();
        for mut item in failed {
            if let Some(&place) = load.places.get(item.index as usize) {
                item.index = place;
            }
            match item.status {
                409 => {
                    delivered += 1;
                    self.stats.duplicates.add(1);
                    if !in_doubt && !runs[run_of(runs, item.index)].in_doubt {
                        self.tell_unexpected(&item);
                    }
                }
                429 | 500.. => {
                    self.stats.fail(format!(
                        "item refused for now: {} {}: {}",
                        item.status, item.kind, item.reason
                    ));
                    again.push(item);
                }
                _ => {
                    self.stats.refused.add(1);
                    let what = format!("record refused: {} {}: {}", item.status, item.kind, item.reason);
                    if self.stats.last_error().as_deref() != Some(&what) {
                        tracing::warn!(
                            output = self.name,
                            status = item.status,
                            kind = item.kind,
                            reason = item.reason,
                            "the destination refused a record for good; it is counted and left out"
                        );
                    }
                    self.stats.fail(what);
                }
            }
        }
        self.stats.records_delivered.add(delivered);
        again
    }

    #[cold]
    fn tell_unexpected(&self, item: &Item) {
        if self.stats.unexpected_duplicates.get() == 0 {
            tracing::warn!(
                output = self.name,
                reason = item.reason,
                "a record that was never sent before exists already: do two agents run with the same cluster and node name?"
            );
        }
        self.stats.unexpected_duplicates.add(1);
    }

    fn tell_trouble(&self, what: &str) {
        self.stats.fail(what);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                output = self.name,
                trouble = what,
                "cannot deliver; trying again until it works, nothing is lost meanwhile"
            );
        }
    }

    fn tell_recovery(&self) {
        if self.told.load(Ordering::Relaxed) && self.told.swap(false, Ordering::Relaxed) {
            tracing::info!(output = self.name, "delivering again");
        }
    }

    /// A load of nothing but `items` (places in the batch), taken out of `load`.
    fn only(&self, load: &Load, items: Vec<Item>) -> io::Result<Load> {
        let mut plain = Vec::new();
        let plain: &[u8] = if load.compressed {
            flate2::read::GzDecoder::new(&load.body[..]).read_to_end(&mut plain)?;
            &plain
        } else {
            &load.body
        };
        let wanted: BTreeSet<u32> = items.iter().map(|item| item.index).collect();
        let mut rest = Vec::new();
        // Two lines an item: its action and its document.
        let mut lines = plain.split_inclusive(|&byte| byte == b'\n');
        let mut index = 0;
        while let (Some(action), Some(document)) = (lines.next(), lines.next()) {
            let place = load.places.get(index).copied().unwrap_or(index as u32);
            if wanted.contains(&place) {
                rest.extend_from_slice(action);
                rest.extend_from_slice(document);
            }
            index += 1;
        }
        let body = match self.level {
            Some(level) if load.compressed => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(&rest)?;
                encoder.finish()?
            }
            _ => rest,
        };
        let items = wanted.len() as u32;
        Ok(Load {
            body: body.into(),
            compressed: load.compressed,
            places: wanted.into_iter().collect(),
            items,
        })
    }
}

fn settle(runs: Vec<Run>, fate: impl Fn(usize) -> Fate, body: Bytes) -> Settled {
    let runs = runs.into_iter().enumerate().map(|(at, run)| (run, fate(at))).collect();
    let spare = body.try_into_mut().map(Vec::from).unwrap_or_default();
    Settled { runs, spare }
}

/// Which run an item belongs to.
fn run_of(runs: &[Run], item: u32) -> usize {
    let mut end = 0;
    runs.iter()
        .position(|run| {
            end += run.items;
            item < end
        })
        .unwrap_or(runs.len().saturating_sub(1))
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => " (the server wants credentials, or others)",
        403 => " (the credentials lack the permission to create documents)",
        404 => " (is the endpoint that of Elasticsearch or OpenSearch, and not of Kibana?)",
        413 => " (a smaller `batch` may be needed)",
        301 | 302 | 307 | 308 => " (the endpoint redirects: name the place that it redirects to)",
        _ => "",
    }
}
