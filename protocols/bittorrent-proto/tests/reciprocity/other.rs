//! One of the others, choking as libtorrent 2.x does; it shares no code with ours.
//!
//! By default it has eight slots (`unchoke_slots_limit`), dealt every 15 s to those who sent most since the last time; a
//! fifth of the slots, one at least, is optimistic and goes every 30 s to whoever has waited longest for one. Who sent the
//! same, and so everybody at a seed, is dealt with by turns (`round_robin`): who has a slot keeps it until it was sent 20
//! pieces and a minute is over, then whoever has waited longest. The eight best are parted from the others but not sorted,
//! and one of the eight has to make room for the optimistic one: which one is chance.
//!
//! Its other ways are modelled too: slots by the rate of what is sent (`rate_based_choker`), and seeds that give to those
//! who take fastest (`fastest_upload`).

use std::cmp::Reverse;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// `unchoke_slots_limit`.
const SLOTS: usize = 8;
/// `unchoke_interval`, in seconds.
const INTERVAL: u32 = 15;
/// `optimistic_unchoke_interval`, in seconds.
const OPTIMISTIC_INTERVAL: u32 = 30;
/// `seeding_piece_quota` of pieces of 256 KiB, in bytes.
const QUOTA: f32 = 20.0 * 256.0 * 1024.0;
/// A quota ends after so many seconds at the earliest.
const LEAST_TURN: u32 = 60;
/// `rate_choker_initial_threshold`, and how much more each further slot has to be worth, in bytes a second.
const RATE_STEP: (f32, f32) = (1024.0, 2048.0);

/// How the others choke.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Ways {
    /// As libtorrent does unless it is told otherwise.
    #[default]
    Default,
    /// By rate, and seeds give to the fastest.
    ByRate,
}

/// What it knows of one neighbour.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// Bytes since the last choice, from it and to it.
    got: f32,
    sent: f32,
    /// Bytes to it since it was unchoked.
    sent_in_turn: f32,
    unchoked: bool,
    optimistic: bool,
    /// The second after that in which it was unchoked, in either way, for the last time; 0: never.
    unchoked_at: u32,
    optimistic_at: u32,
}

/// One of the others.
#[derive(Debug)]
pub(crate) struct Other {
    /// Bytes a second that it can send, and that it can take.
    pub(crate) up: f64,
    pub(crate) down: f64,
    pub(crate) seed: bool,
    /// Bytes it has: with none there is nothing that anybody could want of it.
    pub(crate) has: f64,
    ways: Ways,
    neighbours: Vec<usize>,
    unchoked: Vec<usize>,
    links: Vec<Link>,
    slots: usize,
    choice_due: u32,
    optimism_due: u32,
}

impl Other {
    /// One that may have `world` neighbours and makes its first choice at `first`.
    pub(crate) fn new(ways: Ways, (up, down): (f64, f64), seed: bool, world: usize, first: u32) -> Self {
        let (neighbours, unchoked, links) = (Vec::new(), Vec::new(), vec![Link::default(); world]);
        let (has, slots) = (if seed { f64::INFINITY } else { 0.0 }, SLOTS);
        Self { up, down, seed, has, ways, neighbours, unchoked, links, slots, choice_due: first, optimism_due: first }
    }

    pub(crate) fn knows(&self, peer: usize) -> bool {
        self.neighbours.contains(&peer)
    }

    pub(crate) fn meets(&mut self, peer: usize) {
        if !self.knows(peer) {
            self.neighbours.push(peer);
        }
    }

    /// A neighbour left; whoever comes by its number is a stranger. A slot that comes free is dealt soon.
    pub(crate) fn loses(&mut self, peer: usize, second: u32) {
        let link = std::mem::take(&mut self.links[peer]);
        self.neighbours.retain(|it| *it != peer);
        self.unchoked.retain(|it| *it != peer);
        if link.optimistic {
            self.optimism_due = second;
        } else if link.unchoked {
            self.choice_due = second;
        }
    }

    pub(crate) fn neighbours(&self) -> &[usize] {
        &self.neighbours
    }

    pub(crate) fn unchoked(&self) -> &[usize] {
        &self.unchoked
    }

    pub(crate) fn gets(&mut self, from: usize, bytes: f64) {
        self.links[from].got += bytes as f32;
        self.has += bytes;
    }

    pub(crate) fn sends(&mut self, to: usize, bytes: f64) {
        self.links[to].sent += bytes as f32;
        self.links[to].sent_in_turn += bytes as f32;
    }

    /// Whatever is due in this second. `wants` says who is interested, `chance` decides between equals.
    pub(crate) fn choose(&mut self, second: u32, chance: &mut StdRng, wants: impl Fn(usize) -> bool) {
        let due = second >= self.choice_due.min(self.optimism_due);
        if second >= self.choice_due {
            self.choice_due = second + INTERVAL;
            self.deal(second, chance, &wants);
        }
        if second >= self.optimism_due {
            self.optimism_due = second + OPTIMISTIC_INTERVAL;
            self.hope(second, chance, &wants);
        }
        if due {
            self.unchoked = self.neighbours.iter().copied().filter(|peer| self.links[*peer].unchoked).collect();
        }
    }

    /// Deals the slots that are earned.
    fn deal(&mut self, second: u32, chance: &mut StdRng, wants: &impl Fn(usize) -> bool) {
        let mut waiting: Vec<_> = self.neighbours.iter().copied().filter(|peer| wants(*peer)).collect();
        self.slots = self.worth(&waiting);
        waiting.shuffle(chance);
        waiting.sort_by_cached_key(|peer| Reverse(self.rank(second, *peer)));
        let hopes = self.unchoked.iter().filter(|peer| self.links[**peer].optimistic).count();
        let regular = self.slots - if hopes == 0 { (self.slots / 5).max(1) } else { hopes }.min(self.slots);
        waiting.truncate(self.slots);
        waiting.shuffle(chance);
        waiting.truncate(regular);
        for peer in self.neighbours.clone() {
            let (link, chosen) = (&mut self.links[peer], waiting.contains(&peer));
            if chosen && link.optimistic {
                // It has earned its slot, and another is given the chance.
                (link.optimistic, self.optimism_due) = (false, second);
            } else if chosen && !link.unchoked {
                link.unchoke(second);
            } else if !(chosen || link.optimistic && wants(peer)) {
                (link.unchoked, link.optimistic) = (false, false);
            }
            (link.got, link.sent) = (0.0, 0.0);
        }
    }

    /// Deals the optimistic slots.
    fn hope(&mut self, second: u32, chance: &mut StdRng, wants: &impl Fn(usize) -> bool) {
        let waits = |peer: &usize| wants(*peer) && (!self.links[*peer].unchoked || self.links[*peer].optimistic);
        let mut waiting: Vec<_> = self.neighbours.iter().copied().filter(waits).collect();
        waiting.shuffle(chance);
        waiting.sort_by_key(|peer| self.links[*peer].optimistic_at);
        waiting.truncate((self.slots / 5).max(1));
        for peer in self.neighbours.clone() {
            let (link, chosen) = (&mut self.links[peer], waiting.contains(&peer));
            if chosen && !link.optimistic {
                (link.optimistic, link.optimistic_at) = (true, second + 1);
                link.unchoke(second);
            } else if !chosen && link.optimistic {
                (link.optimistic, link.unchoked) = (false, false);
            }
        }
    }

    /// How many slots it has.
    fn worth(&self, waiting: &[usize]) -> usize {
        if self.ways == Ways::Default {
            return SLOTS;
        }
        let mut rates: Vec<_> = waiting.iter().map(|peer| self.links[*peer].sent / INTERVAL as f32).collect();
        rates.sort_by(|a, b| b.total_cmp(a));
        let (first, more) = RATE_STEP;
        1 + rates.iter().zip(0_u16..).take_while(|(rate, slot)| **rate >= first + more * f32::from(*slot)).count()
    }

    /// The greater, the rather it has a slot.
    fn rank(&self, second: u32, peer: usize) -> (u64, bool, u64, Reverse<u32>) {
        let link = &self.links[peer];
        if self.ways == Ways::ByRate {
            return (link.got as u64, true, link.sent as u64, Reverse(link.unchoked_at));
        }
        let lasted = second + 1 - link.unchoked_at;
        let is_done = link.unchoked && link.sent_in_turn > QUOTA && lasted > LEAST_TURN;
        let sent = if link.unchoked { link.sent as u64 } else { 0 };
        (link.got as u64, !is_done, sent, Reverse(link.unchoked_at))
    }
}

impl Link {
    fn unchoke(&mut self, second: u32) {
        (self.unchoked, self.unchoked_at, self.sent_in_turn) = (true, second + 1, 0.0);
    }
}
