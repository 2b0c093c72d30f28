//! The handle: every operation of a store, each a few lines over the parts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use swarmgate_content::{BlockHash, VerifiedBytes};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use crate::admission::Warmth;
use crate::database::{Change, MAX_NAME_BYTES};
use crate::disk::{Disk, Opened};
use crate::error::{OpenError, PutError, ReadError, StorageFault};
use crate::hot::Hot;
use crate::inner::{Active, Gone, Home, Inner, State};
use crate::key::Key;
use crate::ledger::{Ledger, Victim};
use crate::options::{StoreEvent, StoreOptions, Usage};
use crate::records::MemoryRecords;
use crate::references::{References, drop_reference};
use crate::verify::{HASH_THREADS, VerifiedBlock, Verifier};
use crate::volume::{Probe, free_bytes_at};
use crate::window::Window;
use crate::{admission, reading};

/// A handle on a content-addressed store. Clones share one store; the last one to go ends it, without the mark of a
/// clean close unless [`Store::close`] was called.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens a store, and creates its directory if need be. Belongs to the runtime it is called in.
    ///
    /// # Errors
    /// [`OpenError`] when the directory cannot be a store, or is one that somebody else has open.
    pub async fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let probe = options.dir.clone().map(|dir| -> Probe { Box::new(move || free_bytes_at(&dir)) });
        Self::open_with(options, probe).await
    }

    pub(crate) async fn open_with(options: StoreOptions, probe: Option<Probe>) -> Result<Self, OpenError> {
        let runtime = Handle::current();
        let verifier = Verifier::new(HASH_THREADS);
        let (Some(dir), Some(probe)) = (options.dir.clone(), probe) else {
            let ledger = Ledger::new(options.max_bytes);
            let state = State { ledger, hot: Hot::store(), references: References::default() };
            let home = Home::Memory(Mutex::new(MemoryRecords::new()));
            return Ok(Self { inner: Arc::new(Inner::new(state, home, verifier, runtime)) });
        };
        let hot = Hot::cache(options.memory_bytes);
        let shown = dir.display().to_string();
        let job = {
            let runtime = runtime.clone();
            tokio::task::spawn_blocking(move || Disk::open(&dir, &options, probe, runtime))
        };
        let Opened { disk, ledger, references, surplus } = job.await.unwrap_or_else(|error| {
            Err(OpenError::Io(StorageFault::new("opening", shown, std::io::Error::other(error))))
        })?;
        let home = Home::Disk(Box::new(disk));
        let state = State { ledger, hot, references };
        let store = Self { inner: Arc::new(Inner::new(state, home, verifier, runtime)) };
        if let Some(active) = store.inner.enter().filter(|_| !surplus.is_empty()) {
            store.destroy_and_wait(&active, surplus).await;
        }
        Ok(store)
    }

    /// The pool that turns bytes into blocks.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.inner.verifier
    }

    /// Whether a block is here. Does not count as use. After an unclean stop the block may yet turn out damaged, and a
    /// referenced one at any time.
    #[must_use]
    pub fn contains(&self, hash: &BlockHash) -> bool {
        self.inner.state.lock().len_of(&Key::from(hash)).is_some()
    }

    /// How long a block is, if it is here.
    #[must_use]
    pub fn block_len(&self, hash: &BlockHash) -> Option<u32> {
        let found = self.inner.state.lock().len_of(&Key::from(hash));
        found.and_then(|len| u32::try_from(len).ok())
    }

    /// Stores a block, evicting others if need be. Once it returns, a kill at any moment does not lose the block; a
    /// power loss may. A block that is stored already is used, no more; one that is only referenced is stored. A
    /// dropped call gives back what it had reserved; the block may be stored all the same.
    ///
    /// Waits while room that would do is held by puts under way.
    ///
    /// # Errors
    /// [`PutError`]; whatever was stored before still is, except what was evicted to make room.
    pub async fn put(&self, block: VerifiedBlock) -> Result<(), PutError> {
        admission::put(&self.inner, block, Warmth::Warm).await
    }

    /// Stores a block whose readers have it already: as [`Store::put`], but in front of a disk it takes no memory until
    /// it is read.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn put_cold(&self, block: VerifiedBlock) -> Result<(), PutError> {
        admission::put(&self.inner, block, Warmth::Cold).await
    }

    /// Reads a part of a block; `None` when the block is not here (any more), nor in the file where it was referenced.
    /// Counts as use.
    ///
    /// # Errors
    /// [`ReadError`] when the range leaves the block or the disk fails.
    pub async fn read(&self, hash: &BlockHash, range: Range<u32>) -> Result<Option<VerifiedBytes>, ReadError> {
        reading::read(&self.inner, hash, range).await
    }

    /// Reads a whole block; as [`Store::read`] with its full range.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_all(&self, hash: &BlockHash) -> Result<Option<VerifiedBytes>, ReadError> {
        match self.block_len(hash) {
            Some(len) => self.read(hash, 0..len).await,
            None => Ok(None),
        }
    }

    /// Reads a whole block if that needs no waiting: it is in memory, or in a file of at most 256 KiB that is open and
    /// that the system has in its page cache. `None` says nothing of whether it is here. Counts as use.
    #[must_use]
    pub fn read_at_once(&self, hash: &BlockHash) -> Option<VerifiedBytes> {
        reading::read_at_once(&self.inner, hash)
    }

    /// Hashes a block again, off the disk, and lets it go if it is not what its name says; whether it is here after that. A
    /// block in memory alone, or in a file of somebody else's, is checked whenever it is read.
    ///
    /// # Errors
    /// As [`Store::read`]; the block is then read with no less care than after a crash.
    pub async fn recheck(&self, hash: &BlockHash) -> Result<bool, ReadError> {
        let key = Key::from(hash);
        if self.inner.disk().is_some() {
            let _cold = {
                let mut state = self.inner.state.lock();
                if state.ledger.doubt(&key) { state.hot.remove(&key) } else { None }
            };
        }
        self.read(hash, 0..0).await.map(|read| read.is_some())
    }

    /// Deletes a block, pinned or not; `false` when it is not here. Once it returns, the block is off the disk. Readers
    /// that have bytes of it keep them. Of a referenced block it is the reference that goes; the file is left alone.
    pub async fn remove(&self, hash: &BlockHash) -> bool {
        let Some(active) = self.inner.enter() else { return false };
        let dropped = drop_reference(&active, &Key::from(hash), None);
        let victim = self.inner.state.lock().ledger.take(&Key::from(hash), None);
        let removed = dropped.is_some() || victim.is_some();
        self.destroy_and_wait(&active, victim.into_iter().collect()).await;
        if let Some(told) = dropped {
            // A store in memory has nobody to tell.
            let _ = told.await;
        }
        removed
    }

    /// Adds blocks, here or still to come, to a named root: eviction spares them until the root is unpinned. On disk
    /// soon; [`Store::flush`] waits for it. A root named in more than 1 KiB is not kept.
    pub fn pin(&self, root: &str, hashes: impl IntoIterator<Item = BlockHash>) {
        if root.len() > MAX_NAME_BYTES {
            tracing::warn!(bytes = root.len(), "a root with so long a name cannot be pinned");
            return;
        }
        let hashes: Vec<Key> = hashes.into_iter().map(|hash| Key::from(&hash)).collect();
        let root = root.to_owned();
        self.change_pins(|state| {
            let keys = state.ledger.pin(&root, hashes);
            (!keys.is_empty()).then_some(Change::Pin { root, keys })
        });
    }

    /// Drops a root: its blocks may be evicted again, unless another root or a window holds them, and references go
    /// that no other root has.
    pub fn unpin(&self, root: &str) {
        let mut gone = Gone::default();
        self.change_pins(|state| {
            gone = state.unpin(root)?;
            Some(Change::Unpin { root: root.to_owned(), edit: std::mem::take(&mut gone.edit) })
        });
        self.inner.tell_gone(&gone.keys);
    }

    /// Whether some root has this block, which may still have to come.
    #[must_use]
    pub fn is_pinned(&self, hash: &BlockHash) -> bool {
        self.inner.state.lock().ledger.is_pinned(&Key::from(hash))
    }

    /// The names of all roots that are pinned.
    #[must_use]
    pub fn pinned_roots(&self) -> Vec<String> {
        self.inner.state.lock().ledger.roots()
    }

    /// Opens a window for one reader.
    #[must_use]
    pub fn window(&self) -> Window {
        Window::new(Arc::clone(&self.inner))
    }

    /// Follows what happens from now on. Whoever lags asks [`Store::contains`] again.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<StoreEvent> {
        self.inner.events.subscribe()
    }

    /// How full the store is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let disk = self.inner.disk();
        let free_disk_bytes = disk.and_then(|disk| disk.volume.free_bytes());
        let state = self.inner.state.lock();
        let accounts = state.ledger.accounts();
        Usage {
            bytes: accounts.bytes,
            max_bytes: accounts.max_bytes,
            blocks: accounts.blocks,
            pinned_bytes: accounts.pinned_bytes,
            protected_bytes: accounts.protected_bytes,
            windows: self.inner.windows.load(Ordering::Relaxed),
            reserved_bytes: accounts.reserved_bytes,
            free_disk_bytes,
            min_free_bytes: disk.map_or(0, |disk| disk.volume.min_free_bytes()),
            memory_bytes: state.hot.bytes(),
            referenced_blocks: state.references.len() as u64,
            referenced_bytes: state.references.bytes(),
        }
    }

    /// Waits for everything under way, puts it on the disk for good and leaves the mark of a clean close, so that the
    /// next start trusts what it finds. Later calls are refused; closing again does nothing.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        let _alone = self.inner.closing.lock().await;
        let inner = &self.inner;
        inner.wait_for(|| (inner.active() == 0).then_some(())).await;
        if inner.disk().is_none_or(Disk::is_closed) {
            return;
        }
        let shared = Arc::clone(inner);
        let job = inner.runtime.spawn_blocking(move || {
            let blocks = shared.state.lock().ledger.oldest_first();
            if let Some(disk) = shared.disk() {
                disk.close(&blocks);
            }
        });
        if job.await.is_err() {
            tracing::warn!("the runtime stopped before the store was closed");
        }
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) async fn destroy_and_wait(&self, active: &Active, victims: Vec<Victim>) {
        let keys: Vec<Key> = victims.iter().map(|victim| victim.key).collect();
        self.inner.destroy(active, victims);
        for key in keys {
            self.inner.wait_for(|| (!self.inner.state.lock().ledger.is_busy(&key)).then_some(())).await;
        }
    }

    /// Changes pins in memory and on disk in the same order, whoever else does.
    fn change_pins(&self, edit: impl FnOnce(&mut State) -> Option<Change>) {
        let Some(active) = self.inner.enter() else { return };
        let _in_order = self.inner.pinning.lock();
        let change = edit(&mut self.inner.state.lock());
        let (Some(change), Some(disk)) = (change, self.inner.disk()) else { return };
        let kept = active.clone();
        let done = move |result: Result<(), StorageFault>| {
            if let Err(error) = result {
                tracing::error!(%error, "a change of pins is lost with this process");
                *kept.inner().pins_lost.lock() = Some(error);
            }
            drop(kept);
        };
        disk.database.submit(change, Box::new(done));
    }
}
