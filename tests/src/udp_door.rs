//! A door by which a peer is reached over UDP alone, where the peer itself would take TCP too: nobody listens for TCP at its
//! number.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::ports;

/// The longest datagram there is.
const DATAGRAM: usize = 65_536;

/// The door, for one visitor: whoever sent last. Dropping it closes it.
#[derive(Debug)]
pub struct UdpDoor {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl UdpDoor {
    /// A door to `peer`.
    pub async fn start(peer: SocketAddr) -> Self {
        let address = ports::free();
        let outside = UdpSocket::bind(address).await.unwrap_or_else(|e| panic!("a door at {address}: {e}"));
        let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("a door: {e}"));
        inside.connect(peer).await.unwrap_or_else(|e| panic!("a door to {peer}: {e}"));
        let task = AbortOnDropHandle::new(tokio::spawn(carry(outside, inside)));
        Self { address, _task: task }
    }

    /// Where visitors knock.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What cannot be delivered is lost, as datagrams are.
async fn carry(outside: UdpSocket, inside: UdpSocket) {
    let (mut inwards, mut outwards) = (vec![0; DATAGRAM], vec![0; DATAGRAM]);
    let mut visitor = None;
    loop {
        tokio::select! {
            came = outside.recv_from(&mut inwards) => if let Ok((len, from)) = came {
                visitor = Some(from);
                let _ = inside.send(&inwards[..len]).await;
            },
            came = inside.recv(&mut outwards) => if let (Ok(len), Some(to)) = (came, visitor) {
                let _ = outside.send_to(&outwards[..len], to).await;
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_go_both_ways_and_no_tcp_does() {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let door = UdpDoor::start(peer.local_addr().unwrap()).await;
        let visitor = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        visitor.send_to(b"in", door.address()).await.unwrap();
        let mut heard = [0; 8];
        let (len, from) = peer.recv_from(&mut heard).await.unwrap();
        assert_eq!(&heard[..len], b"in");
        peer.send_to(b"out", from).await.unwrap();
        assert_eq!(visitor.recv(&mut heard).await.unwrap(), 3);
        assert!(tokio::net::TcpStream::connect(door.address()).await.is_err());
    }
}
