//! How much and how often: the rules about buffers and the pace of new connections, apart from sockets and clocks.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use swarmgate_egress::is_public;

/// A kernel's receive buffer that holds whatever a fast near peer sends in one go, in bytes as the kernel counts them.
pub const AMPLE_RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// The least that may be on its way to a peer, in bytes: one largest message.
pub const MIN_IN_FLIGHT_BYTES: usize = 64 * 1024;
/// Where to stop sending to a near web page, in bytes. Browsers ask for 64 KiB of receive buffer, of which the kernel makes
/// 56 datagrams of SCTP, and what is stopped at is exceeded by up to one message. One datagram that is lost at the end of a
/// burst costs a second, the least that the library waits before it sends again: 7 to 16 MB/s where 25 are possible.
pub const PAGE_IN_FLIGHT_BYTES: usize = 40 * 1024;
/// Where to stop sending to a near program that is not ours, in bytes: half of the 208 KiB that Linux gives a socket that
/// asks for nothing. libtorrent is one; past that its connection breaks down within seconds, again and again: 9 to 16 MB/s
/// where 55 are possible.
pub const STOCK_IN_FLIGHT_BYTES: usize = 104 * 1024;
/// How many such shares a kernel's receive buffer must hold: the rest is for headers, since the kernel counts its own
/// bookkeeping, and for acknowledgements.
const KERNEL_SHARES: usize = 4;
/// The longest that a new connection waits for its turn.
pub const MAX_TURN_WAIT: Duration = Duration::from_secs(2);

/// How many bytes may be on their way to one peer.
///
/// A kernel that grants less than [`AMPLE_RECEIVE_BUFFER_BYTES`] drops what a near peer sends in one burst, and every
/// loss halves its rate: 15 to 41 MB/s where 150 are possible. To near peers therefore no more is sent at once than a
/// kernel like ours holds. The ends of a long path need more under way than that (limit ÷ round trip caps the rate),
/// and their packets come spread out.
#[must_use]
pub fn in_flight_limit(granted: usize, ceiling: usize, remote: Option<IpAddr>) -> usize {
    if granted >= AMPLE_RECEIVE_BUFFER_BYTES || !is_near(remote) {
        return ceiling;
    }
    (granted / KERNEL_SHARES).clamp(MIN_IN_FLIGHT_BYTES, ceiling.max(MIN_IN_FLIGHT_BYTES))
}

/// What is at the other end, as far as is known: how large a receive buffer it asks its kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// As large a one as ours.
    Ours,
    /// A browser's.
    Page,
    /// A relay's: coturn asks for as much as browsers do.
    Relay,
    /// None that is known.
    Other,
}

/// How many bytes may be on their way to a peer once it is known what it is, when `limit` was the rule until then.
#[must_use]
pub fn known_in_flight_limit(limit: usize, far_end: FarEnd, remote: Option<IpAddr>) -> usize {
    match far_end {
        FarEnd::Page | FarEnd::Relay if is_near(remote) => limit.min(PAGE_IN_FLIGHT_BYTES),
        FarEnd::Other if is_near(remote) => limit.min(STOCK_IN_FLIGHT_BYTES),
        FarEnd::Ours | FarEnd::Page | FarEnd::Relay | FarEnd::Other => limit,
    }
}

fn is_near(remote: Option<IpAddr>) -> bool {
    remote.is_some_and(|ip| !is_public(ip))
}

/// What to tell an operator whose kernel granted less than was asked for.
#[must_use]
pub fn receive_buffer_advice(granted: usize, wanted: usize) -> Option<String> {
    (granted < wanted).then(|| {
        format!(
            "WebRTC got {granted} of {wanted} bytes of UDP receive buffer and is slower for it: \
             set net.core.rmem_max to {wanted} or more (sysctl)"
        )
    })
}

/// Spaces new connections out: so many a second, and as many at once after a quiet second.
#[derive(Debug)]
pub struct Pacer {
    interval: Duration,
    burst: Duration,
    /// When the next would start if all had come evenly (the generic cell rate algorithm).
    due: Option<Instant>,
}

impl Pacer {
    /// `per_second` connections; 0 counts as 1.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: Duration::from_secs(1).saturating_sub(interval), due: None }
    }

    /// How long the next connection has to wait, which is then its turn; `None` when that is longer than
    /// [`MAX_TURN_WAIT`], and nothing is taken.
    pub fn turn(&mut self, now: Instant) -> Option<Duration> {
        let due = self.due.map_or(now, |due| due.max(now));
        let wait = due.saturating_duration_since(now).saturating_sub(self.burst);
        if wait > MAX_TURN_WAIT {
            return None;
        }
        self.due = Some(due + self.interval);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const STOCK: usize = 425_984;

    fn limit(granted: usize, remote: &str) -> usize {
        in_flight_limit(granted, MIB, Some(remote.parse().unwrap()))
    }

    #[test]
    fn a_small_kernel_buffer_limits_near_peers_alone() {
        assert_eq!(limit(STOCK, "127.0.0.1"), STOCK / 4);
        assert_eq!(limit(STOCK, "192.168.1.7"), STOCK / 4);
        assert_eq!(limit(STOCK, "fe80::1"), STOCK / 4);
        assert_eq!(limit(STOCK, "1.1.1.1"), MIB);
        assert_eq!(in_flight_limit(STOCK, MIB, None), MIB);
    }

    #[test]
    fn a_large_kernel_buffer_limits_nobody_and_a_tiny_one_leaves_a_message() {
        assert_eq!(limit(8 * MIB, "127.0.0.1"), MIB);
        assert_eq!(limit(4096, "127.0.0.1"), MIN_IN_FLIGHT_BYTES);
    }

    #[test]
    fn a_near_peer_is_sent_what_its_buffer_holds_and_a_far_one_fills_its_path() {
        let known = |far_end, remote: &str| {
            known_in_flight_limit(limit(8 * MIB, remote), far_end, Some(remote.parse().unwrap()))
        };
        for near in ["127.0.0.1", "192.168.1.7"] {
            assert_eq!(known(FarEnd::Page, near), PAGE_IN_FLIGHT_BYTES);
            assert_eq!(known(FarEnd::Relay, near), PAGE_IN_FLIGHT_BYTES);
            assert_eq!(known(FarEnd::Other, near), STOCK_IN_FLIGHT_BYTES);
            assert_eq!(known(FarEnd::Ours, near), MIB);
        }
        for far_end in [FarEnd::Page, FarEnd::Relay, FarEnd::Other, FarEnd::Ours] {
            assert_eq!(known(far_end, "1.1.1.1"), MIB);
            assert_eq!(known_in_flight_limit(MIB, far_end, None), MIB);
        }
        assert_eq!(known_in_flight_limit(MIN_IN_FLIGHT_BYTES, FarEnd::Other, None), MIN_IN_FLIGHT_BYTES);
    }

    #[test]
    fn too_small_a_buffer_is_said_with_its_cure() {
        assert_eq!(receive_buffer_advice(8 * MIB, 4 * MIB), None);
        let advice = receive_buffer_advice(STOCK, 4 * MIB).unwrap();
        assert!(advice.contains("net.core.rmem_max to 4194304"), "{advice}");
    }

    #[test]
    fn ten_at_once_then_one_each_tenth_of_a_second() {
        let (mut pacer, now) = (Pacer::new(10), Instant::now());
        let tenth = Duration::from_millis(100);
        assert!((0..10).all(|_| pacer.turn(now) == Some(Duration::ZERO)));
        assert_eq!(pacer.turn(now), Some(tenth));
        assert_eq!(pacer.turn(now + tenth), Some(tenth));
    }

    #[test]
    fn whoever_would_wait_too_long_is_refused_and_takes_nothing() {
        let (mut pacer, now) = (Pacer::new(10), Instant::now());
        let accepted = std::iter::from_fn(|| pacer.turn(now)).count();
        assert_eq!(accepted, 10 + 20);
        assert_eq!(pacer.turn(now), None);
        assert_eq!(pacer.turn(now + Duration::from_millis(100)), Some(MAX_TURN_WAIT));
    }

    #[test]
    fn a_quiet_hour_saves_nothing_up() {
        let (mut pacer, now) = (Pacer::new(10), Instant::now());
        pacer.turn(now);
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..12).filter(|_| pacer.turn(later) == Some(Duration::ZERO)).count(), 10);
    }
}
