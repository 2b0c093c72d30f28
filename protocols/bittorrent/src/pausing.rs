//! Items that are paused: one of them asks nobody and serves nobody in its swarm, over restarts too, until it is resumed.
//!
//! It has no swarm, so there is nothing that could ask. What the store has of it is read from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use swarmgate_bittorrent_proto::geometry::Geometry;
use swarmgate_bittorrent_proto::metainfo::Info;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{
    Account, ByteRange, ContentId, ContentMeta, ContentReader, FetchError, FetchErrorKind, FileRef, InfoHash,
    SourceMix, Stage, VerifiedBytes,
};
use swarmgate_store::Store;

use crate::items::{AddItemError, Engine, Items};
use crate::protocol::BitTorrentProtocol;
use crate::record::Record;

/// Most bytes in one step of a reader, as of those of active items.
const CHUNK: u64 = 256 * 1024;

impl Items {
    /// Whether an item is paused.
    pub(crate) fn is_paused(&self, infohash: &InfoHash) -> bool {
        self.records.get(infohash).is_some_and(|record| record.paused)
    }
}

impl BitTorrentProtocol {
    /// Pauses an item, or resumes it; either way it is one that stays. Its readers end with an error when it is paused.
    /// Tells whether it is known.
    pub async fn set_paused(&self, infohash: &InfoHash, paused: bool) -> bool {
        let (key, torrent) = {
            let mut items = self.engine.items.lock();
            let key = items.key(*infohash);
            let Some(record) = items.records.get_mut(&key) else { return false };
            record.add(Record { kept: true, ..Record::default() });
            record.paused = paused;
            let torrent = if paused { items.take_active(&key) } else { None };
            items.waiting.remove(&key);
            (key, torrent)
        };
        self.engine.persist(key).await;
        if let Some(torrent) = torrent {
            torrent.shutdown().await;
        }
        // A place is free, or wanted.
        self.engine.house.notify_one();
        true
    }
}

impl Engine {
    /// The metadata of a paused item, if the store has it.
    pub(crate) async fn resolve_paused(
        &self,
        infohash: InfoHash,
        id: ContentId,
    ) -> Result<Arc<ContentMeta>, FetchError> {
        let stored = self.stored_info(infohash).await;
        let (info, bytes) = stored.ok_or_else(|| not_here(id, Stage::Resolve))?;
        Ok(Arc::new(info.to_meta(info.id(&bytes))))
    }

    /// Reads a range of a paused item's file, all of which the store has.
    pub(crate) async fn open_paused(
        &self,
        infohash: InfoHash,
        file: FileRef,
        range: ByteRange,
    ) -> Result<ContentReader, FetchError> {
        let absent = |detail: &str| FetchError::new(file.id, Stage::FirstByte, FetchErrorKind::NotFound, detail);
        let stored = self.stored_info(infohash).await;
        let (info, _) = stored.ok_or_else(|| not_here(file.id, Stage::FirstByte))?;
        let entry = info.files.get(file.index).ok_or_else(|| absent("no such file"))?;
        let inside = range.shift(entry.offset).filter(|range| range.end() <= entry.offset + entry.len);
        let inside = inside.ok_or_else(|| absent("the range leaves the file"))?;
        let (store, geometry) = (self.environment.context.store.clone(), info.geometry());
        let mut pieces = geometry.pieces_of(inside.start(), inside.end());
        let is_here = |piece| info.piece_hash(piece).is_some_and(|hash| store.contains(&hash));
        if !pieces.all(is_here) {
            return Err(not_here(file.id, Stage::FirstByte));
        }
        let tally = Arc::new(CacheTally::default());
        let reading =
            Reading { id: file.id, info, geometry, store, at: inside.start(), end: inside.end(), tally: tally.clone() };
        let bytes = stream::unfold(Some(reading), |reading| async move { reading?.next().await });
        Ok(ContentReader::new(bytes).with_account(tally))
    }
}

/// A range of a paused item on its way to a reader.
struct Reading {
    id: ContentId,
    info: Info,
    geometry: Geometry,
    store: Store,
    at: u64,
    end: u64,
    tally: Arc<CacheTally>,
}

impl Reading {
    /// The next bytes, and the rest of the reading; there is none after an error.
    async fn next(mut self) -> Option<(Result<VerifiedBytes, FetchError>, Option<Self>)> {
        if self.at >= self.end {
            return None;
        }
        match self.read().await {
            Ok(bytes) => {
                let len = bytes.len() as u64;
                self.at += len;
                self.tally.0.fetch_add(len, Ordering::Relaxed);
                Some((Ok(bytes), Some(self)))
            }
            Err(error) => Some((Err(error), None)),
        }
    }

    async fn read(&self) -> Result<VerifiedBytes, FetchError> {
        let piece: PieceIndex = self.geometry.piece_at(self.at);
        let begin = self.at - self.geometry.start_of(piece);
        let left = u64::from(self.geometry.len_of(piece)).saturating_sub(begin);
        let len = left.min(CHUNK).min(self.end - self.at);
        let gone = || not_here(self.id, Stage::Stream);
        let (Ok(from), Ok(to)) = (u32::try_from(begin), u32::try_from(begin + len)) else { return Err(gone()) };
        let hash = self.info.piece_hash(piece.0).filter(|_| len > 0).ok_or_else(gone)?;
        match self.store.read(&hash, from..to).await {
            Ok(found) => found.ok_or_else(gone),
            Err(error) => {
                tracing::warn!(%error, "reading the cache failed");
                let detail = "the cache cannot be read or written";
                Err(FetchError::new(self.id, Stage::Stream, FetchErrorKind::StoreIo, detail))
            }
        }
    }
}

/// What a reader of a paused item was handed, in bytes: all of it was here.
#[derive(Debug, Default)]
struct CacheTally(AtomicU64);

impl Account for CacheTally {
    fn mix(&self) -> SourceMix {
        SourceMix::of_one(self.0.load(Ordering::Relaxed), "bt", 0)
    }
}

fn not_here(id: ContentId, stage: Stage) -> FetchError {
    FetchError::new(id, stage, FetchErrorKind::NotCached, AddItemError::Paused.to_string())
}
