//! A block: bytes, and the CID that names them. The one place where an IPFS block is checked, and the limits of one.

use std::borrow::Cow;

use bytes::Bytes;
use swarmgate_content::{BlockHash, Cid, HashKind, VerifiedBytes};

/// The largest block that is taken from the network, in bytes: 2 MiB, which is what Bitswap and every gateway take.
pub const MAX_BLOCK_BYTES: usize = 2 << 20;
/// How deep a tree of blocks, or of values inside of one, may be. A file of 8 EiB in the narrowest known layout has 9.
pub const MAX_DEPTH: u16 = 64;
/// The most links that a part of a file or a shard of a directory may have. The widest known layout has 1,024.
///
/// Directories in one block, and blocks of IPLD data, are bounded by [`MAX_BLOCK_BYTES`] alone: some 48,000 links. They
/// are read link by link and never held as a list.
pub const MAX_LINKS: usize = 8192;

/// A block that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {cid}: {flaw}")]
pub struct BadBlock {
    /// Which.
    pub cid: Box<Cid>,
    /// Why.
    pub flaw: Flaw,
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It has more than [`MAX_BLOCK_BYTES`].
    #[error("{0} bytes are more than the 2 MiB that a block may have")]
    TooLarge(usize),
    /// No hash of that multihash code and digest length is computed here.
    #[error("its hash {code:#x} of {digest_bytes} bytes is none that can be checked here")]
    UnknownHash {
        /// The multihash code.
        code: u64,
        /// The length of the digest.
        digest_bytes: u8,
    },
    /// Its bytes do not have its hash.
    #[error("{0} bytes do not have its hash")]
    Mismatch(usize),
    /// Its codec cannot be read here.
    #[error("its codec {0:#x} is not known")]
    UnknownCodec(u64),
    /// It is not what its codec says.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// The codec or format.
        what: &'static str,
        /// The first thing that is wrong.
        why: Cow<'static, str>,
    },
    /// It is something else than was looked for.
    #[error("{found}, not {expected}")]
    Kind {
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// It holds more or fewer bytes of the file than its parent, or itself, says.
    #[error("it should hold {said} bytes of the file and holds {is}")]
    Size {
        /// As was said.
        said: u64,
        /// As it is.
        is: u64,
    },
    /// It has more than [`MAX_LINKS`], or all of a walk's together are more than the walk may know at a time.
    #[error("too many links")]
    TooManyLinks,
    /// It lies, or nests, deeper than [`MAX_DEPTH`].
    #[error("deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl Flaw {
    /// This flaw, of that block.
    #[must_use]
    pub fn of(self, cid: &Cid) -> BadBlock {
        BadBlock { cid: Box::new(*cid), flaw: self }
    }

    pub(crate) fn malformed(what: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { what, why: why.into() }
    }
}

/// Hashes `bytes` and accepts them when they are the block that `cid` names.
///
/// # Errors
/// [`BadBlock`] when they are too many, are another block, or when the hash is none that can be checked.
pub fn check(cid: &Cid, bytes: Bytes) -> Result<VerifiedBytes, BadBlock> {
    let len = bytes.len();
    if len > MAX_BLOCK_BYTES {
        return Err(Flaw::TooLarge(len).of(cid));
    }
    if let Some(inline) = VerifiedBytes::inline(cid) {
        return if inline.as_ref() == bytes { Ok(inline) } else { Err(Flaw::Mismatch(len).of(cid)) };
    }
    VerifiedBytes::check(&hash_of(cid)?, bytes).map_err(|_| Flaw::Mismatch(len).of(cid))
}

/// The name that the store knows the block by.
///
/// # Errors
/// [`Flaw::UnknownHash`] when the hash is none that can be checked; identity is one of these.
pub fn hash_of(cid: &Cid) -> Result<BlockHash, BadBlock> {
    let unknown = || Flaw::UnknownHash { code: cid.hash().code(), digest_bytes: cid.hash().size() }.of(cid);
    BlockHash::from_cid(cid).ok_or_else(unknown)
}

/// Names new bytes: SHA2-256, version 1.
#[must_use]
pub fn name(codec: crate::codec::Codec, bytes: &[u8]) -> Cid {
    HashKind::Sha2_256.hash(bytes).to_cid(codec.code())
}

/// Hashes bytes that came without a name, for that hash to be their name. `None` when they have more than
/// [`MAX_BLOCK_BYTES`].
#[must_use]
pub fn identify(kind: HashKind, bytes: Bytes) -> Option<(BlockHash, VerifiedBytes)> {
    (bytes.len() <= MAX_BLOCK_BYTES).then(|| VerifiedBytes::name(kind, bytes))
}

/// Reads a CID that fills `bytes` to the last.
pub(crate) fn read_cid(bytes: &[u8]) -> Result<Cid, &'static str> {
    let cid = Cid::try_from(bytes).map_err(|_| "a link is not a CID")?;
    if cid.encoded_len() == bytes.len() { Ok(cid) } else { Err("a link has bytes after its CID") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::testing::{identity_cid, keccak_cid};

    #[test]
    fn a_block_is_taken_under_its_own_name_only() {
        let bytes = Bytes::from_static(b"hello world");
        let cid = name(Codec::Raw, &bytes);
        assert_eq!(cid.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
        assert_eq!(check(&cid, bytes.clone()).unwrap().as_ref(), b"hello world");
        let error = check(&cid, Bytes::from_static(b"hello earth")).unwrap_err();
        assert_eq!(error.to_string(), format!("block {cid}: 11 bytes do not have its hash"));
        let large = Bytes::from(vec![0; MAX_BLOCK_BYTES + 1]);
        assert_eq!(check(&name(Codec::Raw, &large), large).unwrap_err().flaw, Flaw::TooLarge(MAX_BLOCK_BYTES + 1));
    }

    #[test]
    fn an_inline_block_is_compared_with_its_name() {
        let cid = identity_cid();
        assert_eq!(check(&cid, Bytes::from_static(&[10, 2, 8, 1])).unwrap().as_ref(), [10, 2, 8, 1]);
        assert!(check(&cid, Bytes::from_static(b"other")).is_err());
    }

    #[test]
    fn a_hash_that_cannot_be_checked_is_an_error_of_its_own() {
        let cid = keccak_cid();
        let flaw = Flaw::UnknownHash { code: 0x1b, digest_bytes: 32 };
        assert_eq!(check(&cid, Bytes::new()).unwrap_err().flaw, flaw);
        assert!(read_cid(&[&[1, 0x55, 0x12, 32][..], &[7; 33]].concat()).is_err(), "one byte too many");
    }
}
