//! Opens what lies beneath a root, and nothing else.
//!
//! In: a root and a path below it. Out: an open regular file or directory. Never follows a link (the one way a
//! link is followed is [`Roots::open_link`], into a root that the configuration allows), never blocks: a FIFO
//! or a device is opened non-blocking, seen for what it is, and refused.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

/// Opens a directory entry that must itself be a directory, not a link to one.
pub fn directory(parent: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory entry that must be a regular file, for reading.
pub fn regular(parent: impl AsFd, name: &str) -> io::Result<File> {
    // NONBLOCK: opening a FIFO for reading would otherwise wait for a writer, for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(parent, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// The folders that logs may lie in.
#[derive(Debug, Clone)]
pub struct Roots {
    logs: PathBuf,
    links: Vec<PathBuf>,
}

impl Roots {
    /// `logs` is the root of the pod logs; `links` are the roots into which links below it may lead.
    pub fn new(logs: PathBuf, links: Vec<PathBuf>) -> Roots {
        Roots { logs, links }
    }

    /// The root of the pod logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Opens the root itself. It is the administrator's, so that it may be a link.
    pub fn open(&self) -> io::Result<OwnedFd> {
        open_root(&self.logs)
    }

    /// Opens a log again by its path below the root of the pod logs (`<pod>/<container>/<file>`).
    pub fn open_log(&self, path: &Path) -> io::Result<File> {
        open_below(self.open()?, path)
    }

    /// Opens what a link below the logs points to, if that lies in an allowed root.
    ///
    /// The link is resolved to the end first and the result is then opened from its root component by component
    /// without following anything: what is exchanged in between is refused, not followed.
    pub fn open_link(&self, path: &Path) -> io::Result<File> {
        let target = self.logs.join(path).canonicalize()?;
        for root in self.links.iter().chain([&self.logs]) {
            let Ok(root) = root.canonicalize() else { continue };
            if let Ok(rest) = target.strip_prefix(&root) {
                return open_below(open_root(&root)?, rest);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it links to {}, outside the allowed `link_roots`", target.display()),
        ))
    }
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_below(root: OwnedFd, path: &Path) -> io::Result<File> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "the path leaves its root");
    let mut components = path.components().peekable();
    let mut parent = root;
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else { return Err(refused()) };
        let name = name.to_str().ok_or_else(refused)?;
        if components.peek().is_none() {
            return regular(parent, name);
        }
        parent = directory(parent, name)?;
    }
    Err(refused())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_below_the_roots_are_opened() {
        let outer = tempfile::tempdir().unwrap();
        let (logs, docker) = (outer.path().join("pods"), outer.path().join("docker"));
        fs::create_dir_all(logs.join("pod/app")).unwrap();
        fs::create_dir_all(docker.join("c1")).unwrap();
        fs::write(docker.join("c1/json.log"), "x").unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        fs::write(logs.join("pod/app/0.log"), "x").unwrap();
        symlink(docker.join("c1/json.log"), logs.join("pod/app/1.log")).unwrap();
        symlink(outer.path().join("secret"), logs.join("pod/app/2.log")).unwrap();
        symlink(outer.path(), logs.join("out")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            logs.join("pod/app/3.log"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        let roots = Roots::new(logs, vec![docker]);

        assert!(roots.open_log(Path::new("pod/app/0.log")).is_ok());
        for refused in
            ["pod/app/1.log", "pod/app/3.log", "out/secret", "../secret", "/etc/passwd", "pod/app", ""]
        {
            assert!(roots.open_log(Path::new(refused)).is_err(), "{refused}");
        }
        assert!(roots.open_link(Path::new("pod/app/1.log")).is_ok());
        let error = roots.open_link(Path::new("pod/app/2.log")).unwrap_err();
        assert!(error.to_string().contains("link_roots"), "{error}");
        assert!(roots.open_link(Path::new("out/secret")).is_err());
    }
}
