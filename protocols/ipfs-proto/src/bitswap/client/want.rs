//! One block that somebody wants.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use swarmgate_content::{BlockHash, Cid};

use super::{PeerKey, SessionKey};

/// A want, numbered as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WantId(pub(super) u64);

/// Its place in a queue: by priority, then first come, first served.
pub(super) type Rank = (Reverse<i32>, WantId);

/// Where a want is. It is in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// In its session's queue, until a peer that may have it has room.
    Queued,
    /// Peers were asked whether they have it.
    Probing,
    /// This peer was asked for it.
    Asked(PeerKey),
    /// Nobody has it.
    Exhausted,
}

#[derive(Debug)]
pub(super) struct WantState {
    pub(super) hash: BlockHash,
    /// As it was first wanted.
    pub(super) cid: Cid,
    /// Estimated length, in bytes.
    pub(super) len: u64,
    /// Who wants it, how urgently. The first one's queue is where it waits.
    pub(super) sessions: BTreeMap<SessionKey, i32>,
    pub(super) phase: Phase,
    /// Peers that know of the want, and whether it has gone out to them; if not, it is among the peer's `wants`.
    pub(super) told: BTreeMap<PeerKey, bool>,
    /// want-haves that wait for an answer, and since when.
    pub(super) probed: BTreeMap<PeerKey, Instant>,
    pub(super) have: BTreeSet<PeerKey>,
    /// Peers that said that they have it not.
    pub(super) lacks: BTreeSet<PeerKey>,
    /// Peers that were asked and did not deliver or answer in time, and how often.
    pub(super) missed: BTreeMap<PeerKey, u32>,
    /// When to look at it again, while it is probing or exhausted.
    pub(super) wake: Option<Instant>,
    /// When it was last said that nobody has it.
    pub(super) exhausted_at: Option<Instant>,
}

impl WantState {
    pub(super) fn new(hash: BlockHash, cid: Cid, len: u64, sessions: BTreeMap<SessionKey, i32>) -> Self {
        Self {
            hash,
            cid,
            len,
            sessions,
            phase: Phase::Queued,
            told: BTreeMap::new(),
            probed: BTreeMap::new(),
            have: BTreeSet::new(),
            lacks: BTreeSet::new(),
            missed: BTreeMap::new(),
            wake: None,
            exhausted_at: None,
        }
    }

    /// How urgent it is to whoever wants it most.
    pub(super) fn priority(&self) -> i32 {
        self.sessions.values().copied().max().unwrap_or(0)
    }

    /// A peer did not deliver or answer in time.
    pub(super) fn miss(&mut self, peer: PeerKey) {
        let times = self.missed.entry(peer).or_default();
        *times = times.saturating_add(1);
    }

    /// Forgets what a peer has and lacks.
    pub(super) fn forget(&mut self, peer: PeerKey) {
        self.probed.remove(&peer);
        self.have.remove(&peer);
        self.lacks.remove(&peer);
        self.missed.remove(&peer);
    }
}
