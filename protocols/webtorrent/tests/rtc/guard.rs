//! Descriptions of strangers send us nowhere that they should not, and strangers at the port reach nobody.

use std::net::UdpSocket;
use std::time::Duration;

use swarmgate_egress::{AddressList, EgressPolicy, PeerGate};
use swarmgate_webtorrent::rtc::{RtcManager, RtcOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::{KIB, LOOPBACK, eventually, exchange, open, own_sockets, shared_port, start};

/// An offer whose only candidate is this socket.
async fn offer_naming(manager: &RtcManager, victim: &UdpSocket) -> String {
    let offer = manager.offer().await.unwrap();
    let port = victim.local_addr().unwrap().port();
    let others = offer.sdp().lines().filter(|line| !line.starts_with("a=candidate:"));
    let mut lines: Vec<_> = others.map(str::to_owned).collect();
    lines.push(format!("a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host"));
    lines.join("\r\n")
}

async fn is_dialled(manager: &RtcManager, offers: &RtcManager) -> bool {
    let victim = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    victim.set_nonblocking(true).unwrap();
    let offer = offer_naming(offers, &victim).await;
    let answered = manager.answer(&offer).await.unwrap();
    // ICE sends its first check after 5 ms, and again each 200.
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(answered);
    victim.recv(&mut [0; 1500]).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_the_guard_refuses_is_not_dialled() {
    let offers = start(own_sockets());
    for (allow_private, dialled) in [(true, true), (false, false)] {
        let egress = EgressPolicy { allow_private };
        for options in [shared_port(), own_sockets()] {
            let manager = start(RtcOptions { egress, ..options });
            assert_eq!(is_dialled(&manager, &offers).await, dialled, "allow_private = {allow_private}");
            manager.shutdown().await;
        }
    }
    offers.shutdown().await;
}

/// A gate whose list names this machine.
fn closed_gate() -> PeerGate {
    let gate = PeerGate::new(EgressPolicy { allow_private: true }, Duration::from_secs(60));
    let mut blocked = AddressList::default();
    blocked.read("127.0.0.0/8");
    gate.set_lists(blocked, AddressList::default());
    gate
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_peer_is_neither_dialled_nor_answered() {
    let patience = Duration::from_secs(2);
    let gated = start(RtcOptions { gate: Some(closed_gate()), connect_timeout: patience, ..shared_port() });
    let listed = start(RtcOptions { connect_timeout: patience, ..own_sockets() });
    assert!(!is_dialled(&gated, &listed).await);
    let offer = listed.offer().await.unwrap();
    let answered = gated.answer(offer.sdp()).await.unwrap();
    let sdp = answered.sdp().to_owned();
    assert!(offer.accept_answer(&sdp).await.is_err(), "its checks are answered by nobody");
    assert!(gated.stats().dropped_datagrams > 0, "though they came");
    drop(answered);
    gated.shutdown().await;
    listed.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hides_behind_a_local_name_dials_us() {
    let (hidden, open_one) = (start(own_sockets()), start(shared_port()));
    let offer = hidden.offer().await.unwrap();
    let name = "0b6c3a1e-7d52-4b0e-9d6e-1c1f5a1d2e3f.local";
    let mdns = offer.sdp().replace(" 127.0.0.1 ", &format!(" {name} "));
    assert!(mdns.contains(name));
    let answered = open_one.answer(&mdns).await.unwrap();
    let sdp = answered.sdp().to_owned();
    let (near, far) = tokio::join!(offer.accept_answer(&sdp), answered.open());
    exchange(&mut near.unwrap(), &mut far.unwrap(), 10 * KIB).await;
    hidden.shutdown().await;
    open_one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_at_the_port_reaches_nobody() {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let port = socket.local_addr().unwrap();
    let (a, b) = (start(RtcOptions { sockets: vec![socket], ..shared_port() }), start(own_sockets()));
    let (mut near, mut far) = open(&a, &b).await;
    let stranger = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let offer = a.offer().await.unwrap();
    let ufrag = offer.sdp().lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap().to_owned();
    for turn in 0..200u8 {
        stranger.send_to(&[turn; 1200], port).unwrap();
        stranger.send_to(&unsigned_check(&ufrag, turn), port).unwrap();
        near.write_all(&[turn]).await.unwrap();
        let mut got = [0];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [turn]);
    }
    eventually("all of it was dropped", || a.stats().dropped_datagrams >= 400).await;
    a.shutdown().await;
    b.shutdown().await;
}

/// A connectivity check for a fragment that the stranger knows, without the signature that it cannot make.
fn unsigned_check(ufrag: &str, id: u8) -> Vec<u8> {
    let name = format!("{ufrag}:them");
    let padded = name.len().next_multiple_of(4);
    let mut bytes = vec![0, 1, 0, u8::try_from(padded + 4).unwrap(), 0x21, 0x12, 0xa4, 0x42];
    bytes.extend([id; 12]);
    bytes.extend([0, 6, 0, u8::try_from(name.len()).unwrap()]);
    bytes.extend(name.bytes());
    bytes.resize(20 + 4 + padded, 0);
    bytes
}
