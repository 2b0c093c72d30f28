//! Fetches under way, one a block: who wants a block that is being fetched already waits for that fetch.
//!
//! A fetch is a task, so it goes on while its readers are busy with something else, and hashing spreads over the cores.
//! It ends when it is done, when the last one who waits for it has left, or when the block came by another way.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use swarmgate_content::{BlockHash, VerifiedBytes};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::fault::Fault;
use crate::search::Found;

/// How a fetch ended.
pub(crate) type Outcome = Result<VerifiedBytes, Fault>;

/// All fetches under way. As many as readers' windows have blocks.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    under_way: BTreeMap<BlockHash, Flight>,
    next_serial: u64,
}

#[derive(Debug)]
struct Flight {
    serial: u64,
    waiters: usize,
    outcome: watch::Sender<Option<Outcome>>,
    /// Who may have the block, as far as the reading knows that began the fetch.
    found: Arc<Found>,
    task: AbortHandle,
}

/// The fetch's own end of it: tells how it ended, and takes it off the list however it does.
#[derive(Debug)]
pub(crate) struct Landing {
    flights: Arc<Flights>,
    hash: BlockHash,
    serial: u64,
    outcome: watch::Sender<Option<Outcome>>,
}

/// The place of one who waits for a fetch.
#[derive(Debug)]
pub(crate) struct Ticket {
    flights: Arc<Flights>,
    hash: BlockHash,
    serial: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Flights {
    /// Joins the fetch of a block, or has `start` begin one. Also returns who began it knows to ask, when it was
    /// somebody else.
    pub(crate) fn join(
        self: &Arc<Self>,
        hash: BlockHash,
        found: &Arc<Found>,
        start: impl FnOnce(Landing) -> AbortHandle,
    ) -> (Ticket, Option<Arc<Found>>) {
        let mut inner = self.inner.lock();
        if let Some(flight) = inner.under_way.get_mut(&hash) {
            flight.waiters += 1;
            let ticket = self.ticket(hash, flight.serial, flight.outcome.subscribe());
            return (ticket, Some(flight.found.clone()));
        }
        let serial = inner.next_serial;
        inner.next_serial += 1;
        let outcome = watch::Sender::new(None);
        let ticket = self.ticket(hash, serial, outcome.subscribe());
        let task = start(Landing { flights: self.clone(), hash, serial, outcome: outcome.clone() });
        inner.under_way.insert(hash, Flight { serial, waiters: 1, outcome, found: found.clone(), task });
        (ticket, None)
    }

    fn ticket(self: &Arc<Self>, hash: BlockHash, serial: u64, outcome: watch::Receiver<Option<Outcome>>) -> Ticket {
        Ticket { flights: self.clone(), hash, serial, outcome }
    }

    /// Gives a block that came by another way to all who wait for its fetch, and ends that.
    pub(crate) fn give(&self, hash: &BlockHash, block: &VerifiedBytes) {
        let given = self.inner.lock().under_way.remove(hash);
        if let Some(flight) = given {
            flight.outcome.send_replace(Some(Ok(block.clone())));
            flight.task.abort();
        }
    }

    /// How many blocks are being fetched.
    pub(crate) fn count(&self) -> usize {
        self.inner.lock().under_way.len()
    }
}

impl Landing {
    /// Tells everybody who waits, unless they were given the block meanwhile.
    pub(crate) fn tell(self, outcome: Outcome) {
        self.outcome.send_if_modified(|told| {
            let is_news = told.is_none();
            told.get_or_insert(outcome);
            is_news
        });
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut inner = self.flights.inner.lock();
        if inner.under_way.get(&self.hash).is_some_and(|flight| flight.serial == self.serial) {
            inner.under_way.remove(&self.hash);
        }
    }
}

impl Ticket {
    /// Waits for the fetch to end; `None` when it died with the runtime, or of a panic.
    pub(crate) async fn wait(&mut self) -> Option<Outcome> {
        let outcome = self.outcome.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.flights.inner.lock();
        let Some(flight) = inner.under_way.get_mut(&self.hash).filter(|flight| flight.serial == self.serial) else {
            return;
        };
        flight.waiters -= 1;
        if flight.waiters == 0 {
            let left = inner.under_way.remove(&self.hash);
            drop(inner);
            if let Some(flight) = left {
                flight.task.abort();
            }
        }
    }
}
