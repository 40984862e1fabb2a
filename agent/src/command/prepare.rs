//! `taffrail prepare`: gives the state directory to a group, so that an agent which is not root can keep its state there.
//!
//! In: a directory that belongs to whoever calls, such as one that kubelet has just made for root, and a group that the
//! caller is in. Out: the directory and what the agent has left in it can be written to by the group. Needs no
//! capability: an owner may give a file to any group of its own. Never touches what has another name elsewhere (a
//! retained log is a hard link to the log itself), follows no link, and leaves what is another's as it is.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rustix::fs::{AtFlags, CWD, Gid, chownat};

/// What may be said to it.
#[derive(Debug, Clone, Args)]
pub struct PrepareArgs {
    /// The group of the agent, by number
    #[arg(long, value_name = "GID")]
    group: u32,
    /// The state directory
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Gives the directory to the group; it is made if it is not there.
pub fn prepare(args: &PrepareArgs) -> ExitCode {
    let given = fs::create_dir_all(&args.directory)
        .and_then(|()| give(&args.directory, Gid::from_raw(args.group), rustix::process::geteuid().as_raw()));
    match given {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot give {} to group {}: {error}", args.directory.display(), args.group);
            ExitCode::FAILURE
        }
    }
}

fn give(path: &Path, group: Gid, owner: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let ours = found.is_dir() || found.is_file() && found.nlink() == 1;
    if !ours || found.uid() != owner {
        return Ok(());
    }
    chownat(CWD, path, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    // For folders the group is that of what is made in them, and who may enter may write.
    let mode = found.permissions().mode() | if found.is_dir() { 0o2070 } else { 0o060 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group, owner)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_gets_the_agents_own_files_but_no_retained_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("state")).unwrap();
        fs::write(path("state/search.positions"), "").unwrap();
        fs::write(path("log"), "").unwrap();
        for file in ["log", "state/search.positions"] {
            fs::set_permissions(path(file), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::hard_link(path("log"), path("state/retained")).unwrap();
        std::os::unix::fs::symlink(path("log"), path("state/link")).unwrap();
        let group = rustix::process::getegid().as_raw();
        let args = PrepareArgs { group, directory: path("state") };
        assert_eq!(prepare(&args), ExitCode::SUCCESS);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("state") & 0o2070, 0o2070);
        assert_eq!(mode("state/search.positions"), 0o660);
        assert_eq!(mode("log"), 0o600);
    }
}
