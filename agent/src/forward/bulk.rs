//! Documents gathered into the bodies of bulk requests, as the elasticsearch output takes them.
//!
//! In: an action and a document at a time, by the subscription record that they are of. Out: [`Sealed`] batches in which a
//! run stands for (a stretch of) one record: what becomes of a run becomes of its record. Knows nothing of HTTP.

use std::io;

use crate::batch::body::{RequestBody, append_action};
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
    body: RequestBody,
    runs: Vec<Run>,
    items: u32,
}

impl Bulk {
    /// An empty one, for this output.
    pub fn new(output: &ElasticsearchConfig) -> Bulk {
        Bulk {
            op: output.op,
            ids: output.document_id,
            body: RequestBody::new(output.gzip_level()),
            runs: Vec::new(),
            items: 0,
        }
    }

    /// Bytes so far, before compression.
    pub fn bytes(&self) -> u64 {
        self.body.plain_bytes()
    }

    /// Appends a document of a record, given by its number; `target` and `document` append their text.
    pub fn push(
        &mut self,
        record: usize,
        target: impl FnOnce(&mut Vec<u8>),
        id: &str,
        document: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let out = self.body.staged();
        append_action(
            out,
            self.op,
            target,
            self.ids.then_some(|out: &mut Vec<u8>| out.extend_from_slice(id.as_bytes())),
        );
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
                begun: 0,
                items: 1,
                line_bytes: 0,
                // A record comes again after every failure, and the direct path may have been before us.
                in_doubt: true,
            }),
        }
        if self.body.fresh().len() >= FOLD { self.body.fold() } else { Ok(()) }
    }

    /// Closes the batch and begins the next; `None` if there is nothing in it.
    pub fn seal(&mut self) -> io::Result<Option<Sealed>> {
        if self.items == 0 {
            return Ok(None);
        }
        let plain_bytes = self.body.plain_bytes();
        let body = self.body.finish(Vec::new())?;
        Ok(Some(Sealed {
            body,
            compressed: self.body.is_compressed(),
            plain_bytes,
            runs: std::mem::take(&mut self.runs),
            segments: Vec::new(),
            events: Default::default(),
            items: std::mem::take(&mut self.items),
        }))
    }
}
