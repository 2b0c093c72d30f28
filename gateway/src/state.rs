//! What every handler shares: the manager, the catalogue, the options, and the gateway's own bookkeeping.
//!
//! Made once by the application and handed to [`crate::server::router`]; nothing here is global, so two gateways in
//! one process do not meet.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use ipnet::IpNet;
use swarmgate_content::{BoxFuture, ProtocolManager};
use swarmgate_egress::PeerGate;
use swarmgate_hybrid::HybridProtocol;
use swarmgate_ipfs::protocol::IpfsProtocol;
use swarmgate_portmap::MappingStatus;
use swarmgate_store::Store;
use swarmgate_webtorrent::WebTorrentProtocol;
use swarmgate_webtorrent::hub::TrackerHub;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::admission::Admission;
use crate::api::history::History;
use crate::auth::{Clock, Credentials, Keyring, LinkKey, TokenHash};
use crate::catalogue::Catalogue;
use crate::live::Live;
use crate::pace::ClientPace;
use crate::pinning::Pinning;
use crate::pointers::Pointers;
use crate::policy::Denylists;
use crate::prefetch::Prefetches;
use crate::publish::Jobs;
use crate::rates::Rates;
use crate::reload::Reloader;
use crate::routes::ipfs::known::KnownAnswers;
use crate::streams::Streams;
use crate::telemetry::Telemetry;
use crate::traces::Traces;
use crate::ui::Installed;

/// Gives facts about the cache for `/api/v1/status`.
pub type CacheStatus = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Gives the options in force for `/api/v1/config`.
pub type Settings = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the application supplies.
pub struct Parts {
    /// The protocols.
    pub manager: Arc<ProtocolManager>,
    /// The torrent engine's items.
    pub catalogue: Arc<dyn Catalogue>,
    /// Fetches `.torrent` files from URLs, guarded against private addresses.
    pub fetch_torrent: Arc<dyn FetchTorrent>,
    /// IPFS, unless it is switched off.
    pub ipfs: Option<Arc<IpfsProtocol>>,
    /// WebTorrent, unless it is switched off.
    pub webtorrent: Option<Arc<WebTorrentProtocol>>,
    /// What keeps DAGs of IPFS, unless it is switched off.
    pub pinning: Option<Pinning>,
    /// What fetches over several networks, where there is such a thing.
    pub hybrid: Option<Arc<HybridProtocol>>,
    /// Publishing, unless one of the networks it is for is switched off.
    pub publishing: Option<Jobs>,
    /// Torrents that are named by keys, unless the DHT is switched off.
    pub pointers: Option<Pointers>,
    /// What is not served.
    pub denylists: Denylists,
    /// The tracker at `/announce`, unless it is switched off.
    pub tracker: Option<Arc<TrackerHub>>,
    /// The gate that peers pass, with the bans; `None` where there are no peers.
    pub gate: Option<PeerGate>,
    /// What the router forwards, where it is asked to.
    pub mapping: Option<watch::Receiver<MappingStatus>>,
    /// The cache.
    pub store: Store,
    /// Facts about it.
    pub cache_status: CacheStatus,
    /// The options in force, secrets left out.
    pub settings: Settings,
    /// How to behave.
    pub options: HttpOptions,
    /// What can be changed while the gateway runs, where anything can.
    pub live: Option<Arc<Live>>,
    /// What reads the configuration again, where it is known from what.
    pub reloader: Option<Arc<Reloader>>,
    /// How fast clients are served.
    pub pace: ClientPace,
    /// How often strangers may ask.
    pub rates: Rates,
    /// Who is told of requests.
    pub traces: Traces,
    /// Cancelled when the gateway begins to stop: event streams end, `/readyz` says so.
    pub closing: CancellationToken,
}

/// The shared state; clones are the same gateway.
#[derive(Debug, Clone)]
pub struct GatewayState(Arc<Gateway>);

/// The fields of [`GatewayState`]; those of its [`Parts`] are read as if they were its own.
#[derive(Debug)]
pub struct Gateway {
    parts: Parts,
    /// Content requests under way.
    pub admission: Arc<Admission>,
    /// Content streams that are running.
    pub streams: Streams,
    /// What links that need no credentials are signed with.
    pub link_key: LinkKey,
    /// Who may do what.
    pub keys: Keyring,
    /// What is read into the cache ahead of readers.
    pub prefetches: Prefetches,
    /// The gateway's counters.
    pub telemetry: Telemetry,
    /// What answers of late said of IPFS content that never changes.
    pub known: KnownAnswers,
    /// The events of late, for replay.
    pub history: History,
    /// When the gateway was made.
    pub started: Instant,
}

/// How the HTTP side behaves: plain data, all of it the operator's choice.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Longest wait for a content's metadata. Default 10 s.
    pub resolve: Duration,
    /// Longest wait for the first byte of a range. Default 30 s.
    pub first_byte: Duration,
    /// Longest time without a byte in a running stream. Default 30 s.
    pub stall: Duration,
    /// The most that a client may ask for with `?wait=`. Default 120 s.
    pub max_wait: Duration,
    /// Content requests under way at once. Default 1024.
    pub max_streams: usize,
    /// Content requests under way at once from one address. Default 64.
    pub max_streams_per_client: usize,
    /// Networks of proxies that may say for whom they ask. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether clients that name no scheme speak TLS to us. Default false.
    pub tls: bool,
    /// Names by which clients may address the gateway, besides loopback names and IP addresses; `*` allows any.
    /// Default none.
    pub allowed_hosts: Vec<String>,
    /// Hosts, perhaps with a port, below which IPFS content has origins of its own: `{cid}.ipfs.{host}`. Clients may
    /// name these and their subdomains. Default none.
    pub subdomain_hosts: Vec<String>,
    /// The SHA-256 of the token that the API (and content, see below) asks for, good for everything. Default none: without
    /// `credentials` too, everything is open.
    pub token: Option<TokenHash>,
    /// A file with tokens and users of their own scopes, and what was read from it; it is read again when it changes.
    /// Default none.
    pub credentials: Option<(PathBuf, Credentials)>,
    /// What links that need no credentials are signed with. Default one that lives as long as the gateway.
    pub link_key: Option<LinkKey>,
    /// How long such a link works when nobody says. Default 6 hours.
    pub link_ttl: Duration,
    /// What tells whether such a link still works. Default the machine's clock.
    pub clock: Clock,
    /// Who may read content without credentials. Default [`Anonymous::Loopback`].
    pub anonymous_content: Anonymous,
    /// The gateway's address as clients see it; makes links in playlists absolute. Default none: links are relative.
    pub public_url: Option<Url>,
    /// The path below which a proxy publishes the gateway, with a leading and no trailing slash, or empty. The proxy may
    /// strip it or not. Default empty.
    pub base_path: String,
    /// Sites whose pages may use the tracker at `/announce`, as origins; `*` is all. Default none.
    pub tracker_origins: Vec<String>,
    /// Whether `/torrent?url=` and URLs in `POST /items` are fetched. Default true.
    pub torrent_url_enabled: bool,
    /// Directories below which the API may publish. Default none.
    pub publish_dirs: Vec<PathBuf>,
    /// The webtorrent with which viewers' browsers join swarms. Default none: none is offered.
    pub webtorrent: Option<Installed>,
    /// Whether error answers list what was tried. Default true; switch it off on gateways open to strangers.
    pub show_attempts: bool,
    /// Whether content names and paths may be logged at `info`. Default false.
    pub log_names: bool,
}

/// Who may read content without credentials, where anybody is asked for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Nobody.
    Never,
    /// Clients on this machine.
    Loopback,
    /// Everybody.
    Always,
}

/// Fetches a `.torrent` file, refusing addresses that may not be contacted.
pub trait FetchTorrent: Send + Sync + fmt::Debug {
    /// Fetches `url`, at most `max_bytes` of it.
    fn fetch(&self, url: &Url, max_bytes: usize) -> BoxFuture<'_, Result<Bytes, FetchTorrentError>>;
}

/// Why a `.torrent` URL gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchTorrentError {
    /// The scheme, port or address may not be contacted.
    #[error("{reason}")]
    Refused {
        /// Which rule refused it.
        reason: String,
    },
    /// The operator has switched off the network that such files are for.
    #[error("BitTorrent is switched off at this gateway")]
    SwitchedOff,
    /// The file is larger than asked for.
    #[error("the file is larger than {max_bytes} bytes")]
    TooLarge {
        /// The bound, in bytes.
        max_bytes: usize,
    },
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The server answered with an error, or not at all.
    #[error("{reason}")]
    Failed {
        /// How, for the client: no addresses.
        reason: String,
    },
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            max_wait: Duration::from_secs(120),
            max_streams: 1024,
            max_streams_per_client: 64,
            trusted_proxies: Vec::new(),
            tls: false,
            allowed_hosts: Vec::new(),
            subdomain_hosts: Vec::new(),
            token: None,
            credentials: None,
            link_key: None,
            link_ttl: Duration::from_secs(6 * 60 * 60),
            clock: Clock::default(),
            anonymous_content: Anonymous::Loopback,
            public_url: None,
            base_path: String::new(),
            tracker_origins: Vec::new(),
            torrent_url_enabled: true,
            publish_dirs: Vec::new(),
            webtorrent: None,
            show_attempts: true,
            log_names: false,
        }
    }
}

impl HttpOptions {
    /// Whether anybody is asked for credentials.
    #[must_use]
    pub const fn asks_for_credentials(&self) -> bool {
        self.token.is_some() || self.credentials.is_some()
    }
}

impl GatewayState {
    /// Puts the parts together.
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        let options = &mut parts.options;
        let base = options.base_path.trim_matches('/');
        options.base_path = if base.is_empty() { String::new() } else { format!("/{base}") };
        Self(Arc::new(Gateway {
            admission: Admission::new(options.max_streams, options.max_streams_per_client),
            streams: Streams::default(),
            prefetches: Prefetches::default(),
            telemetry: Telemetry::default(),
            link_key: options.link_key.clone().unwrap_or_else(LinkKey::random),
            keys: Keyring::new(options.token, options.credentials.clone()),
            known: KnownAnswers::default(),
            history: History::new(parts.manager.events(), SystemTime::now()),
            started: Instant::now(),
            parts,
        }))
    }
}

impl std::ops::Deref for GatewayState {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("manager", &self.manager)
            .field("catalogue", &self.catalogue)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
