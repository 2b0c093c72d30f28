//! The history of one source: what it was asked for, what it gave, and how soon.

use std::time::{Duration, Instant};

use serde::Serialize;

/// The busy time after which what was counted for the goodput is halved.
const GOODPUT_MEMORY: Duration = Duration::from_secs(10);

/// How one source has served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SourceStats {
    /// Blocks asked for.
    pub requests: u64,
    /// Blocks delivered.
    pub delivered: u64,
    /// Times that it said it has not the block.
    pub absent: u64,
    /// Failures, corruption included.
    pub failures: u64,
    /// Blocks whose bytes were not theirs.
    pub corrupt: u64,
    /// Requests withdrawn before an answer.
    pub withdrawn: u64,
    /// Bytes delivered.
    pub bytes: u64,
    /// Its mean time for a block, in milliseconds; 0 before the first.
    pub latency_ms: u64,
    /// Bytes a second while it was asked for anything, of late.
    pub goodput: u64,
    /// Milliseconds until it is asked again; 0 when it does not rest.
    pub resting_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) stats: SourceStats,
    pub(super) mean: Option<Duration>,
    pub(super) deviation: Duration,
    pub(super) failures_in_row: u32,
    /// Rests in a row: after failures, and after corruption.
    pub(super) rests: u32,
    pub(super) corrupt_rests: u32,
    pub(super) corrupt_at: Option<Instant>,
    /// Until when it rests; then one request tries it.
    pub(super) rest_until: Option<Instant>,
    pub(super) probed_at: Option<Instant>,
    pub(super) running: u32,
    pub(super) busy_since: Option<Instant>,
    pub(super) busy: Duration,
    pub(super) busy_bytes: u64,
}

impl Standing {
    pub(super) fn ended(&mut self, now: Instant) {
        self.running = self.running.saturating_sub(1);
        if let Some(since) = self.busy_since {
            self.busy += now.saturating_duration_since(since);
            self.busy_since = (self.running > 0).then_some(now);
        }
        if self.busy > GOODPUT_MEMORY {
            self.busy /= 2;
            self.busy_bytes /= 2;
        }
    }

    /// Means that forget an eighth with every sample (RFC 6298 §2).
    pub(super) fn learn(&mut self, took: Duration) {
        match self.mean {
            None => {
                self.mean = Some(took);
                self.deviation = took / 2;
            }
            Some(mean) => {
                self.deviation = self.deviation * 3 / 4 + mean.abs_diff(took) / 4;
                self.mean = Some(mean * 7 / 8 + took / 8);
            }
        }
    }

    pub(super) fn stats_at(&self, now: Instant) -> SourceStats {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let rest = self.rest_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        SourceStats {
            latency_ms: self.mean.map_or(0, millis),
            goodput: self.busy_bytes.saturating_mul(1000) / millis(self.busy).max(1),
            resting_ms: millis(rest),
            ..self.stats
        }
    }
}
