//! Every limit, by its name.

use super::*;
use crate::message::Problem;

#[test]
fn sockets_of_one_host_and_in_all() {
    let mut world = World::new(TableOptions { max_sockets: 5, max_sockets_per_host: 3, ..TableOptions::default() });
    let first = world.open();
    world.open();
    world.open();
    let violation = world.table.open_socket(world.now, HOST).unwrap_err();
    assert_eq!(violation, Violation::SocketsPerHost { max: 3 });
    assert!(violation.closes());
    let mapped = "::ffff:198.51.100.1".parse().unwrap();
    assert!(world.table.open_socket(world.now, mapped).is_err(), "the same host");
    world.table.open_local();
    world.table.open_socket(world.now, "2001:db8::1".parse().unwrap()).unwrap();
    world.table.open_socket(world.now, "2001:db8:1::1".parse().unwrap()).unwrap();
    let other = "203.0.113.1".parse().unwrap();
    assert_eq!(world.table.open_socket(world.now, other), Err(Violation::Sockets { max: 5 }));
    world.table.close_socket(first);
    world.open();
    world.pass(secs(180));
    assert_eq!(world.idle().len(), 5);
    world.table.open_socket(world.now, other).unwrap();
}

#[test]
fn messages_a_second() {
    let mut world = World::default();
    let socket = world.open();
    let frame = ClientMessage::Scrape(Vec::new()).encode();
    for _ in 0..40 {
        world.table.handle_frame(world.now, socket, frame.as_bytes()).unwrap();
    }
    assert_eq!(world.sent().len(), 40);
    let too_fast = world.table.handle_frame(world.now, socket, frame.as_bytes()).unwrap_err();
    assert_eq!(too_fast, Violation::Rate { per_second: 10, relentless: false });
    assert!(!too_fast.closes());
    assert!(world.sent().is_empty(), "saying so would cost as much again");
    world.pass(secs(1));
    world.table.handle_frame(world.now, socket, frame.as_bytes()).unwrap();
    let relentless = (0..100).find_map(|_| {
        let refused = world.table.handle_frame(world.now, socket, frame.as_bytes()).err();
        refused.filter(Violation::closes)
    });
    assert_eq!(relentless, Some(Violation::Rate { per_second: 10, relentless: true }));
}

#[test]
fn the_size_of_a_message_and_garbage() {
    let mut world = World::default();
    let socket = world.open();
    let long = vec![b' '; MAX_MESSAGE_BYTES + 1];
    let too_long = world.table.handle_frame(world.now, socket, &long).unwrap_err();
    assert!(matches!(&too_long, Violation::Message(error) if error.problem == Problem::TooLong(65_537)));
    assert!(too_long.closes() && too_long.limit() == "message");
    assert!(world.table.handle_frame(world.now, socket, b"\x16\x03\x01").unwrap_err().closes());
    world.sent();
    let eleven = announce(1, 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).encode();
    let too_many = world.table.handle_frame(world.now, socket, eleven.as_bytes()).unwrap_err();
    assert_eq!(too_many.to_string(), "`offers` has 11 items, more than 10");
    assert!(!too_many.closes());
    let told = ServerMessage::Failure { reason: too_many.to_string(), infohash: Some(hash(7)) };
    assert_eq!(world.sent(), [(socket, told)], "which the client can tell its user");
    assert_eq!(world.size(), (0, 0));
}

#[test]
fn the_size_of_a_session_description() {
    let mut world = World::default();
    let socket = world.open();
    let long = format!(r#""sdp":"{}""#, "s".repeat(8193));
    let frame = announce(1, 0, &[1]).encode().replace(r#""sdp":"offer""#, &long);
    let violation = world.table.handle_frame(world.now, socket, frame.as_bytes()).unwrap_err();
    assert_eq!(violation.to_string(), "`offers[0].offer.sdp` has 8193 bytes, more than 8192");
    assert!(!violation.closes());
}

#[test]
fn torrents_of_one_socket() {
    let mut world = World::new(TableOptions { max_hashes_per_socket: 2, ..TableOptions::default() });
    let socket = world.open();
    let message = |n| ClientMessage::Announce(announcing(hash(n), 1, 0, &[]));
    world.say(socket, message(1)).unwrap();
    world.say(socket, message(2)).unwrap();
    let violation = world.say(socket, message(3)).unwrap_err();
    assert_eq!(violation, Violation::HashesPerSocket { max: 2 });
    assert!(!violation.closes());
    world.say(socket, message(1)).unwrap();
    let stopped = Announce { event: AnnounceEvent::Stopped, ..announcing(hash(1), 1, 0, &[]) };
    world.say(socket, ClientMessage::Announce(stopped)).unwrap();
    world.say(socket, message(3)).unwrap();
    let us = world.table.open_local();
    for n in 1..10 {
        world.say(us, message(n)).unwrap();
    }
}

#[test]
fn swarms_and_their_members() {
    let options = TableOptions { max_swarms: 2, max_members_per_swarm: 2, ..TableOptions::default() };
    let mut world = World::new(options);
    world.member(1, 0);
    let classic = classic(1, AnnounceEvent::Started);
    world.table.announce_classic(world.now, HOST, &classic).unwrap();
    let third = world.open();
    assert_eq!(world.say(third, announce(3, 0, &[])), Err(Violation::Members { max: 2 }));
    let other = ClassicAnnounce { port: 2, ..classic };
    assert_eq!(world.table.announce_classic(world.now, HOST, &other), Err(Violation::Members { max: 2 }));
    world.say(third, ClientMessage::Announce(announcing(hash(8), 3, 0, &[]))).unwrap();
    let swarms = Violation::Swarms { max: 2 };
    assert_eq!(world.say(third, ClientMessage::Announce(announcing(hash(9), 3, 0, &[]))), Err(swarms.clone()));
    let ninth = ClassicAnnounce { infohash: hash(9), ..classic };
    assert_eq!(world.table.announce_classic(world.now, HOST, &ninth), Err(swarms));
    assert_eq!(world.table.stats().refused, 4);
}

#[test]
fn ports_of_one_host() {
    let mut world = World::default();
    for port in 1..=32 {
        world.table.announce_classic(world.now, HOST, &classic(port, AnnounceEvent::Started)).unwrap();
    }
    let one_more = classic(33, AnnounceEvent::Started);
    assert_eq!(world.table.announce_classic(world.now, HOST, &one_more), Err(Violation::PortsPerHost));
    world.table.announce_classic(world.now, HOST, &classic(32, AnnounceEvent::Interval)).unwrap();
    world.table.announce_classic(world.now, "203.0.113.1".parse().unwrap(), &one_more).unwrap();
}

#[test]
fn offers_of_one_socket_without_an_answer() {
    let mut world = World::new(TableOptions { max_pending_offers_per_socket: 3, ..TableOptions::default() });
    let leech = world.member(1, 5);
    for n in 3..8 {
        world.member(n, 5);
    }
    let violation = world.say(leech, announce(1, 5, &[1, 2, 3, 4])).unwrap_err();
    assert_eq!(violation, Violation::PendingOffers { max: 3 });
    assert!(!violation.closes());
    assert_eq!(world.offers_sent().len(), 3, "the announce itself was taken");
    world.pass(secs(60));
    world.say(leech, announce(1, 5, &[5])).unwrap();
    let (to, offer) = world.offers_sent().remove(0);
    world.say(to, answer(2, 1, offer.offer_id)).unwrap();
    world.say(leech, announce(1, 5, &[6, 7, 8])).unwrap();
}

#[test]
fn offers_without_an_answer_in_all() {
    let mut world = World::new(TableOptions { max_pending_offers: 2, ..TableOptions::default() });
    let (leech, seed) = (world.member(1, 5), world.member(2, 0));
    for n in [1, 2, 3] {
        world.say(leech, announce(1, 5, &[n])).unwrap();
    }
    assert_eq!((world.offers_sent().len(), world.table.stats().pending_offers), (3, 2));
    assert_eq!(world.say(seed, answer(2, 1, offer_id(1))), Err(Violation::UnknownOffer), "the oldest gave way");
    world.say(seed, answer(2, 1, offer_id(2))).unwrap();
    world.say(seed, answer(2, 1, offer_id(3))).unwrap();
}

#[test]
fn an_offer_relayed_twice_by_the_same_name_waits_once() {
    let mut world = World::default();
    let (leech, seed) = (world.member(1, 5), world.member(2, 0));
    world.say(leech, announce(1, 5, &[1])).unwrap();
    world.pass(secs(59));
    world.say(leech, announce(1, 5, &[1])).unwrap();
    assert_eq!(world.offers_sent().len(), 1);
    world.say(seed, answer(2, 1, offer_id(1))).unwrap();
    world.say(leech, announce(1, 5, &[1])).unwrap();
    // The first one's time is over; this one's is not.
    world.pass(secs(1));
    world.say(seed, answer(2, 1, offer_id(1))).unwrap();
}

#[test]
fn every_violation_has_a_name_of_its_own() {
    let all = [
        Violation::UnknownSocket,
        Violation::Sockets { max: 1 },
        Violation::SocketsPerHost { max: 1 },
        Violation::Rate { per_second: 1, relentless: true },
        Violation::Message(Problem::TooLong(1).into()),
        Violation::NotAdmitted { infohash: hash(1) },
        Violation::HashesPerSocket { max: 1 },
        Violation::Swarms { max: 1 },
        Violation::Members { max: 1 },
        Violation::PortsPerHost,
        Violation::PendingOffers { max: 1 },
        Violation::UnknownOffer,
    ];
    assert_eq!(all.iter().map(Violation::limit).collect::<BTreeSet<_>>().len(), all.len());
}
