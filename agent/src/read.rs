//! Reading: an output's cursor over one file, and the turn that takes records from it.
//!
//! In: a file's bytes at a [`Position`]. Out: [`Record`]s that borrow from the read buffer, whole lines only. Where a
//! record begins and ends is a function of the file's bytes; the one exception is [`Cut`], which is saved before what it
//! ends is sent. Never blocks on the network, never holds a file's bytes between turns: of a line whose end has not
//! come only the offsets are kept, and it is read again when the end is seen.

mod follow;
mod lines;
mod long;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use memchr::memchr;

use crate::catalog::file::Source;
use crate::config::Oversize;
use crate::position::{Cut, OpenGroup, Position, Skipped};
use crate::record::multiline::Multiline;
use crate::record::{Stream, time};
use lines::Lines;

/// Bytes that one turn reads. Large enough that a batch holds runs of one container (which is what compression finds
/// its repeats in), small enough that a flood waits for the others after a fraction of a millisecond.
pub const TURN: usize = 256 << 10;

/// A physical line may be this much longer than a record: what a CRI head takes, and more. One that is longer still is
/// taken in parts. The bound is the record's and not the window's, so that the parts are the same however it is read.
const HEAD_ROOM: usize = 512;

/// One record, borrowed from the read buffer.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When it was written.
    pub time: Time<'a>,
    /// Which stream it came from, where the line says so.
    pub stream: Option<Stream>,
    /// What the program wrote, without the newline.
    pub content: &'a [u8],
    /// Offset of its first byte in the file.
    pub first: u64,
    /// Offset behind its last.
    pub last: u64,
    /// What else is to be said of it.
    pub marks: Marks,
}

/// How the lines of a file are told apart from what they carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A container runtime's: each line has a time and a stream before its content, as CRI or docker's `json-file` log
    /// driver write them, which is told line by line. What is neither is delivered as it stands.
    Runtime,
    /// A host's own: each line is a record, of no stream, and its time is when it was read.
    Lines,
}

/// The time of a record.
#[derive(Debug, Clone, Copy)]
pub enum Time<'a> {
    /// RFC 3339, as the runtime wrote it and checked.
    Text(&'a [u8]),
    /// Nanoseconds since the epoch: of the line before, for a line that has none; of its reading, where no line has one.
    Nanos(i64),
}

/// What a record's document says under `taffrail`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The line was not one of the container runtime's.
    pub unframed: bool,
    /// Number (from 1) of this part of a line over the bound; 0 for a whole line.
    pub part: u32,
    /// Bytes of the whole line: on the last part, or where it was cut.
    pub original_length: Option<u64>,
}

/// The longest text of a time.
const MOST_TIME: usize = 40;

/// How lines are read.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Bytes that a record may have.
    pub max_record: usize,
    /// What becomes of longer ones.
    pub oversize: Oversize,
    /// A partial line whose next piece is later than this is taken to have ended.
    pub join_gap: Duration,
    /// Records older than this are passed over: nanoseconds since the epoch.
    pub since: Option<i64>,
}

/// How one file is read.
#[derive(Debug)]
pub struct Manner<'a> {
    /// How its lines are told apart from what they carry.
    pub framing: Framing,
    /// Where our clock has ended records.
    pub cuts: &'a [Cut],
    /// How its lines are joined, if they are.
    pub multiline: Option<&'a Multiline>,
    /// What its end is.
    pub end: End<'a>,
}

/// What the end of a file is.
#[derive(Debug)]
pub enum End<'a> {
    /// It may grow.
    Open,
    /// It will not: its end ends its last records too.
    Final,
    /// It will not, and its last records may go on in the file after it.
    Followed(&'a mut Follower),
}

/// The file after one that has been rotated, in which the last records of that one may go on.
#[derive(Debug)]
pub struct Follower {
    /// Its bytes.
    pub source: Source,
    /// Of each stream, the offset behind which its lines are known to be its own.
    pub limit: [u64; 2],
    /// Of each stream, up to where its lines belong to the record before: set for records that have ended.
    pub skipped: Skipped,
    /// Records whose end has not come, as far as they go, of each stream.
    pub pending: [Option<OpenGroup>; 2],
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to read.
    More,
    /// Nothing is left but, perhaps, a record whose end has not come.
    End,
    /// The file is read to its end, and a record goes on in the next, where its end has not come.
    Waits,
}

/// Takes records from files: the buffers, which all cursors of a reader share.
#[derive(Debug)]
pub struct Reader {
    rules: Rules,
    since_text: Vec<u8>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    scratch_time: Vec<u8>,
    unescaped: Vec<u8>,
    /// Bytes of a turn: [`TURN`], less in tests.
    window: usize,
    /// Offset behind which no record of the next turn is too old: it was written when the output had begun.
    pub past: u64,
    /// Records passed over because they are older than `since`.
    pub too_old: u64,
    /// When the first line of the last turn was written, in nanoseconds since the epoch; 0 if it does not say first.
    pub begun: i64,
}

impl Reader {
    /// A reader by these rules.
    pub fn new(rules: Rules) -> Reader {
        Reader::with_window(rules, TURN)
    }

    fn with_window(rules: Rules, window: usize) -> Reader {
        let since_text = rules.since.map(|at| time::format_nanos(at).into_bytes()).unwrap_or_default();
        Reader {
            rules,
            since_text,
            buffer: vec![0; window],
            scratch: Vec::new(),
            scratch_time: Vec::new(),
            unescaped: Vec::new(),
            window,
            past: u64::MAX,
            too_old: 0,
            begun: 0,
        }
    }

    /// Reads on at `at` and hands out the records found, until the window is used up or `emit` breaks; moves `at` over
    /// what was read.
    ///
    /// After an error `at` is behind the last record that was handed out, so that none comes twice.
    pub fn turn(
        &mut self,
        source: &mut Source,
        at: &mut Position,
        manner: Manner<'_>,
        mut emit: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<Turn> {
        let Manner { framing, cuts, multiline, end } = manner;
        let (ended, next) = match end {
            End::Open => (false, None),
            End::Final => (true, None),
            End::Followed(follower) => (true, Some(follower)),
        };
        let max_line = self.rules.max_record + HEAD_ROOM;
        let mut wanted = self.window;
        let mut filled = source.read_at(&mut self.buffer[..wanted], at.offset)?;
        if filled == wanted && wanted < max_line && memchr(b'\n', &self.buffer[..filled]).is_none() {
            wanted = max_line;
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            filled += source.read_at(&mut self.buffer[filled..wanted], at.offset + filled as u64)?;
        }
        let at_end = filled < wanted;
        self.begun = written_at(&self.buffer[..filled], framing);
        let mut lines = Lines {
            rules: &self.rules,
            framing,
            multiline,
            now: None,
            past: self.past,
            since_text: &self.since_text,
            cuts,
            source,
            next,
            own_size: u64::MAX,
            window: &self.buffer[..filled],
            base: at.offset,
            last_time: &[],
            scratch: &mut self.scratch,
            scratch_time: &mut self.scratch_time,
            unescaped: &mut self.unescaped,
            line_ended: false,
            too_old: &mut self.too_old,
        };
        let flow = lines.run(at, ended && at_end, &mut emit);
        lines.keep_time(at);
        if self.buffer.len() > self.window && at_end {
            self.buffer = vec![0; self.window];
        }
        let waits = ended && at_end && at.open[..2].iter().any(Option::is_some);
        Ok(match flow?.is_continue() && at_end {
            true if waits => Turn::Waits,
            true => Turn::End,
            false => Turn::More,
        })
    }

    /// Ends the records that are open and hands them out: the caller has saved the cuts.
    pub fn close_groups(
        &mut self,
        source: &mut Source,
        at: &mut Position,
        framing: Framing,
        mut emit: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        Lines {
            rules: &self.rules,
            framing,
            multiline: None,
            now: None,
            past: self.past,
            since_text: &self.since_text,
            cuts: &[],
            source,
            next: None,
            own_size: u64::MAX,
            window: &[],
            base: at.offset,
            last_time: &[],
            scratch: &mut self.scratch,
            scratch_time: &mut self.scratch_time,
            unescaped: &mut self.unescaped,
            line_ended: false,
            too_old: &mut self.too_old,
        }
        .close_groups(at, &mut emit)
    }
}

/// When the first line of a window was written, if it says so first, as CRI's do.
fn written_at(window: &[u8], framing: Framing) -> i64 {
    let first = &window[..window.len().min(MOST_TIME)];
    match memchr(b' ', first) {
        Some(space) if framing == Framing::Runtime => time::unix_nanos(&first[..space]).unwrap_or(0),
        _ => 0,
    }
}
