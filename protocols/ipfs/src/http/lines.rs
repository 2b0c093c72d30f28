//! An answer that comes line by line.

use bytes::{Bytes, BytesMut};

use super::endpoint::Answer;
use super::fault::at_fault;
use crate::source::SourceError;

/// Longest line, in bytes. An IPNS record in base64 takes 14 KiB, a provider with its addresses about one.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Longest answer, in bytes.
const MAX_TOTAL_BYTES: usize = 4 << 20;

/// The lines of an answer, as they arrive.
#[derive(Debug)]
pub(super) struct Lines {
    answer: Answer,
    buffer: BytesMut,
    /// How much of the buffer has no end of a line.
    scanned: usize,
    total: usize,
}

impl Lines {
    pub(super) fn of(answer: Answer) -> Self {
        Self { answer, buffer: BytesMut::new(), scanned: 0, total: 0 }
    }

    /// The next line; the last need not have an end. `None` behind it.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1).freeze();
                self.scanned = 0;
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_LINE_BYTES {
                return Err(at_fault(format!("a line of more than {MAX_LINE_BYTES} bytes")));
            }
            let Some(chunk) = self.answer.chunk().await? else {
                self.scanned = 0;
                let rest = self.buffer.split().freeze();
                return Ok(Some(rest).filter(|rest| !rest.is_empty()));
            };
            self.total += chunk.len();
            if self.total > MAX_TOTAL_BYTES {
                return Err(at_fault(format!("an answer of more than {MAX_TOTAL_BYTES} bytes")));
            }
            self.buffer.extend_from_slice(&chunk);
        }
    }
}
