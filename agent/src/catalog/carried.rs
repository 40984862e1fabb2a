//! What one catalog hands to the next in the same process, when the agent begins anew by another configuration.
//!
//! In: the files that the catalog before this one knew and some output has yet to read. Out: of those that the first
//! listing did not find, files that are gone, to be read to their end from the descriptors that are still held. So
//! nothing is lost that was deleted before, or between the two.

use std::sync::Arc;

use super::Scanner;
use super::directory::{Directory, Known};
use super::file::LogFile;
use super::origin::Origin;

impl Scanner {
    /// Takes over what another catalog has left. Files that come later are ordered behind these.
    pub(super) fn carry(&mut self, mut left: Vec<Arc<LogFile>>) {
        left.retain(|file| matches!(*file.origin, Origin::Container(_)));
        let highest = left.iter().map(|file| file.sequence).max().unwrap_or(0);
        self.sequence = self.sequence.max(highest);
        self.carried = left;
    }

    /// What is left to the next catalog.
    pub(super) fn leave(&mut self) -> Vec<Arc<LogFile>> {
        let known = self.directories.values().flat_map(|directory| &directory.files);
        let wanted = known.map(|known| known.file.clone()).filter(|file| file.is_wanted());
        wanted.chain(std::mem::take(&mut self.carried)).collect()
    }

    /// After a listing of everything, and what earlier processes have kept: what is not among that is gone.
    pub(super) fn adopt_carried(&mut self) {
        if self.told.root || self.inbox.is_stopping() {
            return;
        }
        for old in std::mem::take(&mut self.carried) {
            let Origin::Container(container) = &*old.origin else { continue };
            let path = container.directory();
            let directory = self.directories.entry(path).or_insert_with(|| {
                let mut directory = Directory::new(container.clone());
                directory.vanished = true;
                directory
            });
            if directory.files.iter().any(|known| known.file.key == old.key) {
                continue;
            }
            let file = Arc::new(old.carried(self.settings.outputs, &self.settings.descriptors));
            directory.files.push(Known { file: file.clone(), replaced_since: None, missed: true });
            self.settings.retention.iter().for_each(|retention| retention.keep(file.clone()));
            self.subscribers.iter().for_each(|subscriber| drop(subscriber.files.send(file.clone())));
            self.news = true;
        }
    }
}
