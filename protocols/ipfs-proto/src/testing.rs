//! What the tests of several modules need.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;
use swarmgate_content::{Cid, HashKind, VerifiedBytes};

use crate::block;
use crate::codec::Codec;

/// A CID of some hash and codec, not of any bytes.
pub(crate) fn any_cid() -> impl Strategy<Value = Cid> {
    let kinds = [HashKind::Sha1, HashKind::Sha2_256, HashKind::Sha2_512, HashKind::Blake3, HashKind::Blake2b(32)];
    let v1 = (any::<u64>(), prop::sample::select(kinds.to_vec()), prop::sample::select(vec![0x55, 0x70, 0x71, 0x129]));
    v1.prop_map(|(seed, kind, codec)| kind.hash(&seed.to_le_bytes()).to_cid(codec))
}

/// Blocks by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks(pub(crate) BTreeMap<Cid, Bytes>);

impl Blocks {
    /// Takes a block in and names it.
    pub(crate) fn put(&mut self, codec: Codec, bytes: impl Into<Bytes>) -> Cid {
        let bytes = bytes.into();
        let cid = block::name(codec, &bytes);
        self.0.insert(cid, bytes);
        cid
    }

    /// The block, checked.
    pub(crate) fn get(&self, cid: &Cid) -> VerifiedBytes {
        let bytes = self.0.get(cid).unwrap_or_else(|| panic!("no block {cid}"));
        block::check(cid, bytes.clone()).unwrap()
    }
}

/// Takes any bytes as verified, to be given to a machine under any name.
pub(crate) fn verified(bytes: &[u8]) -> VerifiedBytes {
    VerifiedBytes::check(&HashKind::Sha2_256.hash(bytes), Bytes::copy_from_slice(bytes)).unwrap()
}

/// Some moment for a story to begin at.
#[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// The name of a raw block.
pub(crate) fn cid_of(data: &[u8]) -> Cid {
    block::name(Codec::Raw, data)
}

/// A CID that is its block: `[10, 2, 8, 1]`.
pub(crate) fn identity_cid() -> Cid {
    "bafyaabakaieac".parse().unwrap()
}

/// A CID of a hash that is not computed here, Keccak-256.
pub(crate) fn keccak_cid() -> Cid {
    Cid::try_from([&[1, 0x55, 0x1b, 32][..], &[7; 32]].concat()).unwrap()
}
