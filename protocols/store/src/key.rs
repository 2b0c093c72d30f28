//! A block's name, packed for the index: a store of 100 GiB holds some 400 000 of them.

use swarmgate_content::merkle::PIECE_DIGEST_BYTES;
use swarmgate_content::{BlockHash, HashKind, MAX_DIGEST_BYTES, MIN_DIGEST_BYTES};

/// A [`BlockHash`] in 65 bytes instead of 80.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Which hash: see [`tag`].
    tag: u8,
    digest: [u8; DIGEST_BYTES],
}

/// How many bytes [`Key::to_array`] gives.
pub(crate) const KEY_BYTES: usize = 1 + DIGEST_BYTES;

/// Room for the longest digest.
const DIGEST_BYTES: usize = MAX_DIGEST_BYTES as usize;

/// A hash's number in the store's own files: the digest's length for torrents' two, another for the rest.
fn tag(kind: HashKind) -> u8 {
    match kind {
        HashKind::Sha1 => 20,
        HashKind::Sha2_256 => 32,
        HashKind::Sha2_512 => 1,
        HashKind::Blake3 => 2,
        HashKind::Piece => 3,
        HashKind::Blake2b(len) => 64 + len,
    }
}

/// The hash of that number, and how long its digest is.
fn kind(tag: u8) -> Option<(HashKind, usize)> {
    match tag {
        20 => Some((HashKind::Sha1, 20)),
        32 => Some((HashKind::Sha2_256, 32)),
        1 => Some((HashKind::Sha2_512, 64)),
        2 => Some((HashKind::Blake3, 32)),
        3 => Some((HashKind::Piece, PIECE_DIGEST_BYTES.into())),
        other => {
            let len = other.checked_sub(64)?;
            (MIN_DIGEST_BYTES..=MAX_DIGEST_BYTES).contains(&len).then_some((HashKind::Blake2b(len), len.into()))
        }
    }
}

impl Key {
    /// Unpacks the name.
    pub(crate) fn hash(&self) -> BlockHash {
        let (kind, len) = kind(self.tag).expect("both constructors refuse other tags");
        BlockHash::from_digest(kind, &self.digest[..len]).expect("the length is the kind's own")
    }

    /// Which hash it is.
    pub(crate) fn kind(&self) -> HashKind {
        kind(self.tag).expect("both constructors refuse other tags").0
    }

    /// The packed form, for files of the store's own.
    pub(crate) fn to_array(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[0] = self.tag;
        bytes[1..].copy_from_slice(&self.digest);
        bytes
    }

    /// Reads [`Self::to_array`] back, or `None` when no such name can exist.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (&tag, digest) = bytes.split_first()?;
        let digest: [u8; DIGEST_BYTES] = digest.try_into().ok()?;
        let (_, len) = kind(tag)?;
        digest[len..].iter().all(|byte| *byte == 0).then_some(Self { tag, digest })
    }

    /// The first byte of the digest: spreads blocks over directories and locks.
    pub(crate) const fn spread(&self) -> u8 {
        self.digest[0]
    }
}

impl From<&BlockHash> for Key {
    fn from(hash: &BlockHash) -> Self {
        let mut digest = [0; DIGEST_BYTES];
        let given = hash.digest();
        digest[..given.len()].copy_from_slice(given);
        Self { tag: tag(hash.kind()), digest }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.hash(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_packing() {
        let kinds = [HashKind::Sha1, HashKind::Sha2_256, HashKind::Sha2_512, HashKind::Blake3, HashKind::Piece];
        for kind in kinds.into_iter().chain((MIN_DIGEST_BYTES..=MAX_DIGEST_BYTES).map(HashKind::Blake2b)) {
            let hash = kind.hash(b"block");
            let key = Key::from(&hash);
            assert_eq!((key.hash(), key.kind()), (hash, hash.kind()));
            assert_eq!(Key::from_slice(&key.to_array()), Some(key));
        }
        assert_eq!(Key::from_slice(&[4; KEY_BYTES]), None, "no hash has that number");
    }
}
