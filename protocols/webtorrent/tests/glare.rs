//! Two nodes that offer to each other at the same moment through one tracker: one connection is left, always.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::{EventBus, InfoHash, Protocol as _};
use swarmgate_egress::EgressPolicy;
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::directory::Entry;
use swarmgate_swarm::{Swarm, SwarmContext, SwarmHandle, SwarmOptions};
use swarmgate_webtorrent::rtc::RtcOptions;
use swarmgate_webtorrent::{WebTorrentOptions, WebTorrentProtocol};
use swarmgate_webtorrent_proto::message::{
    Announce, AnnounceEvent, Announced, ClientAnswer, ClientMessage, Relayed, ServerMessage,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::{CancellationToken, DropGuard};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// By then there is a connection, and but one.
const SOON: Duration = Duration::from_secs(1);
/// For so long it stays the only one.
const A_WHILE: Duration = Duration::from_millis(200);
/// How long the tracker keeps answers back in some rounds, so that both ends have answered.
const ANSWERS_LATE: Duration = Duration::from_millis(60);
const ROUNDS: u8 = 24;

// --- the story -------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn of_two_crossed_offers_one_connection_is_left_over_shared_ports() {
    cross_offers(|| vec![UdpSocket::bind((LOOPBACK, 0)).unwrap()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_crossed_offers_one_connection_is_left_over_sockets_of_their_own() {
    cross_offers(Vec::new).await;
}

async fn cross_offers(sockets: impl Fn() -> Vec<UdpSocket>) {
    let tracker = Tracker::start().await;
    let (near, far) = (Node::start(PeerId([1; 20]), sockets()).await, Node::start(PeerId([2; 20]), sockets()).await);
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let infohash = InfoHash::new([round; 20]);
        // Who comes first has no say in it.
        let (mut one, mut other) = (&near, &far);
        if round % 2 == 1 {
            std::mem::swap(&mut one, &mut other);
        }
        let members = [one.join(infohash, &tracker), other.join(infohash, &tracker)];
        let begun = tracker.crossed(infohash).await;
        let is_settled = || members.iter().all(|member| member.peers() == 1) && near.opens(1) && far.opens(1);
        while !is_settled() {
            let peers = members.each_ref().map(Member::peers);
            assert!(begun.elapsed() < SOON, "round {round}: {peers:?} peers; {}, {}", near.evidence(), far.evidence());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        slowest = slowest.max(begun.elapsed());
        let settled = Instant::now();
        while settled.elapsed() < A_WHILE {
            assert!(is_settled(), "round {round}: another came, or the only one went");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for member in members {
            member.leave().await;
        }
        eventually("the connection ends with its torrent", || near.opens(0) && far.opens(0)).await;
    }
    assert_eq!(tracker.crossings(), usize::from(ROUNDS), "offers did not cross");
    assert!(slowest < SOON);
    near.stop().await;
    far.stop().await;
}

/// A tab that crashed and was loaded anew keeps its peer id, and nobody has told us. Half a minute would pass until the
/// library gives the old connection up.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lost_its_end_without_a_word_is_met_again() {
    // The tracker of this story also relays an old offer, which loses by the ids.
    const NEAR: PeerId = PeerId([2; 20]);
    const FAR: PeerId = PeerId([1; 20]);
    let (tracker, infohash) = (Tracker::start().await, InfoHash::new([0; 20]));
    let near = Node::start(NEAR, Vec::new()).await;
    let member = near.join(infohash, &tracker);
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = tracker.address;
    let far = doomed.spawn(async move {
        let far = Node::start(FAR, Vec::new()).await;
        let member = far.join_at(infohash, address);
        (far, member)
    });
    let far = far.await.unwrap();
    tracker.crossed(infohash).await;
    eventually("they meet", || member.peers() == 1 && far.1.peers() == 1).await;
    doomed.shutdown_background();

    let begun = Instant::now();
    let again = Node::start(FAR, Vec::new()).await;
    let its_member = again.join(infohash, &tracker);
    eventually("they meet again", || its_member.peers() == 1 && member.peers() == 1).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "they met again after {:?}", begun.elapsed());
    member.leave().await;
    its_member.leave().await;
    near.stop().await;
    again.stop().await;
    // Its tasks are gone, so there is nothing to wait for.
    std::mem::forget(far);
}

// --- nodes -----------------------------------------------------------------------------------------------------------

struct Node {
    peer_id: PeerId,
    context: SwarmContext,
    protocol: Arc<WebTorrentProtocol>,
}

struct Member {
    handle: SwarmHandle,
    entry: Entry,
    swarm: Swarm,
}

impl Node {
    async fn start(peer_id: PeerId, sockets: Vec<UdpSocket>) -> Self {
        let store = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
        let context = SwarmContext::new(store, EventBus::new());
        let addresses = if sockets.is_empty() { vec![LOOPBACK] } else { Vec::new() };
        let rtc = RtcOptions {
            sockets,
            addresses,
            egress: EgressPolicy { allow_private: true },
            new_connections_per_second: 1000,
            ..RtcOptions::default()
        };
        let options = WebTorrentOptions {
            rtc,
            trackers: Vec::new(),
            hub: None,
            own_authorities: Vec::new(),
            max_connections_per_torrent: 5,
            max_peers_per_torrent: 5,
            uploads: true,
        };
        let protocol = WebTorrentProtocol::start(options, &context).unwrap();
        Self { peer_id, context, protocol }
    }

    /// Has a torrent active, which its only tracker is told.
    fn join(&self, infohash: InfoHash, tracker: &Tracker) -> Member {
        self.join_at(infohash, tracker.address)
    }

    fn join_at(&self, infohash: InfoHash, tracker: SocketAddr) -> Member {
        let options =
            SwarmOptions { max_partial_bytes: 1 << 20, upload_slots: 4, max_peers: 5, keep_behind_bytes: 0, seed: 1 };
        let (ends, _) = mpsc::channel(8);
        let swarm = Swarm::spawn(infohash, options, self.context.clone(), ends);
        let handle = swarm.handle().clone();
        let trackers = [vec![format!("ws://{tracker}")]];
        let entry = self.context.directory.enter(handle.clone(), self.peer_id, true, &trackers);
        Member { handle, entry, swarm }
    }

    fn evidence(&self) -> String {
        self.protocol.health().evidence
    }

    /// Whether it has so many connections, open or being opened.
    fn opens(&self, count: usize) -> bool {
        self.evidence().contains(&format!(" {count} connections"))
    }

    async fn stop(self) {
        self.protocol.shutdown(Instant::now() + Duration::from_secs(10)).await;
    }
}

impl Member {
    fn peers(&self) -> usize {
        *self.handle.peer_count().borrow()
    }

    async fn leave(self) {
        drop(self.entry);
        self.swarm.shutdown().await;
    }
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// --- a tracker that introduces everybody to everybody at once ------------------------------------------------------------

/// It waits until both members of a swarm have offered, and relays an offer each way at the same moment.
struct Tracker {
    address: SocketAddr,
    crossed: parking_lot::Mutex<mpsc::UnboundedReceiver<(InfoHash, Instant)>>,
    crossings: std::sync::atomic::AtomicUsize,
    _stop: DropGuard,
}

type Says = (mpsc::UnboundedSender<ServerMessage>, ClientMessage);

impl Tracker {
    async fn start() -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, all) = mpsc::unbounded_channel();
        let (told, crossed) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, heard.clone()));
            }
        }));
        tokio::spawn(stop.clone().run_until_cancelled_owned(introduce(all, told)));
        let crossed = parking_lot::Mutex::new(crossed);
        Self { address, crossed, crossings: 0.into(), _stop: stop.drop_guard() }
    }

    /// Waits until offers have crossed; tells when that was.
    async fn crossed(&self, infohash: InfoHash) -> Instant {
        let begun = Instant::now();
        loop {
            if let Ok((crossed, at)) = self.crossed.lock().try_recv() {
                assert_eq!(crossed, infohash);
                self.crossings.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return at;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody offers");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn crossings(&self) -> usize {
        self.crossings.load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, heard: mpsc::UnboundedSender<Says>) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (sender, mut outbox) = mpsc::unbounded_channel::<ServerMessage>();
    loop {
        tokio::select! {
            Some(message) = outbox.recv() => {
                if socket.send(Message::text(message.encode())).await.is_err() {
                    return;
                }
            }
            frame = next_text(&mut socket) => {
                let Some(text) = frame else { return };
                let message = ClientMessage::parse(text.as_bytes()).unwrap();
                if heard.send((sender.clone(), message)).is_err() {
                    return;
                }
            }
        }
    }
}

async fn next_text(socket: &mut WebSocketStream<TcpStream>) -> Option<String> {
    loop {
        if let Message::Text(text) = socket.next().await?.ok()? {
            return Some(text.as_str().to_owned());
        }
    }
}

async fn introduce(mut all: mpsc::UnboundedReceiver<Says>, crossed: mpsc::UnboundedSender<(InfoHash, Instant)>) {
    let mut swarms: BTreeMap<InfoHash, BTreeMap<PeerId, Says>> = BTreeMap::new();
    while let Some((socket, message)) = all.recv().await {
        match message {
            ClientMessage::Announce(announce) => {
                let infohash = announce.infohash;
                let reply = Announced { interval: Some(Duration::from_secs(3600)), ..Announced::new(infohash) };
                let _ = socket.send(ServerMessage::Announced(reply));
                let members = swarms.entry(infohash).or_default();
                if announce.event == AnnounceEvent::Stopped {
                    members.remove(&announce.peer_id);
                } else if !announce.offers.is_empty() {
                    members.insert(announce.peer_id, (socket, ClientMessage::Announce(announce)));
                    if members.len() == 2 {
                        cross(members);
                        crossed.send((infohash, Instant::now())).unwrap();
                    }
                }
            }
            ClientMessage::Answer(answer) => {
                let to = swarms[&answer.infohash].get(&answer.to_peer_id).map(|(to, _)| to.clone());
                // Promptly, or one end's late, or both.
                let late = match answer.infohash.as_bytes()[0] % 3 {
                    0 => false,
                    1 => answer.peer_id.0[0] == 1,
                    _ => true,
                };
                tokio::spawn(relay(to, answer, if late { ANSWERS_LATE } else { Duration::ZERO }));
            }
            ClientMessage::Scrape(_) => {}
        }
    }
}

fn cross(members: &BTreeMap<PeerId, Says>) {
    let offers = members.values().filter_map(|(_, message)| match message {
        ClientMessage::Announce(Announce { infohash, peer_id, offers, .. }) => {
            let offer = offers.first()?.clone();
            Some(Relayed { infohash: *infohash, peer_id: *peer_id, offer_id: offer.offer_id, sdp: offer.sdp })
        }
        ClientMessage::Answer(_) | ClientMessage::Scrape(_) => None,
    });
    for (offer, (to, _)) in offers.zip(members.values().rev()) {
        let _ = to.send(ServerMessage::Offer(offer));
    }
}

async fn relay(to: Option<mpsc::UnboundedSender<ServerMessage>>, answer: ClientAnswer, late: Duration) {
    tokio::time::sleep(late).await;
    let ClientAnswer { infohash, peer_id, offer_id, sdp, .. } = answer;
    if let Some(to) = to {
        let _ = to.send(ServerMessage::Answer(Relayed { infohash, peer_id, offer_id, sdp }));
    }
}
