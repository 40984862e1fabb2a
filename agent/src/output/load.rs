//! What one bulk request carries: a batch, or items taken out of one.
//!
//! In: a batch's body, as [`crate::batch`] wrote it. Out: its items, and new bodies of some of them, each of which knows
//! its place in the batch; and how large batches may be. Only what did not go well comes here; a batch that is taken is
//! never taken apart.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;

use super::dead_letter::{self, Letter};
use super::reply::Item;
use crate::config::BulkOp;

/// The body of a request.
#[derive(Debug)]
pub struct Load {
    /// The bytes to send.
    pub body: Bytes,
    /// Level of gzip that they are compressed with; `None` if they are not.
    pub level: Option<u32>,
    /// Items in it.
    pub items: u32,
    /// Its documents are in safe form: refused once more, they are refused for good.
    pub safe: bool,
    /// For each item its place in the batch; empty for a whole batch.
    places: Vec<u32>,
}

/// Batches are never made smaller than this for a server's refusals, which may have been a proxy's mistake; and it is the
/// least that a batch may be by the configuration. A record below it is too large for no server.
pub const LEAST: u64 = 64 << 10;

/// After so long without a refusal, batches may be twice as large again.
const GROWS_AFTER: Duration = Duration::from_secs(300);

/// Bytes that a batch may have before compression, as the server's refusals have taught.
#[derive(Debug)]
pub struct BatchLimit {
    most: u64,
    now: AtomicU64,
    changed: Mutex<Instant>,
}

/// One item taken out of a load.
#[derive(Debug)]
pub struct Taken {
    /// Its place in the batch.
    pub place: u32,
    /// Its first line: what to do, with the index and the `_id`.
    pub action: Vec<u8>,
    /// Its second line: the document.
    pub document: Vec<u8>,
}

/// An action line.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Create(Target),
    Index(Target),
}

/// Where an action's document goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// Its index or data stream.
    #[serde(rename = "_index")]
    pub index: String,
    /// Its `_id`, empty where the server makes it.
    #[serde(rename = "_id", default)]
    pub id: String,
}

impl Load {
    /// A whole batch.
    pub fn whole(body: Bytes, level: Option<u32>, items: u32) -> Load {
        Load { body, level, items, safe: false, places: Vec::new() }
    }

    /// The place in the batch of an item of this load.
    pub fn place(&self, item: u32) -> u32 {
        self.places.get(item as usize).copied().unwrap_or(item)
    }

    /// The body before compression.
    pub fn plain(&self) -> io::Result<Cow<'_, [u8]>> {
        if self.level.is_none() {
            return Ok(Cow::Borrowed(&self.body));
        }
        // A gzip member ends with the length of what it holds.
        let length = self.body.last_chunk().map_or(0, |end: &[u8; 4]| u32::from_le_bytes(*end));
        let mut plain = Vec::with_capacity(length as usize);
        GzDecoder::new(&self.body[..]).read_to_end(&mut plain)?;
        Ok(Cow::Owned(plain))
    }

    /// Items of this load, named in ascending order.
    pub fn take(&self, items: &[u32]) -> io::Result<Vec<Taken>> {
        let plain = self.plain()?;
        // Two lines an item.
        let mut begin = 0;
        let ends = memchr::memchr_iter(b'\n', &plain);
        let mut lines = ends.map(|end| &plain[std::mem::replace(&mut begin, end + 1)..=end]);
        let mut wanted = items.iter().copied().peekable();
        let mut taken = Vec::with_capacity(items.len());
        let mut index = 0;
        while let (Some(action), Some(document)) = (lines.next(), lines.next()) {
            if wanted.next_if_eq(&index).is_some() {
                let place = self.place(index);
                taken.push(Taken { place, action: action.to_vec(), document: document.to_vec() });
            }
            index += 1;
        }
        Ok(taken)
    }

    /// The load in two.
    pub fn halves(&self) -> io::Result<Vec<Load>> {
        let middle = self.items / 2;
        let half = |items: std::ops::Range<u32>| self.with(self.take(&items.collect::<Vec<_>>())?, self.safe);
        Ok(vec![half(0..middle)?, half(middle..self.items)?])
    }

    /// A load of these items, compressed as this one is.
    pub fn with(&self, items: Vec<Taken>, safe: bool) -> io::Result<Load> {
        let mut body = Vec::new();
        for item in &items {
            body.extend_from_slice(&item.action);
            body.extend_from_slice(&item.document);
        }
        if let Some(level) = self.level {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(&body)?;
            body = encoder.finish()?;
        }
        let places: Vec<u32> = items.iter().map(|item| item.place).collect();
        Ok(Load { body: body.into(), level: self.level, items: places.len() as u32, safe, places })
    }
}

impl BatchLimit {
    /// `most`, until the server refuses that much.
    pub fn new(most: u64) -> BatchLimit {
        BatchLimit { most, now: AtomicU64::new(most), changed: Mutex::new(Instant::now()) }
    }

    /// Bytes that a batch may have now.
    pub fn get(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The server took no request of so many bytes: batches to come are half as large.
    pub fn refused(&self, bytes: u64, at: Instant) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        *changed = at;
        self.now.fetch_min((bytes / 2).max(LEAST), Ordering::Relaxed);
    }

    /// The server took a request: after long enough, it may take larger ones again.
    pub fn taken(&self, at: Instant) {
        if self.get() >= self.most {
            return;
        }
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if at.saturating_duration_since(*changed) >= GROWS_AFTER {
            *changed = at;
            self.now.store(self.get().saturating_mul(2).min(self.most), Ordering::Relaxed);
        }
    }
}

impl Taken {
    /// What is done with its document, and where that goes.
    pub fn target(&self) -> io::Result<(BulkOp, Target)> {
        Ok(match serde_json::from_slice(&self.action)? {
            Action::Create(target) => (BulkOp::Create, target),
            Action::Index(target) => (BulkOp::Index, target),
        })
    }

    /// The dead letter of `output` for it, which was refused as `item` says.
    pub fn letter(&self, output: &str, item: Item) -> io::Result<Letter> {
        let (op, Target { index, id }) = self.target()?;
        Ok(Letter {
            time: dead_letter::now(),
            output: output.to_owned(),
            status: item.status,
            kind: item.kind,
            reason: item.reason,
            index,
            op,
            id,
            document: serde_json::from_slice(&self.document)?,
            meta: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_place_in_the_batch_however_often_they_are_taken_out() {
        let line = |n: u32| format!("{{\"create\":{{\"_index\":\"i\",\"_id\":\"{n}\"}}}}\n{{\"n\":{n}}}\n");
        for level in [None, Some(1)] {
            let plain = Load::whole(Bytes::new(), level, 0);
            let all = (0..5).map(|n| Taken {
                place: n,
                action: line(n).split_inclusive('\n').next().unwrap().into(),
                document: line(n).split_inclusive('\n').nth(1).unwrap().into(),
            });
            let whole = plain.with(all.collect(), false).unwrap();
            let some = whole.with(whole.take(&[1, 3, 4]).unwrap(), false).unwrap();
            let fewer = some.with(some.take(&[0, 2]).unwrap(), true).unwrap();
            assert_eq!((fewer.items, fewer.place(0), fewer.place(1)), (2, 1, 4));
            assert_eq!(fewer.plain().unwrap().to_vec(), (line(1) + &line(4)).into_bytes());
            let (op, target) = fewer.take(&[1]).unwrap()[0].target().unwrap();
            assert_eq!((op, target.index.as_str(), target.id.as_str()), (BulkOp::Create, "i", "4"));
            let halves = some.halves().unwrap();
            let places = halves.iter().map(|half| (0..half.items).map(|item| half.place(item)).collect());
            assert_eq!(places.collect::<Vec<Vec<u32>>>(), [vec![1], vec![3, 4]]);
        }
    }

    #[test]
    fn batches_become_smaller_to_a_bound_and_larger_again_in_time() {
        let (limit, start) = (BatchLimit::new(4 << 20), Instant::now());
        let minutes = |minutes: u64| start + Duration::from_secs(minutes * 60);
        limit.taken(minutes(60));
        assert_eq!(limit.get(), 4 << 20);
        for bytes in [4 << 20, 2 << 20, 3 << 20, 100_000, 300] {
            limit.refused(bytes, minutes(60));
        }
        assert_eq!(limit.get(), LEAST, "whoever refuses 300 bytes refuses everything");
        limit.taken(minutes(64));
        assert_eq!(limit.get(), LEAST);
        limit.taken(minutes(65));
        limit.taken(minutes(66));
        assert_eq!(limit.get(), 2 * LEAST, "once in five minutes");
        limit.refused(200_000, minutes(69));
        assert_eq!(limit.get(), 100_000);
        limit.taken(minutes(71));
        assert_eq!(limit.get(), 100_000, "five minutes after the last refusal");
        for minute in 74..120 {
            limit.taken(minutes(minute));
        }
        assert_eq!(limit.get(), 4 << 20, "as configured, and no larger");
    }

    #[test]
    fn a_letter_keeps_what_was_to_be_done_and_the_id_or_none() {
        for (action, op, id) in [
            (r#"{"create":{"_index":"i","_id":"a-1-2"}}"#, BulkOp::Create, "a-1-2"),
            (r#"{"index":{"_index":"i"}}"#, BulkOp::Index, ""),
        ] {
            let taken = Taken { place: 0, action: action.into(), document: br#"{"n":1}"#.to_vec() };
            let letter = taken.letter("search", Item { status: 400, ..Item::default() }).unwrap();
            let letter: Letter = serde_json::from_str(&serde_json::to_string(&letter).unwrap()).unwrap();
            assert_eq!((letter.op, letter.index.as_str(), letter.id.as_str()), (op, "i", id));
        }
    }
}
