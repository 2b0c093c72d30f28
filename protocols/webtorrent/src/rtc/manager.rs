//! The one owner of all connections: what it admits, what it counts, how it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString as _};
use swarmgate_webtorrent_proto::routes::PeerKey;
use swarmgate_webtorrent_proto::sdp::{RemoteDescription, Role};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use webrtc::runtime::{Runtime, TokioRuntime};

use super::connection::{Connection, Credentials, Owner};
use super::error::RtcError;
use super::lane::{Door, Lane};
use super::limits::{Pacer, receive_buffer_advice};
use super::mux::{Mux, MuxReader};
use super::offer::{Answered, PendingOffer};
use super::options::RtcOptions;
use super::socket::probe_receive_buffer;

/// Characters of a username fragment: 47 bits, so that two never meet (RFC 8445 §5.3 wants 24).
const UFRAG_CHARS: usize = 8;
/// Characters of a password: 142 bits (RFC 8445 §5.3 wants 128).
const PASSWORD_CHARS: usize = 24;

/// What there is to know of all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtcStats {
    /// Connections, open or being opened or closed.
    pub connections: usize,
    /// Offers of ours without an answer.
    pub pending_offers: usize,
    /// What the kernel granted of the receive buffer that was asked for, in bytes as it counts them; the least of all
    /// sockets.
    pub receive_buffer_bytes: usize,
    /// Bytes that were read from streams.
    pub bytes_in: u64,
    /// Bytes that were written to streams.
    pub bytes_out: u64,
    /// Datagrams on shared sockets that were nobody's or found no room.
    pub dropped_datagrams: u64,
}

/// What a connection counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Our offer, not answered yet.
    Offer,
    /// Our offer, answered.
    Offerer,
    /// Their offer.
    Answerer,
}

struct Entry {
    standing: Standing,
    connection: Arc<Connection>,
}

#[derive(Default)]
struct Book {
    closed: bool,
    last_key: u64,
    entries: BTreeMap<PeerKey, Entry>,
}

/// What the manager and its connections have in common.
pub(crate) struct Shared {
    pub(crate) options: RtcOptions,
    /// Where the library binds: port 0 at each interface.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) granted: usize,
    pub(crate) runtime: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    library: Arc<dyn Runtime>,
    muxes: Vec<Arc<Mux>>,
    book: Mutex<Book>,
    pacer: Mutex<Pacer>,
}

/// Makes and owns WebRTC connections. Made once, at start-up; cheap to clone.
#[derive(Clone)]
pub struct RtcManager {
    shared: Arc<Shared>,
    readers: Arc<Mutex<Vec<MuxReader>>>,
}

impl fmt::Debug for RtcManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RtcManager").field(&self.stats()).finish()
    }
}

impl RtcManager {
    /// Takes the shared sockets over and starts a thread for each. Warns once when the kernel grants too small a
    /// receive buffer. Must be called within a runtime, which closes connections later.
    ///
    /// # Errors
    /// When there is no address to be reached at, no runtime, or the system refuses a thread or a socket option.
    pub fn start(mut options: RtcOptions) -> Result<Self, RtcError> {
        let runtime = Handle::try_current()
            .map_err(|error| RtcError::System { what: "run without a runtime", source: io::Error::other(error) })?;
        let wanted = options.receive_buffer_bytes;
        let sockets = std::mem::take(&mut options.sockets).into_iter();
        let readers = sockets
            .map(|socket| MuxReader::start(socket, wanted, options.gate.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        let muxes: Vec<_> = readers.iter().map(|reader| Arc::clone(reader.mux())).collect();
        let addresses = bind_addresses(&muxes, &options);
        if addresses.is_empty() {
            return Err(RtcError::NoAddress);
        }
        let granted = granted(&muxes, wanted)?;
        let shared = Shared {
            pacer: Mutex::new(Pacer::new(options.new_connections_per_second)),
            options,
            addresses,
            granted,
            runtime,
            tasks: TaskTracker::new(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            library: Arc::new(TokioRuntime),
            muxes,
            book: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), readers: Arc::new(Mutex::new(readers)) })
    }

    /// Makes an offer. It is worth something until it is dropped or its life is over.
    ///
    /// # Errors
    /// When there are as many offers out as may be, or the library cannot make one.
    pub async fn offer(&self) -> Result<PendingOffer, RtcError> {
        let owner = self.shared.admit(Standing::Offer, None)?;
        self.shared.run(PendingOffer::make(owner)).await
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// When the offer is of no use, there are as many connections as may be, or too many begin at once.
    pub async fn answer(&self, offer: &str) -> Result<Answered, RtcError> {
        let begun = Instant::now();
        let remote = RemoteDescription::parse(offer, Role::Offer, |ip| self.shared.options.may_dial(ip))?;
        let owner = self.shared.admit(Standing::Answerer, Some(&remote))?;
        self.shared.wait_turn().await?;
        self.shared.run(Answered::make(owner, remote, begun)).await
    }

    /// What there is at this moment.
    #[must_use]
    pub fn stats(&self) -> RtcStats {
        let shared = &self.shared;
        let (pending_offers, connections) = shared.book.lock().count();
        RtcStats {
            connections,
            pending_offers,
            receive_buffer_bytes: shared.granted,
            bytes_in: shared.bytes_in.load(Ordering::Relaxed),
            bytes_out: shared.bytes_out.load(Ordering::Relaxed),
            dropped_datagrams: shared.muxes.iter().map(|mux| mux.dropped()).sum(),
        }
    }

    /// Closes all connections and offers, ends the threads and frees the sockets. What is still held becomes useless;
    /// nothing new begins. A second call waits for the same end.
    pub async fn shutdown(&self) {
        for connection in self.shared.close_book() {
            connection.retire();
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        let readers = std::mem::take(&mut *self.readers.lock());
        let join = tokio::task::spawn_blocking(move || readers.into_iter().for_each(MuxReader::stop));
        // It only fails in a panic that has been reported.
        let _ = join.await;
    }
}

/// Port 0 at the address of each shared socket and at each address that has none.
fn bind_addresses(muxes: &[Arc<Mux>], options: &RtcOptions) -> Vec<SocketAddr> {
    let shared = muxes.iter().map(|mux| mux.local().ip());
    let mut addresses: Vec<_> = shared.chain(options.addresses.iter().copied()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// The least receive buffer that a socket has; says once what to do about too small a one.
fn granted(muxes: &[Arc<Mux>], wanted: usize) -> Result<usize, RtcError> {
    let probe = || probe_receive_buffer(wanted);
    let granted = match muxes.iter().map(|mux| mux.granted()).min() {
        Some(granted) => granted,
        None => probe().map_err(|source| RtcError::System { what: "ask for a receive buffer", source })?,
    };
    if let Some(advice) = receive_buffer_advice(granted, wanted) {
        tracing::warn!("{advice}");
    }
    Ok(granted)
}

impl Book {
    /// Offers that are pending, and everything else.
    fn count(&self) -> (usize, usize) {
        let offers = self.entries.values().filter(|entry| entry.standing == Standing::Offer).count();
        (offers, self.entries.len() - offers)
    }

    fn check_room(&self, standing: Standing, options: &RtcOptions) -> Result<(), RtcError> {
        let (offers, connections) = self.count();
        match standing {
            _ if self.closed => Err(RtcError::ShutDown),
            Standing::Offer if offers >= options.max_pending_offers => Err(RtcError::TooManyOffers(offers)),
            Standing::Offerer | Standing::Answerer if connections >= options.max_connections => {
                Err(RtcError::TooManyConnections(connections))
            }
            Standing::Offer | Standing::Offerer | Standing::Answerer => Ok(()),
        }
    }
}

impl Shared {
    /// Makes room for a connection. It gets shared sockets unless it would meet another connection there.
    fn admit(self: &Arc<Self>, standing: Standing, remote: Option<&RemoteDescription>) -> Result<Owner, RtcError> {
        let own_sockets = !self.options.turn.is_empty() || remote.is_some_and(|remote| self.meets_another(remote));
        let mut book = self.book.lock();
        book.check_room(standing, &self.options)?;
        book.last_key += 1;
        let key = PeerKey(book.last_key);
        let mut random = rand::rng();
        let mut text = |chars| Alphanumeric.sample_string(&mut random, chars);
        let credentials = Credentials { ufrag: text(UFRAG_CHARS), password: text(PASSWORD_CHARS) };
        let doors = if own_sockets { Vec::new() } else { self.doors(key, &credentials) };
        let lane = Lane::new(Arc::clone(&self.library), key, doors, self.options.receive_buffer_bytes);
        let connection = Arc::new(Connection::new(key, Arc::new(lane), Arc::clone(self), credentials));
        book.entries.insert(key, Entry { standing, connection: Arc::clone(&connection) });
        Ok(Owner::new(connection))
    }

    fn doors(&self, key: PeerKey, credentials: &Credentials) -> Vec<Door> {
        let door = |mux: &Arc<Mux>| {
            let inbox = mux.register(key, &credentials.ufrag, &credentials.password);
            Door { mux: Arc::clone(mux), inbox }
        };
        self.muxes.iter().map(door).collect()
    }

    /// Whether some address of a description is that of a connection over a shared socket.
    fn meets_another(&self, remote: &RemoteDescription) -> bool {
        remote.candidates().iter().any(|candidate| self.is_taken(candidate.address, None))
    }

    /// Whether every address of a description is that of another connection than `key`. One alone says little: many
    /// machines have the same private address.
    pub(crate) fn is_known_elsewhere(&self, remote: &RemoteDescription, key: PeerKey) -> bool {
        let candidates = remote.candidates();
        !candidates.is_empty() && candidates.iter().all(|candidate| self.is_taken(candidate.address, Some(key)))
    }

    fn is_taken(&self, address: SocketAddr, key: Option<PeerKey>) -> bool {
        self.muxes.iter().any(|mux| mux.is_taken(address, key))
    }

    /// Counts an offer as a connection from now on.
    pub(crate) fn promote(&self, key: PeerKey) -> Result<(), RtcError> {
        let mut book = self.book.lock();
        book.check_room(Standing::Offerer, &self.options)?;
        let entry = book.entries.get_mut(&key).ok_or(RtcError::Failed)?;
        entry.standing = Standing::Offerer;
        Ok(())
    }

    pub(crate) fn is_offerer(&self, key: PeerKey) -> bool {
        self.book.lock().entries.get(&key).is_none_or(|entry| entry.standing != Standing::Answerer)
    }

    pub(crate) fn forget(&self, key: PeerKey) {
        // Dropped outside of the lock: a connection holds what holds this.
        let entry = self.book.lock().entries.remove(&key);
        drop(entry);
    }

    fn close_book(&self) -> Vec<Arc<Connection>> {
        let mut book = self.book.lock();
        book.closed = true;
        book.entries.values().map(|entry| Arc::clone(&entry.connection)).collect()
    }

    /// Lets new connections begin no faster than the options say.
    pub(crate) async fn wait_turn(&self) -> Result<(), RtcError> {
        let turn = self.pacer.lock().turn(Instant::now());
        tokio::time::sleep(turn.ok_or(RtcError::TooFast)?).await;
        Ok(())
    }

    /// Runs to the end what must not be dropped half-way: the library leaks a connection whose making is abandoned. If
    /// the caller is gone by then, the result is dropped, and closes what it made.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RtcError>> + Send + 'static,
    ) -> Result<T, RtcError> {
        self.tasks.spawn_on(work, &self.runtime).await.unwrap_or(Err(RtcError::Failed))
    }

    pub(crate) fn count(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
