//! Whether what a container wrote is delivered everywhere, so that its files may go.
//!
//! What comes in: a part of a ledger. What goes out: yes, or not yet. Of the file output only what the agent has saved
//! counts: what is not saved is cut off again by a restart, and read again. It never waits.

use super::judge::Judge;
use super::lines::Ledger;
use crate::space::Space;
use crate::verify::Document;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The destinations.
pub(super) struct Destinations<'s> {
    /// The dated indices, then the data streams.
    pub spaces: [Space<'s>; 2],
    /// The file output's folder.
    pub folder: PathBuf,
    /// Where the agent keeps what it has saved of that output.
    pub positions: PathBuf,
}

/// What a container wrote: its pod's uid, its name, and its ledger.
pub(super) type Part = (String, String, Ledger);

impl Destinations<'_> {
    /// Whether each of these containers' lines is in each destination.
    pub fn hold(&self, parts: &[Part]) -> Result<bool, String> {
        let mut files = judge("archive", parts);
        self.each_in_files(true, |document| files.take(&document))?;
        if files.verdict().missing > 0 {
            return Ok(false);
        }
        let uids: Vec<&String> = parts.iter().map(|(uid, ..)| uid).collect();
        for space in &self.spaces {
            let mut found = judge("", parts);
            space.each(json!({"terms": {"kubernetes.pod.uid": uids}}), |document| found.take(&document))?;
            if found.verdict().missing > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands out the documents of the file output, in the order of their writing; all, or as far as is saved.
    pub fn each_in_files(&self, saved: bool, mut take: impl FnMut(Document)) -> Result<(), String> {
        let mut files: Vec<(String, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((stem, number)) = name.split_once(".ndjson") else { continue };
            // The current one comes after all that are rotated.
            let number = number.strip_prefix('.').map_or(u64::MAX, |number| number.parse().unwrap_or(0));
            files.push((stem.to_owned(), number, entry.path()));
        }
        files.sort();
        // The files before the positions: what is saved by then was there.
        let opened: Vec<_> = files
            .iter()
            .map(|(stem, number, path)| {
                let file = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
                (stem, *number, path, file)
            })
            .collect();
        let lengths = if saved { Some(self.saved()?) } else { None };
        for (stem, number, path, file) in opened {
            // One that vanished meanwhile was rotated: the next look finds it.
            let Ok((mut length, file)) = file else { continue };
            if let Some(saved) = lengths.as_ref().and_then(|lengths| lengths.get(&format!("{stem}.ndjson"))) {
                let (bytes, rotations) = (saved["length"].as_u64(), saved["rotations"].as_u64().unwrap_or(0));
                // A rotation that is not saved: what is saved of the current file is in the rotated one.
                let rotated_since = files.iter().any(|(of, n, _)| of == stem && *n == rotations + 1);
                let current = if rotated_since { rotations + 1 } else { u64::MAX };
                match number {
                    _ if number == current => length = length.min(bytes.unwrap_or(0)),
                    _ if number > rotations => continue,
                    _ => {}
                }
            }
            let mut reader = BufReader::new(file);
            let (mut line, mut read) = (Vec::new(), 0);
            loop {
                line.clear();
                read += reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())? as u64;
                if read > length || line.last() != Some(&b'\n') {
                    break;
                }
                let source = serde_json::from_slice(&line).map_err(|error| {
                    format!("{}: not JSON ({error}): {}", path.display(), String::from_utf8_lossy(&line))
                })?;
                take(Document { id: String::new(), index: String::new(), source });
            }
        }
        Ok(())
    }

    /// Of each output file by its name, what the agent has saved of it.
    fn saved(&self) -> Result<serde_json::Map<String, Value>, String> {
        let text = fs::read_to_string(&self.positions).map_err(|error| error.to_string())?;
        let header: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
            .map_err(|error| format!("the agent's positions: {error}"))?;
        let written = header["written"].as_object().into_iter().flatten();
        let name =
            |path: &String| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(written.filter_map(|(path, saved)| Some((name(path)?, saved.clone()))).collect())
    }
}

/// A judge of these parts.
pub(super) fn judge<'p>(name: &'static str, parts: &'p [Part]) -> Judge<'p> {
    Judge::new(name, parts.iter().map(|(uid, container, ledger)| (uid.clone(), container.clone(), ledger)))
}
