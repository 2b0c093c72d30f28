//! How references come, with what pins them, and how they go.

use std::sync::Arc;

use swarmgate_content::BlockHash;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Edit, Origin};
use crate::database::{Change, MAX_NAME_BYTES};
use crate::disk::Disk;
use crate::error::{ReferError, StorageFault};
use crate::inner::{Active, Gone, Inner, State};
use crate::key::Key;
use crate::store::Store;
use crate::verify::{NamedBytes, VerifiedBlock};

/// The most parts of one block: a piece of a torrent may go over many small files. One in more is better copied.
pub const MAX_PARTS: usize = 256;

/// The most blocks that are referenced, some 200 bytes of memory each: 4 TiB in blocks of 1 MiB.
pub const MAX_REFERENCES: usize = 1 << 22;

/// References that go into the index in one change; what a change may hold is bounded as that of a small block is.
const REFERENCES_AT_ONCE: usize = 512;

/// Where a part of a block lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// In which file.
    pub origin: Arc<Origin>,
    /// Its first byte there.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
}

/// A block that was verified, and where its bytes lie. To be given to [`Store::refer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    hash: BlockHash,
    len: u32,
    parts: Vec<Part>,
    zeros: u32,
}

impl Reference {
    /// Says where a block lies: in these parts, in their order. `None` when they are none, more than [`MAX_PARTS`], not
    /// as long as the block, or beyond the ends of their files.
    #[must_use]
    pub fn new(block: &VerifiedBlock, parts: Vec<Part>) -> Option<Self> {
        Self::make(*block.hash(), block.bytes().len() as u64, parts, 0)
    }

    /// The same of a block that was hashed in parts and not kept.
    #[must_use]
    pub fn of(block: &NamedBytes, parts: Vec<Part>) -> Option<Self> {
        Self::padded(block, parts, 0)
    }

    /// The same of a block that ends in zeros which are in no file: a torrent's piece and its padding (BEP 47).
    #[must_use]
    pub fn padded(block: &NamedBytes, parts: Vec<Part>, zeros: u32) -> Option<Self> {
        Self::make(*block.hash(), block.len(), parts, zeros)
    }

    pub(super) fn make(hash: BlockHash, block_len: u64, parts: Vec<Part>, zeros: u32) -> Option<Self> {
        let inside = |part: &Part| {
            let end = part.offset.checked_add(part.len.into());
            end.is_some_and(|end| end <= part.origin.file_len())
        };
        let len = parts.iter().try_fold(zeros, |sum: u32, part| sum.checked_add(part.len))?;
        let fits = (1..=MAX_PARTS).contains(&parts.len()) && parts.iter().all(inside);
        (fits && u64::from(len) == block_len).then_some(Self { hash, len, parts, zeros })
    }

    /// The block's name.
    #[must_use]
    pub const fn hash(&self) -> &BlockHash {
        &self.hash
    }

    /// Where it lies.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How long the block is, in bytes.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// How many of its last bytes are zeros that lie nowhere.
    pub(super) const fn zeros(&self) -> u32 {
        self.zeros
    }
}

impl Store {
    /// Keeps blocks by reference, and adds them to a named root, as [`Store::pin`] does. They take nothing of the
    /// budget. Each lives as long as some root has its block; when the last is unpinned it goes. One that the block had
    /// already is replaced. Once this returns, a kill at any moment does not lose them.
    ///
    /// Every read of such a block reads and hashes all of it. When it is not what it was, nothing is served: the
    /// reference is dropped, or, when the path leads to no file that can be read, set aside until the next start or
    /// until the file is referenced again. The log warns once of each file.
    ///
    /// # Errors
    /// [`ReferError`]; some of them may have been added, so the root is to be unpinned.
    pub async fn refer(&self, root: &str, references: &[Reference]) -> Result<(), ReferError> {
        if root.len() > MAX_NAME_BYTES {
            return Err(ReferError::LongName { len: root.len(), limit: MAX_NAME_BYTES });
        }
        for some in references.chunks(REFERENCES_AT_ONCE) {
            let active = self.inner().enter().ok_or(ReferError::Closed)?;
            match active.inner().disk() {
                None => drop(index(active.inner(), root, some)?),
                Some(disk) => {
                    let slot = disk.database.slot().await;
                    let told = submit(&active, disk, root, some, slot)?;
                    told.await.map_err(|_| ReferError::Closed)??;
                }
            }
        }
        Ok(())
    }
}

/// Adds references in memory and hands them to the index, in one order with whoever else does.
fn submit(
    active: &Active,
    disk: &Disk,
    root: &str,
    references: &[Reference],
    slot: Option<OwnedSemaphorePermit>,
) -> Result<oneshot::Receiver<Result<(), StorageFault>>, ReferError> {
    let _in_order = active.inner().pinning.lock();
    let change = index(active.inner(), root, references)?;
    let (tell, told) = oneshot::channel();
    let kept = active.clone();
    let done = move |result| {
        drop((kept, slot));
        // Whoever asked may have left; the change is made all the same.
        let _ = tell.send(result);
    };
    disk.database.submit(change, Box::new(done));
    Ok(told)
}

fn index(inner: &Inner, root: &str, references: &[Reference]) -> Result<Change, ReferError> {
    let mut state = inner.state.lock();
    let State { ledger, references: known, .. } = &mut *state;
    let keys: Vec<Key> = references.iter().map(|reference| Key::from(reference.hash())).collect();
    let new = keys.iter().filter(|key| !known.knows(key)).count();
    if known.len() + new > MAX_REFERENCES {
        return Err(ReferError::TooMany { limit: MAX_REFERENCES });
    }
    let mut edit = Edit::default();
    for reference in references {
        known.insert(ledger.next_tick(), reference, &mut edit);
    }
    Ok(Change::Refer { root: root.to_owned(), keys: ledger.pin(root, keys), edit })
}

/// Drops the reference of a block, of this generation if one is given, and tells those who follow. `None` when there is
/// none; else what is told when the index has it too.
pub(crate) fn drop_reference(active: &Active, key: &Key, generation: Option<u64>) -> Option<oneshot::Receiver<()>> {
    let inner = active.inner();
    let (tell, told) = oneshot::channel();
    let gone = {
        let _in_order = inner.pinning.lock();
        let mut gone = Gone::default();
        let dropped = inner.state.lock().drop_reference(key, generation, &mut gone);
        if !dropped {
            return None;
        }
        if let Some(disk) = inner.disk() {
            let kept = active.clone();
            let done = move |result: Result<(), StorageFault>| {
                if let Err(error) = result {
                    tracing::warn!(%error, "a dropped reference is there again after a start");
                }
                drop(kept);
                // Whoever asked may have left.
                let _ = tell.send(());
            };
            disk.database.submit(Change::DropReferences(std::mem::take(&mut gone.edit)), Box::new(done));
        }
        gone
    };
    inner.tell_gone(&gone.keys);
    Some(told)
}
