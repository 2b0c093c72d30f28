//! IPNS names: the multihash of a public key, or the key itself where it is short.

use std::fmt;
use std::str::FromStr;

use libp2p_identity::{PeerId, PublicKey};
use multibase::Base;
use swarmgate_content::Cid;

use crate::block::read_cid;
use crate::codec::Codec;

/// Longest text that is looked at, in bytes. No base spells a key in so many.
const MAX_NAME_BYTES: usize = 400;
/// Multicodec of a libp2p public key.
const LIBP2P_KEY: u64 = 0x72;
/// What CIDs of keys had for a codec before there was one.
const DAG_PB: u64 = Codec::DagPb.code();
/// Multihash code of data that stands for itself.
const IDENTITY: u64 = 0x00;

/// An IPNS name, and the id of the peer that has the key. Prints as a base36 CIDv1 with the codec `libp2p-key`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(PeerId);

/// A text is no IPNS name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an IPNS name is the CID of a libp2p key, or a peer id in base58")]
pub struct NameError;

impl Name {
    /// The name of a key.
    #[must_use]
    pub fn of_key(key: &PublicKey) -> Self {
        Self(key.to_peer_id())
    }

    /// The name as a CID.
    ///
    /// # Errors
    /// When its codec or its multihash is not that of a key.
    pub fn from_cid(cid: &Cid) -> Result<Self, NameError> {
        if !matches!(cid.codec(), LIBP2P_KEY | DAG_PB) {
            return Err(NameError);
        }
        PeerId::from_bytes(&cid.hash().to_bytes()).map(Self).map_err(|_| NameError)
    }

    /// The key, where the name holds it: Ed25519 and secp256k1.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        let hash = self.0.as_ref();
        let key = (hash.code() == IDENTITY).then(|| PublicKey::try_decode_protobuf(hash.digest()).ok()).flatten()?;
        // The same key in another spelling would be another name.
        (Self::of_key(&key) == *self).then_some(key)
    }

    /// The peer that has the key.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.0
    }

    /// The name as a CIDv1.
    #[must_use]
    pub fn to_cid(&self) -> Cid {
        Cid::new_v1(LIBP2P_KEY, self.0.as_ref().resize().expect("a CID holds longer hashes than a peer id"))
    }

    /// Under which key a DHT keeps its record: `/ipns/` and the binary multihash.
    #[must_use]
    pub fn routing_key(&self) -> Vec<u8> {
        [b"/ipns/", self.0.to_bytes().as_slice()].concat()
    }
}

impl From<PeerId> for Name {
    fn from(peer: PeerId) -> Self {
        Self(peer)
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads a CID in any multibase, or a peer id in base58.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_NAME_BYTES || text.contains('/') {
            return Err(NameError);
        }
        if text.starts_with("Qm") || text.starts_with('1') {
            return text.parse().map(Self).map_err(|_| NameError);
        }
        let (_, bytes) = multibase::decode(text).map_err(|_| NameError)?;
        Self::from_cid(&read_cid(&bytes).map_err(|_| NameError)?)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&multibase::encode(Base::Base36Lower, self.to_cid().to_bytes()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
