//! Peer exchange (BEP 11): addresses of other peers, as changes since the last message.

use std::net::SocketAddr;

use super::{ExtensionError, message};
use crate::bencode::OwnedValue;
use crate::tracker::compact;

/// Added peers read from or written to one message: the 50 of each family that BEP 11 allows. More are dropped.
pub const MAX_PEX_ADDED: usize = 100;
/// Dropped peers read from or written to one message. More are dropped.
pub const MAX_PEX_DROPPED: usize = 50;
/// Longest message read, in bytes: three times what the limits above need.
const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// Peers that came and went since the last message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PexMessage {
    /// Peers that the sender has connected to.
    pub added: Vec<PexPeer>,
    /// Peers that the sender has disconnected from.
    pub dropped: Vec<SocketAddr>,
}

/// A peer, and what the sender says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PexPeer {
    /// Its address.
    pub address: SocketAddr,
    /// Feature bits (BEP 11): 1 prefers encryption, 2 is a seed, 4 speaks uTP, 8 knows hole punching, 16 can be reached.
    pub flags: u8,
}

impl PexMessage {
    /// The payload of the extended message; what is past the limits is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let added = &self.added[..self.added.len().min(MAX_PEX_ADDED)];
        let dropped = &self.dropped[..self.dropped.len().min(MAX_PEX_DROPPED)];
        let (v4, v6): (Vec<_>, Vec<_>) = added.iter().partition(|peer| peer.address.is_ipv4());
        let (gone4, gone6): (Vec<SocketAddr>, Vec<SocketAddr>) = dropped.iter().partition(|address| address.is_ipv4());
        let flags = |peers: &[&PexPeer]| OwnedValue::from(peers.iter().map(|peer| peer.flags).collect::<Vec<u8>>());
        let addresses = |peers: &[&PexPeer]| OwnedValue::from(compact::encode(peers.iter().map(|peer| peer.address)));
        OwnedValue::dict([
            ("added", addresses(&v4)),
            ("added.f", flags(&v4)),
            ("added6", addresses(&v6)),
            ("added6.f", flags(&v6)),
            ("dropped", compact::encode(gone4).into()),
            ("dropped6", compact::encode(gone6).into()),
        ])
        .encode()
    }

    /// Reads the payload of the extended message. Addresses that nobody can dial are left out.
    ///
    /// # Errors
    /// When it is not a dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, ExtensionError> {
        let dict = message(payload, "ut_pex", MAX_MESSAGE_BYTES)?;
        let bytes = |key: &str| dict.bytes(key).unwrap_or_default();
        let v4 = flagged(compact::parse_v4(bytes("added")), bytes("added.f"));
        let v6 = flagged(compact::parse_v6(bytes("added6")), bytes("added6.f"));
        let dropped = compact::parse_v4(bytes("dropped")).chain(compact::parse_v6(bytes("dropped6")));
        Ok(Self {
            added: v4.chain(v6).filter(|peer| compact::dialable(&peer.address)).take(MAX_PEX_ADDED).collect(),
            dropped: dropped.filter(compact::dialable).take(MAX_PEX_DROPPED).collect(),
        })
    }
}

/// Joins addresses with their flags, which may be absent.
fn flagged(addresses: impl Iterator<Item = SocketAddr>, flags: &[u8]) -> impl Iterator<Item = PexPeer> {
    let flags = flags.iter().copied().chain(std::iter::repeat(0));
    addresses.zip(flags).map(|(address, flags)| PexPeer { address, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, flags: u8) -> PexPeer {
        PexPeer { address: address.parse().unwrap(), flags }
    }

    #[test]
    fn both_families_survive_the_wire_with_their_flags() {
        let sent = PexMessage {
            added: vec![peer("127.0.0.1:1", 2), peer("10.0.0.2:65535", 0), peer("[::1]:3", 18)],
            dropped: vec!["127.0.0.9:9".parse().unwrap(), "[::9]:9".parse().unwrap()],
        };
        assert_eq!(PexMessage::parse(&sent.encode()), Ok(sent));
    }

    #[test]
    fn addresses_nobody_can_dial_are_left_out_and_keep_their_flags_to_themselves() {
        let payload = b"d5:added18:\x00\x00\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x00\x7f\x00\x00\x01\x00\x027:added.f3:\x01\x02\x04e";
        assert_eq!(PexMessage::parse(payload).unwrap().added, [peer("127.0.0.1:2", 4)]);
    }

    #[test]
    fn a_flood_is_cut_at_the_limit() {
        let address = |n: u16| SocketAddr::from(([127, 0, 0, 1], n));
        let flood = PexMessage {
            added: (1..300).map(|n| PexPeer { address: address(n), flags: 0 }).collect(),
            dropped: (1..300).map(address).collect(),
        };
        let read = PexMessage::parse(&flood.encode()).unwrap();
        assert_eq!((read.added.len(), read.dropped.len()), (100, 50));
        let raw = OwnedValue::dict([("added", compact::encode((1..300).map(address)).into())]).encode();
        assert_eq!(PexMessage::parse(&raw).unwrap().added.len(), 100);
    }
}
