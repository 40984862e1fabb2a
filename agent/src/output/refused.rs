//! Records that the destination does not take: what follows from its reason, and the form in which it takes them.
//!
//! In: an item of a bulk reply that was not created. Out: a [`Verdict`]; for a document whose own JSON was the trouble,
//! the same document with that JSON as text. Fluent Bit takes a chunk for done when one of its items was, and Vector
//! drops what was refused unless told otherwise; here every item gets an answer of its own.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::reply::Item;
use crate::record::escape;

/// What follows from an item's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it already.
    Exists,
    /// Not now: the same again.
    Again,
    /// Not as things stand there (a blocked, closed or missing index, a missing permission): nothing is wrong with the
    /// record, so it stays where it is, and is tried when somebody may have mended that.
    Park,
    /// The record itself is the trouble: once more in safe form, then to the dead letters.
    Refused,
}

/// Types of errors that say something of the destination and nothing of the record.
const NOT_THE_RECORDS_FAULT: [&str; 9] = [
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "no_such_index",
    "security_exception",
    "unavailable_shards_exception",
    "process_cluster_event_timeout_exception",
    "invalid_index_name_exception",
    "validation_exception",
];

/// The same, told only in words: a write alias without an index, serverless time-series collections that take no ids,
/// a pipeline that is not there.
const NOT_THE_RECORDS_FAULT_IN_WORDS: [&str; 6] =
    ["no write index", "alias", NO_IDS, "op_type", "data stream", NO_PIPELINE];

/// How OpenSearch Serverless begins to say that a collection makes its ids itself.
const NO_IDS: &str = "document id is not supported";

/// How servers begin to say that there is no such ingest pipeline.
const NO_PIPELINE: &str = "pipeline with id ";

/// Types of errors of an ingest pipeline's own, whatever their status: Elasticsearch answers 500 where a `fail`
/// processor meant a record.
const OF_A_PIPELINE: [&str; 2] = ["fail_processor_exception", "ingest_processor_exception"];

/// Exceptions of Java's own, answered 500, with which processors fail on a record that is not as they expect. Without a
/// pipeline in the configuration they say nothing of whose fault it was.
const OF_A_PROCESSOR: [&str; 9] = [
    "null_pointer_exception",
    "class_cast_exception",
    "array_index_out_of_bounds_exception",
    "index_out_of_bounds_exception",
    "string_index_out_of_bounds_exception",
    "arithmetic_exception",
    "date_time_exception",
    "unsupported_operation_exception",
    "runtime_exception",
];

/// Judges an item that was not created; `pipeline`: documents go through one that the configuration names.
pub fn verdict(item: &Item, pipeline: bool) -> Verdict {
    if item.failure_store {
        return Verdict::Refused;
    }
    let kind = item.kind.as_str();
    match item.status {
        409 => Verdict::Exists,
        _ if OF_A_PIPELINE.contains(&kind) => Verdict::Refused,
        500 if pipeline && OF_A_PROCESSOR.contains(&kind) => Verdict::Refused,
        429 | 500.. if kind == "cluster_block_exception" => Verdict::Park,
        429 | 500.. => Verdict::Again,
        401 | 403 | 404 => Verdict::Park,
        _ if NOT_THE_RECORDS_FAULT.contains(&kind) => Verdict::Park,
        400 if kind == "illegal_argument_exception" => {
            let words = own_words(&item.reason);
            let theirs = NOT_THE_RECORDS_FAULT_IN_WORDS.iter().any(|told| words.contains(told));
            if theirs { Verdict::Park } else { Verdict::Refused }
        }
        _ => Verdict::Refused,
    }
}

/// What may be done about an answer that says nothing of the record; empty where the answer says enough.
pub fn advice(item: &Item) -> &'static str {
    if item.kind != "illegal_argument_exception" {
        return "";
    }
    let words = own_words(&item.reason);
    if words.contains(NO_IDS) {
        " (set `document_id = false` for this output)"
    } else if words.contains(NO_PIPELINE) {
        " (create the pipeline there, or correct `pipeline` of this output)"
    } else {
        ""
    }
}

/// The beginning of a reason, in lower case, that is the server's own: up to where it first quotes something, which
/// may be what a program has logged.
fn own_words(reason: &str) -> String {
    reason.split(['[', '"', '\'', '{']).next().unwrap_or_default().to_lowercase()
}

/// The document with its JSON as text: what was under `app` stands behind the message, and the reason under
/// `taffrail.error`. `None` if the document has no JSON of its own, so that there is nothing to make safe.
pub fn safe_form(document: &[u8], reason: &str) -> Option<Vec<u8>> {
    let mut members: BTreeMap<&str, &RawValue> = serde_json::from_slice(document).ok()?;
    let app = members.remove("app")?;
    let mut safe = Vec::with_capacity(document.len() * 2);
    safe.extend_from_slice(b"{\"@timestamp\":");
    safe.extend_from_slice(members.remove("@timestamp")?.get().as_bytes());
    safe.extend_from_slice(b",\"message\":\"");
    if let Some(message) = members.remove("message") {
        // A string, escaped already: only its quotes go.
        let inside = message.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        safe.extend_from_slice(inside?.as_bytes());
        safe.push(b' ');
    }
    escape::append_escaped(&mut safe, app.get().as_bytes());
    safe.extend_from_slice(b"\",\"taffrail\":{");
    if let Some(marks) = members.remove("taffrail") {
        let inside = marks.get().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        safe.extend_from_slice(inside?.as_bytes());
        safe.push(b',');
    }
    safe.extend_from_slice(b"\"error\":\"");
    escape::append_escaped(&mut safe, reason.as_bytes());
    safe.extend_from_slice(b"\"}");
    for (name, value) in members {
        safe.extend_from_slice(format!(",\"{name}\":{}", value.get()).as_bytes());
    }
    safe.extend_from_slice(b"}\n");
    Some(safe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(status: u16, kind: &str, reason: &str) -> Item {
        Item { index: 0, status, kind: kind.into(), reason: reason.into(), failure_store: false }
    }

    #[test]
    fn what_follows_from_an_answer() {
        for (status, kind, reason, expected) in [
            (409, "version_conflict_engine_exception", "", Verdict::Exists),
            (429, "rejected_execution_exception", "", Verdict::Again),
            (503, "unavailable_shards_exception", "", Verdict::Again),
            (429, "cluster_block_exception", "disk usage exceeded flood-stage watermark", Verdict::Park),
            (403, "cluster_block_exception", "", Verdict::Park),
            (403, "security_exception", "action is unauthorized", Verdict::Park),
            (400, "index_closed_exception", "closed", Verdict::Park),
            (404, "index_not_found_exception", "no such index", Verdict::Park),
            (400, "illegal_argument_exception", "no write index is defined for alias [x]", Verdict::Park),
            (
                400,
                "illegal_argument_exception",
                "Document ID is not supported in create/index",
                Verdict::Park,
            ),
            (
                400,
                "illegal_argument_exception",
                "Limit of total fields [1000] has been exceeded",
                Verdict::Refused,
            ),
            (400, "mapper_parsing_exception", "failed to parse field [app.n]", Verdict::Refused),
            (400, "document_parsing_exception", "", Verdict::Refused),
            (400, "illegal_argument_exception", "pipeline with id [x] does not exist", Verdict::Park),
            (
                400,
                "illegal_argument_exception",
                "Provided Grok expressions do not match field value: [no write index, an alias]",
                Verdict::Refused,
            ),
            (400, "script_exception", "runtime error", Verdict::Refused),
            (500, "fail_processor_exception", "not one of ours", Verdict::Refused),
            (500, "illegal_state_exception", "", Verdict::Again),
            (413, "", "", Verdict::Refused),
        ] {
            for pipeline in [false, true] {
                let verdict = verdict(&item(status, kind, reason), pipeline);
                assert_eq!(verdict, expected, "{status} {kind} {reason}");
            }
        }
        assert_eq!(verdict(&Item { failure_store: true, ..item(201, "", "") }, false), Verdict::Refused);
        // Only a pipeline makes of a fault of Java's own one of the record.
        let fault = item(500, "null_pointer_exception", "");
        assert_eq!((verdict(&fault, false), verdict(&fault, true)), (Verdict::Again, Verdict::Refused));
    }

    #[test]
    fn what_is_configured_otherwise_is_told() {
        let advice = |reason| super::advice(&item(400, "illegal_argument_exception", reason));
        assert!(
            advice("Document ID is not supported in create/index operation request").contains("document_id")
        );
        assert!(advice("pipeline with id [x] does not exist").contains("`pipeline`"));
        assert_eq!(advice("field [pipeline with id ] not present"), "");
    }

    #[test]
    fn the_safe_form_keeps_everything_as_text() {
        let document = br#"{"@timestamp":"T","message":"said \"hi\"","log":{"level":"warn"},"app":{"n":1,"n":"x"},"taffrail":{"part":2},"stream":"stdout","kubernetes":{"namespace":"shop"}}"#;
        let safe: serde_json::Value =
            serde_json::from_slice(&safe_form(document, "failed to parse \"n\"").unwrap()).unwrap();
        assert_eq!(safe["message"], r#"said "hi" {"n":1,"n":"x"}"#);
        assert_eq!(safe["taffrail"], serde_json::json!({ "part": 2, "error": "failed to parse \"n\"" }));
        assert_eq!(
            (&safe["log"]["level"], &safe["kubernetes"]["namespace"]),
            (&"warn".into(), &"shop".into())
        );
        assert_eq!(safe.get("app"), None);
        assert_eq!(safe_form(br#"{"@timestamp":"T","message":"text"}"#, "why"), None);
    }

    proptest! {
        #[test]
        fn any_message_survives(message: String, value: String) {
            let document = serde_json::json!({ "@timestamp": "T", "message": message, "app": { "v": value } });
            let safe = safe_form(document.to_string().as_bytes(), &value).unwrap();
            let safe: serde_json::Value = serde_json::from_slice(&safe).unwrap();
            let app = serde_json::json!({ "v": value }).to_string();
            prop_assert_eq!(safe["message"].as_str().unwrap(), format!("{message} {app}"));
            prop_assert_eq!(safe["taffrail"]["error"].as_str().unwrap(), value);
        }
    }
}
