//! One stream's share of a batch, on its way: cut into calls, one after the other, each until its end is known.
//!
//! In: events of one stream, sorted, and the end of the stream's earlier calls. Out: [`End`]: the runs that the service
//! does not take for now, and what was lost. A call that failed in a way that passes is made again with back-off, and after
//! some tries its stream is left alone, so that it holds up no other; one that is refused as a whole is made in halves, so
//! that one bad event stands in the way of no other.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aws_sdk_cloudwatchlogs::types::RejectedLogEventsInfo;
use bytes::Bytes;
use tokio::sync::{SemaphorePermit, oneshot};

use super::client::{Fault, is_identity};
use super::names::passing;
use super::{CloudWatch, Shipment, limits, lock, rejected, split};
use crate::batch::events::Event;
use crate::clock::unix_millis;
use crate::config::{EventFormat, Rejected};
use crate::output::Stop;
use crate::output::backoff::Backoff;
use crate::record::{escape, time};
use crate::stats::{Loss, LossReason};

/// Waits between tries: the first at most so long, doubled up to the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));

/// After so many tries throttling is told.
const THROTTLED: u32 = 4;

/// So many tries in a row fail, in some 15 seconds, before a stream is left alone for which nothing passes while other streams
/// are served.
const TRIES: u32 = 8;

/// The same where no other call was taken meanwhile, in some three minutes. It may be all of the service that fails, and then
/// there is nothing better to do; or it may be that others have no credit, since this stream holds all of it.
const TRIES_ALONE: u32 = 24;

/// So many single events are tried of a stream that takes none, before its containers wait.
const PROBES: u32 = 8;

/// What a raw line is given in front when it is sent with another time: brackets, thirty letters, a space.
const STAMP_BYTES: usize = 40;

/// What the request has for an event beside its text, at most.
const EVENT_JSON: usize = 48;

/// One stream's share of a batch.
#[derive(Debug)]
pub(super) struct Job {
    /// `group:stream`.
    pub target: Arc<str>,
    /// Its events among those of the shipment.
    pub events: Range<usize>,
    /// Resolved when the stream's earlier calls are done.
    pub before: Option<oneshot::Receiver<()>>,
    /// Dropped at the end, whatever it is, for the one behind.
    pub done: oneshot::Sender<()>,
}

/// What became of it; the numbers are those of runs.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Not taken for now.
    pub parked: BTreeSet<usize>,
    /// The agent stops.
    pub abandoned: BTreeSet<usize>,
    /// Lost for good.
    pub lost: Vec<(usize, LossReason, Loss)>,
}

/// Events for one call.
#[derive(Debug)]
struct Part {
    events: Vec<Event>,
    /// They are sent with the time now.
    restamped: bool,
}

/// How a call ended.
enum Outcome {
    Taken(Option<RejectedLogEventsInfo>),
    /// Not for now.
    Parked,
    /// The service will never take it as it is.
    Refused(String),
    Stopped,
}

impl CloudWatch {
    /// Sends a stream's share of a batch, once the share before it is done and there is room for a call. Shares wait by the
    /// thousand: what they need for more than that is on the heap, and made then.
    pub(super) async fn send(self: Arc<CloudWatch>, shipment: Arc<Shipment>, mut job: Job) -> End {
        if let Some(before) = job.before.take() {
            // An error is an end too.
            let _ = before.await;
        }
        let room = self.room().await;
        Box::pin(self.carry(&shipment, job, room)).await
    }

    /// Room for one call.
    async fn room(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.calls.acquire().await.ok()
    }

    /// Sends it, the first call in this room.
    async fn carry<'r>(
        &'r self,
        shipment: &Shipment,
        job: Job,
        mut room: Option<SemaphorePermit<'r>>,
    ) -> End {
        let mut end = End::default();
        let mut events = shipment.events.list[job.events.clone()].to_vec();
        events.retain(|event| {
            let run = shipment.run(event);
            let barred = shipment.barred.has(&shipment.runs[run]);
            if barred {
                end.parked.insert(run);
            }
            !barred
        });
        let mut parts = self.parts(shipment, events, false);
        let (mut accepted, mut suspects) = (false, Vec::new());
        // Refused as a whole, behind an event that was refused alone, while nothing was taken. It may be the stream: cut into
        // single events, a batch of thousands would cost thousands of calls to learn that.
        let mut whole: Vec<Part> = Vec::new();
        let mut probes = PROBES;
        while let Some(part) =
            parts.pop_front().or_else(|| probe(&mut whole, &mut probes).filter(|_| !accepted))
        {
            match self.call(shipment, &job.target, &part, accepted, room.take()).await {
                Outcome::Taken(info) => {
                    accepted = true;
                    // It is not the stream: the events that are refused are looked for.
                    whole.drain(..).rev().for_each(|part| halve(part, &mut parts));
                    let again = self.take_in(shipment, &job.target, &part, info, &mut end).await;
                    parts.extend(self.parts(shipment, again, true));
                }
                Outcome::Refused(what) if part.events.len() > 1 => {
                    self.tell_trouble(&what);
                    if accepted || suspects.is_empty() {
                        halve(part, &mut parts);
                    } else {
                        whole.push(part);
                    }
                }
                Outcome::Refused(what) => {
                    suspects.extend(part.events.into_iter().map(|event| (event, what.clone())))
                }
                stuck @ (Outcome::Parked | Outcome::Stopped) => {
                    let rest = [&part].into_iter().chain(&parts).chain(&whole).flat_map(|part| &part.events);
                    let rest = rest.chain(suspects.iter().map(|(event, _)| event));
                    if matches!(stuck, Outcome::Parked) {
                        rest.for_each(|event| end.park(shipment, event));
                    } else {
                        end.abandoned.extend(rest.map(|event| shipment.run(event)));
                    }
                    return end;
                }
            }
        }
        for (event, what) in suspects {
            if accepted {
                // Others of its stream were taken: it is the event.
                if !self.keep(shipment, &job.target, &event, "refused", &what).await {
                    end.abandoned.insert(shipment.run(&event));
                }
            } else {
                self.stats.fail(&what);
                end.park(shipment, &event);
            }
        }
        whole.iter().flat_map(|part| &part.events).for_each(|event| end.park(shipment, event));
        // The one behind begins.
        drop(job.done);
        end
    }

    fn parts(&self, shipment: &Shipment, mut events: Vec<Event>, restamped: bool) -> VecDeque<Part> {
        let metas: Vec<usize> = shipment.events.metas.iter().map(|meta| meta.len()).collect();
        let calls = limits::cut(&events, if restamped { STAMP_BYTES } else { 0 }, &metas);
        let mut parts = VecDeque::with_capacity(calls.len());
        // From the end, so that the first, which mostly is the only one, stays where it is.
        for call in calls.into_iter().rev() {
            parts.push_front(Part { events: events.split_off(call.start), restamped });
        }
        parts
    }

    /// Makes a call until its end is known, or the stream is left alone. `begun`: something of the share has been taken before.
    /// `room`: for the first try.
    async fn call<'r>(
        &'r self,
        shipment: &Shipment,
        target: &Arc<str>,
        part: &Part,
        begun: bool,
        mut room: Option<SemaphorePermit<'r>>,
    ) -> Outcome {
        let (group, stream) = split(target);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        // What has been taken, or may have been, would stand twice if it were given up.
        let mut sent = begun;
        let before = self.signs();
        // Failures since each of which there was a sign: while nobody answers, a call waits for as long as it takes.
        let (mut last, mut vain) = (before, 0);
        // It has been left alone, and nothing has passed since: one try shows whether it is well.
        let left = lock(&self.denied).contains_key(target);
        let mut made = false;
        loop {
            if self.is_denied(target) {
                return Outcome::Parked;
            }
            let Some(attempt) = self.unless_stopped(self.attempt(shipment, target, part, room.take())).await
            else {
                return Outcome::Stopped;
            };
            let mut fault = match attempt {
                Ok(info) => {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                    self.tell_recovery();
                    self.allow(target);
                    return Outcome::Taken(info);
                }
                Err(fault) => fault,
            };
            let mut action = "logs:PutLogEvents";
            if fault == Fault::Missing {
                action = "logs:CreateLogStream";
                let making = self.names.make(&self.service, group, stream);
                match self.unless_stopped(making).await {
                    None => return Outcome::Stopped,
                    Some(Ok(())) if !made => {
                        made = true;
                        continue;
                    }
                    // It was there already, or was made, and still is not there.
                    Some(Ok(())) => {}
                    // What cannot be made can take no event.
                    Some(Err(Fault::Refused(what))) => {
                        self.leave_alone(target, &what);
                        return Outcome::Parked;
                    }
                    Some(Err(other)) => fault = other,
                }
            }
            // A throttled call says nothing of its stream.
            let left = left && matches!(fault, Fault::Passing { .. });
            // Throttling is part of the trade, until it lasts.
            let usual = matches!(fault, Fault::Throttled(_)) && backoff.tries() < THROTTLED;
            let what = match fault {
                Fault::Denied(what) => {
                    self.deny(target, action, &what);
                    return Outcome::Parked;
                }
                Fault::Refused(what) => return Outcome::Refused(what),
                Fault::Throttled(what) => {
                    // What makes streams has a pace of its own: others are sent no slower for it.
                    if action == "logs:PutLogEvents" {
                        lock(&self.pace).throttled(Instant::now());
                    }
                    self.stats.fail(&what);
                    what
                }
                Fault::Passing { what, in_doubt } => {
                    self.stats.auth_failures.add(is_identity(&what).into());
                    if in_doubt {
                        sent = true;
                        self.stats.in_doubt.add(part.events.len() as u64);
                    }
                    what
                }
                Fault::Missing | Fault::Exists => {
                    format!("the service says of {target} that it is there, and is not")
                }
            };
            if !usual {
                self.tell_trouble(&what);
            }
            let signs = self.signs();
            vain += u32::from(signs != last);
            last = signs;
            if vain >= self.patience(before, begun, left) {
                self.give_way(target, &what);
                return Outcome::Parked;
            }
            self.stats.retries.add(1);
            let mut stop = self.stop.clone();
            tokio::select! {
                () = tokio::time::sleep(backoff.next(None)) => {}
                _ = stop.wait_for(|stop| *stop == Stop::Now || (!sent && *stop == Stop::Unsent)) => return Outcome::Stopped,
            }
        }
    }

    /// Signs that the service is there: calls that it has taken, and calls that it has answered otherwise.
    fn signs(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.service.answered())
    }

    /// How many tries of a call may fail, since which there were these signs `before`, until its stream is left alone.
    fn patience(&self, before: (u64, u64), begun: bool, left: bool) -> u32 {
        let (taken, answered) = self.signs();
        let tries = if (taken, answered) == before {
            // Nobody is there, for any stream.
            return u32::MAX;
        } else if left {
            1
        } else if taken != before.0 {
            TRIES
        } else {
            TRIES_ALONE
        };
        // What was taken of the run in which the call begins is sent once more if that is parked: so rather later.
        if begun { 2 * tries } else { tries }
    }

    /// Makes a call once, in this room or when there is some.
    async fn attempt<'r>(
        &'r self,
        shipment: &Shipment,
        target: &str,
        part: &Part,
        room: Option<SemaphorePermit<'r>>,
    ) -> Result<Option<RejectedLogEventsInfo>, Fault> {
        let _room = match room {
            Some(room) => Some(room),
            None => self.room().await,
        };
        let wait = lock(&self.pace).take(Instant::now());
        tokio::time::sleep(wait).await;
        let (client, _) = passing(self.service.client().await)?;
        let (body, bytes) = self.request(shipment, target, part);
        let (group, stream) = split(target);
        let call = client.put_log_events().log_group_name(group).log_stream_name(stream);
        // The events as the SDK takes them would be a text each, and then the request beside them: with a thousand streams
        // that alone was 20 MiB (2026-11). What it makes of none is replaced, before it is signed.
        let call = call.set_log_events(Some(Vec::new())).customize().mutate_request(move |request| {
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = body.clone().into();
        });
        // All that the SDK needs for a call is 30 KiB: on the heap while the call lasts.
        match Box::pin(call.send()).await {
            Ok(reply) => {
                lock(&self.pace).passed();
                self.stats.requests.add(1);
                self.stats.sent_bytes.add(bytes);
                Ok(reply.rejected_log_events_info)
            }
            Err(error) => Err(self.service.fault(error).await),
        }
    }

    /// The request, and the bytes of its events' texts.
    fn request(&self, shipment: &Shipment, target: &str, part: &Part) -> (Bytes, u64) {
        let texts: usize = part.events.iter().map(|event| event.length as usize + EVENT_JSON).sum();
        // An eighth for escapes, so that it need not grow by doubling.
        let mut request = Request::new(target, texts + texts / 8);
        let mut known = BTreeSet::new();
        let now = part.restamped.then(|| unix_millis() as i64);
        for event in &part.events {
            let at = now.unwrap_or(event.time);
            if let Some(meta) = event.meta.filter(|meta| known.insert(*meta)) {
                request.push(at, &shipment.events.metas[meta as usize]);
            }
            let text = shipment.text(event);
            match now {
                Some(_) => request.push(at, &self.restamped(event.time, text)),
                None => request.push(at, text),
            }
        }
        request.finish()
    }

    /// A text that is sent with another time: a raw line says its own; documents, and what is read as metrics, do anyway.
    fn restamped<'t>(&self, millis: i64, text: &'t str) -> Cow<'t, str> {
        if self.format != EventFormat::Raw || (text.starts_with('{') && text.contains("\"_aws\"")) {
            return text.into();
        }
        format!("[{}] {text}", time::format_nanos(millis.saturating_mul(1_000_000))).into()
    }

    /// Enters what became of a call's events; returns those that are to be sent with the time now.
    async fn take_in(
        &self,
        shipment: &Shipment,
        target: &str,
        part: &Part,
        info: Option<RejectedLogEventsInfo>,
        end: &mut End,
    ) -> Vec<Event> {
        let mut again = Vec::new();
        let (mut place, mut delivered, mut last) = (0, 0, None);
        let mut known = BTreeSet::new();
        for event in &part.events {
            // In the call its metadata stands before it.
            place += usize::from(event.meta.is_some_and(|meta| known.insert(meta)));
            let reason = info.as_ref().and_then(|info| rejected::reason(info, place));
            place += 1;
            let Some(reason) = reason else {
                delivered += u64::from(last.replace(event.item) != Some(event.item));
                continue;
            };
            self.stats.fail(rejected::told(reason));
            match self.rejected {
                Rejected::Now if !part.restamped => {
                    self.tell_rejected(reason);
                    again.push(*event);
                }
                Rejected::DeadLetter => {
                    self.tell_rejected(reason);
                    let (kind, why) = (reason.as_str(), rejected::told(reason));
                    if !self.keep(shipment, target, event, kind, why).await {
                        end.abandoned.insert(shipment.run(event));
                    }
                }
                Rejected::Drop | Rejected::Now => {
                    let loss = Loss { records: 1, bytes: event.length.into() };
                    end.lost.push((shipment.run(event), reason, loss));
                }
            }
        }
        if part.restamped {
            self.stats.restamped.add(delivered);
        }
        self.stats.records_delivered.add(delivered);
        again
    }

    /// Keeps an event as a dead letter. It is on disk when this returns true; else the agent stops.
    async fn keep(&self, shipment: &Shipment, target: &str, event: &Event, kind: &str, why: &str) -> bool {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let mut letter =
                rejected::letter(&self.name, target, kind, why, event.time, shipment.text(event));
            letter.meta = event.meta.map(|meta| shipment.events.metas[meta as usize].to_string());
            match self.dead_letters.keep(vec![letter]).await {
                Ok(dropped) => {
                    self.stats.dead_letters_dropped.add(dropped);
                    self.stats.refused.add(1);
                    return true;
                }
                Err(error) => self.tell_trouble(&format!("cannot write dead letters: {error}")),
            }
            if self.unless_stopped(tokio::time::sleep(backoff.next(None))).await.is_none() {
                return false;
            }
        }
    }

    /// What `future` gives; `None` if the agent stops before.
    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.clone();
        tokio::select! {
            given = future => Some(given),
            _ = stop.wait_for(|stop| *stop == Stop::Now) => None,
        }
    }
}

impl End {
    /// An event is not taken for now: its run is read again.
    fn park(&mut self, shipment: &Shipment, event: &Event) {
        let run = shipment.run(event);
        shipment.barred.add(&shipment.runs[run]);
        self.parked.insert(run);
    }
}

/// One event out of the largest part that was refused as a whole: where it is taken, it is not the stream that is refused.
fn probe(whole: &mut Vec<Part>, probes: &mut u32) -> Option<Part> {
    *probes = probes.checked_sub(1)?;
    let part = whole.iter_mut().max_by_key(|part| part.events.len())?;
    let event = part.events.remove(part.events.len() / 2);
    let probe = Part { events: vec![event], restamped: part.restamped };
    whole.retain(|part| !part.events.is_empty());
    Some(probe)
}

/// Puts a part in front again, in two.
fn halve(part: Part, parts: &mut VecDeque<Part>) {
    let Part { mut events, restamped } = part;
    let rest = events.split_off(events.len() / 2);
    parts.push_front(Part { events: rest, restamped });
    parts.push_front(Part { events, restamped });
}

/// A PutLogEvents request that is being written: JSON, as the service's API reference has it.
struct Request {
    json: Vec<u8>,
    /// Of the events' texts.
    bytes: u64,
}

impl Request {
    /// Without events yet, which will take about `room` bytes.
    fn new(target: &str, room: usize) -> Request {
        let (group, stream) = split(target);
        let mut json = Vec::with_capacity(room + target.len() + EVENT_JSON);
        json.extend_from_slice(br#"{"logGroupName":""#);
        escape::append_str(&mut json, group);
        json.extend_from_slice(br#"","logStreamName":""#);
        escape::append_str(&mut json, stream);
        json.extend_from_slice(br#"","logEvents":["#);
        Request { json, bytes: 0 }
    }

    fn push(&mut self, at: i64, text: &str) {
        if !self.json.ends_with(b"[") {
            self.json.push(b',');
        }
        self.json.extend_from_slice(br#"{"timestamp":"#);
        self.json.extend_from_slice(itoa::Buffer::new().format(at).as_bytes());
        self.json.extend_from_slice(br#","message":""#);
        escape::append_str(&mut self.json, text);
        self.json.extend_from_slice(b"\"}");
        self.bytes += text.len() as u64;
    }

    fn finish(mut self) -> (Bytes, u64) {
        self.json.extend_from_slice(b"]}");
        (self.json.into(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CloudWatchConfig;
    use crate::output::dead_letter::DeadLetters;
    use crate::stats::OutputStats;

    #[test]
    fn a_request_is_what_the_service_reads_whatever_is_in_the_texts() {
        let mut request = Request::new("/eks/a\"b:s", 0);
        let texts = ["plain", "a \"quote\", a \\ and\na\u{1}line", "🚢 \u{2028}", "[", "{\"a\":[1]}"];
        for (at, text) in (-1..).zip(texts) {
            request.push(at, text);
        }
        let (json, bytes) = request.finish();
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let events: Vec<_> = (-1..)
            .zip(texts)
            .map(|(at, text): (i64, _)| serde_json::json!({ "timestamp": at, "message": text }))
            .collect();
        let wanted =
            serde_json::json!({ "logGroupName": "/eks/a\"b", "logStreamName": "s", "logEvents": events });
        assert_eq!(read, wanted);
        assert_eq!(bytes as usize, texts.iter().map(|text| text.len()).sum::<usize>());
    }

    fn client() -> CloudWatch {
        let stats = Arc::new(OutputStats::default());
        let letters =
            DeadLetters::new(std::path::Path::new("/nowhere"), "cw", crate::config::ByteSize::mib(1));
        let (_stopping, stop) = tokio::sync::watch::channel(Stop::No);
        CloudWatch::new("cw", &CloudWatchConfig::default(), letters, stats, stop)
    }

    #[test]
    fn a_stream_is_left_alone_where_others_are_served_and_waited_for_where_nobody_is() {
        let client = client();
        let before = client.signs();
        for (begun, left) in [(false, false), (true, false), (false, true)] {
            assert_eq!(client.patience(before, begun, left), u32::MAX);
        }
        client.taken.fetch_add(1, Ordering::Relaxed);
        assert_eq!(client.patience(before, false, false), TRIES);
        assert_eq!(client.patience(before, true, false), 2 * TRIES);
        assert_eq!(client.patience(before, false, true), 1);
        assert_eq!(client.patience(client.signs(), false, false), u32::MAX);
    }

    #[test]
    fn shares_that_wait_by_the_thousand_are_small() {
        let client = Arc::new(client());
        let shipment = Arc::new(Shipment {
            body: Vec::new(),
            events: Default::default(),
            runs: Vec::new(),
            ends: Vec::new(),
            barred: Arc::default(),
        });
        let job = || Job { target: "g:s".into(), events: 0..0, before: None, done: oneshot::channel().0 };
        // For its turn, and for its stream to be made.
        assert!(size_of_val(&client.clone().send(shipment.clone(), job())) < 512);
        let waiting = size_of_val(&client.carry(&shipment, job(), None));
        assert!(waiting < 4096, "{waiting}");
    }
}
