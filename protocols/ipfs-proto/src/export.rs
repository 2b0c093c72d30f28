//! From a root to the blocks of a CAR, depth first (trustless gateway specification; IPIP-402, IPIP-412).
//!
//! A [`DagExport`] is a stack of links to visit. It sends a block, then puts the block's links on the stack, so the
//! order is the reading order of a file and the memory is that of the stack, whatever the size of the DAG. Blocks near
//! the top are asked for ahead of their turn.
//!
//! Blocks that are in their own CIDs are never sent: the specification forbids it.

use std::collections::BTreeMap;

use swarmgate_content::{ByteRange, Cid, VerifiedBytes};

use crate::block::{BadBlock, Flaw, MAX_DEPTH};
use crate::codec::{Codec, links};
use crate::directory::shards_of;
use crate::unixfs::{Entity, Kind};
use crate::walk::node::{Child, read_node};

mod scope;

pub use scope::{EntityBytes, ParseScopeError, Scope};

/// The most links that wait on the stack; some 200 bytes of memory each.
pub const MAX_PENDING_LINKS: usize = 131_072;
/// The most blocks that are remembered as sent, so that they are not sent again; some 100 bytes of memory each. Past
/// this many, a block that comes again is sent again.
pub const MAX_REMEMBERED: usize = 262_144;

/// How many links below the top of the stack are looked at for blocks to ask for: most may have been sent before.
const MAX_LOOK_AHEAD: usize = 1024;

/// Sends the blocks of a DAG in order. Call [`Self::poll_want`] until it gives nothing, after each [`Self::provide`]
/// and after each [`Self::poll_block`], that which gave nothing too.
#[derive(Debug)]
pub struct DagExport {
    /// What to visit, the next last.
    stack: Vec<Visit>,
    /// Blocks asked for, and those that are there.
    ahead: BTreeMap<Cid, Option<VerifiedBytes>>,
    /// Unless duplicates are wanted: what was sent, and whether all below it was too.
    sent: Option<BTreeMap<Box<[u8]>, bool>>,
    scope: Scope,
    range: Option<ByteRange>,
}

#[derive(Debug, Clone, Copy)]
struct Visit {
    cid: Cid,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The block alone.
    Block,
    /// The end of the path; what is below is for the scope to say.
    End,
    /// The block and all below it.
    All,
    /// A part of a file: where it begins, how many bytes it should have, how deep it is.
    Part { at: u64, said: u64, depth: u16 },
    /// A shard of a directory, so deep.
    Shard { depth: u16 },
}

impl DagExport {
    /// First the blocks of the way to the end of the path, as [`crate::path::Resolved`] has them, then what is there.
    #[must_use]
    pub fn new(way: &[Cid], end: Cid, scope: Scope, duplicates: bool) -> Self {
        let last = match scope {
            Scope::Block => What::Block,
            Scope::Entity(_) => What::End,
            Scope::All => What::All,
        };
        let mut stack = vec![Visit { cid: end, what: last }];
        stack.extend(way.iter().rev().map(|cid| Visit { cid: *cid, what: What::Block }));
        let sent = (!duplicates).then(BTreeMap::new);
        Self { stack, ahead: BTreeMap::new(), sent, scope, range: None }
    }

    /// Whether every block was given.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.stack.is_empty()
    }

    /// The next block to ask for, each once while it is waited for. Besides the one whose turn it is, so many are asked
    /// for, or lie ready, that there are no more than `max_ahead`.
    pub fn poll_want(&mut self, max_ahead: usize) -> Option<Cid> {
        while self.stack.last().is_some_and(|visit| self.is_made(visit)) {
            self.stack.pop();
        }
        let near = self.stack.iter().rev().take(MAX_LOOK_AHEAD).filter(|visit| self.is_needed(visit));
        let (index, want) = near
            .take(max_ahead.max(1))
            .enumerate()
            .find(|(index, visit)| {
                !self.ahead.contains_key(&visit.cid) && (*index == 0 || self.ahead.len() < max_ahead)
            })
            .map(|(index, visit)| (index, visit.cid))?;
        debug_assert!(index < max_ahead.max(1));
        self.ahead.insert(want, None);
        Some(want)
    }

    /// Whether somebody must fetch the block before the visit can be made.
    fn is_needed(&self, visit: &Visit) -> bool {
        VerifiedBytes::inline(&visit.cid).is_none() && !self.is_made(visit)
    }

    /// Whether everything that the visit would send was sent.
    fn is_made(&self, visit: &Visit) -> bool {
        let Some(sent) = &self.sent else { return false };
        sent.get(&*visit.cid.to_bytes()).is_some_and(|whole| *whole || visit.what == What::Block)
    }

    /// Takes a block, and says whether it was waited for.
    pub fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> bool {
        match self.ahead.get_mut(cid) {
            Some(slot @ None) => {
                *slot = Some(block.clone());
                true
            }
            Some(Some(_)) | None => false,
        }
    }

    /// The next block; `None` when it is not there yet or all were given.
    ///
    /// # Errors
    /// [`BadBlock`] when what is below a block cannot be known. The export is then at its end, and not whole.
    pub fn poll_block(&mut self) -> Result<Option<(Cid, VerifiedBytes)>, BadBlock> {
        while let Some(visit) = self.stack.last().copied() {
            if self.is_made(&visit) {
                self.stack.pop();
                continue;
            }
            let inline = VerifiedBytes::inline(&visit.cid);
            let is_inline = inline.is_some();
            let Some(block) = inline.or_else(|| self.ahead.get(&visit.cid)?.clone()) else { return Ok(None) };
            self.ahead.remove(&visit.cid);
            self.stack.pop();
            if let Err(error) = self.descend(&visit, &block) {
                self.stack.clear();
                return Err(error);
            }
            if self.remember(&visit) && !is_inline {
                return Ok(Some((visit.cid, block)));
            }
        }
        Ok(None)
    }

    /// Notes that a block is sent now. Whether it was not sent before.
    fn remember(&mut self, visit: &Visit) -> bool {
        let whole = match visit.what {
            What::Block => visit.cid.codec() == Codec::Raw.code(),
            What::End => false,
            What::All | What::Shard { .. } => true,
            What::Part { at, said, .. } => {
                let end = at + said;
                self.range.is_none_or(|range| at >= range.start() && end <= range.end())
            }
        };
        let Some(sent) = &mut self.sent else { return true };
        let key = visit.cid.to_bytes().into_boxed_slice();
        match sent.get_mut(&key) {
            Some(before) => {
                *before |= whole;
                false
            }
            None => {
                if sent.len() < MAX_REMEMBERED {
                    sent.insert(key, whole);
                }
                true
            }
        }
    }

    /// Puts on the stack what is below a block.
    fn descend(&mut self, visit: &Visit, block: &VerifiedBytes) -> Result<(), BadBlock> {
        let cid = &visit.cid;
        match visit.what {
            What::Block => Ok(()),
            // A codec that is not known has no links that could be followed.
            What::All if Codec::new(cid.codec()).is_none() => Ok(()),
            What::All => {
                let below = links(cid, block)?;
                self.push(cid, below.into_iter().map(|cid| Visit { cid, what: What::All }))
            }
            What::End => self.descend_entity(cid, block),
            What::Part { at, said, depth } => {
                self.descend_file(&Child { cid: *cid, said: Some(said), depth, may_be_leaf: true }, at, block)
            }
            What::Shard { depth } => self.descend_shard(cid, depth, block),
        }
    }

    fn descend_entity(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<(), BadBlock> {
        // A block that is nothing known is an entity of its own.
        let Some(codec) = Codec::new(cid.codec()) else { return Ok(()) };
        if !matches!(codec, Codec::Raw | Codec::DagPb) {
            return Ok(());
        }
        match Entity::read(cid, block)? {
            Entity::UnixFs(_, data) => match data.kind {
                Kind::File | Kind::Raw => {
                    let root = Child { cid: *cid, said: None, depth: 0, may_be_leaf: true };
                    let total = read_node(&root, block)?.total;
                    let Scope::Entity(bytes) = self.scope else { return Ok(()) };
                    self.range = bytes.map_or_else(|| ByteRange::full(total), |bytes| bytes.within(total));
                    if self.range.is_none() {
                        return Ok(());
                    }
                    self.descend_file(&root, 0, block)
                }
                Kind::HamtShard => self.descend_shard(cid, 0, block),
                Kind::Directory | Kind::Symlink | Kind::Metadata => Ok(()),
            },
            Entity::Bytes(_) | Entity::Node(_) | Entity::Value(_) => Ok(()),
        }
    }

    fn descend_file(&mut self, child: &Child, at: u64, block: &VerifiedBytes) -> Result<(), BadBlock> {
        let node = read_node(child, block)?;
        if child.depth >= MAX_DEPTH && !node.children.is_empty() {
            return Err(Flaw::TooDeep.of(&child.cid));
        }
        let range = self.range;
        let depth = child.depth + 1;
        let mut at = at + node.bytes.len() as u64;
        let parts = node.children.into_iter().filter_map(move |(cid, said)| {
            let start = at;
            at += said;
            let covered = range.is_none_or(|range| start < range.end() && at > range.start());
            (said > 0 && covered).then_some(Visit { cid, what: What::Part { at: start, said, depth } })
        });
        self.push(&child.cid, parts.collect::<Vec<_>>())
    }

    fn descend_shard(&mut self, cid: &Cid, depth: u16, block: &VerifiedBytes) -> Result<(), BadBlock> {
        let below = shards_of(cid, block)?;
        if depth >= MAX_DEPTH && !below.is_empty() {
            return Err(Flaw::TooDeep.of(cid));
        }
        self.push(cid, below.into_iter().map(|cid| Visit { cid, what: What::Shard { depth: depth + 1 } }))
    }

    fn push(&mut self, cid: &Cid, below: impl IntoIterator<Item = Visit>) -> Result<(), BadBlock> {
        let from = self.stack.len();
        self.stack.extend(below);
        self.stack[from..].reverse();
        if self.stack.len() > MAX_PENDING_LINKS { Err(Flaw::TooManyLinks.of(cid)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
