//! What PutLogEvents takes in one call, and events cut to it.
//!
//! In: the events of one stream, in the order of their times. Out: what goes into each call. The names are those of the
//! service's documentation, PutLogEvents, "the batch of events must satisfy the following constraints".

use std::ops::Range;

use crate::batch::events::{Event, OVERHEAD};

/// "The maximum batch size is 1,048,576 bytes": texts, and 26 bytes for each event.
pub const CALL_BYTES: usize = 1_048_576;

/// "The maximum number of log events in a batch is 10,000."
pub const CALL_EVENTS: usize = 10_000;

/// "The time span in a single batch cannot exceed 24 hours", in milliseconds.
pub const CALL_SPAN: i64 = 24 * 3600 * 1000;

/// Cuts events that are sorted by time. Each may take `more` bytes than its text; `metas` are the lengths of the metadata
/// events that go before the first that refers to them, in every call again.
pub fn cut(events: &[Event], more: usize, metas: &[usize]) -> Vec<Range<usize>> {
    let mut calls = Vec::new();
    let (mut begin, mut bytes, mut count) = (0, 0, 0);
    let mut known: Vec<u32> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let own = event.length as usize + OVERHEAD + more;
        let weight = |known: &[u32]| match event.meta {
            Some(meta) if !known.contains(&meta) => (own + metas[meta as usize] + OVERHEAD, 2),
            _ => (own, 1),
        };
        let (size, items) = weight(&known);
        let full = bytes + size > CALL_BYTES || count + items > CALL_EVENTS;
        if at > begin && (full || event.time - events[begin].time >= CALL_SPAN) {
            calls.push(begin..at);
            (begin, bytes, count) = (at, 0, 0);
            known.clear();
        }
        let (size, items) = weight(&known);
        bytes += size;
        count += items;
        known.extend(event.meta.filter(|meta| !known.contains(meta)));
    }
    if begin < events.len() {
        calls.push(begin..events.len());
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(time: i64, length: u32, meta: Option<u32>) -> Event {
        Event { time, begin: 0, length, item: 0, target: 0, meta }
    }

    #[test]
    fn calls_end_at_each_limit() {
        let of = |events: &[Event]| cut(events, 0, &[100]).iter().map(Range::len).collect::<Vec<_>>();
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&vec![event(0, 1, None); 20_001]), [10_000, 10_000, 1]);
        assert_eq!(of(&[event(0, 1_048_550, None); 2]), [1, 1]);
        assert_eq!(of(&[event(0, 524_262, None); 3]), [2, 1]);
        let day = CALL_SPAN;
        assert_eq!(of(&[0, 1, day - 1, day, day + 1].map(|time| event(time, 1, None))), [3, 2]);
        assert_eq!(of(&vec![event(0, 1, Some(0)); 10_000]), [9_999, 1], "the metadata counts");
    }

    proptest! {
        #[test]
        fn no_call_is_over_any_limit_and_none_is_empty(
            mut events in prop::collection::vec((0..4 * CALL_SPAN, 1..400_000u32, prop::option::of(0..3u32)), 0..60),
        ) {
            events.sort_by_key(|(time, ..)| *time);
            let events: Vec<Event> = events.into_iter().map(|(time, length, meta)| event(time, length, meta)).collect();
            let metas = [300, 4_000, 20];
            let mut next = 0;
            for call in cut(&events, 0, &metas) {
                prop_assert_eq!(call.start, next);
                next = call.end;
                let part = &events[call];
                let mut used: Vec<u32> = part.iter().filter_map(|event| event.meta).collect();
                used.sort_unstable();
                used.dedup();
                let texts: usize = part.iter().map(|event| event.length as usize).sum();
                let with: usize = used.iter().map(|meta| metas[*meta as usize]).sum();
                let count = part.len() + used.len();
                prop_assert!(!part.is_empty() && count <= CALL_EVENTS);
                prop_assert!(texts + with + OVERHEAD * count <= CALL_BYTES || part.len() == 1);
                prop_assert!(part[part.len() - 1].time - part[0].time < CALL_SPAN);
            }
            prop_assert_eq!(next, events.len());
        }
    }
}
