//! Sockets, each bound once at start-up, or an error that tells the operator which key to change.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Connections that the kernel holds for us before we accept them.
const BACKLOG: i32 = 1024;

/// One socket to bind: where, and which key of the configuration says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The address; port 0 asks the system for a free one.
    pub address: SocketAddr,
    /// The configuration's key, for errors.
    pub key: &'static str,
    /// Whether a socket on `[::]` takes IPv4 as well.
    pub dual_stack: bool,
}

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {transport} {address} ({key}): {}", reason(.source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// `TCP` or `UDP`.
    pub transport: &'static str,
    /// The configuration's key.
    pub key: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// What an operator can do something about.
const REASONS: [(io::ErrorKind, &str); 3] = [
    (io::ErrorKind::AddrInUse, "the port is already in use"),
    (io::ErrorKind::AddrNotAvailable, "this machine does not have that address"),
    (io::ErrorKind::PermissionDenied, "not permitted (ports below 1024 need privileges)"),
];

fn reason(error: &io::Error) -> String {
    let known = REASONS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
}

impl Binding {
    /// An address and its key; `[::]` stays IPv6 only.
    #[must_use]
    pub const fn new(address: SocketAddr, key: &'static str) -> Self {
        Self { address, key, dual_stack: false }
    }

    /// Lets a socket on `[::]` take IPv4 as well.
    #[must_use]
    pub const fn dual_stack(self) -> Self {
        Self { dual_stack: true, ..self }
    }

    /// What went wrong with it.
    #[must_use]
    pub const fn error(&self, transport: &'static str, source: io::Error) -> BindError {
        BindError { address: self.address, transport, key: self.key, source }
    }

    fn socket(&self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), kind, Some(protocol))?;
        if self.address.is_ipv6() {
            socket.set_only_v6(!self.dual_stack)?;
        }
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// Binds and listens. Must be called within a runtime.
///
/// # Errors
/// [`BindError`], whose text suits an operator.
pub fn bind_tcp(binding: &Binding) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = binding.socket(Type::STREAM, Protocol::TCP)?;
        // A restart must not wait for old connections to leave TIME_WAIT. Elsewhere than on Unix the option means
        // that another process may take the port over.
        if cfg!(unix) {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&binding.address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|error| binding.error("TCP", error))
}

/// Binds a datagram socket. Must be called within a runtime.
///
/// # Errors
/// As [`bind_tcp`].
pub fn bind_udp(binding: &Binding) -> Result<UdpSocket, BindError> {
    let bind = || {
        // No SO_REUSEADDR: with it two processes could own one UDP port, and each would miss half its datagrams.
        let socket = binding.socket(Type::DGRAM, Protocol::UDP)?;
        socket.bind(&binding.address.into())?;
        UdpSocket::from_std(socket.into())
    };
    bind().map_err(|error| binding.error("UDP", error))
}

/// Binds a datagram socket on a port that other programs of this machine may listen on too, and joins a multicast group
/// there: on the interface whose address the binding names, or on the one that the system chooses. Must be called within a
/// runtime.
///
/// # Errors
/// As [`bind_tcp`].
pub fn bind_group(binding: &Binding, group: IpAddr) -> Result<UdpSocket, BindError> {
    let bind = || {
        let socket = binding.socket(Type::DGRAM, Protocol::UDP)?;
        // Every client in the local network listens on this one port: of a group each of them gets every datagram.
        socket.set_reuse_address(true)?;
        let any = if group.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        socket.bind(&SocketAddr::new(any, binding.address.port()).into())?;
        match (group, binding.address.ip()) {
            (IpAddr::V4(group), IpAddr::V4(interface)) => {
                socket.join_multicast_v4(&group, &interface)?;
                socket.set_multicast_if_v4(&interface)?;
            }
            (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, 0)?,
            (IpAddr::V4(_), IpAddr::V6(_)) => return Err(io::ErrorKind::InvalidInput.into()),
        }
        UdpSocket::from_std(socket.into())
    };
    bind().map_err(|error| binding.error("UDP", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    fn loopback(port: u16) -> Binding {
        Binding::new(SocketAddr::from(([127, 0, 0, 1], port)), "bittorrent.listen")
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_key_and_reason() {
        let tcp = bind_tcp(&loopback(0)).unwrap();
        let udp = bind_udp(&loopback(0)).unwrap();
        let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        assert_eq!(
            bind_tcp(&loopback(tcp_port)).unwrap_err().to_string(),
            format!("cannot bind TCP 127.0.0.1:{tcp_port} (bittorrent.listen): the port is already in use")
        );
        assert_eq!(
            bind_udp(&loopback(udp_port)).unwrap_err().to_string(),
            format!("cannot bind UDP 127.0.0.1:{udp_port} (bittorrent.listen): the port is already in use")
        );
    }

    #[tokio::test]
    async fn a_port_with_recent_connections_can_be_bound_again_at_once() {
        let listener = bind_tcp(&loopback(0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        drop(accepted);
        drop(listener);
        bind_tcp(&loopback(address.port())).unwrap();
    }

    #[tokio::test]
    async fn a_dual_stack_socket_takes_ipv4() {
        let any = Binding::new(SocketAddr::from(([0u16; 8], 0)), "bittorrent.listen");
        let Ok(listener) = bind_tcp(&any.dual_stack()) else {
            return; // a machine without IPv6
        };
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }
}
