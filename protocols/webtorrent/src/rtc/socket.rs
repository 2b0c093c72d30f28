//! The kernel's receive buffer: asked for, and what was granted.

use std::io;
use std::net::{IpAddr, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Asks for a receive buffer of so many bytes and says what the kernel granted, by its own count: Linux doubles what is
/// asked, for its bookkeeping. A process with CAP_NET_ADMIN gets past `net.core.rmem_max`.
pub(crate) fn enlarge_receive_buffer(socket: &SockRef<'_>, wanted: usize) -> io::Result<usize> {
    socket.set_recv_buffer_size(wanted)?;
    #[cfg(target_os = "linux")]
    if socket.recv_buffer_size()? < wanted {
        // Without the capability it stays as it is.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&**socket, wanted);
    }
    socket.recv_buffer_size()
}

/// The addresses from which this machine reaches the world, one a family at most: those of the default routes. Nothing
/// is sent. Where a listener is configured for all addresses, these are the ones to be told to peers.
#[must_use]
pub fn outbound_addresses() -> Vec<IpAddr> {
    // Addresses that are documentation's: connecting a datagram socket only looks a route up.
    let routes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let address = |(any, far)| {
        let socket = UdpSocket::bind::<&str>(any).ok()?;
        socket.connect::<&str>(far).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    routes.into_iter().filter_map(address).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect()
}

/// What a socket of this machine would be granted.
pub(crate) fn probe_receive_buffer(wanted: usize) -> io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    enlarge_receive_buffer(&SockRef::from(&socket), wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_read_back_and_no_more_than_the_kernels_double() {
        let granted = probe_receive_buffer(64 * 1024).unwrap();
        assert!((64 * 1024..=128 * 1024).contains(&granted), "{granted}");
    }
}
