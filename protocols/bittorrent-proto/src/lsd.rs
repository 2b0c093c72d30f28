//! Calling out for peers in the local network (BEP 14): what is called, how often, and what is heard.
//!
//! A call is one datagram to a group that every client in the network listens to. It names torrents, so it is made for
//! public ones alone, which is for the owner to see to. Each torrent is called out again every [`CALL_INTERVAL`], and all
//! together make no more than [`MAX_CALLS`] datagrams in a row and one a minute in the long run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use swarmgate_content::InfoHash;

/// The port of both groups.
pub const PORT: u16 = 6771;
/// The group of IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// The group of IPv6, of site-local scope.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// Time between two calls for one torrent.
pub const CALL_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Calls in a row, each a datagram a family, when many torrents begin at once.
pub const MAX_CALLS: u32 = 4;
/// Time in which one more call may be made.
pub const CALL_EVERY: Duration = Duration::from_secs(60);
/// Torrents in one call: with them the datagram stays below 1400 bytes.
pub const MAX_TORRENTS: usize = 20;
/// Torrents that are called out. Later ones are not.
pub const MAX_KNOWN: usize = 500;
/// Longest datagram read, in bytes.
pub const MAX_DATAGRAM_BYTES: usize = 2048;
/// Calls of others heard a second; more are a storm, and are not read.
pub const MAX_HEARD_A_SECOND: u32 = 50;

/// What somebody calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Where the caller listens for peers, at the address that the datagram came from.
    pub port: u16,
    /// The torrents it looks for peers of.
    pub infohashes: Vec<InfoHash>,
    /// By which a caller knows its own calls.
    pub cookie: Option<String>,
}

/// Which torrents to call out when. Takes no part in who hears of what is found.
#[derive(Debug)]
pub struct LocalDiscovery {
    cookie: String,
    port: u16,
    due: BTreeMap<InfoHash, Instant>,
    calls: Bucket,
    heard: Bucket,
}

/// A number of permits that come back with time.
#[derive(Debug)]
struct Bucket {
    permits: u32,
    max: u32,
    every: Duration,
    since: Instant,
}

impl Bucket {
    const fn full(now: Instant, max: u32, every: Duration) -> Self {
        Self { permits: max, max, every, since: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_nanos() / self.every.as_nanos().max(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.permits = self.permits.saturating_add(passed).min(self.max);
        self.since = if self.permits == self.max { now } else { self.since + self.every * passed };
    }

    fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let had = self.permits > 0;
        self.permits = self.permits.saturating_sub(1);
        had
    }

    /// When there is a permit.
    fn next(&self) -> Instant {
        if self.permits > 0 { self.since } else { self.since + self.every }
    }
}

impl Call {
    /// The datagram, for the group at `host`.
    #[must_use]
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {host}:{PORT}\r\nPort: {}\r\n", self.port);
        for infohash in self.infohashes.iter().take(MAX_TORRENTS) {
            write!(text, "Infohash: {infohash}\r\n").expect("writing to a string never fails");
        }
        if let Some(cookie) = &self.cookie {
            write!(text, "cookie: {cookie}\r\n").expect("writing to a string never fails");
        }
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }

    /// Reads a datagram; `None` when it is no call, names no torrent or no port.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram.get(..datagram.len().min(MAX_DATAGRAM_BYTES))?).ok()?;
        let mut lines = text.split("\r\n");
        if !lines.next()?.to_ascii_uppercase().starts_with("BT-SEARCH * HTTP/1.") {
            return None;
        }
        let (mut port, mut infohashes, mut cookie) = (None, Vec::new(), None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "port" => port = value.parse().ok().filter(|port| *port != 0),
                "cookie" => cookie = Some(value.to_owned()),
                "infohash" if infohashes.len() < MAX_TORRENTS => infohashes.extend(value.parse::<InfoHash>().ok()),
                _ => {}
            }
        }
        Some(Self { port: port?, infohashes, cookie }).filter(|call| !call.infohashes.is_empty())
    }
}

impl LocalDiscovery {
    /// Calls for nobody yet. `cookie` is random, and has no line ends; `port` is where we listen for peers.
    #[must_use]
    pub fn new(now: Instant, cookie: String, port: u16) -> Self {
        let calls = Bucket::full(now, MAX_CALLS, CALL_EVERY);
        let heard = Bucket::full(now, MAX_HEARD_A_SECOND, Duration::from_secs(1) / MAX_HEARD_A_SECOND);
        Self { cookie, port, due: BTreeMap::new(), calls, heard }
    }

    /// A public torrent is to be called out.
    pub fn add(&mut self, now: Instant, infohash: InfoHash) {
        if self.due.len() < MAX_KNOWN {
            self.due.entry(infohash).or_insert(now);
        }
    }

    /// A torrent is not called out any more.
    pub fn remove(&mut self, infohash: &InfoHash) {
        self.due.remove(infohash);
    }

    /// When [`Self::poll_call`] has something to call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.values().min()?;
        Some((*due).max(self.calls.next()))
    }

    /// The next call that is due, if one may be made.
    pub fn poll_call(&mut self, now: Instant) -> Option<Call> {
        let mut due: Vec<_> = self.due.iter().filter(|(_, at)| **at <= now).map(|(hash, at)| (*at, *hash)).collect();
        if due.is_empty() || !self.calls.take(now) {
            return None;
        }
        due.sort_unstable();
        due.truncate(MAX_TORRENTS);
        let infohashes: Vec<_> = due.into_iter().map(|(_, infohash)| infohash).collect();
        for infohash in &infohashes {
            self.due.insert(*infohash, now + CALL_INTERVAL);
        }
        Some(Call { port: self.port, infohashes, cookie: Some(self.cookie.clone()) })
    }

    /// A datagram was heard: gives the caller's port and the torrents of ours that it looks for. Our own calls, storms and
    /// what is no call give nothing.
    pub fn on_datagram(&mut self, now: Instant, datagram: &[u8]) -> Option<(u16, Vec<InfoHash>)> {
        if !self.heard.take(now) {
            return None;
        }
        let call = Call::parse(datagram)?;
        if call.cookie.as_ref() == Some(&self.cookie) {
            return None;
        }
        let ours: Vec<_> = call.infohashes.into_iter().filter(|infohash| self.due.contains_key(infohash)).collect();
        (!ours.is_empty()).then_some((call.port, ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;
    use proptest::prelude::*;

    fn hash(n: u16) -> InfoHash {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        InfoHash::new(bytes)
    }

    fn ours(now: Instant) -> LocalDiscovery {
        LocalDiscovery::new(now, "c00k1e".to_owned(), 8421)
    }

    #[test]
    fn a_call_is_that_of_bep_14_and_is_read_however_it_is_written() {
        let call = Call { port: 8421, infohashes: vec![hash(1), hash(2)], cookie: Some("x".to_owned()) };
        let text = String::from_utf8(call.encode("239.192.152.143")).unwrap();
        let zeros = "0".repeat(36);
        let want = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 8421\r\nInfohash: 0001{zeros}\r\n\
             Infohash: 0002{zeros}\r\ncookie: x\r\n\r\n\r\n"
        );
        assert_eq!(text, want);
        assert_eq!(Call::parse(text.as_bytes()), Some(call.clone()));
        let loud = text.replace("Infohash", "INFOHASH").replace("Port: ", "port:").replace("cookie", "Cookie");
        assert_eq!(Call::parse(loud.as_bytes()), Some(call));
    }

    #[test]
    fn what_is_no_call_is_not_heard() {
        let zeros = "0".repeat(40);
        for text in [
            String::new(),
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: {zeros}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nInfohash: {zeros}\r\n\r\n"),
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: zz\r\n\r\n".to_owned(),
        ] {
            assert_eq!(Call::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_full_call_fits_a_datagram() {
        let call = Call { port: 65535, infohashes: (0..100).map(hash).collect(), cookie: Some("c".repeat(16)) };
        let bytes = call.encode("[ff15::efc0:988f]");
        assert!(bytes.len() <= 1400, "{}", bytes.len());
        assert_eq!(Call::parse(&bytes).unwrap().infohashes.len(), MAX_TORRENTS);
    }

    #[test]
    fn own_calls_and_torrents_of_others_are_passed_over() {
        let now = start();
        let mut discovery = ours(now);
        discovery.add(now, hash(1));
        let own = discovery.poll_call(now).unwrap().encode("h");
        assert_eq!(discovery.on_datagram(now, &own), None);
        let theirs = |cookie: Option<&str>| {
            Call { port: 7, infohashes: vec![hash(2), hash(1)], cookie: cookie.map(str::to_owned) }.encode("h")
        };
        assert_eq!(discovery.on_datagram(now, &theirs(None)), Some((7, vec![hash(1)])));
        discovery.remove(&hash(1));
        assert_eq!(discovery.on_datagram(now, &theirs(Some("another"))), None);
    }

    #[test]
    fn each_torrent_is_called_out_every_five_minutes_and_a_crowd_slowly() {
        let mut now = start();
        let begun = now;
        let mut discovery = ours(now);
        (0..200).for_each(|n| discovery.add(now, hash(n)));
        let mut times = Vec::new();
        while times.len() < 14 {
            match discovery.poll_call(now) {
                Some(call) => {
                    assert_eq!(call.infohashes.len(), MAX_TORRENTS);
                    times.push((now - begun).as_secs());
                }
                None => now = now.max(discovery.poll_timeout().unwrap()),
            }
        }
        assert_eq!(times[..6], [0, 0, 0, 0, 60, 120], "a few at once and then one a minute");
        assert!(times.windows(5).all(|five| five[4] - five[0] >= 60));
    }

    #[test]
    fn a_storm_of_calls_is_not_read() {
        let now = start();
        let mut discovery = ours(now);
        discovery.add(now, hash(1));
        let call = Call { port: 7, infohashes: vec![hash(1)], cookie: None }.encode("h");
        let heard = (0..1000).filter(|_| discovery.on_datagram(now, &call).is_some()).count();
        assert_eq!(heard, 50);
        assert!(discovery.on_datagram(now + Duration::from_secs(1), &call).is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Call::parse(&bytes);
            let _ = Call::parse(&[b"BT-SEARCH * HTTP/1.1\r\n".as_slice(), &bytes].concat());
        }
    }
}
