//! A DHT node (BEP 5) written by hand, on the codec alone, that writes down what it is asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::bencode::{DecodeOptions, OwnedValue, decode};
use swarmgate_content::InfoHash;
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// A DHT node that answers as BEP 5 says, has no peers for anybody and writes down what it is asked for.
#[derive(Debug)]
pub struct DhtStub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<InfoHash>>>,
    _task: AbortOnDropHandle<()>,
}

impl DhtStub {
    /// Starts one on a loopback port.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("a DHT node: {e}"));
        let address = socket.local_addr().unwrap_or_else(|e| panic!("a DHT node: {e}"));
        let asked = Arc::default();
        let task = tokio::spawn(answer(socket, address, Arc::clone(&asked)));
        Self { address, asked, _task: AbortOnDropHandle::new(task) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether somebody looked for peers of a torrent, or announced to be one.
    pub fn was_asked_for(&self, infohash: &InfoHash) -> bool {
        self.asked.lock().contains(infohash)
    }
}

async fn answer(socket: UdpSocket, own: SocketAddr, asked: Arc<Mutex<Vec<InfoHash>>>) {
    let mut buffer = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        let Ok(value) = decode(&buffer[..len], DecodeOptions::strict(2048)) else { continue };
        let Some(query) = value.as_dict().filter(|dict| dict.bytes("y") == Some(b"q")) else { continue };
        let arguments = query.get("a").and_then(|a| a.as_dict());
        asked.lock().extend(arguments.and_then(|a| InfoHash::from_slice(a.bytes("info_hash")?)));
        let node = [&[0x11; 20][..], &[127, 0, 0, 1], &own.port().to_be_bytes()].concat();
        let result = [("id", [0x11; 20][..].into()), ("nodes", node.into()), ("token", "t".into())];
        let reply = OwnedValue::dict([
            ("r", OwnedValue::dict(result)),
            ("t", query.bytes("t").unwrap_or_default().into()),
            ("y", "r".into()),
        ]);
        let _ = socket.send_to(&reply.encode(), from).await;
    }
}
