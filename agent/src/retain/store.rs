//! The folder of retained files: names that say all there is to know of a file, so that no index can be lost.
//!
//! In: a log file. Out: a name of ours for it, and after a restart everything that has such a name. The folder has the
//! shape of the pod logs: `<namespace>_<pod>_<uid>/<container>/<restart>-<sequence>-<key>[.gz][.from-OFFSET]`; host files lie
//! under `_host/<source>/`. A file is a hard link to the log, or a copy of what was unread of it, with the same
//! offsets: a hole stands for what had been read. Never follows a link.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, linkat};

use crate::catalog::file::{FileKey, LogFile};
use crate::catalog::name::PodName;
use crate::catalog::origin::{Container, HostLog, Origin};

/// Ending of a copy under way: a crash leaves it behind, and it is removed.
const UNFINISHED: &str = ".tmp";

/// Bytes that are copied at a time.
const CHUNK: usize = 256 << 10;

/// Whose a retained file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A container's, of this run of it.
    Container(Container, u32),
    /// A file of the host, of this table `[files.NAME]`.
    Host(String),
}

/// A file that was found in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub whose: Whose,
    /// Orders the files of a container, over restarts of the agent.
    pub sequence: u64,
    /// Its key.
    pub key: FileKey,
    /// Whether it is compressed.
    pub packed: bool,
    /// Offset of its first byte: not 0 in a copy of what was unread.
    pub begins: u64,
    /// Where it lies.
    pub path: PathBuf,
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The folder of retained files in a state directory. It is made when it is needed.
    pub fn new(state_dir: &Path) -> Store {
        Store { folder: state_dir.join("retained") }
    }

    /// Everything in it, in the order of finding. What an unfinished copy left behind is removed; what is none of ours stays.
    pub fn list(&self) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for of in entries(&self.folder)? {
            let Some(of_name) = name(&of) else { continue };
            for part in entries(&of)? {
                let Some(part_name) = name(&part) else { continue };
                for file in entries(&part)? {
                    if name(&file).is_some_and(|name| name.ends_with(UNFINISHED)) {
                        fs::remove_file(&file)?;
                        continue;
                    }
                    found.extend(parse(of_name, part_name, &file));
                }
            }
        }
        found.sort_by_key(|kept| kept.sequence);
        Ok(found)
    }

    /// Gives an open log a name of ours: a hard link.
    ///
    /// # Errors
    /// As `link` has them: `CrossesDevices` between two mounts, `PermissionDenied` for who does not own the file.
    pub fn link(&self, file: &LogFile, opened: &File) -> io::Result<PathBuf> {
        let path = self.place_for(file, 0)?;
        // By its descriptor, not by its path: that may be another file's by now.
        let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
        match linkat(CWD, &source, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(path),
            Err(rustix::io::Errno::EXIST) => {
                fs::remove_file(&path)?;
                linkat(CWD, &source, CWD, &path, AtFlags::SYMLINK_FOLLOW)?;
                Ok(path)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Copies an open log from `begins` to its end; of a compressed one everything. On return the copy is on disk.
    pub fn copy(&self, file: &LogFile, opened: &File, begins: u64) -> io::Result<(PathBuf, Arc<File>)> {
        let path = self.place_for(file, begins)?;
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let copied = copy_from(opened, Path::new(&unfinished), begins)
            .and_then(|copy| fs::rename(&unfinished, &path).map(|()| copy));
        match copied {
            Ok(copy) => Ok((path, Arc::new(copy))),
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    /// Removes a name of ours, and the folders that are empty then.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.folder) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The path for a file, with the folders above it.
    fn place_for(&self, file: &LogFile, begins: u64) -> io::Result<PathBuf> {
        let folder = match &*file.origin {
            Origin::Container(container) => self.folder.join(container.directory()),
            Origin::Host(host) => self.folder.join(HostLog::NAMESPACE).join(&host.source),
        };
        // Logs are nobody's business but their owner's.
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let packed = if file.is_packed() { ".gz" } else { "" };
        let from = if begins > 0 { format!(".from-{begins}") } else { String::new() };
        Ok(folder.join(format!("{}-{:010}-{}{packed}{from}", file.name.restart, file.sequence, file.key)))
    }
}

fn copy_from(from: &File, to: &Path, begins: u64) -> io::Result<File> {
    let copy = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let (mut buffer, mut at) = (vec![0; CHUNK], begins);
    loop {
        match from.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(read) => {
                copy.write_all_at(&buffer[..read], at)?;
                at += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    copy.set_len(at)?;
    copy.sync_all()?;
    Ok(copy)
}

fn parse(of: &str, part: &str, path: &Path) -> Option<Kept> {
    let mut parts = name(path)?.splitn(3, '-');
    let (restart, sequence, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (key, rest) = rest.split_at_checked(FileKey::TEXT_LEN)?;
    let (packed, rest) = rest.strip_prefix(".gz").map_or((false, rest), |rest| (true, rest));
    let begins = match rest.strip_prefix(".from-") {
        Some(offset) => offset.parse().ok()?,
        None if rest.is_empty() => 0,
        None => return None,
    };
    let whose = if of == HostLog::NAMESPACE {
        Whose::Host(part.to_owned())
    } else {
        let PodName { namespace, pod, uid } = PodName::parse(of)?;
        let (namespace, pod, uid) = (namespace.to_owned(), pod.to_owned(), uid.to_owned());
        Whose::Container(Container { namespace, pod, uid, name: part.to_owned() }, restart.parse().ok()?)
    };
    let (key, path) = (FileKey::parse(key)?, path.to_owned());
    Some(Kept { whose, sequence: sequence.parse().ok()?, key, packed, begins, path })
}

fn name(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// What is in a folder; nothing where there is none, or where it is none.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_all_there_is_to_know() {
        let key = "AAECAwQFBgcICQoLDA0ODw";
        let read = |of: &str, part: &str, file: &str| parse(of, part, Path::new(file));
        let kept = read("shop_web-0_u1", "app", &format!("2-0000000017-{key}.gz.from-4096")).unwrap();
        let container =
            Container { namespace: "shop".into(), pod: "web-0".into(), uid: "u1".into(), name: "app".into() };
        assert_eq!(kept.whose, Whose::Container(container, 2));
        assert_eq!((kept.sequence, kept.key.to_string().as_str()), (17, key));
        assert_eq!((kept.packed, kept.begins), (true, 4096));
        let host = read("_host", "system", &format!("0-0000000003-{key}")).unwrap();
        assert_eq!((host.whose, host.packed, host.begins), (Whose::Host("system".into()), false, 0));
        for bad in ["", "0-1", &format!("0-1-{key}.xz"), &format!("x-1-{key}"), "0-1-short"] {
            assert_eq!(read("shop_web-0_u1", "app", bad), None, "{bad}");
        }
        assert_eq!(read("shop", "app", &format!("0-1-{key}")), None);
    }

    #[test]
    fn a_copy_has_the_offsets_of_what_it_was_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::write(&source, [vec![b'r'; 100_000], vec![b'u'; 300_000]].concat()).unwrap();
        let copy = copy_from(&File::open(&source).unwrap(), &folder.path().join("copy"), 100_000).unwrap();
        let mut bytes = vec![0; 300_000];
        copy.read_exact_at(&mut bytes, 100_000).unwrap();
        assert!(bytes.iter().all(|byte| *byte == b'u'));
        assert_eq!(copy.metadata().unwrap().len(), 400_000);
    }
}
