//! The extension protocol (BEP 10) and the extensions we speak: metadata exchange (BEP 9), peer exchange (BEP 11),
//! the taking back of a `have` (BEP 54) and hole punching (BEP 55). Codecs, and the fetching of metadata from one peer.

mod fetch;
mod holepunch;
mod metadata;
mod pex;

use std::net::IpAddr;

use crate::bencode::{DecodeError, DecodeOptions, Dict, OwnedValue, decode};
use crate::metainfo::display_text;
use crate::wire::PieceIndex;

pub use fetch::{MAX_OUTSTANDING, MetadataError, MetadataFetch};
pub use holepunch::{HolepunchMessage, HolepunchReason};
pub use metadata::{METADATA_PIECE_LEN, MetadataMessage};
pub use pex::{MAX_PEX_ADDED, MAX_PEX_DROPPED, PexMessage, PexPeer};

/// Longest extension handshake read, in bytes: 16 KiB. Real ones have a few hundred.
const MAX_HANDSHAKE_BYTES: usize = 16 << 10;
/// Values in one extension message's dictionary; real ones have about 20.
const MAX_NODES: usize = 1000;
/// Longest client name kept, in characters.
const MAX_CLIENT_CHARS: usize = 64;

/// The extension handshake: which extensions the sender speaks, under which numbers. All of it is optional.
///
/// A number says how messages *to the sender* are marked. Numbers that are 0 (BEP 10: "not, or no longer") read as
/// absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// The number for metadata exchange (BEP 9).
    pub ut_metadata: Option<u8>,
    /// The number for peer exchange (BEP 11).
    pub ut_pex: Option<u8>,
    /// The number for taking back a `have` (BEP 54).
    pub lt_donthave: Option<u8>,
    /// The number for hole punching (BEP 55).
    pub ut_holepunch: Option<u8>,
    /// Length of the `info` dictionary in bytes, as the sender claims (BEP 9).
    pub metadata_size: Option<u32>,
    /// How many requests the sender queues.
    pub reqq: Option<u32>,
    /// The sender's name and version, untrusted.
    pub client: Option<String>,
    /// The port the sender listens on for TCP.
    pub listen_port: Option<u16>,
    /// Our address as the sender sees it.
    pub your_ip: Option<IpAddr>,
    /// Whether the sender wants nothing (BEP 21).
    pub upload_only: bool,
}

/// Why an extension message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// It is not bencode.
    #[error("the {message} message is not bencode: {error}")]
    Bencode {
        /// Which message.
        message: &'static str,
        /// Where and why.
        error: DecodeError,
    },
    /// A key is missing or has a value out of its range.
    #[error("the {message} message has no usable `{key}`")]
    Key {
        /// Which message.
        message: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A metadata message of a kind that BEP 9 tells us to ignore.
    #[error("the metadata message has the unknown type {0}")]
    UnknownMetadataType(i64),
    /// More bytes of metadata than a piece has.
    #[error("the metadata message carries {0} bytes, more than a piece of metadata has")]
    LongPiece(usize),
    /// A message of fixed length has another.
    #[error("the {message} message has {len} bytes, not {want}")]
    Length {
        /// Which message.
        message: &'static str,
        /// The length it has.
        len: usize,
        /// The length it should have.
        want: usize,
    },
}

impl ExtensionHandshake {
    /// The payload of extended message 0.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids = [
            ("ut_metadata", self.ut_metadata),
            ("ut_pex", self.ut_pex),
            ("lt_donthave", self.lt_donthave),
            ("ut_holepunch", self.ut_holepunch),
        ];
        let ids = ids.into_iter().filter_map(|(name, id)| Some((name, i64::from(id?).into())));
        let mut entries = vec![("m", OwnedValue::dict(ids))];
        entries.extend(self.metadata_size.map(|size| ("metadata_size", i64::from(size).into())));
        entries.extend(self.reqq.map(|reqq| ("reqq", i64::from(reqq).into())));
        entries.extend(self.client.as_deref().map(|client| ("v", client.into())));
        entries.extend(self.listen_port.map(|port| ("p", i64::from(port).into())));
        entries.extend(self.your_ip.map(|ip| match ip {
            IpAddr::V4(ip) => ("yourip", ip.octets()[..].into()),
            IpAddr::V6(ip) => ("yourip", ip.octets()[..].into()),
        }));
        if self.upload_only {
            entries.push(("upload_only", 1.into()));
        }
        OwnedValue::dict(entries).encode()
    }

    /// Reads the payload of extended message 0. Keys of the wrong kind count as absent: every one is optional.
    ///
    /// # Errors
    /// When it is not a dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, ExtensionError> {
        let dict = message(payload, "extension handshake", MAX_HANDSHAKE_BYTES)?;
        let ids = dict.get("m").and_then(|m| m.as_dict());
        let id = |name| ids.and_then(|ids| positive::<u8>(ids, name));
        Ok(Self {
            ut_metadata: id("ut_metadata"),
            ut_pex: id("ut_pex"),
            lt_donthave: id("lt_donthave"),
            ut_holepunch: id("ut_holepunch"),
            metadata_size: positive(dict, "metadata_size"),
            reqq: positive(dict, "reqq"),
            client: dict.bytes("v").map(|v| display_text(&String::from_utf8_lossy(v), MAX_CLIENT_CHARS)),
            listen_port: positive(dict, "p"),
            your_ip: dict.bytes("yourip").and_then(ip),
            upload_only: dict.int("upload_only").is_some_and(|flag| flag > 0),
        })
    }
}

/// The payload of `lt_donthave` (BEP 54): we no longer have `piece`.
#[must_use]
pub const fn encode_dont_have(piece: PieceIndex) -> [u8; 4] {
    piece.0.to_be_bytes()
}

/// Reads the payload of `lt_donthave`.
///
/// # Errors
/// When it has not 4 bytes.
pub fn parse_dont_have(payload: &[u8]) -> Result<PieceIndex, ExtensionError> {
    let index = <[u8; 4]>::try_from(payload);
    index.map(|index| PieceIndex(u32::from_be_bytes(index))).map_err(|_| ExtensionError::Length {
        message: "lt_donthave",
        len: payload.len(),
        want: 4,
    })
}

/// Reads a payload that is one dictionary. Peers write keys in any order.
fn message<'a>(payload: &'a [u8], message: &'static str, max_len: usize) -> Result<Dict<'a>, ExtensionError> {
    let options = DecodeOptions::strict(max_len).in_any_key_order().with_max_nodes(MAX_NODES);
    let value = decode(payload, options).map_err(|error| ExtensionError::Bencode { message, error })?;
    value.as_dict().ok_or(ExtensionError::Key { message, key: "dictionary" })
}

/// The number under `key`, when it is positive and fits.
fn positive<T: TryFrom<i64>>(dict: Dict<'_>, key: &str) -> Option<T> {
    dict.int(key).filter(|&int| int > 0).and_then(|int| T::try_from(int).ok())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_handshake_survives_the_wire() {
        let sent = ExtensionHandshake {
            ut_metadata: Some(1),
            ut_pex: Some(2),
            lt_donthave: Some(7),
            ut_holepunch: Some(4),
            metadata_size: Some(31_235),
            reqq: Some(500),
            client: Some("swarmgate 0.1".to_owned()),
            listen_port: Some(8421),
            your_ip: Some([127, 0, 0, 1].into()),
            upload_only: true,
        };
        assert_eq!(ExtensionHandshake::parse(&sent.encode()), Ok(sent));
        assert_eq!(ExtensionHandshake::default().encode(), b"d1:mdee");
    }

    #[test]
    fn what_is_absurd_in_a_handshake_counts_as_absent() {
        let hello = b"d1:md11:ut_metadatai0e6:ut_pexi256e11:lt_donthavei-1ee13:metadata_sizei-5e1:pi70000e4:reqq1:x1:v3:a\x1bb6:yourip3:abce";
        let want = ExtensionHandshake { client: Some("a\u{fffd}b".to_owned()), ..ExtensionHandshake::default() };
        assert_eq!(ExtensionHandshake::parse(hello), Ok(want));
    }

    #[test]
    fn a_handshake_that_is_no_dictionary_is_refused() {
        assert!(ExtensionHandshake::parse(b"le").is_err());
        assert!(ExtensionHandshake::parse(b"").is_err());
        assert!(ExtensionHandshake::parse(&vec![b'x'; 1 << 15]).is_err());
    }

    #[test]
    fn a_taken_back_have_is_four_bytes() {
        assert_eq!(parse_dont_have(&encode_dont_have(PieceIndex(258))), Ok(PieceIndex(258)));
        let error = parse_dont_have(b"abc").unwrap_err();
        assert_eq!(error.to_string(), "the lt_donthave message has 3 bytes, not 4");
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExtensionHandshake::parse(&payload);
            let _ = MetadataMessage::parse(&payload.clone().into());
            let _ = PexMessage::parse(&payload);
            let _ = HolepunchMessage::parse(&payload);
        }
    }
}
