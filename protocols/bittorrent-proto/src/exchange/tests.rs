use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// The number under which every peer of these tests takes messages.
const ID: u8 = 9;

fn public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_private() && !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback(),
    }
}

struct Swarm {
    exchange: PeerExchange,
    now: Instant,
}

impl Swarm {
    fn new() -> Self {
        let options = ExchangeOptions { listen_port: Some(1), holepunch: false, is_public: public };
        Self { exchange: PeerExchange::new(options), now: crate::testing::start() }
    }

    /// A peer that we dialled and that takes messages.
    fn dial(&mut self, key: u64, address: &str) {
        self.exchange.join(PeerKey(key), Contact { address: address.parse().unwrap(), dialled: true, utp: false });
        assert_eq!(self.exchange.on_hello(PeerKey(key), Some(ID), Some(99)), None, "where it is was known");
        self.exchange.settle(self.now);
    }

    /// One that dialled us.
    fn accept(&mut self, key: u64, address: &str, port: Option<u16>) {
        self.exchange.join(PeerKey(key), Contact { address: address.parse().unwrap(), dialled: false, utp: false });
        self.exchange.on_hello(PeerKey(key), Some(ID), port);
        self.exchange.settle(self.now);
    }

    fn leave(&mut self, key: u64) {
        self.exchange.leave(PeerKey(key));
        self.exchange.settle(self.now);
    }

    /// What is said within `time`: to whom, who came, who went.
    fn pass(&mut self, time: Duration) -> Vec<(u64, Vec<String>, Vec<String>)> {
        let end = self.now + time;
        let mut said = Vec::new();
        while let Some(at) = self.exchange.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            for (key, id, message) in self.exchange.handle_timeout(self.now, |_| 0) {
                assert_eq!(id, ID);
                let added = message.added.iter().map(|peer| peer.address.to_string()).collect();
                said.push((key.0, added, message.dropped.iter().map(ToString::to_string).collect()));
            }
        }
        self.now = end;
        said
    }
}

fn texts(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

fn told(addresses: &[&str]) -> Vec<u8> {
    let added = addresses.iter().map(|address| PexPeer { address: address.parse().unwrap(), flags: 0 }).collect();
    PexMessage { added, dropped: Vec::new() }.encode()
}

#[test]
fn two_peers_are_told_of_each_other_once_and_of_the_leave_a_minute_later() {
    let mut swarm = Swarm::new();
    swarm.dial(1, "8.0.0.1:1");
    assert_eq!(swarm.pass(INTERVAL), [], "there is nobody to be told of");
    swarm.dial(2, "8.0.0.2:2");
    assert_eq!(swarm.pass(GATHER), [(1, texts(&["8.0.0.2:2"]), texts(&[])), (2, texts(&["8.0.0.1:1"]), texts(&[]))]);
    swarm.leave(2);
    assert_eq!(swarm.pass(INTERVAL - GATHER - Duration::from_millis(1)), []);
    assert_eq!(swarm.pass(GATHER * 2), [(1, texts(&[]), texts(&["8.0.0.2:2"]))]);
    assert_eq!(swarm.pass(INTERVAL * 5), [], "nothing is said twice, nor when there is nothing to say");
}

#[test]
fn who_came_and_went_within_the_minute_is_told_of_to_nobody() {
    let mut swarm = Swarm::new();
    swarm.dial(1, "8.0.0.1:1");
    swarm.dial(2, "8.0.0.2:2");
    swarm.pass(GATHER);
    swarm.dial(3, "8.0.0.3:3");
    swarm.leave(3);
    assert_eq!(swarm.pass(INTERVAL * 2), []);
}

#[test]
fn a_peer_that_dialled_us_is_told_of_by_where_it_listens_and_not_before() {
    let mut swarm = Swarm::new();
    swarm.dial(1, "8.0.0.1:1");
    swarm.accept(2, "8.0.0.2:40000", None);
    assert_eq!(swarm.pass(GATHER), [(2, texts(&["8.0.0.1:1"]), texts(&[]))]);
    assert_eq!(swarm.exchange.on_hello(PeerKey(2), None, Some(22)), Some("8.0.0.2:22".parse().unwrap()));
    swarm.exchange.settle(swarm.now);
    assert_eq!(swarm.pass(GATHER), [(1, texts(&["8.0.0.2:22"]), texts(&[]))]);
}

#[test]
fn houses_and_machines_keep_their_addresses_to_themselves() {
    let mut swarm = Swarm::new();
    swarm.dial(1, "8.0.0.1:1");
    swarm.dial(2, "192.168.0.2:2");
    swarm.dial(3, "127.0.0.1:3");
    swarm.dial(4, "[::ffff:10.0.0.4]:4");
    let said = swarm.pass(GATHER);
    let to = |key| said.iter().find(|(to, ..)| *to == key).map(|(_, added, _)| added.clone()).unwrap_or_default();
    assert_eq!(to(1), texts(&[]), "the world hears of nobody");
    assert_eq!(to(2), texts(&["8.0.0.1:1", "10.0.0.4:4"]));
    assert_eq!(to(3), texts(&["8.0.0.1:1", "10.0.0.4:4", "192.168.0.2:2"]));
}

#[test]
fn what_a_stranger_tells_of_our_house_is_not_believed() {
    let mut swarm = Swarm::new();
    swarm.dial(1, "8.0.0.1:1");
    swarm.dial(2, "192.168.0.2:2");
    let all = told(&["8.0.0.9:9", "192.168.0.1:80", "127.0.0.1:8420", "[::1]:1", "[2a00::1]:1"]);
    let found = |swarm: &mut Swarm, key| {
        let found = swarm.exchange.on_message(swarm.now, PeerKey(key), &all).unwrap();
        found.iter().map(|peer| peer.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(&mut swarm, 1), texts(&["8.0.0.9:9", "[2a00::1]:1"]));
    assert_eq!(found(&mut swarm, 2), texts(&["8.0.0.9:9", "192.168.0.1:80", "[2a00::1]:1"]));
    assert_eq!(found(&mut swarm, 3), texts(&[]), "nor anybody without an address");
}

#[test]
fn messages_that_come_too_soon_are_passed_over_and_a_flood_ends_the_peer() {
    let mut swarm = Swarm::new();
    swarm.dial(1, "8.0.0.1:1");
    let one = told(&["8.0.0.9:9"]);
    let mut hear = |after: Duration| {
        swarm.now += after;
        swarm.exchange.on_message(swarm.now, PeerKey(1), &one).map(|found| found.len())
    };
    assert_eq!(hear(Duration::ZERO), Ok(1));
    assert_eq!(hear(TOO_SOON - Duration::from_millis(1)), Ok(0));
    assert_eq!(hear(Duration::from_millis(1)), Ok(1));
    for _ in 0..MAX_TOO_SOON {
        assert_eq!(hear(Duration::from_secs(1)), Ok(0));
    }
    assert_eq!(hear(Duration::from_secs(1)), Err(ExchangeFault::TooOften));
}

#[test]
fn only_the_first_message_may_tell_of_more_than_fifty() {
    let mut swarm = Swarm::new();
    swarm.dial(1, "8.0.0.1:1");
    let address = |n: u8| OwnedPeer::at(n).encode();
    let mut payload = b"d5:added540:".to_vec();
    (1..=90).for_each(|n| payload.extend(address(n)));
    payload.push(b'e');
    let count = |swarm: &mut Swarm| swarm.exchange.on_message(swarm.now, PeerKey(1), &payload).unwrap().len();
    assert_eq!(count(&mut swarm), 90);
    swarm.now += INTERVAL;
    assert_eq!(count(&mut swarm), MAX_ADDED);
}

/// A public IPv4 address in its compact form.
struct OwnedPeer([u8; 6]);

impl OwnedPeer {
    const fn at(n: u8) -> Self {
        Self([8, 0, 0, n, 0, 1])
    }

    const fn encode(&self) -> [u8; 6] {
        self.0
    }
}

#[test]
fn a_crowd_is_told_of_fifty_at_a_time() {
    let mut swarm = Swarm::new();
    for key in 1..=121 {
        swarm.dial(key, &format!("8.0.0.{key}:1"));
    }
    let counts = |swarm: &mut Swarm, time| {
        let said = swarm.pass(time);
        said.iter().filter(|(to, ..)| *to == 1).map(|(_, added, _)| added.len()).collect::<Vec<_>>()
    };
    assert_eq!(counts(&mut swarm, GATHER), [50]);
    assert_eq!(counts(&mut swarm, INTERVAL), [50]);
    assert_eq!(counts(&mut swarm, INTERVAL * 3), [20]);
}

proptest! {
    /// Whoever listens long enough knows exactly those who are there, was told of nobody twice, and never more often
    /// than once a minute or of more than fifty at once.
    #[test]
    fn a_listener_ends_up_knowing_who_is_there(steps in proptest::collection::vec((2u64..40, any::<bool>(), 0u64..90), 1..80)) {
        let mut swarm = Swarm::new();
        swarm.dial(1, "8.0.0.1:1");
        let (mut here, mut known, mut last) = (BTreeSet::new(), BTreeSet::new(), None::<Instant>);
        let finale = std::iter::repeat_n((0, false, 61), 3);
        for (key, comes, seconds) in steps.into_iter().chain(finale) {
            match comes {
                true if here.insert(key) => swarm.dial(key, &format!("8.0.0.{key}:1")),
                false if here.remove(&key) => swarm.leave(key),
                _ => {}
            }
            let end = swarm.now + Duration::from_secs(seconds);
            while let Some(at) = swarm.exchange.poll_timeout().filter(|at| *at <= end) {
                prop_assert!(at >= swarm.now, "a wake-up long past");
                swarm.now = swarm.now.max(at);
                let messages = swarm.exchange.handle_timeout(swarm.now, |_| 0);
                for (_, _, message) in messages.into_iter().filter(|(to, ..)| *to == PeerKey(1)) {
                    prop_assert!(last.is_none_or(|last| swarm.now >= last + INTERVAL));
                    prop_assert!(message.added.len() <= 50 && message.dropped.len() <= 50);
                    last = Some(swarm.now);
                    for peer in message.added {
                        prop_assert!(known.insert(peer.address), "told twice of {}", peer.address);
                    }
                    for address in message.dropped {
                        prop_assert!(known.remove(&address), "told of the leave of a stranger");
                    }
                }
            }
            swarm.now = end;
        }
        let there: BTreeSet<SocketAddr> = here.iter().map(|key| format!("8.0.0.{key}:1").parse().unwrap()).collect();
        prop_assert_eq!(known, there);
    }
}
