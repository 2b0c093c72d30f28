//! The task that owns the torrent: waits for a command, a peer, a reader, a finished piece, the store or the clock;
//! hands it to the rules; does what they say; repeats.

mod pieces;
mod v2;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::choker::slots_for;
use swarmgate_bittorrent_proto::exchange::Contact;
use swarmgate_bittorrent_proto::merkle::HashRequest;
use swarmgate_bittorrent_proto::metainfo::Info;
use swarmgate_bittorrent_proto::picker::PeerKey;
use swarmgate_bittorrent_proto::torrent::{DropReason, Torrent, TorrentConfig, TorrentEvent, TorrentTotals, Transport};
use swarmgate_bittorrent_proto::wire::{BlockRequest, PieceIndex};
use swarmgate_content::merkle::Root;
use swarmgate_content::{BlockHash, BoxFuture, Event, HashMismatch, TorrentId, VerifiedBytes};
use swarmgate_pace::Line;
use swarmgate_store::{PutError, Store, StoreEvent};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::{Change, Wake};
use crate::loan::Admitted;
use crate::peer_io::{self, PeerInput, WRITE_QUEUE};
use crate::reader::ReadFault;
use crate::twins::Member;
use crate::{Command, Evidence, Known, Metadata, PeerEnd, PeerOrigin, PeerStream, Shared, Tip};

/// Batches of messages that may wait for the actor; peers wait beyond that.
const INPUT_QUEUE: usize = 32;
/// Batches taken in one turn before decisions are carried out.
const INPUTS_A_TURN: usize = 16;
/// Peers remembered after they left, so that late evidence can still ban their address.
const MAX_FORMER: usize = 256;
/// Progress is told at most this often.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

struct Connection {
    origin: PeerOrigin,
    batches: mpsc::Sender<VecDeque<Bytes>>,
    cancel: CancellationToken,
}

/// Something that was given to the store or the hash pool has come back.
enum Done {
    Piece(PieceIndex, Bytes, Result<VerifiedBytes, PieceFault>),
    Block(PeerKey, BlockRequest, Option<Bytes>),
    Admitted(Admitted),
    Leaves(PeerKey, HashRequest, Option<Vec<Root>>),
    InfoStored,
}

/// How a peer's connection ended; see [`PeerEnd`].
struct End {
    useful: bool,
    redundant: bool,
    evidence: Option<Evidence>,
    reason: String,
}

enum PieceFault {
    Corrupt(HashMismatch),
    NotStored(PutError, VerifiedBytes),
}

pub(crate) struct Actor {
    shared: Arc<Shared>,
    torrent: Torrent,
    /// The metadata, while it lacks the roots of pieces.
    rootless: Option<(Box<Info>, Bytes)>,
    commands: mpsc::Receiver<Command>,
    peer_ends: mpsc::Sender<PeerEnd>,
    inputs: mpsc::Receiver<PeerInput>,
    input_sender: mpsc::Sender<PeerInput>,
    connections: BTreeMap<PeerKey, Connection>,
    former: BTreeMap<PeerKey, PeerOrigin>,
    next_peer: u64,
    pending: FuturesUnordered<BoxFuture<'static, Done>>,
    store_events: broadcast::Receiver<StoreEvent>,
    /// Among those who share the store, once the metadata is known.
    member: Option<Member>,
    counted: TorrentTotals,
    told_progress: Instant,
    /// The pieces that are wanted though nobody reads them, where that is not all or none: progress is counted by them.
    selected: Option<Bitfield>,
    uploads: Uploads,
    downloads: Line,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// What uploading goes by.
struct Uploads {
    line: Line,
    slots: usize,
    /// What the rules were told: the slots that the line is worth.
    told: usize,
}

impl Actor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        peer_ends: mpsc::Sender<PeerEnd>,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let config = TorrentConfig {
            max_partial_bytes: shared.options.max_partial_bytes,
            upload_slots: shared.options.upload_slots,
            seed: shared.options.seed,
        };
        let (input_sender, inputs) = mpsc::channel(INPUT_QUEUE);
        let mut torrent = Torrent::new(shared.id, config);
        if let Some(options) = shared.context.exchange {
            torrent.exchange_peers(options);
        }
        Self {
            torrent,
            rootless: None,
            store_events: shared.context.store.subscribe(),
            member: None,
            uploads: Uploads {
                line: shared.context.pace.uploads(),
                slots: config.upload_slots,
                told: config.upload_slots,
            },
            downloads: shared.context.pace.downloads(),
            shared,
            commands,
            peer_ends,
            inputs,
            input_sender,
            connections: BTreeMap::new(),
            former: BTreeMap::new(),
            next_peer: 0,
            pending: FuturesUnordered::new(),
            counted: TorrentTotals::default(),
            told_progress: Instant::now(),
            selected: None,
            tasks,
            cancel,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.carry_out();
            let timeout = self.torrent.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                () = self.cancel.cancelled() => break,
                Some(command) = self.commands.recv() => self.on_command(command),
                Some(input) = self.inputs.recv() => self.on_inputs(input),
                Some(done) = self.pending.next(), if !self.pending.is_empty() => self.on_done(done),
                () = self.shared.board.changed() => self.on_board(),
                event = self.store_events.recv() => self.on_store_event(event),
                () = sleep_until(timeout) => self.torrent.handle_timeout(Instant::now()),
            }
        }
        self.shared.board.end(ReadFault::Gone);
        for connection in self.connections.values() {
            connection.cancel.cancel();
        }
    }

    // --- what came in --------------------------------------------------------------------------------------------

    fn on_command(&mut self, command: Command) {
        match command {
            Command::AddPeer { io, origin, handshake } => {
                if self.connections.len() < self.shared.options.max_peers || self.make_room(&origin) {
                    let key = self.connect(io, origin);
                    self.torrent.add_peer(Instant::now(), key, origin.transport, &handshake);
                    if let Some(address) = origin.addr {
                        let utp = origin.transport == Transport::Utp;
                        let contact = Contact { address, dialled: origin.dialled, utp };
                        self.torrent.set_contact(Instant::now(), key, contact);
                    }
                } else {
                    let reason = "too many peers".to_owned();
                    self.tell_end(origin, End { useful: false, redundant: false, evidence: None, reason });
                }
            }
            Command::SetInfo { known } => self.set_known(known),
            Command::SetUploads(slots, order) => {
                self.uploads.slots = slots;
                self.torrent.set_turn_order(order);
            }
            Command::SetListenPort(port) => self.torrent.set_listen_port(port),
            Command::SeekIntroduction(address) => self.torrent.seek_introduction(Instant::now(), address),
            Command::SeekRoots { info, info_bytes } => self.seek_roots(info, info_bytes),
            Command::WantEverything(everything) => {
                self.selected = None;
                self.torrent.want_everything(Instant::now(), everything);
            }
            Command::WantPieces(wanted) => {
                self.selected = Some(wanted.clone());
                self.torrent.want_pieces(Instant::now(), wanted);
            }
            Command::CheckStore(done) => {
                self.check_store();
                // Nobody may be waiting any more.
                let _ = done.send(());
            }
            Command::Admit(admission) => {
                let store = self.shared.context.store.clone();
                self.pending.push(Box::pin(async move { Done::Admitted(admission.store(&store).await) }));
            }
        }
    }

    /// Lets a peer go that was of no use so far, when the newcomer ranks above it (BEP 40). Says whether one was.
    fn make_room(&mut self, newcomer: &PeerOrigin) -> bool {
        let own = *self.shared.own.lock();
        let rank = |origin: &PeerOrigin| own.rank_of(origin.addr?);
        let idle = self.connections.iter().filter(|(key, _)| !self.torrent.was_useful(**key));
        let lowest = idle.filter_map(|(key, connection)| Some((rank(&connection.origin)?, *key))).min();
        match (rank(newcomer), lowest) {
            (Some(new), Some((old, key))) if old < new => {
                self.see_off(key, None, "gave its place to a peer that ranks higher".to_owned());
                true
            }
            _ => false,
        }
    }

    fn connect(&mut self, io: Box<dyn PeerStream>, origin: PeerOrigin) -> PeerKey {
        let key = PeerKey(self.next_peer);
        self.next_peer += 1;
        let (reading, writing) = tokio::io::split(io);
        let (batches, receiver) = mpsc::channel(WRITE_QUEUE);
        let cancel = self.cancel.child_token();
        let read = peer_io::read(key, reading, self.input_sender.clone(), self.downloads.clone());
        let write = peer_io::write(key, writing, receiver, self.input_sender.clone());
        self.tasks.spawn(until(cancel.clone(), read));
        self.tasks.spawn(until(cancel.clone(), write));
        self.connections.insert(key, Connection { origin, batches, cancel });
        self.shared.origins.lock().insert(key, origin);
        self.shared.peers.send_replace(self.connections.len());
        self.shared.context.stats_of(origin.transport).peers_connected(1);
        key
    }

    fn on_inputs(&mut self, first: PeerInput) {
        self.on_input(first);
        for _ in 1..INPUTS_A_TURN {
            let Ok(input) = self.inputs.try_recv() else { break };
            self.on_input(input);
        }
    }

    fn on_input(&mut self, input: PeerInput) {
        let now = Instant::now();
        match input {
            PeerInput::Frames(key, frames) => self.torrent.handle_input(now, key, frames),
            PeerInput::Written(key, bytes) => self.torrent.on_written(now, key, bytes),
            PeerInput::Closed(key, reason) => self.see_off(key, None, reason),
            PeerInput::Broke(key, reason) => self.see_off(key, Some(Evidence::Violation), reason),
        }
    }

    /// A peer's connection is over for reasons that the rules do not know.
    fn see_off(&mut self, key: PeerKey, evidence: Option<Evidence>, reason: String) {
        let useful = self.torrent.was_useful(key);
        self.disconnect(key, End { useful, evidence, reason, redundant: false });
        self.torrent.remove_peer(Instant::now(), key);
    }

    fn on_board(&mut self) {
        let now = Instant::now();
        let mut readers_changed = false;
        for change in self.shared.board.take_changes() {
            match change {
                Change::Opened(key, range) => {
                    readers_changed = true;
                    self.torrent.open_reader(now, key, range);
                }
                Change::Moved(key, position) => self.torrent.advance_reader(now, key, position),
                Change::Closed(key) => {
                    readers_changed = true;
                    self.torrent.close_reader(now, key);
                }
                Change::Lost(piece) => self.on_evicted(piece),
                Change::Found(piece) => self.on_found(piece),
                Change::Audience => readers_changed = true,
            }
        }
        if readers_changed {
            self.share_read_ahead();
        }
        self.wake_the_lucky();
    }

    /// Fetching ahead what would be evicted before it is read helps nobody.
    fn share_read_ahead(&mut self) {
        let usage = self.shared.context.store.usage();
        let share = usage.max_bytes.saturating_sub(usage.pinned_bytes) / 4 / usage.windows.max(1);
        self.torrent.limit_read_ahead(share);
    }

    /// Wakes who began to wait for a piece after it had come.
    fn wake_the_lucky(&self) {
        let Some(have) = self.torrent.have() else { return };
        for piece in self.shared.board.awaited() {
            if have.get(piece) {
                self.shared.board.wake(piece, &Wake::Here);
            }
        }
    }

    fn known(&self) -> Option<Arc<Known>> {
        self.shared.known()
    }

    fn set_known(&mut self, known: Arc<Known>) {
        if self.torrent.has_info() {
            return;
        }
        let (have, as_of) = (known.have.lock().clone(), known.as_of);
        if let Some(tree) = &known.info.tree {
            self.torrent.set_tree(known.id, tree.clone(), known.info.roots.clone());
        }
        self.rootless = None;
        if known.info.private {
            self.torrent.keep_private();
        }
        self.torrent.set_info(Instant::now(), known.info_bytes.clone(), known.geometry.clone(), have);
        self.share_read_ahead();
        self.keep_info(&known);
        let told = Event::ItemMetadata {
            item: known.meta.id,
            name: known.meta.name.clone(),
            total_len: known.meta.total_len,
            files: known.meta.files.len(),
        };
        // Whoever hears of it may look at once, and finds it known.
        self.shared.metadata.send_replace(Metadata::Known(known));
        self.shared.context.events.publish(told);
        self.member = Some(self.shared.context.twins.join(&self.shared));
        if self.shared.context.twins.told() != as_of {
            self.check_store();
        }
    }

    /// The `info` dictionary is a block like any other: with it in the store, a restart serves what is cached offline. A
    /// hybrid torrent's has two names, and may be looked for by either.
    fn keep_info(&self, known: &Known) {
        let names = [known.id.v1().map(TorrentId::V1), known.id.v2().map(TorrentId::V2)];
        for hash in names.into_iter().flatten().map(BlockHash::from) {
            let (store, bytes) = (self.shared.context.store.clone(), known.info_bytes.clone());
            if store.contains(&hash) {
                continue;
            }
            self.pending.push(Box::pin(async move {
                let outcome = match store.verifier().verify(hash, bytes).await {
                    Ok(block) => store.put(block).await.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = outcome {
                    tracing::debug!(%error, "the info dictionary is not cached");
                }
                Done::InfoStored
            }));
        }
    }

    fn on_done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Block(peer, request, data) => self.torrent.block_read(now, peer, request, data),
            Done::Piece(piece, bytes, outcome) => self.on_piece(piece, &bytes, outcome),
            Done::Admitted(admitted) => self.on_admitted(admitted),
            Done::Leaves(peer, request, leaves) => self.torrent.leaves_read(now, peer, request, leaves),
            Done::InfoStored => {}
        }
    }

    // --- what goes out -------------------------------------------------------------------------------------------

    fn carry_out(&mut self) {
        self.heed_limits();
        self.hand_blocks();
        while let Some(event) = self.torrent.poll_event() {
            self.on_event(event);
        }
        let now = Instant::now();
        let connections = &self.connections;
        let writable = |key| connections.get(&key).is_some_and(|connection| connection.batches.capacity() > 0);
        while let Some((key, batch)) = self.torrent.poll_transmit(now, writable) {
            if let Some(connection) = connections.get(&key) {
                // Only this task sends, and there was room; a writer that ended is reported by itself.
                let _ = connection.batches.try_send(batch);
            }
        }
        self.count(now);
    }

    /// Tells the rules what the limit on uploads is worth, when that has changed.
    fn heed_limits(&mut self) {
        let rate = self.uploads.line.rate();
        self.torrent.pace_uploads(rate > 0);
        let slots = slots_for(rate, self.uploads.slots);
        if slots != self.uploads.told {
            self.uploads.told = slots;
            self.torrent.set_upload_slots(Instant::now(), slots);
        }
    }

    fn on_event(&mut self, event: TorrentEvent) {
        match event {
            TorrentEvent::PieceComplete { piece, bytes } => self.verify_and_store(piece, bytes),
            TorrentEvent::ReadBlock { peer, request } => self.read_block(peer, request),
            TorrentEvent::Metadata(info) => self.on_metadata(info),
            TorrentEvent::Roots(roots) => self.on_roots(roots),
            TorrentEvent::ReadLeaves { peer, piece, request } => self.read_leaves(peer, piece, request),
            TorrentEvent::Drop { peer, useful, reason } => {
                let redundant = reason == DropReason::Redundant;
                let evidence = evidence_in(&reason);
                self.disconnect(peer, End { useful, redundant, evidence, reason: reason.to_string() });
            }
            TorrentEvent::PeersFound(addresses) => self.shared.tips.tell(Tip::Told(addresses)),
            TorrentEvent::Punch(address) => self.shared.tips.tell(Tip::Punch(address)),
            TorrentEvent::Listens { peer, address } => {
                if let Some(connection) = self.connections.get_mut(&peer) {
                    connection.origin.addr = Some(address);
                    self.shared.tips.tell(Tip::Listens(address));
                }
            }
            TorrentEvent::SeenAt { peer, at } => {
                if let Some(by) = self.connections.get(&peer).and_then(|connection| connection.origin.addr) {
                    self.shared.tips.tell(Tip::SeenAt { by: by.ip(), at });
                }
            }
            other => tracing::error!(?other, "the shell does not know this event"),
        }
    }

    fn on_metadata(&mut self, info_bytes: VerifiedBytes) {
        let info_bytes = info_bytes.into_bytes();
        match Info::parse(&info_bytes) {
            Ok(info) if info.lacks_roots() => self.seek_roots(Box::new(info), info_bytes),
            Ok(info) => self.set_known(known(&self.shared, info, info_bytes)),
            // It has the right hash, so no other peer will have a better one.
            Err(error) => {
                tracing::warn!(infohash = %self.shared.infohash, %error, "the metadata is malformed");
                self.shared.metadata.send_replace(Metadata::Malformed(error.to_string()));
            }
        }
    }

    fn disconnect(&mut self, key: PeerKey, end: End) {
        let origin = match self.connections.remove(&key) {
            Some(connection) => {
                connection.cancel.cancel();
                self.shared.origins.lock().remove(&key);
                self.shared.peers.send_replace(self.connections.len());
                self.former.insert(key, connection.origin);
                if self.former.len() > MAX_FORMER {
                    self.former.pop_first();
                }
                connection.origin
            }
            // Evidence against one who has left is evidence still.
            None => match self.former.get(&key).filter(|_| end.evidence.is_some()) {
                Some(origin) => *origin,
                None => return,
            },
        };
        if end.evidence.is_some() {
            self.shared.context.stats_of(origin.transport).peers_banned(1);
            let item = self.shared.content();
            self.shared.context.events.publish(Event::PeerBanned { item });
        }
        self.tell_end(origin, end);
    }

    fn tell_end(&self, origin: PeerOrigin, end: End) {
        let PeerOrigin { addr, transport, .. } = origin;
        let End { useful, redundant, evidence, reason } = end;
        tracing::debug!(infohash = %self.shared.infohash, ?addr, useful, ?evidence, reason, "peer left");
        // Whoever dials learns less when it does not listen; nothing else suffers.
        let _ = self.peer_ends.try_send(PeerEnd { addr, transport, useful, redundant, evidence, reason });
    }

    /// Counts what the rules have counted since the last time, once.
    fn count(&mut self, now: Instant) {
        let (totals, before) = (self.torrent.totals(), self.counted);
        self.shared.status.lock().update(now, self.connections.len(), self.torrent.seed_count(), totals);
        if totals == before {
            return;
        }
        let (stats, webrtc) = (&self.shared.context.stats, &self.shared.context.webrtc_stats);
        let webrtc_downloaded = totals.webrtc_downloaded - before.webrtc_downloaded;
        let webrtc_uploaded = totals.webrtc_uploaded - before.webrtc_uploaded;
        webrtc.bytes_downloaded(webrtc_downloaded);
        webrtc.bytes_uploaded(webrtc_uploaded);
        stats.bytes_downloaded(totals.downloaded - before.downloaded - webrtc_downloaded);
        stats.bytes_uploaded(totals.uploaded - before.uploaded - webrtc_uploaded);
        stats.bytes_wasted(totals.wasted - before.wasted);
        stats.blocks_verified(totals.verified - before.verified);
        stats.blocks_corrupt(totals.corrupt - before.corrupt);
        self.counted = totals;
    }
}

/// What a peer is proven to have done that was dropped for this; slow, silent and absent peers have done nothing.
const fn evidence_in(reason: &DropReason) -> Option<Evidence> {
    match reason {
        DropReason::Guilty => Some(Evidence::WrongBytes),
        DropReason::Wire(_)
        | DropReason::Bitfield(_)
        | DropReason::LateBitfield
        | DropReason::Unasked(_)
        | DropReason::FalseHashes
        | DropReason::Extension(_) => Some(Evidence::Violation),
        DropReason::TimedOut | DropReason::NotReading(_) | DropReason::Redundant => None,
        _ => None,
    }
}

/// Makes a torrent's [`Known`] and looks up which of its pieces are in the store.
pub(crate) fn known(shared: &Shared, info: Info, info_bytes: Bytes) -> Arc<Known> {
    let as_of = shared.context.twins.told();
    let have = stored(&shared.context.store, &info);
    Arc::new(Known::new(info, info_bytes, have, as_of))
}

fn stored(store: &Store, info: &Info) -> Bitfield {
    let count = info.piece_count();
    let mut have = Bitfield::none(count);
    for piece in (0..count).map(PieceIndex) {
        let name = info.piece_hash(piece.0);
        if name.is_some_and(|name| store.block_len(&name) == Some(info.piece_size(piece.0))) {
            have.set(piece, true);
        }
    }
    have
}

async fn until(cancel: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = task => {}
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
