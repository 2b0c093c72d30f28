//! What the actor does for v2 torrents (BEP 52): the roots of pieces that the metadata lacks, blocks that are read before
//! their piece is whole, and leaves for peers that ask.

use std::time::Instant;

use bytes::Bytes;
use swarmgate_bittorrent_proto::merkle::HashRequest;
use swarmgate_bittorrent_proto::metainfo::Info;
use swarmgate_bittorrent_proto::picker::PeerKey;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::merkle::{LEAF_BYTES, Root, leaf};
use swarmgate_content::{BlockHash, VerifiedBytes};
use swarmgate_store::Store;

use super::{Actor, Done, known};
use crate::roots;

/// Bytes of a piece that are read and hashed in one go: a millisecond.
const LEAVES_STEP: u32 = 1 << 20;

impl Actor {
    /// The metadata is here, without the roots of pieces: peers have them.
    pub(super) fn seek_roots(&mut self, info: Box<Info>, info_bytes: Bytes) {
        let Some(tree) = info.tree.clone().filter(|_| !self.torrent.has_info() && self.rootless.is_none()) else {
            return;
        };
        self.torrent.set_tree(info.id(&info_bytes), tree, None);
        self.rootless = Some((info, info_bytes));
        self.torrent.seek_roots(Instant::now());
    }

    pub(super) fn on_roots(&mut self, roots: Bytes) {
        let Some((mut info, info_bytes)) = self.rootless.take() else { return };
        if !info.set_roots(roots.clone()) {
            tracing::error!(infohash = %self.shared.infohash, "proven roots of pieces do not fit the metadata");
            return;
        }
        let known = known(&self.shared, *info, info_bytes);
        if let Some(v2) = known.id.v2() {
            let store = self.shared.context.store.clone();
            self.pending.push(Box::pin(async move {
                roots::keep(&store, v2, roots).await;
                Done::InfoStored
            }));
        }
        self.set_known(known);
    }

    /// Gives those who wait within a block that is here what they wait for. A leaf is the SHA2-256 of a block, so a block is
    /// checked as if it had come alone.
    pub(super) fn hand_blocks(&mut self) {
        if !self.torrent.reads_blocks() {
            return;
        }
        for (key, position) in self.shared.board.waiting() {
            let Some(block) = self.torrent.received_block(position) else { continue };
            match VerifiedBytes::check(&BlockHash::sha2_256(block.leaf), block.bytes) {
                Ok(bytes) => self.shared.board.hand_block(key, block.start, bytes),
                Err(error) => {
                    tracing::warn!(infohash = %self.shared.infohash, at = block.start, %error, "a block failed its hash");
                    self.torrent.block_wrong(Instant::now(), position);
                }
            }
        }
    }

    pub(super) fn read_leaves(&self, peer: PeerKey, piece: PieceIndex, request: HashRequest) {
        let hash = self.known().and_then(|known| Some((known.info.piece_hash(piece.0)?, leaf_bytes(&known, piece)?)));
        let store = self.shared.context.store.clone();
        self.pending.push(Box::pin(async move {
            let leaves = match hash {
                Some((hash, len)) => leaves_of(&store, &hash, len).await,
                None => None,
            };
            Done::Leaves(peer, request, leaves)
        }));
    }
}

/// How many of a piece's bytes are under leaves: those of its file.
fn leaf_bytes(known: &crate::Known, piece: PieceIndex) -> Option<u32> {
    known.info.tree.as_ref().map(|tree| tree.len_of(piece.0))
}

async fn leaves_of(store: &Store, hash: &BlockHash, len: u32) -> Option<Vec<Root>> {
    let mut leaves = Vec::new();
    for start in (0..len).step_by(LEAVES_STEP as usize) {
        let end = len.min(start + LEAVES_STEP);
        let bytes = store.read(hash, start..end).await.ok()??;
        leaves.extend(bytes.as_ref().chunks(LEAF_BYTES).map(leaf));
    }
    Some(leaves)
}
