//! What the library's driver of one connection runs on: its tasks, its timers and its sockets.
//!
//! Each connection has a [`Lane`] of its own, because three things are particular to a connection: whether it is in a
//! hurry, which share of a socket is its, and who must hear of it when its driver ends.
//!
//! # Why is a connection in a hurry?
//! Packets that the ICE agent makes in answer to an event lie until its next tick, 200 ms later, and opening a channel
//! takes several. While a connection opens, its driver therefore sleeps 5 ms at most: a channel is open after some
//! 20 ms instead of 600. An offer that waits for its answer has nothing to hurry for.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use socket2::SockRef;
use swarmgate_webtorrent_proto::routes::PeerKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, Transmit,
};

use super::inbox::Inbox;
use super::mux::{Mux, SharedSocket};
use super::socket::enlarge_receive_buffer;

/// The longest sleep of a driver while its connection opens.
const HURRIED_SLEEP: Duration = Duration::from_millis(5);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A shared socket and a connection's inbox there.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) mux: Arc<Mux>,
    pub(crate) inbox: Arc<Inbox>,
}

/// The runtime of one connection.
#[derive(Debug)]
pub(crate) struct Lane {
    inner: Arc<dyn Runtime>,
    key: PeerKey,
    /// Empty when the connection has its own sockets.
    doors: Vec<Door>,
    receive_buffer: usize,
    hurried: AtomicBool,
    /// The library's name for a socket, and the address that it really has.
    aliases: Mutex<Vec<(SocketAddr, SocketAddr)>>,
    settled: Arc<Notify>,
    /// How often datagrams were received.
    heard: Arc<AtomicU64>,
    ended: CancellationToken,
}

impl Lane {
    pub(crate) fn new(inner: Arc<dyn Runtime>, key: PeerKey, doors: Vec<Door>, receive_buffer: usize) -> Self {
        Self {
            inner,
            key,
            doors,
            receive_buffer,
            hurried: AtomicBool::new(false),
            aliases: Mutex::default(),
            settled: Arc::default(),
            heard: Arc::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Begins or ends the hurry; it is felt from the driver's next sleep on.
    pub(crate) fn set_hurried(&self, hurried: bool) {
        self.hurried.store(hurried, Ordering::Relaxed);
    }

    pub(crate) fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// The library's names of shared sockets, each with the socket's real address.
    pub(crate) fn aliases(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.aliases.lock().clone()
    }

    /// Notified when the driver has dealt with all datagrams that had come.
    pub(crate) fn settled(&self) -> &Arc<Notify> {
        &self.settled
    }

    /// Grows with whatever is received.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Cancelled when the driver has ended, by itself, by force or in a panic.
    pub(crate) const fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn door_of(&self, address: SocketAddr) -> Option<&Door> {
        self.doors.iter().find(|door| door.mux.local().ip() == address.ip())
    }
}

impl Runtime for Lane {
    /// What runs here is the driver, and one driver is one connection: its end, and its panic, are the connection's.
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        let ended = self.ended.clone().drop_guard();
        self.inner.spawn(Box::pin(async move {
            let _ended = ended;
            // The panic itself has been reported by the hook.
            let _ = AssertUnwindSafe(future).catch_unwind().await;
        }))
    }

    fn spawn_reactor(&self, pool_size: usize, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        let ended = self.ended.clone().drop_guard();
        let contained = async move {
            let _ended = ended;
            let _ = AssertUnwindSafe(future).catch_unwind().await;
        };
        self.inner.spawn_reactor(pool_size, Box::pin(contained))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let local = socket.local_addr()?;
        let inner: Arc<dyn AsyncUdpSocket> = if let Some(door) = self.door_of(local) {
            self.aliases.lock().push((local, door.mux.local()));
            Arc::new(SharedSocket::new(Arc::clone(&door.mux), Arc::clone(&door.inbox), self.key, local))
        } else {
            enlarge_receive_buffer(&SockRef::from(&socket), self.receive_buffer)?;
            self.inner.wrap_udp_socket(socket)?
        };
        Ok(Arc::new(LaneSocket { inner, settled: Arc::clone(&self.settled), heard: Arc::clone(&self.heard) }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    /// ICE over TCP is not used: no candidate of it gets here.
    fn connect_tcp<'a>(&'a self, _remote: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        self.inner.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        let hurried = self.hurried.load(Ordering::Relaxed);
        self.inner.sleep(if hurried { duration.min(HURRIED_SLEEP) } else { duration })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        self.inner.yield_now()
    }

    fn name(&self) -> &'static str {
        "swarmgate"
    }
}

/// A socket that tells when its datagrams have been dealt with: the driver asks for more only then.
#[derive(Debug)]
struct LaneSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    settled: Arc<Notify>,
    heard: Arc<AtomicU64>,
}

impl AsyncUdpSocket for LaneSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, buffers, metas);
        match &received {
            Poll::Pending => self.settled.notify_waiters(),
            Poll::Ready(Ok(_)) => _ = self.heard.fetch_add(1, Ordering::Relaxed),
            Poll::Ready(Err(_)) => {}
        }
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}
