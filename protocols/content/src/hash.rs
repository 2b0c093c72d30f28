//! The name of a block: which hash, and its value. The one place that knows what is hashed how.
//!
//! A torrent's piece is named by SHA-1 or the root of its Merkle tree, an IPFS block by whatever its CID says. Every hash that this build
//! computes has a [`HashKind`]; a name of any other kind cannot be made, so whoever holds a [`BlockHash`] can check it.
//!
//! # Why is identity no kind of hash?
//! An identity CID *is* its bytes: there is nothing to fetch, to check or to store. [`crate::VerifiedBytes::inline`]
//! takes them out of the CID.

use aws_lc_rs::digest;
use multihash::Multihash;

use crate::id::{Cid, InfoHash, TorrentId};
use crate::merkle::{self, PieceTree};

/// Multihash code of SHA-1.
pub const SHA1_CODE: u64 = 0x11;
/// Multihash code of SHA2-256.
pub const SHA2_256_CODE: u64 = 0x12;
/// Multihash code of SHA2-512.
pub const SHA2_512_CODE: u64 = 0x13;
/// Multihash code of BLAKE3.
pub const BLAKE3_CODE: u64 = 0x1e;
/// Multihash code of a v2 torrent's piece: of the range for private use, as the length is part of the digest.
pub const PIECE_CODE: u64 = 0x30_b702;
/// Multihash code of BLAKE2b with a digest of no bytes; the code of one with `n` bytes is `n` more.
const BLAKE2B_CODE: u64 = 0xb200;

/// The shortest digest of a hash of chosen length, in bytes. What is shorter can be forged.
pub const MIN_DIGEST_BYTES: u8 = 20;
/// The longest digest, in bytes.
pub const MAX_DIGEST_BYTES: u8 = 64;

/// A hash that this build computes, with the length of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashKind {
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA2-256, 32 bytes.
    Sha2_256,
    /// SHA2-512, 64 bytes.
    Sha2_512,
    /// BLAKE2b with a digest of so many bytes, from [`MIN_DIGEST_BYTES`] to [`MAX_DIGEST_BYTES`].
    Blake2b(u8),
    /// BLAKE3, 32 bytes.
    Blake3,
    /// A v2 torrent's piece (BEP 52): the root of its Merkle tree and its length, [`merkle::PIECE_DIGEST_BYTES`].
    Piece,
}

impl HashKind {
    /// The kind that a multihash of this code and digest length has, else `None`.
    #[must_use]
    pub fn new(code: u64, digest_bytes: u8) -> Option<Self> {
        match (code, digest_bytes) {
            (SHA1_CODE, 20) => Some(Self::Sha1),
            (SHA2_256_CODE, 32) => Some(Self::Sha2_256),
            (SHA2_512_CODE, 64) => Some(Self::Sha2_512),
            (BLAKE3_CODE, 32) => Some(Self::Blake3),
            (PIECE_CODE, merkle::PIECE_DIGEST_BYTES) => Some(Self::Piece),
            (code, MIN_DIGEST_BYTES..=MAX_DIGEST_BYTES) if code == BLAKE2B_CODE + u64::from(digest_bytes) => {
                Some(Self::Blake2b(digest_bytes))
            }
            _ => None,
        }
    }

    /// Its multihash code.
    #[must_use]
    pub fn code(self) -> u64 {
        match self {
            Self::Sha1 => SHA1_CODE,
            Self::Sha2_256 => SHA2_256_CODE,
            Self::Sha2_512 => SHA2_512_CODE,
            Self::Blake2b(len) => BLAKE2B_CODE + u64::from(len),
            Self::Blake3 => BLAKE3_CODE,
            Self::Piece => PIECE_CODE,
        }
    }

    /// Starts hashing bytes that come in parts and have no name yet.
    #[must_use]
    pub fn naming(self) -> Naming {
        Naming { kind: self, context: Context::new(self) }
    }

    /// Hashes `data` and names it.
    #[must_use]
    pub fn hash(self, data: &[u8]) -> BlockHash {
        let mut naming = self.naming();
        naming.update(data);
        naming.finish()
    }
}

impl std::fmt::Display for HashKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha1 => f.write_str("sha1"),
            Self::Sha2_256 => f.write_str("sha2-256"),
            Self::Sha2_512 => f.write_str("sha2-512"),
            Self::Blake2b(len) => write!(f, "blake2b-{}", u32::from(*len) * 8),
            Self::Blake3 => f.write_str("blake3"),
            Self::Piece => f.write_str("bt-piece"),
        }
    }
}

/// The name of a block in the store: which hash, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(Multihash<64>);

impl BlockHash {
    fn wrap(code: u64, digest: &[u8]) -> Self {
        Self(Multihash::wrap(code, digest).expect("no kind of hash has a digest of more than 64 bytes"))
    }

    /// Names a block by its SHA-1, as v1 torrents do.
    #[must_use]
    pub fn sha1(value: [u8; 20]) -> Self {
        Self::wrap(SHA1_CODE, &value)
    }

    /// Names a block by its SHA2-256.
    #[must_use]
    pub fn sha2_256(value: [u8; 32]) -> Self {
        Self::wrap(SHA2_256_CODE, &value)
    }

    /// Names a v2 torrent's piece of `len` bytes by the root of its Merkle tree, which may be padded (BEP 52).
    #[must_use]
    pub fn piece(root: &merkle::Root, len: u32) -> Self {
        Self::wrap(PIECE_CODE, &merkle::piece_digest(root, len))
    }

    /// Takes a digest of this kind, or `None` when it has another length.
    #[must_use]
    pub fn from_digest(kind: HashKind, digest: &[u8]) -> Option<Self> {
        let len = u8::try_from(digest.len()).ok()?;
        (HashKind::new(kind.code(), len) == Some(kind)).then(|| Self::wrap(kind.code(), digest))
    }

    /// Takes a multihash whose hash this build can compute, else `None`.
    #[must_use]
    pub fn from_multihash<const SIZE: usize>(hash: &Multihash<SIZE>) -> Option<Self> {
        HashKind::new(hash.code(), hash.size()).map(|kind| Self::wrap(kind.code(), hash.digest()))
    }

    /// The name of the block that a CID links to; `None` when its hash is none that this build computes, or identity.
    #[must_use]
    pub fn from_cid(cid: &Cid) -> Option<Self> {
        Self::from_multihash(cid.hash())
    }

    /// Reads the binary form that [`Self::to_bytes`] writes, else `None`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Multihash::<64>::from_bytes(bytes).ok().and_then(|hash| Self::from_multihash(&hash))
    }

    /// The binary multihash: code, length, digest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// The CID of version 1 that reads this block with the codec of that multicodec number.
    #[must_use]
    pub fn to_cid(&self, codec: u64) -> Cid {
        Cid::new_v1(codec, Multihash::wrap(self.0.code(), self.digest()).expect("64 bytes fit 128"))
    }

    /// The CID of version 0, which reads this block as dag-pb; `None` unless the hash is SHA2-256.
    #[must_use]
    pub fn to_cid_v0(&self) -> Option<Cid> {
        Cid::new_v0(Multihash::wrap(self.0.code(), self.digest()).expect("64 bytes fit 128")).ok()
    }

    /// Which hash.
    #[must_use]
    pub fn kind(&self) -> HashKind {
        HashKind::new(self.0.code(), self.0.size()).expect("every constructor refuses other kinds")
    }

    /// The digest alone.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        self.0.digest()
    }

    /// Starts hashing for this name.
    #[must_use]
    pub fn hasher(self) -> BlockHasher {
        BlockHasher { expected: self, context: Context::new(self.kind()), len: 0 }
    }
}

impl From<TorrentId> for BlockHash {
    /// An `info` dictionary is a block that either infohash names.
    fn from(id: TorrentId) -> Self {
        match id {
            TorrentId::V1(v1) | TorrentId::Hybrid(v1, _) => Self::from(v1),
            TorrentId::V2(v2) => Self::sha2_256(*v2.as_bytes()),
        }
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
        write!(f, "{}:", self.kind())?;
        self.digest().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A running hash of the kind that a [`BlockHash`] names, for blocks that arrive in parts.
pub struct BlockHasher {
    expected: BlockHash,
    context: Context,
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
        if self.context.is(self.expected.digest()) {
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

/// A running hash of bytes that have no name yet.
pub struct Naming {
    kind: HashKind,
    context: Context,
}

impl Naming {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Names all bytes seen.
    #[must_use]
    pub fn finish(self) -> BlockHash {
        let (digest, len) = self.context.finish();
        BlockHash::wrap(self.kind.code(), &digest[..len])
    }
}

impl std::fmt::Debug for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Naming").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The state of one hash. BLAKE3's is some 2 KiB, so the two that are seldom met are boxed.
enum Context {
    Sha(digest::Context),
    Blake2b(Box<blake2b_simd::State>),
    Blake3(Box<blake3::Hasher>),
    Piece(Box<PieceTree>),
}

impl Context {
    fn new(kind: HashKind) -> Self {
        match kind {
            HashKind::Sha1 => Self::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            HashKind::Sha2_256 => Self::Sha(digest::Context::new(&digest::SHA256)),
            HashKind::Sha2_512 => Self::Sha(digest::Context::new(&digest::SHA512)),
            HashKind::Blake2b(len) => {
                Self::Blake2b(Box::new(blake2b_simd::Params::new().hash_length(usize::from(len)).to_state()))
            }
            HashKind::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
            HashKind::Piece => Self::Piece(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha(context) => context.update(bytes),
            Self::Blake2b(state) => {
                state.update(bytes);
            }
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Piece(tree) => tree.update(bytes),
        }
    }

    /// The digest, and how many of the bytes are it.
    fn finish(self) -> ([u8; 64], usize) {
        let mut digest = [0; 64];
        let mut keep = |bytes: &[u8]| {
            digest[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        };
        let len = match self {
            Self::Sha(context) => keep(context.finish().as_ref()),
            Self::Blake2b(state) => keep(state.finalize().as_bytes()),
            Self::Blake3(hasher) => keep(hasher.finalize().as_bytes()),
            Self::Piece(tree) => keep(&tree.finish()),
        };
        (digest, len)
    }

    /// Whether all bytes seen have this digest. A piece's root may be padded to any width.
    fn is(self, expected: &[u8]) -> bool {
        match self {
            Self::Piece(tree) => tree.is(expected),
            other @ (Self::Sha(_) | Self::Blake2b(_) | Self::Blake3(_)) => {
                let (digest, len) = other.finish();
                &digest[..len] == expected
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    /// The digests of `abc`, from the hashes' own specifications (FIPS 180-4, RFC 7693 appendix A) and test vectors.
    const OF_ABC: [(HashKind, &str); 6] = [
        (HashKind::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (HashKind::Sha2_256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            HashKind::Sha2_512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (HashKind::Blake2b(32), "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"),
        (
            HashKind::Blake2b(64),
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
             7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
        ),
        (HashKind::Blake3, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    ];

    #[test]
    fn every_kind_gives_the_known_digest_of_abc() {
        for (kind, hex) in OF_ABC {
            let digest = HEXLOWER.decode(hex.as_bytes()).unwrap();
            let name = BlockHash::from_digest(kind, &digest).unwrap();
            assert_eq!(kind.hash(b"abc"), name, "{kind}");
            let mut hasher = name.hasher();
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish(), Ok(()), "{kind}, in parts");
            assert_eq!(name.to_string(), format!("{kind}:{hex}"));
            assert_eq!(BlockHash::from_bytes(&name.to_bytes()), Some(name));
            assert_eq!(BlockHash::from_cid(&name.to_cid(0x55)), Some(name));
        }
    }

    #[test]
    fn what_cannot_be_checked_has_no_name() {
        for (code, len) in [(0x00, 3), (SHA1_CODE, 19), (SHA2_256_CODE, 20), (0xb208, 8), (0xb220, 31), (0x16, 32)] {
            assert_eq!(HashKind::new(code, len), None, "{code:#x} with {len} bytes");
        }
        assert_eq!(BlockHash::from_bytes(b"\x00\x01x"), None, "identity is not a check");
        assert_eq!(BlockHash::from_digest(HashKind::Blake2b(32), &[0; 31]), None);
    }

    #[test]
    fn only_sha2_256_makes_a_cid_of_version_0() {
        let name = HashKind::Sha2_256.hash(b"");
        assert_eq!(name.to_cid_v0().unwrap().to_string(), "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n");
        assert_eq!(HashKind::Blake3.hash(b"").to_cid_v0(), None);
    }
}
