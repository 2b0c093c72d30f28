//! UnixFS: files, directories and symlinks as data inside of dag-pb nodes (UnixFS specification, version 1.5).

use swarmgate_content::{Cid, VerifiedBytes};

use crate::block::{BadBlock, Flaw, MAX_LINKS};
use crate::codec::Codec;
use crate::dag_pb::PbNode;
use crate::protobuf::{Fields, Wire, put_bytes, put_number, put_varint, take_varint};

/// What a UnixFS node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Bytes of a file, never its root today.
    Raw,
    /// A directory in one block.
    Directory,
    /// A file, or a part of one.
    File,
    /// Metadata of the one node it links to. Nothing makes these.
    Metadata,
    /// A symbolic link.
    Symlink,
    /// A directory in many blocks, or a part of one.
    HamtShard,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Raw, Self::Directory, Self::File, Self::Metadata, Self::Symlink, Self::HamtShard];

    /// What to call it.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Raw | Self::File => "a file",
            Self::Directory => "a directory",
            Self::Metadata => "metadata",
            Self::Symlink => "a symlink",
            Self::HamtShard => "a sharded directory",
        }
    }

    const fn code(self) -> u64 {
        self as u64
    }
}

/// When a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtime {
    /// Seconds after 1970, or before.
    pub seconds: i64,
    /// Nanoseconds after the second, below 1,000,000,000.
    pub nanos: u32,
}

/// The `Data` message of a UnixFS node, borrowed from its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixFs<'a> {
    /// What it is.
    pub kind: Kind,
    /// Bytes of the file, the target of a symlink, or the bit field of a shard.
    pub data: &'a [u8],
    /// How many bytes of the file are here and below, when it says.
    pub filesize: Option<u64>,
    /// How many bytes of the file are below each link; at most [`MAX_LINKS`].
    pub block_sizes: Vec<u64>,
    /// The hash of a shard, as multicodec number.
    pub hash_type: Option<u64>,
    /// How many buckets a shard has.
    pub fanout: Option<u64>,
    /// Permissions, with 20 bits of no meaning above.
    pub mode: Option<u32>,
    /// When it was changed.
    pub mtime: Option<Mtime>,
}

impl<'a> UnixFs<'a> {
    /// A node of that kind with nothing in it.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            data: &[],
            filesize: None,
            block_sizes: Vec::new(),
            hash_type: None,
            fanout: None,
            mode: None,
            mtime: None,
        }
    }

    /// Reads the data of a dag-pb node.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] when it is not UnixFS; [`Flaw::TooManyLinks`].
    pub fn decode(message: &'a [u8]) -> Result<Self, Flaw> {
        let malformed = |why| Flaw::malformed("UnixFS", why);
        let mut kind = None;
        let mut node = Self::new(Kind::Raw);
        for field in Fields::new(message) {
            match field.map_err(malformed)? {
                (1, Wire::Varint(code)) => {
                    let known = usize::try_from(code).ok().and_then(|code| Kind::ALL.get(code));
                    kind = Some(*known.ok_or_else(|| malformed("its type is not known"))?);
                }
                (2, Wire::Bytes(data)) => node.data = data,
                (3, Wire::Varint(size)) => node.filesize = Some(size),
                (4, Wire::Varint(size)) => node.push_size(size)?,
                (4, Wire::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        node.push_size(take_varint(&mut packed).map_err(malformed)?)?;
                    }
                }
                (5, Wire::Varint(code)) => node.hash_type = Some(code),
                (6, Wire::Varint(count)) => node.fanout = Some(count),
                (7, Wire::Varint(mode)) => {
                    node.mode = Some(u32::try_from(mode).map_err(|_| malformed("its mode has more than 32 bits"))?);
                }
                (8, Wire::Bytes(time)) => node.mtime = Some(read_mtime(time).map_err(malformed)?),
                (1..=8, _) => return Err(malformed("a field has another type than it should")),
                _ => {}
            }
        }
        node.kind = kind.ok_or_else(|| malformed("it has no type"))?;
        Ok(node)
    }

    fn push_size(&mut self, size: u64) -> Result<(), Flaw> {
        if self.block_sizes.len() >= MAX_LINKS {
            return Err(Flaw::TooManyLinks);
        }
        self.block_sizes.push(size);
        Ok(())
    }

    /// Writes it as every implementation does: in the order of the fields' numbers, what is empty left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + self.block_sizes.len() * 4 + 16);
        put_number(&mut out, 1, self.kind.code());
        if !self.data.is_empty() {
            put_bytes(&mut out, 2, self.data);
        }
        let numbers = [(3, self.filesize), (5, self.hash_type), (6, self.fanout), (7, self.mode.map(u64::from))];
        for (field, number) in numbers {
            if let Some(number) = number {
                put_number(&mut out, field, number);
            }
            if field == 3 {
                self.block_sizes.iter().for_each(|size| put_number(&mut out, 4, *size));
            }
        }
        if let Some(time) = self.mtime {
            put_bytes(&mut out, 8, &write_mtime(time));
        }
        out
    }

    /// How many bytes of the file are here and below: what is inside, and all block sizes. `None` on overflow.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.block_sizes.iter().try_fold(self.data.len() as u64, |sum, size| sum.checked_add(*size))
    }
}

fn read_mtime(message: &[u8]) -> Result<Mtime, &'static str> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Fields::new(message) {
        match field? {
            (1, Wire::Varint(value)) => seconds = Some(value.cast_signed()),
            (2, Wire::Fixed32(value @ 1..=999_999_999)) => nanos = value,
            (1 | 2, _) => return Err("its time of change is out of range"),
            _ => {}
        }
    }
    Ok(Mtime { seconds: seconds.ok_or("its time of change has no seconds")?, nanos })
}

fn write_mtime(time: Mtime) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, time.seconds.cast_unsigned());
    if time.nanos != 0 {
        put_varint(&mut out, 2 << 3 | 5);
        out.extend_from_slice(&time.nanos.to_le_bytes());
    }
    out
}

/// What a block is to somebody who looks for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity<'a> {
    /// Bytes of a file and nothing else: a raw block.
    Bytes(&'a [u8]),
    /// A UnixFS node.
    UnixFs(PbNode<'a>, UnixFs<'a>),
    /// A dag-pb node that is not UnixFS.
    Node(PbNode<'a>),
    /// A value of another codec.
    Value(Codec),
}

impl<'a> Entity<'a> {
    /// Looks at a block.
    ///
    /// # Errors
    /// [`BadBlock`] when the codec is not known or the block is not of it.
    pub fn read(cid: &Cid, block: &'a VerifiedBytes) -> Result<Self, BadBlock> {
        let codec = Codec::of(cid)?;
        if codec == Codec::Raw {
            return Ok(Self::Bytes(block.as_ref()));
        }
        if codec != Codec::DagPb {
            return Ok(Self::Value(codec));
        }
        let node = PbNode::decode(block.as_ref()).map_err(|flaw| flaw.of(cid))?;
        // Whoever knows that this must be UnixFS reads the data again for the reason that it is not.
        Ok(node.data().and_then(|data| UnixFs::decode(data).ok()).map_or(Self::Node(node), |it| Self::UnixFs(node, it)))
    }

    /// What to call it.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "a file",
            Self::UnixFs(_, node) => node.kind.noun(),
            Self::Node(_) => "a dag-pb node without UnixFS data",
            Self::Value(_) => "a block of data",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_field_survives() {
        let mut node = UnixFs::new(Kind::HamtShard);
        node.data = b"bits";
        node.filesize = Some(7);
        node.block_sizes = vec![1, 300, 0];
        node.hash_type = Some(0x22);
        node.fanout = Some(256);
        node.mode = Some(0o100_644);
        for time in [Mtime { seconds: -11, nanos: 0 }, Mtime { seconds: 1, nanos: 999_999_999 }] {
            node.mtime = Some(time);
            let message = node.encode();
            assert_eq!(UnixFs::decode(&message).unwrap(), node);
        }
    }

    #[test]
    fn packed_block_sizes_are_read_too() {
        let node = UnixFs::decode(&[8, 2, 0x22, 3, 1, 0xac, 2]).unwrap();
        assert_eq!((node.kind, node.block_sizes, node.filesize), (Kind::File, vec![1, 300], None));
    }

    #[test]
    fn bad_data_says_what_is_wrong() {
        for (message, why) in [
            (&[][..], "no type"),
            (&[8, 6], "type is not known"),
            (&[8, 2, 0x12, 9], "ends within"),
            (&[8, 2, 0x10, 9], "another type"),
            (&[8, 2, 0x42, 0], "no seconds"),
            (&[8, 2, 0x42, 7, 8, 1, 0x15, 0, 0, 0, 0], "out of range"),
            (&[8, 2, 0x38, 0xff, 0xff, 0xff, 0xff, 0x7f], "32 bits"),
        ] {
            let error = UnixFs::decode(message).unwrap_err().to_string();
            assert!(error.contains(why), "{message:?}: {error}");
        }
        let many = [&[8, 2][..], &[0x20, 1].repeat(MAX_LINKS + 1)].concat();
        assert_eq!(UnixFs::decode(&many).unwrap_err(), Flaw::TooManyLinks);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(node) = UnixFs::decode(&bytes) {
                let _ = node.total();
                let message = node.encode();
                prop_assert_eq!(UnixFs::decode(&message), Ok(node));
            }
        }
    }
}
