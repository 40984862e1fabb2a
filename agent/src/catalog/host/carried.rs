//! What one catalog of host files hands to the next: see [`catalog::carried`](super::super::carried).
//!
//! In: files that the one before knew, and some output has yet to read. Out: those that no pattern finds any more, but
//! would by their first names: renamed or deleted, and read from the descriptors that are still held.

use std::sync::Arc;
use std::time::Instant;

use super::super::file::LogFile;
use super::super::origin::{HostLog, Origin};
use super::scan::is_of;
use super::{HostScanner, Known};

impl HostScanner {
    /// Takes over what another catalog has left.
    pub(super) fn carry(&mut self, mut left: Vec<Arc<LogFile>>) {
        left.retain(|file| matches!(*file.origin, Origin::Host(_)));
        let highest = left.iter().map(|file| file.sequence).max().unwrap_or(0);
        self.sequence = self.sequence.max(highest);
        self.carried = left;
    }

    /// What is left to the next catalog.
    pub(super) fn leave(&mut self) -> Vec<Arc<LogFile>> {
        let known = self.known.iter().map(|known| known.file.clone());
        known.filter(|file| file.is_wanted()).chain(std::mem::take(&mut self.carried)).collect()
    }

    /// After a look through all patterns: what they did not find has left them.
    pub(super) fn adopt_carried(&mut self) {
        for old in std::mem::take(&mut self.carried) {
            let Origin::Host(log) = &*old.origin else { continue };
            // One that is configured no more is read no more.
            let Some(source) =
                self.settings.sources.iter().find(|s| s.name == log.source && is_of(s, &log.path))
            else {
                continue;
            };
            if self.known.iter().any(|known| known.file.key == old.key) {
                continue;
            }
            let origin = HostLog { labels: source.labels.clone(), ..log.clone() };
            let descriptors = &self.settings.descriptors;
            let file = old.carried_as(Arc::new(Origin::Host(origin)), self.settings.outputs, descriptors);
            let (path, mark) = (file.path(), file.place().stamp.into());
            let file = Arc::new(file);
            self.settings.retention.iter().for_each(|retention| retention.keep(file.clone()));
            self.known.push(Known { file, mark, path, left: true, grew_at: Instant::now() });
            self.news = true;
        }
    }
}
