//! Small disks that fill up: memory file systems of a few megabytes, in a mount namespace that the machine does not see.
//!
//! What comes in: where an agent shall find a small disk. What goes out: the command that starts it there, and the disks
//! filled and freed as a test likes. A process of our own holds the namespace, and ends with us by whichever way. It
//! never mounts anything where the rest of the machine would see it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The file that takes all the room.
const FILLER: &str = ".filler";

/// Some small disks in one namespace.
pub struct SmallDisks {
    holder: Child,
}

impl SmallDisks {
    /// Mounts a disk of so many bytes at each of these folders, which are made. `None` where the system does not permit
    /// that: the test says so and is skipped.
    ///
    /// # Panics
    /// When the namespace is there and a disk is not.
    pub fn mount(disks: &[(&Path, u64)]) -> Option<SmallDisks> {
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            println!("skipped: no mount namespaces here");
            return None;
        }
        // The shell becomes `cat`, which ends when its standard input does.
        let mut script = String::from("set -e\n");
        for (folder, bytes) in disks {
            fs::create_dir_all(folder).expect("a folder to mount at");
            let folder = folder.to_str().expect("a temporary path of plain letters");
            script.push_str(&format!("mount -t tmpfs -o size={bytes} small '{folder}'\n"));
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

    /// Fills a disk to its last byte, until [`SmallDisks::free`].
    ///
    /// # Panics
    /// When it cannot be written to for another reason.
    pub fn fill(&self, folder: &Path) {
        let mut filler = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.inside(folder).join(FILLER))
            .expect("a file on the small disk");
        let mut part = vec![0; 64 << 10];
        while !part.is_empty() {
            match filler.write(&part) {
                Ok(0) => part.clear(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => part.truncate(part.len() / 2),
                Err(error) => panic!("cannot fill a small disk: {error}"),
            }
        }
    }

    /// Makes a disk that was filled as empty as before.
    ///
    /// # Panics
    /// When its filler cannot be cut.
    pub fn free(&self, folder: &Path) {
        // Cut, not removed: if it is filled and freed at the same time, nobody fills a file that has no name.
        File::create(self.inside(folder).join(FILLER)).expect("the file that fills the disk");
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

    #[test]
    fn a_small_disk_fills_up_is_freed_and_seen_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let Some(disks) = SmallDisks::mount(&[(&one, 1 << 20), (&other, 1 << 20)]) else { return };
        let write = |folder: &Path| fs::write(disks.inside(folder).join("file"), vec![1; 100_000]);
        disks.fill(&one);
        assert_eq!(write(&one).unwrap_err().kind(), io::ErrorKind::StorageFull);
        write(&other).unwrap();
        disks.free(&one);
        write(&one).unwrap();
        assert_eq!(fs::read_dir(&one).unwrap().count(), 0, "the machine does not see it");
        let entry = disks.entry();
        let listed = Command::new(&entry[0]).args(&entry[1..]).arg("ls").arg(&one).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "file\n");
    }
}
