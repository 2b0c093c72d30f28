//! Reading a range of a torrent: verified bytes from the store, waiting for what is not there yet.

use std::ops::Range;
use std::sync::Arc;

use swarmgate_bittorrent_proto::picker::ReaderKey;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{BlockHash, VerifiedBytes};
use swarmgate_store::{ReadError, Window};
use tokio::sync::Notify;

use crate::board::{Role, Wake};
use crate::{Known, Shared};

/// Most bytes in one step: what a stream holds in memory for a slow client.
const CHUNK: u64 = 256 * 1024;
/// How far a reader goes before the actor hears of it.
const MOVE_STEP: u64 = 1024 * 1024;
/// The first and last bytes of what is read that are kept while it is open, since players look there.
const KEEP_ENDS: u64 = 8 * 1024 * 1024;
/// Share of the store that all readers' windows together should leave alone.
const STORE_SHARE: u64 = 2;

/// Why a reader got no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// The torrent was removed or the application is stopping.
    #[error("the torrent is no longer active")]
    Gone,
    /// The store could not be read or written.
    #[error("the cache cannot be read or written")]
    StoreIo,
}

/// An open range of one torrent. Dropping it withdraws its demand, if it had any.
#[derive(Debug)]
pub struct SwarmReader {
    shared: Arc<Shared>,
    known: Arc<Known>,
    key: ReaderKey,
    bell: Arc<Notify>,
    window: Window,
    whole: Range<u64>,
    rest: Range<u64>,
    guarded: Option<PieceIndex>,
    /// A piece that the store had no room for; this reader has it all the same.
    held: Option<(PieceIndex, VerifiedBytes)>,
}

impl SwarmReader {
    pub(crate) fn new(shared: Arc<Shared>, known: Arc<Known>, range: Range<u64>, role: Role) -> Self {
        let window = shared.context.store.window();
        let (key, bell) = shared.board.open(role, range.clone());
        Self { shared, known, key, bell, window, whole: range.clone(), rest: range, guarded: None, held: None }
    }

    /// The next verified bytes, or `None` at the end of the range.
    ///
    /// # Errors
    /// [`ReadFault`]; nothing can be read after it.
    pub async fn next(&mut self) -> Option<Result<VerifiedBytes, ReadFault>> {
        if self.rest.is_empty() {
            return None;
        }
        let piece = self.at_piece()?;
        self.guard(piece);
        let start = self.rest.start - self.known.geometry.start_of(piece);
        let left_in_piece = u64::from(self.known.geometry.len_of(piece)) - start;
        let len = left_in_piece.min(CHUNK).min(self.rest.end - self.rest.start);
        let (start, end) = (narrow(start), narrow(start + len));
        let result = self.read_piece(piece, start..end).await;
        if let Ok(bytes) = &result {
            let (from, len) = (self.rest.start, bytes.len() as u64);
            self.rest.start += len;
            self.shared.board.moved(self.key, self.rest.start, self.is_news(from));
            self.shared.context.stats.bytes_delivered(len);
        }
        Some(result)
    }

    /// The piece to read on in. Where a v2 torrent's file ends within a piece, the next begins with a piece of its own, and
    /// nothing is between.
    fn at_piece(&mut self) -> Option<PieceIndex> {
        let geometry = &self.known.geometry;
        let piece = geometry.piece_at(self.rest.start);
        let (start, len) = (geometry.start_of(piece), u64::from(geometry.len_of(piece)));
        if self.rest.start < start + len {
            return Some(piece);
        }
        self.rest.start = (start + u64::from(geometry.piece_len())).min(self.rest.end);
        (!self.rest.is_empty()).then(|| geometry.piece_at(self.rest.start))
    }

    /// Whether the actor should know of the step from `from` to here: a piece or a mebibyte on, while there is anything
    /// to fetch. Hundreds of readers of a complete torrent would wake it for nothing.
    fn is_news(&self, from: u64) -> bool {
        let step = MOVE_STEP.min(u64::from(self.known.geometry.piece_len()));
        from / step != self.rest.start / step && !self.known.have.lock().is_all()
    }

    async fn read_piece(&mut self, piece: PieceIndex, range: Range<u32>) -> Result<VerifiedBytes, ReadFault> {
        let Some(hash) = self.known.info.piece_hash(piece.0) else { return Err(ReadFault::Gone) };
        let mut lost = false;
        loop {
            if let Some(bytes) = self.shared.board.take_handed(self.key, piece) {
                self.held = Some((piece, bytes));
            }
            if let Some((_, bytes)) = self.held.as_ref().filter(|(held, _)| *held == piece) {
                return Ok(bytes.slice(range.start as usize..range.end as usize));
            }
            if let Some(block) = self.shared.board.take_block(self.key, self.rest.start) {
                let most = (range.end - range.start) as usize;
                return Ok(block.slice(0..block.len().min(most)));
            }
            if self.known.have.lock().get(piece) {
                match self.shared.context.store.read(&hash, range.clone()).await {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => lost = true,
                    Err(error) => return Err(self.store_fault(&error)),
                }
            }
            self.shared.board.wait_for(self.key, piece, std::mem::take(&mut lost));
            // It may have come between the look and the wait; the actor wakes whoever waits, so look once more.
            if self.shared.look(&self.known, piece) == (true, true) {
                continue;
            }
            match self.shared.board.woken(self.key, &self.bell).await {
                Wake::Here | Wake::NotStored { .. } => {}
                Wake::Fault(fault) => return Err(fault),
            }
        }
    }

    fn store_fault(&self, error: &ReadError) -> ReadFault {
        tracing::warn!(infohash = %self.shared.infohash, %error, "reading the cache failed");
        ReadFault::StoreIo
    }

    /// Keeps what this reader will read, what it has just read and the ends of it from being evicted, each within its
    /// share of the store.
    fn guard(&mut self, piece: PieceIndex) {
        if self.guarded == Some(piece) {
            return;
        }
        self.guarded = Some(piece);
        let usage = self.shared.context.store.usage();
        let share = usage.max_bytes.saturating_sub(usage.pinned_bytes) / STORE_SHARE / usage.windows.max(1);
        let behind = (share / 2).min(self.shared.options.keep_behind_bytes);
        let (ahead, ends) = (share / 4, (share / 8).min(KEEP_ENDS));
        let Range { start, end } = self.whole;
        let position = self.rest.start;
        let near = position.saturating_sub(behind).max(start)..position.saturating_add(ahead).min(end);
        let head = start..start.saturating_add(ends).min(end);
        let tail = end.saturating_sub(ends).max(start)..end;
        let pieces = [near, head, tail].into_iter().filter(|range| !range.is_empty());
        let pieces = pieces.flat_map(|range| self.known.geometry.pieces_of(range.start, range.end));
        let mut pieces: Vec<_> = pieces.collect();
        pieces.sort_unstable();
        pieces.dedup();
        let hashes: Vec<BlockHash> = pieces.into_iter().filter_map(|piece| self.known.info.piece_hash(piece)).collect();
        self.window.set(hashes);
    }
}

/// Offsets within a piece fit: a piece's length is a `u32`.
fn narrow(offset: u64) -> u32 {
    u32::try_from(offset).expect("an offset within a piece is at most its length, a u32")
}

impl Drop for SwarmReader {
    fn drop(&mut self) {
        self.shared.board.close(self.key);
    }
}
