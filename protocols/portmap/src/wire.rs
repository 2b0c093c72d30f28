//! What PCP (RFC 6887) and NAT-PMP (RFC 6886) say to a router and hear from it. Both are datagrams to one port, told apart by
//! the first byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::leases::{Transport, Wanted};

/// Where a router listens for either.
pub const PORT: u16 = 5351;
/// Longest answer read, in bytes (RFC 6887 §7).
pub const MAX_BYTES: usize = 1100;
/// PCP's version, the first byte of its messages.
const PCP: u8 = 2;
/// NAT-PMP's.
const NAT_PMP: u8 = 0;
/// PCP's operation that maps a port.
const MAP: u8 = 1;
/// Set in the operation of every answer.
const ANSWER: u8 = 0x80;
/// Bytes of a PCP request or answer that maps a port, without options.
const MAP_BYTES: usize = 60;
/// The numbers of the transports (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Ties a PCP mapping to who made it, so that nobody else takes it away.
pub type Nonce = [u8; 12];

/// What a router said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// PCP: how a mapping is from now on, or why it is not.
    Pcp {
        /// Why not; 0 is success.
        result: u8,
        /// For how long that holds.
        lifetime: Duration,
        /// Seconds that the router has kept its mappings.
        epoch: u32,
        /// What it is about, unless the router did not get as far.
        about: Option<PcpMapping>,
    },
    /// NAT-PMP: the router's own address.
    Address {
        /// Why not; 0 is success.
        result: u16,
        /// As above.
        epoch: u32,
        /// The address.
        address: Ipv4Addr,
    },
    /// NAT-PMP: how a mapping is from now on, or why it is not.
    Mapping {
        /// Why not; 0 is success.
        result: u16,
        /// As above.
        epoch: u32,
        /// What it is about.
        wanted: Wanted,
        /// The port outside.
        external: u16,
        /// For how long that holds.
        lifetime: Duration,
    },
    /// The router does not know the version that it was asked in; the first byte of what it knows instead.
    OtherVersion(u8),
}

/// A mapping in PCP's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcpMapping {
    /// Whose it is.
    pub nonce: Nonce,
    /// What is forwarded to.
    pub wanted: Wanted,
    /// The port outside.
    pub external_port: u16,
    /// The address outside.
    pub external_ip: IpAddr,
}

/// Asks by PCP that a port be forwarded; a lifetime of 0 takes that back. `suggested` is the port outside, 0 for any.
#[must_use]
pub fn pcp_map(local: Ipv4Addr, wanted: Wanted, nonce: &Nonce, suggested: u16, lifetime: Duration) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAP_BYTES);
    out.extend([PCP, MAP, 0, 0]);
    out.extend(seconds(lifetime).to_be_bytes());
    out.extend(local.to_ipv6_mapped().octets());
    out.extend(nonce);
    out.extend([number(wanted.transport), 0, 0, 0]);
    out.extend(wanted.port.to_be_bytes());
    out.extend(suggested.to_be_bytes());
    out.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    out
}

/// Asks by NAT-PMP for the router's address.
#[must_use]
pub const fn nat_pmp_address() -> [u8; 2] {
    [NAT_PMP, 0]
}

/// Asks by NAT-PMP that a port be forwarded; a lifetime of 0 takes that back.
#[must_use]
pub fn nat_pmp_map(wanted: Wanted, suggested: u16, lifetime: Duration) -> Vec<u8> {
    let operation = match wanted.transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
    };
    let mut out = vec![NAT_PMP, operation, 0, 0];
    out.extend(wanted.port.to_be_bytes());
    out.extend(suggested.to_be_bytes());
    out.extend(seconds(lifetime).to_be_bytes());
    out
}

impl Answer {
    /// Reads an answer; `None` is none that we know.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&version, &operation) = (bytes.first()?, bytes.get(1)?);
        if bytes.len() > MAX_BYTES || operation & ANSWER == 0 {
            return None;
        }
        match version {
            PCP => Self::pcp(operation, bytes),
            NAT_PMP => Self::nat_pmp(operation, bytes),
            other => Some(Self::OtherVersion(other)),
        }
    }

    fn pcp(operation: u8, bytes: &[u8]) -> Option<Self> {
        let result = *bytes.get(3)?;
        if result == 1 {
            return Some(Self::OtherVersion(PCP));
        }
        let lifetime = Duration::from_secs(u32_at(bytes, 4)?.into());
        let about = if operation == MAP | ANSWER { pcp_mapping(bytes) } else { None };
        Some(Self::Pcp { result, lifetime, epoch: u32_at(bytes, 8)?, about })
    }

    fn nat_pmp(operation: u8, bytes: &[u8]) -> Option<Self> {
        let result = u16_at(bytes, 2)?;
        // A router that knows NAT-PMP alone answers so to the version of PCP (RFC 6886 §3.5).
        if result == 1 {
            return Some(Self::OtherVersion(NAT_PMP));
        }
        let epoch = u32_at(bytes, 4)?;
        let transport = match operation & !ANSWER {
            0 => return Some(Self::Address { result, epoch, address: u32_at(bytes, 8).unwrap_or_default().into() }),
            1 => Transport::Udp,
            2 => Transport::Tcp,
            _ => return None,
        };
        let wanted = Wanted { transport, port: u16_at(bytes, 8)? };
        let lifetime = Duration::from_secs(u32_at(bytes, 12).unwrap_or_default().into());
        Some(Self::Mapping { result, epoch, wanted, external: u16_at(bytes, 10).unwrap_or_default(), lifetime })
    }
}

fn pcp_mapping(bytes: &[u8]) -> Option<PcpMapping> {
    let transport = match *bytes.get(36)? {
        TCP => Transport::Tcp,
        UDP => Transport::Udp,
        _ => return None,
    };
    Some(PcpMapping {
        nonce: bytes.get(24..36)?.try_into().ok()?,
        wanted: Wanted { transport, port: u16_at(bytes, 40)? },
        external_port: u16_at(bytes, 42)?,
        external_ip: Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(44..60)?).ok()?).to_canonical(),
    })
}

const fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    }
}

fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WANTED: Wanted = Wanted { transport: Transport::Tcp, port: 8421 };
    const NONCE: Nonce = *b"abcdefghijkl";

    #[test]
    fn a_pcp_request_is_that_of_the_specification() {
        let request = pcp_map([10, 0, 0, 2].into(), WANTED, &NONCE, 8421, Duration::from_secs(7200));
        let mut want =
            b"\x02\x01\0\0\0\0\x1c\x20\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x02abcdefghijkl\x06\0\0\0".to_vec();
        want.extend(b"\x20\xe5\x20\xe5\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\0");
        assert_eq!(request, want);
    }

    #[test]
    fn a_pcp_answer_says_what_is_where_and_for_how_long() {
        let mut answer = b"\x02\x81\0\0\0\0\x0e\x10\0\0\0\x07".to_vec();
        answer.extend([0; 12]);
        answer.extend(b"abcdefghijkl\x06\0\0\0\x20\xe5\x30\x39\0\0\0\0\0\0\0\0\0\0\xff\xff\x08\0\0\x02");
        let about = PcpMapping { nonce: NONCE, wanted: WANTED, external_port: 12345, external_ip: [8, 0, 0, 2].into() };
        let want = Answer::Pcp { result: 0, lifetime: Duration::from_secs(3600), epoch: 7, about: Some(about) };
        assert_eq!(Answer::parse(&answer), Some(want));
        assert!(matches!(Answer::parse(&answer[..59]), Some(Answer::Pcp { about: None, .. })));
    }

    #[test]
    fn nat_pmp_is_read_and_written_as_the_specification_has_it() {
        let request = nat_pmp_map(WANTED, 8421, Duration::from_secs(7200));
        assert_eq!(request, b"\0\x02\0\0\x20\xe5\x20\xe5\0\0\x1c\x20");
        let mapped = Answer::parse(b"\0\x82\0\0\0\0\0\x09\x20\xe5\x30\x39\0\0\x0e\x10");
        let lifetime = Duration::from_secs(3600);
        let want = Answer::Mapping { result: 0, epoch: 9, wanted: WANTED, external: 12345, lifetime };
        assert_eq!(mapped, Some(want));
        let address = Answer::parse(b"\0\x80\0\0\0\0\0\x09\x08\0\0\x02");
        assert_eq!(address, Some(Answer::Address { result: 0, epoch: 9, address: [8, 0, 0, 2].into() }));
    }

    #[test]
    fn a_router_that_knows_another_version_is_understood() {
        assert_eq!(Answer::parse(b"\0\x80\0\x01\0\0\0\x09"), Some(Answer::OtherVersion(0)));
        assert_eq!(Answer::parse(&[2, 0x81, 0, 1]), Some(Answer::OtherVersion(2)));
        assert_eq!(Answer::parse(&[3, 0x81]), Some(Answer::OtherVersion(3)));
        assert_eq!(Answer::parse(&nat_pmp_address()), None, "a question is no answer");
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), version in 0u8..4) {
            let _ = Answer::parse(&bytes);
            let _ = Answer::parse(&[&[version, 0x81][..], &bytes].concat());
        }
    }
}
