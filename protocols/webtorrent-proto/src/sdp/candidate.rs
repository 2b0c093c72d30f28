//! One candidate line (RFC 8839 §5.1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How a candidate's address was found (§5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// On an interface.
    Host,
    /// Seen by a STUN server.
    ServerReflexive,
    /// Seen by a peer.
    PeerReflexive,
    /// Lent by a TURN server.
    Relay,
}

/// An address where a peer says that it can be reached, over UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    foundation: String,
    priority: u32,
    /// Where to.
    pub address: SocketAddr,
    /// How it was found.
    pub kind: CandidateKind,
}

impl Candidate {
    /// Reads what follows `candidate:`. `None` is what cannot be read, TCP, a second component, and names: those of
    /// mDNS (`.local`) mean nothing beyond the peer's own network, and others would make us ask a name server.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let foundation = words.next().filter(|text| is_foundation(text))?.to_owned();
        let component = words.next()?;
        let udp = words.next()?.eq_ignore_ascii_case("udp");
        let priority = words.next()?.parse().ok()?;
        let ip = words.next()?.parse::<IpAddr>().ok()?;
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        let typ = words.next()?;
        let kind = CandidateKind::parse(words.next()?)?;
        let usable = component == "1" && udp && typ == "typ";
        usable.then(|| Self { foundation, priority, address: SocketAddr::new(ip, port), kind })
    }
}

impl fmt::Display for Candidate {
    /// Without the related address: it tells nothing that a connection needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { foundation, priority, address, kind } = self;
        let (ip, port, kind_text) = (address.ip(), address.port(), kind.as_str());
        write!(f, "candidate:{foundation} 1 udp {priority} {ip} {port} typ {kind_text}")?;
        match (kind, ip) {
            (CandidateKind::Host, _) => Ok(()),
            (_, IpAddr::V4(_)) => write!(f, " raddr 0.0.0.0 rport 0"),
            (_, IpAddr::V6(_)) => write!(f, " raddr :: rport 0"),
        }
    }
}

impl CandidateKind {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "host" => Some(Self::Host),
            "srflx" => Some(Self::ServerReflexive),
            "prflx" => Some(Self::PeerReflexive),
            "relay" => Some(Self::Relay),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relay => "relay",
        }
    }
}

/// Up to 32 characters of those that ICE has.
fn is_foundation(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
}

/// As [`super::publish`], for what follows `candidate:`.
pub(super) fn publish(
    value: &str,
    shared: &[(SocketAddr, SocketAddr)],
    external: Option<IpAddr>,
    is_public: &impl Fn(IpAddr) -> bool,
) -> String {
    let mut words: Vec<String> = value.split(' ').map(str::to_owned).collect();
    for at in address_places(&words) {
        let Some(address) = address_at(&words, at) else { continue };
        let behind = shared.iter().find(|(alias, _)| *alias == address);
        let port = behind.map_or(address, |(_, socket)| *socket).port();
        words[at.1] = port.to_string();
        let outside = external.filter(|outside| outside.is_ipv4() == address.is_ipv4() && !is_public(address.ip()));
        if let Some(outside) = outside {
            words[at.0] = outside.to_string();
        }
    }
    words.join(" ")
}

/// Where an address and its port stand: the candidate's own, and the related one behind `raddr`.
fn address_places(words: &[String]) -> Vec<(usize, usize)> {
    let related = words.iter().position(|word| word == "raddr").map(|at| (at + 1, at + 3));
    std::iter::once((4, 5)).chain(related).filter(|(_, port)| *port < words.len()).collect()
}

fn address_at(words: &[String], (ip, port): (usize, usize)) -> Option<SocketAddr> {
    Some(SocketAddr::new(words.get(ip)?.parse().ok()?, words.get(port)?.parse().ok()?))
}
