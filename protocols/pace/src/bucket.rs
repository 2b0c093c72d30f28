//! The rule of one gate, without a clock.
//!
//! All bytes that were ever asked for stand in one line. A [`Ticket`] is a place in it; `through` is how much of the line
//! may have passed by now. It moves on at the rate, never beyond those who have asked but for a short burst, so that an
//! hour of silence is no licence for a flood. Places are counted in bytes and not in seconds: when the rate changes, all
//! who wait have another time and the same place.

use std::time::{Duration, Instant};

/// The most that is asked for at once: a block of a torrent. The smaller, the fairer; the larger, the cheaper.
pub const LARGEST_PIECE: u64 = 16 * 1024;
/// What may pass at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(50);
/// Pieces a second below which they are made smaller, so that a slow flow is a flow and not a drip.
const PIECES_A_SECOND: u64 = 20;
/// No piece is smaller than this.
const SMALLEST_PIECE: u64 = 1024;
const NANOS: u128 = 1_000_000_000;

/// A place in the line. It is due once as many bytes as stand before its end may have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u128);

/// See the module's head. A rate of 0 is no limit.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Bytes a second, since `at`.
    rate: u64,
    at: Option<Instant>,
    /// Both in billionths of a byte, so that no fraction is lost at any rate.
    asked: u128,
    through: u128,
}

/// How many bytes to ask for at once at a rate.
#[must_use]
pub const fn piece_at(rate: u64) -> u64 {
    let piece = rate / PIECES_A_SECOND;
    if rate == 0 || piece > LARGEST_PIECE {
        LARGEST_PIECE
    } else if piece < SMALLEST_PIECE {
        SMALLEST_PIECE
    } else {
        piece
    }
}

impl Bucket {
    /// Puts `bytes` at the end of the line.
    pub fn ask(&mut self, now: Instant, rate: u64, bytes: u64) -> Ticket {
        self.advance(now, rate);
        self.asked += u128::from(bytes) * NANOS;
        if rate == 0 {
            self.through = self.asked;
        }
        Ticket(self.asked)
    }

    /// When a ticket may pass, if the rate stays as it is; `None` when it may pass now.
    pub fn due(&mut self, now: Instant, rate: u64, ticket: Ticket) -> Option<Instant> {
        self.advance(now, rate);
        let ahead = ticket.0.checked_sub(self.through).filter(|ahead| *ahead > 0)?;
        let nanos = ahead.div_ceil(u128::from(rate.max(1)));
        // A century is as good as never.
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(Duration::from_secs(1 << 31));
        Some(now + wait)
    }

    /// Gives back the place of `bytes` that will not pass: whoever stands behind moves up.
    pub fn give_back(&mut self, bytes: u64) {
        self.through += u128::from(bytes) * NANOS;
    }

    /// Moves the line on until `now`, and goes by `rate` from then on.
    fn advance(&mut self, now: Instant, rate: u64) {
        let since = self.at.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since);
        if since > now {
            // Callers' clocks may be read in another order than their calls arrive.
            self.at = Some(since);
        }
        self.through += u128::from(self.rate) * passed.as_nanos();
        let burst = if rate == 0 { 0 } else { burst(rate) };
        self.through = self.through.min(self.asked + u128::from(burst) * NANOS);
        if rate == 0 {
            self.through = self.asked;
        }
        self.rate = rate;
    }
}

/// How many bytes may pass at once after a pause.
fn burst(rate: u64) -> u64 {
    let millis = u64::try_from(BURST.as_millis()).unwrap_or(u64::MAX);
    (rate / 1000).saturating_mul(millis).max(piece_at(rate))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::prop;
    use proptest::{prop_assert, proptest};

    use super::*;

    const RATE: u64 = 1_000_000;

    #[test]
    fn who_waits_has_its_place_whatever_becomes_of_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        bucket.ask(start, RATE, burst(RATE));
        let first = bucket.ask(start, RATE, 500_000);
        let second = bucket.ask(start, RATE, 500_000);
        let at = |bucket: &mut Bucket, ticket| bucket.due(start, RATE, ticket).map(|due| due - start);
        let before = at(&mut bucket, second);
        assert!(at(&mut bucket, first) < before, "{before:?}");
        let later = start + Duration::from_millis(100);
        let at_once = bucket.due(later, 100 * RATE, second).unwrap();
        assert!(at_once - later < Duration::from_millis(20), "{:?}", at_once - later);
        assert_eq!(bucket.due(later, 0, second), None, "no limit, no wait");
    }

    #[test]
    fn an_hour_of_silence_is_no_licence() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        bucket.ask(start, RATE, 1);
        let later = start + Duration::from_secs(3600);
        let ticket = bucket.ask(later, RATE, RATE);
        let wait = bucket.due(later, RATE, ticket).unwrap() - later;
        assert!(wait > Duration::from_millis(940), "{wait:?}");
    }

    #[test]
    fn what_is_given_back_is_not_lost_to_those_behind() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        bucket.ask(start, RATE, 2 * RATE);
        let behind = bucket.ask(start, RATE, 1000);
        let before = bucket.due(start, RATE, behind).unwrap();
        bucket.give_back(2 * RATE);
        assert!(bucket.due(start, RATE, behind).is_none_or(|due| due < before - Duration::from_secs(1)));
    }

    #[test]
    fn pieces_fit_the_rate() {
        assert_eq!((piece_at(0), piece_at(8 << 20), piece_at(1)), (LARGEST_PIECE, LARGEST_PIECE, SMALLEST_PIECE));
        assert_eq!(piece_at(100_000), 5000);
    }

    proptest! {
        /// Whoever asks for how much and when: in no span of time passes more than the rate allows and one burst.
        #[test]
        fn never_faster(rate in 1_000..10_000_000_u64, asks in prop::collection::vec((0..200_u64, 1..16_384_u64), 1..200)) {
            let mut now = Instant::now();
            let mut bucket = Bucket::default();
            let mut passed: Vec<(Instant, u64)> = Vec::new();
            for (pause, bytes) in asks {
                now += Duration::from_millis(pause);
                let ticket = bucket.ask(now, rate, bytes);
                let due = bucket.due(now, rate, ticket).unwrap_or(now);
                prop_assert!(passed.last().is_none_or(|(last, _)| *last <= due), "in the order of asking");
                passed.push((due, bytes));
            }
            for (from, (began, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (until, bytes) in &passed[from..] {
                    sum += bytes;
                    let allowed = (*until - *began).as_secs_f64() * rate as f64 + burst(rate) as f64 + 16_384.0;
                    prop_assert!(sum as f64 <= allowed, "{sum} bytes in {:?}", *until - *began);
                }
            }
        }

        /// While somebody waits, the whole rate is used, though it changes in between.
        #[test]
        fn never_slower(rates in prop::collection::vec((1_000..10_000_000_u64, 1..3000_u64), 1..20)) {
            let mut now = Instant::now();
            let mut bucket = Bucket::default();
            let total: u64 = rates.iter().map(|(rate, millis)| rate * millis / 1000).sum();
            let first = rates[0].0;
            bucket.ask(now, first, total);
            let last = bucket.ask(now, first, 1);
            for (rate, millis) in &rates {
                bucket.due(now, *rate, last);
                now += Duration::from_millis(*millis);
            }
            let rate = rates[rates.len() - 1].0;
            let left = bucket.due(now, rate, last).map_or(Duration::ZERO, |due| due - now);
            // Fractions of a byte, one for each rate.
            let slack = Duration::from_secs_f64(rates.len() as f64 / rate as f64) + Duration::from_micros(1);
            prop_assert!(left <= slack, "{left:?} late after {:?}", rates);
        }
    }
}
