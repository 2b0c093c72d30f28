//! How a block comes in: claim room, evict for it, write, commit. Dropped at any point, a put gives its room back.

use std::io::ErrorKind;
use std::sync::Arc;

use swarmgate_content::VerifiedBytes;
use tokio::sync::oneshot;

use crate::database::Change;
use crate::directory::block_fault;
use crate::error::{PutError, StorageFault};
use crate::inner::{Active, Home, Inner};
use crate::key::Key;
use crate::ledger::{Begin, Claim, Place, Step};
use crate::options::{MAX_BLOCK_BYTES, MAX_ROW_BYTES};
use crate::verify::VerifiedBlock;

/// The right to write one block. Dropped without a commit, it gives room and name back.
struct Ticket {
    active: Active,
    claim: Option<Claim>,
    key: Key,
    warmth: Warmth,
}

/// Whether a new block is also kept in the memory in front of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// It is about to be read.
    Warm,
    /// Whoever wanted it has it.
    Cold,
}

impl Ticket {
    fn commit(mut self, place: Place, bytes: VerifiedBytes) {
        let Some(claim) = self.claim.take() else { return };
        let inner = self.active.inner();
        let gone = {
            let mut state = inner.state.lock();
            let generation = state.ledger.commit(&claim, place);
            match (self.warmth, place) {
                (Warmth::Cold, Place::Row | Place::File) => vec![bytes],
                (Warmth::Warm, _) | (_, Place::Memory) => state.warm(self.key, generation, bytes),
            }
        };
        drop(gone);
        inner.changed.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.active.inner().state.lock().ledger.release(&claim);
            self.active.inner().changed.notify_waiters();
        }
    }
}

/// Stores a block; returns once it is committed.
pub(crate) async fn put(inner: &Arc<Inner>, block: VerifiedBlock, warmth: Warmth) -> Result<(), PutError> {
    let key = Key::from(block.hash());
    let bytes = block.bytes().clone();
    let active = inner.enter().ok_or(PutError::Closed)?;
    let Some(ticket) = admit(&active, key, bytes.len() as u64, warmth).await? else { return Ok(()) };
    let len = bytes.len() as u64;
    let written = match &inner.home {
        Home::Memory(_) => {
            ticket.commit(Place::Memory, bytes);
            Ok(())
        }
        Home::Disk(_) if len <= MAX_ROW_BYTES => put_row(ticket, bytes).await,
        Home::Disk(_) => put_file(ticket, bytes).await,
    };
    match written {
        Err(PutError::Io(fault)) if fault.kind() == ErrorKind::StorageFull => Err(low_disk(inner, len)),
        other => other,
    }
}

/// Waits for room. `None` when the block is here already.
async fn admit(active: &Active, key: Key, len: u64, warmth: Warmth) -> Result<Option<Ticket>, PutError> {
    let inner = active.inner();
    let limit = inner.state.lock().ledger.accounts().max_bytes.min(MAX_BLOCK_BYTES);
    if len > limit {
        return Err(PutError::TooLarge { len, limit });
    }
    let claim = loop {
        let begun = inner.wait_for(|| match inner.state.lock().ledger.begin(key, len) {
            Begin::Busy => None,
            begun @ (Begin::Present | Begin::Stale(_) | Begin::Claim(_)) => Some(begun),
        });
        match begun.await {
            Begin::Busy => {}
            Begin::Present => return Ok(None),
            Begin::Stale(victim) => inner.destroy(active, vec![victim]),
            Begin::Claim(claim) => break claim,
        }
    };
    let mut ticket = Ticket { active: active.clone(), claim: Some(claim), key, warmth };
    loop {
        let step = inner.wait_for(|| match next_step(inner, &mut ticket) {
            Step::Wait => None,
            step @ (Step::Granted | Step::Evict(_) | Step::Full | Step::LowDisk) => Some(step),
        });
        match step.await {
            Step::Granted => return Ok(Some(ticket)),
            Step::Evict(victims) => inner.destroy(active, victims),
            Step::Wait => {}
            Step::Full => return Err(full(inner, len)),
            Step::LowDisk => return Err(low_disk(inner, len)),
        }
    }
}

fn next_step(inner: &Inner, ticket: &mut Ticket) -> Step {
    let room = inner.disk().map_or(u64::MAX, |disk| disk.volume.room());
    match &mut ticket.claim {
        Some(claim) => inner.state.lock().ledger.step(claim, room),
        None => Step::Granted,
    }
}

async fn put_file(ticket: Ticket, bytes: VerifiedBytes) -> Result<(), PutError> {
    let inner = Arc::clone(ticket.active.inner());
    let Some(disk) = inner.disk() else { return Err(PutError::Closed) };
    let turn = Arc::clone(&disk.writes).acquire_owned().await;
    let job = inner.runtime.spawn_blocking(move || {
        let written = write_file(ticket, bytes);
        drop(turn);
        written
    });
    job.await.unwrap_or(Err(PutError::Closed))
}

fn write_file(ticket: Ticket, bytes: VerifiedBytes) -> Result<(), PutError> {
    let inner = Arc::clone(ticket.active.inner());
    let Some(disk) = inner.disk() else { return Err(PutError::Closed) };
    let len = bytes.len() as u64;
    disk.directory
        .write_block(&ticket.key, bytes.as_ref())
        .map_err(|error| block_fault("writing", &ticket.key, error))?;
    disk.volume.wrote(len);
    ticket.commit(Place::File, bytes);
    Ok(())
}

async fn put_row(ticket: Ticket, bytes: VerifiedBytes) -> Result<(), PutError> {
    let inner = Arc::clone(ticket.active.inner());
    let Some(disk) = inner.disk() else { return Err(PutError::Closed) };
    let slot = disk.database.slot().await;
    let (tell, told) = oneshot::channel();
    let change = Change::PutBlock { key: ticket.key, bytes: bytes.clone().into_bytes() };
    let done = move |result: Result<(), StorageFault>| {
        let result = result.map(|()| {
            if let Some(disk) = ticket.active.inner().disk() {
                disk.volume.wrote(bytes.len() as u64);
            }
            ticket.commit(Place::Row, bytes);
        });
        drop(slot);
        // Whoever asked may have left; the block is committed all the same.
        let _ = tell.send(result);
    };
    disk.database.submit(change, Box::new(done));
    Ok(told.await.map_err(|_| PutError::Closed)??)
}

fn full(inner: &Inner, len: u64) -> PutError {
    let accounts = inner.state.lock().ledger.accounts();
    PutError::Full {
        len,
        max_bytes: accounts.max_bytes,
        pinned_bytes: accounts.pinned_bytes,
        protected_bytes: accounts.protected_bytes,
    }
}

fn low_disk(inner: &Inner, len: u64) -> PutError {
    let volume = inner.disk().map(|disk| &disk.volume);
    PutError::LowDisk {
        len,
        free_bytes: volume.and_then(|volume| volume.free_bytes()).unwrap_or(0),
        min_free_bytes: volume.map_or(0, |volume| volume.min_free_bytes()),
    }
}
