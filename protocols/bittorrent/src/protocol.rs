//! BitTorrent as one of the gateway's protocols: knows the items, runs the active ones, answers resolve and open.
//!
//! An item is known (it has a record here) and, while somebody reads it or it was asked to stay, active (it has a swarm).
//! Nobody need add an item: asking for its infohash makes it known and active. When no one has read it for the grace
//! it is dropped, and its data stays in the cache.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use socket2::SockRef;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_content::{
    Attempt, BlockHash, BoxFuture, ByteRange, Capabilities, ContentId, ContentMeta, ContentReader, Event, FetchError,
    FetchErrorKind, FileRef, Health, HealthState, Hints, InfoHash, Protocol, ProtocolKind, ResolveRequest, Stage,
    StatsSnapshot, TorrentId,
};
use swarmgate_swarm::greeting::HandshakeError;
use swarmgate_swarm::{Known, PeerOrigin, SwarmContext, SwarmOptions, SwarmReader, SwarmStatus};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::active::{Environment, upgrade_of};
use crate::dht::DhtHandle;
use crate::finding::FindingOptions;
use crate::inbound::{Entrance, Inbound, InboundHandler, InboundLimits};
use crate::items::{AddItemError, Engine, ITEMS_TABLE, Item, save};
use crate::lsd::{LocalNetwork, LsdSockets};
use crate::obfuscated::Encryption;
use crate::outbound::Outbound;
use crate::peer_lists::{ListError, PeerLists};
use crate::peer_stream::PeerStream;
use crate::queue::QueueLimits;
use crate::record::Record;
use crate::route::{Outlet, Route};
use crate::seeding::{UploadPolicy, UploadRules};
use crate::tracker_client::TrackerClient;
use crate::utp::UtpPort;
use swarmgate_egress::{EgressPolicy, HttpClient, HttpError, PeerGate, Way};

/// The protocol's settings.
#[derive(Debug, Clone)]
pub struct BitTorrentOptions {
    /// Which addresses may be dialled.
    pub egress: EgressPolicy,
    /// Which way connections take. With a proxy nothing goes another way: no UDP, and nobody can dial us.
    pub route: Route,
    /// Whether connections to peers are encrypted.
    pub encryption: Encryption,
    /// Trackers that public torrents are announced to besides their own.
    pub trackers: Vec<String>,
    /// Peers connected to one torrent at a time.
    pub max_peers_per_torrent: usize,
    /// Peers connected in all.
    pub max_peers: usize,
    /// Outgoing connections not yet established, in all.
    pub max_half_open: usize,
    /// Torrents active at a time.
    pub max_active: usize,
    /// How long a torrent stays active after its last reader.
    pub idle_grace: Duration,
    /// When and to whom to upload.
    pub uploads: UploadRules,
    /// Items added to stay that may be active while nobody reads them.
    pub queue: QueueLimits,
    /// Bytes that pieces in flight may occupy, per torrent.
    pub max_partial_bytes: u64,
    /// Bytes kept behind a reader, for those who seek back.
    pub keep_behind_bytes: u64,
    /// How peers are found and which are let in.
    pub finding: FindingOptions,
    /// The torrents that are taken up again at the start, by either name; `None` takes up all that were asked to stay.
    /// What is not taken up is remembered for another start.
    pub restored: Option<Arc<BTreeSet<ContentId>>>,
}

impl BitTorrentOptions {
    /// Whether a torrent that was asked to stay is taken up again.
    pub(crate) fn restores(&self, id: &TorrentId) -> bool {
        let names = [id.v1().map(ContentId::BtV1), id.v2().map(ContentId::BtV2)];
        self.restored.as_ref().is_none_or(|all| names.iter().flatten().any(|name| all.contains(name)))
    }
}

/// The protocol's sockets, bound at start-up. Without a TCP listener nobody can dial us.
#[derive(Debug, Default)]
pub struct BitTorrentSockets {
    /// For peers.
    pub tcp: Option<TcpListener>,
    /// For UDP trackers over IPv4.
    pub udp_v4: Option<UdpSocket>,
    /// For UDP trackers over IPv6.
    pub udp_v6: Option<UdpSocket>,
    /// For calling out in the local network; `None` does not.
    pub lsd: Option<LsdSockets>,
    /// For peers over uTP, under the number of the TCP port: who tells of us tells one number.
    pub utp: Option<UdpSocket>,
}

/// Why the protocol did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client for HTTP trackers.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The listener.
    #[error("the peers' listener has no address: {0}")]
    Listener(#[from] std::io::Error),
    /// The records of items that were asked to stay.
    #[error("the list of items cannot be read: {0}")]
    Records(String),
    /// A list of peers.
    #[error(transparent)]
    List(#[from] ListError),
}

/// See the module's head. Its owner must call [`Protocol::shutdown`].
#[derive(Debug)]
pub struct BitTorrentProtocol {
    pub(crate) engine: Arc<Engine>,
    inbound: Mutex<Vec<Inbound>>,
    utp: Mutex<Option<UtpPort>>,
    listen: Option<SocketAddr>,
}

impl BitTorrentSockets {
    /// Every socket, with its transport.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let trackers = [&self.udp_v4, &self.udp_v6].into_iter().flatten();
        let trackers = trackers.filter_map(|socket| socket.local_addr().ok());
        let lsd = self.lsd.iter().flat_map(LsdSockets::addresses);
        self.peer_addresses().chain(trackers.chain(lsd).map(|address| ("udp", address)))
    }
}

impl BitTorrentSockets {
    /// Those that peers dial.
    pub fn peer_addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let tcp = self.tcp.iter().filter_map(|socket| socket.local_addr().ok()).map(|address| ("tcp", address));
        let utp = self.utp.iter().filter_map(|socket| socket.local_addr().ok()).map(|address| ("udp", address));
        tcp.chain(utp)
    }

    /// Holds every socket to an outlet.
    ///
    /// # Errors
    /// When there is no such interface, or the system cannot do that.
    pub fn hold(&self, outlet: &Outlet) -> std::io::Result<()> {
        if let Some(tcp) = &self.tcp {
            outlet.hold(&SockRef::from(tcp))?;
        }
        [&self.udp_v4, &self.udp_v6, &self.utp]
            .into_iter()
            .flatten()
            .try_for_each(|udp| outlet.hold(&SockRef::from(udp)))
    }
}

impl BitTorrentProtocol {
    /// Starts listening, and the items that were asked to stay.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        options: BitTorrentOptions,
        sockets: BitTorrentSockets,
        dht: Option<DhtHandle>,
        mut context: SwarmContext,
    ) -> Result<Arc<Self>, StartError> {
        // Whatever was bound, it would go around the proxy.
        let proxied = options.route.proxy.is_some();
        let (sockets, dht) = if proxied { (BitTorrentSockets::default(), None) } else { (sockets, dht) };
        let http = HttpClient::by(options.egress, options.route.http())?;
        let listen = sockets.tcp.as_ref().map(TcpListener::local_addr).transpose()?;
        let gate = PeerGate::new(options.egress, options.finding.ban_time);
        let lists = PeerLists::load(&options.finding, &gate).await?;
        context.exchange = options.finding.exchange(listen.map(|listen| listen.port()), sockets.utp.is_some());
        let tracker_client = TrackerClient::new(http.clone(), options.egress, sockets.udp_v4, sockets.udp_v6);
        let max_streams = options.max_peers + options.max_half_open + InboundLimits::default().half_open;
        let utp = sockets.utp.map(|socket| UtpPort::start(socket, max_streams)).transpose()?;
        let outbound = Outbound::new(options.route.clone(), options.encryption, utp.clone());
        let environment = Environment {
            outbound: Arc::new(outbound),
            swarm: SwarmOptions {
                max_partial_bytes: options.max_partial_bytes,
                upload_slots: options.uploads.slots,
                max_peers: options.max_peers_per_torrent,
                keep_behind_bytes: options.keep_behind_bytes,
                seed: rand::random(),
            },
            context,
            gate: gate.clone(),
            half_open: Arc::new(Semaphore::new(options.max_half_open)),
            peer_slots: Arc::new(Semaphore::new(options.max_peers)),
            tracker_client: Arc::new(tracker_client),
            dht,
            // Who cannot be dialled has no port to call out.
            lsd: sockets.lsd.zip(listen).map(|(sockets, listen)| LocalNetwork::start(sockets, listen.port())),
            extra_trackers: options.trackers.clone(),
            peer_id: PeerId::ours(rand::random()),
            listen,
            outside: watch::Sender::new(listen.map(|listen| listen.port())),
        };
        let engine = Arc::new(Engine {
            environment,
            uploads: Mutex::new(options.uploads),
            house: Notify::new(),
            options,
            items: Mutex::default(),
            http,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let limits = InboundLimits {
            loopback_exempt: engine.options.egress.allow_private,
            encryption: engine.options.encryption,
            ..InboundLimits::default()
        };
        let entrances = [sockets.tcp.map(Entrance::from), utp.as_ref().and_then(UtpPort::entrance).map(Entrance::from)];
        let inbound = entrances.into_iter().flatten();
        let inbound =
            inbound.map(|entrance| Inbound::spawn(entrance, limits, Arc::new(Door(engine.clone())))).collect();
        engine.restore().await?;
        engine.tasks.spawn(engine.clone().keep_up());
        engine.tasks.spawn(lists.follow(gate, engine.stop.clone()));
        engine.tasks.close();
        Ok(Arc::new(Self { engine, inbound: Mutex::new(inbound), utp: Mutex::new(utp), listen }))
    }

    /// Where peers can dial us.
    #[must_use]
    pub const fn listen_address(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Tells by which port the world reaches us, where a router forwards another than the one we listen on; `None`: by that
    /// one. Trackers, the DHT and peers are told of it from now on.
    pub fn set_outside_port(&self, outside: Option<u16>) {
        let port = outside.or_else(|| self.listen.map(|listen| listen.port()));
        self.engine.environment.outside.send_if_modified(|told| std::mem::replace(told, port) != port);
    }

    /// The gate that every peer passes. WebRTC's have to be led to it, too.
    #[must_use]
    pub fn gate(&self) -> &PeerGate {
        &self.engine.environment.gate
    }

    /// The client for URLs that users and torrents name; it obeys the egress policy.
    #[must_use]
    pub fn http_client(&self) -> &HttpClient {
        &self.engine.http
    }

    /// Adds a torrent by its metainfo; `keep` asks it to stay. Tells whether it was known already.
    ///
    /// # Errors
    /// [`AddItemError`].
    pub async fn add_metainfo(&self, metainfo: Metainfo, keep: bool) -> Result<bool, AddItemError> {
        let Metainfo { id, infohash, info, info_bytes, announce, web_seeds, .. } = metainfo;
        let web_seeds = if info.private { Vec::new() } else { web_seeds };
        let (name, v2, private) = (Some(info.name.clone()), id.v2(), info.private);
        let record =
            Record { trackers: announce.clone(), web_seeds, name, v2, private, kept: keep, ..Record::default() };
        self.engine.keep_info(id, &info, &info_bytes).await;
        // A hybrid torrent may be here under its other name.
        let names = [Some(infohash), id.v2().map(|v2| v2.truncated())].into_iter().flatten();
        let infohash = {
            let items = self.engine.items.lock();
            names.map(|name| items.key(name)).find(|key| items.records.contains_key(key)).unwrap_or(infohash)
        };
        let waits = keep && !self.engine.has_place();
        let already = self.engine.remember(infohash, record);
        let paused = self.engine.items.lock().is_paused(&infohash);
        if (waits && !already) || paused {
            self.engine.persist(infohash).await;
            self.engine.house.notify_one();
            return Ok(already);
        }
        let torrent = self.engine.activate(infohash, Some((info.clone(), info_bytes.clone())))?;
        self.engine.items.lock().link(infohash, id);
        torrent.add_trackers(&announce);
        // A torrent that was resolving learns its metadata here.
        let complete = !info.lacks_roots();
        torrent.handle().set_info(info, info_bytes).await.map_err(|_| AddItemError::ShuttingDown)?;
        if complete {
            torrent.handle().wait_known().await.map_err(|_| AddItemError::ShuttingDown)?.ok();
        }
        self.engine.persist(infohash).await;
        Ok(already)
    }

    /// Makes a torrent known and active by its infohash and what may help; `keep` asks it to stay. Tells whether it was
    /// known already.
    ///
    /// # Errors
    /// [`AddItemError`].
    pub fn add_hints(&self, id: impl Into<TorrentId>, hints: &Hints, keep: bool) -> Result<bool, AddItemError> {
        let id = id.into();
        let infohash = self.key(id.wire());
        let v2 = id.v2().filter(|v2| v2.truncated() == infohash);
        let record = Record { kept: keep, v2, ..self.engine.welcome(infohash, hints) };
        let waits = keep && !self.engine.has_place();
        let already = self.engine.remember(infohash, record);
        let engine = self.engine.clone();
        if engine.items.lock().closed {
            return Err(AddItemError::ShuttingDown);
        }
        let hints = hints.clone();
        self.engine.tasks.spawn(async move {
            if waits && !already {
                engine.house.notify_one();
                return engine.persist(infohash).await;
            }
            match engine.activate_from_store(infohash).await {
                Ok(torrent) => torrent.add_hints(&hints),
                Err(error) => tracing::info!(%infohash, %error, "an added item is not active"),
            }
            engine.persist(infohash).await;
        });
        Ok(already)
    }

    /// The name that a torrent is known by here, whichever of its names this is.
    fn key(&self, wire: InfoHash) -> InfoHash {
        self.engine.items.lock().key(wire)
    }

    fn key_of(&self, id: &ContentId) -> Option<InfoHash> {
        match id {
            ContentId::BtV1(v1) => Some(self.key(*v1)),
            ContentId::BtV2(v2) => Some(self.key(v2.truncated())),
            ContentId::Ipfs(_) => None,
        }
    }

    /// Every known item.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let items = self.engine.items.lock();
        items.records.iter().map(|(infohash, record)| items.describe(infohash, record)).collect()
    }

    /// One item, with its relatives and what its trackers say of its swarm; when that is old, they are asked for the next
    /// time.
    #[must_use]
    pub fn item(&self, infohash: &InfoHash) -> Option<Item> {
        let items = self.engine.items.lock();
        let key = items.key(*infohash);
        let item = items.records.get(&key).map(|record| items.describe(&key, record))?;
        let active = items.active.get(&key);
        let known = active.and_then(|torrent| torrent.handle().known());
        let related = known.map(|known| known.info.related.clone()).unwrap_or_default();
        Some(Item { related, swarm_size: active.and_then(|torrent| torrent.swarm_size()), ..item })
    }

    /// Changes when and to whom is uploaded, of items that are active too.
    pub fn set_uploads(&self, rules: UploadRules) {
        *self.engine.uploads.lock() = rules;
        self.engine.apply_policies();
        self.engine.house.notify_one();
    }

    /// Gives an item a policy of its own for uploading, or takes it away. Tells whether the item is known.
    pub async fn set_policy(&self, infohash: &InfoHash, policy: Option<UploadPolicy>) -> bool {
        let key = {
            let mut items = self.engine.items.lock();
            let key = items.key(*infohash);
            let Some(record) = items.records.get_mut(&key) else { return false };
            record.policy = policy;
            key
        };
        self.engine.apply_policies();
        self.engine.house.notify_one();
        self.engine.persist(key).await;
        true
    }

    /// A torrent's metadata, if it is active and known.
    #[must_use]
    pub fn known(&self, infohash: &InfoHash) -> Option<Arc<Known>> {
        let items = self.engine.items.lock();
        items.active.get(&items.key(*infohash))?.handle().known()
    }

    /// How an active torrent's swarm is doing.
    #[must_use]
    pub fn status(&self, infohash: &InfoHash) -> Option<SwarmStatus> {
        Some(self.engine.items.lock().active.get(infohash)?.handle().status())
    }

    /// The connected peers of a torrent, whatever carries them; none when it is not active.
    #[must_use]
    pub fn peers(&self, infohash: &InfoHash) -> Vec<PeerOrigin> {
        let items = self.engine.items.lock();
        items.active.get(infohash).map_or_else(Vec::new, |torrent| torrent.handle().peers())
    }

    /// Reads a range of an active torrent's bytes, across files.
    #[must_use]
    pub fn reader(&self, infohash: &InfoHash, known: &Arc<Known>, range: std::ops::Range<u64>) -> Option<SwarmReader> {
        Some(self.engine.items.lock().active.get(infohash)?.handle().read(known, range))
    }

    /// A torrent as a `.torrent` file, once its metadata is known.
    #[must_use]
    pub fn torrent_file(&self, infohash: &InfoHash) -> Option<Vec<u8>> {
        let known = self.known(infohash)?;
        let key = self.key(*infohash);
        let trackers = self.engine.items.lock().records.get(&key).map(|record| record.trackers.clone());
        let mut metainfo = Metainfo::from_info(known.info_bytes.clone(), trackers.unwrap_or_default()).ok()?;
        metainfo.info.roots.clone_from(&known.info.roots);
        let web_seeds = self.engine.web_seeds(&key, &known);
        Some(Metainfo { web_seeds, ..metainfo }.to_torrent())
    }

    /// Looks again at what the store has of a torrent, when somebody else put blocks there.
    pub async fn check_store(&self, infohash: &InfoHash) {
        let torrent = self.engine.items.lock().active.get(infohash).cloned();
        if let Some(torrent) = torrent {
            // Gone means removed meanwhile.
            let _ = torrent.handle().check_store().await;
        }
    }

    /// Forgets an item; its readers end with an error. `purge` removes its data from the cache too. Tells whether it was known.
    pub async fn remove(&self, infohash: &InfoHash, purge: bool) -> bool {
        let known = self.known(infohash);
        let infohash = self.key(*infohash);
        let (record, torrent, id) = {
            let mut items = self.engine.items.lock();
            let id = items.id(infohash);
            (items.records.remove(&infohash), items.active.remove(&infohash), id)
        };
        if let Some(torrent) = torrent {
            torrent.shutdown().await;
        }
        self.engine.let_go(infohash);
        let store = &self.engine.environment.context.store;
        if let Err(error) = store.delete_record(ITEMS_TABLE, infohash.as_bytes()).await {
            tracing::warn!(%infohash, %error, "an item's record was not deleted");
        }
        if let (true, Some(known)) = (purge, known) {
            for piece in 0..known.info.piece_count() {
                if let Some(hash) = known.info.piece_hash(piece) {
                    store.remove(&hash).await;
                }
            }
            for name in [known.id.v1().map(TorrentId::V1), known.id.v2().map(TorrentId::V2)].into_iter().flatten() {
                store.remove(&BlockHash::from(name)).await;
            }
        }
        self.engine.house.notify_one();
        if record.is_some() {
            self.engine.publish(Event::ItemRemoved { item: id.content() });
        }
        record.is_some()
    }
}

impl Protocol for BitTorrentProtocol {
    fn kind(&self) -> ProtocolKind {
        ProtocolKind::BitTorrent
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { infohash_v1: true, infohash_v2: true, cid: false, ranges: true }
    }

    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
        Box::pin(async move {
            let Some(infohash) = self.key_of(&request.id) else { return Err(unsupported(request.id)) };
            let stats = &self.engine.environment.context.stats;
            let result = self.engine.resolve(infohash, request).await;
            if result.is_ok() {
                stats.resolved(1)
            } else {
                stats.resolve_failed(1)
            }
            result
        })
    }

    fn open(&self, file: FileRef, range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
        Box::pin(async move {
            let Some(infohash) = self.key_of(&file.id) else { return Err(unsupported(file.id)) };
            let result = self.engine.open(infohash, file, range).await;
            self.engine.environment.context.stats.opened(u64::from(result.is_ok()));
            result
        })
    }

    fn attempts(&self, id: &ContentId) -> Vec<Attempt> {
        let torrent = self.key_of(id).and_then(|infohash| self.engine.items.lock().active.get(&infohash).cloned());
        torrent.map_or_else(Vec::new, |torrent| torrent.attempts(&self.engine.environment))
    }

    fn health(&self) -> Health {
        let environment = &self.engine.environment;
        let nodes = environment.dht.as_ref().map(|dht| dht.stats().map_or(0, |stats| stats.nodes_v4 + stats.nodes_v6));
        let listening =
            self.listen.map_or_else(|| "no listener".to_owned(), |address| format!("listening on {address}"));
        let dht = nodes.map_or_else(|| "DHT off".to_owned(), |nodes| format!("{nodes} DHT nodes known"));
        if let Some(proxy) = &self.engine.options.route.proxy {
            let evidence = format!("all through {proxy}: no listener, no uTP, no UDP trackers, no DHT");
            return Health { state: HealthState::Ok, evidence };
        }
        let outlet = match &self.engine.options.route.outlet {
            Outlet::Any => String::new(),
            Outlet::Interface(name) => format!(", all by {name}"),
            Outlet::Address(address) => format!(", all from {address}"),
        };
        let utp = if self.utp.lock().is_some() { "uTP on" } else { "uTP off" };
        let state = if self.listen.is_some() { HealthState::Ok } else { HealthState::Degraded };
        Health { state, evidence: format!("{listening}, {utp}, {dht}{outlet}") }
    }

    fn stats(&self) -> StatsSnapshot {
        self.engine.environment.context.stats.snapshot()
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let inbound = std::mem::take(&mut *self.inbound.lock());
            join_all(inbound.into_iter().map(Inbound::shutdown)).await;
            self.engine.stop.cancel();
            let (active, kept) = {
                let mut items = self.engine.items.lock();
                items.closed = true;
                let settled = items.active.keys().filter_map(|infohash| Some((*infohash, items.settled(infohash)?)));
                let kept: Vec<_> = settled.filter(|(_, record)| record.kept).collect();
                (std::mem::take(&mut items.active), kept)
            };
            for (infohash, record) in kept {
                save(&self.engine.environment.context.store, infohash, &record).await;
            }
            let all = join_all(active.values().map(|torrent| torrent.shutdown()));
            let gone = async {
                all.await;
                self.engine.tasks.wait().await;
                self.engine.environment.tracker_client.shutdown().await;
                if let Some(lsd) = &self.engine.environment.lsd {
                    lsd.shutdown().await;
                }
                let utp = self.utp.lock().take();
                if let Some(utp) = utp {
                    utp.shutdown().await;
                }
            };
            if tokio::time::timeout_at(deadline.into(), gone).await.is_err() {
                tracing::warn!("BitTorrent did not stop in time");
            }
        })
    }
}

fn unsupported(id: ContentId) -> FetchError {
    FetchError::new(id, Stage::Resolve, FetchErrorKind::Unsupported, "BitTorrent serves infohashes")
}

/// Who dials us: welcome when its torrent is active.
#[derive(Debug)]
struct Door(Arc<Engine>);

impl InboundHandler for Door {
    fn admits(&self, from: SocketAddr) -> bool {
        self.0.environment.gate.check_accept(Instant::now(), from, Way::Tcp).is_ok()
    }

    fn answer(&self, theirs: &Handshake, _from: SocketAddr) -> Result<Handshake, HandshakeError> {
        let environment = &self.0.environment;
        if theirs.peer_id == environment.peer_id {
            return Err(HandshakeError::Ourselves);
        }
        let items = self.0.items.lock();
        let Some(torrent) = items.active.get(&items.key(theirs.infohash)) else {
            return Err(HandshakeError::TurnedAway("its torrent is not active here"));
        };
        let id = torrent.handle().id();
        // Who would rather speak of a hybrid torrent's v2 half is answered for that (BEP 52).
        let named = upgrade_of(id).filter(|_| theirs.v2()).unwrap_or(theirs.infohash);
        let ours = Handshake::ours(named, environment.peer_id);
        Ok(if id.v2().is_some() { ours.or_v2() } else { ours })
    }

    fn torrents(&self) -> Vec<InfoHash> {
        let items = self.0.items.lock();
        let aliases = items.aliases.iter().filter(|(_, key)| items.active.contains_key(key));
        items.active.keys().copied().chain(aliases.map(|(name, _)| *name)).collect()
    }

    fn accept(&self, peer: PeerStream) {
        let torrent = {
            let items = self.0.items.lock();
            items.active.get(&items.key(peer.handshake.infohash)).cloned()
        };
        if let Some(torrent) = torrent {
            torrent.accept(peer, &self.0.environment.peer_slots);
        }
    }
}
