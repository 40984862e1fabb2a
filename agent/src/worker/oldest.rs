//! How old the oldest record is that is not acknowledged: what is at stake, as time.
//!
//! In: a container's files and how far they are acknowledged. Out: a time in its counters. The record's own time, where its
//! line begins with one: a few bytes are read for it, for containers that lag, when what is acknowledged has changed, and
//! not more often than every few seconds. Else the time since which the container lags, or its file was last written to,
//! whichever is longer ago. Never on a record's way.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::cursor::Cursor;
use super::{Reading, Worker};
use crate::catalog::file::{FileKey, LogFile, Source};
use crate::clock::unix_millis;
use crate::read::Framing;
use crate::record::time;

/// How often it is looked, at most.
const LOOK: Duration = Duration::from_secs(5);

/// More than a time takes at a line's beginning.
const TIME_BYTES: usize = 48;

/// What was found when it was looked last.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    /// Of which place.
    at: Option<(FileKey, u64)>,
    /// Since when there has been something unacknowledged, in milliseconds since the epoch.
    since: Option<u64>,
}

impl Worker {
    /// Tells it of every container that lags.
    pub(super) fn tell_oldest(&mut self) {
        let now = Instant::now();
        let is_due = self.oldest_looked.is_none_or(|looked| now.duration_since(looked) >= LOOK);
        let mut looked = false;
        for reading in &mut self.containers {
            if reading.stats.lag_bytes.get() == 0 || !reading.is_here() {
                reading.oldest = Oldest::default();
                reading.stats.oldest.set(0);
            } else if is_due {
                reading.look_for_oldest();
                looked = true;
            }
        }
        if looked {
            self.oldest_looked = Some(now);
        }
    }
}

impl Reading {
    fn look_for_oldest(&mut self) {
        let since = *self.oldest.since.get_or_insert_with(unix_millis);
        let cursor = self.cursors.iter().find(|cursor| cursor.lag() > 0);
        let oldest =
            cursor.map(|cursor: &Cursor| (&cursor.file, cursor.oldest())).or_else(|| self.shelf.oldest());
        let Some((file, offset)) = oldest else { return };
        let at = (file.key, offset);
        if self.oldest.at.replace(at) != Some(at) {
            let written = written_at(file, offset);
            let known = written.unwrap_or_else(|| file.modified().map_or(since, millis).min(since));
            self.stats.oldest.set(known.max(1));
        }
    }
}

/// When the record was written that begins there, if its line says so first.
fn written_at(file: &Arc<LogFile>, offset: u64) -> Option<u64> {
    // To inflate a file for this would cost more than it tells.
    if file.framing != Framing::Runtime || file.name.packed {
        return None;
    }
    let Ok(Source::Plain(opened)) = file.open() else { return None };
    let mut bytes = [0; TIME_BYTES];
    let read = opened.read_at(&mut bytes, offset).ok()?;
    let text = bytes[..read].split(|byte| *byte == b' ').next()?;
    u64::try_from(time::unix_nanos(text)? / 1_000_000).ok()
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
