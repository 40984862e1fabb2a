//! The `stdout` output: documents, or readable lines, on standard output.
//!
//! In: sealed batches. Out: bytes on standard output, in order. What is written is acknowledged; after a crash the last
//! lines may come again, since a pipe cannot be cut back.

use std::io::{self, Write};

use crate::batch::Sealed;

/// Writes to standard output.
#[derive(Debug, Default)]
pub struct Stdout {
    /// How much of the batch in hand has been written, should the rest have to be tried again.
    written: usize,
}

impl Stdout {
    /// Writes a batch, or what is left of it after an error.
    pub fn write(&mut self, sealed: &Sealed) -> io::Result<()> {
        let mut out = io::stdout().lock();
        while self.written < sealed.body.len() {
            match out.write(&sealed.body[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.flush()?;
        self.written = 0;
        Ok(())
    }
}
