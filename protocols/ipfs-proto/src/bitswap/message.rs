//! The Bitswap message and its frames.
//!
//! ```
//! use swarmgate_ipfs_proto::bitswap::message::{Entry, Message, next_frame};
//! use swarmgate_ipfs_proto::bitswap::Version;
//! use swarmgate_content::Cid;
//!
//! let cid = Cid::try_from("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")?;
//! let asked = Message { wantlist: vec![Entry::want_block(cid, 1)], ..Message::default() };
//! let mut wire = bytes::BytesMut::from(&asked.encode_framed(Version::V1_2)[..]);
//! let frame = next_frame(&mut wire)?.expect("a whole message was written");
//! let read = Message::decode(&frame)?;
//! assert_eq!(read, asked);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use bytes::{Buf, Bytes, BytesMut};
use swarmgate_content::{Cid, HashKind, SHA2_256_CODE, VerifiedBytes};

use super::Version;
use crate::block::{identify, read_cid};
use crate::codec::Codec;
use crate::protobuf::{Fields, Wire, bytes_len, peek_varint, put_bytes, put_nonzero, put_varint, take_varint};

/// Longest message, in bytes: 4 MiB, two of the largest blocks, as every implementation bounds it.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Wantlist entries in one message. Kubo fills 512 KiB with them, at 40 bytes or more each.
pub const MAX_ENTRIES: usize = 16_384;
/// Presences in one message.
pub const MAX_PRESENCES: usize = 16_384;
/// Blocks in one message.
pub const MAX_BLOCKS: usize = 16_384;

const WRONG_TYPE: &str = "a field has another type than it should";

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// The block.
    Block,
    /// To know who has it. Peers before 1.2 take it for [`Self::Block`].
    Have,
}

/// One line of a wantlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Something is wanted.
    Want {
        /// What of it.
        want: Want,
        /// Of which block.
        cid: Cid,
        /// The higher, the sooner.
        priority: i32,
        /// Whether a peer that has it not shall say so.
        send_dont_have: bool,
    },
    /// It is no longer wanted.
    Cancel(Cid),
}

/// A peer says whether it has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Which block.
    pub cid: Cid,
    /// Whether it has it.
    pub has: bool,
}

/// A block and the name that its bytes have by the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireBlock {
    /// Its name. In a message that was read, computed from the bytes.
    pub cid: Cid,
    /// Its bytes: a slice of the message, not a copy.
    pub data: VerifiedBytes,
}

/// A message, as sent and as received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// What the sender wants, and no longer wants.
    pub wantlist: Vec<Entry>,
    /// Whether `wantlist` replaces what the sender wanted before.
    pub full: bool,
    /// Blocks.
    pub blocks: Vec<WireBlock>,
    /// What the sender has and has not.
    pub presences: Vec<Presence>,
    /// Bytes that wait at the sender to be sent to us.
    pub pending_bytes: u32,
    /// Bytes of blocks that cannot be named here, since their hash is not known or they are too long. Never sent.
    pub unreadable_bytes: u64,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {0} bytes, where {MAX_MESSAGE_BYTES} are allowed")]
    TooLong(u64),
    /// Not protobuf, or a field of another type.
    #[error("not a Bitswap message: {0}")]
    Malformed(&'static str),
    /// Something that is not a CID stands where one belongs.
    #[error("{0} holds no CID")]
    Cid(&'static str),
    /// A block does not say how to compute its name.
    #[error("a block's prefix is not four numbers of a CID")]
    Prefix,
    /// An enumeration has a value that does not exist.
    #[error("{0} has the unknown value {1}")]
    Unknown(&'static str, u64),
    /// More than a message may have.
    #[error("more than {1} {0}")]
    TooMany(&'static str, usize),
}

impl Entry {
    /// A want-block that asks for a dont-have.
    #[must_use]
    pub const fn want_block(cid: Cid, priority: i32) -> Self {
        Self::Want { want: Want::Block, cid, priority, send_dont_have: true }
    }

    /// A want-have that asks for a dont-have.
    #[must_use]
    pub const fn want_have(cid: Cid, priority: i32) -> Self {
        Self::Want { want: Want::Have, cid, priority, send_dont_have: true }
    }

    /// The block it is about.
    #[must_use]
    pub const fn cid(&self) -> &Cid {
        match self {
            Self::Want { cid, .. } | Self::Cancel(cid) => cid,
        }
    }

    fn decode(input: &[u8]) -> Result<Self, MessageError> {
        let (mut cid, mut priority, mut cancel, mut want, mut send_dont_have) = (None, 0, false, Want::Block, false);
        for field in Fields::new(input) {
            match field? {
                (1, Wire::Bytes(bytes)) => cid = read_cid(bytes).ok(),
                (2, Wire::Varint(value)) => priority = low_32_bits(value),
                (3, Wire::Varint(value)) => cancel = value != 0,
                (4, Wire::Varint(value)) => want = read_want(value)?,
                (5, Wire::Varint(value)) => send_dont_have = value != 0,
                (1..=5, _) => return Err(WRONG_TYPE.into()),
                _ => {}
            }
        }
        let cid = cid.ok_or(MessageError::Cid("a wantlist entry"))?;
        Ok(if cancel { Self::Cancel(cid) } else { Self::Want { want, cid, priority, send_dont_have } })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, 1, &self.cid().to_bytes());
        match *self {
            Self::Want { want, priority, send_dont_have, .. } => {
                put_nonzero(out, 2, i64::from(priority).cast_unsigned());
                put_nonzero(out, 4, u64::from(want == Want::Have));
                put_nonzero(out, 5, send_dont_have.into());
            }
            Self::Cancel(_) => put_nonzero(out, 3, 1),
        }
    }
}

fn read_want(value: u64) -> Result<Want, MessageError> {
    match value {
        0 => Ok(Want::Block),
        1 => Ok(Want::Have),
        other => Err(MessageError::Unknown("a want type", other)),
    }
}

/// An `int32`: negative ones are written as 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "the format says that the low 32 bits count")]
const fn low_32_bits(value: u64) -> i32 {
    value as i32
}

impl From<&'static str> for MessageError {
    fn from(why: &'static str) -> Self {
        Self::Malformed(why)
    }
}

/// How the name of a block is computed.
struct CidPrefix {
    version: u64,
    codec: u64,
    hash_code: u64,
    digest_bytes: u64,
}

impl CidPrefix {
    /// What the blocks of a 1.0 peer are taken for.
    const V0: Self = Self { version: 0, codec: Codec::DagPb.code(), hash_code: SHA2_256_CODE, digest_bytes: 32 };

    fn decode(mut input: &[u8]) -> Result<Self, MessageError> {
        let mut next = || take_varint(&mut input).map_err(|_| MessageError::Prefix);
        let prefix = Self { version: next()?, codec: next()?, hash_code: next()?, digest_bytes: next()? };
        if input.is_empty() && prefix.version <= 1 { Ok(prefix) } else { Err(MessageError::Prefix) }
    }

    fn encode(cid: &Cid) -> Vec<u8> {
        let mut out = Vec::with_capacity(8);
        for number in [cid.version().into(), cid.codec(), cid.hash().code(), cid.hash().size().into()] {
            put_varint(&mut out, number);
        }
        out
    }

    /// The block that `data` is, unless its name cannot be computed here.
    fn identify(&self, data: Bytes) -> Option<WireBlock> {
        let kind = HashKind::new(self.hash_code, u8::try_from(self.digest_bytes).ok()?)?;
        let (hash, data) = identify(kind, data)?;
        let cid = match self.version {
            0 => hash.to_cid_v0().filter(|cid| cid.codec() == self.codec)?,
            _ => hash.to_cid(self.codec),
        };
        Some(WireBlock { cid, data })
    }
}

impl Message {
    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.wantlist.is_empty() && self.blocks.is_empty() && self.presences.is_empty() && !self.full
    }

    /// Reads a message without its frame, and hashes its blocks: that is how they get their names.
    ///
    /// # Errors
    /// When it is not a message, or a bound of this module is exceeded. The sender is not worth a second one.
    pub fn decode(input: &Bytes) -> Result<Self, MessageError> {
        if input.len() > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLong(input.len() as u64));
        }
        let mut message = Self::default();
        for field in Fields::new(input) {
            match field? {
                (1, Wire::Bytes(wantlist)) => message.read_wantlist(wantlist)?,
                (2, Wire::Bytes(data)) => message.add_block(&CidPrefix::V0, input.slice_ref(data))?,
                (3, Wire::Bytes(payload)) => message.read_payload(input, payload)?,
                (4, Wire::Bytes(presence)) => message.read_presence(presence)?,
                (5, Wire::Varint(value)) => message.pending_bytes = low_32_bits(value).try_into().unwrap_or(0),
                (1..=5, _) => return Err(WRONG_TYPE.into()),
                _ => {}
            }
        }
        Ok(message)
    }

    fn read_wantlist(&mut self, input: &[u8]) -> Result<(), MessageError> {
        for field in Fields::new(input) {
            match field? {
                (1, Wire::Bytes(_)) if self.wantlist.len() == MAX_ENTRIES => {
                    return Err(MessageError::TooMany("wantlist entries", MAX_ENTRIES));
                }
                (1, Wire::Bytes(entry)) => self.wantlist.push(Entry::decode(entry)?),
                (2, Wire::Varint(value)) => self.full = value != 0,
                (1 | 2, _) => return Err(WRONG_TYPE.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_payload(&mut self, message: &Bytes, payload: &[u8]) -> Result<(), MessageError> {
        let (mut prefix, mut data) = (None, Bytes::new());
        for field in Fields::new(payload) {
            match field? {
                (1, Wire::Bytes(bytes)) => prefix = Some(CidPrefix::decode(bytes)?),
                (2, Wire::Bytes(bytes)) => data = message.slice_ref(bytes),
                (1 | 2, _) => return Err(WRONG_TYPE.into()),
                _ => {}
            }
        }
        self.add_block(&prefix.ok_or(MessageError::Prefix)?, data)
    }

    fn add_block(&mut self, prefix: &CidPrefix, data: Bytes) -> Result<(), MessageError> {
        if self.blocks.len() == MAX_BLOCKS {
            return Err(MessageError::TooMany("blocks", MAX_BLOCKS));
        }
        let len = data.len() as u64;
        match prefix.identify(data) {
            Some(block) => self.blocks.push(block),
            None => self.unreadable_bytes += len,
        }
        Ok(())
    }

    fn read_presence(&mut self, input: &[u8]) -> Result<(), MessageError> {
        if self.presences.len() == MAX_PRESENCES {
            return Err(MessageError::TooMany("presences", MAX_PRESENCES));
        }
        let (mut cid, mut has) = (None, true);
        for field in Fields::new(input) {
            match field? {
                (1, Wire::Bytes(bytes)) => cid = read_cid(bytes).ok(),
                (2, Wire::Varint(value @ (0 | 1))) => has = value == 0,
                (2, Wire::Varint(other)) => return Err(MessageError::Unknown("a presence", other)),
                (1 | 2, _) => return Err(WRONG_TYPE.into()),
                _ => {}
            }
        }
        self.presences.push(Presence { cid: cid.ok_or(MessageError::Cid("a presence"))?, has });
        Ok(())
    }

    /// Writes the message, without a frame, as a peer of `version` reads it. Peers before 1.2 pass over presences, and
    /// those of 1.0 take every block for one with a CIDv0: whoever makes the message sees to that.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let data: usize = self.blocks.iter().map(|block| block.data.len() + 24).sum();
        let mut out = Vec::with_capacity(data + 64 * (self.wantlist.len() + self.presences.len()) + 16);
        let (mut part, mut inner) = (Vec::new(), Vec::new());
        if !self.wantlist.is_empty() || self.full {
            for entry in &self.wantlist {
                inner.clear();
                entry.encode(&mut inner);
                put_bytes(&mut part, 1, &inner);
            }
            put_nonzero(&mut part, 2, self.full.into());
            put_bytes(&mut out, 1, &part);
        }
        for block in &self.blocks {
            put_block(&mut out, block, version);
        }
        for presence in &self.presences {
            inner.clear();
            put_bytes(&mut inner, 1, &presence.cid.to_bytes());
            put_nonzero(&mut inner, 2, u64::from(!presence.has));
            put_bytes(&mut out, 4, &inner);
        }
        put_nonzero(&mut out, 5, self.pending_bytes.min(i32::MAX.unsigned_abs()).into());
        out
    }

    /// Writes the message with its frame: a varint of its length before it.
    #[must_use]
    pub fn encode_framed(&self, version: Version) -> Vec<u8> {
        let body = self.encode(version);
        let mut out = Vec::with_capacity(body.len() + 4);
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        out
    }
}

fn put_block(out: &mut Vec<u8>, block: &WireBlock, version: Version) {
    match version {
        Version::V1_0 => put_bytes(out, 2, block.data.as_ref()),
        Version::V1_1 | Version::V1_2 => {
            let prefix = CidPrefix::encode(&block.cid);
            put_varint(out, 3 << 3 | 2);
            put_varint(out, (bytes_len(prefix.len()) + bytes_len(block.data.len())) as u64);
            put_bytes(out, 1, &prefix);
            put_bytes(out, 2, block.data.as_ref());
        }
    }
}

/// Cuts the next message out of what a stream brought, without its frame; `None` until it is whole. The rest stays.
///
/// # Errors
/// [`MessageError::TooLong`] as soon as its length is known; nothing sensible can follow on that stream.
pub fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, MessageError> {
    let Some((len, header)) = peek_varint(buffer)? else { return Ok(None) };
    if len > MAX_MESSAGE_BYTES as u64 {
        return Err(MessageError::TooLong(len));
    }
    #[expect(clippy::cast_possible_truncation, reason = "not above MAX_MESSAGE_BYTES, as seen two lines up")]
    let len = len as usize;
    if buffer.len() < header + len {
        // One allocation for the whole message, of which the blocks will be slices.
        buffer.reserve(header + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(header);
    Ok(Some(buffer.split_to(len).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cid_of, verified};
    use proptest::prelude::*;

    /// `{"wantlist": [want-block of the empty raw block, priority 1, dont-have wanted]}`, by hand from the definition.
    const WANT_BLOCK: &[u8] = b"\x0a\x2c\x0a\x2a\x0a\x24\x01\x55\x12\x20\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x24\x27\xae\x41\xe4\x64\x9b\x93\x4c\xa4\x95\x99\x1b\x78\x52\xb8\x55\x10\x01\x28\x01";

    #[test]
    fn a_want_by_hand_reads_and_writes_as_defined() {
        let entry = Entry::want_block(cid_of(b""), 1);
        let message = Message { wantlist: vec![entry], ..Message::default() };
        assert_eq!(Message::decode(&Bytes::from_static(WANT_BLOCK)), Ok(message.clone()));
        assert_eq!(message.encode(Version::V1_2), WANT_BLOCK);
    }

    #[test]
    fn a_block_gets_its_name_from_its_bytes_and_stays_a_slice() {
        let wire = Bytes::from_static(b"\x1a\x0b\x0a\x04\x01\x55\x12\x20\x12\x03abc");
        let message = Message::decode(&wire).unwrap();
        assert_eq!(message.blocks, [WireBlock { cid: cid_of(b"abc"), data: verified(b"abc") }]);
        assert!(wire.as_ptr_range().contains(&message.blocks[0].data.as_ref().as_ptr()));
    }

    #[test]
    fn a_bare_block_of_an_old_peer_is_a_cid_v0() {
        let message = Message::decode(&Bytes::from_static(b"\x12\x03abc")).unwrap();
        let expected = HashKind::Sha2_256.hash(b"abc").to_cid_v0().unwrap();
        assert_eq!(message.blocks[0].cid, expected);
        assert_eq!(message.encode(Version::V1_0), b"\x12\x03abc");
    }

    #[test]
    fn blocks_of_unknown_hashes_are_counted_and_passed_over() {
        let message = Message::decode(&Bytes::from_static(b"\x1a\x0b\x0a\x04\x01\x55\x13\x20\x12\x03abc")).unwrap();
        assert_eq!((message.blocks.len(), message.unreadable_bytes), (0, 3));
    }

    #[test]
    fn a_block_of_more_than_a_block_may_have_is_passed_over() {
        let len = crate::block::MAX_BLOCK_BYTES + 1;
        let mut wire = b"\x12".to_vec();
        put_varint(&mut wire, len as u64);
        wire.resize(wire.len() + len, 0);
        let message = Message::decode(&wire.into()).unwrap();
        assert_eq!((message.blocks.len(), message.unreadable_bytes), (0, len as u64));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (wire, why) in [
            (&b"\x0a\x02\x0a\x00"[..], MessageError::Cid("a wantlist entry")),
            (b"\x0a\x05\x0a\x03\x0a\x01\x07", MessageError::Cid("a wantlist entry")),
            (b"\x1a\x05\x12\x03abc", MessageError::Prefix),
            (b"\x1a\x0a\x0a\x03\x01\x55\x12\x12\x03abc", MessageError::Prefix),
            (b"\x22\x02\x10\x00", MessageError::Cid("a presence")),
            (b"\x22\x02\x10\x02", MessageError::Unknown("a presence", 2)),
            (b"\x0a\x04\x0a\x02\x20\x07", MessageError::Unknown("a want type", 7)),
            (b"\x28", MessageError::Malformed("it ends within a field")),
            (b"\x08\x01", MessageError::Malformed(WRONG_TYPE)),
        ] {
            assert_eq!(Message::decode(&Bytes::copy_from_slice(wire)), Err(why), "{wire:x?}");
        }
    }

    #[test]
    fn a_message_with_too_many_entries_is_refused() {
        let entries = vec![Entry::Cancel(cid_of(b"")); MAX_ENTRIES + 1];
        let wire = Message { wantlist: entries, ..Message::default() }.encode(Version::V1_2);
        assert_eq!(Message::decode(&wire.into()), Err(MessageError::TooMany("wantlist entries", MAX_ENTRIES)));
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let message = Message { wantlist: vec![Entry::Cancel(cid_of(b"x")); 5], ..Message::default() };
        let wire = [message.encode_framed(Version::V1_2), Message::default().encode_framed(Version::V1_2)].concat();
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.extend_from_slice(&[byte]);
            while let Some(frame) = next_frame(&mut buffer).unwrap() {
                found.push(Message::decode(&frame).unwrap());
            }
        }
        assert_eq!(found, [message, Message::default()]);
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused_at_once() {
        let mut buffer = BytesMut::from(&b"\x81\x80\x80\x02"[..]);
        assert_eq!(next_frame(&mut buffer), Err(MessageError::TooLong((4 << 20) + 1)));
        let mut endless = BytesMut::from(&[0xff; 10][..]);
        assert_eq!(next_frame(&mut endless), Err(MessageError::Malformed("a number has more than 64 bits")));
    }

    fn entries() -> impl Strategy<Value = Entry> {
        (any::<[u8; 4]>(), any::<i32>(), any::<bool>(), 0..3_u8).prop_map(|(name, priority, send_dont_have, kind)| {
            let cid = cid_of(&name);
            match kind {
                0 => Entry::Cancel(cid),
                1 => Entry::Want { want: Want::Have, cid, priority, send_dont_have },
                _ => Entry::Want { want: Want::Block, cid, priority, send_dont_have },
            }
        })
    }

    fn blocks() -> impl Strategy<Value = WireBlock> {
        (proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()).prop_map(|(data, old)| {
            let cid = cid_of(&data);
            let cid = if old { Cid::new_v0(*cid.hash()).unwrap() } else { cid };
            WireBlock { cid, data: verified(&data) }
        })
    }

    proptest! {
        #[test]
        fn messages_round_trip(
            wantlist in proptest::collection::vec(entries(), 0..20),
            blocks in proptest::collection::vec(blocks(), 0..5),
            presences in proptest::collection::vec((any::<[u8; 4]>(), any::<bool>()), 0..20),
            full: bool,
            pending_bytes in 0..=i32::MAX.unsigned_abs(),
        ) {
            let presences = presences.into_iter().map(|(name, has)| Presence { cid: cid_of(&name), has }).collect();
            let message = Message { wantlist, full, blocks, presences, pending_bytes, unreadable_bytes: 0 };
            prop_assert_eq!(Message::decode(&message.encode(Version::V1_2).into()), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&input.into());
        }
    }
}
