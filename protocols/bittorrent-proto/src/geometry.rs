//! Where pieces and blocks lie in a torrent's bytes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::wire::{BLOCK_LEN, BlockRequest, PieceIndex};

/// A torrent's length and how it is cut into pieces. Clones share what is large of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    piece_len: u32,
    total_len: u64,
    pieces: u32,
    /// The last pieces of a v2 torrent's files, where they are shorter than others, and their lengths.
    short: Arc<BTreeMap<u32, u32>>,
}

impl Geometry {
    /// Cuts `total_len` bytes into pieces of `piece_len` bytes; `None` when either is zero or there are over 4 G pieces.
    #[must_use]
    pub fn new(piece_len: u32, total_len: u64) -> Option<Self> {
        if piece_len == 0 || total_len == 0 {
            return None;
        }
        let pieces = u32::try_from(total_len.div_ceil(u64::from(piece_len))).ok()?;
        Some(Self { piece_len, total_len, pieces, short: Arc::default() })
    }

    /// The same where some pieces end early and the next begins where it would: what is between belongs to no file and is
    /// never asked for (BEP 52).
    #[must_use]
    pub fn with_short_pieces(piece_len: u32, total_len: u64, short: BTreeMap<u32, u32>) -> Option<Self> {
        Some(Self { short: Arc::new(short), ..Self::new(piece_len, total_len)? })
    }

    /// How many pieces.
    #[must_use]
    pub const fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Bytes in each piece but the last, and but those that end early.
    #[must_use]
    pub const fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// All bytes, with what is between pieces that end early and the next.
    #[must_use]
    pub const fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Bytes in `piece`: fewer in the last, and where a piece ends early; zero past the end.
    #[must_use]
    pub fn len_of(&self, piece: PieceIndex) -> u32 {
        if let Some(short) = self.short.get(&piece.0) {
            return *short;
        }
        let left = self.total_len.saturating_sub(self.start_of(piece));
        u32::try_from(left).map_or(self.piece_len, |left| left.min(self.piece_len))
    }

    /// Offset of the first byte of `piece`.
    #[must_use]
    pub fn start_of(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_len)
    }

    /// The piece that holds the byte at `offset`, which lies within the torrent.
    #[must_use]
    pub fn piece_at(&self, offset: u64) -> PieceIndex {
        PieceIndex(u32::try_from(offset / u64::from(self.piece_len)).unwrap_or(u32::MAX).min(self.pieces - 1))
    }

    /// The pieces that hold the non-empty range `start..end`, which lies within the torrent.
    #[must_use]
    pub fn pieces_of(&self, start: u64, end: u64) -> RangeInclusive<u32> {
        self.piece_at(start).0..=self.piece_at(end.saturating_sub(1)).0
    }

    /// How many blocks `piece` has.
    #[must_use]
    pub fn blocks_of(&self, piece: PieceIndex) -> u32 {
        self.len_of(piece).div_ceil(BLOCK_LEN)
    }

    /// Block number `block` of `piece`, as it is asked for.
    #[must_use]
    pub fn block(&self, piece: PieceIndex, block: u32) -> BlockRequest {
        let begin = block * BLOCK_LEN;
        BlockRequest { piece, begin, len: self.len_of(piece).saturating_sub(begin).min(BLOCK_LEN) }
    }

    /// Whether a request lies within its piece.
    #[must_use]
    pub fn contains(&self, request: &BlockRequest) -> bool {
        let end = request.begin.checked_add(request.len);
        request.piece.0 < self.pieces && request.len > 0 && end.is_some_and(|end| end <= self.len_of(request.piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_tile_the_torrent_exactly(piece_len in 1..100_000u32, total_len in 1..2_000_000u64) {
            let geometry = Geometry::new(piece_len, total_len).unwrap();
            prop_assume!(geometry.pieces() < 500);
            let mut at = 0;
            for piece in (0..geometry.pieces()).map(PieceIndex) {
                for block in 0..geometry.blocks_of(piece) {
                    let request = geometry.block(piece, block);
                    prop_assert!(geometry.contains(&request));
                    prop_assert_eq!(geometry.start_of(piece) + u64::from(request.begin), at);
                    at += u64::from(request.len);
                }
            }
            prop_assert_eq!(at, total_len);
        }
    }
}
