//! Content ids: every spelling the networks use parses into one value, and each value prints one canonical form.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of an IPFS object (a content id): a version, a codec and a multihash.
///
/// It has room for 128 bytes, the longest identity hash there may be; every longer one fails to parse.
pub type Cid = cid::CidGeneric<128>;

/// A v1 infohash: the SHA-1 of a torrent's `info` dictionary (BEP 3). Prints as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash([u8; 20]);

/// A v2 infohash: the SHA-256 of a torrent's `info` dictionary (BEP 52). Prints as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV2([u8; 32]);

/// A torrent's names: one or both of its infohashes. A hybrid torrent (BEP 52) is one content under two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TorrentId {
    /// A v1 torrent, or a hybrid of which no more is known.
    V1(InfoHash),
    /// A v2 torrent, or a hybrid of which no more is known.
    V2(InfoHashV2),
    /// A hybrid torrent.
    Hybrid(InfoHash, InfoHashV2),
}

/// What a client asks for: the name of immutable bytes on one of the networks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentId {
    /// A v1 torrent.
    BtV1(InfoHash),
    /// A v2 torrent.
    BtV2(InfoHashV2),
    /// An IPFS object.
    Ipfs(Cid),
}

/// Why a text is not a content id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The length fits no spelling of an infohash.
    #[error("an infohash has 40 hex digits, 32 base32 letters or 64 hex digits, not {0} characters")]
    Length(usize),
    /// A character does not belong to the alphabet the length implies.
    #[error("{what} has a character that is not {alphabet}")]
    Alphabet {
        /// Which id was read.
        what: &'static str,
        /// The alphabet expected.
        alphabet: &'static str,
    },
    /// The multihash prefix names a hash that no torrent has.
    #[error("a torrent's multihash is sha1 (1114…) or sha2-256 (1220…)")]
    Multihash,
    /// Not a CID.
    #[error("not a CID: {0}")]
    Cid(String),
}

impl InfoHash {
    /// Wraps the 20 raw bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Takes 20 raw bytes, or `None` when there are more or fewer.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl InfoHashV2 {
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

    /// The first 20 bytes: how a v2 torrent is named on the wire, to trackers and in the DHT (BEP 52).
    #[must_use]
    pub fn truncated(&self) -> InfoHash {
        let mut short = [0; 20];
        short.copy_from_slice(&self.0[..20]);
        InfoHash(short)
    }
}

impl TorrentId {
    /// The names that are there; `None` without any.
    #[must_use]
    pub const fn new(v1: Option<InfoHash>, v2: Option<InfoHashV2>) -> Option<Self> {
        match (v1, v2) {
            (Some(v1), Some(v2)) => Some(Self::Hybrid(v1, v2)),
            (Some(v1), None) => Some(Self::V1(v1)),
            (None, Some(v2)) => Some(Self::V2(v2)),
            (None, None) => None,
        }
    }

    /// The v1 infohash.
    #[must_use]
    pub const fn v1(&self) -> Option<InfoHash> {
        match self {
            Self::V1(v1) | Self::Hybrid(v1, _) => Some(*v1),
            Self::V2(_) => None,
        }
    }

    /// The v2 infohash.
    #[must_use]
    pub const fn v2(&self) -> Option<InfoHashV2> {
        match self {
            Self::V2(v2) | Self::Hybrid(_, v2) => Some(*v2),
            Self::V1(_) => None,
        }
    }

    /// The 20 bytes by which it goes on the wire, at trackers and in the DHT: of v1 where there is one, since more peers
    /// know that.
    #[must_use]
    pub fn wire(&self) -> InfoHash {
        match self {
            Self::V1(v1) | Self::Hybrid(v1, _) => *v1,
            Self::V2(v2) => v2.truncated(),
        }
    }

    /// The id that all answers about it bear, whichever was asked for.
    #[must_use]
    pub const fn content(&self) -> ContentId {
        match self {
            Self::V1(v1) | Self::Hybrid(v1, _) => ContentId::BtV1(*v1),
            Self::V2(v2) => ContentId::BtV2(*v2),
        }
    }
}

impl From<InfoHash> for TorrentId {
    fn from(v1: InfoHash) -> Self {
        Self::V1(v1)
    }
}

impl From<InfoHashV2> for TorrentId {
    fn from(v2: InfoHashV2) -> Self {
        Self::V2(v2)
    }
}

fn hex<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], ParseIdError> {
    let bytes = HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .map_err(|_| ParseIdError::Alphabet { what, alphabet: "hexadecimal" })?;
    bytes.try_into().map_err(|_| ParseIdError::Length(text.len()))
}

impl FromStr for InfoHash {
    type Err = ParseIdError;

    /// Reads 40 hex digits or 32 base32 letters (BEP 9), in either case.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text.len() {
            40 => hex(text, "the infohash").map(Self),
            32 => {
                let bytes = BASE32
                    .decode(text.to_ascii_uppercase().as_bytes())
                    .map_err(|_| ParseIdError::Alphabet { what: "the infohash", alphabet: "base32" })?;
                Self::from_slice(&bytes).ok_or(ParseIdError::Length(text.len()))
            }
            other => Err(ParseIdError::Length(other)),
        }
    }
}

impl FromStr for InfoHashV2 {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text.len() {
            64 => hex(text, "the v2 infohash").map(Self),
            other => Err(ParseIdError::Length(other)),
        }
    }
}

impl ContentId {
    /// Reads the id of a torrent as URLs spell it: 40 hex or 32 base32 (v1), 64 hex (v2), or a hex multihash.
    ///
    /// # Errors
    /// When the text is none of these; nothing is looked up.
    pub fn parse_torrent(text: &str) -> Result<Self, ParseIdError> {
        match text.len() {
            32 | 40 => text.parse().map(Self::BtV1),
            64 => text.parse().map(Self::BtV2),
            44 if text.starts_with("1114") => text[4..].parse().map(Self::BtV1),
            68 if text.starts_with("1220") => text[4..].parse().map(Self::BtV2),
            44 | 68 => Err(ParseIdError::Multihash),
            other => Err(ParseIdError::Length(other)),
        }
    }

    /// Reads a CID of either version in any multibase.
    ///
    /// # Errors
    /// When the text is not a CID.
    pub fn parse_cid(text: &str) -> Result<Self, ParseIdError> {
        Cid::try_from(text).map(Self::Ipfs).map_err(|e| ParseIdError::Cid(e.to_string()))
    }

    /// The v1 infohash, when that is what this is.
    #[must_use]
    pub const fn as_v1(&self) -> Option<InfoHash> {
        match self {
            Self::BtV1(hash) => Some(*hash),
            Self::BtV2(_) | Self::Ipfs(_) => None,
        }
    }

    /// The v2 infohash, when that is what this is.
    #[must_use]
    pub const fn as_v2(&self) -> Option<InfoHashV2> {
        match self {
            Self::BtV2(hash) => Some(*hash),
            Self::BtV1(_) | Self::Ipfs(_) => None,
        }
    }

    /// A short word for the network: `bt` or `ipfs`.
    #[must_use]
    pub const fn network(&self) -> &'static str {
        match self {
            Self::BtV1(_) | Self::BtV2(_) => "bt",
            Self::Ipfs(_) => "ipfs",
        }
    }
}

impl FromStr for ContentId {
    type Err = ParseIdError;

    /// Reads an infohash of any spelling, else a CID.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::parse_torrent(text).or_else(|not_torrent| Self::parse_cid(text).map_err(|_| not_torrent))
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BtV1(hash) => hash.fmt(f),
            Self::BtV2(hash) => hash.fmt(f),
            Self::Ipfs(cid) => fmt::Display::fmt(cid, f),
        }
    }
}

macro_rules! debug_as_display_and_serde_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
debug_as_display_and_serde_as_text!(InfoHash, InfoHashV2, ContentId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "08ada5a7a6183aae1e09d831df6748d566095a10";

    #[test]
    fn every_spelling_of_an_infohash_is_one_value() {
        let plain: ContentId = HEX.parse().unwrap();
        let base32 = BASE32.encode(plain.as_v1().unwrap().as_bytes());
        for spelling in [HEX.to_uppercase(), base32.clone(), base32.to_lowercase(), format!("1114{HEX}")] {
            assert_eq!(spelling.parse::<ContentId>().unwrap(), plain, "{spelling}");
        }
        assert_eq!(plain.to_string(), HEX);
    }

    #[test]
    fn a_v2_infohash_parses_plain_and_as_a_multihash() {
        let hex = "ab".repeat(32);
        let plain: ContentId = hex.parse().unwrap();
        assert_eq!(format!("1220{hex}").parse::<ContentId>().unwrap(), plain);
        assert!(matches!(plain, ContentId::BtV2(v2) if v2.truncated().as_bytes() == &[0xab; 20]));
    }

    #[test]
    fn cids_of_both_versions_parse_and_print_canonically() {
        let v0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
        let v1 = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
        for text in [v0, v1] {
            assert_eq!(text.parse::<ContentId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_ids_say_what_is_wrong() {
        for (text, needle) in [
            ("", "not 0 characters"),
            ("xyz", "not 3 characters"),
            (&"z".repeat(40), "hexadecimal"),
            (&"1".repeat(32), "base32"),
            (&format!("1314{HEX}"), "multihash"),
        ] {
            let error = ContentId::parse_torrent(text).unwrap_err().to_string();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(text in ".{0,80}") {
            let _ = text.parse::<ContentId>();
        }

        #[test]
        fn infohashes_round_trip(bytes: [u8; 20]) {
            let hash = InfoHash::new(bytes);
            prop_assert_eq!(hash.to_string().parse::<InfoHash>().unwrap(), hash);
        }
    }
}
