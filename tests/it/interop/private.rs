//! A private torrent (BEP 27) by packet capture: with everything switched on that could tell of it, nobody gets a packet but
//! its tracker, its peers, and the viewer.
//!
//! The story has a network namespace of its own, with loopback and multicast on it, so that each packet in it is one of the
//! gateway's or an answer to one.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use swarmgate_bittorrent_proto::lsd;
use swarmgate_content::InfoHash;
use swarmgate_tests::capture::{Capture, Packet};
use swarmgate_tests::dht_stub::DhtStub;
use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::namespace::alone_in_a_namespace;
use swarmgate_tests::node::{Content, Seeder};
use swarmgate_tests::payload::hex;
use swarmgate_tests::torrent::escape_bytes;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;

use super::{TRANSFER_WITHIN, scratch};

/// How long what must not happen is watched for: many times what each of it takes where it may.
const WATCH: Duration = Duration::from_secs(3);

const PIECE: u32 = 16 * 1024;

/// Those who would like to hear of torrents.
struct Strangers {
    dht: DhtStub,
    configured: Tracker,
    browsers: Tracker,
}

/// What is known of a content and of whom it may be told.
struct Swarm {
    content: Content,
    tracker: Tracker,
    members: Vec<Seeder>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_packet_about_a_private_torrent_goes_to_anybody_but_its_tracker_and_peers() {
    const NAME: &str = "interop::private::no_packet_about_a_private_torrent_goes_to_anybody_but_its_tracker_and_peers";
    if !alone_in_a_namespace(NAME) {
        return;
    }
    let dir = scratch();
    let strangers = Strangers { dht: DhtStub::start().await, configured: Tracker::start(), browsers: Tracker::start() };
    let private = Swarm::of(Content::private("members.bin", 81, 20 * PIECE as usize, PIECE)).await;
    let public = Swarm::of(Content::single("anybody.bin", 82, 20 * PIECE as usize, PIECE)).await;
    let Some(capture) = Capture::start(dir.path()).await else { return };
    let Some(gateway) = strangers.start_gateway(dir.path()).await else { return };
    wait::until("the DHT", TRANSFER_WITHIN, async || strangers.is_met(&gateway).await.then_some(())).await;

    private.is_watched_with(&gateway).await;
    tokio::time::sleep(WATCH).await;
    let until = SystemTime::now();
    public.is_watched_with(&gateway).await;
    wait::until("the lookup", TRANSFER_WITHIN, async || {
        strangers.dht.was_asked_for(&public.content.infohash()).then_some(())
    })
    .await;
    let known = async || strangers.configured.knows(gateway.peer_address().port()).then_some(());
    wait::until("the configured tracker's announce", TRANSFER_WITHIN, known).await;
    tokio::time::sleep(WATCH).await;
    let packets = capture.stop().await;

    // Before the public one came there was nobody but the private one's, and the DHT's own upkeep.
    let dht = strangers.dht.address();
    let friends = [private.places(), vec![gateway.http_address()]].concat();
    for packet in packets.iter().filter(|packet| packet.at < until && !packet.concerns(&friends)) {
        assert!(packet.concerns(&[dht]), "{} to {} while only a private torrent was there", packet.from, packet.to);
    }
    // Nor did it come up later, in whatever spelling.
    let told = told_of(&packets, &private.content.infohash());
    let others: Vec<_> = told.iter().filter(|packet| !packet.concerns(&friends)).map(ends).collect();
    assert!(others.is_empty(), "the private torrent is named: {others:?}");
    assert!(packets.iter().any(|packet| packet.concerns(&[private.tracker.address()])), "its tracker was asked");
    for member in &private.members {
        assert!(packets.iter().any(|packet| packet.to == member.address()), "its peers were asked");
    }

    // The public one went all the ways, so the silence above was no deafness.
    let told = told_of(&packets, &public.content.infohash());
    let group = SocketAddr::from((lsd::GROUP_V4, lsd::PORT));
    for place in [dht, group, strangers.configured.address(), public.tracker.address()] {
        assert!(told.iter().any(|packet| packet.to == place), "{place} did not hear of the public torrent");
    }
    let browsers = strangers.browsers.address();
    assert!(packets.iter().any(|packet| packet.to == browsers), "the browsers' tracker was not asked");
}

impl Swarm {
    async fn of(content: Content) -> Self {
        let tracker = Tracker::start();
        // Two, so that there is somebody to be told of somebody; they know no tracker.
        let members = vec![Seeder::start(&content).await, Seeder::start(&content).await];
        Self { content: content.with_trackers(&[&tracker.url()]), tracker, members }
    }

    fn places(&self) -> Vec<SocketAddr> {
        let members = self.members.iter().map(Seeder::address);
        members.chain([self.tracker.address()]).collect()
    }

    /// Its torrent is added, its members are found, and all of it is read.
    async fn is_watched_with(&self, gateway: &Gateway) {
        let infohash = self.content.infohash();
        for member in &self.members {
            self.tracker.introduce(infohash.as_bytes(), member.address().port());
        }
        gateway.add_torrent(&self.content.torrent()).await;
        let answer = http::get(&gateway.url(&self.content.path(0))).await;
        assert!(answer.status == 200 && answer.body == self.content.bytes, "{}", answer.text());
        let announced = async || self.tracker.knows(gateway.peer_address().port()).then_some(());
        wait::until("the announce", TRANSFER_WITHIN, announced).await;
    }
}

impl Strangers {
    async fn start_gateway(&self, dir: &std::path::Path) -> Option<Gateway> {
        let (dht, configured) = (self.dht.address().to_string(), self.configured.url());
        let browsers = format!("ws://{}/", self.browsers.address());
        let options = [
            ("SWARMGATE_BITTORRENT__LISTEN_IP", "127.0.0.1"),
            ("SWARMGATE_BITTORRENT__DHT", "true"),
            ("SWARMGATE_BITTORRENT__DHT_PORT", "0"),
            ("SWARMGATE_BITTORRENT__DHT_BOOTSTRAP", &dht),
            ("SWARMGATE_BITTORRENT__TRACKERS", &configured),
            ("SWARMGATE_BITTORRENT__LSD", "true"),
            ("SWARMGATE_BITTORRENT__PEX", "true"),
            ("SWARMGATE_WEBTORRENT__TRACKERS", &browsers),
        ];
        Gateway::start_with(dir, &options).await
    }

    async fn is_met(&self, gateway: &Gateway) -> bool {
        gateway.status().await.to_string().contains("1 DHT nodes")
    }
}

/// The packets that name a torrent: its bytes as they are, in hex, and as trackers are told them by URL and by JSON.
fn told_of<'a>(packets: &'a [Packet], infohash: &InfoHash) -> Vec<&'a Packet> {
    let raw = infohash.as_bytes();
    let latin: String = raw.iter().copied().map(char::from).collect();
    let json = serde_json::to_string(&latin).expect("text is JSON");
    let spellings = [
        raw.to_vec(),
        hex(raw).into_bytes(),
        hex(raw).to_uppercase().into_bytes(),
        escape_bytes(raw).into_bytes(),
        json.trim_matches('"').as_bytes().to_vec(),
    ];
    packets.iter().filter(|packet| spellings.iter().any(|it| packet.contains(it))).collect()
}

fn ends(packet: &&Packet) -> (SocketAddr, SocketAddr) {
    (packet.from, packet.to)
}
