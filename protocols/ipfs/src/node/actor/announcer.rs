//! When the DHT is told what is here: each root at once, and again before what was said of it is forgotten. Rules over
//! time that is given.
//!
//! Who is told keeps it for a day or two, so it is said again every 22 hours; not of all roots in the same minute, and
//! never of more than a few at a time, since each takes a search for those who are to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Roots that are announced; what comes beyond is not. At a few seconds each and two at a time they take a few hours.
pub(in crate::node) const MAX_ANNOUNCED: usize = 4096;
/// Announcements under way.
const MAX_UNDER_WAY: usize = 2;
/// The least time from the beginning of one to that of the next.
const SPACING: Duration = Duration::from_millis(100);
/// After how long a root is announced again, at most, and how much sooner it may be. Peers keep the news for 24 or 48
/// hours (the specification of the Kademlia DHT, "content provider advertisement").
const EVERY: Duration = Duration::from_secs(22 * 3600);
const SOONER: Duration = Duration::from_secs(2 * 3600);
/// After how long what failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(120);

/// A multihash.
pub(super) type Key = Vec<u8>;

/// See the head of this module.
#[derive(Debug)]
pub(super) struct Announcer {
    /// When each is due; `None` while it is under way.
    roots: BTreeMap<Key, Option<Instant>>,
    order: BTreeSet<(Instant, Key)>,
    under_way: usize,
    next_at: Option<Instant>,
    announced: u64,
    /// Makes times uneven.
    rng: StdRng,
}

impl Announcer {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            roots: BTreeMap::new(),
            order: BTreeSet::new(),
            under_way: 0,
            next_at: None,
            announced: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// A root is here, to be announced from now on. Whether there was room for it.
    pub(super) fn add(&mut self, now: Instant, key: Key) -> bool {
        if self.roots.len() < MAX_ANNOUNCED && !self.roots.contains_key(&key) {
            self.order.insert((now, key.clone()));
            self.roots.insert(key, Some(now));
            return true;
        }
        self.roots.contains_key(&key)
    }

    /// It is not kept any more. What was said of it is forgotten by itself.
    pub(super) fn remove(&mut self, key: &[u8]) {
        match self.roots.remove(key) {
            Some(Some(due)) => {
                self.order.remove(&(due, key.to_vec()));
            }
            // Its announcement ends without it.
            Some(None) => self.under_way -= 1,
            None => {}
        }
    }

    /// The next to announce now, if any is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Key> {
        if self.next_due()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.roots.insert(key.clone(), None);
        self.under_way += 1;
        self.next_at = Some(now + SPACING);
        Some(key)
    }

    /// When to poll again; `None` when there is nothing to wait for but the end of what is under way.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let (due, _) = self.order.first().filter(|_| self.under_way < MAX_UNDER_WAY)?;
        Some(self.next_at.map_or(*due, |next| next.max(*due)))
    }

    /// An announcement has ended, well or not.
    pub(super) fn on_ended(&mut self, now: Instant, key: &[u8], well: bool) {
        let Some(due) = self.roots.get_mut(key).filter(|due| due.is_none()) else { return };
        let again = if well { EVERY - self.rng.random_range(Duration::ZERO..SOONER) } else { RETRY_AFTER };
        *due = Some(now + again);
        self.order.insert((now + again, key.to_vec()));
        self.under_way -= 1;
        self.announced += u64::from(well);
    }

    /// How many announcements ended well.
    pub(super) const fn announced(&self) -> u64 {
        self.announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        n.to_be_bytes().to_vec()
    }

    #[test]
    fn all_are_announced_a_few_at_a_time_and_again_before_a_day_is_over() {
        let (mut announcer, start) = (Announcer::new(1), Instant::now());
        assert!((0..100).all(|n| announcer.add(start, key(n))));
        assert_eq!(announcer.next_due(), Some(start));
        let (mut now, mut under_way) = (start, Vec::new());
        for _ in 0..100 {
            while let Some(next) = announcer.poll(now) {
                under_way.push(next);
                now += SPACING;
            }
            assert!(under_way.len() <= MAX_UNDER_WAY);
            now += Duration::from_secs(1);
            announcer.on_ended(now, &under_way.remove(0), true);
        }
        assert_eq!(announcer.announced(), 100);
        let again = announcer.next_due().unwrap();
        assert!(again >= start + EVERY - SOONER && again < start + EVERY, "{:?}", again - start);
        let last = announcer.order.last().unwrap().0;
        assert!(last <= now + EVERY && last > again + SOONER / 2, "they are spread");
    }

    #[test]
    fn what_failed_is_tried_again_and_what_is_let_go_is_not() {
        let (mut announcer, start) = (Announcer::new(1), Instant::now());
        announcer.add(start, key(1));
        assert_eq!(announcer.poll(start), Some(key(1)));
        assert!(announcer.add(start, key(1)), "it is known");
        assert_eq!(announcer.next_due(), None);
        announcer.on_ended(start, &key(1), false);
        assert_eq!(announcer.next_due(), Some(start + RETRY_AFTER));
        announcer.remove(&key(1));
        assert_eq!(announcer.next_due(), None);
        announcer.add(start, key(2));
        assert_eq!(announcer.poll(start + SPACING), Some(key(2)));
        announcer.remove(&key(2));
        announcer.on_ended(start, &key(2), true);
        assert_eq!((announcer.next_due(), announcer.under_way, announcer.announced()), (None, 0, 0));
    }

    #[test]
    fn there_is_an_end_to_what_is_announced() {
        let (mut announcer, start) = (Announcer::new(1), Instant::now());
        let taken = (0..MAX_ANNOUNCED + 10).filter(|n| announcer.add(start, key(*n))).count();
        assert_eq!(taken, MAX_ANNOUNCED);
    }
}
