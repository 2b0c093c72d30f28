//! From a file and a range to blocks and back to bytes: a [`FileWalk`] says which blocks it wants, takes them in any
//! order, and yields the range's bytes in theirs.
//!
//! A file is a tree: leaves hold bytes, nodes link to their parts and say how many bytes each has (`blocksizes`). The
//! walk knows what lies from each offset on: a part not asked for yet, one that was, or bytes. A node that arrives is
//! replaced by its parts, without those outside of the range. So the map holds the tree's frontier in reading order,
//! and what is asked for is exactly what covers the range.
//!
//! # Why are nodes looked up further ahead than bytes?
//! A node costs a round trip before its leaves can be asked for. Asked when the reader comes to it, it would leave the
//! line idle for that long every 44 MiB (or 1 GiB); asked one window early, it is there.
//!
//! # Why is the window counted in bytes of the file?
//! What is in flight and what waits for the reader take memory alike. From the reader's position to the window's end
//! every byte is one or the other, once.

use std::collections::{BTreeMap, BTreeSet};

use swarmgate_content::{ByteRange, Cid, VerifiedBytes};

use crate::block::{BadBlock, Flaw, MAX_BLOCK_BYTES, MAX_DEPTH};
use crate::codec::Codec;

mod layout;
pub(crate) mod node;

pub use layout::{Layout, Place};

use node::{Child, read_node};

/// The most parts of a file that a walk knows at a time and has not fetched; some 200 bytes of memory each. A file of
/// 1 TiB with nodes of 1,024 links has 3,072 at most.
pub const MAX_KNOWN_PARTS: usize = 65_536;

/// What a node of links is thought to take on the line, in bytes: 1,024 links.
const NODE_BYTES: u64 = 48 << 10;

/// A block that a [`FileWalk`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub cid: Cid,
    /// Where in the file it begins: the reader is there soon, or late.
    pub offset: u64,
    /// How many bytes it is thought to have.
    pub estimated_bytes: u64,
    /// How many bytes of the file it has, as its parent says, if it may be a leaf. `None` for the root, which no parent
    /// speaks of, and for what has too many bytes for a leaf, or stands where no layout has one.
    pub leaf_bytes: Option<u64>,
}

/// Whether a block can stand where `len` bytes of a file are said to be: it is a part of a file, and has as many. Whether
/// it is the block that its name says is not looked at.
#[must_use]
pub fn fits(cid: &Cid, len: u64, block: &VerifiedBytes) -> bool {
    read_node(&Child { cid: *cid, said: Some(len), depth: 0, may_be_leaf: true }, block).is_ok()
}

/// The walk over one range of one file. Call [`Self::poll_want`] until it gives nothing, after each [`Self::provide`]
/// and each [`Self::poll_bytes`].
///
/// ```
/// use swarmgate_content::ByteRange;
/// use swarmgate_ipfs_proto::{block, codec::Codec, walk::FileWalk};
///
/// let bytes = bytes::Bytes::from_static(b"hello world");
/// let file = block::name(Codec::Raw, &bytes);
/// let mut walk = FileWalk::new(file, ByteRange::new(6, u64::MAX).unwrap());
/// assert_eq!(walk.poll_want(1 << 20)?.unwrap().cid, file);
/// walk.provide(&file, &block::check(&file, bytes)?)?;
/// assert_eq!(walk.poll_bytes().unwrap().as_ref(), b"world");
/// assert!(walk.is_done());
/// # Ok::<(), block::BadBlock>(())
/// ```
#[derive(Debug)]
pub struct FileWalk {
    range: ByteRange,
    file_len: Option<u64>,
    position: u64,
    /// What lies from each offset on, in reading order, without gaps once the root is known.
    parts: BTreeMap<u64, Part>,
    /// Where parts not asked for begin: those that are surely nodes of links, and the others.
    new_nodes: BTreeSet<u64>,
    new_leaves: BTreeSet<u64>,
    asked: BTreeMap<Cid, Asked>,
    /// Blocks whose bytes wait for the reader: the same block may be needed again.
    held: BTreeMap<Cid, Held>,
    in_flight_bytes: u64,
    buffered_bytes: u64,
}

#[derive(Debug)]
enum Part {
    /// Not asked for, or asked and not there.
    Missing(Child),
    Ready(VerifiedBytes, Cid),
}

#[derive(Debug)]
struct Asked {
    estimated_bytes: u64,
    /// Every place that waits for it.
    offsets: Vec<u64>,
}

#[derive(Debug)]
struct Held {
    block: VerifiedBytes,
    /// How many parts of [`FileWalk::parts`] are in it.
    uses: usize,
}

impl FileWalk {
    /// Starts at a file's root. What of the range lies past the file's end is not there, and no error.
    #[must_use]
    pub fn new(root: Cid, range: ByteRange) -> Self {
        let mut walk = Self {
            range,
            file_len: None,
            position: range.start(),
            parts: BTreeMap::new(),
            new_nodes: BTreeSet::new(),
            new_leaves: BTreeSet::new(),
            asked: BTreeMap::new(),
            held: BTreeMap::new(),
            in_flight_bytes: 0,
            buffered_bytes: 0,
        };
        walk.add_missing(0, Child { cid: root, said: None, depth: 0, may_be_leaf: true });
        walk
    }

    /// How many bytes the file has, once its root is there.
    #[must_use]
    pub const fn file_len(&self) -> Option<u64> {
        self.file_len
    }

    /// The offset of the byte that is yielded next.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// About how many bytes were asked for and are not there.
    #[must_use]
    pub const fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// How many bytes of the range wait to be yielded, not all of them next.
    #[must_use]
    pub const fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes
    }

    /// Whether every byte of the range that the file has was yielded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.file_len.is_some_and(|len| self.position >= len.min(self.range.end()))
    }

    /// The next block to ask for, once each: what begins within `window_bytes` from the position, in reading order, and
    /// before it nodes of links within twice that. The part at the position is always asked for.
    ///
    /// # Errors
    /// [`BadBlock`] when a part that needs no asking, since it is held already or is in its CID, does not fit its
    /// place.
    pub fn poll_want(&mut self, window_bytes: u64) -> Result<Option<Want>, BadBlock> {
        while let Some((offset, child)) = self.take_new(window_bytes) {
            let here = VerifiedBytes::inline(&child.cid);
            if let Some(block) = here.or_else(|| self.held.get(&child.cid).map(|held| held.block.clone())) {
                self.fill(offset, &block)?;
            } else if let Some(asked) = self.asked.get_mut(&child.cid) {
                asked.offsets.push(offset);
            } else {
                let estimated_bytes = child.estimated_bytes();
                self.asked.insert(child.cid, Asked { estimated_bytes, offsets: vec![offset] });
                self.in_flight_bytes += estimated_bytes;
                return Ok(Some(Want { cid: child.cid, offset, estimated_bytes, leaf_bytes: child.leaf_bytes() }));
            }
        }
        Ok(None)
    }

    fn take_new(&mut self, window_bytes: u64) -> Option<(u64, Child)> {
        let near = self.position.saturating_add(window_bytes.max(1));
        let far = near.saturating_add(window_bytes);
        let node = self.new_nodes.first().copied().filter(|offset| *offset < far);
        let offset = match node {
            Some(offset) => offset,
            None => self.new_leaves.first().copied().filter(|offset| *offset < near)?,
        };
        let set = if node.is_some() { &mut self.new_nodes } else { &mut self.new_leaves };
        set.remove(&offset);
        match self.parts.get(&offset)? {
            Part::Missing(child) => Some((offset, *child)),
            Part::Ready(..) => None,
        }
    }

    /// Has a block asked for again by [`Self::poll_want`], after whoever was asked could not give it.
    pub fn ask_again(&mut self, cid: &Cid) {
        let Some(asked) = self.asked.remove(cid) else { return };
        self.in_flight_bytes -= asked.estimated_bytes;
        for offset in asked.offsets {
            if let Some(Part::Missing(child)) = self.parts.get(&offset) {
                let child = *child;
                self.add_missing(offset, child);
            }
        }
    }

    /// Takes a block, and says whether it was waited for.
    ///
    /// # Errors
    /// [`BadBlock`] when it is no part of a file, or not the one that was to be here. The walk then yields the bytes
    /// before it and no others.
    pub fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<bool, BadBlock> {
        let Some(asked) = self.asked.remove(cid) else { return Ok(false) };
        self.in_flight_bytes -= asked.estimated_bytes;
        for offset in asked.offsets {
            self.fill(offset, block)?;
        }
        Ok(true)
    }

    /// The next bytes of the range: a slice of a block, not a copy.
    pub fn poll_bytes(&mut self) -> Option<VerifiedBytes> {
        let first = self.parts.first_entry()?;
        let Part::Ready(bytes, cid) = first.get() else { return None };
        // After a bad block there is a gap, and nothing behind it may pass.
        if *first.key() != self.position {
            return None;
        }
        let (bytes, cid) = (bytes.clone(), *cid);
        first.remove();
        self.position += bytes.len() as u64;
        self.buffered_bytes -= bytes.len() as u64;
        self.release(&cid);
        Some(bytes)
    }

    fn release(&mut self, cid: &Cid) {
        if let Some(held) = self.held.get_mut(cid) {
            held.uses -= 1;
            if held.uses == 0 {
                self.held.remove(cid);
            }
        }
    }

    /// Replaces a missing part by what its block holds: bytes, parts, or both.
    fn fill(&mut self, offset: u64, block: &VerifiedBytes) -> Result<(), BadBlock> {
        let Some(Part::Missing(child)) = self.parts.remove(&offset) else { return Ok(()) };
        let node = read_node(&child, block)?;
        if child.said.is_none() {
            self.file_len = Some(node.total);
        }
        self.add_ready(offset, &child.cid, block, node.bytes);
        // The sum of all sizes was checked, so none of these sums overflows.
        let mut at = offset + node.bytes.len() as u64;
        let mut after_nodes = false;
        for (cid, size) in node.children {
            let end = at + size;
            // Every layout has leaves before nodes: what has a frame and stands behind a leaf without one, or behind a
            // node, is a node, be it small.
            let is_raw = cid.codec() == Codec::Raw.code();
            let may_be_leaf = is_raw || !after_nodes;
            after_nodes |= is_raw || size > MAX_BLOCK_BYTES as u64;
            if size > 0 && end > self.range.start() && at < self.range.end() {
                if child.depth >= MAX_DEPTH {
                    return Err(Flaw::TooDeep.of(&child.cid));
                }
                if self.parts.len() >= MAX_KNOWN_PARTS {
                    return Err(Flaw::TooManyLinks.of(&child.cid));
                }
                self.add_missing(at, Child { cid, said: Some(size), depth: child.depth + 1, may_be_leaf });
            }
            at = end;
        }
        Ok(())
    }

    fn add_missing(&mut self, offset: u64, child: Child) {
        let set = if child.is_surely_links() { &mut self.new_nodes } else { &mut self.new_leaves };
        set.insert(offset);
        self.parts.insert(offset, Part::Missing(child));
    }

    /// Keeps what of `bytes`, which begin at `offset`, lies in the range.
    fn add_ready(&mut self, offset: u64, cid: &Cid, block: &VerifiedBytes, bytes: &[u8]) {
        let Some(all) = ByteRange::full(bytes.len() as u64).and_then(|all| all.shift(offset)) else { return };
        let Some(part) = all.intersect(&self.range) else { return };
        let index = |at: u64| usize::try_from(at - offset).expect("the part lies within the block's bytes");
        let bytes = block.slice_ref(&bytes[index(part.start())..index(part.end())]);
        self.buffered_bytes += part.len();
        self.parts.insert(part.start(), Part::Ready(bytes, *cid));
        self.held.entry(*cid).or_insert_with(|| Held { block: block.clone(), uses: 0 }).uses += 1;
    }
}

impl Child {
    /// Whether it cannot be a leaf, since no block has so many bytes.
    fn is_surely_links(&self) -> bool {
        self.cid.codec() == Codec::DagPb.code() && self.said.is_none_or(|said| said > MAX_BLOCK_BYTES as u64)
    }

    fn leaf_bytes(&self) -> Option<u64> {
        self.said.filter(|said| self.may_be_leaf && *said <= MAX_BLOCK_BYTES as u64)
    }

    fn estimated_bytes(&self) -> u64 {
        self.said.filter(|_| !self.is_surely_links()).unwrap_or(NODE_BYTES).min(MAX_BLOCK_BYTES as u64)
    }
}

#[cfg(test)]
mod tests;
