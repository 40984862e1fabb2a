//! Taking up what earlier processes have retained of host files.
//!
//! In: names in the folder of retained files, and the register, which knows the path that each key was given for. Out: a
//! log for each that no pattern finds any more. What belongs to a table that is configured no longer is let go.

use std::sync::Arc;
use std::time::Instant;

use super::super::adopt::{is_name_of, retained};
use super::super::beneath::Roots;
use super::super::origin::{HostLog, Origin};
use super::{HostScanner, Known};
use crate::retain::Whose;

impl HostScanner {
    /// Once, after the first look through all patterns.
    pub(super) fn adopt(&mut self) {
        for kept in std::mem::take(&mut self.settings.kept) {
            let Whose::Host(name) = &kept.whose else { continue };
            if let Some(known) = self.known.iter().find(|known| known.file.key == kept.key)
                && is_name_of(&kept, &known.file)
            {
                continue;
            }
            let source = self.settings.sources.iter().find(|source| source.name == *name);
            let entry = self.register.entries().find(|entry| entry.key() == Some(kept.key));
            let is_known = self.known.iter().any(|known| known.file.key == kept.key);
            let (Some(source), Some(entry), false) = (source, entry, is_known) else {
                self.settings.retention.iter().for_each(|retention| retention.discard(kept.path.clone()));
                continue;
            };
            let (path, mark) = (entry.path.clone(), entry.mark());
            let origin =
                HostLog { source: source.name.clone(), path: path.clone(), labels: source.labels.clone() };
            let roots = Arc::new(Roots::new(path.clone(), Vec::new()));
            let outputs = self.settings.outputs;
            match retained(&kept, Arc::new(Origin::Host(origin)), 0, source.framing, &roots, outputs) {
                Ok(file) => {
                    let file = Arc::new(file);
                    self.settings.retention.iter().for_each(|retention| retention.keep(file.clone()));
                    self.unpublished.push(file.clone());
                    self.known.push(Known { file, mark, path, left: true, grew_at: Instant::now() });
                }
                Err(error) => self.tell_unreadable(kept.path.clone(), &error),
            }
        }
        self.publish();
    }
}
