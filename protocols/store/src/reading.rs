//! How bytes come out: from memory, from a row, or the asked part of a file; after a crash not before the whole block
//! was hashed again. Blocks in files that are not the store's are read in [`crate::references`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use swarmgate_content::{BlockHash, VerifiedBytes};

use crate::directory::block_fault;
use crate::disk::Disk;
use crate::error::{ReadError, StorageFault};
use crate::files::{Sequential, read_at, read_cached};
use crate::hot::HOT_BLOCK_BYTES;
use crate::inner::{Active, Found, Inner};
use crate::key::Key;
use crate::ledger::{Entry, Place};
use crate::references;
use crate::verify::{Proof, prove, vouch};

/// How often a read starts anew because its block was deleted and written again meanwhile.
const ATTEMPTS: usize = 4;

/// What a read of a block that is not in memory has come to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Bytes(VerifiedBytes),
    /// Look again: the block is proven now, or another one has its name.
    Again,
    Absent,
}

/// A cold block, as it was found.
#[derive(Debug, Clone, Copy)]
struct Cold {
    key: Key,
    len: usize,
    entry: Entry,
}

/// Reads a part of a block; `None` when it is not here.
pub(crate) async fn read(
    inner: &Arc<Inner>,
    hash: &BlockHash,
    range: Range<u32>,
) -> Result<Option<VerifiedBytes>, ReadError> {
    let key = Key::from(hash);
    for _ in 0..ATTEMPTS {
        let active = inner.enter().ok_or(ReadError::Closed)?;
        let found = inner.state.lock().find(&key);
        let outcome = match found {
            Found::Absent => return Ok(None),
            Found::Hot(bytes) => Outcome::Bytes(bytes.slice(within(hash, &range, bytes.len())?)),
            Found::Cold { len, entry } => {
                let len = usize::try_from(len).expect("no block is longer than 256 MiB");
                let asked = within(hash, &range, len)?;
                read_cold(active, Cold { key, len, entry }, asked).await?
            }
            Found::Referenced(referenced) => {
                let asked = within(hash, &range, referenced.len as usize)?;
                references::read::read(active, key, referenced, asked).await?
            }
        };
        match outcome {
            Outcome::Bytes(bytes) => return Ok(Some(bytes)),
            Outcome::Again => {}
            Outcome::Absent => return Ok(None),
        }
    }
    Ok(None)
}

/// Reads a whole block if neither a disk nor a hash has to be waited for.
pub(crate) fn read_at_once(inner: &Arc<Inner>, hash: &BlockHash) -> Option<VerifiedBytes> {
    let _active = inner.enter()?;
    let key = Key::from(hash);
    let found = inner.state.lock().find(&key);
    match found {
        Found::Hot(bytes) => Some(bytes),
        Found::Cold { len, entry } if entry.proven => {
            let cold = Cold { key, len: usize::try_from(len).ok()?, entry };
            let file = inner.disk()?.files.get(entry.generation)?;
            let bytes = vouch(read_cached(&file, 0, cold.len)?);
            keep(inner, &cold, bytes.clone());
            Some(bytes)
        }
        Found::Cold { .. } | Found::Referenced(_) | Found::Absent => None,
    }
}

fn within(hash: &BlockHash, range: &Range<u32>, len: usize) -> Result<Range<usize>, ReadError> {
    let (start, end) = (range.start as usize, range.end as usize);
    if start > end || end > len {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        return Err(ReadError::OutOfRange { hash: *hash, start: range.start, end: range.end, len });
    }
    Ok(start..end)
}

async fn read_cold(active: Active, cold: Cold, asked: Range<usize>) -> Result<Outcome, ReadError> {
    let inner = Arc::clone(active.inner());
    let Some(disk) = inner.disk() else { return Ok(Outcome::Absent) };
    if !cold.entry.proven {
        return prove_cold(active, disk, cold, asked).await;
    }
    let cached = disk.files.get(cold.entry.generation);
    if let Some(bytes) = cached.as_deref().and_then(|file| read_cached(file, asked.start as u64, asked.len())) {
        return Ok(finish(&inner, &cold, &asked, bytes));
    }
    let turn = Arc::clone(&disk.reads).acquire_owned().await;
    let job = inner.runtime.spawn_blocking(move || {
        let outcome = read_blocking(&active, &cold, asked, cached);
        drop(turn);
        outcome
    });
    Ok(job.await.unwrap_or_else(|_| Err(stopped(&cold)))?)
}

fn read_blocking(
    active: &Active,
    cold: &Cold,
    asked: Range<usize>,
    cached: Option<Arc<File>>,
) -> Result<Outcome, StorageFault> {
    let inner = active.inner();
    let Some(disk) = inner.disk() else { return Ok(Outcome::Absent) };
    let bytes = match cold.entry.place {
        Place::Memory => return Ok(Outcome::Absent),
        Place::Row => return read_row(active, disk, cold, asked),
        Place::File => {
            let file = cached.map_or_else(|| open(inner, disk, cold), Ok);
            file.and_then(|file| read_at(&file, asked.start as u64, asked.len()))
        }
    };
    match bytes {
        Ok(bytes) => Ok(finish(inner, cold, &asked, bytes)),
        Err(error) if is_damage(&error) => Ok(give_up(active, cold)),
        Err(error) => Err(block_fault("reading", &cold.key, error)),
    }
}

fn read_row(active: &Active, disk: &Disk, cold: &Cold, asked: Range<usize>) -> Result<Outcome, StorageFault> {
    match disk.database.block(&cold.key)? {
        Some(row) if row.len() == cold.len => {
            let bytes = vouch(row);
            let part = bytes.slice(asked);
            keep(active.inner(), cold, bytes);
            Ok(Outcome::Bytes(part))
        }
        _ => Ok(give_up(active, cold)),
    }
}

/// Opens a block's file for this and later reads. If the block was deleted meanwhile, nobody would close it again.
fn open(inner: &Inner, disk: &Disk, cold: &Cold) -> io::Result<Arc<File>> {
    let file = disk.files.open(cold.entry.generation, &disk.directory.path_of(&cold.key))?;
    let current = inner.state.lock().ledger.get(&cold.key).map(|(_, entry)| entry.generation);
    if current != Some(cold.entry.generation) {
        disk.files.close(cold.entry.generation);
    }
    Ok(file)
}

fn finish(inner: &Inner, cold: &Cold, asked: &Range<usize>, bytes: Bytes) -> Outcome {
    let bytes = vouch(bytes);
    if asked.len() == cold.len {
        keep(inner, cold, bytes.clone());
    }
    Outcome::Bytes(bytes)
}

fn keep(inner: &Inner, cold: &Cold, bytes: VerifiedBytes) {
    let gone = inner.state.lock().warm(cold.key, cold.entry.generation, bytes);
    drop(gone);
}

/// Hashes a whole block before the first byte of it is handed out. One caller at a time does; the others find it done.
async fn prove_cold(active: Active, disk: &Disk, cold: Cold, asked: Range<usize>) -> Result<Outcome, ReadError> {
    let inner = Arc::clone(active.inner());
    let alone = disk.proof_lock(&cold.key).lock_owned().await;
    let current = inner.state.lock().ledger.get(&cold.key);
    if current != Some((cold.len as u64, cold.entry)) {
        return Ok(Outcome::Again);
    }
    let turn = inner.verifier.turn().await;
    let job = inner.runtime.spawn_blocking(move || {
        let outcome = prove_blocking(&active, &cold, asked);
        drop((turn, alone));
        outcome
    });
    Ok(job.await.unwrap_or_else(|_| Err(stopped(&cold)))?)
}

fn prove_blocking(active: &Active, cold: &Cold, asked: Range<usize>) -> Result<Outcome, StorageFault> {
    let inner = active.inner();
    let Some(disk) = inner.disk() else { return Ok(Outcome::Absent) };
    let hash = cold.key.hash();
    let wanted = if cold.len <= HOT_BLOCK_BYTES { 0..cold.len } else { 0..0 };
    let proof = match cold.entry.place {
        Place::Memory => return Ok(Outcome::Absent),
        Place::Row => match disk.database.block(&cold.key)? {
            Some(row) => prove(hash, &mut &row[..], cold.len, wanted),
            None => Ok(Proof::Broken),
        },
        Place::File => open(inner, disk, cold)
            .and_then(|file| prove(hash, &mut Sequential { file: &file, offset: 0 }, cold.len, wanted)),
    };
    match proof {
        Ok(Proof::Broken) => Ok(give_up(active, cold)),
        Ok(Proof::Whole(bytes)) => {
            inner.state.lock().ledger.prove(&cold.key, cold.entry.generation);
            if bytes.len() < cold.len {
                return Ok(Outcome::Again);
            }
            let part = bytes.slice(asked);
            keep(inner, cold, bytes);
            Ok(Outcome::Bytes(part))
        }
        Err(error) if is_damage(&error) => Ok(give_up(active, cold)),
        Err(error) => Err(block_fault("reading", &cold.key, error)),
    }
}

/// A file that is missing or too short was tampered with, or never reached the disk: the block is lost, not the store.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}

/// Lets a block go. What has its name then is for the next look to find: another copy, a reference, or nothing.
fn give_up(active: &Active, cold: &Cold) -> Outcome {
    active.inner().forget(active, &cold.key, cold.entry.generation);
    Outcome::Again
}

fn stopped(cold: &Cold) -> StorageFault {
    block_fault("reading", &cold.key, io::Error::other("the runtime is stopping"))
}
