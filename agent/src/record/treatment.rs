//! Treatment: what a route does with single records: which are sent, and in what form.
//!
//! In: what a program wrote, and the record's place. Out: the same, redacted, and its fields, shaped; or that it is not sent.
//! What decides whether a record is sent, and its time, is asked of what was written, with JSON under `app`, not of what
//! redaction and shaping leave of it. The same record is treated the same whenever it is read. Never sees what the agent
//! itself says of a record.

use std::borrow::Cow;

use super::condition::{Conditions, Subject, member};
use super::fields::text_of;
use super::json::{self, Scanner};
use super::multiline::Multiline;
use super::parse::Parser;
use super::redact::Redactor;
use super::shape::Shape;
use super::stamp::Stamp;
use super::{Json, Notes, Stream, append_body_as, time, utf16};
use crate::read::Time;

/// Where a long line was cut, a match may have been cut in two: what stands beside the cut is left out, so many bytes at
/// least, and up to the next space, but at most so many.
const BESIDE_CUT: (usize, usize) = (64, 4096);

/// Stands for what is left out beside a cut.
const CUT: &[u8] = b"[cut]";

/// What a route does with records.
#[derive(Debug, Default)]
pub struct Treatment {
    /// They are the agent's own, whole documents but for their times: nothing is done with them.
    pub own: bool,
    /// How lines are joined, before anything else.
    pub multiline: Option<Multiline>,
    /// Those that are sent; all, if nothing is said.
    pub keep: Option<Conditions>,
    /// Of these, those that are not.
    pub drop: Option<Conditions>,
    /// How much of the rest.
    pub sample: Option<Sample>,
    /// JSON stays the text that it is.
    pub as_text: bool,
    /// Members of JSON go to the top of the document, but for what has these names.
    pub merge: Option<Vec<String>>,
    /// What fields are made of text by.
    pub parser: Option<Parser>,
    /// What is replaced.
    pub redactor: Option<Redactor>,
    /// What is done with single fields.
    pub shape: Option<Shape>,
    /// Where records have times of their own.
    pub stamp: Option<Stamp>,
    /// Fields that every record is given.
    pub given: Option<Given>,
}

/// Fields that every record is given, as they stand in a document behind others.
#[derive(Debug, Default)]
pub struct Given {
    /// Those at the top, such as `,"labels.team":"shop"`. Those under `app` are the [`Shape`]'s to put there.
    pub top: Vec<u8>,
    /// All of them, for a document that has no `app`.
    pub all: Vec<u8>,
}

/// A share of the records, chosen by a hash: the same ones whenever they are read.
#[derive(Debug)]
pub struct Sample {
    /// Hashes below this are in.
    below: u64,
    /// Records of one value of this field are in or out together.
    by: Option<Vec<String>>,
}

/// A record as it is treated.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// What the program wrote.
    pub content: &'a [u8],
    /// Where to.
    pub stream: Option<Stream>,
    /// When, by the runtime, or when it was read.
    pub time: Time<'a>,
    /// Its file's key and its offsets: what its `_id` is made of.
    pub place: (&'a [u8], u64, u64),
    /// Whether it begins, and whether it ends, where a long line was cut.
    pub cut: (bool, bool),
}

/// What is to be sent of a record's body.
#[derive(Debug)]
pub struct Body<'a> {
    /// What the program wrote, but for what was redacted; where some of its fields were removed, hashed or cut, what is left.
    pub content: Cow<'a, [u8]>,
    /// When the program says that it wrote it, in nanoseconds since the epoch, if that is asked and can be told.
    pub time: Option<i64>,
    /// The fields made of it, where they were made already.
    fields: Option<(&'a [u8], Notes)>,
    json: Json<'a>,
    /// Fields to follow them.
    given: &'a [u8],
    /// The same, for a part of it.
    given_to_part: &'a [u8],
}

impl<'a> Body<'a> {
    /// What was written as it stands.
    pub fn plain(content: &'a [u8]) -> Body<'a> {
        let content = Cow::Borrowed(content);
        Body { content, time: None, fields: None, json: Json::Nest, given: b"", given_to_part: b"" }
    }

    /// A part of it, which is text.
    pub fn part(&self, content: &'a [u8]) -> Body<'a> {
        let given = self.given_to_part;
        Body { time: self.time, json: Json::Text, given, given_to_part: given, ..Body::plain(content) }
    }

    /// Appends its fields, as [`append_body`](super::append_body) does.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) -> Notes {
        let notes = match self.fields {
            Some((fields, notes)) => {
                out.extend_from_slice(fields);
                notes
            }
            None => append_body_as(out, &self.content, self.json),
        };
        out.extend_from_slice(self.given);
        notes
    }

    /// Appends what its route gives every record, behind other fields.
    pub fn append_given(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.given_to_part);
    }
}

impl Sample {
    /// This share, above 0 and up to 1, by records or by the values of a field.
    pub fn new(rate: f64, by: Option<Vec<String>>) -> Sample {
        // The share of all hashes; a cast saturates, and 1 takes them all but one.
        Sample { below: (rate * 2f64.powi(64)) as u64, by }
    }

    fn has(&self, parts: &[&[u8]]) -> bool {
        let bytes = parts.iter().flat_map(|part| part.iter());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        // FNV leaves the high bits, which decide, much the same where only the last bytes differ.
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33) <= self.below
    }

    fn has_place(&self, (key, first, last): (&[u8], u64, u64)) -> bool {
        self.has(&[key, &first.to_le_bytes(), &last.to_le_bytes()])
    }

    /// By the field's value, or, where it has none, by itself.
    fn has_record(&self, document: &[u8], path: &[String], record: &Written<'_>) -> bool {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match member(document, &path) {
            Some(value) => self.has(&[value]),
            None => self.has_place(record.place),
        }
    }
}

impl Treatment {
    /// Whether anything is done with a record once its lines are joined.
    pub fn is_of_records(&self) -> bool {
        self.own
            || self.keep.is_some()
            || self.drop.is_some()
            || self.sample.is_some()
            || self.as_text
            || self.merge.is_some()
            || self.parser.is_some()
            || self.redactor.is_some()
            || self.shape.is_some()
            || self.stamp.is_some()
            || self.given.is_some()
    }

    fn json(&self) -> Json<'_> {
        match &self.merge {
            Some(taken) => Json::Merge(taken),
            None if self.as_text => Json::Text,
            None => Json::Nest,
        }
    }

    /// What is to be sent of a record; `None` if it is not to be sent. `scratch` is for what is made of it on the way.
    pub fn of<'a>(&'a self, record: Written<'a>, scratch: &'a mut Vec<u8>) -> Option<Body<'a>> {
        if self.own {
            return Some(own(record.content));
        }
        let by = match &self.sample {
            Some(Sample { by: Some(path), .. }) => Some(path),
            // The cheapest question first: it is asked of nothing but the record's place.
            Some(sample) if !sample.has_place(record.place) => return None,
            _ => None,
        };
        let (json, mut notes, mut time) = (self.json(), None, None);
        if self.keep.is_some() || self.drop.is_some() || by.is_some() || self.stamp.is_some() {
            // What is asked of is nested, whatever is sent.
            let nested = if self.merge.is_some() { Json::Nest } else { json };
            let made = self.make(scratch, record.content, nested);
            let subject = Subject { document: scratch, level: made.level, stream: record.stream };
            let is_kept = self.keep.as_ref().is_none_or(|keep| keep.hold(subject, true))
                && !self.drop.as_ref().is_some_and(|drop| drop.hold(subject, false))
                && self.sample.as_ref().zip(by).is_none_or(|(s, by)| s.has_record(scratch, by, &record));
            if !is_kept {
                return None;
            }
            time = self.stamp.as_ref().and_then(|stamp| {
                let parsed = self.parser.as_ref().and_then(|parser| parser.time(record.content));
                stamp.of(scratch, self.merge.is_some(), parsed, nanos(record.time)?)
            });
            notes = Some(made).filter(|_| nested == json);
        }
        let mut content = self.redacted(&record);
        if let Cow::Owned(redacted) = &content {
            // Of what was replaced nothing may be left in what was made before; what the bytes were that the program wrote is
            // still to be told.
            let (utf16, invalid_utf8) = encoding(record.content);
            notes = Some(Notes { utf16, invalid_utf8, ..self.make(scratch, redacted, json) });
        } else if notes.is_none() && (self.parser.is_some() || self.shape.is_some()) {
            notes = Some(self.make(scratch, record.content, json));
        }
        if let (Some(shape), Some(notes)) = (&self.shape, &mut notes) {
            let mut shaped = Vec::with_capacity(scratch.len() + 64);
            shaped.push(b'{');
            let done = shape.apply(scratch, &mut shaped);
            *scratch = shaped;
            notes.truncated = done.truncated;
            if done.changed {
                // What goes out as it was written must not bear what was removed.
                content = Cow::Owned(as_written(scratch));
            }
        }
        let (given, given_to_part) = self.given.as_ref().map_or((&[][..], &[][..]), |g| (&g.top, &g.all));
        let fields = notes.map(|notes| (&scratch[1..], notes));
        Some(Body { content, time, fields, json, given, given_to_part })
    }

    /// Makes fields behind a brace.
    fn make(&self, scratch: &mut Vec<u8>, content: &[u8], json: Json<'_>) -> Notes {
        scratch.clear();
        scratch.push(b'{');
        let parsed = self.parser.as_ref().and_then(|parser| parser.append(scratch, content));
        parsed.unwrap_or_else(|| append_body_as(scratch, content, json))
    }

    fn redacted<'a>(&self, record: &Written<'a>) -> Cow<'a, [u8]> {
        let Some(redactor) = &self.redactor else { return Cow::Borrowed(record.content) };
        if record.cut == (false, false) {
            return redactor.apply(record.content);
        }
        let text = utf16::read(record.content);
        let content = without_cuts(text.as_ref().map_or(record.content, String::as_bytes), record.cut);
        let redacted = match redactor.apply(&content) {
            Cow::Owned(redacted) => Some(redacted),
            Cow::Borrowed(_) => None,
        };
        Cow::Owned(redacted.unwrap_or(content))
    }
}

/// The agent's own record: its members are those of the document. What a crash has left half written is text.
fn own(content: &[u8]) -> Body<'_> {
    let body = Body::plain(content);
    let object = std::str::from_utf8(content).ok().and_then(json::read);
    let inside = content.strip_prefix(b"{").and_then(|inside| inside.strip_suffix(b"}"));
    match (object, inside) {
        (Some(object), Some(inside)) if !inside.is_empty() => {
            let notes = Notes { json: true, level: object.level, ..Notes::default() };
            Body { fields: Some((inside, notes)), ..body }
        }
        _ => Body { json: Json::Text, ..body },
    }
}

/// The time of a record in nanoseconds since the epoch.
fn nanos(time: Time<'_>) -> Option<i64> {
    match time {
        Time::Text(text) => time::unix_nanos(text),
        Time::Nanos(nanos) => Some(nanos),
    }
}

/// What a program could have written to have these fields, of which the object is not closed: their message, if there is
/// nothing else but its level; or else all of them as JSON.
fn as_written(document: &[u8]) -> Vec<u8> {
    let (mut message, mut others) = (None, false);
    Scanner { bytes: document, repair: false }.members(|_, member| {
        match &document[member.name.0..member.name.1] {
            b"\"message\"" => message = Some(&document[member.value.0..member.value.1]),
            b"\"log\"" => {}
            _ => others = true,
        }
        others
    });
    match message {
        Some(message) if !others => text_of(message).into_owned().into_bytes(),
        _ => [document, b"}"].concat(),
    }
}

/// Whether it is UTF-16, and whether it is neither that nor UTF-8.
fn encoding(content: &[u8]) -> (bool, bool) {
    let utf16 = utf16::read(content).is_some();
    (utf16, !utf16 && std::str::from_utf8(content).is_err())
}

/// Without what stands beside the places where it was cut: at its beginning, and at its end.
fn without_cuts(content: &[u8], (begin, end): (bool, bool)) -> Vec<u8> {
    let (least, most) = BESIDE_CUT;
    let length = |beside: &mut dyn Iterator<Item = &u8>| {
        beside.take(most).enumerate().take_while(|(at, b)| *at < least || !b.is_ascii_whitespace()).count()
    };
    // No character is to be cut in two for it.
    let is_inner = |byte: Option<&u8>| byte.is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut from = if begin { length(&mut content.iter()) } else { 0 };
    while begin && is_inner(content.get(from)) {
        from += 1;
    }
    let rest = &content[from..];
    let mut to = if end { rest.len() - length(&mut rest.iter().rev()) } else { rest.len() };
    while to > 0 && is_inner(rest.get(to)) {
        to -= 1;
    }
    let mut out = Vec::with_capacity(to + 2 * CUT.len());
    out.extend_from_slice(if begin { CUT } else { b"" });
    out.extend_from_slice(&rest[..to]);
    out.extend_from_slice(if end { CUT } else { b"" });
    out
}

#[cfg(test)]
#[path = "treatment_tests.rs"]
mod tests;
