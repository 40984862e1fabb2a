//! A test's own part of a server: names that no other test uses, a mapping for them, and all that they hold.
//!
//! What comes in: a server and what the test wants mapped. What goes out: configurations that deliver there, and the
//! documents. It never sees another test's names.

use crate::node::Node;
use crate::server::Server;
use crate::verify::Document;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many documents a page of a search holds.
const PAGE: usize = 5_000;

/// What documents are written into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Indices, the agent's `index`.
    Indices,
    /// Data streams, the agent's `data_stream`.
    DataStreams,
}

/// The names `<prefix>-…` of one test.
pub struct Space<'s> {
    /// The server that it is on.
    pub server: &'s Server,
    /// What all names of the test begin with, before a hyphen.
    pub prefix: String,
}

impl<'s> Space<'s> {
    pub(crate) fn new(server: &'s Server) -> Space<'s> {
        static SPACES: AtomicU32 = AtomicU32::new(1);
        Space { server, prefix: format!("t{}", SPACES.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Puts the template for indices: `@timestamp` in nanoseconds, `app` as one flat field.
    pub fn takes_indices(self) -> Self {
        self.takes(Target::Indices, json!({}))
    }

    /// Puts the same template for data streams.
    pub fn takes_data_streams(self) -> Self {
        self.takes(Target::DataStreams, json!({}))
    }

    /// Puts a template for indices in which `app` has these typed fields, so that a value of another type is refused
    /// with 400.
    pub fn takes_typed(self, app: Value) -> Self {
        self.takes(Target::Indices, json!({"app": {"properties": app}}))
    }

    /// Puts the template with these top-level fields in place of, or beside, the usual ones. May be called again: it
    /// counts for what is made from then on.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn takes(self, target: Target, fields: Value) -> Self {
        self.put_template(target, fields);
        self
    }

    /// As [`Space::takes`], later.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn put_template(&self, target: Target, fields: Value) {
        let mut properties = json!({
            "@timestamp": {"type": "date_nanos"}, "message": {"type": "text"}, "stream": {"type": "keyword"},
            "app": {"type": self.server.kind().flat_type()},
        });
        merge(&mut properties, fields);
        let mut template = json!({
            "index_patterns": [format!("{}-*", self.prefix)], "priority": 300,
            "template": {
                "settings": {"number_of_shards": 1, "number_of_replicas": 0},
                "mappings": {"properties": properties},
            },
        });
        if target == Target::DataStreams {
            merge(&mut template, json!({"data_stream": {}}));
        }
        self.server.send("PUT", &format!("/_index_template/{}", self.prefix), &template);
    }

    /// A configuration that sends to indices `<prefix>-{date}` of this server; see [`Space::config_at`].
    pub fn dated(&self, node: &Node) -> String {
        self.config_at(node, self.server.address(), Target::Indices, "{date}")
    }

    /// A configuration that sends to data streams `<prefix>-{namespace}` of this server.
    pub fn stream(&self, node: &Node) -> String {
        self.config_at(node, self.server.address(), Target::DataStreams, "{namespace}")
    }

    /// A configuration with one output, `search`, to `<prefix>-<name>` at an address: the server's or a proxy's. The
    /// output's table is last: keys may be added to its end.
    pub fn config_at(&self, node: &Node, address: SocketAddr, target: Target, name: &str) -> String {
        let key = match target {
            Target::Indices => "index",
            Target::DataStreams => "data_stream",
        };
        node.config(&format!(
            "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://{address}\"]\n\
             {key} = \"{}-{name}\"\nlinger = \"200ms\"",
            self.prefix
        ))
    }

    /// How many documents a query finds now, without those that came since the last [`Space::documents`].
    ///
    /// # Panics
    /// When the server does not answer, or with an error.
    #[track_caller]
    pub fn count(&self, query: Value) -> u64 {
        self.try_count(query).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same.
    ///
    /// # Errors
    /// When the server does not answer, or with an error.
    pub fn try_count(&self, query: Value) -> Result<u64, String> {
        let found = self.get("POST", &format!("/{}-*/_count", self.prefix), &json!({ "query": query }))?;
        found["count"].as_u64().ok_or_else(|| format!("no count: {found}"))
    }

    /// Lets searches see all that has come.
    ///
    /// # Errors
    /// When the server does not answer, or with an error.
    pub fn refresh(&self) -> Result<(), String> {
        self.get("POST", &format!("/{}-*/_refresh", self.prefix), &Value::Null).map(drop)
    }

    /// All documents of the space, refreshed before.
    ///
    /// # Errors
    /// When the server does not answer, or with an error.
    pub fn documents(&self) -> Result<Vec<Document>, String> {
        let mut documents = Vec::new();
        self.each(json!({"match_all": {}}), |document| documents.push(document))?;
        Ok(documents)
    }

    /// Hands out each document that a query finds, in no order; all are refreshed before.
    ///
    /// # Errors
    /// When the server does not answer, or with an error; some may have been handed out by then.
    pub fn each(&self, query: Value, mut take: impl FnMut(Document)) -> Result<(), String> {
        self.refresh()?;
        let first = json!({"size": PAGE, "sort": ["_doc"], "query": query});
        let mut page = self.get("POST", &format!("/{}-*/_search?scroll=1m", self.prefix), &first)?;
        loop {
            // A shard that is just starting is left out of an answer without a word but this.
            if page["_shards"]["failed"].as_u64().is_some_and(|failed| failed > 0) {
                return Err(format!("an incomplete answer: {}", page["_shards"]));
            }
            let hits = page["hits"]["hits"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let full = hits.len() == PAGE;
            hits.into_iter().for_each(|mut hit| {
                take(Document {
                    id: hit["_id"].as_str().unwrap_or_default().to_owned(),
                    index: hit["_index"].as_str().unwrap_or_default().to_owned(),
                    source: hit["_source"].take(),
                });
            });
            let scroll = page["_scroll_id"].take();
            if !full {
                // Tests poll, and a server keeps at most 500 searches open. Elasticsearch has closed one that is read to its
                // end already, and says 404.
                let close = json!({"scroll_id": [scroll]}).to_string();
                self.server.try_send("DELETE", "/_search/scroll", &close)?;
                return Ok(());
            }
            page = self.get("POST", "/_search/scroll", &json!({"scroll": "1m", "scroll_id": scroll}))?;
        }
    }

    fn get(&self, method: &str, target: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.server.try_send(method, target, &body)?;
        let text = String::from_utf8_lossy(&reply.body);
        if reply.status >= 300 {
            return Err(format!("{method} {target}: {} {text}", reply.status));
        }
        serde_json::from_str::<Value>(&text).map_err(|error| format!("{method} {target}: {error}"))
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        // What cannot be deleted (Elasticsearch's data streams here, for want of the API) goes with the server.
        let prefix = &self.prefix;
        for target in [
            format!("/_data_stream/{prefix}-*"),
            format!("/{prefix}-*"),
            format!("/_index_template/{prefix}"),
        ] {
            let _ = self.server.try_send("DELETE", &target, "");
        }
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
