//! Blocks that are of use before their piece is whole: those of v2 torrents, each of which has a hash (BEP 52).

use super::{PeerKey, Picker};
use crate::wire::{BLOCK_LEN, PieceIndex};

impl Picker {
    /// Says that single blocks are of use.
    pub const fn value_blocks(&mut self) {
        self.by_block = true;
    }

    /// The bytes of a block whose piece is in flight, as some peer sent them: not verified.
    #[must_use]
    pub fn received_block(&self, piece: PieceIndex, block: u32) -> Option<&[u8]> {
        self.partials.get(&piece)?.received_block(block as usize)
    }

    /// A block of a piece in flight failed its own hash: it is missing again. Gives its sender, who is guilty.
    pub fn on_wrong_block(&mut self, piece: PieceIndex, block: u32) -> Option<PeerKey> {
        let sender = self.partials.get_mut(&piece)?.forget_block(block as usize);
        self.stale |= sender.is_some();
        sender
    }

    /// Whether a peer has a piece.
    #[must_use]
    pub fn peer_has_piece(&self, key: PeerKey, piece: PieceIndex) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.has.get(piece))
    }

    /// The block of a piece to ask for first: where the reader that is furthest into it stands, if single blocks are of use.
    pub(super) fn first_block(&self, piece: PieceIndex) -> usize {
        if !self.by_block {
            return 0;
        }
        let start = self.geometry.start_of(piece);
        let inside = |position: u64| position.checked_sub(start).filter(|at| *at < self.geometry.len_of(piece).into());
        let at =
            self.readers.values().filter(|reader| !reader.is_done()).filter_map(|reader| inside(reader.position()));
        at.max().and_then(|at| usize::try_from(at / u64::from(BLOCK_LEN)).ok()).unwrap_or(0)
    }
}
