//! One name in a directory.

use bytes::Bytes;
use swarmgate_content::{Cid, VerifiedBytes};

use super::{Bucket, Entry, Shelf, hash_name, read_bucket, read_shelf};
use crate::block::{BadBlock, Flaw};
use crate::hamt::Fanout;

/// How far a [`Lookup`] has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This block must be fetched, and given to [`Lookup::provide`].
    Want(Cid),
    /// The name leads here.
    Entry(Entry),
    /// The directory has no such name.
    Nothing,
}

/// Finds one name: of a sharded directory it fetches one shard a level, and nothing else.
#[derive(Debug)]
pub struct Lookup {
    name: Bytes,
    hash: u64,
    level: u32,
    fanout: Option<Fanout>,
    state: Found,
}

impl Lookup {
    /// Starts at a directory's root.
    #[must_use]
    pub fn new(directory: Cid, name: impl Into<Bytes>) -> Self {
        let name = name.into();
        let hash = hash_name(&name);
        Self { name, hash, level: 0, fanout: None, state: Found::Want(directory) }
    }

    /// The name that is looked for.
    #[must_use]
    pub const fn name(&self) -> &Bytes {
        &self.name
    }

    /// What to do, or what came out.
    #[must_use]
    pub const fn state(&self) -> &Found {
        &self.state
    }

    /// Takes the block that is wanted; any other is left alone.
    ///
    /// # Errors
    /// [`BadBlock`] when it is no directory, or no part of this one.
    pub fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<&Found, BadBlock> {
        if self.state == Found::Want(*cid) {
            self.state = self.look(cid, block)?;
            self.level += 1;
        }
        Ok(&self.state)
    }

    fn look(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<Found, BadBlock> {
        match read_shelf(cid, block, self.fanout)? {
            Shelf::Whole(node) => {
                // Of two entries with one name the first counts (UnixFS, "Directory Path Resolution").
                let found = node.links().find(|link| link.name.unwrap_or_default() == self.name);
                Ok(found.map_or(Found::Nothing, |link| self.entry(link.cid, link.tsize)))
            }
            Shelf::Shard(node, fanout) => {
                self.fanout = Some(fanout);
                let bucket = fanout.bucket(self.hash, self.level).ok_or_else(|| Flaw::TooDeep.of(cid))?;
                let wanted = fanout.prefix(bucket);
                for link in node.links() {
                    match read_bucket(&link, fanout).map_err(|flaw| flaw.of(cid))? {
                        (prefix, Bucket::Shard) if prefix == wanted.as_bytes() => return Ok(Found::Want(link.cid)),
                        (prefix, Bucket::Entry(name)) if prefix == wanted.as_bytes() && name == self.name => {
                            return Ok(self.entry(link.cid, link.tsize));
                        }
                        _ => {}
                    }
                }
                Ok(Found::Nothing)
            }
        }
    }

    fn entry(&self, cid: Cid, tsize: Option<u64>) -> Found {
        Found::Entry(Entry { name: self.name.clone(), cid, tsize })
    }
}
