//! The lines of one window: whole ones, pieces to be joined, and lines longer than a record may be.
//!
//! In: the bytes of a window and the [`Position`] that it begins at. Out: [`Record`]s, and the position moved over what
//! was judged. Where a record ends depends on the bytes and the rules alone, never on where the window happens to
//! begin or end.

use std::io;
use std::ops::ControlFlow;

use memchr::{memchr, memchr_iter, memrchr};

use super::{Follower, Framing, HEAD_ROOM, Marks, Record, Rules, TURN, Time};
use crate::catalog::file::Source;
use crate::clock::unix_nanos;
use crate::config::Oversize;
use crate::position::{Cut, Lane, OpenGroup, Position};
use crate::record::multiline::{Multiline, State};
use crate::record::{CriLine, Stream, cri, docker, time};

/// A window and what its lines are judged with.
pub(super) struct Lines<'a> {
    pub rules: &'a Rules,
    pub framing: Framing,
    pub multiline: Option<&'a Multiline>,
    /// The time of reading, once it has been asked for.
    pub now: Option<i64>,
    /// Behind this nothing is too old.
    pub past: u64,
    pub since_text: &'a [u8],
    pub cuts: &'a [Cut],
    pub source: &'a mut Source,
    /// The file after this one, and the size of this one once it is known: offsets go on from there.
    pub next: Option<&'a mut Follower>,
    pub own_size: u64,
    /// What is in memory of the file, and where it begins.
    pub window: &'a [u8],
    pub base: u64,
    /// Time of the last line judged; empty for none. As text: only what needs the number works it out.
    pub last_time: &'a [u8],
    pub scratch: &'a mut Vec<u8>,
    pub scratch_time: &'a mut Vec<u8>,
    pub unescaped: &'a mut Vec<u8>,
    /// Whether the line before in `scratch` is whole.
    pub line_ended: bool,
    pub too_old: &'a mut u64,
}

/// What becomes of an open record with a line more.
pub(super) enum Joined {
    /// It goes on.
    Goes(OpenGroup),
    /// It has become too long: what is open is a part of it, and this the next.
    Parts(OpenGroup),
    /// The line is another record's.
    Not,
}

/// The lane of a host's lines, which are of no stream.
const BARE: Lane = Lane::Stdout;

/// What handing out records came to: go on, or the batch is full.
pub(super) type Flow = io::Result<ControlFlow<()>>;

pub(super) const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

/// The number of a time that was found valid. One outside of what the number holds (1677 to 2262) counts as unknown.
fn nanos(text: &[u8]) -> i64 {
    time::unix_nanos(text).unwrap_or(0)
}

pub(super) fn either(one: ControlFlow<()>, other: ControlFlow<()>) -> ControlFlow<()> {
    if one.is_break() { one } else { other }
}

/// A line of docker's as one of CRI's is taken apart, its content in `out`.
pub(super) fn unescape<'b>(out: &'b mut Vec<u8>, line: &docker::DockerLine<'b>) -> CriLine<'b> {
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
            if at.open[Lane::Long as usize].is_some() {
                let _ = self.end_long(at, &[], (at.offset, at.offset), emit)?;
            }
            if self.next.is_some() && at.open[..2].iter().any(Option::is_some) {
                self.follow(at, emit)?;
            } else {
                self.close_groups(at, emit)?;
            }
        }
        Ok(GO_ON)
    }

    pub(super) fn is_cut(&self, group: &OpenGroup) -> bool {
        self.cuts.iter().any(|cut| cut.first == group.first && cut.end == group.end)
    }

    /// Enters the time of the last line into the position: lines that have none take it from there.
    pub fn keep_time(&self, at: &mut Position) {
        if !self.last_time.is_empty() {
            at.time = nanos(self.last_time);
        }
    }

    pub(super) fn max_line(&self) -> usize {
        self.rules.max_record + HEAD_ROOM
    }

    pub(super) fn span(&self, start: usize, end: usize) -> (u64, u64) {
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
            return self.bare_line(at, line, span, emit);
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
        if at.skipped.has(lane, span.0) {
            return Ok(GO_ON);
        }
        let is_single = |rule: &Multiline| rule.begin(parsed.content).is_none();
        if at.open[lane as usize].is_none() && !parsed.partial && self.multiline.is_none_or(is_single) {
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
        at: &mut Position,
        line: &[u8],
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let (lane, stream) = (BARE, Stream::Stdout);
        let begins = self.multiline.is_some_and(|rule| rule.begin(line).is_some());
        if at.open[lane as usize].is_some() || begins {
            let piece = CriLine { time: &[], stream, partial: false, content: line };
            return self.piece(at, lane, &piece, span, emit);
        }
        if line.is_empty() {
            return Ok(GO_ON);
        }
        let (time, marks, (first, last)) = (Time::Nanos(self.now()), Marks::default(), span);
        Ok(emit(Record { time, stream: None, content: line, first, last, marks }))
    }

    pub(super) fn now(&mut self) -> i64 {
        *self.now.get_or_insert_with(unix_nanos)
    }

    /// A line, or a piece of one, that is not simply a record: begins one, goes on with one, or ends one. An error leaves
    /// `at` as it was.
    fn piece(
        &mut self,
        at: &mut Position,
        lane: Lane,
        piece: &CriLine<'_>,
        span: (u64, u64),
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let open = at.open[lane as usize];
        let mut flow = GO_ON;
        let group = match open.map(|open| (open, self.joined(&open, piece, span))) {
            None => self.begun(piece, span),
            Some((_, Joined::Goes(group))) => group,
            Some((open, Joined::Parts(group))) => {
                flow = self.emit_group(lane, &open, false, emit)?;
                group
            }
            Some((open, Joined::Not)) => {
                flow = self.emit_group(lane, &open, true, emit)?;
                self.begun(piece, span)
            }
        };
        if !group.whole || group.lines > 0 {
            at.open[lane as usize] = Some(group);
            return Ok(flow);
        }
        if self.framing == Framing::Lines && piece.content.is_empty() && group.first == span.0 {
            at.open[lane as usize] = None;
            return Ok(flow);
        }
        // If another record was handed out above, this one is a single line of the window: it cannot fail any more.
        let ended = self.emit_group(lane, &group, true, emit)?;
        at.open[lane as usize] = None;
        Ok(either(flow, ended))
    }

    /// What a line, or a piece of one, begins.
    fn begun(&mut self, piece: &CriLine<'_>, span: (u64, u64)) -> OpenGroup {
        let state = self.multiline.and_then(|rule| rule.begin(piece.content)).map_or(0, State::number);
        OpenGroup {
            first: span.0,
            end: span.1,
            content: piece.content.len() as u64,
            last: self.written(piece),
            lines: u32::from(state > 0),
            state,
            whole: !piece.partial,
            ..OpenGroup::default()
        }
    }

    /// What becomes of an open record with a line, or a piece of one, more.
    pub(super) fn joined(&mut self, open: &OpenGroup, piece: &CriLine<'_>, span: (u64, u64)) -> Joined {
        let rule = self.multiline.filter(|_| open.whole);
        let gap = rule.map_or(self.rules.join_gap, |rule| rule.timeout);
        let written = self.written(piece);
        // Lines of the host have no time of their own: of theirs `last` is when the first was read.
        let is_host = self.framing == Framing::Lines;
        let is_late = !is_host && written.saturating_sub(open.last) > gap.as_nanos() as i64;
        if is_late || self.is_cut(open) {
            return Joined::Not;
        }
        let state = if open.whole {
            let next = rule.and_then(|rule| rule.go_on(State::of(open.state), piece.content));
            let Some(state) = next else { return Joined::Not };
            state.number()
        } else {
            open.state
        };
        // The newline between two lines is of the record too.
        let (length, newline) = (piece.content.len() as u64, u64::from(open.whole));
        let lines = open.lines + u32::from(open.whole);
        let last = if is_host { open.last } else { written };
        let grown = OpenGroup {
            end: span.1,
            content: open.content + newline + length,
            last,
            lines,
            state,
            whole: !piece.partial,
            ..*open
        };
        let too_long = grown.content > self.rules.max_record as u64 && self.rules.oversize == Oversize::Split;
        if !too_long && rule.is_none_or(|rule| lines <= rule.max_lines) {
            return Joined::Goes(grown);
        }
        Joined::Parts(OpenGroup {
            first: span.0,
            content: length,
            part: open.part + 1,
            before: open.before + open.content + newline,
            lines: lines.min(1),
            ..grown
        })
    }

    /// When a line was written; of a host's line, when it is read.
    fn written(&mut self, piece: &CriLine<'_>) -> i64 {
        if self.framing == Framing::Lines { self.now() } else { nanos(piece.time) }
    }

    /// Hands out a group as one record. `ends`: what was written ends with it.
    fn emit_group(
        &mut self,
        lane: Lane,
        group: &OpenGroup,
        ends: bool,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Flow {
        let Some(stream) = lane.stream() else { return Ok(GO_ON) };
        self.gather(stream, group)?;
        let mut kept = self.scratch.len();
        while group.lines > 0 && ends && self.scratch[..kept].ends_with(b"\n") {
            // Empty lines that something could have followed.
            kept -= 1;
        }
        let cut = group.content > self.scratch.len() as u64;
        self.scratch.truncate(kept);
        let (scratch, first_time) = (std::mem::take(self.scratch), std::mem::take(self.scratch_time));
        let is_host = self.framing == Framing::Lines;
        let flow = if !is_host && self.is_too_old(&first_time, group.first) {
            GO_ON
        } else {
            let in_parts = group.part > 0 || !ends;
            let marks = Marks {
                unframed: false,
                part: if in_parts { group.part + 1 } else { 0 },
                original_length: (cut || (in_parts && ends)).then_some(group.before + group.content),
            };
            let (first, last) = (group.first, group.end);
            let (time, stream) = if is_host {
                (Time::Nanos(group.last), None)
            } else {
                (Time::Text(&first_time), Some(stream))
            };
            emit(Record { time, stream, content: &scratch, first, last, marks })
        };
        (*self.scratch, *self.scratch_time) = (scratch, first_time);
        Ok(flow)
    }

    /// Collects a group's content into `scratch` and the time of its first piece into `scratch_time`, from the window
    /// or from the file.
    fn gather(&mut self, stream: Stream, group: &OpenGroup) -> io::Result<()> {
        self.scratch.clear();
        self.scratch_time.clear();
        self.line_ended = false;
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
            // Never over the end of the file into the next one.
            let here = if offset < self.own_size { group.end.min(self.own_size) } else { group.end };
            let want = chunk.len().min((here - offset) as usize);
            let read = self.read_at(&mut chunk[..want], offset)?;
            if read < want {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
            }
            let bytes = &chunk[..read];
            let begin = if skipping { memchr(b'\n', bytes).map_or(read, |newline| newline + 1) } else { 0 };
            let is_last = offset + read as u64 == here;
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
        let (max_line, is_host) = (self.max_line(), self.framing == Framing::Lines);
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| line.len() < max_line) {
            let piece = if is_host {
                Some(CriLine { time: b"-", stream, partial: false, content: line })
            } else {
                cri::parse(line)
                    .or_else(|| docker::parse(line).map(|parsed| unescape(self.unescaped, &parsed)))
                    .filter(|piece| piece.stream == stream)
            };
            let Some(piece) = piece else { continue };
            if self.scratch_time.is_empty() {
                self.scratch_time.extend_from_slice(piece.time);
            } else if std::mem::take(&mut self.line_ended) && self.scratch.len() < self.rules.max_record {
                self.scratch.push(b'\n');
            }
            self.line_ended = !piece.partial;
            let room = self.rules.max_record.saturating_sub(self.scratch.len());
            // The first piece goes in whole: a single one over the bound is no longer than the line that holds it.
            let taken =
                if self.scratch.is_empty() { piece.content.len() } else { piece.content.len().min(room) };
            self.scratch.extend_from_slice(&piece.content[..taken]);
        }
    }

    /// Ends the records that are open.
    pub fn close_groups(
        &mut self,
        at: &mut Position,
        emit: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for lane in [Lane::Stdout, Lane::Stderr] {
            let _ = self.close_lane(at, lane, emit)?;
        }
        Ok(())
    }

    pub(super) fn close_lane(
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
    pub(super) fn was_too_old(&mut self, nanos: i64, first: u64) -> bool {
        let has_time = nanos != 0 && self.framing == Framing::Runtime;
        let old = has_time && first < self.past && self.rules.since.is_some_and(|since| nanos < since);
        *self.too_old += u64::from(old);
        old
    }
}
