//! One subscription record: what CloudWatch Logs puts on a Kinesis stream or hands to a function.
//!
//! In: its bytes, gzip of JSON. Out: whose events they are, borrowed from the inflated text; or why it is no such record.
//! Never: inflates more than it may, builds a tree, or trusts anything that an event says.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a record holds, as AWS documents it ("Subscription filters", the format of what is delivered).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<'a> {
    /// `DATA_MESSAGE`, or `CONTROL_MESSAGE`, which only says that the destination can be reached.
    #[serde(borrow)]
    pub message_type: Cow<'a, str>,
    /// The account that the group is of.
    #[serde(borrow, default)]
    pub owner: Cow<'a, str>,
    /// The group.
    #[serde(borrow, default)]
    pub log_group: Cow<'a, str>,
    /// The stream.
    #[serde(borrow, default)]
    pub log_stream: Cow<'a, str>,
    /// The events.
    #[serde(borrow, default)]
    pub log_events: Vec<Event<'a>>,
}

/// One event.
#[derive(Debug, Deserialize)]
pub struct Event<'a> {
    /// Its id as it is written: AWS quotes it, others write a number.
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    /// Its text.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
}

impl<'a> Event<'a> {
    /// Its id, which is a service's own word.
    pub fn id(&self) -> &'a str {
        self.id.get().trim_matches('"')
    }

    /// Its time in milliseconds since the epoch; what is none counts as its beginning.
    pub fn millis(&self) -> i64 {
        self.timestamp.get().parse::<i64>().unwrap_or(0).max(0)
    }
}

/// Why a record cannot be read: not now, nor ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not gzip, or cut off.
    #[error("it is not gzip: {0}")]
    NotGzip(String),
    /// It would inflate beyond what is allowed.
    #[error("it inflates to more than {0} bytes (`forward.max_inflated`)")]
    TooLarge(u64),
    /// Inflated, it is not what AWS documents.
    #[error("it is not a subscription record: {0}")]
    NotRecord(String),
}

/// Inflates a record into `text`, whose memory is used again.
///
/// # Errors
/// It is not gzip, or too large.
pub fn inflate(gzip: &[u8], most: u64, text: &mut Vec<u8>) -> Result<(), Unreadable> {
    text.clear();
    let inflated = MultiGzDecoder::new(gzip).take(most + 1).read_to_end(text);
    match inflated {
        Err(error) => Err(Unreadable::NotGzip(error.to_string())),
        Ok(length) if length as u64 > most => Err(Unreadable::TooLarge(most)),
        Ok(_) => Ok(()),
    }
}

/// Reads an inflated record; `None` if it holds no events by its own word.
///
/// # Errors
/// It is not what AWS documents.
pub fn read(text: &[u8]) -> Result<Option<Record<'_>>, Unreadable> {
    let record: Record<'_> =
        serde_json::from_slice(text).map_err(|error| Unreadable::NotRecord(error.to_string()))?;
    match &*record.message_type {
        "CONTROL_MESSAGE" => Ok(None),
        "DATA_MESSAGE" if record.log_group.is_empty() || record.log_stream.is_empty() => {
            Err(Unreadable::NotRecord("it names no log group or no log stream".to_owned()))
        }
        "DATA_MESSAGE" => Ok(Some(record)),
        other => Err(Unreadable::NotRecord(format!(
            "its type is {:?}",
            other.chars().take(40).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_record_is_read_whatever_writes_its_ids() {
        let text = br#"{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"/g","logStream":"s","subscriptionFilters":["f"],
            "logEvents":[{"id":"37","timestamp":1795449241123,"message":"a\nb"},{"id":38,"timestamp":1e999,"message":""}]}"#;
        let mut inflated = Vec::new();
        inflate(&gzip(text), 1 << 20, &mut inflated).unwrap();
        let record = read(&inflated).unwrap().unwrap();
        let events: Vec<_> = record.log_events.iter().map(|e| (e.id(), e.millis(), &*e.message)).collect();
        assert_eq!(events, [("37", 1_795_449_241_123, "a\nb"), ("38", 0, "")]);
    }

    #[test]
    fn what_is_none_says_why_and_a_control_message_is_no_trouble() {
        let mut text = Vec::new();
        assert!(matches!(inflate(b"plain", 99, &mut text), Err(Unreadable::NotGzip(_))));
        let whole = gzip(&[b'x'; 1000]);
        assert!(matches!(inflate(&whole[..whole.len() / 2], 9999, &mut text), Err(Unreadable::NotGzip(_))));
        assert_eq!(inflate(&whole, 999, &mut text), Err(Unreadable::TooLarge(999)));
        assert_eq!(inflate(&whole, 1000, &mut text), Ok(()));
        assert!(
            read(br#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logEvents":[]}"#)
                .unwrap()
                .is_none()
        );
        for text in [
            &b"xxx"[..],
            br#"{"messageType":"DATA_MESSAGE"}"#,
            br#"{"messageType":"OTHER"}"#,
            br#"{"messageType":"DATA_MESSAGE","logGroup":"g","logStream":"s","logEvents":[{"id":"1","timestamp":1}]}"#,
            b"[]",
        ] {
            assert!(matches!(read(text), Err(Unreadable::NotRecord(_))));
        }
    }
}
