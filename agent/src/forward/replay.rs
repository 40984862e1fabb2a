//! What lies in S3 is brought back: our own dead letters, and the events that a function has failed on.
//!
//! In: objects below a prefix. Out: their records delivered, and the objects deleted; what is refused once more is a dead
//! letter again, in a new object. An object that is neither stays, and is told of.

use aws_sdk_s3::Client;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

use super::Forwarder;
use super::lambda::Event;
use super::letters::{s3, told};
use crate::output::Fate;
use crate::output::dead_letter::Letter;

/// Letters sent in one request.
const AT_ONCE: usize = 500;

/// How long one event may take.
const EVENT_WITHIN: Duration = Duration::from_secs(600);

/// What a replay has done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Objects that were brought back, and deleted.
    pub objects: usize,
    /// Of these, dead letters.
    pub letters: usize,
    /// Of these, events of a function.
    pub events: usize,
    /// Objects that stay.
    pub left: usize,
}

/// What an object is.
#[derive(Debug)]
enum Object {
    Letters(Vec<Letter>),
    Event(Box<Event>),
}

/// What Lambda puts into a destination on failure: of an asynchronous call `requestPayload`, of a mapping `payload`, which is
/// text.
#[derive(Deserialize)]
struct Invocation {
    #[serde(rename = "requestPayload", alias = "payload")]
    payload: Value,
}

impl Forwarder {
    /// Brings back what lies below a prefix.
    ///
    /// # Errors
    /// S3 or the destination does not answer: what was not brought back is still there.
    pub async fn replay(&self, bucket: &str, prefix: &str) -> Result<Replayed, String> {
        let client = Client::from_conf(s3(self.aws().await));
        let mut keys = Vec::new();
        let mut pages = client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| told("s3:ListBucket", bucket, &error))?;
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        let mut replayed = Replayed::default();
        self.stats.objects.add(keys.len() as u64);
        for (number, key) in keys.into_iter().enumerate() {
            self.stats.objects_done.set(number as u64);
            let object = client.get_object().bucket(bucket).key(&key).send().await;
            let object = object.map_err(|error| told("s3:GetObject", &key, &error))?;
            let body = object.body.collect().await.map_err(|error| told("s3:GetObject", &key, &error))?;
            match read(&body.into_bytes()) {
                Some(Object::Letters(letters)) => {
                    self.bring_back(&letters).await?;
                    replayed.letters += letters.len();
                }
                Some(Object::Event(event)) => {
                    let answer = self.handle(&event, EVENT_WITHIN).await?;
                    let failed =
                        answer["batchItemFailures"].as_array().is_some_and(|failed| !failed.is_empty());
                    if failed {
                        return Err(format!("{key}: {}", self.last_error().unwrap_or_default()));
                    }
                    replayed.events += 1;
                }
                None => {
                    tracing::warn!(key, "is neither dead letters nor what Lambda has failed on: left alone");
                    replayed.left += 1;
                    continue;
                }
            }
            let delete = client.delete_object().bucket(bucket).key(&key).send().await;
            delete.map_err(|error| told("s3:DeleteObject", &key, &error))?;
            replayed.objects += 1;
        }
        Ok(replayed)
    }

    async fn bring_back(&self, letters: &[Letter]) -> Result<(), String> {
        let mut documents = Vec::new();
        for letter in letters {
            let Some(record) = whole_record(letter) else {
                documents.push(letter.clone());
                continue;
            };
            // It may be a limit that has been raised since.
            if self.send(&[&record]).await != [Fate::Acknowledged] {
                return Err(self.last_error().unwrap_or_default());
            }
        }
        for some in documents.chunks(AT_ONCE) {
            self.send_letters(some).await?;
        }
        Ok(())
    }
}

/// The subscription record in a letter of one that could not be read.
fn whole_record(letter: &Letter) -> Option<Vec<u8>> {
    if letter.kind != "unreadable_record" {
        return None;
    }
    let document: Value = serde_json::from_str(letter.document.get()).ok()?;
    STANDARD.decode(document["taffrail"]["record"].as_str()?).ok()
}

fn read(body: &[u8]) -> Option<Object> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let letters: Result<Vec<Letter>, _> = lines.map(serde_json::from_slice).collect();
    match letters {
        Ok(letters) if !letters.is_empty() => return Some(Object::Letters(letters)),
        _ => {}
    }
    let event = match serde_json::from_slice::<Invocation>(body) {
        Ok(Invocation { payload: Value::String(text) }) => serde_json::from_str(&text).ok()?,
        Ok(Invocation { payload }) => serde_json::from_value::<Event>(payload).ok()?,
        Err(_) => serde_json::from_slice(body).ok()?,
    };
    event.is_known().then(|| Object::Event(Box::new(event)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_bucket_is_known_by_its_form() {
        let letter = r#"{"time":"T","output":"o","status":400,"type":"t","reason":"r","index":"i","id":"a","document":{}}"#;
        assert!(
            matches!(read(format!("{letter}\n{letter}\n").as_bytes()), Some(Object::Letters(l)) if l.len() == 2)
        );
        let event = r#"{"awslogs":{"data":"aGk="}}"#;
        let records = r#"{"Records":[{"kinesis":{"data":"aGk=","sequenceNumber":"1"}}]}"#;
        for body in [
            event.to_owned(),
            format!(
                r#"{{"version":"1.0","requestContext":{{}},"requestPayload":{event},"responsePayload":null}}"#
            ),
            format!(r#"{{"version":"1.0","payload":{}}}"#, Value::from(records)),
        ] {
            assert!(matches!(read(body.as_bytes()), Some(Object::Event(_))), "{body}");
        }
        for body in ["", "{}", "text", r#"{"requestPayload":{}}"#] {
            assert!(read(body.as_bytes()).is_none(), "{body}");
        }
    }
}
