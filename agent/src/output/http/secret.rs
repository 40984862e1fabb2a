//! Secrets, and files that are read again when they change.
//!
//! In: the place that the configuration names. Out: a [`Secret`], which nothing prints. Never sends anything, and
//! never puts a secret's value into an error.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::SecretSource;

/// How often a file is looked at while requests are sent.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// A longer file holds no secret and no certificates: it is a wrong path.
const FILE_LIMIT: u64 = 1 << 20;

/// A text that must not be seen: it has no `Display`, and its `Debug` is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, to be put into a request and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret that may change while the agent runs.
#[derive(Debug)]
pub struct SecretReader {
    source: SecretSource,
    watch: Watch,
    value: Option<Secret>,
}

impl SecretReader {
    /// A reader of a place. Nothing is read yet.
    pub fn new(source: &SecretSource) -> SecretReader {
        let files = match source {
            SecretSource::Env(_) => Vec::new(),
            SecretSource::File(path) => vec![path.clone()],
        };
        SecretReader { source: source.clone(), watch: Watch::new(files), value: None }
    }

    /// The secret, read again if its file changed. A file that went away leaves the secret that it held.
    ///
    /// `at_once`: look at the file even if that was done a moment ago.
    ///
    /// # Errors
    /// There is no secret, and there was none: in one line, with what to do.
    pub fn read(&mut self, at_once: bool) -> Result<&Secret, String> {
        if self.watch.changed(Instant::now(), at_once) || self.value.is_none() {
            match (read_secret(&self.source), &self.value) {
                (Ok(secret), _) => self.value = Some(secret),
                (Err(error), None) => return Err(error),
                (Err(error), Some(_)) => {
                    tracing::warn!(
                        error,
                        "a secret could not be read again; the one read before is still used"
                    );
                }
            }
        }
        self.value.as_ref().ok_or_else(|| format!("{}: no secret", self.source))
    }
}

/// Reads a secret once.
///
/// # Errors
/// It is not there, is empty, or holds what no header may hold.
pub fn read_secret(source: &SecretSource) -> Result<Secret, String> {
    let text = match source {
        SecretSource::Env(name) => std::env::var(name).map_err(|_| {
            format!("the environment has no {name}; set it to the secret, as from a Kubernetes Secret")
        })?,
        SecretSource::File(path) => {
            let bytes = read_file(path)?;
            String::from_utf8(bytes)
                .map_err(|_| format!("{} is not text: is it the right file?", path.display()))?
        }
    };
    let text = text.trim_end();
    if text.is_empty() {
        return Err(format!("{source} is empty; put the secret there"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{source} holds more than one line: is it the right one?"));
    }
    Ok(Secret(text.to_owned()))
}

/// Reads a small file whole.
///
/// # Errors
/// It cannot be read, or is too large: in one line, with what to do.
pub fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes)).map_err(
        |error| format!("{} cannot be read: {error}; is it mounted into the agent's pod?", path.display()),
    )?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(format!("{} is larger than 1 MiB: is it the right file?", path.display()));
    }
    Ok(bytes)
}

/// Some files, and whether they changed since they were last looked at. Kubernetes swaps a link when it renews a
/// mounted secret, editors rename: what is compared is what the path leads to.
#[derive(Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    checked: Option<Instant>,
}

/// What tells a file from the one that was there before: modification time, size, device and inode.
type Stamp = (i64, i64, u64, u64, u64);

impl Watch {
    /// A watch over these files, of which nothing is known yet.
    pub fn new(files: Vec<PathBuf>) -> Watch {
        Watch { files, seen: Vec::new(), checked: None }
    }

    /// Whether any file is another than at the last look; true at the first. Between looks, which are ten seconds
    /// apart unless it is to be `at_once`, false.
    pub fn changed(&mut self, now: Instant, at_once: bool) -> bool {
        let due = self.checked.is_none_or(|checked| now.duration_since(checked) >= CHECK_EVERY);
        if !due && !at_once {
            return false;
        }
        let first = self.checked.is_none();
        self.checked = Some(now);
        let stamps: Vec<_> = self.files.iter().map(|file| stamp(file)).collect();
        let changed = first || stamps != self.seen;
        self.seen = stamps;
        changed
    }
}

/// A call on a local, mostly memory-backed file: quick enough for the thread that carries the network.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").expect("a file");
        let source = SecretSource::File(file);
        let mut reader = SecretReader::new(&source);
        assert_eq!(reader.read(false).expect("a secret").expose(), "hunter2");
        let printed = format!("{reader:?} {:?} {:#?}", read_secret(&source), reader);
        assert!(printed.contains("***") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_not_at_every_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let mut reader = SecretReader::new(&SecretSource::File(file.clone()));
        assert!(reader.read(false).expect_err("no file yet").contains("mounted"));
        std::fs::write(&file, "one").expect("a file");
        assert_eq!(reader.read(false).expect("waited for").expose(), "one");
        std::fs::write(&file, "three\n").expect("a file");
        assert_eq!(reader.read(false).expect("kept").expose(), "one");
        assert_eq!(reader.read(true).expect("read again").expose(), "three");
        std::fs::remove_file(&file).expect("a file");
        assert_eq!(reader.read(true).expect("kept").expose(), "three");

        let mut watch = Watch::new(vec![file.clone()]);
        let start = Instant::now();
        assert!(watch.changed(start, false) && !watch.changed(start + CHECK_EVERY, false));
        std::fs::write(&file, "four").expect("a file");
        assert!(!watch.changed(start + CHECK_EVERY + CHECK_EVERY / 2, false));
        assert!(watch.changed(start + 2 * CHECK_EVERY, false));
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("s");
        for (content, said) in
            [("", "is empty"), (" \n", "is empty"), ("hunter2\nx: y", "more than one line")]
        {
            std::fs::write(&file, content).expect("a file");
            let error = read_secret(&SecretSource::File(file.clone())).expect_err("no secret");
            assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
        }
        let error = read_secret(&SecretSource::Env("TAFFRAIL_NO_SUCH_NAME".into())).expect_err("no secret");
        assert!(error.contains("no TAFFRAIL_NO_SUCH_NAME"), "{error}");
    }
}
