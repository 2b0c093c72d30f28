use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::testing::{hash, offer_id, peer, sdp, secs, start};
use proptest::prelude::*;

const US: PeerId = peer(1);
const THEM: PeerId = peer(2);

/// A signaller, its tracker and its shell, all played by the story.
struct World {
    signaller: Signaller,
    now: Instant,
}

impl World {
    fn new(left: Option<u64>) -> Self {
        let progress = Progress { left, ..Progress::default() };
        let config = SignallerConfig { infohash: hash(7), peer_id: US, progress, seed: 1 };
        Self { signaller: Signaller::new(config), now: start() }
    }

    /// Connected, with so many peers wanted, and its first announce replied to.
    fn joined(wanted: usize) -> (Self, Vec<OfferId>) {
        let mut world = Self::new(Some(100));
        world.signaller.set_wanted(world.now, wanted);
        world.signaller.connected(world.now);
        world.make_offers();
        let sent = world.announce().offers.into_iter().map(|offer| offer.offer_id).collect();
        world.reply(120);
        (world, sent)
    }

    fn events(&mut self) -> Vec<SignalEvent> {
        std::iter::from_fn(|| self.signaller.poll_event()).collect()
    }

    fn sent(&mut self) -> Vec<ClientMessage> {
        std::iter::from_fn(|| self.signaller.poll_transmit()).collect()
    }

    fn announce(&mut self) -> Announce {
        match <[ClientMessage; 1]>::try_from(self.sent()) {
            Ok([ClientMessage::Announce(announce)]) => announce,
            other => panic!("not one announce: {other:?}"),
        }
    }

    /// Makes the offers that were asked for, and gives back their ids.
    fn make_offers(&mut self) -> Vec<OfferId> {
        let asked = |event| if let SignalEvent::MakeOffers(ids) = event { ids } else { Vec::new() };
        let ids: Vec<OfferId> = self.events().into_iter().flat_map(asked).collect();
        let offers = ids.iter().map(|id| ClientOffer { offer_id: id.clone(), sdp: sdp("offer") }).collect();
        self.signaller.offers_ready(self.now, offers);
        ids
    }

    fn reply(&mut self, interval: u64) {
        let announced = Announced { interval: Some(secs(interval)), ..Announced::new(hash(7)) };
        self.signaller.handle_input(self.now, ServerMessage::Announced(announced));
        self.events();
    }

    fn relayed(peer_id: PeerId, offer_id: &OfferId) -> Relayed {
        Relayed { infohash: hash(7), peer_id, offer_id: offer_id.clone(), sdp: sdp("theirs") }
    }

    fn answer(&mut self, peer_id: PeerId, offer_id: &OfferId) -> Vec<SignalEvent> {
        self.signaller.handle_input(self.now, ServerMessage::Answer(Self::relayed(peer_id, offer_id)));
        self.events()
    }

    fn offer(&mut self, peer_id: PeerId, id: &OfferId) -> Option<OfferKey> {
        self.signaller.handle_input(self.now, ServerMessage::Offer(Self::relayed(peer_id, id)));
        self.events()
            .into_iter()
            .find_map(|event| if let SignalEvent::Offered { key, .. } = event { Some(key) } else { None })
    }

    fn pass(&mut self, seconds: u64) {
        self.now += secs(seconds);
        self.signaller.handle_timeout(self.now);
    }

    fn next(&self) -> (Duration, &'static str) {
        let (at, reason) = self.signaller.poll_timeout().unwrap();
        (at - self.now, reason)
    }
}

fn dropped(events: &[SignalEvent]) -> Vec<(OfferId, DropReason)> {
    let pick = |event: &SignalEvent| {
        if let SignalEvent::DropOffer { offer_id, reason } = event { Some((offer_id.clone(), *reason)) } else { None }
    };
    events.iter().filter_map(pick).collect()
}

#[test]
fn started_goes_out_with_the_offers_once_the_socket_is_open() {
    let mut world = World::new(None);
    world.signaller.set_wanted(world.now, 30);
    assert!(world.events().is_empty() && world.signaller.poll_timeout().is_none(), "nothing without a socket");
    world.signaller.connected(world.now);
    assert!(world.sent().is_empty(), "it waits for offers");
    let ids = world.make_offers();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 5);
    let announce = world.announce();
    assert_eq!((announce.event, announce.left, announce.numwant), (AnnounceEvent::Started, None, Some(5)));
    assert_eq!(announce.offers.into_iter().map(|offer| offer.offer_id).collect::<Vec<_>>(), ids);
}

#[test]
fn who_wants_nobody_announces_without_offers() {
    let mut world = World::new(Some(0));
    world.signaller.connected(world.now);
    let announce = world.announce();
    assert_eq!((announce.event, announce.offers.len(), announce.numwant), (AnnounceEvent::Started, 0, Some(0)));
    assert!(world.events().is_empty());
}

#[test]
fn slow_offers_do_not_hold_up_the_announce_and_follow_it() {
    let mut world = World::new(Some(1));
    world.signaller.set_wanted(world.now, 2);
    world.signaller.connected(world.now);
    let asked = world.events();
    assert_eq!(world.next(), (OFFER_PATIENCE, "no offers in time"));
    world.now += OFFER_PATIENCE;
    world.signaller.handle_timeout(world.now);
    assert!(world.announce().offers.is_empty());
    world.reply(120);
    world.signaller.events.extend(asked);
    world.make_offers();
    let late = world.announce();
    assert_eq!((late.event, late.offers.len()), (AnnounceEvent::Interval, 2));
}

#[test]
fn offers_made_too_late_or_unasked_are_dropped() {
    let mut world = World::new(Some(1));
    world.signaller.set_wanted(world.now, 2);
    world.signaller.connected(world.now);
    let asked = world.events();
    world.pass(11);
    world.sent();
    world.signaller.events.extend(asked);
    let ids = world.make_offers();
    let late: Vec<_> = ids.into_iter().map(|id| (id, DropReason::NotWanted)).collect();
    assert_eq!(dropped(&world.events()), late);
    assert!(world.sent().is_empty());
}

#[test]
fn the_trackers_interval_is_kept_within_reason() {
    for (said, want) in [(120, 120), (0, 15), (5, 15), (1_000_000, 3600)] {
        let (mut world, _) = World::joined(0);
        world.pass(120);
        world.announce();
        world.reply(said);
        assert_eq!(world.next(), (secs(want), "announce"));
        world.pass(want);
        assert_eq!(world.announce().event, AnnounceEvent::Interval);
    }
}

#[test]
fn peers_wanted_again_are_asked_for_as_soon_as_the_tracker_allows() {
    let (mut world, _) = World::joined(0);
    world.pass(5);
    world.signaller.set_wanted(world.now, 3);
    assert_eq!(world.next(), (secs(10), "announce"));
    world.signaller.set_wanted(world.now, 4);
    world.pass(10);
    assert_eq!(world.make_offers().len(), 4);
    assert_eq!(world.announce().offers.len(), 4);
}

#[test]
fn a_swarm_that_takes_every_offer_is_asked_again_early() {
    let (mut world, sent) = World::joined(30);
    for (n, id) in (10..).zip(&sent) {
        world.answer(peer(n), id);
    }
    assert_eq!(world.next(), (MIN_INTERVAL, "announce"));
}

#[test]
fn a_refused_or_unanswered_announce_is_repeated_ever_later() {
    let (mut world, _) = World::joined(0);
    world.pass(120);
    let mut pauses = Vec::new();
    for round in 0..9 {
        world.announce();
        if round % 2 == 0 {
            world.pass(20);
            assert_eq!(world.events(), [SignalEvent::Refused("no answer".into())]);
        } else {
            let failure = ServerMessage::Failure { reason: "no".into(), infohash: Some(hash(7)) };
            world.signaller.handle_input(world.now, failure);
            assert_eq!(world.events(), [SignalEvent::Refused("no".into())]);
        }
        pauses.push(world.next().0.as_secs_f32());
        world.signaller.announce_now(world.now);
        world.now += world.next().0;
        world.signaller.handle_timeout(world.now);
    }
    assert!((22.5..=37.5).contains(&pauses[0]) && (45.0..=75.0).contains(&pauses[1]), "{pauses:?}");
    assert!((2700.0..=4500.0).contains(&pauses[8]), "{pauses:?}");
}

#[test]
fn a_reply_that_nothing_asked_for_postpones_nothing() {
    let (mut world, _) = World::joined(0);
    world.pass(100);
    world.reply(3600);
    assert_eq!(world.next(), (secs(20), "announce"));
    let failure = ServerMessage::Failure { reason: "that offer is gone".into(), infohash: Some(hash(7)) };
    world.signaller.handle_input(world.now, failure);
    assert_eq!(world.next(), (secs(20), "announce"));
}

#[test]
fn completion_is_told_once_and_never_by_who_started_complete() {
    let (mut world, _) = World::joined(0);
    world.pass(3);
    world.signaller.complete(world.now);
    let told = world.announce();
    assert_eq!((told.event, told.left), (AnnounceEvent::Completed, Some(0)));
    world.reply(120);
    world.signaller.complete(world.now);
    assert!(world.sent().is_empty());
    world.pass(120);
    assert_eq!(world.announce().event, AnnounceEvent::Interval);

    let mut seed = World::new(Some(0));
    seed.signaller.connected(seed.now);
    assert_eq!(seed.announce().event, AnnounceEvent::Started);
    seed.reply(120);
    seed.signaller.complete(seed.now);
    assert!(seed.sent().is_empty());
}

#[test]
fn completion_during_an_announce_is_told_after_its_reply() {
    let mut world = World::new(Some(1));
    world.signaller.connected(world.now);
    world.announce();
    world.signaller.complete(world.now);
    assert!(world.sent().is_empty());
    world.reply(120);
    assert_eq!(world.announce().event, AnnounceEvent::Completed);
}

#[test]
fn an_answer_is_matched_once() {
    let (mut world, sent) = World::joined(5);
    let accepted = SignalEvent::Answered { offer_id: sent[0].clone(), peer_id: THEM, sdp: sdp("theirs") };
    assert_eq!(world.answer(THEM, &sent[0]), [accepted]);
    assert!(world.answer(THEM, &sent[0]).is_empty(), "a second answer");
    assert!(world.answer(THEM, &offer_id(99)).is_empty(), "an unknown offer");
    assert!(world.answer(US, &sent[1]).is_empty(), "our own voice");
    let other = Relayed { infohash: hash(8), ..World::relayed(THEM, &sent[1]) };
    world.signaller.handle_input(world.now, ServerMessage::Answer(other));
    assert!(world.events().is_empty(), "another torrent");
    let stats = world.signaller.stats();
    assert_eq!((stats.offers_sent, stats.answers_accepted, stats.answers_ignored), (5, 1, 3));
}

#[test]
fn an_offer_expires_after_a_minute_and_its_answer_comes_too_late() {
    let (mut world, sent) = World::joined(2);
    assert_eq!(world.next(), (OFFER_LIFE, "an offer expires"));
    world.now += OFFER_LIFE;
    let events = world.answer(THEM, &sent[0]);
    let mut expected: Vec<_> = sent.iter().map(|id| (id.clone(), DropReason::Expired)).collect();
    expected.sort();
    assert_eq!(dropped(&events), expected);
    assert_eq!(events.len(), 2, "and no answer: {events:?}");
}

#[test]
fn a_lost_socket_takes_its_offers_along() {
    let (mut world, sent) = World::joined(2);
    let key = world.offer(THEM, &offer_id(1)).unwrap();
    world.signaller.disconnected(world.now);
    assert_eq!(dropped(&world.events()).len(), 2);
    assert!(world.signaller.poll_timeout().is_none());
    assert!(!world.signaller.answer_ready(world.now, key, sdp("ours")), "there is nobody to say it to");
    world.signaller.connected(world.now);
    assert!(world.answer(THEM, &sent[0]).iter().all(|event| matches!(event, SignalEvent::MakeOffers(_))));
}

#[test]
fn a_new_socket_begins_with_started_whatever_was_said_before() {
    let (mut world, _) = World::joined(0);
    world.signaller.complete(world.now);
    world.sent();
    world.signaller.disconnected(world.now);
    world.pass(500);
    world.signaller.connected(world.now);
    let announce = world.announce();
    assert_eq!((announce.event, announce.left), (AnnounceEvent::Started, Some(0)));
}

#[test]
fn an_offer_is_answered_once_to_whom_it_came_from() {
    let (mut world, _) = World::joined(9);
    let key = world.offer(THEM, &offer_id(9)).unwrap();
    assert!(world.signaller.answer_ready(world.now, key, sdp("ours")));
    let expected = ClientAnswer {
        infohash: hash(7),
        peer_id: US,
        to_peer_id: THEM,
        offer_id: offer_id(9),
        sdp: sdp("ours"),
        tracker_id: None,
    };
    assert_eq!(world.sent(), [ClientMessage::Answer(expected)]);
    assert!(!world.signaller.answer_ready(world.now, key, sdp("again")));
    assert!(world.sent().is_empty());
}

#[test]
fn an_offer_left_without_our_answer_for_a_minute_is_forgotten() {
    let (mut world, _) = World::joined(1);
    world.answer(THEM, &offer_id(0));
    let key = world.offer(THEM, &offer_id(9)).unwrap();
    assert_eq!(world.offer(peer(3), &offer_id(10)), None, "no room for another");
    world.pass(60);
    world.sent();
    assert!(!world.signaller.answer_ready(world.now, key, sdp("ours")));
    assert!(world.offer(peer(3), &offer_id(10)).is_some(), "its place is free again");
}

#[test]
fn repeated_offers_our_own_and_those_past_the_room_are_passed_over() {
    let (mut world, _) = World::joined(2);
    let first = world.offer(THEM, &offer_id(9)).unwrap();
    assert_eq!(world.offer(THEM, &offer_id(9)), None);
    assert_eq!(world.offer(US, &offer_id(10)), None);
    assert!(world.offer(peer(3), &offer_id(9)).is_some(), "the same id from another is another offer");
    assert_eq!(world.offer(peer(4), &offer_id(11)), None);
    assert_eq!(world.signaller.stats().offers_ignored, 3);
    world.signaller.answer_failed(first);
    assert!(world.offer(peer(4), &offer_id(11)).is_some());
}

#[test]
fn an_answer_when_nobody_is_wanted_any_more_drops_its_offer() {
    let (mut world, sent) = World::joined(1);
    world.offer(THEM, &offer_id(9)).unwrap();
    let events = world.answer(peer(3), &sent[0]);
    assert_eq!(dropped(&events), [(sent[0].clone(), DropReason::NoRoom)]);
    assert_eq!(events.len(), 1);
}

#[test]
fn goodbye_is_said_once_and_nothing_after_it() {
    let (mut world, sent) = World::joined(2);
    world.signaller.stop(world.now);
    assert_eq!(dropped(&world.events()).len(), 2);
    assert!(!world.signaller.is_stopped());
    assert_eq!(world.announce().event, AnnounceEvent::Stopped);
    assert!(world.signaller.is_stopped());
    world.signaller.stop(world.now);
    world.pass(1000);
    world.reply(1);
    assert!(world.answer(THEM, &sent[0]).is_empty() && world.offer(THEM, &offer_id(1)).is_none());
    world.signaller.connected(world.now);
    assert!(world.sent().is_empty() && world.signaller.poll_timeout().is_none());

    let mut stranger = World::new(None);
    stranger.signaller.stop(stranger.now);
    assert!(stranger.signaller.is_stopped() && stranger.sent().is_empty(), "a tracker that never heard of us");
}

#[test]
fn a_tracker_id_is_given_back_and_warnings_are_passed_on() {
    let (mut world, _) = World::joined(9);
    let announced = Announced { tracker_id: Some("t".into()), warning: Some("soon".into()), ..Announced::new(hash(7)) };
    world.signaller.handle_input(world.now, ServerMessage::Announced(announced));
    assert_eq!(world.events()[0], SignalEvent::Warned("soon".into()));
    let key = world.offer(THEM, &offer_id(9)).unwrap();
    assert!(world.signaller.answer_ready(world.now, key, sdp("ours")));
    assert!(matches!(&world.sent()[0], ClientMessage::Answer(answer) if answer.tracker_id.as_deref() == Some("t")));
}

/// What a story of chance knows of each offer.
#[derive(Default)]
struct Model {
    /// Offers that were sent and can be answered, with the end of their life.
    open: BTreeMap<OfferId, Instant>,
    used: BTreeSet<OfferId>,
    wanted: usize,
    asked: Vec<OfferId>,
    incoming: Vec<OfferKey>,
}

proptest! {
    /// Any history: an offer is accepted at most once, only while it lives, only through its socket, and only when peers
    /// are wanted; each offer that was sent ends as answered or dropped; what is pending is bounded.
    #[test]
    fn offers_keep_their_promises(
        steps in proptest::collection::vec((0..12u8, any::<prop::sample::Index>(), 0..40u64), 1..200),
    ) {
        let mut world = World::new(Some(1));
        let mut model = Model::default();
        let mut connected = false;
        for (step, pick, number) in steps {
            let known: Vec<OfferId> = model.open.keys().chain(&model.used).cloned().collect();
            match step {
                0 => { world.signaller.connected(world.now); connected = true; }
                1 if number < 10 => { world.signaller.disconnected(world.now); connected = false; }
                2 => { model.wanted = (number % 8) as usize; world.signaller.set_wanted(world.now, model.wanted); }
                3 | 4 => world.pass(number),
                5 if !model.asked.is_empty() => {
                    let ids = std::mem::take(&mut model.asked);
                    let offers = ids.into_iter().map(|offer_id| ClientOffer { offer_id, sdp: sdp("x") }).collect();
                    world.signaller.offers_ready(world.now, offers);
                }
                6 | 7 if !known.is_empty() => {
                    let answer = World::relayed(THEM, pick.get(&known));
                    world.signaller.handle_input(world.now, ServerMessage::Answer(answer));
                }
                8 => {
                    let offer = World::relayed(THEM, &offer_id((number % 30) as u8));
                    world.signaller.handle_input(world.now, ServerMessage::Offer(offer));
                }
                9 if !model.incoming.is_empty() => {
                    let key = model.incoming.swap_remove(pick.index(model.incoming.len()));
                    let _ = world.signaller.answer_ready(world.now, key, sdp("x"));
                }
                10 => {
                    let announced = Announced { interval: Some(secs(number)), ..Announced::new(hash(7)) };
                    world.signaller.handle_input(world.now, ServerMessage::Announced(announced));
                }
                _ => world.signaller.announce_now(world.now),
            }
            for message in world.sent() {
                prop_assert!(connected, "nothing is said without a socket");
                if let ClientMessage::Announce(announce) = message {
                    prop_assert!(announce.offers.len() <= MAX_OFFERS_PER_ANNOUNCE);
                    for offer in announce.offers {
                        prop_assert!(!model.used.contains(&offer.offer_id));
                        model.open.insert(offer.offer_id, world.now + OFFER_LIFE);
                    }
                }
            }
            let mut accepted = 0;
            for event in world.events() {
                match event {
                    SignalEvent::MakeOffers(ids) => {
                        prop_assert!(connected);
                        model.asked = ids;
                    }
                    SignalEvent::Answered { offer_id, .. } => {
                        let expires = model.open.remove(&offer_id);
                        prop_assert!(connected && expires.is_some_and(|at| at > world.now));
                        prop_assert!(model.used.insert(offer_id));
                        accepted += 1;
                    }
                    SignalEvent::Offered { key, .. } => {
                        prop_assert!(connected);
                        model.incoming.push(key);
                        accepted += 1;
                    }
                    SignalEvent::DropOffer { offer_id, .. } => {
                        model.open.remove(&offer_id);
                        model.used.insert(offer_id);
                    }
                    SignalEvent::Announced { .. } | SignalEvent::Refused(_) | SignalEvent::Warned(_) => {}
                }
            }
            prop_assert!(accepted <= 1);
            prop_assert!(world.signaller.offers.pending() <= MAX_PENDING_OFFERS);
            prop_assert!(world.signaller.incoming.len() <= MAX_INCOMING_OFFERS);
            prop_assert!(model.open.values().all(|at| *at > world.now), "an offer outlived its life");
            if !connected {
                prop_assert!(model.open.is_empty(), "all that was sent ended with its socket");
            }
            // Whoever follows the timer gets somewhere.
            if let Some((at, reason)) = world.signaller.poll_timeout() {
                prop_assert!(at > world.now, "{reason} is due and was not done");
            }
        }
    }

    /// However often peers are wished for: no more than one announce in [`MIN_INTERVAL`], but for the offers that came
    /// too late for theirs and for completion.
    #[test]
    fn a_tracker_is_never_pestered(wishes in proptest::collection::vec((0..20u64, any::<bool>()), 1..100)) {
        let (mut world, _) = World::joined(0);
        let mut last = world.now;
        for (seconds, reply) in wishes {
            world.pass(seconds);
            world.signaller.announce_now(world.now);
            let sent = world.sent();
            prop_assert!(sent.len() <= 1);
            if !sent.is_empty() {
                prop_assert!(world.now - last >= MIN_INTERVAL);
                last = world.now;
            }
            if reply {
                world.reply(0);
            }
        }
    }
}
