//! The sockets of the tracker: how many there may be, how much each may say, and when one is idle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use swarmgate_content::InfoHash;

use super::{SocketKey, TableOptions, Violation};
use crate::pace::{Taken, TokenBucket};

#[derive(Debug)]
pub(super) struct Socket {
    /// `None` for a member in this process, to which the limits of strangers do not apply.
    stranger: Option<Stranger>,
    /// The swarms it is a member of.
    pub(super) hashes: BTreeSet<InfoHash>,
}

#[derive(Debug)]
struct Stranger {
    host: IpAddr,
    bucket: TokenBucket,
    heard: Instant,
    /// When it is looked at next: its place in `Sockets::idle`.
    look_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Sockets {
    by_key: BTreeMap<SocketKey, Socket>,
    per_host: BTreeMap<IpAddr, usize>,
    /// When each stranger may be idle at the earliest.
    idle: BTreeSet<(Instant, SocketKey)>,
    next_key: u64,
}

impl Socket {
    pub(super) const fn is_stranger(&self) -> bool {
        self.stranger.is_some()
    }
}

impl Sockets {
    /// Strangers' sockets.
    pub(super) fn strangers(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn contains(&self, key: SocketKey) -> bool {
        self.by_key.contains_key(&key)
    }

    pub(super) fn get_mut(&mut self, key: SocketKey) -> Option<&mut Socket> {
        self.by_key.get_mut(&key)
    }

    pub(super) fn open(
        &mut self,
        now: Instant,
        address: IpAddr,
        options: &TableOptions,
    ) -> Result<SocketKey, Violation> {
        let host = host_of(address);
        if self.strangers() >= options.max_sockets {
            return Err(Violation::Sockets { max: options.max_sockets });
        }
        let of_host = self.per_host.entry(host).or_default();
        if *of_host >= options.max_sockets_per_host {
            return Err(Violation::SocketsPerHost { max: options.max_sockets_per_host });
        }
        *of_host += 1;
        let bucket = TokenBucket::new(now, options.messages_per_second, options.message_burst);
        let look_at = now + options.idle_timeout;
        let key = self.add(Some(Stranger { host, bucket, heard: now, look_at }));
        self.idle.insert((look_at, key));
        Ok(key)
    }

    pub(super) fn open_local(&mut self) -> SocketKey {
        self.add(None)
    }

    fn add(&mut self, stranger: Option<Stranger>) -> SocketKey {
        let key = SocketKey(self.next_key);
        self.next_key += 1;
        self.by_key.insert(key, Socket { stranger, hashes: BTreeSet::new() });
        key
    }

    /// Takes a socket out; gives back the swarms it is a member of.
    pub(super) fn close(&mut self, key: SocketKey) -> Option<BTreeSet<InfoHash>> {
        let socket = self.by_key.remove(&key)?;
        if let Some(stranger) = socket.stranger {
            self.idle.remove(&(stranger.look_at, key));
            if let Some(count) = self.per_host.get_mut(&stranger.host) {
                *count -= 1;
                if *count == 0 {
                    self.per_host.remove(&stranger.host);
                }
            }
        }
        Some(socket.hashes)
    }

    /// A message comes in: is it one too many?
    pub(super) fn admit_message(
        &mut self,
        now: Instant,
        key: SocketKey,
        options: &TableOptions,
    ) -> Result<(), Violation> {
        let socket = self.by_key.get_mut(&key).ok_or(Violation::UnknownSocket)?;
        let too_many = |relentless| Violation::Rate { per_second: options.messages_per_second, relentless };
        match socket.stranger.as_mut().map(|stranger| stranger.bucket.take(now)) {
            None | Some(Taken::Granted) => Ok(()),
            Some(Taken::Refused) => Err(too_many(false)),
            Some(Taken::Abused) => Err(too_many(true)),
        }
    }

    /// A message was read: its sender is there.
    pub(super) fn heard(&mut self, now: Instant, key: SocketKey) -> Result<(), Violation> {
        let socket = self.by_key.get_mut(&key).ok_or(Violation::UnknownSocket)?;
        if let Some(stranger) = &mut socket.stranger {
            stranger.heard = now;
        }
        Ok(())
    }

    /// The next socket that was silent for too long. A socket is looked at when it may be idle, and put back if it has
    /// spoken since, so that speaking costs nothing.
    pub(super) fn next_idle(&mut self, now: Instant, options: &TableOptions) -> Option<SocketKey> {
        while let Some(&(look_at, key)) = self.idle.first().filter(|(at, _)| *at <= now) {
            let stranger = self.by_key.get_mut(&key).and_then(|socket| socket.stranger.as_mut())?;
            let idle_at = stranger.heard + options.idle_timeout;
            if idle_at <= now {
                return Some(key);
            }
            stranger.look_at = idle_at;
            self.idle.remove(&(look_at, key));
            self.idle.insert((idle_at, key));
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.idle.first().map(|(at, _)| (*at, "a socket may be idle"))
    }
}

/// Whom an address stands for: a client chooses freely within its IPv6 network, which has 64 bits by custom.
fn host_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_network() {
        let host = |text: &str| host_of(text.parse().unwrap()).to_string();
        assert_eq!(host("198.51.100.7"), "198.51.100.7");
        assert_eq!(host("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(host("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
