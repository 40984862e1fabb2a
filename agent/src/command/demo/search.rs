//! The demo's side of Elasticsearch or OpenSearch: is it there, and what has been delivered to it. Comes in:
//! an endpoint, the uids of this run's pods. Goes out: every document of those pods, to the verification. It
//! never writes a document, and sends no credentials: a cluster that wants some is not one to try things on.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::verify::Checker;

/// The name of the index template, and what the names of the demo's indices begin with.
pub const INDEX: &str = "taffrail-demo";

/// Documents in one page. Some lines of the demo have 40 KB.
const PAGE: usize = 1_000;

/// A cluster to read back from.
#[derive(Debug)]
pub struct Search {
    endpoint: String,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

/// Why the cluster could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The runtime that carries the requests could not be started.
    #[error("cannot start the network runtime: {0}")]
    Runtime(#[from] io::Error),
    /// No answer, or half of one.
    #[error("no answer from {endpoint}: {cause}; is the server running, and is the address right?")]
    Unreachable {
        /// Where the request went.
        endpoint: String,
        /// The innermost reason.
        cause: String,
    },
    /// An answer that is not success.
    #[error("{request} was answered with {status}: {body}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// An answer that is not what was asked for.
    #[error("{request} was answered with something that is no search result: {reason}")]
    Unreadable {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Search {
    /// A reader of the cluster at `endpoint`, such as `http://127.0.0.1:9200`. Sends nothing yet.
    pub fn new(endpoint: &str) -> Result<Search, SearchError> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let unreachable = |error| unreachable(&endpoint, &error);
        let builder =
            Client::builder().connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(60));
        Ok(Search {
            client: builder.build().map_err(unreachable)?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            endpoint,
        })
    }

    /// Lays down the index template of the demo's indices. The programs' own JSON is kept but not indexed:
    /// their members disagree about types, as those of real programs do, and a server that maps them all
    /// refuses documents.
    pub fn prepare(&self) -> Result<(), SearchError> {
        let template = json!({
            "index_patterns": [format!("{INDEX}-*")],
            "priority": 501,
            "template": { "mappings": { "properties": {
                "@timestamp": { "type": "date_nanos" },
                "app": { "type": "object", "enabled": false },
            } } },
        });
        self.ask(Method::PUT, &format!("/_index_template/{INDEX}"), &template).map(|_| ())
    }

    /// Gives every document of the pods with these uids to `checker`. Returns the names of the indices they
    /// were in.
    pub fn read(&self, uids: &[String], checker: &mut Checker) -> Result<BTreeSet<String>, SearchError> {
        let mut indices = BTreeSet::new();
        self.ask(Method::POST, &format!("/{INDEX}-*/_refresh"), &json!({}))?;
        // A phrase finds the uid whether it was mapped as text or as a keyword.
        let pods: Vec<_> =
            uids.iter().map(|uid| json!({ "match_phrase": { "kubernetes.pod.uid": uid } })).collect();
        let first = format!("/{INDEX}-*/_search?scroll=2m");
        let query = json!({
            "size": PAGE,
            "sort": ["_doc"],
            "query": { "bool": { "should": pods, "minimum_should_match": 1 } },
        });
        let mut page = self.ask(Method::POST, &first, &query)?;
        loop {
            let unreadable = |reason: &str| SearchError::Unreadable {
                request: "the search".to_owned(),
                reason: reason.to_owned(),
            };
            if page["_shards"]["failed"].as_u64() != Some(0) || page["timed_out"] == true {
                return Err(unreadable("not every shard answered"));
            }
            let hits = page["hits"]["hits"].as_array().ok_or_else(|| unreadable("no hits in it"))?;
            for hit in hits {
                let word = |key: &str| hit[key].as_str().unwrap_or("?").to_owned();
                checker.hit(&hit["_source"], format_args!("{}/{}", word("_index"), word("_id")));
                indices.insert(word("_index"));
            }
            let scroll = page["_scroll_id"].as_str().map(str::to_owned);
            if let (false, Some(scroll)) = (hits.is_empty(), &scroll) {
                page = self.ask(
                    Method::POST,
                    "/_search/scroll",
                    &json!({ "scroll": "2m", "scroll_id": scroll }),
                )?;
                continue;
            }
            if let Some(scroll) = scroll {
                // Only a kindness to the server: it would forget the scroll in two minutes.
                let _ = self.ask(Method::DELETE, "/_search/scroll", &json!({ "scroll_id": scroll }));
            }
            return Ok(indices);
        }
    }

    /// Sends a request with a JSON body and returns the JSON of a successful answer.
    fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, SearchError> {
        let request = format!("{method} {path}");
        let exchange = async {
            let sent = self.client.request(method, format!("{}{path}", self.endpoint));
            let reply = sent.header("content-type", "application/json").body(body.to_string()).send().await?;
            Ok((reply.status(), reply.bytes().await?))
        };
        let (status, body) =
            self.runtime.block_on(exchange).map_err(|error| unreachable(&self.endpoint, &error))?;
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(300).collect();
            return Err(SearchError::Refused { request, status: status.as_u16(), body });
        }
        serde_json::from_slice(&body)
            .map_err(|error| SearchError::Unreadable { request, reason: error.to_string() })
    }
}

/// The innermost reason of a failed request: the outer ones only say that it failed.
fn unreachable(endpoint: &str, error: &reqwest::Error) -> SearchError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    SearchError::Unreachable { endpoint: endpoint.to_owned(), cause: cause.to_string() }
}
