//! Our own records: the text of an event, back to what the direct path would have sent.
//!
//! In: an event's text, as `format = "json"` or `"compact"` writes it (see [`crate::batch::events`]). Out: the pieces of the
//! direct path's document, byte for byte, and its `_id`; or that it is no such text. Whoever could write into the
//! group by other ways than the agent's would only have to imitate it: whose events are looked at here at all is for
//! [`super::trust`] to say. Never builds a tree.

use std::collections::BTreeSet;

use memchr::{memchr2, memmem};

use crate::catalog::file::FileKey;
use crate::config::template::fnv1a;
use crate::health::records;
use crate::record::json::Scanner;
use crate::record::{fields, time};

/// How a document of ours begins.
const BEGINNING: &str = r#"{"@timestamp":""#;

/// How the text of a metadata event begins.
const META: &str = r#"{"taffrail":{"meta":""#;

/// Metadata is hardly ever more than a few KiB, and is remembered: what is longer is a text like any other.
const META_BYTES: usize = 64 << 10;

/// The pieces of a record's event.
#[derive(Debug, PartialEq, Eq)]
pub struct Own<'a> {
    /// Its time, a whole RFC 3339 one.
    pub time: &'a str,
    /// The document from its brace to before its `taffrail`.
    pub head: &'a str,
    /// Whether that holds what of all records only the agent's own health records do: it is ours if the tail is one's.
    pub is_health: bool,
    /// Its `_id`.
    pub id: &'a str,
    /// The revision of the metadata that it lacks, in a compact event.
    pub meta: Option<&'a str>,
    /// What else is under `taffrail`, without a comma before it.
    pub marks: &'a str,
    /// From behind its `taffrail` to the end: a comma, the stream and what is constant, a brace; of a compact event only
    /// the stream, or nothing, and the brace.
    pub tail: &'a str,
}

/// Whether CloudWatch's embedded metric format could be in it: lines of it are passed on as programs wrote them, by every
/// format, so that they may imitate anything. A record in which a program wrote both names elsewhere is passed on so too, as a
/// foreign event: that is safe, and such records are rare.
fn may_be_verbatim(text: &str) -> bool {
    let holds = |name: &[u8]| memmem::find(text.as_bytes(), name).is_some();
    holds(br#""_aws""#) && holds(br#""CloudWatchMetrics""#)
}

/// Reads the event of a record.
pub fn read(text: &str) -> Option<Own<'_>> {
    if !text.starts_with(BEGINNING)
        || memchr2(b'\n', b'\r', text.as_bytes()).is_some()
        || may_be_verbatim(text)
    {
        return None;
    }
    let mut scanner = Scanner { bytes: text.as_bytes(), repair: false };
    // Each member at most once, in the one order that there is.
    let (mut rank, mut time, mut found) = (0, None, None);
    let mut others: BTreeSet<&str> = BTreeSet::new();
    let mut is_health = false;
    scanner.members(|_, member| {
        let name = &text[member.name.0 + 1..member.name.1 - 1];
        let value = member.value;
        let next = match name {
            "@timestamp" => 1,
            name if rank > 0 && is_of_health(name) => {
                is_health = true;
                return !others.insert(name);
            }
            // Its members have an order of their own.
            "message" | "log" if is_health => return !others.insert(name),
            "message" => 2,
            "log" => 3,
            "app" => 4,
            "taffrail" => 5,
            // What routes make of a line, or give it, stands before and behind `app`.
            name => {
                let follows = rank > 0 && is_of_route(name) && others.insert(name);
                return !follows;
            }
        };
        if next <= rank || (rank == 0 && next != 1) {
            return true;
        }
        rank = next;
        match next {
            1 => time = text.get(value.0 + 1..value.1 - 1),
            5 => found = Some((member.before, value)),
            _ => {}
        }
        next == 5
    });
    let (time, (before, value)) = (time?, found?);
    time::unix_nanos(time.as_bytes())?;
    let inside = text[before..value.1].strip_prefix(r#","taffrail":{"id":""#)?.strip_suffix('}')?;
    let (id, rest) = inside.split_once('"')?;
    let (meta, rest) = match rest.strip_prefix(r#","meta":""#) {
        Some(rest) => rest.split_once('"').map(|(meta, rest)| (Some(meta), rest))?,
        None => (None, rest),
    };
    let marks = if rest.is_empty() { "" } else { rest.strip_prefix(',')? };
    let legal = is_id(id)
        && meta.is_none_or(is_revision)
        && !marks.contains(r#""id""#)
        && !marks.contains(r#""meta""#);
    legal.then(|| Own { time, head: &text[..before], is_health, id, meta, marks, tail: &text[value.1..] })
}

/// Reads a metadata event: its revision, and the constant end of documents without its stream and the newline. The revision
/// is the hash of that end: another text cannot be passed off under it by mistake.
pub fn read_meta(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix(META)?;
    if text.len() > META_BYTES || memchr2(b'\n', b'\r', text.as_bytes()).is_some() || may_be_verbatim(text) {
        return None;
    }
    let (revision, rest) = rest.split_once('"')?;
    let fields = rest.strip_prefix('}')?;
    let hash = fnv1a(&[fields.as_bytes(), b"\n"].concat());
    (fields.starts_with(',') && fields.ends_with('}') && format!("{hash:016x}") == revision)
        .then_some((revision, fields))
}

/// Whether it is a name that a route may give to a field at the top of a document.
fn is_of_route(name: &str) -> bool {
    name == fields::CREATED || (fields::may_be_given(name) && !fields::is_within(name, "app"))
}

/// Whether it is a name that no document has before its `taffrail` but a health record.
fn is_of_health(name: &str) -> bool {
    [records::KUBERNETES, records::FIELD].contains(&name)
}

/// What an id of ours looks like: the key of a file, the first and last offset, for a part of a record its number.
fn is_id(id: &str) -> bool {
    let numbers = |text: &str| {
        (2..=3).contains(&text.split('-').count())
            && text.split('-').all(|number| {
                (1..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
            })
    };
    id.is_char_boundary(FileKey::TEXT_LEN)
        && id.len() > FileKey::TEXT_LEN
        && FileKey::parse(&id[..FileKey::TEXT_LEN]).is_some()
        && id[FileKey::TEXT_LEN..].strip_prefix('-').is_some_and(numbers)
}

fn is_revision(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Own<'_> {
    /// The constant end of its document, from the comma to the last brace, given what a compact event lacks of it. `None`
    /// if the two do not make one.
    pub fn constant<'t>(&'t self, fields: Option<&str>, scratch: &'t mut String) -> Option<&'t str> {
        let Some(fields) = fields else { return Some(self.tail) };
        scratch.clear();
        // Its stream, or nothing; then a brace.
        scratch.push_str(self.tail.strip_suffix('}')?);
        scratch.push_str(fields);
        Some(scratch)
    }

    /// Appends the direct path's document, with the newline that ends it.
    pub fn append_document(&self, out: &mut Vec<u8>, constant: &str) {
        out.extend_from_slice(self.head.as_bytes());
        if !self.marks.is_empty() {
            out.extend_from_slice(br#","taffrail":{"#);
            out.extend_from_slice(self.marks.as_bytes());
            out.push(b'}');
        }
        out.extend_from_slice(constant.as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
