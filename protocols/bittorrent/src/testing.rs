//! Stand-ins for the outside world, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_bittorrent_proto::tracker::{AnnounceEvent, AnnounceRequest};
use swarmgate_content::InfoHash;
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// A UDP tracker (BEP 15) that gives every announce the same peers.
pub(crate) struct UdpTrackerStub {
    address: SocketAddr,
    log: Arc<Mutex<UdpTrackerLog>>,
    _task: AbortOnDropHandle<()>,
}

/// What a [`UdpTrackerStub`] saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct UdpTrackerLog {
    /// Connect requests.
    pub(crate) connects: usize,
    /// The event number of each announce that bore a valid connection id.
    pub(crate) events: Vec<u32>,
    /// Announces with another connection id.
    pub(crate) strangers: usize,
}

/// How a [`UdpTrackerStub`] behaves.
#[derive(Debug, Default, Clone)]
pub(crate) struct UdpTrackerManners {
    /// Datagrams it loses before it answers the first.
    pub(crate) lost: usize,
    /// Announces it forgets the connection after.
    pub(crate) announces_a_connection: Option<usize>,
    /// Peers it knows.
    pub(crate) peers: Vec<std::net::SocketAddrV4>,
}

impl UdpTrackerStub {
    /// Starts answering.
    pub(crate) async fn start(manners: UdpTrackerManners) -> Self {
        Self::serve(UdpSocket::bind("127.0.0.1:0").await.unwrap(), manners)
    }

    /// The same on a socket of the story's.
    pub(crate) fn serve(socket: UdpSocket, manners: UdpTrackerManners) -> Self {
        let address = socket.local_addr().unwrap();
        let log = Arc::new(Mutex::new(UdpTrackerLog::default()));
        let task = tokio::spawn(serve_udp(socket, manners, log.clone()));
        Self { address, log, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("udp://{}/announce", self.address)
    }

    pub(crate) fn log(&self) -> UdpTrackerLog {
        self.log.lock().clone()
    }
}

async fn serve_udp(socket: UdpSocket, manners: UdpTrackerManners, log: Arc<Mutex<UdpTrackerLog>>) {
    let (mut buffer, mut lost, mut on_connection) = ([0; 2048], 0, 0);
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        if lost < manners.lost {
            lost += 1;
            continue;
        }
        let request = &buffer[..len];
        let (action, transaction) = (&request[8..12], &request[12..16]);
        let connection = (log.lock().connects as u64).to_be_bytes();
        let reply = if action == [0; 4] {
            assert_eq!(request[..8], 0x0417_2710_1980u64.to_be_bytes());
            log.lock().connects += 1;
            on_connection = 0;
            let connection = (log.lock().connects as u64).to_be_bytes();
            [&[0; 4], transaction, &connection].concat()
        } else if request[..8] != connection || Some(on_connection) == manners.announces_a_connection {
            log.lock().strangers += 1;
            [&[0, 0, 0, 3], transaction, &b"connection id mismatch"[..]].concat()
        } else if action == [0, 0, 0, 2] {
            [&[0, 0, 0, 2], transaction, &[0, 0, 0, 5, 0, 0, 0, 50, 0, 0, 0, 10]].concat()
        } else {
            on_connection += 1;
            log.lock().events.push(u32::from_be_bytes(request[80..84].try_into().unwrap()));
            let mut reply = [&[0, 0, 0, 1], transaction, &1800u32.to_be_bytes(), &[0; 8]].concat();
            for peer in &manners.peers {
                reply.extend(peer.ip().octets());
                reply.extend(peer.port().to_be_bytes());
            }
            reply
        };
        socket.send_to(&reply, from).await.unwrap();
    }
}

/// A plain HTTP answer.
pub(crate) fn http_ok(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// An announce of some torrent.
pub(crate) fn announce_request(event: AnnounceEvent) -> AnnounceRequest {
    AnnounceRequest {
        infohash: InfoHash::new([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 8421,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event,
        numwant: None,
        key: 7,
        tracker_id: None,
    }
}
