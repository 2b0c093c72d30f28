//! Whom to upload to: a few peers at a time, those that give most, and one by turns in the hope that it will (BEP 3).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::picker::PeerKey;

/// How often the choice is made anew.
pub const RECHOKE_INTERVAL: Duration = Duration::from_secs(10);
/// How long one peer keeps the optimistic slot.
const OPTIMISTIC_INTERVAL: Duration = Duration::from_secs(30);

/// What the choice is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChokeCandidate {
    /// The peer.
    pub key: PeerKey,
    /// Whether it wants anything of us.
    pub interested: bool,
    /// Bytes it gave us, or took when we need nothing more, since the last choice.
    pub merit: u64,
}

/// The upload slots of one torrent.
#[derive(Debug)]
pub struct Choker {
    slots: usize,
    unchoked: BTreeSet<PeerKey>,
    optimistic: Option<(PeerKey, Instant)>,
    turn: u64,
}

impl Choker {
    /// A choker with `slots` upload slots; the last of them is the optimistic one when there are two or more.
    #[must_use]
    pub const fn new(slots: usize) -> Self {
        Self { slots, unchoked: BTreeSet::new(), optimistic: None, turn: 0 }
    }

    /// Whether `peer` is unchoked.
    #[must_use]
    pub fn is_unchoked(&self, peer: PeerKey) -> bool {
        self.unchoked.contains(&peer)
    }

    /// Gives a free slot to a peer that just became interested; tells whether it got one.
    pub fn on_interested(&mut self, peer: PeerKey) -> bool {
        self.unchoked.len() < self.slots && self.unchoked.insert(peer)
    }

    /// Takes the slot of a peer that left or lost interest.
    pub fn on_gone(&mut self, peer: PeerKey) {
        self.unchoked.remove(&peer);
        if self.optimistic.is_some_and(|(key, _)| key == peer) {
            self.optimistic = None;
        }
    }

    /// Chooses anew and returns who is unchoked now.
    pub fn rechoke(&mut self, now: Instant, candidates: &[ChokeCandidate]) -> &BTreeSet<PeerKey> {
        let mut interested: Vec<_> = candidates.iter().filter(|candidate| candidate.interested).collect();
        // Best first; who has a slot keeps it over an equal.
        interested.sort_by_key(|candidate| {
            (std::cmp::Reverse(candidate.merit), !self.unchoked.contains(&candidate.key), candidate.key)
        });
        let regular = if self.slots > 1 { self.slots - 1 } else { self.slots };
        let mut unchoked: BTreeSet<_> = interested.iter().take(regular).map(|candidate| candidate.key).collect();
        if self.slots > regular {
            let waiting: Vec<_> = interested.iter().skip(regular).map(|candidate| candidate.key).collect();
            unchoked.extend(self.optimist(now, &waiting));
        }
        self.unchoked = unchoked;
        &self.unchoked
    }

    fn optimist(&mut self, now: Instant, waiting: &[PeerKey]) -> Option<PeerKey> {
        if let Some((key, since)) = self.optimistic
            && waiting.contains(&key)
            && now < since + OPTIMISTIC_INTERVAL
        {
            return Some(key);
        }
        let mut by_key = waiting.to_vec();
        by_key.sort_unstable();
        self.turn += 1;
        let at = usize::try_from(self.turn).unwrap_or(0).checked_rem(by_key.len())?;
        self.optimistic = Some((by_key[at], now));
        Some(by_key[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(merits: &[u64]) -> Vec<ChokeCandidate> {
        (1..)
            .zip(merits)
            .map(|(key, merit)| ChokeCandidate { key: PeerKey(key), interested: true, merit: *merit })
            .collect()
    }

    #[test]
    fn the_most_generous_get_the_slots_and_one_more_has_its_chance() {
        let now = crate::testing::start();
        let mut choker = Choker::new(3);
        let chosen = choker.rechoke(now, &candidates(&[5, 90, 10, 0, 40])).clone();
        assert!(chosen.contains(&PeerKey(2)) && chosen.contains(&PeerKey(5)));
        assert_eq!(chosen.len(), 3);
    }

    #[test]
    fn in_time_everybody_has_had_the_optimistic_slot() {
        let mut now = crate::testing::start();
        let (mut choker, mut seen) = (Choker::new(2), BTreeSet::new());
        for _ in 0..20 {
            seen.extend(choker.rechoke(now, &candidates(&[9, 0, 0, 0, 0])).iter().copied());
            now += OPTIMISTIC_INTERVAL;
        }
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn a_free_slot_is_given_at_once_and_only_then() {
        let mut choker = Choker::new(1);
        assert!(choker.on_interested(PeerKey(1)));
        assert!(!choker.on_interested(PeerKey(2)));
        choker.on_gone(PeerKey(1));
        assert!(choker.on_interested(PeerKey(2)));
    }

    #[test]
    fn nobody_who_wants_nothing_holds_a_slot() {
        let mut choker = Choker::new(4);
        let idle = ChokeCandidate { key: PeerKey(1), interested: false, merit: 1_000_000 };
        assert!(choker.rechoke(crate::testing::start(), &[idle]).is_empty());
    }
}
