//! What a server has and can.
//!
//! In: an output. Out: what stands under a path there, or not; and what the server can do, which is asked of itself: versions
//! and distributions are too many to know. Nothing is changed by a question.

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::config::ElasticsearchConfig;
use crate::output::http::{Call, HttpClient, Reply};

/// A server, as the output reaches it.
pub struct Server {
    client: HttpClient,
}

/// What a server can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// It knows data streams.
    pub data_streams: bool,
    /// The type of a field that holds an object of any shape as one, if there is such a type.
    pub flat_type: Option<&'static str>,
    /// An index says how it keeps its documents (`index.mode`).
    pub index_mode: bool,
    /// Who ends indices.
    pub lifecycle: Lifecycle,
}

/// Who rolls indices over and deletes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Elasticsearch's index lifecycle management.
    Ilm,
    /// OpenSearch's index state management.
    Ism,
    /// Nobody.
    None,
}

impl Server {
    /// Of this output.
    ///
    /// # Errors
    /// What the output says cannot work.
    pub fn open(output: &ElasticsearchConfig) -> Result<Server, String> {
        Ok(Server { client: HttpClient::new(output).map_err(|error| error.to_string())? })
    }

    /// What it can do.
    ///
    /// # Errors
    /// It could not be asked, or knows no index templates.
    pub async fn abilities(&self) -> Result<Abilities, String> {
        let templates = self.call(Method::GET, "/_index_template", None).await?;
        if !templates.status.is_success() {
            return Err(format!("its index templates cannot be looked at: {}", templates.told()));
        }
        let mut flat_type = None;
        for kind in ["flattened", "flat_object"] {
            let app = json!({ "template": { "mappings": { "properties": { "app": { "type": kind } } } } });
            if flat_type.is_none() && self.takes(app).await? {
                flat_type = Some(kind);
            }
        }
        let lifecycle = if self.knows("/_ilm/status").await? {
            Lifecycle::Ilm
        } else if self.knows("/_plugins/_ism/policies").await? {
            Lifecycle::Ism
        } else {
            Lifecycle::None
        };
        Ok(Abilities {
            data_streams: self.takes(json!({ "data_stream": {} })).await?,
            flat_type,
            index_mode: self
                .takes(json!({ "template": { "settings": { "index": { "mode": "standard" } } } }))
                .await?,
            lifecycle,
        })
    }

    /// Whether it would take an index template with this in it.
    async fn takes(&self, mut body: Value) -> Result<bool, String> {
        body["index_patterns"] = json!(["taffrail-asks-*"]);
        // Of two that match a name alike the server takes neither.
        body["priority"] = json!(1_000_000);
        let reply = self.call(Method::POST, "/_index_template/_simulate", Some(&body)).await?;
        answered(&reply)?;
        Ok(reply.status.is_success())
    }

    /// Whether there is something under a path.
    async fn knows(&self, path: &str) -> Result<bool, String> {
        let reply = self.call(Method::GET, path, None).await?;
        answered(&reply)?;
        Ok(reply.status.is_success())
    }

    /// The data streams of a pattern. A server that cannot list them has none that anybody could speak of.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn data_streams(&self, pattern: &str) -> Result<Vec<Value>, String> {
        let reply = self.call(Method::GET, &format!("/_data_stream/{pattern}"), None).await?;
        answered(&reply)?;
        let found: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        Ok(found["data_streams"].as_array().cloned().unwrap_or_default())
    }

    /// Whether something of this name is there.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn has(&self, path: &str) -> Result<bool, String> {
        Ok(self.get(path).await?.is_some())
    }

    /// What stands there.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, String> {
        let reply = self.call(Method::GET, path, None).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => serde_json::from_slice(&reply.body)
                .map(Some)
                .map_err(|error| format!("{} answered what is no JSON: {error}", reply.from)),
            _ => Err(reply.told()),
        }
    }

    /// Puts something there.
    ///
    /// # Errors
    /// It is refused.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(), String> {
        done(self.call(Method::PUT, path, Some(body)).await?)
    }

    /// Deletes what is there.
    ///
    /// # Errors
    /// It is refused.
    pub async fn delete(&self, path: &str) -> Result<(), String> {
        done(self.call(Method::DELETE, path, None).await?)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, String> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let call = Call { method, path, query, content_type: "application/json", body, compressed: false };
        self.client.send(&call).await.map_err(|error| error.to_string())
    }
}

/// A question whose answer is yes or no: who may not ask, or is told to wait, has none.
fn answered(reply: &Reply) -> Result<(), String> {
    let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
    if refused.contains(&reply.status) || matches!(reply.status.as_u16(), 502..=504) {
        return Err(reply.told());
    }
    Ok(())
}

fn done(reply: Reply) -> Result<(), String> {
    if reply.status.is_success() { Ok(()) } else { Err(reply.told()) }
}
