//! The events of late, numbered for replay.
//!
//! A receiver that nobody reads keeps the bus's newest [`EVENT_CAPACITY`] events, so no task is needed to collect them:
//! whoever opens an event stream moves what has gathered into the ring. Numbers start from the time of start-up, so
//! a number given out before a restart is never mistaken for one given out after it.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use swarmgate_content::{ContentId, EVENT_CAPACITY, EventBus, EventReceiver, EventRecvError, NumberedEvent};

/// Numbers set apart for each second of start-up time, as a power of two; together they stay below 2^53, which is
/// what a script can count to.
const NUMBERS_PER_SECOND_BITS: u32 = 20;

/// The ring and what has not been moved into it yet.
#[derive(Debug)]
pub struct History {
    bus: EventBus,
    base: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    pending: EventReceiver,
    ring: VecDeque<Told>,
}

/// An event as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its number; numbers only grow.
    pub id: u64,
    /// Its type.
    pub name: &'static str,
    /// The content it is about.
    pub item: Option<ContentId>,
    /// The event as JSON.
    pub json: String,
}

/// What a client who comes back has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// These, in order; perhaps none.
    Events(Vec<Told>),
    /// More than is remembered: the client must read the state afresh.
    TooMuch,
}

/// A moment in the bus's order: all before it is in `recent`, all after it comes through `live`.
#[derive(Debug)]
pub struct Moment {
    /// The events of late, oldest first.
    pub recent: Vec<Told>,
    /// The number of the newest event there was, or the one before the first.
    pub newest: u64,
    /// What is published from now on; may repeat some of `recent`.
    pub live: EventReceiver,
}

impl History {
    /// Begins to remember what `bus` publishes.
    #[must_use]
    pub fn new(bus: &EventBus, started: SystemTime) -> Self {
        let seconds = started.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
        let inner = Inner { pending: bus.subscribe(), ring: VecDeque::new() };
        Self { bus: bus.clone(), base: seconds << NUMBERS_PER_SECOND_BITS, inner: Mutex::new(inner) }
    }

    /// Subscribes, and gives what is remembered.
    #[must_use]
    pub fn subscribe(&self) -> Moment {
        let mut inner = self.inner.lock();
        // First subscribe, then catch up: an event in between is seen twice rather than never.
        let live = self.bus.subscribe();
        self.catch_up(&mut inner);
        let recent: Vec<_> = inner.ring.iter().cloned().collect();
        Moment { newest: recent.last().map_or(self.base, |told| told.id), recent, live }
    }

    /// Numbers and prints an event.
    #[must_use]
    pub fn tell(&self, numbered: &NumberedEvent) -> Told {
        let NumberedEvent { number, event } = numbered;
        let json = serde_json::to_string(event).unwrap_or_else(|_| "{}".to_owned());
        Told { id: self.base + number, name: event.name(), item: event.item().copied(), json }
    }

    fn catch_up(&self, inner: &mut Inner) {
        loop {
            match inner.pending.try_recv() {
                Ok(Some(event)) => {
                    if inner.ring.len() == EVENT_CAPACITY {
                        inner.ring.pop_front();
                    }
                    let told = self.tell(&event);
                    inner.ring.push_back(told);
                }
                // What was lost lies before the newest EVENT_CAPACITY; so does all that is in the ring.
                Err(EventRecvError::Lagged(_)) => inner.ring.clear(),
                Ok(None) | Err(EventRecvError::Closed) => return,
            }
        }
    }
}

impl Moment {
    /// What a client has missed whose last event was `last`.
    #[must_use]
    pub fn missed_since(&self, last: u64) -> Missed {
        let remembers_next =
            self.recent.first().map_or(self.newest == last, |first| first.id <= last.saturating_add(1));
        if !remembers_next || last > self.newest {
            return Missed::TooMuch;
        }
        Missed::Events(self.recent.iter().filter(|told| told.id > last).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarmgate_content::{Event, InfoHash};

    fn history() -> (EventBus, History) {
        let bus = EventBus::new();
        let history = History::new(&bus, UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000));
        (bus, history)
    }

    fn publish(bus: &EventBus, count: usize) {
        for _ in 0..count {
            bus.publish(Event::ItemAdded { item: ContentId::BtV1(InfoHash::new([1; 20])) });
        }
    }

    fn missed(history: &History, last: u64) -> Option<usize> {
        match history.subscribe().missed_since(last) {
            Missed::Events(events) => Some(events.len()),
            Missed::TooMuch => None,
        }
    }

    #[test]
    fn a_client_who_comes_back_gets_what_it_missed_and_no_more() {
        let (bus, history) = history();
        publish(&bus, 3);
        let seen = history.subscribe().newest;
        publish(&bus, 4);
        assert_eq!(missed(&history, seen), Some(4));
        assert_eq!(missed(&history, seen + 4), Some(0));
        assert_eq!(missed(&history, seen + 5), None, "a number that was never given out");
    }

    #[test]
    fn the_ring_holds_a_thousand_and_then_forgets() {
        let (bus, history) = history();
        let start = history.subscribe().newest;
        assert_eq!(missed(&history, start), Some(0));
        publish(&bus, EVENT_CAPACITY);
        assert_eq!(missed(&history, start), Some(EVENT_CAPACITY));
        publish(&bus, 1);
        assert_eq!(missed(&history, start), None);
        assert_eq!(missed(&history, start + 1), Some(EVENT_CAPACITY));
        publish(&bus, 3 * EVENT_CAPACITY);
        assert_eq!(missed(&history, start + 1), None, "lost between two looks");
        assert_eq!(history.subscribe().recent.len(), EVENT_CAPACITY);
    }

    #[test]
    fn a_number_from_before_a_restart_means_too_much() {
        let bus = EventBus::new();
        let at = |seconds| UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let old = History::new(&bus, at(1_700_000_000));
        publish(&bus, 10);
        let last = old.subscribe().newest;
        let bus = EventBus::new();
        let new = History::new(&bus, at(1_700_000_005));
        publish(&bus, 20);
        assert!(last < new.subscribe().newest);
        assert_eq!(missed(&new, last), None);
    }
}
