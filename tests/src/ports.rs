//! Loopback ports for programs that must be told theirs on the command line.
//!
//! Prefer port 0 where the program under test is in this process. A port from here was free a moment ago, for TCP and
//! UDP; it lies below the kernel's ephemeral range, so that no outgoing connection of another story can take it
//! between the look and the use.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;

use rand::RngExt as _;

/// Above what services use and below Linux's first ephemeral port, 32768.
const RANGE: Range<u16> = 18_000..32_000;

/// How many candidates are tried before the machine is called full.
const MAX_TRIES: usize = 200;

/// A loopback address with a port that nobody listens on.
pub fn free() -> SocketAddr {
    for _ in 0..MAX_TRIES {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(RANGE)));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port in {RANGE:?} after {MAX_TRIES} tries");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let address = free();
        assert!(address.ip().is_loopback());
        assert!(RANGE.contains(&address.port()));
        TcpListener::bind(address).unwrap();
    }
}
