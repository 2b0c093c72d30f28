//! The fetches that there are, and what all together have delivered since the start: numbers that only grow.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use swarmgate_hybrid_rules::Network;

use crate::fetch::Fetch;

/// Bytes by network, and what was won by asking twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HybridTotals {
    /// Bytes that each network was the first to deliver.
    pub useful: BTreeMap<Network, u64>,
    /// Bytes of each that came too late, twice or wrong.
    pub wasted: BTreeMap<Network, u64>,
    /// Times that the second source which was asked came first.
    pub hedge_wins: u64,
}

/// Every fetch from its beginning to its end, and what those have delivered that are over.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    past: HybridTotals,
    fetches: Vec<Arc<Fetch>>,
}

impl HybridTotals {
    /// What one fetch has delivered so far.
    fn of(fetch: &Fetch) -> Self {
        fetch.with_ledger(|ledger| {
            let by = |which: fn((u64, u64)) -> u64| {
                let of = |network| (network, which(ledger.network(network)));
                Network::ALL.into_iter().map(of).collect()
            };
            let hedge_wins = ledger.sources().map(|share| share.hedge_wins).sum();
            Self { useful: by(|(useful, _)| useful), wasted: by(|(_, wasted)| wasted), hedge_wins }
        })
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.useful, &other.useful), (&mut self.wasted, &other.wasted)] {
            for (network, bytes) in theirs {
                *mine.entry(*network).or_default() += bytes;
            }
        }
        self.hedge_wins += other.hedge_wins;
    }
}

impl Ledger {
    pub(crate) fn begun(&self, fetch: &Arc<Fetch>) {
        self.0.lock().fetches.push(Arc::clone(fetch));
    }

    /// A fetch is over; what it has delivered is not forgotten.
    pub(crate) fn ended(&self, fetch: &Arc<Fetch>) {
        fetch.close();
        let mut rows = self.0.lock();
        rows.past.add(&HybridTotals::of(fetch));
        rows.fetches.retain(|other| !Arc::ptr_eq(other, fetch));
    }

    pub(crate) fn fetches(&self) -> Vec<Arc<Fetch>> {
        self.0.lock().fetches.clone()
    }

    pub(crate) fn totals(&self) -> HybridTotals {
        let rows = self.0.lock();
        let mut totals = rows.past.clone();
        rows.fetches.iter().for_each(|fetch| totals.add(&HybridTotals::of(fetch)));
        totals
    }
}
