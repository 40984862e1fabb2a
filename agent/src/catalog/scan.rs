//! Listing the root and the pods: which containers have come and which are gone.
//!
//! In: directory entries, and hints which to look at. Out: changes to the [`Scanner`]'s picture. An error that is not
//! "it is gone" changes nothing: what cannot be seen is not taken for deleted, and neither is what lies below a root
//! that is away.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, fstat};

use super::directory::Directory;
use super::name::PodName;
use super::origin::Container;
use super::{Catalog, Parent, Scanner, Seen, beneath};

/// Which pods to list.
pub(super) enum Which {
    /// Each that may have changed: the rescan.
    All,
    /// Those that were hinted at, and new ones.
    Changed(HashSet<PathBuf>),
}

impl Catalog {
    /// How many logs, or folders of logs, could not be read when they were last looked at.
    pub fn unreadable(&self) -> u64 {
        self.inbox.unreadable.get()
    }
}

impl Scanner {
    /// Lists the root; of the pods below it, those that `which` says.
    pub(super) fn scan_root(&mut self, which: Which) {
        let root = match self.open_root() {
            Some(root) => root,
            None => return,
        };
        // The watch comes before the listing, so that nothing falls between the two; likewise below.
        let listing = watch(self, Path::new(""), &root).and_then(|parent| Ok((parent, list(&root)?)));
        let (parent, entries) = match listing {
            Ok(listed) => listed,
            Err(error) => return self.cannot_list_root(&error),
        };
        self.root = parent;
        let pods: HashSet<String> =
            entries.into_iter().filter(|name| PodName::parse(name).is_some()).collect();
        let vanished: Vec<String> = self.pods.keys().filter(|pod| !pods.contains(*pod)).cloned().collect();
        for pod in vanished {
            self.forget_pod(&pod);
        }
        for pod in pods {
            let known = self.pods.get(&pod);
            match &which {
                Which::All if known.is_some_and(|known| self.is_unchanged(&pod, &known.seen)) => {
                    self.containers_of(&pod).iter().for_each(|path| self.check_container(path));
                }
                Which::Changed(hinted) if known.is_some() && !hinted.contains(Path::new(&pod)) => continue,
                _ => self.scan_pod(&root, &pod),
            }
            // A large tree takes seconds: the end of the agent does not wait for that.
            if self.inbox.is_stopping() {
                return;
            }
        }
        if matches!(which, Which::All) {
            let round = self.told.rescans;
            let unreadable = self.told.unreadable.values().filter(|seen| **seen == round).count();
            self.inbox.unreadable.set(unreadable as u64);
        }
    }

    /// Opens the root; if that cannot be, says so once.
    pub(super) fn open_root(&mut self) -> Option<OwnedFd> {
        match self.settings.roots.open() {
            Ok(root) => {
                if std::mem::take(&mut self.told.root) {
                    tracing::info!(path = %self.settings.roots.logs().display(), "the pod logs can be listed now");
                }
                Some(root)
            }
            Err(error) => {
                self.cannot_list_root(&error);
                None
            }
        }
    }

    fn cannot_list_root(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.told.root, true) {
            tracing::warn!(path = %self.settings.roots.logs().display(), %error,
                "cannot list the pod logs (`pod_logs`): nothing new is found until that works, which is tried again and again");
        }
    }

    fn is_unchanged(&self, pod: &str, then: &Seen) -> bool {
        then.sure && Seen::now(&self.settings.roots.logs().join(pod)).is_same(then)
    }

    fn scan_pod(&mut self, root: &OwnedFd, pod: &str) {
        let listing =
            beneath::directory(root, pod).and_then(|fd| Ok((watch(self, Path::new(pod), &fd)?, list(&fd)?)));
        let (parent, containers) = match listing {
            Ok(listed) => listed,
            Err(error) if is_gone(&error) => return self.forget_pod(pod),
            Err(error) => {
                // Left as it is known; tried again when it changes, and at every rescan.
                let seen = Seen { sure: false, ..Seen::now(&self.settings.roots.logs().join(pod)) };
                self.pods.entry(pod.to_owned()).or_default().seen = seen;
                return self.tell_unreadable(Path::new(pod), &error);
            }
        };
        self.pods.insert(pod.to_owned(), parent);
        let listed: HashSet<PathBuf> = containers.iter().map(|name| Path::new(pod).join(name)).collect();
        for path in self.containers_of(pod) {
            if !listed.contains(&path) {
                self.forget_directory(&path);
            }
        }
        for (path, name) in containers.into_iter().map(|name| (Path::new(pod).join(&name), name)) {
            if let Some(known) = self.directories.get_mut(&path) {
                known.vanished = false;
            } else {
                let Some(of) = PodName::parse(pod) else { return };
                let (namespace, pod, uid) = (of.namespace.to_owned(), of.pod.to_owned(), of.uid.to_owned());
                let container = Container { namespace, pod, uid, name };
                self.directories.insert(path.clone(), Directory::new(container));
            }
            self.scan_container(&path);
        }
    }

    fn containers_of(&self, pod: &str) -> Vec<PathBuf> {
        let from = PathBuf::from(pod);
        let below = self.directories.range(from..).map(|(path, _)| path);
        below.take_while(|path| path.starts_with(pod)).cloned().collect()
    }

    fn forget_pod(&mut self, pod: &str) {
        for path in self.containers_of(pod) {
            self.forget_directory(&path);
        }
        self.watches.remove(Path::new(pod));
        self.pods.remove(pod);
    }
}

/// Watches a directory if possible, and notes when it changed last.
fn watch(scanner: &mut Scanner, path: &Path, fd: &OwnedFd) -> io::Result<Parent> {
    let seen = Seen::of(&fstat(fd)?);
    let watched = seen.identity.is_some_and(|identity| scanner.watches.add(path, identity));
    Ok(Parent { watched, seen })
}

/// The names in a directory. Those that are not UTF-8 are nobody's: neither a pod nor a log can be called so.
pub(super) fn list(fd: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
