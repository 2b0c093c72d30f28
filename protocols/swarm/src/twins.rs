//! What the swarms of one application tell each other of the pieces that they share (BEP 38).
//!
//! A piece is a block named by its hash, whoever's it is. So a torrent that starts has at once what others left in the
//! store. What is stored later is told: to every swarm that lacks a piece of that name and length, which takes it for had
//! as if peers had sent it. Nobody has to be believed: the name is the hash of the bytes.
//!
//! # Why is there no index of names?
//! It would hold every name of every torrent once more: 48 bytes a piece, a gigabyte for 200 torrents of 100 000 pieces.
//! Each swarm has its names in order already (four bytes a piece, for evictions). A piece is told of once, after it was
//! hashed, and a swarm that has everything is not searched; in one of 100 000 pieces a search takes two microseconds
//! (`a_name_is_looked_for_among_a_hundred_thousand_in_microseconds`), so that 100 such torrents cost a piece of 256 KiB
//! about what hashing it did.
//!
//! # Why do private torrents take part?
//! BEP 27 says whom peers may be had from. A piece that is here is asked of nobody, and nobody is told where it came from:
//! peers of either torrent see what they would see had one of their own sent it. Who can name the piece has the private
//! torrent's metadata, and learns that we have the piece, as any of its peers does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::BlockHash;
use swarmgate_store::Store;

use crate::{Known, Shared};

/// The swarms that share one store. Clones are one list; it keeps none of them alive.
#[derive(Debug, Clone, Default)]
pub struct Twins(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    members: RwLock<Members>,
    /// How many pieces were told of.
    told: AtomicU64,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    swarms: BTreeMap<u64, Weak<Shared>>,
}

/// A swarm's place in the list; dropping it strikes it out.
#[derive(Debug)]
pub(crate) struct Member {
    twins: Twins,
    number: u64,
}

impl Twins {
    /// From now on a swarm hears of pieces. Its metadata must be known.
    pub(crate) fn join(&self, swarm: &Arc<Shared>) -> Member {
        let mut members = self.0.members.write();
        let number = members.next;
        members.next += 1;
        members.swarms.insert(number, Arc::downgrade(swarm));
        Member { twins: self.clone(), number }
    }

    /// How many pieces were told of so far: who looks at the store, and finds this unchanged after it has joined, has
    /// missed nothing.
    pub(crate) fn told(&self) -> u64 {
        self.0.told.load(Ordering::SeqCst)
    }
}

impl Member {
    /// Tells all others of a piece that is in the store.
    pub(crate) fn tell(&self, name: &BlockHash, len: u32) {
        let inner = &self.twins.0;
        // Counted before the list is looked at: who joins meanwhile is in the list or sees the count.
        inner.told.fetch_add(1, Ordering::SeqCst);
        let members = inner.members.read();
        let others = members.swarms.iter().filter(|(number, _)| **number != self.number);
        others.filter_map(|(_, swarm)| swarm.upgrade()).for_each(|swarm| swarm.hear(name, len));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.twins.0.members.write().swarms.remove(&self.number);
    }
}

impl Shared {
    fn hear(&self, name: &BlockHash, len: u32) {
        if let Some(known) = self.known() {
            self.board.find(known.lacking(name, len));
        }
    }

    /// Whether a piece is known to be here, and whether it is in the store. What is there and not known to be, whoever
    /// put it there, becomes so.
    pub(crate) fn look(&self, known: &Known, piece: PieceIndex) -> (bool, bool) {
        let had = known.have.lock().get(piece);
        let stored = known.is_stored(&self.context.store, piece);
        if stored && !had {
            self.board.find(vec![piece]);
        }
        (had, stored)
    }
}

impl Known {
    /// Whether the store has a piece. A list of pieces may name a block of another length, and then lies: none of its
    /// pieces has that name.
    pub(crate) fn is_stored(&self, store: &Store, piece: PieceIndex) -> bool {
        let name = self.info.piece_hash(piece.0);
        name.is_some_and(|name| store.block_len(&name) == Some(self.geometry.len_of(piece)))
    }

    /// The pieces of that name and length.
    pub(crate) fn twins(&self, name: &BlockHash, len: u32) -> impl Iterator<Item = PieceIndex> + use<'_> {
        self.pieces_with(name).filter(move |piece| self.geometry.len_of(*piece) == len)
    }

    /// Those of them that are not here.
    fn lacking(&self, name: &BlockHash, len: u32) -> Vec<PieceIndex> {
        if self.have.lock().is_all() {
            return Vec::new();
        }
        let twins: Vec<_> = self.twins(name, len).collect();
        let have = self.have.lock();
        twins.into_iter().filter(|piece| !have.get(*piece)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use swarmgate_bittorrent_proto::bitfield::Bitfield;
    use swarmgate_bittorrent_proto::metainfo::TorrentBuilder;

    use super::*;

    const PIECES: u32 = 100_000;
    const PIECE: u32 = 16 << 10;

    /// A torrent of which nothing is here; names of different seeds differ.
    fn torrent(seed: u64) -> Known {
        let mut state = seed;
        let mut word = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 32).unwrap().to_be_bytes()
        };
        let names: Bytes = (0..PIECES * 5).flat_map(|_| word()).collect();
        let metainfo = TorrentBuilder::single_file("f", u64::from(PIECES) * u64::from(PIECE), PIECE, names).build();
        let metainfo = metainfo.unwrap();
        Known::new(metainfo.info, metainfo.info_bytes, Bitfield::none(PIECES), 0)
    }

    #[test]
    fn a_name_is_looked_for_among_a_hundred_thousand_in_microseconds() {
        let (torrents, other): (Vec<_>, _) = ((1..=10).map(torrent).collect(), torrent(11));
        let names: Vec<_> = (0..PIECES).step_by(50).filter_map(|piece| other.info.piece_hash(piece)).collect();
        let (mut found, mut each) = (0, Duration::MAX);
        // What else the machine does may delay most of them, and not each.
        for some in names.chunks(10) {
            let start = Instant::now();
            let here = |name| torrents.iter().map(|torrent| torrent.lacking(name, PIECE).len()).sum::<usize>();
            found += some.iter().map(here).sum::<usize>();
            each = each.min(start.elapsed() / 100);
        }
        eprintln!("{each:?} for a name in a torrent of {PIECES} pieces");
        assert_eq!((found, other.lacking(&names[7], PIECE)), (0, vec![PieceIndex(350)]));
        // A whole millisecond would be a search through all of them.
        assert!(each.as_micros() < 100, "{each:?}");
    }

    #[test]
    fn a_torrent_that_has_everything_or_another_length_lacks_nothing() {
        let torrent = torrent(1);
        let name = torrent.info.piece_hash(350).unwrap();
        assert_eq!(torrent.lacking(&name, PIECE - 1), []);
        torrent.have.lock().set(PieceIndex(350), true);
        assert_eq!(torrent.lacking(&name, PIECE), []);
        *torrent.have.lock() = Bitfield::all(PIECES);
        assert_eq!(torrent.lacking(&torrent.info.piece_hash(0).unwrap(), PIECE), []);
    }
}
