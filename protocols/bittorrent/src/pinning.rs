//! Items that are pinned: all of them, or the files that are selected, are fetched though nobody reads them, and nothing of
//! that is evicted.
//!
//! That one is pinned is in its record. The store holds its pieces under a root of its name, those that have still to come
//! too; its swarm is told what is wanted whenever it is active.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_bittorrent_proto::metainfo::Info;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{BlockHash, InfoHash, TorrentId};
use swarmgate_store::Store;
use swarmgate_swarm::{SwarmGone, SwarmHandle};

use crate::items::Engine;
use crate::protocol::BitTorrentProtocol;
use crate::record::Record;
use crate::selection;

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

/// What of a pinned item is fetched and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    /// Which files; `None`: all.
    pub(crate) select: Option<Selection>,
}

/// What of an active torrent is pinned, as its swarm and the store were told. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct PinState(Arc<Mutex<Option<Told>>>);

#[derive(Debug)]
pub(crate) struct Told {
    pin: Pin,
    at: Instant,
}

impl PinState {
    /// Tells the swarm what is wanted, and says whether its pieces have to be held from now on.
    pub(crate) async fn tell(&self, pin: Option<Pin>, handle: &SwarmHandle, store: &Store) -> bool {
        let Some(pin) = pin else {
            let told = self.0.lock().take();
            if told.is_some() {
                store.unpin(&root_of(handle.infohash()));
                // A swarm that is gone wants nothing.
                let _ = handle.want_everything(false).await;
            }
            return false;
        };
        let told = self.0.lock().as_ref().filter(|told| told.pin == pin).map(|told| told.at);
        let lately = told.is_some_and(|at| at.elapsed() < WANT_AGAIN);
        if lately || pin.ask(handle).await.is_err() {
            return false;
        }
        *self.0.lock() = Some(Told { pin, at: Instant::now() });
        told.is_none()
    }

    /// Waits for the metadata, and has the store hold what is pinned of all that it names; unless it is pinned no longer by
    /// then.
    pub(crate) async fn hold(self, handle: SwarmHandle, store: Store) {
        let Ok(Ok(known)) = handle.wait_known().await else { return };
        let pin = self.0.lock().as_ref().map(|told| told.pin.clone());
        let Some(pin) = pin else { return };
        // Which pieces its files have is known only now.
        if pin.ask(&handle).await.is_err() {
            return;
        }
        let blocks = Blocks::of(&pin, &known.info, known.id);
        let unpinned = {
            let told = self.0.lock();
            if told.as_ref().is_some_and(|told| told.pin == pin) {
                blocks.hold(handle.infohash(), &store);
            }
            told.is_none()
        };
        if unpinned {
            // It was while the swarm was asked.
            let _ = handle.want_everything(false).await;
        }
    }
}

impl Pin {
    /// Has a swarm fetch it, as far as its pieces are known.
    async fn ask(&self, handle: &SwarmHandle) -> Result<(), SwarmGone> {
        match (&self.select, handle.known()) {
            (None, _) => handle.want_everything(true).await,
            (Some(select), Some(known)) => {
                handle.want_pieces(selection::pieces(&known.info.files, &known.geometry, select)).await
            }
            (Some(_), None) => handle.want_everything(false).await,
        }
    }
}

/// The blocks of an item, by whether they are to be held.
struct Blocks {
    held: Vec<BlockHash>,
    others: Vec<BlockHash>,
}

impl Blocks {
    /// Of the pieces, those that a pin is for are held; so is the metadata, which a restart needs to serve them.
    fn of(pin: &Pin, info: &Info, id: TorrentId) -> Self {
        let selected = pin.select.as_ref().map(|select| selection::pieces(&info.files, &info.geometry(), select));
        let mut blocks = Self { held: Vec::new(), others: Vec::new() };
        for piece in 0..info.piece_count() {
            let Some(hash) = info.piece_hash(piece) else { continue };
            let is_held = selected.as_ref().is_none_or(|selected| selected.get(PieceIndex(piece)));
            if is_held { blocks.held.push(hash) } else { blocks.others.push(hash) }
        }
        let names = [id.v1().map(TorrentId::V1), id.v2().map(TorrentId::V2)].into_iter().flatten();
        blocks.held.extend(names.map(BlockHash::from));
        blocks
    }

    /// Has the store hold what is to be held of an item, and nothing else of it.
    fn hold(&self, infohash: InfoHash, store: &Store) {
        let root = root_of(infohash);
        let pin = |root: &str| self.held.chunks(BATCH).for_each(|some| store.pin(root, some.iter().copied()));
        if !self.others.iter().any(|hash| store.is_pinned(hash)) {
            return pin(&root);
        }
        // A root is let go as a whole: what stays is held by another meanwhile.
        let meanwhile = format!("{root}:next");
        pin(&meanwhile);
        store.unpin(&root);
        pin(&root);
        store.unpin(&meanwhile);
    }
}

impl Engine {
    /// Has every active item fetched and held that is pinned, and the others no longer.
    pub(crate) async fn apply_pins(&self) {
        let active: Vec<_> = {
            let items = self.items.lock();
            items.active.iter().map(|(infohash, torrent)| (*infohash, torrent.clone())).collect()
        };
        for (infohash, torrent) in active {
            // As it is now: what others are told takes time.
            let pin = self.items.lock().records.get(&infohash).and_then(Record::pin);
            torrent.set_pin(pin, &self.environment.context.store).await;
        }
    }

    /// Has what is pinned of an item held from now on, and fetched if it is active.
    pub(crate) async fn apply_pin(&self, infohash: InfoHash, pin: Pin) {
        let store = &self.environment.context.store;
        let torrent = self.items.lock().active.get(&infohash).cloned();
        if let Some(torrent) = torrent {
            torrent.set_pin(Some(pin), store).await;
        } else if let Some((info, bytes)) = self.stored_info(infohash).await {
            Blocks::of(&pin, &info, info.id(&bytes)).hold(infohash, store);
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
    /// Pins an item: it stays, all of it or what is selected is fetched, and nothing of that is evicted; or lets it go, after
    /// which it stays as an item that was added to stay. Tells whether the item is known.
    ///
    /// # Errors
    /// [`PinRefused`] when the cache cannot hold what is missing of it.
    pub async fn set_pinned(&self, infohash: &InfoHash, pinned: bool) -> Result<bool, PinRefused> {
        let (key, was_pinned, select) = {
            let items = self.engine.items.lock();
            let key = items.key(*infohash);
            let Some(record) = items.records.get(&key) else { return Ok(false) };
            (key, record.pinned, record.select.clone())
        };
        if pinned && !was_pinned {
            self.check_room(&key, select.as_ref()).await?;
        }
        let (torrent, pin) = {
            let mut items = self.engine.items.lock();
            let Some(record) = items.records.get_mut(&key) else { return Ok(false) };
            record.add(Record { kept: pinned, ..Record::default() });
            record.pinned = pinned;
            let pin = record.pin();
            (items.active.get(&key).cloned(), pin)
        };
        self.engine.persist(key).await;
        if let Some(torrent) = torrent {
            torrent.set_pin(pin, &self.engine.environment.context.store).await;
        }
        if !pinned {
            self.engine.let_go(key);
        }
        // It may have to be given a place, or have its place dealt to another.
        self.engine.house.notify_one();
        Ok(true)
    }

    /// Whether what is missing of an item, or of what is selected of it, has room beside all that is pinned, as far as its
    /// files are known.
    pub(crate) async fn check_room(&self, infohash: &InfoHash, select: Option<&Selection>) -> Result<(), PinRefused> {
        let Some(shape) = self.shape(infohash).await else { return Ok(()) };
        let missing = shape.missing_bytes(select);
        let usage = self.engine.environment.context.store.usage();
        let room = usage.max_bytes.saturating_sub(usage.pinned_bytes);
        if missing > room { Err(PinRefused::NoRoom { missing, room }) } else { Ok(()) }
    }
}

fn root_of(infohash: InfoHash) -> String {
    format!("{ROOT}{infohash}")
}
