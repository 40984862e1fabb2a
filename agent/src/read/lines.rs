//! The lines of one window: whole ones, pieces to be joined, and lines longer than a record may be.
//!
//! In: the bytes of a window and the [`Position`] that it begins at. Out: [`Record`]s, and the position moved over what
//! was judged. Where a record ends depends on the bytes and the rules alone, never on where the window happens to
//! begin or end.

use std::io;
use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::{memchr, memchr_iter, memrchr};

use super::{Framing, HEAD_ROOM, Marks, Record, Rules, TURN, Time};
use crate::catalog::file::Source;
use crate::config::Oversize;
use crate::position::{Cut, Lane, OpenGroup, Position};
use crate::record::{CriLine, Stream, cri, docker, time};

/// A window and what its lines are judged with.
pub(super) struct Lines<'a> {
    pub rules: &'a Rules,
    pub framing: Framing,
    /// The time of reading, once it has been asked for.
    pub now: Option<i64>,
    /// Behind this nothing is too old.
    pub past: u64,
    pub since_text: &'a [u8],
    pub cuts: &'a [Cut],
    pub source: &'a mut Source,
    /// What is in memory of the file, and where it begins.
    pub window: &'a [u8],
    pub base: u64,
    /// Time of the last line judged; empty for none. As text: only what needs the number works it out.
    pub last_time: &'a [u8],
    pub scratch: &'a mut Vec<u8>,
    pub scratch_time: &'a mut Vec<u8>,
    pub unescaped: &'a mut Vec<u8>,
    pub too_old: &'a mut u64,
}

/// What handing out records came to: go on, or the batch is full.
type Flow = io::Result<ControlFlow<()>>;

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

/// The number of a time that was found valid. One outside of what the number holds (1677 to 2262) counts as unknown.
fn nanos(text: &[u8]) -> i64 {
    time::unix_nanos(text).unwrap_or(0)
}

fn either(one: ControlFlow<()>, other: ControlFlow<()>) -> ControlFlow<()> {
    if one.is_break() { one } else { other }
}

/// A line of docker's as one of CRI's is taken apart, its content in `out`.
fn unescape<'b>(out: &'b mut Vec<u8>, line: &docker::DockerLine<'b>) -> CriLine<'b> {
    out.clear();
    docker::unescape(out, line.escaped);
    CriLine { time: line.time, stream: line.stream, partial: line.partial, content: out }
}

impl<'a> Lines<'a> {
    /// Judges the window's lines. `ended`: the window's end is the end of a file that will not grow.
    pub fn run(
        &mut self,
        at: &mut Position,
        ended: bool,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let (window, max_line) = (self.window, self.max_line());
        let mut start = 0;
        for newline in memchr_iter(b'\n', window) {
            while newline - start >= max_line {
                let flow = self.long_part(at, &mut start, emit)?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
            let flow = self.line(at, &window[start..newline], self.span(start, newline + 1), emit)?;
            start = newline + 1;
            at.offset = self.base + start as u64;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        while window.len() - start >= max_line {
            let flow = self.long_part(at, &mut start, emit)?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        if ended {
            let (tail, span) = (&window[start..], self.span(start, window.len()));
            if !tail.is_empty() {
                // The end of the file follows, whether there is room in the batch or not.
                let _ = self.line(at, tail, span, emit)?;
                at.offset = span.1;
            }
            self.close_pieces(at, emit)?;
            if at.open[Lane::Long as usize].is_some() {
                let _ = self.end_long(at, &[], (at.offset, at.offset), emit)?;
            }
        }
        Ok(GO_ON)
    }

    /// Enters the time of the last line into the position: lines that have none take it from there.
    pub fn keep_time(&self, at: &mut Position) {
        if !self.last_time.is_empty() {
            at.time = nanos(self.last_time);
        }
    }

    fn max_line(&self) -> usize {
        self.rules.max_record + HEAD_ROOM
    }

    fn span(&self, start: usize, end: usize) -> (u64, u64) {
        (self.base + start as u64, self.base + end as u64)
    }

    /// Judges one physical line at `span`.
    fn line(
        &mut self,
        at: &mut Position,
        line: &'a [u8],
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        if at.open[Lane::Long as usize].is_some() {
            return self.end_long(at, line, span, emit);
        }
        if self.framing == Framing::Lines {
            return Ok(self.bare_line(line, span, emit));
        }
        let Some(parsed) = cri::parse(line) else { return self.other_line(at, line, span, emit) };
        self.last_time = parsed.time;
        self.framed_line(at, &parsed, span, emit)
    }

    /// A line that the runtime wrote: a record, or a piece of one.
    #[inline]
    fn framed_line(
        &mut self,
        at: &mut Position,
        parsed: &CriLine<'_>,
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let lane = Lane::of(parsed.stream);
        if at.open[lane as usize].is_none() && !parsed.partial {
            if self.is_too_old(parsed.time, span.0) {
                return Ok(GO_ON);
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
        self.piece(at, lane, parsed, span, emit)
    }

    /// A line that is not CRI's: docker's, or what no runtime wrote.
    #[inline(never)]
    fn other_line(
        &mut self,
        at: &mut Position,
        line: &'a [u8],
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        if let Some(parsed) = docker::parse(line) {
            self.last_time = parsed.time;
            let mut unescaped = std::mem::take(self.unescaped);
            let flow = self.framed_line(at, &unescape(&mut unescaped, &parsed), span, emit);
            *self.unescaped = unescaped;
            return flow;
        }
        if line.is_empty() {
            return Ok(GO_ON);
        }
        self.keep_time(at);
        if self.was_too_old(at.time, span.0) {
            return Ok(GO_ON);
        }
        let marks = Marks { unframed: true, ..Marks::default() };
        let (first, last) = span;
        Ok(emit(Record { time: Time::Nanos(at.time), stream: None, content: line, first, last, marks }))
    }

    /// A line of a file whose lines carry nothing but their content.
    fn bare_line(
        &mut self,
        line: &[u8],
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if line.is_empty() {
            return GO_ON;
        }
        let (time, marks, (first, last)) = (Time::Nanos(self.now()), Marks::default(), span);
        emit(Record { time, stream: None, content: line, first, last, marks })
    }

    fn now(&mut self) -> i64 {
        *self.now.get_or_insert_with(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
        })
    }

    /// What stands before the content of a line that is too long, where that is CRI's.
    fn head<'b>(&self, bytes: &'b [u8]) -> Option<CriLine<'b>> {
        if self.framing == Framing::Runtime { cri::parse(bytes) } else { None }
    }

    /// What a part of a long line is marked with in any case.
    fn marks_of_long(&self, group: &OpenGroup) -> Marks {
        Marks { unframed: self.framing == Framing::Runtime && group.stream.is_none(), ..Marks::default() }
    }

    /// A piece of a partial line: begins a group, joins one, or ends one. An error leaves `at` as it was.
    fn piece(
        &mut self,
        at: &mut Position,
        lane: Lane,
        piece: &CriLine<'_>,
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let written = nanos(piece.time);
        let length = piece.content.len() as u64;
        let fresh = OpenGroup {
            first: span.0,
            end: span.1,
            content: length,
            last: written,
            part: 0,
            before: 0,
            stream: None,
        };
        let mut flow = GO_ON;
        let group = match at.open[lane as usize] {
            None => fresh,
            Some(open) => {
                let late = written.saturating_sub(open.last) > self.rules.join_gap.as_nanos() as i64;
                let cut = self.cuts.iter().any(|cut| cut.first == open.first && cut.end == open.end);
                let over = open.content + length > self.rules.max_record as u64;
                if late || cut {
                    flow = self.emit_group(lane, &open, true, emit)?;
                    fresh
                } else if over && self.rules.oversize == Oversize::Split {
                    flow = self.emit_group(lane, &open, false, emit)?;
                    OpenGroup { part: open.part + 1, before: open.before + open.content, ..fresh }
                } else {
                    OpenGroup { end: span.1, content: open.content + length, last: written, ..open }
                }
            }
        };
        if piece.partial {
            at.open[lane as usize] = Some(group);
            return Ok(flow);
        }
        // If another group was handed out above, this one is a single line of the window: it cannot fail any more.
        let ended = self.emit_group(lane, &group, true, emit)?;
        at.open[lane as usize] = None;
        Ok(either(flow, ended))
    }

    /// Hands out a group of pieces as one record. `ends`: the line ends with it.
    fn emit_group(
        &mut self,
        lane: Lane,
        group: &OpenGroup,
        ends: bool,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let Some(stream) = lane.stream() else { return Ok(GO_ON) };
        self.gather(stream, group)?;
        let (scratch, first_time) = (std::mem::take(self.scratch), std::mem::take(self.scratch_time));
        let flow = if self.is_too_old(&first_time, group.first) {
            GO_ON
        } else {
            let in_parts = group.part > 0 || !ends;
            let cut = group.content > scratch.len() as u64;
            let marks = Marks {
                unframed: false,
                part: if in_parts { group.part + 1 } else { 0 },
                original_length: (cut || (in_parts && ends)).then_some(group.before + group.content),
            };
            let (first, last) = (group.first, group.end);
            emit(Record {
                time: Time::Text(&first_time),
                stream: Some(stream),
                content: &scratch,
                first,
                last,
                marks,
            })
        };
        (*self.scratch, *self.scratch_time) = (scratch, first_time);
        Ok(flow)
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
        let max_line = self.max_line();
        let mut chunk = vec![0; TURN.max(max_line).min((group.end - group.first) as usize)];
        let mut offset = group.first;
        // Within a line longer than the chunk: it belongs to no group.
        let mut skipping = false;
        // Once it is full the rest is cut off, and was only counted.
        while offset < group.end && (self.scratch.is_empty() || self.scratch.len() < self.rules.max_record) {
            let want = chunk.len().min((group.end - offset) as usize);
            let read = self.source.read_at(&mut chunk[..want], offset)?;
            if read < want {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
            }
            let bytes = &chunk[..read];
            let begin = if skipping { memchr(b'\n', bytes).map_or(read, |newline| newline + 1) } else { 0 };
            let is_last = offset + read as u64 == group.end;
            let end = if is_last { read } else { memrchr(b'\n', bytes).map_or(0, |newline| newline + 1) };
            if end == 0 {
                skipping = true;
                offset += read as u64;
                continue;
            }
            skipping = false;
            self.collect(stream, &bytes[begin..end]);
            offset += end as u64;
        }
        Ok(())
    }

    fn collect(&mut self, stream: Stream, bytes: &[u8]) {
        let max_line = self.max_line();
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| line.len() < max_line) {
            let piece = cri::parse(line)
                .or_else(|| docker::parse(line).map(|parsed| unescape(self.unescaped, &parsed)))
                .filter(|piece| piece.stream == stream);
            let Some(piece) = piece else { continue };
            if self.scratch_time.is_empty() {
                self.scratch_time.extend_from_slice(piece.time);
            }
            let room = self.rules.max_record.saturating_sub(self.scratch.len());
            // The first piece goes in whole: a single one over the bound is no longer than the line that holds it.
            let taken =
                if self.scratch.is_empty() { piece.content.len() } else { piece.content.len().min(room) };
            self.scratch.extend_from_slice(&piece.content[..taken]);
        }
    }

    /// Takes the next `max_record` bytes of a line that is longer than a line may be, from `start` of the window on. The
    /// last part of it, which is shorter, is [`end_long`](Self::end_long)'s.
    fn long_part(
        &mut self,
        at: &mut Position,
        start: &mut usize,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let window = self.window;
        let bytes = &window[*start..*start + self.rules.max_record];
        let (first, end) = self.span(*start, *start + bytes.len());
        let split = self.rules.oversize == Oversize::Split;
        let mut flow = GO_ON;
        let (group, content) = match at.open[Lane::Long as usize] {
            Some(group) => (group, bytes),
            None => {
                let parsed = self.head(bytes);
                if let Some(head) = &parsed {
                    // What was open of its stream ends here: pieces that come behind it are another line's.
                    flow = self.close_lane(at, Lane::of(head.stream), emit)?;
                    self.last_time = head.time;
                }
                self.keep_time(at);
                let last = if self.framing == Framing::Lines { self.now() } else { at.time };
                let stream = parsed.as_ref().map(|head| Lane::of(head.stream));
                let group = OpenGroup { first, end, content: 0, last, part: 0, before: 0, stream };
                (group, parsed.map_or(bytes, |head| head.content))
            }
        };
        let length = content.len() as u64;
        let group = if split {
            flow = either(flow, self.emit_part(&group, content, (first, end), false, emit));
            OpenGroup { first: end, end, part: group.part + 1, before: group.before + length, ..group }
        } else {
            OpenGroup { end, content: group.content + length, ..group }
        };
        at.open[Lane::Long as usize] = Some(group);
        at.offset = end;
        *start += bytes.len();
        Ok(flow)
    }

    /// The rest of a long line, up to its newline.
    fn end_long(
        &mut self,
        at: &mut Position,
        rest: &[u8],
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let Some(group) = at.open[Lane::Long as usize] else { return Ok(GO_ON) };
        if self.rules.oversize == Oversize::Split {
            at.open[Lane::Long as usize] = None;
            return Ok(self.emit_part(&group, rest, span, true, emit));
        }
        // Cut: what is kept is read again, now that its true length is known.
        let mut kept = vec![0; self.rules.max_record];
        let read = self.source.read_at(&mut kept, group.first)?;
        let kept = &kept[..read];
        at.open[Lane::Long as usize] = None;
        if self.was_too_old(group.last, group.first) {
            return Ok(GO_ON);
        }
        let content = self.head(kept).map_or(kept, |head| head.content);
        let original_length = Some(group.content + rest.len() as u64);
        let marks = Marks { original_length, ..self.marks_of_long(&group) };
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
        &mut self,
        group: &OpenGroup,
        content: &[u8],
        span: (u64, u64),
        ends: bool,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.was_too_old(group.last, group.first) {
            return GO_ON;
        }
        let original_length = ends.then_some(group.before + content.len() as u64);
        let marks = Marks { part: group.part + 1, original_length, ..self.marks_of_long(group) };
        let stream = group.stream.and_then(Lane::stream);
        emit(Record { time: Time::Nanos(group.last), stream, content, first: span.0, last: span.1, marks })
    }

    /// Ends the partial lines that are open.
    pub fn close_pieces(
        &mut self,
        at: &mut Position,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for lane in [Lane::Stdout, Lane::Stderr] {
            let _ = self.close_lane(at, lane, emit)?;
        }
        Ok(())
    }

    fn close_lane(
        &mut self,
        at: &mut Position,
        lane: Lane,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let Some(group) = at.open[lane as usize] else { return Ok(GO_ON) };
        let flow = self.emit_group(lane, &group, true, emit)?;
        at.open[lane as usize] = None;
        Ok(flow)
    }

    fn is_too_old(&mut self, text: &[u8], first: u64) -> bool {
        let Some(since) = self.rules.since.filter(|_| first < self.past) else { return false };
        // Both of one length and in UTC: then the text sorts as the time does, and needs no arithmetic.
        let old = if text.len() == self.since_text.len() && text.last() == Some(&b'Z') {
            text < self.since_text
        } else {
            time::unix_nanos(text).is_some_and(|nanos| nanos < since)
        };
        *self.too_old += u64::from(old);
        old
    }

    /// The same for a line whose time is that of the line before it, or none (0): that is never too old. Nor is one
    /// whose time is when it was read.
    fn was_too_old(&mut self, nanos: i64, first: u64) -> bool {
        let has_time = nanos != 0 && self.framing == Framing::Runtime;
        let old = has_time && first < self.past && self.rules.since.is_some_and(|since| nanos < since);
        *self.too_old += u64::from(old);
        old
    }
}
