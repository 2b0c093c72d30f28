//! Many WebRTC peers at the gateway, at once and one after the other: what they share, and what they leave behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::measure;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::ports;
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::wait;
use swarmgate_tests::webtorrent::{Browser, Client, Node};

use super::webtorrent_with_us::{announce_url, over_tcp};
use super::{PIECE_LEN, scratch};

/// Twenty peers and the gateway on one small machine.
const MEETING_WITHIN: Duration = Duration::from_secs(60);
const TRANSFER_WITHIN: Duration = Duration::from_secs(60);

/// A tab that vanished is silent for some 28 s before ICE gives it up, and 25 s are what a connection may take to open; a
/// machine that does other things too adds to it.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(75);

const MIB: usize = 1 << 20;

/// Each has a film of its own, so that what it gets it can have from nobody but the gateway.
#[tokio::test]
async fn twenty_peers_of_chromium_and_node_fetch_at_once_through_one_udp_port() {
    const PAGES: u64 = 8;
    const CLIENTS: u64 = 12;
    let (dir, port) = (scratch(), ports::free());
    let options = [
        ("SWARMGATE_WEBTORRENT__TRACKER_ALLOW", "any"),
        ("SWARMGATE_WEBTORRENT__LISTEN_PORT", &port.port().to_string()),
    ];
    let Some(gateway) = Gateway::start_with(dir.path(), &options).await else { return };
    let Some(source) = Client::Libtorrent.start(dir.path()).await else { return };
    let Some(browser) = Browser::start(dir.path()).await else { return };
    let Some(node) = Node::start(dir.path()).await else { return };
    let sockets = measure::udp_sockets_of(gateway.pid());
    assert_eq!(sockets.iter().filter(|it| **it == port).count(), 1, "{sockets:?}");

    let mut films = Vec::new();
    for seed in 0..PAGES + CLIENTS {
        let payload = Payload::single("film.mkv", 100 + seed, MIB);
        let torrent = Torrent::of(&payload, PIECE_LEN, None);
        gateway.add_torrent(&torrent.bytes).await;
        source.seed(&payload, &torrent, &[]).await;
        films.push((payload, torrent));
    }
    let begun = Instant::now();
    let open = async |number| if number < PAGES { browser.page().await } else { node.client().await };
    let opened = join_all((0..PAGES + CLIENTS).map(open)).await;
    let tracker = announce_url(&gateway);
    let fetching: Vec<_> = opened.iter().zip(&films).map(|(peer, film)| peer.download(&film.1, &[&tracker])).collect();
    let peers = PAGES + CLIENTS;
    let mut there = 0;
    wait::until("all peers at once", MEETING_WITHIN, async || {
        let now = gateway.peers().await;
        if now != there {
            eprintln!("{now} peers after {:?}", begun.elapsed());
            there = now;
        }
        (there == peers).then_some(())
    })
    .await;
    assert_eq!(measure::udp_sockets_of(gateway.pid()), sockets, "some have a port of their own");

    let address = source.tcp_address().expect("libtorrent listens");
    join_all(films.iter().map(|film| fill(&gateway, film, address))).await;
    for (share, (payload, _)) in fetching.iter().zip(&films) {
        share.has(payload, TRANSFER_WITHIN).await;
    }
    eprintln!("each has its film after {:?}", begun.elapsed());
    assert_eq!(measure::udp_sockets_of(gateway.pid()), sockets);
}

/// Has a viewer read a film at the gateway, which fetches it by TCP.
async fn fill(gateway: &Gateway, (payload, torrent): &(Payload, Torrent), peer: SocketAddr) {
    let answer = http::get(&gateway.magnet_url(&torrent.info_hash, &[peer])).await;
    assert!(answer.body == payload.joined(), "{}: {} bytes", answer.status, answer.body.len());
}

/// Half of them while they fetch, half before an answer to their offers has come.
#[tokio::test]
async fn tabs_of_chromium_that_are_killed_leave_neither_connections_nor_descriptors() {
    const TABS: usize = 10;
    let dir = scratch();
    let options = [("SWARMGATE_WEBTORRENT__TRACKER_ALLOW", "any")];
    let Some(gateway) = Gateway::start_with(dir.path(), &options).await else { return };
    let Some(source) = Client::Libtorrent.start(dir.path()).await else { return };
    let Some(browser) = Browser::start(dir.path()).await else { return };
    let payload = Payload::single("film.mkv", 130, 16 * MIB);
    let torrent = Torrent::of(&payload, PIECE_LEN, None);
    let address = over_tcp(&source, &payload, &torrent).await;
    let film = (payload, torrent);
    fill(&gateway, &film, address).await;
    source.crash().await;
    wait::until("the gateway to be alone", MEETING_WITHIN, async || (gateway.peers().await == 0).then_some(())).await;
    let before = measure::descriptors_of(gateway.pid());

    for tab in 0..TABS {
        // Those of the tabs before it end meanwhile.
        let mut least = gateway.webrtc_connections().await;
        let page = if tab % 2 == 0 { browser.page().await } else { browser.page_that_hears_no_answer().await };
        page.download(&film.1, &[&announce_url(&gateway)]);
        wait::until("a connection, or the making of one", MEETING_WITHIN, async || {
            let there = if tab % 2 == 0 { gateway.peers().await > 0 } else { true };
            let connections = gateway.webrtc_connections().await;
            least = least.min(connections);
            (there && connections > least).then_some(())
        })
        .await;
        page.crash().await;
    }
    drop(browser);
    eprintln!("{} connections when the last tab is gone", gateway.webrtc_connections().await);
    wait::until("the gateway to have let all of them go", FORGOTTEN_WITHIN, async || {
        (gateway.webrtc_connections().await == 0 && gateway.peers().await == 0).then_some(())
    })
    .await;
    let mut now = Vec::new();
    let as_before = async || {
        now = measure::descriptors_of(gateway.pid());
        now.len() <= before.len()
    };
    assert!(wait::comes_true(MEETING_WITHIN, as_before).await, "descriptors before: {before:?}\nnow: {now:?}");
}
