//! How many peers are given to at once. Few are given much and many little, and which of it earns more depends on what the
//! others give each other, which nobody tells. So it is learned.
//!
//! A trial lasts a minute: in one a few slots more are dealt than are thought best, in the next a few less, and so on. What
//! the peers who could be rewarded send meanwhile is what the trial earned; the first 20 s do not count, since others choose
//! anew each 15 s at most. A trial is compared with those before and after it together, so that a swarm that grows or
//! fades looks like neither side, and the thought moves towards the side that earned more, the further the more it did.
//!
//! What is learned is a factor. It is applied to what a rule makes of the rate at which we send and of what those give who
//! give anything, so that a line that gets faster is followed at once, and a swarm of faster lines is one of fewer slots.
//! Where nothing was earned for two minutes nothing can be learned, and another rule stands alone.

use std::time::{Duration, Instant};

use super::meter::Meter;

/// How long a trial lasts, and how long of it does not count.
const TRIAL: Duration = Duration::from_secs(60);
const SETTLING: Duration = Duration::from_secs(20);
/// By how much the trials lie above and below what is thought best, in thousandths. Where most is earned less than this makes
/// little difference, and further down it can be told from noise.
const ABOVE: u64 = 1400;
const BELOW: u64 = 714;
/// How much of what a side earned more the factor is moved, and how much at most, in thousandths.
const PULL: i64 = 600;
const LONGEST_STEP: i64 = 250;
/// A difference below this is none, in thousandths.
const NOTHING: i64 = 40;
/// As far as the factor goes, in thousandths.
const FACTORS: (u64, u64) = (125, 8000);
/// The fewest slots that are dealt when uploading is limited or learned: one that is earned and one by turns.
pub(super) const FEWEST_SLOTS: usize = 2;
/// So many times the usual number of slots are dealt at most.
pub(super) const MOST_TIMES: usize = 16;
/// The rule was made where the peer in the middle gave so many bytes a second; where it gives twice as much, a line counts for
/// half.
const USUAL_GIFT: u64 = 12 * 1024;
/// A new middle counts for one part in so many: who happens to be connected is chance.
const GIFTS_KEPT: u64 = 10;
/// After so many trials that earned nothing there is nobody to learn from.
const BARREN: u32 = 2;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Slots {
    usual: usize,
    /// What we send to all.
    sends: Meter,
    /// What the peer in the middle gives of those that give, in bytes a second, over some minutes.
    gift: u64,
    /// What was learned: thousandths of what the rule says.
    factor: u64,
    trial: Trial,
    /// What the two before it earned, the older first.
    past: [u64; 2],
    /// Trials in a row that earned nothing.
    barren: u32,
}

/// Those whom slots are for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    /// How many want one.
    pub(super) wanted: usize,
    /// What the one in the middle gave of those that gave, in bytes a second; `None` where they are too few.
    pub(super) gift: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    above: bool,
    began: Option<Instant>,
    earned: u64,
}

impl Slots {
    /// So many, until more is known.
    pub(super) fn new(usual: usize) -> Self {
        let trial = Trial { above: true, began: None, earned: 0 };
        let (sends, past) = (Meter::default(), [0, 0]);
        Self { usual, sends, gift: USUAL_GIFT, factor: 1000, trial, past, barren: BARREN }
    }

    /// Changes the usual number. What was learned stays true.
    pub(super) const fn set_usual(&mut self, usual: usize) {
        self.usual = usual;
    }

    /// Whether there is anybody to learn from.
    pub(super) const fn is_earning(&self) -> bool {
        self.barren < BARREN
    }

    /// We sent `bytes`.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        self.sends.note(now, bytes);
    }

    /// A peer that wants something of us sent `bytes`.
    pub(super) fn earned(&mut self, now: Instant, bytes: u64) {
        self.barren = 0;
        if self.trial.began.is_some_and(|began| now >= began + SETTLING) {
            self.trial.earned = self.trial.earned.saturating_add(bytes);
        }
    }

    /// How many slots there are now. To be asked each ten seconds.
    pub(super) fn number(&mut self, now: Instant, crowd: Crowd) -> usize {
        let kib = self.sends.rate(now) / 1024;
        let began = *self.trial.began.get_or_insert(now);
        if now >= began + TRIAL {
            self.end_trial(now);
        }
        let most = self.usual.saturating_mul(MOST_TIMES);
        if !self.is_earning() {
            // To give is all that is wanted: one slot more while each still has two thirds of a KiB/s for every one of them.
            return whole((kib * 3 / 2).isqrt()).clamp(self.usual, most);
        }
        // Among so few there is nobody to choose.
        if crowd.wanted <= self.usual {
            return self.usual;
        }
        if let Some(gift) = crowd.gift {
            self.gift = self.gift - self.gift / GIFTS_KEPT + gift / GIFTS_KEPT;
        }
        // Where learning begins: about best in a swarm of homes and some faster lines.
        let kib = kib.saturating_mul(USUAL_GIFT) / self.gift.max(1024);
        let rule = (kib.saturating_mul(kib.isqrt()).isqrt() * 1000 / 7).max(2000);
        self.keep_factor_in_bounds(rule, crowd.wanted);
        let side = if self.trial.above { ABOVE } else { BELOW };
        let thousandths = rule.saturating_mul(self.factor) / 1000 * side / 1000;
        whole((thousandths + 500) / 1000).clamp(FEWEST_SLOTS.min(self.usual), most)
    }

    /// Fewer than the fewest are not dealt, and once there are enough for all that want one, on both sides, more say nothing.
    fn keep_factor_in_bounds(&mut self, rule: u64, wanted: usize) {
        let factor_for = |slots: usize| u64::try_from(slots).unwrap_or(u64::MAX).saturating_mul(1_000_000) / rule;
        let (least, most) = FACTORS;
        let least = factor_for(FEWEST_SLOTS).clamp(least, 1000);
        let most = factor_for(wanted).saturating_mul(ABOVE).div_ceil(1000).clamp(1000, most);
        self.factor = self.factor.clamp(least, most);
    }

    fn end_trial(&mut self, now: Instant) {
        let Trial { above, earned, .. } = self.trial;
        self.barren = self.barren.saturating_add(u32::from(earned == 0));
        let [before, middle] = self.past;
        if before > 0 && middle > 0 && earned > 0 {
            let gain = gain(middle, before / 2 + earned / 2);
            // The one in the middle was on the other side.
            self.learn(if above { -gain } else { gain });
        }
        self.past = [middle, earned];
        self.trial = Trial { above: !above, began: Some(now), earned: 0 };
    }

    /// Trials with more slots earned so many thousandths more than those with less.
    fn learn(&mut self, gain: i64) {
        if gain.abs() >= NOTHING {
            let by = 1000 + (gain.abs() * PULL / 1000).min(LONGEST_STEP).unsigned_abs();
            self.factor = if gain > 0 { self.factor * by / 1000 } else { self.factor * 1000 / by };
        }
    }
}

/// By how many thousandths of their mean `one` is more than `other`.
fn gain(one: u64, other: u64) -> i64 {
    let thousandths = |bytes: u64| i64::try_from(bytes / (one.max(other) / 1000).max(1)).unwrap_or(1000);
    2000 * (thousandths(one) - thousandths(other)) / (thousandths(one) + thousandths(other)).max(1)
}

fn whole(slots: u64) -> usize {
    usize::try_from(slots).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, proptest};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const CROWD: Crowd = Crowd { wanted: 80, gift: Some(USUAL_GIFT) };
    /// Rounds of ten seconds.
    const ROUND: Duration = Duration::from_secs(10);

    /// A line on which `best` slots earn most: each doubling or halving away from it earns a third less.
    struct Hill {
        slots: Slots,
        now: Instant,
        line: u64,
        best: f64,
        noise: StdRng,
        /// What a second earns may be so much more or less, in percent.
        loud: i32,
        open: usize,
    }

    impl Hill {
        fn new(line: u64, best: f64, loud: i32, seed: u64) -> Self {
            let (slots, now) = (Slots::new(8), crate::testing::start());
            Self { slots, now, line, best, noise: StdRng::seed_from_u64(seed), loud, open: 8 }
        }

        fn round(&mut self) -> usize {
            let luck = 1.0 + f64::from(self.noise.random_range(-self.loud..=self.loud)) / 100.0;
            for _ in 0..10 {
                self.now += Duration::from_secs(1);
                self.slots.sent(self.now, self.line);
                self.slots.earned(self.now, self.earns(luck));
            }
            self.open = self.slots.number(self.now, CROWD);
            self.open
        }

        fn earns(&self, luck: f64) -> u64 {
            let octaves = u32::try_from(self.open).map_or(0.0, |open| (f64::from(open) / self.best).log2());
            bytes(1_000_000.0 * luck / (1.0 + octaves * octaves / 2.0))
        }

        /// The mean number of slots over so many rounds, after as many others.
        fn mean(&mut self, after: u32, rounds: u32) -> f64 {
            (0..after).for_each(|_| _ = self.round());
            let sum: usize = (0..rounds).map(|_| self.round()).sum();
            u32::try_from(sum).map_or(0.0, f64::from) / f64::from(rounds)
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few millions")]
    fn bytes(number: f64) -> u64 {
        number as u64
    }

    #[test]
    fn the_number_that_earns_most_is_found() {
        // On this line the rule says 15.
        for best in [5.0, 8.0, 15.0, 30.0, 50.0] {
            let mean = Hill::new(512 * 1024, best, 0, 0).mean(120, 60);
            assert!((0.75..1.4).contains(&(mean / best)), "best is {best}, found {mean}");
        }
    }

    #[test]
    fn noise_does_not_shake_it() {
        for seed in 0..20 {
            let mut hill = Hill::new(512 * 1024, 15.0, 60, seed);
            let (mut sum, rounds) = (0.0, 1080);
            for _ in 0..rounds {
                let open = hill.round();
                assert!((4..=60).contains(&open), "seed {seed}: {open}");
                sum += f64::from(u32::try_from(open).unwrap());
            }
            let mean = sum / f64::from(rounds);
            assert!((10.0..24.0).contains(&mean), "seed {seed}: {mean} on an average of three hours");
        }
    }

    #[test]
    fn a_step_of_the_line_is_followed_in_three_rounds() {
        let mut hill = Hill::new(128 * 1024, 5.0, 0, 0);
        let before = hill.mean(90, 30);
        hill.line *= 16;
        let open: Vec<_> = (0..9).map(|_| hill.round()).collect();
        assert!(open[2..].iter().all(|open| (20..=75).contains(open)), "from {before} to {open:?}");
        hill.line /= 16;
        let open: Vec<_> = (0..9).map(|_| hill.round()).collect();
        assert!(open[4..].iter().all(|open| (2..=9).contains(open)), "{open:?}");
    }

    #[test]
    fn among_faster_lines_a_line_is_worth_fewer_slots() {
        let mut slots = Slots::new(8);
        let mut now = crate::testing::start();
        let mut number = |slots: &mut Slots, gift| {
            for _ in 0..60 {
                now += ROUND;
                slots.sent(now, 5 * 1024 * 1024);
                slots.earned(now, 1);
                slots.number(now, Crowd { wanted: 80, gift: Some(gift) });
            }
            slots.number(now, Crowd { wanted: 80, gift: Some(gift) })
        };
        let [among_slow, among_fast] = [3, 48].map(|kib| number(&mut slots, kib * 1024));
        assert!(among_slow >= 4 * among_fast, "{among_slow} and {among_fast}");
    }

    #[test]
    fn where_there_is_a_slot_for_each_nobody_is_left_out() {
        let mut slots = Slots::new(8);
        let now = crate::testing::start();
        for round in 0..60 {
            slots.earned(now + ROUND * round, 1000);
            assert_eq!(slots.number(now + ROUND * round, Crowd { wanted: 8, gift: None }), 8);
        }
        assert!(slots.number(now + ROUND * 60, Crowd { wanted: 9, gift: None }) < 8);
    }

    #[test]
    fn who_learns_from_nobody_gives_to_as_many_as_the_line_is_worth() {
        let mut slots = Slots::new(4);
        let mut now = crate::testing::start();
        for (rate, dealt) in [(0, 4), (60 * 1024, 9), (600 * 1024, 30), (1 << 30, 64)] {
            for _ in 0..60 {
                now += Duration::from_secs(1);
                slots.sent(now, rate);
            }
            assert_eq!(slots.number(now, CROWD), dealt, "{rate}");
        }
        slots.earned(now, 1);
        assert!(slots.is_earning());
        (0..20).for_each(|round| _ = slots.number(now + ROUND * round, CROWD));
        assert!(!slots.is_earning());
    }

    proptest! {
        /// Whatever is sent and earned, and whoever wants something: the number keeps its bounds.
        #[test]
        fn it_never_leaves_its_bounds(
            usual in 0..20_usize,
            rounds in prop::collection::vec((0..1_u64 << 40, any::<u64>(), 0..500_usize, any::<Option<u64>>()), 0..100),
        ) {
            let mut slots = Slots::new(usual);
            let mut now = crate::testing::start();
            for (sent, earned, wanted, gift) in rounds {
                now += ROUND;
                slots.sent(now, sent);
                slots.earned(now, earned);
                let number = slots.number(now, Crowd { wanted, gift });
                prop_assert!(number >= FEWEST_SLOTS.min(usual) && number <= usual * MOST_TIMES, "{}", number);
            }
        }
    }
}
