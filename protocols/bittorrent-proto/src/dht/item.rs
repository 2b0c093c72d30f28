//! What BEP 44 stores: an immutable value under its hash, or a mutable one under its author's key.
//!
//! A [`MutableItem`] exists only with a signature that was checked, so nothing below asks again.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use super::NodeId;
use crate::bencode::{DecodeOptions, OwnedValue, decode};

/// Bytes that a value may have, bencoded (BEP 44).
pub const MAX_VALUE_BYTES: usize = 1000;
/// Bytes that a salt may have (BEP 44).
pub const MAX_SALT_BYTES: usize = 64;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// The Ed25519 key under which its owner stores. Prints as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// One version of what a key's owner says, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutableItem {
    key: PublicKey,
    salt: Vec<u8>,
    seq: i64,
    value: Bytes,
    signature: [u8; SIGNATURE_BYTES],
}

/// What can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A bencoded value, stored under the SHA-1 of it.
    Immutable(Bytes),
    /// A value that its author may replace, stored under the SHA-1 of the author's key and the salt.
    Mutable(MutableItem),
}

/// Why something cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The value is too long.
    #[error("the value has {0} bytes, more than {MAX_VALUE_BYTES}")]
    TooLong(usize),
    /// The value is not bencoded.
    #[error("the value is not bencoded")]
    NotBencoded,
    /// The salt is too long.
    #[error("the salt has {0} bytes, more than {MAX_SALT_BYTES}")]
    LongSalt(usize),
    /// A sequence number below zero.
    #[error("the sequence number {0} is below zero")]
    Sequence(i64),
    /// The signature is another's, or of something else.
    #[error("the signature does not match")]
    Signature,
    /// The secret is no key.
    #[error("the secret is no Ed25519 key")]
    Secret,
}

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key has 64 hex digits")]
pub struct ParseKeyError;

impl PublicKey {
    /// Wraps the 32 raw bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where items of this key and salt are stored (BEP 44).
    #[must_use]
    pub fn target(&self, salt: &[u8]) -> NodeId {
        sha1(&[&self.0, salt])
    }
}

impl MutableItem {
    /// Takes what somebody claims to have signed.
    ///
    /// # Errors
    /// When a part breaks its limit, or the signature is not of this.
    pub fn checked(
        key: PublicKey,
        salt: &[u8],
        seq: i64,
        value: Bytes,
        signature: [u8; SIGNATURE_BYTES],
    ) -> Result<Self, ItemError> {
        check(salt, seq, &value)?;
        let signed = UnparsedPublicKey::new(&ED25519, key.0).verify(&signed(salt, seq, &value), &signature);
        signed.map_err(|_| ItemError::Signature)?;
        Ok(Self { key, salt: salt.to_vec(), seq, value, signature })
    }

    /// Signs a value with the seed of an Ed25519 key (RFC 8032 §5.1.5), 32 bytes.
    ///
    /// # Errors
    /// When a part breaks its limit.
    pub fn sign(seed: &[u8; 32], salt: &[u8], seq: i64, value: Bytes) -> Result<Self, ItemError> {
        check(salt, seq, &value)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| ItemError::Secret)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| ItemError::Secret)?;
        let signature = pair.sign(&signed(salt, seq, &value));
        let signature = signature.as_ref().try_into().map_err(|_| ItemError::Secret)?;
        Ok(Self { key: PublicKey(key), salt: salt.to_vec(), seq, value, signature })
    }

    /// Whose it is.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Which of the key's items it is; often empty.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Which version it is; higher replaces lower.
    #[must_use]
    pub const fn seq(&self) -> i64 {
        self.seq
    }

    /// The bencoded value.
    #[must_use]
    pub const fn value(&self) -> &Bytes {
        &self.value
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.signature
    }

    /// The torrent that the item names, if it is a pointer to one (BEP 46): a dictionary with `ih`.
    #[must_use]
    pub fn infohash(&self) -> Option<swarmgate_content::InfoHash> {
        let value = decode(&self.value, LIMITS).ok()?;
        swarmgate_content::InfoHash::from_slice(value.as_dict()?.bytes("ih")?)
    }

    /// The value of an item that names a torrent (BEP 46).
    #[must_use]
    pub fn pointer(infohash: &swarmgate_content::InfoHash) -> Bytes {
        OwnedValue::dict([("ih", OwnedValue::from(&infohash.as_bytes()[..]))]).encode().into()
    }
}

impl Item {
    /// Takes a value that is to be immutable.
    ///
    /// # Errors
    /// When it is too long or not bencoded.
    pub fn immutable(value: Bytes) -> Result<Self, ItemError> {
        check(&[], 0, &value)?;
        Ok(Self::Immutable(value))
    }

    /// Where it is stored.
    #[must_use]
    pub fn target(&self) -> NodeId {
        match self {
            Self::Immutable(value) => sha1(&[value]),
            Self::Mutable(item) => item.key.target(&item.salt),
        }
    }

    /// The bencoded value.
    #[must_use]
    pub const fn value(&self) -> &Bytes {
        match self {
            Self::Immutable(value) => value,
            Self::Mutable(item) => &item.value,
        }
    }

    /// The version, of a mutable one.
    #[must_use]
    pub const fn seq(&self) -> Option<i64> {
        match self {
            Self::Immutable(_) => None,
            Self::Mutable(item) => Some(item.seq),
        }
    }

    /// Which of its key's items it is.
    pub(crate) fn salt(&self) -> &[u8] {
        match self {
            Self::Immutable(_) => &[],
            Self::Mutable(item) => &item.salt,
        }
    }

    /// Whether it is a later version than the other, which is stored at the same place.
    pub(crate) fn replaces(&self, other: Option<&Self>) -> bool {
        other.is_none_or(|other| self.seq() > other.seq())
    }
}

/// How values are read: as strict as bencode is, since they are hashed as they stand.
const LIMITS: DecodeOptions = DecodeOptions::strict(MAX_VALUE_BYTES).in_any_key_order();

fn check(salt: &[u8], seq: i64, value: &[u8]) -> Result<(), ItemError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(ItemError::TooLong(value.len()));
    }
    if salt.len() > MAX_SALT_BYTES {
        return Err(ItemError::LongSalt(salt.len()));
    }
    if seq < 0 {
        return Err(ItemError::Sequence(seq));
    }
    decode(value, LIMITS).map(|_| ()).map_err(|_| ItemError::NotBencoded)
}

/// What is signed (BEP 44): the parts as they would stand in a dictionary.
fn signed(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_SALT_BYTES + value.len() + 48);
    if !salt.is_empty() {
        out.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        out.extend_from_slice(salt);
    }
    out.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    out.extend_from_slice(value);
    out
}

fn sha1(parts: &[&[u8]]) -> NodeId {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut id = [0; 20];
    id.copy_from_slice(context.finish().as_ref());
    NodeId::new(id)
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| ParseKeyError)?;
        bytes.try_into().map(Self).map_err(|_| ParseKeyError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PublicKey {
        "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548".parse().unwrap()
    }

    fn signature(hex: &str) -> [u8; 64] {
        HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_vectors_of_bep_44_hold() {
        let value = Bytes::from_static(b"12:Hello World!");
        let plain = signature(
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        );
        let item = MutableItem::checked(key(), b"", 1, value.clone(), plain).unwrap();
        assert_eq!(Item::Mutable(item).target().to_string(), "4a533d47ec9c7d95b1ad75f576cffc641853b750");
        let salted = signature(
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
             df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
        );
        let item = MutableItem::checked(key(), b"foobar", 1, value.clone(), salted).unwrap();
        assert_eq!(Item::Mutable(item).target().to_string(), "411eba73b6f087ca51a3795d9c8c938d365e32c1");
        let immutable = Item::immutable(value.clone()).unwrap();
        assert_eq!(immutable.target().to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
        assert_eq!(MutableItem::checked(key(), b"foobar", 2, value, salted), Err(ItemError::Signature));
    }

    #[test]
    fn what_was_signed_is_believed_and_nothing_else() {
        let item = MutableItem::sign(&[3; 32], b"s", 7, Bytes::from_static(b"i1e")).unwrap();
        let again = |seq, value: &'static [u8]| {
            MutableItem::checked(*item.key(), b"s", seq, Bytes::from_static(value), *item.signature())
        };
        assert_eq!(again(7, b"i1e"), Ok(item.clone()));
        assert_eq!(again(8, b"i1e"), Err(ItemError::Signature));
        assert_eq!(again(7, b"i2e"), Err(ItemError::Signature));
        assert_eq!(again(-1, b"i1e"), Err(ItemError::Sequence(-1)));
        assert_eq!(again(7, b"x"), Err(ItemError::NotBencoded));
    }

    #[test]
    fn a_value_over_a_thousand_bytes_is_refused() {
        let value = |len: usize| OwnedValue::from(vec![b'x'; len]).encode().into();
        assert!(Item::immutable(value(996)).is_ok());
        assert_eq!(Item::immutable(value(997)), Err(ItemError::TooLong(1001)));
    }

    #[test]
    fn a_pointer_names_its_torrent() {
        let infohash = swarmgate_content::InfoHash::new([9; 20]);
        let item = MutableItem::sign(&[1; 32], b"", 0, MutableItem::pointer(&infohash)).unwrap();
        assert_eq!(item.infohash(), Some(infohash));
    }
}
