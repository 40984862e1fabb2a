//! Rollovers: an `_id` is unique within one backing index only, so a document whose first sending is in doubt could stand
//! in a data stream twice: in the index that was written to then, and in the one that is written to now.
//!
//! In: a data stream, `_id`s in doubt, and since when they are. Out: which of them an older backing index holds. Asked
//! only where there is doubt and the stream rolled over since; else nothing but the stream's indices is looked at. A
//! rollover in the moment between the look and the retry itself is not seen.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;

use super::http::{Call, HttpClient, Reply};

/// The clocks of node and server may differ by this much.
const SKEW: Duration = Duration::from_secs(60);

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// No answer: to be asked again.
    #[error("{0}")]
    NoAnswer(String),
    /// An older index is not served now: to be asked again, but not for ever, since its shards may be lost.
    #[error("{0}")]
    NotServed(String),
    /// The server does not tell: going on without.
    #[error("{0}")]
    Declined(String),
}

#[derive(Deserialize)]
struct Settings {
    settings: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Documents {
    #[serde(default)]
    docs: Vec<Document>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    found: bool,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    r#type: String,
}

impl Document {
    /// Whether it is there. An index that was deleted or closed meanwhile holds nothing that is found.
    fn is_held(&self, index: &str) -> Result<bool, Unknown> {
        match &self.error {
            None => Ok(self.found),
            Some(error)
                if ["index_not_found_exception", "index_closed_exception"].contains(&&*error.r#type) =>
            {
                Ok(false)
            }
            Some(error) => Err(Unknown::NotServed(format!("{index}: {}", error.r#type))),
        }
    }
}

/// Which of `ids` an older backing index of `stream` holds, given that none was sent before `since`: true for each that
/// one does.
pub async fn held_by_older(
    client: &HttpClient,
    stream: &str,
    ids: &[&str],
    since: SystemTime,
) -> Result<Vec<bool>, Unknown> {
    let mut held = vec![false; ids.len()];
    let mut indices = backing_indices(client, stream).await?;
    if indices.is_empty() {
        // A server that has just begun knows no index yet, and says of each that it does not exist. Of documents it says then
        // that it cannot tell.
        documents(client, stream, &ids[..ids.len().min(1)]).await?;
        indices = backing_indices(client, stream).await?;
    }
    // From the newest back: an index matters if the one after it was made when the doubt had begun.
    for pair in indices.windows(2).rev() {
        let [(_, older), (made, _)] = pair else { break };
        if *made + SKEW < since {
            break;
        }
        for (held, document) in held.iter_mut().zip(documents(client, older, ids).await?) {
            *held |= document.is_held(older)?;
        }
    }
    Ok(held)
}

/// What an index, or a data stream, says of documents.
async fn documents(client: &HttpClient, index: &str, ids: &[&str]) -> Result<Vec<Document>, Unknown> {
    let body = serde_json::json!({ "ids": ids }).to_string();
    let query = "_source=false&filter_path=docs.found,docs.error.type";
    let reply = ask(client, Method::POST, &format!("/{index}/_mget"), query, body.into()).await?;
    let Documents { docs } = parse(&reply)?;
    if docs.len() != ids.len() {
        let what = format!("{} answered for other documents than asked for", reply.from);
        return Err(Unknown::Declined(what));
    }
    Ok(docs)
}

/// The backing indices of a stream with the times when they were made, the oldest first. Asked by way of their settings,
/// since not every distribution that has data streams answers for the streams themselves.
async fn backing_indices(client: &HttpClient, stream: &str) -> Result<Vec<(SystemTime, String)>, Unknown> {
    let path = format!("/{stream}/_settings/index.creation_date");
    let reply = ask(client, Method::GET, &path, "flat_settings=true", Bytes::new()).await?;
    if reply.status.as_u16() == 404 {
        let is_servers = serde_json::from_slice::<serde::de::IgnoredAny>(&reply.body).is_ok();
        return if is_servers { Ok(Vec::new()) } else { Err(Unknown::Declined(reply.told())) };
    }
    let indices: BTreeMap<String, Settings> = parse(&reply)?;
    let mut made = Vec::with_capacity(indices.len());
    for (index, settings) in indices {
        let millis = settings.settings.get("index.creation_date").and_then(|text| text.parse().ok());
        let millis = millis.ok_or_else(|| {
            Unknown::Declined(format!("{} does not tell when {index} was made", reply.from))
        })?;
        made.push((SystemTime::UNIX_EPOCH + Duration::from_millis(millis), index));
    }
    made.sort();
    Ok(made)
}

async fn ask(
    client: &HttpClient,
    method: Method,
    path: &str,
    query: &str,
    body: Bytes,
) -> Result<Reply, Unknown> {
    let call = Call { method, path, query, content_type: "application/json", body, compressed: false };
    let reply = client.send(&call).await.map_err(|error| Unknown::NoAnswer(error.what))?;
    match reply.status.as_u16() {
        200 | 404 => Ok(reply),
        429 | 500.. => Err(Unknown::NoAnswer(reply.told())),
        _ => Err(Unknown::Declined(reply.told())),
    }
}

/// An answer that is not the server's, such as a gateway's page for the moment, is none.
fn parse<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, Unknown> {
    serde_json::from_slice(&reply.body)
        .map_err(|error| Unknown::NoAnswer(format!("{}: not an answer about indices: {error}", reply.from)))
}
