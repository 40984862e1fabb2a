//! The end of records in the next file: kubelet rotates a log wherever it is.
//!
//! In: records that are open at the end of a file, and the file after it. Out: those that end there, as records of the first
//! file, and how far into the next one they go. What they end by depends on the bytes of both files alone, never on how much
//! of the next one has been written when it is looked at: then they stay open. Never looks into a third file.

use std::io;
use std::ops::ControlFlow;

use memchr::memchr_iter;

use super::lines::{Joined, Lines, unescape};
use super::{Record, TURN};
use crate::position::{Lane, OpenGroup, Position};
use crate::record::{cri, docker};

/// How far into the next file the end of a record is looked for: what has not ended by then ends with its own file.
const FOLLOWED: u64 = 1 << 20;

impl Lines<'_> {
    /// Reads on in the next file, as far as the open records go on there. Those whose end does not come stay as they were.
    pub(super) fn follow(
        &mut self,
        at: &mut Position,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.own_size = at.offset;
        let begun = at.open;
        let followed = self.follow_from(at, begun, emit);
        if followed.is_err() {
            // What has not ended is looked for again.
            for lane in [Lane::Stdout, Lane::Stderr].map(|lane| lane as usize) {
                at.open[lane] = at.open[lane].and(begun[lane]);
            }
        }
        followed
    }

    fn follow_from(
        &mut self,
        at: &mut Position,
        begun: [Option<OpenGroup>; Lane::COUNT],
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let (mut buffer, mut offset, max_line) = (vec![0; TURN.max(self.max_line())], 0, self.max_line());
        // What it ends by depends on the bytes alone: by a line that does not go on with it, by one that is too long, or
        // because too much has come.
        let ended = loop {
            let Some(next) = &mut self.next else { break true };
            let read = next.source.read_at(&mut buffer, offset)?;
            let mut start = 0;
            let mut over = false;
            for newline in memchr_iter(b'\n', &buffer[..read]) {
                let (from, to) = (offset + start as u64, offset + newline as u64 + 1);
                over = newline - start >= max_line || from >= FOLLOWED;
                if over {
                    break;
                }
                self.next_line(at, &buffer[start..newline], (from, to), emit)?;
                start = newline + 1;
            }
            offset += start as u64;
            if over || read - start >= max_line || at.open[..2].iter().all(Option::is_none) {
                break true;
            }
            if read < buffer.len() {
                break false;
            }
        };
        for lane in [Lane::Stdout, Lane::Stderr] {
            let Some(group) = at.open[lane as usize] else { continue };
            let is_over = self.next.as_ref().is_none_or(|next| offset >= next.limit[lane as usize]);
            if ended || is_over || self.is_cut(&group) {
                self.end_in_next(at, lane, emit)?;
            } else if let Some(next) = &mut self.next {
                next.pending[lane as usize] = Some(group);
                at.open[lane as usize] = begun[lane as usize];
            }
        }
        Ok(())
    }

    /// A line of the next file: it goes on with a record that is open, or ends it.
    fn next_line(
        &mut self,
        at: &mut Position,
        line: &[u8],
        (from, to): (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut unescaped = std::mem::take(self.unescaped);
        let parsed =
            cri::parse(line).or_else(|| docker::parse(line).map(|parsed| unescape(&mut unescaped, &parsed)));
        let place = parsed.and_then(|parsed| {
            let lane = Lane::of(parsed.stream);
            Some((lane, at.open[lane as usize]?, parsed))
        });
        if let Some((lane, open, parsed)) = place {
            let is_over = self.next.as_ref().is_none_or(|next| from >= next.limit[lane as usize]);
            let span = (self.own_size + from, self.own_size + to);
            match self.joined(&open, &parsed, span) {
                Joined::Goes(group) if !is_over => {
                    at.open[lane as usize] = Some(group);
                    // A line of its own that has come to its end.
                    if group.whole && group.lines == 0 {
                        self.end_in_next(at, lane, emit)?;
                    }
                }
                _ => self.end_in_next(at, lane, emit)?,
            }
        }
        *self.unescaped = unescaped;
        Ok(())
    }

    /// Ends a record that may have gone on in the next file.
    fn end_in_next(
        &mut self,
        at: &mut Position,
        lane: Lane,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let end = at.open[lane as usize].map_or(0, |group| group.end.saturating_sub(self.own_size));
        let _ = self.close_lane(at, lane, emit)?;
        if let Some(next) = &mut self.next {
            next.skipped.0[lane as usize] = end;
        }
        Ok(())
    }

    /// Bytes of this file, or of the next one behind it; never of both at once.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &mut self.next {
            Some(next) if offset >= self.own_size => next.source.read_at(buffer, offset - self.own_size),
            _ => {
                let here = usize::try_from(self.own_size.saturating_sub(offset)).unwrap_or(usize::MAX);
                let wanted = buffer.len().min(here);
                self.source.read_at(&mut buffer[..wanted], offset)
            }
        }
    }
}
