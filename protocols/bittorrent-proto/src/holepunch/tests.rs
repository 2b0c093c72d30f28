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

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

struct Torrent {
    punch: Holepunch,
    now: Instant,
}

impl Torrent {
    fn new() -> Self {
        Self { punch: Holepunch::new(Some(8421), public), now: crate::testing::start() }
    }

    /// A peer that is connected over uTP and knows the extension.
    fn with(mut self, key: u64, address: &str) -> Self {
        self.punch.join(PeerKey(key), Contact { address: at(address), dialled: false, utp: true });
        let hello = ExtensionHandshake { ut_holepunch: Some(ID), listen_port: Some(1000), ..Default::default() };
        self.punch.on_hello(PeerKey(key), &hello);
        self
    }

    /// A peer told of another.
    fn told(mut self, key: u64, address: &str, flags: u8) -> Self {
        self.punch.on_told(PeerKey(key), &[PexPeer { address: at(address), flags }]);
        self
    }

    fn seek(&mut self, address: &str) -> Option<u64> {
        self.punch.seek(self.now, at(address)).map(|action| match action {
            HolepunchAction::Send { to, id: ID, message: HolepunchMessage::Rendezvous(named) } => {
                assert_eq!(named, at(address));
                to.0
            }
            other @ (HolepunchAction::Send { .. } | HolepunchAction::Dial(_)) => panic!("{other:?}"),
        })
    }

    fn hear(&mut self, key: u64, message: HolepunchMessage) -> Vec<HolepunchAction> {
        self.punch.on_message(self.now, PeerKey(key), &message.encode(), true).unwrap()
    }

    /// A rendezvous, as the messages it makes us send.
    fn ask(&mut self, key: u64, address: &str) -> Vec<(u64, HolepunchMessage)> {
        let send = |action| match action {
            HolepunchAction::Send { to, id: ID, message } => (to.0, message),
            other @ (HolepunchAction::Send { .. } | HolepunchAction::Dial(_)) => panic!("{other:?}"),
        };
        self.hear(key, HolepunchMessage::Rendezvous(at(address))).into_iter().map(send).collect()
    }

    fn refusal(&mut self, key: u64, address: &str) -> HolepunchReason {
        match self.ask(key, address)[..] {
            [(to, HolepunchMessage::Error(named, reason))] if to == key && named == at(address) => reason,
            ref other => panic!("{other:?}"),
        }
    }

    fn lead(&mut self, key: u64, address: &str) -> bool {
        let actions = self.hear(key, HolepunchMessage::Connect(at(address)));
        assert!(actions.is_empty() || actions == [HolepunchAction::Dial(at(address))], "{actions:?}");
        !actions.is_empty()
    }
}

#[test]
fn a_relay_leads_both_to_where_it_sees_the_other() {
    let mut relay = Torrent::new().with(1, "8.0.0.1:5001").with(2, "8.0.0.2:5002");
    let led = [(2, HolepunchMessage::Connect(at("8.0.0.1:5001"))), (1, HolepunchMessage::Connect(at("8.0.0.2:5002")))];
    assert_eq!(relay.ask(1, "8.0.0.2:5002"), led);
    assert_eq!(relay.ask(1, "8.0.0.2:1000"), led, "who knows it by the port it listens on is led to the one it has");
}

#[test]
fn a_relay_says_why_it_leads_to_nobody() {
    let mut relay = Torrent::new().with(1, "8.0.0.1:5001").with(2, "8.0.0.2:5002").with(3, "10.0.0.3:5003");
    relay.punch.join(PeerKey(4), Contact { address: at("8.0.0.4:4"), dialled: true, utp: false });
    let hello = ExtensionHandshake { your_ip: Some([9, 9, 9, 9].into()), ..Default::default() };
    relay.punch.on_hello(PeerKey(1), &hello);
    assert_eq!(relay.refusal(1, "8.0.0.2:5003"), HolepunchReason::NotConnected);
    assert_eq!(relay.refusal(1, "8.0.0.4:4"), HolepunchReason::NoSupport);
    assert_eq!(relay.refusal(1, "8.0.0.2:0"), HolepunchReason::NoSuchPeer);
    assert_eq!(relay.refusal(1, "8.0.0.1:5001"), HolepunchReason::NoSuchPeer, "itself");
    assert_eq!(relay.refusal(1, "9.9.9.9:8421"), HolepunchReason::NoSelf);
    assert_eq!(relay.refusal(1, "10.0.0.3:5003"), HolepunchReason::NotConnected, "of a house that it is not in");
    assert_eq!(relay.refusal(3, "8.0.0.1:5001"), HolepunchReason::NotConnected, "who could not be answered");
}

#[test]
fn of_two_families_none_is_led_to_the_other() {
    let mut relay = Torrent::new().with(1, "8.0.0.1:5001").with(2, "[2001:db8::2]:2").with(3, "[2001:db8::3]:3");
    assert_eq!(relay.refusal(1, "[2001:db8::2]:2"), HolepunchReason::NotConnected);
    assert_eq!(relay.ask(2, "[2001:db8::3]:3").len(), 2);
}

#[test]
fn a_peer_over_tcp_is_led_to_when_it_has_said_where_it_listens() {
    let mut relay = Torrent::new().with(1, "8.0.0.1:5001");
    relay.punch.join(PeerKey(2), Contact { address: at("8.0.0.2:61234"), dialled: false, utp: false });
    let hello = ExtensionHandshake { ut_holepunch: Some(ID), ..Default::default() };
    relay.punch.on_hello(PeerKey(2), &hello);
    assert_eq!(relay.refusal(1, "8.0.0.2:61234"), HolepunchReason::NotConnected);
    relay.punch.on_hello(PeerKey(2), &ExtensionHandshake { listen_port: Some(6881), ..hello });
    assert_eq!(relay.ask(1, "8.0.0.2:6881")[1], (1, HolepunchMessage::Connect(at("8.0.0.2:6881"))));
}

#[test]
fn a_torrent_that_may_be_private_relays_nobody() {
    let mut relay = Torrent::new().with(1, "8.0.0.1:1").with(2, "8.0.0.2:2");
    let message = HolepunchMessage::Rendezvous(at("8.0.0.2:2")).encode();
    assert_eq!(relay.punch.on_message(relay.now, PeerKey(1), &message, false), Ok(Vec::new()));
}

#[test]
fn a_relay_that_is_flooded_answers_ten_a_minute_and_leads_one_peer_to_ten() {
    let mut relay = Torrent::new().with(100, "8.0.1.0:1");
    for key in 0..12 {
        relay = relay.with(key, &format!("8.0.0.{key}:1"));
    }
    let answered = (0..15).filter(|_| !relay.ask(0, "8.9.9.9:1").is_empty()).count();
    assert_eq!(answered, 10);
    let led = (1..12).filter(|key| !relay.ask(*key, "8.0.1.0:1").is_empty()).count();
    assert_eq!(led, 10, "the eleventh stranger is one too many");
    relay.now += Duration::from_secs(60);
    assert_eq!(relay.ask(0, "8.0.1.0:1").len(), 2);
}

#[test]
fn relays_are_asked_one_after_the_other_first_those_who_say_that_it_can_be_done() {
    let target = "8.0.0.9:9";
    let mut us = Torrent::new().with(1, "8.0.0.1:1").with(2, "8.0.0.2:2").with(3, "8.0.0.3:3");
    assert_eq!(us.seek(target), None, "nobody told of it");
    us = us.told(1, target, 0).told(2, target, FLAG_HOLEPUNCH).told(3, "8.0.0.8:8", FLAG_HOLEPUNCH);
    assert_eq!(us.seek(target), Some(2));
    assert_eq!(us.seek(target), None, "that one may still answer");
    let refused = HolepunchMessage::Error(at(target), HolepunchReason::NotConnected);
    assert!(us.hear(1, refused).is_empty(), "who was not asked cannot refuse");
    let next = us.hear(2, refused);
    let message = HolepunchMessage::Rendezvous(at(target));
    assert_eq!(next, [HolepunchAction::Send { to: PeerKey(1), id: ID, message }]);
    us.now += ANSWER_WITHIN;
    assert_eq!(us.seek(target), None, "both were asked");
    us.now += FORGOTTEN_AFTER;
    assert_eq!(us.seek(target), Some(2), "much may have changed");
}

#[test]
fn a_relay_that_is_silent_is_followed_by_the_next() {
    let target = "8.0.0.9:9";
    let mut us = Torrent::new().with(1, "8.0.0.1:1").with(2, "8.0.0.2:2").told(1, target, 0).told(2, target, 0);
    assert_eq!(us.seek(target), Some(1));
    us.now += ANSWER_WITHIN;
    assert_eq!(us.seek(target), Some(2));
}

#[test]
fn whom_we_asked_for_is_dialled_where_the_relay_sees_it() {
    let mut us = Torrent::new().with(1, "8.0.0.1:1").told(1, "8.0.0.9:9", FLAG_HOLEPUNCH);
    assert_eq!(us.seek("8.0.0.9:9"), Some(1));
    assert!(us.lead(1, "8.0.0.9:61234"));
    assert_eq!(us.seek("8.0.0.9:9"), Some(1), "it may be sought again later");
}

#[test]
fn who_asked_for_us_is_dialled_within_bounds() {
    let mut us = Torrent::new();
    for key in 0..5 {
        us = us.with(key, &format!("8.0.0.{key}:1"));
    }
    let led = |us: &mut Torrent, key: u64| (1..=20).filter(|n| us.lead(key, &format!("8.1.{key}.{n}:1"))).count();
    let counts: Vec<_> = (0..5).map(|key| led(&mut us, key)).collect();
    assert_eq!(counts, [10, 10, 10, 0, 0], "ten by each relay, thirty by all");
    us.now += Duration::from_secs(60);
    assert!(us.lead(4, "8.1.1.1:1"));
}

#[test]
fn a_stranger_cannot_lead_us_into_our_own_house() {
    let mut us = Torrent::new().with(1, "8.0.0.1:1").with(2, "10.0.0.2:1");
    for inside in ["127.0.0.1:22", "10.0.0.1:80", "[::ffff:127.0.0.1]:22", "0.0.0.0:1", "8.0.0.9:0", "8.0.0.1:1"] {
        let message = HolepunchMessage::Connect(at(inside)).encode();
        assert_eq!(us.punch.on_message(us.now, PeerKey(1), &message, true), Ok(Vec::new()), "{inside}");
    }
    assert!(us.lead(2, "10.0.0.1:80"), "who is in it can");
}

#[test]
fn who_does_not_know_the_extension_or_left_is_not_heard() {
    let mut us = Torrent::new().with(1, "8.0.0.1:1").with(2, "8.0.0.2:2");
    us.punch.join(PeerKey(3), Contact { address: at("8.0.0.3:3"), dialled: true, utp: true });
    assert!(!us.lead(3, "8.0.0.9:9") && us.ask(3, "8.0.0.1:1").is_empty());
    us.punch.leave(PeerKey(2));
    assert_eq!(us.refusal(1, "8.0.0.2:2"), HolepunchReason::NotConnected);
}

proptest! {
    #[test]
    fn whatever_a_crowd_says_the_bounds_hold(steps in proptest::collection::vec((0u64..8, 0u8..4, 0u8..12, 0u64..3), 0..400)) {
        let mut us = Torrent::new();
        for key in 0..8 {
            us = us.with(key, &format!("8.0.0.{key}:1"));
        }
        let mut dials = Vec::new();
        for (key, kind, target, later) in steps {
            us.now += Duration::from_secs(later);
            let address = at(&format!("8.0.0.{target}:1"));
            us.punch.on_told(PeerKey(key), &[PexPeer { address, flags: target }]);
            let actions = match kind {
                0 => us.hear(key, HolepunchMessage::Rendezvous(address)),
                1 => us.hear(key, HolepunchMessage::Connect(address)),
                2 => us.hear(key, HolepunchMessage::Error(address, HolepunchReason::NoSupport)),
                _ => us.punch.seek(us.now, address).into_iter().collect(),
            };
            for action in actions {
                match action {
                    HolepunchAction::Dial(_) => dials.push(us.now),
                    HolepunchAction::Send { to, message, .. } => {
                        let receiver = at(&format!("8.0.0.{}:1", to.0));
                        prop_assert!(message.address() != receiver || key == to.0, "nobody is led to itself");
                    }
                }
            }
            let recent = dials.iter().filter(|at| **at + Duration::from_secs(60) > us.now).count();
            prop_assert!(recent <= 2 * DIALS_A_MINUTE as usize);
            prop_assert!(us.punch.sought.len() <= MAX_SOUGHT);
            prop_assert!(us.punch.sought.values().all(|sought| sought.asked.len() <= MAX_RELAYS));
        }
    }
}
