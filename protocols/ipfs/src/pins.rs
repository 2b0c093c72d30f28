//! DAGs that are kept: a pin holds every block of a DAG in the store until it is removed.
//!
//! The store spares the blocks of a named root; a record beside it says that the root is whole. The record is written
//! last and deleted first, so a pin that was cut short by a crash is no pin, and [`Pins::tidy`] lets its blocks go.
//!
//! Blocks that stay in a file of somebody else's are in the store as long as a pin holds them: a pin that is removed
//! takes its references along.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use swarmgate_content::{BlockHash, Cid, FetchError, VerifiedBytes};
use swarmgate_ipfs_proto::block::{BadBlock, hash_of};
use swarmgate_ipfs_proto::car::CarError;
use swarmgate_ipfs_proto::codec::{Codec, links};
use swarmgate_store::{PutError, ReadError, RecordError, ReferError, Reference, Store};

use crate::arrivals::Arrivals;

/// The store's table of pins.
const TABLE: &str = "ipfs-pins";
/// What the names of pinned roots begin with, in the store.
const ROOT: &str = "ipfs:";
/// What the names begin with under which blocks are held while they come in.
const HOLD: &str = "ipfs-hold:";
/// Blocks that are pinned in one go: one write for all of them.
const BATCH: usize = 512;
/// The most blocks of one DAG that is pinned; some 200 bytes of memory each while it is walked.
pub const MAX_PINNED_BLOCKS: usize = 1 << 22;

/// A DAG that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Its root.
    pub root: Cid,
    /// How many blocks it has; one that is there twice counts once.
    pub blocks: u64,
    /// Their lengths together, in bytes.
    pub bytes: u64,
    /// How many of its blocks were not here when it was pinned, where that was allowed.
    pub missing: u64,
}

/// Why blocks were not taken in, or a DAG was not pinned. Nothing of it is pinned then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// What should be a CAR is none, or is not whole.
    #[error(transparent)]
    Car(#[from] CarError),
    /// The file cannot be read.
    #[error("reading failed: {0}")]
    Read(#[from] std::io::Error),
    /// A block is not what its name says, or cannot be read.
    #[error(transparent)]
    Block(#[from] BadBlock),
    /// A CAR whose header names no root.
    #[error("the CAR names no root, so nothing in it would be kept")]
    NoRoots,
    /// A root that is not admitted here.
    #[error("{0} is not admitted here")]
    Refused(Box<Cid>),
    /// A block of the DAG is not here.
    #[error("the DAG of {root} is not whole: block {cid} is missing")]
    Missing {
        /// The DAG's root.
        root: Box<Cid>,
        /// The block.
        cid: Box<Cid>,
    },
    /// More blocks than [`MAX_PINNED_BLOCKS`].
    #[error("the DAG of {0} has more than {MAX_PINNED_BLOCKS} blocks")]
    TooLarge(Box<Cid>),
    /// Nobody delivered the DAG.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The cache has no room, or failed.
    #[error(transparent)]
    Store(#[from] PutError),
    /// The cache has not taken references to blocks that stay in their file.
    #[error(transparent)]
    Refer(#[from] ReferError),
    /// The cache cannot be read.
    #[error(transparent)]
    StoreRead(#[from] ReadError),
    /// The list of pins cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    blocks: u64,
    bytes: u64,
    #[serde(default)]
    missing: u64,
}

/// The DAGs that are kept in one store. Clones share it.
#[derive(Debug, Clone)]
pub struct Pins {
    store: Store,
    holds: Arc<AtomicU64>,
    /// Who hears of blocks that come in to be kept.
    pub(crate) arrivals: Arrivals,
}

impl Pins {
    /// The pins of a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, holds: Arc::default(), arrivals: Arrivals::default() }
    }

    /// The same, telling of each block that comes in.
    pub(crate) fn telling(self, arrivals: Arrivals) -> Self {
        Self { arrivals, ..self }
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Every pin, by its root's bytes.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn list(&self) -> Result<Vec<Pin>, PinError> {
        let rows = self.store.list_records(TABLE).await?;
        let read = |(key, value): (Bytes, Bytes)| read_row(Cid::try_from(&key[..]).ok()?, &value);
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// The pin of this root, if there is one.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn get(&self, root: &Cid) -> Result<Option<Pin>, PinError> {
        Ok(self.store.get_record(TABLE, &root.to_bytes()).await?.and_then(|row| read_row(*root, &row)))
    }

    /// Whether a DAG is pinned by this root.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn contains(&self, root: &Cid) -> Result<bool, PinError> {
        Ok(self.store.get_record(TABLE, &root.to_bytes()).await?.is_some())
    }

    /// Lets a DAG go: its blocks may be evicted, unless another pin has them too. Whether there was such a pin.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn remove(&self, root: &Cid) -> Result<bool, PinError> {
        let was_pinned = self.contains(root).await?;
        self.store.delete_record(TABLE, &root.to_bytes()).await?;
        self.store.unpin(&name_of(root));
        self.store.flush().await?;
        self.arrivals.let_go(root);
        Ok(was_pinned)
    }

    /// Lets go what crashes have left: blocks of pins that were never whole.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn tidy(&self) -> Result<(), PinError> {
        let kept: BTreeSet<String> = self.list().await?.iter().map(|pin| name_of(&pin.root)).collect();
        let ours = |name: &String| name.starts_with(HOLD) || name.starts_with(ROOT) && !kept.contains(name);
        for name in self.store.pinned_roots().into_iter().filter(ours) {
            tracing::info!(name, "an unfinished pin is dropped");
            self.store.unpin(&name);
        }
        Ok(())
    }

    /// Tells whoever gives blocks to others of every DAG that is kept. To be called once, at the start.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn announce(&self) -> Result<(), PinError> {
        self.list().await?.iter().for_each(|pin| self.arrivals.kept(&pin.root));
        Ok(())
    }

    /// Pins a DAG whose blocks are in the store, or as many of them as are, where blocks may be missing; its root must
    /// not be.
    ///
    /// # Errors
    /// [`PinError::Missing`], [`PinError::Block`] when a block on the way cannot be read, [`PinError::TooLarge`]; then
    /// nothing is pinned that was not pinned before.
    pub async fn keep(&self, root: &Cid, may_miss: bool) -> Result<Pin, PinError> {
        let (name, was_pinned) = (name_of(root), self.contains(root).await?);
        let pinned = self.pin_all(root, &name, may_miss).await;
        if pinned.is_err() && !was_pinned {
            self.store.unpin(&name);
        }
        if pinned.is_ok() {
            self.arrivals.kept(root);
        }
        pinned
    }

    async fn pin_all(&self, root: &Cid, name: &str, may_miss: bool) -> Result<Pin, PinError> {
        let mut pin = Pin { root: *root, blocks: 0, bytes: 0, missing: 0 };
        let mut batch = Vec::new();
        let mut stack = vec![*root];
        let mut seen = BTreeSet::new();
        while let Some(cid) = stack.pop() {
            if !seen.insert(cid.to_bytes()) {
                continue;
            }
            if seen.len() > MAX_PINNED_BLOCKS || stack.len() > MAX_PINNED_BLOCKS {
                return Err(PinError::TooLarge(Box::new(*root)));
            }
            if VerifiedBytes::inline(&cid).is_none() {
                let hash = hash_of(&cid)?;
                match self.store.block_len(&hash) {
                    Some(len) => {
                        pin.blocks += 1;
                        pin.bytes += u64::from(len);
                        batch.push(hash);
                    }
                    None if may_miss && cid != *root => {
                        pin.missing += 1;
                        continue;
                    }
                    None => return Err(missing(root, &cid)),
                }
            }
            stack.extend(self.links_of(root, &cid).await?.into_iter().rev());
            if batch.len() >= BATCH {
                self.store.pin(name, batch.drain(..));
            }
        }
        self.store.pin(name, batch);
        self.store.flush().await?;
        let row = Row { blocks: pin.blocks, bytes: pin.bytes, missing: pin.missing };
        let row = serde_json::to_vec(&row).map_err(std::io::Error::other)?;
        self.store.put_record(TABLE, &root.to_bytes(), row.into()).await?;
        Ok(pin)
    }

    /// Where a block leads. A leaf is not read for it.
    async fn links_of(&self, root: &Cid, cid: &Cid) -> Result<Vec<Cid>, PinError> {
        if !matches!(Codec::new(cid.codec()), Some(Codec::DagPb | Codec::DagCbor | Codec::DagJson)) {
            return Ok(Vec::new());
        }
        let block = match VerifiedBytes::inline(cid) {
            Some(inline) => inline,
            None => self.store.read_all(&hash_of(cid)?).await?.ok_or_else(|| missing(root, cid))?,
        };
        Ok(links(cid, &block)?)
    }

    /// Keeps blocks from being evicted while they come in.
    pub(crate) fn hold(&self) -> Hold {
        let number = self.holds.fetch_add(1, Ordering::Relaxed);
        let name = format!("{HOLD}{}-{number}", std::process::id());
        Hold { store: self.store.clone(), name, batch: Vec::new(), references: Vec::new() }
    }
}

fn read_row(root: Cid, row: &[u8]) -> Option<Pin> {
    let Row { blocks, bytes, missing } = serde_json::from_slice(row).ok()?;
    Some(Pin { root, blocks, bytes, missing })
}

fn missing(root: &Cid, cid: &Cid) -> PinError {
    PinError::Missing { root: Box::new(*root), cid: Box::new(*cid) }
}

fn name_of(root: &Cid) -> String {
    format!("{ROOT}{root}")
}

/// Blocks that are on their way into a pin. Dropping it lets them go.
#[derive(Debug)]
pub(crate) struct Hold {
    store: Store,
    name: String,
    batch: Vec<BlockHash>,
    references: Vec<Reference>,
}

impl Hold {
    pub(crate) fn add(&mut self, hash: BlockHash) {
        self.batch.push(hash);
        if self.batch.len() >= BATCH {
            self.store.pin(&self.name, self.batch.drain(..));
        }
    }

    /// Keeps a block where it lies, together with others: the last of them wait for [`Self::settle`].
    pub(crate) async fn refer(&mut self, reference: Reference) -> Result<(), ReferError> {
        self.references.push(reference);
        if self.references.len() < BATCH { Ok(()) } else { self.settle().await }
    }

    /// Writes the references that wait.
    pub(crate) async fn settle(&mut self) -> Result<(), ReferError> {
        let references = std::mem::take(&mut self.references);
        self.store.refer(&self.name, &references).await
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.unpin(&self.name);
    }
}
