//! Items that are pinned: all of them is fetched, though nobody reads them, and nothing of them is evicted.
//!
//! That one is pinned is in its record. The store holds its pieces under a root of its name, those that have still to come
//! too; its swarm is told that all of it is wanted whenever it is active.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_content::{BlockHash, InfoHash, TorrentId};
use swarmgate_store::Store;
use swarmgate_swarm::{Known, SwarmHandle};

use crate::items::Engine;
use crate::protocol::BitTorrentProtocol;
use crate::record::Record;

/// What the names of pinned items begin with, in the store.
const ROOT: &str = "bittorrent:";
/// Pieces that are held in one go: one write for all of them.
const BATCH: usize = 512;
/// A swarm whose piece finds no room in the store stops to want what nobody reads. After so long it tries again.
const WANT_AGAIN: Duration = Duration::from_secs(300);

/// Why an item was not pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinRefused {
    /// The cache is too small for what is pinned already and this.
    #[error("{missing} bytes of it are missing, and the cache has room for {room} that stay")]
    NoRoom {
        /// Bytes that would have to be fetched.
        missing: u64,
        /// Bytes that the cache could hold besides what is pinned.
        room: u64,
    },
}

/// Whether an active torrent is pinned, as its swarm and the store were told. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct PinState(Arc<Mutex<Option<Instant>>>);

impl PinState {
    /// Tells the swarm whether all of it is wanted, and says whether its pieces have to be held from now on.
    pub(crate) async fn tell(&self, pinned: bool, handle: &SwarmHandle, store: &Store) -> bool {
        let told = *self.0.lock();
        if !pinned {
            if told.is_some() {
                *self.0.lock() = None;
                store.unpin(&root_of(handle.infohash()));
                // A swarm that is gone wants nothing.
                let _ = handle.want_everything(false).await;
            }
            return false;
        }
        let lately = told.is_some_and(|at| at.elapsed() < WANT_AGAIN);
        if lately || handle.want_everything(true).await.is_err() {
            return false;
        }
        *self.0.lock() = Some(Instant::now());
        told.is_none()
    }

    /// Waits for the metadata, and has the store hold all that it names; unless it is pinned no longer by then.
    pub(crate) async fn hold(self, handle: SwarmHandle, store: Store) {
        let Ok(Ok(known)) = handle.wait_known().await else { return };
        let (root, hashes) = (root_of(handle.infohash()), blocks_of(&known));
        let told = self.0.lock();
        if told.is_some() {
            hashes.chunks(BATCH).for_each(|some| store.pin(&root, some.iter().copied()));
        }
    }
}

impl Engine {
    /// Has every active item fetched and held that is pinned, and the others no longer.
    pub(crate) async fn apply_pins(&self) {
        let active: Vec<_> = {
            let items = self.items.lock();
            let pinned = |infohash: &InfoHash| items.records.get(infohash).is_some_and(|record| record.pinned);
            items.active.iter().map(|(infohash, torrent)| (torrent.clone(), pinned(infohash))).collect()
        };
        for (torrent, pinned) in active {
            torrent.set_pinned(pinned, &self.environment.context.store).await;
        }
    }

    /// Lets go what the store holds for items that are not `pinned` by their records: a crash may have left it. Those that
    /// are not taken up at this start count as well.
    pub(crate) fn tidy_pins(&self, pinned: &BTreeSet<InfoHash>) {
        let pinned: BTreeSet<String> = pinned.iter().map(|infohash| root_of(*infohash)).collect();
        let store = &self.environment.context.store;
        let left = |name: &String| name.starts_with(ROOT) && !pinned.contains(name);
        for name in store.pinned_roots().into_iter().filter(left) {
            tracing::info!(name, "what was held for an item that is not pinned is let go");
            store.unpin(&name);
        }
    }

    /// Has the store let go what it holds for an item.
    pub(crate) fn let_go(&self, infohash: InfoHash) {
        self.environment.context.store.unpin(&root_of(infohash));
    }
}

impl BitTorrentProtocol {
    /// Pins an item: it stays, all of it is fetched, and nothing of it is evicted; or lets it go, after which it stays as an
    /// item that was added to stay. Tells whether the item is known.
    ///
    /// # Errors
    /// [`PinRefused`] when the cache cannot hold what is missing of it.
    pub async fn set_pinned(&self, infohash: &InfoHash, pinned: bool) -> Result<bool, PinRefused> {
        let (key, was_pinned) = {
            let items = self.engine.items.lock();
            let key = items.key(*infohash);
            let Some(record) = items.records.get(&key) else { return Ok(false) };
            (key, record.pinned)
        };
        if pinned && !was_pinned {
            self.check_room(&key).await?;
        }
        let torrent = {
            let mut items = self.engine.items.lock();
            let Some(record) = items.records.get_mut(&key) else { return Ok(false) };
            record.add(Record { kept: pinned, ..Record::default() });
            record.pinned = pinned;
            items.active.get(&key).cloned()
        };
        self.engine.persist(key).await;
        if let Some(torrent) = torrent {
            torrent.set_pinned(pinned, &self.engine.environment.context.store).await;
        }
        if !pinned {
            self.engine.let_go(key);
        }
        // It may have to be given a place, or have its place dealt to another.
        self.engine.house.notify_one();
        Ok(true)
    }

    /// Whether what is missing of an item has room beside all that is pinned, as far as its files are known.
    async fn check_room(&self, infohash: &InfoHash) -> Result<(), PinRefused> {
        let Some(files) = self.files(infohash).await else { return Ok(()) };
        let all: u64 = files.meta.files.iter().map(|file| file.len).sum();
        let missing = all.saturating_sub(files.have_bytes.iter().sum());
        let usage = self.engine.environment.context.store.usage();
        let room = usage.max_bytes.saturating_sub(usage.pinned_bytes);
        if missing > room { Err(PinRefused::NoRoom { missing, room }) } else { Ok(()) }
    }
}

fn root_of(infohash: InfoHash) -> String {
    format!("{ROOT}{infohash}")
}

/// The names of an item's pieces and of its metadata, which a restart needs to serve them.
fn blocks_of(known: &Known) -> Vec<BlockHash> {
    let pieces = (0..known.info.piece_count()).filter_map(|piece| known.info.piece_hash(piece));
    let names = [known.id.v1().map(TorrentId::V1), known.id.v2().map(TorrentId::V2)].into_iter().flatten();
    pieces.chain(names.map(BlockHash::from)).collect()
}
