//! A store's side on the disk: what is opened, written, deleted and, at the end, sealed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::database::{Change, Contents, Database};
use crate::directory::Directory;
use crate::error::{OpenError, StorageFault};
use crate::files::Files;
use crate::inner::Active;
use crate::key::Key;
use crate::ledger::{self, Ledger, Place, Victim};
use crate::manifest::{self, Manifest, Seal};
use crate::options::StoreOptions;
use crate::references::{Edit, References};
use crate::volume::{Probe, Volume};

/// Files written at once. More only makes a disk seek, and takes threads from readers.
const WRITES_AT_ONCE: usize = 4;

/// Reads at once that may wait for the disk; the rest wait without a thread.
const READS_AT_ONCE: usize = 64;

/// Blocks hashed again at once because they were asked for after a crash. Others wait, so that a hundred readers of one
/// large block do not each read all of it.
const PROOFS_AT_ONCE: usize = 16;

/// The directory, the index, and what bounds their use.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) directory: Arc<Directory>,
    pub(crate) files: Files,
    pub(crate) database: Arc<Database>,
    pub(crate) volume: Volume,
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) writes: Arc<Semaphore>,
    proofs: Vec<Arc<tokio::sync::Mutex<()>>>,
    lock: Mutex<Option<File>>,
}

/// What a directory was found to hold, and what the smaller budget of today has no room for.
pub(crate) struct Opened {
    pub(crate) disk: Disk,
    pub(crate) ledger: Ledger,
    pub(crate) references: References,
    pub(crate) surplus: Vec<Victim>,
}

impl Disk {
    /// Opens a directory and indexes its blocks. Blocks.
    pub(crate) fn open(
        path: &Path,
        options: &StoreOptions,
        probe: Probe,
        runtime: Handle,
    ) -> Result<Opened, OpenError> {
        let (directory, lock) = Directory::open(path)?;
        let scanning = |error| OpenError::from_io("reading", path.to_owned(), error);
        let manifest = directory.take_manifest().map_err(scanning)?;
        let (database, contents) = Database::open(directory.index_path(), runtime)?;
        let mut ledger = Ledger::new(options.max_bytes);
        let doubles = index(&mut ledger, &directory, &manifest, &contents).map_err(scanning)?;
        let (references, leftovers) = refer(&mut ledger, contents);
        let disk = Self {
            directory: Arc::new(directory),
            files: Files::new(),
            database: Arc::new(database),
            volume: Volume::new(probe, options.min_free_bytes),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            writes: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
            proofs: (0..PROOFS_AT_ONCE).map(|_| Arc::default()).collect(),
            lock: Mutex::new(Some(lock)),
        };
        if !doubles.is_empty() {
            disk.database.submit(Change::DropBlocks(doubles), Box::new(|_| {}));
        }
        if !leftovers.is_empty() {
            disk.database.submit(Change::DropReferences(leftovers), Box::new(|_| {}));
        }
        let surplus = ledger.trim();
        Ok(Opened { disk, ledger, references, surplus })
    }

    /// The lock that lets one caller at a time prove a block; a few names share each.
    pub(crate) fn proof_lock(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.proofs[usize::from(key.spread()) % PROOFS_AT_ONCE])
    }

    /// Deletes blocks: files on a blocking thread, rows with the next commit.
    pub(crate) fn destroy(&self, active: &Active, victims: Vec<Victim>) {
        let (rows, files): (Vec<_>, Vec<_>) = victims.into_iter().partition(|victim| victim.entry.place == Place::Row);
        if !files.is_empty() {
            let condemned = Condemned { active: active.clone(), victims: files };
            active.inner().runtime.spawn_blocking(move || delete_files(condemned));
        }
        if !rows.is_empty() {
            let keys = rows.iter().map(|victim| victim.key).collect();
            let mut condemned = Condemned { active: active.clone(), victims: rows };
            let done = move |result: Result<(), StorageFault>| match result {
                Ok(()) => {
                    condemned.victims.drain(..).for_each(|victim| condemned.active.inner().destroyed(&[victim], true))
                }
                Err(error) => tracing::warn!(%error, "evicted blocks stay"),
            };
            self.database.submit(Change::DropBlocks(keys), Box::new(done));
        }
    }

    /// Whether [`Self::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock.lock().is_none()
    }

    /// Puts everything on the disk for good and seals what is proven. Blocks.
    pub(crate) fn close(&self, blocks: &[(Key, u64, ledger::Entry)]) {
        self.files.close_all();
        let proven: Vec<_> = blocks.iter().filter(|(_, _, entry)| entry.proven).collect();
        let files: Vec<Key> =
            proven.iter().filter(|(_, _, entry)| entry.place == Place::File).map(|(key, ..)| *key).collect();
        let rows = self.database.row_times().unwrap_or_default();
        let seals = proven.iter().filter_map(|(key, len, entry)| {
            let changed = match entry.place {
                Place::File => self.directory.seal(key).ok().filter(|seal| u64::from(seal.len) == *len)?.changed,
                Place::Row | Place::Memory => *rows.get(key)?,
            };
            Some((*key, Seal { len: u32::try_from(*len).ok()?, changed }))
        });
        let manifest = manifest::write(seals);
        self.database.close();
        let sealed = self.directory.sync(&files).and_then(|()| self.directory.write_manifest(&manifest));
        if let Err(error) = sealed {
            tracing::warn!(%error, dir = %self.directory.root().display(), "the next start hashes blocks again");
        }
        let lock = self.lock.lock().take();
        drop(lock);
    }
}

impl Drop for Disk {
    /// Closes the index before the lock goes, so that whoever opens the directory next finds it free. May wait for one
    /// commit.
    fn drop(&mut self) {
        self.database.close();
    }
}

/// Blocks about to be deleted. Those still here when it is dropped, for whatever reason, are still on the disk and keep
/// counting; nobody waits for them in vain.
struct Condemned {
    active: Active,
    victims: Vec<Victim>,
}

impl Drop for Condemned {
    fn drop(&mut self) {
        if !self.victims.is_empty() {
            self.active.inner().destroyed(&self.victims, false);
        }
    }
}

fn delete_files(mut condemned: Condemned) {
    let inner = Arc::clone(condemned.active.inner());
    let Some(disk) = inner.disk() else { return };
    while let Some(victim) = condemned.victims.pop() {
        disk.files.close(victim.entry.generation);
        let deleted = disk.directory.delete_block(&victim.key);
        match &deleted {
            Ok(()) => disk.volume.deleted(victim.len),
            Err(error) => tracing::warn!(block = %victim.key.hash(), %error, "an evicted block cannot be deleted"),
        }
        inner.destroyed(&[victim], deleted.is_ok());
    }
}

/// Fills the ledger with what was found, least recently used first; returns rows of blocks that have a file as well.
fn index(
    ledger: &mut Ledger,
    directory: &Directory,
    manifest: &Manifest,
    contents: &Contents,
) -> std::io::Result<Vec<Key>> {
    let mut found: BTreeMap<Key, (Place, Seal)> = BTreeMap::new();
    for file in directory.scan()? {
        found.insert(file.key, (Place::File, Seal { len: file.len, changed: file.changed }));
    }
    let mut doubles = Vec::new();
    for row in &contents.rows {
        let seal = Seal { len: row.len, changed: row.changed };
        match found.entry(row.key) {
            Entry::Vacant(free) => {
                free.insert((Place::Row, seal));
            }
            Entry::Occupied(_) => doubles.push(row.key),
        }
    }
    // The manifest knows the order of use; without it the times of writing stand in, as the older.
    let mut order: Vec<(Option<usize>, Duration, Key)> =
        found.iter().map(|(key, (_, seal))| (manifest.rank(key, *seal), seal.changed, *key)).collect();
    order.sort_unstable();
    for (rank, _, key) in order {
        if let Some((place, seal)) = found.get(&key) {
            ledger.found(key, seal.len.into(), *place, rank.is_some());
        }
    }
    for (root, key) in &contents.pins {
        ledger.pin(root, [*key]);
    }
    Ok(doubles)
}

/// Takes up the references that something pins. The others are what a crash has left, and go.
fn refer(ledger: &mut Ledger, contents: Contents) -> (References, Edit) {
    let (mut references, mut leftovers) = (References::default(), Edit::default());
    for (number, origin) in contents.files {
        references.found_file(number, origin);
    }
    for (key, spans) in contents.references {
        let kept = ledger.is_pinned(&key) && references.found(key, ledger.next_tick(), spans);
        if !kept {
            leftovers.dropped.push(key);
        }
    }
    references.drop_idle_files(&mut leftovers);
    (references, leftovers)
}
