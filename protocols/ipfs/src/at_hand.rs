//! Parts of a file that somebody has already, as where an earlier download of it was cut: they are looked at before
//! anybody is asked for the block that has them, and taken when they have its hash.
//!
//! So only the nodes of links, which are small, and what is missing or wrong have to be fetched. Parts are looked at in
//! the window of the reading, as blocks are fetched: in memory is no more of the file than its window.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use swarmgate_content::{BoxFuture, Cid, Leaf, Leaves, VerifiedBytes};
use swarmgate_ipfs_proto::leaf;

/// Somewhere that may have parts of one file.
pub trait AtHand: Send + Sync + fmt::Debug {
    /// Whether there may be anything from this offset on. Asked on the thread of the reading, so it may not wait.
    fn reaches(&self, offset: u64) -> bool;

    /// What lies from an offset on: so many bytes, or with `None` all that there is, and nothing if that is more than
    /// a block may have. There may be several versions. They are hints: nobody has checked them. It may wait for a
    /// disk.
    fn read(&self, offset: u64, len: Option<u64>) -> Vec<Bytes>;
}

/// What somebody has of a file, as leaves of it.
#[derive(Debug)]
pub(crate) struct LeavesAtHand(pub(crate) Arc<dyn AtHand>);

impl Leaves for LeavesAtHand {
    fn leaf(&self, leaf: Leaf) -> Option<BoxFuture<'static, Option<VerifiedBytes>>> {
        look(self.0.clone(), leaf.cid, leaf.offset, Some(leaf.len))
    }
}

/// The block of that name, if what lies from `offset` on is what a leaf of that name has.
pub(crate) fn look(
    at_hand: Arc<dyn AtHand>,
    cid: Cid,
    offset: u64,
    len: Option<u64>,
) -> Option<BoxFuture<'static, Option<VerifiedBytes>>> {
    if !at_hand.reaches(offset) {
        return None;
    }
    let find = move || at_hand.read(offset, len).into_iter().find_map(|bytes| leaf::recognise(&cid, bytes));
    // A look that did not come to its end has found nothing.
    Some(Box::pin(async move { tokio::task::spawn_blocking(find).await.ok().flatten() }))
}
