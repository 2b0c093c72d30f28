//! How long a reading waits: rules over time that is given.

use std::time::{Duration, Instant};

/// How long a reading waits. What a client takes to read is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the first want to the first block.
    pub first_byte: Duration,
    /// Without any block of the DAG arriving.
    pub stall: Duration,
    /// All waiting together.
    pub total: Duration,
}

impl Default for Patience {
    /// 30 s, 30 s, an hour.
    fn default() -> Self {
        Self { first_byte: Duration::from_secs(30), stall: Duration::from_secs(30), total: Duration::from_secs(3600) }
    }
}

/// How long one reading has waited, and when it gives up. Those of its callers who wait at the same time wait together.
#[derive(Debug)]
pub(crate) struct Clock {
    patience: Patience,
    /// Since when somebody has waited without a pause.
    since: Option<Instant>,
    waiters: usize,
    /// Waits that are over.
    waited: Duration,
    progress: Option<Instant>,
}

impl Clock {
    pub(crate) const fn new(patience: Patience) -> Self {
        Self { patience, since: None, waiters: 0, waited: Duration::ZERO, progress: None }
    }

    /// Somebody begins to wait.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.waiters += 1;
    }

    /// Somebody has waited.
    pub(crate) fn end(&mut self, now: Instant) {
        self.waiters = self.waiters.saturating_sub(1);
        if self.waiters == 0
            && let Some(since) = self.since.take()
        {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// A block has come.
    pub(crate) const fn progress(&mut self, now: Instant) {
        self.progress = Some(now);
    }

    /// When the wait under way is given up; `None` when nobody waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let since = self.since?;
        let left = self.patience.total.saturating_sub(self.waited);
        let stage = if self.progress.is_some() { self.patience.stall } else { self.patience.first_byte };
        let quiet_since = self.progress.map_or(since, |progress| progress.max(since));
        Some((quiet_since + stage).min(since + left))
    }

    /// Why it was given up, for people.
    pub(crate) fn reason(&self) -> String {
        let said = |span: Duration| format!("{:.1} s", span.as_secs_f64());
        if self.waited >= self.patience.total {
            format!("all waits together took {}", said(self.patience.total))
        } else if self.progress.is_some() {
            format!("no block arrived within {}", said(self.patience.stall))
        } else {
            format!("no block arrived within the first {}", said(self.patience.first_byte))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { first_byte: Duration::from_secs(10), stall: Duration::from_secs(5), total: Duration::from_secs(60) };

    #[test]
    fn the_first_block_may_take_longer_and_every_block_starts_the_wait_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = Clock::new(PATIENCE);
        assert_eq!(clock.deadline(), None);
        clock.begin(at(0));
        assert_eq!(clock.deadline(), Some(at(10)));
        clock.progress(at(8));
        assert_eq!(clock.deadline(), Some(at(13)));
        clock.begin(at(9));
        clock.end(at(12));
        assert_eq!(clock.deadline(), Some(at(13)), "the first is still waiting");
    }

    #[test]
    fn a_slow_client_costs_the_reading_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = Clock::new(PATIENCE);
        clock.begin(at(0));
        clock.progress(at(1));
        clock.end(at(1));
        clock.begin(at(3601));
        assert_eq!(clock.deadline(), Some(at(3606)), "the client took an hour to read");
    }

    #[test]
    fn all_waits_together_are_bounded() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = Clock::new(PATIENCE);
        for wait in 0..20 {
            clock.begin(at(wait * 10));
            clock.progress(at(wait * 10 + 3));
            clock.end(at(wait * 10 + 3));
        }
        clock.begin(at(300));
        assert_eq!(clock.deadline(), Some(at(300)), "twenty times 3 s are the minute");
        assert!(clock.reason().contains("60.0 s"));
    }
}
