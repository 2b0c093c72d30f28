//! Which of two peers is worth a place more, when both ends must agree (BEP 40): a checksum of the two addresses. Strangers
//! cannot choose theirs at will, so nobody can fill our places with hosts of one network.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Hosts whose word on where they see us is kept, in each torrent.
pub const MAX_WITNESSES: usize = 32;
/// CRC-32C (Castagnoli), reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What the world knows us by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Over IPv4.
    pub v4: Option<SocketAddr>,
    /// Over IPv6.
    pub v6: Option<SocketAddr>,
}

/// Where peers say they see us: each host has one voice.
#[derive(Debug, Clone, Default)]
pub struct Sightings {
    witnesses: BTreeMap<IpAddr, IpAddr>,
}

impl OwnAddresses {
    /// How a peer ranks for us, higher being better; `None` while we do not know what it knows us by.
    #[must_use]
    pub fn rank_of(&self, peer: SocketAddr) -> Option<u32> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let own = if peer.is_ipv4() { self.v4 } else { self.v6 };
        own.map(|own| canonical_priority(own, peer))
    }
}

impl Sightings {
    /// A host tells where it sees us. Says where most do, when that is another place than before.
    pub fn note(&mut self, by: IpAddr, at: IpAddr) -> Option<IpAddr> {
        let (by, at) = (by.to_canonical(), at.to_canonical());
        let before = self.most(at.is_ipv4());
        if self.witnesses.len() < MAX_WITNESSES || self.witnesses.contains_key(&by) {
            self.witnesses.insert(by, at);
        }
        self.most(at.is_ipv4()).filter(|now| Some(*now) != before)
    }

    fn most(&self, v4: bool) -> Option<IpAddr> {
        let mut votes = BTreeMap::<IpAddr, usize>::new();
        self.witnesses.values().filter(|at| at.is_ipv4() == v4).for_each(|at| *votes.entry(*at).or_default() += 1);
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(at, _)| at)
    }
}

/// The priority that two ends give their connection, the same at both. Both addresses are of one family; of two families
/// it is 0.
#[must_use]
pub fn canonical_priority(one: SocketAddr, other: SocketAddr) -> u32 {
    match (one.ip(), other.ip()) {
        (a, b) if a == b => {
            let (low, high) = sorted(one.port().to_be_bytes(), other.port().to_be_bytes());
            crc32c(&[low, high].concat())
        }
        (IpAddr::V4(a), IpAddr::V4(b)) => masked(a.octets(), b.octets(), [2, 3, 4]),
        (IpAddr::V6(a), IpAddr::V6(b)) => masked(a.octets(), b.octets(), [6, 7, 8]),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

/// Every other bit of what lies behind a network is left out, so that one network has few priorities to choose from; the
/// nearer two hosts are, the more counts. `whole` is how many bytes count in full: for strangers, for hosts that share
/// that many bytes, and for those that share one more.
fn masked<const N: usize>(a: [u8; N], b: [u8; N], whole: [usize; 3]) -> u32 {
    let shared = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let whole = match shared {
        shared if shared >= whole[1] => whole[2],
        shared if shared >= whole[0] => whole[1],
        _ => whole[0],
    };
    let mask = |mut octets: [u8; N]| {
        octets.iter_mut().skip(whole).for_each(|octet| *octet &= 0x55);
        octets
    };
    let (low, high) = sorted(mask(a), mask(b));
    crc32c(&[low, high].concat())
}

fn sorted<T: Ord>(a: T, b: T) -> (T, T) {
    if a.cmp(&b) == Ordering::Greater { (b, a) } else { (a, b) }
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_vectors_of_bep_40() {
        for (one, other, want) in
            [("123.213.32.10:0", "98.76.54.32:0", 0xec2d_7224), ("123.213.32.10:0", "123.213.32.234:0", 0x9956_8189)]
        {
            assert_eq!(canonical_priority(at(one), at(other)), want, "{one} {other}");
        }
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    }

    #[test]
    fn hosts_of_one_network_have_few_ranks_among_them() {
        let own = OwnAddresses { v4: Some(at("1.2.3.4:5")), v6: None };
        let ranks: std::collections::BTreeSet<_> =
            (0..=255).filter_map(|n| own.rank_of(SocketAddr::from(([9, 9, 9, n], 1)))).collect();
        assert_eq!(ranks.len(), 16, "every other bit of the last byte");
        assert_eq!(own.rank_of(at("[2a00::1]:1")), None, "what an IPv6 peer knows us by is not known");
    }

    #[test]
    fn most_witnesses_are_believed_and_each_host_has_one_voice() {
        let mut sightings = Sightings::default();
        let (liar, us): (IpAddr, IpAddr) = ([9, 9, 9, 9].into(), [8, 0, 0, 1].into());
        assert_eq!(sightings.note([1, 1, 1, 1].into(), liar), Some(liar));
        for _ in 0..9 {
            assert_eq!(sightings.note([1, 1, 1, 1].into(), liar), None);
        }
        let changed: Vec<_> = (2..5).filter_map(|n| sightings.note([n, 1, 1, 1].into(), us)).collect();
        assert_eq!(changed, [us]);
    }

    proptest! {
        #[test]
        fn both_ends_agree(a: [u8; 4], b: [u8; 4], c: [u8; 16], d: [u8; 16], ports: (u16, u16)) {
            for (one, other) in [(IpAddr::from(a), IpAddr::from(b)), (c.into(), d.into()), (a.into(), a.into())] {
                let (one, other) = (SocketAddr::new(one, ports.0), SocketAddr::new(other, ports.1));
                prop_assert_eq!(canonical_priority(one, other), canonical_priority(other, one));
            }
        }
    }
}
