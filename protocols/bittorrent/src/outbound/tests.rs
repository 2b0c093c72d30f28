use super::*;
use crate::inbound::{Inbound, InboundHandler, InboundLimits};
use crate::listener::{Binding, bind_tcp, bind_udp};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use swarmgate_bittorrent_proto::handshake::{HANDSHAKE_LEN, PeerId};
use swarmgate_bittorrent_proto::mse::Payload;
use swarmgate_bittorrent_proto::torrent::Transport;
use swarmgate_content::InfoHash;
use swarmgate_swarm::PeerOrigin;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const TORRENT: InfoHash = InfoHash::new([1; 20]);
const US: PeerId = PeerId([7; 20]);
const THEM: PeerId = PeerId([8; 20]);

/// A peer that takes what its limits let it take, over TCP and uTP under one number.
struct Peer {
    doors: Vec<Inbound>,
    utp: Option<UtpPort>,
    address: SocketAddr,
}

struct Answer;

impl InboundHandler for Answer {
    fn answer(&self, _: &Handshake, _: SocketAddr) -> Result<Handshake, HandshakeError> {
        Ok(Handshake::ours(TORRENT, THEM))
    }

    fn torrents(&self) -> Vec<InfoHash> {
        vec![TORRENT]
    }

    fn accept(&self, mut peer: PeerStream) {
        // Stays open as long as the other side does.
        tokio::spawn(async move { peer.stream.read_u8().await });
    }
}

impl Peer {
    fn start(encryption: Encryption, tcp: Option<TcpListener>, utp: Option<UtpPort>) -> Self {
        let limits = InboundLimits { encryption, ..InboundLimits::default() };
        let address =
            tcp.as_ref().map(|tcp| tcp.local_addr().unwrap()).or_else(|| utp.as_ref().map(UtpPort::address)).unwrap();
        let mut doors = Vec::new();
        doors.extend(tcp.map(|tcp| Inbound::spawn(tcp, limits, Arc::new(Answer))));
        let entrance = utp.as_ref().and_then(UtpPort::entrance);
        doors.extend(entrance.map(|entrance| Inbound::spawn(entrance, limits, Arc::new(Answer))));
        Self { doors, utp, address }
    }

    async fn stop(self) {
        for door in self.doors {
            door.shutdown().await;
        }
        if let Some(utp) = self.utp {
            utp.shutdown().await;
        }
    }
}

fn tcp(port: u16) -> TcpListener {
    bind_tcp(&Binding::new(SocketAddr::from(([127, 0, 0, 1], port)), "test")).unwrap()
}

fn utp(port: u16) -> UtpPort {
    let binding = Binding::new(SocketAddr::from(([127, 0, 0, 1], port)), "test");
    UtpPort::start(bind_udp(&binding).unwrap(), 16).unwrap()
}

fn ways(encryption: Encryption, utp: Option<&UtpPort>) -> Outbound {
    Outbound::new(Route::default(), encryption, utp.cloned())
}

async fn origin(outbound: &Outbound, address: SocketAddr) -> Result<PeerOrigin, HandshakeError> {
    let greeting = Greeting { ours: Handshake::ours(TORRENT, US), upgrade: None };
    Ok(outbound.connect(address, &greeting, &DialLimits::default()).await?.origin())
}

#[tokio::test]
async fn encryption_is_asked_for_first_and_done_without_once() {
    let knowing = Peer::start(Encryption::Prefer, Some(tcp(0)), None);
    let plain = Peer::start(Encryption::Off, Some(tcp(0)), None);
    let outbound = ways(Encryption::Prefer, None);
    assert_eq!(origin(&outbound, knowing.address).await.unwrap().encryption, Some(Payload::Plain));
    for knocks in [2, 3] {
        assert_eq!(origin(&outbound, plain.address).await.unwrap().encryption, None);
        let stats = plain.doors[0].stats();
        assert_eq!(stats.accepted + stats.failed, knocks, "the second time nobody asks");
    }
    let required = ways(Encryption::Require, None);
    assert!(origin(&required, plain.address).await.is_err());
    assert_eq!(plain.doors[0].stats().accepted, 2);
    knowing.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn who_has_both_is_reached_over_tcp() {
    let (far, near) = (tcp(0), utp(0));
    let port = far.local_addr().unwrap().port();
    let peer = Peer::start(Encryption::Prefer, Some(far), Some(utp(port)));
    let there = origin(&ways(Encryption::Prefer, Some(&near)), peer.address).await.unwrap();
    assert_eq!(there, PeerOrigin { encryption: Some(Payload::Plain), ..PeerOrigin::tcp(peer.address) });
    peer.stop().await;
    near.shutdown().await;
}

#[tokio::test]
async fn who_is_silent_over_tcp_is_reached_over_utp_soon() {
    let (silent, near) = (tcp(0), utp(0));
    let address = silent.local_addr().unwrap();
    let peer = Peer::start(Encryption::Prefer, None, Some(utp(address.port())));
    let begun = Instant::now();
    let there = origin(&ways(Encryption::Prefer, Some(&near)), address).await.unwrap();
    assert_eq!(there, PeerOrigin { encryption: Some(Payload::Plain), ..PeerOrigin::utp(address) });
    assert!(begun.elapsed() >= TCP_HEAD_START && begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    peer.stop().await;
    near.shutdown().await;
}

#[tokio::test]
async fn two_who_dial_each_other_at_once_reach_each_other_and_without_utp_nobody_tries() {
    let (near, far) = (utp(0), utp(0));
    let peers = [&near, &far].map(|port| Peer::start(Encryption::Prefer, None, Some(port.clone())));
    let [one, other] = [&near, &far].map(|port| ways(Encryption::Prefer, Some(port)));
    let greeting = Greeting { ours: Handshake::ours(TORRENT, US), upgrade: None };
    let limits = DialLimits::default();
    let (there, back) =
        tokio::join!(one.punch(far.address(), &greeting, &limits), other.punch(near.address(), &greeting, &limits));
    let [there, back] = [there, back].map(|stream| stream.unwrap().origin());
    assert_eq!([there.addr, back.addr], [Some(far.address()), Some(near.address())]);
    assert_eq!([there.transport, back.transport], [Transport::Utp; 2]);
    let tcp_alone = ways(Encryption::Prefer, None).punch(far.address(), &greeting, &limits).await;
    assert_eq!(tcp_alone.unwrap_err(), HandshakeError::Io(std::io::ErrorKind::Unsupported));
    for peer in peers {
        peer.stop().await;
    }
}

#[tokio::test]
async fn a_peer_that_tcp_found_unsuitable_is_not_asked_again_over_utp() {
    let (listener, near) = (tcp(0), utp(0));
    let address = listener.local_addr().unwrap();
    let (knocks, counter) = (Arc::new(AtomicUsize::new(0)), utp(address.port()));
    let mut entrance = counter.entrance().unwrap();
    let counted = knocks.clone();
    tokio::spawn(async move {
        while entrance.accept().await.is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(&Handshake::ours(InfoHash::new([9; 20]), THEM).encode()).await;
            let _ = stream.read_exact(&mut [0; HANDSHAKE_LEN]).await;
        }
    });
    let refused = origin(&ways(Encryption::Off, Some(&near)), address).await;
    assert_eq!(refused, Err(HandshakeError::OtherTorrent));
    assert_eq!(knocks.load(Ordering::Relaxed), 0);
    near.shutdown().await;
    counter.shutdown().await;
}
