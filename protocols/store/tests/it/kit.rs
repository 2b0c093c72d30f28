//! Blocks that can be told apart, and both homes a store may have.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use swarmgate_content::BlockHash;
use swarmgate_store::{OpenError, Store, StoreOptions, VerifiedBlock};
use tempfile::TempDir;

/// A store and, if it has one, its directory.
pub(crate) struct Kept {
    store: Store,
    pub(crate) dir: Option<TempDir>,
}

impl Deref for Kept {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// One store in memory and one on disk, with the same budget, and a cache far smaller than it.
pub(crate) async fn both(max_bytes: u64) -> [Kept; 2] {
    let memory = Store::open(StoreOptions::in_memory(max_bytes)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk = Store::open(options(dir.path(), max_bytes)).await.unwrap();
    [Kept { store: memory, dir: None }, Kept { store: disk, dir: Some(dir) }]
}

pub(crate) fn options(dir: &Path, max_bytes: u64) -> StoreOptions {
    StoreOptions { dir: Some(dir.to_owned()), max_bytes, min_free_bytes: 0, memory_bytes: max_bytes / 8 }
}

/// Opens a directory whose last user has just been dropped: a job of its may take a moment to end.
pub(crate) async fn reopen(dir: &Path, max_bytes: u64) -> Store {
    loop {
        match Store::open(options(dir, max_bytes)).await {
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            opened => return opened.unwrap(),
        }
    }
}

/// Bytes that differ for each number, all along.
pub(crate) fn data(number: u64, len: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub(crate) fn name(data: &[u8]) -> BlockHash {
    let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data);
    BlockHash::sha1(sum.as_ref().try_into().unwrap())
}

pub(crate) async fn block(store: &Store, number: u64, len: usize) -> VerifiedBlock {
    let data = data(number, len);
    store.verifier().verify(name(&data), data).await.unwrap()
}

/// Puts a block and says its name.
pub(crate) async fn put(store: &Store, number: u64, len: usize) -> BlockHash {
    let block = block(store, number, len).await;
    let hash = *block.hash();
    store.put(block).await.unwrap();
    hash
}

/// Whether all of a block is served, and is what it was.
pub(crate) async fn intact(store: &Store, number: u64, len: usize) -> bool {
    let data = data(number, len);
    let read = store.read_all(&name(&data)).await.unwrap();
    read.inspect(|bytes| assert!(bytes.as_ref() == data, "block {number} was served wrong")).is_some()
}

/// The bytes of all files below a directory's `blocks` and `tmp`.
pub(crate) fn bytes_on_disk(dir: &Path) -> u64 {
    let mut folders = vec![dir.join("blocks"), dir.join("tmp")];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            // Files come and go while this looks.
            let Ok(entry) = entry else { continue };
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// The file of a large block.
pub(crate) fn file_of(dir: &Path, hash: &BlockHash) -> std::path::PathBuf {
    let name: String = hash.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    dir.join("blocks").join(&name[4..6]).join(name)
}
