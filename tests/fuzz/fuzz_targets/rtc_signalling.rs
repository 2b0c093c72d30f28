//! Any history of four clients and strangers at one tracker: no panic; nothing reaches a closed socket or its own sender;
//! an offer is answered once, and only through the socket it went out on; whoever follows the timers gets somewhere.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;
use swarmgate_webtorrent_proto::message::{ClientMessage, ClientOffer, OfferId, Sdp, ServerMessage};
use swarmgate_webtorrent_proto::signaller::{OfferKey, Progress, SignalEvent, Signaller, SignallerConfig};
use swarmgate_webtorrent_proto::swarm_table::{Admission, SocketKey, SwarmTable, TableEvent, TableOptions};

const CLIENTS: u8 = 4;
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Client {
    signaller: Signaller,
    socket: Option<SocketKey>,
    asked: Vec<OfferId>,
    offered: Vec<OfferKey>,
    /// Offers that went out through the socket it has now.
    open: BTreeSet<OfferId>,
}

struct World {
    now: Instant,
    table: SwarmTable,
    clients: Vec<Client>,
    /// A stranger's socket, which says what the input says.
    stranger: Option<SocketKey>,
    closed: BTreeSet<SocketKey>,
    /// Whose offer each is.
    makers: BTreeMap<OfferId, u8>,
}

fuzz_target!(|input: &[u8]| {
    let now = Instant::now();
    let options = TableOptions { max_pending_offers: 16, max_members_per_swarm: 4, ..TableOptions::default() };
    let clients = (0..CLIENTS).map(|n| Client {
        signaller: Signaller::new(SignallerConfig {
            infohash: InfoHash::new([n / 3; 20]),
            peer_id: PeerId([n; 20]),
            progress: Progress::default(),
            seed: n.into(),
        }),
        socket: None,
        asked: Vec::new(),
        offered: Vec::new(),
        open: BTreeSet::new(),
    });
    let mut world = World {
        now,
        table: SwarmTable::new(options, Admission::Any, 1),
        clients: clients.collect(),
        stranger: None,
        closed: BTreeSet::new(),
        makers: BTreeMap::new(),
    };
    let mut rest = input;
    while let [step, argument, after @ ..] = rest {
        rest = after;
        match step % 12 {
            11 => {
                let (frame, after) = rest.split_at(rest.len().min(usize::from(*argument) * 4));
                rest = after;
                world.strange(frame);
            }
            step => world.step(step, usize::from(argument % CLIENTS), *argument),
        }
        world.settle();
    }
});

fn sdp() -> Sdp {
    Sdp::new("v=0".to_owned()).expect("it is short")
}

impl World {
    fn step(&mut self, step: u8, who: usize, argument: u8) {
        let now = self.now;
        let client = &mut self.clients[who];
        match step {
            0 => self.connect(who),
            1 => self.disconnect(who),
            2 => client.signaller.set_wanted(now, usize::from(argument / 16)),
            3 => client.signaller.announce_now(now),
            4 => {
                let offers = std::mem::take(&mut client.asked).into_iter();
                let offers = offers.map(|offer_id| ClientOffer { offer_id, sdp: sdp() }).collect();
                client.signaller.offers_ready(now, offers);
            }
            5 => {
                if let Some(key) = client.offered.pop() {
                    let _ = client.signaller.answer_ready(now, key, sdp());
                }
            }
            6 => {
                if let Some(key) = client.offered.pop() {
                    client.signaller.answer_failed(key);
                }
            }
            7 => client.signaller.complete(now),
            8 if argument > 250 => client.signaller.stop(now),
            9 => self.pass(Duration::from_millis(u64::from(argument) * 10)),
            _ => self.pass(Duration::from_secs(argument.into())),
        }
    }

    fn connect(&mut self, who: usize) {
        self.disconnect(who);
        let socket = if who == 0 { Ok(self.table.open_local()) } else { self.table.open_socket(self.now, HOST) };
        self.clients[who].socket = socket.ok();
        if self.clients[who].socket.is_some() {
            self.clients[who].signaller.connected(self.now);
        }
    }

    fn disconnect(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.signaller.disconnected(self.now);
        client.open.clear();
        if let Some(socket) = client.socket.take() {
            self.table.close_socket(socket);
            self.closed.insert(socket);
        }
    }

    fn strange(&mut self, frame: &[u8]) {
        if self.stranger.is_none() {
            self.stranger = self.table.open_socket(self.now, HOST).ok();
        }
        let Some(socket) = self.stranger else { return };
        let refused = self.table.handle_frame(self.now, socket, frame);
        if refused.is_err_and(|violation| violation.closes()) {
            self.table.close_socket(socket);
            self.closed.insert(socket);
            self.stranger = None;
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.table.handle_timeout(self.now);
        for client in &mut self.clients {
            client.signaller.handle_timeout(self.now);
        }
    }

    /// Carries messages until nobody has more to say.
    fn settle(&mut self) {
        while self.from_clients() | self.from_table() {}
        let timers = self.clients.iter().filter_map(|client| client.signaller.poll_timeout());
        for (at, reason) in timers.chain(self.table.poll_timeout()) {
            // A frame may come before the timer that the passing of time asks for, never after it was served.
            assert!(at > self.now, "{reason} is due and was not done");
        }
    }

    fn from_clients(&mut self) -> bool {
        let mut busy = false;
        for who in 0..self.clients.len() {
            while let Some(event) = self.clients[who].signaller.poll_event() {
                self.happened(who, event);
            }
            while let Some(message) = self.clients[who].signaller.poll_transmit() {
                busy = true;
                self.say(who, &message);
            }
        }
        busy
    }

    fn happened(&mut self, who: usize, event: SignalEvent) {
        let client = &mut self.clients[who];
        match event {
            SignalEvent::MakeOffers(ids) => client.asked = ids,
            SignalEvent::Offered { key, .. } => client.offered.push(key),
            SignalEvent::Answered { offer_id, .. } => {
                assert!(client.open.remove(&offer_id), "answered twice or never sent")
            }
            SignalEvent::DropOffer { offer_id, .. } => _ = client.open.remove(&offer_id),
            SignalEvent::Announced { .. } | SignalEvent::Refused(_) | SignalEvent::Warned(_) => {}
        }
    }

    fn say(&mut self, who: usize, message: &ClientMessage) {
        let socket = self.clients[who].socket.expect("nothing is said without a socket");
        if let ClientMessage::Announce(announce) = message {
            for offer in &announce.offers {
                self.clients[who].open.insert(offer.offer_id.clone());
                self.makers.insert(offer.offer_id.clone(), announce.peer_id.0[0]);
            }
        }
        let _ = self.table.handle_frame(self.now, socket, message.encode().as_bytes());
    }

    fn from_table(&mut self) -> bool {
        let mut busy = false;
        while let Some((socket, message)) = self.table.poll_transmit() {
            busy = true;
            assert!(!self.closed.contains(&socket), "a closed socket was sent something");
            let Some(who) = self.clients.iter().position(|client| client.socket == Some(socket)) else { continue };
            let message = ServerMessage::parse(message.encode().as_bytes()).expect("what is sent can be read");
            match &message {
                ServerMessage::Offer(offer) if self.makers.contains_key(&offer.offer_id) => {
                    assert_ne!(usize::from(self.makers[&offer.offer_id]), who, "an offer came back to its maker");
                }
                ServerMessage::Answer(answer) => {
                    let maker = self.makers.get(&answer.offer_id);
                    assert_eq!(maker.map(|maker| usize::from(*maker)), Some(who), "an answer went astray");
                }
                _ => {}
            }
            self.clients[who].signaller.handle_input(self.now, message);
        }
        while let Some(TableEvent::CloseIdle(socket)) = self.table.poll_event() {
            self.closed.insert(socket);
            self.stranger = self.stranger.filter(|it| *it != socket);
            if let Some(who) = self.clients.iter().position(|client| client.socket == Some(socket)) {
                self.disconnect(who);
            }
        }
        busy
    }
}
