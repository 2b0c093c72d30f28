//! How the bytes of a referenced block come out: all of it is read and hashed, every time, and what is handed out are
//! the very bytes that were hashed. To look at them twice would be to trust a file that anybody may change in between.
//!
//! So a range costs the whole block. What was read stays in memory, like the blocks in front of the disk.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::origin::leads_nowhere;
use super::{Part, Referenced, drop_reference};
use crate::error::{ReadError, StorageFault};
use crate::files::read_into;
use crate::inner::{Active, Found};
use crate::key::Key;
use crate::reading::Outcome;
use crate::verify::{Proof, prove};

/// Referenced blocks that are read at once; the rest wait without a thread. These files may be on a slow disk, or on a
/// network that does not answer, so they have turns of their own: what the store itself keeps is read meanwhile.
const READS_AT_ONCE: usize = 4;

/// Names that are read one at a time, so that many readers of one block read it once. A few names share each.
const LOCKS: usize = 16;

/// Who may read a referenced block now.
#[derive(Debug)]
pub(crate) struct Turns {
    reads: Arc<Semaphore>,
    alone: Vec<Arc<tokio::sync::Mutex<()>>>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { reads: Arc::new(Semaphore::new(READS_AT_ONCE)), alone: (0..LOCKS).map(|_| Arc::default()).collect() }
    }
}

/// Reads a part of a referenced block.
pub(crate) async fn read(
    active: Active,
    key: Key,
    found: Referenced,
    asked: Range<usize>,
) -> Result<Outcome, ReadError> {
    let inner = Arc::clone(active.inner());
    let alone = Arc::clone(&inner.turns.alone[usize::from(key.spread()) % LOCKS]).lock_owned().await;
    // Whoever was before may have left it in memory, or found it changed.
    let now = inner.state.lock().find(&key);
    if !matches!(now, Found::Referenced(now) if now == found) {
        return Ok(Outcome::Again);
    }
    let turn = Arc::clone(&inner.turns.reads).acquire_owned().await;
    let job = inner.runtime.spawn_blocking(move || {
        let outcome = read_blocking(&active, &key, found, asked);
        drop((turn, alone));
        outcome
    });
    let stopped = || fault(format!("block {}", key.hash()), io::Error::other("the runtime is stopping"));
    Ok(job.await.unwrap_or_else(|_| Err(stopped()))?)
}

fn read_blocking(active: &Active, key: &Key, found: Referenced, asked: Range<usize>) -> Result<Outcome, StorageFault> {
    let inner = active.inner();
    let len = found.len as usize;
    let (parts, whole) = {
        let state = inner.state.lock();
        (state.references.parts(key, found.generation), state.hot.wants_referenced(len))
    };
    let Some(parts) = parts else { return Ok(Outcome::Again) };
    let keep = if whole { 0..len } else { asked.clone() };
    let mut joined = Joined::new(&parts);
    let in_files: u64 = parts.iter().map(|part| u64::from(part.len)).sum();
    let zeros = io::repeat(0).take(u64::from(found.len).saturating_sub(in_files));
    match prove(key.hash(), &mut joined.by_ref().chain(zeros), len, keep) {
        Ok(Proof::Whole(bytes)) if whole => {
            let part = bytes.slice(asked);
            let gone = inner.state.lock().warm_referenced(*key, found.generation, bytes);
            drop(gone);
            Ok(Outcome::Bytes(part))
        }
        Ok(Proof::Whole(part)) => Ok(Outcome::Bytes(part)),
        Ok(Proof::Broken) => {
            let changed = parts.iter().find(|part| part.origin.has_changed());
            let loss = if changed.is_some() { Loss::Changed } else { Loss::Damaged };
            Ok(changed.or_else(|| parts.first()).map_or(Outcome::Absent, |part| lose(active, key, found, part, &loss)))
        }
        Err(error) => {
            let Some(part) = joined.current() else { return Ok(Outcome::Absent) };
            let loss = if error.kind() == io::ErrorKind::UnexpectedEof {
                Loss::Short
            } else if leads_nowhere(&error) {
                Loss::Away(error)
            } else {
                return Err(fault(part.origin.path().display().to_string(), error));
            };
            Ok(lose(active, key, found, part, &loss))
        }
    }
}

/// Why a block is not served from where it was.
#[derive(Debug, thiserror::Error)]
enum Loss {
    #[error("{0}")]
    Away(io::Error),
    #[error("it is shorter than it was")]
    Short,
    #[error("it was changed or replaced since")]
    Changed,
    #[error("it has other bytes, though its length and its time of change are what they were")]
    Damaged,
}

/// Lets a block go that is not where it was, and says so once for each file.
fn lose(active: &Active, key: &Key, found: Referenced, part: &Part, loss: &Loss) -> Outcome {
    let inner = active.inner();
    let path = part.origin.path().display();
    if inner.state.lock().references.tell_once(&part.origin) {
        tracing::warn!(%path, block = %key.hash(), why = %loss, "a file that was added in place is not what it was");
    } else {
        tracing::debug!(%path, block = %key.hash(), why = %loss, "a block of it is not served either");
    }
    match loss {
        Loss::Away(_) => {
            inner.state.lock().references.set_aside(&part.origin);
            inner.tell_gone(&[*key]);
            Outcome::Absent
        }
        Loss::Short | Loss::Changed | Loss::Damaged => match drop_reference(active, key, Some(found.generation)) {
            Some(_) => Outcome::Absent,
            None => Outcome::Again,
        },
    }
}

fn fault(what: String, error: io::Error) -> StorageFault {
    StorageFault::new("reading", what, error)
}

/// The parts of a block one after the other; each file is opened when it is its turn.
struct Joined<'a> {
    parts: &'a [Part],
    /// How many have had their turn.
    begun: usize,
    open: Option<Open>,
}

struct Open {
    file: File,
    offset: u64,
    left: usize,
}

impl<'a> Joined<'a> {
    const fn new(parts: &'a [Part]) -> Self {
        Self { parts, begun: 0, open: None }
    }

    /// The part that is being read, or was read last.
    fn current(&self) -> Option<&'a Part> {
        self.parts.get(self.begun.checked_sub(1)?)
    }

    /// Opens the next part; `false` after the last.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(part) = self.parts.get(self.begun) else { return Ok(false) };
        self.begun += 1;
        self.open = Some(Open { file: part.origin.open()?, offset: part.offset, left: part.len as usize });
        Ok(true)
    }
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(open) = self.open.as_mut().filter(|open| open.left > 0) else {
                match self.advance()? {
                    true => continue,
                    false => return Ok(0),
                }
            };
            let room = buffer.len().min(open.left);
            let count = read_into(&open.file, open.offset, &mut buffer[..room])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            open.offset += count as u64;
            open.left -= count;
            return Ok(count);
        }
    }
}
