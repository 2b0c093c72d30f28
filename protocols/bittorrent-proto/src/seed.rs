//! Numbers that look random and follow from a seed, so that a run can be repeated.

use std::time::Duration;

/// The SplitMix64 generator: tiny, and good enough for order and jitter. Nothing secret comes from it.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0; the bias of the modulo does not matter for small bounds.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).expect("at most `last`, which is a usize");
            items.swap(last, other);
        }
    }

    /// `pause`, give or take up to a quarter, so that many do not come back at the same moment.
    pub(crate) fn jitter(&mut self, pause: Duration) -> Duration {
        let thousandths = u32::try_from(750 + self.below(501)).expect("at most 1250");
        pause * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_order_again_and_another_seed_another() {
        let order = |seed| {
            let mut items: Vec<u8> = (0..20).collect();
            SplitMix::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<u8>>());
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        let mut random = SplitMix::new(7);
        for _ in 0..1000 {
            let jittered = random.jitter(Duration::from_secs(100));
            assert!((75..=125).contains(&jittered.as_secs()), "{jittered:?}");
        }
    }
}
