//! What a swarm lends to whoever fetches its torrent by other ways too: to ask for a piece without reading it, to give
//! it a piece that came from elsewhere, and to read without asking the swarm for anything.
//!
//! A piece from elsewhere is hashed before the actor hears of it, so that what is wrong costs the swarm nothing. The
//! actor stores it and does for it what it does for every verified piece; nothing is lost when whoever gave it leaves.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use swarmgate_bittorrent_proto::picker::ReaderKey;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{BlockHash, FailureClass, LoanError, VerifiedBytes};
use swarmgate_store::{PutError, Store, VerifiedBlock};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use crate::board::{Role, Wake};
use crate::reader::{ReadFault, SwarmReader};
use crate::{Command, Known, Shared, SwarmHandle};

/// Pieces from elsewhere that are hashed and stored at once; who has more waits. They are in memory meanwhile.
pub(crate) const MAX_ADMITTED_AT_ONCE: usize = 8;

/// Keeps a torrent from counting as idle, as a reader does. Dropping it lets go.
#[derive(Debug)]
pub struct Stay {
    _place: Place,
}

/// A row on the board, for as long as this lives.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    key: ReaderKey,
    bell: Arc<Notify>,
}

/// A piece from elsewhere, on its way into the store.
#[derive(Debug)]
pub(crate) struct Admission {
    piece: PieceIndex,
    block: VerifiedBlock,
    place: OwnedSemaphorePermit,
    done: oneshot::Sender<Result<(), LoanError>>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) piece: PieceIndex,
    pub(crate) bytes: VerifiedBytes,
    pub(crate) outcome: Result<(), PutError>,
    pub(crate) done: oneshot::Sender<Result<(), LoanError>>,
}

impl SwarmHandle {
    /// Begins to read `range` of the torrent's bytes, which lies within it, without asking peers for any of it: waits
    /// until it comes by whatever way. In all else as [`Self::read`].
    #[must_use]
    pub fn follow(&self, known: &Arc<Known>, range: Range<u64>) -> SwarmReader {
        SwarmReader::new(Arc::clone(&self.shared), Arc::clone(known), range, Role::Follower)
    }

    /// Asks peers for a piece, and waits without end until it is in the store or, when that has no room for it, was
    /// handed to the readers that are at it. Dropping the future withdraws the request.
    ///
    /// # Errors
    /// When the torrent has no such piece or is no longer active (neutral), and when the piece came while the store had
    /// no room and no reader was at it (local).
    pub async fn fetch(&self, piece: PieceIndex) -> Result<(), LoanError> {
        let (known, _) = self.piece(piece)?;
        let look = || self.shared.look(&known, piece);
        if look() == (true, true) {
            return Ok(());
        }
        let start = known.geometry.start_of(piece);
        let range = start..start + u64::from(known.geometry.len_of(piece));
        let place = Place::new(&self.shared, Role::Fetch, range);
        loop {
            let lost = look() == (true, false);
            self.shared.board.wait_for(place.key, piece, lost);
            // It may have come between the look and the wait; the actor wakes whoever waits, so look once more.
            if look() == (true, true) {
                return Ok(());
            }
            match self.shared.board.woken(place.key, &place.bell).await {
                Wake::Here => {}
                Wake::NotStored { read: true } => return Ok(()),
                Wake::NotStored { read: false } => return Err(not_stored(piece)),
                Wake::Fault(ReadFault::Gone) => return Err(gone()),
                Wake::Fault(fault @ ReadFault::StoreIo) => {
                    return Err(LoanError::new(FailureClass::Local, fault.to_string()));
                }
            }
        }
    }

    /// Gives the swarm a piece that came from elsewhere. What is right goes the way of every piece: into the store, to
    /// whoever waits for it, and peers are told; what they were asked of it is withdrawn. When the store has no room it is
    /// handed to the readers that are at it. At most eight are taken at once; the next waits.
    ///
    /// # Errors
    /// When the bytes are not that piece (corruption; no peer is blamed), when the torrent has no such piece or is no
    /// longer active (neutral), and when the store did not take it and no reader was at it (local).
    pub async fn admit(&self, piece: PieceIndex, bytes: Bytes) -> Result<(), LoanError> {
        let (known, hash) = self.piece(piece)?;
        let (len, expected) = (bytes.len() as u64, u64::from(known.geometry.len_of(piece)));
        if len != expected {
            return Err(corrupt(piece, &format_args!("{len} bytes instead of {expected}")));
        }
        let place = Arc::clone(&self.shared.admitting).acquire_owned().await.map_err(|_| gone())?;
        let verified = self.shared.context.store.verifier().verify(hash, bytes).await;
        let block = verified.map_err(|error| corrupt(piece, &error))?;
        let (done, told) = oneshot::channel();
        let admission = Admission { piece, block, place, done };
        self.commands.send(Command::Admit(admission)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }

    /// Whether a piece is in the store, and known to be.
    #[must_use]
    pub fn has(&self, piece: PieceIndex) -> bool {
        let found = self.piece(piece);
        found.is_ok_and(|(known, _)| known.have.lock().get(piece) && known.is_stored(&self.shared.context.store, piece))
    }

    /// Block bytes that peers have sent since the swarm was started, useful or not. Grows with every block.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.shared.status.lock().downloaded()
    }

    /// Keeps the torrent from counting as idle.
    #[must_use]
    pub fn stay(&self) -> Stay {
        Stay { _place: Place::new(&self.shared, Role::Stay, 0..0) }
    }

    fn piece(&self, piece: PieceIndex) -> Result<(Arc<Known>, BlockHash), LoanError> {
        let neutral = |detail| LoanError::new(FailureClass::Neutral, detail);
        let known = self.known().ok_or_else(|| neutral("the torrent's metadata is not known".to_owned()))?;
        let hash = known.info.piece_hash(piece.0);
        let hash = hash.ok_or_else(|| neutral(format!("the torrent has no piece {piece}")))?;
        Ok((known, hash))
    }
}

impl Place {
    fn new(shared: &Arc<Shared>, role: Role, range: Range<u64>) -> Self {
        let (key, bell) = shared.board.open(role, range);
        Self { shared: Arc::clone(shared), key, bell }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.board.close(self.key);
    }
}

impl Admission {
    pub(crate) async fn store(self, store: &Store) -> Admitted {
        let Self { piece, block, place, done } = self;
        let bytes = block.bytes().clone();
        let outcome = store.put(block).await;
        drop(place);
        Admitted { piece, bytes, outcome, done }
    }
}

/// A piece came, and there was neither room for it nor a reader to take it.
pub(crate) fn not_stored(piece: PieceIndex) -> LoanError {
    LoanError::new(FailureClass::Local, format!("piece {piece} came, and the cache has no room for it"))
}

fn corrupt(piece: PieceIndex, why: &impl std::fmt::Display) -> LoanError {
    LoanError::new(FailureClass::Corruption, format!("not piece {piece}: {why}"))
}

fn gone() -> LoanError {
    LoanError::new(FailureClass::Neutral, ReadFault::Gone.to_string())
}
