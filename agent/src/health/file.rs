//! The file of health records: lines in a container runtime's form, which outputs read as any other log.
//!
//! In: records. Out: `health.log` in a folder of the state directory, which becomes `health.log.1` once it has grown: two files
//! at most, whatever becomes of the outputs. What of an older one is unread is kept by `retain`, as of every log, within its
//! budget. A line that a crash has cut is ended before the next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::clock::unix_nanos;
use crate::record::time;

/// Its folder in the state directory.
pub const FOLDER: &str = "health";

/// The files in it, the one that is written to first.
pub const NAMES: [&str; 2] = ["health.log", "health.log.1"];

/// At this size a file is rotated.
const MOST_BYTES: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct HealthFile {
    folder: PathBuf,
    open: Option<(File, u64)>,
}

impl HealthFile {
    /// In this state directory. Nothing is made before there is something to write.
    pub fn new(state_dir: &Path) -> HealthFile {
        HealthFile { folder: state_dir.join(FOLDER), open: None }
    }

    /// Appends a record each, all of this moment: JSON of one line.
    ///
    /// # Errors
    /// The disk does not take it, or the file has grown and cannot be rotated: then nothing is added. Some of it may be written;
    /// the next call begins a line of its own.
    pub fn append<T: AsRef<str>>(&mut self, records: &[T]) -> io::Result<()> {
        let now = time::format_nanos(unix_nanos());
        let text: String =
            records.iter().map(|record| format!("{now} stdout F {}\n", record.as_ref())).collect();
        let is_over = |size: u64| size > 0 && size + text.len() as u64 > MOST_BYTES;
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        if is_over(size) {
            let [live, rotated] = NAMES.map(|name| self.folder.join(name));
            match fs::rename(live, rotated) {
                Ok(()) => {}
                // Somebody has removed it: then there is none to be rotated.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            (file, size) = self.begin()?;
        }
        if is_over(size) {
            return Err(io::Error::other("the file has grown, and could not be rotated"));
        }
        file.write_all(text.as_bytes())?;
        self.open = Some((file, size + text.len() as u64));
        Ok(())
    }

    fn begin(&self) -> io::Result<(File, u64)> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(NAMES[0]);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(size - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok((file, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_are_all_there_is_and_no_line_is_cut_by_their_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = HealthFile::new(folder.path());
        let record = format!("{{\"message\":\"{}\"}}", "x".repeat(1000));
        for _ in 0..5 * MOST_BYTES / 10_000 {
            file.append(&[&record; 10]).unwrap();
        }
        let found = fs::read_dir(folder.path().join(FOLDER)).unwrap().map(Result::unwrap);
        let mut names: Vec<_> = found.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, NAMES);
        for name in NAMES {
            let text = fs::read_to_string(folder.path().join(FOLDER).join(name)).unwrap();
            assert!(text.len() as u64 <= MOST_BYTES && !text.is_empty());
            assert!(text.lines().all(|line| line.ends_with(&format!(" stdout F {record}"))));
        }
    }

    #[test]
    fn a_file_that_cannot_be_rotated_grows_no_further_and_one_that_is_gone_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = HealthFile::new(folder.path());
        let record = "x".repeat(400_000);
        let [live, rotated] = NAMES.map(|name| folder.path().join(FOLDER).join(name));
        // A folder that is not empty takes no file's place.
        fs::create_dir_all(rotated.join("in-the-way")).unwrap();
        file.append(&[&record, &record]).unwrap();
        let size = fs::metadata(&live).unwrap().len();
        for _ in 0..3 {
            file.append(&[&record]).unwrap_err();
            assert_eq!(fs::metadata(&live).unwrap().len(), size);
        }
        fs::remove_dir_all(&rotated).unwrap();
        file.append(&[&record]).unwrap();
        assert_eq!(fs::metadata(&rotated).unwrap().len(), size);
        file.append(&[&record]).unwrap();
        fs::remove_file(&live).unwrap();
        file.append(&[&record]).unwrap();
        assert!(fs::metadata(&live).unwrap().len() < size);
    }

    #[test]
    fn a_line_that_a_crash_has_cut_does_not_take_the_next_with_it() {
        let folder = tempfile::tempdir().unwrap();
        HealthFile::new(folder.path()).append(&["{\"a\":1}"]).unwrap();
        let path = folder.path().join(FOLDER).join(NAMES[0]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        HealthFile::new(folder.path()).append(&["{\"b\":2}"]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(" F ").unwrap().1).collect();
        assert_eq!(lines, ["{\"a\":", "{\"b\":2}"]);
    }
}
