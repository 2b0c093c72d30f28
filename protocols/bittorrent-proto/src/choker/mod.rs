//! Whom to upload to: those who give, in the order in which they give; and, by turns, others, in the hope that they will.
//!
//! Every 10 s the slots are dealt anew (BEP 3). A slot is *earned* by what a peer sent us in the last 30 s. A fifth of the
//! slots, and all that nobody earned, go by *turns*: to each peer for 30 s or so, newcomers first three times of four,
//! then whoever has waited longest. So one who needs something finds out who is worth being given to, and one who needs
//! nothing, or reads nothing at the moment, gives to all alike. While something is given in return, who once gave more has
//! its turns more often; each fourth goes to whoever has waited longest even so. A peer that owes us blocks for a minute has
//! *snubbed* us and earns nothing. A peer stays as it is, choked or not, for 10 s at least, whatever it does; only when
//! uploading ends altogether is everybody choked at once.
//!
//! How many slots there are is learned (`slots.rs`): to give few peers more than anybody else gives them earns nothing that
//! a little less would not have earned, and to give many less than others do earns nothing at all.
//!
//! What carries a peer is not known here: a browser earns its slot as any other.

mod meter;
mod slots;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use self::meter::Meter;
use self::slots::{Crowd, FEWEST_SLOTS, Slots};
use self::turns::{TurnRules, Turns, Waiting};
use crate::picker::PeerKey;

/// How often the choice is made anew, and the least time that a peer stays choked or unchoked.
pub const RECHOKE_INTERVAL: Duration = Duration::from_secs(10);
/// Who has owed us blocks for this long without sending one has snubbed us.
const SNUBBED_AFTER: Duration = Duration::from_secs(60);
/// One of so many slots goes by turns, whoever earned it.
const SLOTS_A_TURN: usize = 5;
/// Who has a slot keeps it against others who give less than this much more, in percent: a tie is no reason to change.
const INCUMBENT_PERCENT: u64 = 110;
/// What a peer once gave counts for so many percent less each time that the choice is made: for half in four minutes.
const FORGOTTEN_PERCENT: u64 = 3;
/// Who gave less than this many bytes a second gave nothing to speak of.
const LEAST_GIFT: u64 = 1024;
/// Of fewer than this who gave, the one in the middle says little of the others.
const FEWEST_GIFTS: usize = 5;

/// In which order peers have their turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TurnOrder {
    /// Whoever has waited longest: what is given is spread over all.
    #[default]
    RoundRobin,
    /// Those who take fastest first: as much as possible is given, to whoever can pass it on.
    Fastest,
}

#[derive(Debug)]
struct Book {
    interested: bool,
    unchoked: bool,
    /// When it was last choked or unchoked.
    changed: Option<Instant>,
    /// What it sends us, and what we send it.
    gives: Meter,
    takes: Meter,
    /// The most that it gave, in bytes a second; what is long ago counts for less.
    gave: u64,
    /// Since when it owes us blocks and has sent none.
    owes_since: Option<Instant>,
}

/// The upload slots of one torrent.
#[derive(Debug)]
pub struct Choker {
    slots: Slots,
    /// As many as are dealt.
    open: usize,
    order: TurnOrder,
    books: BTreeMap<PeerKey, Book>,
    turns: Turns,
}

/// How many peers to upload to at once when uploads are limited to `bytes_per_second` (0: no limit), and `most` at most.
/// A narrow line shared by many gives each too little to be worth anything in return.
#[must_use]
pub fn slots_for(bytes_per_second: u64, most: usize) -> usize {
    if bytes_per_second == 0 || most <= FEWEST_SLOTS {
        return most;
    }
    // Each slot more is worth it when all of them together grow with the square of their number.
    let root = (bytes_per_second / 1024 * 6 / 10).isqrt();
    usize::try_from(root).unwrap_or(most).clamp(FEWEST_SLOTS, most)
}

impl Choker {
    /// A choker with `slots` upload slots until more is known: then two at least, and sixteen times as many at most.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let (books, turns) = (BTreeMap::new(), Turns::new());
        Self { slots: Slots::new(slots), open: slots, order: TurnOrder::RoundRobin, books, turns }
    }

    /// Says in which order turns go.
    pub const fn set_order(&mut self, order: TurnOrder) {
        self.order = order;
    }

    /// Changes the number of slots. With none, everybody is choked from now on; else the next choice goes by it.
    pub fn set_slots(&mut self, now: Instant, slots: usize) {
        self.slots.set_usual(slots);
        self.open = slots;
        if slots == 0 {
            for book in self.books.values_mut().filter(|book| book.unchoked) {
                book.turn(now, false);
            }
            self.turns.forget_all();
        }
    }

    /// Whether `peer` is unchoked.
    #[must_use]
    pub fn is_unchoked(&self, peer: PeerKey) -> bool {
        self.books.get(&peer).is_some_and(|book| book.unchoked)
    }

    /// A peer came.
    pub fn joined(&mut self, peer: PeerKey) {
        self.books.entry(peer).or_insert_with(Book::new);
    }

    /// A peer left.
    pub fn gone(&mut self, peer: PeerKey) {
        self.books.remove(&peer);
        self.turns.forget(peer);
    }

    /// A peer sent us `bytes` of blocks.
    pub fn received(&mut self, now: Instant, peer: PeerKey, bytes: u64) {
        if let Some(book) = self.books.get_mut(&peer) {
            book.gives.note(now, bytes);
            book.owes_since = None;
            // A seed gives whatever we do: there is nothing to learn from it.
            if book.interested {
                self.slots.earned(now, bytes);
            }
        }
    }

    /// We sent a peer `bytes` of blocks.
    pub fn sent(&mut self, now: Instant, peer: PeerKey, bytes: u64) {
        if let Some(book) = self.books.get_mut(&peer) {
            book.takes.note(now, bytes);
            self.slots.sent(now, bytes);
            self.turns.sent(peer, bytes);
        }
    }

    /// A peer became interested in what we have, or lost its interest. A free slot is given at once; one that is not wanted
    /// any more is dealt with the others.
    pub fn interest(&mut self, now: Instant, peer: PeerKey, interested: bool) {
        let Some(book) = self.books.get_mut(&peer) else { return };
        book.interested = interested;
        let free = self.books.values().filter(|book| book.unchoked).count() < self.open;
        if let Some(book) = self.books.get_mut(&peer)
            && interested
            && !book.unchoked
            && free
            && book.may_change(now)
        {
            book.turn(now, true);
            self.turns.begin(now, peer);
        }
    }

    /// Chooses anew. `owing` are the peers that were asked for blocks and have not sent all of them.
    pub fn rechoke(&mut self, now: Instant, owing: &BTreeSet<PeerKey>) {
        for (key, book) in &mut self.books {
            book.owes_since = owing.contains(key).then(|| book.owes_since.unwrap_or(now));
        }
        for book in self.books.values_mut() {
            let faded = book.gave - book.gave * FORGOTTEN_PERCENT / 100;
            book.gave = faded.max(book.gives.rate(now));
        }
        self.open = self.slots.number(now, self.crowd());
        let chosen = self.choose(now);
        for (key, book) in &mut self.books {
            let unchoke = chosen.contains(key);
            if book.unchoked != unchoke {
                book.turn(now, unchoke);
            }
        }
    }

    /// Whom slots are for, and what they give.
    fn crowd(&self) -> Crowd {
        let wanting = || self.books.values().filter(|book| book.interested);
        let mut gifts: Vec<_> = wanting().map(|book| book.gave).filter(|gave| *gave >= LEAST_GIFT).collect();
        gifts.sort_unstable();
        let gift = (gifts.len() >= FEWEST_GIFTS).then(|| gifts[gifts.len() / 2]);
        Crowd { wanted: wanting().count(), gift }
    }

    /// Who is to be unchoked: those who may not be choked yet, those who earned it, and those whose turn it is.
    fn choose(&mut self, now: Instant) -> BTreeSet<PeerKey> {
        let mut chosen: BTreeSet<_> =
            self.books.iter().filter(|(_, book)| book.unchoked && !book.may_change(now)).map(|(key, _)| *key).collect();
        let earned = self.earners(now);
        let regular = self.open - self.open.div_ceil(SLOTS_A_TURN).min(self.open.saturating_sub(1));
        for key in earned.into_iter().take(regular) {
            if chosen.len() < self.open {
                chosen.insert(key);
            }
        }
        let room = self.open.saturating_sub(chosen.len());
        let waiting: Vec<_> = self
            .books
            .iter_mut()
            .filter(|(key, book)| !chosen.contains(key) && book.is_choosable(now))
            .map(|(key, book)| Waiting { key: *key, takes: book.takes.rate(now), gave: book.gave })
            .collect();
        let rules = TurnRules { order: self.order, in_return: self.slots.is_earning() };
        let turns = self.turns.deal(now, room, rules, &waiting);
        chosen.extend(turns);
        chosen
    }

    /// Who gives us anything, the most generous first.
    fn earners(&mut self, now: Instant) -> Vec<PeerKey> {
        let mut earners = Vec::new();
        for (key, book) in &mut self.books {
            if !book.is_choosable(now) || book.has_snubbed(now) {
                continue;
            }
            let rate = book.gives.rate(now);
            let weight = if book.unchoked { INCUMBENT_PERCENT } else { 100 };
            if rate > 0 {
                earners.push((std::cmp::Reverse(rate.saturating_mul(weight)), *key));
            }
        }
        earners.sort_unstable();
        earners.into_iter().map(|(_, key)| key).collect()
    }
}

impl Book {
    fn new() -> Self {
        let (gives, takes) = (Meter::default(), Meter::default());
        Self { interested: false, unchoked: false, changed: None, gives, takes, gave: 0, owes_since: None }
    }

    fn turn(&mut self, now: Instant, unchoked: bool) {
        self.unchoked = unchoked;
        self.changed = Some(now);
    }

    fn may_change(&self, now: Instant) -> bool {
        self.changed.is_none_or(|changed| now >= changed + RECHOKE_INTERVAL)
    }

    /// Whether it could have a slot from now on.
    fn is_choosable(&self, now: Instant) -> bool {
        self.interested && (self.unchoked || self.may_change(now))
    }

    fn has_snubbed(&self, now: Instant) -> bool {
        self.owes_since.is_some_and(|since| now >= since + SNUBBED_AFTER)
    }
}

#[cfg(test)]
mod tests;
