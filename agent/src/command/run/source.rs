//! Where the configuration comes from: its file, watched.
//!
//! In: hints of inotify, the wish to look at once, and the time. Out: each content that the file takes on, once. A
//! ConfigMap is swapped by renaming the link `..data` beside the file, an editor renames or writes in place: so the folder
//! is watched, what was found is read again a moment later (half a file may be valid TOML), and the file is read every ten
//! seconds whatever the hints say. Its own thread, since the file may lie on a disk that hangs. Never judges a content.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{Config, Diagnostics};

/// How often the file is read without a hint.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How long a content must have stood unchanged.
const STEADY: Duration = Duration::from_millis(200);

/// The link that kubelet renames.
const CONFIG_MAP_LINK: &str = "..data";

/// What the file holds, or why it cannot be read.
pub type Reading = Result<Vec<u8>, Diagnostics>;

/// The file was looked at.
#[derive(Debug)]
pub struct Content {
    /// What is in it.
    pub reading: Reading,
    /// Somebody asked, and wants an answer though nothing may have changed.
    pub asked: bool,
}

enum Ask {
    /// Something happened beside the file.
    Hint,
    /// Read it now.
    Now,
}

/// The watched file. The watching ends with the value.
#[derive(Debug)]
pub struct Source {
    asks: Sender<Ask>,
    _watcher: Option<RecommendedWatcher>,
}

impl Source {
    /// Watches `path`, which held `content` when it was read last.
    pub fn watch(path: &Path, content: Vec<u8>, contents: UnboundedSender<Content>) -> io::Result<Source> {
        let (asks, asked) = mpsc::channel();
        let watcher = watcher(path, asks.clone());
        let mut look = Look { path: path.to_owned(), last: Ok(content), unsure: None };
        let thread = std::thread::Builder::new().name("configuration".into());
        thread.spawn(move || look.run(&asked, &contents))?;
        Ok(Source { asks, _watcher: watcher })
    }

    /// Reads the file now, and tells what is in it whether it has changed or not.
    pub fn ask(&self) {
        // The thread lives as long as this.
        let _ = self.asks.send(Ask::Now);
    }
}

/// Without a watch the file is still read every ten seconds.
fn watcher(path: &Path, asks: Sender<Ask>) -> Option<RecommendedWatcher> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let own = path.file_name().map(ToOwned::to_owned);
    let watched = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns = event.map_or(true, |event| {
            !matches!(event.kind, EventKind::Access(_))
                && event.paths.iter().any(|path| {
                    path.file_name()
                        .is_none_or(|name| name == CONFIG_MAP_LINK || Some(name) == own.as_deref())
                })
        });
        if concerns {
            let _ = asks.send(Ask::Hint);
        }
    })
    .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher));
    watched
        .inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "cannot watch the configuration's folder: it is read every ten seconds");
        })
        .ok()
}

struct Look {
    path: PathBuf,
    /// What was told last.
    last: Reading,
    /// Another content, seen once.
    unsure: Option<Reading>,
}

impl Look {
    fn run(&mut self, asked: &Receiver<Ask>, contents: &UnboundedSender<Content>) {
        let mut due = Instant::now() + CHECK_EVERY;
        loop {
            let told = match asked.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Ask::Hint) => {
                    due = due.min(Instant::now() + STEADY);
                    continue;
                }
                Ok(Ask::Now) => {
                    (self.last, self.unsure) = (Config::read(&self.path), None);
                    Some(true)
                }
                Err(RecvTimeoutError::Timeout) => self.look().then_some(false),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            due = Instant::now() + if self.unsure.is_some() { STEADY } else { CHECK_EVERY };
            if let Some(asked) = told
                && contents.send(Content { reading: self.last.clone(), asked }).is_err()
            {
                return;
            }
        }
    }

    /// Reads the file; true if it holds another content than was told last, and has for a moment.
    fn look(&mut self) -> bool {
        let reading = Config::read(&self.path);
        if reading == self.last {
            self.unsure = None;
            return false;
        }
        let steady = self.unsure.as_ref() == Some(&reading);
        if steady {
            self.unsure = None;
            self.last = reading;
        } else {
            self.unsure = Some(reading);
        }
        steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn next(contents: &mut UnboundedReceiver<Content>) -> Content {
        // Well before the file would be read without a hint.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let next = runtime.block_on(async { tokio::time::timeout(CHECK_EVERY / 2, contents.recv()).await });
        next.expect("a content in time").expect("the watching goes on")
    }

    #[test]
    fn a_config_map_is_noticed_when_kubelet_swaps_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("taffrail.toml"), text).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/taffrail.toml", path("taffrail.toml")).unwrap();
        let (tell, mut contents) = unbounded_channel();
        let source = Source::watch(&path("taffrail.toml"), b"one".to_vec(), tell).unwrap();
        for (version, text) in [("..2", "two"), ("..1", "one")] {
            symlink(version, path("..data_tmp")).unwrap();
            fs::rename(path("..data_tmp"), path("..data")).unwrap();
            let content = next(&mut contents);
            assert_eq!((content.reading.unwrap(), content.asked), (text.into(), false));
        }
        // Asked, it answers though nothing has changed.
        source.ask();
        assert!(next(&mut contents).asked);
    }

    #[test]
    fn a_content_is_told_once_it_stands_and_a_file_that_goes_is_told_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taffrail.toml");
        let mut look = Look { path: path.clone(), last: Ok(b"one".to_vec()), unsure: None };
        fs::write(&path, "half").unwrap();
        assert!(!look.look());
        fs::write(&path, "the whole").unwrap();
        assert!(!look.look());
        assert!(look.look() && look.last == Ok(b"the whole".to_vec()) && !look.look());
        fs::remove_file(&path).unwrap();
        assert!(!look.look() && look.look() && look.last.is_err() && !look.look());
        // Back before it was told twice: nothing was.
        fs::write(&path, "the whole").unwrap();
        assert!(!look.look() && look.look());
        fs::write(&path, "other").unwrap();
        assert!(!look.look());
        fs::write(&path, "the whole").unwrap();
        assert!(!look.look() && look.unsure.is_none());
    }
}
