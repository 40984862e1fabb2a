//! Events for CloudWatch: what a batch's body holds, one after the other, and where each goes.
//!
//! In: records and their container's plan. Out: for each record one event or, where it would be too large, several; the
//! names of their streams, and the metadata that compact events refer to. Every event is text, never empty, and within the
//! service's limit.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem::Finder;

use crate::config::EventFormat;
use crate::config::template::fnv1a;
use crate::read::{Marks, Record};
use crate::record::condition::member;
use crate::record::treatment::Body;
use crate::record::{self, Notes, time};
use crate::route::FilePlan;

/// PutLogEvents, "maximum batch size": each event counts with its text and so many bytes.
pub const OVERHEAD: usize = 26;

/// PutLogEvents, "each log event can be no larger than 1 MB": with its overhead it must also fit a batch, alone.
pub const EVENT_BYTES: usize = 1_048_576 - OVERHEAD;

/// Bytes that a record may have for this output: what is longer is split, or cut, where lines are read. The rest is room
/// for what a document adds.
pub const RECORD_BYTES: usize = 1_000_000;

/// What escaping has made too large is split in parts that fit whatever it does: six bytes for one at worst.
const PART_BYTES: usize = 140_000;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its time, in milliseconds since the epoch.
    pub time: i64,
    /// Where its text begins in the body.
    pub begin: u32,
    /// Bytes of its text.
    pub length: u32,
    /// The record that it is of, by its number in the batch.
    pub item: u32,
    /// Its stream, by its number in [`Events::targets`].
    pub target: u32,
    /// The metadata that it refers to, by its number in [`Events::metas`]; none in other formats than compact.
    pub meta: Option<u32>,
}

/// What a batch holds beside its body.
#[derive(Debug)]
pub struct Events {
    /// In the order of reading.
    pub list: Vec<Event>,
    /// `group:stream`, each once.
    pub targets: Vec<Arc<str>>,
    /// Metadata events, each once.
    pub metas: Vec<Arc<str>>,
    /// Records that had to be split.
    pub split: u32,
    target_numbers: HashMap<Arc<str>, u32>,
    /// The constant end of the documents that the last meta was made of, its number and its revision.
    meta_of: Vec<u8>,
    meta_number: u32,
    revision: String,
    scratch: Vec<u8>,
    emf: [Finder<'static>; 2],
}

impl Default for Events {
    fn default() -> Events {
        Events {
            list: Vec::new(),
            targets: Vec::new(),
            metas: Vec::new(),
            split: 0,
            target_numbers: HashMap::new(),
            meta_of: Vec::new(),
            meta_number: 0,
            revision: String::new(),
            scratch: Vec::new(),
            emf: [Finder::new(b"\"_aws\""), Finder::new(b"\"CloudWatchMetrics\"")],
        }
    }
}

impl Events {
    /// What the events count beside their texts.
    pub fn overhead(&self) -> u64 {
        (self.list.len() * OVERHEAD) as u64
    }

    /// The next batch's events; what was gathered is handed out.
    pub fn take(&mut self) -> Events {
        self.target_numbers.clear();
        // The next batch has its own metas.
        self.meta_of.clear();
        // It will have about as many, and need not grow to that by doubling.
        let next = Vec::with_capacity(self.list.len() + self.list.len() / 8);
        Events {
            list: std::mem::replace(&mut self.list, next),
            targets: std::mem::take(&mut self.targets),
            metas: std::mem::take(&mut self.metas),
            split: std::mem::take(&mut self.split),
            ..Events::default()
        }
    }

    /// Appends a record's event to the body.
    #[expect(clippy::too_many_arguments, reason = "what an event is made of")]
    pub(super) fn push(
        &mut self,
        out: &mut Vec<u8>,
        format: EventFormat,
        plan: FilePlan<'_>,
        id: &[u8],
        record: &Record<'_>,
        body: &Body<'_>,
        (text, written, item): (&[u8], &[u8], u32),
    ) {
        let target = self.target(plan, text);
        // What lines' readers have split or cut counts too, once.
        let part = record.marks.part;
        self.split += u32::from(part == 1 || (part == 0 && record.marks.original_length.is_some()));
        // The service goes by the time that the runtime wrote, whatever a program says of its own: what it takes as too old, and
        // the order within a stream, are then as without it.
        let millis = time::unix_nanos(written).unwrap_or(0).div_euclid(1_000_000).max(0);
        let mut event = Event { time: millis, begin: out.len() as u32, length: 0, item, target, meta: None };
        if format == EventFormat::Raw || self.is_emf(&body.content) {
            return self.push_raw(out, event, record.marks, &body.content);
        }
        if format == EventFormat::Compact {
            event.meta = Some(self.meta(plan));
        }
        self.append_document(out, plan, id, (text, written), record, body, format, 0);
        if out.len() - event.begin as usize <= EVENT_BYTES {
            return self.enter(out, event);
        }
        out.truncate(event.begin as usize);
        self.split += 1;
        for (part, content) in (1..).zip(parts(&body.content)) {
            let marks = Marks { original_length: Some(body.content.len() as u64), ..record.marks };
            let marks = if marks.part == 0 { Marks { part, ..marks } } else { marks };
            event.begin = out.len() as u32;
            let record = Record { content, marks, ..*record };
            self.append_document(out, plan, id, (text, written), &record, &body.part(content), format, part);
            self.enter(out, event);
        }
    }

    fn enter(&mut self, out: &[u8], event: Event) {
        self.list.push(Event { length: out.len() as u32 - event.begin, ..event });
    }

    /// The line as it stands, with a word behind it if it is a part of one.
    fn push_raw(&mut self, out: &mut Vec<u8>, mut event: Event, marks: Marks, content: &[u8]) {
        let text = record::readable(content);
        let marker = match (marks.part, marks.original_length) {
            (0, None) => String::new(),
            (0, Some(length)) => format!(" [taffrail: cut, of {length} bytes]"),
            (part, None) => format!(" [taffrail: part {part}]"),
            (part, Some(length)) => format!(" [taffrail: part {part}, the last, of {length} bytes]"),
        };
        if text.len() + marker.len() <= EVENT_BYTES {
            // An event cannot be empty, and an empty line is a line.
            let text = if text.is_empty() { " " } else { &text };
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(marker.as_bytes());
            return self.enter(out, event);
        }
        self.split += 1;
        for (part, piece) in (1..).zip(parts(text.as_bytes())) {
            event.begin = out.len() as u32;
            out.extend_from_slice(piece);
            out.extend_from_slice(format!("{marker} [taffrail: piece {part}]").as_bytes());
            self.enter(out, event);
        }
    }

    /// A document as the other outputs have it, with its id; compact without what is the same for its container; or in the
    /// names of Container Insights.
    #[expect(clippy::too_many_arguments, reason = "what a document is made of")]
    fn append_document(
        &self,
        out: &mut Vec<u8>,
        plan: FilePlan<'_>,
        id: &[u8],
        times: (&[u8], &[u8]),
        record: &Record<'_>,
        body: &Body<'_>,
        format: EventFormat,
        part: u32,
    ) {
        let notes = if format == EventFormat::Insights {
            let notes = append_insights(out, times.1, record, &body.content);
            body.append_given(out);
            notes
        } else {
            super::append_fields(out, times, body)
        };
        out.extend_from_slice(br#","taffrail":{"id":""#);
        super::append_id(out, id, record);
        if part > 0 {
            out.extend_from_slice(format!("-{part}").as_bytes());
        }
        out.push(b'"');
        if format == EventFormat::Compact {
            out.extend_from_slice(br#","meta":""#);
            out.extend_from_slice(self.revision.as_bytes());
            out.push(b'"');
        }
        if notes.are_marks() || record.marks != Marks::default() {
            out.push(b',');
            out.extend_from_slice(super::mark_members(&record.marks, notes).as_bytes());
        }
        out.push(b'}');
        match (format, record.stream) {
            (EventFormat::Compact, Some(stream)) => {
                out.extend_from_slice(br#","stream":""#);
                out.extend_from_slice(stream.as_str().as_bytes());
                out.extend_from_slice(b"\"}");
            }
            (EventFormat::Compact, None) => out.push(b'}'),
            (_, stream) => {
                plan.append_tail(out, stream);
                // It ends a line, and an event is none.
                out.truncate(out.len() - usize::from(out.ends_with(b"\n")));
            }
        }
    }

    /// The number of the stream that a record of this time goes to.
    fn target(&mut self, plan: FilePlan<'_>, text: &[u8]) -> u32 {
        self.scratch.clear();
        super::append_target(&mut self.scratch, plan, text);
        if let Some(last) = self.list.last().map(|event| event.target)
            && self.targets[last as usize].as_bytes() == self.scratch
        {
            return last;
        }
        // The template's own text and values that were made safe.
        let name = String::from_utf8_lossy(&self.scratch);
        if let Some(number) = self.target_numbers.get(&*name) {
            return *number;
        }
        let (name, number) = (Arc::<str>::from(&*name), self.targets.len() as u32);
        self.targets.push(name.clone());
        self.target_numbers.insert(name, number);
        number
    }

    /// The number of a container's metadata, which is made an event of its own.
    fn meta(&mut self, plan: FilePlan<'_>) -> u32 {
        if !plan.is_tail(&self.meta_of) {
            self.meta_of.clear();
            // A comma, the fields, a brace and a newline.
            plan.append_tail(&mut self.meta_of, None);
            self.revision = format!("{:016x}", fnv1a(&self.meta_of));
            let fields = String::from_utf8_lossy(&self.meta_of);
            let meta = format!("{{\"taffrail\":{{\"meta\":\"{}\"}}{}", self.revision, fields.trim_end());
            let known = self.metas.iter().position(|known| **known == meta);
            self.meta_number = known.unwrap_or_else(|| {
                self.metas.push(meta.into());
                self.metas.len() - 1
            }) as u32;
        }
        self.meta_number
    }

    /// Whether it is of the embedded metric format, which CloudWatch itself reads: where `_aws` is at the top. In what is
    /// left of a line of which fields were removed it is under `app`: that is a record like any other.
    fn is_emf(&self, content: &[u8]) -> bool {
        content.first() == Some(&b'{')
            && self.emf.iter().all(|name| name.find(content).is_some())
            && member(content, &["_aws"]).is_some()
    }
}

/// The beginning of a document in the names of Container Insights. A line without a stream, that is not one which a runtime
/// has broken, is a host file's: its documents have no time, for the event has it.
fn append_insights(out: &mut Vec<u8>, text: &[u8], record: &Record<'_>, content: &[u8]) -> Notes {
    out.push(b'{');
    if record.stream.is_none() && !record.marks.unframed {
        return record::insights::append_host_line(out, content);
    }
    out.extend_from_slice(br#""time":""#);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\",");
    record::insights::append_line(out, content)
}

/// The content in parts that fit an event whatever escaping makes of them, none of which ends within a character.
fn parts(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = content;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(PART_BYTES);
        // A character has at most three bytes behind its first.
        for _ in 0..3 {
            if end < rest.len() && rest[end] & 0xc0 == 0x80 {
                end -= 1;
            }
        }
        let (part, behind) = rest.split_at(end);
        rest = behind;
        Some(part)
    })
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
