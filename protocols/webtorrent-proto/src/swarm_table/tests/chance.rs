//! Any history, against a model.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

/// Small limits, so that histories reach them.
fn tight() -> TableOptions {
    TableOptions {
        max_sockets: 8,
        max_sockets_per_host: 4,
        max_hashes_per_socket: 2,
        max_swarms: 3,
        max_members_per_swarm: 6,
        max_pending_offers: 12,
        max_pending_offers_per_socket: 6,
        ..TableOptions::default()
    }
}

/// An offer as it was relayed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    to: SocketKey,
    infohash: InfoHash,
    offerer: u8,
    offer_id: OfferId,
}

#[derive(Default)]
struct Model {
    /// With the host each came from.
    open: BTreeMap<SocketKey, u8>,
    closed: Vec<SocketKey>,
    /// When each was last heard.
    members: BTreeMap<(InfoHash, SocketKey), (Instant, bool)>,
    /// Whose each is, and until when it can be answered.
    sent: BTreeMap<Sent, (SocketKey, Instant)>,
}

impl Model {
    fn forget(&mut self, socket: SocketKey) {
        self.open.remove(&socket);
        self.closed.push(socket);
        self.members.retain(|(_, key), _| *key != socket);
        self.sent.retain(|sent, (from, _)| sent.to != socket && *from != socket);
    }

    fn expire(&mut self, now: Instant) {
        let timeout = tight().member_timeout();
        self.members.retain(|_, (seen, _)| *seen + timeout > now);
        self.sent.retain(|_, (_, until)| *until > now);
    }

    /// Offers to and of members only can still come to something.
    fn is_member(&self, infohash: InfoHash, socket: SocketKey) -> bool {
        self.members.contains_key(&(infohash, socket))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Open(u8),
    Close(prop::sample::Index),
    Announce {
        who: prop::sample::Index,
        hash: u8,
        left: u64,
        stop: bool,
        offers: Vec<u8>,
    },
    Answer {
        which: prop::sample::Index,
    },
    /// An answer by chance: mostly wrong.
    Forge {
        who: prop::sample::Index,
        which: prop::sample::Index,
        hash: u8,
        to: u8,
    },
    Pass(u64),
    Classic {
        port: u16,
        hash: u8,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => (0..3u8).prop_map(Step::Open),
        1 => index().prop_map(Step::Close),
        6 => (index(), 0..4u8, 0..2u64, prop::bool::weighted(0.1), proptest::collection::vec(any::<u8>(), 0..6))
            .prop_map(|(who, hash, left, stop, offers)| Step::Announce { who, hash, left, stop, offers }),
        4 => index().prop_map(|which| Step::Answer { which }),
        2 => (index(), index(), 0..4u8, 0..8u8).prop_map(|(who, which, hash, to)| Step::Forge { who, which, hash, to }),
        1 => (1..90u64).prop_map(Step::Pass),
        1 => (1..5u16, 0..4u8).prop_map(|(port, hash)| Step::Classic { port, hash }),
    ]
}

/// A socket's peer id is its place in the order of opening, so that an offer tells whose it is.
fn number(socket: SocketKey) -> u8 {
    u8::try_from(socket.0).expect("no history opens 256")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn offers_and_answers_go_where_they_belong(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut world = World::new(tight());
        let mut model = Model::default();
        for step in steps {
            let open: Vec<SocketKey> = model.open.keys().copied().collect();
            let pick = |index: &prop::sample::Index| (!open.is_empty()).then(|| *index.get(&open));
            // What may be answered by this step: by whom, and to whom the answer must go.
            let mut answered: Option<(SocketKey, SocketKey)> = None;
            let mut offered: Option<(SocketKey, usize)> = None;
            match step {
                Step::Open(host) => {
                    let address = IpAddr::from([198, 51, 100, host]);
                    let of_host = model.open.values().filter(|it| **it == host).count();
                    let full = open.len() >= 8 || of_host >= 4;
                    match world.table.open_socket(world.now, address) {
                        Ok(socket) => {
                            prop_assert!(!full && !model.closed.contains(&socket));
                            model.open.insert(socket, host);
                        }
                        Err(_) => prop_assert!(full),
                    }
                }
                Step::Close(who) => if let Some(socket) = pick(&who) {
                    world.table.close_socket(socket);
                    model.forget(socket);
                },
                Step::Announce { who, hash: n, left, stop, offers } => if let Some(socket) = pick(&who) {
                    let event = if stop { AnnounceEvent::Stopped } else { AnnounceEvent::Interval };
                    let announce = Announce { event, ..announcing(hash(n), number(socket), left, &offers) };
                    let result = world.say(socket, ClientMessage::Announce(announce));
                    if stop {
                        model.members.remove(&(hash(n), socket));
                    } else if matches!(result, Ok(()) | Err(Violation::PendingOffers { .. })) {
                        model.members.insert((hash(n), socket), (world.now, left == 0));
                    } else {
                        prop_assert!(!model.is_member(hash(n), socket), "{result:?}");
                    }
                    offered = Some((socket, offers.len()));
                },
                Step::Answer { which } => if !model.sent.is_empty() {
                    let index = which.index(model.sent.len());
                    let (sent, (from, _)) = model.sent.iter().nth(index).map(|(s, f)| (s.clone(), *f)).unwrap();
                    let message = ClientAnswer {
                        infohash: sent.infohash,
                        peer_id: peer(200),
                        to_peer_id: peer(sent.offerer),
                        offer_id: sent.offer_id.clone(),
                        sdp: sdp("x"),
                        tracker_id: None,
                    };
                    let result = world.say(sent.to, ClientMessage::Answer(message));
                    // An offer may have given way to newer ones; its maker may have left the swarm.
                    prop_assert!(matches!(result, Ok(()) | Err(Violation::UnknownOffer)));
                    if result.is_ok() {
                        answered = Some((sent.to, from));
                    }
                    model.sent.remove(&sent);
                },
                Step::Forge { who, which, hash: n, to } => if let Some(socket) = pick(&who) && !model.sent.is_empty() {
                    let index = which.index(model.sent.len());
                    let offer_id = model.sent.keys().nth(index).unwrap().offer_id.clone();
                    let forged = Sent { to: socket, infohash: hash(n), offerer: to, offer_id: offer_id.clone() };
                    let message = ClientAnswer {
                        infohash: hash(n),
                        peer_id: peer(number(socket)),
                        to_peer_id: peer(to),
                        offer_id,
                        sdp: sdp("x"),
                        tracker_id: None,
                    };
                    let result = world.say(socket, ClientMessage::Answer(message));
                    // By chance it may be a true one.
                    let truth = model.sent.remove(&forged);
                    prop_assert!(result.is_err() || truth.is_some(), "forged: {forged:?}");
                    if result.is_ok() {
                        answered = truth.map(|(from, _)| (socket, from));
                    }
                },
                Step::Pass(seconds) => {
                    world.pass(secs(seconds));
                    for socket in world.idle() {
                        model.forget(socket);
                    }
                }
                Step::Classic { port, hash: n } => {
                    let announce = ClassicAnnounce { infohash: hash(n), ..classic(port, AnnounceEvent::Started) };
                    let reply = world.table.announce_classic(world.now, HOST, &announce);
                    prop_assert!(reply.is_err() || reply.unwrap().peers.iter().all(|peer| peer.port() != port));
                }
            }
            model.expire(world.now);
            let mut asked = BTreeSet::new();
            for (to, message) in world.sent() {
                prop_assert!(model.open.contains_key(&to), "a closed socket was sent something");
                match message {
                    ServerMessage::Offer(offer) => {
                        let (from, _) = offered.expect("only an announce makes offers");
                        prop_assert!(to != from, "an offer went to its maker");
                        prop_assert!(asked.insert(to), "two offers of one announce went to one member");
                        prop_assert!(model.is_member(offer.infohash, to) && model.is_member(offer.infohash, from));
                        prop_assert_eq!(offer.peer_id, peer(number(from)));
                        let both = [from, to].map(|key| model.members[&(offer.infohash, key)].1);
                        prop_assert!(both != [true, true], "a seed was offered to a seed");
                        let sent = Sent { to, infohash: offer.infohash, offerer: number(from), offer_id: offer.offer_id };
                        model.sent.insert(sent, (from, world.now + RELAYED_OFFER_LIFE));
                    }
                    ServerMessage::Answer(answer) => {
                        let (by, maker) = answered.take().expect("an answer that nobody gave, or a second one");
                        prop_assert!(to == maker && to != by, "an answer went astray");
                        prop_assert!(model.is_member(answer.infohash, to));
                    }
                    ServerMessage::Announced(_) | ServerMessage::Failure { .. } => {
                        prop_assert_eq!(offered.map(|(who, _)| who), Some(to));
                    }
                    ServerMessage::Scraped(_) | ServerMessage::Warning { .. } => prop_assert!(false, "nobody asked"),
                }
            }
            prop_assert!(answered.is_none(), "an answer was taken and lost");
            prop_assert!(asked.len() <= offered.map_or(0, |(_, offers)| offers));
            check_sizes(&world, &model)?;
        }
    }
}

fn check_sizes(world: &World, model: &Model) -> Result<(), TestCaseError> {
    let (stats, limits) = (world.table.stats(), tight());
    prop_assert_eq!(stats.sockets, model.open.len());
    prop_assert_eq!(stats.web_members, model.members.len());
    prop_assert!(stats.swarms <= limits.max_swarms && stats.pending_offers <= limits.max_pending_offers);
    let mut all = 0;
    for n in 0..4 {
        let size = world.table.swarm_size(&hash(n));
        let of_swarm = model.members.iter().filter(|((infohash, _), _)| *infohash == hash(n));
        prop_assert_eq!(size.complete as usize, of_swarm.filter(|(_, (_, complete))| *complete).count());
        let members = size.complete as usize + size.incomplete as usize;
        prop_assert!(members <= limits.max_members_per_swarm);
        all += members;
    }
    prop_assert_eq!(all, stats.web_members + stats.classic_members);
    for socket in model.open.keys() {
        let of_socket = model.members.keys().filter(|(_, key)| key == socket).count();
        prop_assert!(of_socket <= limits.max_hashes_per_socket);
        prop_assert!(world.table.offers.count_from(*socket) <= limits.max_pending_offers_per_socket);
    }
    if let Some((at, reason)) = world.table.poll_timeout() {
        prop_assert!(at > world.now, "{reason} is due and was not done");
    }
    Ok(())
}
