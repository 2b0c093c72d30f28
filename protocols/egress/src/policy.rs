//! The egress guard: where this process may connect to because somebody outside said so.
//!
//! Trackers, web seeds and peer addresses come from torrents, magnets and peers: strangers. Without a guard they could
//! make the gateway talk to its own machine, its operator's network or a cloud's metadata service. The rule is about
//! addresses, never names, and is asked at the last moment: a name is resolved once, its addresses are filtered, and
//! the connection goes to an address that passed. A second answer of a hostile name server is never seen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

/// Which addresses strangers may send this process to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Whether loopback, private and link-local addresses are fine: for tests, home networks and closed swarms.
    /// Metadata services, multicast and addresses that name no host are refused all the same.
    pub allow_private: bool,
}

/// An address that the policy forbids to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{ip} is {what}, where strangers may not send us")]
pub struct EgressRefused {
    /// The address.
    pub ip: IpAddr,
    /// What kind of address it is.
    pub what: &'static str,
}

/// Why a host of a URL gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Every address of the host is forbidden; this is the first.
    #[error(transparent)]
    Refused(#[from] EgressRefused),
    /// The name has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// The name could not be looked up.
    #[error("looking up {host} failed: {source}")]
    Lookup {
        /// The name.
        host: String,
        /// What the system's resolver said.
        source: std::io::Error,
    },
}

/// Whose an address is.
enum Reach {
    /// Anybody's.
    Public,
    /// The operator's own machine or network.
    Own(&'static str),
    /// Nobody's to be sent to, whatever the policy.
    Never(&'static str),
}

/// Whether an address is anybody's on the Internet, rather than of this machine, a house or nobody.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    matches!(reach(ip), Reach::Public)
}

impl EgressPolicy {
    /// Decides about one address.
    ///
    /// # Errors
    /// [`EgressRefused`] with the kind of address it is.
    pub fn check(self, ip: IpAddr) -> Result<(), EgressRefused> {
        match reach(ip) {
            Reach::Public => Ok(()),
            Reach::Own(_) if self.allow_private => Ok(()),
            Reach::Own(what) | Reach::Never(what) => Err(EgressRefused { ip, what }),
        }
    }

    /// Decides about a URL's host when it is an address; a name is decided about once it is resolved.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_literal(self, url: &Url) -> Result<(), EgressRefused> {
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check(ip.into()),
            Some(Host::Ipv6(ip)) => self.check(ip.into()),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Looks a host up, name or address literal, and keeps the addresses that may be connected to.
    ///
    /// # Errors
    /// When there is none.
    pub async fn resolve(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((bare, port))
            .await
            .map_err(|source| ResolveError::Lookup { host: host.to_owned(), source })?;
        self.keep_allowed(host, found)
    }

    fn keep_allowed(
        self,
        host: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found {
            match self.check(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(error)) => Err(error.into()),
            (true, None) => Err(ResolveError::NoAddress(host.to_owned())),
        }
    }
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => embedded_v4(ip).map_or_else(|| reach_v6(ip), reach_v4),
    }
}

/// The special-purpose blocks of RFC 6890 and its registry.
const fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [169, 254, 169, 254] | [169, 254, 170, 2 | 23] | [100, 100, 100, 200] => Reach::Never("a metadata service"),
        [0, ..] => Reach::Never("an unspecified address"),
        [127, ..] => Reach::Own("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Own("a private address"),
        [100, 64..=127, ..] => Reach::Own("a carrier-grade NAT address"),
        [169, 254, ..] => Reach::Own("a link-local address"),
        // Benchmark addresses are what some local proxies answer name look-ups with, so they are somebody's own.
        [198, 18 | 19, ..] => Reach::Own("a benchmark address"),
        [192, 0, 0, _] => Reach::Never("a protocol assignment"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Never("a documentation address"),
        [255, 255, 255, 255] => Reach::Never("the broadcast address"),
        [224..=239, ..] => Reach::Never("a multicast address"),
        [240..=255, ..] => Reach::Never("a reserved address"),
        _ => Reach::Public,
    }
}

const fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Reach::Never("a metadata service"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Never("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Own("a loopback address"),
        [0xfc00..=0xfdff, ..] => Reach::Own("a private address"),
        [0xfe80..=0xfebf, ..] => Reach::Own("a link-local address"),
        [0xfec0..=0xfeff, ..] => Reach::Own("a site-local address"),
        [0x64, 0xff9b, 1, ..] => Reach::Own("a local NAT64 address"),
        [0x2001, 2, 0, ..] => Reach::Own("a benchmark address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Never("a documentation address"),
        [0x100, 0, 0, 0, ..] => Reach::Never("a discard address"),
        [0xff00..=0xffff, ..] => Reach::Never("a multicast address"),
        _ => Reach::Public,
    }
}

/// The IPv4 address that a packet to this IPv6 address may end up at: mapped, compatible and translated addresses
/// (RFC 4291 §2.5.5, RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [.., 0 | 0x200, 0x5efe, high, low] => pair(high, low),
        [0x2001, 0, .., high, low] => pair(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: EgressPolicy = EgressPolicy { allow_private: false };
    const HOME: EgressPolicy = EgressPolicy { allow_private: true };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn public_addresses_pass_both_policies() {
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert_eq!(STRICT.check(ip(text)), Ok(()), "{text}");
            assert_eq!(HOME.check(ip(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn the_operators_own_networks_need_leave() {
        for (text, what) in [
            ("127.0.0.1", "loopback"),
            ("127.255.0.9", "loopback"),
            ("10.0.0.7", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "carrier-grade"),
            ("169.254.1.1", "link-local"),
            ("198.18.0.1", "benchmark"),
            ("::1", "loopback"),
            ("fc00::1", "private"),
            ("fdff::1", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("64:ff9b:1::1", "NAT64"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::127.0.0.1", "loopback"),
            ("::ffff:0:10.0.0.1", "private"),
            ("64:ff9b::192.168.1.1", "private"),
            ("2002:7f00:1::1", "loopback"),
            ("2001:0:1:2:3:4:80ff:fffe", "loopback"),
            ("2a00::5efe:10.0.0.1", "private"),
        ] {
            let refused = STRICT.check(ip(text)).unwrap_err();
            assert!(refused.what.contains(what), "{text}: {refused}");
            assert_eq!(HOME.check(ip(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn some_addresses_are_refused_whatever_the_policy() {
        for (text, what) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("169.254.169.254", "metadata"),
            ("100.100.100.200", "metadata"),
            ("::ffff:169.254.169.254", "metadata"),
            ("fd00:ec2::254", "metadata"),
            ("192.0.2.1", "documentation"),
            ("203.0.113.9", "documentation"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("240.0.0.1", "reserved"),
            ("::", "unspecified"),
            ("ff02::1", "multicast"),
            ("2001:db8::1", "documentation"),
            ("3fff:123::1", "documentation"),
            ("100::1", "discard"),
        ] {
            for policy in [STRICT, HOME] {
                let refused = policy.check(ip(text)).unwrap_err();
                assert!(refused.what.contains(what), "{text}: {refused}");
            }
        }
    }

    #[test]
    fn every_spelling_of_a_literal_host_is_seen_through() {
        for text in ["http://127.0.0.1/", "http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://[::1]/"]
        {
            assert!(STRICT.check_literal(&Url::parse(text).unwrap()).is_err(), "{text}");
        }
        assert_eq!(STRICT.check_literal(&Url::parse("http://tracker.example/").unwrap()), Ok(()));
    }

    #[test]
    fn a_name_keeps_only_its_allowed_addresses() {
        let mixed = ["127.0.0.1:80", "1.1.1.1:80"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert_eq!(STRICT.keep_allowed("name", mixed.into_iter()).unwrap(), [mixed[1]]);
        let refused = STRICT.keep_allowed("name", mixed[..1].iter().copied()).unwrap_err();
        assert!(matches!(refused, ResolveError::Refused(_)));
        assert!(matches!(STRICT.keep_allowed("name", std::iter::empty()), Err(ResolveError::NoAddress(_))));
    }
}
