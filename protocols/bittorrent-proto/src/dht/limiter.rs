//! How many queries of one address are answered, and of all together.
//!
//! A bucket for each address fills by [`PER_SECOND`] up to [`BURST`]; an IPv6 network of 64 bits is one address, since
//! one host has all of it. What runs on this machine is not limited: nobody else can send from there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Queries of one address that are answered each second, in the long run. A node's lookup asks once.
pub const PER_SECOND: u32 = 10;
/// Queries of one address that are answered at once after a pause.
pub const BURST: u32 = 50;
/// Queries of all addresses that are answered each second, in the long run: about 1 MB/s of answers.
pub const ALL_PER_SECOND: u32 = 1000;
/// Queries of all addresses that are answered at once after a pause.
pub const ALL_BURST: u32 = 4000;
/// Addresses remembered. Beyond, strangers share one bucket until others have been quiet for 5 s.
pub const MAX_ADDRESSES: usize = 8192;

/// See the module's head.
#[derive(Debug)]
pub struct Limiter {
    by_address: BTreeMap<IpAddr, Bucket>,
    crowd: Bucket,
    all: Bucket,
    tidied: Instant,
}

/// Time, as credit: each query costs its share of a second.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When the bucket was or will be full.
    full_at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, per_second: u32, burst: u32) -> bool {
        let cost = Duration::from_secs(1) / per_second;
        let full_at = self.full_at.max(now) + cost;
        let fits = full_at.duration_since(now) <= cost * burst;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

impl Limiter {
    /// Begins with full buckets.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        let full = Bucket { full_at: now };
        Self { by_address: BTreeMap::new(), crowd: full, all: full, tidied: now }
    }

    /// Whether a query of this address is answered now.
    pub fn admits(&mut self, now: Instant, ip: IpAddr) -> bool {
        if ip.is_loopback() {
            return true;
        }
        let ip = network(ip);
        if self.by_address.len() >= MAX_ADDRESSES && now >= self.tidied + Duration::from_secs(1) {
            self.by_address.retain(|_, bucket| bucket.full_at > now);
            self.tidied = now;
        }
        let room = self.by_address.len() < MAX_ADDRESSES;
        let own = match self.by_address.get_mut(&ip) {
            Some(bucket) => bucket,
            None if room => self.by_address.entry(ip).or_insert(Bucket { full_at: now }),
            None => &mut self.crowd,
        };
        own.take(now, PER_SECOND, BURST) && self.all.take(now, ALL_PER_SECOND, ALL_BURST)
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn one_address_gets_its_burst_and_then_its_rate() {
        let (now, ip) = (start(), IpAddr::from([1, 2, 3, 4]));
        let mut limiter = Limiter::new(now);
        let answered = (0..1000).filter(|_| limiter.admits(now, ip)).count();
        assert_eq!(answered, 50);
        let answered = (0..10_000).filter(|n| limiter.admits(now + Duration::from_millis(*n), ip)).count();
        assert!((99..=101).contains(&answered), "{answered}");
        let later = now + Duration::from_secs(10);
        assert!(limiter.admits(later, IpAddr::from([1, 2, 3, 5])), "others are not held up");
    }

    #[test]
    fn a_network_of_one_host_is_one_address() {
        let now = start();
        let mut limiter = Limiter::new(now);
        let answered = (0..1000_u16).filter(|n| limiter.admits(now, Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, *n).into()));
        assert_eq!(answered.count(), 50);
    }

    #[test]
    fn many_addresses_share_what_all_get_and_the_memory_is_bounded() {
        let now = start();
        let mut limiter = Limiter::new(now);
        let answered = (0..100_000_u32).filter(|n| limiter.admits(now, IpAddr::V4((n + (1 << 24)).into()))).count();
        assert_eq!(answered, 4000);
        assert!(limiter.by_address.len() <= MAX_ADDRESSES);
    }
}
