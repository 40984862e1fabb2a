//! The folder that one demo works in. Comes in: the user's choice, if there is one. Goes out: the paths of
//! its parts. It never deletes what the demo did not make: a folder that holds anything is refused.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder that the demo works in.
#[derive(Debug)]
pub struct Folder {
    /// The folder itself, as an absolute path.
    pub root: PathBuf,
}

impl Folder {
    /// Makes the folder: `dir`, which must be new or empty because parts of it are deleted afterwards, or a
    /// new one under the system's temporary folder.
    pub fn make(dir: Option<&Path>) -> Result<Folder, String> {
        let root = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("taffrail-demo-{:08x}", fastrand::u32(..))),
        };
        let root = std::path::absolute(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let failed = |error: io::Error| {
            format!("cannot work in {}: {error}; choose another with --dir", root.display())
        };
        if root.to_str().is_none_or(|text| text.contains(['{', '}'])) {
            return Err(format!("cannot work in {}: the name must be UTF-8 without braces", root.display()));
        }
        fs::create_dir_all(&root).map_err(failed)?;
        if fs::read_dir(&root).map_err(failed)?.next().is_some() {
            return Err(format!("{} is not empty; give --dir a new folder", root.display()));
        }
        let folder = Folder { root: root.clone() };
        for part in [folder.pods(), folder.state(), folder.out()] {
            fs::create_dir(&part).map_err(failed)?;
        }
        Ok(folder)
    }

    /// The node's `/var/log/pods`.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// The agent's state.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The documents.
    pub fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// The agent's configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("taffrail.toml")
    }

    /// Bytes of documents.
    pub fn out_bytes(&self) -> u64 {
        let entries = fs::read_dir(self.out()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Says that the folder was kept.
    pub fn stays(&self) -> String {
        format!("the logs and documents are kept in {}", self.root.display())
    }

    /// Deletes all but the documents; of the folder itself nothing is left if there are none.
    pub fn remove_inputs(&self) {
        // What cannot be deleted stays in a temporary folder: no reason to spoil a good end.
        let _ = fs::remove_dir_all(self.pods());
        let _ = fs::remove_dir_all(self.state());
        let _ = fs::remove_file(self.config());
        let _ = fs::remove_dir(self.out());
        let _ = fs::remove_dir(&self.root);
    }

    /// Deletes everything that the demo made.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(self.out());
        self.remove_inputs();
    }
}

/// `path` as a shell takes it for one word.
pub fn shell_quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().all(|c| c.is_alphanumeric() || "/._-+@%".contains(c)) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
