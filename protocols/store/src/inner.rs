//! What all handles of one store share: the state under its one lock, and how blocks leave.
//!
//! The lock is held for map operations only, never across I/O or an await, and never while megabytes are freed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use swarmgate_content::VerifiedBytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};

use crate::disk::Disk;
use crate::error::StorageFault;
use crate::hot::Hot;
use crate::key::Key;
use crate::ledger::{Entry, Ledger, Victim};
use crate::options::{MAX_EVENT_BLOCKS, StoreEvent};
use crate::records::MemoryRecords;
use crate::references::read::Turns;
use crate::references::{Edit, Referenced, References};
use crate::verify::Verifier;

/// Shared by all handles, windows and jobs of one store.
pub(crate) struct Inner {
    pub(crate) state: Mutex<State>,
    /// Told whenever room, a name or the last job becomes free.
    pub(crate) changed: Notify,
    pub(crate) events: broadcast::Sender<StoreEvent>,
    pub(crate) verifier: Verifier,
    pub(crate) home: Home,
    pub(crate) runtime: Handle,
    pub(crate) closed: AtomicBool,
    /// Readers' windows that are open.
    pub(crate) windows: AtomicU64,
    /// One close at a time; the others wait for it.
    pub(crate) closing: tokio::sync::Mutex<()>,
    /// Held while pins and references change in memory and are handed to the index, so that both see one order. Taken
    /// before the lock of the state.
    pub(crate) pinning: Mutex<()>,
    /// Who may read a block that is referenced.
    pub(crate) turns: Turns,
    /// A change of pins that did not reach the disk, until somebody asks.
    pub(crate) pins_lost: Mutex<Option<StorageFault>>,
    active: AtomicUsize,
}

/// Where a store lives.
#[derive(Debug)]
pub(crate) enum Home {
    /// In memory; records too.
    Memory(Mutex<MemoryRecords>),
    /// In a directory.
    Disk(Box<Disk>),
}

/// Everything the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) hot: Hot,
    pub(crate) references: References,
}

/// What follows from dropping references.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// Blocks that are nowhere any more.
    pub(crate) keys: Vec<Key>,
    /// For the index.
    pub(crate) edit: Edit,
    /// To be dropped outside the lock.
    pub(crate) cold: Vec<VerifiedBytes>,
}

/// Where a block can be had.
#[derive(Debug)]
pub(crate) enum Found {
    Absent,
    Hot(VerifiedBytes),
    Cold { len: u64, entry: Entry },
    Referenced(Referenced),
}

impl State {
    /// Uses a block. What the store has itself goes before what is referenced.
    pub(crate) fn find(&mut self, key: &Key) -> Found {
        let cold = self.ledger.touch(key).map(|(len, entry)| Found::Cold { len, entry });
        let found = cold.or_else(|| self.references.get(key).map(Found::Referenced));
        let Some(found) = found else { return Found::Absent };
        let tick = self.ledger.next_tick();
        self.hot.touch(key, tick).map_or(found, Found::Hot)
    }

    /// How long a block is, if it is here.
    pub(crate) fn len_of(&self, key: &Key) -> Option<u64> {
        let own = self.ledger.get(key).map(|(len, _)| len);
        own.or_else(|| self.references.get(key).map(|referenced| referenced.len.into()))
    }

    /// Keeps a block's bytes in memory if the very block they were read from is still here.
    #[must_use = "to be dropped outside the lock"]
    pub(crate) fn warm(&mut self, key: Key, generation: u64, bytes: VerifiedBytes) -> Vec<VerifiedBytes> {
        let tick = self.ledger.next_tick();
        match self.ledger.get(&key) {
            Some((_, entry)) if entry.generation == generation => self.hot.insert(key, bytes, tick),
            _ => vec![bytes],
        }
    }

    /// Keeps a referenced block's bytes in memory if it is still the reference that they were read by.
    #[must_use = "to be dropped outside the lock"]
    pub(crate) fn warm_referenced(&mut self, key: Key, generation: u64, bytes: VerifiedBytes) -> Vec<VerifiedBytes> {
        let tick = self.ledger.next_tick();
        match self.references.get(&key) {
            Some(referenced) if referenced.generation == generation => self.hot.insert_referenced(key, bytes, tick),
            _ => vec![bytes],
        }
    }

    /// Drops a reference, of this generation if one is given; whether there was one.
    pub(crate) fn drop_reference(&mut self, key: &Key, generation: Option<u64>, gone: &mut Gone) -> bool {
        if !self.references.remove(key, generation, &mut gone.edit) {
            return false;
        }
        if self.ledger.get(key).is_none() {
            gone.keys.push(*key);
            gone.cold.extend(self.hot.remove(key));
        }
        true
    }

    /// Drops a root, and the references that nothing pins any more. `None` when there is no such root.
    pub(crate) fn unpin(&mut self, root: &str) -> Option<Gone> {
        let keys = self.ledger.unpin(root)?;
        let mut gone = Gone::default();
        for key in &keys {
            if !self.ledger.is_pinned(key) {
                self.drop_reference(key, None, &mut gone);
            }
        }
        Some(gone)
    }
}

impl Inner {
    pub(crate) fn new(state: State, home: Home, verifier: Verifier, runtime: Handle) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            events: broadcast::Sender::new(crate::options::EVENT_CAPACITY),
            verifier,
            home,
            runtime,
            closed: AtomicBool::new(false),
            windows: AtomicU64::new(0),
            closing: tokio::sync::Mutex::new(()),
            pinning: Mutex::new(()),
            turns: Turns::new(),
            pins_lost: Mutex::new(None),
            active: AtomicUsize::new(0),
        }
    }

    /// Begins an operation that may leave a job behind, unless the store is closed.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Active> {
        let active = Active::new(self);
        // Counted before asked: close() sets the flag before it looks at the count, so one of the two sees the other.
        (!self.closed.load(Ordering::SeqCst)).then_some(active)
    }

    /// How many operations and jobs are under way.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// The directory's side, if there is one.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        match &self.home {
            Home::Memory(_) => None,
            Home::Disk(disk) => Some(disk),
        }
    }

    /// Takes a block that turned out to be damaged or missing out of the store, unless it is another by now.
    pub(crate) fn forget(self: &Arc<Self>, active: &Active, key: &Key, generation: u64) {
        let victim = self.state.lock().ledger.take(key, Some(generation));
        let Some(victim) = victim else { return };
        tracing::warn!(block = %key.hash(), bytes = victim.len, "a stored block was damaged and is dropped");
        self.destroy(active, vec![victim]);
    }

    /// Deletes blocks that the ledger has let go, and tells the subscribers. Returns at once; the deletion goes on
    /// whatever becomes of the caller.
    pub(crate) fn destroy(self: &Arc<Self>, active: &Active, victims: Vec<Victim>) {
        let cold: Vec<VerifiedBytes> = {
            let mut state = self.state.lock();
            victims.iter().filter_map(|victim| state.hot.remove(&victim.key)).collect()
        };
        drop(cold);
        self.tell_gone(&victims.iter().map(|victim| victim.key).collect::<Vec<_>>());
        match &self.home {
            Home::Memory(_) => self.destroyed(&victims, true),
            Home::Disk(disk) => disk.destroy(active, victims),
        }
    }

    /// Tells the subscribers of blocks that are gone.
    pub(crate) fn tell_gone(&self, keys: &[Key]) {
        for some in keys.chunks(MAX_EVENT_BLOCKS) {
            // An error means that nobody listens, which is fine.
            let _ = self.events.send(StoreEvent::Evicted(some.iter().map(Key::hash).collect()));
        }
    }

    /// Settles the accounts of deleted blocks.
    pub(crate) fn destroyed(&self, victims: &[Victim], deleted: bool) {
        {
            let mut state = self.state.lock();
            victims.iter().for_each(|victim| state.ledger.destroyed(victim, deleted));
        }
        self.changed.notify_waiters();
    }

    /// Waits until `ready` gives something, asking again after each change.
    pub(crate) async fn wait_for<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Listening begins before the question, so no change between the two is missed.
            changed.as_mut().enable();
            if let Some(value) = ready() {
                return value;
            }
            changed.await;
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Proof that an operation is counted: close() waits until the last is dropped.
#[derive(Debug)]
pub(crate) struct Active {
    inner: Arc<Inner>,
}

impl Active {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.active.fetch_add(1, Ordering::SeqCst);
        Self { inner: Arc::clone(inner) }
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Clone for Active {
    fn clone(&self) -> Self {
        Self::new(&self.inner)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.inner.active.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.inner.changed.notify_waiters();
        }
    }
}
