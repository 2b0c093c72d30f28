//! TCP for the node.
//!
//! # Why not libp2p's?
//! It binds with SO_REUSEPORT, so that dials may leave from the port that is listened on. Then a second process of the
//! same user binds the same port without an error, and gets every other connection. And it asks the kernel about its
//! interfaces through a socket of its own, for as long as it lives.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::multiaddr::Protocol;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::futures::future::{BoxFuture, FutureExt};
use libp2p::tcp::tokio::TcpStream;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::{Sleep, sleep};

/// Connections that the kernel holds for us before we accept them.
const BACKLOG: i32 = 1024;
/// How long nothing is accepted after accepting failed: mostly there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// Interfaces whose addresses are told of, for a socket that is bound to all.
const MAX_INTERFACES: usize = 64;

type Event = TransportEvent<Ready<io::Result<TcpStream>>, io::Error>;

struct Listener {
    id: ListenerId,
    socket: TcpListener,
}

/// Dials and listens.
#[derive(Default)]
pub(super) struct Tcp {
    listeners: Vec<Listener>,
    events: VecDeque<Event>,
    pause: Option<Pin<Box<Sleep>>>,
}

fn address_of(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::empty().with(ip.into()).with(Protocol::Tcp(port))
}

/// The socket address of `/ip4/…/tcp/…`, with a peer's id behind it or not. What runs over something else than plain
/// TCP, WebSockets say, is none.
fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let ip = super::transport::host_of(address)?;
    let mut rest = address.iter().skip(1);
    let Some(Protocol::Tcp(port)) = rest.next() else { return None };
    let plain = match (rest.next(), rest.next()) {
        (None | Some(Protocol::P2p(_)), None) => true,
        (_, _) => false,
    };
    plain.then(|| SocketAddr::new(ip, port))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections to leave TIME_WAIT. Elsewhere than on Unix the option means that
    // another process may take the port over.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Where a socket is reached: where it is bound, or at every interface.
fn reached_at(local: SocketAddr) -> Vec<IpAddr> {
    if !local.ip().is_unspecified() {
        return vec![local.ip()];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let ips = interfaces.into_iter().map(|interface| interface.ip());
    let same: Vec<_> = ips.filter(|ip| ip.is_ipv4() == local.is_ipv4()).take(MAX_INTERFACES).collect();
    if same.is_empty() { vec![local.ip()] } else { same }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(TcpStream(stream))
}

impl Transport for Tcp {
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<TcpStream>>;
    type Dial = BoxFuture<'static, io::Result<TcpStream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let wanted = socket_of(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        let socket = bind(wanted).map_err(TransportError::Other)?;
        let local = socket.local_addr().map_err(TransportError::Other)?;
        for ip in reached_at(local) {
            let listen_addr = address_of(ip, local.port());
            self.events.push_back(TransportEvent::NewAddress { listener_id: id, listen_addr });
        }
        self.listeners.push(Listener { id, socket });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(index) = self.listeners.iter().position(|listener| listener.id == id) else { return false };
        self.listeners.remove(index);
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        true
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match socket_of(&address) {
            Some(target) if target.port() != 0 && !target.ip().is_unspecified() => Ok(connect(target).boxed()),
            Some(_) | None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        for listener in &self.listeners {
            let listener_id = listener.id;
            match listener.socket.poll_accept(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok((stream, remote))) => match accepted(stream, remote, listener_id) {
                    Ok(event) => return Poll::Ready(event),
                    Err(error) => return Poll::Ready(TransportEvent::ListenerError { listener_id, error }),
                },
                Poll::Ready(Err(error)) => {
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                    return Poll::Ready(TransportEvent::ListenerError { listener_id, error });
                }
            }
        }
        Poll::Pending
    }
}

fn accepted(stream: tokio::net::TcpStream, remote: SocketAddr, listener_id: ListenerId) -> io::Result<Event> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok(TransportEvent::Incoming {
        listener_id,
        upgrade: ready(Ok(TcpStream(stream))),
        local_addr: address_of(local.ip(), local.port()),
        send_back_addr: address_of(remote.ip(), remote.port()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_tcp_is_dialled() {
        let peer = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";
        for (address, expected) in [
            ("/ip4/127.0.0.1/tcp/4001".to_owned(), Some("127.0.0.1:4001")),
            (format!("/ip6/::1/tcp/4001/p2p/{peer}"), Some("[::1]:4001")),
            ("/ip4/127.0.0.1/tcp/4001/ws".to_owned(), None),
            (format!("/ip4/127.0.0.1/tcp/4001/p2p/{peer}/p2p-circuit"), None),
            ("/ip4/127.0.0.1/udp/4001/quic-v1".to_owned(), None),
            ("/dns/localhost/tcp/4001".to_owned(), None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(socket_of(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
