//! Finds peers in the local network (BEP 14): one socket a family for all torrents, bound at the start.
//!
//! What is called when is decided by the rules in [`swarmgate_bittorrent_proto::lsd`]. A torrent is called out while its
//! [`Calling`] lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::lsd::{self, LocalDiscovery, MAX_DATAGRAM_BYTES};
use swarmgate_bittorrent_proto::peer_book::PeerSource;
use swarmgate_content::InfoHash;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dialer::Found;
use crate::wait::until;

/// How long reading rests after an error of the socket.
const READ_PAUSE: Duration = Duration::from_millis(500);

/// The sockets that calls are made and heard on, members of their groups.
#[derive(Debug, Default)]
pub struct LsdSockets {
    /// For IPv4.
    pub v4: Option<UdpSocket>,
    /// For IPv6.
    pub v6: Option<UdpSocket>,
}

/// The callers' and hearers' task of one application. Its owner must call [`Self::shutdown`].
#[derive(Debug, Clone)]
pub(crate) struct LocalNetwork {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    rules: Mutex<LocalDiscovery>,
    hearers: Mutex<Hearers>,
    changed: Notify,
}

/// Who hears of each torrent, and by which number its calling goes: a torrent may be started anew before its end.
#[derive(Debug, Default)]
struct Hearers {
    serial: u64,
    of: BTreeMap<InfoHash, (u64, mpsc::Sender<Found>)>,
}

/// A torrent's place among those that are called out; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Calling {
    shared: Arc<Shared>,
    infohash: InfoHash,
    serial: u64,
}

impl LsdSockets {
    /// Each socket's address.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [&self.v4, &self.v6].into_iter().flatten().filter_map(|socket| socket.local_addr().ok())
    }
}

impl LocalNetwork {
    /// Starts to listen; `port` is where peers can dial us.
    pub(crate) fn start(sockets: LsdSockets, port: u16) -> Self {
        let cookie = format!("{:016x}", rand::random::<u64>());
        let shared = Arc::new(Shared {
            rules: Mutex::new(LocalDiscovery::new(Instant::now(), cookie, port)),
            hearers: Mutex::default(),
            changed: Notify::new(),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let sockets: Vec<_> = sockets.v4.into_iter().chain(sockets.v6).map(Arc::new).collect();
        for socket in &sockets {
            tasks.spawn(stop.clone().run_until_cancelled_owned(hear(socket.clone(), shared.clone())));
        }
        tasks.spawn(stop.clone().run_until_cancelled_owned(call(sockets, shared.clone())));
        tasks.close();
        Self { shared, stop, tasks }
    }

    /// Calls out a public torrent for as long as the answer lives; whoever is heard looking for it is told to `found`.
    pub(crate) fn call_out(&self, infohash: InfoHash, found: mpsc::Sender<Found>) -> Calling {
        let serial = {
            let mut hearers = self.shared.hearers.lock();
            hearers.serial += 1;
            let serial = hearers.serial;
            hearers.of.insert(infohash, (serial, found));
            serial
        };
        self.shared.rules.lock().add(Instant::now(), infohash);
        self.shared.changed.notify_one();
        Calling { shared: self.shared.clone(), infohash, serial }
    }

    /// Ends all tasks; the sockets are closed when it returns.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut hearers = self.shared.hearers.lock();
        if hearers.of.get(&self.infohash).is_some_and(|(serial, _)| *serial == self.serial) {
            hearers.of.remove(&self.infohash);
            self.shared.rules.lock().remove(&self.infohash);
        }
    }
}

/// Makes the calls that are due.
async fn call(sockets: Vec<Arc<UdpSocket>>, shared: Arc<Shared>) {
    loop {
        let (call, next) = {
            let mut rules = shared.rules.lock();
            (rules.poll_call(Instant::now()), rules.poll_timeout())
        };
        let Some(call) = call else {
            tokio::select! {
                () = shared.changed.notified() => {}
                () = until(next) => {}
            }
            continue;
        };
        for socket in &sockets {
            let v4 = socket.local_addr().is_ok_and(|address| address.is_ipv4());
            let (group, host) = if v4 {
                (SocketAddr::from((lsd::GROUP_V4, lsd::PORT)), lsd::GROUP_V4.to_string())
            } else {
                (SocketAddr::from((lsd::GROUP_V6, lsd::PORT)), format!("[{}]", lsd::GROUP_V6))
            };
            if let Err(error) = socket.send_to(&call.encode(&host), group).await {
                tracing::debug!(%error, %group, "nobody in the local network was called");
            }
        }
    }
}

async fn hear(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => shared.take(&buffer[..len], from),
            Err(error) => {
                tracing::debug!(%error, "hearing the local network failed");
                tokio::time::sleep(READ_PAUSE).await;
            }
        }
    }
}

impl Shared {
    fn take(&self, datagram: &[u8], from: SocketAddr) {
        let Some((port, infohashes)) = self.rules.lock().on_datagram(Instant::now(), datagram) else { return };
        let address = SocketAddr::new(from.ip().to_canonical(), port);
        let hearers = self.hearers.lock();
        for (_, found) in infohashes.iter().filter_map(|infohash| hearers.of.get(infohash)) {
            // A torrent that has more to do than to listen hears the next call.
            let _ = found.try_send(Found { source: PeerSource::Lsd, addresses: vec![address] });
        }
    }
}
