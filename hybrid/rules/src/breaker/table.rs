//! The breakers of a process, by name; shared by all who ask anybody for anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::circuit::{CircuitBreaker, Ticket};
use super::{BreakerKey, BreakerOptions, BreakerState, BreakerStatus, Refusal, Urgency};
use crate::classify::Verdict;

/// Breakers kept at most. Clients can name sources, so we choose the number; when they are too many, the one goes that
/// was not used for longest, of those that are closed if there are any.
pub const MAX_BREAKERS: usize = 4096;
/// Changes of state kept for whoever tells the world; when nobody fetches them, the oldest go.
pub const MAX_CHANGES: usize = 256;

/// A breaker changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerChange {
    /// Which.
    pub key: BreakerKey,
    /// Its new state.
    pub state: BreakerState,
    /// When.
    pub at: Instant,
}

/// All breakers. Cheap to clone; the clones are one table.
#[derive(Debug, Clone)]
pub struct Breakers(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    options: Arc<BreakerOptions>,
    rng: StdRng,
    entries: BTreeMap<BreakerKey, Entry>,
    next_id: u64,
    changes: VecDeque<BreakerChange>,
}

#[derive(Debug)]
struct Entry {
    /// Unique in the process, so that a permit of a breaker that is gone is not taken for one of its successor.
    id: u64,
    breaker: CircuitBreaker,
    used: Instant,
}

/// Leave to make one call. Dropped unreported, it gives its place back and says nothing of the source.
#[derive(Debug)]
#[must_use = "dropping a permit gives up the call"]
pub struct Permit {
    table: Arc<Mutex<Table>>,
    key: BreakerKey,
    id: u64,
    ticket: Option<Ticket>,
}

impl Permit {
    /// Whether the call tries a source that failed before.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.as_ref().is_some_and(Ticket::is_probe)
    }

    /// Says how the call ended.
    pub fn report(mut self, now: Instant, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            let mut table = self.table.lock();
            table.with(&self.key, self.id, now, |breaker| breaker.report(now, ticket, verdict));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && let Some(entry) = self.table.lock().entries.get_mut(&self.key)
            && entry.id == self.id
        {
            entry.breaker.release(ticket);
        }
    }
}

impl Breakers {
    /// Makes an empty table. `seed` makes the times for which breakers open uneven.
    #[must_use]
    pub fn new(options: BreakerOptions, seed: u64) -> Self {
        let table = Table {
            options: Arc::new(options),
            rng: StdRng::seed_from_u64(seed),
            entries: BTreeMap::new(),
            next_id: 0,
            changes: VecDeque::new(),
        };
        Self(Arc::new(Mutex::new(table)))
    }

    /// Leave to make a call.
    ///
    /// # Errors
    /// When the breaker refuses it, with the time to ask again.
    pub fn try_acquire(&self, now: Instant, key: &BreakerKey, urgency: Urgency) -> Result<Permit, Refusal> {
        let mut table = self.0.lock();
        let id = table.entry(now, key);
        let ticket = table.with(key, id, now, |breaker| breaker.try_acquire(now, urgency));
        // It is there: it was found or made two lines up.
        let ticket = ticket.unwrap_or(Err(Refusal { state: BreakerState::Open, retry_at: now }))?;
        Ok(Permit { table: self.0.clone(), key: key.clone(), id, ticket: Some(ticket) })
    }

    /// What [`Self::try_acquire`] would say, without taking a place. `Ok` tells whether the call would try the source.
    ///
    /// # Errors
    /// As there.
    pub fn peek(&self, now: Instant, key: &BreakerKey, urgency: Urgency) -> Result<bool, Refusal> {
        let mut table = self.0.lock();
        let Some(id) = table.entries.get(key).map(|entry| entry.id) else { return Ok(false) };
        table.with(key, id, now, |breaker| breaker.peek(now, urgency)).unwrap_or(Ok(false))
    }

    /// The state of a breaker; closed when there is none.
    #[must_use]
    pub fn state(&self, now: Instant, key: &BreakerKey) -> BreakerState {
        let mut table = self.0.lock();
        let Some(id) = table.entries.get(key).map(|entry| entry.id) else { return BreakerState::Closed };
        table.with(key, id, now, |breaker| breaker.state(now)).unwrap_or(BreakerState::Closed)
    }

    /// What an operator sees, in the order of names.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<BreakerStatus> {
        let mut table = self.0.lock();
        let keys: Vec<_> = table.entries.iter().map(|(key, entry)| (key.clone(), entry.id)).collect();
        let status = |(key, id): (BreakerKey, u64)| table.with(&key, id, now, |it| it.status(now, key.clone()));
        keys.into_iter().filter_map(status).collect()
    }

    /// Closes a breaker and forgets what it knew; tells whether there is one.
    pub fn reset(&self, now: Instant, key: &BreakerKey) -> bool {
        let mut table = self.0.lock();
        let Some(id) = table.entries.get(key).map(|entry| entry.id) else { return false };
        table.with(key, id, now, |breaker| breaker.reset(now)).is_some()
    }

    /// Whether there is a change of state that nobody has fetched yet.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.0.lock().changes.is_empty()
    }

    /// The next change of state that nobody has fetched yet.
    #[must_use]
    pub fn poll_change(&self) -> Option<BreakerChange> {
        self.0.lock().changes.pop_front()
    }
}

impl Table {
    /// The id of a breaker, made when there is none.
    fn entry(&mut self, now: Instant, key: &BreakerKey) -> u64 {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.used = entry.used.max(now);
            return entry.id;
        }
        if self.entries.len() >= MAX_BREAKERS {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| (!entry.breaker.is_closed(), entry.used));
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
        self.next_id += 1;
        let breaker = CircuitBreaker::new(now, self.options.clone(), self.rng.random());
        self.entries.insert(key.clone(), Entry { id: self.next_id, breaker, used: now });
        self.next_id
    }

    /// Does something with a breaker that is still there, and notes when that changed its state.
    fn with<T>(
        &mut self,
        key: &BreakerKey,
        id: u64,
        now: Instant,
        act: impl FnOnce(&mut CircuitBreaker) -> T,
    ) -> Option<T> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.id == id)?;
        let turn = entry.breaker.turn();
        let result = act(&mut entry.breaker);
        if entry.breaker.turn() != turn {
            let change = BreakerChange { key: key.clone(), state: entry.breaker.state(now), at: now };
            if self.changes.len() == MAX_CHANGES {
                self.changes.pop_front();
            }
            self.changes.push_back(change);
        }
        Some(result)
    }
}
