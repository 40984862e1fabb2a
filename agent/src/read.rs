//! Reading: an output's cursor over one file, and the turn that takes records from it.
//!
//! In: a file's bytes at a [`Position`]. Out: [`Record`]s that borrow from the read buffer, whole lines only. Where a
//! record begins and ends is a function of the file's bytes; the one exception is [`Cut`], which is saved before what it
//! ends is sent. Never blocks on the network, never holds a file's bytes between turns: of a line whose end has not
//! come only the offsets are kept, and it is read again when the end is seen.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use memchr::memchr;

use crate::catalog::file::Source;
use crate::config::Oversize;
use crate::position::{Cut, Lane, OpenGroup, Position};
use crate::record::{Stream, cri, time};

/// Bytes that one turn reads. Large enough that a batch holds runs of one container (which is what compression finds
/// its repeats in), small enough that a flood waits for the others after a fraction of a millisecond.
pub const TURN: usize = 256 << 10;

/// A physical line may be this much longer than a record: what a CRI head takes, and more.
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

/// The time of a record.
#[derive(Debug, Clone, Copy)]
pub enum Time<'a> {
    /// RFC 3339, as the runtime wrote it and checked.
    Text(&'a [u8]),
    /// Of the line before, for a line that has none: nanoseconds since the epoch.
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

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to read.
    More,
    /// Nothing is left but, perhaps, a line whose end has not come.
    End,
}

/// Takes records from files: the buffers, which all cursors of a reader share.
#[derive(Debug)]
pub struct Reader {
    rules: Rules,
    since_text: Vec<u8>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    scratch_time: Vec<u8>,
    /// Records passed over because they are older than `since`.
    pub too_old: u64,
}

/// What one line is judged with.
struct Context<'a> {
    rules: &'a Rules,
    since_text: &'a [u8],
    cuts: &'a [Cut],
    source: &'a mut Source,
    /// What is in memory of the file, and where it begins.
    window: &'a [u8],
    base: u64,
    scratch: &'a mut Vec<u8>,
    scratch_time: &'a mut Vec<u8>,
    too_old: &'a mut u64,
}

impl Reader {
    /// A reader by these rules.
    pub fn new(rules: Rules) -> Reader {
        let since_text = rules.since.map(|at| time::format_nanos(at).into_bytes()).unwrap_or_default();
        Reader {
            rules,
            since_text,
            buffer: vec![0; TURN],
            scratch: Vec::new(),
            scratch_time: Vec::new(),
            too_old: 0,
        }
    }

    /// Reads on at `at` and hands out the records found, until the window is used up or `emit` breaks; moves `at` over
    /// what was read. `ended`: the file will not grow, so that its end ends its last record too.
    pub fn turn(
        &mut self,
        source: &mut Source,
        at: &mut Position,
        cuts: &[Cut],
        ended: bool,
        mut emit: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<Turn> {
        let base = at.offset;
        let mut filled = source.read_at(&mut self.buffer[..TURN], base)?;
        let max_line = self.rules.max_record + HEAD_ROOM;
        if filled == TURN && filled < max_line && memchr(b'\n', &self.buffer[..filled]).is_none() {
            self.buffer.resize(max_line, 0);
            filled += source.read_at(&mut self.buffer[filled..], base + filled as u64)?;
        }
        let window = &self.buffer[..filled];
        let whole_window = filled >= TURN;
        let mut context = Context {
            rules: &self.rules,
            since_text: &self.since_text,
            cuts,
            source,
            window,
            base,
            scratch: &mut self.scratch,
            scratch_time: &mut self.scratch_time,
            too_old: &mut self.too_old,
        };
        let mut last_time: &[u8] = &[];
        let mut start = 0;
        let mut stopped = false;
        for newline in memchr::memchr_iter(b'\n', window) {
            let line = &window[start..newline];
            let span = (base + start as u64, base + newline as u64 + 1);
            let flow = context.line(at, line, span, &mut last_time, &mut emit)?;
            start = newline + 1;
            at.offset = span.1;
            if flow.is_break() {
                stopped = true;
                break;
            }
        }
        let tail = &window[start..];
        let mut end = Turn::More;
        if !stopped && !whole_window {
            // The file's end as it is now.
            end = Turn::End;
            if ended {
                let span = (base + start as u64, base + filled as u64);
                if !tail.is_empty() {
                    let _ = context.line(at, tail, span, &mut last_time, &mut emit)?;
                }
                at.offset = span.1;
                context.close_all(at, &mut emit)?;
            }
        } else if !stopped && start == 0 && filled >= max_line.max(TURN) {
            context.long_line(at, &mut last_time, &mut emit)?;
        }
        if let Some(nanos) = time::unix_nanos(last_time) {
            at.time = nanos;
        }
        if self.buffer.len() > TURN && end == Turn::End {
            self.buffer = vec![0; TURN];
        }
        Ok(end)
    }

    /// Ends the pieces of lines that are open and hands them out: the caller has saved the cuts.
    pub fn close_groups(
        &mut self,
        source: &mut Source,
        at: &mut Position,
        mut emit: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        Context {
            rules: &self.rules,
            since_text: &self.since_text,
            cuts: &[],
            source,
            window: &[],
            base: at.offset,
            scratch: &mut self.scratch,
            scratch_time: &mut self.scratch_time,
            too_old: &mut self.too_old,
        }
        .close_pieces(at, &mut emit)
    }
}

impl<'a> Context<'a> {
    /// Judges one physical line at `span`.
    fn line(
        &mut self,
        at: &mut Position,
        line: &'a [u8],
        span: (u64, u64),
        last_time: &mut &'a [u8],
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        if at.open[Lane::Long as usize].is_some() {
            return self.end_long(at, line, span, emit);
        }
        let Some(parsed) = cri::parse(line) else {
            if line.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            if let Some(nanos) = time::unix_nanos(last_time) {
                at.time = nanos;
            }
            let marks = Marks { unframed: true, ..Marks::default() };
            let (first, last) = span;
            return Ok(emit(Record { time: Time::Nanos(at.time), stream: None, content: line, first, last, marks }));
        };
        *last_time = parsed.time;
        let lane = Lane::of(parsed.stream);
        if at.open[lane as usize].is_none() && !parsed.partial {
            if self.is_too_old(parsed.time) {
                return Ok(ControlFlow::Continue(()));
            }
            return Ok(emit(Record {
                time: Time::Text(parsed.time),
                stream: Some(parsed.stream),
                content: parsed.content,
                first: span.0,
                last: span.1,
                marks: Marks::default(),
            }));
        }
        let before = *at;
        self.piece(at, lane, &parsed, span, emit).inspect_err(|_| *at = before)
    }

    /// A piece of a partial line: begins a group, joins one, or ends one.
    fn piece(
        &mut self,
        at: &mut Position,
        lane: Lane,
        piece: &cri::CriLine<'_>,
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let nanos = time::unix_nanos(piece.time).unwrap_or(at.time);
        let length = piece.content.len() as u64;
        let fresh = OpenGroup {
            first: span.0,
            end: span.1,
            content: length,
            last: nanos,
            part: 0,
            before: 0,
            stream: None,
        };
        let mut flow = ControlFlow::Continue(());
        let group = match at.open[lane as usize].take() {
            None => fresh,
            Some(open) => {
                let late = nanos.saturating_sub(open.last) > self.rules.join_gap.as_nanos() as i64;
                let cut = self.cuts.iter().any(|cut| cut.first == open.first && cut.end == open.end);
                let over = open.content + length > self.rules.max_record as u64;
                if late || cut {
                    flow = self.emit_group(lane, &open, true, emit)?;
                    fresh
                } else if over && self.rules.oversize == Oversize::Split {
                    flow = self.emit_group(lane, &open, false, emit)?;
                    OpenGroup { part: open.part + 1, before: open.before + open.content, ..fresh }
                } else {
                    OpenGroup { end: span.1, content: open.content + length, last: nanos, ..open }
                }
            }
        };
        if piece.partial {
            at.open[lane as usize] = Some(group);
            return Ok(flow);
        }
        let ended = self.emit_group(lane, &group, true, emit)?;
        Ok(if flow.is_break() { flow } else { ended })
    }

    /// Hands out a group of pieces as one record. `ends`: the line ends with it.
    fn emit_group(
        &mut self,
        lane: Lane,
        group: &OpenGroup,
        ends: bool,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let Some(stream) = lane.stream() else { return Ok(ControlFlow::Continue(())) };
        self.gather(stream, group)?;
        if self.is_too_old(&self.scratch_time.clone()) {
            return Ok(ControlFlow::Continue(()));
        }
        let in_parts = group.part > 0 || !ends;
        let cut = group.content > self.scratch.len() as u64;
        let marks = Marks {
            unframed: false,
            part: if in_parts { group.part + 1 } else { 0 },
            original_length: (cut || (in_parts && ends)).then_some(group.before + group.content),
        };
        Ok(emit(Record {
            time: Time::Text(self.scratch_time),
            stream: Some(stream),
            content: self.scratch,
            first: group.first,
            last: group.end,
            marks,
        }))
    }

    /// Collects a group's content into `scratch` and the time of its first piece into `scratch_time`, from the window
    /// or from the file.
    fn gather(&mut self, stream: Stream, group: &OpenGroup) -> io::Result<()> {
        self.scratch.clear();
        self.scratch_time.clear();
        if group.first >= self.base && group.end <= self.base + self.window.len() as u64 {
            let bytes = &self.window[(group.first - self.base) as usize..(group.end - self.base) as usize];
            self.collect(stream, bytes);
            return Ok(());
        }
        // The lines of the other stream lie between: read in chunks, since they may be many.
        let mut chunk = vec![0; TURN.min((group.end - group.first) as usize)];
        let mut offset = group.first;
        while offset < group.end {
            let want = chunk.len().min((group.end - offset) as usize);
            let read = self.source.read_at(&mut chunk[..want], offset)?;
            let whole = if offset + read as u64 >= group.end {
                read
            } else {
                memchr::memrchr(b'\n', &chunk[..read]).map_or(0, |newline| newline + 1)
            };
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
            }
            if whole == 0 {
                // A line longer than the chunk.
                let longer = chunk.len() * 2;
                chunk.resize(longer, 0);
                continue;
            }
            self.collect(stream, &chunk[..whole]);
            offset += whole as u64;
        }
        Ok(())
    }

    fn collect(&mut self, stream: Stream, bytes: &[u8]) {
        for line in bytes.split(|&byte| byte == b'\n') {
            let Some(piece) = cri::parse(line).filter(|piece| piece.stream == stream) else { continue };
            if self.scratch_time.is_empty() {
                self.scratch_time.extend_from_slice(piece.time);
            }
            let room = self.rules.max_record.saturating_sub(self.scratch.len());
            // The first piece goes in whole: a single one over the bound is no longer than the line that holds it.
            let taken = if self.scratch.is_empty() { piece.content.len() } else { piece.content.len().min(room) };
            self.scratch.extend_from_slice(&piece.content[..taken]);
        }
    }

    /// The window holds no newline and is as long as a line may be.
    fn long_line(
        &mut self,
        at: &mut Position,
        last_time: &mut &'a [u8],
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let taken = self.rules.max_record;
        let end = self.base + taken as u64;
        let split = self.rules.oversize == Oversize::Split;
        let group = match at.open[Lane::Long as usize] {
            Some(group) if split => {
                let _ = self.emit_part(at, &group, &self.window[..taken], (self.base, end), false, emit);
                OpenGroup { first: end, end, part: group.part + 1, before: group.before + taken as u64, ..group }
            }
            Some(group) => OpenGroup { end, content: group.content + taken as u64, ..group },
            None => {
                let bytes = &self.window[..taken];
                let parsed = cri::parse(bytes);
                if let Some(head) = &parsed {
                    *last_time = head.time;
                    at.time = time::unix_nanos(head.time).unwrap_or(at.time);
                }
                let content = parsed.as_ref().map_or(bytes, |head| head.content);
                let stream = parsed.as_ref().map(|head| Lane::of(head.stream));
                let group =
                    OpenGroup { first: self.base, end, content: 0, last: at.time, part: 0, before: 0, stream };
                if split {
                    let _ = self.emit_part(at, &group, content, (self.base, end), false, emit);
                    OpenGroup { first: end, part: 1, before: content.len() as u64, ..group }
                } else {
                    OpenGroup { content: content.len() as u64, ..group }
                }
            }
        };
        at.open[Lane::Long as usize] = Some(group);
        at.offset = end;
        Ok(())
    }

    /// The rest of a long line, up to its newline.
    fn end_long(
        &mut self,
        at: &mut Position,
        rest: &[u8],
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let Some(group) = at.open[Lane::Long as usize].take() else { return Ok(ControlFlow::Continue(())) };
        if self.rules.oversize == Oversize::Split {
            return Ok(self.emit_part(at, &group, rest, span, true, emit));
        }
        // Cut: what is kept is read again, now that its true length is known.
        let mut kept = vec![0; self.rules.max_record];
        let read = self.source.read_at(&mut kept, group.first)?;
        let kept = &kept[..read];
        let content = cri::parse(kept).map_or(kept, |head| head.content);
        let marks = Marks {
            unframed: group.stream.is_none(),
            part: 0,
            original_length: Some(group.content + rest.len() as u64),
        };
        Ok(emit(Record {
            time: Time::Nanos(group.last),
            stream: group.stream.and_then(Lane::stream),
            content,
            first: group.first,
            last: span.1,
            marks,
        }))
    }

    fn emit_part(
        &self,
        at: &Position,
        group: &OpenGroup,
        content: &[u8],
        span: (u64, u64),
        ends: bool,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let marks = Marks {
            unframed: group.stream.is_none(),
            part: group.part + 1,
            original_length: ends.then_some(group.before + content.len() as u64),
        };
        let stream = group.stream.and_then(Lane::stream);
        emit(Record { time: Time::Nanos(at.time), stream, content, first: span.0, last: span.1, marks })
    }

    fn close_pieces(
        &mut self,
        at: &mut Position,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for lane in [Lane::Stdout, Lane::Stderr] {
            if let Some(group) = at.open[lane as usize] {
                let _ = self.emit_group(lane, &group, true, emit)?;
                at.open[lane as usize] = None;
            }
        }
        Ok(())
    }

    fn close_all(
        &mut self,
        at: &mut Position,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.close_pieces(at, emit)?;
        if at.open[Lane::Long as usize].is_some() {
            let _ = self.end_long(at, &[], (at.offset, at.offset), emit)?;
        }
        Ok(())
    }

    fn is_too_old(&mut self, text: &[u8]) -> bool {
        let Some(since) = self.rules.since else { return false };
        // Both of one length and in UTC: then the text sorts as the time does, and needs no arithmetic.
        let old = if text.len() == self.since_text.len() && text.last() == Some(&b'Z') {
            text < self.since_text
        } else {
            time::unix_nanos(text).is_some_and(|nanos| nanos < since)
        };
        *self.too_old += u64::from(old);
        old
    }
}
