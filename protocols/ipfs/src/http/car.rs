//! The blocks of a range in one answer: a CAR. On a long path it saves the round trip that each level of a DAG takes.
//!
//! A gateway may send what nobody asked for, with hashes that are right: only how much of that is read is bounded.
//! `max_bytes` ends every CAR, and so does a stretch without any block.

use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use swarmgate_content::{Cid, VerifiedBytes};
use swarmgate_egress::HttpMethod;
use swarmgate_ipfs_proto::block::{MAX_BLOCK_BYTES, hash_of};
use swarmgate_ipfs_proto::car::{CarEvent, CarReader};
use swarmgate_ipfs_proto::export::Scope;

use super::endpoint::{Answer, Ask, Endpoint};
use super::fault::{at_fault, checked, neutral};
use super::gateway::check_status;
use crate::source::{SessionId, SourceError};

/// Media type of a CAR.
const CAR: &str = "application/vnd.ipld.car";
/// The same, in the order of reading. A block that comes again need not be sent again: whoever reads keeps it.
const ACCEPT: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";
/// What the blocks of a range take at most beside its bytes and a sixteenth of them, in bytes: the way to the file, the
/// nodes above the range, and what of the blocks at its ends lies outside of it.
pub const CAR_SLACK_BYTES: u64 = 8 * MAX_BLOCK_BYTES as u64;
/// The most bytes between two blocks that can be checked: what stands before the first, and sections of no use.
const MAX_BARREN_BYTES: u64 = 2 * MAX_BLOCK_BYTES as u64;
/// The statuses by which a gateway says that it makes no CARs, or none of a part of a DAG.
const NO_CARS: [u16; 5] = [400, 405, 406, 415, 501];
/// What is written as it is in a segment of a path (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Blocks that somebody wants in one answer.
#[derive(Debug, Clone)]
pub struct CarWant {
    /// Where the path begins.
    pub root: Cid,
    /// The names below it, not escaped. Bytes that are no UTF-8 are sent as they are.
    pub path: Vec<Bytes>,
    /// What of the end of the path is wanted; of the way there, all.
    pub scope: Scope,
    /// Longest answer, in bytes: [`car_budget`] for a range of a file.
    pub max_bytes: u64,
    /// The DAG that is being read.
    pub session: SessionId,
    /// When it is of no use any more: all of the answer must have been read.
    pub deadline: Instant,
}

/// How long the CAR of so many bytes of a file may be, in bytes.
#[must_use]
pub const fn car_budget(range_bytes: u64) -> u64 {
    range_bytes.saturating_add(range_bytes / 16).saturating_add(CAR_SLACK_BYTES)
}

/// The blocks of a CAR that is being received, each checked against its name. It reads ahead of the caller no more than
/// a block and what the socket holds.
#[derive(Debug)]
pub struct CarBlocks {
    answer: Answer,
    reader: CarReader,
    max_bytes: u64,
    bytes: u64,
    /// Since the last block.
    barren_bytes: u64,
    over: bool,
}

/// Why no CAR came.
#[derive(Debug)]
pub(super) enum NoCar {
    /// The gateway makes none, as it says by this status.
    Never(u16),
    Failed(SourceError),
}

impl From<SourceError> for NoCar {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl CarBlocks {
    pub(super) async fn ask(endpoint: &Endpoint, want: &CarWant) -> Result<Self, NoCar> {
        let path = path_of(want)?;
        let ask = Ask { method: HttpMethod::Get, path: &path, accept: Some(ACCEPT), deadline: want.deadline };
        let answer = endpoint.ask(ask).await?;
        if NO_CARS.contains(&answer.status()) {
            return Err(NoCar::Never(answer.status()));
        }
        check_status(answer.status())?;
        answer.expect(CAR)?;
        let (reader, max_bytes) = (CarReader::new(), want.max_bytes);
        Ok(Self { answer, reader, max_bytes, bytes: 0, barren_bytes: 0, over: false })
    }

    /// The next block, under the name that the CAR gives it. Nobody says that it is one of those that are wanted. `None`
    /// at the end, and after an error. May be dropped and called again.
    ///
    /// # Errors
    /// `Corruption` when a block is not what its name says; `Source` when the CAR is none, breaks off or does not end
    /// within its bounds. The blocks before are good all the same.
    pub async fn next(&mut self) -> Option<Result<(Cid, VerifiedBytes), SourceError>> {
        if self.over {
            return None;
        }
        let next = self.advance().await;
        self.over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<(Cid, VerifiedBytes), SourceError>> + Send {
        futures_util::stream::unfold(self, |mut blocks| async move { Some((blocks.next().await?, blocks)) })
    }

    async fn advance(&mut self) -> Result<Option<(Cid, VerifiedBytes)>, SourceError> {
        loop {
            while let Some(event) = self.reader.poll().map_err(|error| at_fault(error.to_string()))? {
                let CarEvent::Block { cid, bytes } = event else { continue };
                // Blocks that hold themselves need not be sent, and those of unknown hashes are of no use.
                if hash_of(&cid).is_ok() {
                    self.barren_bytes = 0;
                    return checked(&cid, bytes).map(|block| Some((cid, block)));
                }
            }
            let Some(chunk) = self.answer.chunk().await? else {
                return self.reader.finish().map(|()| None).map_err(|error| at_fault(error.to_string()));
            };
            self.bytes += chunk.len() as u64;
            self.barren_bytes += chunk.len() as u64;
            if self.bytes > self.max_bytes {
                return Err(at_fault(format!("a CAR of more than {} bytes", self.max_bytes)));
            }
            if self.barren_bytes > MAX_BARREN_BYTES {
                return Err(at_fault(format!("a CAR of {MAX_BARREN_BYTES} bytes without a block")));
            }
            self.reader.push(&chunk);
        }
    }
}

fn path_of(want: &CarWant) -> Result<String, SourceError> {
    let mut path = format!("/ipfs/{}", want.root);
    for name in &want.path {
        // What a URL takes for a step, and not for a name, however it is escaped (WHATWG URL, "double-dot segment").
        if matches!(name.as_ref(), b"" | b"." | b"..") {
            return Err(neutral("a URL cannot spell the path"));
        }
        path.push('/');
        path.extend(percent_encode(name, ESCAPED));
    }
    path.push_str("?format=car&dag-scope=");
    path.push_str(want.scope.word());
    if let Scope::Entity(Some(bytes)) = want.scope {
        path.push_str(&format!("&entity-bytes={bytes}"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
