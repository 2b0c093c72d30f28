//! Chooses which peer to ask for which block.
//!
//! A want is in exactly one of: queued, probing (peers were asked whether they have it), asked of one peer, exhausted
//! (nobody connected has it). Wants belong to *sessions*, one for each DAG that is read: a peer that delivered, said
//! have, or was found as a provider is taken to have the rest of that DAG too, and gets want-blocks at once. All others
//! get want-haves, a few at a time.
//!
//! A block goes to the peer that would deliver it soonest: its outstanding bytes by its rate, plus a round trip. Every
//! peer has a byte budget, shared by all sessions, and sessions take turns. A block that is late, or that another peer
//! would deliver much sooner, is withdrawn and asked of that one, as far as the budget for duplicates goes. To ask
//! again is to cancel, then to want, as two messages: Helia takes seconds to answer a plain repetition.
//!
//! ```text
//! want ──► poll_transmit: (peer, message) ──► handle_message ──► poll_event: Block
//!                                                           └──► poll_event: Exhausted ──► the shell finds providers
//! ```
//!
//! After each call both polls are drained; [`Client::poll_timeout`] says when to call [`Client::handle_timeout`].

mod arrivals;
mod choose;
mod event;
mod flow;
mod hurry;
mod peer;
mod places;
mod readers;
mod replies;
mod seek;
mod timers;
mod want;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use swarmgate_content::BlockHash;

use super::{Entry, Message, PeerKey, Version, Want, WireBlock};
use peer::Peer;
use want::{Rank, WantId, WantState};

pub use event::{ClientEvent, ClientOptions, ClientStats, Refused, SessionKey};

/// Wants at a time, of all sessions. At 256 KiB a block this is a gigabyte on its way.
pub const MAX_WANTS: usize = 4096;
/// Sessions at a time.
pub const MAX_SESSIONS: usize = 1024;
/// Peers at a time.
pub const MAX_PEERS: usize = 512;
/// What a block is taken to have until it is known: the leaves of most files.
pub const DEFAULT_BLOCK_LEN: u32 = 256 << 10;
/// Entries in one message of ours: below what the ledgers of peers hold.
pub const MAX_SENT_ENTRIES: usize = 1024;

/// A second peer must beat the first by this much before a block that is not late is asked of it instead.
const STEAL_MARGIN: Duration = Duration::from_millis(150);
/// Wants that are over, remembered to tell a late block from one that nobody asked for.
const MAX_PAST: usize = 2 * MAX_WANTS;

/// What a session knows of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    /// It was asked, and is not asked again before this.
    Introduced(Instant),
    /// It has the DAG, but lacked this many blocks in a row.
    Member { misses: u8 },
    /// It has not.
    Cold,
}

#[derive(Debug, Default)]
struct Session {
    /// All its wants.
    wants: BTreeSet<Rank>,
    /// Those that wait for a peer.
    queue: BTreeSet<Rank>,
    peers: BTreeMap<PeerKey, Affinity>,
}

/// A want that is over.
#[derive(Debug)]
struct Past {
    delivered: bool,
    /// Who wanted it in the end.
    sessions: Vec<SessionKey>,
}

/// The wants of all readers, and the peers that may meet them. See the head of this module for the order of calls.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    peers: BTreeMap<PeerKey, Peer>,
    sessions: BTreeMap<SessionKey, Session>,
    wants: BTreeMap<WantId, WantState>,
    by_hash: BTreeMap<BlockHash, WantId>,
    next_id: u64,
    /// Session that was served last.
    turn: SessionKey,
    wakes: BTreeSet<(Instant, WantId)>,
    /// Peers to which something is to be said.
    dirty: BTreeSet<PeerKey>,
    last_sent: PeerKey,
    past: BTreeMap<BlockHash, Past>,
    past_order: VecDeque<BlockHash>,
    events: VecDeque<ClientEvent>,
    /// Bytes asked again of another peer while the first may still have been sending them.
    risked_bytes: u64,
    stats: ClientStats,
}

impl Client {
    /// A client that knows nobody and wants nothing.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        Self {
            options,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            wants: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            next_id: 0,
            turn: SessionKey(0),
            wakes: BTreeSet::new(),
            dirty: BTreeSet::new(),
            last_sent: PeerKey(0),
            past: BTreeMap::new(),
            past_order: VecDeque::new(),
            events: VecDeque::new(),
            risked_bytes: 0,
            stats: ClientStats::default(),
        }
    }

    /// What has happened so far.
    #[must_use]
    pub const fn stats(&self) -> ClientStats {
        self.stats
    }

    /// Blocks wanted now.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wants.len()
    }

    /// Bytes asked of a peer now, by estimate.
    #[must_use]
    pub fn outstanding_bytes(&self, peer: PeerKey) -> u64 {
        self.peers.get(&peer).map_or(0, |peer| peer.flow.outstanding_bytes())
    }

    /// The next message to send, and to whom. Cancels come before wants, in a message of their own.
    pub fn poll_transmit(&mut self) -> Option<(PeerKey, Message)> {
        loop {
            let after = (Bound::Excluded(self.last_sent), Bound::Unbounded);
            let key = self.dirty.range(after).next().or_else(|| self.dirty.first()).copied()?;
            self.last_sent = key;
            let wantlist = self.next_entries(key);
            if wantlist.is_empty() {
                self.dirty.remove(&key);
                continue;
            }
            self.stats.messages += 1;
            return Some((key, Message { wantlist, ..Message::default() }));
        }
    }

    fn next_entries(&mut self, key: PeerKey) -> Vec<Entry> {
        let Some(peer) = self.peers.get_mut(&key) else { return Vec::new() };
        let mut entries = Vec::new();
        while entries.len() < MAX_SENT_ENTRIES
            && let Some((_, cid)) = peer.cancels.pop_first()
        {
            entries.push(Entry::Cancel(cid));
        }
        if !entries.is_empty() {
            return entries;
        }
        while entries.len() < MAX_SENT_ENTRIES
            && let Some(entry) = self.say(key)
        {
            entries.push(entry);
        }
        entries
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
