//! What is told to the node without waiting: by calls that are not async, and by futures that were dropped.

use std::collections::VecDeque;

use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use swarmgate_content::{BlockHash, Cid};
use tokio::sync::Notify;

use crate::source::SessionId;

/// Hints (providers, new blocks, what is kept) that wait for the node. Beyond that they are lost: they can be found again.
const MAX_HINTS: usize = 4096;

/// A fetch under way, by a number that is never used twice in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaiterId(pub(super) u64);

#[derive(Debug)]
pub(super) enum Note {
    /// Nobody waits for this any more. One for each fetch that was under way at most.
    Dropped(WaiterId),
    /// A session has ended. One for each at most.
    Ended(SessionId),
    Provider(SessionId, PeerId, Vec<Multiaddr>),
    /// A block is in the store.
    Added(BlockHash),
    /// A DAG is kept, or not any more, by its root.
    Kept(Cid),
    LetGo(Cid),
}

/// Notes in the order in which they were left.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    notes: Mutex<VecDeque<Note>>,
    left: Notify,
}

impl Mailbox {
    pub(super) fn leave(&self, note: Note) {
        let hint = matches!(note, Note::Provider(..) | Note::Added(_) | Note::Kept(_) | Note::LetGo(_));
        let mut notes = self.notes.lock();
        if hint && notes.len() >= MAX_HINTS {
            return;
        }
        notes.push_back(note);
        drop(notes);
        self.left.notify_one();
    }

    /// Waits until there may be notes.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }

    pub(super) fn take(&self) -> VecDeque<Note> {
        std::mem::take(&mut self.notes.lock())
    }
}
