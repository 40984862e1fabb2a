//! The logs of Lambda functions: text, or JSON (the function's own or the platform's).
//!
//! In: a text and its group. Out: `aws.lambda` with the function's name, the id of the request where one is told, and the
//! figures of a `REPORT` as numbers.

use std::borrow::Cow;

use serde::Deserialize;

use super::{put, put_number};
use crate::forward::trust::Source;

/// The figures of a `REPORT` line, by the words before them.
const FIGURES: [(&str, &str); 6] = [
    ("Duration", "duration_ms"),
    ("Billed Duration", "billed_duration_ms"),
    ("Memory Size", "memory_size_mb"),
    ("Max Memory Used", "max_memory_used_mb"),
    ("Init Duration", "init_duration_ms"),
    ("Restore Duration", "restore_duration_ms"),
];

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(
        borrow,
        rename = "requestId",
        alias = "AWSRequestId",
        alias = "request_id",
        alias = "function_request_id"
    )]
    request: Option<Cow<'a, str>>,
}

/// Appends `,"lambda":{…}`.
pub(super) fn append(out: &mut Vec<u8>, source: Source<'_>, text: &str) {
    out.extend_from_slice(br#","lambda":{"#);
    put(out, "function", source.group.trim_start_matches("/aws/lambda/"));
    if text.starts_with('{') {
        if let Ok(Line { request: Some(request) }) = serde_json::from_str(text) {
            put(out, "request_id", &request);
        }
    } else if let Some(request) = request_of(text) {
        put(out, "request_id", request);
    }
    if let Some(report) = text.strip_prefix("REPORT RequestId: ") {
        for part in report.split('\t') {
            let Some((words, figure)) = part.trim().split_once(": ") else { continue };
            let Some((_, name)) = FIGURES.iter().find(|(known, _)| *known == words) else { continue };
            let Some((number, "ms" | "MB")) = figure.split_once(' ') else { continue };
            if let Some(number) = number.parse::<f64>().ok().filter(|number| number.is_finite()) {
                put_number(out, name, number);
            }
        }
    }
    out.push(b'}');
}

/// The id in a line of the platform (`START RequestId: … `), or in one of a runtime (`time\tid\tlevel\t…`).
fn request_of(text: &str) -> Option<&str> {
    let id = match text.split_once("RequestId: ") {
        Some(("START " | "END " | "REPORT ", rest)) => rest.split(['\t', ' ', '\n']).next()?,
        _ => text.split('\t').nth(1)?,
    };
    let is_uuid = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uuid.then_some(id)
}
