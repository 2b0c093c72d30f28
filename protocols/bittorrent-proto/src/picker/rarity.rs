//! Which pieces could be begun, the rarest first, kept in order as peers tell what they have.
//!
//! A piece stands in the bucket of its count, at any place: buckets are shuffled by the seed as they fill, so that those
//! who have the same choice choose differently. To move a piece is to swap it out of one bucket and into another, whatever
//! the torrent's size. Peers that have everything say nothing of what is rare and are only counted, so that a seed
//! joins and leaves at no cost.

use std::collections::BTreeMap;

use crate::bitfield::Bitfield;
use crate::seed::SplitMix;
use crate::wire::PieceIndex;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Rarity {
    /// Pieces that are wanted though nobody reads them.
    wanted: Bitfield,
    /// Those of them that are not here and not on their way.
    open: Bitfield,
    /// By piece: how many peers have it, less those in `full`; below zero when one of those lost it.
    counts: Vec<i32>,
    /// Peers that had everything when they told what they have.
    full: i32,
    /// The open pieces by count.
    buckets: BTreeMap<i32, Vec<PieceIndex>>,
    /// Where each open piece stands in its bucket.
    places: Vec<u32>,
    random: SplitMix,
}

impl Rarity {
    /// The pieces in `wanted` may be opened; none is open, and nobody has any.
    pub(super) fn new(wanted: Bitfield, seed: u64) -> Self {
        let pieces = wanted.len();
        Self {
            wanted,
            open: Bitfield::none(pieces),
            counts: vec![0; pieces as usize],
            full: 0,
            buckets: BTreeMap::new(),
            places: vec![0; pieces as usize],
            random: SplitMix::new(seed),
        }
    }

    /// Which pieces are wanted though nobody reads them.
    pub(super) const fn wanted(&self) -> &Bitfield {
        &self.wanted
    }

    /// The open pieces that somebody has, the rarest first.
    pub(super) fn rarest(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.buckets.range(1 - self.full..).flat_map(|(_, bucket)| bucket.iter().copied())
    }

    /// Some open piece of a peer that has `has`, not the rarest; `None` when there is none.
    pub(super) fn any_of(&mut self, has: &Bitfield) -> Option<PieceIndex> {
        let from = self.random.below(u64::from(self.open.len().max(1)));
        self.open.common(has, PieceIndex(u32::try_from(from).expect("below a u32")))
    }

    pub(super) fn is_open(&self, piece: PieceIndex) -> bool {
        self.open.get(piece)
    }

    /// Opens or closes a piece; tells whether it was the other before.
    pub(super) fn set_open(&mut self, piece: PieceIndex, open: bool) -> bool {
        if !self.open.set(piece, open) {
            return false;
        }
        if open {
            self.put(piece);
        } else {
            self.take(piece);
        }
        true
    }

    /// A peer has told what it has. What comes back belongs to it and is wanted by the other methods.
    pub(super) fn join(&mut self, has: &Bitfield) -> Counted {
        if has.is_all() {
            self.full += 1;
            return Counted::Full;
        }
        has.iter().for_each(|piece| self.count(piece, 1));
        Counted::ByPiece
    }

    /// A peer that has `has` is gone.
    pub(super) fn leave(&mut self, has: &Bitfield, counted: Counted) {
        match counted {
            Counted::ByPiece => has.iter().for_each(|piece| self.count(piece, -1)),
            Counted::Full => {
                self.full -= 1;
                if !has.is_all() {
                    (0..has.len()).map(PieceIndex).filter(|it| !has.get(*it)).for_each(|it| self.count(it, 1));
                }
            }
        }
    }

    /// A peer has one piece more, or less.
    pub(super) fn count(&mut self, piece: PieceIndex, by: i32) {
        let open = self.open.get(piece);
        if open {
            self.take(piece);
        }
        if let Some(count) = self.counts.get_mut(piece.0 as usize) {
            *count += by;
        }
        if open {
            self.put(piece);
        }
    }

    fn put(&mut self, piece: PieceIndex) {
        let bucket = self.buckets.entry(self.counts[piece.0 as usize]).or_default();
        let last = bucket.len();
        let place = usize::try_from(self.random.below(last as u64 + 1)).expect("at most `last`, which is a usize");
        bucket.push(piece);
        bucket.swap(place, last);
        for moved in [place, last] {
            self.places[bucket[moved].0 as usize] = u32::try_from(moved).expect("pieces are counted in u32");
        }
    }

    fn take(&mut self, piece: PieceIndex) {
        let count = self.counts[piece.0 as usize];
        let Some(bucket) = self.buckets.get_mut(&count) else { return };
        let place = self.places[piece.0 as usize];
        bucket.swap_remove(place as usize);
        if let Some(moved) = bucket.get(place as usize) {
            self.places[moved.0 as usize] = place;
        }
        if bucket.is_empty() {
            self.buckets.remove(&count);
        }
    }
}

/// How what a peer has is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Each of its pieces.
    ByPiece,
    /// As one that has everything, and what it lost since.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECES: u32 = 30;

    fn opened(seed: u64) -> Rarity {
        let mut rarity = Rarity::new(Bitfield::all(PIECES), seed);
        (0..PIECES).for_each(|piece| _ = rarity.set_open(PieceIndex(piece), true));
        rarity
    }

    #[test]
    fn equally_rare_pieces_come_in_an_order_of_ones_own() {
        let order = |seed| {
            let mut rarity = opened(seed);
            rarity.join(&Bitfield::all(PIECES));
            rarity.rarest().map(|piece| piece.0).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_ne!(order(3), (0..PIECES).collect::<Vec<_>>());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Open(u32, bool),
        Tell(usize, Vec<bool>),
        TellAll(usize),
        Leave(usize),
        Have(usize, u32, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (peer, piece) = (|| 0..4usize, || 0..PIECES);
        prop_oneof![
            4 => (piece(), any::<bool>()).prop_map(|(piece, open)| Step::Open(piece, open)),
            2 => (peer(), proptest::collection::vec(any::<bool>(), PIECES as usize)).prop_map(|(key, has)| Step::Tell(key, has)),
            1 => peer().prop_map(Step::TellAll),
            1 => peer().prop_map(Step::Leave),
            6 => (peer(), piece(), any::<bool>()).prop_map(|(key, piece, has)| Step::Have(key, piece, has)),
        ]
    }

    type Peers = [Option<(Bitfield, Counted)>; 4];

    fn tell(rarity: &mut Rarity, peer: &mut Option<(Bitfield, Counted)>, has: Option<Bitfield>) {
        if let Some((before, counted)) = peer.take() {
            rarity.leave(&before, counted);
        }
        *peer = has.map(|has| (has.clone(), rarity.join(&has)));
    }

    fn play(rarity: &mut Rarity, peers: &mut Peers, step: Step) {
        match step {
            Step::Open(piece, open) => _ = rarity.set_open(PieceIndex(piece), open),
            Step::Tell(key, bits) => {
                let mut has = Bitfield::none(PIECES);
                (0..).zip(bits).for_each(|(piece, bit)| _ = has.set(PieceIndex(piece), bit));
                tell(rarity, &mut peers[key], Some(has));
            }
            Step::TellAll(key) => tell(rarity, &mut peers[key], Some(Bitfield::all(PIECES))),
            Step::Leave(key) => tell(rarity, &mut peers[key], None),
            Step::Have(key, piece, has) => {
                if let Some((field, _)) = &mut peers[key]
                    && field.set(PieceIndex(piece), has)
                {
                    rarity.count(PieceIndex(piece), if has { 1 } else { -1 });
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_counting_anew(steps in proptest::collection::vec(step(), 1..200)) {
            let (mut rarity, mut peers) = (opened(7), Peers::default());
            for step in steps {
                play(&mut rarity, &mut peers, step);
                let having = |piece| peers.iter().flatten().filter(|(has, _)| has.get(piece)).count();
                let order: Vec<_> = rarity.rarest().collect();
                prop_assert!(order.is_sorted_by_key(|piece| having(*piece)), "{order:?}");
                let mut found: Vec<_> = order.iter().map(|piece| piece.0).collect();
                found.sort_unstable();
                let expected = (0..PIECES).filter(|it| rarity.open.get(PieceIndex(*it)) && having(PieceIndex(*it)) > 0);
                prop_assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }
    }
}
