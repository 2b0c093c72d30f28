//! Small blocks, references, pins and records in one redb file, with group commit.
//!
//! A commit of redb that is not immediately durable lives in the process's memory and is lost with it, so every commit
//! here is durable and costs an fsync. Whoever arrives while one commit runs shares the next: the first to find nobody
//! committing starts a job on a blocking thread that goes on until nothing is left, so an idle store has no thread.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use swarmgate_content::BlockHash;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StorageFault;
use crate::key::{KEY_BYTES, Key};
use crate::manifest::since_epoch;
use crate::references::{Edit, Origin, Span};

/// multihash → the block's bytes.
const BLOCKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("blocks");
/// multihash → (length, second of writing), so that a start reads no block.
const SIZES: TableDefinition<'_, &[u8], (u32, u64)> = TableDefinition::new("sizes");
/// (root, packed key) → nothing.
const PINS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("pins");
/// A file's number → the file that referenced blocks lie in.
const FILES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("files");
/// multihash → the parts of files where the block lies.
const REFERENCES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("references");
/// (table, key) → the record.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// The database's own page cache. Small, for blocks have a cache in front already. 8 MiB.
const PAGE_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// How many changes may wait for a commit; each holds at most a small block or a record, so 32 MiB at worst.
const MAX_WAITING: usize = 512;

/// A change to be made durable.
#[derive(Debug)]
pub(crate) enum Change {
    /// Adds a small block.
    PutBlock { key: Key, bytes: Bytes },
    /// Drops small blocks.
    DropBlocks(Vec<Key>),
    /// Adds names to a root.
    Pin { root: String, keys: Vec<Key> },
    /// Drops a root, and the references that nothing pins any more.
    Unpin { root: String, edit: Edit },
    /// Adds references, and their names to a root.
    Refer { root: String, keys: Vec<Key>, edit: Edit },
    /// Drops references.
    DropReferences(Edit),
    /// Writes a record; see [`record_key`].
    PutRecord { key: Vec<u8>, value: Bytes },
    /// Deletes a record.
    DropRecord { key: Vec<u8> },
    /// Changes nothing: done when all before it is.
    Nothing,
}

/// Called once a change is durable or has failed, on the committing thread.
pub(crate) type Done = Box<dyn FnOnce(Result<(), StorageFault>) + Send>;

/// The open file and those who wait for a commit.
pub(crate) struct Database {
    path: PathBuf,
    /// `None` once closed.
    db: RwLock<Option<redb::Database>>,
    queue: Mutex<Queue>,
    slots: Arc<Semaphore>,
    runtime: Handle,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Change, Done)>,
    /// Whether somebody is committing and will take what waits.
    led: bool,
}

/// A small block found at start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundRow {
    pub(crate) key: Key,
    pub(crate) len: u32,
    pub(crate) changed: Duration,
}

/// What the file holds at start.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) rows: Vec<FoundRow>,
    pub(crate) pins: Vec<(String, Key)>,
    pub(crate) files: Vec<(u64, Origin)>,
    pub(crate) references: Vec<(Key, Box<[Span]>)>,
}

impl Database {
    /// Opens or creates the file, repairing it after a crash. Blocks.
    pub(crate) fn open(path: PathBuf, runtime: Handle) -> Result<(Self, Contents), StorageFault> {
        let fault = |error: redb::Error| fault("opening the index", &path, error);
        let db = open_file(&path).map_err(fault)?;
        let contents = read_contents(&db).map_err(fault)?;
        let slots = Arc::new(Semaphore::new(MAX_WAITING));
        let database = Self { path, db: RwLock::new(Some(db)), queue: Mutex::default(), slots, runtime };
        Ok((database, contents))
    }

    /// Waits until one more change may wait. Kept until the change is done.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Makes a change durable, together with whatever else waits. If the runtime stops first, `done` is dropped.
    pub(crate) fn submit(self: &Arc<Self>, change: Change, done: Done) {
        let mut queue = self.queue.lock();
        queue.waiting.push((change, done));
        if std::mem::replace(&mut queue.led, true) {
            return;
        }
        drop(queue);
        let leader = Leader { database: Arc::clone(self), finished: false };
        self.runtime.spawn_blocking(move || leader.run());
    }

    /// Reads a small block. Blocks.
    pub(crate) fn block(&self, key: &Key) -> Result<Option<Bytes>, StorageFault> {
        self.read(|db| get(db, BLOCKS, &key.hash().to_bytes()))
    }

    /// Reads a record. Blocks.
    pub(crate) fn record(&self, key: &[u8]) -> Result<Option<Bytes>, StorageFault> {
        self.read(|db| get(db, RECORDS, key))
    }

    /// Reads all records whose key begins with `prefix`, by key, without it. Blocks.
    pub(crate) fn records(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageFault> {
        self.read(|db| {
            let mut found = Vec::new();
            for row in db.begin_read()?.open_table(RECORDS)?.range(prefix..)? {
                let (key, value) = row?;
                let Some(key) = key.value().strip_prefix(prefix) else { break };
                found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value.value())));
            }
            Ok(found)
        })
    }

    /// When each small block was written. Blocks.
    pub(crate) fn row_times(&self) -> Result<HashMap<Key, Duration>, StorageFault> {
        self.read(|db| Ok(read_rows(&db.begin_read()?)?.into_iter().map(|row| (row.key, row.changed)).collect()))
    }

    /// Closes the file, after the commit under way. Blocks.
    pub(crate) fn close(&self) {
        let closed = self.db.write().take();
        drop(closed);
    }

    fn read<T>(&self, read: impl FnOnce(&redb::Database) -> Result<T, redb::Error>) -> Result<T, StorageFault> {
        let db = self.db.read();
        let result = db.as_ref().ok_or(redb::Error::DatabaseClosed).and_then(read);
        result.map_err(|error| fault("reading the index", &self.path, error))
    }

    fn commit(&self, changes: &[(Change, Done)]) -> Result<(), StorageFault> {
        let committed = {
            let db = self.db.read();
            db.as_ref().ok_or(redb::Error::DatabaseClosed).and_then(|db| apply(db, changes))
        };
        committed.map_err(|error| {
            self.recover(changes);
            fault("writing the index", &self.path, error)
        })
    }

    /// After a failed write redb refuses all others until it is opened again, and what failed may be there
    /// nevertheless. A block that nobody was told of must not take room.
    fn recover(&self, changes: &[(Change, Done)]) {
        let mut db = self.db.write();
        if db.take().is_none() {
            return;
        }
        let reopened = open_file(&self.path).and_then(|db| undo(&db, changes).map(|()| db));
        match reopened {
            Ok(reopened) => *db = Some(reopened),
            Err(error) => tracing::error!(path = %self.path.display(), %error, "the index stays closed"),
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The job that commits what waits until nothing does.
struct Leader {
    database: Arc<Database>,
    finished: bool,
}

impl Leader {
    fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            let result = self.database.commit(&batch);
            for (_, done) in batch {
                done(result.as_ref().copied().map_err(StorageFault::again));
            }
        }
    }

    fn next_batch(&mut self) -> Option<Vec<(Change, Done)>> {
        let mut queue = self.database.queue.lock();
        let batch = std::mem::take(&mut queue.waiting);
        if batch.is_empty() {
            // Under the same lock, so that nobody can leave a change to a leader that has gone.
            queue.led = false;
            self.finished = true;
            return None;
        }
        Some(batch)
    }
}

impl Drop for Leader {
    /// When the runtime stops before the job has run, those who wait must hear that nobody comes.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let abandoned = {
            let mut queue = self.database.queue.lock();
            queue.led = false;
            std::mem::take(&mut queue.waiting)
        };
        drop(abandoned);
    }
}

/// The key of a record: tables cannot run into each other, for each begins with the length of its name.
pub(crate) fn record_key(table: &str, key: &[u8]) -> Vec<u8> {
    [&name_prefix(table), key].concat()
}

/// The longest name of a root or table whose length fits the prefix's two bytes.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

fn name_prefix(name: &str) -> Vec<u8> {
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes(), name.as_bytes()].concat()
}

fn read_pin(row: &[u8]) -> Option<(String, Key)> {
    let (len, rest) = row.split_first_chunk()?;
    let (root, key) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((String::from_utf8(root.to_vec()).ok()?, Key::from_slice(key)?))
}

fn open_file(path: &Path) -> Result<redb::Database, redb::Error> {
    let db = redb::Builder::new().set_cache_size(PAGE_CACHE_BYTES).create(path)?;
    let write = db.begin_write()?;
    // Opening for writing creates what is missing, so that reading finds every table.
    write.open_table(BLOCKS)?;
    write.open_table(SIZES)?;
    write.open_table(PINS)?;
    write.open_table(FILES)?;
    write.open_table(REFERENCES)?;
    write.open_table(RECORDS)?;
    write.commit()?;
    Ok(db)
}

fn read_contents(db: &redb::Database) -> Result<Contents, redb::Error> {
    let read = db.begin_read()?;
    let mut contents = Contents { rows: read_rows(&read)?, ..Contents::default() };
    for row in read.open_table(PINS)?.iter()? {
        contents.pins.extend(read_pin(row?.0.value()));
    }
    for row in read.open_table(FILES)?.iter()? {
        let (number, file) = row?;
        contents.files.extend(Origin::from_row(file.value()).map(|origin| (number.value(), origin)));
    }
    for row in read.open_table(REFERENCES)?.iter()? {
        let (hash, parts) = row?;
        let key = BlockHash::from_bytes(hash.value()).map(|hash| Key::from(&hash));
        contents.references.extend(key.zip(Span::from_row(parts.value())));
    }
    Ok(contents)
}

fn read_rows(read: &redb::ReadTransaction) -> Result<Vec<FoundRow>, redb::Error> {
    let mut rows = Vec::new();
    for row in read.open_table(SIZES)?.iter()? {
        let (hash, size) = row?;
        let (len, written) = size.value();
        if let Some(hash) = BlockHash::from_bytes(hash.value()) {
            rows.push(FoundRow { key: Key::from(&hash), len, changed: Duration::from_secs(written) });
        }
    }
    Ok(rows)
}

fn get(
    db: &redb::Database,
    table: TableDefinition<'_, &'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Bytes>, redb::Error> {
    let row = db.begin_read()?.open_table(table)?.get(key)?;
    Ok(row.map(|value| Bytes::copy_from_slice(value.value())))
}

fn apply(db: &redb::Database, changes: &[(Change, Done)]) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    {
        let mut blocks = write.open_table(BLOCKS)?;
        let mut sizes = write.open_table(SIZES)?;
        let mut pins = write.open_table(PINS)?;
        let mut lending = Lending { files: write.open_table(FILES)?, references: write.open_table(REFERENCES)? };
        let mut records = write.open_table(RECORDS)?;
        let now = since_epoch(SystemTime::now()).as_secs();
        for (change, _) in changes {
            match change {
                Change::PutBlock { key, bytes } => {
                    let hash = key.hash().to_bytes();
                    blocks.insert(&hash[..], &bytes[..])?;
                    sizes.insert(&hash[..], (u32::try_from(bytes.len()).unwrap_or(u32::MAX), now))?;
                }
                Change::DropBlocks(keys) => {
                    for key in keys {
                        let hash = key.hash().to_bytes();
                        blocks.remove(&hash[..])?;
                        sizes.remove(&hash[..])?;
                    }
                }
                Change::Pin { root, keys } => put_pins(&mut pins, root, keys)?,
                Change::Unpin { root, edit } => {
                    let first = name_prefix(root);
                    let last = [&first[..], &[u8::MAX; KEY_BYTES]].concat();
                    pins.retain_in(&first[..]..=&last[..], |_, ()| false)?;
                    lending.apply(edit)?;
                }
                Change::Refer { root, keys, edit } => {
                    put_pins(&mut pins, root, keys)?;
                    lending.apply(edit)?;
                }
                Change::DropReferences(edit) => lending.apply(edit)?,
                Change::PutRecord { key, value } => {
                    records.insert(&key[..], &value[..])?;
                }
                Change::DropRecord { key } => {
                    records.remove(&key[..])?;
                }
                Change::Nothing => {}
            }
        }
    }
    Ok(write.commit()?)
}

fn put_pins(pins: &mut Rows<'_, ()>, root: &str, keys: &[Key]) -> Result<(), redb::Error> {
    let mut row = name_prefix(root);
    let prefix_len = row.len();
    for key in keys {
        row.truncate(prefix_len);
        row.extend_from_slice(&key.to_array());
        pins.insert(&row[..], ())?;
    }
    Ok(())
}

/// A table by names in bytes.
type Rows<'a, V> = redb::Table<'a, &'static [u8], V>;

/// The tables of what lies in files that are not the store's.
struct Lending<'a> {
    files: redb::Table<'a, u64, &'static [u8]>,
    references: Rows<'a, &'static [u8]>,
}

impl Lending<'_> {
    fn apply(&mut self, edit: &Edit) -> Result<(), redb::Error> {
        for (number, origin) in &edit.new_files {
            self.files.insert(number, &origin.to_row()[..])?;
        }
        for (key, spans) in &edit.rows {
            self.references.insert(&key.hash().to_bytes()[..], &Span::to_row(spans)[..])?;
        }
        for key in &edit.dropped {
            self.references.remove(&key.hash().to_bytes()[..])?;
        }
        for number in &edit.gone_files {
            self.files.remove(number)?;
        }
        Ok(())
    }
}

/// Drops the blocks of a failed commit. A reference that is there nevertheless takes no room, and goes with its pin.
fn undo(db: &redb::Database, changes: &[(Change, Done)]) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    {
        let mut blocks = write.open_table(BLOCKS)?;
        let mut sizes = write.open_table(SIZES)?;
        for (change, _) in changes {
            if let Change::PutBlock { key, .. } = change {
                let hash = key.hash().to_bytes();
                blocks.remove(&hash[..])?;
                sizes.remove(&hash[..])?;
            }
        }
    }
    Ok(write.commit()?)
}

fn fault(doing: &'static str, path: &Path, error: redb::Error) -> StorageFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other errors of the database are no errors of the disk")]
    let source = match error {
        redb::Error::Io(error) => error,
        other => io::Error::other(other),
    };
    StorageFault::new(doing, path.display().to_string(), source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn open(path: &Path) -> (Arc<Database>, Contents) {
        let (database, contents) = Database::open(path.to_owned(), Handle::current()).unwrap();
        (Arc::new(database), contents)
    }

    fn key(number: u8) -> Key {
        Key::from(&BlockHash::sha1([number; 20]))
    }

    fn submit(database: &Arc<Database>, change: Change) -> mpsc::Receiver<Result<(), StorageFault>> {
        let (tell, told) = mpsc::channel();
        database.submit(change, Box::new(move |result| tell.send(result).unwrap()));
        told
    }

    #[tokio::test]
    async fn what_is_done_is_there_after_the_file_was_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.redb");
        let (database, _) = open(&path);
        let changes = [
            Change::PutBlock { key: key(1), bytes: Bytes::from_static(b"one") },
            Change::PutBlock { key: key(2), bytes: Bytes::from_static(b"two") },
            Change::DropBlocks(vec![key(1)]),
            Change::Pin { root: "a".into(), keys: vec![key(1), key(2)] },
            Change::Pin { root: "ab".into(), keys: vec![key(3)] },
            Change::Unpin { root: "a".into(), edit: Edit::default() },
            Change::PutRecord { key: record_key("items", b"k"), value: Bytes::from_static(b"v") },
            Change::PutRecord { key: record_key("item", b"sk"), value: Bytes::from_static(b"w") },
        ];
        for told in changes.map(|change| submit(&database, change)) {
            told.recv().unwrap().unwrap();
        }
        database.close();
        assert!(database.block(&key(2)).is_err());
        let (database, contents) = open(&path);
        assert_eq!(contents.rows.iter().map(|row| (row.key, row.len)).collect::<Vec<_>>(), [(key(2), 3)]);
        assert_eq!(contents.pins, [("ab".to_owned(), key(3))]);
        assert_eq!(database.block(&key(2)).unwrap().unwrap(), b"two"[..]);
        let items = database.records(&record_key("items", b"")).unwrap();
        assert_eq!(items, [(Bytes::from_static(b"k"), Bytes::from_static(b"v"))]);
    }

    #[tokio::test]
    async fn many_who_come_at_once_share_commits() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = open(&dir.path().join("index.redb"));
        let all: Vec<_> = (0..200).map(|_| submit(&database, Change::Nothing)).collect();
        all.into_iter().for_each(|told| told.recv().unwrap().unwrap());
        assert!(!database.queue.lock().led || database.queue.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_failed_commit_leaves_no_block_nobody_knows_of() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = open(&dir.path().join("index.redb"));
        let change = || Change::PutBlock { key: key(1), bytes: Bytes::from_static(b"one") };
        submit(&database, change()).recv().unwrap().unwrap();
        database.recover(&[(change(), Box::new(|_| {}))]);
        assert!(database.block(&key(1)).unwrap().is_none());
        submit(&database, change()).recv().unwrap().unwrap();
    }

    #[test]
    fn a_runtime_that_stops_answers_those_who_wait() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (database, _) = {
            let (database, contents) = Database::open(dir.path().join("index.redb"), runtime.handle().clone()).unwrap();
            (Arc::new(database), contents)
        };
        runtime.shutdown_background();
        let told = submit(&database, Change::Nothing);
        assert!(told.recv().is_err(), "the promise was dropped, not forgotten");
    }
}
