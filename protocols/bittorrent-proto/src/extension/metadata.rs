//! The messages of metadata exchange (BEP 9).

use bytes::Bytes;

use super::{ExtensionError, positive};
use crate::bencode::{DecodeOptions, OwnedValue, decode_prefix};

/// Bytes in each piece of metadata but the last: fixed by BEP 9.
pub const METADATA_PIECE_LEN: usize = 16 << 10;

/// Longest dictionary before a piece, in bytes; real ones have about 50.
const MAX_HEADER_BYTES: usize = 1024;
/// Values in that dictionary; real ones have 4.
const MAX_NODES: usize = 32;

/// A message about the metadata, which is cut into pieces of [`METADATA_PIECE_LEN`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataMessage {
    /// Asks for a piece.
    Request(u32),
    /// Brings a piece.
    Data {
        /// Which.
        piece: u32,
        /// Length of all the metadata in bytes, as the sender claims.
        total_size: u32,
        /// The piece's bytes.
        data: Bytes,
    },
    /// Refuses to send a piece.
    Reject(u32),
}

impl MetadataMessage {
    /// The payload of the extended message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let header = |kind: i64, piece: u32| [("msg_type", kind.into()), ("piece", i64::from(piece).into())];
        match self {
            Self::Request(piece) => OwnedValue::dict(header(0, *piece)).encode().into(),
            Self::Reject(piece) => OwnedValue::dict(header(2, *piece)).encode().into(),
            Self::Data { piece, total_size, data } => {
                let total = ("total_size", i64::from(*total_size).into());
                let mut payload = OwnedValue::dict(header(1, *piece).into_iter().chain([total])).encode();
                payload.extend_from_slice(data);
                payload.into()
            }
        }
    }

    /// The answer to a request for `piece` of `info`, which is all the metadata.
    #[must_use]
    pub fn answer(info: &Bytes, piece: u32) -> Self {
        let start = usize::try_from(piece).ok().and_then(|piece| piece.checked_mul(METADATA_PIECE_LEN));
        match (start.filter(|&start| start < info.len()), u32::try_from(info.len())) {
            (Some(start), Ok(total_size)) => {
                let end = info.len().min(start + METADATA_PIECE_LEN);
                Self::Data { piece, total_size, data: info.slice(start..end) }
            }
            _ => Self::Reject(piece),
        }
    }

    /// Reads the payload of the extended message.
    ///
    /// # Errors
    /// When it is not such a message. [`ExtensionError::UnknownMetadataType`] is to be ignored (BEP 9).
    pub fn parse(payload: &Bytes) -> Result<Self, ExtensionError> {
        const MESSAGE: &str = "ut_metadata";
        let options =
            DecodeOptions::strict(MAX_HEADER_BYTES + METADATA_PIECE_LEN).in_any_key_order().with_max_nodes(MAX_NODES);
        let (value, end) =
            decode_prefix(payload, options).map_err(|error| ExtensionError::Bencode { message: MESSAGE, error })?;
        let unusable = |key| ExtensionError::Key { message: MESSAGE, key };
        let dict = value.as_dict().ok_or_else(|| unusable("dictionary"))?;
        let piece = || dict.int("piece").and_then(|piece| u32::try_from(piece).ok()).ok_or_else(|| unusable("piece"));
        match dict.int("msg_type").ok_or_else(|| unusable("msg_type"))? {
            0 => piece().map(Self::Request),
            1 => {
                let total_size = positive(dict, "total_size").ok_or_else(|| unusable("total_size"))?;
                let data = payload.slice(end..);
                if data.len() > METADATA_PIECE_LEN {
                    return Err(ExtensionError::LongPiece(data.len()));
                }
                Ok(Self::Data { piece: piece()?, total_size, data })
            }
            2 => piece().map(Self::Reject),
            other => Err(ExtensionError::UnknownMetadataType(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_messages_are_those_of_bep_9() {
        assert_eq!(&MetadataMessage::Request(3).encode()[..], b"d8:msg_typei0e5:piecei3ee");
        assert_eq!(&MetadataMessage::Reject(3).encode()[..], b"d8:msg_typei2e5:piecei3ee");
        let data = MetadataMessage::Data { piece: 0, total_size: 3, data: Bytes::from_static(b"xyz") };
        assert_eq!(&data.encode()[..], b"d8:msg_typei1e5:piecei0e10:total_sizei3eexyz");
    }

    #[test]
    fn an_unknown_type_is_told_apart_from_nonsense() {
        let parse = |payload: &'static [u8]| MetadataMessage::parse(&Bytes::from_static(payload));
        assert_eq!(parse(b"d8:msg_typei9ee"), Err(ExtensionError::UnknownMetadataType(9)));
        let error = parse(b"d8:msg_typei0e5:piecei-1ee").unwrap_err();
        assert_eq!(error.to_string(), "the ut_metadata message has no usable `piece`");
        assert!(parse(b"d8:msg_typei1e5:piecei0eexyz").is_err(), "data without total_size");
    }

    #[test]
    fn an_answer_is_cut_from_the_metadata_and_past_its_end_refused() {
        let info = Bytes::from(vec![7; METADATA_PIECE_LEN + 1]);
        let last = MetadataMessage::answer(&info, 1);
        assert_eq!(last, MetadataMessage::Data { piece: 1, total_size: 16_385, data: Bytes::from_static(&[7]) });
        assert_eq!(MetadataMessage::answer(&info, 2), MetadataMessage::Reject(2));
        assert_eq!(MetadataMessage::answer(&info, u32::MAX), MetadataMessage::Reject(u32::MAX));
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire(piece: u32, total_size in 1..=u32::MAX, data in proptest::collection::vec(any::<u8>(), 0..100)) {
            for message in [
                MetadataMessage::Request(piece),
                MetadataMessage::Reject(piece),
                MetadataMessage::Data { piece, total_size, data: data.into() },
            ] {
                prop_assert_eq!(MetadataMessage::parse(&message.encode()), Ok(message));
            }
        }
    }
}
