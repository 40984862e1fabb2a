//! Documents gathered into the bodies of bulk requests, as the elasticsearch output takes them.
//!
//! In: an action and a document at a time, by the subscription record that they are of. Out: [`Sealed`] batches in which a
//! run stands for (a stretch of) one record: what becomes of a run becomes of its record. Knows nothing of HTTP.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::batch::{Run, Sealed};
use crate::config::{BulkOp, ElasticsearchConfig};
use crate::position::Position;

/// Bytes that are compressed at a time: still in the processor's cache.
const FOLD: usize = 128 << 10;

/// A batch that is being filled.
#[derive(Debug)]
pub struct Bulk {
    op: BulkOp,
    ids: bool,
    level: Option<u32>,
    staged: Vec<u8>,
    folded: u64,
    encoder: Option<GzEncoder<Vec<u8>>>,
    runs: Vec<Run>,
    items: u32,
}

impl Bulk {
    /// An empty one, for this output.
    pub fn new(output: &ElasticsearchConfig) -> Bulk {
        Bulk {
            op: output.op,
            ids: output.document_id,
            level: output.gzip_level(),
            staged: Vec::new(),
            folded: 0,
            encoder: None,
            runs: Vec::new(),
            items: 0,
        }
    }

    /// Bytes so far, before compression.
    pub fn bytes(&self) -> u64 {
        self.folded + self.staged.len() as u64
    }

    /// Appends a document of a record, given by its number; `target` and `document` append their text.
    pub fn push(
        &mut self,
        record: usize,
        target: impl FnOnce(&mut Vec<u8>),
        id: &str,
        document: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let out = &mut self.staged;
        out.extend_from_slice(match self.op {
            BulkOp::Create => br#"{"create":{"_index":""#,
            BulkOp::Index => br#"{"index":{"_index":""#,
        });
        target(out);
        if self.ids {
            out.extend_from_slice(br#"","_id":""#);
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(b"\"}}\n");
        document(out);
        self.items += 1;
        match self.runs.last_mut().filter(|run| run.cursor == record as u64) {
            Some(run) => run.items += 1,
            None => self.runs.push(Run {
                cursor: record as u64,
                epoch: 0,
                number: self.runs.len() as u64,
                start: Position::default(),
                end: Position::default(),
                items: 1,
                // A record comes again after every failure, and the direct path may have been before us.
                in_doubt: true,
            }),
        }
        if self.staged.len() >= FOLD { self.fold() } else { Ok(()) }
    }

    fn fold(&mut self) -> io::Result<()> {
        let Some(level) = self.level else { return Ok(()) };
        let encoder = self
            .encoder
            .get_or_insert_with(|| GzEncoder::new(Vec::with_capacity(256 << 10), Compression::new(level)));
        encoder.write_all(&self.staged)?;
        self.folded += self.staged.len() as u64;
        self.staged.clear();
        Ok(())
    }

    /// Closes the batch and begins the next; `None` if there is nothing in it.
    pub fn seal(&mut self) -> io::Result<Option<Sealed>> {
        if self.items == 0 {
            return Ok(None);
        }
        self.fold()?;
        let plain_bytes = self.bytes();
        let body = match self.encoder.take() {
            Some(encoder) => encoder.finish()?,
            None => std::mem::take(&mut self.staged),
        };
        self.folded = 0;
        Ok(Some(Sealed {
            body,
            compressed: self.level.is_some(),
            plain_bytes,
            runs: std::mem::take(&mut self.runs),
            segments: Vec::new(),
            events: Default::default(),
            items: std::mem::take(&mut self.items),
        }))
    }
}
