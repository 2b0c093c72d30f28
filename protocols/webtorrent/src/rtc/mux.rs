//! One socket for many connections: a thread that reads it and hands each datagram to whom it belongs.
//!
//! The library binds a socket for each connection and asks the runtime to wrap it. The runtime gives it a
//! [`SharedSocket`] instead and closes the one that was bound; its port lives on as a name in the library's tables
//! alone, and is replaced in the description that the peer gets.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::SockRef;
use swarmgate_egress::{PeerGate, Way};
use swarmgate_webtorrent_proto::routes::{PeerKey, Routes};
use swarmgate_webtorrent_proto::stun::{looks_like_stun, parcels};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use webrtc::runtime::{AsyncUdpSocket, BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use super::error::RtcError;
use super::inbox::Inbox;
use super::socket::enlarge_receive_buffer;

/// Room for one datagram of Ethernet's size, in bytes; GRO joins several.
const DATAGRAM_BYTES: usize = 1500;
/// Datagrams that a driver takes at once; it keeps two buffers for so many. More are hardly faster.
const MAX_JOINED_DATAGRAMS: usize = 16;
/// A pause after a read that failed for another reason than having nothing, so that a broken socket does not spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A shared socket, as its connections know it.
#[derive(Debug)]
pub(crate) struct Mux {
    local: SocketAddr,
    granted: usize,
    gate: Option<PeerGate>,
    /// The reader's: when it ends, the socket is closed, whoever still knows this.
    wire: Weak<Wire>,
    gso_segments: usize,
    gro_segments: usize,
    table: Mutex<Table>,
    dropped: AtomicU64,
    /// Who found the socket full.
    writers: Mutex<Vec<Waker>>,
    blocked: Notify,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Table {
    routes: Routes,
    inboxes: BTreeMap<PeerKey, Arc<Inbox>>,
}

/// The socket itself, and what the kernel can do for it: joining and splitting datagrams.
struct Wire {
    socket: UdpSocket,
    abilities: UdpSocketState,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Wire {
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = || self.abilities.try_send(UdpSockRef::from(&self.socket), transmit);
        self.socket.try_io(Interest::WRITABLE, send)
    }

    async fn receive(&self, buffers: &mut [Vec<u8>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        let receive = || {
            let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            self.abilities.recv(UdpSockRef::from(&self.socket), &mut slices, metas)
        };
        self.socket.async_io(Interest::READABLE, receive).await
    }
}

/// A shared socket's reading thread, which owns the socket; it ends when stopped or dropped.
#[derive(Debug)]
pub(crate) struct MuxReader {
    mux: Arc<Mux>,
    thread: Option<JoinHandle<()>>,
}

impl MuxReader {
    /// Takes a bound socket over and starts to read it.
    /// Listed and banned addresses get no answer from it.
    pub(crate) fn start(
        socket: std::net::UdpSocket,
        receive_buffer: usize,
        gate: Option<PeerGate>,
    ) -> Result<Self, RtcError> {
        let system = |what| move |source| RtcError::System { what, source };
        let local = socket.local_addr().map_err(system("find out its socket's address"))?;
        if local.ip().is_unspecified() {
            return Err(RtcError::Wildcard(local));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("start a reactor for its socket"))?;
        let wrap = || {
            socket.set_nonblocking(true)?;
            let granted = enlarge_receive_buffer(&SockRef::from(&socket), receive_buffer)?;
            let abilities = UdpSocketState::new(UdpSockRef::from(&socket))?;
            let _context = runtime.enter();
            Ok((granted, Wire { socket: UdpSocket::from_std(socket)?, abilities }))
        };
        let (granted, wire) = wrap().map_err(system("prepare its socket"))?;
        let wire = Arc::new(wire);
        let mux = Arc::new(Mux {
            local,
            granted,
            gate,
            wire: Arc::downgrade(&wire),
            gso_segments: wire.abilities.max_gso_segments(),
            gro_segments: wire.abilities.gro_segments(),
            table: Mutex::new(Table { routes: Routes::new(rand::random()), inboxes: BTreeMap::new() }),
            dropped: AtomicU64::new(0),
            writers: Mutex::default(),
            blocked: Notify::new(),
            stop: CancellationToken::new(),
        });
        let reading = Arc::clone(&mux);
        let thread = std::thread::Builder::new()
            .name(format!("rtc-{}", local.port()))
            .spawn(move || runtime.block_on(reading.run(wire)))
            .map_err(system("start a thread for its socket"))?;
        Ok(Self { mux, thread: Some(thread) })
    }

    pub(crate) const fn mux(&self) -> &Arc<Mux> {
        &self.mux
    }

    /// Ends the thread and waits for it: at most for one pause.
    pub(crate) fn stop(mut self) {
        self.mux.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its hook already.
            let _ = thread.join();
        }
    }
}

impl Drop for MuxReader {
    fn drop(&mut self) {
        self.mux.stop.cancel();
    }
}

impl Mux {
    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The receive buffer, in bytes as the kernel counts them.
    pub(crate) const fn granted(&self) -> usize {
        self.granted
    }

    /// Datagrams that were nobody's or found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Makes a connection reachable.
    pub(crate) fn register(&self, key: PeerKey, ufrag: &str, password: &str) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        let mut table = self.table.lock();
        table.routes.insert(key, ufrag, password);
        table.inboxes.insert(key, Arc::clone(&inbox));
        inbox
    }

    /// As [`Routes::expect`].
    pub(crate) fn expect(&self, key: PeerKey, remote_password: &str, addresses: impl Iterator<Item = SocketAddr>) {
        self.table.lock().routes.expect(key, remote_password, addresses);
    }

    /// As [`Routes::is_taken`].
    pub(crate) fn is_taken(&self, address: SocketAddr, key: Option<PeerKey>) -> bool {
        self.table.lock().routes.is_taken(address, key)
    }

    /// Forgets a connection.
    pub(crate) fn unregister(&self, key: PeerKey) {
        let mut table = self.table.lock();
        table.routes.remove(key);
        table.inboxes.remove(&key);
    }

    async fn run(&self, wire: Arc<Wire>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.read(&wire) => {}
            () = self.wake_writers(&wire) => {}
        }
    }

    async fn wake_writers(&self, wire: &Wire) {
        loop {
            self.blocked.notified().await;
            // An error wakes them too: they meet it themselves.
            let _ = wire.socket.writable().await;
            self.writers.lock().drain(..).for_each(Waker::wake);
        }
    }

    async fn read(&self, wire: &Wire) {
        let room = DATAGRAM_BYTES * self.gro_segments.max(1);
        let mut buffers: Vec<Vec<u8>> = (0..BATCH_SIZE).map(|_| vec![0; room]).collect();
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        loop {
            match wire.receive(&mut buffers, &mut metas).await {
                Ok(count) => self.deliver(&buffers[..count], &metas[..count]),
                Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
            }
        }
    }

    fn deliver(&self, buffers: &[Vec<u8>], metas: &[RecvMeta]) {
        let now = Instant::now();
        let mut table = self.table.lock();
        let mut dropped = 0;
        for (buffer, meta) in buffers.iter().zip(metas) {
            let bytes = &buffer[..meta.len.min(buffer.len())];
            for parcel in parcels(bytes, meta.stride) {
                let first = &parcel[..parcel.len().min(meta.stride.max(1))];
                let Table { routes, inboxes } = &mut *table;
                if looks_like_stun(first) && !self.admits(now, meta.addr) {
                    dropped += 1;
                    continue;
                }
                let taken = routes.deliver(now, meta.addr, first).is_some_and(|(key, datagram)| {
                    let parcel = if let Cow::Owned(answer) = &datagram { answer.as_slice() } else { parcel };
                    inboxes.get(&key).is_some_and(|inbox| inbox.push(meta.addr, meta.stride.max(1), parcel))
                });
                dropped += u64::from(!taken);
            }
        }
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// An address is heard only once it has been bound by STUN, so it is enough to turn that away.
    fn admits(&self, now: Instant, from: SocketAddr) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.check_accept(now, from, Way::WebRtc).is_ok())
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let Some(wire) = self.wire.upgrade() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let mut outcome = wire.send(transmit);
        if is_full(&outcome) {
            // First in the list, then another try: what became free between the two is not missed.
            self.writers.lock().push(cx.waker().clone());
            self.blocked.notify_one();
            outcome = wire.send(transmit);
        }
        if is_full(&outcome) {
            return Poll::Pending;
        }
        Poll::Ready(outcome.map(|()| transmit.contents.len()))
    }
}

fn is_full(outcome: &io::Result<()>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// A connection's share of a socket.
#[derive(Debug)]
pub(crate) struct SharedSocket {
    mux: Arc<Mux>,
    inbox: Arc<Inbox>,
    key: PeerKey,
    /// What the library calls it.
    alias: SocketAddr,
}

impl SharedSocket {
    pub(crate) const fn new(mux: Arc<Mux>, inbox: Arc<Inbox>, key: PeerKey, alias: SocketAddr) -> Self {
        Self { mux, inbox, key, alias }
    }

    /// Has the rules see what is about to be sent; gives back what to send.
    fn note<'d>(&self, to: SocketAddr, datagram: &'d [u8]) -> Cow<'d, [u8]> {
        if !looks_like_stun(datagram) {
            return Cow::Borrowed(datagram);
        }
        self.mux.table.lock().routes.sent(Instant::now(), self.key, to, datagram)
    }
}

impl AsyncUdpSocket for SharedSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.alias)
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let segment = transmit.segment_size.unwrap_or(usize::MAX).max(1);
        let joined = transmit.contents.len() > segment;
        if joined {
            // Checks may be among what is joined; questions to STUN servers are sent one by one.
            let checks = transmit.contents.chunks(segment).filter(|datagram| looks_like_stun(datagram));
            checks.for_each(|check| drop(self.note(transmit.destination, check)));
            return self.mux.poll_send(cx, transmit);
        }
        let contents = self.note(transmit.destination, transmit.contents);
        self.mux.poll_send(cx, &Transmit { contents: &contents, ..*transmit }).map_ok(|_| transmit.contents.len())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inbox.poll_recv(cx, buffers, metas).map(Ok)
    }

    fn max_gso_segments(&self) -> usize {
        self.mux.gso_segments
    }

    fn max_gro_segments(&self) -> usize {
        self.mux.gro_segments.min(MAX_JOINED_DATAGRAMS)
    }
}
