//! Where a reader is in a fetch.

use std::sync::Arc;
use std::time::Instant;

use swarmgate_content::{Account, SourceMix};
use swarmgate_hybrid_rules::{GiveUpReason, ReaderKey};
use tokio::sync::Notify;

use super::Fetch;

/// A reader's place in a fetch. Dropping it withdraws what only it wanted.
#[derive(Debug)]
pub(crate) struct Place {
    fetch: Arc<Fetch>,
    key: ReaderKey,
    bell: Arc<Notify>,
    position: u64,
}

impl Place {
    pub(super) const fn new(fetch: Arc<Fetch>, key: ReaderKey, bell: Arc<Notify>, position: u64) -> Self {
        Self { fetch, key, bell, position }
    }

    pub(crate) const fn key(&self) -> ReaderKey {
        self.key
    }

    /// It was handed so many bytes.
    pub(crate) fn moved(&mut self, len: u64) {
        let now = Instant::now();
        let (from, to) = (self.position, self.position.saturating_add(len));
        self.position = to;
        if let Some(row) = self.fetch.rows.lock().get_mut(&self.key) {
            row.position = to;
        }
        let mut plan = self.fetch.plan.lock();
        let units: Vec<_> = plan.units().touching(&(from..to)).collect();
        for unit in &units {
            let Some(range) = plan.units().range(*unit) else { continue };
            let bytes = range.end().min(to) - range.start().max(from);
            plan.handed(now, self.key, *unit, bytes);
        }
        plan.advance_reader(now, self.key, to);
        let crossed = plan.units().at(from) != plan.units().at(to);
        drop(plan);
        if crossed {
            self.fetch.bell.notify_one();
        }
    }

    /// It waits, and its next bytes are not where the plan believes them to be.
    pub(crate) fn lost(&self) {
        let mut plan = self.fetch.plan.lock();
        let unit = plan.units().at(self.position);
        if let Some(unit) = unit.filter(|unit| plan.has(*unit)) {
            plan.mark_lost(unit);
            drop(plan);
            self.fetch.bell.notify_one();
        }
    }

    /// Whether its next bytes are there.
    pub(crate) fn is_served(&self) -> bool {
        let unit = self.fetch.plan.lock().units().at(self.position);
        unit.is_none_or(|unit| self.fetch.ground.has(unit))
    }

    /// Waits until it is told that its next bytes will not come.
    pub(crate) async fn given_up(&self) -> GiveUpReason {
        loop {
            if let Some(why) = self.fetch.rows.lock().get(&self.key).and_then(|row| row.fault) {
                return why;
            }
            self.bell.notified().await;
        }
    }

    /// A way to ask what it was handed so far, and from where.
    pub(crate) fn account(&self) -> Arc<dyn Account> {
        Arc::new(PlaceAccount { fetch: self.fetch.clone(), key: self.key })
    }
}

/// What one reader was handed.
#[derive(Debug)]
struct PlaceAccount {
    fetch: Arc<Fetch>,
    key: ReaderKey,
}

impl Account for PlaceAccount {
    fn mix(&self) -> SourceMix {
        self.fetch.plan.lock().attribution().mix(self.key)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.fetch.rows.lock().remove(&self.key);
        self.fetch.plan.lock().close_reader(self.key);
        self.fetch.bell.notify_one();
    }
}
