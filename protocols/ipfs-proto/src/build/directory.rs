//! One directory: entries in, blocks out. When it is too large for one block it becomes a tree of shards.

use std::collections::BTreeMap;

use super::{Block, Built, FANOUT, Measure, Profile, fanout};
use crate::codec::Codec;
use crate::dag_pb::{Link, encode, encoded_link_len};
use crate::hamt::{Fanout, MURMUR3_X64_64_CODE, hash_name};
use crate::unixfs::{Kind, UnixFs};

/// Why a directory cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A path could not lead to it.
    #[error("an entry cannot be named {0:?}: names are not empty, not . or .., and have neither / nor NUL")]
    Name(String),
    /// There is one of that name already.
    #[error("there are two entries named {0:?}")]
    Twice(String),
    /// Two names have the same 64 bits of hash.
    #[error("two entries cannot be told apart by the hash of their names")]
    Collision,
}

/// Builds a directory. Its entries may come in any order; the order of the blocks' links is that of the names.
#[derive(Debug)]
pub struct DirectoryBuilder {
    profile: Profile,
    entries: BTreeMap<Vec<u8>, Built>,
}

/// The bytes that a directory's data takes in its block.
const DATA_BYTES: usize = 4;

impl DirectoryBuilder {
    /// An empty directory.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self { profile, entries: BTreeMap::new() }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`BuildError::Name`], [`BuildError::Twice`].
    pub fn add(&mut self, name: impl Into<Vec<u8>>, entry: Built) -> Result<(), BuildError> {
        let name = name.into();
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        if matches!(&name[..], b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
            return Err(BuildError::Name(text(&name)));
        }
        if self.entries.contains_key(&name) {
            return Err(BuildError::Twice(text(&name)));
        }
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Builds it, in many blocks when it is larger than the profile has it.
    ///
    /// # Errors
    /// [`BuildError::Collision`].
    pub fn finish(self) -> Result<(Built, Vec<Block>), BuildError> {
        if self.measure() > self.profile.max_directory_bytes {
            return self.finish_sharded();
        }
        let data = UnixFs::new(Kind::Directory).encode();
        let block = self.profile.block(Codec::DagPb, encode(self.links(), Some(&data)));
        let below: u64 = self.entries.values().map(|entry| entry.dag_bytes).sum();
        let built = Built { cid: block.cid, file_bytes: 0, dag_bytes: block.bytes.len() as u64 + below };
        Ok((built, vec![block]))
    }

    /// Builds it in shards, whatever its size. The root is the last block.
    ///
    /// # Errors
    /// [`BuildError::Collision`].
    pub fn finish_sharded(self) -> Result<(Built, Vec<Block>), BuildError> {
        let entries = self.entries.iter().map(|(name, entry)| (hash_name(name), &name[..], *entry)).collect();
        let mut blocks = Vec::new();
        let built = shard(&self.profile, fanout(), 0, entries, &mut blocks)?;
        Ok((built, blocks))
    }

    fn links(&self) -> impl Iterator<Item = Link<'_>> {
        let link = |(name, entry)| link(name, entry);
        self.entries.iter().map(|(name, entry)| (&name[..], *entry)).map(link)
    }

    fn measure(&self) -> usize {
        match self.profile.measure {
            Measure::BlockBytes => DATA_BYTES + self.links().map(|link| encoded_link_len(&link)).sum::<usize>(),
            Measure::LinkBytes => self.entries.iter().map(|(name, entry)| name.len() + entry.cid.encoded_len()).sum(),
        }
    }
}

const fn link(name: &[u8], entry: Built) -> Link<'_> {
    Link { cid: entry.cid, name: Some(name), tsize: Some(entry.dag_bytes) }
}

/// Builds a shard and all below it. As deep as the hash is long: eight levels.
fn shard(
    profile: &Profile,
    fanout: Fanout,
    level: u32,
    entries: Vec<(u64, &[u8], Built)>,
    blocks: &mut Vec<Block>,
) -> Result<Built, BuildError> {
    let mut buckets: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for entry in entries {
        let bucket = fanout.bucket(entry.0, level).ok_or(BuildError::Collision)?;
        buckets.entry(bucket).or_default().push(entry);
    }
    let mut bits = vec![0; usize::from(fanout.buckets()) / 8];
    let mut named = Vec::with_capacity(buckets.len());
    for (bucket, mut entries) in buckets {
        let mut name = fanout.prefix(bucket).into_bytes();
        // The first bucket is the last bit, as in a number.
        let byte = bits.len() - 1 - usize::from(bucket / 8);
        bits[byte] |= 1 << (bucket % 8);
        let entry = match entries.pop() {
            Some((_, rest, entry)) if entries.is_empty() => {
                name.extend_from_slice(rest);
                entry
            }
            Some(last) => {
                entries.push(last);
                shard(profile, fanout, level + 1, entries, blocks)?
            }
            None => continue,
        };
        named.push((name, entry));
    }
    let used = bits.iter().position(|byte| *byte != 0).unwrap_or(bits.len());
    let data = UnixFs {
        data: &bits[used..],
        hash_type: Some(MURMUR3_X64_64_CODE),
        fanout: Some(FANOUT),
        ..UnixFs::new(Kind::HamtShard)
    };
    let block =
        profile.block(Codec::DagPb, encode(named.iter().map(|(name, it)| link(name, *it)), Some(&data.encode())));
    let below: u64 = named.iter().map(|(_, entry)| entry.dag_bytes).sum();
    let built = Built { cid: block.cid, file_bytes: 0, dag_bytes: block.bytes.len() as u64 + below };
    blocks.push(block);
    Ok(built)
}
