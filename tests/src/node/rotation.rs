//! Kubelet's rotation of a container's logs, step by step.
//!
//! What comes in: a container that writes. What goes out: its files renamed, opened anew, compressed by way of `.tmp`,
//! and removed, in kubelet's order and under kubelet's names. It never waits for a reader.

use super::{Container, create};
use crate::clock;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A step of compressing a rotated log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It is compressed into `….tmp`.
    Write,
    /// That becomes `….gz`.
    Name,
    /// The plain one goes.
    Remove,
}

impl Container {
    /// Kubelet's rotation, in kubelet's order: what is too much goes, older files become `.gz`, the current one is
    /// renamed, the runtime opens a new one.
    pub fn rotate(&mut self) -> &mut Container {
        self.remove_excess();
        self.compress_rotated();
        self.rename();
        self.reopen()
    }

    /// First step: of the rotated files all but the newest are removed, as many as keep room for one more.
    pub fn remove_excess(&mut self) -> &mut Container {
        let rotated = self.rotated();
        let excess = (rotated.len() + 2).saturating_sub(self.files_kept).min(rotated.len());
        for file in &rotated[..excess] {
            fs::remove_file(file).expect("to remove an old log");
        }
        self
    }

    /// Second step: rotated files that are still plain are compressed, one after the other.
    pub fn compress_rotated(&mut self) -> &mut Container {
        while self.rotated().iter().any(|file| !is_packed(file)) {
            self.packs(Packing::Write).packs(Packing::Name).packs(Packing::Remove);
        }
        self
    }

    /// One step of compressing the oldest rotated file that is still plain, if there is one: between any two of them an
    /// agent may look.
    pub fn packs(&mut self, step: Packing) -> &mut Container {
        let Some(file) = self.rotated().into_iter().find(|file| !is_packed(file)) else { return self };
        let (tmp, gz) = (with_ending(&file, ".tmp"), with_ending(&file, ".gz"));
        match step {
            Packing::Write if !gz.exists() => {
                let packed = File::create(&tmp).expect("a file to compress into");
                let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::default());
                io::copy(&mut File::open(&file).expect("the rotated log"), &mut encoder)
                    .expect("to compress a log");
                encoder.finish().expect("to finish the compressed log");
            }
            Packing::Name if tmp.exists() => fs::rename(&tmp, &gz).expect("to name the compressed log"),
            Packing::Remove if gz.exists() => {
                fs::remove_file(&file).expect("to remove the log that was compressed");
            }
            _ => {}
        }
        self
    }

    /// Third step: the current file becomes `0.log.YYYYMMDD-HHMMSS`. The runtime still writes to it, until
    /// [`Container::reopen`]. Kubelet rotates a container at most once a second; where a test is quicker, the name runs
    /// ahead of the clock, for names are unique.
    pub fn rename(&mut self) -> &mut Container {
        const SECOND: u64 = 1_000_000_000;
        self.last_suffix = (clock::now() / SECOND).max(self.last_suffix + 1);
        let suffix = clock::rotation_suffix(self.last_suffix * SECOND);
        fs::rename(self.current(), with_ending(&self.current(), &format!(".{suffix}")))
            .expect("to rotate a log");
        self
    }

    /// Fourth step: the runtime opens a new file under the current name.
    pub fn reopen(&mut self) -> &mut Container {
        self.file = create(&self.current());
        self
    }

    /// The rotated files of the current run, oldest first.
    pub fn rotated(&self) -> Vec<PathBuf> {
        let prefix = format!("{}.log.", self.restart);
        let mut files: Vec<PathBuf> = fs::read_dir(&self.folder)
            .expect("the container's folder")
            .map(|entry| entry.expect("an entry of the container's folder").path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
            .filter(|path| path.extension().is_none_or(|extension| extension != "tmp"))
            .collect();
        files.sort();
        files
    }
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::Node;
    use super::super::tests::{names, text};
    use super::*;

    #[test]
    fn rotation_leaves_what_kubelet_leaves() {
        let node = Node::new();
        let mut web = node.pod("web").container("app");
        web.writes(3).rotate();
        let first = web.rotated();
        assert_eq!(names(&web).len(), 2, "the newest rotated file is still plain");
        assert_eq!(text(&first[0]).lines().count(), 3);
        web.writes(2).rotate();
        let files = web.rotated();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0], with_ending(&first[0], ".gz"), "at the next rotation it is compressed");
        assert_eq!(text(&files[0]).lines().count(), 3);
        for _ in 0..5 {
            web.writes(1).rotate();
        }
        assert_eq!(names(&web).len(), 5, "{:?}", names(&web));
        assert!(!files[0].exists(), "the oldest is gone");
    }

    #[test]
    fn what_is_written_between_rename_and_reopen_is_in_the_renamed_file() {
        let node = Node::new();
        let mut web = node.pod("web").container("app");
        web.writes(1).rename().writes(1);
        assert!(!web.current().exists());
        web.reopen().writes(1);
        assert_eq!(text(&web.rotated()[0]).lines().count(), 2);
        assert_eq!(text(&web.current()).lines().count(), 1);
    }

    #[test]
    fn between_the_steps_of_compressing_the_log_is_there_once_or_twice() {
        let node = Node::new();
        let mut web = node.pod("web").container("app");
        web.writes(3).rename().reopen();
        let plain = web.rotated()[0].clone();
        let (tmp, gz) = (with_ending(&plain, ".tmp"), with_ending(&plain, ".gz"));
        let there = || [&plain, &tmp, &gz].map(|file| file.exists());
        web.packs(Packing::Remove).packs(Packing::Name);
        assert_eq!(there(), [true, false, false], "nothing is to be named or removed yet");
        web.packs(Packing::Write);
        assert_eq!(there(), [true, true, false]);
        web.packs(Packing::Name);
        assert_eq!(there(), [true, false, true]);
        web.packs(Packing::Write).packs(Packing::Remove);
        assert_eq!(there(), [false, false, true]);
        assert_eq!(text(&gz).lines().count(), 3);
    }
}
