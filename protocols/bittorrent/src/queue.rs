//! Which of the items that were added to stay are active, when there are more than may be.
//!
//! What somebody reads is active, always, and takes no place of the queue. Of the rest those that are not complete have
//! places of their own, and so have those that are, each by priority and, where that is the same, in the order in which they
//! were added. Who has no place waits, and is found and read all the same: reading it makes it active. What its policy does
//! not upload any more needs no place.

use std::collections::BTreeSet;

use swarmgate_content::InfoHash;

use crate::priority::Priority;

/// How many may be active that nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Of those that are not complete.
    pub downloads: usize,
    /// Of those that are.
    pub seeds: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { downloads: usize::MAX, seeds: usize::MAX }
    }
}

/// An item that was added to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) infohash: InfoHash,
    pub(crate) priority: Priority,
    /// When it was added, in seconds since 1970.
    pub(crate) added: u64,
    pub(crate) reading: bool,
    pub(crate) complete: bool,
    /// Whether there is anything for it to do: an incomplete one may always be given something.
    pub(crate) wants: bool,
}

/// Who is active, and who waits, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) active: BTreeSet<InfoHash>,
    pub(crate) waiting: Vec<InfoHash>,
}

/// Deals the places: at most `room` besides those who are being read.
pub(crate) fn deal(items: &mut [Queued], limits: QueueLimits, room: usize) -> Places {
    items.sort_unstable_by_key(|item| (item.priority, item.added, item.infohash));
    let mut places = Places::default();
    let (mut downloads, mut seeds, mut room) = (limits.downloads, limits.seeds, room);
    for item in items.iter() {
        if item.reading {
            places.active.insert(item.infohash);
            continue;
        }
        if !item.wants {
            continue;
        }
        let kind = if item.complete { &mut seeds } else { &mut downloads };
        if *kind > 0 && room > 0 {
            *kind -= 1;
            room -= 1;
            places.active.insert(item.infohash);
        } else {
            places.waiting.push(item.infohash);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u8, complete: bool) -> Queued {
        let infohash = InfoHash::from_slice(&[number; 20]).unwrap();
        let (priority, added) = (Priority::default(), u64::from(number));
        Queued { infohash, priority, added, reading: false, complete, wants: true }
    }

    fn numbers<'a>(hashes: impl IntoIterator<Item = &'a InfoHash>) -> Vec<u8> {
        hashes.into_iter().map(|hash| hash.as_bytes()[0]).collect()
    }

    #[test]
    fn the_oldest_have_the_places_and_readers_need_none() {
        let mut items: Vec<_> = (0..6).rev().map(|number| item(number, false)).collect();
        let limits = QueueLimits { downloads: 2, seeds: 0 };
        items[0].reading = true;
        let places = deal(&mut items, limits, 100);
        assert_eq!(numbers(&places.active), [0, 1, 5]);
        assert_eq!(numbers(&places.waiting), [2, 3, 4]);
    }

    #[test]
    fn a_priority_comes_before_age_and_readers_need_neither() {
        let mut items: Vec<_> = (0..6).map(|number| item(number, false)).collect();
        (items[0].priority, items[4].priority, items[5].priority) = (Priority::Low, Priority::High, Priority::High);
        let limits = QueueLimits { downloads: 3, seeds: 0 };
        let places = deal(&mut items, limits, 100);
        assert_eq!((numbers(&places.active), numbers(&places.waiting)), (vec![1, 4, 5], vec![2, 3, 0]));
        let last = items.iter_mut().find(|item| item.priority == Priority::Low).unwrap();
        last.reading = true;
        assert_eq!(numbers(&deal(&mut items, limits, 100).active), [0, 1, 4, 5]);
    }

    #[test]
    fn downloads_and_seeds_do_not_wait_for_each_other_and_the_total_holds() {
        let mut items: Vec<_> = (0..8).map(|number| item(number, number % 2 == 0)).collect();
        let limits = QueueLimits { downloads: 1, seeds: 2 };
        assert_eq!(numbers(&deal(&mut items, limits, 100).active), [0, 1, 2]);
        assert_eq!(numbers(&deal(&mut items, limits, 2).active), [0, 1]);
        items[0].wants = false;
        let places = deal(&mut items, limits, 100);
        assert_eq!(numbers(&places.active), [1, 2, 4]);
        assert!(!places.waiting.contains(&items[0].infohash), "who wants nothing does not wait");
    }
}
