//! How fast bytes pass, over the last thirty seconds: long enough that a peer which sends in bursts counts by its mean,
//! short enough that one which stopped is soon no friend any more. Two of the rounds in which most others choose anew, too:
//! who is given something for one of them answers in the next.

use std::time::{Duration, Instant};

/// A part of the window.
const SLOT: Duration = Duration::from_secs(6);
/// Parts in the window: 30 s in all.
const SLOTS: u32 = 5;
/// A flow younger than this is taken to be this old, so that one block at once is no gigabyte a second.
const YOUNGEST: Duration = Duration::from_secs(4);

/// See the module's head.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    /// When the newest part began, and when the first bytes passed since the window was last empty.
    since: Option<(Instant, Instant)>,
    parts: [u64; SLOTS as usize],
}

impl Meter {
    /// Notes that `bytes` passed.
    pub(super) fn note(&mut self, now: Instant, bytes: u64) {
        self.advance(now);
        self.since.get_or_insert((now, now));
        self.parts[0] = self.parts[0].saturating_add(bytes);
    }

    /// Bytes a second over the window.
    pub(super) fn rate(&mut self, now: Instant) -> u64 {
        self.advance(now);
        let Some((newest, first)) = self.since else { return 0 };
        let window = SLOT * (SLOTS - 1) + now.saturating_duration_since(newest);
        let span = now.saturating_duration_since(first).clamp(YOUNGEST, window.max(YOUNGEST));
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let bytes = self.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        bytes.saturating_mul(1000) / millis
    }

    fn advance(&mut self, now: Instant) {
        while let Some((newest, first)) = self.since
            && now.saturating_duration_since(newest) >= SLOT
        {
            self.parts.rotate_right(1);
            self.parts[0] = 0;
            let empty = self.parts.iter().all(|part| *part == 0);
            self.since = (!empty).then_some((newest + SLOT, first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_its_rate_and_bursts_are_their_mean() {
        let start = crate::testing::start();
        for every in [1, 2] {
            let mut meter = Meter::default();
            for burst in 0..60 / every {
                meter.note(start + Duration::from_secs(burst * every), 1000 * every);
            }
            let rate = meter.rate(start + Duration::from_secs(60));
            assert!((850..1150).contains(&rate), "{rate} with bursts each {every} s");
        }
    }

    #[test]
    fn who_stopped_is_forgotten_in_thirty_seconds() {
        let start = crate::testing::start();
        let mut meter = Meter::default();
        meter.note(start, 1_000_000);
        assert!(meter.rate(start + Duration::from_secs(1)) >= 100_000);
        assert_eq!(meter.rate(start + Duration::from_secs(30)), 0);
        assert_eq!(meter.rate(start + Duration::from_secs(40_000)), 0);
    }
}
