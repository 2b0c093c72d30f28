//! The torrent engine as the HTTP layer's catalogue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use swarmgate_bittorrent::{
    AddItemError, BitTorrentProtocol, Item, ItemFiles, ItemRefused, PinRefused, Priority, Recheck, SelectRefused,
    Trackers, UploadPolicy,
};
use swarmgate_bittorrent_proto::magnet::{Magnet, Selection};
use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_bittorrent_proto::mse::Payload;
use swarmgate_bittorrent_proto::torrent::Transport;
use swarmgate_content::{BoxFuture, ByteRange, InfoHash, TorrentId};
use swarmgate_egress::HttpError;
use swarmgate_swarm::PeerOrigin;
use url::Url;

use crate::catalogue::{AddError, Added, Catalogue, ItemStatus, PeerStatus, PieceMap, SelectedBytes, SwarmSize};
use crate::state::{FetchTorrent, FetchTorrentError};

/// How long the server of a `.torrent` URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// See the module's head.
#[derive(Debug)]
pub struct Torrents(Arc<BitTorrentProtocol>);

/// The catalogue of a gateway whose operator has switched BitTorrent off: empty, takes nothing, dials nobody.
#[derive(Debug, Clone, Copy)]
pub struct NoTorrents;

impl Torrents {
    /// Wraps the engine.
    #[must_use]
    pub const fn new(engine: Arc<BitTorrentProtocol>) -> Self {
        Self(engine)
    }
}

impl Catalogue for Torrents {
    fn add_torrent(&self, bytes: Bytes, keep: bool) -> BoxFuture<'_, Result<Added, AddError>> {
        Box::pin(async move {
            let metainfo = Metainfo::parse(&bytes).map_err(|error| AddError::Invalid { reason: error.to_string() })?;
            let id = metainfo.infohash;
            let already = self.0.add_metainfo(metainfo, keep).await.map_err(add_error)?;
            Ok(Added { id, already, metadata_known: true })
        })
    }

    fn add_magnet(&self, magnet: &Magnet, keep: bool) -> Result<Added, AddError> {
        // A hybrid is looked for by its v1 name, which more peers know; that both are the same torrent is only a claim.
        let named = magnet.v1.map(TorrentId::V1).or_else(|| magnet.v2.map(TorrentId::V2));
        let Some(named) = named else {
            return Err(AddError::Invalid { reason: "the magnet names no infohash (xt=urn:btih:…)".to_owned() });
        };
        let already = self.0.add_hints(named, &magnet.hints, keep).map_err(add_error)?;
        let id = named.wire();
        Ok(Added { id, already, metadata_known: self.0.known(&id).is_some() })
    }

    fn items(&self) -> Vec<ItemStatus> {
        self.0.items().into_iter().map(item_status).collect()
    }

    fn item(&self, id: &InfoHash) -> Option<ItemStatus> {
        self.0.item(id).map(item_status)
    }

    fn peers(&self, id: &InfoHash) -> Vec<PeerStatus> {
        self.0.peers(id).iter().map(peer_status).collect()
    }

    fn files(&self, id: &InfoHash) -> BoxFuture<'_, Option<ItemFiles>> {
        let id = *id;
        Box::pin(async move { self.0.files(&id).await })
    }

    fn trackers(&self, id: &InfoHash) -> Option<Trackers> {
        self.0.trackers(id)
    }

    fn torrent_file(&self, id: &InfoHash) -> Option<Bytes> {
        self.0.torrent_file(id).map(Bytes::from)
    }

    fn pieces(&self, id: &InfoHash) -> Option<PieceMap> {
        let known = self.0.known(id)?;
        let (have, piece_len) = (known.snapshot(), known.geometry.piece_len());
        let is_here = |piece: u32| have.has_byte(u64::from(piece) * u64::from(piece_len));
        Some(PieceMap::of(piece_len, known.geometry.pieces(), is_here))
    }

    fn has(&self, id: &InfoHash, ranges: Vec<(usize, ByteRange)>) -> BoxFuture<'_, bool> {
        let id = *id;
        Box::pin(async move { self.0.has(&id, &ranges).await })
    }

    fn remove(&self, id: &InfoHash, purge: bool) -> BoxFuture<'_, bool> {
        let id = *id;
        Box::pin(async move { self.0.remove(&id, purge).await })
    }

    fn set_upload_policy(&self, id: &InfoHash, policy: Option<UploadPolicy>) -> BoxFuture<'_, bool> {
        let id = *id;
        Box::pin(async move { self.0.set_policy(&id, policy).await })
    }

    fn set_pinned(&self, id: &InfoHash, pinned: bool) -> BoxFuture<'_, Result<bool, PinRefused>> {
        let id = *id;
        Box::pin(async move { self.0.set_pinned(&id, pinned).await })
    }

    fn set_selection(&self, id: &InfoHash, select: Option<Selection>) -> BoxFuture<'_, Result<bool, SelectRefused>> {
        let id = *id;
        Box::pin(async move { self.0.set_selection(&id, select).await })
    }

    fn set_priority(&self, id: &InfoHash, priority: Priority) -> BoxFuture<'_, bool> {
        let id = *id;
        Box::pin(async move { self.0.set_priority(&id, priority).await })
    }

    fn set_labels(&self, id: &InfoHash, labels: Vec<String>) -> BoxFuture<'_, bool> {
        let id = *id;
        Box::pin(async move { self.0.set_labels(&id, labels).await })
    }

    fn set_paused(&self, id: &InfoHash, paused: bool) -> BoxFuture<'_, bool> {
        let id = *id;
        Box::pin(async move { self.0.set_paused(&id, paused).await })
    }

    fn add_trackers(&self, id: &InfoHash, urls: Vec<String>) -> BoxFuture<'_, Result<(), ItemRefused>> {
        let id = *id;
        Box::pin(async move { self.0.add_trackers(&id, urls).await })
    }

    fn add_peers(
        &self,
        id: &InfoHash,
        peers: Vec<SocketAddr>,
    ) -> BoxFuture<'_, Result<Vec<(SocketAddr, String)>, ItemRefused>> {
        let id = *id;
        Box::pin(async move { self.0.add_peers(&id, peers).await })
    }

    fn announce(&self, id: &InfoHash) -> BoxFuture<'_, Result<(), ItemRefused>> {
        let id = *id;
        Box::pin(async move { self.0.announce(&id).await })
    }

    fn recheck(&self, id: &InfoHash) -> BoxFuture<'_, Option<Recheck>> {
        let id = *id;
        Box::pin(async move { self.0.recheck(&id).await })
    }
}

impl FetchTorrent for Torrents {
    fn fetch(&self, url: &Url, max_bytes: usize) -> BoxFuture<'_, Result<Bytes, FetchTorrentError>> {
        let url = url.to_string();
        Box::pin(async move {
            let fetched = self.0.http_client().get_bytes(&url, max_bytes, FETCH_TIMEOUT).await;
            fetched.map_err(|error| fetch_error(&error, max_bytes))
        })
    }
}

impl Catalogue for NoTorrents {
    fn add_torrent(&self, _bytes: Bytes, _keep: bool) -> BoxFuture<'_, Result<Added, AddError>> {
        Box::pin(std::future::ready(Err(AddError::SwitchedOff)))
    }

    fn add_magnet(&self, _magnet: &Magnet, _keep: bool) -> Result<Added, AddError> {
        Err(AddError::SwitchedOff)
    }

    fn items(&self) -> Vec<ItemStatus> {
        Vec::new()
    }

    fn item(&self, _id: &InfoHash) -> Option<ItemStatus> {
        None
    }

    fn torrent_file(&self, _id: &InfoHash) -> Option<Bytes> {
        None
    }

    fn pieces(&self, _id: &InfoHash) -> Option<PieceMap> {
        None
    }

    fn has(&self, _id: &InfoHash, _ranges: Vec<(usize, ByteRange)>) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    fn remove(&self, _id: &InfoHash, _purge: bool) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }
}

impl FetchTorrent for NoTorrents {
    fn fetch(&self, _url: &Url, _max_bytes: usize) -> BoxFuture<'_, Result<Bytes, FetchTorrentError>> {
        Box::pin(std::future::ready(Err(FetchTorrentError::SwitchedOff)))
    }
}

fn item_status(item: Item) -> ItemStatus {
    ItemStatus {
        infohash: item.infohash,
        infohash_v2: item.infohash_v2,
        name: item.name,
        state: item.state,
        total_len: item.total_len,
        have_bytes: item.status.have_bytes,
        files: item.files,
        peers: item.status.peers,
        seeds: item.status.seeds,
        readers: item.status.readers,
        download_rate: item.status.rates.download,
        upload_rate: item.status.rates.upload,
        downloaded: item.status.totals.downloaded,
        uploaded: item.status.totals.uploaded,
        total_downloaded: item.total_downloaded,
        total_uploaded: item.total_uploaded,
        upload_policy: item.policy.map(UploadPolicy::word),
        queue_position: item.queue_position,
        priority: item.priority.word(),
        kept: item.kept,
        pinned: item.pinned,
        select: item.select,
        selected: item.selected.map(|selected| SelectedBytes { len: selected.len, have_bytes: selected.have_bytes }),
        labels: item.labels,
        private: item.private,
        last_error: item.last_error,
        similar: item.related.similar,
        collections: item.related.collections,
        swarm: item.swarm_size.map(|counts| SwarmSize {
            seeds: counts.complete,
            leeches: counts.incomplete,
            completed: counts.downloaded,
        }),
    }
}

const fn peer_status(peer: &PeerOrigin) -> PeerStatus {
    PeerStatus {
        address: peer.addr,
        transport: match peer.transport {
            Transport::Tcp => "tcp",
            Transport::Utp => "utp",
            Transport::WebRtc => "webrtc",
        },
        encryption: match peer.encryption {
            None => "none",
            Some(Payload::Plain) => "handshake",
            Some(Payload::Rc4) => "rc4",
        },
    }
}

fn add_error(error: AddItemError) -> AddError {
    match error {
        AddItemError::TooMany(_) => AddError::Busy,
        AddItemError::ShuttingDown => AddError::ShuttingDown,
        AddItemError::Paused => AddError::Paused,
    }
}

fn fetch_error(error: &HttpError, max_bytes: usize) -> FetchTorrentError {
    match error {
        HttpError::TooLarge { .. } => FetchTorrentError::TooLarge { max_bytes },
        HttpError::Timeout { .. } => FetchTorrentError::TimedOut,
        HttpError::Refused { .. } => FetchTorrentError::Refused { reason: error.to_string() },
        HttpError::Setup(_)
        | HttpError::Url(_)
        | HttpError::TooManyRedirects
        | HttpError::Status(_)
        | HttpError::Connection(_) => FetchTorrentError::Failed { reason: error.to_string() },
    }
}
