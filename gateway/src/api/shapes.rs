//! The shapes of what the API answers, where the types are other crates' or there are none: for the description alone.
//!
//! The crates below know nothing of OpenAPI, so their fields are told here a second time. That both say the same is
//! tested from outside: a contract test compares every answer of a running gateway with its description.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::actions::RefusedPeer;
use super::dags::DagList;
use super::details::{FileRow, TrackerRow};
use crate::catalogue::{ItemStatus, PeerStatus, SwarmSize};
use crate::streams::StreamStatus;

/// Makes structs that stand for JSON objects.
macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, ToSchema)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $kind,)*
            }
        )*
    };
}

shapes! {
    /// What runs.
    Version {
        /// The program.
        name: String,
        /// Its version.
        version: String,
        /// The version of this API.
        api: String,
    }

    /// How the gateway fares.
    Status {
        /// The program's version.
        version: String,
        /// Seconds since the start.
        uptime_s: u64,
        /// Whether a network works, by its own evidence.
        ready: bool,
        /// The networks.
        networks: Vec<NetworkStatus>,
        /// Sums over the items.
        totals: Totals,
        /// What the router forwards; null where it is not asked to.
        port_mapping: Option<PortMapping>,
        /// What clients do.
        http: HttpStatus,
        /// The cache; null where there is none.
        #[schema(nullable)]
        cache: BTreeMap<String, Option<u64>>,
    }

    /// What the router forwards.
    PortMapping {
        /// Its address, once it is known.
        router: Option<String>,
        /// By which protocol: PCP, NAT-PMP or UPnP.
        by: Option<String>,
        /// The ports.
        #[schema(value_type = Vec<BTreeMap<String, Value>>)]
        ports: Vec<BTreeMap<String, serde_json::Value>>,
        /// What is in the way.
        trouble: Option<String>,
    }

    /// A network as it judges itself.
    NetworkStatus {
        /// `bittorrent`, `webtorrent`, `ipfs` or `hybrid`.
        kind: String,
        /// `ready` or `draining`.
        state: String,
        /// Seconds since it is in that state.
        since_s: u64,
        /// Resolves and readers under way.
        in_flight: usize,
        /// What it can do.
        capabilities: BTreeMap<String, bool>,
        /// Its verdict on itself.
        health: NetworkHealth,
        /// The last failure that was its fault, in words.
        last_error: Option<String>,
        /// Its counters.
        stats: BTreeMap<String, u64>,
    }

    /// A network's verdict on itself.
    NetworkHealth {
        /// `ok`, `degraded` or `down`.
        state: String,
        /// On what grounds.
        evidence: String,
    }

    /// Sums over the items.
    Totals {
        /// All of them.
        items: usize,
        /// Those that are connected to peers.
        active: usize,
        /// Peers connected.
        peers: usize,
        /// Payload bytes per second coming in.
        download_rate: u64,
        /// Payload bytes per second going out.
        upload_rate: u64,
    }

    /// What clients do.
    HttpStatus {
        /// Streams that are running.
        streams_open: u64,
        /// Requests that hold a slot.
        requests_under_way: usize,
        /// Bytes of content sent since the start.
        stream_bytes: u64,
    }

    /// The items.
    Items {
        /// In a fixed order.
        items: Vec<ItemStatus>,
        /// The cursor to go on with, where there are more.
        #[schema(required = false)]
        next: String,
    }

    /// What a recheck found, in pieces.
    Rechecked {
        /// All of the item.
        pieces: usize,
        /// Those that were in the cache and are right.
        right: usize,
        /// Those that were wrong, or could not be read, and are gone.
        dropped: usize,
        /// Those that were not in the cache.
        missing: usize,
    }

    /// The peers of an item.
    Peers {
        /// Those that are connected.
        peers: Vec<PeerStatus>,
    }

    /// The files of an item.
    Files {
        /// The item.
        infohash: String,
        /// In their order; those that only fill up are left out.
        files: Vec<FileRow>,
        /// The number to go on behind, where there are more.
        next: Option<u32>,
    }

    /// The trackers of an item.
    TrackerList {
        /// The item.
        infohash: String,
        /// Its own, then those that the configuration adds.
        trackers: Vec<TrackerRow>,
    }

    /// What became of peers that were named for an item.
    PeersAdded {
        /// The item.
        infohash: String,
        /// How many are dialled.
        added: usize,
        /// Those that are not.
        refused: Vec<RefusedPeer>,
    }

    /// What is prefetched of a file.
    Prefetching {
        /// The item.
        infohash: String,
        /// The file's number.
        file: u32,
        /// How many bytes are wanted of it; those that are here already are counted.
        bytes: u64,
    }

    /// Who has an item.
    Sources {
        /// The item.
        infohash: String,
        /// Its peers.
        swarm: SwarmOfItem,
        /// What is fetched of it over several networks, or was in the last minute.
        fetches: Vec<FetchRow>,
        /// Who was asked for peers and bytes, and what each of them did.
        #[schema(value_type = Vec<BTreeMap<String, Value>>)]
        attempts: Vec<BTreeMap<String, serde_json::Value>>,
    }

    /// The peers of an item as a source.
    SwarmOfItem {
        /// Those that are connected.
        peers: usize,
        /// Those of them that have all of it.
        seeds: usize,
        /// Payload bytes per second coming in.
        download_rate: u64,
        /// Payload bytes received in this run.
        downloaded: u64,
        /// What its trackers say of its swarm, where one of them has said so of late.
        told: Option<SwarmSize>,
    }

    /// Which pieces of an item are in the cache.
    Pieces {
        /// The item.
        infohash: String,
        /// Bytes in each piece but the last.
        piece_len: u32,
        /// How many it has.
        pieces: u32,
        /// Runs of those that are here, as `0-12,14`.
        have: String,
    }

    /// Every option.
    Options {
        /// In the order of their keys.
        options: Vec<OptionRow>,
    }

    /// An option in force.
    OptionRow {
        /// As in `seeding.upload_limit`.
        key: String,
        /// Its value, secrets left out.
        #[schema(value_type = Value)]
        value: serde_json::Value,
        /// Where the value comes from.
        origin: String,
        /// What it means.
        #[schema(value_type = Value)]
        doc: serde_json::Value,
        /// Whether it can be changed while the gateway runs.
        live: bool,
    }

    /// The publications of late.
    JobList {
        /// By number.
        jobs: Vec<Job>,
    }

    /// A publication.
    Job {
        /// Its number.
        id: u64,
        /// What is published.
        path: String,
        /// `running`, `done` or `failed`.
        state: String,
        /// Bytes that are done.
        done_bytes: u64,
        /// Bytes that there are.
        total_bytes: u64,
        /// What it is called, once it is done.
        #[schema(value_type = Option<BTreeMap<String, Value>>)]
        result: Option<BTreeMap<String, serde_json::Value>>,
        /// Why it failed.
        error: Option<String>,
    }

    /// A link that needs no credentials.
    SignedLink {
        /// The whole URL.
        url: String,
        /// The same from the root of this host.
        path: String,
        /// Until when it works, in seconds since 1970.
        expires: u64,
    }

    /// What became of a name.
    PutAnswer {
        /// The public key, in hex.
        key: String,
        /// The salt.
        salt: String,
        /// The version that was put.
        seq: i64,
        /// What is named.
        infohash: String,
        /// Nodes of the DHT that keep it.
        nodes: usize,
        /// A later version that was in the way.
        newer: Option<i64>,
        /// Where this gateway has it.
        path: String,
    }

    /// The running streams, and the contents that are fetched over several networks for them.
    StreamList {
        /// Those whose first byte was sent.
        streams: Vec<StreamStatus>,
        /// What is fetched over several networks.
        fetches: Vec<FetchRow>,
        /// What was asked, and asked twice; null without Hybrid.
        asked: Option<BTreeMap<String, u64>>,
    }

    /// What a reader was handed, in bytes, by where it came from.
    Mix {
        /// What was here already.
        cache: u64,
        /// By network: `bt`, `webrtc`, `ipfs` or `http`.
        networks: BTreeMap<String, u64>,
        /// By source.
        sources: BTreeMap<String, u64>,
    }

    /// A content that is fetched over several networks.
    FetchRow {
        /// An infohash, or the CID of a file.
        item: String,
        /// The networks that its request allows; absent when it is everybody's.
        #[schema(required = false)]
        allowed: Vec<String>,
        /// Clients that read it.
        readers: usize,
        /// Its sources as they fare.
        #[schema(value_type = Vec<BTreeMap<String, Value>>)]
        sources: Vec<BTreeMap<String, serde_json::Value>>,
        /// What each has delivered.
        #[schema(value_type = Vec<BTreeMap<String, Value>>)]
        shares: Vec<BTreeMap<String, serde_json::Value>>,
        /// Milliseconds for a unit: of half of them, of nineteen of twenty, of ninety-nine of a hundred.
        #[schema(required = false)]
        unit_ms: Vec<u64>,
    }

    /// The networks and their switches.
    NetworkList {
        /// All of them.
        networks: Vec<NetworkRow>,
    }

    /// A network, its switch, and what it has delivered of contents that several have.
    NetworkRow {
        /// `bt`, `webrtc`, `ipfs` or `http`.
        network: String,
        /// Whether it is asked.
        enabled: Option<bool>,
        /// How long the switch holds.
        lasts: String,
        /// Bytes that were of use.
        useful_bytes: u64,
        /// Bytes that were not.
        wasted_bytes: u64,
    }

    /// Who is kept out.
    BanList {
        /// Those that are banned.
        bans: Vec<BanRow>,
        /// Ranges of addresses in the operator's lists.
        blocked_ranges: usize,
    }

    /// A banned peer.
    BanRow {
        /// Its address, with a port where that one alone is banned.
        peer: String,
        /// By what it came.
        transport: String,
        /// On what evidence.
        reason: String,
        /// Seconds for which it has been banned.
        since_s: u64,
        /// Seconds until it may come back.
        ends_in_s: u64,
    }

    /// The circuit breakers.
    BreakerList {
        /// In the order of their names.
        breakers: Vec<BreakerRow>,
    }

    /// A circuit breaker.
    BreakerRow {
        /// Its name in URLs.
        id: String,
        /// What it guards.
        key: BTreeMap<String, String>,
        /// `closed`, `open` or `half-open`.
        state: String,
        /// Milliseconds for which it has been in that state.
        for_ms: u64,
        /// Why it opened last.
        #[schema(required = false)]
        why: String,
        /// Milliseconds until the source is tried again, while it is open.
        #[schema(required = false)]
        next_probe_ms: u64,
        /// Times that it opened in a row.
        opened_in_row: u32,
        /// Calls that succeeded.
        successes: u64,
        /// Calls that failed.
        failures: u64,
        /// Calls that brought wrong bytes.
        corruptions: u64,
        /// Calls that said nothing of the source.
        neutral: u64,
        /// Calls that were refused.
        refused: u64,
    }

    /// Why a request was not done (RFC 9457).
    ProblemDocument {
        /// Which of a closed list: `urn:swarmgate:problem:` and a word.
        #[schema(pattern = "^urn:swarmgate:problem:[a-z-]+$")]
        r#type: String,
        /// What it is, whatever it happened to.
        title: String,
        /// The status code.
        status: u16,
        /// What is the matter with this request.
        detail: String,
        /// The request's name, which the log has too.
        instance: String,
        /// How far it came.
        #[schema(required = false)]
        stage: String,
        /// When to ask again, in seconds.
        #[schema(required = false)]
        retry_after_s: u64,
        /// The content.
        #[schema(required = false)]
        item: BTreeMap<String, String>,
        /// Who was asked, and what each of them did.
        #[schema(required = false, value_type = Vec<BTreeMap<String, Value>>)]
        attempts: Vec<BTreeMap<String, serde_json::Value>>,
        /// What may help.
        #[schema(required = false)]
        hints: Vec<String>,
    }
}

/// What was added.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "each is written as what it is; this says that it is one of them")]
pub(super) enum AddedItem {
    /// A torrent.
    Torrent(Box<ItemStatus>),
    /// The roots of a CAR.
    Dags(DagList),
}

/// Options to change: keys, as `seeding.upload_limit`, and values.
#[derive(Debug, ToSchema)]
pub struct Changes(pub BTreeMap<String, serde_json::Value>);

/// What becomes of a forgotten item's data.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum DataOfItem {
    /// It stays in the cache as long as there is room.
    Keep,
    /// It is deleted.
    Purge,
}

/// What items are sorted by; with a minus the greatest are first.
#[derive(Debug, ToSchema)]
pub enum SortWord {
    /// Their infohashes.
    #[schema(rename = "infohash")]
    Infohash,
    /// The same, the greatest first.
    #[schema(rename = "-infohash")]
    InfohashDown,
    /// Their names, in small or capital letters.
    #[schema(rename = "name")]
    Name,
    /// The same, from the end of the alphabet.
    #[schema(rename = "-name")]
    NameDown,
    /// How long they are.
    #[schema(rename = "size")]
    Size,
    /// The same, the longest first.
    #[schema(rename = "-size")]
    SizeDown,
    /// How much of them is in the cache.
    #[schema(rename = "have")]
    Have,
    /// The same, the most first.
    #[schema(rename = "-have")]
    HaveDown,
    /// How many peers are connected.
    #[schema(rename = "peers")]
    Peers,
    /// The same, the most first.
    #[schema(rename = "-peers")]
    PeersDown,
    /// What comes in.
    #[schema(rename = "download-rate")]
    DownloadRate,
    /// The same, the fastest first.
    #[schema(rename = "-download-rate")]
    DownloadRateDown,
    /// What goes out.
    #[schema(rename = "upload-rate")]
    UploadRate,
    /// The same, the fastest first.
    #[schema(rename = "-upload-rate")]
    UploadRateDown,
}

/// When an item is uploaded.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum PolicyWord {
    /// Never.
    Off,
    /// As long as somebody reads it.
    WhileActive,
    /// Until so much of it was given back.
    Ratio,
    /// Always.
    Forever,
}

/// Whether an item has a place before others that nobody reads, or after them.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum PriorityWord {
    /// Before all that have another.
    High,
    /// In its turn.
    Normal,
    /// After all that have another.
    Low,
}

/// What kind of torrent is made.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum TorrentWord {
    /// v1 alone (BEP 3).
    V1,
    /// v1 and v2 in one (BEP 52).
    Hybrid,
}
