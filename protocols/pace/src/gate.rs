//! Gates and lines of them: the rules of [`crate::bucket`] with a clock.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::bucket::{Bucket, LARGEST_PIECE, Ticket, piece_at};

/// Bytes a second, 0 for no limit. Clones are one limit; whoever changes it wakes all who wait because of it.
#[derive(Debug, Clone)]
pub struct Limit(Arc<watch::Sender<u64>>);

impl Default for Limit {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Limit {
    /// A limit of so many bytes a second.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self(Arc::new(watch::Sender::new(bytes_per_second)))
    }

    /// Bytes a second, 0 for no limit.
    #[must_use]
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Changes it, for bytes that wait already too.
    pub fn set(&self, bytes_per_second: u64) {
        self.0.send_if_modified(|rate| std::mem::replace(rate, bytes_per_second) != bytes_per_second);
    }

    /// Hears of changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Lets bytes pass no faster than its limit. See the crate's head.
#[derive(Debug)]
pub struct Gate {
    limit: Limit,
    bucket: Mutex<Bucket>,
}

/// A place in a gate's line; dropped before its time, it is given back.
struct Place<'a> {
    gate: &'a Gate,
    ticket: Ticket,
    bytes: u64,
    passed: bool,
}

impl Gate {
    /// A gate that goes by `limit`.
    #[must_use]
    pub fn new(limit: Limit) -> Arc<Self> {
        Arc::new(Self { limit, bucket: Mutex::default() })
    }

    /// Bytes a second, 0 for no limit.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.limit.get()
    }

    /// Waits until `bytes` may pass, which are not many: see [`Line::piece`]. Dropped before that, it gives its place to
    /// those behind.
    pub async fn pass(&self, bytes: u64) {
        if self.rate() == 0 {
            return;
        }
        let mut rate = self.limit.changes();
        let mut place = self.ask(*rate.borrow_and_update(), bytes);
        loop {
            let current = *rate.borrow_and_update();
            let Some(due) = self.bucket.lock().due(now(), current, place.ticket) else { break };
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                // The limit is ours too, so its sender lives.
                _ = rate.changed() => {}
            }
        }
        place.passed = true;
    }

    fn ask(&self, rate: u64, bytes: u64) -> Place<'_> {
        let ticket = self.bucket.lock().ask(now(), rate, bytes);
        Place { gate: self, ticket, bytes, passed: false }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.passed {
            self.gate.bucket.lock().give_back(self.bytes);
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Gates one after another, the narrowest circle first. Clones are the same gates.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<[Arc<Gate>]>);

impl Line {
    /// A line of these gates, in the order in which they are passed.
    #[must_use]
    pub fn of(gates: impl IntoIterator<Item = Arc<Gate>>) -> Self {
        Self(gates.into_iter().collect())
    }

    /// Whether nothing limits it at this moment.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.iter().all(|gate| gate.rate() == 0)
    }

    /// The strictest of its limits in bytes a second, 0 when there is none.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.0.iter().map(|gate| gate.rate()).filter(|rate| *rate > 0).min().unwrap_or(0)
    }

    /// How many bytes are to be asked for at once; `None` when nothing limits it.
    #[must_use]
    pub fn piece(&self) -> Option<u64> {
        Some(self.rate()).filter(|rate| *rate > 0).map(piece_at)
    }

    /// Waits until `bytes` may pass: as one, when they are at most a piece, else piece by piece.
    pub async fn pass(&self, bytes: u64) {
        let mut left = bytes;
        while left > 0 && !self.is_open() {
            let piece = self.piece().unwrap_or(LARGEST_PIECE).min(left);
            for gate in &*self.0 {
                gate.pass(piece).await;
            }
            left -= piece;
        }
    }

    /// As [`Self::pass`], for who keeps the wait.
    #[must_use]
    pub fn wait(&self, bytes: u64) -> BoxFuture<'static, ()> {
        let line = self.clone();
        Box::pin(async move { line.pass(bytes).await })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Lets `flows` pass at a line for `time`; tells how many bytes each got.
    async fn run(lines: Vec<Line>, time: Duration) -> Vec<u64> {
        let end = tokio::time::Instant::now() + time;
        let flow = |line: Line| async move {
            let mut passed = 0;
            let endless = async {
                loop {
                    let piece = line.piece().unwrap_or(LARGEST_PIECE);
                    line.pass(piece).await;
                    passed += piece;
                }
            };
            let _ = tokio::time::timeout_at(end, endless).await;
            passed
        };
        futures_util::future::join_all(lines.into_iter().map(flow)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_keeps_its_rate_and_shares_it_alike() {
        for rate in [10_000, 1_000_000, 8_000_000] {
            let line = Line::of([Gate::new(Limit::new(rate))]);
            let got = run(vec![line; 20], Duration::from_secs(10)).await;
            let sum: u64 = got.iter().sum();
            let error = (sum as f64 / (10 * rate) as f64 - 1.0).abs();
            assert!(error < 0.03, "{sum} at {rate}");
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            assert!(most - least <= LARGEST_PIECE, "{got:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_narrow_gate_leaves_the_rest_of_the_wide_one_to_others() {
        let all = Gate::new(Limit::new(1_000_000));
        let narrow = Line::of([Gate::new(Limit::new(100_000)), all.clone()]);
        let free = Line::of([Gate::new(Limit::default()), all]);
        let got = run(vec![narrow, free], Duration::from_secs(10)).await;
        assert!((970_000..1_030_000).contains(&got[0]), "{got:?}");
        assert!((8_800_000..9_100_000).contains(&got[1]), "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_acts_on_those_who_wait() {
        let limit = Limit::new(1);
        let line = Line::of([Gate::new(limit.clone())]);
        let start = tokio::time::Instant::now();
        let (line, change) = (line.clone(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            limit.set(0);
        });
        tokio::join!(line.pass(1 << 20), change);
        assert_eq!(start.elapsed().as_secs(), 1);
    }
}
