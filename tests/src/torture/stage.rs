//! One container of a torture: what writes, what it left behind, and whether the agent has seen it.
//!
//! What comes in: events that are its own. What goes out: files, and which of them may go. It never asks the agent.

use super::lines::{Form, Writer};
use super::schedule::Life;
use crate::node::{Container, Packing};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Kubelet keeps five files of a container: the current one, and so many that are rotated.
const ROTATED_KEPT: usize = 4;

/// A file that nothing is written to any more.
struct Left {
    path: PathBuf,
    /// How many pieces had been written when it was left.
    pieces: usize,
    /// When its first line was written; `None` if there is none.
    begun: Option<Instant>,
}

/// A container and its files.
pub(super) struct Stage {
    /// Which of the pods it belongs to.
    pub life: Life,
    /// What writes.
    pub writer: Writer,
    /// Files that were left, the oldest first.
    left: VecDeque<Left>,
    /// The file that was renamed, until its successor is there.
    renamed: Option<PathBuf>,
    begun: Option<Instant>,
    /// It writes no more.
    pub ended: bool,
    /// Its files are gone.
    pub deleted: bool,
}

impl Stage {
    pub fn new(life: Life, container: Container) -> Stage {
        Stage {
            life,
            writer: Writer::new(container),
            left: VecDeque::new(),
            renamed: None,
            begun: None,
            ended: false,
            deleted: false,
        }
    }

    pub fn writes(&mut self, lines: u32, form: Form, length: usize, stderr: bool) {
        self.begun.get_or_insert_with(Instant::now);
        self.writer.writes(lines, form, length, stderr);
    }

    pub fn opens(&mut self, pieces: usize, stderr: bool) {
        self.begun.get_or_insert_with(Instant::now);
        self.writer.opens(pieces, stderr);
    }

    pub fn goes_on(&mut self, pieces: usize, stderr: bool, ends: bool) {
        self.begun.get_or_insert_with(Instant::now);
        self.writer.goes_on(pieces, stderr, ends);
    }

    pub fn packs(&mut self, step: Packing) {
        self.writer.container.packs(step);
    }

    pub fn renames(&mut self) {
        self.writer.container.rename();
        self.renamed = self.writer.container.rotated().pop();
    }

    pub fn reopens(&mut self) {
        self.writer.container.reopen();
        self.leaves(self.renamed.clone());
    }

    pub fn restarts(&mut self) {
        let current = self.writer.container.current();
        self.writer.dies();
        self.writer.container.restart();
        self.leaves(Some(current));
    }

    fn leaves(&mut self, path: Option<PathBuf>) {
        let (pieces, begun) = (self.writer.ledger.pieces.len(), self.begun.take());
        self.renamed = None;
        self.left.extend(path.map(|path| Left { path, pieces, begun }));
    }

    pub fn ends(&mut self) {
        self.writer.dies();
        self.ended = true;
    }

    /// By how many pieces the oldest file ends that kubelet would remove, and since when it is there.
    pub fn excess(&self) -> Option<(usize, Option<Instant>)> {
        let is_too_many = self.left.len() > ROTATED_KEPT && !self.deleted;
        self.left.front().filter(|_| is_too_many).map(|left| (left.pieces, left.begun))
    }

    /// Removes that file, in whatever form it is.
    pub fn removes_oldest(&mut self) {
        let Some(left) = self.left.pop_front() else { return };
        for ending in ["", ".gz", ".tmp"] {
            let mut path = left.path.as_os_str().to_owned();
            path.push(ending);
            // Two of the three are not there.
            let _ = fs::remove_file(Path::new(&path));
        }
    }

    /// Since when the youngest of its files is there.
    pub fn youngest(&self) -> Option<Instant> {
        self.left.iter().map(|left| left.begun).chain([self.begun]).flatten().max()
    }
}
