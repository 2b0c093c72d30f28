//! Proofs in the Merkle trees of v2 torrents (BEP 52): what a request for hashes asks, what answers it, and whether an
//! answer is true.
//!
//! Layers count from the leaves up, from 0. A request names a run of hashes of one layer; the answer has these and the
//! uncles that lead from them to the root. Here a proof always leads to the file's root, which the metadata names, so an
//! answer is believed for what it is and not for who sent it.

use swarmgate_content::merkle::{LEAF_BYTES, Root, node, padding};

/// Hashes asked for at once: those of 8 MiB of leaves. BEP 52 wants no more.
pub const MAX_ASKED: u32 = 512;
/// Hashes given at once: 128 KiB of them, half of the largest message. Some clients ask for those of a whole piece.
pub const MAX_GIVEN: u32 = 4096;

/// Asks for a run of hashes of one file's tree; the same words name the answer and the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRequest {
    /// The root of the file's tree, which names the file.
    pub root: Root,
    /// The layer, counted from the leaves.
    pub base: u32,
    /// The first hash of the run in its layer.
    pub index: u32,
    /// How many: a power of two.
    pub length: u32,
    /// How many layers above `base` to prove.
    pub proof_layers: u32,
}

/// How many layers there are above the leaves of a file of `len` bytes.
#[must_use]
pub fn height(len: u64) -> u32 {
    len.div_ceil(LEAF_BYTES as u64).max(1).next_power_of_two().trailing_zeros()
}

impl HashRequest {
    /// Asks for a run and its whole proof, in a tree of `height` layers above its leaves.
    #[must_use]
    pub const fn proven(root: Root, height: u32, base: u32, index: u32, length: u32) -> Self {
        let proof_layers = height.saturating_sub(base).saturating_sub(1);
        Self { root, base, index, length, proof_layers }
    }

    /// Whether a tree of `height` layers above its leaves has such a run, and it is one we would give.
    #[must_use]
    pub const fn fits(&self, height: u32) -> bool {
        if self.base > height || height > 40 || self.length == 0 || !self.length.is_power_of_two() {
            return false;
        }
        let above = height - self.base;
        let width = 1_u64 << above;
        let proof_fits = self.proof_layers == 0 || self.proof_layers < above;
        let end = self.index as u64 + self.length as u64;
        self.length <= MAX_GIVEN && self.index.is_multiple_of(self.length) && end <= width && proof_fits
    }

    /// How many uncles an answer has: those within the run follow from it (BEP 52).
    #[must_use]
    pub const fn uncles(&self) -> u32 {
        self.proof_layers.saturating_add(1).saturating_sub(self.length.trailing_zeros())
    }

    /// Whether `hashes` are the true answer in a tree of `height` layers above its leaves: gives the run then. Only for
    /// requests made by [`Self::proven`].
    #[must_use]
    pub fn verify<'a>(&self, height: u32, hashes: &'a [Root]) -> Option<&'a [Root]> {
        if !self.fits(height) {
            return None;
        }
        let within = self.length.trailing_zeros();
        let above = height - self.base - within;
        let (run, uncles) = hashes.split_at_checked(self.length as usize)?;
        if uncles.len() != above as usize {
            return None;
        }
        let mut at = self.index >> within;
        let mut reached = fold(run);
        for uncle in uncles {
            reached = if at & 1 == 0 { node(&reached, uncle) } else { node(uncle, &reached) };
            at >>= 1;
        }
        (reached == self.root).then_some(run)
    }
}

/// The root over a run whose length is a power of two.
fn fold(run: &[Root]) -> Root {
    let mut layer = run.to_vec();
    while layer.len() > 1 {
        layer = layer.chunks(2).map(|pair| node(&pair[0], pair.last().unwrap_or(&pair[0]))).collect();
    }
    layer.first().copied().unwrap_or_default()
}

/// The part of a tree from one layer up to its root. It keeps twice the hashes it was made of.
#[derive(Debug, Clone)]
pub struct Tree {
    base: u32,
    /// From `base` up; without what is padding alone.
    layers: Vec<Vec<Root>>,
}

impl Tree {
    /// Builds it on the hashes of layer `base`, padding left out, up to layer `height`; `None` when there are none or more
    /// than such a tree has.
    #[must_use]
    pub fn new(base: u32, height: u32, hashes: Vec<Root>) -> Option<Self> {
        let above = height.checked_sub(base)?;
        if hashes.is_empty() || above > 32 || hashes.len() as u64 > 1 << above {
            return None;
        }
        let mut layers = vec![hashes];
        for layer in base..height {
            let beside = padding(layer);
            let below = layers.last()?;
            let pair = |pair: &[Root]| node(&pair[0], pair.get(1).unwrap_or(&beside));
            let next = below.chunks(2).map(pair).collect();
            layers.push(next);
        }
        Some(Self { base, layers })
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> Root {
        self.layers.last().and_then(|top| top.first()).copied().unwrap_or_default()
    }

    /// One hash; past the file's end, the padding.
    #[must_use]
    pub fn at(&self, layer: u32, index: u32) -> Option<Root> {
        let row = self.layers.get(layer.checked_sub(self.base)? as usize)?;
        Some(row.get(index as usize).copied().unwrap_or_else(|| padding(layer)))
    }

    /// The uncles of node `index` of `layer`, from that layer up: `count` of them, or as many as there are.
    #[must_use]
    pub fn uncles(&self, layer: u32, index: u32, count: u32) -> Vec<Root> {
        let top = self.base + u32::try_from(self.layers.len()).unwrap_or(1) - 1;
        let layers = (layer..top).take(count as usize);
        layers.enumerate().filter_map(|(step, layer)| self.at(layer, (index >> step) ^ 1)).collect()
    }

    /// The answer to a request that fits the tree and lies in it; `None` for one below its lowest layer.
    #[must_use]
    pub fn answer(&self, request: &HashRequest) -> Option<Vec<Root>> {
        let run = request.index..request.index.checked_add(request.length)?;
        let mut hashes: Vec<Root> = run.map(|index| self.at(request.base, index)).collect::<Option<_>>()?;
        let within = request.length.trailing_zeros();
        hashes.extend(self.uncles(request.base + within, request.index >> within, request.uncles()));
        Some(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use swarmgate_content::merkle::leaf;

    fn leaves(count: u32) -> Vec<Root> {
        (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    #[test]
    fn the_height_is_that_of_the_padded_tree() {
        let kib = |n: u64| n << 10;
        for (len, want) in [(1, 0), (kib(16), 0), (kib(16) + 1, 1), (kib(48), 2), (kib(64), 2), (kib(65), 3)] {
            assert_eq!(height(len), want, "{len} bytes");
        }
    }

    #[test]
    fn a_request_outside_of_its_tree_does_not_fit() {
        let request = |base, index, length| HashRequest::proven([0; 32], 4, base, index, length);
        assert!(request(0, 0, 16).fits(4) && request(2, 2, 2).fits(4) && request(4, 0, 1).fits(4));
        for (base, index, length) in [(5, 0, 1), (0, 16, 2), (0, 1, 2), (0, 0, 3), (0, 0, 0), (1, 0, 16), (0, 0, 32)] {
            assert!(!request(base, index, length).fits(4), "{length} at {index} of layer {base}");
        }
        assert!(!HashRequest { proof_layers: 4, ..request(0, 0, 2) }.fits(4));
        assert!(!HashRequest { length: MAX_GIVEN * 2, ..request(0, 0, 2) }.fits(30));
    }

    proptest! {
        #[test]
        fn an_answer_is_true_and_nothing_else_is(
            count in 1..200_u32, base in 0..8_u32, at: prop::sample::Index, width in 0..6_u32, spoil: prop::sample::Index,
        ) {
            let height = count.next_power_of_two().trailing_zeros();
            let tree = Tree::new(0, height, leaves(count)).unwrap();
            let base = base.min(height);
            let width = width.min(height - base);
            let runs = 1_usize << (height - base - width);
            let index = u32::try_from(at.index(runs)).unwrap() << width;
            let request = HashRequest::proven(tree.root(), height, base, index, 1 << width);
            prop_assert!(request.fits(height));
            let mut hashes = tree.answer(&request).unwrap();
            prop_assert_eq!(request.verify(height, &hashes), Some(&hashes[..1 << width]));
            prop_assert_eq!(tree.at(base, index), hashes.first().copied());
            let spoil = spoil.index(hashes.len());
            hashes[spoil][7] ^= 1;
            prop_assert_eq!(request.verify(height, &hashes), None);
            hashes[spoil][7] ^= 1;
            hashes.push([1; 32]);
            prop_assert_eq!(request.verify(height, &hashes), None);
        }

        #[test]
        fn a_tree_on_its_piece_layer_has_the_root_of_its_leaves(count in 1..300_u32, base in 0..9_u32) {
            let height = count.next_power_of_two().trailing_zeros();
            let base = base.min(height);
            let whole = Tree::new(0, height, leaves(count)).unwrap();
            let row = (0..count.div_ceil(1 << base)).map(|index| whole.at(base, index).unwrap()).collect();
            prop_assert_eq!(Tree::new(base, height, row).unwrap().root(), whole.root());
        }

        #[test]
        fn any_request_and_any_answer_never_panic(
            base: u32, index: u32, length: u32, proof_layers: u32, height in 0..70_u32, hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..20),
        ) {
            let request = HashRequest { root: [0; 32], base, index, length, proof_layers: proof_layers >> 1 };
            let _ = request.verify(height, &hashes);
            let _ = Tree::new(base % 40, height, hashes).and_then(|tree| request.fits(height).then(|| tree.answer(&request)));
        }
    }
}
