//! The Merkle trees of v2 torrents (BEP 52): leaves are the SHA2-256 of 16 KiB of a file, a node is that of its two
//! children, and where a tree is wider than its file, leaves of zeros fill it.
//!
//! A piece is a subtree. [`PieceTree`] hashes one as its bytes come, so that the store can check it like any block.
//!
//! # Why is the length part of a piece's name?
//! Nothing in these trees tells a leaf from a node: 64 bytes that are two hashes have the root of what those two hash.
//! A name that is the root alone could thus be had by two different blocks, and the wrong one put in the way of the
//! right one. Whoever knows a piece's root knows its length too.

use aws_lc_rs::digest;

/// Bytes under one leaf (BEP 52).
pub const LEAF_BYTES: usize = 16 << 10;
/// Bytes of a piece's digest: the root, then the length as four bytes, most significant first.
pub const PIECE_DIGEST_BYTES: u8 = 36;
/// Layers above the leaves of the largest piece that can be named: 2^18 leaves are 4 GiB, past any `u32` length.
const MAX_PIECE_LAYERS: u32 = 18;

/// A node of a tree, its root included.
pub type Root = [u8; 32];

/// The leaf over up to [`LEAF_BYTES`] bytes; those of a file's last leaf are not padded.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Root {
    root(digest::digest(&digest::SHA256, bytes))
}

/// The node over two others.
#[must_use]
pub fn node(left: &Root, right: &Root) -> Root {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(left);
    context.update(right);
    root(context.finish())
}

/// The root of `layers` layers over leaves that are all zeros: what fills a tree past its file's end.
#[must_use]
pub fn padding(layers: u32) -> Root {
    (0..layers).fold([0; 32], |below, _| node(&below, &below))
}

fn root(digest: digest::Digest) -> Root {
    digest.as_ref().try_into().expect("SHA2-256 has 32 bytes")
}

pub(crate) fn piece_digest(root: &Root, len: u32) -> [u8; PIECE_DIGEST_BYTES as usize] {
    let mut digest = [0; PIECE_DIGEST_BYTES as usize];
    digest[..32].copy_from_slice(root);
    digest[32..].copy_from_slice(&len.to_be_bytes());
    digest
}

/// Hashes a piece as its bytes come. It holds a node for each layer and no bytes.
pub struct PieceTree {
    /// Roots of whole subtrees to the left, the widest first: as many leaves as the bits of `leaves`.
    left: Vec<Root>,
    leaves: u64,
    leaf: digest::Context,
    in_leaf: usize,
    len: u64,
}

impl Default for PieceTree {
    fn default() -> Self {
        Self { left: Vec::new(), leaves: 0, leaf: digest::Context::new(&digest::SHA256), in_leaf: 0, len: 0 }
    }
}

impl PieceTree {
    /// Adds the piece's next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(LEAF_BYTES - self.in_leaf));
            self.leaf.update(now);
            self.in_leaf += now.len();
            bytes = later;
            if self.in_leaf == LEAF_BYTES {
                self.end_leaf();
            }
        }
    }

    fn end_leaf(&mut self) {
        let ended = std::mem::replace(&mut self.leaf, digest::Context::new(&digest::SHA256));
        self.in_leaf = 0;
        self.add(root(ended.finish()));
    }

    fn add(&mut self, leaf: Root) {
        let mut right = leaf;
        // Each trailing one bit of the count is a subtree as wide as what is to its right now.
        for _ in 0..self.leaves.trailing_ones() {
            if let Some(left) = self.left.pop() {
                right = node(&left, &right);
            }
        }
        self.left.push(right);
        self.leaves += 1;
    }

    /// The root over as few leaves as hold all bytes, a power of two; how many layers that is; and the length.
    fn close(mut self) -> (Root, u32, u64) {
        let len = self.len;
        if self.in_leaf > 0 || self.leaves == 0 {
            self.end_leaf();
        }
        let mut layers = self.leaves.trailing_zeros();
        let mut right = self.left.pop().unwrap_or_default();
        let mut widths = self.leaves & (self.leaves - 1);
        while let Some(left) = self.left.pop() {
            let to = widths.trailing_zeros();
            while layers < to {
                right = node(&right, &padding(layers));
                layers += 1;
            }
            right = node(&left, &right);
            layers += 1;
            widths &= widths - 1;
        }
        (right, layers, len)
    }

    /// The root over all bytes seen, `layers` layers above the leaves, with as much padding as that takes: of a piece of
    /// a file that has several. What has more layers has its own root.
    #[must_use]
    pub fn root_at(self, layers: u32) -> Root {
        let (reached, below, _) = self.close();
        (below..layers).fold(reached, |below, layer| node(&below, &padding(layer)))
    }

    /// The digest over all bytes seen, with no more padding than they need.
    #[must_use]
    pub fn finish(self) -> [u8; PIECE_DIGEST_BYTES as usize] {
        let (root, _, len) = self.close();
        // What is longer than any piece has a length that no name has.
        piece_digest(&root, u32::try_from(len).unwrap_or(0))
    }

    /// Whether this is the digest over all bytes seen, with whatever padding.
    #[must_use]
    pub fn is(self, expected: &[u8]) -> bool {
        let (mut root, layers, len) = self.close();
        let Some((wanted, length)) = expected.split_first_chunk::<32>() else { return false };
        if u32::try_from(len).ok().map(u32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice) != Some(length) {
            return false;
        }
        let mut beside = padding(layers);
        for _ in layers..=MAX_PIECE_LAYERS {
            if root == *wanted {
                return true;
            }
            root = node(&root, &beside);
            beside = node(&beside, &beside);
        }
        false
    }
}

impl std::fmt::Debug for PieceTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceTree").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{BlockHash, HashKind};
    use proptest::prelude::*;

    /// The root as the specification says it: pad the leaves, then hash pair by pair.
    fn plain(data: &[u8], width: usize) -> Root {
        let mut layer: Vec<Root> = data.chunks(LEAF_BYTES).map(leaf).collect();
        layer.resize(width, [0; 32]);
        while layer.len() > 1 {
            layer = layer.chunks(2).map(|pair| node(&pair[0], &pair[1])).collect();
        }
        layer[0]
    }

    fn passes(name: BlockHash, data: &[u8]) -> bool {
        let mut hasher = name.hasher();
        data.chunks(10_007).for_each(|part| hasher.update(part));
        hasher.finish().is_ok()
    }

    #[test]
    fn two_hashes_do_not_pass_for_what_they_hash() {
        let data = vec![7; 2 * LEAF_BYTES];
        let nodes = [leaf(&data[..LEAF_BYTES]), leaf(&data[LEAF_BYTES..])].concat();
        let root = plain(&data, 2);
        assert_eq!(leaf(&nodes), root);
        assert!(passes(BlockHash::piece(&root, 2 * 16384), &data));
        assert!(!passes(BlockHash::piece(&root, 2 * 16384), &nodes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_piece_passes_under_its_root_of_any_width_and_no_other(
            len in 1..20 * LEAF_BYTES, wider in 0..4u32, at: prop::sample::Index, bit in 0..8u8,
        ) {
            let mut data: Vec<u8> = (0..=250).cycle().take(len).collect();
            let width = len.div_ceil(LEAF_BYTES).next_power_of_two();
            let size = u32::try_from(len).unwrap();
            let name = BlockHash::piece(&plain(&data, width << wider), size);
            prop_assert!(passes(name, &data));
            prop_assert_eq!(HashKind::Piece.hash(&data), BlockHash::piece(&plain(&data, width), size));
            let mut tree = PieceTree::default();
            data.chunks(10_007).for_each(|part| tree.update(part));
            prop_assert_eq!(tree.root_at((width << wider).trailing_zeros()), plain(&data, width << wider));
            prop_assert!(!passes(BlockHash::piece(&plain(&data, width), size + 1), &data));
            let at = at.index(len);
            data[at] ^= 1 << bit;
            prop_assert!(!passes(name, &data));
        }
    }
}
