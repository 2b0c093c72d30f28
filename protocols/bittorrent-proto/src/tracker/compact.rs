//! Compact addresses: 6 bytes (BEP 23) or 18 bytes (BEP 7) each, end to end.

use std::net::{IpAddr, SocketAddr};

/// Bytes of an IPv4 address with its port.
const V4_BYTES: usize = 6;
/// Bytes of an IPv6 address with its port.
const V6_BYTES: usize = 18;

/// Writes addresses end to end, each in the form of its family.
pub fn encode(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<u8> {
    let mut out = Vec::new();
    for address in addresses {
        match address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
        out.extend_from_slice(&address.port().to_be_bytes());
    }
    out
}

/// Reads IPv4 addresses; a rest that is no whole address is left out.
pub fn parse_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes
        .as_chunks::<V4_BYTES>()
        .0
        .iter()
        .map(|&[a, b, c, d, high, low]| SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low]))))
}

/// Reads IPv6 addresses; a rest that is no whole address is left out.
pub fn parse_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes.as_chunks::<V6_BYTES>().0.iter().map(|chunk| {
        let mut ip = [0; 16];
        ip.copy_from_slice(&chunk[..16]);
        SocketAddr::from((ip, u16::from_be_bytes([chunk[16], chunk[17]])))
    })
}

/// Whether an address can belong to one peer: it has a port, and is neither unspecified, multicast nor broadcast.
#[must_use]
pub const fn dialable(address: &SocketAddr) -> bool {
    let one_host = match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    one_host && address.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_survive_their_compact_form(v4: Vec<([u8; 4], u16)>, v6: Vec<([u8; 16], u16)>) {
            let v4: Vec<SocketAddr> = v4.into_iter().map(SocketAddr::from).collect();
            let v6: Vec<SocketAddr> = v6.into_iter().map(SocketAddr::from).collect();
            prop_assert_eq!(parse_v4(&encode(v4.clone())).collect::<Vec<_>>(), v4);
            prop_assert_eq!(parse_v6(&encode(v6.clone())).collect::<Vec<_>>(), v6);
        }
    }

    #[test]
    fn a_rest_is_left_out() {
        assert_eq!(parse_v4(b"\x7f\0\0\x01\0\x01\x7f").count(), 1);
        assert_eq!(parse_v6(&[1; 35]).count(), 1);
    }
}
