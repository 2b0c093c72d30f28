//! Whether a range of a file is here to its last byte, for those who want it without anybody being asked, or not at all.
//!
//! The way is that of a reader, without the bytes: nodes of links are read, and of a leaf that is nothing but bytes it is
//! enough that the store has it, as long as its parent says. So a film of 50 GiB costs the reading of some 1,100 nodes.
//! Nothing is asked for, and nothing is kept here: what is evicted afterwards is not there when its reader comes to it.

use swarmgate_content::{ByteRange, Cid, VerifiedBytes};
use swarmgate_ipfs_proto::block::{MAX_BLOCK_BYTES, MAX_DEPTH, hash_of};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::walk::{Layout, MAX_KNOWN_PARTS, Place};

use crate::blocks::Blocks;
use crate::fault::Fault;

/// Parts that are looked at, at most: leaves of 256 KiB for a TiB. Parts may be linked to again and again, so that a DAG of
/// sixty blocks could stand for more of them than anybody can look at; what has more is not vouched for.
const MAX_LOOKS: usize = 4 << 20;

/// Parts that are looked at before other tasks have their turn.
const LOOKS_A_TURN: usize = 1024;

/// A node on the way down, with what of it is still to be looked at.
struct Level {
    layout: Layout,
    at: u64,
    end: u64,
}

/// A part that the range touches, and where in it the range is.
struct Part {
    cid: Cid,
    len: u64,
    from: u64,
    to: u64,
}

impl Level {
    /// The next part; `None` when there is none left. What the block has itself is here.
    fn next_part(&mut self) -> Option<Part> {
        while self.at < self.end {
            match self.layout.place(self.at)? {
                Place::Here(held) => self.at += held.len() as u64,
                Place::Part { cid, start, len } => {
                    let part = Part { cid, len, from: self.at - start, to: (self.end - start).min(len) };
                    self.at = start + len;
                    return Some(part);
                }
            }
        }
        None
    }
}

impl Blocks {
    /// Whether all of a range of a file is here. What of the range lies past the file's end is not there, and nothing is
    /// missing for it.
    pub(crate) async fn has_file(&self, root: &Cid, range: ByteRange) -> Result<bool, Fault> {
        let Some(top) = self.level(root, None, (range.start(), range.end())).await? else { return Ok(false) };
        let mut levels = vec![top];
        for look in 1..=MAX_LOOKS {
            let Some(level) = levels.last_mut() else { return Ok(true) };
            let Some(part) = level.next_part() else {
                levels.pop();
                continue;
            };
            if part.cid.codec() == Codec::Raw.code() {
                if !self.has_leaf(&part.cid, part.len)? {
                    return Ok(false);
                }
            } else {
                let below = self.level(&part.cid, Some(part.len), (part.from, part.to)).await?;
                let Some(below) = below else { return Ok(false) };
                levels.push(below);
                let parts: usize = levels.iter().map(|level| level.layout.parts()).sum();
                if levels.len() > usize::from(MAX_DEPTH) || parts > MAX_KNOWN_PARTS {
                    return Ok(false);
                }
            }
            if look % LOOKS_A_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(false)
    }

    /// Reads a block that is here; `None` when it is not, or is not as long as its parent says.
    async fn level(&self, cid: &Cid, said: Option<u64>, (at, end): (u64, u64)) -> Result<Option<Level>, Fault> {
        let Some(block) = self.local(cid).await? else { return Ok(None) };
        let layout = Layout::read(cid, &block)?;
        let fits = said.is_none_or(|said| said == layout.total());
        Ok(fits.then_some(Level { layout, at, end }))
    }

    /// Whether a leaf of so many bytes is here, one that is nothing but bytes.
    fn has_leaf(&self, cid: &Cid, len: u64) -> Result<bool, Fault> {
        let here = match VerifiedBytes::inline(cid) {
            Some(inline) => Some(inline.len() as u64),
            None => self.local_len(&hash_of(cid)?),
        };
        Ok(here == Some(len) && len <= MAX_BLOCK_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use swarmgate_ipfs_proto::build::Block;

    use crate::testing::{Dag, blocks, noise};

    async fn keep(blocks: &Blocks, block: &Block) {
        let verified = blocks.store.verifier().verify(hash_of(&block.cid).unwrap(), block.bytes.clone()).await.unwrap();
        blocks.store.put(verified).await.unwrap();
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    #[tokio::test]
    async fn a_range_is_here_when_all_nodes_and_leaves_of_it_are() {
        let bytes = noise(100 * 1024 + 7);
        let (dag, len) = (Dag::file(&bytes), bytes.len() as u64);
        let blocks = blocks([]).await;
        assert!(!blocks.has_file(&dag.root(), range(0, 1)).await.unwrap());
        for block in &dag.blocks {
            keep(&blocks, block).await;
        }
        for (start, end) in [(0, len), (0, 1), (1023, 5000), (len - 1, len), (0, len + 1000), (len, len + 1)] {
            assert!(blocks.has_file(&dag.root(), range(start, end)).await.unwrap(), "{start}..{end}");
        }
    }

    #[tokio::test]
    async fn what_lacks_a_single_block_is_not_here_and_what_does_not_need_it_is() {
        let bytes = noise(100 * 1024);
        let dag = Dag::file(&bytes);
        let len = bytes.len() as u64;
        // The builder gives the first leaf first, and the last of all blocks is the root.
        let (first, last) = (&dag.blocks[0], dag.blocks.len() - 1);
        assert_eq!((first.cid.codec(), dag.blocks[last].cid), (Codec::Raw.code(), dag.root()));
        let inner = dag.blocks[..last].iter().position(|block| block.cid.codec() != Codec::Raw.code()).unwrap();
        for (missing, is_leaf) in [(0, true), (inner, false), (last, false)] {
            let blocks = blocks([]).await;
            for (index, block) in dag.blocks.iter().enumerate() {
                if index != missing {
                    keep(&blocks, block).await;
                }
            }
            assert!(!blocks.has_file(&dag.root(), range(0, len)).await.unwrap(), "without {missing}");
            assert!(!blocks.has_file(&dag.root(), range(1023, 1024)).await.unwrap(), "without {missing}");
            let next = blocks.has_file(&dag.root(), range(1024, 2048)).await.unwrap();
            assert_eq!(next, is_leaf, "without {missing}: the second leaf needs the node above, not the first leaf");
        }
    }
}
