//! Hashes all that the cache has of an item again, and lets go what is wrong.

use swarmgate_bittorrent_proto::metainfo::Info;
use swarmgate_content::{BlockHash, InfoHash};
use swarmgate_store::Store;

use crate::protocol::BitTorrentProtocol;

/// What a recheck found, in pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Recheck {
    /// All of the item.
    pub pieces: usize,
    /// Those that were in the cache and are right.
    pub right: usize,
    /// Those that were wrong, or could not be read, and are gone.
    pub dropped: usize,
    /// Those that were not in the cache.
    pub missing: usize,
}

/// Hashes all that a store has of an item again, and lets go what is wrong; takes as long as reading it all does. `None`
/// when the store does not have the item's metadata.
pub async fn recheck(store: &Store, infohash: InfoHash) -> Option<Recheck> {
    let bytes = store.read_all(&BlockHash::from(infohash)).await.ok()??;
    let info = Info::parse(&bytes.into_bytes()).ok()?;
    Some(recheck_info(store, &info).await)
}

async fn recheck_info(store: &Store, info: &Info) -> Recheck {
    let mut found = Recheck { pieces: info.pieces.count(), ..Recheck::default() };
    for hash in (0..found.pieces).filter_map(|piece| info.pieces.get(piece)) {
        if !store.contains(&hash) {
            found.missing += 1;
            continue;
        }
        match store.recheck(&hash).await {
            Ok(true) => found.right += 1,
            Ok(false) => found.dropped += 1,
            Err(error) => {
                tracing::warn!(%error, "a piece cannot be read and is let go");
                store.remove(&hash).await;
                found.dropped += 1;
            }
        }
    }
    found
}

impl BitTorrentProtocol {
    /// As [`recheck`], for an item of this engine: what is wrong is fetched anew when it is wanted.
    pub async fn recheck(&self, infohash: &InfoHash) -> Option<Recheck> {
        let store = &self.engine.environment.context.store;
        let found = match self.known(infohash) {
            Some(known) => recheck_info(store, &known.info).await,
            None => recheck(store, *infohash).await?,
        };
        self.check_store(infohash).await;
        tracing::info!(%infohash, found.pieces, found.right, found.dropped, found.missing, "rechecked");
        Some(found)
    }
}
