//! The slots that nobody earned, dealt by turns.

use std::cmp::Reverse;
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
/// The same where turns are to find out who gives something back: others choose each 15 s at most, so who has not answered
/// by then will not.
const LONGEST_TRY: Duration = Duration::from_secs(40);
/// A peer that gave nothing yet is taken to give this much, in bytes a second, when it is weighed against others.
const LEAST_HOPE: u64 = 1024;
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

/// One that could have a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) key: PeerKey,
    /// What it takes, and the most it gave, in bytes a second.
    pub(super) takes: u64,
    pub(super) gave: u64,
}

/// How turns are dealt.
#[derive(Debug, Clone, Copy)]
pub(super) struct TurnRules {
    pub(super) order: TurnOrder,
    /// Whether something is hoped for in return: then who gave more before has its turn more often.
    pub(super) in_return: bool,
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

    /// Deals `room` turns among `waiting`: turns that are not over go on, then others begin.
    pub(super) fn deal(&mut self, now: Instant, room: usize, rules: TurnRules, waiting: &[Waiting]) -> Vec<PeerKey> {
        let longest = if rules.in_return { LONGEST_TRY } else { LONGEST_TURN };
        let longest = (waiting.len() > room).then_some(longest);
        let mut queue: Vec<_> = waiting.to_vec();
        let mut chosen: Vec<PeerKey> = Vec::new();
        if rules.order == TurnOrder::RoundRobin {
            let goes_on = |peer: &Waiting| self.turns.get(&peer.key).is_some_and(|turn| turn.goes_on(now, longest));
            let dealt;
            (dealt, queue) = queue.into_iter().partition(goes_on);
            chosen.extend(dealt.into_iter().map(|peer| peer.key).take(room));
        }
        for peer in waiting.iter().filter(|peer| !chosen.contains(&peer.key)) {
            if let Some(turn) = self.turns.get_mut(&peer.key) {
                turn.on = false;
            }
        }
        while chosen.len() < room
            && let Some(at) = self.next(now, rules, &queue)
        {
            let peer = queue.swap_remove(at);
            self.begin(now, peer.key);
            chosen.push(peer.key);
        }
        chosen
    }

    /// Whose turn is next: its place in the queue.
    fn next(&self, now: Instant, rules: TurnRules, queue: &[Waiting]) -> Option<usize> {
        let usual = !self.begun.is_multiple_of(NEWCOMERS_OF);
        let rank = |peer: &Waiting| {
            let before = self.turns.get(&peer.key).map(|turn| turn.began);
            let is_new = before.is_none();
            // How much may have changed since its last turn, and how much that would be worth.
            let waited = before.map_or(0, |before| now.saturating_duration_since(before).as_secs());
            let promise = waited.saturating_mul(peer.gave.saturating_add(LEAST_HOPE));
            let (later, weight) = match rules.order {
                TurnOrder::Fastest if usual => (false, peer.takes),
                // A chance for who takes nothing yet.
                TurnOrder::Fastest => (false, 0),
                TurnOrder::RoundRobin if usual && rules.in_return => (!is_new, promise),
                TurnOrder::RoundRobin => (is_new != usual, 0),
            };
            (later, Reverse(weight), before, peer.key)
        };
        queue.iter().enumerate().min_by_key(|(_, peer)| rank(peer)).map(|(at, _)| at)
    }
}

impl Turn {
    /// Whether it is not over, if it lasts so long at most; `None` when nobody waits for it to end.
    fn goes_on(&self, now: Instant, longest: Option<Duration>) -> bool {
        let lasted = now.saturating_duration_since(self.began);
        let is_over = |longest| lasted >= longest || (lasted >= TURN && self.sent >= TURN_BYTES);
        self.on && !longest.is_some_and(is_over)
    }
}
