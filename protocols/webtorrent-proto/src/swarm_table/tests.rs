use super::*;
use crate::classic::ClassicAnnounce;
use crate::message::{ClientOffer, MAX_MESSAGE_BYTES, OfferId};
use crate::testing::{hash, offer_id, peer, sdp, secs, start};
use std::time::Duration;

mod chance;
mod limits;

const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

/// A tracker and the moment it is.
struct World {
    table: SwarmTable,
    now: Instant,
}

impl World {
    fn new(options: TableOptions) -> Self {
        Self { table: SwarmTable::new(options, Admission::Any, 1), now: start() }
    }

    fn open(&mut self) -> SocketKey {
        self.table.open_socket(self.now, HOST).unwrap()
    }

    /// A new socket that has announced itself.
    fn member(&mut self, peer_number: u8, left: u64) -> SocketKey {
        let socket = self.open();
        self.say(socket, announce(peer_number, left, &[])).unwrap();
        self.sent();
        socket
    }

    fn say(&mut self, socket: SocketKey, message: ClientMessage) -> Result<(), Violation> {
        self.table.handle_message(self.now, socket, message)
    }

    fn sent(&mut self) -> Vec<(SocketKey, ServerMessage)> {
        std::iter::from_fn(|| self.table.poll_transmit()).collect()
    }

    fn offers_sent(&mut self) -> Vec<(SocketKey, Relayed)> {
        let offer = |(to, message)| if let ServerMessage::Offer(offer) = message { Some((to, offer)) } else { None };
        self.sent().into_iter().filter_map(offer).collect()
    }

    fn answers_sent(&mut self) -> Vec<(SocketKey, Relayed)> {
        let answer =
            |(to, message)| if let ServerMessage::Answer(answer) = message { Some((to, answer)) } else { None };
        self.sent().into_iter().filter_map(answer).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.table.handle_timeout(self.now);
    }

    fn idle(&mut self) -> Vec<SocketKey> {
        std::iter::from_fn(|| self.table.poll_event()).map(|TableEvent::CloseIdle(socket)| socket).collect()
    }

    fn size(&self) -> (u32, u32) {
        let size = self.table.swarm_size(&hash(7));
        (size.complete, size.incomplete)
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new(TableOptions::default())
    }
}

fn announcing(infohash: InfoHash, peer_number: u8, left: u64, offers: &[u8]) -> Announce {
    let offer = |&n: &u8| ClientOffer { offer_id: offer_id(n), sdp: sdp("offer") };
    Announce {
        infohash,
        peer_id: peer(peer_number),
        event: AnnounceEvent::Started,
        uploaded: 0,
        downloaded: 0,
        left: Some(left),
        numwant: None,
        offers: offers.iter().map(offer).collect(),
        tracker_id: None,
    }
}

fn announce(peer_number: u8, left: u64, offers: &[u8]) -> ClientMessage {
    ClientMessage::Announce(announcing(hash(7), peer_number, left, offers))
}

fn event(peer_number: u8, left: Option<u64>, event: AnnounceEvent) -> ClientMessage {
    ClientMessage::Announce(Announce { event, left, ..announcing(hash(7), peer_number, 0, &[]) })
}

fn answer(peer_number: u8, to: u8, offer: OfferId) -> ClientMessage {
    ClientMessage::Answer(ClientAnswer {
        infohash: hash(7),
        peer_id: peer(peer_number),
        to_peer_id: peer(to),
        offer_id: offer,
        sdp: sdp("answer"),
        tracker_id: None,
    })
}

#[test]
fn an_announce_is_replied_to_with_the_sizes_and_when_to_come_again() {
    let mut world = World::default();
    world.member(1, 0);
    let socket = world.open();
    world.say(socket, announce(2, 5, &[])).unwrap();
    let announced =
        Announced { interval: Some(secs(120)), complete: Some(1), incomplete: Some(1), ..Announced::new(hash(7)) };
    assert_eq!(world.sent(), [(socket, ServerMessage::Announced(announced))]);
}

#[test]
fn two_strangers_meet() {
    let mut world = World::default();
    let (seed, leech) = (world.member(1, 0), world.member(2, 5));
    world.say(leech, announce(2, 5, &[9])).unwrap();
    let relayed = Relayed { infohash: hash(7), peer_id: peer(2), offer_id: offer_id(9), sdp: sdp("offer") };
    assert_eq!(world.offers_sent(), [(seed, relayed)]);
    world.say(seed, answer(1, 2, offer_id(9))).unwrap();
    let relayed = Relayed { infohash: hash(7), peer_id: peer(1), offer_id: offer_id(9), sdp: sdp("answer") };
    assert_eq!(world.sent(), [(leech, ServerMessage::Answer(relayed))]);
}

#[test]
fn the_gateway_in_the_same_process_is_a_member_like_any_other() {
    let mut world = World::default();
    let us = world.table.open_local();
    for n in 0..100 {
        world.table.handle_frame(world.now, us, announce(1, 0, &[n]).encode().as_bytes()).unwrap();
    }
    let browser = world.member(2, 5);
    world.say(us, announce(1, 0, &[3])).unwrap();
    assert_eq!(world.offers_sent().len(), 1);
    world.say(browser, answer(2, 1, offer_id(3))).unwrap();
    assert_eq!(world.answers_sent()[0].0, us);
    world.pass(secs(240));
    assert_eq!(world.idle(), [browser], "we are never idle");
}

#[test]
fn each_offer_goes_to_another_member_and_none_to_its_maker() {
    let mut world = World::default();
    let members: Vec<_> = (1..=6).map(|n| world.member(n, 5)).collect();
    world.say(members[0], announce(1, 5, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])).unwrap();
    let mut asked: Vec<_> = world.offers_sent().into_iter().map(|(to, _)| to).collect();
    asked.sort_unstable();
    assert_eq!(asked, members[1..], "five others, so five offers");
}

#[test]
fn everybody_has_a_turn_before_anybody_is_asked_again() {
    let mut world = World::default();
    let members: Vec<_> = (1..=21).map(|n| world.member(n, 5)).collect();
    for round in 0..4 {
        world.say(members[0], announce(1, 5, &[1, 2, 3, 4, 5].map(|n| n + round * 5))).unwrap();
    }
    let mut asked: Vec<_> = world.offers_sent().into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked.len(), 20);
    asked.sort_unstable();
    // Of 21 turns the maker's own is passed over, so at most one member has had two.
    asked.dedup();
    assert!(asked.len() >= 19, "{asked:?}");
}

#[test]
fn lots_differ_by_seed_and_repeat_with_it() {
    let order = |seed| {
        let mut world = World::default();
        world.table.random = StdRng::seed_from_u64(seed);
        let members: Vec<_> = (1..=11).map(|n| world.member(n, 5)).collect();
        world.say(members[0], announce(1, 5, &[1, 2, 3, 4, 5])).unwrap();
        world.offers_sent().into_iter().map(|(to, _)| to).collect::<Vec<_>>()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn seeds_are_not_offered_to_seeds_nor_a_client_to_itself_on_another_socket() {
    let mut world = World::default();
    let seed = world.member(1, 0);
    world.member(2, 0);
    world.member(1, 5);
    world.say(seed, announce(1, 0, &[1, 2])).unwrap();
    assert!(world.offers_sent().is_empty());
    let leech = world.member(3, 5);
    world.say(seed, announce(1, 0, &[3, 4])).unwrap();
    assert_eq!(world.offers_sent().into_iter().map(|(to, _)| to).collect::<Vec<_>>(), [leech]);
}

#[test]
fn an_answer_is_relayed_once() {
    let mut world = World::default();
    let (leech, seed) = (world.member(2, 5), world.member(1, 0));
    world.say(leech, announce(2, 5, &[9])).unwrap();
    world.say(seed, answer(1, 2, offer_id(9))).unwrap();
    assert_eq!(world.answers_sent().len(), 1);
    assert_eq!(world.say(seed, answer(1, 2, offer_id(9))), Err(Violation::UnknownOffer));
    assert!(world.sent().is_empty());
}

#[test]
fn nobody_answers_what_was_not_relayed_to_him() {
    let mut world = World::default();
    let (leech, seed) = (world.member(2, 5), world.member(1, 0));
    world.say(leech, announce(2, 5, &[9])).unwrap();
    world.sent();
    let stranger = world.open();
    assert_eq!(world.say(stranger, answer(1, 2, offer_id(9))), Err(Violation::UnknownOffer));
    assert_eq!(world.say(leech, answer(2, 2, offer_id(9))), Err(Violation::UnknownOffer));
    assert_eq!(world.say(seed, answer(1, 3, offer_id(9))), Err(Violation::UnknownOffer), "another's offer");
    assert_eq!(world.say(seed, answer(1, 2, offer_id(8))), Err(Violation::UnknownOffer), "another offer");
    assert!(world.sent().is_empty());
    // Some clients take a new peer id for each answer.
    world.say(seed, answer(77, 2, offer_id(9))).unwrap();
    assert_eq!(world.answers_sent()[0].1.peer_id, peer(77));
}

#[test]
fn an_offer_can_be_answered_for_a_minute() {
    let mut world = World::default();
    let (leech, seed) = (world.member(2, 5), world.member(1, 0));
    world.say(leech, announce(2, 5, &[9])).unwrap();
    world.pass(RELAYED_OFFER_LIFE - Duration::from_millis(1));
    world.say(leech, announce(2, 5, &[8])).unwrap();
    world.now += Duration::from_millis(1);
    assert_eq!(world.say(seed, answer(1, 2, offer_id(9))), Err(Violation::UnknownOffer));
    world.say(seed, answer(1, 2, offer_id(8))).unwrap();
}

#[test]
fn an_answer_to_one_who_has_left_goes_nowhere() {
    let mut world = World::default();
    let (leech, other, seed) = (world.member(2, 5), world.member(3, 5), world.member(1, 0));
    world.say(leech, announce(2, 5, &[9, 8])).unwrap();
    world.say(other, announce(3, 5, &[7, 6])).unwrap();
    world.sent();
    world.table.close_socket(leech);
    world.say(other, event(3, Some(5), AnnounceEvent::Stopped)).unwrap();
    world.sent();
    for (to, id) in [(2, 9), (2, 8), (3, 7), (3, 6)] {
        assert_eq!(world.say(seed, answer(1, to, offer_id(id))), Err(Violation::UnknownOffer));
    }
    assert!(world.sent().is_empty());
}

#[test]
fn a_closed_socket_is_sent_nothing_and_says_nothing() {
    let mut world = World::default();
    let (leech, seed) = (world.member(2, 5), world.member(1, 0));
    world.say(leech, announce(2, 5, &[9])).unwrap();
    world.table.close_socket(seed);
    assert!(world.sent().iter().all(|(to, _)| *to == leech), "the offer was on its way");
    assert_eq!(world.size(), (0, 1));
    assert_eq!(world.say(seed, announce(1, 0, &[])), Err(Violation::UnknownSocket));
    assert!(Violation::UnknownSocket.closes());
    world.table.close_socket(seed);
    assert!(world.sent().is_empty());
}

#[test]
fn sizes_follow_what_members_say() {
    let mut world = World::default();
    let socket = world.open();
    let mut after = |message| {
        world.say(socket, message).unwrap();
        let size = world.table.swarm_size(&hash(7));
        (size.complete, size.incomplete, size.downloaded)
    };
    assert_eq!(after(event(1, None, AnnounceEvent::Started)), (0, 1, 0), "unknown is not complete");
    assert_eq!(after(event(1, Some(3), AnnounceEvent::Interval)), (0, 1, 0));
    assert_eq!(after(event(1, None, AnnounceEvent::Completed)), (1, 0, 1));
    assert_eq!(after(event(1, None, AnnounceEvent::Interval)), (1, 0, 1), "nothing said, nothing changed");
    assert_eq!(after(event(1, Some(0), AnnounceEvent::Completed)), (1, 0, 1), "completed once");
    assert_eq!(after(event(1, Some(3), AnnounceEvent::Interval)), (0, 1, 1), "what was had can be evicted");
    assert_eq!(after(event(1, Some(0), AnnounceEvent::Interval)), (1, 0, 1));
    assert_eq!(after(event(1, Some(0), AnnounceEvent::Stopped)), (0, 0, 0), "the last one takes the swarm along");
    assert_eq!(after(event(1, Some(0), AnnounceEvent::Stopped)), (0, 0, 0));
}

#[test]
fn a_scrape_tells_sizes_and_nothing_of_what_is_unknown() {
    let mut world = World::default();
    let socket = world.member(1, 0);
    world.say(socket, ClientMessage::Scrape(vec![hash(7), hash(8)])).unwrap();
    let one = SwarmSize { complete: 1, incomplete: 0, downloaded: 0 };
    let expected = ServerMessage::Scraped(vec![(hash(7), one), (hash(8), SwarmSize::default())]);
    assert_eq!(world.sent(), [(socket, expected)]);
}

#[test]
fn a_silent_member_leaves_after_two_and_a_half_intervals() {
    let mut world = World::new(TableOptions { idle_timeout: secs(10_000), ..TableOptions::default() });
    let (first, _second) = (world.member(1, 0), world.member(2, 5));
    world.pass(secs(200));
    world.say(first, announce(1, 0, &[])).unwrap();
    world.sent();
    assert_eq!(world.table.poll_timeout(), Some((world.now + secs(100), "a member is silent")));
    world.pass(secs(99));
    assert_eq!(world.size(), (1, 1));
    world.pass(secs(1));
    assert_eq!(world.size(), (1, 0));
    world.pass(secs(200));
    assert_eq!(world.size(), (0, 0));
    assert_eq!(world.table.stats().swarms, 0);
}

#[test]
fn a_silent_socket_is_closed_after_three_minutes() {
    let mut world = World::default();
    let (silent, busy) = (world.member(1, 0), world.member(2, 5));
    world.pass(secs(100));
    world.say(busy, announce(2, 5, &[])).unwrap();
    assert_eq!(world.table.poll_timeout(), Some((world.now + secs(80), "a socket may be idle")));
    world.pass(secs(80));
    assert_eq!(world.idle(), [silent]);
    assert_eq!(world.size(), (0, 1));
    world.now += secs(99);
    world.say(busy, announce(2, 5, &[])).unwrap();
    // Late as a message may be, its sender is there.
    world.now += secs(500);
    world.say(busy, announce(2, 5, &[])).unwrap();
    assert!(world.idle().is_empty());
}

#[test]
fn a_tracker_serves_what_is_listed_and_changes_at_run_time() {
    let mut world = World::default();
    world.table.admission = Admission::default();
    let socket = world.open();
    let refused = Violation::NotAdmitted { infohash: hash(7) };
    assert_eq!(world.say(socket, announce(1, 0, &[])), Err(refused.clone()));
    assert!(!refused.closes());
    let told =
        ServerMessage::Failure { reason: "this tracker does not serve this torrent".into(), infohash: Some(hash(7)) };
    assert_eq!(world.sent(), [(socket, told)]);
    world.table.admit(hash(7));
    world.say(socket, announce(1, 0, &[])).unwrap();
    let classic = classic(1, AnnounceEvent::Started);
    world.table.announce_classic(world.now, HOST, &classic).unwrap();
    assert_eq!(world.size(), (1, 1));
    world.table.dismiss(&hash(7));
    let stats = world.table.stats();
    assert_eq!((stats.swarms, stats.web_members, stats.classic_members), (0, 0, 0));
    assert_eq!(world.say(socket, announce(1, 0, &[])), Err(refused.clone()));
    assert_eq!(world.table.announce_classic(world.now, HOST, &classic), Err(refused));
}

fn classic(port: u16, event: AnnounceEvent) -> ClassicAnnounce {
    ClassicAnnounce { infohash: hash(7), peer_id: peer(9), port, event, left: Some(1), numwant: None }
}

#[test]
fn classic_members_meet_each_other_and_nobody_else() {
    let mut world = World::default();
    let socket = world.member(1, 0);
    let mut announce_classic = |port, event| {
        let host = "::ffff:198.51.100.9".parse().unwrap();
        let reply = world.table.announce_classic(world.now, host, &classic(port, event)).unwrap();
        reply.peers.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
    };
    assert!(announce_classic(1, AnnounceEvent::Started).is_empty());
    assert_eq!(announce_classic(2, AnnounceEvent::Started), ["198.51.100.9:1"]);
    assert_eq!(announce_classic(1, AnnounceEvent::Interval), ["198.51.100.9:2"]);
    assert!(announce_classic(2, AnnounceEvent::Stopped).is_empty());
    assert!(announce_classic(1, AnnounceEvent::Interval).is_empty());
    assert_eq!(world.size(), (1, 1), "sizes count both kinds");
    world.say(socket, announce(1, 0, &[1, 2])).unwrap();
    assert!(world.offers_sent().is_empty(), "a classic member cannot answer");
    world.pass(secs(300));
    assert_eq!(world.table.stats().classic_members, 0);
}

#[test]
fn a_classic_client_gets_as_many_as_it_asks_for_by_lot() {
    let mut world = World::default();
    let localhost = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    for port in 1..=300 {
        world.table.announce_classic(world.now, localhost, &classic(port, AnnounceEvent::Started)).unwrap();
    }
    let mut ask = |numwant| {
        let announce = ClassicAnnounce { numwant, ..classic(1, AnnounceEvent::Interval) };
        let peers = world.table.announce_classic(world.now, localhost, &announce).unwrap().peers;
        assert!(peers.iter().all(|peer| peer.port() != 1), "never itself");
        assert_eq!(peers.iter().collect::<BTreeSet<_>>().len(), peers.len(), "nobody twice");
        peers
    };
    assert_eq!(ask(Some(0)).len(), 0);
    assert_eq!(ask(None).len(), DEFAULT_CLASSIC_PEERS);
    assert_eq!(ask(Some(100_000)).len(), MAX_CLASSIC_PEERS);
    assert_ne!(ask(Some(20)), ask(Some(20)));
}
