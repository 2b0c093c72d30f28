//! A world of peers in virtual time, from one seed: each with a rate, a path and a character.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarmgate_content::{Cid, VerifiedBytes};

use super::*;
use crate::bitswap::Presence;
use crate::testing::{cid_of, verified};

const READER: SessionKey = SessionKey(7);
/// How long every block is.
const BLOCK: u32 = 256 << 10;

/// What a peer is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Character {
    /// Has all and sends it.
    Honest,
    /// Has every third block, and says so.
    Partial,
    /// Says that it has all, and sends other bytes.
    Liar,
    /// Takes everything and never says a word.
    Silent,
    /// Has nothing, and says so.
    Empty,
    /// Honest, but leaves after so many blocks.
    Leaver(u32),
    /// Honest, but loses every 50th want.
    Forgetful,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    pub(super) character: Character,
    pub(super) version: Version,
    /// Bytes a second.
    pub(super) rate: f64,
    /// One way.
    pub(super) latency: Duration,
}

/// A peer's own state: a first-in-first-out ledger that sends over a link.
#[derive(Debug, Default)]
struct Remote {
    queue: VecDeque<Cid>,
    busy: bool,
    sent: u32,
    wants: u32,
    gone: bool,
}

#[derive(Debug)]
enum Event {
    /// Something reaches the peer.
    ToPeer(PeerKey, Message),
    /// The peer's link is free for the next block.
    Send(PeerKey),
    /// Something reaches us.
    ToUs(PeerKey, Message),
    Leave(PeerKey),
}

pub(super) struct World {
    pub(super) client: Client,
    pub(super) now: Instant,
    start: Instant,
    hosts: BTreeMap<PeerKey, Host>,
    remotes: BTreeMap<PeerKey, Remote>,
    schedule: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    blocks: BTreeMap<Cid, u32>,
    /// What is sent for every block, whatever its name: nobody below hashes it.
    data: VerifiedBytes,
    /// Blocks that have come, and how often each.
    pub(super) got: BTreeMap<Cid, u32>,
    pub(super) exhausted: BTreeSet<Cid>,
    pub(super) banned: BTreeSet<PeerKey>,
    /// Bytes of whole blocks that came in, wanted or not.
    pub(super) received: u64,
}

fn name(n: u32) -> Cid {
    cid_of(&n.to_le_bytes())
}

impl World {
    pub(super) fn new(hosts: &[Host], blocks: u32) -> Self {
        let start = crate::testing::start();
        let mut world = Self {
            client: Client::new(ClientOptions::default()),
            now: start,
            start,
            hosts: BTreeMap::new(),
            remotes: BTreeMap::new(),
            schedule: BTreeMap::new(),
            next_event: 0,
            blocks: (0..blocks).map(|n| (name(n), n)).collect(),
            data: verified(&[0; BLOCK as usize]),
            got: BTreeMap::new(),
            exhausted: BTreeSet::new(),
            banned: BTreeSet::new(),
            received: 0,
        };
        for (key, host) in (1..).map(PeerKey).zip(hosts) {
            world.hosts.insert(key, *host);
            world.remotes.insert(key, Remote::default());
            assert!(world.client.join(world.now, key, host.version));
        }
        world
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.schedule.insert((self.now + delay, self.next_event), event);
    }

    /// Reads all blocks in order, so many at a time; tells how long it took.
    pub(super) fn fetch_all(&mut self, window: usize) -> Duration {
        let mut order: VecDeque<_> = (0..u32::try_from(self.blocks.len()).unwrap()).collect();
        let total = order.len();
        let mut steps = 0_u32;
        loop {
            while self.client.wanted() < window
                && let Some(n) = order.pop_front()
            {
                self.client.want(self.now, READER, name(n), -i32::try_from(n).unwrap(), Some(BLOCK)).unwrap();
                self.drain();
            }
            if self.got.len() == total {
                return self.now - self.start;
            }
            self.step();
            steps += 1;
            assert!(steps < 3_000_000, "{} of {total} after {:?}", self.got.len(), self.now - self.start);
        }
    }

    /// Goes to the next moment at which something happens.
    pub(super) fn step(&mut self) {
        let timer = self.client.poll_timeout().map(|(at, _)| at.max(self.now));
        let event = self.schedule.first_key_value().map(|((at, _), _)| *at);
        let next = [timer, event].into_iter().flatten().min().expect("a want is open, so something will happen");
        assert!(next - self.start < Duration::from_secs(3600), "{} blocks after an hour", self.got.len());
        self.now = next;
        if event == Some(next) {
            let (_, event) = self.schedule.pop_first().unwrap();
            self.happen(event);
        } else {
            self.client.handle_timeout(self.now);
            let again = self.client.poll_timeout();
            assert!(again.is_none_or(|(at, _)| at > self.now), "a busy timer: {again:?} at {:?}", self.now);
        }
        self.drain();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToPeer(key, message) => self.at_peer(key, &message),
            Event::Send(key) => self.send_next(key),
            Event::ToUs(key, message) => {
                if self.remotes[&key].gone {
                    return;
                }
                self.received += message.blocks.iter().map(|block| block.data.len() as u64).sum::<u64>();
                self.client.handle_message(self.now, key, message);
            }
            Event::Leave(key) => {
                self.remotes.get_mut(&key).unwrap().gone = true;
                self.client.leave(self.now, key);
            }
        }
    }

    fn drain(&mut self) {
        while let Some((key, message)) = self.client.poll_transmit() {
            let cancels = message.wantlist.iter().filter(|entry| matches!(entry, Entry::Cancel(_))).count();
            assert!(cancels == 0 || cancels == message.wantlist.len(), "cancels travel alone");
            assert!(message.wantlist.len() <= MAX_SENT_ENTRIES);
            let latency = self.hosts[&key].latency;
            self.after(latency, Event::ToPeer(key, message));
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Block { cid, .. } => *self.got.entry(cid).or_default() += 1,
                ClientEvent::Exhausted(cid) => {
                    self.exhausted.insert(cid);
                }
                ClientEvent::Misbehaved(peer) => {
                    self.banned.insert(peer);
                }
                ClientEvent::Have { .. } | ClientEvent::DontHave { .. } => {}
            }
        }
    }

    fn has(&self, key: PeerKey, cid: &Cid) -> bool {
        match self.hosts[&key].character {
            Character::Honest | Character::Liar | Character::Leaver(_) | Character::Forgetful => true,
            Character::Partial => self.blocks[cid] % 3 == u32::try_from(key.0 % 3).unwrap(),
            Character::Silent | Character::Empty => false,
        }
    }

    fn at_peer(&mut self, key: PeerKey, message: &Message) {
        let host = self.hosts[&key];
        if self.remotes[&key].gone || host.character == Character::Silent {
            return;
        }
        let mut presences = Vec::new();
        for entry in &message.wantlist {
            let has = self.has(key, entry.cid());
            let remote = self.remotes.get_mut(&key).unwrap();
            match *entry {
                Entry::Cancel(cid) => remote.queue.retain(|queued| *queued != cid),
                Entry::Want { want: Want::Block, cid, .. } if has => {
                    remote.wants += 1;
                    let lost = host.character == Character::Forgetful && remote.wants.is_multiple_of(50);
                    if !lost && !remote.queue.contains(&cid) {
                        remote.queue.push_back(cid);
                    }
                }
                Entry::Want { cid, send_dont_have, .. } => {
                    if host.version.knows_presence() && (has || send_dont_have) {
                        presences.push(Presence { cid, has });
                    }
                }
            }
        }
        if !presences.is_empty() {
            self.after(host.latency, Event::ToUs(key, Message { presences, ..Message::default() }));
        }
        if !self.remotes[&key].busy {
            self.send_next(key);
        }
    }

    fn send_next(&mut self, key: PeerKey) {
        let host = self.hosts[&key];
        let remote = self.remotes.get_mut(&key).unwrap();
        remote.busy = false;
        if remote.gone {
            return;
        }
        let Some(cid) = remote.queue.pop_front() else { return };
        remote.busy = true;
        remote.sent += 1;
        let leaves = host.character == Character::Leaver(remote.sent);
        let cid = if host.character == Character::Liar { cid_of(b"something else") } else { cid };
        let wire = Duration::from_secs_f64(f64::from(BLOCK) / host.rate);
        let message = Message { blocks: vec![WireBlock { cid, data: self.data.clone() }], ..Message::default() };
        self.after(wire + host.latency, Event::ToUs(key, message));
        self.after(wire, Event::Send(key));
        if leaves {
            self.after(wire + host.latency, Event::Leave(key));
        }
    }
}

const fn host(character: Character, rate: f64, latency_ms: u64) -> Host {
    Host { character, version: Version::V1_2, rate, latency: Duration::from_millis(latency_ms) }
}

/// How long the blocks would take if every useful link were always full.
fn ideal(hosts: &[Host], blocks: u32) -> f64 {
    let rate: f64 = hosts.iter().filter(|host| host.character == Character::Honest).map(|host| host.rate).sum();
    f64::from(blocks) * f64::from(BLOCK) / rate
}

fn check(world: &World, blocks: usize) {
    assert_eq!(world.got.len(), blocks);
    assert!(world.got.values().all(|times| *times == 1), "no block is delivered twice");
    let stats = world.client.stats();
    let share = (stats.duplicate_bytes + stats.unneeded_bytes) as f64 / stats.bytes as f64;
    assert!(share <= 0.05, "{share:.3} of the bytes came twice");
    assert_eq!(stats.bytes + stats.duplicate_bytes + stats.unneeded_bytes + stats.unsolicited_bytes, world.received);
}

fn run(hosts: &[Host], blocks: u32, window: usize) -> (World, f64) {
    let mut world = World::new(hosts, blocks);
    let took = world.fetch_all(window).as_secs_f64();
    let factor = took / ideal(hosts, blocks);
    println!("{factor:.3} of ideal, {:?}", world.client.stats());
    check(&world, blocks as usize);
    (world, factor)
}

#[test]
fn three_honest_peers_of_unlike_rates_are_all_used() {
    let hosts = [10e6, 6e6, 4e6].map(|rate| host(Character::Honest, rate, 20));
    let (_, factor) = run(&hosts, 1000, 64);
    assert!(factor < 1.1, "{factor:.2} times the ideal");
}

#[test]
fn one_peer_on_a_long_path_is_kept_busy() {
    let (_, factor) = run(&[host(Character::Honest, 12.5e6, 25)], 1000, 64);
    assert!(factor < 1.05, "{factor:.2} times the ideal");
}

#[test]
fn a_very_slow_peer_does_not_hold_up_the_end() {
    let hosts = [host(Character::Honest, 20e6, 10), host(Character::Honest, 0.05e6, 100)];
    let (_, factor) = run(&hosts, 1000, 64);
    assert!(factor < 1.1, "{factor:.2} times the ideal");
}

#[test]
fn liars_silent_and_empty_peers_cost_little() {
    let mut hosts = vec![host(Character::Honest, 8e6, 15); 3];
    hosts.extend([host(Character::Liar, 50e6, 1), host(Character::Silent, 1e6, 1), host(Character::Empty, 1e6, 1)]);
    let (world, factor) = run(&hosts, 1000, 64);
    assert_eq!(world.banned, BTreeSet::from([PeerKey(4)]));
    assert!(factor < 1.25, "{factor:.2} times the ideal");
}

#[test]
fn a_peer_that_leaves_in_the_middle_is_replaced_at_once() {
    let hosts = [host(Character::Leaver(100), 10e6, 10), host(Character::Honest, 10e6, 10)];
    let (_, factor) = run(&hosts, 1000, 64);
    assert!(factor < 1.05, "{factor:.2} times the ideal of the one that stays");
}

#[test]
fn a_lone_peer_that_loses_wants_is_asked_again() {
    let hosts = [host(Character::Forgetful, 10e6, 10)];
    let mut world = World::new(&hosts, 300);
    let took = world.fetch_all(32);
    println!("{took:?}, {:?}", world.client.stats());
    check(&world, 300);
    assert!(took < Duration::from_secs(7 + 6 * 2), "{took:?} for six lost wants");
}

#[test]
fn three_peers_with_a_third_each_make_a_whole() {
    let hosts = [host(Character::Partial, 10e6, 10); 3];
    let mut world = World::new(&hosts, 300);
    let took = world.fetch_all(64).as_secs_f64();
    check(&world, 300);
    let ideal = 300.0 * f64::from(BLOCK) / 30e6;
    println!("{:.2} of ideal", took / ideal);
    assert!(took < 2.0 * ideal, "{:.2} times the ideal", took / ideal);
}

#[test]
fn old_peers_serve_too() {
    for version in [Version::V1_0, Version::V1_1] {
        let hosts = [Host { version, ..host(Character::Honest, 10e6, 10) }];
        let (_, factor) = run(&hosts, 300, 64);
        assert!(factor < 1.1, "{factor:.2} times the ideal");
    }
}

#[test]
fn what_nobody_has_is_reported_and_comes_with_the_provider() {
    let hosts = [host(Character::Empty, 1e6, 10), host(Character::Silent, 1e6, 10)];
    let mut world = World::new(&hosts, 10);
    for n in 0..10 {
        world.client.want(world.now, READER, name(n), 0, Some(BLOCK)).unwrap();
    }
    world.drain();
    while world.exhausted.len() < 10 {
        world.step();
    }
    assert!(world.now - world.start < Duration::from_secs(8), "{:?}", world.now - world.start);
    let provider = PeerKey(9);
    world.hosts.insert(provider, host(Character::Honest, 10e6, 10));
    world.remotes.insert(provider, Remote::default());
    let joined = world.now;
    assert!(world.client.join(world.now, provider, Version::V1_2));
    world.client.provides(world.now, READER, provider);
    world.drain();
    while world.got.len() < 10 {
        world.step();
    }
    assert!(world.now - joined < Duration::from_secs(1), "{:?}", world.now - joined);
}

#[test]
fn two_hundred_random_worlds_lose_nothing() {
    let mut worst = (0.0, 0.0);
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut hosts = vec![host(Character::Honest, 5e6, 20)];
        for _ in 0..random.random_range(1..12) {
            let character = match random.random_range(0..10) {
                0 => Character::Liar,
                1 => Character::Silent,
                2 => Character::Empty,
                3 => Character::Leaver(random.random_range(1..60)),
                4 => Character::Forgetful,
                5 | 6 => Character::Partial,
                _ => Character::Honest,
            };
            let version = Version::ALL[usize::from(random.random_range(0..6_u8) / 4) * random.random_range(0..3)];
            let latency = Duration::from_millis(random.random_range(0..150));
            hosts.push(Host { character, version, rate: random.random_range(0.1e6..30e6), latency });
        }
        let window = random.random_range(8..80);
        let mut world = World::new(&hosts, 300);
        let took = world.fetch_all(window).as_secs_f64();
        // What the reader's window leaves of the links, when a block is a round trip on its way.
        let honest = hosts.iter().filter(|host| host.character == Character::Honest);
        let slowest = honest.map(|host| 2.0 * host.latency.as_secs_f64()).fold(0.0, f64::max);
        let round_trips = 300.0 / window as f64 * slowest;
        let factor = took / (ideal(&hosts, 300) + round_trips);
        let stats = world.client.stats();
        let share = (stats.duplicate_bytes + stats.unneeded_bytes) as f64 / stats.bytes as f64;
        worst = (f64::max(worst.0, factor), f64::max(worst.1, share));
        if factor > 2.0 {
            println!("seed {seed}: {took:.1} s, {factor:.2} of ideal, window {window}, {stats:?} {hosts:?}");
        }
        assert!(world.got.values().all(|times| *times == 1), "seed {seed}");
        assert!(share <= 0.05, "seed {seed}: {share:.3} of the bytes came twice");
        assert!(factor <= 3.0, "seed {seed}: {factor:.2} of ideal");
    }
    println!("the worst: {:.2} of ideal, {:.3} twice", worst.0, worst.1);
}
