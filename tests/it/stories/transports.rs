//! How peers are reached: over uTP, encrypted, and through a proxy, beside which nothing goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use swarmgate_config::{Config, PeerEncryption};
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::socks::SocksProxy;
use swarmgate_tests::torrent::escape;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::task::AbortOnDropHandle;

use super::KIB;

/// No announce or dial on loopback takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what must not happen is watched for.
const WATCH: Duration = Duration::from_millis(1500);

/// A host that counts who knocks, over TCP and over UDP under one number, and answers nobody.
struct Ear {
    address: SocketAddr,
    knocks: Arc<AtomicUsize>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Ear {
    async fn start() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let knocks = Arc::new(AtomicUsize::new(0));
        let (over_tcp, over_udp) = (Arc::clone(&knocks), Arc::clone(&knocks));
        let tcp = tokio::spawn(async move {
            while tcp.accept().await.is_ok() {
                over_tcp.fetch_add(1, Ordering::Relaxed);
            }
        });
        let udp = tokio::spawn(async move {
            while udp.recv_from(&mut [0; 2048]).await.is_ok() {
                over_udp.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, knocks, _tasks: [tcp, udp].map(AbortOnDropHandle::new) }
    }

    fn knocks(&self) -> usize {
        self.knocks.load(Ordering::Relaxed)
    }
}

async fn through(proxy: &str) -> Node {
    let url = proxy.parse().unwrap();
    Node::with(|config: &mut Config| {
        config.bittorrent.proxy = Some(url);
        config.bittorrent.dht = true;
    })
    .await
}

fn evidence(node: &Node) -> String {
    node.app.manager().list()[0].health.evidence.clone()
}

async fn peers(node: &Node, content: &Content) -> serde_json::Value {
    let path = format!("/api/v1/items/{}/peers", content.infohash());
    node.connect().await.get(&path, &[]).await.json()["peers"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_bittorrent_goes_through_the_proxy_by_name_and_password() {
    let (proxy, tracker) = (SocksProxy::start(Some(("me", "secret"))).await, Tracker::start());
    let content = Content::single("far.bin", 71, 256 * KIB, 16 * 1024);
    let seeder = Seeder::start(&content).await;
    let node = through(&format!("socks5://me:secret@{}", proxy.address())).await;
    let mut client = node.connect().await;
    let hints = format!("{}&tr={}", content.magnet_query(&[seeder.address()]), escape(&tracker.url()));
    let listing = client.get(&format!("/bt/{}/?format=json&{hints}", content.infohash()), &[]).await;
    assert_eq!(listing.status, 200, "{}", listing.text());
    assert!(client.get(&content.path(0), &[]).await.body == content.bytes);
    let announced = async || (!tracker.is_empty()).then_some(());
    wait::until("the announce", PATIENCE, announced).await;
    assert!(proxy.led_to(seeder.address()) >= 1 && proxy.led_to(tracker.address()) >= 1, "{:?}", proxy.log());
    assert_eq!(proxy.log().refused, 0);

    assert!(evidence(&node).contains("no listener, no uTP, no UDP trackers, no DHT"), "{}", evidence(&node));
    assert!(!evidence(&node).contains("secret"));
    let without = Node::with(|config| config.bittorrent.enabled = false).await;
    let (sockets, others) = (node.app.sockets(), without.app.sockets());
    assert_eq!(sockets.len(), others.len(), "none is BitTorrent's or WebRTC's: {sockets:?}");
    without.stop().await;
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_proxy_down_nothing_goes_around_it() {
    let content = Content::single("near.bin", 72, 64 * KIB, 16 * 1024);
    let (peer, udp_tracker, http_tracker) = (Ear::start().await, Ear::start().await, Ear::start().await);
    let ears = [&peer, &udp_tracker, &http_tracker];
    let path = format!(
        "/bt/{}/?wait=2&{}&tr={}&tr={}",
        content.infohash(),
        content.magnet_query(&[peer.address]),
        escape(&format!("udp://{}/announce", udp_tracker.address)),
        escape(&format!("http://{}/announce", http_tracker.address)),
    );
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let wrong = SocksProxy::start(Some(("me", "secret"))).await;
    for proxy in [format!("socks5://{closed}"), format!("socks5://me:wrong@{}", wrong.address())] {
        let node = through(&proxy).await;
        let answer = node.connect().await.get(&path, &[]).await;
        assert_eq!(answer.status, 504, "{proxy}: {}", answer.text());
        tokio::time::sleep(WATCH).await;
        assert_eq!(ears.map(Ear::knocks), [0; 3], "{proxy}");
        node.stop().await;
    }
    assert!(wrong.log().refused > 0 && wrong.log().targets.is_empty());

    // Without a proxy the same request reaches all three, so the silence above was no deafness.
    let node = Node::with(|_| {}).await;
    assert_eq!(node.connect().await.get(&path, &[]).await.status, 504);
    let heard = async || ears.iter().all(|ear| ear.knocks() > 0).then_some(());
    wait::until("all three to be asked", PATIENCE, heard).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_is_not_there_lets_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = swarmgate_tests::node::config(dir.path());
    config.bittorrent.bind_interface = "no-such-tun0".to_owned();
    let refused = Node::start(&config).await.expect_err("a socket cannot be held to it");
    assert!(refused.to_string().contains("bittorrent.bind_interface"), "{refused}");

    // Another address of this machine is where the peer sees us come from.
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = peer.local_addr().unwrap();
    let node = Node::with(|config| config.bittorrent.bind_interface = "127.0.0.9".to_owned()).await;
    let content = Content::single("near.bin", 73, 64 * KIB, 16 * 1024);
    let path = format!("/bt/{}/?wait=2&{}", content.infohash(), content.magnet_query(&[address]));
    let mut client = node.connect().await;
    let (_, accepted) = tokio::join!(client.get(&path, &[]), peer.accept());
    assert_eq!(accepted.unwrap().1.ip().to_string(), "127.0.0.9");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_exchange_a_film_encrypted_and_say_so() {
    let content = Content::single("hidden.bin", 74, 512 * KIB, 16 * 1024);
    let seeder = Seeder::start(&content).await;
    for (encryption, said) in
        [(PeerEncryption::Require, "rc4"), (PeerEncryption::Prefer, "handshake"), (PeerEncryption::Off, "none")]
    {
        let node = Node::with(|config| config.bittorrent.encryption = encryption).await;
        node.learn(&content, &[seeder.address()]).await;
        let answer = node.connect().await.get(&content.path(0), &[]).await;
        assert!(answer.status == 200 && answer.body == content.bytes, "{encryption:?}: {}", answer.status);
        let peers = peers(&node, &content).await;
        assert_eq!((&peers[0]["transport"], &peers[0]["encryption"]), (&"tcp".into(), &said.into()), "{peers}");
        assert_eq!(peers[0]["address"], seeder.address().to_string());
        node.stop().await;
    }
    seeder.stop().await;
}
