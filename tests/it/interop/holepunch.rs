//! Two peers behind routers that let in nothing but answers: they meet where a third leads them to each other (BEP 55), and
//! not otherwise. The routers are the kernel's; each of the three parts is played by us and by libtorrent.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use swarmgate_tests::gateway;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::process::Process;
use swarmgate_tests::programs::Program;
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::town::{Place, Resident, Town};
use swarmgate_tests::wait;

use super::{TRANSFER_WITHIN, film, folder, scratch};

/// A relay tells of its peers within seconds, and a dial that nobody answers takes five.
const MET_WITHIN: Duration = Duration::from_secs(45);
/// How long two that cannot meet try.
const VAIN_TRY: u64 = 15;

/// What a libtorrent does in a story.
enum Part<'a> {
    Seed(&'a Payload),
    Fetch,
}

/// Starts libtorrent at some place.
fn libtorrent(
    place: &Place,
    part: &Part<'_>,
    torrent: &Torrent,
    peers: &[std::net::SocketAddr],
    settings: &[&str],
    dir: &Path,
) -> Option<Process> {
    let python = Program::Python.find()?;
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/lt_peer.py"));
    command
        .arg("--torrent")
        .arg(torrent.write_to(dir))
        .arg("--save")
        .arg(dir)
        .args(["--host", "0.0.0.0", "--port", "8421"]);
    if let Part::Seed(payload) = part {
        payload.lay_out(dir);
        command.arg("--seed");
    }
    for setting in
        ["enable_outgoing_utp=1", "enable_incoming_utp=1", "close_redundant_connections=0"].iter().chain(settings)
    {
        command.args(["--set", setting]);
    }
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    Some(place.start("libtorrent", &command, dir))
}

/// A gateway that has a film from the start: it is published there.
async fn publisher(place: &Place, dir: &Path) -> Option<(Resident, Payload, String)> {
    let (payload, _) = film(81, None);
    let files = folder(dir, "files");
    payload.lay_out(&files);
    let path = files.join(&payload.name).display().to_string();
    let (published, said) = gateway::run(dir, &["publish", &path], TRANSFER_WITHIN).await?;
    assert!(published, "{said}");
    let info_hash = said.lines().find_map(|line| line.strip_prefix("infohash "));
    let info_hash = info_hash.unwrap_or_else(|| panic!("no infohash: {said}")).trim().to_owned();
    Some((place.gateway(dir, &[]).await?, payload, info_hash))
}

/// Waits until a gateway has a peer at that place.
async fn knows(resident: &Resident, info_hash: &str, place: &Place) {
    wait::until("the relay to know who is behind the router", MET_WITHIN, async || {
        let peers = resident.peers(info_hash).await;
        peers.iter().any(|(address, _)| address.ip() == place.street).then_some(())
    })
    .await;
}

/// Follows a hint to the relay, waits until who has the film is a peer, which it can be over a hole alone, and reads it.
async fn watches(viewer: &Resident, info_hash: &str, payload: &Payload, from: &Place, hint: &Place) {
    let listing = viewer.get(&format!("/bt/{info_hash}/?format=json&wait=30&x.pe={}", hint.peer_address())).await;
    assert_eq!(listing.status, 200, "{}", listing.text());
    wait::until("a peer behind the other router, over uTP", MET_WITHIN, async || {
        let peers = viewer.peers(info_hash).await;
        peers.iter().any(|(address, transport)| address.ip() == from.street && transport == "utp").then_some(())
    })
    .await;
    let said = viewer.get(&format!("/bt/{info_hash}/{}?wait=30", payload.name)).await;
    assert_eq!(said.status, 200, "{}\n{}", said.text(), viewer.log());
    assert!(said.body == payload.joined(), "{} bytes, not those of the payload", said.body.len());
}

#[tokio::test]
async fn two_gateways_meet_through_a_third_and_not_without() {
    let dir = scratch();
    let Some(mut town) = Town::build() else { return };
    let (relay, one, other) = (town.host(1), town.house(2), town.house(3));
    let Some((seeder, payload, info_hash)) = publisher(&other.host, &folder(dir.path(), "seeder")).await else {
        return;
    };
    let viewer = one.host.gateway(&folder(dir.path(), "viewer"), &[]).await.expect("there is a binary");
    let hub = relay.gateway(&folder(dir.path(), "relay"), &[]).await.expect("there is a binary");

    let alone = format!("/bt/{info_hash}/?format=json&wait={VAIN_TRY}&x.pe={}", other.router.peer_address());
    let said = viewer.get(&alone).await;
    assert_eq!(said.status, 504, "its router keeps us out: {}", said.text());

    // The relay has the torrent active since it was asked for it, though it knows nobody who has it.
    let asked = hub.get(&format!("/bt/{info_hash}/?format=json&wait=1")).await;
    assert!(asked.status >= 500, "nobody is known: {}", asked.text());
    let listing = format!("/bt/{info_hash}/?format=json&wait=1&x.pe={}", relay.peer_address());
    assert_eq!(seeder.get(&listing).await.status, 200);
    knows(&hub, &info_hash, &other.router).await;
    watches(&viewer, &info_hash, &payload, &other.router, &relay).await;
    let item = hub.get(&format!("/api/v1/items/{info_hash}")).await.json();
    assert_eq!(item["uploaded"], 0, "the relay gave nothing: {item}");
}

#[tokio::test]
async fn a_gateway_is_led_to_libtorrent_by_a_gateway() {
    let dir = scratch();
    let Some(mut town) = Town::build() else { return };
    let (relay, one, other) = (town.host(1), town.house(2), town.house(3));
    let (payload, torrent) = film(82, None);
    let Some(hub) = relay.gateway(&folder(dir.path(), "relay"), &[]).await else { return };
    hub.add_torrent(&torrent.bytes).await;
    let (seed, peers) = (Part::Seed(&payload), [relay.peer_address()]);
    let place = folder(dir.path(), "seeder");
    let Some(_seeder) = libtorrent(&other.host, &seed, &torrent, &peers, &[], &place) else { return };
    knows(&hub, &torrent.info_hash, &other.router).await;
    let viewer = one.host.gateway(&folder(dir.path(), "viewer"), &[]).await.expect("there is a binary");
    watches(&viewer, &torrent.info_hash, &payload, &other.router, &relay).await;
}

#[tokio::test]
async fn libtorrent_leads_a_gateway_to_libtorrent() {
    let dir = scratch();
    let Some(mut town) = Town::build() else { return };
    let (relay, one, other) = (town.host(1), town.house(2), town.house(3));
    let (payload, torrent) = film(83, None);
    // It knows its peers by the port that they came from, which over TCP is none that could be dialled.
    let utp_alone = ["enable_incoming_tcp=0", "enable_outgoing_tcp=0"];
    let [at_relay, at_seeder] = ["relay", "seeder"].map(|name| folder(dir.path(), name));
    let Some(_hub) = libtorrent(&relay, &Part::Fetch, &torrent, &[], &utp_alone, &at_relay) else { return };
    let (seed, peers) = (Part::Seed(&payload), [relay.peer_address()]);
    let Some(_seeder) = libtorrent(&other.host, &seed, &torrent, &peers, &utp_alone, &at_seeder) else { return };
    let Some(viewer) = one.host.gateway(&folder(dir.path(), "viewer"), &[]).await else { return };
    watches(&viewer, &torrent.info_hash, &payload, &other.router, &relay).await;
}
