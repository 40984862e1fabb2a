//! One call's events on their way: each told apart, gathered into requests, and sent several at a time.
//!
//! In: records that were read. Out: what became of each record; and the events of ours that wait for their metadata. Never
//! waits for those.

use std::io;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Forwarder;
use super::bulk::Bulk;
use super::foreign::{self, Kind};
use super::own::{self, Own};
use super::record::{Event, Record};
use super::trust::{self, Source};
use crate::output::elasticsearch::Elasticsearch;
use crate::output::{Fate, Settled};

/// An event of ours that waits for its metadata.
pub(super) struct Waiting {
    pub record: usize,
    pub source: [String; 3],
    pub event: String,
    pub millis: i64,
    pub text: String,
    pub revision: String,
}

impl Waiting {
    pub fn source(&self) -> Source<'_> {
        let [owner, group, stream] = &self.source;
        Source { owner, group, stream }
    }
}

/// What is to be sent, and what is under way.
pub(super) struct Shipping<'f> {
    pub forwarder: &'f Forwarder,
    pub client: Arc<Elasticsearch>,
    pub bulk: Bulk,
    pub under_way: JoinSet<Settled>,
    pub fates: Vec<Fate>,
}

impl Shipping<'_> {
    /// Takes the events of a record; those of ours that lack their metadata wait.
    pub async fn take(&mut self, number: usize, record: &Record<'_>, waiting: &mut Vec<Waiting>) {
        let source = Source { owner: &record.owner, group: &record.log_group, stream: &record.log_stream };
        let forwarder = self.forwarder;
        let kind = Kind::of(source);
        let may_be_ours = forwarder.state().trust.may_be_ours(source);
        forwarder.stats.events.add(record.log_events.len() as u64);
        for event in &record.log_events {
            let text = &*event.message;
            if may_be_ours && self.take_own(number, source, event, waiting) {
                self.flush(false).await;
                continue;
            }
            self.push_foreign_of(number, source, kind, (event.id(), event.millis(), text), None);
            self.flush(false).await;
        }
    }

    /// Takes an event as one of ours, if it is.
    fn take_own(
        &mut self,
        number: usize,
        source: Source<'_>,
        event: &Event<'_>,
        waiting: &mut Vec<Waiting>,
    ) -> bool {
        let text = &*event.message;
        let forwarder = self.forwarder;
        if let Some((_, fields)) = own::read_meta(text) {
            let mut state = forwarder.state();
            // Whoever else writes what looks like it is to find it again.
            if state.trust.known(source, fields).is_none() {
                return false;
            }
            state.metas.take(source, text);
            forwarder.stats.metas.add(1);
            return true;
        }
        let Some(own) = own::read(text) else { return false };
        let Some(revision) = own.meta else { return self.push(number, source, &own, None) };
        let known = forwarder.state().metas.get(source, revision);
        match known {
            Some(fields) => self.push(number, source, &own, Some(&fields)),
            None => {
                waiting.push(Waiting {
                    record: number,
                    source: [source.owner, source.group, source.stream].map(str::to_owned),
                    event: event.id().to_owned(),
                    millis: event.millis(),
                    revision: revision.to_owned(),
                    text: text.to_owned(),
                });
                true
            }
        }
    }

    pub fn push_own(&mut self, number: usize, source: Source<'_>, text: &str, fields: Option<&str>) -> bool {
        own::read(text).is_some_and(|own| self.push(number, source, &own, fields))
    }

    /// Appends a document of ours, if it may come from there.
    fn push(&mut self, number: usize, source: Source<'_>, own: &Own<'_>, fields: Option<&str>) -> bool {
        let mut scratch = String::new();
        let Some(constant) = own.constant(fields, &mut scratch) else { return false };
        let Some(place) = self.forwarder.state().trust.place(source, constant, own.time) else {
            return false;
        };
        // Nobody else's document may hold what these do.
        if own.is_health && !place.is_health {
            return false;
        }
        self.forwarder.stats.own.add(1);
        let pushed = self.bulk.push(
            number,
            |out| place.append_target(out, own.time),
            own.id,
            |out| own.append_document(out, constant),
        );
        pushed.unwrap_or_else(|error| self.failed(number, &error));
        true
    }

    pub fn push_foreign(
        &mut self,
        number: usize,
        source: Source<'_>,
        event: (&str, i64, &str),
        unresolved: Option<&str>,
    ) {
        self.push_foreign_of(number, source, Kind::of(source), event, unresolved);
    }

    fn push_foreign_of(
        &mut self,
        number: usize,
        source: Source<'_>,
        kind: Kind,
        (event, millis, text): (&str, i64, &str),
        unresolved: Option<&str>,
    ) {
        let forwarder = self.forwarder;
        forwarder.stats.foreign.add(1);
        let pushed = self.bulk.push(
            number,
            |out| forwarder.foreign.append_to(out, &trust::date(&foreign::timestamp(millis))),
            &foreign::id(source, event),
            |out| foreign::append(out, source, kind, (millis, text), unresolved),
        );
        pushed.unwrap_or_else(|error| self.failed(number, &error));
    }

    pub fn failed(&mut self, number: usize, error: &io::Error) {
        self.forwarder.complain(&error.to_string());
        self.fates[number] = Fate::Parked;
    }

    /// Sends what has been gathered once it is enough, or in any case and then to the end.
    pub async fn flush(&mut self, end: bool) {
        let most = self.forwarder.output.reading.batch.bytes().min(self.client.batch_limit());
        if end || self.bulk.bytes() >= most {
            match self.bulk.seal() {
                Ok(None) => {}
                Ok(Some(sealed)) => {
                    while self.under_way.len() >= self.forwarder.output.in_flight {
                        self.settle().await;
                    }
                    let client = self.client.clone();
                    self.under_way.spawn(async move { client.deliver(sealed, None).await });
                }
                // Memory to memory: it does not fail.
                Err(error) => {
                    self.forwarder.complain(&error.to_string());
                    self.fates.fill(Fate::Parked);
                }
            }
        }
        while end && !self.under_way.is_empty() {
            self.settle().await;
        }
    }

    async fn settle(&mut self) {
        match self.under_way.join_next().await {
            Some(Ok(settled)) => {
                for (run, fate) in settled.runs.iter().filter(|(_, fate)| *fate != Fate::Acknowledged) {
                    self.fates[run.cursor as usize] = *fate;
                }
            }
            // It did not end well, whichever it was.
            Some(Err(_)) => self.fates.fill(Fate::Parked),
            None => {}
        }
    }
}
