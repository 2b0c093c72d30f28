//! Numbers that follow from a seed and that nobody who lacks it can guess: transaction ids, secrets of tokens, ids.
//!
//! HMAC-SHA-256 of a counter under the seed. What only needs to look random (order, jitter) is drawn from the same
//! place, so that one seed replays a whole network.

use std::time::Duration;

use aws_lc_rs::hmac;

/// Bytes that one step gives.
const BLOCK: usize = 32;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Random {
    key: hmac::Key,
    step: u64,
    block: [u8; BLOCK],
    used: usize,
}

impl Random {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, seed), step: 0, block: [0; BLOCK], used: BLOCK }
    }

    fn byte(&mut self) -> u8 {
        if self.used == BLOCK {
            self.step += 1;
            let tag = hmac::sign(&self.key, &self.step.to_be_bytes());
            self.block.copy_from_slice(tag.as_ref());
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// A number below `bound`, which is above 0; the bias of the modulo does not matter for small bounds.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        u64::from_be_bytes(self.bytes()) % bound
    }

    /// `pause` or up to a quarter less, so that many do not come at the same moment and none comes late.
    pub(crate) fn earlier(&mut self, pause: Duration) -> Duration {
        let thousandths = u32::try_from(750 + self.below(251)).unwrap_or(1000);
        pause * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_another_seed_others() {
        let drawn = |seed| Random::new(&[seed; 32]).bytes::<100>();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn what_is_drawn_earlier_is_never_late() {
        let mut random = Random::new(&[7; 32]);
        for _ in 0..1000 {
            let pause = random.earlier(Duration::from_secs(100));
            assert!((75..=100).contains(&pause.as_secs()), "{pause:?}");
        }
    }
}
