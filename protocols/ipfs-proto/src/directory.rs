//! Directories, in one block or in many: find one name, or list them all.
//!
//! # What is a name?
//! Bytes. Nothing in the format makes them UTF-8, so [`Entry::name`] is bytes, and whoever prints or links a name must
//! say what becomes of those that are no text ([`Entry::text`]).

use bytes::Bytes;
use swarmgate_content::{Cid, VerifiedBytes};

use crate::block::{BadBlock, Flaw};
use crate::dag_pb::{Link, PbNode};
use crate::hamt::{Fanout, hash_name, read_shard};
use crate::unixfs::{Entity, Kind};

mod listing;
mod lookup;

pub use listing::{DirectoryWalk, MAX_SHARDS_AHEAD};
pub use lookup::{Found, Lookup};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Bytes,
    /// Where it leads.
    pub cid: Cid,
    /// How many bytes all of its blocks are said to have together. Only a hint, and not the length of a file.
    pub tsize: Option<u64>,
}

impl Entry {
    /// Its name, if that is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.name).ok()
    }
}

/// A block of a directory.
#[derive(Debug, Clone)]
enum Shelf<'a> {
    /// All of it.
    Whole(PbNode<'a>),
    Shard(PbNode<'a>, Fanout),
}

/// Reads a block as a directory, or as a part of one that is cut like `expected`. A dag-pb node without data, as old
/// programs wrote, is a directory.
fn read_shelf<'a>(cid: &Cid, block: &'a VerifiedBytes, expected: Option<Fanout>) -> Result<Shelf<'a>, BadBlock> {
    let shelf = match Entity::read(cid, block)? {
        Entity::UnixFs(node, data) if data.kind == Kind::HamtShard => {
            Shelf::Shard(node, read_shard(&node, &data).map_err(|flaw| flaw.of(cid))?)
        }
        Entity::UnixFs(node, data) if data.kind == Kind::Directory => Shelf::Whole(node),
        Entity::Node(node) if node.data().is_none_or(<[u8]>::is_empty) => Shelf::Whole(node),
        other @ (Entity::Bytes(_) | Entity::UnixFs(..) | Entity::Node(_) | Entity::Value(_)) => {
            return Err(Flaw::Kind { found: other.noun(), expected: "a directory" }.of(cid));
        }
    };
    match (&shelf, expected) {
        (_, None) => Ok(shelf),
        (Shelf::Shard(_, fanout), Some(expected)) if *fanout == expected => Ok(shelf),
        _ => Err(Flaw::malformed("sharded directory", "a part of it is cut otherwise").of(cid)),
    }
}

/// What a link of a shard leads to.
enum Bucket<'a> {
    Shard,
    Entry(&'a [u8]),
}

fn read_bucket<'a>(link: &Link<'a>, fanout: Fanout) -> Result<(&'a [u8], Bucket<'a>), Flaw> {
    let name = link.name.unwrap_or_default();
    let (prefix, rest) = name
        .split_at_checked(fanout.prefix_len())
        .ok_or_else(|| Flaw::malformed("sharded directory", "a link has no bucket"))?;
    Ok((prefix, if rest.is_empty() { Bucket::Shard } else { Bucket::Entry(rest) }))
}

/// The shards that a shard leads to, in the order of its links.
pub(crate) fn shards_of(cid: &Cid, block: &VerifiedBytes) -> Result<Vec<Cid>, BadBlock> {
    let Shelf::Shard(node, fanout) = read_shelf(cid, block, None)? else { return Ok(Vec::new()) };
    let mut shards = Vec::new();
    for link in node.links() {
        if let Bucket::Shard = read_bucket(&link, fanout).map_err(|flaw| flaw.of(cid))?.1 {
            shards.push(link.cid);
        }
    }
    Ok(shards)
}

#[cfg(test)]
mod tests;
