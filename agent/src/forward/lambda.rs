//! The events that a Lambda function is called with.
//!
//! In: CloudWatch Logs' own event, or one of Kinesis. Out: for the first success or an error, by which Lambda tries again;
//! for the second the records that failed and may yet succeed, the first of them first: Lambda goes on from there. What can
//! never be indexed is with the dead letters by then, and has not failed.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Forwarder;
use crate::output::{Fate, Stop};

/// An event.
#[derive(Debug, Deserialize)]
pub struct Event {
    awslogs: Option<AwsLogs>,
    #[serde(rename = "Records")]
    records: Option<Vec<KinesisEvent>>,
}

#[derive(Debug, Deserialize)]
struct AwsLogs {
    data: String,
}

#[derive(Debug, Deserialize)]
struct KinesisEvent {
    kinesis: KinesisRecord,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KinesisRecord {
    data: String,
    sequence_number: String,
}

impl Event {
    /// Whether it is one of those that the function is for.
    pub fn is_known(&self) -> bool {
        self.awslogs.is_some() || self.records.is_some()
    }
}

impl Forwarder {
    /// Carries an event on, within this time.
    ///
    /// # Errors
    /// The event must be brought again, or is none that is known.
    pub async fn handle(&self, event: &Event, within: Duration) -> Result<Value, String> {
        match event {
            Event { awslogs: Some(AwsLogs { data }), .. } => {
                match self.send_within(&[bytes(data)], within).await.first() {
                    Some(Fate::Acknowledged) => Ok(Value::Null),
                    _ => Err(self.last_error().unwrap_or_else(|| "no time was left".to_owned())),
                }
            }
            Event { records: Some(records), .. } => {
                let data: Vec<Vec<u8>> = records.iter().map(|record| bytes(&record.kinesis.data)).collect();
                let fates = self.send_within(&data, within).await;
                let failed = records.iter().zip(fates).filter(|(_, fate)| *fate != Fate::Acknowledged);
                let failed: Vec<Value> = failed
                    .map(|(record, _)| json!({ "itemIdentifier": record.kinesis.sequence_number }))
                    .collect();
                if !failed.is_empty() {
                    let why = self.last_error().unwrap_or_default();
                    tracing::warn!(
                        failed = failed.len(),
                        records = records.len(),
                        why,
                        "records are to be brought again"
                    );
                }
                Ok(json!({ "batchItemFailures": failed }))
            }
            _ => Err("neither an event of CloudWatch Logs nor one of Kinesis".to_owned()),
        }
    }

    async fn send_within(&self, records: &[Vec<u8>], within: Duration) -> Vec<Fate> {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        self.stop(Stop::No);
        let end = Instant::now() + within;
        let mut sent = std::pin::pin!(self.send(&records));
        tokio::select! {
            fates = &mut sent => return fates,
            () = tokio::time::sleep_until(end.into()) => {}
        }
        self.stop(Stop::Now);
        sent.await
    }
}

/// What base64 stands for. What is none is kept as it is, and will be no record either.
fn bytes(data: &str) -> Vec<u8> {
    STANDARD.decode(data).unwrap_or_else(|_| data.as_bytes().to_vec())
}
