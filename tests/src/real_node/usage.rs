//! What a container or pod takes, as the kernel counts it for its control group (v1 or v2).
//!
//! What comes in: a process of it. What goes out: seconds of processor time, bytes of memory. It changes
//! nothing unless it is told to take memory away.

use std::fs;
use std::path::{Path, PathBuf};

/// What one that is squeezed has beside, so that it is not ended by nothing.
const SQUEEZED: u64 = 256 << 10;

/// A control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    memory: PathBuf,
    cpu: PathBuf,
}

impl Group {
    /// That of the container which a process is of; none if it has ended.
    pub fn of_container(process: u32) -> Option<Group> {
        let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        // NUMBER:CONTROLLERS:PATH, without controllers in v2.
        let of = |controller: &str| {
            text.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
                let folder = if controllers.is_empty() { "" } else { controller };
                let is_it = controllers.split(',').any(|one| one == folder);
                let found = Path::new("/sys/fs/cgroup").join(folder).join(path);
                (is_it && found.exists()).then_some(found)
            })
        };
        let v2 = || of("");
        Some(Group { memory: of("memory").or_else(v2)?, cpu: of("cpuacct").or_else(v2)? })
    }

    /// That of the container's pod, which outlives the container.
    pub fn pod(&self) -> Group {
        let above = |path: &Path| path.parent().unwrap_or(path).to_owned();
        Group { memory: above(&self.memory), cpu: above(&self.cpu) }
    }

    /// Seconds of processor time so far.
    pub fn cpu_seconds(&self) -> Option<f64> {
        if let Some(nanoseconds) = number(&self.cpu.join("cpuacct.usage")) {
            return Some(nanoseconds as f64 / 1e9);
        }
        Some(field(&self.cpu.join("cpu.stat"), "usage_usec")? as f64 / 1e6)
    }

    /// Bytes of memory that it could not give back at once: what `kubectl top` shows.
    pub fn working_set(&self) -> Option<u64> {
        let stat = self.memory.join("memory.stat");
        let used = self.used()?;
        Some(
            used.saturating_sub(
                field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file"))?,
            ),
        )
    }

    /// Leaves it hardly more memory than what it has now beside caches of files, so that the kernel ends it once it needs more: a
    /// runtime starts no container with so low a limit from its beginning.
    ///
    /// # Panics
    /// When it has ended, or the kernel refuses.
    pub fn squeezes(&self) {
        let stat = self.memory.join("memory.stat");
        let cache = field(&stat, "total_cache").or_else(|| field(&stat, "file"));
        let held = self.used().zip(cache).map(|(used, cache)| used - cache).expect("what it uses");
        let limits = ["memory.limit_in_bytes", "memory.max"].map(|name| self.memory.join(name));
        let limit = limits.iter().find(|limit| limit.exists()).expect("a limit");
        fs::write(limit, (held + SQUEEZED).to_string()).expect("to lower the limit");
    }

    /// Bytes of memory, the cache of files in them.
    pub fn used(&self) -> Option<u64> {
        let of = |name: &str| number(&self.memory.join(name));
        of("memory.usage_in_bytes").or_else(|| of("memory.current"))
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
