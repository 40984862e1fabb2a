//! Who reads what is really written: the log files of a node, while kubelet rotates and removes them.
//!
//! What comes in: the node's /var/log/pods. What goes out: all numbered lines that were ever in a file of some namespaces.
//! It holds each file open from the moment it sees it, so that one that is removed is read to its end, and looks often: a pod's
//! files stay for some seconds even when they are removed at once. It makes no links, which the agent could be misled by.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::counted::Counted;

const PAUSE: Duration = Duration::from_millis(200);

/// See the module. It ends with the value.
pub struct Witness {
    seen: Arc<Mutex<Counted>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Begins to read what these namespaces write, into a node's /var/log.
    pub fn of(logs: &Path, namespaces: &[&str]) -> Witness {
        let (seen, ends) = (Arc::<Mutex<Counted>>::default(), Arc::<AtomicBool>::default());
        let namespaces = namespaces.iter().map(|name| format!("{name}_")).collect();
        let mut reading = Reading { pods: logs.join("pods"), namespaces, files: HashMap::new() };
        let (told, is_over) = (Arc::clone(&seen), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                reading.looks(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
                thread::sleep(PAUSE);
            }
        });
        Witness { seen, ends, thread: Some(thread) }
    }

    /// All lines that it has read so far.
    pub fn seen(&self) -> Counted {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reading {
    pods: PathBuf,
    /// Their names, with what follows them in the name of a pod's folder.
    namespaces: Vec<String>,
    /// By device and inode, which none that is held open gives away.
    files: HashMap<(u64, u64), Log>,
}

struct Log {
    file: File,
    /// Behind the last whole line.
    rest: Vec<u8>,
}

impl Reading {
    fn looks(&mut self, seen: &mut Counted) {
        let pods = fs::read_dir(&self.pods).into_iter().flatten().flatten();
        let is_of = |pod: &fs::DirEntry| {
            let name = pod.file_name().to_string_lossy().into_owned();
            self.namespaces.iter().any(|namespace| name.starts_with(namespace))
        };
        let pods = pods.filter(is_of);
        let mut there: Vec<(u64, u64)> = Vec::new();
        for log in pods.flat_map(|pod| entries(&pod.path())).flat_map(|container| entries(&container)) {
            let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A rotated one ends in its time; packed ones are copies of those.
            if name.ends_with(".gz") || name.ends_with(".tmp") || !name.contains(".log") {
                continue;
            }
            let Ok(file) = File::open(&log) else { continue };
            let Ok(found) = file.metadata() else { continue };
            let key = (found.dev(), found.ino());
            there.push(key);
            self.files.entry(key).or_insert_with(|| Log { file, rest: Vec::new() });
        }
        self.files.retain(|key, log| {
            let grew = log.goes_on(seen);
            // Its writer may hold it open for a moment more.
            grew || there.contains(key)
        });
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

impl Log {
    /// Reads what is new; whether there was any.
    fn goes_on(&mut self, seen: &mut Counted) -> bool {
        let before = self.rest.len();
        if let Err(error) = self.file.read_to_end(&mut self.rest)
            && error.kind() != ErrorKind::Interrupted
        {
            return false;
        }
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in self.rest[..whole].split(|byte| *byte == b'\n') {
            // TIME STREAM TAG CONTENT
            if let Some(content) = line.splitn(4, |byte| *byte == b' ').nth(3) {
                seen.add(&String::from_utf8_lossy(content));
            }
        }
        let grew = self.rest.len() > before;
        self.rest.drain(..whole);
        grew
    }
}
