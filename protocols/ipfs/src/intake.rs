//! Blocks from outside the network: CARs that are imported, files that are added, DAGs that are fetched to be kept.
//!
//! All of it is one movement: blocks are checked, held and stored as they come, many at a time so that small ones share
//! a write; at the end each root's DAG is walked and pinned, and the hold is let go. What fails on the way is told, and
//! nothing of it is pinned; blocks that came in stay as what they are, cached, and those that lie in a file of somebody
//! else's are let go.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use swarmgate_content::{BoxFuture, Cid, VerifiedBytes};
use swarmgate_ipfs_proto::block::{BadBlock, Flaw, hash_of};
use swarmgate_ipfs_proto::car::{CarEvent, CarReader};
use swarmgate_ipfs_proto::export::Scope;
use swarmgate_store::{Origin, Part, Reference};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::pins::{Hold, Pin, PinError, Pins};
use crate::session::Session;

/// Blocks that are hashed and written at a time; at most 2 MiB each.
const MAX_UNDER_WAY: usize = 32;
/// How much of a CAR is read at a time.
const READ_BYTES: usize = 256 << 10;

/// How far an intake has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Takes blocks in. Dropping it lets them go.
pub struct Intake {
    pins: Pins,
    hold: Hold,
    /// What a block's check has come to: a reference, when the block stays in its file.
    under_way: FuturesUnordered<BoxFuture<'static, Result<Option<Reference>, PinError>>>,
    taken: Taken,
}

impl Intake {
    /// Begins.
    #[must_use]
    pub fn new(pins: &Pins) -> Self {
        Self { pins: pins.clone(), hold: pins.hold(), under_way: FuturesUnordered::new(), taken: Taken::default() }
    }

    /// How far it has come.
    #[must_use]
    pub const fn taken(&self) -> Taken {
        self.taken
    }

    /// Takes a block. It is checked and written while the next ones come, so an error may be that of an earlier one.
    ///
    /// # Errors
    /// [`PinError::Block`], [`PinError::Store`].
    pub async fn put(&mut self, cid: &Cid, bytes: Bytes) -> Result<(), PinError> {
        self.count(&bytes);
        if let Some(inline) = VerifiedBytes::inline(cid) {
            let same = inline.as_ref() == bytes;
            return if same { Ok(()) } else { Err(mismatch(cid, bytes.len()).into()) };
        }
        let hash = hash_of(cid)?;
        self.hold.add(hash);
        let (store, arrivals, cid) = (self.pins.store().clone(), self.pins.arrivals.clone(), *cid);
        self.under_way.push(Box::pin(async move {
            let len = bytes.len();
            let block = store.verifier().verify(hash, bytes).await.map_err(|_| mismatch(&cid, len))?;
            store.put(block).await?;
            arrivals.tell(&hash);
            Ok(None)
        }));
        self.leave(MAX_UNDER_WAY - 1).await
    }

    /// Takes a block that stays where it lies: at `offset` in a file. Otherwise as [`Self::put`].
    ///
    /// # Errors
    /// As [`Self::put`]; [`PinError::Read`] when the block lies beyond the end that the file had, and
    /// [`PinError::Refer`].
    pub async fn refer(&mut self, cid: &Cid, bytes: Bytes, origin: &Arc<Origin>, offset: u64) -> Result<(), PinError> {
        self.count(&bytes);
        let hash = hash_of(cid)?;
        let (store, cid, origin) = (self.pins.store().clone(), *cid, Arc::clone(origin));
        self.under_way.push(Box::pin(async move {
            let len = bytes.len();
            let block = store.verifier().verify(hash, bytes).await.map_err(|_| mismatch(&cid, len))?;
            let beyond = || std::io::Error::other(format!("{} has grown meanwhile", origin.path().display()));
            let part = Part { origin: Arc::clone(&origin), offset, len: u32::try_from(len).map_err(|_| beyond())? };
            Ok(Some(Reference::new(&block, vec![part]).ok_or_else(beyond)?))
        }));
        self.leave(MAX_UNDER_WAY - 1).await
    }

    fn count(&mut self, bytes: &Bytes) {
        self.taken.blocks += 1;
        self.taken.bytes += bytes.len() as u64;
    }

    /// Waits until no more than so many blocks are under way.
    async fn leave(&mut self, blocks: usize) -> Result<(), PinError> {
        while self.under_way.len() > blocks {
            let landed = self.under_way.next().await.transpose()?.flatten();
            if let Some(reference) = landed {
                self.hold.refer(reference).await?;
            }
        }
        Ok(())
    }

    /// Waits for the last block and pins these roots.
    ///
    /// # Errors
    /// As [`Pins::keep`]; then none of them is pinned that was not before.
    pub async fn finish(mut self, roots: &[Cid], may_miss: bool) -> Result<Vec<Pin>, PinError> {
        self.leave(0).await?;
        self.hold.settle().await?;
        let (mut pinned, mut new) = (Vec::new(), Vec::new());
        for root in roots {
            let was_pinned = self.pins.contains(root).await?;
            match self.pins.keep(root, may_miss).await {
                Ok(pin) => pinned.push(pin),
                Err(error) => {
                    for root in new {
                        self.pins.remove(&root).await?;
                    }
                    return Err(error);
                }
            }
            if !was_pinned {
                new.push(*root);
            }
        }
        Ok(pinned)
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("taken", &self.taken).finish_non_exhaustive()
    }
}

fn mismatch(cid: &Cid, len: usize) -> BadBlock {
    Flaw::Mismatch(len).of(cid)
}

/// Imports a CAR of version 1 or 2 and pins its roots, if `admits` lets each of them pass; `progress` is told of every
/// block. Whole DAGs alone are pinned, unless blocks may be missing.
///
/// # Errors
/// [`PinError`]: no CAR, cut short, with something behind its end, a block that is not what its name says, a root or
/// a block below one that is missing, a root that is not admitted. Nothing is pinned then.
pub async fn import_car(
    pins: &Pins,
    mut input: impl AsyncRead + Unpin + Send,
    may_miss: bool,
    mut admits: impl FnMut(&Cid) -> bool + Send,
    mut progress: impl FnMut(Taken) + Send,
) -> Result<Vec<Pin>, PinError> {
    let (mut reader, mut intake) = (CarReader::new(), Intake::new(pins));
    let (mut chunk, mut roots) = (vec![0; READ_BYTES], Vec::new());
    loop {
        let count = input.read(&mut chunk).await?;
        if count == 0 {
            break;
        }
        reader.push(&chunk[..count]);
        while let Some(event) = reader.poll()? {
            match event {
                CarEvent::Header { roots: named, .. } => {
                    // Before the blocks: what is refused takes no room.
                    if let Some(refused) = named.iter().find(|root| !admits(root)) {
                        return Err(PinError::Refused(Box::new(*refused)));
                    }
                    roots = named;
                }
                CarEvent::Block { cid, bytes } => {
                    intake.put(&cid, bytes).await?;
                    progress(intake.taken());
                }
            }
        }
    }
    reader.finish()?;
    if roots.is_empty() {
        return Err(PinError::NoRoots);
    }
    intake.finish(&roots, may_miss).await
}

/// Fetches all of a DAG and pins it; `progress` is told of every block.
///
/// # Errors
/// [`PinError`]; nothing is pinned then.
pub async fn pin_dag(
    pins: &Pins,
    session: &Session,
    root: Cid,
    mut progress: impl FnMut(Taken) + Send,
) -> Result<Pin, PinError> {
    let mut intake = Intake::new(pins);
    let mut blocks = std::pin::pin!(session.export(&[], root, Scope::All, false));
    while let Some(block) = blocks.next().await {
        let (cid, bytes) = block?;
        intake.put(&cid, bytes.into_bytes()).await?;
        progress(intake.taken());
    }
    let pinned = intake.finish(&[root], false).await?;
    pinned.into_iter().next().ok_or(PinError::NoRoots)
}
