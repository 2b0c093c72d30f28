//! The world with us in it, second by second and rate by rate.
//!
//! Who comes and goes, with which line, and who knows whom depends on the seed alone: however we choke, the same happens.
//! What is left out: which pieces who has (everybody who has any has something for everybody, as in the middle of a
//! download), round trips, and requests, so that a line is used as soon as somebody is unchoked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use swarmgate_bittorrent_proto::choker::Choker;
use swarmgate_bittorrent_proto::picker::PeerKey;

use crate::lines::{Flow, share_out};
use crate::other::{Other, Ways};

/// Connections a peer has, about: at first each makes half of them; a newcomer makes them all, in place of those that broke
/// when somebody left for it.
const CONNECTIONS: usize = 40;
/// Connections we have, as many as the product's default allows.
const OURS: usize = 80;
/// A peer leaves after so many seconds on average and another comes in its place.
const STAY: u32 = 900;
/// Lines of peers in KiB/s, up, and how many in a hundred have them: homes mostly, some on fibre, few in data centres.
/// Each is in fact up to 1.6 times as fast or as slow, so that no two are equal.
const LINES: [(f64, u32); 6] = [(32.0, 15), (64.0, 25), (128.0, 25), (384.0, 20), (1024.0, 10), (4096.0, 5)];
/// How much faster a line is downwards.
const DOWN: f64 = 8.0;
/// Bytes after which a newcomer has something to give: its first pieces.
const FIRST_PIECES: f64 = 1024.0 * 1024.0;
/// When we come, in seconds: the others know each other by then.
const WE_COME: u32 = 120;

/// Bytes pass every so many seconds; chokes change in any.
const STEP: u32 = 2;
/// Our slots, the product's default.
const SLOTS: usize = 8;

/// How we give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Giving {
    /// By the choker.
    Chosen,
    /// To everybody, always.
    Everybody,
}

/// What a world is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Peers besides us, and those of them that have everything.
    pub(crate) peers: usize,
    pub(crate) seeds: usize,
    pub(crate) ways: Ways,
    /// Of a hundred that are no seeds, so many never give.
    pub(crate) free_riders: u32,
    /// How much faster the others are.
    pub(crate) scale: f64,
    /// Whether we have everything.
    pub(crate) complete: bool,
    /// How long we are there, in seconds, and how many of the first do not count, in which we get to know each other.
    pub(crate) run: u32,
    pub(crate) warm_up: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            peers: 240,
            seeds: 12,
            ways: Ways::Default,
            free_riders: 0,
            scale: 1.0,
            complete: false,
            run: 1800,
            warm_up: 120,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Bytes a second that we got.
    pub(crate) got: f64,
    /// Bytes that each peer had of us who was there from our first to our last second and wanted something, and whether it
    /// rode free.
    pub(crate) gave: BTreeMap<usize, (f64, bool)>,
    /// How long each that came later waited for its first byte of us, in seconds. Those who left before are not in it.
    pub(crate) waited: Vec<u32>,
}

/// The world.
pub(crate) struct World {
    plan: Plan,
    /// Of who comes and goes, and of which of two equals others choose.
    fate: StdRng,
    chance: StdRng,
    others: Vec<Other>,
    riders: BTreeSet<usize>,
    giving: Giving,
    choker: Choker,
    start: Instant,
    /// Bytes a second that we can send.
    line: f64,
    /// Who came before us, and who came since and had nothing of us yet.
    stayed: BTreeSet<usize>,
    new: BTreeMap<usize, u32>,
    outcome: Outcome,
}

impl World {
    pub(crate) fn new(plan: Plan, seed: u64, giving: Giving, line_kib: f64) -> Self {
        let (fate, chance) = (StdRng::seed_from_u64(seed), StdRng::seed_from_u64(!seed));
        let (start, line) = (start(), line_kib * 1024.0);
        let (others, riders, new, outcome) = Default::default();
        let stayed = BTreeSet::new();
        let choker = Choker::new(SLOTS);
        let mut world = Self { plan, fate, chance, others, riders, giving, choker, start, line, stayed, new, outcome };
        for peer in 0..plan.peers {
            let mut other = world.stranger(peer, 0);
            // It has been there for a while.
            other.has = f64::INFINITY;
            world.others.push(other);
        }
        (0..plan.peers).for_each(|peer| world.make_connections(peer, CONNECTIONS / 2));
        world
    }

    fn us(&self) -> usize {
        self.plan.peers
    }

    fn stranger(&mut self, peer: usize, second: u32) -> Other {
        let mut dice = self.fate.random_range(0..100);
        let line = LINES.iter().find(|(_, share)| {
            let hit = dice < *share;
            dice = dice.saturating_sub(*share);
            hit
        });
        let up =
            line.map_or(64.0, |(up, _)| *up) * 1024.0 * self.plan.scale * self.fate.random_range(-0.5_f64..0.5).exp();
        let seed = peer < self.plan.seeds;
        let rides = self.fate.random_range(0..100) < self.plan.free_riders && !seed;
        if rides {
            self.riders.insert(peer)
        } else {
            self.riders.remove(&peer)
        };
        let lines = (if rides { 0.0 } else { up }, up * DOWN);
        let first = second + self.fate.random_range(0..15);
        Other::new(self.plan.ways, lines, seed, self.plan.peers + 1, first)
    }

    fn make_connections(&mut self, peer: usize, count: usize) {
        for _ in 0..count {
            let other = self.fate.random_range(0..self.plan.peers);
            if other != peer {
                self.others[peer].meets(other);
                self.others[other].meets(peer);
            }
        }
    }

    fn we_meet(&mut self, second: u32) {
        let us = self.us();
        let strangers: Vec<_> = (0..self.plan.peers).filter(|peer| !self.others[*peer].knows(us)).collect();
        if strangers.is_empty() {
            return;
        }
        let other = strangers[self.fate.random_range(0..strangers.len())];
        self.others[other].meets(us);
        let wants = !self.others[other].seed;
        if wants && second > WE_COME {
            self.new.insert(other, second);
        }
        self.choker.joined(key(other));
        self.choker.interest(self.start + Duration::from_secs(second.into()), key(other), wants);
    }

    /// Somebody leaves, and a stranger comes in its place.
    fn replace(&mut self, peer: usize, second: u32) {
        let was_ours = self.others[peer].knows(self.us());
        self.stayed.remove(&peer);
        self.new.remove(&peer);
        for neighbour in self.others[peer].neighbours().to_vec() {
            if let Some(other) = self.others.get_mut(neighbour) {
                other.loses(peer, second);
            }
        }
        self.others[peer] = self.stranger(peer, second);
        self.make_connections(peer, CONNECTIONS);
        if was_ours {
            self.choker.gone(key(peer));
            self.we_meet(second);
        }
    }

    fn step(&mut self, second: u32) {
        if second == WE_COME {
            (0..OURS).for_each(|_| self.we_meet(second));
        }
        for peer in 0..self.plan.peers {
            if self.fate.random_ratio(1, STAY) {
                self.replace(peer, second);
            }
        }
        let (seeds, us, complete) = (self.plan.seeds, self.us(), self.plan.complete);
        for other in &mut self.others {
            other.choose(second, &mut self.chance, |peer| peer >= seeds && !(peer == us && complete));
        }
        let now = self.start + Duration::from_secs(second.into());
        if second >= WE_COME && second.is_multiple_of(10) {
            self.choker.rechoke(now, &BTreeSet::new());
        }
        if second.is_multiple_of(STEP) {
            self.pass_bytes(now, second);
        }
    }

    fn we_unchoke(&self) -> impl Iterator<Item = usize> {
        let ours = (self.plan.seeds..self.plan.peers).filter(|peer| self.others[*peer].knows(self.us()));
        ours.filter(|peer| self.giving == Giving::Everybody || self.choker.is_unchoked(key(*peer)))
    }

    fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::with_capacity(4096);
        for (from, other) in self.others.iter().enumerate().filter(|(_, other)| other.has >= FIRST_PIECES) {
            flows.extend(other.unchoked().iter().map(|to| Flow { from, to: *to, bytes: 0.0 }));
        }
        flows.extend(self.we_unchoke().map(|to| Flow { from: self.us(), to, bytes: 0.0 }));
        flows
    }

    fn pass_bytes(&mut self, now: Instant, second: u32) {
        let mut flows = self.flows();
        let lines = |line: fn(&Other) -> f64, ours| {
            let all = self.others.iter().map(line).chain([ours]);
            all.map(|line| line * f64::from(STEP)).collect::<Vec<_>>()
        };
        let (mut up, mut down) = (lines(|other| other.up, self.line), lines(|other| other.down, self.line * DOWN));
        share_out(&mut flows, &mut up, &mut down);
        for Flow { from, to, bytes } in flows {
            match self.others.get_mut(from) {
                Some(other) => other.sends(to, bytes),
                None => self.we_send(now, second, to, bytes),
            }
            match self.others.get_mut(to) {
                Some(other) => other.gets(from, bytes),
                None => self.we_get(now, second, from, bytes),
            }
        }
    }

    fn we_send(&mut self, now: Instant, second: u32, to: usize, bytes: f64) {
        self.choker.sent(now, key(to), bytes as u64);
        self.outcome.gave.entry(to).or_default().0 += bytes;
        if let Some(came) = self.new.remove(&to) {
            self.outcome.waited.push(second - came);
        }
    }

    fn we_get(&mut self, now: Instant, second: u32, from: usize, bytes: f64) {
        self.choker.received(now, key(from), bytes as u64);
        if second >= WE_COME + self.plan.warm_up {
            self.outcome.got += bytes;
        }
    }

    /// What comes of it.
    pub(crate) fn run(mut self) -> Outcome {
        let known_at_first =
            |world: &Self| (0..world.plan.peers).filter(|peer| world.others[*peer].knows(world.us())).collect();
        (1..=WE_COME).for_each(|second| self.step(second));
        self.stayed = known_at_first(&self);
        (WE_COME + 1..=WE_COME + self.plan.run).for_each(|second| self.step(second));
        let (stayed, riders, seeds) = (self.stayed, self.riders, self.plan.seeds);
        let mut outcome = self.outcome;
        outcome.got /= f64::from(self.plan.run - self.plan.warm_up);
        let stayed = stayed.into_iter().filter(|peer| *peer >= seeds);
        outcome.gave = stayed
            .map(|peer| (peer, (outcome.gave.get(&peer).map_or(0.0, |(bytes, _)| *bytes), riders.contains(&peer))))
            .collect();
        outcome
    }
}

#[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
fn start() -> Instant {
    Instant::now()
}

fn key(peer: usize) -> PeerKey {
    PeerKey(peer as u64)
}
