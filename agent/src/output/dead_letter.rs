//! Dead letters: records that the destination refused for good, kept on disk with the reason.
//!
//! In: refused items with their documents. Out: NDJSON in the state directory (`dead-letters/<output>.ndjson`, readable
//! by its owner only), bounded: at half of the bound the file is renamed to `….1`, and what was there is counted out.
//! A letter is on disk before its record counts as dealt with; if it cannot be written, the record stays in its log.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::batch::{Run, Sealed};
use crate::clock::unix_nanos;
use crate::config::{BulkOp, ByteSize};
use crate::position::Position;
use crate::record::time;

/// Their folder in the state directory: a file for each output, a record on a line.
pub const FOLDER: &str = "dead-letters";

/// One refused record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Letter {
    /// When it was refused, RFC 3339.
    pub time: String,
    /// Name of the output.
    pub output: String,
    /// HTTP status of the item.
    pub status: u16,
    /// The server's type of error.
    #[serde(rename = "type")]
    pub kind: String,
    /// The server's words.
    pub reason: String,
    /// Index or data stream that it was meant for.
    pub index: String,
    /// What was to be done with it; a letter of a version that wrote none was to be created.
    #[serde(default)]
    pub op: BulkOp,
    /// Its `_id`: the key of its file, and its offsets there. Empty where the server makes ids.
    pub id: String,
    /// The document as it was sent.
    pub document: Box<RawValue>,
    /// The metadata that a compact event of CloudWatch refers to, as an event of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<String>,
}

/// The dead letters of one output.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    path: PathBuf,
    limit: u64,
    writing: Arc<Mutex<()>>,
    /// Who is next to write on a thread of its own.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl DeadLetters {
    /// Those of `output`, below the state directory, of which `limit` is kept.
    pub fn new(state_dir: &Path, output: &str, limit: ByteSize) -> DeadLetters {
        let path = state_dir.join(FOLDER).join(format!("{output}.ndjson"));
        DeadLetters { path, limit: limit.bytes(), writing: Arc::default(), turn: Arc::default() }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn older(&self) -> PathBuf {
        self.path.with_extension("ndjson.1")
    }

    fn replaying(&self) -> PathBuf {
        self.path.with_extension("ndjson.replaying")
    }

    /// Keeps another process (the agent, or a replay) from changing the files meanwhile.
    fn lock(&self) -> io::Result<File> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = File::create(self.path.with_extension("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    /// Appends letters, as [`append`](Self::append) does, on a thread that may wait for a slow disk or for a replay: those of
    /// the network belong to all outputs.
    ///
    /// # Errors
    /// They could not be written, or not be flushed to the disk.
    pub async fn keep(&self, letters: Vec<Letter>) -> io::Result<u64> {
        // One such thread, however many requests had something refused.
        let _turn = self.turn.lock().await;
        let disk = self.clone();
        tokio::task::spawn_blocking(move || disk.append(&letters)).await.map_err(io::Error::other)?
    }

    /// Appends letters; on return they are on disk. Returns how many old ones had to go.
    pub fn append(&self, letters: &[Letter]) -> io::Result<u64> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let _locked = self.lock()?;
        let mut text = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut text, letter)?;
            text.push(b'\n');
        }
        let mut dropped = 0;
        if fs::metadata(&self.path).is_ok_and(|file| file.len() + text.len() as u64 > self.limit / 2) {
            dropped = lines(&self.older())?;
            fs::rename(&self.path, self.older())?;
        }
        let mut file =
            OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&self.path)?;
        let before = file.metadata()?.len();
        if before > 0 && !ends_a_line(&file, before)? {
            // A crash left half a letter, which must not take the next one with it.
            text.insert(0, b'\n');
        }
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        if let Err(error) = written.and_then(|()| if before == 0 { self.sync_folders() } else { Ok(()) }) {
            // Half a letter would spoil the next.
            let _ = file.set_len(before);
            return Err(error);
        }
        Ok(dropped)
    }

    /// A file that was made or renamed is so on disk only when its folder is there, which may be new itself.
    fn sync_folders(&self) -> io::Result<()> {
        self.path.ancestors().skip(1).take(2).try_for_each(|folder| File::open(folder)?.sync_all())
    }

    /// All letters, the oldest first; one for each `_id`, since a crash can make a record be refused again.
    pub fn list(&self) -> io::Result<Vec<Letter>> {
        read(&[self.replaying(), self.older(), self.path.clone()])
    }

    /// Takes all letters aside for a replay: what is refused again is appended anew meanwhile.
    pub fn begin_replay(&self) -> io::Result<Vec<Letter>> {
        let _locked = self.lock()?;
        let mut aside = OpenOptions::new().create(true).append(true).mode(0o600).open(self.replaying())?;
        for path in [self.older(), self.path.clone()] {
            match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => io::copy(&mut file?, &mut aside)?,
            };
            aside.sync_data()?;
            self.sync_folders()?;
            fs::remove_file(path)?;
        }
        read(&[self.replaying()])
    }

    /// Everything that was taken aside has been delivered, or refused and appended anew.
    pub fn end_replay(&self) -> io::Result<()> {
        fs::remove_file(self.replaying())
    }
}

fn ends_a_line(file: &File, length: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

fn read(paths: &[PathBuf]) -> io::Result<Vec<Letter>> {
    let mut letters: Vec<Letter> = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for line in BufReader::new(file).split(b'\n') {
            // What a full disk or a crash cut off is no letter, nor any text perhaps.
            let Ok(letter) = serde_json::from_slice::<Letter>(&line?) else { continue };
            if letter.id.is_empty() || seen.insert(letter.id.clone()) {
                letters.push(letter);
            }
        }
    }
    Ok(letters)
}

/// Letters as a batch, to be sent again.
pub fn sealed(letters: &[Letter]) -> Sealed {
    let mut body = Vec::new();
    for letter in letters {
        let mut target = serde_json::json!({ "_index": letter.index });
        if !letter.id.is_empty() {
            target["_id"] = letter.id.as_str().into();
        }
        body.extend_from_slice(serde_json::json!({ letter.op.as_str(): target }).to_string().as_bytes());
        body.push(b'\n');
        body.extend_from_slice(letter.document.get().as_bytes());
        body.push(b'\n');
    }
    batch(body, letters.len())
}

/// A batch of so many records that no cursor has read.
pub fn batch(body: Vec<u8>, items: usize) -> Sealed {
    let run = Run {
        cursor: 0,
        epoch: 0,
        number: 0,
        start: Position::default(),
        end: Position::default(),
        begun: 0,
        items: items as u32,
        line_bytes: 0,
        in_doubt: true,
    };
    Sealed {
        plain_bytes: body.len() as u64,
        body,
        compressed: false,
        runs: vec![run],
        segments: Vec::new(),
        events: Default::default(),
        items: items as u32,
    }
}

/// The time now, as letters carry it.
pub fn now() -> String {
    time::format_nanos(unix_nanos())
}

fn lines(path: &Path) -> io::Result<u64> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
        Ok(file) => Ok(BufReader::new(file).lines().count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn letter(id: &str) -> Letter {
        Letter {
            time: now(),
            output: "search".into(),
            status: 400,
            kind: "mapper_parsing_exception".into(),
            reason: "why".into(),
            index: "logs".into(),
            op: BulkOp::Index,
            id: id.into(),
            document: RawValue::from_string(r#"{"message":"x"}"#.into()).unwrap(),
            meta: None,
        }
    }

    #[test]
    fn letters_are_kept_once_for_their_owner_only() {
        let state = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(state.path(), "search", ByteSize::mib(100));
        assert!(letters.list().unwrap().is_empty());
        letters.append(&[letter("a"), letter("b")]).unwrap();
        letters.append(&[letter("a")]).unwrap();
        let ids: Vec<String> = letters.list().unwrap().into_iter().map(|l| l.id).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(fs::metadata(letters.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(letters.begin_replay().unwrap().len(), 2);
        letters.append(&[letter("b")]).unwrap();
        assert_eq!(letters.list().unwrap().len(), 2, "a replay that is cut short loses nothing");
        letters.end_replay().unwrap();
        assert_eq!(letters.list().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn letters_that_wait_for_the_disk_keep_nobody_else_waiting() {
        let state = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(state.path(), "search", ByteSize::mib(100));
        // As a replay holds it in another process. On this one thread it would never be let go, if the letters waited there.
        let locked = letters.lock().unwrap();
        let others = async { drop(locked) };
        let (first, second, ()) =
            tokio::join!(letters.keep(vec![letter("a")]), letters.keep(vec![letter("b")]), others);
        assert_eq!((first.unwrap(), second.unwrap()), (0, 0));
        assert_eq!(letters.list().unwrap().len(), 2);
    }

    #[test]
    fn a_letter_of_before_there_was_a_choice_is_to_be_created() {
        let old = r#"{"time":"T","output":"o","status":400,"type":"t","reason":"r","index":"i","id":"a","document":{}}"#;
        let letter: Letter = serde_json::from_str(old).unwrap();
        assert_eq!((letter.op, letter.id.as_str()), (BulkOp::Create, "a"));
    }

    #[test]
    fn they_are_bounded_and_the_oldest_are_counted_out() {
        let state = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(state.path(), "search", ByteSize::new(4000));
        let mut dropped = 0;
        for n in 0..100 {
            dropped += letters.append(&[letter(&n.to_string())]).unwrap();
        }
        let left = letters.list().unwrap();
        assert_eq!(left.len() as u64 + dropped, 100);
        assert_eq!(left.last().unwrap().id, "99");
        assert!(left.len() > 5 && left.len() < 40, "{}", left.len());
    }
}
