//! What one block of a file holds, and whether it is what its parent said.

use swarmgate_content::{Cid, VerifiedBytes};

use crate::block::{BadBlock, Flaw, MAX_LINKS};
use crate::dag_pb::PbNode;
use crate::unixfs::{Entity, Kind, UnixFs};

/// A part of a file that is known by its parent's link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child {
    pub(crate) cid: Cid,
    /// How many bytes of the file its parent says it has; `None` for the root.
    pub(crate) said: Option<u64>,
    pub(crate) depth: u16,
    /// Whether it may be a leaf, by what stands before it.
    pub(crate) may_be_leaf: bool,
}

/// What a block of a file holds: first bytes, then parts.
#[derive(Debug)]
pub(crate) struct FileNode<'a> {
    pub(crate) bytes: &'a [u8],
    /// Every part with its size in bytes of the file.
    pub(crate) children: Vec<(Cid, u64)>,
    /// How many bytes of the file it has, itself and below.
    pub(crate) total: u64,
}

/// Reads a part of a file and compares its sizes with what was said of it.
pub(crate) fn read_node<'a>(child: &Child, block: &'a VerifiedBytes) -> Result<FileNode<'a>, BadBlock> {
    let node = match Entity::read(&child.cid, block)? {
        Entity::Bytes(bytes) => FileNode { bytes, children: Vec::new(), total: bytes.len() as u64 },
        Entity::UnixFs(node, data) if matches!(data.kind, Kind::File | Kind::Raw) => {
            read_unixfs(&node, &data).map_err(|flaw| flaw.of(&child.cid))?
        }
        other @ (Entity::UnixFs(..) | Entity::Node(_) | Entity::Value(_)) => {
            return Err(Flaw::Kind { found: other.noun(), expected: "a file" }.of(&child.cid));
        }
    };
    match child.said {
        Some(said) if said != node.total => Err(Flaw::Size { said, is: node.total }.of(&child.cid)),
        Some(_) | None => Ok(node),
    }
}

fn read_unixfs<'a>(node: &PbNode<'a>, data: &UnixFs<'a>) -> Result<FileNode<'a>, Flaw> {
    let malformed = |why| Flaw::malformed("UnixFS file", why);
    if node.link_count() > MAX_LINKS {
        return Err(Flaw::TooManyLinks);
    }
    if node.link_count() != data.block_sizes.len() {
        return Err(malformed("it has not as many sizes as links"));
    }
    if node.links().any(|link| link.name.is_some_and(|name| !name.is_empty())) {
        return Err(malformed("a part of it has a name"));
    }
    let total = data.total().ok_or_else(|| malformed("its sizes have a sum of more than 64 bits"))?;
    // Absent is not said; a wrong one would be the file's length to everybody who looks no further than the root.
    match data.filesize {
        Some(said) if said != total => return Err(Flaw::Size { said, is: total }),
        Some(_) | None => {}
    }
    let children = node.links().map(|link| link.cid).zip(data.block_sizes.iter().copied()).collect();
    Ok(FileNode { bytes: data.data, children, total })
}
