//! Offering: documents that a turn has just made, to whoever looks at their container.
//!
//! In: what stands in the batch since a mark. Out: each document of it, to the taps that want it. Called only while a tap is
//! open; never changes the batch.

use serde_json::Value;

use super::Worker;
use crate::batch::{Format, Mark};
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
        if let Format::Events(_) = self.settings.format {
            for event in events {
                let text = &made[event.begin as usize..][..event.length as usize];
                offer(Some(&self.batch.events.targets[event.target as usize]), None, text);
            }
            return;
        }
        let mut lines = made.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        if let Format::Bulk { .. } = self.settings.format {
            while let (Some(action), Some(text)) = (lines.next(), lines.next()) {
                let action: Value = serde_json::from_slice(action).unwrap_or_default();
                let of = |name: &str| action.as_object()?.values().next()?.get(name)?.as_str();
                offer(of("_index"), of("_id"), text);
            }
        } else {
            lines.for_each(|text| offer(None, None, text));
        }
    }
}
