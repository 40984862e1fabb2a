//! Foreign events: what others than our agents have written to CloudWatch Logs.
//!
//! In: an event's text and where it came from. Out: a document and an `_id` of a space of its own. The text itself can write
//! `message`, `log.level` and `app`, as in every document of ours; what is read of it for panels stands in typed fields
//! under `aws` and `kubernetes_audit`. Nothing that it says can be `kubernetes`, `orchestrator`, `cloud` or `taffrail`.

mod audit;
mod lambda;
mod vpc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::trust::Source;
use crate::record::escape::{append_escaped, append_str};
use crate::record::{self, time};

/// What a group is known to hold, worked out once for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A function's own log.
    Lambda,
    /// The audit log of an EKS control plane.
    Audit,
    /// Anything else.
    Other,
}

impl Kind {
    /// By the names of group and stream, which the service itself gives.
    pub fn of(source: Source<'_>) -> Kind {
        let control_plane = source.group.starts_with("/aws/eks/") && source.group.ends_with("/cluster");
        if source.group.starts_with("/aws/lambda/") {
            Kind::Lambda
        } else if control_plane && source.stream.starts_with("kube-apiserver-audit") {
            Kind::Audit
        } else {
            Kind::Other
        }
    }
}

/// The `_id` of a foreign document: a hash of all that names the event, behind a letter that no id of ours can have.
pub fn id(source: Source<'_>, event: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [source.owner, source.group, source.stream, event] {
        // With its length, so that no two lists of parts are the same bytes.
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    format!("cw.{}", URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..16]))
}

/// Appends the document of an event, with the newline that ends it. `millis` is the event's time; `unresolved` names the
/// metadata that an event of ours lacks.
pub fn append(
    out: &mut Vec<u8>,
    source: Source<'_>,
    kind: Kind,
    (millis, text): (i64, &str),
    unresolved: Option<&str>,
) {
    out.extend_from_slice(br#"{"@timestamp":""#);
    out.extend_from_slice(timestamp(millis).as_bytes());
    out.extend_from_slice(b"\",");
    record::append_body(out, text.as_bytes());
    if let Some(revision) = unresolved {
        out.extend_from_slice(br#","taffrail":{"unresolved":""#);
        append_escaped(out, revision.as_bytes());
        out.extend_from_slice(b"\"}");
    }
    if kind == Kind::Audit {
        audit::append(out, text);
    }
    out.extend_from_slice(br#","aws":{"cloudwatch":{"log_group":""#);
    append_str(out, source.group);
    out.extend_from_slice(br#"","log_stream":""#);
    append_str(out, source.stream);
    out.extend_from_slice(b"\"}");
    match kind {
        Kind::Lambda => lambda::append(out, source, text),
        Kind::Audit => {}
        Kind::Other => vpc::append(out, text),
    }
    out.extend_from_slice(br#"},"cloud":{"provider":"aws","account":{"id":""#);
    append_str(out, source.owner);
    out.extend_from_slice(b"\"}}}\n");
}

/// A time as documents have it.
pub fn timestamp(millis: i64) -> String {
    time::format_nanos(millis.saturating_mul(1_000_000))
}

/// Appends `"name":"value"` with a comma before it.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    separate(out);
    out.extend_from_slice(format!("\"{name}\":\"").as_bytes());
    append_str(out, value);
    out.push(b'"');
}

/// Appends `"name":value` for a number that is written as one.
fn put_number(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    separate(out);
    out.extend_from_slice(format!("\"{name}\":{value}").as_bytes());
}

/// A comma, unless an object has just been opened.
fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
