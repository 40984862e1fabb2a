//! The body of a request as it grows, compressed on the way if so configured.
//!
//! In: bytes, staged at its end. Out: the whole of it. What is staged is compressed while it is still in the processor's
//! cache, whenever whoever fills it says so. Knows nothing of what the bytes mean, but for the actions of a bulk request.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::gzip::{self, Gzip};
use crate::config::BulkOp;

/// Of what is compressed so much is kept at least before the part that is needed is moved to the front.
const KEPT: usize = 128 << 10;

/// A body that is being filled.
#[derive(Debug)]
pub struct RequestBody {
    /// What came last, and is not compressed yet, behind what is kept of what is.
    staged: Vec<u8>,
    /// So much of it is compressed.
    kept: usize,
    /// Where in it something begins that stood there before.
    expected: Vec<usize>,
    encoder: Encoder,
    folded: u64,
}

#[derive(Debug)]
enum Encoder {
    None,
    /// What is quick.
    Quick(Gzip),
    /// What is small, at a level above 1.
    Small(u32, Option<GzEncoder<Vec<u8>>>),
}

impl RequestBody {
    /// An empty one; `level` is that of gzip, or none.
    pub fn new(level: Option<u32>) -> RequestBody {
        let encoder = match level {
            None => Encoder::None,
            Some(1) => Encoder::Quick(Gzip::new()),
            Some(level) => Encoder::Small(level, None),
        };
        RequestBody { staged: Vec::new(), kept: 0, expected: Vec::new(), encoder, folded: 0 }
    }

    /// Where to append.
    #[inline]
    pub fn staged(&mut self) -> &mut Vec<u8> {
        &mut self.staged
    }

    /// Says that what begins at this place of `staged` has most likely been appended before: a container's metadata.
    #[inline]
    pub fn expect_repeat(&mut self, at: usize) {
        if let Encoder::Quick(_) = self.encoder {
            self.expected.push(at);
        }
    }

    /// What was appended and is not compressed yet; all of a body that is not compressed.
    pub fn fresh(&self) -> &[u8] {
        &self.staged[self.kept..]
    }

    /// Bytes so far, before compression.
    pub fn plain_bytes(&self) -> u64 {
        self.folded + self.fresh().len() as u64
    }

    /// Whether it is compressed.
    pub fn is_compressed(&self) -> bool {
        !matches!(self.encoder, Encoder::None)
    }

    /// Compresses what has been staged.
    pub fn fold(&mut self) -> io::Result<()> {
        let fresh = (self.staged.len() - self.kept) as u64;
        match &mut self.encoder {
            Encoder::None => return Ok(()),
            Encoder::Quick(gzip) => {
                gzip.write(&self.staged, self.kept, &self.expected);
                self.expected.clear();
                if self.staged.len() > KEPT {
                    self.staged.drain(..self.staged.len() - gzip::WINDOW);
                }
                self.kept = self.staged.len();
            }
            Encoder::Small(level, encoder) => {
                let new = || GzEncoder::new(Vec::with_capacity(256 << 10), Compression::new(*level));
                encoder.get_or_insert_with(new).write_all(&self.staged)?;
                self.staged.clear();
            }
        }
        self.folded += fresh;
        Ok(())
    }

    /// Closes it and begins the next, in `spare`'s memory.
    pub fn finish(&mut self, spare: Vec<u8>) -> io::Result<Vec<u8>> {
        self.fold()?;
        (self.folded, self.kept) = (0, 0);
        match &mut self.encoder {
            Encoder::None => Ok(std::mem::replace(&mut self.staged, spare)),
            Encoder::Quick(gzip) => {
                self.staged.clear();
                Ok(gzip.finish())
            }
            Encoder::Small(_, encoder) => match encoder.take() {
                Some(encoder) => encoder.finish(),
                None => Ok(Vec::new()),
            },
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
