//! One torrent and its peers, as one state machine: the peer sessions, the picker and the choker, joined.
//!
//! A shell owns the bytes in between: it hands over whole messages ([`Torrent::handle_input`]), writes what
//! [`Torrent::poll_transmit`] gives, does what [`Torrent::poll_event`] asks (verify a piece, read a block, drop a peer)
//! and calls [`Torrent::handle_timeout`] when [`Torrent::poll_timeout`] says so. Peers are opaque keys; what carries
//! them is not known here.

mod hashes;
mod introductions;
mod messages;
mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_content::{TorrentId, VerifiedBytes};

use self::hashes::Hashes;
pub use self::hashes::ReceivedBlock;
use self::session::{Early, Session};
use crate::bitfield::{Bitfield, BitfieldError};
use crate::choker::{Choker, RECHOKE_INTERVAL, TurnOrder};
use crate::exchange::PeerExchange;
use crate::extension::encode_dont_have;
use crate::geometry::Geometry;
use crate::handshake::Handshake;
use crate::holepunch::Holepunch;
use crate::merkle::HashRequest;
use crate::picker::{PeerKey, Picker, PickerAction, PickerLimits, ReaderKey};
use crate::wire::{BlockRequest, Message, PieceIndex, WireError};

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
/// Convicted peers remembered, so that each is reported once.
const MAX_CONVICTED: usize = 256;
/// A peer that says nothing for this long is dropped.
const PEER_TIMEOUT: Duration = Duration::from_secs(180);

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

/// Why a peer is to be dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// It sent what is not the peer protocol.
    #[error("broke the protocol: {0}")]
    Wire(#[from] WireError),
    /// Its bitfield does not fit the torrent.
    #[error("broke the protocol: {0}")]
    Bitfield(#[from] BitfieldError),
    /// It sent a bitfield, or its like, later than first.
    #[error("broke the protocol: a second statement of all it has")]
    LateBitfield,
    /// It sent too much that nobody asked for.
    #[error("sent {0} bytes that nobody asked for")]
    Unasked(u64),
    /// It sent wrong bytes, on evidence.
    #[error("sent wrong bytes for a piece")]
    Guilty,
    /// It said nothing for too long.
    #[error("silent for {} s", PEER_TIMEOUT.as_secs())]
    TimedOut,
    /// It does not read what it is sent.
    #[error("reads nothing: {0} bytes wait for it")]
    NotReading(usize),
    /// It sent hashes that do not lead to the root they were asked under (BEP 52).
    #[error("sent false hashes")]
    FalseHashes,
    /// Its extension messages make no sense.
    #[error("broke the protocol: {0}")]
    Extension(String),
    /// Neither of us wants anything of the other (BEP 21).
    #[error("both sides have everything")]
    Redundant,
}

/// What the shell must do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TorrentEvent {
    /// The `info` dictionary arrived and is the one the infohash names: parse it and call [`Torrent::set_info`].
    Metadata(VerifiedBytes),
    /// The roots of all pieces, 32 bytes each, which the metadata lacked ([`Torrent::seek_roots`]).
    Roots(Bytes),
    /// A peer asked for hashes below a piece: read it, hash it and call [`Torrent::leaves_read`].
    ReadLeaves {
        /// The peer.
        peer: PeerKey,
        /// The piece.
        piece: PieceIndex,
        /// What it asked for.
        request: HashRequest,
    },
    /// A piece is complete: verify and store it, then call [`Torrent::piece_verified`], [`Torrent::piece_corrupt`] or
    /// [`Torrent::piece_not_stored`].
    PieceComplete {
        /// The piece.
        piece: PieceIndex,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A peer is owed this block: read it and call [`Torrent::block_read`].
    ReadBlock {
        /// The peer.
        peer: PeerKey,
        /// The block.
        request: BlockRequest,
    },
    /// Close the connection; the peer is already forgotten here.
    Drop {
        /// The peer.
        peer: PeerKey,
        /// Whether it gave us a block, or took one.
        useful: bool,
        /// Why.
        reason: DropReason,
    },
    /// A peer told of others (BEP 11): where they are said to be.
    PeersFound(Vec<SocketAddr>),
    /// A peer that dialled us told where it listens: there it is connected already.
    Listens {
        /// The peer.
        peer: PeerKey,
        /// Where.
        address: SocketAddr,
    },
    /// A peer told at which address it sees us.
    SeenAt {
        /// The peer.
        peer: PeerKey,
        /// The address.
        at: IpAddr,
    },
    /// A peer leads us to another that nobody can dial (BEP 55): dial it by uTP, at once.
    Punch(SocketAddr),
}

/// What carries a peer. The rules treat all alike and count them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// A uTP connection (BEP 29).
    Utp,
    /// A WebRTC data channel.
    WebRtc,
}

/// Totals since the torrent was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TorrentTotals {
    /// Block bytes received, useful or not.
    pub downloaded: u64,
    /// Block bytes received that were not needed or were wrong.
    pub wasted: u64,
    /// Block bytes sent.
    pub uploaded: u64,
    /// Those of `downloaded` that came over WebRTC.
    pub webrtc_downloaded: u64,
    /// Those of `uploaded` that went over WebRTC.
    pub webrtc_uploaded: u64,
    /// Pieces verified.
    pub verified: u64,
    /// Pieces that failed their hash.
    pub corrupt: u64,
}

/// What is known of one peer, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSummary {
    /// The peer.
    pub key: PeerKey,
    /// What carries it.
    pub transport: Transport,
    /// Block bytes it sent us.
    pub downloaded: u64,
    /// Block bytes we sent it.
    pub uploaded: u64,
    /// Bytes a second it delivers, if measured.
    pub rate: Option<f64>,
    /// Requests outstanding at it.
    pub outstanding: usize,
    /// Whether it has every piece.
    pub seed: bool,
    /// Whether it lets us ask.
    pub unchoked_us: bool,
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

    /// The verified pieces, once the metadata is known.
    #[must_use]
    pub fn have(&self) -> Option<&Bitfield> {
        self.known.as_ref().map(|known| known.picker.have())
    }

    /// Whether a piece is complete and waits to be told of as verified, corrupt or not stored.
    #[must_use]
    pub fn is_verifying(&self, piece: PieceIndex) -> bool {
        self.known.as_ref().is_some_and(|known| known.picker.is_verifying(piece))
    }

    /// Totals so far.
    #[must_use]
    pub const fn totals(&self) -> TorrentTotals {
        self.totals
    }

    /// Every connected peer.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerSummary> {
        let picker = self.known.as_ref().map(|known| &known.picker);
        let summary = |(key, session): (&PeerKey, &Session)| PeerSummary {
            key: *key,
            transport: session.transport,
            downloaded: session.downloaded,
            uploaded: session.uploaded,
            rate: picker.and_then(|picker| picker.rate_of(*key)),
            outstanding: picker.map_or(0, |picker| picker.outstanding_at(*key)),
            seed: session.has_all,
            unchoked_us: !session.peer_choking,
        };
        self.sessions.iter().map(summary).collect()
    }

    /// How many connected peers have everything.
    #[must_use]
    pub fn seed_count(&self) -> usize {
        self.sessions.values().filter(|session| session.has_all).count()
    }

    /// Whether a connected peer gave us a block, or took one.
    #[must_use]
    pub fn was_useful(&self, key: PeerKey) -> bool {
        self.sessions.get(&key).is_some_and(Session::was_useful)
    }

    /// How many peers are connected.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.sessions.len()
    }

    // --- peers -------------------------------------------------------------------------------------------------

    /// A peer connected and its handshake was read. Its key must be new.
    pub fn add_peer(&mut self, now: Instant, key: PeerKey, transport: Transport, handshake: &Handshake) {
        let mut session = Session::new(now, transport, handshake);
        if session.extended {
            let hello = self.our_hello(transport);
            session.send(&Message::Extended { id: 0, payload: hello.encode().into() });
        }
        if let Some(known) = &mut self.known {
            known.picker.peer_joined(now, key);
            announce_have(&mut session, known.picker.have());
        } else if session.fast {
            session.send(&Message::HaveNone);
        }
        self.sessions.insert(key, session);
        self.choker.joined(key);
        self.next_tick.get_or_insert(now + RECHOKE_INTERVAL);
    }

    /// A peer's connection ended.
    pub fn remove_peer(&mut self, now: Instant, key: PeerKey) {
        if self.sessions.remove(&key).is_some() {
            self.forget_peer(key);
            self.settle(now);
        }
    }

    fn forget_peer(&mut self, key: PeerKey) {
        self.choker.gone(key);
        self.hashes.on_gone(key);
        if let Some(exchange) = &mut self.exchange {
            exchange.leave(key);
        }
        if let Some(holepunch) = &mut self.holepunch {
            holepunch.leave(key);
        }
        if let Some(known) = &mut self.known {
            known.picker.peer_left(key);
        }
        self.continue_metadata();
    }

    fn drop_peer(&mut self, peer: PeerKey, reason: DropReason) {
        if let Some(session) = self.sessions.remove(&peer) {
            self.forget_peer(peer);
            self.events.push_back(TorrentEvent::Drop { peer, useful: session.was_useful(), reason });
        }
    }

    /// Tells a peer that connected before the metadata was known what it missed, and takes in what it said.
    fn greet_late(&mut self, now: Instant, key: PeerKey, have: &[PieceIndex]) {
        let (Some(session), Some(known)) = (self.sessions.get_mut(&key), &mut self.known) else { return };
        session.metadata = None;
        known.picker.peer_joined(now, key);
        if let Some(reqq) = session.reqq {
            known.picker.peer_queues(key, reqq);
        }
        have.iter().for_each(|piece| session.send(&Message::Have(*piece)));
        let haves = std::mem::take(&mut session.early_haves);
        let early = std::mem::replace(&mut session.early, Early::Nothing);
        if !session.peer_choking {
            known.picker.peer_unchoked(now, key);
        }
        let outcome = match early {
            Early::Nothing => Ok(()),
            Early::All => self.on_have_all(key),
            Early::Bits(bits) => self.on_bitfield(key, &bits),
        };
        if let Err(reason) = outcome {
            return self.drop_peer(key, reason);
        }
        haves.into_iter().for_each(|piece| self.on_have(key, piece));
    }

    fn keys(&self) -> Vec<PeerKey> {
        self.sessions.keys().copied().collect()
    }

    /// Takes whole messages of one peer, as the framing rule found them.
    pub fn handle_input(&mut self, now: Instant, key: PeerKey, frames: Bytes) {
        if let Err(reason) = self.take_messages(now, key, frames) {
            self.drop_peer(key, reason);
        }
        self.settle(now);
    }

    // --- readers -----------------------------------------------------------------------------------------------

    /// A reader wants the bytes `range` of the torrent, in order, the first one now.
    pub fn open_reader(&mut self, now: Instant, key: ReaderKey, range: Range<u64>) {
        match &mut self.known {
            Some(known) => {
                let position = range.start;
                known.picker.open_reader(now, key, range);
                self.watch_leaves(position);
            }
            None => drop(self.early_readers.insert(key, range)),
        }
        self.settle(now);
    }

    /// A reader has read up to `position`.
    pub fn advance_reader(&mut self, now: Instant, key: ReaderKey, position: u64) {
        if let Some(known) = &mut self.known {
            known.picker.advance_reader(now, key, position);
        }
        self.watch_leaves(position);
        self.settle(now);
    }

    /// A reader is gone; requests that only it needed are withdrawn at once.
    pub fn close_reader(&mut self, now: Instant, key: ReaderKey) {
        self.early_readers.remove(&key);
        if let Some(known) = &mut self.known {
            known.picker.close_reader(key);
        }
        self.settle(now);
    }

    /// How far ahead of each reader to fetch at most, in bytes; what would be evicted again is not worth fetching.
    pub fn limit_read_ahead(&mut self, bytes: u64) {
        self.read_ahead = bytes;
        if let Some(known) = &mut self.known {
            known.picker.limit_read_ahead(bytes);
        }
    }

    /// Whether the whole torrent is wanted, rarest first.
    pub fn want_everything(&mut self, now: Instant, everything: bool) {
        self.everything = everything;
        if let Some(known) = &mut self.known {
            known.picker.want_everything(everything);
        }
        self.settle(now);
    }

    // --- pieces ------------------------------------------------------------------------------------------------

    /// A piece passed its hash and is in the store. `bytes` are given when it came from peers just now: they acquit or
    /// convict whoever sent other bytes for it earlier.
    pub fn piece_verified(&mut self, now: Instant, piece: PieceIndex, bytes: Option<&[u8]>) {
        self.forget_leaves(piece);
        let Some(known) = &mut self.known else { return };
        self.totals.verified += u64::from(bytes.is_some());
        if !known.picker.have().get(piece) {
            for session in self.sessions.values_mut().filter(|session| !session.has_all) {
                session.send(&Message::Have(piece));
            }
        }
        let guilty = known.picker.on_verified(piece, bytes);
        guilty.into_iter().for_each(|peer| self.convict(peer));
        self.review_interest();
        self.settle(now);
    }

    /// A piece failed its hash.
    pub fn piece_corrupt(&mut self, now: Instant, piece: PieceIndex, bytes: &[u8]) {
        let Some(known) = &mut self.known else { return };
        self.totals.corrupt += 1;
        self.totals.wasted += bytes.len() as u64;
        let guilty = known.picker.on_corrupt(piece, bytes);
        guilty.into_iter().for_each(|peer| self.convict(peer));
        self.settle(now);
    }

    /// The guilty are told to the shell even when they have left, so that their address can be banned.
    fn convict(&mut self, peer: PeerKey) {
        if self.convicted.contains(&peer) {
            return;
        }
        if self.convicted.len() == MAX_CONVICTED {
            self.convicted.pop_front();
        }
        self.convicted.push_back(peer);
        if self.sessions.remove(&peer).is_some() {
            self.forget_peer(peer);
        }
        // Its blocks were what it is convicted for.
        self.events.push_back(TorrentEvent::Drop { peer, useful: true, reason: DropReason::Guilty });
    }

    /// A piece could not be stored.
    pub fn piece_not_stored(&mut self, now: Instant, piece: PieceIndex) {
        if let Some(known) = &mut self.known {
            known.picker.on_not_stored(piece);
        }
        self.settle(now);
    }

    /// A piece left the store. Peers are told (BEP 54).
    pub fn piece_evicted(&mut self, now: Instant, piece: PieceIndex) {
        let Some(known) = &mut self.known else { return };
        if known.picker.on_evicted(piece) {
            for session in self.sessions.values_mut() {
                if let Some(id) = session.extensions.lt_donthave {
                    let payload = Bytes::copy_from_slice(&encode_dont_have(piece));
                    session.send(&Message::Extended { id, payload });
                }
            }
            self.review_interest();
        }
        self.settle(now);
    }

    /// The block that was to be read for a peer, or `None` when it is not in the store (any more).
    pub fn block_read(&mut self, now: Instant, peer: PeerKey, request: BlockRequest, data: Option<Bytes>) {
        if let Some(session) = self.sessions.get_mut(&peer)
            && session.reading.remove(&request)
        {
            match data {
                Some(data) if !session.am_choking => {
                    let len = data.len() as u64;
                    self.choker.sent(now, peer, len);
                    self.totals.uploaded += len;
                    self.totals.webrtc_uploaded += if session.transport == Transport::WebRtc { len } else { 0 };
                    session.send_block(&request, data);
                }
                _ => session.refuse(request),
            }
        }
        self.settle(now);
    }

    // --- the five verbs' other four ------------------------------------------------------------------------------

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

    /// Changes to how many peers is uploaded at a time; 0 ends all uploading at once.
    pub fn set_upload_slots(&mut self, now: Instant, slots: usize) {
        self.choker.set_slots(now, slots);
        self.rechoke(now);
        self.settle(now);
    }

    /// Says whether [`TorrentEvent::ReadBlock`] waits for a limit: then only few are asked for a peer at a time, so that all
    /// peers have their blocks in turn, and a block that is read is soon sent.
    pub const fn pace_uploads(&mut self, paced: bool) {
        self.paced = paced;
    }

    /// Changes in which order peers have the slots that nobody earned.
    pub const fn set_turn_order(&mut self, order: TurnOrder) {
        self.choker.set_order(order);
    }

    /// Whether we let a connected peer ask.
    #[must_use]
    pub fn is_unchoked(&self, key: PeerKey) -> bool {
        self.choker.is_unchoked(key)
    }

    fn rechoke(&mut self, now: Instant) {
        let asked = |key: &PeerKey| self.known.as_ref().is_some_and(|known| known.picker.outstanding_at(*key) > 0);
        let owing = self.sessions.iter().filter(|(key, session)| !session.peer_choking && asked(key));
        let owing: BTreeSet<_> = owing.map(|(key, _)| *key).collect();
        self.choker.rechoke(now, &owing);
        self.apply_chokes();
    }

    fn apply_chokes(&mut self) {
        self.keys().into_iter().for_each(|key| self.apply_choke(key));
    }

    /// Makes a session's choke state what the choker says, and tells the peer if that is news.
    fn apply_choke(&mut self, key: PeerKey) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let choke = !self.choker.is_unchoked(key);
        if session.am_choking == choke {
            return;
        }
        session.am_choking = choke;
        session.send(if choke { &Message::Choke } else { &Message::Unchoke });
        if choke {
            let refused = std::mem::take(&mut session.uploads);
            refused.into_iter().for_each(|request| session.refuse(request));
        }
    }

    fn feed_uploads(&mut self) {
        for (key, session) in &mut self.sessions {
            while let Some(request) = session.next_upload(self.paced) {
                self.events.push_back(TorrentEvent::ReadBlock { peer: *key, request });
            }
        }
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

/// Tells a peer what we have, in its first message, as briefly as it understands.
fn announce_have(session: &mut Session, have: &Bitfield) {
    if session.fast && have.is_all() {
        session.send(&Message::HaveAll);
    } else if have.count() > 0 {
        session.send(&Message::Bitfield(have.to_wire()));
    } else if session.fast {
        session.send(&Message::HaveNone);
    }
}

#[cfg(test)]
mod tests;
