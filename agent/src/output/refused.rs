//! Records that the destination does not take: what follows from its reason, and the form in which it takes them.
//!
//! In: an item of a bulk reply that was not created. Out: a [`Verdict`]; for a document whose own JSON was the trouble,
//! the same document with that JSON as text. Also in: that a request was refused as a whole. Out: whether what is in it is
//! to be told apart. Fluent Bit takes a chunk for done when one of its items was, and Vector
//! drops what was refused unless told otherwise; here every item gets an answer of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;

use super::reply::Item;
use crate::record::{escape, fields};

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

/// Whether a request's status may be for what is in its body, as a proxy gives it that takes a log line for an attack. The
/// others mean any request: 401 and 407 the credentials, 404 and 421 the endpoint, 408, 425 and 429 the moment, 413 the size;
/// and so does an `answer` that speaks of the caller's rights, as the servers' own security and Amazon's do.
pub fn may_be_for_its_body(status: u16, answer: &[u8]) -> bool {
    let of_rights = || RIGHTS.iter().any(|word| memchr::memmem::find(answer, word.as_bytes()).is_some());
    matches!(status, 400..500)
        && !matches!(status, 401 | 404 | 407 | 408 | 413 | 421 | 425 | 429)
        && !of_rights()
}

/// What is in an answer that refuses the caller.
const RIGHTS: [&str; 8] = [
    "security_exception",
    "no permissions",
    "not authorized",
    "AccessDenied",
    "security token",
    "ignature",
    "Authentication Token",
    "\"Forbidden\"",
];

/// So often a body is refused as a whole before it is taken apart.
const BODY_TRIES: u32 = 3;

/// While no request is taken, all may be refused, for credentials or by a proxy that has had too many: then one is taken
/// apart only after so long. That long a container could keep its output waiting that has a fault in every batch.
const ALL_MAY_BE_REFUSED: Duration = Duration::from_secs(60);

/// How long it is remembered that a part of a refused body was taken: until then a fault is looked for in the next at once.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The refusals of one batch's bodies as a whole.
#[derive(Debug)]
pub struct Refusals {
    times: u32,
    since: Instant,
    taken: u64,
}

impl Refusals {
    /// None yet; `taken` requests of the output have been taken so far.
    pub fn new(taken: u64, now: Instant) -> Refusals {
        Refusals { times: 0, since: now, taken }
    }

    /// Whether the fault is likely to be the body's: other requests were taken since the first refusal, or, a while ago, a
    /// part of such a body was.
    pub fn concern_the_body(&self, taken: u64, part_taken: Option<Instant>, now: Instant) -> bool {
        taken != self.taken || part_taken.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
    }

    /// One refusal more; whether they are enough to take the body apart. `likely`: as said by
    /// [`concern_the_body`](Self::concern_the_body).
    pub fn are_enough(&mut self, likely: bool, now: Instant) -> bool {
        self.times += 1;
        let long = now.saturating_duration_since(self.since) >= ALL_MAY_BE_REFUSED;
        self.times >= BODY_TRIES && (likely || long)
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

/// The document with its JSON as text: what was under `app`, and what a route put beside it, stands behind the message, and
/// the reason under `taffrail.error`; and with no dots in the keys of labels, which an index that maps them one by one would
/// take for trees. `None` if there is nothing to make safe: the document has neither.
pub fn safe_form(document: &[u8], reason: &str) -> Option<Vec<u8>> {
    let mut members: BTreeMap<&str, &RawValue> = serde_json::from_slice(document).ok()?;
    let app = as_text(&mut members);
    let mut undotted = Vec::new();
    for name in ["kubernetes", "labels"] {
        if let Some(value) = members.get(name).and_then(|value| without_dots(name, value)) {
            members.remove(name);
            undotted.push((name, value));
        }
    }
    if app.is_none() && undotted.is_empty() {
        return None;
    }
    let mut safe = Vec::with_capacity(document.len() * 2);
    safe.extend_from_slice(b"{\"@timestamp\":");
    safe.extend_from_slice(members.remove("@timestamp")?.get().as_bytes());
    safe.extend_from_slice(b",\"message\":\"");
    if let Some(message) = members.remove("message") {
        // A string, escaped already: only its quotes go.
        let inside = message.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        safe.extend_from_slice(inside?.as_bytes());
        safe.extend_from_slice(if app.is_some() { b" " } else { b"" });
    }
    if let Some(app) = app {
        escape::append_escaped(&mut safe, app.as_bytes());
    }
    safe.extend_from_slice(b"\",\"taffrail\":{");
    if let Some(marks) = members.remove("taffrail") {
        let inside = marks.get().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        safe.extend_from_slice(inside?.as_bytes());
        safe.push(b',');
    }
    safe.extend_from_slice(b"\"error\":\"");
    escape::append_escaped(&mut safe, reason.as_bytes());
    safe.extend_from_slice(b"\"}");
    let others = members.iter().map(|(name, value)| (*name, value.get()));
    for (name, value) in others.chain(undotted.iter().map(|(name, value)| (*name, value.as_str()))) {
        safe.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    }
    safe.extend_from_slice(b"}\n");
    Some(safe)
}

/// Takes out what may be an application's own: `app` as it stands or, where there are other such members, one object of all.
fn as_text(members: &mut BTreeMap<&str, &RawValue>) -> Option<String> {
    let beside: Vec<&str> = members.keys().copied().filter(|name| fields::is_free(name)).collect();
    let beside: Vec<String> = beside
        .into_iter()
        .filter_map(|name| Some(format!("\"{name}\":{}", members.remove(name)?.get())))
        .collect();
    let app = members.remove("app").map(|app| app.get().to_owned());
    if beside.is_empty() {
        return app;
    }
    let app = app.map(|app| format!("\"app\":{app}"));
    Some(format!("{{{}}}", beside.into_iter().chain(app).collect::<Vec<_>>().join(",")))
}

/// A member of a document whose labels and annotations have no dots in their keys; `None` if they had none before.
fn without_dots(name: &str, value: &RawValue) -> Option<String> {
    let mut value: Value = serde_json::from_str(value.get()).ok()?;
    let changed = if name == "labels" {
        undot(&mut value)
    } else {
        let own = ["labels", "annotations", "namespace_labels", "namespace_annotations"];
        let own = own.map(|texts| value.get_mut(texts).is_some_and(undot));
        let node = value.get_mut("node").and_then(|node| node.get_mut("labels")).is_some_and(undot);
        node || own.contains(&true)
    };
    changed.then(|| value.to_string())
}

fn undot(texts: &mut Value) -> bool {
    let Some(texts) = texts.as_object_mut().filter(|texts| texts.keys().any(|key| key.contains('.'))) else {
        return false;
    };
    *texts = std::mem::take(texts).into_iter().map(|(key, value)| (key.replace('.', "_"), value)).collect();
    true
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
    fn a_body_is_taken_apart_when_others_are_taken_or_nothing_is_for_long() {
        for status in [400, 403, 405, 406, 422, 451] {
            assert!(may_be_for_its_body(status, b"<html>no</html>"), "{status}");
        }
        let rights = br#"{"error":{"type":"security_exception","reason":"no permissions for [indices:data/write/bulk]"}}"#;
        assert!(!may_be_for_its_body(403, rights));
        for status in [200, 302, 401, 404, 407, 408, 413, 429, 500, 503] {
            assert!(!may_be_for_its_body(status, b""), "{status}");
        }
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Whether the n-th of three refusals in the first seconds is enough, where so many requests were taken by then.
        let enough = |taken: [u64; 3], part_taken| {
            let mut refusals = Refusals::new(7, start);
            [0, 1, 2].map(|n| {
                let likely = refusals.concern_the_body(taken[n], part_taken, at(n as u64));
                refusals.are_enough(likely, at(n as u64))
            })
        };
        assert_eq!(enough([7, 7, 7], None), [false; 3], "everything is refused");
        assert_eq!(enough([7, 8, 8], None), [false, false, true]);
        assert_eq!(enough([7, 7, 7], Some(start)), [false, false, true]);
        let mut long = Refusals::new(7, start);
        let told = [0, 1, 59, 60].map(|seconds| long.are_enough(false, at(seconds)));
        assert_eq!(told, [false, false, false, true]);
        assert!(!long.concern_the_body(7, Some(start), at(600)), "it may have been mended since");
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

    #[test]
    fn the_safe_form_has_what_was_merged_as_text_too() {
        let of = |document: &[u8]| -> Value {
            serde_json::from_slice(&safe_form(document, "why").unwrap()).unwrap()
        };
        let safe = of(br#"{"@timestamp":"T","message":"hi","user":{"id":1},"n":2,"app":{"n":3},"event.created":"C","labels.team":"x","stream":"stdout"}"#);
        assert_eq!(safe["message"], r#"hi {"n":2,"user":{"id":1},"app":{"n":3}}"#);
        assert_eq!((&safe["event.created"], &safe["labels.team"]), (&"C".into(), &"x".into()));
        assert_eq!((safe.get("n"), safe.get("user"), safe.get("app")), (None, None, None));
        assert_eq!(of(br#"{"@timestamp":"T","n":2}"#)["message"], r#"{"n":2}"#);
    }

    #[test]
    fn the_safe_form_has_labels_that_no_index_takes_for_trees() {
        let document = br#"{"@timestamp":"T","message":"hi","stream":"stdout","labels":{"a.b":"1"},"kubernetes":{"namespace":"shop","labels":{"app":"web","app.kubernetes.io/name":"web"},"node":{"name":"n","labels":{"x.y":"z"}}}}"#;
        let safe: Value = serde_json::from_slice(&safe_form(document, "why").unwrap()).unwrap();
        assert_eq!(safe["message"], "hi");
        assert_eq!(safe["labels"], serde_json::json!({ "a_b": "1" }));
        let kubernetes = serde_json::json!({ "namespace": "shop",
            "labels": { "app": "web", "app_kubernetes_io/name": "web" },
            "node": { "name": "n", "labels": { "x_y": "z" } } });
        assert_eq!((&safe["kubernetes"], &safe["taffrail"]["error"]), (&kubernetes, &"why".into()));
        let plain = br#"{"@timestamp":"T","message":"hi","kubernetes":{"labels":{"app":"web"}}}"#;
        assert_eq!(safe_form(plain, "why"), None);
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
