//! Where a byte of a file is: what one block of it says of that, read once, to be kept by whoever is asked again.

use std::ops::Range;

use swarmgate_content::{Cid, VerifiedBytes};

use super::node::{Child, read_node};
use crate::block::BadBlock;

/// What one block of a file says of where the bytes are that it stands for. Offsets count from the first of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Where in the block the bytes lie that it has itself; they come first.
    own: Range<usize>,
    /// The parts behind them, each with where it ends.
    parts: Box<[(u64, Cid)]>,
    total: u64,
}

/// Where a byte is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the block, with those behind it that are there too.
    Here(Range<usize>),
    /// In a part of its own.
    Part {
        /// Which.
        cid: Cid,
        /// Where the part begins.
        start: u64,
        /// How many bytes of the file it should have.
        len: u64,
    },
}

impl Layout {
    /// Reads a block. What a parent said of it is for the caller to compare with [`Self::total`].
    ///
    /// # Errors
    /// [`BadBlock`] when it is no part of a file.
    pub fn read(cid: &Cid, block: &VerifiedBytes) -> Result<Self, BadBlock> {
        let node = read_node(&Child { cid: *cid, said: None, depth: 0, may_be_leaf: true }, block)?;
        let own = match node.bytes.as_ptr().addr().checked_sub(block.as_ref().as_ptr().addr()) {
            Some(at) if !node.bytes.is_empty() => at..at + node.bytes.len(),
            Some(_) | None => 0..0,
        };
        // The sum of all sizes was checked, so none of these sums overflows.
        let mut end = own.len() as u64;
        let parts = node.children.into_iter().map(|(cid, size)| {
            end += size;
            (end, cid)
        });
        Ok(Self { own, parts: parts.collect(), total: node.total })
    }

    /// How many bytes of the file it stands for.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// How many parts it has besides its own bytes.
    #[must_use]
    pub const fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Where the byte at an offset is; `None` past the end.
    #[must_use]
    pub fn place(&self, offset: u64) -> Option<Place> {
        let own = self.own.len() as u64;
        if offset < own {
            let skipped = usize::try_from(offset).ok()?;
            return Some(Place::Here(self.own.start + skipped..self.own.end));
        }
        let index = self.parts.partition_point(|(end, _)| *end <= offset);
        let (end, cid) = *self.parts.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.parts.get(before)).map_or(own, |(end, _)| *end);
        Some(Place::Part { cid, start, len: end - start })
    }
}
