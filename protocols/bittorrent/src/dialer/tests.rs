use super::*;
use crate::inbound::{Inbound, InboundHandler, InboundLimits};
use crate::listener::{Binding, bind_tcp};
use crate::obfuscated::Encryption;
use crate::peer_stream::Carrier;
use crate::route::Route;
use std::sync::atomic::{AtomicUsize, Ordering};
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;
use swarmgate_egress::EgressPolicy;
use swarmgate_swarm::greeting::read_handshake;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

const TORRENT: InfoHash = InfoHash::new([1; 20]);
const US: PeerId = PeerId([7; 20]);
const THEM: PeerId = PeerId([8; 20]);
const SOON: Duration = Duration::from_secs(3);

struct World {
    dialer: TorrentDialer,
    found: mpsc::Sender<Found>,
    want: watch::Sender<usize>,
    peers: mpsc::Receiver<PeerStream>,
}

fn world(allow_private: bool, wanted: usize) -> World {
    world_with(allow_private, wanted, Duration::from_millis(200))
}

fn world_with(allow_private: bool, wanted: usize, handshake_timeout: Duration) -> World {
    let (found, found_receiver) = mpsc::channel(4);
    let (want, want_receiver) = watch::channel(wanted);
    let (peers_sender, peers) = mpsc::channel(4);
    let limits = DialLimits { handshake_timeout, ..DialLimits::default() };
    let dialer = TorrentDialer::spawn(DialerSetup {
        ours: Handshake::ours(TORRENT, US),
        upgrade: None,
        gate: PeerGate::new(EgressPolicy { allow_private }, Duration::from_secs(60)),
        limits,
        outbound: Arc::new(Outbound::new(Route::default(), Encryption::Off, None)),
        half_open: Arc::new(Semaphore::new(8)),
        stats: Arc::default(),
        found: found_receiver,
        want: want_receiver,
        peers: peers_sender,
        unreached: None,
    });
    World { dialer, found, want, peers }
}

impl World {
    async fn tell(&self, addresses: &[SocketAddr]) {
        let found = Found { source: PeerSource::Tracker, addresses: addresses.to_vec() };
        self.found.send(found).await.unwrap();
    }

    async fn until(&self, reached: impl Fn(&DialTally) -> bool) {
        let wait = async {
            while !reached(&self.dialer.tally()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, wait).await.unwrap();
    }
}

/// A peer that answers every handshake with one of its own.
struct Peer(Handshake);

impl InboundHandler for Peer {
    fn answer(&self, _: &Handshake, _: SocketAddr) -> Result<Handshake, HandshakeError> {
        Ok(self.0)
    }

    fn torrents(&self) -> Vec<InfoHash> {
        vec![self.0.infohash]
    }

    fn accept(&self, peer: PeerStream) {
        // Stays open as long as the other side does.
        tokio::spawn(async move {
            let mut peer = peer;
            let _ = read_handshake(&mut peer.stream).await;
        });
    }
}

fn loopback() -> TcpListener {
    bind_tcp(&Binding::new(SocketAddr::from(([127, 0, 0, 1], 0)), "test")).unwrap()
}

fn peer(infohash: InfoHash, id: PeerId) -> (Inbound, SocketAddr) {
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    (Inbound::spawn(listener, InboundLimits::default(), Arc::new(Peer(Handshake::ours(infohash, id)))), address)
}

/// A host that accepts and closes at once, and counts.
fn slammer() -> (SocketAddr, Arc<AtomicUsize>) {
    let (listener, knocks) = (loopback(), Arc::new(AtomicUsize::new(0)));
    let (address, counter) = (listener.local_addr().unwrap(), knocks.clone());
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, knocks)
}

#[tokio::test]
async fn a_found_peer_reaches_the_swarm_with_its_handshake() {
    let mut world = world(true, 3);
    let (_peer, address) = peer(TORRENT, THEM);
    world.tell(&[address, address]).await;
    let connected = timeout(SOON, world.peers.recv()).await.unwrap().unwrap();
    assert_eq!((connected.address, connected.handshake.peer_id), (address, THEM));
    assert!(matches!(connected.stream.carrier(), Carrier::Tcp(stream) if stream.nodelay().unwrap()));
    assert_eq!(world.dialer.attempts()[0].outcome, AttemptOutcome::Ok("1 connected".to_owned()));
    world.dialer.shutdown().await;
}

#[tokio::test]
async fn nobody_is_dialled_until_the_swarm_wants_peers() {
    let mut world = world(true, 0);
    let (_peer, address) = peer(TORRENT, THEM);
    world.tell(&[address]).await;
    assert!(timeout(Duration::from_millis(100), world.peers.recv()).await.is_err());
    world.want.send(1).unwrap();
    assert!(timeout(SOON, world.peers.recv()).await.unwrap().is_some());
    world.dialer.shutdown().await;
}

#[tokio::test]
async fn a_host_that_fails_is_left_alone_for_a_while() {
    let world = world(true, 3);
    let (address, knocks) = slammer();
    world.tell(&[address]).await;
    world.until(|tally| tally.refused == 1).await;
    world.tell(&[address]).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(knocks.load(Ordering::Relaxed), 1);
    assert_eq!(world.dialer.shared.stats.snapshot().dials_failed, 1);
    world.dialer.shutdown().await;
}

#[tokio::test]
async fn we_are_dropped_and_never_dialled_again() {
    let mut world = world(true, 3);
    let (us, address) = peer(TORRENT, US);
    world.tell(&[address]).await;
    world.until(|tally| tally.ourselves == 1).await;
    world.tell(&[address]).await;
    assert!(timeout(Duration::from_millis(100), world.peers.recv()).await.is_err());
    assert_eq!((world.dialer.known(), us.stats().failed), (0, 1));
    world.dialer.shutdown().await;
}

#[tokio::test]
async fn another_torrents_peer_and_a_silent_host_are_told_apart() {
    let world = world(true, 9);
    let (_other, other) = peer(InfoHash::new([9; 20]), THEM);
    let silent = loopback();
    world.tell(&[other, silent.local_addr().unwrap()]).await;
    world.until(|tally| (tally.unsuitable, tally.timed_out) == (1, 1)).await;
    world.dialer.shutdown().await;
}

#[tokio::test]
async fn addresses_that_are_off_limits_are_counted_and_not_dialled() {
    let world = world(false, 9);
    let (address, knocks) = slammer();
    world.tell(&[address, "169.254.169.254:80".parse().unwrap()]).await;
    world.until(|tally| tally.off_limits == 2).await;
    assert_eq!((knocks.load(Ordering::Relaxed), world.dialer.known()), (0, 0));
    let attempt = world.dialer.attempts().pop().unwrap();
    assert_eq!(attempt.outcome, AttemptOutcome::Skipped("2 addresses are off limits".to_owned()));
    world.dialer.shutdown().await;
}

#[tokio::test]
async fn a_full_house_makes_dials_wait_for_a_place() {
    let mut world = world(true, 3);
    let (_peer, address) = peer(TORRENT, THEM);
    let all = world.dialer.shared.half_open.clone().acquire_many_owned(8).await.unwrap();
    world.tell(&[address]).await;
    assert!(timeout(Duration::from_millis(100), world.peers.recv()).await.is_err());
    drop(all);
    assert!(timeout(SOON, world.peers.recv()).await.unwrap().is_some());
    world.dialer.shutdown().await;
}

#[tokio::test]
async fn shutdown_ends_fifty_half_open_dials_at_once() {
    let world = world_with(true, 50, Duration::from_secs(60));
    let silent: Vec<TcpListener> = (0..50).map(|_| loopback()).collect();
    let addresses: Vec<SocketAddr> = silent.iter().map(|listener| listener.local_addr().unwrap()).collect();
    world.tell(&addresses).await;
    let half_open = world.dialer.shared.half_open.clone();
    timeout(SOON, async {
        while half_open.available_permits() > 0 {
            sleep(Duration::from_millis(5)).await
        }
    })
    .await
    .unwrap();
    timeout(SOON, world.dialer.shutdown()).await.unwrap();
    assert_eq!(half_open.available_permits(), 8, "every place is given back");
}
