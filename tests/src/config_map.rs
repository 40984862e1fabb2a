//! A configuration that is mounted as kubelet mounts a ConfigMap.
//!
//! What comes in: the texts that the configuration is to have, one after the other. What goes out: a file whose path leads
//! through two links, of which one is renamed at each change. Never touches a file that is already there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// `taffrail.toml` → `..data/taffrail.toml`, `..data` → `..2026_11_23_…`.
pub struct ConfigMap {
    folder: PathBuf,
    versions: AtomicU32,
}

impl ConfigMap {
    /// A new one in this folder, which must not exist.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn mounted(folder: &Path, text: &str) -> ConfigMap {
        fs::create_dir(folder).expect("a folder for the configuration");
        let map = ConfigMap { folder: folder.to_owned(), versions: AtomicU32::new(0) };
        map.swap(text);
        symlink("..data/taffrail.toml", map.path()).expect("a link to the configuration");
        map
    }

    /// The file's path, always the same.
    pub fn path(&self) -> PathBuf {
        self.folder.join("taffrail.toml")
    }

    /// Gives it another text as kubelet does: a folder of its own, and `..data` renamed to lead there. The folder before
    /// goes.
    ///
    /// # Panics
    /// When a file cannot be made.
    pub fn swap(&self, text: &str) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        let name = |version| format!("..2026_11_23_15_54_01.{version}");
        fs::create_dir(self.folder.join(name(version))).expect("a folder for a version");
        fs::write(self.folder.join(name(version)).join("taffrail.toml"), text).expect("the configuration");
        symlink(name(version), self.folder.join("..data_tmp")).expect("a link to the version");
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).expect("to swap the link");
        if version > 0 {
            fs::remove_dir_all(self.folder.join(name(version - 1))).expect("to remove the version before");
        }
    }
}
