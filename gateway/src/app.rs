//! The composition root: everything that runs is made here, in order, and stopped in reverse.
//!
//! ```text
//! App
//! ├── http          accept loops and their connections        started last, stopped first
//! ├── manager       the registered protocols
//! │   ├── hybrid       contents that several networks have; stands on those below
//! │   ├── ipfs         readings of DAGs, names, pins
//! │   ├── webtorrent   WebRTC, WebSocket trackers, the tracker at /announce
//! │   └── bittorrent   peers' listener, trackers, torrents
//! ├── mapper        has the router forward ports
//! ├── delivery      IPFS's libp2p node, gateways and daemon; the protocol borrows them
//! ├── traces        spans of requests on their way to a collector, with the feature `otel`
//! ├── dht           the one node; protocols borrow a handle
//! └── store         closed last, so that a clean stop is known to be clean
//! ```
//!
//! Sockets come from outside, bound once ([`Listeners`]), so nothing here asks whether a port is free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmgate_bittorrent::dht::{DhtNode, DhtOptions};
use swarmgate_bittorrent::{BitTorrentOptions, BitTorrentProtocol, BitTorrentSockets};
use swarmgate_config::{Config, Loaded, Sources};
use swarmgate_content::{Event, EventBus, ManagerError, ProtocolManager};
use swarmgate_hybrid::{BindingBook, HybridProtocol};
use swarmgate_hybrid_rules::Network;
use swarmgate_ipfs::IpfsProtocol;
use swarmgate_ipfs::delivery::{Delivery, DeliveryError};
use swarmgate_ipfs::node::Node;
use swarmgate_portmap::{MapperOptions, MappingStatus, PortMapper, Transport, Wanted};
use swarmgate_store::{OpenError, Store, StoreEvent};
use swarmgate_swarm::SwarmContext;
use swarmgate_webtorrent::WebTorrentProtocol;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod options;

pub(crate) use options::{
    bittorrent_options, denylists, dht_options, egress, link_key, store_options, webtorrent_options,
};
use options::{http_options, own_authorities};

use crate::auth::CredentialsError;
use crate::catalogue::Catalogue;
use crate::hybrid::{self, Lenders};
use crate::ipfs;
use crate::listeners::{Listeners, ListenersError};
use crate::live::Live;
use crate::pinning::Pinning;
use crate::pointers::Pointers;
use crate::policy::{Denylists, ListError};
use crate::publish::{Jobs, Publisher};
use crate::reload::Reloader;
use crate::server::{self, ServeLimits};
use crate::settings;
use crate::state::{FetchTorrent, GatewayState, HttpOptions, Parts};
use crate::torrents::{NoTorrents, Torrents};
use crate::traces::{Traces, TracesError};

/// How long running responses may go on once the application is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the application did not start. Each sentence names the option to change.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// A socket.
    #[error(transparent)]
    Listen(#[from] ListenersError),
    /// The cache.
    #[error("the cache cannot be opened: {0}")]
    Store(#[from] OpenError),
    /// The DHT.
    #[error(transparent)]
    Dht(#[from] swarmgate_bittorrent::dht::DhtError),
    /// BitTorrent.
    #[error(transparent)]
    BitTorrent(#[from] swarmgate_bittorrent::StartError),
    /// WebTorrent.
    #[error(transparent)]
    WebTorrent(#[from] swarmgate_webtorrent::StartError),
    /// IPFS: what delivers blocks.
    #[error("IPFS: {0}")]
    Delivery(#[from] DeliveryError),
    /// IPFS: a link of a host.
    #[error(transparent)]
    Ipfs(#[from] ipfs::BadLink),
    /// IPFS: the list of pins.
    #[error("the pins cannot be read: {0}")]
    Pins(#[from] swarmgate_ipfs::pins::PinError),
    /// Hybrid: which names are the same bytes.
    #[error(transparent)]
    Hybrid(#[from] hybrid::HybridError),
    /// The tokens and users.
    #[error("auth.credentials: {0}")]
    Credentials(#[from] CredentialsError),
    /// The key of signed links.
    #[error("the key of signed links in {0}: {1}")]
    LinkKey(std::path::PathBuf, #[source] std::io::Error),
    /// The webtorrent that the operator installed.
    #[error("ui.webtorrent {}: {source}", path.display())]
    WebTorrentScript {
        /// The file.
        path: std::path::PathBuf,
        /// Why it cannot be served.
        source: std::io::Error,
    },
    /// A list of what is not served, or of what alone is.
    #[error(transparent)]
    List(#[from] ListError),
    /// The collector that is told of requests.
    #[error("observe.otlp_endpoint: {0}")]
    Traces(#[from] TracesError),
    /// A protocol was registered twice: a bug, caught.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The directory of an ephemeral cache.
    #[error("no directory for an ephemeral cache: {0}")]
    Ephemeral(#[source] std::io::Error),
}

/// One running gateway. Two in one process do not meet. Its owner must call [`Self::shutdown`].
#[derive(Debug)]
pub struct App {
    http: TaskTracker,
    /// Tells the store's news to the event bus.
    news: TaskTracker,
    closing: CancellationToken,
    manager: Arc<ProtocolManager>,
    bittorrent: Option<Arc<BitTorrentProtocol>>,
    webtorrent: Option<Arc<WebTorrentProtocol>>,
    ipfs: Option<Arc<IpfsProtocol>>,
    hybrid: Option<Arc<HybridProtocol>>,
    delivery: Option<Delivery>,
    dht: Option<DhtNode>,
    mapper: Option<PortMapper>,
    live: Arc<Live>,
    reloader: Option<Arc<Reloader>>,
    traces: Traces,
    store: Store,
    ephemeral: Option<EphemeralDir>,
    addresses: Vec<SocketAddr>,
    sockets: Vec<(&'static str, SocketAddr)>,
}

/// A fresh directory below the cache directory, deleted at the end.
#[derive(Debug)]
pub(crate) struct EphemeralDir(std::path::PathBuf);

impl App {
    /// Starts what a program has configured. See [`Self::build_loaded`].
    ///
    /// # Errors
    /// [`StartupError`]; a required part that fails fails the start.
    pub async fn build(config: &Config, listeners: Listeners) -> Result<Self, StartupError> {
        Self::build_loaded(&Loaded { config: config.clone(), origins: BTreeMap::new() }, None, listeners).await
    }

    /// Starts everything: store, DHT, BitTorrent, and HTTP last. What has started is stopped again when a later part fails.
    /// With its sources, the configuration can be read again.
    ///
    /// # Errors
    /// [`StartupError`]; a required part that fails fails the start.
    pub async fn build_loaded(
        loaded: &Loaded,
        sources: Option<&Sources>,
        listeners: Listeners,
    ) -> Result<Self, StartupError> {
        let config = &loaded.config;
        let live = Live::new(config);
        let reloader =
            |sources: &Sources| Arc::new(Reloader::new(Arc::clone(&live), listeners.tls.clone(), sources.clone()));
        let reloader = sources.map(reloader);
        let sockets = listeners.declared();
        let (options, ephemeral) = store_options(config)?;
        let store = Store::open(options).await?;
        let events = EventBus::new();
        live.tell_on(&events);
        let closing = CancellationToken::new();
        let news = TaskTracker::new();
        news.spawn(tell_evictions(store.subscribe(), events.clone(), closing.clone()));
        news.close();
        let mut app = Self {
            http: TaskTracker::new(),
            news,
            closing: closing.clone(),
            manager: Arc::new(ProtocolManager::new(events.clone())),
            bittorrent: None,
            webtorrent: None,
            ipfs: None,
            hybrid: None,
            delivery: None,
            dht: None,
            mapper: None,
            live,
            reloader,
            traces: Traces::default(),
            store,
            ephemeral,
            addresses: listeners.http_addresses(),
            sockets,
        };
        match app.start(loaded, listeners, events).await {
            Ok(()) => Ok(app),
            Err(error) => {
                app.shutdown(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    async fn start(&mut self, loaded: &Loaded, listeners: Listeners, events: EventBus) -> Result<(), StartupError> {
        let config = &loaded.config;
        let Listeners { http, peers, webrtc, mapping, .. } = listeners;
        let mut ports = peers.iter().flat_map(BitTorrentSockets::peer_addresses).collect::<Vec<_>>();
        if config.webtorrent.listen_port != 0 {
            ports.extend(webrtc.iter().flatten().filter_map(|socket| Some(("udp", socket.local_addr().ok()?))));
        }
        self.traces = Traces::start(config)?;
        let denylists = denylists(config)?;
        if let Some(reloader) = &self.reloader {
            reloader.lead(&denylists);
        }
        // Without its sockets it was switched off: then there is no engine, so that nothing is dialled or announced.
        let (catalogue, fetch_torrent): (Arc<dyn Catalogue>, Arc<dyn FetchTorrent>) = match peers {
            Some(sockets) => {
                let context = SwarmContext { pace: self.live.peers(), ..SwarmContext::new(self.store.clone(), events) };
                let engine = self.start_bittorrent(config, &denylists, sockets, context.clone()).await?;
                if let Some(sockets) = webrtc {
                    self.start_webtorrent(config, sockets, &context)?;
                }
                let torrents = Arc::new(Torrents::new(engine));
                (torrents.clone(), torrents)
            }
            None => (Arc::new(NoTorrents), Arc::new(NoTorrents)),
        };
        if config.ipfs.enabled {
            self.start_ipfs(config, &denylists).await?;
        }
        if let Some(socket) = mapping {
            self.start_mapping(config, socket, ports);
        }
        let book = BindingBook::open(self.store.clone()).await.map_err(hybrid::HybridError::from)?;
        if config.hybrid.enabled {
            self.start_hybrid(config, book.clone())?;
        }
        let options = HttpOptions { link_key: Some(link_key(config)?), ..http_options(config)? };
        let publishing = self.publishing(config, &catalogue, &options, book);
        let pinning = self.pinning(config);
        if let Some(pinning) = &pinning {
            pinning.resume().await?;
        }
        let (store, loaded, live) = (self.store.clone(), loaded.clone(), Arc::clone(&self.live));
        let state = GatewayState::new(Parts {
            manager: Arc::clone(&self.manager),
            catalogue,
            fetch_torrent,
            ipfs: self.ipfs.clone(),
            webtorrent: self.webtorrent.clone(),
            pinning,
            hybrid: self.hybrid.clone(),
            publishing,
            pointers: self.dht.as_ref().map(|dht| Pointers::new(dht.handle())),
            denylists,
            mapping: self.mapper.as_ref().map(PortMapper::status),
            gate: self.bittorrent.as_ref().map(|bittorrent| bittorrent.gate().clone()),
            tracker: self.webtorrent.as_ref().and_then(|webtorrent| webtorrent.hub().cloned()),
            store: self.store.clone(),
            cache_status: Arc::new(move || cache_status(&store)),
            settings: Arc::new(move || settings::list(&loaded, &live)),
            options,
            live: Some(Arc::clone(&self.live)),
            reloader: self.reloader.clone(),
            pace: self.live.clients(),
            rates: self.live.rates(),
            traces: self.traces.clone(),
            closing: self.closing.clone(),
        });
        let router = server::router(state);
        for socket in http {
            let limits = ServeLimits { drain: DRAIN, ..ServeLimits::default() };
            self.http.spawn(server::serve(socket, router.clone(), self.closing.clone(), limits));
        }
        self.http.close();
        Ok(())
    }

    /// Has the router forward what peers dial; nothing waits for it.
    fn start_mapping(
        &mut self,
        config: &Config,
        socket: tokio::net::UdpSocket,
        mut ports: Vec<(&'static str, SocketAddr)>,
    ) {
        ports.extend(self.dht.as_ref().map(|dht| ("udp", dht.address())));
        if config.ipfs.public {
            ports.extend(self.delivery.iter().flat_map(Delivery::sockets));
        }
        let mapper = PortMapper::start(socket, MapperOptions { ports: wanted(&ports), router: None });
        if let Some(bittorrent) = &self.bittorrent {
            self.news.spawn(tell_outside(mapper.status(), Arc::clone(bittorrent), self.closing.clone()));
        }
        self.mapper = Some(mapper);
    }

    /// Publishing, where both networks are that it is for. Its jobs end with the server.
    fn publishing(
        &self,
        config: &Config,
        catalogue: &Arc<dyn Catalogue>,
        options: &HttpOptions,
        book: BindingBook,
    ) -> Option<Jobs> {
        let (ipfs, _) = (self.ipfs.as_ref()?, self.bittorrent.as_ref()?);
        let publisher = Publisher::new(config, ipfs.pins().clone(), book);
        let (tasks, closing) = (self.http.clone(), self.closing.clone());
        Some(Jobs::new(publisher, Arc::clone(catalogue), &options.publish_dirs, tasks, closing))
    }

    async fn start_bittorrent(
        &mut self,
        config: &Config,
        denylists: &Denylists,
        sockets: BitTorrentSockets,
        context: SwarmContext,
    ) -> Result<Arc<BitTorrentProtocol>, StartupError> {
        if config.bittorrent.has_dht() {
            let options = DhtOptions { store: Some(self.store.clone()), ..dht_options(config) };
            let node = DhtNode::start(options).await?;
            self.sockets.push(("udp", node.address()));
            self.dht = Some(node);
        }
        let dht = self.dht.as_ref().map(DhtNode::handle);
        let restored = denylists.admitted().torrents();
        let options = BitTorrentOptions { restored, ..bittorrent_options(config, egress(config)) };
        let bittorrent = BitTorrentProtocol::start(options, sockets, dht, context).await?;
        self.bittorrent = Some(Arc::clone(&bittorrent));
        self.live.lead(&bittorrent);
        self.manager.register(bittorrent.clone(), Instant::now())?;
        Ok(bittorrent)
    }

    fn start_webtorrent(
        &mut self,
        config: &Config,
        sockets: Vec<UdpSocket>,
        context: &SwarmContext,
    ) -> Result<(), StartupError> {
        let mut options = webtorrent_options(config, sockets, own_authorities(config, &self.addresses));
        options.rtc.gate = self.bittorrent.as_ref().map(|bittorrent| bittorrent.gate().clone());
        let webtorrent = WebTorrentProtocol::start(options, context)?;
        self.webtorrent = Some(Arc::clone(&webtorrent));
        self.manager.register(webtorrent, Instant::now())?;
        Ok(())
    }

    async fn start_ipfs(&mut self, config: &Config, denylists: &Denylists) -> Result<(), StartupError> {
        let delivery = self.delivery.insert(ipfs::start_delivery(config, &self.store, denylists).await?);
        self.sockets.extend(delivery.sockets());
        let protocol = ipfs::start(config, self.store.clone(), delivery)?;
        protocol.pins().tidy().await?;
        protocol.pins().announce().await?;
        self.ipfs = Some(Arc::clone(&protocol));
        self.manager.register(protocol, Instant::now())?;
        Ok(())
    }

    /// What keeps DAGs of IPFS; its attempts end with the server.
    fn pinning(&self, config: &Config) -> Option<Pinning> {
        let (protocol, hybrid) = (self.ipfs.clone()?, self.hybrid.clone());
        let is_on = move || hybrid.as_ref().is_none_or(|hybrid| hybrid.usable(None).contains(&Network::Ipfs));
        let node = self.delivery.as_ref().and_then(Delivery::node).cloned();
        let delegates = move || {
            let addresses = |node: &Arc<Node>| {
                let id = node.peer_id();
                node.listeners().into_iter().map(|address| format!("{address}/p2p/{id}")).collect::<Vec<_>>()
            };
            node.as_ref().map(addresses).unwrap_or_default()
        };
        let (tasks, closing) = (self.http.clone(), self.closing.clone());
        let (is_on, delegates) = (Arc::new(is_on), Arc::new(delegates));
        Some(Pinning::new(protocol, ipfs::patience(config), is_on, delegates, tasks, closing))
    }

    fn start_hybrid(&mut self, config: &Config, book: BindingBook) -> Result<(), StartupError> {
        let lenders = Lenders { bittorrent: self.bittorrent.clone(), ipfs: self.ipfs.clone() };
        if lenders.bittorrent.is_none() && lenders.ipfs.is_none() {
            return Ok(());
        }
        let protocol = hybrid::start(config, book, lenders, self.manager.events().clone())?;
        self.hybrid = Some(Arc::clone(&protocol));
        self.manager.register(protocol, Instant::now())?;
        Ok(())
    }

    /// The HTTP addresses, in the order of `server.listen`.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Every socket this application listens on, with its transport: the whole list, bound once, at start-up.
    #[must_use]
    pub fn sockets(&self) -> &[(&'static str, SocketAddr)] {
        &self.sockets
    }

    /// The registered protocols.
    #[must_use]
    pub const fn manager(&self) -> &Arc<ProtocolManager> {
        &self.manager
    }

    /// The torrent engine, unless it is switched off.
    #[must_use]
    pub const fn bittorrent(&self) -> Option<&Arc<BitTorrentProtocol>> {
        self.bittorrent.as_ref()
    }

    /// IPFS, unless it is switched off.
    #[must_use]
    pub const fn ipfs(&self) -> Option<&Arc<IpfsProtocol>> {
        self.ipfs.as_ref()
    }

    /// What fetches over several networks, once it has started.
    #[must_use]
    pub const fn hybrid(&self) -> Option<&Arc<HybridProtocol>> {
        self.hybrid.as_ref()
    }

    /// What can be changed while it runs.
    #[must_use]
    pub const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// What reads the configuration again, where it is known from what.
    #[must_use]
    pub const fn reloader(&self) -> Option<&Arc<Reloader>> {
        self.reloader.as_ref()
    }

    /// The cache.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Stops everything in reverse order of its start: no new requests, running ones until `patience` is over, then the
    /// protocols, the DHT and the store.
    pub async fn shutdown(self, patience: Duration) {
        let deadline = Instant::now() + patience + Duration::from_secs(2);
        self.closing.cancel();
        self.http.close();
        if tokio::time::timeout(patience, self.http.wait()).await.is_err() {
            tracing::info!("responses still running are cut");
        }
        if let Some(mapper) = self.mapper {
            mapper.shutdown().await;
        }
        self.manager.shutdown(Instant::now(), deadline).await;
        if let Some(hybrid) = self.hybrid {
            swarmgate_content::Protocol::shutdown(&*hybrid, deadline).await;
        }
        if let Some(ipfs) = self.ipfs {
            swarmgate_content::Protocol::shutdown(&*ipfs, deadline).await;
        }
        if let Some(delivery) = self.delivery {
            delivery.shutdown(deadline).await;
        }
        if let Some(webtorrent) = self.webtorrent {
            swarmgate_content::Protocol::shutdown(&*webtorrent, deadline).await;
        }
        if let Some(bittorrent) = self.bittorrent {
            // What was started and not registered is stopped here; for the rest the second time is nothing.
            swarmgate_content::Protocol::shutdown(&*bittorrent, deadline).await;
        }
        self.http.wait().await;
        self.traces.shutdown().await;
        if let Some(dht) = self.dht {
            dht.shutdown().await;
        }
        self.news.wait().await;
        self.store.close().await;
        drop(self.ephemeral);
    }
}

impl Drop for EphemeralDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "an ephemeral cache was not deleted");
        }
    }
}

/// Passes on what the cache had to give up.
async fn tell_evictions(mut news: Receiver<StoreEvent>, events: EventBus, closing: CancellationToken) {
    loop {
        let received = tokio::select! {
            received = news.recv() => received,
            () = closing.cancelled() => return,
        };
        match received {
            Ok(StoreEvent::Evicted(blocks)) => events.publish(Event::CacheEvicted { blocks: blocks.len() }),
            // News of a kind unknown here, or news that came too fast: the next will be told again.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells BitTorrent by which number the world reaches it, as the router has it.
async fn tell_outside(
    mut status: tokio::sync::watch::Receiver<MappingStatus>,
    bittorrent: Arc<BitTorrentProtocol>,
    closing: CancellationToken,
) {
    let Some(listen) = bittorrent.listen_address() else { return };
    loop {
        let changed = tokio::select! {
            changed = status.changed() => changed,
            () = closing.cancelled() => return,
        };
        if changed.is_err() {
            return;
        }
        let outside = status.borrow_and_update().outside(Transport::Tcp, listen.port());
        bittorrent.set_outside_port(outside);
    }
}

/// The ports of sockets that strangers can be led to: those of IPv4, each number once.
fn wanted(sockets: &[(&'static str, SocketAddr)]) -> Vec<Wanted> {
    let outward = |ip: &IpAddr| !ip.is_loopback() && (ip.is_ipv4() || ip.is_unspecified());
    let outward = sockets.iter().filter(|(_, address)| outward(&address.ip()));
    let transport = |name: &str| if name == "tcp" { Transport::Tcp } else { Transport::Udp };
    let ports = outward.map(|(name, address)| Wanted { transport: transport(name), port: address.port() });
    ports.collect::<BTreeSet<_>>().into_iter().collect()
}

fn cache_status(store: &Store) -> serde_json::Value {
    let usage = store.usage();
    serde_json::json!({
        "bytes": usage.bytes,
        "max_bytes": usage.max_bytes,
        "blocks": usage.blocks,
        "pinned_bytes": usage.pinned_bytes,
        "protected_bytes": usage.protected_bytes,
        "reserved_bytes": usage.reserved_bytes,
        "memory_bytes": usage.memory_bytes,
        "referenced_bytes": usage.referenced_bytes,
        "free_disk_bytes": usage.free_disk_bytes,
    })
}

#[cfg(test)]
mod tests;
