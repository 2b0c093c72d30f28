//! What each part is told of the configuration.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use swarmgate_bittorrent::dht::DhtOptions;
use swarmgate_bittorrent::obfuscated::Encryption;
use swarmgate_bittorrent::route::{Outlet, Proxy, Route};
use swarmgate_bittorrent::{BitTorrentOptions, FindingOptions, QueueLimits};
use swarmgate_config::{AnonymousContent, Config, PeerEncryption, PolicyMode, SeedingPolicy, TrackerAllow};
use swarmgate_egress::EgressPolicy;
use swarmgate_store::StoreOptions;
use swarmgate_webtorrent::WebTorrentOptions;
use swarmgate_webtorrent::hub::{HubAdmission, TableOptions, TrackerHub};
use swarmgate_webtorrent::rtc::{RtcOptions, TurnServer};
use url::Url;

use super::{EphemeralDir, StartupError};
use crate::auth::link::KEY_FILE;
use crate::auth::{Clock, Credentials, LinkKey, TokenHash};
use crate::live::upload_rules;
use crate::policy::{Admitted, Denylists, ListError};
use crate::state::{Anonymous, HttpOptions};
use crate::ui::Installed;

/// Bytes that pieces in flight may occupy in one torrent, as a share of `cache.memory`.
const PARTIAL_SHARE: u64 = 4;
/// Bytes kept behind a reader, for those who seek back.
const KEEP_BEHIND_BYTES: u64 = 64 * 1024 * 1024;

pub(crate) fn store_options(config: &Config) -> Result<(StoreOptions, Option<EphemeralDir>), StartupError> {
    let mut dir = config.cache.dir.clone();
    let ephemeral = if config.cache.ephemeral {
        let name = format!("ephemeral-{:016x}", rand::random::<u64>());
        dir.push(name);
        std::fs::create_dir_all(&dir).map_err(StartupError::Ephemeral)?;
        Some(EphemeralDir(dir.clone()))
    } else {
        None
    };
    let options = StoreOptions {
        dir: Some(dir),
        max_bytes: config.cache.max_size.bytes(),
        min_free_bytes: config.cache.min_free.bytes(),
        memory_bytes: config.cache.memory.bytes(),
    };
    Ok((options, ephemeral))
}

pub(crate) const fn egress(config: &Config) -> EgressPolicy {
    EgressPolicy { allow_private: config.network.allow_private }
}

pub(crate) fn dht_options(config: &Config) -> DhtOptions {
    DhtOptions {
        address: SocketAddr::new(config.bittorrent.effective_listen_ip(), config.bittorrent.effective_dht_port()),
        key: "bittorrent.dht_port",
        bootstrap: config.bittorrent.dht_bootstrap.clone(),
        node_id: None,
        read_only: false,
        store: None,
        others: None,
    }
}

pub(crate) fn bittorrent_options(config: &Config, egress: EgressPolicy) -> BitTorrentOptions {
    let proxy = config.bittorrent.proxy.as_ref().map(|url| Proxy::new(Url::clone(url)));
    BitTorrentOptions {
        egress,
        route: Route { proxy, outlet: Outlet::named(&config.bittorrent.bind_interface) },
        encryption: match config.bittorrent.encryption {
            PeerEncryption::Off => Encryption::Off,
            PeerEncryption::Prefer => Encryption::Prefer,
            PeerEncryption::Require => Encryption::Require,
        },
        trackers: config.bittorrent.trackers.iter().map(|url| url.as_str().to_owned()).collect(),
        max_peers_per_torrent: config.bittorrent.max_peers_per_torrent,
        max_peers: config.bittorrent.max_peers,
        max_half_open: config.bittorrent.max_half_open,
        max_active: config.items.max_active,
        idle_grace: config.items.idle_grace.duration(),
        uploads: upload_rules(config),
        queue: QueueLimits { downloads: config.items.max_active_downloads, seeds: config.items.max_active_seeds },
        max_partial_bytes: config.cache.memory.bytes() / PARTIAL_SHARE,
        keep_behind_bytes: KEEP_BEHIND_BYTES,
        finding: finding_options(config),
        restored: None,
    }
}

fn finding_options(config: &Config) -> FindingOptions {
    FindingOptions {
        pex: config.bittorrent.pex,
        ban_time: config.bittorrent.ban_time.duration(),
        blocklists: config.bittorrent.peer_blocklists.clone(),
        allowlists: config.bittorrent.peer_allowlists.clone(),
    }
}

pub(crate) fn webtorrent_options(
    config: &Config,
    sockets: Vec<UdpSocket>,
    own_authorities: Vec<String>,
) -> WebTorrentOptions {
    let turn = |url: &String| TurnServer {
        url: url.clone(),
        username: config.webtorrent.turn_username.clone(),
        credential: config.webtorrent.turn_password.expose().to_owned(),
    };
    WebTorrentOptions {
        rtc: RtcOptions {
            sockets,
            stun: config.webtorrent.stun.clone(),
            turn: config.webtorrent.turn.iter().map(turn).collect(),
            external_ip: config.webtorrent.external_ip,
            egress: egress(config),
            max_connections: config.webtorrent.max_connections,
            ..RtcOptions::default()
        },
        trackers: config.webtorrent.trackers.iter().map(|url| url.as_str().to_owned()).collect(),
        hub: hub_options(config).map(|(options, admission)| TrackerHub::new(options, admission)),
        own_authorities,
        max_connections_per_torrent: config.webtorrent.max_connections_per_torrent,
        max_peers_per_torrent: config.bittorrent.max_peers_per_torrent,
        uploads: config.seeding.policy != SeedingPolicy::Off,
    }
}

/// How the tracker in this process behaves, unless it is switched off.
pub(super) fn hub_options(config: &Config) -> Option<(TableOptions, HubAdmission)> {
    let options = TableOptions {
        max_sockets: config.webtorrent.tracker_sockets,
        max_sockets_per_host: config.webtorrent.tracker_sockets_per_ip,
        messages_per_second: config.webtorrent.tracker_messages_per_second,
        ..TableOptions::default()
    };
    let admission = match config.webtorrent.tracker_allow {
        TrackerAllow::Listed => HubAdmission::Listed,
        TrackerAllow::Any => HubAdmission::Any,
    };
    config.webtorrent.builtin_tracker.then_some((options, admission))
}

/// Hosts with ports under which clients reach this gateway's HTTP server, and so its tracker.
pub(super) fn own_authorities(config: &Config, listen: &[SocketAddr]) -> Vec<String> {
    let public = config.server.public_url.as_ref();
    let public = public.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let local = listen.iter().flat_map(|address| {
        let port = address.port();
        let on_this_machine = address.ip().is_unspecified() || address.ip().is_loopback();
        let names = ["localhost", "127.0.0.1", "[::1]"].into_iter().filter(move |_| on_this_machine);
        let names = names.map(move |name| format!("{name}:{port}"));
        names.chain(std::iter::once(address.to_string()))
    });
    local.chain(public).collect()
}

/// What links that need no credentials are signed with: what the operator says, or what lies in the data directory. What
/// keeps nothing there has a key that lives as long as it does.
pub(crate) fn link_key(config: &Config) -> Result<LinkKey, StartupError> {
    let dir = &config.cache.dir;
    match &config.auth.link_key {
        key if key.is_set() => Ok(LinkKey::new(key.expose().as_bytes())),
        _ if config.cache.ephemeral => Ok(LinkKey::random()),
        _ => LinkKey::in_dir(dir).map_err(|error| StartupError::LinkKey(dir.join(KEY_FILE), error)),
    }
}

pub(super) fn http_options(config: &Config) -> Result<HttpOptions, StartupError> {
    let read = |path: &Path| Ok::<_, StartupError>((path.to_owned(), Credentials::read(path)?));
    let credentials = config.auth.required_credentials().map(read).transpose()?;
    let path = &config.ui.webtorrent;
    let installed = (!path.as_os_str().is_empty()).then(|| Installed::read(path)).transpose();
    let webtorrent = installed.map_err(|source| StartupError::WebTorrentScript { path: path.clone(), source })?;
    Ok(HttpOptions {
        resolve: config.deadlines.resolve.duration(),
        first_byte: config.deadlines.first_byte.duration(),
        stall: config.deadlines.stall.duration(),
        max_wait: config.deadlines.max_wait.duration(),
        max_streams: config.server.max_streams,
        max_streams_per_client: config.server.max_streams_per_client,
        trusted_proxies: config.server.trusted_proxies.clone(),
        tls: config.server.has_tls(),
        allowed_hosts: config.server.allowed_hosts.clone(),
        subdomain_hosts: if config.ipfs.enabled { config.ipfs.subdomain_hosts.clone() } else { Vec::new() },
        token: config.auth.required_token().map(|token| TokenHash::of(token.expose())),
        credentials,
        link_key: None,
        link_ttl: config.auth.link_ttl.duration(),
        clock: Clock::default(),
        anonymous_content: match config.auth.anonymous_content {
            AnonymousContent::Never => Anonymous::Never,
            AnonymousContent::Loopback => Anonymous::Loopback,
            AnonymousContent::Always => Anonymous::Always,
        },
        public_url: config.server.public_url.clone(),
        base_path: config.server.base_path.clone(),
        tracker_origins: config.webtorrent.tracker_origins.clone(),
        torrent_url_enabled: config.allows_torrent_url(),
        publish_dirs: config.publish.dirs.clone(),
        webtorrent,
        show_attempts: config.server.is_loopback_only(),
        log_names: config.observe.log_names,
    })
}

pub(crate) fn denylists(config: &Config) -> Result<Denylists, ListError> {
    let legal = config.policy.legal_status == http::StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS.as_u16();
    let admitted = match config.policy.mode {
        PolicyMode::Open => Admitted::All,
        PolicyMode::Allowlist => Admitted::load(&config.policy.allowlists)?,
        PolicyMode::PinnedOnly => Admitted::Kept,
    };
    let lists = Denylists::load(&config.policy.denylists, legal)?.taking_away_from(admitted);
    // What keeps nothing in its directory keeps no list there either.
    if config.cache.ephemeral { Ok(lists) } else { lists.kept_in(&config.cache.dir) }
}
