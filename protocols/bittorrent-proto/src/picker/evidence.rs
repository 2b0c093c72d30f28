//! Who sent wrong bytes. A piece that fails its hash convicts its only sender at once. When several peers sent it, the
//! hashes of its blocks are kept until the piece is verified: who had sent other bytes is guilty then. Meanwhile it is
//! asked of one peer alone, so that the second attempt settles the matter either way.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;

use super::PeerKey;
use crate::wire::{BLOCK_LEN, PieceIndex};

/// Failed pieces remembered at once.
const MAX_CASES: usize = 64;
/// Failures remembered of one piece.
const MAX_ACCOUNTS: usize = 8;

type BlockDigest = [u8; 20];

/// The open cases: for each failed piece, who sent which block and the hash of what they sent.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    cases: BTreeMap<PieceIndex, Vec<Vec<(PeerKey, BlockDigest)>>>,
}

impl Evidence {
    /// Takes a piece that failed, with the sender of each block; returns its sender if there was only one.
    pub(crate) fn convict(&mut self, piece: PieceIndex, bytes: &[u8], senders: &[PeerKey]) -> Vec<PeerKey> {
        let distinct: BTreeSet<_> = senders.iter().copied().collect();
        if distinct.len() == 1 {
            return distinct.into_iter().collect();
        }
        if self.cases.len() < MAX_CASES || self.cases.contains_key(&piece) {
            let accounts = self.cases.entry(piece).or_default();
            if accounts.len() < MAX_ACCOUNTS {
                accounts.push(senders.iter().copied().zip(block_digests(bytes)).collect());
            }
        }
        Vec::new()
    }

    /// Whether a piece failed and nobody is convicted for it so far.
    pub(crate) fn is_open(&self, piece: PieceIndex) -> bool {
        self.cases.contains_key(&piece)
    }

    /// Takes the right bytes of a piece; returns everybody who had sent others for it.
    pub(crate) fn acquit(&mut self, piece: PieceIndex, bytes: &[u8]) -> Vec<PeerKey> {
        let Some(accounts) = self.cases.remove(&piece) else { return Vec::new() };
        let right: Vec<_> = block_digests(bytes).collect();
        let sent_wrong = |account: Vec<(PeerKey, BlockDigest)>| {
            let wrong = account.into_iter().zip(&right).filter(|((_, sent), right)| sent != *right);
            wrong.map(|((peer, _), _)| peer).collect::<Vec<_>>()
        };
        let guilty: BTreeSet<_> = accounts.into_iter().flat_map(sent_wrong).collect();
        guilty.into_iter().collect()
    }
}

fn block_digests(bytes: &[u8]) -> impl Iterator<Item = BlockDigest> {
    bytes.chunks(BLOCK_LEN as usize).map(|block| {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, block);
        digest.as_ref().try_into().expect("SHA-1 gives 20 bytes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: PieceIndex = PieceIndex(3);

    #[test]
    fn the_only_sender_of_a_bad_piece_is_guilty_at_once() {
        let bytes = vec![1; 3 * BLOCK_LEN as usize];
        assert_eq!(Evidence::default().convict(PIECE, &bytes, &[PeerKey(7); 3]), [PeerKey(7)]);
    }

    #[test]
    fn of_several_senders_only_the_liar_is_convicted_when_the_truth_is_known() {
        let good = vec![1; 3 * BLOCK_LEN as usize];
        let mut bad = good.clone();
        bad[BLOCK_LEN as usize + 5] ^= 1;
        let mut evidence = Evidence::default();
        assert!(!evidence.is_open(PIECE));
        assert_eq!(evidence.convict(PIECE, &bad, &[PeerKey(1), PeerKey(2), PeerKey(3)]), []);
        assert!(evidence.is_open(PIECE));
        assert_eq!(evidence.acquit(PIECE, &good), [PeerKey(2)]);
        assert!(!evidence.is_open(PIECE));
        assert_eq!(evidence.acquit(PIECE, &good), [], "a case is closed once");
    }
}
