//! `/capabilities`: what this gateway can do and how far it goes, for a program that has to fit itself to it. Nothing of
//! it changes while the gateway runs, but for what the asking one may do.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use swarmgate_content::{Capabilities, ProtocolKind};
use swarmgate_hybrid_rules::Network;
use utoipa::ToSchema;

use super::items::{MAX_TEXT_BYTES, MAX_TORRENT_BYTES};
use crate::auth::link::MAX_TTL;
use crate::auth::{Access, Scope};
use crate::query::Format;
use crate::routes::ipfs::ask;
use crate::state::{Anonymous, Gateway, GatewayState};
use crate::{guard, range};

/// The networks, each with its name.
const NETWORKS: [ProtocolKind; 4] =
    [ProtocolKind::BitTorrent, ProtocolKind::WebTorrent, ProtocolKind::Ipfs, ProtocolKind::Hybrid];

/// What the gateway can do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Abilities {
    /// The program's version.
    version: &'static str,
    /// The version of this API.
    api: &'static str,
    /// Every network, switched on or not.
    networks: Vec<NetworkAbility>,
    /// What `?source=` may name, besides `cache`.
    sources: Vec<&'static str>,
    /// What `?format=` may name.
    formats: Formats,
    /// How far it goes.
    limits: Limits,
    /// What else there is here.
    features: Features,
    /// Who may do what.
    access: AccessRules,
    /// The gateway's address for others; null when it is not said.
    public_url: Option<String>,
    /// What its paths begin with: empty, or a slash and more.
    base_path: String,
    /// Hosts below which IPFS content has origins of its own.
    subdomain_hosts: Vec<String>,
}

/// A network.
#[derive(Debug, Serialize, ToSchema)]
struct NetworkAbility {
    /// `bittorrent`, `webtorrent`, `ipfs`, or `hybrid` for contents that several have.
    #[schema(value_type = String)]
    kind: ProtocolKind,
    /// Whether it runs here.
    on: bool,
    /// What it can do, as `cid` and `ranges`; null where it does not run.
    #[schema(value_type = Option<BTreeMap<String, bool>>)]
    can: Option<Capabilities>,
}

/// What `?format=` may name.
#[derive(Debug, Serialize, ToSchema)]
struct Formats {
    /// At torrents and folders of them.
    bt: Vec<&'static str>,
    /// At content of IPFS.
    ipfs: Vec<&'static str>,
}

/// How far the gateway goes.
#[derive(Debug, Serialize, ToSchema)]
struct Limits {
    /// Content requests at once.
    streams: usize,
    /// The same of one client that is not on this machine.
    streams_per_client: usize,
    /// Ranges that are sent in one answer.
    ranges: usize,
    /// Bytes of a URL.
    url_bytes: usize,
    /// Bytes of a `.torrent` that is added.
    torrent_bytes: usize,
    /// Bytes of any other body.
    body_bytes: usize,
    /// Seconds that `?wait=` may ask for.
    wait_s: u64,
    /// Seconds for which a signed link works when nobody says.
    link_ttl_s: u64,
    /// Seconds for which it may.
    max_link_ttl_s: u64,
    /// Bytes that the cache takes.
    cache_bytes: u64,
}

/// What there is besides reading.
#[derive(Debug, Serialize, ToSchema)]
struct Features {
    /// Torrents can be added.
    items: bool,
    /// Torrents can be added by the URL of their file.
    torrent_url: bool,
    /// `POST /publish` takes what lies below some directory.
    publish: bool,
    /// Torrents can be named by keys.
    btpk: bool,
    /// The tracker at `/announce` is on.
    tracker: bool,
    /// Networks can be switched while the gateway runs.
    network_switches: bool,
    /// Options can be changed while the gateway runs.
    live_options: bool,
}

/// Who may do what.
#[derive(Debug, Serialize, ToSchema)]
struct AccessRules {
    /// Whether anybody is asked for credentials.
    credentials: bool,
    /// Who may read content without: `never`, `loopback` or `always`.
    anonymous_content: &'static str,
    /// All scopes, the least first.
    scopes: Vec<&'static str>,
    /// Those that this request's sender has.
    granted: Vec<&'static str>,
}

/// Tells what the gateway can do: networks, formats, limits, and what the asking one may do.
#[utoipa::path(
    get,
    path = "/api/v1/capabilities",
    tag = "gateway",
    responses(
        (status = OK, description = "What it can do", body = Abilities),
    ),
)]
pub async fn show(State(state): State<GatewayState>, request: Request) -> Response {
    let access = Access::of(request.extensions());
    std::future::ready(super::json(StatusCode::OK, &abilities(&state, access))).await
}

fn abilities(gateway: &Gateway, access: Access) -> Abilities {
    let options = &gateway.options;
    Abilities {
        version: env!("CARGO_PKG_VERSION"),
        api: "v1",
        networks: networks(gateway),
        sources: Network::ALL.into_iter().map(Network::word).collect(),
        formats: Formats {
            bt: Format::ALL.into_iter().map(Format::name).collect(),
            ipfs: ask::Format::names().collect(),
        },
        limits: limits(gateway),
        features: features(gateway),
        access: AccessRules {
            credentials: options.asks_for_credentials(),
            anonymous_content: match options.anonymous_content {
                Anonymous::Never => "never",
                Anonymous::Loopback => "loopback",
                Anonymous::Always => "always",
            },
            scopes: Scope::ALL.into_iter().map(Scope::word).collect(),
            granted: Scope::ALL.into_iter().filter(|scope| access.allows(*scope)).map(Scope::word).collect(),
        },
        public_url: options.public_url.as_ref().map(ToString::to_string),
        base_path: options.base_path.clone(),
        subdomain_hosts: options.subdomain_hosts.clone(),
    }
}

fn networks(gateway: &Gateway) -> Vec<NetworkAbility> {
    let running: BTreeMap<_, _> = gateway.manager.list().into_iter().map(|it| (it.kind, it.capabilities)).collect();
    let row = |kind: ProtocolKind| {
        let can = running.get(&kind).copied();
        NetworkAbility { kind, on: can.is_some(), can }
    };
    NETWORKS.into_iter().map(row).collect()
}

fn limits(gateway: &Gateway) -> Limits {
    let options = &gateway.options;
    Limits {
        streams: options.max_streams,
        streams_per_client: options.max_streams_per_client,
        ranges: range::MAX_PARTS,
        url_bytes: guard::MAX_URI_BYTES,
        torrent_bytes: MAX_TORRENT_BYTES,
        body_bytes: MAX_TEXT_BYTES,
        wait_s: options.max_wait.as_secs(),
        link_ttl_s: options.link_ttl.as_secs(),
        max_link_ttl_s: MAX_TTL.as_secs(),
        cache_bytes: gateway.store.usage().max_bytes,
    }
}

fn features(gateway: &Gateway) -> Features {
    let has_torrents = gateway.manager.list().iter().any(|it| it.kind == ProtocolKind::BitTorrent);
    Features {
        items: has_torrents,
        torrent_url: has_torrents && gateway.options.torrent_url_enabled,
        publish: gateway.publishing.is_some() && !gateway.options.publish_dirs.is_empty(),
        btpk: gateway.pointers.is_some(),
        tracker: gateway.tracker.is_some(),
        network_switches: gateway.hybrid.is_some(),
        live_options: gateway.live.is_some(),
    }
}
