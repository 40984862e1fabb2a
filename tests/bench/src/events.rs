//! The sink as CloudWatch Logs: PutLogEvents, CreateLogGroup and CreateLogStream, answered truthfully.
//!
//! In: signed calls of the JSON protocol, whose signatures are not looked at. Out: what the service documents as illegal is
//! refused and kept as a fault; events are counted, metadata of compact batches apart. A stream exists once it is made. It does
//! not throttle: how the agent keeps to quotas is for the tests to see, and here it is measured.

use crate::sink::locked;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

/// PutLogEvents: bytes and events of a call, and what each event counts beside its text; 24 hours in milliseconds.
const CALL_BYTES: usize = 1_048_576;
const CALL_EVENTS: usize = 10_000;
const OVERHEAD: usize = 26;
const DAY: i64 = 24 * 3_600_000;

/// How metadata of a compact batch begins.
const METADATA: &str = "{\"taffrail\":{\"meta\":";

/// The streams of each group.
pub type Streams = HashMap<String, HashSet<String>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    #[serde(borrow)]
    log_group_name: Cow<'a, str>,
    #[serde(borrow, default)]
    log_stream_name: Cow<'a, str>,
    #[serde(borrow, default)]
    log_events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    timestamp: i64,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// What an answer is: that, the events of it, and the bytes of their texts; or why the call is illegal.
pub fn answer(target: &str, body: &[u8], streams: &Mutex<Streams>) -> Result<(Response, u64, u64), String> {
    let call: Call<'_> = serde_json::from_slice(body).map_err(|error| format!("{target}: {error}"))?;
    let (group, stream) = (call.log_group_name.as_ref(), call.log_stream_name.as_ref());
    // Not held while events are counted.
    let exists = || locked(streams).get(group).is_some_and(|streams| streams.contains(stream));
    let reply = match target.rsplit('.').next().unwrap_or_default() {
        "CreateLogGroup" => {
            locked(streams).entry(group.to_owned()).or_default();
            done("{}")
        }
        "CreateLogStream" => {
            match locked(streams).get_mut(group).map(|known| known.insert(stream.to_owned())) {
                None => missing(),
                Some(false) => refusal("ResourceAlreadyExistsException"),
                Some(true) => done("{}"),
            }
        }
        "PutLogEvents" if !exists() => missing(),
        "PutLogEvents" => {
            let bytes = check(&call.log_events).map_err(|what| format!("{group}:{stream}: {what}"))?;
            let records = call.log_events.iter().filter(|event| !event.message.starts_with(METADATA)).count();
            return Ok((done("{\"nextSequenceToken\":\"0\"}"), records as u64, bytes as u64));
        }
        other => return Err(format!("the action {other:?}")),
    };
    Ok((reply, 0, 0))
}

/// The bytes of the texts.
fn check(events: &[Event<'_>]) -> Result<usize, String> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Err("no events".into()) };
    if events.len() > CALL_EVENTS {
        return Err(format!("{} events", events.len()));
    }
    if events.iter().any(|event| event.message.is_empty()) {
        return Err("an empty event".into());
    }
    if !events.is_sorted_by_key(|event| event.timestamp) || last.timestamp - first.timestamp > DAY {
        return Err("not in the order of time, or over more than a day".into());
    }
    let bytes: usize = events.iter().map(|event| event.message.len()).sum();
    let counted = bytes + events.len() * OVERHEAD;
    if counted > CALL_BYTES { Err(format!("a call of {counted} bytes")) } else { Ok(bytes) }
}

fn done(body: &'static str) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], Body::from(body)).into_response()
}

fn missing() -> Response {
    refusal("ResourceNotFoundException")
}

fn refusal(code: &str) -> Response {
    let body = serde_json::json!({ "__type": code, "message": code }).to_string();
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_refuses_is_an_error_and_records_are_counted_without_metadata() {
        let streams = Mutex::new(Streams::new());
        let call = |action: &str, events: &str| {
            let body = format!(r#"{{"logGroupName":"g","logStreamName":"s","logEvents":[{events}]}}"#);
            let answered = answer(&format!("Logs_20140328.{action}"), body.as_bytes(), &streams);
            answered.map(|(reply, records, bytes)| (reply.status().as_u16(), records, bytes))
        };
        let one = r#"{"timestamp":1,"message":"a\"b"}"#;
        assert_eq!(call("PutLogEvents", one), Ok((400, 0, 0)));
        assert_eq!(call("CreateLogStream", ""), Ok((400, 0, 0)));
        assert_eq!(call("CreateLogGroup", ""), Ok((200, 0, 0)));
        assert_eq!(call("CreateLogStream", ""), Ok((200, 0, 0)));
        assert_eq!(call("CreateLogStream", ""), Ok((400, 0, 0)));
        let metadata = r#"{"timestamp":1,"message":"{\"taffrail\":{\"meta\":\"x\"}}"}"#;
        let text = r#"{"taffrail":{"meta":"x"}}"#;
        assert_eq!(call("PutLogEvents", &format!("{metadata},{one}")), Ok((200, 1, 3 + text.len() as u64)));
        assert!(call("PutLogEvents", "").unwrap_err().contains("no events"));
        let back = r#"{"timestamp":0,"message":"a"}"#;
        assert!(call("PutLogEvents", &format!("{one},{back}")).unwrap_err().contains("order"));
        assert!(call("Nonsense", "").is_err());
    }
}
