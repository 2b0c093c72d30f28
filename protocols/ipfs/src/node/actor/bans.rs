//! Peers that are refused for a while.

use std::collections::BTreeMap;
use std::time::Instant;

use libp2p::PeerId;

/// Bans at a time; the one that would end first makes room.
const MAX_BANS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Bans(BTreeMap<PeerId, Instant>);

impl Bans {
    /// Bans a peer; gives one whose ban ends for it.
    pub(super) fn add(&mut self, peer: PeerId, until: Instant) -> Option<PeerId> {
        self.0.insert(peer, until);
        if self.0.len() <= MAX_BANS {
            return None;
        }
        let first = self.0.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer)?;
        self.0.remove(&first);
        Some(first)
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.0.contains_key(peer)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the next ban ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// The peers whose ban has ended.
    pub(super) fn take_ended(&mut self, now: Instant) -> Vec<PeerId> {
        self.0.extract_if(.., |_, until| *until <= now).map(|(peer, _)| peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_ban_ends_and_bans_are_bounded() {
        let (mut bans, start) = (Bans::default(), Instant::now());
        let peer = PeerId::random();
        assert_eq!(bans.add(peer, start + Duration::from_secs(1)), None);
        assert!(bans.take_ended(start).is_empty());
        assert_eq!(bans.next_end(), Some(start + Duration::from_secs(1)));
        assert_eq!(bans.take_ended(start + Duration::from_secs(1)), [peer]);
        let lifted =
            (0..MAX_BANS as u64 + 3).filter_map(|nth| bans.add(PeerId::random(), start + Duration::from_secs(nth)));
        assert_eq!(lifted.count(), 3);
        assert_eq!(bans.len(), MAX_BANS);
    }
}
