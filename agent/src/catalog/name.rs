//! Names on disk: what the kubelet's directories and files say about a pod, a container and a rotation.
//!
//! In: file names. Out: their parts, or nothing for names that are not the kubelet's. Never touches the disk.

/// The parts of `<namespace>_<pod>_<uid>`, the kubelet's directory of one pod's logs.
#[derive(Debug, PartialEq, Eq)]
pub struct PodName<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod; not an identity, a StatefulSet uses it again.
    pub pod: &'a str,
    /// The pod's uid; for a static pod the hash of its configuration.
    pub uid: &'a str,
}

impl<'a> PodName<'a> {
    /// Reads a directory's name. Kubernetes allows no underscore in any of the three parts.
    pub fn parse(directory: &'a str) -> Option<PodName<'a>> {
        let mut parts = directory.split('_');
        let name = PodName { namespace: parts.next()?, pod: parts.next()?, uid: parts.next()? };
        let whole = parts.next().is_none()
            && !name.namespace.is_empty()
            && !name.pod.is_empty()
            && !name.uid.is_empty();
        whole.then_some(name)
    }
}

/// The parts of `<restart>.log[.<time of rotation>[.gz]]`.
///
/// The derived order is the order of reading within a container: by restart, rotated files by their time (the
/// kubelet's `YYYYMMDD-HHMMSS` sorts as text), the live file last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    /// How often the container had been restarted when the file was begun.
    pub restart: u32,
    /// When the kubelet rotated the file, as it wrote it into the name.
    pub rotation: Rotation,
    /// Whether the kubelet has compressed the file.
    pub packed: bool,
}

/// Whether a file is the one the runtime writes to, or an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rotation {
    /// Renamed by the kubelet at the time in its name.
    Rotated(String),
    /// The file that the runtime writes to.
    Live,
}

impl LogName {
    /// Reads a file's name; `None` for what is not a log, such as the `.tmp` of a compression under way.
    pub fn parse(file: &str) -> Option<LogName> {
        let (restart, rest) = file.split_once(".log")?;
        if restart.is_empty() || !restart.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let restart = restart.parse().ok()?;
        if rest.is_empty() {
            return Some(LogName { restart, rotation: Rotation::Live, packed: false });
        }
        let rest = rest.strip_prefix('.')?;
        let (time, packed) = rest.strip_suffix(".gz").map_or((rest, false), |time| (time, true));
        let begins_like_a_date = time.len() >= 8 && time.as_bytes()[..8].iter().all(u8::is_ascii_digit);
        if !begins_like_a_date || time.contains('.') {
            return None;
        }
        Some(LogName { restart, rotation: Rotation::Rotated(time.to_owned()), packed })
    }

    /// Whether this is the file that the runtime writes to.
    pub fn is_live(&self) -> bool {
        self.rotation == Rotation::Live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_directories() {
        let name = PodName::parse("shop_web-0_0b6f").unwrap();
        assert_eq!((name.namespace, name.pod, name.uid), ("shop", "web-0", "0b6f"));
        for bad in ["", "shop", "shop_web", "shop_web_", "_web_1", "shop__1", "a_b_c_d"] {
            assert_eq!(PodName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn log_files_sort_in_the_order_they_were_written() {
        let mut names = ["1.log", "0.log.20261123-155401.gz", "0.log", "0.log.20261123-155501"]
            .map(|n| LogName::parse(n).unwrap());
        names.sort();
        assert_eq!(names.clone().map(|n| n.restart), [0, 0, 0, 1]);
        assert!(names[0].packed && !names[1].packed && names[2].is_live() && names[3].is_live());
    }

    #[test]
    fn what_is_no_log_is_left_alone() {
        for bad in
            ["", ".log", "a.log", "0.log.gz", "0.log.20261123-155401.tmp", "0.log.tmp", "0.logs", "-1.log"]
        {
            assert_eq!(LogName::parse(bad), None, "{bad}");
        }
    }
}
