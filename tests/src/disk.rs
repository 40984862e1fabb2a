//! Small disks that fill up: memory file systems in a mount namespace that the machine does not see.
//!
//! What comes in: where an agent shall find a small disk. What goes out: the command that starts it there, and the disks
//! filled and freed as a test likes. A process of our own holds the namespace, and ends with us by whichever way. It
//! never mounts anything where the rest of the machine would see it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a disk has that is not full.
const ROOM: u64 = 1 << 30;

/// Some small disks in one namespace.
pub struct SmallDisks {
    holder: Child,
}

impl SmallDisks {
    /// Mounts a disk at each of these folders, which are made. There is room enough until [`SmallDisks::fill`]. `None`
    /// where the system does not permit that: the test says so and is skipped.
    ///
    /// # Panics
    /// When the namespace is there and a disk is not.
    pub fn mount(folders: &[&Path]) -> Option<SmallDisks> {
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            println!("skipped: no mount namespaces here");
            return None;
        }
        // The shell becomes `cat`, which ends when its standard input does.
        let mut script = String::from("set -e\n");
        for folder in folders {
            fs::create_dir_all(folder).expect("a folder to mount at");
            let folder = folder.to_str().expect("a temporary path of plain letters");
            script.push_str(&format!("mount -t tmpfs -o size={ROOM} small '{folder}'\n"));
        }
        script.push_str("echo mounted\nexec cat");
        let mut holder = Command::new("unshare")
            .args(["--mount", "setpriv", "--pdeathsig", "KILL", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("to start unshare (Debian: util-linux)");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("to read from the holder");
        assert_eq!(said, "mounted\n", "a namespace, but no small disk in it");
        Some(SmallDisks { holder })
    }

    /// What a command begins with that is to see the disks.
    pub fn entry(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--mount=/proc/{}/ns/mnt", self.holder.id()), "--".into()]
    }

    /// Where we find what the agent sees under this path.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// Leaves a disk no room but what is taken already, until [`SmallDisks::free`]. That costs no memory.
    ///
    /// # Panics
    /// When the disk cannot be made smaller.
    pub fn fill(&self, folder: &Path) {
        // An empty disk could not be made so small that nothing fits; one that is full holds this already, or need not.
        let _ = fs::write(self.inside(folder).join(".filler"), "full");
        // While somebody writes, what is taken is more by the time that it is to be all.
        for _ in 0..100 {
            let found = rustix::fs::statvfs(self.inside(folder)).expect("the small disk");
            if self.resize(folder, (found.f_blocks - found.f_bfree) * found.f_frsize) {
                return;
            }
        }
        panic!("cannot fill {}", folder.display());
    }

    /// Gives a disk that was filled its room again.
    ///
    /// # Panics
    /// When it cannot be made larger.
    pub fn free(&self, folder: &Path) {
        assert!(self.resize(folder, ROOM), "cannot free {}", folder.display());
    }

    fn resize(&self, folder: &Path, bytes: u64) -> bool {
        let entry = self.entry();
        let status = Command::new(&entry[0])
            .args(&entry[1..])
            .args(["mount", "-o", &format!("remount,size={bytes}")])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisks {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_small_disk_fills_up_is_freed_and_seen_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let Some(disks) = SmallDisks::mount(&[&one, &other]) else { return };
        let write = |folder: &Path, name| fs::write(disks.inside(folder).join(name), vec![1; 100_000]);
        write(&one, "first").unwrap();
        disks.fill(&one);
        assert_eq!(write(&one, "second").unwrap_err().kind(), io::ErrorKind::StorageFull);
        write(&other, "first").unwrap();
        disks.free(&one);
        write(&one, "third").unwrap();
        assert_eq!(fs::read_dir(&one).unwrap().count(), 0, "the machine does not see it");
        let entry = disks.entry();
        let listed = Command::new(&entry[0]).args(&entry[1..]).arg("ls").arg(&one).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "first\nsecond\nthird\n", "and who enters does");
    }
}
