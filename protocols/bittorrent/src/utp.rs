//! uTP (BEP 29) over a UDP socket that was bound at start-up: dials peers, and hands over those who dial us.
//!
//! The protocol itself is `librqbit_utp`. What this file adds is ownership: the socket comes from outside, its errors
//! end one connection and never the port, a lost first packet is sent again, no more is on its way than a short link can
//! take (`flight`), and after [`UtpPort::shutdown`] the socket is closed. `Wire` is all that the protocol knows of the network, so a socket shared with others (the DHT, UDP
//! trackers) would be another `Wire` and no more; until then it has one of its own.

mod connection;
mod flight;

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dontfrag::UdpSocketExt;
use librqbit_dualstack_sockets::PollSendToVectored;
use librqbit_utp::{SocketOpts, Transport, UtpSocket, UtpSocketUdp};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use connection::Senders;
pub use connection::UtpConnection;

/// Connections that were accepted and wait to be greeted; beyond that the protocol holds 32 first packets, and refuses.
const ACCEPTED: usize = 8;
/// How long a connection may be silent, in both directions. Peers say something every two minutes (BEP 3).
const INACTIVITY: Duration = Duration::from_secs(180);
/// First packets sent for one connection, and how long each is waited for. The protocol sends one and no more.
const SYN_WAITS: [Duration; 3] = [Duration::from_millis(800), Duration::from_millis(1600), Duration::from_secs(3)];
/// How long reading rests after an error of the socket.
const READ_PAUSE: Duration = Duration::from_millis(20);
/// What the kernel is asked to hold for us, in bytes: all connections come in by one socket.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// One UDP port that speaks uTP. Its owner must call [`Self::shutdown`]; clones only use it.
#[derive(Debug, Clone)]
pub struct UtpPort {
    /// Gone once the port is shut down, whoever still has a clone of it.
    socket: Arc<Mutex<Option<Socket>>>,
    local: SocketAddr,
    stop: CancellationToken,
    /// Whatever holds the socket.
    users: TaskTracker,
    accepted: Arc<Mutex<Option<mpsc::Receiver<UtpConnection>>>>,
    senders: Arc<Senders>,
}

/// Peers that dial us over uTP.
#[derive(Debug)]
pub struct UtpEntrance(mpsc::Receiver<UtpConnection>);

/// Names the protocol's own clock and randomness, which it exports no name for.
trait HasEnvironment {
    type Environment;
}

impl<T, E> HasEnvironment for UtpSocket<T, E> {
    type Environment = E;
}

type Environment = <UtpSocketUdp as HasEnvironment>::Environment;
type Socket = Arc<UtpSocket<Wire, Environment>>;

/// The datagrams of one port.
struct Wire {
    socket: UdpSocket,
    local: SocketAddr,
    senders: Arc<Senders>,
    /// Given back after the socket is closed.
    _user: TaskTrackerToken,
}

impl UtpPort {
    /// Starts to speak over a socket; `max_streams` connections at a time, in both directions. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// When the socket has no address.
    pub fn start(socket: UdpSocket, max_streams: usize) -> io::Result<Self> {
        let local = socket.local_addr()?;
        tune(&socket, local);
        let (stop, users) = (CancellationToken::new(), TaskTracker::new());
        let senders = Arc::<Senders>::default();
        let wire = Wire { socket, local, senders: senders.clone(), _user: users.token() };
        let options = SocketOpts {
            disable_nagle: true,
            cancellation_token: stop.clone(),
            remote_inactivity_timeout: Some(INACTIVITY),
            max_live_vsocks: NonZeroUsize::new(max_streams),
            dont_wait_for_lastack: true,
            ..SocketOpts::default()
        };
        let socket = UtpSocket::new_with_opts(wire, Environment::default(), options).map_err(io::Error::other)?;
        let (sender, accepted) = mpsc::channel(ACCEPTED);
        users.spawn(stop.clone().run_until_cancelled_owned(accept(socket.clone(), senders.clone(), sender)));
        users.close();
        let socket = Arc::new(Mutex::new(Some(socket)));
        Ok(Self { socket, local, stop, users, accepted: Arc::new(Mutex::new(Some(accepted))), senders })
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.local
    }

    /// Those who dial us; the first call has them.
    #[must_use]
    pub fn entrance(&self) -> Option<UtpEntrance> {
        self.accepted.lock().take().map(UtpEntrance)
    }

    /// Whether an address is of a family that this port can send to.
    #[must_use]
    pub const fn reaches(&self, address: &SocketAddr) -> bool {
        match self.local.ip() {
            IpAddr::V4(_) => address.is_ipv4(),
            IpAddr::V6(ip) => address.is_ipv6() || ip.is_unspecified(),
        }
    }

    /// Dials a peer.
    ///
    /// # Errors
    /// When it does not answer within some five seconds, or cannot be sent to.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<UtpConnection> {
        // Taken before the socket, so given back after it.
        let _user = self.users.token();
        let socket = self.socket.lock().clone().ok_or(io::ErrorKind::NotConnected)?;
        let dial = self.stop.run_until_cancelled(dial(&socket, address)).await;
        let stream = dial.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))?;
        Ok(UtpConnection::new(stream, self.senders.clone()))
    }

    /// Ends all connections; the socket is closed when it returns.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        drop((self.socket.lock().take(), self.accepted.lock().take()));
        self.users.wait().await;
    }
}

async fn dial(socket: &Socket, address: SocketAddr) -> io::Result<librqbit_utp::UtpStream> {
    for wait in SYN_WAITS {
        match tokio::time::timeout(wait, socket.connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(librqbit_utp::Error::ErrorSendingSyn(error))) => return Err(error),
            Ok(Err(error)) => return Err(io::Error::other(error)),
            Err(_) => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

impl UtpEntrance {
    /// The next one, or `None` when the port is closed. May be dropped while waiting.
    pub async fn accept(&mut self) -> Option<UtpConnection> {
        self.0.recv().await
    }
}

async fn accept(socket: Socket, senders: Arc<Senders>, accepted: mpsc::Sender<UtpConnection>) {
    loop {
        let Ok(room) = accepted.reserve().await else { return };
        match socket.accept().await {
            Ok(stream) => room.send(UtpConnection::new(stream, senders.clone())),
            Err(_) => return,
        }
    }
}

/// What can be had of the kernel: room for what comes in bursts, and packets that are refused rather than cut to pieces,
/// by which the protocol learns how long they may be.
fn tune(socket: &UdpSocket, local: SocketAddr) {
    let room = socket2::SockRef::from(socket).set_recv_buffer_size(RECEIVE_BUFFER);
    let whole = if local.is_ipv4() { socket.set_dontfrag_v4(true) } else { socket.set_dontfrag_v6(true) };
    for error in [room, whole].into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a uTP socket is not as it should be");
    }
}

impl Wire {
    /// How this socket spells an address: one of IPv6 that takes IPv4 as well has IPv4 addresses mapped.
    fn spelled(&self, address: SocketAddr) -> SocketAddr {
        match (self.local, address) {
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            (SocketAddr::V6(_) | SocketAddr::V4(_), other) => other,
        }
    }
}

impl PollSendToVectored for Wire {
    fn poll_send_to_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.senders.note(target, cx);
        if let Some((head, bytes)) = slices.split_first() {
            self.senders.sends(target, head, bytes.iter().map(|slice| slice.len()).sum());
        }
        self.socket.poll_send_to_vectored(cx, slices, self.spelled(target))
    }
}

impl Transport for Wire {
    /// Never fails: the protocol would end the whole port over an error that is one packet's.
    async fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            match self.socket.recv_from(buf).await {
                Ok((len, from)) => {
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    self.senders.received(from, &buf[..len]);
                    return Ok((len, from));
                }
                Err(error) => {
                    tracing::debug!(%error, "reading uTP packets failed");
                    tokio::time::sleep(READ_PAUSE).await;
                }
            }
        }
    }

    fn send_to<'a>(
        &'a self,
        buf: &'a [u8],
        target: SocketAddr,
    ) -> impl Future<Output = io::Result<usize>> + Send + Sync + 'a {
        self.socket.send_to(buf, self.spelled(target))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        self.senders.note(target, cx);
        self.socket.poll_send_to(cx, buf, self.spelled(target))
    }

    fn bind_addr(&self) -> SocketAddr {
        self.local
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{Binding, bind_udp};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::task::AbortOnDropHandle;

    fn port(ip: &str) -> UtpPort {
        let binding = Binding::new(SocketAddr::new(ip.parse().unwrap(), 0), "test");
        UtpPort::start(bind_udp(&binding.dual_stack()).unwrap(), 8).unwrap()
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_port_is_free_afterwards() {
        let (near, far) = (port("127.0.0.1"), port("127.0.0.1"));
        let mut entrance = far.entrance().unwrap();
        let (dialled, accepted) = tokio::join!(near.connect(far.address()), entrance.accept());
        let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!((dialled.remote_addr(), accepted.remote_addr()), (far.address(), near.address()));
        dialled.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        accepted.read_exact(&mut heard).await.unwrap();
        accepted.write_all(&heard).await.unwrap();
        dialled.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
        let addresses = [near.address(), far.address()];
        near.shutdown().await;
        far.shutdown().await;
        for address in addresses {
            bind_udp(&Binding::new(address, "test")).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_written_behind_a_packet_under_way_does_not_wait_for_its_acknowledgement() {
        let (near, far) = (port("127.0.0.1"), port("127.0.0.1"));
        let mut entrance = far.entrance().unwrap();
        let (dialled, accepted) = tokio::join!(near.connect(far.address()), entrance.accept());
        let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        // Each is acknowledged 40 ms later, since none comes the other way.
        let crumbs = async {
            for crumb in 0..100 {
                dialled.write_u8(crumb).await.unwrap();
                assert_eq!(accepted.read_u8().await.unwrap(), crumb);
            }
        };
        tokio::time::timeout(Duration::from_secs(2), crumbs).await.expect("a hundred waits take four seconds");
        near.shutdown().await;
        far.shutdown().await;
    }

    /// Passes packets between somebody who sends to the address and `far`, but for each `nth`.
    async fn lossy(far: SocketAddr, nth: u32) -> (SocketAddr, AbortOnDropHandle<()>) {
        let (here, there) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = here.local_addr().unwrap();
        let relay = async move {
            let (mut near, mut count) = (None, 0);
            let (mut up, mut down) = ([0; 2048], [0; 2048]);
            loop {
                let passed = tokio::select! {
                    packet = here.recv_from(&mut up) => packet.map(|(len, from)| {
                        near = Some(from);
                        (len, true)
                    }),
                    packet = there.recv_from(&mut down) => packet.map(|(len, _)| (len, false)),
                };
                let Ok((len, is_up)) = passed else { continue };
                count += 1;
                if count % nth == 0 {
                    continue;
                }
                match (is_up, near) {
                    (true, _) => drop(there.send_to(&up[..len], far).await),
                    (false, Some(near)) => drop(here.send_to(&down[..len], near).await),
                    (false, None) => {}
                }
            }
        };
        (address, AbortOnDropHandle::new(tokio::spawn(relay)))
    }

    #[tokio::test]
    async fn over_a_link_that_loses_packets_all_bytes_come_and_their_count_stays_right() {
        const LEN: usize = 4 << 20;
        let (near, far) = (port("127.0.0.1"), port("127.0.0.1"));
        let (link, _relay) = lossy(far.address(), 101).await;
        let mut entrance = far.entrance().unwrap();
        let (dialled, accepted) = tokio::join!(near.connect(link), entrance.accept());
        let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        let bytes: Vec<u8> = (0..LEN).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let mut come = vec![0; LEN];
        let both = async { tokio::join!(dialled.write_all(&bytes), accepted.read_exact(&mut come)) };
        let (wrote, read) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("they go on");
        assert!(wrote.is_ok() && read.is_ok() && come == bytes);
        // What is behind the last acknowledgement is still on its way.
        let settled = async {
            while near.senders.acknowledged(link) != Some(LEN as u64) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), settled).await.expect("all that was written is acknowledged");
        near.shutdown().await;
        far.shutdown().await;
    }

    #[tokio::test]
    async fn a_dual_stack_port_reaches_ipv4_and_names_it_plainly() {
        let binding = Binding::new("[::]:0".parse().unwrap(), "test").dual_stack();
        let Ok(socket) = bind_udp(&binding) else { return };
        let (near, far) = (UtpPort::start(socket, 8).unwrap(), port("127.0.0.1"));
        let mut entrance = far.entrance().unwrap();
        let (dialled, accepted) = tokio::join!(near.connect(far.address()), entrance.accept());
        assert_eq!(dialled.unwrap().remote_addr(), far.address());
        assert!(accepted.unwrap().remote_addr().is_ipv4());
        assert!(near.reaches(&far.address()) && !far.reaches(&"[::1]:1".parse().unwrap()));
        near.shutdown().await;
        far.shutdown().await;
    }

    #[tokio::test]
    async fn a_first_packet_that_is_lost_is_sent_again() {
        let (near, silent) = (port("127.0.0.1"), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = silent.local_addr().unwrap();
        let dial = tokio::spawn({
            let near = near.clone();
            async move { near.connect(address).await }
        });
        let mut packet = [0; 64];
        let (len, _) = silent.recv_from(&mut packet).await.unwrap();
        assert_eq!((len, packet[0]), (20, 0x41), "a first packet of version 1");
        silent.recv_from(&mut packet).await.unwrap();
        dial.abort();
        assert!(dial.await.is_err_and(|ended| ended.is_cancelled()));
        near.shutdown().await;
    }
}
