//! Treatment: what a route does with single records: which are sent, and in what form.
//!
//! In: what a program wrote, and the record's place. Out: the same, redacted, and its fields; or that it is not sent. What
//! decides whether a record is sent is asked of what was written, not of what redaction leaves of it. The same record is
//! treated the same whenever it is read. Never sees what the agent itself says of a record.

use std::borrow::Cow;

use super::condition::{Conditions, Subject, member};
use super::multiline::Multiline;
use super::parse::Parser;
use super::redact::Redactor;
use super::{Notes, Stream, append_body, append_text, utf16};

/// Where a long line was cut, a match may have been cut in two: what stands beside the cut is left out, so many bytes at
/// least, and up to the next space, but at most so many.
const BESIDE_CUT: (usize, usize) = (64, 4096);

/// Stands for what is left out beside a cut.
const CUT: &[u8] = b"[cut]";

/// What a route does with records.
#[derive(Debug, Default)]
pub struct Treatment {
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
    /// What fields are made of text by.
    pub parser: Option<Parser>,
    /// What is replaced.
    pub redactor: Option<Redactor>,
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
    /// Its file's key and its offsets: what its `_id` is made of.
    pub place: (&'a [u8], u64, u64),
    /// Whether it begins, and whether it ends, where a long line was cut.
    pub cut: (bool, bool),
}

/// What is to be sent of a record's body.
#[derive(Debug)]
pub struct Body<'a> {
    /// What the program wrote, but for what was redacted.
    pub content: Cow<'a, [u8]>,
    /// The fields made of it, where they were made already.
    fields: Option<(&'a [u8], Notes)>,
    as_text: bool,
}

impl<'a> Body<'a> {
    /// What was written as it stands.
    pub fn plain(content: &'a [u8]) -> Body<'a> {
        Body { content: Cow::Borrowed(content), fields: None, as_text: false }
    }

    /// Appends its fields, as [`append_body`] does.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) -> Notes {
        match self.fields {
            Some((fields, notes)) => {
                out.extend_from_slice(fields);
                notes
            }
            None if self.as_text => append_text(out, &self.content),
            None => append_body(out, &self.content),
        }
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
        self.keep.is_some()
            || self.drop.is_some()
            || self.sample.is_some()
            || self.as_text
            || self.parser.is_some()
            || self.redactor.is_some()
    }

    /// What is to be sent of a record; `None` if it is not to be sent. `scratch` is for what is made of it on the way.
    pub fn of<'a>(&self, record: Written<'a>, scratch: &'a mut Vec<u8>) -> Option<Body<'a>> {
        let by = match &self.sample {
            Some(Sample { by: Some(path), .. }) => Some(path),
            // The cheapest question first: it is asked of nothing but the record's place.
            Some(sample) if !sample.has_place(record.place) => return None,
            _ => None,
        };
        let append = |out: &mut Vec<u8>, content: &[u8]| {
            let parsed = self.parser.as_ref().and_then(|parser| parser.append(out, content));
            let append = if self.as_text { append_text } else { append_body };
            parsed.unwrap_or_else(|| append(out, content))
        };
        let mut notes = None;
        if self.keep.is_some() || self.drop.is_some() || by.is_some() || self.parser.is_some() {
            scratch.clear();
            scratch.push(b'{');
            let made = append(scratch, record.content);
            let subject = Subject { document: scratch, level: made.level, stream: record.stream };
            let is_kept = self.keep.as_ref().is_none_or(|keep| keep.hold(subject, true))
                && !self.drop.as_ref().is_some_and(|drop| drop.hold(subject, false))
                && self.sample.as_ref().zip(by).is_none_or(|(s, by)| s.has_record(scratch, by, &record));
            if !is_kept {
                return None;
            }
            notes = Some(made);
        }
        let content = self.redacted(&record);
        // Of what was replaced nothing may be left in what was made before.
        let fields = notes.filter(|_| matches!(content, Cow::Borrowed(_)));
        Some(match fields {
            Some(notes) => Body { content, fields: Some((&scratch[1..], notes)), as_text: self.as_text },
            None if matches!(content, Cow::Owned(_)) => {
                scratch.clear();
                let notes = append(scratch, &content);
                // What the bytes were that the program wrote is still to be told.
                let (utf16, invalid_utf8) = encoding(record.content);
                let notes = Notes { utf16, invalid_utf8, ..notes };
                Body { content, fields: Some((scratch, notes)), as_text: self.as_text }
            }
            None => Body { content, fields: None, as_text: self.as_text },
        })
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
