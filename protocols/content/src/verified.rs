//! Bytes that passed their hash.

use bytes::Bytes;

use crate::hash::{BlockHash, HashKind, HashMismatch};
use crate::id::Cid;

/// Multihash code of the hash that changes nothing.
const IDENTITY_CODE: u64 = 0x00;
/// How many bytes a CID may hold itself. Peers write CIDs, so one that carries a file is refused (UnixFS, "Identity CID
/// Size Limit").
pub const MAX_INLINE_BYTES: usize = 128;

/// Bytes that passed a hash check: all or part of one block. The HTTP body accepts nothing else.
///
/// Cheap to clone and slice; a slice of verified bytes is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedBytes(Bytes);

impl VerifiedBytes {
    /// Hashes `bytes` and accepts them when they are the block that `hash` names.
    ///
    /// # Errors
    /// [`HashMismatch`] otherwise.
    pub fn check(hash: &BlockHash, bytes: Bytes) -> Result<Self, HashMismatch> {
        let mut hasher = hash.hasher();
        hasher.update(&bytes);
        hasher.finish().map(|()| Self(bytes))
    }

    /// Hashes `bytes` that came without a name: they are the block of the name that this gives.
    #[must_use]
    pub fn name(kind: HashKind, bytes: Bytes) -> (BlockHash, Self) {
        (kind.hash(&bytes), Self(bytes))
    }

    /// The bytes that an identity CID holds itself, at most [`MAX_INLINE_BYTES`]; `None` when the CID names a block by
    /// a hash. They are what their name says, because they are their name.
    #[must_use]
    pub fn inline(cid: &Cid) -> Option<Self> {
        (cid.hash().code() == IDENTITY_CODE).then(|| Self(Bytes::copy_from_slice(cid.hash().digest())))
    }

    /// Accepts bytes that the store hashed when it committed them. Only the store's `verify.rs` may call this;
    /// the lint `disallowed_methods` stops everybody else.
    #[doc(hidden)]
    #[must_use]
    pub const fn vouched_for_by_store(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes `range` of these.
    ///
    /// # Panics
    /// When the range leaves them.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self(self.0.slice(range))
    }

    /// The part of these that `part` borrows: no bytes are copied.
    ///
    /// # Panics
    /// When `part` was not borrowed from these.
    #[must_use]
    pub fn slice_ref(&self, part: &[u8]) -> Self {
        Self(self.0.slice_ref(part))
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the bytes up for sending.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl AsRef<[u8]> for VerifiedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for VerifiedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifiedBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ABC_SHA1: [u8; 20] = [
        0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0,
        0xd8, 0x9d,
    ];

    #[test]
    fn the_sha1_of_abc_admits_abc_and_nothing_else() {
        let name = BlockHash::sha1(ABC_SHA1);
        assert_eq!(VerifiedBytes::check(&name, Bytes::from_static(b"abc")).unwrap().as_ref(), b"abc");
        let error = VerifiedBytes::check(&name, Bytes::from_static(b"abd")).unwrap_err();
        assert_eq!(error, HashMismatch { expected: name, len: 3 });
    }

    #[test]
    fn an_identity_cid_is_its_bytes_and_holds_128_at_most() {
        // Both from the UnixFS specification, "Identity CID Size Limit".
        let full = format!("bafkqbaab{}ijbee", "ijbeeqsc".repeat(25));
        let cid: Cid = full.parse().unwrap();
        assert_eq!(VerifiedBytes::inline(&cid).unwrap().as_ref(), [b'B'; MAX_INLINE_BYTES]);
        let bomb = format!("bafkqbaib{}ifaucqi", "ifaucqkb".repeat(25));
        assert!(bomb.parse::<Cid>().is_err());
        let hashed: Cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku".parse().unwrap();
        assert_eq!(VerifiedBytes::inline(&hashed), None);
    }

    #[test]
    fn a_borrowed_part_of_verified_bytes_is_verified() {
        let name = BlockHash::sha1(ABC_SHA1);
        let all = VerifiedBytes::check(&name, Bytes::from_static(b"abc")).unwrap();
        assert_eq!(all.slice_ref(&all.as_ref()[1..]).as_ref(), b"bc");
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_always_refused(mut data in proptest::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, bit in 0..8u8) {
            let name = HashKind::Sha1.hash(&data);
            prop_assert!(VerifiedBytes::check(&name, Bytes::copy_from_slice(&data)).is_ok());
            let at = at.index(data.len());
            data[at] ^= 1 << bit;
            prop_assert!(VerifiedBytes::check(&name, Bytes::from(data)).is_err());
        }
    }
}
