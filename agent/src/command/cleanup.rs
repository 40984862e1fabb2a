//! `taffrail cleanup`: removes everything that the agent has left on a node.
//!
//! In: a configuration, for the place of the state directory. Out: a directory without a file of ours, and gone itself if
//! nothing else is in it. Removes what is by its name the agent's, and nothing else; never while an agent runs;
//! never what file outputs have written, which is the user's.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::configured;
use super::run::reload::LAST_RUN;
use super::terminal::agreed;
use crate::admin::ADDRESSES;
use crate::config::ByteSize;
use crate::health;
use crate::output::dead_letter;
use crate::pipeline::{StartError, lock_state};

/// The exit code for a configuration with mistakes, and where nobody has said yes.
const NOT_DONE: u8 = 2;

/// Folders in the state directory that are wholly the agent's.
const FOLDERS: [&str; 4] = ["retained", dead_letter::FOLDER, "metadata", health::file::FOLDER];

/// Endings of the agent's files in it, beside the lock: positions and marks of outputs that are removed, the register of
/// host files, the configuration that ran last, what was set aside as damaged, what a crash left half written.
const ENDINGS: [&str; 9] = [
    ".positions",
    ".positions.before",
    ".removed",
    "host-files.json",
    "host-files.tmp",
    LAST_RUN,
    ADDRESSES,
    ".damaged",
    ".tmp",
];

/// What may be said to it.
#[derive(Debug, Clone, Args)]
pub struct CleanupArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Removes what the agent of this configuration has left.
pub fn cleanup(path: Option<&Path>, args: &CleanupArgs) -> ExitCode {
    let config = match configured(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let folder = config.state_dir.display();
    if !config.state_dir.is_dir() {
        println!("nothing to remove: there is no {folder}");
        return ExitCode::SUCCESS;
    }
    // Held until everything is gone: an agent that starts meanwhile would find half of it.
    let _lock = match lock_state(&config) {
        Ok(lock) => lock,
        Err(StartError::Locked { .. }) => {
            return fail(&format!(
                "an agent runs over {folder}: stop it first, and what would start it again"
            ));
        }
        Err(error) => return fail(&error),
    };
    let left = match find(&config.state_dir) {
        Ok(left) => left,
        Err(error) => return fail(&format!("cannot read {folder}: {error}")),
    };
    let count = match left.files.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    let freed = ByteSize::new(left.bytes);
    println!("{folder}: {count} of the agent's, {freed} on disk that nobody else has");
    match left.letters {
        0 => {}
        1 => println!(
            "1 record that a destination refused is among it; `taffrail dead-letter replay` would send it again"
        ),
        letters => println!(
            "{letters} records that destinations refused are among it; `taffrail dead-letter replay` would send them again"
        ),
    }
    if !args.yes && !agreed("Remove it? What is unread of deleted logs, and dead letters, go with it.") {
        eprintln!("nothing was removed; say --yes to remove it");
        return ExitCode::from(NOT_DONE);
    }
    match remove(&config.state_dir, &left) {
        Ok(true) => println!("removed, and {folder} itself"),
        Ok(false) => println!("removed; {folder} holds something else, and stays"),
        Err(error) => return fail(&error),
    }
    ExitCode::SUCCESS
}

/// What the agent has left.
#[derive(Debug, Default)]
struct Left {
    files: Vec<PathBuf>,
    /// The folders that these lie in, each behind the ones in it.
    folders: Vec<PathBuf>,
    /// Bytes of disk that their going frees.
    bytes: u64,
    /// Records among it that no destination has taken.
    letters: u64,
}

fn find(state_dir: &Path) -> io::Result<Left> {
    let mut left = Left::default();
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if FOLDERS.contains(&name.as_ref()) {
                left.take_folder(entry.path())?;
            }
        } else if name == "lock" || ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            left.take_file(entry.path())?;
        }
    }
    let letters = state_dir.join(dead_letter::FOLDER);
    let is_letters = |file: &&PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&letters) && name.contains(".ndjson")
    };
    left.letters = left.files.iter().filter(is_letters).map(|file| records(file)).sum::<io::Result<u64>>()?;
    Ok(left)
}

fn records(file: &Path) -> io::Result<u64> {
    let lines = BufReader::new(File::open(file)?).split(b'\n');
    lines.map(|line| line.map(|line| u64::from(!line.is_empty()))).sum()
}

impl Left {
    fn take_folder(&mut self, folder: PathBuf) -> io::Result<()> {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.take_folder(entry.path())?;
            } else {
                self.take_file(entry.path())?;
            }
        }
        self.folders.push(folder);
        Ok(())
    }

    fn take_file(&mut self, file: PathBuf) -> io::Result<()> {
        let found = fs::symlink_metadata(&file)?;
        if found.nlink() == 1 {
            self.bytes += found.blocks() * 512;
        }
        self.files.push(file);
        Ok(())
    }
}

/// Removes it; true if the state directory went too.
fn remove(state_dir: &Path, left: &Left) -> Result<bool, String> {
    let told = |path: &Path, error: io::Error| format!("cannot remove {}: {error}", path.display());
    for file in &left.files {
        fs::remove_file(file).map_err(|error| told(file, error))?;
    }
    for folder in &left.folders {
        fs::remove_dir(folder).map_err(|error| told(folder, error))?;
    }
    match fs::remove_dir(state_dir) {
        Ok(()) => Ok(true),
        // A mount point, or somebody else's files.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => {
            Ok(false)
        }
        Err(error) => Err(told(state_dir, error)),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
