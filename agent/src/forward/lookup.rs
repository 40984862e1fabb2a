//! Metadata that did not come with the events that refer to it: kept from what came before, or asked of CloudWatch.
//!
//! In: metadata events as they pass, and revisions that are wanted. Out: the constant end of documents of that revision,
//! or that nobody has it for now. Never waits by itself, and takes no text whose hash is not the revision.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata;
use tokio::sync::OnceCell;

use super::bounded::Bounded;
use super::own;
use super::trust::Source;
use crate::output::http::words;

/// Revisions that are remembered, and the bytes that they may be of, each twice at most: with 1 KiB each, which is usual,
/// it is all of them. Each is 64 KiB at most.
const REMEMBERED: (usize, usize) = (10_000, 16 << 20);

/// Metadata lies before the events of its call, whose times span less than a day ("PutLogEvents, 24 hours").
const BEFORE: i64 = 24 * 3600 * 1000;

/// Pages of an answer that are looked through: the pattern finds little, and empty pages are part of the trade.
const PAGES: usize = 50;

/// What is remembered: the constant end of documents, by account, group and revision.
#[derive(Debug)]
pub struct Metas(Bounded<String, String>);

impl Metas {
    /// None yet.
    pub fn new() -> Metas {
        Metas(Bounded::new(REMEMBERED.0, REMEMBERED.1))
    }

    /// Takes a metadata event; false if it is none.
    pub fn take(&mut self, source: Source<'_>, text: &str) -> bool {
        let Some((revision, fields)) = own::read_meta(text) else { return false };
        let key = key(source, revision);
        let bytes = key.len() + fields.len();
        self.0.put(key, fields.to_owned(), bytes);
        true
    }

    /// What was said under a revision.
    pub fn get(&mut self, source: Source<'_>, revision: &str) -> Option<String> {
        self.0.get(key(source, revision).as_str())
    }
}

impl Default for Metas {
    fn default() -> Metas {
        Metas::new()
    }
}

fn key(source: Source<'_>, revision: &str) -> String {
    // A group has no colon.
    format!("{}:{}:{revision}", source.owner, source.group)
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// It may be had later.
    Later(String),
    /// It may not be asked.
    Never(String),
}

/// Who asks CloudWatch.
#[derive(Debug, Default)]
pub struct Lookup {
    client: OnceCell<Client>,
}

impl Lookup {
    /// Looks for the metadata event of a revision, near the time of an event that refers to it. `None`: it is not there (yet:
    /// what was just put is found after some seconds).
    ///
    /// # Errors
    /// CloudWatch does not answer, or not us.
    pub async fn find(
        &self,
        aws: &SdkConfig,
        source: Source<'_>,
        (revision, millis): (&str, i64),
    ) -> Result<Option<String>, Unanswered> {
        let client = self.client.get_or_init(|| async { Client::new(aws) }).await;
        let mut token = None;
        for _ in 0..PAGES {
            let page = client
                .filter_log_events()
                .log_group_name(source.group)
                .log_stream_names(source.stream)
                .start_time(millis.saturating_sub(BEFORE).max(0))
                .end_time(millis.saturating_add(1))
                .filter_pattern(format!("\"{revision}\""))
                .set_next_token(token)
                .send();
            let Ok(page) = tokio::time::timeout(Duration::from_secs(30), page).await else {
                return Err(Unanswered::Later("CloudWatch does not answer FilterLogEvents".to_owned()));
            };
            let page = page.map_err(|error| {
                let code = error.code().unwrap_or_default().to_owned();
                let what = words::line(&format!(
                    "logs:FilterLogEvents on {}: {code} {}",
                    source.group,
                    words::innermost(&error)
                ));
                match code.as_str() {
                    "AccessDeniedException" | "ResourceNotFoundException" => Unanswered::Never(what),
                    _ => Unanswered::Later(what),
                }
            })?;
            let texts = page.events().iter().filter_map(|event| event.message());
            let found = texts.filter_map(own::read_meta).find(|(found, _)| *found == revision);
            if let Some((_, fields)) = found {
                return Ok(Some(fields.to_owned()));
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::template::fnv1a;

    #[test]
    fn metadata_as_large_as_it_may_be_is_remembered_within_the_bound_in_bytes() {
        let mut metas = Metas::new();
        let source = Source { owner: "123456789012", group: "/eks/a", stream: "s" };
        let meta = |number: usize| {
            let fields = format!(",\"n\":\"{number}{}\"}}", "x".repeat(60_000));
            let revision = format!("{:016x}", fnv1a(format!("{fields}\n").as_bytes()));
            (format!("{{\"taffrail\":{{\"meta\":\"{revision}\"}}{fields}"), revision)
        };
        let mut first = None;
        for number in 0..1_000 {
            let (text, revision) = meta(number);
            assert!(metas.take(source, &text), "it is metadata of ours");
            assert!(metas.get(source, &revision).is_some());
            first.get_or_insert(revision);
        }
        // 60 MB came in; at most twice 16 MiB stay, and the first is not among them.
        assert_eq!(metas.get(source, &first.unwrap()), None);
    }
}
