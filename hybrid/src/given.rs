//! What was given to a network from elsewhere while it was asked for it too. Its requests end then as though it had
//! delivered: what came by other means is not to its credit, and a network that is silent is not taken for one that works.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

/// Pieces or leaves by number, and when each was given; one entry for each at most.
#[derive(Debug, Default)]
pub(crate) struct Given(Mutex<BTreeMap<u32, Instant>>);

impl Given {
    /// One is about to be given.
    pub(crate) fn note(&self, number: u32) {
        self.0.lock().insert(number, Instant::now());
    }

    /// It was not taken.
    pub(crate) fn forget(&self, number: u32) {
        self.0.lock().remove(&number);
    }

    /// Whether any of these was given since then.
    pub(crate) fn any_since(&self, since: Instant, numbers: impl IntoIterator<Item = u32>) -> bool {
        let given = self.0.lock();
        numbers.into_iter().any(|number| given.get(&number).is_some_and(|at| *at >= since))
    }
}
