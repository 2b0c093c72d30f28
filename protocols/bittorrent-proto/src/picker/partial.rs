//! A piece on its way: which blocks are here, which are asked for and of whom, and the bytes so far.

use bytes::{Bytes, BytesMut};

use super::PeerKey;
use crate::geometry::Geometry;
use crate::wire::{BLOCK_LEN, BlockRequest, PieceIndex};

/// Peers that may be asked for one block at the same time: the first, and one when that is late.
pub(crate) const MAX_OWNERS: usize = 2;

/// One block's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    /// Not here and nobody was asked.
    Missing,
    /// Asked for, of one peer or of two.
    Requested([Option<PeerKey>; MAX_OWNERS]),
    /// Here, from this peer.
    Received(PeerKey),
}

/// A piece in flight.
#[derive(Debug)]
pub(crate) struct Partial {
    blocks: Vec<Block>,
    missing: u32,
    received: u32,
    bytes: BytesMut,
    /// The one peer that may be asked for it, after it failed.
    pub(crate) sole: Option<PeerKey>,
}

impl Partial {
    /// A piece of `len` bytes of which nothing is here.
    pub(crate) fn new(len: u32) -> Self {
        let blocks = len.div_ceil(BLOCK_LEN);
        Self {
            blocks: vec![Block::Missing; blocks as usize],
            missing: blocks,
            received: 0,
            bytes: BytesMut::zeroed(len as usize),
            sole: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) const fn received(&self) -> u32 {
        self.received
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The number of the first missing block at or after `from`.
    pub(crate) fn next_missing(&self, from: usize) -> Option<usize> {
        if self.missing == 0 {
            return None;
        }
        let rest = self.blocks.get(from..)?;
        rest.iter().position(|block| *block == Block::Missing).map(|at| from + at)
    }

    /// Who was asked for which blocks of this piece, number `piece`.
    pub(crate) fn outstanding(
        &self,
        piece: PieceIndex,
        geometry: &Geometry,
    ) -> impl Iterator<Item = (PeerKey, BlockRequest)> {
        let requested = (0..).zip(&self.blocks).filter_map(|(block, state)| match state {
            Block::Requested(owners) => Some((block, *owners)),
            Block::Missing | Block::Received(_) => None,
        });
        requested.flat_map(move |(block, owners)| {
            owners.into_iter().flatten().map(move |owner| (owner, geometry.block(piece, block)))
        })
    }

    /// Notes that `peer` was asked for `block`, which is missing or asked of one other peer.
    pub(crate) fn request(&mut self, block: usize, peer: PeerKey) {
        match &mut self.blocks[block] {
            state @ Block::Missing => {
                *state = Block::Requested([Some(peer), None]);
                self.missing -= 1;
            }
            Block::Requested(owners) => {
                if let Some(free) = owners.iter_mut().find(|owner| owner.is_none()) {
                    *free = Some(peer);
                }
            }
            Block::Received(_) => {}
        }
    }

    /// Notes that `peer` will not deliver `block` after all.
    pub(crate) fn release(&mut self, block: usize, peer: PeerKey) {
        let Some(Block::Requested(owners)) = self.blocks.get_mut(block) else { return };
        owners.iter_mut().filter(|owner| **owner == Some(peer)).for_each(|owner| *owner = None);
        if owners.iter().all(Option::is_none) {
            self.blocks[block] = Block::Missing;
            self.missing += 1;
        }
    }

    /// Takes a block's bytes and tells who else was asked for it; `None` when it was here already.
    pub(crate) fn receive(
        &mut self,
        block: usize,
        peer: PeerKey,
        data: &[u8],
    ) -> Option<[Option<PeerKey>; MAX_OWNERS]> {
        let owners = match self.blocks.get(block)? {
            Block::Received(_) => return None,
            Block::Missing => {
                self.missing -= 1;
                [None; MAX_OWNERS]
            }
            Block::Requested(owners) => owners.map(|owner| owner.filter(|owner| *owner != peer)),
        };
        let begin = block * BLOCK_LEN as usize;
        self.bytes[begin..begin + data.len()].copy_from_slice(data);
        self.blocks[block] = Block::Received(peer);
        self.received += 1;
        Some(owners)
    }

    /// A block's bytes, when they are here.
    pub(crate) fn received_block(&self, block: usize) -> Option<&[u8]> {
        let begin = block * BLOCK_LEN as usize;
        let end = self.bytes.len().min(begin + BLOCK_LEN as usize);
        matches!(self.blocks.get(block)?, Block::Received(_)).then(|| &self.bytes[begin..end])
    }

    /// Forgets a block that is here, and tells who sent it.
    pub(crate) fn forget_block(&mut self, block: usize) -> Option<PeerKey> {
        let state = self.blocks.get_mut(block)?;
        let Block::Received(sender) = *state else { return None };
        *state = Block::Missing;
        self.missing += 1;
        self.received -= 1;
        Some(sender)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.received as usize == self.blocks.len()
    }

    /// Gives up the bytes of a complete piece, and who sent each block.
    pub(crate) fn finish(self) -> (Bytes, Vec<PeerKey>) {
        let senders = self.blocks.iter().filter_map(|block| match block {
            Block::Received(peer) => Some(*peer),
            Block::Missing | Block::Requested(_) => None,
        });
        let senders = senders.collect();
        (self.bytes.freeze(), senders)
    }
}
