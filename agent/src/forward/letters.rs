//! Dead letters of the forwarder: on disk as the agent's, or beyond this machine.
//!
//! In: what can never be indexed, on disk where the elasticsearch output puts it. Out: if so configured, objects in S3 or
//! messages in SQS, before the records that they are of count as dealt with. A letter leaves the disk when it is there.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, OnceCell};

use super::record::Unreadable;
use super::{Forwarder, trust};
use crate::config::LettersAway;
use crate::config::template::Prepared;
use crate::output::dead_letter::{self, DeadLetters, Letter};
use crate::output::http::words;

/// SQS, "message size": at most 256 KiB in queues that were made before it was more. The rest is room for what goes around.
const MESSAGE_BYTES: usize = 250_000;

/// The letters of one forwarder.
#[derive(Debug)]
pub struct Letters {
    output: String,
    disk: DeadLetters,
    away: Option<LettersAway>,
    state_dir: PathBuf,
    clients: OnceCell<(aws_sdk_s3::Client, aws_sdk_sqs::Client)>,
    sending: Mutex<()>,
}

impl Letters {
    /// Those of `output`: on disk, and away if so configured.
    pub fn new(output: &str, disk: DeadLetters, away: Option<LettersAway>, state_dir: &Path) -> Letters {
        Letters {
            output: output.to_owned(),
            disk,
            away,
            state_dir: state_dir.to_owned(),
            clients: OnceCell::new(),
            sending: Mutex::default(),
        }
    }

    /// Where the disk has them.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Whether the disk has them only until they are sent away.
    pub fn go_away(&self) -> bool {
        self.away.is_some()
    }

    /// Appends letters; on return they are on disk. Returns how many old ones had to go.
    pub fn append(&self, letters: &[Letter]) -> io::Result<u64> {
        self.disk.append(letters)
    }

    /// The letter for a record that cannot be read: a document that keeps it whole.
    pub fn unreadable(&self, record: &[u8], why: &Unreadable, foreign: &Prepared) -> Letter {
        let time = dead_letter::now();
        let hash = digest::digest(&digest::SHA256, record);
        let document = serde_json::json!({
            "@timestamp": time,
            "message": format!("a record that could not be read: {why}"),
            "taffrail": { "record": STANDARD.encode(record) },
        });
        let mut index = Vec::new();
        foreign.append_to(&mut index, &trust::date(&time));
        Letter {
            time,
            output: self.output.clone(),
            status: 0,
            kind: "unreadable_record".to_owned(),
            reason: why.to_string(),
            index: String::from_utf8_lossy(&index).into_owned(),
            op: Default::default(),
            id: format!("cw.{}", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16])),
            // Made of a value just now: JSON.
            document: RawValue::from_string(document.to_string()).unwrap_or_default(),
            meta: None,
        }
    }

    /// Sends away what the disk has, and returns when it is there.
    ///
    /// # Errors
    /// It could not be: it stays on disk.
    pub async fn send_away(&self, forwarder: &Forwarder) -> Result<(), String> {
        let Some(away) = &self.away else { return Ok(()) };
        // Whoever comes second may rely on what the first has sent.
        let _alone = self.sending.lock().await;
        let letters = self.disk.list().map_err(|error| format!("dead letters: {error}"))?;
        if letters.is_empty() {
            return Ok(());
        }
        let letters = self.disk.begin_replay().map_err(|error| format!("dead letters: {error}"))?;
        let aws = forwarder.aws().await;
        let made = || async { (aws_sdk_s3::Client::from_conf(s3(aws)), aws_sdk_sqs::Client::new(aws)) };
        let (s3, sqs) = self.clients.get_or_init(made).await;
        match away {
            LettersAway::S3 { bucket, prefix } => {
                let mut body = Vec::new();
                for letter in &letters {
                    body.extend_from_slice(&line(letter)?);
                    body.push(b'\n');
                }
                let key = object_key(prefix, &body);
                let put = s3.put_object().bucket(bucket).key(&key).content_type("application/x-ndjson");
                put.body(body.into()).send().await.map_err(|error| told("s3:PutObject", bucket, &error))?;
            }
            LettersAway::Sqs(url) => {
                for letter in &letters {
                    for text in messages(letter)? {
                        let send = sqs.send_message().queue_url(url).message_body(text).send();
                        send.await.map_err(|error| told("sqs:SendMessage", url, &error))?;
                    }
                }
            }
        }
        tracing::warn!(
            output = self.output,
            letters = letters.len(),
            "records that can never be indexed were put with the dead letters"
        );
        self.disk.end_replay().map_err(|error| format!("dead letters: {error}"))
    }
}

/// The service's client; an endpoint of one's own (`AWS_ENDPOINT_URL`) has no names for buckets.
pub(super) fn s3(aws: &aws_config::SdkConfig) -> aws_sdk_s3::Config {
    aws_sdk_s3::config::Builder::from(aws).force_path_style(aws.endpoint_url().is_some()).build()
}

fn line(letter: &Letter) -> Result<Vec<u8>, String> {
    serde_json::to_vec(letter).map_err(|error| format!("a dead letter: {error}"))
}

/// The letter as a message; or, if it is too large for one, gzip in base64 in as many as it takes, each of which says which
/// part of how many it is.
fn messages(letter: &Letter) -> Result<Vec<String>, String> {
    let line = line(letter)?;
    if line.len() <= MESSAGE_BYTES {
        return Ok(vec![String::from_utf8_lossy(&line).into_owned()]);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let packed = encoder.write_all(&line).and_then(|()| encoder.finish());
    let packed = STANDARD.encode(packed.map_err(|error| format!("a dead letter: {error}"))?);
    let parts: Vec<_> = packed.as_bytes().chunks(MESSAGE_BYTES).collect();
    let message = |(at, part): (usize, &&[u8])| {
        let text = String::from_utf8_lossy(part);
        serde_json::json!({ "id": letter.id, "part": at + 1, "of": parts.len(), "gzip": text }).to_string()
    };
    Ok(parts.iter().enumerate().map(message).collect())
}

/// `PREFIX/2026-11-23/155401-<hash>.ndjson`: of the same letters at another time another one.
fn object_key(prefix: &str, body: &[u8]) -> String {
    let now = dead_letter::now();
    let hash = digest::digest(&digest::SHA256, body);
    let mut key = String::new();
    if !prefix.is_empty() {
        let _ = write!(key, "{prefix}/");
    }
    let (day, time) = now.split_at(10.min(now.len()));
    let clock: String = time.chars().filter(char::is_ascii_digit).take(9).collect();
    let _ = write!(key, "{day}/{clock}-{}.ndjson", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..9]));
    key
}

pub(super) fn told(action: &str, place: &str, error: &(dyn std::error::Error + 'static)) -> String {
    words::line(&format!("{action} on {place}: {}", words::innermost(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn letter(length: usize) -> Letter {
        // What does not compress.
        let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(length).collect();
        Letter {
            time: dead_letter::now(),
            output: "search".into(),
            status: 400,
            kind: "t".into(),
            reason: "r".into(),
            index: "i".into(),
            op: Default::default(),
            id: "a".into(),
            document: RawValue::from_string(serde_json::json!({ "message": text }).to_string()).unwrap(),
            meta: None,
        }
    }

    #[test]
    fn a_letter_of_any_length_fits_a_queue() {
        let small = letter(10);
        assert_eq!(messages(&small).unwrap()[0].as_bytes(), line(&small).unwrap());
        let large = letter(1_400_000);
        let parts = messages(&large).unwrap();
        assert!(parts.len() > 3 && parts.iter().all(|part| part.len() < 256 * 1024));
        let packed: String = parts
            .iter()
            .map(|part| {
                serde_json::from_str::<serde_json::Value>(part).unwrap()["gzip"].as_str().unwrap().to_owned()
            })
            .collect();
        let mut text = Vec::new();
        GzDecoder::new(&STANDARD.decode(packed).unwrap()[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text, line(&large).unwrap());
    }
}
