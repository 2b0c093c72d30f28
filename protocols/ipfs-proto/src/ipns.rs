//! IPNS: a name is a public key, and a record that its owner signed says where it points
//! (<https://specs.ipfs.tech/ipns/ipns-record/>).
//!
//! A record comes from anybody, so nothing in it is believed before its signature: [`Record::parse`] takes the name and
//! the bytes, and gives a record or the reason why it is none. Whether it is still valid is asked with the time at
//! hand, by [`Record::is_valid`]: an expired record is authentic all the same.
//!
//! Only what the V2 signature covers is used. Where the older fields are there too they must say the same.

mod cbor;
mod name;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use libp2p_identity::{Keypair, PublicKey};

use crate::content_path::{ContentPath, ParsePathError};
use crate::protobuf::{Fields, Wire, put_bytes, put_nonzero};
use cbor::Data;

pub use name::{Name, NameError};

/// Longest record, as the specification bounds it.
pub const MAX_RECORD_BYTES: usize = 10 << 10;
/// The media type of a record (IANA).
pub const RECORD_MEDIA_TYPE: &str = "application/vnd.ipfs.ipns-record";

/// What a V2 signature is made over, before the data.
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";
/// The only kind of validity there is: until a time.
const EOL: u64 = 0;

/// A record whose signature was checked against the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    name: Name,
    bytes: Bytes,
    value: Vec<u8>,
    sequence: u64,
    ttl: Duration,
    validity: String,
    expires: SystemTime,
}

/// Why bytes are no record of a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`MAX_RECORD_BYTES`].
    #[error("a record of {0} bytes, where {MAX_RECORD_BYTES} are allowed")]
    TooLong(usize),
    /// Not protobuf.
    #[error("not an IPNS record: {0}")]
    Malformed(&'static str),
    /// What is signed is not there, not a CBOR map, or lacks a field.
    #[error("the signed data {0}")]
    Data(&'static str),
    /// The key is neither in the record nor in the name, or cannot be read.
    #[error("the record has no public key that can be read")]
    NoKey,
    /// The key in the record is not the one that the name is made of.
    #[error("the public key in the record does not belong to {0}")]
    OtherKey(Name),
    /// The V2 signature is missing or wrong.
    #[error("the record is not signed by {0}")]
    Signature(Name),
    /// An older field says something else than what is signed.
    #[error("the record's {0} is not the one that is signed")]
    Mismatch(&'static str),
}

/// Why a record cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    Key(String),
    /// The end of its validity is before 1970 or after 9999.
    #[error("the record's end of life has no date")]
    Time,
}

/// The fields of the protobuf. One that is absent is as one that is empty, or 0.
#[derive(Debug, Default)]
struct Entry<'a> {
    value: &'a [u8],
    signature_v1: &'a [u8],
    validity_type: u64,
    validity: &'a [u8],
    sequence: u64,
    ttl: u64,
    key: &'a [u8],
    signature_v2: &'a [u8],
    data: &'a [u8],
}

impl<'a> Entry<'a> {
    fn decode(input: &'a [u8]) -> Result<Self, &'static str> {
        let mut entry = Self::default();
        for field in Fields::new(input) {
            match field? {
                (1, Wire::Bytes(value)) => entry.value = value,
                (2, Wire::Bytes(value)) => entry.signature_v1 = value,
                (3, Wire::Varint(value)) => entry.validity_type = value,
                (4, Wire::Bytes(value)) => entry.validity = value,
                (5, Wire::Varint(value)) => entry.sequence = value,
                (6, Wire::Varint(value)) => entry.ttl = value,
                (7, Wire::Bytes(value)) => entry.key = value,
                (8, Wire::Bytes(value)) => entry.signature_v2 = value,
                (9, Wire::Bytes(value)) => entry.data = value,
                (1..=9, _) => return Err("a field has another type than it should"),
                _ => {}
            }
        }
        Ok(entry)
    }

    fn key(&self, name: &Name) -> Result<PublicKey, RecordError> {
        if self.key.is_empty() {
            return name.public_key().ok_or(RecordError::NoKey);
        }
        let key = PublicKey::try_decode_protobuf(self.key).map_err(|_| RecordError::NoKey)?;
        if Name::of_key(&key) == *name { Ok(key) } else { Err(RecordError::OtherKey(*name)) }
    }

    /// Whether the older fields, if they are used at all, say what the data says.
    fn agrees_with(&self, data: &Data) -> Result<(), RecordError> {
        if self.value.is_empty() && self.signature_v1.is_empty() {
            return Ok(());
        }
        let checks = [
            ("value", self.value == data.value),
            ("validity", self.validity == data.validity),
            ("validity type", self.validity_type == data.validity_type),
            ("sequence", self.sequence == data.sequence),
            ("TTL", self.ttl == data.ttl),
        ];
        match checks.into_iter().find(|(_, agrees)| !agrees) {
            Some((field, _)) => Err(RecordError::Mismatch(field)),
            None => Ok(()),
        }
    }
}

impl Record {
    /// Reads what was found as the record of `name` and checks its signature.
    ///
    /// # Errors
    /// When it is no record, or not one of this name. Whether it has expired is another question.
    pub fn parse(name: &Name, bytes: Bytes) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong(bytes.len()));
        }
        let entry = Entry::decode(&bytes).map_err(RecordError::Malformed)?;
        if entry.data.is_empty() {
            return Err(RecordError::Data("is missing"));
        }
        let signed = [SIGNATURE_PREFIX, entry.data].concat();
        if entry.signature_v2.is_empty() || !entry.key(name)?.verify(&signed, entry.signature_v2) {
            return Err(RecordError::Signature(*name));
        }
        let data = Data::decode(entry.data)?;
        entry.agrees_with(&data)?;
        Self::from_data(*name, bytes, data)
    }

    fn from_data(name: Name, bytes: Bytes, data: Data) -> Result<Self, RecordError> {
        if data.validity_type != EOL {
            return Err(RecordError::Data("has a validity type that does not exist"));
        }
        let validity =
            String::from_utf8(data.validity).map_err(|_| RecordError::Data("has no date as its end of life"))?;
        let expires = humantime::parse_rfc3339(&validity);
        let expires = expires.map_err(|_| RecordError::Data("has no date as its end of life"))?;
        let ttl = Duration::from_nanos(data.ttl);
        Ok(Self { name, bytes, value: data.value, sequence: data.sequence, ttl, validity, expires })
    }

    /// Makes a record: `name_key` points to `value` until `expires`, and may be cached for `ttl`. It has the older
    /// fields and signature too, which some clients still look for.
    ///
    /// # Errors
    /// When the key cannot sign, or `expires` has no date.
    pub fn sign(
        name_key: &Keypair,
        value: &ContentPath,
        sequence: u64,
        expires: SystemTime,
        ttl: Duration,
    ) -> Result<Self, SignError> {
        let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        if !(UNIX_EPOCH..=last).contains(&expires) {
            return Err(SignError::Time);
        }
        let validity = humantime::format_rfc3339_nanos(expires).to_string();
        let value = value.to_plain().into_bytes();
        let ttl = Duration::from_nanos(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
        let ttl_nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        let data = Data { value, validity: validity.clone().into(), validity_type: EOL, sequence, ttl: ttl_nanos };
        let sign = |parts: &[&[u8]]| name_key.sign(&parts.concat()).map_err(|error| SignError::Key(error.to_string()));
        let signed = data.encode();
        let signature_v1 = sign(&[&data.value, validity.as_bytes(), b"EOL"])?;
        let signature_v2 = sign(&[SIGNATURE_PREFIX, &signed])?;
        let name = Name::of_key(&name_key.public());
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &data.value);
        put_bytes(&mut out, 2, &signature_v1);
        put_bytes(&mut out, 4, validity.as_bytes());
        put_nonzero(&mut out, 5, sequence);
        put_nonzero(&mut out, 6, ttl_nanos);
        if name.public_key().is_none() {
            put_bytes(&mut out, 7, &name_key.public().encode_protobuf());
        }
        put_bytes(&mut out, 8, &signature_v2);
        put_bytes(&mut out, 9, &signed);
        Ok(Self { name, bytes: out.into(), value: data.value, sequence, ttl, validity, expires })
    }

    /// Whose record it is.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The record as it was read or made, to be passed on.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where it points, as it is written there.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Where it points.
    ///
    /// # Errors
    /// When what was signed is no content path.
    pub fn path(&self) -> Result<ContentPath, ParsePathError> {
        ContentPath::from_plain(std::str::from_utf8(&self.value).map_err(|_| ParsePathError::Encoding)?)
    }

    /// Its number: of two records, the one with the greater is newer.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Until when it is valid.
    #[must_use]
    pub const fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Whether it is valid at `now`.
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        now < self.expires
    }

    /// How long it may be cached from `now` on: its TTL, as far as it stays valid that long.
    #[must_use]
    pub fn cache_for(&self, now: SystemTime) -> Duration {
        self.ttl.min(self.expires.duration_since(now).unwrap_or(Duration::ZERO))
    }

    /// Whether it is to be preferred: a greater sequence, then a later end, then bytes that sort last, so that all
    /// choose the same.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        let rank = |record: &Self| (record.sequence, record.expires);
        (rank(self), &self.bytes) > (rank(other), &other.bytes)
    }

    /// The one of several to go by: the best of those that are valid at `now`.
    pub fn best(records: impl IntoIterator<Item = Self>, now: SystemTime) -> Option<Self> {
        let valid = records.into_iter().filter(|record| record.is_valid(now));
        valid.reduce(|best, record| if record.supersedes(&best) { record } else { best })
    }
}

#[cfg(test)]
mod tests;
