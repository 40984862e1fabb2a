//! What the system says of this process: for metrics under the names that Prometheus' own libraries give them.
//!
//! In: `/proc/self`. Out: numbers; those that cannot be had are left out.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Seconds of processor time.
    pub cpu_seconds: f64,
    /// Bytes of memory that are resident.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Descriptors that are open.
    pub open_fds: Option<u64>,
    /// And may be, at most.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Process {
    /// As it is now.
    pub fn now() -> Process {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        Process {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: field("VmRSS").map(|kib| kib * 1024),
            virtual_bytes: field("VmSize").map(|kib| kib * 1024),
            // One of them is that of the folder itself.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            threads: field("Threads"),
        }
    }
}

/// Seconds since the epoch.
pub fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let process = Process::now();
        assert!(process.cpu_seconds > 0.0);
        assert!(process.resident_bytes.unwrap() > 1 << 20 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_fds.unwrap() >= 3 && process.max_fds >= process.open_fds);
        assert!(process.threads.unwrap() >= 1);
    }
}
