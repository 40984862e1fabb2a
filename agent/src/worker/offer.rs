//! Offering: documents that a turn has just made, to whoever looks at their container.
//!
//! In: what stands in the batch since a mark. Out: each document of it, to the taps that want it. Called only while a tap is
//! open; never changes the batch.

use super::Worker;
use crate::batch::{Mark, each_record};
use crate::tap::Document;

impl Worker {
    /// Offers what a turn has made of a container's records since `mark`.
    pub(super) fn offer(&self, place: usize, mark: Mark) {
        let origin = &self.containers[place].stats.origin;
        let taps = self.channels.taps.of(&self.settings.output, origin);
        if taps.is_empty() {
            return;
        }
        let (_, _, container) = origin.place();
        let offer = |to: Option<&str>, id: Option<&str>, text: &[u8]| {
            taps.iter().for_each(|tap| tap.offer(Document { container: &container, to, id, text }));
        };
        let (made, events) = self.batch.made_since(mark);
        each_record(self.settings.format, made, (events, &self.batch.events.targets), &[], offer);
    }
}
