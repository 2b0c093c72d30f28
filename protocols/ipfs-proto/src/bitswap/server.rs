//! What others want of us, and what to send whom next.
//!
//! Each peer has a *ledger*: its wants, each in exactly one of: being looked up, missing (we have it not, and send it
//! when it comes), ready to be read, being read. The machine owns no blocks; it asks the shell, which answers when it
//! can:
//!
//! ```text
//! handle_message ──► poll_event: Find ──► on_found ──► poll_event: Read ──► on_read ──► poll_transmit ──► on_sent
//! ```
//!
//! Peers take turns by bytes: who has been sent least reads next. Bytes that are being read or wait to be sent are
//! bounded for each peer and in all, so a peer that does not read stops only itself. Each peer gets one message at a
//! time, filled with what was read meanwhile.
//!
//! What the shell must not do: answer [`ServerEvent::Find`] with `Some` for content that may not be served.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use swarmgate_content::{BlockHash, Cid, VerifiedBytes};

use super::{Entry, Message, PeerKey, Presence, Version, Want, WireBlock};
use crate::block::MAX_BLOCK_BYTES;

/// Wants remembered of one peer: what Kubo remembers.
pub const MAX_LEDGER: usize = 1024;
/// Peers served at a time.
pub const MAX_SERVED: usize = 512;
/// A block up to this size is sent to who asks whether we have it: it is hardly longer than the answer.
pub const INLINE_BYTES: u64 = 1024;
/// Wants of one message that are looked at. More than a ledger holds only push each other out.
const MAX_READ_WANTS: usize = 2 * MAX_LEDGER;
/// Answers that wait to be sent to one peer. One that does not read them gets no more.
const MAX_PRESENCES: usize = 4096;
/// Presences in one message of ours.
const MAX_SENT_PRESENCES: usize = 2048;

/// What an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// Bytes of blocks that are being read for one peer or wait to be sent to it. Default 2 MiB; one block always may.
    pub max_peer_bytes: u64,
    /// The same for all peers. Default 32 MiB.
    pub max_bytes: u64,
    /// A message is sent when it has this many bytes of blocks, or when nothing more is being read for it. Default 1
    /// MiB, at most half of what a message may have.
    pub message_bytes: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { max_peer_bytes: 2 << 20, max_bytes: 32 << 20, message_bytes: 1 << 20 }
    }
}

/// What the shell is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    /// Look up whether we have a block and how long it is, then say [`Server::on_found`].
    Find {
        /// For whom.
        peer: PeerKey,
        /// Which block.
        cid: Cid,
    },
    /// Read a block, then say [`Server::on_read`].
    Read {
        /// For whom.
        peer: PeerKey,
        /// Which block.
        cid: Cid,
    },
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Blocks handed over to be sent.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Wants that found no place in a ledger, or of blocks whose hash is none that is computed here.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Finding,
    Missing,
    Ready { len: u64 },
    Reading,
}

#[derive(Debug)]
struct Wanted {
    cid: Cid,
    want: Want,
    priority: i32,
    send_dont_have: bool,
    state: State,
    /// When it came, counted over the ledger.
    nth: u64,
}

#[derive(Debug)]
struct Ledger {
    version: Version,
    wants: BTreeMap<BlockHash, Wanted>,
    next_nth: u64,
    /// What may be read, the most urgent first.
    ready: BTreeSet<(Reverse<i32>, u64, BlockHash)>,
    /// Bytes to be read, of [`Self::ready`].
    ready_bytes: u64,
    /// How much of the budgets it uses: being read, waiting to be sent, being sent.
    held_bytes: u64,
    /// Reads under way, with the length that was expected. A want may be cancelled meanwhile, and come back.
    reading: BTreeMap<BlockHash, u64>,
    blocks: VecDeque<WireBlock>,
    block_bytes: u64,
    presences: VecDeque<Presence>,
    /// Bytes under way to it; `None` when it may be sent something.
    sending: Option<u64>,
    /// Bytes that it has been given, counted from where the others stood when it came.
    served: u64,
}

/// The wants of all peers. See the head of this module for the order of calls.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    ledgers: BTreeMap<PeerKey, Ledger>,
    held_bytes: u64,
    /// Where the last that was served stands: who comes, or had nothing to do, begins here.
    level: u64,
    events: VecDeque<ServerEvent>,
    /// Who to look at for a message.
    dirty: BTreeSet<PeerKey>,
    stats: ServerStats,
}

impl Ledger {
    const fn new(version: Version, served: u64) -> Self {
        Self {
            version,
            wants: BTreeMap::new(),
            next_nth: 0,
            ready: BTreeSet::new(),
            ready_bytes: 0,
            held_bytes: 0,
            reading: BTreeMap::new(),
            blocks: VecDeque::new(),
            block_bytes: 0,
            presences: VecDeque::new(),
            sending: None,
            served,
        }
    }

    fn set_ready(&mut self, hash: BlockHash, len: u64) {
        let Some(wanted) = self.wants.get_mut(&hash) else { return };
        if self.reading.contains_key(&hash) {
            wanted.state = State::Reading;
            return;
        }
        wanted.state = State::Ready { len };
        if self.ready.insert((Reverse(wanted.priority), wanted.nth, hash)) {
            self.ready_bytes += len;
        }
    }

    /// Takes a want out, whatever its state; tells it.
    fn remove(&mut self, hash: &BlockHash) -> Option<Wanted> {
        let wanted = self.wants.remove(hash)?;
        if let State::Ready { len } = wanted.state
            && self.ready.remove(&(Reverse(wanted.priority), wanted.nth, *hash))
        {
            self.ready_bytes -= len;
        }
        Some(wanted)
    }

    /// Makes room for a want of this priority; tells whether there is. What was answered already goes first, the oldest
    /// before the younger, then what is less urgent.
    fn make_room(&mut self, priority: i32) -> bool {
        if self.wants.len() < MAX_LEDGER {
            return true;
        }
        let answered = |wanted: &Wanted| wanted.state == State::Missing;
        let oldest = self.wants.iter().filter(|(_, wanted)| answered(wanted)).min_by_key(|(_, wanted)| wanted.nth);
        let least = || {
            let waiting = |wanted: &Wanted| wanted.state != State::Reading;
            let waiting = self.wants.iter().filter(|(_, wanted)| waiting(wanted) && wanted.priority < priority);
            waiting.min_by_key(|(_, wanted)| (wanted.priority, Reverse(wanted.nth)))
        };
        let Some(hash) = oldest.or_else(least).map(|(hash, _)| *hash) else { return false };
        self.remove(&hash);
        true
    }

    fn say(&mut self, cid: Cid, has: bool) {
        if self.version.knows_presence() && self.presences.len() < MAX_PRESENCES {
            self.presences.push_back(Presence { cid, has });
        }
    }

    fn pending_bytes(&self) -> u32 {
        u32::try_from(self.ready_bytes + self.block_bytes).unwrap_or(u32::MAX)
    }
}

impl Server {
    /// A server that knows nobody.
    #[must_use]
    pub const fn new(options: ServerOptions) -> Self {
        Self {
            options,
            ledgers: BTreeMap::new(),
            held_bytes: 0,
            level: 0,
            events: VecDeque::new(),
            dirty: BTreeSet::new(),
            stats: ServerStats { blocks: 0, bytes: 0, refused: 0 },
        }
    }

    /// What has happened so far.
    #[must_use]
    pub const fn stats(&self) -> ServerStats {
        self.stats
    }

    /// Bytes of blocks that are being read or wait to be sent, of all peers.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// How many blocks a peer wants of us.
    #[must_use]
    pub fn wanted_by(&self, peer: PeerKey) -> usize {
        self.ledgers.get(&peer).map_or(0, |ledger| ledger.wants.len())
    }

    /// A peer is connected and speaks `version`. Says whether it is taken: there may be [`MAX_SERVED`] already.
    pub fn join(&mut self, peer: PeerKey, version: Version) -> bool {
        if self.ledgers.contains_key(&peer) || self.ledgers.len() >= MAX_SERVED {
            return false;
        }
        self.ledgers.insert(peer, Ledger::new(version, self.level));
        true
    }

    /// A peer is gone. What is being read for it may be answered or not.
    pub fn leave(&mut self, peer: PeerKey) {
        if let Some(ledger) = self.ledgers.remove(&peer) {
            self.held_bytes -= ledger.held_bytes;
            self.dirty.remove(&peer);
            self.schedule();
        }
    }

    /// Takes the wantlist of a message; the rest is nothing to the server.
    pub fn handle_message(&mut self, from: PeerKey, message: &Message) {
        let Some(ledger) = self.ledgers.get_mut(&from) else { return };
        if message.full {
            let kept: BTreeSet<_> =
                message.wantlist.iter().filter_map(|entry| BlockHash::from_cid(entry.cid())).collect();
            let gone: Vec<_> = ledger.wants.keys().filter(|hash| !kept.contains(hash)).copied().collect();
            gone.iter().for_each(|hash| self.forget(from, hash));
        }
        let mut wants = 0;
        for entry in &message.wantlist {
            match *entry {
                Entry::Cancel(cid) => {
                    if let Some(hash) = BlockHash::from_cid(&cid) {
                        self.forget(from, &hash);
                    }
                }
                Entry::Want { .. } if wants == MAX_READ_WANTS => self.stats.refused += 1,
                Entry::Want { want, cid, priority, send_dont_have } => {
                    wants += 1;
                    self.on_want(from, Wanted { cid, want, priority, send_dont_have, state: State::Finding, nth: 0 });
                }
            }
        }
        self.schedule();
    }

    fn forget(&mut self, peer: PeerKey, hash: &BlockHash) {
        let Some(ledger) = self.ledgers.get_mut(&peer) else { return };
        // What is being read keeps its place in the budget until the shell answers.
        ledger.remove(hash);
    }

    fn on_want(&mut self, peer: PeerKey, mut new: Wanted) {
        let Some(ledger) = self.ledgers.get_mut(&peer) else { return };
        let Some(hash) = BlockHash::from_cid(&new.cid) else {
            // What cannot be checked is stored nowhere.
            return self.refuse(peer, &new);
        };
        if let Some(known) = ledger.wants.get_mut(&hash) {
            // A want-have never takes back a want-block; a missing block is looked up anew, for who asks again wants to
            // know.
            known.want = known.want.min(new.want);
            known.send_dont_have |= new.send_dont_have;
            if known.state != State::Missing {
                return;
            }
            known.state = State::Finding;
        } else {
            if !ledger.make_room(new.priority) {
                return self.refuse(peer, &new);
            }
            new.nth = ledger.next_nth;
            ledger.next_nth += 1;
            ledger.wants.insert(hash, new);
        }
        let Some(wanted) = ledger.wants.get(&hash) else { return };
        self.events.push_back(ServerEvent::Find { peer, cid: wanted.cid });
    }

    fn refuse(&mut self, peer: PeerKey, wanted: &Wanted) {
        self.stats.refused += 1;
        if let Some(ledger) = self.ledgers.get_mut(&peer).filter(|_| wanted.send_dont_have) {
            ledger.say(wanted.cid, false);
            self.dirty.insert(peer);
        }
    }

    /// The shell has looked up a block: its length in bytes, or `None` when we have it not (or it is not to be served).
    pub fn on_found(&mut self, peer: PeerKey, cid: &Cid, len: Option<u64>) {
        if let Some(hash) = BlockHash::from_cid(cid) {
            self.found(peer, hash, len);
            self.schedule();
        }
    }

    fn found(&mut self, peer: PeerKey, hash: BlockHash, len: Option<u64>) {
        let Some(ledger) = self.ledgers.get_mut(&peer) else { return };
        let Some(wanted) = ledger.wants.get_mut(&hash).filter(|wanted| wanted.state == State::Finding) else { return };
        let (cid, want, tell) = (wanted.cid, wanted.want, wanted.send_dont_have);
        match len.filter(|len| *len <= MAX_BLOCK_BYTES as u64) {
            None => {
                wanted.state = State::Missing;
                if tell {
                    ledger.say(cid, false);
                }
            }
            Some(len) if want == Want::Have && len > INLINE_BYTES => {
                ledger.remove(&hash);
                ledger.say(cid, true);
            }
            Some(len) => ledger.set_ready(hash, len),
        }
        self.dirty.insert(peer);
    }

    /// A block has come into our hands: it is looked up anew for everybody who still wants it.
    pub fn on_block_added(&mut self, hash: BlockHash) {
        for (peer, ledger) in &mut self.ledgers {
            if let Some(wanted) = ledger.wants.get_mut(&hash).filter(|wanted| wanted.state == State::Missing) {
                wanted.state = State::Finding;
                self.events.push_back(ServerEvent::Find { peer: *peer, cid: wanted.cid });
            }
        }
    }

    /// Whether anybody wants a block that was not sent yet.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.ledgers.values().any(|ledger| !ledger.wants.is_empty())
    }

    /// The shell has read a block, or could not: then it counts as missing.
    pub fn on_read(&mut self, peer: PeerKey, cid: &Cid, data: Option<VerifiedBytes>) {
        let (Some(ledger), Some(hash)) = (self.ledgers.get_mut(&peer), BlockHash::from_cid(cid)) else { return };
        let Some(len) = ledger.reading.remove(&hash) else { return };
        let reading = ledger.wants.get(&hash).is_some_and(|wanted| wanted.state == State::Reading);
        let wanted = if reading { ledger.remove(&hash) } else { None };
        ledger.held_bytes -= len;
        self.held_bytes -= len;
        self.dirty.insert(peer);
        match (wanted, data.filter(|data| data.len() <= MAX_BLOCK_BYTES)) {
            (Some(wanted), Some(data)) => {
                let len = data.len() as u64;
                ledger.held_bytes += len;
                self.held_bytes += len;
                ledger.block_bytes += len;
                ledger.blocks.push_back(WireBlock { cid: wanted.cid, data });
            }
            (Some(wanted), None) if wanted.send_dont_have => ledger.say(wanted.cid, false),
            (Some(_) | None, _) => {}
        }
        self.schedule();
    }

    /// The message that was last given for a peer has been written: it may get another.
    pub fn on_sent(&mut self, peer: PeerKey) {
        let Some(ledger) = self.ledgers.get_mut(&peer) else { return };
        if let Some(bytes) = ledger.sending.take() {
            ledger.held_bytes -= bytes;
            self.held_bytes -= bytes;
            self.dirty.insert(peer);
            self.schedule();
        }
    }

    /// Gives the budget to those who have been served least.
    fn schedule(&mut self) {
        loop {
            let fits = |ledger: &Ledger, len: u64| {
                let own = ledger.held_bytes == 0 || ledger.held_bytes + len <= self.options.max_peer_bytes;
                own && (self.held_bytes == 0 || self.held_bytes + len <= self.options.max_bytes)
            };
            let next = |ledger: &Ledger| match ledger.ready.first().map(|(.., hash)| *hash) {
                Some(hash) => match ledger.wants.get(&hash)?.state {
                    State::Ready { len } => fits(ledger, len).then_some((hash, len)),
                    State::Finding | State::Missing | State::Reading => None,
                },
                None => None,
            };
            let able = self.ledgers.iter().filter_map(|(peer, ledger)| Some((ledger.served, *peer, next(ledger)?)));
            let Some((served, peer, (hash, len))) = able.min_by_key(|(served, peer, _)| (*served, *peer)) else {
                return;
            };
            self.level = self.level.max(served);
            self.read(peer, hash, len);
        }
    }

    fn read(&mut self, peer: PeerKey, hash: BlockHash, len: u64) {
        let Some(ledger) = self.ledgers.get_mut(&peer) else { return };
        // Who had nothing to be sent for a while has no claim on what it did not use.
        ledger.served = ledger.served.max(self.level.saturating_sub(self.options.max_peer_bytes)) + len.max(1);
        ledger.held_bytes += len;
        self.held_bytes += len;
        ledger.reading.insert(hash, len);
        let Some(wanted) = ledger.wants.get_mut(&hash) else { return };
        ledger.ready.remove(&(Reverse(wanted.priority), wanted.nth, hash));
        ledger.ready_bytes -= len;
        wanted.state = State::Reading;
        self.events.push_back(ServerEvent::Read { peer, cid: wanted.cid });
    }

    /// The next thing to do.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// The next message to send, and to whom. That peer gets no other before [`Self::on_sent`].
    pub fn poll_transmit(&mut self) -> Option<(PeerKey, Message)> {
        while let Some(peer) = self.dirty.pop_first() {
            let Some(ledger) = self.ledgers.get_mut(&peer).filter(|ledger| ledger.sending.is_none()) else { continue };
            let full = ledger.block_bytes >= self.options.message_bytes;
            if !full && !ledger.reading.is_empty() && ledger.presences.is_empty() {
                continue;
            }
            let message = next_message(ledger, self.options.message_bytes);
            if !message.is_empty() {
                self.stats.blocks += message.blocks.len() as u64;
                self.stats.bytes += ledger.sending.unwrap_or(0);
                return Some((peer, message));
            }
        }
        None
    }
}

fn next_message(ledger: &mut Ledger, target: u64) -> Message {
    let presences: Vec<_> = ledger.presences.drain(..ledger.presences.len().min(MAX_SENT_PRESENCES)).collect();
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    while bytes < target
        && let Some(block) = ledger.blocks.pop_front()
    {
        bytes += block.data.len() as u64;
        blocks.push(block);
    }
    ledger.block_bytes -= bytes;
    if !presences.is_empty() || !blocks.is_empty() {
        ledger.sending = Some(bytes);
    }
    Message { presences, blocks, pending_bytes: ledger.pending_bytes(), ..Message::default() }
}

#[cfg(test)]
mod tests;
