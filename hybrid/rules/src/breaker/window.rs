//! The last calls of a breaker, and what share of them failed.

use std::collections::VecDeque;
use std::time::Instant;

use super::BreakerOptions;

#[derive(Debug, Clone, Copy)]
struct Call {
    at: Instant,
    weight: u32,
    failed: bool,
}

/// The calls that are remembered: the last so many, and none that is too old.
#[derive(Debug, Default)]
pub(super) struct Window {
    calls: VecDeque<Call>,
}

/// What the window shows, weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) failed: u32,
    pub(super) of: u32,
}

impl Window {
    pub(super) fn push(&mut self, now: Instant, options: &BreakerOptions, weight: u32, failed: bool) {
        self.forget(now, options);
        while self.calls.len() >= options.window_calls.max(1) {
            self.calls.pop_front();
        }
        self.calls.push_back(Call { at: now, weight, failed });
    }

    pub(super) fn sample(&mut self, now: Instant, options: &BreakerOptions) -> Sample {
        self.forget(now, options);
        let sum = |failed: bool| -> u32 {
            self.calls.iter().filter(|call| call.failed || !failed).map(|call| call.weight).sum()
        };
        Sample { failed: sum(true), of: sum(false) }
    }

    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }

    fn forget(&mut self, now: Instant, options: &BreakerOptions) {
        while self.calls.front().is_some_and(|call| now.saturating_duration_since(call.at) > options.window) {
            self.calls.pop_front();
        }
    }
}

impl Sample {
    /// Whether enough is known, and enough of it is bad.
    pub(super) fn opens(self, options: &BreakerOptions) -> bool {
        self.of >= options.min_sample.max(1) && f64::from(self.failed) >= options.failure_ratio * f64::from(self.of)
    }
}
