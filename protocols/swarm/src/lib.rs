//! One torrent, driven: the shell around [`swarmgate_bittorrent_proto::torrent::Torrent`].
//!
//! [`Swarm`] owns one actor task and the tasks of its peers, and ends them all in [`Swarm::shutdown`]. A [`SwarmHandle`]
//! gives peers to it over any byte stream, reads from it and asks how it is. Readers take verified bytes from the
//! store; what is missing there they announce on a board, and the actor wakes them when it has come.
//!
//! # Why does a reader not hold a permit or a lock?
//! Because nothing a reader holds may be a resource that a writer needs: a hundred stalled readers must not slow the
//! swarm. A reader holds a row on a board and a window in the store; both go when it is dropped.
//!
//! # Why is there one actor and not a lock around the torrent?
//! The rules are one state machine that wants every change in order; a task that owns it needs no lock, and nothing
//! that waits on a peer, a disk or a hash can hold one.

mod actor;
mod board;
pub mod directory;
pub mod greeting;
mod held;
mod loan;
mod pace;
mod peer_io;
mod reader;
pub mod roots;
mod status;
mod tips;
mod twins;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::choker::TurnOrder;
use swarmgate_bittorrent_proto::exchange::ExchangeOptions;
use swarmgate_bittorrent_proto::geometry::Geometry;
use swarmgate_bittorrent_proto::handshake::Handshake;
use swarmgate_bittorrent_proto::metainfo::Info;
use swarmgate_bittorrent_proto::mse::Payload;
use swarmgate_bittorrent_proto::peer_priority::OwnAddresses;
use swarmgate_bittorrent_proto::picker::PeerKey;
use swarmgate_bittorrent_proto::torrent::Transport;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{BlockHash, ContentId, ContentMeta, EventBus, InfoHash, ProtocolStats, TorrentId};
use swarmgate_store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::SwarmDirectory;

pub use held::Held;
pub use loan::Stay;
pub use pace::Pace;
pub use reader::{ReadFault, SwarmReader};
pub use status::{SwarmStatus, TransferRates};
pub use tips::Tip;
pub use twins::Twins;

/// Commands that may wait for the actor; a sender waits beyond that.
const COMMAND_QUEUE: usize = 64;

/// Any byte stream that a peer can be at the other end of.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> PeerStream for T {}

/// One swarm's settings.
#[derive(Debug, Clone, Copy)]
pub struct SwarmOptions {
    /// Bytes that pieces in flight may occupy. One piece is always allowed.
    pub max_partial_bytes: u64,
    /// Peers uploaded to at a time, to begin with; 0 uploads nothing.
    pub upload_slots: usize,
    /// Peers connected at a time; further ones are refused.
    pub max_peers: usize,
    /// Bytes kept behind a reader, for those who seek back.
    pub keep_behind_bytes: u64,
    /// Breaks ties.
    pub seed: u64,
}

/// What everything in one swarm shares with its application.
#[derive(Debug, Clone)]
pub struct SwarmContext {
    /// Where verified pieces go and come from.
    pub store: Store,
    /// Whom to tell.
    pub events: EventBus,
    /// Where to count.
    pub stats: Arc<ProtocolStats>,
    /// Where to count what WebRTC peers give and take.
    pub webrtc_stats: Arc<ProtocolStats>,
    /// Which swarms are active, for those who bring peers by other ways.
    pub directory: SwarmDirectory,
    /// Which swarms hear of pieces that others of them stored.
    pub twins: Twins,
    /// How fast peers may give and take.
    pub pace: Pace,
    /// How peers of public torrents are told of each other; `None`: not at all.
    pub exchange: Option<ExchangeOptions>,
}

impl SwarmContext {
    /// A context with counters of its own.
    #[must_use]
    pub fn new(store: Store, events: EventBus) -> Self {
        let (directory, twins) = (SwarmDirectory::default(), Twins::default());
        let (stats, webrtc_stats, pace) = (Arc::default(), Arc::default(), Pace::default());
        Self { store, events, stats, webrtc_stats, directory, twins, pace, exchange: None }
    }

    /// Where the peers of one transport are counted.
    pub(crate) fn stats_of(&self, transport: Transport) -> &Arc<ProtocolStats> {
        match transport {
            Transport::Tcp | Transport::Utp => &self.stats,
            Transport::WebRtc => &self.webrtc_stats,
        }
    }
}

/// Where a peer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerOrigin {
    /// What carries it.
    pub transport: Transport,
    /// Its address, where it has one that means anything to others.
    pub addr: Option<SocketAddr>,
    /// Whether we dialled that address: the one of a peer that dialled us is good for nothing but telling who it is.
    pub dialled: bool,
    /// How its stream is encrypted by message stream encryption; `None`: not by that.
    pub encryption: Option<Payload>,
}

impl PeerOrigin {
    /// A TCP peer that we dialled.
    #[must_use]
    pub const fn tcp(addr: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, addr: Some(addr), dialled: true, encryption: None }
    }

    /// A uTP peer that we dialled.
    #[must_use]
    pub const fn utp(addr: SocketAddr) -> Self {
        Self { transport: Transport::Utp, ..Self::tcp(addr) }
    }

    /// The same peer, as one that dialled us.
    #[must_use]
    pub const fn inbound(self) -> Self {
        Self { dialled: false, ..self }
    }

    /// A WebRTC peer. Its address is nobody else's business: behind it may be a whole house, and no other peer could
    /// dial it.
    #[must_use]
    pub const fn webrtc() -> Self {
        Self { transport: Transport::WebRtc, addr: None, dialled: false, encryption: None }
    }
}

/// What a peer is proven to have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Sent bytes that are not the content's.
    WrongBytes,
    /// Sent what no honest client sends.
    Violation,
}

/// How a peer's time in the swarm ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEnd {
    /// Its address, if it had one.
    pub addr: Option<SocketAddr>,
    /// What carried it.
    pub transport: Transport,
    /// Whether it gave or took anything.
    pub useful: bool,
    /// Whether it left because neither side wants anything of the other, for now.
    pub redundant: bool,
    /// What it is proven to have done.
    pub evidence: Option<Evidence>,
    /// Why, in words.
    pub reason: String,
}

/// A torrent's metadata and shape, once known.
#[derive(Debug)]
pub struct Known {
    /// Its infohashes.
    pub id: TorrentId,
    /// The parsed `info` dictionary.
    pub info: Info,
    /// Its exact bytes.
    pub info_bytes: Bytes,
    /// The same for protocols-neutral code.
    pub meta: Arc<ContentMeta>,
    /// How it is cut into pieces.
    pub geometry: Geometry,
    have: Mutex<Bitfield>,
    /// Piece numbers in the order of their hashes, to find the pieces of a hash.
    by_hash: Vec<u32>,
    /// How many pieces other swarms had told of when the store was looked at.
    as_of: u64,
}

/// Which pieces of a torrent were in the store at some moment: a bit each.
#[derive(Debug, Clone)]
pub struct HaveSnapshot {
    geometry: Geometry,
    have: Bitfield,
}

impl HaveSnapshot {
    /// Whether the byte at this place of the torrent was there.
    #[must_use]
    pub fn has_byte(&self, at: u64) -> bool {
        let piece = self.geometry.pieces_of(at, at.saturating_add(1)).next();
        piece.is_some_and(|piece| self.have.get(PieceIndex(piece)))
    }
}

impl Known {
    fn new(info: Info, info_bytes: Bytes, have: Bitfield, as_of: u64) -> Self {
        let (id, geometry) = (info.id(&info_bytes), info.geometry());
        let meta = Arc::new(info.to_meta(id));
        let mut by_hash: Vec<_> = (0..geometry.pieces()).collect();
        by_hash.sort_unstable_by_key(|piece| digest(&info, *piece));
        Self { id, info, info_bytes, meta, geometry, have: Mutex::new(have), by_hash, as_of }
    }

    /// Every piece whose bytes have this hash: several when a torrent repeats itself.
    fn pieces_with(&self, hash: &BlockHash) -> impl Iterator<Item = PieceIndex> + use<'_> {
        let hash = *hash;
        let mut wanted = hash.digest().to_vec();
        // A v2 piece's digest has its length too.
        wanted.truncate(digest(&self.info, 0).len());
        let from = self.by_hash.partition_point(|piece| digest(&self.info, *piece) < wanted.as_slice());
        let rest = self.by_hash.get(from..).unwrap_or_default();
        rest.iter()
            .take_while(move |piece| digest(&self.info, **piece) == wanted.as_slice())
            .filter(move |piece| self.info.piece_hash(**piece) == Some(hash))
            .map(|piece| PieceIndex(*piece))
    }

    /// Whether all of a range of its bytes is in the store.
    #[must_use]
    pub fn has_range(&self, range: std::ops::Range<u64>) -> bool {
        let have = self.have.lock();
        range.is_empty() || self.geometry.pieces_of(range.start, range.end).all(|piece| have.get(PieceIndex(piece)))
    }

    /// Which pieces are in the store at this moment.
    #[must_use]
    pub fn snapshot(&self) -> HaveSnapshot {
        HaveSnapshot { geometry: self.geometry.clone(), have: self.have.lock().clone() }
    }

    /// How many bytes of it are in the store.
    #[must_use]
    pub fn have_bytes(&self) -> u64 {
        let have = self.have.lock();
        let last = PieceIndex(self.geometry.pieces() - 1);
        let full = u64::from(have.count()) * u64::from(self.geometry.piece_len());
        if have.get(last) {
            full - u64::from(self.geometry.piece_len()) + u64::from(self.geometry.len_of(last))
        } else {
            full
        }
    }

    /// How many bytes of some of its pieces are in the store, and how many all of those have.
    pub(crate) fn bytes_of(&self, pieces: &Bitfield) -> (u64, u64) {
        let have = self.have.lock();
        pieces.iter().fold((0, 0), |(here, all), piece| {
            let len = u64::from(self.geometry.len_of(piece));
            (here + if have.get(piece) { len } else { 0 }, all + len)
        })
    }
}

/// How far a swarm is with its metadata.
#[derive(Debug, Clone)]
pub enum Metadata {
    /// Not here yet.
    Unknown,
    /// Here.
    Known(Arc<Known>),
    /// It has the right hash and makes no sense, so that no peer has a better one; the text says why.
    Malformed(String),
}

/// What orders pieces by their names: the SHA-1, or the Merkle root.
fn digest(info: &Info, piece: u32) -> &[u8] {
    let piece = piece as usize;
    match &info.roots {
        Some(roots) if info.pieces.hashes.is_empty() => roots.get(piece * 32..piece * 32 + 32).unwrap_or_default(),
        _ => info.pieces.hashes.get(piece * 20..piece * 20 + 20).unwrap_or_default(),
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    /// As it was started: a hybrid torrent may be known by one of its ids until its metadata is.
    id: TorrentId,
    infohash: InfoHash,
    context: SwarmContext,
    options: SwarmOptions,
    metadata: watch::Sender<Metadata>,
    /// Connected peers, whatever carries them.
    peers: watch::Sender<usize>,
    /// What the world knows us by, for ranking peers.
    own: Mutex<OwnAddresses>,
    /// What peers told of others.
    tips: tips::Tips,
    /// Where each of them comes from.
    origins: Mutex<BTreeMap<PeerKey, PeerOrigin>>,
    /// Whether the last missing piece came while the swarm was running.
    completed: watch::Sender<bool>,
    board: board::Board,
    /// Places for pieces from elsewhere that are being hashed and stored.
    admitting: Arc<Semaphore>,
    status: Mutex<status::StatusCell>,
}

impl Shared {
    fn known(&self) -> Option<Arc<Known>> {
        match &*self.metadata.borrow() {
            Metadata::Known(known) => Some(Arc::clone(known)),
            Metadata::Unknown | Metadata::Malformed(_) => None,
        }
    }

    /// The id that all that is told of it bears.
    fn content(&self) -> ContentId {
        self.known().map_or_else(|| self.id.content(), |known| known.meta.id)
    }
}

pub(crate) enum Command {
    AddPeer { io: Box<dyn PeerStream>, origin: PeerOrigin, handshake: Handshake },
    SetInfo { known: Arc<Known> },
    SeekIntroduction(SocketAddr),
    SetListenPort(Option<u16>),
    SeekRoots { info: Box<Info>, info_bytes: Bytes },
    WantEverything(bool),
    WantPieces(Bitfield),
    SetUploads(usize, TurnOrder),
    CheckStore(oneshot::Sender<()>),
    Admit(loan::Admission),
}

/// One torrent's actor. Its owner must call [`Self::shutdown`].
#[derive(Debug)]
pub struct Swarm {
    handle: SwarmHandle,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// A cheap handle to a swarm; it has no power over the swarm's life.
#[derive(Debug, Clone)]
pub struct SwarmHandle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// The swarm was shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the torrent is no longer active")]
pub struct SwarmGone;

impl Swarm {
    /// Starts a torrent's actor. `peer_ends` hears of every peer that leaves; what does not fit there is not told.
    #[must_use]
    pub fn spawn(
        id: impl Into<TorrentId>,
        options: SwarmOptions,
        context: SwarmContext,
        peer_ends: mpsc::Sender<PeerEnd>,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let id = id.into();
        let shared = Arc::new(Shared {
            id,
            infohash: id.wire(),
            context,
            options,
            metadata: watch::Sender::new(Metadata::Unknown),
            peers: watch::Sender::new(0),
            own: Mutex::default(),
            tips: tips::Tips::new(),
            origins: Mutex::default(),
            completed: watch::Sender::new(false),
            board: board::Board::default(),
            admitting: Arc::new(Semaphore::new(loan::MAX_ADMITTED_AT_ONCE)),
            status: Mutex::new(status::StatusCell::new(Instant::now())),
        });
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let actor = actor::Actor::new(Arc::clone(&shared), inbox, peer_ends, tasks.clone(), cancel.clone());
        tasks.spawn(actor.run());
        tasks.close();
        Self { handle: SwarmHandle { commands, shared }, cancel, tasks }
    }

    /// A handle to give away.
    #[must_use]
    pub const fn handle(&self) -> &SwarmHandle {
        &self.handle
    }

    /// Closes every peer, ends every reader with an error, and returns when all tasks have ended.
    pub async fn shutdown(self) {
        self.cancel.cancel();
        self.tasks.wait().await;
    }
}

impl SwarmHandle {
    /// The torrent's ids, as far as they are known.
    #[must_use]
    pub fn id(&self) -> TorrentId {
        self.shared.known().map_or(self.shared.id, |known| known.id)
    }

    /// The torrent's infohash, as it is on the wire.
    #[must_use]
    pub fn infohash(&self) -> InfoHash {
        self.shared.infohash
    }

    /// Gives a connected peer, whose handshake was read and answered, to the swarm.
    ///
    /// # Errors
    /// When the swarm was shut down.
    pub async fn add_peer(
        &self,
        io: impl PeerStream,
        origin: PeerOrigin,
        handshake: Handshake,
    ) -> Result<(), SwarmGone> {
        let command = Command::AddPeer { io: Box::new(io), origin, handshake };
        self.commands.send(command).await.map_err(|_| SwarmGone)
    }

    /// Tells the swarm its metadata; the first one counts. Where it lacks the roots of pieces (BEP 52), peers are asked for
    /// them, and the metadata is known when they are here.
    ///
    /// # Errors
    /// When the swarm was shut down.
    pub async fn set_info(&self, info: Info, info_bytes: Bytes) -> Result<(), SwarmGone> {
        let command = if info.lacks_roots() {
            Command::SeekRoots { info: Box::new(info), info_bytes }
        } else {
            Command::SetInfo { known: actor::known(&self.shared, info, info_bytes) }
        };
        self.commands.send(command).await.map_err(|_| SwarmGone)
    }

    /// The metadata, if it is known.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Known>> {
        self.shared.known()
    }

    /// Why the metadata makes no sense, if that is so.
    #[must_use]
    pub fn malformed(&self) -> Option<String> {
        match &*self.shared.metadata.borrow() {
            Metadata::Malformed(reason) => Some(reason.clone()),
            Metadata::Unknown | Metadata::Known(_) => None,
        }
    }

    /// Waits until the metadata is known or known to be malformed.
    ///
    /// # Errors
    /// When the swarm is shut down first.
    pub async fn wait_known(&self) -> Result<Result<Arc<Known>, String>, SwarmGone> {
        let mut metadata = self.shared.metadata.subscribe();
        let settled = metadata.wait_for(|metadata| !matches!(metadata, Metadata::Unknown));
        let settled = tokio::select! {
            settled = settled => settled.map_err(|_| SwarmGone)?.clone(),
            () = self.commands.closed() => return Err(SwarmGone),
        };
        match settled {
            Metadata::Known(known) => Ok(Ok(known)),
            Metadata::Malformed(reason) => Ok(Err(reason)),
            Metadata::Unknown => Err(SwarmGone),
        }
    }

    /// How many peers are connected, whatever carries them, as it changes.
    #[must_use]
    pub fn peer_count(&self) -> watch::Receiver<usize> {
        self.shared.peers.subscribe()
    }

    /// Where each connected peer comes from.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerOrigin> {
        self.shared.origins.lock().values().copied().collect()
    }

    /// Waits until the last missing piece has come. For what was complete from the start, that is never.
    ///
    /// # Errors
    /// When the swarm is shut down first.
    pub async fn wait_completed(&self) -> Result<(), SwarmGone> {
        let mut completed = self.shared.completed.subscribe();
        tokio::select! {
            completed = completed.wait_for(|completed| *completed) => completed.map(|_| ()).map_err(|_| SwarmGone),
            () = self.commands.closed() => Err(SwarmGone),
        }
    }

    /// Whether the whole torrent is wanted, rarest first.
    ///
    /// # Errors
    /// When the swarm was shut down.
    pub async fn want_everything(&self, everything: bool) -> Result<(), SwarmGone> {
        self.commands.send(Command::WantEverything(everything)).await.map_err(|_| SwarmGone)
    }

    /// Which pieces are wanted though nobody reads them, rarest first. The metadata must be known.
    ///
    /// # Errors
    /// When the swarm was shut down.
    pub async fn want_pieces(&self, wanted: Bitfield) -> Result<(), SwarmGone> {
        self.commands.send(Command::WantPieces(wanted)).await.map_err(|_| SwarmGone)
    }

    /// Changes to how many peers is uploaded at a time, 0 for none, and in which order those have their turns who give
    /// nothing. Tells whether the swarm had room for the message.
    #[must_use]
    pub fn set_uploads(&self, slots: usize, order: TurnOrder) -> bool {
        self.commands.try_send(Command::SetUploads(slots, order)).is_ok()
    }

    /// Looks again at which pieces are in the store, when somebody else put some there, and returns when that is done.
    ///
    /// # Errors
    /// When the swarm was shut down.
    pub async fn check_store(&self) -> Result<(), SwarmGone> {
        let (done, wait) = oneshot::channel();
        self.commands.send(Command::CheckStore(done)).await.map_err(|_| SwarmGone)?;
        wait.await.map_err(|_| SwarmGone)
    }

    /// Begins to read `range` of the torrent's bytes, which lies within it. The metadata must be known.
    #[must_use]
    pub fn read(&self, known: &Arc<Known>, range: std::ops::Range<u64>) -> SwarmReader {
        SwarmReader::new(Arc::clone(&self.shared), Arc::clone(known), range, board::Role::Reader)
    }

    /// How the swarm is doing.
    #[must_use]
    pub fn status(&self) -> SwarmStatus {
        let known = self.known();
        let have_bytes = known.as_ref().map_or(0, |known| known.have_bytes());
        let readers = self.shared.board.readers();
        self.shared.status.lock().read(Instant::now(), have_bytes, readers)
    }

    /// How long ago the last reader left; `None` while somebody reads, fetches or stays.
    #[must_use]
    pub fn idle_for(&self, now: Instant) -> Option<Duration> {
        self.shared.board.idle_since().map(|since| now.saturating_duration_since(since))
    }
}
