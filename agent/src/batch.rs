//! Batches: records become the body of a request, with the span of each file that the body covers.
//!
//! In: records and their container's plan. Out: bytes, compressed on the way if so configured, and the [`Run`]s that an
//! acknowledgement of the whole will move positions over. Variable fields come first in a document, the constant
//! metadata last and contiguous. Knows nothing of HTTP.

pub mod body;
pub mod events;
pub mod gzip;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::config::{BulkOp, EventFormat};
use crate::position::Position;
use crate::read::{Marks, Record, Time};
use crate::record::fields::CREATED;
use crate::record::treatment::{Body, Written};
use crate::record::{self, Notes, time};
use crate::route::FilePlan;
use body::{RequestBody, append_action};
use events::Events;

/// Room that is kept for what routes make of a record's body.
const MOST_SCRATCH: usize = 256 << 10;

/// What records are turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Pairs of action and document for Elasticsearch's `_bulk`.
    Bulk {
        /// What is done with each.
        op: BulkOp,
        /// Each names its own `_id`.
        ids: bool,
    },
    /// One document a line.
    Lines,
    /// Events for CloudWatch.
    Events(EventFormat),
    /// One readable line a record.
    Text {
        /// With the terminal's colours.
        color: bool,
    },
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the batch.
    In,
    /// Its route does not send it.
    Filtered,
    /// It was not admitted.
    TurnedAway,
}

/// A stretch of one file within a batch: what a position moves over when the batch is acknowledged.
#[derive(Debug, Clone)]
pub struct Run {
    /// Which cursor it was read by (see the worker).
    pub cursor: u64,
    /// How often that cursor had been set back before: a run of an earlier epoch counts no more.
    pub epoch: u32,
    /// Its number among the runs of that cursor and epoch.
    pub number: u64,
    /// Where the reader stood before it.
    pub start: Position,
    /// Where it stood behind it.
    pub end: Position,
    /// Records in it.
    pub items: u32,
    /// Bytes of the log lines that these were made of.
    pub line_bytes: u64,
    /// When its first line was written, in nanoseconds since the epoch; 0 if it does not say.
    pub begun: i64,
    /// Whether an earlier attempt, or process, may have sent some of it: then "exists already" is no surprise.
    pub in_doubt: bool,
}

/// How far a batch had been filled at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    staged: usize,
    events: usize,
}

/// The part of the body that goes into one file.
#[derive(Debug)]
pub struct Segment {
    /// Path of the file.
    pub path: String,
    /// Where the part ends in the body.
    pub end: usize,
}

/// A batch that is being filled.
#[derive(Debug)]
pub struct Batch {
    format: Format,
    body: RequestBody,
    /// For what routes make of a record's body.
    scratch: Vec<u8>,
    /// The stretches it covers, in order of reading.
    pub runs: Vec<Run>,
    /// Parts by file, for an output that writes files.
    pub segments: Vec<Segment>,
    /// Parts by log stream, for an output to CloudWatch.
    pub events: Events,
    /// Records in it.
    pub items: u32,
    /// Bytes of the contents of those records that no run tells of yet.
    content_bytes: u64,
    /// When its first record came in.
    pub opened: Option<Instant>,
}

/// A batch that is closed.
#[derive(Debug)]
pub struct Sealed {
    /// The request's body.
    pub body: Vec<u8>,
    /// Whether the body is gzip.
    pub compressed: bool,
    /// Bytes of the body before compression.
    pub plain_bytes: u64,
    /// The stretches it covers.
    pub runs: Vec<Run>,
    /// Parts by file.
    pub segments: Vec<Segment>,
    /// Parts by log stream.
    pub events: Events,
    /// Records in it.
    pub items: u32,
}

impl Batch {
    /// An empty batch; `level` is that of gzip, or none.
    pub fn new(format: Format, level: Option<u32>) -> Batch {
        Batch {
            format,
            body: RequestBody::new(level),
            scratch: Vec::new(),
            runs: Vec::new(),
            segments: Vec::new(),
            events: Events::default(),
            items: 0,
            content_bytes: 0,
            opened: None,
        }
    }

    /// Bytes so far, before compression.
    pub fn plain_bytes(&self) -> u64 {
        self.body.plain_bytes() + self.events.overhead()
    }

    /// Whether it holds nothing, not even a run without records.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Appends a record, if its route sends it and then `admit` says so. `id` is the beginning of its `_id`: the file's
    /// key and a hyphen.
    #[inline]
    pub fn push(
        &mut self,
        plan: FilePlan<'_>,
        id: &[u8],
        record: &Record<'_>,
        admit: impl FnOnce(&Record<'_>) -> bool,
    ) -> Pushed {
        let Some(treatment) = plan.treatment() else {
            if !admit(record) {
                return Pushed::TurnedAway;
            }
            self.append(plan, id, record, &Body::plain(record.content));
            return Pushed::In;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let Marks { part, original_length, .. } = record.marks;
        let written = Written {
            content: record.content,
            stream: record.stream,
            time: record.time,
            place: (id, record.first, record.last),
            cut: (part > 1, (part > 0) != original_length.is_some()),
        };
        // Its lines have a stream only because all lines in a runtime's form have.
        let record = &Record { stream: record.stream.filter(|_| !treatment.own), ..*record };
        let pushed = match treatment.of(written, &mut scratch) {
            None => Pushed::Filtered,
            Some(_) if !admit(record) => Pushed::TurnedAway,
            Some(body) => {
                self.append(plan, id, record, &body);
                Pushed::In
            }
        };
        if scratch.capacity() <= MOST_SCRATCH {
            self.scratch = scratch;
        }
        pushed
    }

    #[cfg(test)]
    fn put(&mut self, plan: FilePlan<'_>, id: &[u8], record: &Record<'_>) {
        self.push(plan, id, record, |_| true);
    }

    fn append(&mut self, plan: FilePlan<'_>, id: &[u8], record: &Record<'_>, body: &Body<'_>) {
        self.items += 1;
        self.content_bytes += record.content.len() as u64;
        let (read_at, own);
        let written = match record.time {
            Time::Text(text) => text,
            Time::Nanos(nanos) => {
                read_at = time::format_nanos(nanos);
                read_at.as_bytes()
            }
        };
        // All that goes by a document's time goes by the one that it bears.
        let time = match body.time {
            None => written,
            Some(nanos) => {
                own = time::format_nanos(nanos);
                own.as_bytes()
            }
        };
        let out = self.body.staged();
        match self.format {
            Format::Bulk { op, ids } => {
                append_action(
                    out,
                    op,
                    |out| append_target(out, plan, time),
                    ids.then_some(|out: &mut Vec<u8>| append_id(out, id, record)),
                );
                let metadata = append_document(out, plan, (time, written), record, body);
                self.body.expect_repeat(metadata);
            }
            Format::Lines => {
                if plan.target().is_some() {
                    let mut path = Vec::new();
                    append_target(&mut path, plan, time);
                    let same = self.segments.last().is_some_and(|s| s.path.as_bytes() == path);
                    if !same {
                        // The template's own characters and values that were made safe: text.
                        let path = String::from_utf8_lossy(&path).into_owned();
                        self.segments.push(Segment { path, end: 0 });
                    }
                }
                append_document(out, plan, (time, written), record, body);
                if let Some(segment) = self.segments.last_mut() {
                    segment.end = out.len();
                }
            }
            Format::Events(format) => {
                self.events.push(out, format, plan, id, record, body, (time, written, self.items - 1));
            }
            Format::Text { color } => append_readable(out, plan, time, body, color),
        }
    }

    /// Bytes of the log lines of the `items` records that have come in since the last time: what programs wrote, with a newline
    /// each.
    pub fn take_line_bytes(&mut self, items: u32) -> u64 {
        std::mem::take(&mut self.content_bytes) + u64::from(items)
    }

    /// How far it is filled now.
    pub fn mark(&self) -> Mark {
        Mark { staged: self.body.fresh().len(), events: self.events.list.len() }
    }

    /// What has come in since the mark, which was made after the last [`fold`](Self::fold): lines, or the body so far
    /// with the events of it.
    pub fn made_since(&self, mark: Mark) -> (&[u8], &[events::Event]) {
        let begin = if let Format::Events(_) = self.format { 0 } else { mark.staged };
        (&self.body.fresh()[begin..], &self.events.list[mark.events..])
    }

    /// Compresses what has been staged: after each turn, while its bytes are still in the processor's cache.
    pub fn fold(&mut self) -> io::Result<()> {
        self.body.fold()
    }

    /// Closes the batch and begins the next, in `spare`'s memory.
    pub fn seal(&mut self, mut spare: Vec<u8>) -> io::Result<Sealed> {
        let plain_bytes = self.plain_bytes();
        spare.clear();
        let body = self.body.finish(spare)?;
        self.opened = None;
        Ok(Sealed {
            body,
            compressed: self.body.is_compressed(),
            plain_bytes,
            runs: std::mem::take(&mut self.runs),
            segments: std::mem::take(&mut self.segments),
            events: self.events.take(),
            items: std::mem::take(&mut self.items),
        })
    }
}

/// Each record of a body in this form, not compressed: to which index, log stream or file, and under which id, as far as the
/// body says, and its text.
pub fn each_record(
    format: Format,
    body: &[u8],
    (events, targets): (&[events::Event], &[Arc<str>]),
    segments: &[Segment],
    mut each: impl FnMut(Option<&str>, Option<&str>, &[u8]),
) {
    if let Format::Events(_) = format {
        for event in events {
            let text = &body[event.begin as usize..][..event.length as usize];
            each(Some(&targets[event.target as usize]), None, text);
        }
        return;
    }
    let mut begin = 0;
    let mut lines = body.split_inclusive(|byte| *byte == b'\n').filter_map(|line| {
        let at = begin;
        begin += line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        (!text.is_empty()).then_some((at, text))
    });
    if let Format::Bulk { .. } = format {
        while let (Some((_, action)), Some((_, text))) = (lines.next(), lines.next()) {
            let action: Value = serde_json::from_slice(action).unwrap_or_default();
            let of = |name: &str| action.as_object()?.values().next()?.get(name)?.as_str();
            each(of("_index"), of("_id"), text);
        }
    } else {
        for (at, text) in lines {
            let segment = segments.iter().find(|segment| segment.end > at);
            each(segment.map(|segment| &*segment.path), None, text);
        }
    }
}

fn append_id(out: &mut Vec<u8>, id: &[u8], record: &Record<'_>) {
    let mut numbers = itoa::Buffer::new();
    out.extend_from_slice(id);
    out.extend_from_slice(numbers.format(record.first).as_bytes());
    out.push(b'-');
    out.extend_from_slice(numbers.format(record.last).as_bytes());
}

fn append_target(out: &mut Vec<u8>, plan: FilePlan<'_>, time: &[u8]) {
    if let Some(target) = plan.target() {
        target.append_to(out, &time::utc_date(time).unwrap_or(*b"1970.01.01"));
    }
}

/// Returns where the container's metadata begins.
fn append_document(
    out: &mut Vec<u8>,
    plan: FilePlan<'_>,
    times: (&[u8], &[u8]),
    record: &Record<'_>,
    body: &Body<'_>,
) -> usize {
    let notes = append_fields(out, times, body);
    if notes.are_marks() || record.marks != Marks::default() {
        append_marks(out, &record.marks, notes);
    }
    let metadata = out.len();
    plan.append_tail(out, record.stream);
    metadata
}

/// The beginning of a document: its time, what is made of its body and, where the time is the program's own, the one that was
/// written beside the line.
#[inline]
fn append_fields(out: &mut Vec<u8>, (time, written): (&[u8], &[u8]), body: &Body<'_>) -> Notes {
    out.extend_from_slice(br#"{"@timestamp":""#);
    out.extend_from_slice(time);
    out.extend_from_slice(b"\",");
    let notes = body.append(out);
    if body.time.is_some() {
        out.extend_from_slice(format!(",\"{CREATED}\":\"").as_bytes());
        out.extend_from_slice(written);
        out.push(b'"');
    }
    notes
}

#[cold]
fn append_marks(out: &mut Vec<u8>, marks: &Marks, notes: Notes) {
    out.extend_from_slice(format!(r#","taffrail":{{{}}}"#, mark_members(marks, notes)).as_bytes());
}

/// What is unusual, as members of an object.
#[cold]
fn mark_members(marks: &Marks, notes: Notes) -> String {
    let mut members = Vec::new();
    if marks.unframed {
        members.push(r#""unframed":true"#.to_owned());
    }
    if marks.part > 0 {
        members.push(format!(r#""part":{}"#, marks.part));
    }
    if let Some(length) = marks.original_length {
        members.push(format!(r#""original_length":{length}"#));
    }
    if notes.invalid_utf8 {
        members.push(r#""invalid_utf8":true"#.to_owned());
    }
    if notes.utf16 {
        members.push(r#""encoding":"utf-16""#.to_owned());
    }
    if notes.truncated > 0 {
        members.push(format!(r#""truncated":{}"#, notes.truncated));
    }
    members.join(",")
}

/// `time container level content`, with what could move a terminal's cursor or change its state escaped.
fn append_readable(out: &mut Vec<u8>, plan: FilePlan<'_>, time: &[u8], body: &Body<'_>, color: bool) {
    // The level is found by the same rules as a document's.
    let begin = out.len();
    let notes = body.append(out);
    out.truncate(begin);
    let paint = |out: &mut Vec<u8>, colour: &str, text: &[u8]| {
        if color {
            out.extend_from_slice(colour.as_bytes());
        }
        out.extend_from_slice(text);
        if color {
            out.extend_from_slice(b"\x1b[0m");
        }
        out.push(b' ');
    };
    paint(out, "\x1b[2m", time);
    paint(out, "\x1b[36m", plan.label().as_bytes());
    if let Some(level) = notes.level {
        paint(out, level.colour(), level.as_str().to_uppercase().as_bytes());
    }
    for character in record::readable(&body.content).chars() {
        if character == '\t' || !character.is_control() {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.extend_from_slice(character.escape_default().to_string().as_bytes());
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
#[path = "batch/shaped_tests.rs"]
mod shaped_tests;

#[cfg(test)]
#[path = "batch/treated_tests.rs"]
mod treated_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::origin::{Container, HostLog, Origin};
    use crate::config::template::{Safe, Template};
    use crate::metadata::{Extent, NodeFacts};
    use crate::record::Stream;
    use crate::route::Plan;

    fn plan(target: &str, safe: Safe) -> Plan {
        let container =
            Container { namespace: "shop".into(), pod: "web-0".into(), uid: "u1".into(), name: "app".into() };
        let facts = NodeFacts { cluster: "prod".into(), node: "n1".into(), names: Default::default() };
        Plan::new(
            &facts,
            &Origin::Container(container),
            Extent::Path,
            Some((&Template::parse(target).unwrap(), safe)),
        )
    }

    fn record(content: &[u8]) -> Record<'_> {
        Record {
            time: Time::Text(b"2026-11-23T15:54:01.123456789Z"),
            stream: Some(Stream::Stderr),
            content,
            first: 100,
            last: 260,
            marks: Marks::default(),
        }
    }

    #[test]
    fn a_bulk_item_is_an_action_and_a_document() {
        let mut batch = Batch::new(Format::Bulk { op: BulkOp::Create, ids: true }, None);
        batch.put(
            plan("logs-{namespace}-{date}", Safe::Index).of_run(0),
            b"KEY-",
            &record(br#"{"msg":"hi","n":1}"#),
        );
        let body = batch.seal(Vec::new()).unwrap().body;
        let mut lines = body.split(|b| *b == b'\n');
        assert_eq!(
            lines.next().unwrap(),
            br#"{"create":{"_index":"logs-shop-2026.11.23","_id":"KEY-100-260"}}"#
        );
        let document: serde_json::Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
        assert_eq!(document["@timestamp"], "2026-11-23T15:54:01.123456789Z");
        assert_eq!(document["message"], "hi");
        assert_eq!(document["app"], serde_json::json!({ "n": 1 }));
        assert_eq!(document["stream"], "stderr");
        assert_eq!(document["kubernetes"]["pod"]["name"], "web-0");
        assert_eq!(lines.next(), Some(&b""[..]));
    }

    #[test]
    fn an_action_is_as_configured_and_names_an_id_or_none() {
        let template = Template::parse("logs-{label:team}-{label:tier}-{source}").unwrap();
        let host = HostLog {
            source: "system".into(),
            path: "/var/log/syslog".into(),
            labels: [("team".to_owned(), "A/b".to_owned())].into(),
        };
        let facts = NodeFacts { cluster: "prod".into(), node: "n1".into(), names: Default::default() };
        let target = Plan::new(&facts, &Origin::Host(host), Extent::Path, Some((&template, Safe::Index)));
        for (op, ids, action) in [
            (BulkOp::Create, false, r#"{"create":{"_index":"logs-a_b-none-system"}}"#),
            (BulkOp::Index, true, r#"{"index":{"_index":"logs-a_b-none-system","_id":"KEY-100-260"}}"#),
            (BulkOp::Index, false, r#"{"index":{"_index":"logs-a_b-none-system"}}"#),
        ] {
            let mut batch = Batch::new(Format::Bulk { op, ids }, None);
            batch.put(target.of_run(0), b"KEY-", &record(b"hi"));
            let body = String::from_utf8(batch.seal(Vec::new()).unwrap().body).unwrap();
            assert_eq!(body.lines().next(), Some(action));
        }
    }

    #[test]
    fn marks_are_told_under_taffrail() {
        let mut batch = Batch::new(Format::Lines, Some(1));
        let marks = Marks { unframed: true, part: 2, original_length: Some(9) };
        batch.put(
            plan("/x/{namespace}", Safe::Path).of_run(0),
            b"",
            &Record { marks, stream: None, ..record(b"\xff") },
        );
        let sealed = batch.seal(Vec::new()).unwrap();
        assert!(sealed.compressed);
        let document: serde_json::Value =
            serde_json::from_reader(flate2::read::GzDecoder::new(&sealed.body[..])).unwrap();
        assert_eq!(
            document["taffrail"],
            serde_json::json!({ "unframed": true, "part": 2, "original_length": 9, "invalid_utf8": true })
        );
        assert_eq!(document.get("stream"), None);
        assert_eq!(sealed.segments[0].path, "/x/shop");
    }

    #[test]
    fn a_text_in_utf16_is_told_and_nothing_else_is() {
        let mut batch = Batch::new(Format::Lines, None);
        batch.put(plan("/x", Safe::Path).of_run(0), b"", &record(b"\xff\xfeh\0i\0"));
        batch.put(plan("/x", Safe::Path).of_run(0), b"", &record(b"hi"));
        let body = batch.seal(Vec::new()).unwrap().body;
        let documents: Vec<serde_json::Value> =
            body.split_inclusive(|b| *b == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(documents[0]["message"], documents[1]["message"]);
        assert_eq!(documents[0]["taffrail"], serde_json::json!({ "encoding": "utf-16" }));
        assert_eq!(documents[1].get("taffrail"), None);
    }

    #[test]
    fn a_readable_line_cannot_steer_the_terminal() {
        let mut batch = Batch::new(Format::Text { color: false }, None);
        batch.put(plan("/x", Safe::Path).of_run(0), b"", &record(b"WARN \x1b[2Jgone\x07\rx\ty"));
        let body = String::from_utf8(batch.seal(Vec::new()).unwrap().body).unwrap();
        assert_eq!(
            body,
            "2026-11-23T15:54:01.123456789Z shop/web-0/app WARN WARN \\u{1b}[2Jgone\\u{7}\\rx\ty\n"
        );
    }
}
