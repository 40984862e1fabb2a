//! A wall clock that a test sets, for the agent alone: libfaketime between it and the system.
//!
//! In: hours by which the clock is off. Out: a way to start the agent, and jumps of its clock while it runs. The
//! monotonic clock and the times of files are the system's own, as on a machine whose wall clock is set.

use crate::node::Node;
use std::fs;
use std::path::{Path, PathBuf};

/// The clock of one node's agents.
pub struct FakeClock {
    offset: PathBuf,
    library: PathBuf,
}

impl FakeClock {
    /// A clock that is right, until it jumps. `None`, with a word that names the test, where there is no libfaketime: env
    /// `TAFFRAIL_FAKETIME`, what `tests/run` has unpacked, or Debian's package.
    pub fn new(node: &Node, test: &str) -> Option<FakeClock> {
        let Some(library) = library() else {
            println!("skipped: {test}, for want of libfaketime (Debian: apt-get install libfaketime)");
            return None;
        };
        let clock = FakeClock { offset: node.path().join("clock"), library };
        clock.jumps(0);
        Some(clock)
    }

    /// What becomes the agent under this clock, for [`crate::agent::Agent::start_by`].
    pub fn way(&self) -> Vec<String> {
        let set = |name: &str, value: &str| format!("{name}={value}");
        vec![
            "env".to_owned(),
            set("LD_PRELOAD", &self.library.display().to_string()),
            set("FAKETIME_TIMESTAMP_FILE", &self.offset.display().to_string()),
            set("FAKETIME_NO_CACHE", "1"),
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            set("NO_FAKE_STAT", "1"),
        ]
    }

    /// Sets it so many hours before or behind the true time, at once.
    ///
    /// # Panics
    /// When the file that says so cannot be written.
    pub fn jumps(&self, hours: i64) {
        let fresh = self.offset.with_extension("fresh");
        fs::write(&fresh, format!("{hours:+}h")).expect("to write the clock's offset");
        fs::rename(&fresh, &self.offset).expect("to set the clock");
    }
}

fn library() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("TAFFRAIL_FAKETIME") {
        return Some(PathBuf::from(named)).filter(|path| path.exists());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    let unpacked = cache.map(|cache| cache.join("taffrail-tests/faketime/usr/lib"));
    unpacked.into_iter().chain([PathBuf::from("/usr/lib")]).find_map(|lib| below(&lib))
}

/// The library below `lib`, which lies in a folder named by the machine.
fn below(lib: &Path) -> Option<PathBuf> {
    let machines = fs::read_dir(lib).ok()?.flatten();
    machines.map(|machine| machine.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
}
