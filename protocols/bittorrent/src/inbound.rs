//! Accepts peers: a bounded number of strangers may be half-way through the door, the rest find it shut.
//!
//! A connection becomes a peer when its handshake names a torrent that the handler has. Until then it costs a slot
//! and at most [`InboundLimits::handshake_timeout`]. Whether it is encrypted is told by its first bytes, so that one port
//! serves both kinds.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use swarmgate_bittorrent_proto::handshake::{HANDSHAKE_LEN, Handshake, PROTOCOL};
use swarmgate_content::InfoHash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::obfuscated::{Encryption, Obfuscated, respond};
use crate::peer_stream::{Carrier, PeerStream};
use crate::utp::UtpEntrance;
use swarmgate_swarm::greeting::{HandshakeError, read_handshake, within, write_handshake};

/// How long accepting rests after an error that will not pass by itself, such as no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many strangers may be half-way through a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundLimits {
    /// Connections in all.
    pub half_open: usize,
    /// Connections of one IPv4 address or one IPv6 /64, which one customer owns.
    pub half_open_per_source: usize,
    /// Time for both handshakes.
    pub handshake_timeout: Duration,
    /// Whether loopback is exempt from the limit per source: many peers on one machine, as in tests.
    pub loopback_exempt: bool,
    /// Which kinds of connections are taken.
    pub encryption: Encryption,
}

impl Default for InboundLimits {
    fn default() -> Self {
        Self {
            half_open: 64,
            half_open_per_source: 4,
            handshake_timeout: Duration::from_secs(10),
            loopback_exempt: false,
            encryption: Encryption::default(),
        }
    }
}

/// Knows the torrents and takes the peers. Called from many tasks; no method may block.
pub trait InboundHandler: Send + Sync + 'static {
    /// Whether a connection from there is looked at; one that is not is closed before a byte is read or sent.
    fn admits(&self, _from: SocketAddr) -> bool {
        true
    }

    /// Answers a peer's handshake with ours for its torrent.
    ///
    /// # Errors
    /// Why the peer is turned away; the connection closes without a byte from us.
    fn answer(&self, theirs: &Handshake, from: SocketAddr) -> Result<Handshake, HandshakeError>;

    /// The torrents that an encrypted handshake may be about: it does not name one, it proves to know one.
    fn torrents(&self) -> Vec<InfoHash>;

    /// Takes a peer whose handshakes are through. Dropping it closes the connection.
    fn accept(&self, peer: PeerStream);
}

/// What became of all connections so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InboundStats {
    /// Became peers.
    pub accepted: u64,
    /// Closed at once: too many half-open.
    pub over_limit: u64,
    /// Closed at once: on a list, or banned.
    pub refused: u64,
    /// Closed after a bad, slow, unknown or broken handshake.
    pub failed: u64,
}

/// Where strangers come in.
#[derive(Debug)]
pub enum Entrance {
    /// A listening socket.
    Tcp(TcpListener),
    /// A uTP port.
    Utp(UtpEntrance),
}

/// The accept loop of one entrance, and its half-open connections.
#[derive(Debug)]
pub struct Inbound {
    stop: CancellationToken,
    counters: Arc<Counters>,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    over_limit: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

type HalfOpen = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// One place among the half-open; given back when dropped.
struct Slot {
    taken: HalfOpen,
    source: IpAddr,
}

impl Inbound {
    /// Starts to accept at an entrance. Its limits are its own: a flood at one leaves the others open.
    pub fn spawn(entrance: impl Into<Entrance>, limits: InboundLimits, handler: Arc<dyn InboundHandler>) -> Self {
        let (stop, counters) = (CancellationToken::new(), Arc::new(Counters::default()));
        let door = Door { limits, handler, counters: counters.clone(), taken: HalfOpen::default() };
        let task = tokio::spawn(door.run(entrance.into(), stop.clone()));
        Self { stop, counters, task: AbortOnDropHandle::new(task) }
    }

    /// Reads the counters.
    #[must_use]
    pub fn stats(&self) -> InboundStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        InboundStats {
            accepted: read(&counters.accepted),
            over_limit: read(&counters.over_limit),
            refused: read(&counters.refused),
            failed: read(&counters.failed),
        }
    }

    /// Closes the socket and all half-open connections; returns when both are gone.
    pub async fn shutdown(self) {
        self.stop.cancel();
        // The task is cancelled, not aborted: a join error could only be its panic, already reported.
        let _ = self.task.await;
    }
}

struct Door {
    limits: InboundLimits,
    handler: Arc<dyn InboundHandler>,
    counters: Arc<Counters>,
    taken: HalfOpen,
}

impl Door {
    async fn run(self, mut entrance: Entrance, stop: CancellationToken) {
        let mut half_open = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = entrance.accept() => match accepted {
                    Ok((carrier, from)) => self.admit(&mut half_open, carrier, from),
                    Err(error) => rest_after(&error).await,
                },
                Some(_) = half_open.join_next() => {}
            }
        }
        drop(entrance);
        half_open.shutdown().await;
    }

    fn admit(&self, half_open: &mut JoinSet<()>, carrier: Carrier, from: SocketAddr) {
        if !self.handler.admits(from) {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(slot) = self.limits.take_slot(&self.taken, from.ip()) else {
            self.counters.over_limit.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (limits, handler, counters) = (self.limits, self.handler.clone(), self.counters.clone());
        half_open.spawn(async move {
            let outcome = within(limits.handshake_timeout, greet(carrier, from, limits.encryption, &*handler)).await;
            drop(slot);
            match outcome {
                Ok(peer) => {
                    counters.accepted.fetch_add(1, Ordering::Relaxed);
                    handler.accept(peer);
                }
                Err(error) => {
                    counters.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(peer = %from, %error, "inbound connection closed");
                }
            }
        });
    }
}

async fn greet(
    carrier: Carrier,
    address: SocketAddr,
    encryption: Encryption,
    handler: &dyn InboundHandler,
) -> Result<PeerStream, HandshakeError> {
    if let Carrier::Tcp(stream) = &carrier {
        stream.set_nodelay(true)?;
    }
    let (mut stream, proven) = uncover(carrier, encryption, handler).await?;
    let handshake = read_handshake(&mut stream).await?;
    if proven.is_some_and(|infohash| infohash != handshake.infohash) {
        return Err(HandshakeError::OtherTorrent);
    }
    let ours = handler.answer(&handshake, address)?;
    // Written even to ourselves: so our dialer learns whom it reached, and does not try again.
    write_handshake(&mut stream, &ours).await?;
    stream.flush().await?;
    if ours.peer_id == handshake.peer_id {
        return Err(HandshakeError::Ourselves);
    }
    // Of a hybrid torrent's two names, both sides go on with the one that was answered (BEP 52).
    let handshake = Handshake { infohash: ours.infohash, ..handshake };
    Ok(PeerStream { stream, address, handshake })
}

/// Tells by the first bytes whether a connection is encrypted, and does that handshake if it is; then the torrent is
/// known which the other side has proved to know.
async fn uncover(
    mut carrier: Carrier,
    encryption: Encryption,
    handler: &dyn InboundHandler,
) -> Result<(Obfuscated<Carrier>, Option<InfoHash>), HandshakeError> {
    let (mut first, mut count) = ([0; PROTOCOL.len()], 0);
    while count < first.len() && first[..count] == PROTOCOL[..count] {
        match carrier.read(&mut first[count..]).await? {
            0 => return Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof)),
            some => count += some,
        }
    }
    let first = &first[..count];
    if first == PROTOCOL {
        if encryption == Encryption::Require {
            return Err(HandshakeError::TurnedAway("it does not encrypt as is required here"));
        }
        return Ok((Obfuscated::plain(carrier, first.to_vec().into()), None));
    }
    let methods = encryption.methods().ok_or(HandshakeError::NotBitTorrent)?;
    let (mut stream, infohash) = respond(carrier, first, methods, || handler.torrents()).await?;
    if stream.at_hand() < HANDSHAKE_LEN {
        // It waits for our answer before it says more.
        stream.flush().await?;
    }
    Ok((stream, Some(infohash)))
}

impl Entrance {
    async fn accept(&mut self) -> io::Result<(Carrier, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // A dual-stack socket spells IPv4 addresses in IPv6; everybody else knows them plain.
                Ok((Carrier::Tcp(stream), SocketAddr::new(from.ip().to_canonical(), from.port())))
            }
            Self::Utp(port) => match port.accept().await {
                Some(stream) => {
                    let from = stream.remote_addr();
                    Ok((Carrier::Utp(stream), from))
                }
                // The port is closed, which is the end; whoever closed it stops this loop next.
                None => std::future::pending().await,
            },
        }
    }
}

impl From<TcpListener> for Entrance {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UtpEntrance> for Entrance {
    fn from(port: UtpEntrance) -> Self {
        Self::Utp(port)
    }
}

/// Rests unless the error concerns only the one connection that was about to be accepted.
async fn rest_after(error: &io::Error) {
    if let Some(pause) = pause_after(error.kind()) {
        tracing::warn!(%error, "cannot accept peers");
        tokio::time::sleep(pause).await;
    }
}

fn pause_after(kind: io::ErrorKind) -> Option<Duration> {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    let passes = matches!(kind, ConnectionAborted | ConnectionReset | Interrupted);
    (!passes).then_some(ACCEPT_PAUSE)
}

impl InboundLimits {
    fn take_slot(&self, taken: &HalfOpen, ip: IpAddr) -> Option<Slot> {
        let source = source_of(ip);
        let exempt = self.loopback_exempt && source.is_loopback();
        let mut counts = taken.lock();
        let here = counts.get(&source).copied().unwrap_or(0);
        let all: usize = counts.values().sum();
        if all >= self.half_open || (here >= self.half_open_per_source && !exempt) {
            return None;
        }
        counts.insert(source, here + 1);
        Some(Slot { taken: taken.clone(), source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.taken.lock();
        match counts.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                counts.remove(&self.source);
            }
        }
    }
}

/// The address that stands for one customer: IPv4 as it is, IPv6 by its /64.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            octets.into()
        }
        other @ (IpAddr::V4(_) | IpAddr::V6(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{Binding, bind_tcp};
    use crate::outbound::Outbound;
    use crate::route::Route;
    use crate::utp::UtpPort;
    use swarmgate_bittorrent_proto::handshake::PeerId;
    use swarmgate_bittorrent_proto::mse::{Methods, Payload};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    const HERE: InfoHash = InfoHash::new([1; 20]);
    const US: PeerId = PeerId([9; 20]);

    struct OneTorrent(mpsc::UnboundedSender<PeerStream>);

    impl InboundHandler for OneTorrent {
        fn answer(&self, theirs: &Handshake, _: SocketAddr) -> Result<Handshake, HandshakeError> {
            let known = (theirs.infohash == HERE).then(|| Handshake::ours(HERE, US));
            known.ok_or(HandshakeError::TurnedAway("no such torrent"))
        }

        fn torrents(&self) -> Vec<InfoHash> {
            vec![InfoHash::new([5; 20]), HERE]
        }

        fn accept(&self, peer: PeerStream) {
            self.0.send(peer).unwrap();
        }
    }

    fn open(limits: InboundLimits) -> (Inbound, SocketAddr, mpsc::UnboundedReceiver<PeerStream>) {
        let listener = bind_tcp(&Binding::new(SocketAddr::from(([127, 0, 0, 1], 0)), "test")).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, peers) = mpsc::unbounded_channel();
        (Inbound::spawn(listener, limits, Arc::new(OneTorrent(sender))), address, peers)
    }

    fn limits(encryption: Encryption) -> InboundLimits {
        InboundLimits { encryption, ..InboundLimits::default() }
    }

    async fn knock(address: SocketAddr, infohash: InfoHash, id: PeerId) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&Handshake::ours(infohash, id).encode()).await.unwrap();
        stream
    }

    /// Bytes until the other side closes.
    async fn heard(stream: &mut TcpStream) -> usize {
        let mut bytes = Vec::new();
        // A close with our bytes unread may come as a reset, which is a close all the same.
        let _ = stream.read_to_end(&mut bytes).await;
        bytes.len()
    }

    #[tokio::test]
    async fn a_peer_for_a_known_torrent_is_answered_and_handed_over() {
        let (inbound, address, mut peers) = open(InboundLimits::default());
        let mut stream = knock(address, HERE, PeerId([2; 20])).await;
        let peer = peers.recv().await.unwrap();
        assert_eq!((peer.handshake.peer_id, peer.address), (PeerId([2; 20]), stream.local_addr().unwrap()));
        let mut answer = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(Handshake::decode(&answer).unwrap().peer_id, US);
        assert_eq!(inbound.stats().accepted, 1);
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn strangers_get_not_one_byte() {
        let (inbound, address, _peers) = open(limits(Encryption::Off));
        assert_eq!(heard(&mut knock(address, InfoHash::new([7; 20]), PeerId([2; 20])).await).await, 0);
        let mut web = TcpStream::connect(address).await.unwrap();
        web.write_all(&[b'G'; HANDSHAKE_LEN]).await.unwrap();
        assert_eq!(heard(&mut web).await, 0);
        assert_eq!(inbound.stats().failed, 2);
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn an_encrypted_peer_comes_in_by_the_same_port_and_another_torrents_does_not() {
        let (inbound, address, mut peers) = open(InboundLimits::default());
        let ours = Handshake::ours(HERE, PeerId([2; 20]));
        for (methods, payload) in [(Methods::Rc4, Payload::Rc4), (Methods::Plain, Payload::Plain)] {
            let carrier = TcpStream::connect(address).await.unwrap();
            let mut near = crate::obfuscated::initiate(carrier, HERE, methods, ours.encode().to_vec()).await.unwrap();
            assert_eq!(read_handshake(&mut near).await.unwrap().peer_id, US);
            let mut far = peers.recv().await.unwrap();
            assert_eq!((near.encryption(), far.origin().encryption), (Some(payload), Some(payload)));
            near.write_all(b"a message").await.unwrap();
            near.flush().await.unwrap();
            let mut heard = [0; 9];
            far.stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"a message");
        }
        let carrier = TcpStream::connect(address).await.unwrap();
        let unknown = InfoHash::new([9; 20]);
        let refused = crate::obfuscated::initiate(carrier, unknown, Methods::Rc4, Vec::new()).await;
        assert!(matches!(refused, Err(HandshakeError::Io(_))), "{refused:?}");
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn a_peer_that_does_not_encrypt_is_refused_where_it_must_and_one_that_does_where_it_must_not() {
        let (inbound, address, _peers) = open(limits(Encryption::Require));
        assert_eq!(heard(&mut knock(address, HERE, PeerId([2; 20])).await).await, 0);
        inbound.shutdown().await;
        let (inbound, address, _peers) = open(limits(Encryption::Off));
        let carrier = TcpStream::connect(address).await.unwrap();
        let refused = crate::obfuscated::initiate(carrier, HERE, Methods::Rc4, Vec::new()).await;
        assert!(matches!(refused, Err(HandshakeError::Io(_))), "{refused:?}");
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn a_peer_comes_in_over_utp_encrypted_or_not() {
        let utp = async || {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            UtpPort::start(socket, 16).unwrap()
        };
        let (here, there) = (utp().await, utp().await);
        let (sender, mut peers) = mpsc::unbounded_channel();
        let entrance = here.entrance().unwrap();
        let inbound = Inbound::spawn(entrance, InboundLimits::default(), Arc::new(OneTorrent(sender)));
        for (encryption, payload) in [(Encryption::Off, None), (Encryption::Require, Some(Payload::Rc4))] {
            // Nobody listens on that number over TCP, so uTP is tried at once.
            let outbound = Outbound::new(Route::default(), encryption, Some(there.clone()));
            let ours = Handshake::ours(HERE, PeerId([2; 20]));
            let near = outbound
                .connect(
                    here.address(),
                    &crate::outbound::Greeting { ours, upgrade: None },
                    &crate::dialer::DialLimits::default(),
                )
                .await
                .unwrap();
            let far = peers.recv().await.unwrap();
            assert!(matches!(near.stream.carrier(), Carrier::Utp(_)));
            assert_eq!((near.origin().encryption, far.origin().encryption), (payload, payload));
            assert_eq!(far.address, there.address());
        }
        inbound.shutdown().await;
        here.shutdown().await;
        there.shutdown().await;
    }

    #[tokio::test]
    async fn we_do_not_become_our_own_peer_but_hear_who_we_are() {
        let (inbound, address, _peers) = open(InboundLimits::default());
        assert_eq!(heard(&mut knock(address, HERE, US).await).await, HANDSHAKE_LEN);
        assert_eq!((inbound.stats().accepted, inbound.stats().failed), (0, 1));
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_at_its_deadline() {
        let brief = InboundLimits { handshake_timeout: Duration::from_millis(50), ..InboundLimits::default() };
        let (inbound, address, _peers) = open(brief);
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(heard(&mut silent).await, 0);
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn the_fifth_half_open_connection_of_one_address_finds_the_door_shut() {
        let (inbound, address, mut peers) = open(InboundLimits::default());
        let mut waiting = Vec::new();
        for _ in 0..4 {
            waiting.push(TcpStream::connect(address).await.unwrap());
        }
        let mut fifth = TcpStream::connect(address).await.unwrap();
        assert_eq!(heard(&mut fifth).await, 0);
        assert_eq!(inbound.stats().over_limit, 1);
        waiting[0].write_all(&Handshake::ours(HERE, PeerId([2; 20])).encode()).await.unwrap();
        peers.recv().await.unwrap();
        knock(address, HERE, PeerId([3; 20])).await;
        assert!(peers.recv().await.is_some(), "a finished handshake gives its place back");
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn exempt_loopback_is_bound_by_the_total_alone() {
        let limits = InboundLimits { half_open: 6, loopback_exempt: true, ..InboundLimits::default() };
        let (inbound, address, _peers) = open(limits);
        let mut streams = Vec::new();
        for _ in 0..6 {
            streams.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(heard(&mut TcpStream::connect(address).await.unwrap()).await, 0);
        inbound.shutdown().await;
    }

    #[tokio::test]
    async fn shutdown_closes_the_half_open_and_frees_the_port() {
        let (inbound, address, _peers) = open(InboundLimits::default());
        let mut half_open = TcpStream::connect(address).await.unwrap();
        half_open.write_all(b"\x13Bit").await.unwrap();
        inbound.shutdown().await;
        assert_eq!(heard(&mut half_open).await, 0);
        bind_tcp(&Binding::new(address, "test")).unwrap();
    }

    #[test]
    fn running_out_of_descriptors_rests_and_an_aborted_connection_does_not() {
        let no_descriptors = io::Error::from_raw_os_error(24).kind();
        assert_eq!(pause_after(no_descriptors), Some(ACCEPT_PAUSE));
        assert_eq!(pause_after(io::ErrorKind::ConnectionAborted), None);
    }

    #[test]
    fn one_customer_is_one_source() {
        let source = |text: &str| source_of(text.parse().unwrap()).to_string();
        assert_eq!(source("2a00:1:2:3:4:5:6:7"), "2a00:1:2:3::");
        assert_eq!(source("10.0.0.1"), "10.0.0.1");
        assert_eq!(source("::1"), "::1");
    }
}
