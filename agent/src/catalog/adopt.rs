//! Taking up what earlier processes have retained.
//!
//! In: names in the folder of retained files. Out: a [`LogFile`] for each whose log is no longer in its place; a name of
//! ours for each that still is. Never takes anything for gone that the first listing has found.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::beneath::Roots;
use super::file::{Found, LogFile};
use super::name::{LogName, Rotation};
use super::origin::Origin;
use super::place::{Place, open_kept};
use super::{Directory, Known, Scanner, packed_size, stamp_of};
use crate::read::Framing;
use crate::retain::{Kept, Whose};

impl Scanner {
    /// Once, after the first listing that could be made: what cannot be seen is not taken for gone.
    pub(super) fn adopt(&mut self) {
        if self.told.root || self.inbox.is_stopping() {
            return;
        }
        for kept in std::mem::take(&mut self.settings.kept) {
            let Whose::Container(container, restart) = &kept.whose else { continue };
            let path = container.directory();
            let known =
                self.directories.get(&path).and_then(|d| d.files.iter().find(|k| k.file.key == kept.key));
            if let Some(known) = known {
                // One that was found late may have been given a name anew.
                let is_named = known.file.kept().is_some_and(|own| own != kept.path);
                if is_named || !is_name_of(&kept, &known.file) {
                    self.settings.retention.iter().for_each(|retention| retention.discard(kept.path.clone()));
                }
                continue;
            }
            let origin = Arc::new(Origin::Container(container.clone()));
            match retained(
                &kept,
                origin,
                *restart,
                Framing::Runtime,
                &self.settings.roots,
                self.settings.outputs,
            ) {
                Ok(file) => {
                    let file = Arc::new(file);
                    let directory = self.directories.entry(path).or_insert_with(|| {
                        let mut directory = Directory::new(container.clone());
                        directory.vanished = true;
                        directory
                    });
                    directory.files.push(Known { file: file.clone(), replaced_since: None, missed: true });
                    self.subscribers.iter().for_each(|subscriber| drop(subscriber.files.send(file.clone())));
                    if let Some(retention) = self.settings.retention.as_ref().filter(|_| self.started) {
                        retention.keep(file);
                        self.news = true;
                    }
                }
                Err(error) => self.tell_unreadable(&kept.path, &error),
            }
        }
    }

    /// Once, after the first listing: those that are found later are handed over as they are.
    pub(super) fn keep_found(&self) {
        if let Some(retention) = &self.settings.retention {
            let files = self.directories.values().flat_map(|directory| &directory.files);
            files.for_each(|known| retention.keep(known.file.clone()));
        }
    }
}

/// Whether a retained file is a link to a known one, which then has a name of ours.
pub(super) fn is_name_of(kept: &Kept, file: &LogFile) -> bool {
    open_kept(&kept.path).and_then(|linked| file.keep(kept.path.clone(), &linked)).unwrap_or(false)
}

/// The log of a retained file.
pub(super) fn retained(
    kept: &Kept,
    origin: Arc<Origin>,
    restart: u32,
    framing: Framing,
    roots: &Arc<Roots>,
    outputs: usize,
) -> io::Result<LogFile> {
    let opened = open_kept(&kept.path)?;
    let length = opened.metadata()?.size();
    let place = Place {
        path: PathBuf::new(),
        stamp: stamp_of(&opened)?,
        linked: false,
        packed: kept.packed,
        held: None,
        kept: Some(kept.path.clone()),
    };
    let found = Found {
        key: kept.key,
        origin,
        framing,
        roots: roots.clone(),
        // Before what is still in its place: kubelet deletes the oldest first.
        name: LogName { restart, rotation: Rotation::Rotated(String::new()), packed: kept.packed },
        sequence: kept.sequence,
        at_start: true,
        past: None,
        begins: kept.begins,
        size: if kept.packed { packed_size(&opened, length)? } else { length },
        place,
    };
    let file = LogFile::new(outputs, found);
    file.set_gone(true);
    file.settle();
    Ok(file)
}
