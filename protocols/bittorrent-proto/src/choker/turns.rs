//! The slots that nobody earned, dealt by turns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::TurnOrder;
use crate::picker::PeerKey;

/// How long a turn lasts at least.
const TURN: Duration = Duration::from_secs(30);
/// What a turn is worth: who has not been sent this much goes on after [`TURN`], so that slow peers get whole pieces too.
const TURN_BYTES: u64 = 4 * 1024 * 1024;
/// How long it lasts at most while others wait.
const LONGEST_TURN: Duration = Duration::from_secs(60);
/// Of so many turns that begin, all but one go to who has never had one, if there is such a peer: a newcomer has nothing to
/// give before it is given something.
const NEWCOMERS_OF: u64 = 4;

/// One peer's turns.
#[derive(Debug, Clone, Copy)]
struct Turn {
    began: Instant,
    sent: u64,
    /// Whether it is on.
    on: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Turns {
    turns: BTreeMap<PeerKey, Turn>,
    begun: u64,
}

impl Turns {
    pub(super) const fn new() -> Self {
        Self { turns: BTreeMap::new(), begun: 0 }
    }

    pub(super) fn forget(&mut self, peer: PeerKey) {
        self.turns.remove(&peer);
    }

    pub(super) fn forget_all(&mut self) {
        self.turns.clear();
    }

    pub(super) fn sent(&mut self, peer: PeerKey, bytes: u64) {
        if let Some(turn) = self.turns.get_mut(&peer) {
            turn.sent = turn.sent.saturating_add(bytes);
        }
    }

    /// How many turns are remembered of peers that are gone.
    #[cfg(test)]
    pub(super) fn count_of_strangers<Book>(&self, known: &BTreeMap<PeerKey, Book>) -> usize {
        self.turns.keys().filter(|key| !known.contains_key(key)).count()
    }

    /// A peer has its turn from now on.
    pub(super) fn begin(&mut self, now: Instant, peer: PeerKey) {
        self.begun += 1;
        self.turns.insert(peer, Turn { began: now, sent: 0, on: true });
    }

    /// Deals `room` turns among `waiting`, each with its rate: turns that are not over go on, then others begin.
    pub(super) fn deal(
        &mut self,
        now: Instant,
        room: usize,
        order: TurnOrder,
        waiting: &[(PeerKey, u64)],
    ) -> Vec<PeerKey> {
        let crowded = waiting.len() > room;
        let mut queue: Vec<_> = waiting.to_vec();
        let mut dealt: Vec<(PeerKey, u64)> = Vec::new();
        if order == TurnOrder::RoundRobin {
            let goes_on = |key: &PeerKey| self.turns.get(key).is_some_and(|turn| turn.goes_on(now, crowded));
            (dealt, queue) = queue.into_iter().partition(|(key, _)| goes_on(key));
            dealt.truncate(room);
        }
        let mut chosen: Vec<_> = dealt.into_iter().map(|(key, _)| key).collect();
        for (key, _) in waiting.iter().filter(|(key, _)| !chosen.contains(key)) {
            if let Some(turn) = self.turns.get_mut(key) {
                turn.on = false;
            }
        }
        while chosen.len() < room
            && let Some(at) = self.next(order, &queue)
        {
            let (key, _) = queue.swap_remove(at);
            self.begin(now, key);
            chosen.push(key);
        }
        chosen
    }

    /// Whose turn is next: its place in the queue.
    fn next(&self, order: TurnOrder, queue: &[(PeerKey, u64)]) -> Option<usize> {
        let usual = !self.begun.is_multiple_of(NEWCOMERS_OF);
        let rank = |(key, rate): &(PeerKey, u64)| {
            let before = self.turns.get(key).map(|turn| turn.began);
            match order {
                TurnOrder::Fastest if usual => (std::cmp::Reverse(*rate), false, before, *key),
                // A chance for who takes nothing yet.
                TurnOrder::Fastest => (std::cmp::Reverse(0), false, before, *key),
                TurnOrder::RoundRobin => (std::cmp::Reverse(0), before.is_none() != usual, before, *key),
            }
        };
        queue.iter().enumerate().min_by_key(|(_, peer)| rank(peer)).map(|(at, _)| at)
    }
}

impl Turn {
    fn goes_on(&self, now: Instant, crowded: bool) -> bool {
        let lasted = now.saturating_duration_since(self.began);
        let is_over = lasted >= LONGEST_TURN || (lasted >= TURN && self.sent >= TURN_BYTES);
        self.on && !(crowded && is_over)
    }
}
