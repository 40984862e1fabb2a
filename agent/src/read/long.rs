//! Lines that are longer than a record may be: taken in parts, or cut.
//!
//! In: the bytes of a line whose end is not in sight. Out: its parts as records of their own, each with its place; or, once
//! its end has come, what of it may be kept. The parts are the same however the file is read: they depend on the bound alone.

use std::ops::ControlFlow;

use super::lines::{Flow, GO_ON, Lines, either};
use super::{Framing, Marks, Record, Time};
use crate::config::Oversize;
use crate::position::{Lane, OpenGroup, Position};
use crate::record::{CriLine, cri};

impl Lines<'_> {
    /// What stands before the content of a line that is too long, where that is CRI's.
    fn head<'b>(&self, bytes: &'b [u8]) -> Option<CriLine<'b>> {
        if self.framing == Framing::Runtime { cri::parse(bytes) } else { None }
    }

    /// What a part of a long line is marked with in any case.
    fn marks_of_long(&self, group: &OpenGroup) -> Marks {
        Marks { unframed: self.framing == Framing::Runtime && group.stream.is_none(), ..Marks::default() }
    }

    /// Takes the next `max_record` bytes of a line that is longer than a line may be, from `start` of the window on. The
    /// last part of it, which is shorter, is [`end_long`](Self::end_long)'s.
    pub(super) fn long_part(
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
                let group = OpenGroup { first, end, content: 0, last, stream, ..OpenGroup::default() };
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
    pub(super) fn end_long(
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
}
