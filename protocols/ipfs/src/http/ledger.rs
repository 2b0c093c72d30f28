//! What one server gave each reading, for whoever asks why its blocks do not come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_content::{Attempt, AttemptOutcome};

use crate::source::{SessionId, SourceError};

/// Readings remembered; the oldest goes first. A reading that is over is forgotten at once.
const MAX_SESSIONS: usize = 1024;

#[derive(Debug, Default)]
struct Entry {
    blocks: u64,
    /// How the last request failed, unless it did not.
    failed: Option<String>,
    /// How long the last request took.
    took: Duration,
}

/// What became of the requests of each reading.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<BTreeMap<SessionId, Entry>>);

impl Ledger {
    /// Waits for a request of a reading, and notes what became of it.
    pub(super) async fn follow<T>(
        &self,
        session: SessionId,
        request: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let begun = Instant::now();
        let result = request.await;
        self.note(session, begun.elapsed(), &result);
        result
    }

    /// A request of a reading has ended.
    pub(super) fn note<T>(&self, session: SessionId, took: Duration, result: &Result<T, SourceError>) {
        let mut entries = self.0.lock();
        let entry = entries.entry(session).or_default();
        entry.took = took;
        entry.blocks += u64::from(result.is_ok());
        entry.failed = result.as_ref().err().map(|error| error.detail.clone());
        if entries.len() > MAX_SESSIONS {
            entries.pop_first();
        }
    }

    pub(super) fn forget(&self, session: SessionId) {
        self.0.lock().remove(&session);
    }

    /// What was asked for a reading, of a source of some kind and name.
    pub(super) fn attempts(&self, session: SessionId, source: &'static str, name: &str) -> Vec<Attempt> {
        let entries = self.0.lock();
        let attempt = |entry: &Entry| Attempt {
            source,
            target: Some(name.to_owned()),
            outcome: match &entry.failed {
                Some(why) => AttemptOutcome::Failed(why.clone()),
                None => AttemptOutcome::Ok(format!("{} blocks", entry.blocks)),
            },
            took: entry.took,
        };
        entries.get(&session).map(attempt).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fault::neutral;

    #[test]
    fn the_last_request_of_each_reading_is_told_and_old_readings_go() {
        let ledger = Ledger::default();
        let (one, took) = (SessionId(1), Duration::from_secs(1));
        ledger.note(one, took, &Err::<(), _>(neutral("has it not")));
        assert_eq!(ledger.attempts(one, "gateway", "x")[0].outcome, AttemptOutcome::Failed("has it not".into()));
        ledger.note(one, took, &Ok(()));
        assert_eq!(ledger.attempts(one, "gateway", "x")[0].outcome, AttemptOutcome::Ok("1 blocks".into()));
        for n in 2..3000 {
            ledger.note(SessionId(n), took, &Ok(()));
        }
        assert_eq!((ledger.attempts(one, "gateway", "x").len(), ledger.0.lock().len()), (0, MAX_SESSIONS));
        ledger.forget(SessionId(2999));
        assert!(ledger.attempts(SessionId(2999), "gateway", "x").is_empty());
    }
}
