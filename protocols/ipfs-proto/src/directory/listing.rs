//! Every name of a directory, in the order of its blocks.
//!
//! A sharded directory is walked depth first: the open shards are a stack, each with the place of its next link. Shards
//! that come next are asked for ahead, a bounded number of them, so that listing is not one round trip a shard. What is
//! in memory is the stack (a level each) and the shards ahead, whatever the number of entries.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use swarmgate_content::{Cid, VerifiedBytes};

use super::{Bucket, Entry, Shelf, read_bucket, read_shelf};
use crate::block::{BadBlock, Flaw};
use crate::dag_pb::links_from;
use crate::hamt::Fanout;

/// How many shards are asked for, or lie ready, ahead of the listing.
pub const MAX_SHARDS_AHEAD: usize = 16;

/// Lists a directory. Call [`Self::poll_want`] until it gives nothing, after each [`Self::provide`] and each
/// [`Self::poll_entry`] that gave nothing.
#[derive(Debug)]
pub struct DirectoryWalk {
    root: Option<Cid>,
    /// The open blocks, the root first.
    open: Vec<Open>,
    /// Shards asked for, and those that are there.
    ahead: BTreeMap<Cid, Option<VerifiedBytes>>,
    fanout: Option<Fanout>,
}

#[derive(Debug)]
struct Open {
    cid: Cid,
    block: VerifiedBytes,
    /// Where in the block its next link is.
    cursor: usize,
}

impl DirectoryWalk {
    /// Starts at a directory's root.
    #[must_use]
    pub fn new(root: Cid) -> Self {
        Self { root: Some(root), open: Vec::new(), ahead: BTreeMap::new(), fanout: None }
    }

    /// Whether every entry was given.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.root.is_none() && self.open.is_empty()
    }

    /// The next block to ask for, each once while it is waited for: the root, then up to [`MAX_SHARDS_AHEAD`] shards in
    /// the order in which they will be needed.
    pub fn poll_want(&mut self) -> Option<Cid> {
        for next in self.shards_ahead() {
            if let Slot::Vacant(slot) = self.ahead.entry(next)
                && slot.insert(VerifiedBytes::inline(&next)).is_none()
            {
                return Some(next);
            }
        }
        None
    }

    /// The shards that come next, with those that are there already.
    fn shards_ahead(&self) -> Vec<Cid> {
        let Some(fanout) = self.fanout else { return self.root.into_iter().collect() };
        let rest = self.open.iter().rev().flat_map(|open| links_from(open.block.as_ref(), open.cursor));
        let shards = rest.filter(|link| matches!(read_bucket(link, fanout), Ok((_, Bucket::Shard))));
        shards.map(|link| link.cid).take(MAX_SHARDS_AHEAD).collect()
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

    /// The next entry; `None` when a block is missing or all were given.
    ///
    /// # Errors
    /// [`BadBlock`] when a block is no directory, or no part of this one. The listing is then at its end.
    pub fn poll_entry(&mut self) -> Result<Option<Entry>, BadBlock> {
        let entry = self.step();
        if entry.is_err() {
            self.root = None;
            self.open.clear();
        }
        entry
    }

    fn step(&mut self) -> Result<Option<Entry>, BadBlock> {
        if let Some(root) = self.root {
            let Some(block) = self.take(&root) else { return Ok(None) };
            self.root = None;
            self.open(root, block)?;
        }
        while let Some(last) = self.open.last_mut() {
            let (cid, block) = (last.cid, last.block.clone());
            let mut links = links_from(block.as_ref(), last.cursor);
            let Some(link) = links.next() else {
                self.open.pop();
                continue;
            };
            let after = links.cursor(block.len());
            let (name, shard) = match self.fanout {
                None => (link.name.unwrap_or_default(), None),
                Some(fanout) => match read_bucket(&link, fanout).map_err(|flaw| flaw.of(&cid))?.1 {
                    Bucket::Entry(name) => (name, None),
                    Bucket::Shard => (&[][..], Some(link.cid)),
                },
            };
            let Some(shard) = shard else {
                last.cursor = after;
                let name = block.slice_ref(name).into_bytes();
                return Ok(Some(Entry { name, cid: link.cid, tsize: link.tsize }));
            };
            let Some(below) = self.take(&shard) else { return Ok(None) };
            if let Some(last) = self.open.last_mut() {
                last.cursor = after;
            }
            self.open(shard, below)?;
        }
        Ok(None)
    }

    fn take(&mut self, cid: &Cid) -> Option<VerifiedBytes> {
        self.ahead.get(cid)?.as_ref()?;
        self.ahead.remove(cid).flatten()
    }

    fn open(&mut self, cid: Cid, block: VerifiedBytes) -> Result<(), BadBlock> {
        match read_shelf(&cid, &block, self.fanout)? {
            Shelf::Whole(_) => {}
            Shelf::Shard(_, fanout) => self.fanout = Some(fanout),
        }
        if self.fanout.is_some_and(|fanout| self.open.len() >= fanout.max_levels() as usize) {
            return Err(Flaw::TooDeep.of(&cid));
        }
        self.open.push(Open { cid, block, cursor: 0 });
        Ok(())
    }
}
