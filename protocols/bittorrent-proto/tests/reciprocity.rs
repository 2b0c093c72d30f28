//! Does choking earn anything? A swarm of 240 peers in simulated time, rate by rate instead of byte by byte: each shares
//! out its line among those it has unchoked. The others choke as libtorrent does by default, in a model of its own that
//! shares no code with ours. One node is ours; it is run twice in the same world, from the same seed: with our choker, and
//! giving to everybody at all times. Its download is what it earned.
//!
//! What the model leaves out: which pieces who has (everybody wants something of everybody, as in the middle of a
//! download) and round trips. `cargo test -p swarmgate-bittorrent-proto --test reciprocity -- --nocapture` prints the
//! results, seed by seed.

#![expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
#![expect(clippy::cast_possible_truncation, reason = "rates are parts of lines, and whole bytes of them are enough")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use swarmgate_bittorrent_proto::choker::{Choker, RECHOKE_INTERVAL};
use swarmgate_bittorrent_proto::picker::PeerKey;

/// Peers besides us.
const PEERS: usize = 240;
/// Those of them that have everything and give to all by turns.
const SEEDS: usize = 12;
/// Connections a peer makes; it has about twice as many.
const CONNECTIONS: usize = 20;
/// Connections we have, as many as the product's default allows.
const OURS: usize = 80;
/// How long the world runs, in seconds.
const RUN: u64 = 1800;
/// A peer leaves after so many seconds on average and another comes in its place.
const STAY: u64 = 900;
/// Our slots, the product's default.
const SLOTS: usize = 8;
/// Lines of peers in KiB/s, up, and how many in a hundred have them: homes mostly, some on fibre, few in data centres.
const LINES: [(f64, u32); 6] = [(32.0, 15), (64.0, 25), (128.0, 25), (384.0, 20), (1024.0, 10), (4096.0, 5)];
/// How much faster a line is downwards.
const DOWN: f64 = 8.0;

/// Worlds on each line.
const SEEDS_RUN: u64 = 8;

/// How we give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giving {
    /// By the choker.
    Choker,
    /// To everybody, always.
    Everybody,
}

/// One of the others, as libtorrent is by default: eight slots, one in five of them optimistic, a new choice each 15 s,
/// optimistic ones anew each 30 s; a seed gives to those who have waited longest.
struct Other {
    up: f64,
    seed: bool,
    neighbours: BTreeSet<usize>,
    unchoked: BTreeSet<usize>,
    optimistic: BTreeSet<usize>,
    /// Bytes that each neighbour sent since the last choice.
    got: BTreeMap<usize, f64>,
    last_turn: BTreeMap<usize, u64>,
}

impl Other {
    fn new(rng: &mut StdRng, seed: bool) -> Self {
        let mut dice = rng.random_range(0..100);
        let line = LINES.iter().find(|(_, share)| {
            let hit = dice < *share;
            dice = dice.saturating_sub(*share);
            hit
        });
        let up = line.map_or(64.0, |(up, _)| *up) * 1024.0;
        let (neighbours, unchoked, optimistic) = Default::default();
        Self { up, seed, neighbours, unchoked, optimistic, got: BTreeMap::new(), last_turn: BTreeMap::new() }
    }

    /// libtorrent has more slots on a faster line, up to a point.
    fn slots(&self) -> usize {
        if self.up > 512.0 * 1024.0 { 16 } else { 8 }
    }

    fn choose(&mut self, second: u64, wants: impl Fn(usize) -> bool) {
        let mut waiting: Vec<_> = self.neighbours.iter().copied().filter(|peer| wants(*peer)).collect();
        let optimistic = if self.seed { self.slots() } else { self.slots() / 5 };
        let regular = self.slots() - optimistic;
        waiting.sort_by(|a, b| {
            let got = |peer: &usize| self.got.get(peer).copied().unwrap_or(0.0);
            got(b).total_cmp(&got(a)).then(a.cmp(b))
        });
        let mut unchoked: BTreeSet<_> = waiting.iter().copied().take(regular).collect();
        if second.is_multiple_of(30) {
            let mut rest: Vec<_> = waiting.iter().copied().filter(|peer| !unchoked.contains(peer)).collect();
            rest.sort_by_key(|peer| (self.last_turn.get(peer).copied(), *peer));
            self.optimistic = rest.into_iter().take(optimistic).collect();
            for peer in &self.optimistic {
                self.last_turn.insert(*peer, second);
            }
        }
        unchoked.extend(self.optimistic.iter().copied().filter(|peer| self.neighbours.contains(peer)));
        self.unchoked = unchoked;
        self.got.clear();
    }
}

/// The world with us in it.
struct World {
    rng: StdRng,
    others: Vec<Other>,
    us: usize,
    giving: Giving,
    choker: Choker,
    start: Instant,
    line: f64,
    earned: f64,
}

impl World {
    fn new(seed: u64, giving: Giving, line: f64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let others: Vec<_> = (0..PEERS).map(|number| Other::new(&mut rng, number < SEEDS)).collect();
        let (choker, start) = (Choker::new(SLOTS), Instant::now());
        let mut world = Self { rng, others, us: PEERS, giving, choker, start, line, earned: 0.0 };
        for peer in 0..PEERS {
            world.meet(peer);
        }
        for _ in 0..OURS {
            world.we_meet();
        }
        world
    }

    /// A peer makes its connections.
    fn meet(&mut self, peer: usize) {
        for _ in 0..CONNECTIONS {
            let other = self.rng.random_range(0..PEERS);
            if other != peer {
                self.others[peer].neighbours.insert(other);
                self.others[other].neighbours.insert(peer);
            }
        }
    }

    fn we_meet(&mut self) {
        let other = self.rng.random_range(0..PEERS);
        if self.others[other].neighbours.insert(self.us) {
            let key = PeerKey(other as u64);
            self.choker.joined(key);
            let wants = !self.others[other].seed;
            self.choker.interest(self.start, key, wants);
        }
    }

    /// Somebody leaves, and a stranger comes in its place.
    fn replace(&mut self, peer: usize) {
        let seed = self.others[peer].seed;
        let was_ours = self.others[peer].neighbours.contains(&self.us);
        self.others[peer] = Other::new(&mut self.rng, seed);
        for other in &mut self.others {
            other.neighbours.remove(&peer);
            other.unchoked.remove(&peer);
            other.optimistic.remove(&peer);
            other.got.remove(&peer);
            other.last_turn.remove(&peer);
        }
        self.meet(peer);
        if was_ours {
            self.choker.gone(PeerKey(peer as u64));
            self.we_meet();
        }
    }

    fn we_unchoke(&self) -> Vec<usize> {
        let ours = (0..PEERS).filter(|peer| self.others[*peer].neighbours.contains(&self.us));
        let ours = ours.filter(|peer| !self.others[*peer].seed);
        match self.giving {
            Giving::Everybody => ours.collect(),
            Giving::Choker => ours.filter(|peer| self.choker.is_unchoked(PeerKey(*peer as u64))).collect(),
        }
    }

    fn step(&mut self, second: u64) {
        let now = self.start + Duration::from_secs(second);
        for peer in 0..PEERS {
            if self.rng.random_ratio(1, u32::try_from(STAY).unwrap_or(u32::MAX)) {
                self.replace(peer);
            }
        }
        // Everybody chooses in seconds of its own.
        for peer in 0..PEERS {
            if (second + peer as u64).is_multiple_of(15) {
                let seeds: BTreeSet<_> = (0..PEERS).filter(|peer| self.others[*peer].seed).collect();
                self.others[peer].choose(second + peer as u64, |other| !seeds.contains(&other));
            }
        }
        if second.is_multiple_of(RECHOKE_INTERVAL.as_secs()) {
            self.choker.rechoke(now, &BTreeSet::new());
        }
        self.give(now, second);
    }

    /// What everybody sends in this second: its line in equal parts; who is sent more than its line takes, takes less.
    fn give(&mut self, now: Instant, second: u64) {
        let mut flows = Vec::new();
        for (peer, other) in self.others.iter().enumerate() {
            let part = other.up / other.unchoked.len().max(1) as f64;
            flows.extend(other.unchoked.iter().map(|to| (peer, *to, part)));
        }
        let ours = self.we_unchoke();
        let part = self.line / ours.len().max(1) as f64;
        flows.extend(ours.into_iter().map(|to| (self.us, to, part)));
        let mut towards = vec![0.0; PEERS + 1];
        flows.iter().for_each(|(_, to, rate)| towards[*to] += rate);
        for (from, to, rate) in flows {
            let down = DOWN * if to == self.us { self.line } else { self.others[to].up };
            let rate = rate * (down / towards[to]).min(1.0);
            if to == self.us {
                self.choker.received(now, PeerKey(from as u64), rate as u64);
                // The first minutes are spent getting to know each other, whoever we are.
                self.earned += if second >= 120 { rate } else { 0.0 };
            } else {
                *self.others[to].got.entry(from).or_default() += rate;
                if from == self.us {
                    self.choker.sent(now, PeerKey(to as u64), rate as u64);
                }
            }
        }
    }

    /// Bytes a second that we got.
    fn run(mut self) -> f64 {
        (1..=RUN).for_each(|second| self.step(second));
        self.earned / (RUN - 120) as f64
    }
}

#[test]
fn choking_earns_at_least_what_giving_to_everybody_does() {
    // On a line that is faster than nearly all others, everybody can be given all that it takes, and nothing is lost by it.
    for (line, (mean_of, least_of)) in [(128.0, (1.2, 1.0)), (512.0, (1.2, 1.0)), (2048.0, (0.97, 0.95))] {
        let mut ratios = Vec::new();
        for seed in 0..SEEDS_RUN {
            let [choker, everybody] =
                [Giving::Choker, Giving::Everybody].map(|giving| World::new(seed, giving, line * 1024.0).run());
            let ratio = choker / everybody;
            println!(
                "line {line} KiB/s, seed {seed}: {:.0} KiB/s with the choker, {:.0} giving to everybody, {ratio:.2}",
                choker / 1024.0,
                everybody / 1024.0
            );
            ratios.push(ratio);
        }
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        println!("line {line} KiB/s: mean {mean:.2}, least {least:.2}");
        assert!(mean >= mean_of && least >= least_of, "on a line of {line} KiB/s: {ratios:?}");
    }
}
