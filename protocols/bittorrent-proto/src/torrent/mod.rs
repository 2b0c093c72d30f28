//! One torrent and its peers, as one state machine: the peer sessions, the picker and the choker, joined.
//!
//! A shell owns the bytes in between: it hands over whole messages ([`Torrent::handle_input`]), writes what
//! [`Torrent::poll_transmit`] gives, does what [`Torrent::poll_event`] asks (verify a piece, read a block, drop a peer)
//! and calls [`Torrent::handle_timeout`] when [`Torrent::poll_timeout`] says so. Peers are opaque keys; what carries
//! them is not known here.

mod hashes;
mod introductions;
mod messages;
mod peers;
mod pieces;
mod report;
mod session;
mod uploads;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_content::TorrentId;

use self::hashes::Hashes;
pub use self::hashes::ReceivedBlock;
use self::report::PEER_TIMEOUT;
pub use self::report::{DropReason, PeerSummary, TorrentEvent, TorrentTotals, Transport};
use self::session::Session;
use crate::bitfield::Bitfield;
use crate::choker::{Choker, RECHOKE_INTERVAL};
use crate::exchange::PeerExchange;
use crate::geometry::Geometry;
use crate::holepunch::Holepunch;
use crate::picker::{PeerKey, Picker, PickerAction, PickerLimits, ReaderKey};
use crate::wire::Message;

/// The number we chose for `ut_metadata` (BEP 9).
const UT_METADATA: u8 = 1;
/// The number we chose for `lt_donthave` (BEP 54).
const LT_DONTHAVE: u8 = 2;
/// The number we chose for `ut_pex` (BEP 11).
const UT_PEX: u8 = 3;
/// The number we chose for `ut_holepunch` (BEP 55).
const UT_HOLEPUNCH: u8 = 4;
/// A keep-alive is sent after this long without sending anything; BEP 3 lets peers close after two minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(100);
/// A peer for which this many bytes wait unwritten is dropped. Honest ones stay far below: blocks are read only for
/// peers that keep up, so this is a million requests and haves.
const MAX_QUEUED: usize = 4 * 1024 * 1024;

/// One torrent's settings.
#[derive(Debug, Clone, Copy)]
pub struct TorrentConfig {
    /// Bytes that pieces in flight may occupy.
    pub max_partial_bytes: u64,
    /// Peers uploaded to at a time, to begin with ([`Choker::new`]); 0 uploads nothing.
    pub upload_slots: usize,
    /// Breaks ties; two torrents with one seed and one history decide alike.
    pub seed: u64,
}

/// What is known once the metadata is.
#[derive(Debug)]
struct Known {
    info: Bytes,
    picker: Picker,
}

/// See the module's head.
#[derive(Debug)]
pub struct Torrent {
    id: TorrentId,
    hashes: Hashes,
    config: TorrentConfig,
    known: Option<Known>,
    sessions: BTreeMap<PeerKey, Session>,
    /// Readers that came before the metadata, and whether all is wanted.
    early_readers: BTreeMap<ReaderKey, Range<u64>>,
    everything: bool,
    read_ahead: u64,
    choker: Choker,
    /// Whether blocks are sent at a limited rate.
    paced: bool,
    /// Introduces the peers to each other, where that may be.
    exchange: Option<PeerExchange>,
    /// Leads peers to each other, where that may be.
    holepunch: Option<Holepunch>,
    /// Whether peers were told that we want nothing (BEP 21).
    upload_only: bool,
    next_tick: Option<Instant>,
    events: VecDeque<TorrentEvent>,
    convicted: VecDeque<PeerKey>,
    totals: TorrentTotals,
}

impl Torrent {
    /// Makes a torrent of which only an infohash is known.
    #[must_use]
    pub fn new(id: impl Into<TorrentId>, config: TorrentConfig) -> Self {
        Self {
            id: id.into(),
            hashes: Hashes::default(),
            config,
            known: None,
            sessions: BTreeMap::new(),
            early_readers: BTreeMap::new(),
            everything: false,
            read_ahead: u64::MAX,
            choker: Choker::new(config.upload_slots),
            paced: false,
            exchange: None,
            holepunch: None,
            upload_only: false,
            next_tick: None,
            events: VecDeque::new(),
            convicted: VecDeque::new(),
            totals: TorrentTotals::default(),
        }
    }

    /// Tells the torrent its metadata and which pieces are in the store already. Does nothing the second time.
    pub fn set_info(&mut self, now: Instant, info: Bytes, geometry: Geometry, have: Bitfield) {
        if self.known.is_some() {
            return;
        }
        let limits = PickerLimits { max_partial_bytes: self.config.max_partial_bytes };
        let mut picker = Picker::new(geometry, have, limits, self.config.seed);
        picker.want_everything(self.everything);
        picker.limit_read_ahead(self.read_ahead);
        let readers = std::mem::take(&mut self.early_readers);
        for (key, range) in &readers {
            picker.open_reader(now, *key, range.clone());
        }
        let early: Vec<_> = picker.have().iter().collect();
        self.known = Some(Known { info, picker });
        self.watch_from_the_start(readers.values().map(|range| range.start).collect());
        self.upload_only = self.is_complete();
        for key in self.keys() {
            self.greet_late(now, key, &early);
        }
        self.settle(now);
    }

    /// Whether the metadata is known.
    #[must_use]
    pub const fn has_info(&self) -> bool {
        self.known.is_some()
    }

    /// Totals so far.
    #[must_use]
    pub const fn totals(&self) -> TorrentTotals {
        self.totals
    }

    /// Takes what is to be written to one peer, in order: one of those for which `writable` holds. Call until `None`.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        mut writable: impl FnMut(PeerKey) -> bool,
    ) -> Option<(PeerKey, VecDeque<Bytes>)> {
        let ready = self.sessions.iter_mut().find(|(key, session)| session.has_output() && writable(**key))?;
        let (key, session) = ready;
        Some((*key, session.take_outbox(now)))
    }

    /// The shell wrote `bytes` of what it took for this peer.
    pub fn on_written(&mut self, now: Instant, peer: PeerKey, bytes: usize) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.on_written(bytes);
            session.last_sent = now;
        }
        self.feed_uploads();
    }

    /// The next thing the shell must do.
    pub fn poll_event(&mut self) -> Option<TorrentEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] must run though nothing happened, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let picker = self.known.as_ref().and_then(|known| known.picker.poll_timeout());
        let tick = self.next_tick.map(|at| (at, "choker and keep-alive"));
        let hashes = self.hashes.poll_timeout().map(|at| (at, "hashes"));
        let exchange = self.exchange_timeout().map(|at| (at, "peer exchange"));
        picker.into_iter().chain(tick).chain(hashes).chain(exchange).min_by_key(|(at, _)| *at)
    }

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick.is_some_and(|at| at <= now) {
            self.next_tick = (!self.sessions.is_empty()).then_some(now + RECHOKE_INTERVAL);
            self.mind_keep_alives(now);
            self.rechoke(now);
            self.hashes.on_tick();
            self.continue_metadata();
        }
        self.introduce_peers(now);
        self.settle(now);
    }

    fn mind_keep_alives(&mut self, now: Instant) {
        let mut lost = Vec::new();
        let complete = self.is_complete();
        for (key, session) in &mut self.sessions {
            if now >= session.last_received + PEER_TIMEOUT {
                lost.push((*key, DropReason::TimedOut));
            } else if session.queued() > MAX_QUEUED {
                lost.push((*key, DropReason::NotReading(session.queued())));
            } else if session.is_redundant(now, complete) {
                lost.push((*key, DropReason::Redundant));
            } else if now >= session.last_sent + KEEP_ALIVE {
                session.send(&Message::KeepAlive);
            }
        }
        lost.into_iter().for_each(|(key, reason)| self.drop_peer(key, reason));
    }

    /// After any change: hand out work, and turn decisions into messages.
    fn settle(&mut self, now: Instant) {
        self.feed_uploads();
        self.ask_for_hashes(now);
        if let Some(exchange) = &mut self.exchange {
            exchange.settle(now);
        }
        let Some(known) = &mut self.known else { return };
        known.picker.schedule(now);
        while let Some(action) = known.picker.poll_action() {
            let (key, request) = match action {
                PickerAction::Request(key, request) | PickerAction::Cancel(key, request) => (key, request),
            };
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            match action {
                PickerAction::Request(..) => session.send(&Message::Request(request)),
                PickerAction::Cancel(..) => session.withdraw(request),
            }
        }
    }
}

#[cfg(test)]
mod tests;
