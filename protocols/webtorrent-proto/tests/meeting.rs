//! Two clients and the gateway meet at the embedded tracker, through the frames that would cross their sockets.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;
use swarmgate_webtorrent_proto::message::{ClientOffer, Sdp, ServerMessage};
use swarmgate_webtorrent_proto::signaller::{Progress, SignalEvent, Signaller, SignallerConfig};
use swarmgate_webtorrent_proto::swarm_table::{Admission, SocketKey, SwarmTable, TableOptions};

const TORRENT: InfoHash = InfoHash::new([7; 20]);

/// A tracker and its clients, each of which makes every description at once: `offer of 1`, `answer of 2`.
struct World {
    now: Instant,
    table: SwarmTable,
    clients: BTreeMap<SocketKey, Signaller>,
    /// Who has whose description in hand.
    met: Vec<(SocketKey, String)>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
    fn new() -> Self {
        let mut table = SwarmTable::new(TableOptions::default(), Admission::default(), 1);
        table.admit(TORRENT);
        Self { now: Instant::now(), table, clients: BTreeMap::new(), met: Vec::new() }
    }

    fn join(&mut self, socket: SocketKey, number: u8, left: u64) {
        let progress = Progress { left: Some(left), ..Progress::default() };
        let peer_id = PeerId([number; 20]);
        let mut signaller =
            Signaller::new(SignallerConfig { infohash: TORRENT, peer_id, progress, seed: number.into() });
        signaller.set_wanted(self.now, 10);
        signaller.connected(self.now);
        self.clients.insert(socket, signaller);
        self.settle();
    }

    fn browser(&mut self, number: u8, left: u64) -> SocketKey {
        let socket = self.table.open_socket(self.now, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        self.join(socket, number, left);
        socket
    }

    fn settle(&mut self) {
        loop {
            let sockets: Vec<SocketKey> = self.clients.keys().copied().collect();
            sockets.into_iter().for_each(|socket| self.serve(socket));
            let Some((to, message)) = self.table.poll_transmit() else { break };
            let message = ServerMessage::parse(message.encode().as_bytes()).unwrap();
            self.clients.get_mut(&to).unwrap().handle_input(self.now, message);
        }
    }

    fn serve(&mut self, socket: SocketKey) {
        let signaller = self.clients.get_mut(&socket).unwrap();
        let say = |what: &str| Sdp::new(format!("{what} of {socket:?}")).unwrap();
        while let Some(event) = signaller.poll_event() {
            match event {
                SignalEvent::MakeOffers(ids) => {
                    let offers = ids.into_iter().map(|offer_id| ClientOffer { offer_id, sdp: say("offer") });
                    signaller.offers_ready(self.now, offers.collect());
                }
                SignalEvent::Offered { key, sdp, .. } => {
                    self.met.push((socket, sdp.into_string()));
                    assert!(signaller.answer_ready(self.now, key, say("answer")));
                }
                SignalEvent::Answered { sdp, .. } => self.met.push((socket, sdp.into_string())),
                SignalEvent::Announced { .. } => {}
                SignalEvent::DropOffer { .. } | SignalEvent::Refused(_) | SignalEvent::Warned(_) => {
                    panic!("{socket:?}: {event:?}")
                }
            }
        }
        while let Some(message) = signaller.poll_transmit() {
            self.table.handle_frame(self.now, socket, message.encode().as_bytes()).unwrap();
        }
    }
}

#[test]
fn each_newcomer_meets_everybody_who_is_there_at_once() {
    let mut world = World::new();
    let gateway = world.table.open_local();
    world.join(gateway, 1, 0);
    let leech = world.browser(2, 100);
    assert_eq!(world.met, [(gateway, format!("offer of {leech:?}")), (leech, format!("answer of {gateway:?}"))]);
    world.met.clear();
    let third = world.browser(3, 100);
    world.met.sort();
    let mut expected = vec![
        (gateway, format!("offer of {third:?}")),
        (leech, format!("offer of {third:?}")),
        (third, format!("answer of {gateway:?}")),
        (third, format!("answer of {leech:?}")),
    ];
    expected.sort();
    assert_eq!(world.met, expected);
    let stats = world.table.stats();
    assert_eq!((stats.offers_relayed, stats.answers_relayed, stats.refused), (3, 3, 0));
}

#[test]
fn who_leaves_is_met_by_nobody() {
    let mut world = World::new();
    let first = world.browser(1, 0);
    let now = world.now;
    world.clients.get_mut(&first).unwrap().stop(now);
    // The offers that nobody was there to take are dropped with the membership.
    while world.clients.get_mut(&first).unwrap().poll_event().is_some() {}
    world.settle();
    assert!(world.clients[&first].is_stopped());
    world.browser(2, 100);
    assert!(world.met.is_empty());
    assert_eq!(world.table.swarm_size(&TORRENT).complete, 0);
}

#[test]
fn members_that_keep_announcing_stay_for_hours() {
    let mut world = World::new();
    let gateway = world.table.open_local();
    world.join(gateway, 1, 0);
    let until = world.now + Duration::from_secs(4 * 3600);
    while world.now < until {
        let client = world.clients[&gateway].poll_timeout().unwrap().0;
        let table = world.table.poll_timeout().unwrap().0;
        world.now = client.min(table);
        world.table.handle_timeout(world.now);
        let signaller = world.clients.get_mut(&gateway).unwrap();
        signaller.handle_timeout(world.now);
        // Its offers expire: in this story nobody ever comes.
        let events: Vec<SignalEvent> = std::iter::from_fn(|| signaller.poll_event()).collect();
        for event in events {
            if let SignalEvent::MakeOffers(ids) = event {
                let offers =
                    ids.into_iter().map(|offer_id| ClientOffer { offer_id, sdp: Sdp::new("x".into()).unwrap() });
                signaller.offers_ready(world.now, offers.collect());
            }
        }
        world.settle();
        assert_eq!(world.table.swarm_size(&TORRENT).complete, 1);
    }
    let announces = world.clients[&gateway].stats().announces;
    assert!((115..=125).contains(&announces), "one in two minutes: {announces}");
}
