//! Bytes that passed their hash.

use aws_lc_rs::digest;
use bytes::Bytes;
use multihash::Multihash;

use crate::InfoHash;

/// Multihash code of SHA-1.
pub const SHA1_CODE: u64 = 0x11;
/// Multihash code of SHA2-256.
pub const SHA2_256_CODE: u64 = 0x12;

/// The name of a block in the store: which hash, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(Multihash<64>);

/// A running hash of the kind that a [`BlockHash`] names, for blocks that arrive in parts.
pub struct BlockHasher {
    expected: BlockHash,
    context: digest::Context,
    len: u64,
}

/// Bytes did not have the hash that names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes do not have the hash {expected}")]
pub struct HashMismatch {
    /// The hash asked for.
    pub expected: BlockHash,
    /// How many bytes were hashed.
    pub len: u64,
}

/// Bytes that passed a hash check: all or part of one block. The HTTP body accepts nothing else.
///
/// Cheap to clone and slice; a slice of verified bytes is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedBytes(Bytes);

impl BlockHash {
    /// Names a block by its SHA-1, as v1 torrents do.
    #[must_use]
    pub fn sha1(value: [u8; 20]) -> Self {
        Self(Multihash::wrap(SHA1_CODE, &value).expect("20 bytes fit a multihash of 64"))
    }

    /// Names a block by its SHA2-256.
    #[must_use]
    pub fn sha2_256(value: [u8; 32]) -> Self {
        Self(Multihash::wrap(SHA2_256_CODE, &value).expect("32 bytes fit a multihash of 64"))
    }

    /// Takes a multihash whose hash this build can compute, else `None`.
    #[must_use]
    pub fn from_multihash(hash: Multihash<64>) -> Option<Self> {
        match (hash.code(), hash.size()) {
            (SHA1_CODE, 20) | (SHA2_256_CODE, 32) => Some(Self(hash)),
            _ => None,
        }
    }

    /// Reads the binary form that [`Self::to_bytes`] writes, else `None`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Multihash::from_bytes(bytes).ok().and_then(Self::from_multihash)
    }

    /// The binary multihash: code, length, digest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// The digest alone.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        self.0.digest()
    }

    fn algorithm(&self) -> &'static digest::Algorithm {
        match self.0.code() {
            SHA1_CODE => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SHA2_256_CODE => &digest::SHA256,
            other => unreachable!("every constructor refuses multihash code {other:#x}"),
        }
    }

    /// Starts hashing for this name.
    #[must_use]
    pub fn hasher(self) -> BlockHasher {
        BlockHasher { expected: self, context: digest::Context::new(self.algorithm()), len: 0 }
    }
}

impl From<InfoHash> for BlockHash {
    /// An `info` dictionary is a block whose SHA-1 is the infohash.
    fn from(hash: InfoHash) -> Self {
        Self::sha1(*hash.as_bytes())
    }
}

impl std::fmt::Display for BlockHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.code() == SHA1_CODE { "sha1:" } else { "sha2-256:" })?;
        self.digest().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl BlockHasher {
    /// Adds the next bytes of the block.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Compares the hash of all bytes seen with the name.
    ///
    /// # Errors
    /// [`HashMismatch`] when they differ.
    pub fn finish(self) -> Result<(), HashMismatch> {
        if self.context.finish().as_ref() == self.expected.digest() {
            Ok(())
        } else {
            Err(HashMismatch { expected: self.expected, len: self.len })
        }
    }
}

impl std::fmt::Debug for BlockHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockHasher").field("expected", &self.expected).field("len", &self.len).finish_non_exhaustive()
    }
}

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
    fn names_survive_their_binary_form() {
        for name in [BlockHash::sha1(ABC_SHA1), BlockHash::sha2_256([7; 32])] {
            assert_eq!(BlockHash::from_bytes(&name.to_bytes()), Some(name));
        }
        assert_eq!(BlockHash::from_bytes(b"\x00\x01x"), None, "identity is not a check");
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_always_refused(mut data in proptest::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, bit in 0..8u8) {
            let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &data);
            let name = BlockHash::sha1(digest.as_ref().try_into().unwrap());
            prop_assert!(VerifiedBytes::check(&name, Bytes::copy_from_slice(&data)).is_ok());
            let at = at.index(data.len());
            data[at] ^= 1 << bit;
            prop_assert!(VerifiedBytes::check(&name, Bytes::from(data)).is_err());
        }
    }
}
