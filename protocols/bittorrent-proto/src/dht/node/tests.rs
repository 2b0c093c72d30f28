//! Nodes among nodes, in virtual time: what one says reaches the other after a while, or never, by a seed.

use super::*;
use crate::bencode::OwnedValue;
use crate::dht::{MAX_ANSWER_BYTES, MAX_ANSWER_FACTOR, MutableItem, krpc};
use crate::seed::SplitMix;
use crate::testing::start;
use bytes::Bytes;

const TORRENT: InfoHash = InfoHash::new([0x5a; 20]);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A network: nodes by address, datagrams under way by when they arrive.
struct World {
    now: Instant,
    random: SplitMix,
    nodes: BTreeMap<SocketAddr, Node>,
    wire: BTreeMap<(Instant, u64), (SocketAddr, Transmit)>,
    timers: BTreeSet<(Instant, SocketAddr)>,
    armed: BTreeMap<SocketAddr, Instant>,
    sent: u64,
    events: Vec<(SocketAddr, Event)>,
    /// Datagrams of a thousand that are lost.
    loss: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: start(),
            random: SplitMix::new(seed),
            nodes: BTreeMap::new(),
            wire: BTreeMap::new(),
            timers: BTreeSet::new(),
            armed: BTreeMap::new(),
            sent: 0,
            events: Vec::new(),
            loss: 0,
        }
    }

    fn options(&mut self) -> NodeOptions {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random.below(u64::MAX).to_be_bytes());
        NodeOptions { v4: true, v6: false, node_id: None, read_only: false, seed }
    }

    fn add_with(&mut self, address: SocketAddr, options: &NodeOptions, saved: Option<&SavedTables>) {
        let node = Node::new(self.now, options, saved);
        self.nodes.insert(address, node);
        self.drain(address);
    }

    /// Adds a node that is told of another.
    fn add(&mut self, address: SocketAddr, of: Option<SocketAddr>) {
        let options = self.options();
        self.add_with(address, &options, None);
        if let Some(of) = of {
            self.at(address, |node, now| node.add_node(now, of));
        }
    }

    fn remove(&mut self, address: SocketAddr) -> Option<Node> {
        if let Some(armed) = self.armed.remove(&address) {
            self.timers.remove(&(armed, address));
        }
        self.nodes.remove(&address)
    }

    /// Does something with a node and carries what follows.
    fn at<T>(&mut self, address: SocketAddr, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let result = act(self.nodes.get_mut(&address).unwrap(), self.now);
        self.drain(address);
        result
    }

    fn drain(&mut self, address: SocketAddr) {
        let node = self.nodes.get_mut(&address).unwrap();
        while let Some(transmit) = node.poll_transmit() {
            self.sent += 1;
            let latency = Duration::from_millis(10 + self.random.below(90));
            if self.random.below(1000) >= self.loss {
                self.wire.insert((self.now + latency, self.sent), (address, transmit));
            }
        }
        self.events.extend(std::iter::from_fn(|| node.poll_event()).map(|event| (address, event)));
        let next = node.poll_timeout().unwrap().0.max(self.now);
        if let Some(armed) = self.armed.insert(address, next) {
            self.timers.remove(&(armed, address));
        }
        self.timers.insert((next, address));
    }

    /// Lets the next thing happen, if it happens before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
        let timer = self.timers.first().map(|(at, _)| *at);
        let Some(next) = arrival.into_iter().chain(timer).min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = next;
        if arrival == Some(next) {
            let (_, (from, Transmit { to, bytes })) = self.wire.pop_first().unwrap();
            if self.nodes.contains_key(&to) {
                self.at(to, |node, now| node.handle_input(now, from, &bytes));
            }
        } else {
            let (_, address) = *self.timers.first().unwrap();
            self.at(address, |node, now| node.handle_timeout(now));
            self.introduce(address);
        }
        true
    }

    /// Names somebody to a node that says it knows nobody, as bootstrap hosts do.
    fn introduce(&mut self, address: SocketAddr) {
        if self.events.last() != Some(&(address, Event::Lonely)) {
            return;
        }
        self.events.pop();
        let others: Vec<_> = self.nodes.keys().copied().filter(|other| *other != address).collect();
        if !others.is_empty() {
            let of = others[usize::try_from(self.random.below(others.len() as u64)).unwrap()];
            self.at(address, |node, now| node.add_node(now, of));
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until an event tells what is waited for, `patience` at most; gives the time it took.
    fn until(&mut self, patience: Duration, wanted: impl Fn(SocketAddr, &Event) -> bool) -> Option<Duration> {
        let (began, mut seen) = (self.now, 0);
        loop {
            if self.events[seen..].iter().any(|(at, event)| wanted(*at, event)) {
                return Some(self.now - began);
            }
            seen = self.events.len();
            if !self.step(began + patience) {
                return None;
            }
        }
    }

    fn item(&mut self, at: SocketAddr, target: NodeId, salt: &[u8]) -> Option<Item> {
        let id = self.at(at, |node, now| node.get(now, target, salt))?;
        self.events.clear();
        self.until(MINUTE, |_, event| matches!(event, Event::Got(got, _) if *got == id))?;
        self.events.drain(..).find_map(|(_, event)| if let Event::Got(_, item) = event { item } else { None })
    }

    /// How long a node takes to find a peer of [`TORRENT`].
    fn find(&mut self, at: SocketAddr, peer: SocketAddr) -> Option<Duration> {
        self.events.clear();
        let job = self.at(at, |node, now| node.seek(now, TORRENT, None))?;
        let found = self.until(MINUTE, |_, event| *event == Event::Peer(job, peer));
        self.at(at, |node, _| node.withdraw(job));
        found
    }
}

fn local(n: u16) -> SocketAddr {
    let [high, low] = n.to_be_bytes();
    SocketAddr::from(([127, 0, high, low], 6881))
}

fn public(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([90, a, b, c], 6881))
}

/// Fifty public nodes, each told of the first, a while after they started.
fn fifty(seed: u64) -> World {
    let mut world = World::new(seed);
    world.add(public(0), None);
    for n in 1..50 {
        world.add(public(n), Some(public(0)));
        world.run(Duration::from_millis(200));
    }
    world.run(2 * MINUTE);
    world
}

fn version(seq: i64) -> Item {
    Item::Mutable(MutableItem::sign(&[1; 32], b"feed", seq, OwnedValue::Int(seq).encode().into()).unwrap())
}

#[test]
fn in_a_network_of_fifty_what_one_announces_each_finds_in_two_seconds() {
    for seed in 0..5 {
        let mut world = fifty(seed);
        let before = world.nodes[&public(7)].counters().stored;
        world.at(public(7), |node, now| node.seek(now, TORRENT, Some(4000))).unwrap();
        world.run(Duration::from_secs(2));
        assert_eq!(world.nodes[&public(7)].counters().stored - before, 8, "seed {seed}");
        let peer = SocketAddr::new(public(7).ip(), 4000);
        for n in (0..50).filter(|n| *n != 7) {
            let found = world.find(public(n), peer);
            assert!(found.is_some_and(|took| took < Duration::from_secs(2)), "seed {seed}: {n} took {found:?}");
        }
    }
}

#[test]
fn ids_come_to_suit_the_addresses_that_others_see() {
    let world = fifty(9);
    let suited = world.nodes.iter().filter(|(at, node)| node.own_id(Family::V4).unwrap().suits(at.ip())).count();
    assert_eq!(suited, 50);
}

#[test]
fn an_item_is_found_by_all_and_its_latest_version_wins() {
    let mut world = fifty(3);
    let immutable = Item::immutable(Bytes::from_static(b"5:hello")).unwrap();
    for item in [immutable.clone(), version(1), version(2)] {
        world.at(public(4), |node, now| node.put(now, item, None)).unwrap();
        let stored = |_, event: &Event| matches!(event, Event::Stored { nodes: 8, newer: None, .. });
        world.events.clear();
        assert!(world.until(MINUTE, stored).is_some());
    }
    for n in [0, 20, 49] {
        assert_eq!(world.item(public(n), immutable.target(), b""), Some(immutable.clone()));
        assert_eq!(world.item(public(n), version(0).target(), b"feed"), Some(version(2)));
        assert_eq!(world.item(public(n), version(0).target(), b"other"), None, "of another salt");
    }
    world.at(public(30), |node, now| node.put(now, version(1), None)).unwrap();
    let told = |_, event: &Event| matches!(event, Event::Stored { nodes: 0, newer: Some(2), .. });
    assert!(world.until(MINUTE, told).is_some(), "an older version is not put");
}

#[test]
fn a_lookup_begun_before_anybody_is_known_waits_for_the_first() {
    let mut world = fifty(4);
    world.at(public(4), |node, now| node.put(now, version(1), None)).unwrap();
    world.run(MINUTE);
    world.add(public(99), None);
    let id = world.at(public(99), |node, now| node.get(now, version(1).target(), b"feed")).unwrap();
    world.run(Duration::from_secs(1));
    world.at(public(99), |node, now| node.add_node(now, public(0)));
    assert!(world.until(MINUTE, |_, event| *event == Event::Got(id, Some(version(1)))).is_some());
}

#[test]
fn nodes_of_both_families_find_each_other_in_both() {
    let mut world = World::new(5);
    let v6 = |n: u16| SocketAddr::from(([0x2001, 0xdb8, n, 0, 0, 0, 0, 1], 6881));
    let only = NodeOptions { v4: false, v6: true, ..world.options() };
    world.add_with(v6(0), &only, None);
    for n in 1..20 {
        let options = NodeOptions { v4: false, v6: true, ..world.options() };
        world.add_with(v6(n), &options, None);
        world.at(v6(n), |node, now| node.add_node(now, v6(0)));
        world.run(Duration::from_secs(1));
    }
    world.at(v6(3), |node, now| node.seek(now, TORRENT, Some(4000))).unwrap();
    world.run(MINUTE);
    assert!(world.find(v6(15), SocketAddr::new(v6(3).ip(), 4000)).is_some());
    assert!(world.nodes[&v6(3)].counters().nodes_v6 > 8);
}

/// A node of both families with a full table, peers and the largest item.
fn laden(now: Instant) -> Node {
    let options = NodeOptions { v4: true, v6: true, node_id: None, read_only: false, seed: [1; 32] };
    let mut node = Node::new(now, &options, None);
    for n in 0..200_u8 {
        let id = NodeId::new([n; 20]);
        for address in
            [SocketAddr::from(([90, 1, 1, n], 1)), SocketAddr::from(([0x2001, 0xdb8, n.into(), 0, 0, 0, 0, 1], 1))]
        {
            node.tables[Family::of(&address).index()].as_mut().unwrap().answered(now, Contact { id, address });
        }
        let peer = SocketAddr::from(([91, 1, 1, n], 1));
        assert!(node.peers.add(now, &NodeId::new([0; 20]), TORRENT, peer));
    }
    let value = OwnedValue::from(vec![b'x'; 996]).encode();
    let item = Item::Mutable(MutableItem::sign(&[1; 32], &[b's'; 64], i64::MAX, value.into()).unwrap());
    node.items.put(now, &NodeId::new([0; 20]), item, None, IpAddr::from([9, 9, 9, 9])).unwrap();
    while node.poll_transmit().is_some() {}
    node
}

#[test]
fn an_answer_is_no_longer_than_its_query_allows_whatever_is_asked() {
    let now = start();
    let mut node = laden(now);
    let item = MutableItem::sign(&[1; 32], &[b's'; 64], 0, Bytes::from_static(b"i0e")).unwrap();
    let target = item.key().target(item.salt());
    let mut largest = 0;
    for (n, arguments) in [
        "".to_owned(),
        "6:target20:aaaaaaaaaaaaaaaaaaaa4:wantl2:n42:n6e".to_owned(),
        "9:info_hash20:ZZZZZZZZZZZZZZZZZZZZ4:wantl2:n42:n6e".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let method = ["4:ping", "9:find_node", "9:get_peers"][n];
        let query = format!("d1:ad2:id20:bbbbbbbbbbbbbbbbbbbb{arguments}e1:q{method}1:t1:a1:y1:qe");
        largest = largest.max(ask_laden(&mut node, now, query.as_bytes()));
    }
    let get = Message {
        transaction: vec![b'a'],
        body: Body::Query(NodeId::new([2; 20]), Query::Get { target, seq: None, want: None }),
        ip: None,
        read_only: false,
    };
    largest = largest.max(ask_laden(&mut node, now, &get.encode()));
    assert!(largest > 1000, "the item was in it: {largest}");
}

fn ask_laden(node: &mut Node, now: Instant, query: &[u8]) -> usize {
    let from = SocketAddr::from(([93, 1, 1, 1], 1));
    node.handle_input(now, from, query);
    let answer = std::iter::from_fn(|| node.poll_transmit())
        .find(|it| Message::parse(&it.bytes).is_ok_and(|it| it.ip.is_some()));
    let answer = answer.unwrap().bytes;
    assert!(answer.len() <= MAX_ANSWER_BYTES && answer.len() <= query.len() * MAX_ANSWER_FACTOR);
    answer.len()
}

#[test]
fn who_asks_too_often_is_not_answered() {
    let now = start();
    let mut node = laden(now);
    let ping = b"d1:ad2:id20:bbbbbbbbbbbbbbbbbbbbe1:q4:ping1:t2:aa1:y1:qe";
    for _ in 0..1000 {
        node.handle_input(now, SocketAddr::from(([93, 1, 1, 1], 1)), ping);
    }
    assert_eq!((node.counters().answered, node.counters().limited), (50, 950));
}

#[test]
fn a_flood_of_strangers_fills_nothing() {
    let now = start();
    let mut node = Node::new(now, &World::new(1).options(), None);
    for n in 0..20_000_u32 {
        let mut ping = b"d1:ad2:id20:bbbbbbbbbbbbbbbbbbbbe1:q4:ping1:t2:aa1:y1:qe".to_vec();
        ping[12..16].copy_from_slice(&n.reverse_bits().to_be_bytes());
        node.handle_input(now, public(n), &ping);
    }
    let counters = node.counters();
    assert_eq!((counters.nodes_v4, counters.answered), (0, 4000));
    assert!(counters.outstanding <= 64, "{counters:?}");
}

#[test]
fn what_was_not_asked_is_no_answer() {
    let now = start();
    let mut node = Node::new(now, &World::new(1).options(), None);
    node.add_node(now, public(1));
    let Transmit { bytes, .. } = node.poll_transmit().unwrap();
    let transaction = Message::parse(&bytes).unwrap().transaction;
    let body = Body::Response(Box::new(Response::new(NodeId::new([7; 20]))));
    let answer = Message { transaction, body, ip: None, read_only: false }.encode();
    node.handle_input(now, public(2), &answer);
    assert_eq!(node.counters().nodes_v4, 0, "from elsewhere");
    node.handle_input(now, public(1), &answer);
    assert_eq!(node.counters().nodes_v4, 1);
}

#[test]
fn a_public_node_cannot_have_us_ask_a_private_address() {
    let now = start();
    let mut node = Node::new(now, &World::new(1).options(), None);
    node.add_node(now, public(1));
    let transaction = Message::parse(&node.poll_transmit().unwrap().bytes).unwrap().transaction;
    let mut response = Response::new(NodeId::new([7; 20]));
    let named = [SocketAddr::from(([127, 0, 0, 1], 25)), SocketAddr::from(([192, 168, 0, 1], 80)), public(3)];
    response.nodes = (1..).zip(named).map(|(n, address)| Contact { id: NodeId::new([n; 20]), address }).collect();
    let body = Body::Response(Box::new(response));
    node.handle_input(now, public(1), &Message { transaction, body, ip: None, read_only: false }.encode());
    let asked: BTreeSet<_> = std::iter::from_fn(|| node.poll_transmit()).map(|it| it.to).collect();
    assert_eq!(asked, BTreeSet::from([public(1), public(3)]));
}

#[test]
fn a_node_that_only_asks_answers_nobody_and_is_in_no_table() {
    let mut world = fifty(6);
    let options = NodeOptions { read_only: true, ..world.options() };
    world.add_with(public(70), &options, None);
    world.at(public(70), |node, now| node.add_node(now, public(0)));
    world.run(5 * MINUTE);
    assert!(world.nodes[&public(70)].counters().nodes_v4 > 8);
    assert_eq!(world.nodes[&public(70)].counters().answered, 0);
    let known = |node: &Node| node.tables().nodes.iter().any(|contact| contact.address == public(70));
    assert!(!world.nodes.values().any(known));
}

#[test]
fn storing_takes_a_token_of_ones_own() {
    let now = start();
    let mut node = Node::new(now, &World::new(1).options(), None);
    let mut ask = |from: SocketAddr, query: Query| {
        let body = Body::Query(NodeId::new([3; 20]), query);
        let message = Message { transaction: b"aa".to_vec(), body, ip: None, read_only: true };
        node.handle_input(now, from, &message.encode());
        Message::parse(&node.poll_transmit().unwrap().bytes).unwrap().body
    };
    let Body::Response(response) = ask(public(1), Query::GetPeers { infohash: TORRENT, want: None }) else {
        panic!("no answer")
    };
    let token = response.token.unwrap();
    let announce = |token: &[u8]| Query::AnnouncePeer { infohash: TORRENT, port: Some(5), token: token.to_vec() };
    for (from, token) in [(public(2), &token[..]), (public(1), b"guess")] {
        assert!(matches!(ask(from, announce(token)), Body::Error(krpc::KrpcError { code: 203, .. })));
    }
    assert!(matches!(ask(public(1), announce(&token)), Body::Response(_)));
}

#[test]
fn a_thousand_items_are_put_a_few_at_a_time() {
    let mut world = World::new(8);
    world.add(local(1), None);
    for n in 2..12 {
        world.add(local(n), Some(local(1)));
    }
    world.run(MINUTE);
    for n in 0..1000 {
        let item = Item::immutable(OwnedValue::Int(n).encode().into()).unwrap();
        assert!(world.at(local(5), |node, now| node.keep(now, item, Duration::ZERO)));
    }
    let mut most = 0;
    let until = world.now + HOUR / 2;
    while world.step(until) {
        most = most.max(world.nodes[&local(5)].searches.len());
    }
    assert!(most <= 16 + 2, "{most} lookups at a time");
    assert!(world.nodes[&local(5)].counters().stored >= 8000);
}

/// Seven days in which half of the network is replaced each two hours. Each half hour somebody who was not asked before
/// looks for what one node publishes, and that node itself starts anew each day.
#[test]
fn what_is_published_is_found_for_seven_days_of_coming_and_going() {
    const NODES: u32 = 24;
    let publisher = public(100_000);
    let peer = SocketAddr::new(publisher.ip(), 4000);
    let immutable = Item::immutable(Bytes::from_static(b"9:permanent")).unwrap();
    let mut world = World::new(7);
    world.loss = 10;
    world.add(public(0), None);
    let mut alive: Vec<_> = (0..NODES).map(public).collect();
    for at in alive.iter().skip(1) {
        world.add(*at, Some(public(0)));
        world.run(Duration::from_secs(1));
    }
    world.add(publisher, Some(public(0)));
    world.at(publisher, |node, now| {
        assert!(node.keep(now, version(1), Duration::ZERO) && node.keep(now, immutable.clone(), Duration::ZERO));
        node.seek(now, TORRENT, Some(4000)).unwrap();
    });
    world.run(5 * MINUTE);
    let (mut next, mut checks) = (NODES, 0);
    for tick in 1..=7 * 24 * 6 {
        world.run(10 * MINUTE);
        let gone = usize::try_from(world.random.below(u64::from(NODES))).unwrap();
        world.remove(alive.remove(gone));
        let of = alive[usize::try_from(world.random.below(alive.len() as u64)).unwrap()];
        world.add(public(next), Some(of));
        alive.push(public(next));
        next += 1;
        if tick % 144 == 0 {
            restart(&mut world, publisher);
        }
        if tick % 3 == 0 {
            world.run(Duration::from_secs(5));
            let reader = *alive.last().unwrap();
            assert_eq!(world.item(reader, version(1).target(), b"feed"), Some(version(1)), "tick {tick}");
            assert_eq!(world.item(reader, immutable.target(), b""), Some(immutable.clone()), "tick {tick}");
            assert!(world.find(reader, peer).is_some(), "tick {tick}");
            checks += 1;
        }
        world.events.clear();
    }
    assert_eq!(checks, 336);
}

/// Stops a node and starts it again from what it saved a minute earlier.
fn restart(world: &mut World, at: SocketAddr) {
    let before = world.remove(at).unwrap();
    let tables = SavedTables::decode(&before.tables().encode()).unwrap();
    let kept: Vec<_> = before.kept(world.now).iter().map(|kept| kept.encode(1000)).collect();
    assert_eq!(kept.len(), 2);
    world.run(MINUTE);
    let options = world.options();
    world.add_with(at, &options, Some(&tables));
    world.at(at, |node, now| {
        for bytes in kept {
            let KeptItem { item, due } = KeptItem::decode(&bytes, 1060).unwrap();
            assert!(node.keep(now, item, due));
        }
        node.seek(now, TORRENT, Some(4000)).unwrap();
    });
}
