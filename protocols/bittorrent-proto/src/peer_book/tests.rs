use super::*;
use crate::testing::start;
use proptest::prelude::*;

#[test]
fn hints_are_dialled_first_and_then_by_trust() {
    let (mut book, now) = book();
    book.add(peer(1), PeerSource::Pex);
    book.add(peer(2), PeerSource::Tracker);
    book.add(peer(3), PeerSource::Hint);
    book.add(peer(4), PeerSource::Dht);
    assert_eq!(drain(&mut book, now), [3, 2, 4, 1]);
}

#[test]
fn a_failed_address_pauses_longer_each_time_and_is_forgotten_in_the_end() {
    for (source, expected) in [
        (PeerSource::Tracker, [10, 20, 40, 80, 160, 320, 640]),
        // Who named it waits.
        (PeerSource::Hint, [2, 4, 8, 16, 32, 64, 128]),
    ] {
        let (mut book, mut now) = book();
        book.add(peer(1), source);
        let mut pauses = Vec::new();
        while book.known() > 0 {
            assert_eq!(book.poll_dial(now), Some(peer(1)));
            book.on_dial_failed(now, peer(1));
            if let Some((until, "dial")) = book.poll_timeout() {
                assert_eq!(book.poll_dial(until - Duration::from_millis(1)), None);
                pauses.push((until - now).as_secs());
                now = until;
            }
        }
        assert_eq!(pauses, expected, "{source:?}");
        assert!(book.add(peer(1), source), "whoever tells of it again gives it a new start");
    }
}

#[test]
fn whom_we_are_led_to_is_dialled_whatever_its_pause_unless_it_is_here_or_ourselves() {
    let (mut book, now) = book();
    book.add(peer(1), PeerSource::Tracker);
    book.poll_dial(now);
    assert!(!book.is_pausing(peer(1)));
    book.on_dial_failed(now, peer(1));
    assert!(book.is_pausing(peer(1)) && book.dial_at_once(peer(1)) && book.half_open() == 1);
    book.on_connected(peer(1));
    assert!(!book.dial_at_once(peer(1)), "it is here");
    assert!(book.dial_at_once(peer(2)), "nobody has told of it before");
    book.add_self(peer(3));
    assert!(!book.dial_at_once(peer(3)));
}

#[test]
fn a_useful_peer_is_dialled_again_soon_and_a_useless_one_late() {
    let (mut book, now) = book();
    for port in [1, 2] {
        book.add(peer(port), PeerSource::Tracker);
        book.poll_dial(now);
        book.on_connected(peer(port));
    }
    assert_eq!(book.half_open(), 0);
    book.on_disconnected(now, peer(1), true);
    book.on_disconnected(now, peer(2), false);
    assert_eq!(drain(&mut book, now + Duration::from_secs(5)), [1]);
    assert_eq!(drain(&mut book, now + Duration::from_secs(10)), [2]);
}

#[test]
fn an_address_is_never_dialled_twice_at_a_time_whoever_tells_of_it() {
    let (mut book, now) = book();
    book.add(peer(1), PeerSource::Dht);
    assert_eq!(drain(&mut book, now), [1]);
    assert!(!book.add(peer(1), PeerSource::Hint));
    assert!(book.poll_dial(now).is_none());
    book.on_connected(peer(1));
    assert!(!book.add(peer(1), PeerSource::Tracker));
    assert!(book.poll_dial(now).is_none());
    let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), 1);
    assert!(!book.add(mapped, PeerSource::Hint), "the same address in IPv6 spelling");
}

#[test]
fn a_cancelled_dial_is_no_failure() {
    let (mut book, now) = book();
    book.add(peer(1), PeerSource::Dht);
    assert_eq!(drain(&mut book, now), [1]);
    book.on_dial_cancelled(peer(1));
    assert_eq!(drain(&mut book, now), [1]);
}

#[test]
fn we_never_dial_ourselves_nor_what_is_no_host() {
    let (mut book, now) = book();
    book.add(peer(7), PeerSource::Tracker);
    book.set_self([peer(7), "0.0.0.0:8".parse().unwrap()]);
    for address in
        ["127.0.0.1:7", "127.0.0.1:8", "[::1]:8", "10.0.0.1:0", "0.0.0.0:5", "224.0.0.1:5", "255.255.255.255:5"]
    {
        assert!(!book.add(address.parse().unwrap(), PeerSource::Hint), "{address}");
    }
    assert_eq!(book.poll_dial(now), None);
    book.add(peer(9), PeerSource::Tracker);
    book.add_self(peer(9));
    assert_eq!(book.poll_dial(now), None);
}

#[test]
fn a_full_book_trades_what_failed_for_what_is_new() {
    let (mut book, now) = book();
    for n in 0..2000_u32 {
        assert!(book.add(far(n), PeerSource::Dht));
    }
    assert!(!book.add(far(5000), PeerSource::Dht), "no better than those there");
    assert!(book.add(far(5001), PeerSource::Tracker), "better trusted");
    let dialled = book.poll_dial(now).unwrap();
    book.on_dial_failed(now, dialled);
    assert!(book.add(far(5002), PeerSource::Dht));
    assert_eq!(book.known(), MAX_ADDRESSES);
    assert!(book.add(dialled, PeerSource::Hint), "the one that failed gave way");
}

#[test]
fn of_peers_that_are_trusted_alike_those_that_rank_high_are_dialled_first() {
    let (mut book, now) = book();
    let known_by = OwnAddresses { v4: Some("8.0.0.1:1".parse().unwrap()), v6: None };
    (0..20).for_each(|n| _ = book.add(far(n * 77_777), PeerSource::Tracker));
    book.set_known_by(known_by);
    (20..40).for_each(|n| _ = book.add(far(n * 77_777), PeerSource::Tracker));
    let order: Vec<_> = std::iter::from_fn(|| book.poll_dial(now)).map(|address| known_by.rank_of(address)).collect();
    assert_eq!(order.len(), 20, "as many as may be under way");
    assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
}

#[test]
fn a_peer_that_has_everything_rests_until_something_is_missing() {
    let (mut book, now) = book();
    book.add(peer(1), PeerSource::Tracker);
    book.poll_dial(now);
    book.on_connected(peer(1));
    book.on_redundant(peer(1));
    assert_eq!(drain(&mut book, now + Duration::from_secs(86_400)), [0; 0]);
    book.wake_resting();
    assert_eq!(drain(&mut book, now), [1]);
}

#[test]
fn one_host_gets_few_places() {
    let (mut book, _) = book();
    let added = (1..100).filter(|port| book.add(SocketAddr::from(([10, 0, 0, 1], *port)), PeerSource::Pex)).count();
    assert_eq!(added, MAX_PORTS_PER_HOST);
    let added = (1..100).filter(|port| book.add(peer(*port), PeerSource::Pex)).count();
    assert_eq!(added, 99, "this host is nobody to be protected from us");
}

fn book() -> (PeerBook, Instant) {
    (PeerBook::default(), start())
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn far(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 6881))
}

fn drain(book: &mut PeerBook, now: Instant) -> Vec<u16> {
    std::iter::from_fn(|| book.poll_dial(now)).map(|address| address.port()).collect()
}

proptest! {
    /// Any history: never more dials than allowed, never a dial within an address's pause, never one twice at a time.
    #[test]
    fn dials_keep_their_promises(
        steps in proptest::collection::vec((0..8u8, 1..12u16, 0..60u64), 1..300),
        max_half_open in 1..4usize,
    ) {
        let mut now = start();
        let mut book = PeerBook::new(max_half_open);
        let mut dialling: BTreeSet<u16> = BTreeSet::new();
        let mut connected: BTreeSet<u16> = BTreeSet::new();
        let mut pauses: BTreeMap<u16, Instant> = BTreeMap::new();
        let mut hinted: BTreeSet<u16> = BTreeSet::new();
        for (step, port, seconds) in steps {
            let at_least = if hinted.contains(&port) { 2 } else { 10 };
            let pause = |pauses: &mut BTreeMap<u16, Instant>, s| pauses.insert(port, now + Duration::from_secs(s));
            match step {
                0 => _ = book.add(peer(port), PeerSource::Pex),
                1 => { book.add(peer(port), PeerSource::Hint); hinted.insert(port); }
                2 => if dialling.remove(&port) { book.on_connected(peer(port)); connected.insert(port); },
                3 => {
                    book.on_dial_failed(now, peer(port));
                    if dialling.remove(&port) { pause(&mut pauses, at_least); }
                }
                4 => {
                    let useful = seconds % 2 == 0;
                    book.on_disconnected(now, peer(port), useful);
                    if connected.remove(&port) { pause(&mut pauses, if useful { 5 } else { at_least }); }
                }
                5 => now += Duration::from_secs(seconds),
                _ => for port in drain(&mut book, now) {
                    prop_assert!(pauses.get(&port).is_none_or(|until| *until <= now));
                    prop_assert!(dialling.insert(port) && !connected.contains(&port));
                },
            }
            prop_assert!(book.half_open() <= max_half_open);
            prop_assert_eq!(book.half_open(), dialling.len());
            let queued = book.entries.values().filter(|e| matches!(e.state, State::Ready | State::Waiting(_))).count();
            prop_assert_eq!(queued, book.ready.len() + book.waiting.len());
        }
    }
}
