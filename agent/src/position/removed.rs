//! Positions of outputs that the configuration has no more: kept for a day, and used if the output comes back.
//!
//! In: the state directory and the outputs that there are. Out: a marker `NAME.removed` beside the positions of each
//! other, as old as its removal is known; a day later all of them are gone. The positions' own time would not do: it is
//! when they last changed, which of a silent output may be long before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long positions of a removed output are kept.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// How often it is looked whether the time of some has come.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// What follows an output's name.
const ENDINGS: [&str; 3] = [".positions", ".positions.before", ".removed"];

/// The state directory, and the outputs whose positions are not to be touched.
#[derive(Debug)]
pub struct Removed {
    directory: PathBuf,
    configured: BTreeSet<String>,
    looked: Instant,
}

impl Removed {
    /// Marks the positions of all outputs but these, and removes what was marked a day ago.
    pub fn other_than(configured: impl IntoIterator<Item = String>, directory: &Path) -> Removed {
        let configured = configured.into_iter().collect();
        let removed = Removed { directory: directory.to_owned(), configured, looked: Instant::now() };
        removed.look(SystemTime::now());
        removed
    }

    /// Looks again, now and then.
    pub fn look_now_and_then(&mut self) {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.look(SystemTime::now());
        }
    }

    fn look(&self, now: SystemTime) {
        if let Err(error) = self.try_look(now) {
            tracing::warn!(directory = %self.directory.display(), %error,
                "cannot look after the positions of removed outputs; they stay");
        }
    }

    fn try_look(&self, now: SystemTime) -> io::Result<()> {
        let mut outputs: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let output = name.and_then(|name| ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)));
            if let Some(output) = output {
                outputs.entry(output.to_owned()).or_default().push(path.clone());
            }
        }
        for (output, files) in outputs {
            let marker = self.directory.join(format!("{output}.removed"));
            let since = fs::metadata(&marker).and_then(|marker| marker.modified());
            if self.configured.contains(&output) {
                if since.is_ok() {
                    fs::remove_file(&marker)?;
                }
                continue;
            }
            match since {
                Ok(since) if now.duration_since(since).is_ok_and(|gone| gone > KEEP) => {
                    files.iter().try_for_each(fs::remove_file)?;
                    tracing::info!(
                        output,
                        "removed for a day: its positions are gone, should it come back it begins anew"
                    );
                }
                Ok(_) => {}
                Err(_) => {
                    File::create(&marker)?;
                    tracing::info!(output, "not configured any more: its positions are kept for a day");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_a_removed_output_are_kept_for_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.positions", "a.positions.before", "b.positions", "other", "lock"] {
            fs::write(path(name), "").unwrap();
        }
        let both = ["a", "b"].map(String::from);
        Removed::other_than(both.clone(), folder.path());
        assert!(!path("a.removed").exists() && !path("b.removed").exists());

        // The day begins when it is first missed, however old its positions are.
        fs::File::open(path("a.positions")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let without = Removed::other_than(["b".to_owned()], folder.path());
        let removed = SystemTime::now();
        without.look(removed + KEEP - Duration::from_secs(60));
        assert!(path("a.removed").exists() && path("a.positions").exists());

        // It comes back, and goes again: another day.
        Removed::other_than(both, folder.path());
        assert!(path("a.positions").exists() && !path("a.removed").exists());
        let without = Removed::other_than(["b".to_owned()], folder.path());
        without.look(SystemTime::now() + KEEP + Duration::from_secs(60));
        let left = ["a.positions", "a.positions.before", "a.removed"].map(|name| path(name).exists());
        assert_eq!(left, [false; 3]);
        assert!(["b.positions", "other", "lock"].iter().all(|name| path(name).exists()));
    }
}
