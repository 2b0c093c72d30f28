//! What only a torrent engine can do, as the gateway needs it: add, list, export and remove items.
//!
//! Reading goes through the protocol manager; this trait is the rest. The application implements it over the
//! BitTorrent protocol, tests over a table.

use std::fmt::Debug;
use std::net::SocketAddr;

use bytes::Bytes;
use serde::Serialize;
use swarmgate_bittorrent::{
    ItemFiles, ItemRefused, PinRefused, Priority, Recheck, SelectRefused, Trackers, UploadPolicy, selection_text,
};
use swarmgate_bittorrent_proto::magnet::{Magnet, Selection};
use swarmgate_content::{BoxFuture, ByteRange, ContentId, InfoHash, InfoHashV2};
use utoipa::ToSchema;

/// The items of a torrent engine.
pub trait Catalogue: Send + Sync + Debug {
    /// Adds the torrent that these `.torrent` bytes describe; `keep` spares it from being dropped when idle.
    fn add_torrent(&self, bytes: Bytes, keep: bool) -> BoxFuture<'_, Result<Added, AddError>>;

    /// Adds a magnet and begins to look for its metadata, without waiting for it.
    ///
    /// # Errors
    /// When the item cannot be taken; its metadata not being found is no such case.
    fn add_magnet(&self, magnet: &Magnet, keep: bool) -> Result<Added, AddError>;

    /// Every item, in a fixed order.
    fn items(&self) -> Vec<ItemStatus>;

    /// One item, if it is known.
    fn item(&self, id: &InfoHash) -> Option<ItemStatus>;

    /// The connected peers of an item; none when it is idle or unknown.
    fn peers(&self, _id: &InfoHash) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// The files of an item, and what is cached of each; `None` when its metadata is not known.
    fn files(&self, _id: &InfoHash) -> BoxFuture<'_, Option<ItemFiles>> {
        Box::pin(std::future::ready(None))
    }

    /// The trackers of an item, and how each fares; `None` when it is not known.
    fn trackers(&self, _id: &InfoHash) -> Option<Trackers> {
        None
    }

    /// The `.torrent` bytes of an item whose metadata is known.
    fn torrent_file(&self, id: &InfoHash) -> Option<Bytes>;

    /// Which pieces of an item are in the cache; nobody counts them while it is idle.
    fn pieces(&self, id: &InfoHash) -> Option<PieceMap>;

    /// Whether all of these ranges are in the cache, each of the file with that number; asks nobody.
    fn has(&self, id: &InfoHash, ranges: Vec<(usize, ByteRange)>) -> BoxFuture<'_, bool>;

    /// Forgets an item, and its cached data too if `purge`; says whether there was one.
    fn remove(&self, id: &InfoHash, purge: bool) -> BoxFuture<'_, bool>;

    /// Gives an item a policy of its own for uploading, or takes it away; says whether there is such an item.
    fn set_upload_policy(&self, _id: &InfoHash, _policy: Option<UploadPolicy>) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Has all of an item, or what is selected, fetched and held in the cache, or no longer; says whether there is such an
    /// item.
    fn set_pinned(&self, _id: &InfoHash, _pinned: bool) -> BoxFuture<'_, Result<bool, PinRefused>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Selects which files of an item are fetched and held while it is pinned, `None` being all; says whether there is such
    /// an item.
    fn set_selection(&self, _id: &InfoHash, _select: Option<Selection>) -> BoxFuture<'_, Result<bool, SelectRefused>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Gives an item a priority among those that wait for a place; says whether there is such an item.
    fn set_priority(&self, _id: &InfoHash, _priority: Priority) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Gives an item these labels in place of those that it has; says whether there is such an item.
    fn set_labels(&self, _id: &InfoHash, _labels: Vec<String>) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Pauses an item, or resumes it; says whether there is such an item.
    fn set_paused(&self, _id: &InfoHash, _paused: bool) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Gives an item more trackers.
    fn add_trackers(&self, _id: &InfoHash, _urls: Vec<String>) -> BoxFuture<'_, Result<(), ItemRefused>> {
        Box::pin(std::future::ready(Err(ItemRefused::Unknown)))
    }

    /// Has peers of an item dialled; gives those back that may not be, each with the reason.
    fn add_peers(
        &self,
        _id: &InfoHash,
        _peers: Vec<SocketAddr>,
    ) -> BoxFuture<'_, Result<Vec<(SocketAddr, String)>, ItemRefused>> {
        Box::pin(std::future::ready(Err(ItemRefused::Unknown)))
    }

    /// Asks an item's trackers now, as far as they allow it.
    fn announce(&self, _id: &InfoHash) -> BoxFuture<'_, Result<(), ItemRefused>> {
        Box::pin(std::future::ready(Err(ItemRefused::Unknown)))
    }

    /// Hashes all that is cached of an item again and lets go what is wrong; `None` when its metadata is not known.
    fn recheck(&self, _id: &InfoHash) -> BoxFuture<'_, Option<Recheck>> {
        Box::pin(std::future::ready(None))
    }
}

/// By which a content is looked up here; `None` for what is no torrent.
pub(crate) fn wire(id: &ContentId) -> Option<InfoHash> {
    id.as_v1().or_else(|| id.as_v2().map(|v2| v2.truncated()))
}

/// An item that was added, or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// Its infohash.
    pub id: InfoHash,
    /// Whether it was known before.
    pub already: bool,
    /// Whether its file tree is known.
    pub metadata_known: bool,
}

/// Which pieces of an item are in the cache at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceMap {
    /// Bytes in each piece but the last.
    pub piece_len: u32,
    /// How many pieces it has.
    pub pieces: u32,
    /// Runs of those that are here, in order, each by its first and last.
    pub have: Vec<(u32, u32)>,
}

impl PieceMap {
    /// Asks of each piece whether it is here.
    #[must_use]
    pub fn of(piece_len: u32, pieces: u32, is_here: impl Fn(u32) -> bool) -> Self {
        let mut have: Vec<(u32, u32)> = Vec::new();
        for piece in (0..pieces).filter(|piece| is_here(*piece)) {
            match have.last_mut() {
                Some((_, last)) if *last + 1 == piece => *last = piece,
                Some(_) | None => have.push((piece, piece)),
            }
        }
        Self { piece_len, pieces, have }
    }
}

/// Why an item was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The bytes are no torrent, or the magnet names nothing this build serves.
    #[error("{reason}")]
    Invalid {
        /// What is wrong and where: lower-case, no full stop.
        reason: String,
    },
    /// The operator's limit on items is reached.
    #[error("the limit on items is reached")]
    Busy,
    /// The cache can take no more.
    #[error("the cache is full of pinned or in-use data")]
    Full,
    /// The operator has switched the network off.
    #[error("BitTorrent is switched off")]
    SwitchedOff,
    /// The engine is starting, draining or stopped.
    #[error("the network is shutting down")]
    ShuttingDown,
    /// The item was paused while it was being added.
    #[error("it is paused")]
    Paused,
    /// A fault on this machine.
    #[error("{detail}")]
    Failed {
        /// For the log.
        detail: String,
    },
}

/// One connected peer, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PeerStatus {
    /// Its address, where it has one that means anything to others: one behind WebRTC has none.
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    /// What carries it: `tcp`, `utp` or `webrtc`.
    pub transport: &'static str,
    /// What message stream encryption does for it: `none`, `handshake` (the payload goes in the clear) or `rc4`.
    pub encryption: &'static str,
}

/// One item at one moment, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ItemStatus {
    /// Which.
    #[schema(value_type = String, example = "abababababababababababababababababababab")]
    pub infohash: InfoHash,
    /// Its v2 infohash (BEP 52), once known, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub infohash_v2: Option<InfoHashV2>,
    /// Its name, once known; untrusted text.
    pub name: Option<String>,
    /// `resolving` (looking for metadata), `active` (somebody reads it), `queued` (waiting for a place), `paused` (asking and
    /// serving nobody) or `idle`.
    pub state: &'static str,
    /// All files together, in bytes, once known.
    pub total_len: Option<u64>,
    /// Bytes of it in the cache.
    pub have_bytes: u64,
    /// How many files, once known.
    pub files: Option<usize>,
    /// Peers connected.
    pub peers: usize,
    /// Peers connected that have all of it.
    pub seeds: usize,
    /// Readers open.
    pub readers: usize,
    /// Payload bytes per second coming in.
    pub download_rate: u64,
    /// Payload bytes per second going out.
    pub upload_rate: u64,
    /// Payload bytes received in this run.
    pub downloaded: u64,
    /// Payload bytes sent in this run.
    pub uploaded: u64,
    /// Payload bytes received in all its life.
    pub total_downloaded: u64,
    /// Payload bytes sent in all its life.
    pub total_uploaded: u64,
    /// When it is uploaded, where it has a policy of its own.
    pub upload_policy: Option<&'static str>,
    /// Its place among those that wait for one, the first being 1.
    pub queue_position: Option<usize>,
    /// Whether it has a place before others that nobody reads, or after them: `high`, `normal` or `low`.
    pub priority: &'static str,
    /// Whether it stays when idle.
    pub kept: bool,
    /// Whether all of it, or what is selected, is fetched though nobody reads it, and held in the cache.
    pub pinned: bool,
    /// The files that are fetched and held while it is pinned, by their numbers; null for all.
    #[serde(serialize_with = "selection_text::serialize")]
    #[schema(value_type = Option<String>, example = "0,2,4-7")]
    pub select: Option<Selection>,
    /// What those files come to, where some are selected and its metadata is known.
    pub selected: Option<SelectedBytes>,
    /// What its owner sorts it by.
    pub labels: Vec<String>,
    /// Whether only its own trackers may be asked (BEP 27).
    pub private: bool,
    /// The last thing that went wrong, in words.
    pub last_error: Option<String>,
    /// Torrents that its metadata says have some of its files (BEP 38), where one item is looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    pub similar: Vec<InfoHash>,
    /// Collections that its metadata says it is of (BEP 38), where one item is looked at; untrusted text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub collections: Vec<String>,
    /// What its trackers say of its swarm, where one item is looked at and one of them has said so of late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmSize>,
}

impl ItemStatus {
    /// What is here of it, and how much that is to be, in bytes: of all of it, or of what is selected.
    #[must_use]
    pub const fn progress(&self) -> (u64, Option<u64>) {
        match self.selected {
            Some(selected) => (selected.have_bytes, Some(selected.len)),
            None => (self.have_bytes, self.total_len),
        }
    }
}

/// Files of an item that are selected, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SelectedBytes {
    /// Their lengths, in bytes.
    pub len: u64,
    /// Bytes of them in the cache.
    pub have_bytes: u64,
}

/// A swarm's size, as trackers tell it (BEP 48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SwarmSize {
    /// Peers that have all of it.
    pub seeds: u32,
    /// Peers that have not.
    pub leeches: u32,
    /// Times it was completed.
    pub completed: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_side_by_side_are_one_run() {
        let here = [0, 1, 2, 5, 7, 8];
        assert_eq!(PieceMap::of(16, 9, |piece| here.contains(&piece)).have, [(0, 2), (5, 5), (7, 8)]);
        assert_eq!(PieceMap::of(16, 9, |_| false).have, []);
        assert_eq!(PieceMap::of(16, 9, |_| true).have, [(0, 8)]);
    }
}
