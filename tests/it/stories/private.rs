//! A private torrent (BEP 27) is asked for at its own trackers and nowhere else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use swarmgate_bittorrent::listener::{Binding, bind_group};
use swarmgate_bittorrent_proto::lsd;
use swarmgate_content::InfoHash;
use swarmgate_tests::dht_stub::DhtStub;
use swarmgate_tests::node::{self, Content, Node, Seeder};
use swarmgate_tests::torrent::escape;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::KIB;

/// No announce or lookup on loopback takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what must not happen is watched for, after what must has happened.
const WATCH: Duration = Duration::from_millis(700);

/// A neighbour in the local network that writes down which torrents are called out (BEP 14).
struct Neighbour {
    heard: Arc<Mutex<Vec<InfoHash>>>,
    _task: AbortOnDropHandle<()>,
}

impl Neighbour {
    fn start() -> Self {
        let here = Binding::new(SocketAddr::from((Ipv4Addr::LOCALHOST, lsd::PORT)), "the story");
        let socket = bind_group(&here, lsd::GROUP_V4.into()).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((len, _)) = socket.recv_from(&mut buffer).await {
                log.lock().extend(lsd::Call::parse(&buffer[..len]).into_iter().flat_map(|call| call.infohashes));
            }
        });
        Self { heard, _task: AbortOnDropHandle::new(task) }
    }

    fn heard_of(&self, content: &Content) -> bool {
        self.heard.lock().contains(&content.infohash())
    }
}

/// A port that counts who comes and says nothing, as the tracker of browsers.
async fn counting_door() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            open.push(stream);
        }
    });
    (address, count)
}

fn peers_port(node: &Node) -> u16 {
    node.app.bittorrent().unwrap().listen_address().unwrap().port()
}

async fn announced(tracker: &Tracker, node: &Node) {
    let port = peers_port(node);
    wait::until("the announce", PATIENCE, async || tracker.knows(port).then_some(())).await;
}

async fn upload(node: &Node, content: &Content) {
    let kind = [("content-type", "application/x-bittorrent")];
    let answer = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_torrent_is_announced_to_its_own_tracker_alone_and_unknown_to_the_dht() {
    let (own, configured, dht) = (Tracker::start(), Tracker::start(), DhtStub::start().await);
    let node = Node::with(|config| {
        config.bittorrent.dht = true;
        config.bittorrent.dht_bootstrap = vec![dht.address().to_string()];
        config.bittorrent.trackers = vec![configured.url().parse().unwrap()];
    })
    .await;
    let evidence = || node.app.manager().list()[0].health.evidence.clone();
    let met = async || evidence().contains("1 DHT nodes").then_some(());
    wait::until("the DHT node to be met", PATIENCE, met).await;

    let private = Content::private("members.bin", 61, 64 * KIB, 16 * 1024).with_trackers(&[&own.url()]);
    upload(&node, &private).await;
    announced(&own, &node).await;
    let answer = node.connect().await.get(&format!("{}?wait=0", private.path(0)), &[]).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    tokio::time::sleep(WATCH).await;
    assert!(!configured.knows(peers_port(&node)), "a private torrent was announced to a stranger");
    assert!(!dht.was_asked_for(&private.infohash()), "a private torrent was looked up in the DHT");

    // The same gateway asks both for a public one, so the silence above was no deafness.
    let public = Content::single("anybody.bin", 62, 64 * KIB, 16 * 1024);
    upload(&node, &public).await;
    announced(&configured, &node).await;
    wait::until("the lookup", PATIENCE, async || dht.was_asked_for(&public.infohash()).then_some(())).await;
    assert!(!dht.was_asked_for(&private.infohash()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_magnet_brings_no_tracker_to_a_private_torrent_even_after_a_restart() {
    let (own, foreign) = (Tracker::start(), Tracker::start());
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&node::config(dir.path())).await.unwrap();
    let private = Content::private("members.bin", 63, 64 * KIB, 16 * 1024).with_trackers(&[&own.url()]);
    upload(&node, &private).await;
    announced(&own, &node).await;
    let magnet = format!("magnet:?xt=urn:btih:{}&tr={}", private.infohash(), escape(&foreign.url()));
    let mut client = node.connect().await;
    let added = client.ask("POST", "/api/v1/items", &[("content-type", "text/plain")], magnet.as_bytes()).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let path = format!("/bt/{}/?format=json&tr={}", private.infohash(), escape(&foreign.url()));
    assert_eq!(client.get(&path, &[]).await.status, 200);
    tokio::time::sleep(WATCH).await;
    assert!(!foreign.knows(peers_port(&node)), "announced to the stranger's tracker");
    let torrent = client.get(&format!("/bt/{}.torrent", private.infohash()), &[]).await;
    assert!(!torrent.text().contains(&foreign.url()), "nor is it passed on");
    node.stop().await;

    let node = Node::start(&node::config(dir.path())).await.unwrap();
    announced(&own, &node).await;
    tokio::time::sleep(WATCH).await;
    assert!(!foreign.knows(peers_port(&node)), "announced to the stranger's tracker after a restart");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_magnet_that_turns_out_private_is_taken_back_from_the_configured_tracker() {
    let (own, configured) = (Tracker::start(), Tracker::start());
    let node = Node::with(|config| config.bittorrent.trackers = vec![configured.url().parse().unwrap()]).await;
    let private = Content::private("members.bin", 64, 64 * KIB, 16 * 1024);
    let seeder = Seeder::start(&private).await;
    // Of an infohash alone nobody can tell what it is.
    let path = format!("/bt/{}/?wait=0&tr={}", private.infohash(), escape(&own.url()));
    assert_eq!(node.connect().await.get(&path, &[]).await.status, 504);
    announced(&own, &node).await;
    announced(&configured, &node).await;
    node.learn(&private, &[seeder.address()]).await;
    let port = peers_port(&node);
    wait::until("the goodbye", PATIENCE, async || (!configured.knows(port)).then_some(())).await;
    assert!(own.knows(port));
    assert!(node.connect().await.get(&private.path(0), &[]).await.body == private.bytes);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torrent_file_brings_its_trackers_to_an_infohash_that_was_asked_for_before() {
    let (tracker, node) = (Tracker::start(), Node::fresh().await);
    let content = Content::single("film.mkv", 65, 64 * KIB, 16 * 1024).with_trackers(&[&tracker.url()]);
    assert_eq!(node.connect().await.get(&content.path(0), &[]).await.status, 502, "nobody to ask");
    let kind = [("content-type", "application/x-bittorrent")];
    let answer = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    announced(&tracker, &node).await;
    node.stop().await;
}

/// Everything by which peers are found is on, and at each place where a leak would arrive somebody listens: the DHT, the
/// local network, the operator's trackers of either kind, the tracker of another torrent, a peer that takes exchanges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_its_own_tracker_and_peers_hears_of_a_private_torrent_with_every_way_switched_on() {
    let (own, configured, others) = (Tracker::start(), Tracker::start(), Tracker::start());
    let (dht, neighbour, (door, knocks)) = (DhtStub::start().await, Neighbour::start(), counting_door().await);
    let node = Node::with(|config| {
        config.bittorrent.dht = true;
        config.bittorrent.dht_bootstrap = vec![dht.address().to_string()];
        config.bittorrent.trackers = vec![configured.url().parse().unwrap()];
        config.bittorrent.lsd = true;
        config.webtorrent.trackers = vec![format!("ws://{door}/").parse().unwrap()];
    })
    .await;
    let evidence = || node.app.manager().list()[0].health.evidence.clone();
    let met = async || evidence().contains("1 DHT nodes").then_some(());
    wait::until("the DHT node to be met", PATIENCE, met).await;

    // Two of its peers, who ask no tracker, will be connected: so there is somebody to be told of somebody.
    let private = Content::private("members.bin", 66, 64 * KIB, 16 * 1024);
    let members = [Seeder::start(&private).await, Seeder::start(&private).await];
    let private = private.with_trackers(&[&own.url()]);
    upload(&node, &private).await;
    announced(&own, &node).await;
    node.learn(&private, &[members[0].address(), members[1].address()]).await;
    assert!(node.connect().await.get(&private.path(0), &[]).await.body == private.bytes);
    tokio::time::sleep(WATCH * 4).await;
    assert!(!dht.was_asked_for(&private.infohash()), "looked up in the DHT");
    assert!(!neighbour.heard_of(&private), "called out in the local network");
    assert!(!configured.knows(peers_port(&node)) && !others.knows(peers_port(&node)), "announced to a stranger");
    assert_eq!(knocks.load(Ordering::SeqCst), 0, "announced to a tracker of browsers");
    for member in &members {
        assert_eq!(member.stats().peers_connected, 1, "told of another by way of us");
    }

    // The same gateway uses every one of these ways for a public one, so the silence above was no deafness.
    let public = Content::single("anybody.bin", 67, 64 * KIB, 16 * 1024).with_trackers(&[&others.url()]);
    upload(&node, &public).await;
    announced(&configured, &node).await;
    announced(&others, &node).await;
    wait::until("the lookup", PATIENCE, async || dht.was_asked_for(&public.infohash()).then_some(())).await;
    wait::until("the call", PATIENCE, async || neighbour.heard_of(&public).then_some(())).await;
    wait::until("the browsers' tracker", PATIENCE, async || (knocks.load(Ordering::SeqCst) > 0).then_some(())).await;
    assert!(!dht.was_asked_for(&private.infohash()) && !neighbour.heard_of(&private));
    node.stop().await;
    for member in members {
        member.stop().await;
    }
}
