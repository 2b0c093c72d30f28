//! Node ids, the distance between them, and which of them suit an address (BEP 42).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use data_encoding::HEXLOWER;

/// The bits of an IPv4 address that an id is made of (BEP 42).
const MASK_V4: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
/// The bits of the first half of an IPv6 address that an id is made of (BEP 42).
const MASK_V6: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];
/// CRC-32C's polynomial, with its bits in reverse.
const CASTAGNOLI: u32 = 0x82f6_3b78;

/// The id of a node, or of what is stored: 160 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 20]);

/// How far apart two ids are: their exclusive or, read as a number (BEP 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Distance([u8; 20]);

impl NodeId {
    /// Wraps the 20 raw bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Wraps raw bytes, if they are 20.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    pub(crate) fn distance(&self, other: &Self) -> Distance {
        Distance(std::array::from_fn(|at| self.0[at] ^ other.0[at]))
    }

    /// How many bits from the first on are the same: 160 for the same id.
    pub(crate) fn shared_bits(&self, other: &Self) -> usize {
        let Distance(apart) = self.distance(other);
        let whole = apart.iter().take_while(|byte| **byte == 0).count();
        let rest = apart.get(whole).map_or(0, |byte| byte.leading_zeros() as usize);
        whole * 8 + rest
    }

    /// An id that shares exactly `bits` bits with this one, which is below 160; the rest is `random`.
    pub(crate) fn sharing(&self, bits: usize, random: [u8; 20]) -> Self {
        let mut id = random;
        let (whole, rest) = (bits / 8, bits % 8);
        id[..whole].copy_from_slice(&self.0[..whole]);
        let kept = !(0xff_u8.checked_shr(u32::try_from(rest).unwrap_or(0)).unwrap_or(0));
        let flipped = 0x80_u8 >> rest;
        let (own, other) = (self.0[whole], random[whole]);
        id[whole] = (own & kept) | (!own & flipped) | (other & !kept & !flipped);
        Self(id)
    }

    /// An id that suits a node at `ip` (BEP 42), otherwise `random`.
    #[must_use]
    pub fn for_ip(ip: IpAddr, random: [u8; 20]) -> Self {
        let mut id = random;
        let crc = secure_prefix(ip, random[19]);
        id[0] = crc[0];
        id[1] = crc[1];
        id[2] = (crc[2] & 0xf8) | (random[2] & 0x07);
        Self(id)
    }

    /// Whether a node at `ip` may have this id (BEP 42); at private addresses every id may be.
    #[must_use]
    pub fn suits(&self, ip: IpAddr) -> bool {
        let crc = secure_prefix(ip, self.0[19]);
        is_local(ip) || (self.0[..2] == crc[..2] && self.0[2] & 0xf8 == crc[2] & 0xf8)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// The hash of which an id's first 21 bits are.
fn secure_prefix(ip: IpAddr, last: u8) -> [u8; 4] {
    let mut masked = match ip {
        IpAddr::V4(ip) => ip.octets().iter().zip(MASK_V4).map(|(byte, mask)| byte & mask).collect::<Vec<u8>>(),
        IpAddr::V6(ip) => ip.octets().iter().zip(MASK_V6).map(|(byte, mask)| byte & mask).collect(),
    };
    if let Some(first) = masked.first_mut() {
        *first |= (last & 0x07) << 5;
    }
    crc32c(&masked).to_be_bytes()
}

/// CRC-32C a bit at a time: 8 bytes at most, once a node.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { CASTAGNOLI } else { 0 })
    })
}

/// Whether an address belongs to this machine or a private network, which BEP 42 exempts and strangers may not name.
#[must_use]
pub const fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// An address in the form of its own family: IPv4 that came over an IPv6 socket is IPv4.
#[must_use]
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_bep_42_suit_their_addresses() {
        for (ip, last, prefix) in [
            ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
            ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
            ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
            ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
            ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
        ] {
            let mut id = [0; 20];
            id[..3].copy_from_slice(&prefix);
            id[19] = last;
            let ip = ip.parse().unwrap();
            assert!(NodeId::new(id).suits(ip), "{ip}");
            id[0] ^= 1;
            assert!(!NodeId::new(id).suits(ip), "{ip}");
        }
    }

    proptest! {
        #[test]
        fn an_id_made_for_an_address_suits_it(ip: IpAddr, random: [u8; 20]) {
            prop_assert!(NodeId::for_ip(ip, random).suits(ip));
        }

        #[test]
        fn an_id_shares_as_many_bits_as_asked(own: [u8; 20], random: [u8; 20], bits in 0..160_usize) {
            let own = NodeId::new(own);
            prop_assert_eq!(own.sharing(bits, random).shared_bits(&own), bits);
        }

        #[test]
        fn fewer_shared_bits_are_farther(own: [u8; 20], random: [u8; 20], bits in 1..160_usize) {
            let own = NodeId::new(own);
            let (near, far) = (own.sharing(bits, random), own.sharing(bits - 1, random));
            prop_assert!(own.distance(&near) < own.distance(&far));
        }
    }
}
