//! The body of a request as it grows, compressed on the way if so configured.
//!
//! In: bytes, staged at its end. Out: the whole of it. What is staged is compressed while it is still in the processor's
//! cache, whenever whoever fills it says so. Knows nothing of what the bytes mean, but for the actions of a bulk request.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::BulkOp;

/// A body that is being filled.
#[derive(Debug)]
pub struct RequestBody {
    /// What came last, and is not compressed yet.
    pub staged: Vec<u8>,
    encoder: Option<GzEncoder<Vec<u8>>>,
    level: Option<u32>,
    folded: u64,
}

impl RequestBody {
    /// An empty one; `level` is that of gzip, or none.
    pub fn new(level: Option<u32>) -> RequestBody {
        RequestBody { staged: Vec::new(), encoder: None, level, folded: 0 }
    }

    /// Bytes so far, before compression.
    pub fn plain_bytes(&self) -> u64 {
        self.folded + self.staged.len() as u64
    }

    /// Whether it is compressed.
    pub fn is_compressed(&self) -> bool {
        self.level.is_some()
    }

    /// Compresses what has been staged.
    pub fn fold(&mut self) -> io::Result<()> {
        let Some(level) = self.level else { return Ok(()) };
        let encoder = self
            .encoder
            .get_or_insert_with(|| GzEncoder::new(Vec::with_capacity(256 << 10), Compression::new(level)));
        encoder.write_all(&self.staged)?;
        self.folded += self.staged.len() as u64;
        self.staged.clear();
        Ok(())
    }

    /// Closes it and begins the next, in `spare`'s memory.
    pub fn finish(&mut self, spare: Vec<u8>) -> io::Result<Vec<u8>> {
        self.fold()?;
        self.folded = 0;
        match self.encoder.take() {
            Some(encoder) => encoder.finish(),
            None => Ok(std::mem::replace(&mut self.staged, spare)),
        }
    }
}

/// Appends the action of a bulk request that says what is done with the document after it; `target` and `id` append
/// their text.
#[inline]
pub fn append_action(
    out: &mut Vec<u8>,
    op: BulkOp,
    target: impl FnOnce(&mut Vec<u8>),
    id: Option<impl FnOnce(&mut Vec<u8>)>,
) {
    out.extend_from_slice(match op {
        // Data streams take nothing else, and a record sent twice is refused with 409.
        BulkOp::Create => br#"{"create":{"_index":""#,
        BulkOp::Index => br#"{"index":{"_index":""#,
    });
    target(out);
    if let Some(id) = id {
        out.extend_from_slice(br#"","_id":""#);
        id(out);
    }
    out.extend_from_slice(b"\"}}\n");
}
