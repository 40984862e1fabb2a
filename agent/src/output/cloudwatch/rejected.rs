//! Events that the service did not take, each for a reason of its own.
//!
//! In: `rejectedLogEventsInfo` of a reply, or the event that was refused alone. Out: which events, and why; and what is kept
//! of them as dead letters. PutLogEvents answers 200 all the same: who does not read this loses them without a word.

use aws_sdk_cloudwatchlogs::types::RejectedLogEventsInfo;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::config::BulkOp;
use crate::output::dead_letter::{self, Letter};
use crate::record::time;
use crate::stats::LossReason;

/// Why the event at `place` of a call was not taken; `None` if it was.
pub fn reason(info: &RejectedLogEventsInfo, place: usize) -> Option<LossReason> {
    let before = |end: Option<i32>| end.is_some_and(|end| (place as i64) < i64::from(end));
    if before(info.too_old_log_event_end_index) {
        return Some(LossReason::TooOld);
    }
    if before(info.expired_log_event_end_index) {
        return Some(LossReason::Expired);
    }
    let from = info.too_new_log_event_start_index;
    from.is_some_and(|from| place as i64 >= i64::from(from)).then_some(LossReason::TooNew)
}

/// A letter that keeps an event.
pub fn letter(output: &str, target: &str, kind: &str, reason: &str, millis: i64, text: &str) -> Letter {
    let stamp = time::format_nanos(millis.saturating_mul(1_000_000));
    let document = match RawValue::from_string(text.to_owned()) {
        Ok(document) if text.starts_with('{') => document,
        // A string of serde's own making is JSON.
        _ => RawValue::from_string(json!({ "@timestamp": stamp, "message": text }).to_string())
            .unwrap_or_else(|error| unreachable!("{error}")),
    };
    Letter {
        time: dead_letter::now(),
        output: output.to_owned(),
        status: 0,
        kind: kind.to_owned(),
        reason: reason.to_owned(),
        index: target.to_owned(),
        op: BulkOp::Create,
        id: String::new(),
        document,
        meta: None,
    }
}

/// The event that a letter keeps: its time in milliseconds, and its text.
pub fn event(letter: &Letter) -> (i64, String) {
    let text = letter.document.get();
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let millis = |stamp: &str| Some(time::unix_nanos(stamp.as_bytes())?.div_euclid(1_000_000).max(0));
    let said = ["@timestamp", "time"].iter().find_map(|key| millis(document[*key].as_str()?));
    // What is read as metrics has a time of its own kind.
    let said = said.or_else(|| document["_aws"]["Timestamp"].as_i64());
    let at = said.or_else(|| millis(&letter.time)).unwrap_or(0);
    let is_line = document.as_object().is_some_and(|fields| fields.len() == 2 && said.is_some());
    match document["message"].as_str().filter(|_| is_line) {
        Some(line) => (at, line.to_owned()),
        None => (at, text.to_owned()),
    }
}

/// What a reason means, for people.
pub fn told(reason: LossReason) -> &'static str {
    match reason {
        LossReason::TooOld => "it was older than 14 days",
        LossReason::Expired => "it was older than the log group keeps events",
        LossReason::TooNew => "its time was more than two hours ahead",
        _ => "CloudWatch refused it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_exclusive_and_the_start_is_inclusive() {
        let info = RejectedLogEventsInfo::builder()
            .too_old_log_event_end_index(1)
            .expired_log_event_end_index(2)
            .too_new_log_event_start_index(4)
            .build();
        let reasons: Vec<_> = (0..6).map(|place| reason(&info, place)).collect();
        let (old, expired, new) = (LossReason::TooOld, LossReason::Expired, LossReason::TooNew);
        assert_eq!(reasons, [Some(old), Some(expired), None, None, Some(new), Some(new)]);
    }

    #[test]
    fn a_letter_holds_the_document_or_the_line() {
        let letter = |text| letter("o", "g:s", "too_old", "why", 1_795_449_241_123, text);
        assert_eq!(letter(r#"{"a": 1}"#).document.get(), r#"{"a": 1}"#);
        let own = r#"{"@timestamp": "1970-01-01T00:00:01.5Z", "message": "x", "taffrail": {}}"#;
        assert_eq!(event(&letter(own)), (1_500, own.to_owned()));
        let metrics = r#"{"_aws": {"Timestamp": 7}}"#;
        assert_eq!(event(&letter(metrics)), (7, metrics.to_owned()));
        for line in ["{a", "1", "\"x\""] {
            let document: serde_json::Value = serde_json::from_str(letter(line).document.get()).unwrap();
            let expected = json!({ "@timestamp": "2026-11-23T15:54:01.123000000Z", "message": line });
            assert_eq!(document, expected);
            assert_eq!(event(&letter(line)), (1_795_449_241_123, line.to_owned()));
        }
    }
}
