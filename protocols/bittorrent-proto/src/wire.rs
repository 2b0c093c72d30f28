//! Peer messages on the wire (BEP 3, 6, 10, 52): a four-byte length, a one-byte id, a payload.
//!
//! [`complete_frames`] says how much of a buffer is whole messages, so that a shell can hand them over without
//! copying; [`Message::decode`] reads one.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::merkle::HashRequest;

/// Bytes in a block, the unit of a request (BEP 3). Many clients drop peers that ask for more.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Largest message accepted, in bytes. The largest honest ones are bitfields: 256 KiB speak for two million pieces.
pub const MAX_FRAME_LEN: usize = 256 * 1024;

/// Largest block that a peer may ask of us, in bytes: some clients ask for 128 KiB, none for more.
pub const MAX_REQUEST_LEN: u32 = 128 * 1024;

/// A piece's place in its torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub u32);

/// A part of a piece that is asked for, refused or cancelled as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRequest {
    /// The piece.
    pub piece: PieceIndex,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// Length in bytes.
    pub len: u32,
}

/// One peer message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Nothing; keeps the connection open.
    KeepAlive,
    /// Requests will not be answered.
    Choke,
    /// Requests will be answered.
    Unchoke,
    /// The sender wants pieces we have.
    Interested,
    /// It does not.
    NotInterested,
    /// The sender has one more piece.
    Have(PieceIndex),
    /// The sender's pieces; its length is checked against the torrent by whoever knows that.
    Bitfield(Bytes),
    /// Asks for a block.
    Request(BlockRequest),
    /// A block.
    Piece {
        /// The piece.
        piece: PieceIndex,
        /// Offset in the piece, in bytes.
        begin: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Withdraws a request.
    Cancel(BlockRequest),
    /// The sender's DHT port (BEP 5).
    Port(u16),
    /// Suggests a piece (BEP 6).
    Suggest(PieceIndex),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// A request will not be answered (BEP 6).
    Reject(BlockRequest),
    /// The piece may be asked for while choked (BEP 6).
    AllowedFast(PieceIndex),
    /// An extension message (BEP 10).
    Extended {
        /// The extension's number, as the receiver chose it; 0 is the extension handshake.
        id: u8,
        /// Its payload.
        payload: Bytes,
    },
    /// Asks for hashes of a file's tree (BEP 52).
    HashRequest(HashRequest),
    /// Hashes of a file's tree (BEP 52).
    Hashes {
        /// What was asked for.
        request: HashRequest,
        /// The run and its uncles, 32 bytes each.
        hashes: Bytes,
    },
    /// A request for hashes will not be answered (BEP 52).
    HashReject(HashRequest),
    /// A message of a kind we do not know, to be ignored.
    Unknown(u8),
}

/// A peer sent something that is not the peer protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A length prefix over [`MAX_FRAME_LEN`].
    #[error("a message of {0} bytes, over the limit of {MAX_FRAME_LEN}")]
    TooLong(usize),
    /// A payload whose length is wrong for its kind.
    #[error("a message of kind {id} with {len} bytes of payload")]
    BadLength {
        /// The kind.
        id: u8,
        /// The payload's length in bytes.
        len: usize,
    },
}

/// How many leading bytes of `buffer` are whole messages. The rest must wait for more input.
///
/// # Errors
/// When a length prefix is over [`MAX_FRAME_LEN`]: the connection is beyond repair.
pub fn complete_frames(buffer: &[u8]) -> Result<usize, WireError> {
    let mut complete = 0;
    while let Some((prefix, _)) = buffer[complete..].split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > MAX_FRAME_LEN {
            return Err(WireError::TooLong(len));
        }
        if buffer.len() - complete < 4 + len {
            break;
        }
        complete += 4 + len;
    }
    Ok(complete)
}

/// Takes the first message off `frames`, which holds whole messages only; `None` when it is empty.
///
/// # Errors
/// When a payload's length is wrong for its kind, or `frames` ends within a message.
pub fn next_message(frames: &mut Bytes) -> Result<Option<Message>, WireError> {
    if frames.len() < 4 {
        return if frames.is_empty() { Ok(None) } else { Err(WireError::BadLength { id: 0, len: frames.len() }) };
    }
    let len = frames.get_u32() as usize;
    if len > frames.len() {
        return Err(WireError::TooLong(len));
    }
    Message::decode(frames.split_to(len)).map(Some)
}

impl Message {
    /// Reads one message without its length prefix.
    ///
    /// # Errors
    /// When the payload's length is wrong for its kind.
    pub fn decode(mut frame: Bytes) -> Result<Self, WireError> {
        if frame.is_empty() {
            return Ok(Self::KeepAlive);
        }
        let id = frame.get_u8();
        let len = frame.len();
        let sized = |expected: usize| if len == expected { Ok(()) } else { Err(WireError::BadLength { id, len }) };
        let message = match id {
            0 => sized(0).map(|()| Self::Choke)?,
            1 => sized(0).map(|()| Self::Unchoke)?,
            2 => sized(0).map(|()| Self::Interested)?,
            3 => sized(0).map(|()| Self::NotInterested)?,
            4 => sized(4).map(|()| Self::Have(PieceIndex(frame.get_u32())))?,
            5 => Self::Bitfield(frame),
            6 => sized(12).map(|()| Self::Request(BlockRequest::take(&mut frame)))?,
            7 if len < 8 => return Err(WireError::BadLength { id, len }),
            7 => Self::Piece { piece: PieceIndex(frame.get_u32()), begin: frame.get_u32(), data: frame },
            8 => sized(12).map(|()| Self::Cancel(BlockRequest::take(&mut frame)))?,
            9 => sized(2).map(|()| Self::Port(frame.get_u16()))?,
            13 => sized(4).map(|()| Self::Suggest(PieceIndex(frame.get_u32())))?,
            14 => sized(0).map(|()| Self::HaveAll)?,
            15 => sized(0).map(|()| Self::HaveNone)?,
            16 => sized(12).map(|()| Self::Reject(BlockRequest::take(&mut frame)))?,
            17 => sized(4).map(|()| Self::AllowedFast(PieceIndex(frame.get_u32())))?,
            20 if len < 1 => return Err(WireError::BadLength { id, len }),
            20 => Self::Extended { id: frame.get_u8(), payload: frame },
            21 => sized(HASH_REQUEST_LEN).map(|()| Self::HashRequest(HashRequest::take(&mut frame)))?,
            22 if len < HASH_REQUEST_LEN || len % 32 != HASH_REQUEST_LEN % 32 => {
                return Err(WireError::BadLength { id, len });
            }
            22 => Self::Hashes { request: HashRequest::take(&mut frame), hashes: frame },
            23 => sized(HASH_REQUEST_LEN).map(|()| Self::HashReject(HashRequest::take(&mut frame)))?,
            other => Self::Unknown(other),
        };
        Ok(message)
    }

    /// Appends the message with its length prefix. A block's bytes are copied; see [`piece_header`] to avoid that.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => put(out, 0, &[]),
            Self::Unchoke => put(out, 1, &[]),
            Self::Interested => put(out, 2, &[]),
            Self::NotInterested => put(out, 3, &[]),
            Self::Have(piece) => put(out, 4, &piece.0.to_be_bytes()),
            Self::Bitfield(bits) => put(out, 5, bits),
            Self::Request(request) => put(out, 6, &request.encode()),
            Self::Piece { piece, begin, data } => {
                out.put_slice(&piece_header(*piece, *begin, data.len()));
                out.put_slice(data);
            }
            Self::Cancel(request) => put(out, 8, &request.encode()),
            Self::Port(port) => put(out, 9, &port.to_be_bytes()),
            Self::Suggest(piece) => put(out, 13, &piece.0.to_be_bytes()),
            Self::HaveAll => put(out, 14, &[]),
            Self::HaveNone => put(out, 15, &[]),
            Self::Reject(request) => put(out, 16, &request.encode()),
            Self::AllowedFast(piece) => put(out, 17, &piece.0.to_be_bytes()),
            Self::Extended { id, payload } => {
                put_len(out, 2 + payload.len());
                out.put_u8(20);
                out.put_u8(*id);
                out.put_slice(payload);
            }
            Self::HashRequest(request) => put(out, 21, &request.encode()),
            Self::Hashes { request, hashes } => {
                put_len(out, 1 + HASH_REQUEST_LEN + hashes.len());
                out.put_u8(22);
                out.put_slice(&request.encode());
                out.put_slice(hashes);
            }
            Self::HashReject(request) => put(out, 23, &request.encode()),
            Self::Unknown(id) => put(out, *id, &[]),
        }
    }
}

/// The 13 bytes that precede a block of `len` bytes on the wire.
///
/// # Panics
/// When `len` is over 4 GiB, which no block is.
#[must_use]
pub fn piece_header(piece: PieceIndex, begin: u32, len: usize) -> [u8; 13] {
    let mut header = [7; 13];
    header[..4].copy_from_slice(&frame_len(9 + len).to_be_bytes());
    header[5..9].copy_from_slice(&piece.0.to_be_bytes());
    header[9..].copy_from_slice(&begin.to_be_bytes());
    header
}

fn frame_len(len: usize) -> u32 {
    u32::try_from(len).expect("our own messages are far shorter than 4 GiB")
}

fn put_len(out: &mut BytesMut, len: usize) {
    out.reserve(4 + len);
    out.put_u32(frame_len(len));
}

fn put(out: &mut BytesMut, id: u8, payload: &[u8]) {
    put_len(out, 1 + payload.len());
    out.put_u8(id);
    out.put_slice(payload);
}

impl BlockRequest {
    fn take(frame: &mut Bytes) -> Self {
        Self { piece: PieceIndex(frame.get_u32()), begin: frame.get_u32(), len: frame.get_u32() }
    }

    fn encode(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.piece.0.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.begin.to_be_bytes());
        bytes[8..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }
}

/// Bytes of a request for hashes.
const HASH_REQUEST_LEN: usize = 48;

impl HashRequest {
    fn take(frame: &mut Bytes) -> Self {
        let mut root = [0; 32];
        frame.copy_to_slice(&mut root);
        let mut number = || frame.get_u32();
        Self { root, base: number(), index: number(), length: number(), proof_layers: number() }
    }

    fn encode(&self) -> [u8; HASH_REQUEST_LEN] {
        let mut bytes = [0; HASH_REQUEST_LEN];
        bytes[..32].copy_from_slice(&self.root);
        for (place, number) in bytes[32..].chunks_mut(4).zip([self.base, self.index, self.length, self.proof_layers]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

impl std::fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> impl Strategy<Value = BlockRequest> {
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, len)| BlockRequest {
            piece: PieceIndex(piece),
            begin,
            len,
        })
    }

    fn hash_request() -> impl Strategy<Value = HashRequest> {
        any::<([u8; 32], u32, u32, u32, u32)>().prop_map(|(root, base, index, length, proof_layers)| HashRequest {
            root,
            base,
            index,
            length,
            proof_layers,
        })
    }

    fn message() -> impl Strategy<Value = Message> {
        let payload = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            Just(Message::KeepAlive),
            Just(Message::Unchoke),
            Just(Message::HaveNone),
            any::<u32>().prop_map(|piece| Message::Have(PieceIndex(piece))),
            any::<u16>().prop_map(Message::Port),
            payload().prop_map(Message::Bitfield),
            request().prop_map(Message::Request),
            request().prop_map(Message::Reject),
            (any::<u32>(), any::<u32>(), payload()).prop_map(|(piece, begin, data)| Message::Piece {
                piece: PieceIndex(piece),
                begin,
                data
            }),
            (any::<u8>(), payload()).prop_map(|(id, payload)| Message::Extended { id, payload }),
            hash_request().prop_map(Message::HashRequest),
            hash_request().prop_map(Message::HashReject),
            (hash_request(), 0..6_usize)
                .prop_map(|(request, count)| Message::Hashes { request, hashes: vec![7; count * 32].into() }),
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire_however_it_is_cut(messages in proptest::collection::vec(message(), 0..12), cut in 1..50usize) {
            let mut sent = BytesMut::new();
            messages.iter().for_each(|message| message.encode(&mut sent));
            let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
            for part in sent.chunks(cut) {
                buffer.extend_from_slice(part);
                let complete = complete_frames(&buffer).unwrap();
                let mut frames = buffer.split_to(complete).freeze();
                while let Some(message) = next_message(&mut frames).unwrap() {
                    received.push(message);
                }
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(received, messages);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(complete) = complete_frames(&bytes) {
                let mut frames = Bytes::copy_from_slice(&bytes[..complete]);
                while let Ok(Some(_)) = next_message(&mut frames) {}
            }
            let mut frames = Bytes::from(bytes);
            while let Ok(Some(_)) = next_message(&mut frames) {}
        }
    }

    #[test]
    fn an_oversized_length_prefix_is_refused_before_any_of_it_is_kept() {
        assert_eq!(complete_frames(&[0xff, 0xff, 0xff, 0xff]), Err(WireError::TooLong(0xffff_ffff)));
    }

    #[test]
    fn hashes_that_are_not_whole_are_refused() {
        for (id, len) in [(21_u8, 47), (21, 49), (22, 47), (22, 49), (22, 48 + 31), (23, 80)] {
            let frame: Vec<u8> = std::iter::once(id).chain(std::iter::repeat_n(0, len)).collect();
            assert_eq!(Message::decode(frame.into()), Err(WireError::BadLength { id, len }));
        }
    }

    #[test]
    fn the_piece_header_is_the_message_without_its_bytes() {
        let mut whole = BytesMut::new();
        Message::Piece { piece: PieceIndex(3), begin: 16384, data: Bytes::from_static(b"xyz") }.encode(&mut whole);
        assert_eq!(whole[..13], piece_header(PieceIndex(3), 16384, 3));
        assert_eq!(&whole[13..], b"xyz");
    }
}
