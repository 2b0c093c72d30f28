//! The gate that every peer passes, whichever side dials and whatever carries it: [`PeerGate::check_dial`] before a byte is
//! sent, [`PeerGate::check_accept`] before one is read.
//!
//! It knows the egress policy, the operator's lists and the bans. A ban comes from evidence alone, holds one address on one
//! way, or a whole host on it where a host is one peer's, and ends by itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::address_list::AddressList;
use crate::{EgressPolicy, EgressRefused, is_public};

/// Bans kept; the one that ends first gives way.
pub const MAX_BANS: usize = 10_000;

/// What carries a peer. Who lied over one way may be somebody else on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// TCP.
    Tcp,
    /// uTP.
    Utp,
    /// WebRTC.
    WebRtc,
}

/// Why a peer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateRefused {
    /// Strangers may not send us there.
    #[error(transparent)]
    Egress(#[from] EgressRefused),
    /// The operator's lists name it.
    #[error("{0} is on a block list")]
    Listed(IpAddr),
    /// It is banned until then.
    #[error("{address} is banned")]
    Banned {
        /// The address asked for.
        address: SocketAddr,
        /// When the ban ends.
        until: Instant,
    },
}

/// A ban, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// The host.
    pub host: IpAddr,
    /// The one port that is banned; `None` is every port.
    pub port: Option<u16>,
    /// On which way.
    pub way: Way,
    /// What the evidence is.
    pub reason: &'static str,
    /// When it was made.
    pub since: Instant,
    /// When it ends.
    pub until: Instant,
}

/// See the module's head. Clones are one gate.
#[derive(Debug, Clone)]
pub struct PeerGate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: EgressPolicy,
    ban_time: Duration,
    lists: RwLock<Lists>,
    bans: Mutex<BTreeMap<Banned, Sentence>>,
}

/// Whom a ban holds: a host, one of its ports or all, on one way.
type Banned = (IpAddr, Option<u16>, Way);

/// The operator's lists. Whoever is on both is let in.
#[derive(Debug, Default)]
struct Lists {
    blocked: AddressList,
    allowed: AddressList,
}

#[derive(Debug, Clone, Copy)]
struct Sentence {
    reason: &'static str,
    since: Instant,
    until: Instant,
}

impl Way {
    /// Its name for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Utp => "utp",
            Self::WebRtc => "webrtc",
        }
    }
}

impl PeerGate {
    /// A gate with no lists, whose bans hold for `ban_time`; zero bans nobody.
    #[must_use]
    pub fn new(policy: EgressPolicy, ban_time: Duration) -> Self {
        Self(Arc::new(Inner { policy, ban_time, lists: RwLock::default(), bans: Mutex::default() }))
    }

    /// Takes other lists, for whoever comes from now on.
    pub fn set_lists(&self, blocked: AddressList, allowed: AddressList) {
        *self.0.lists.write() = Lists { blocked, allowed };
    }

    /// How many ranges are blocked.
    #[must_use]
    pub fn blocked_ranges(&self) -> usize {
        self.0.lists.read().blocked.len()
    }

    /// Whether a peer may be dialled there.
    ///
    /// # Errors
    /// [`GateRefused`].
    pub fn check_dial(&self, now: Instant, address: SocketAddr, way: Way) -> Result<(), GateRefused> {
        self.0.policy.check(address.ip())?;
        self.check_accept(now, address, way)
    }

    /// Whether a peer that comes from there may come in.
    ///
    /// # Errors
    /// [`GateRefused::Listed`] and [`GateRefused::Banned`].
    pub fn check_accept(&self, now: Instant, address: SocketAddr, way: Way) -> Result<(), GateRefused> {
        let ip = address.ip().to_canonical();
        {
            let lists = self.0.lists.read();
            if lists.blocked.contains(ip) && !lists.allowed.contains(ip) {
                return Err(GateRefused::Listed(ip));
            }
        }
        let bans = self.0.bans.lock();
        let found = [None, Some(address.port())].into_iter().filter_map(|port| bans.get(&(ip, port, way)));
        let until = found.map(|ban| ban.until).filter(|until| *until > now).max();
        until.map_or(Ok(()), |until| Err(GateRefused::Banned { address, until }))
    }

    /// Bans a peer on evidence against it, and says until when. A public host is one peer's, which would come back by
    /// another port; behind one address of a house or a machine may be many, so there the port alone is banned.
    pub fn ban(&self, now: Instant, address: SocketAddr, way: Way, reason: &'static str) -> Option<Instant> {
        if self.0.ban_time.is_zero() {
            return None;
        }
        let ip = address.ip().to_canonical();
        let port = (!is_public(ip)).then(|| address.port());
        let until = now + self.0.ban_time;
        let mut bans = self.0.bans.lock();
        if bans.len() >= MAX_BANS {
            bans.retain(|_, ban| ban.until > now);
        }
        if bans.len() >= MAX_BANS {
            let first = bans.iter().min_by_key(|(_, ban)| ban.until).map(|(key, _)| *key);
            first.map(|first| bans.remove(&first));
        }
        bans.insert((ip, port, way), Sentence { reason, since: now, until });
        Some(until)
    }

    /// Who is banned now.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let mut bans = self.0.bans.lock();
        bans.retain(|_, ban| ban.until > now);
        let row = |(&(host, port, way), ban): (&Banned, &Sentence)| {
            let Sentence { reason, since, until } = *ban;
            Ban { host, port, way, reason, since, until }
        };
        bans.iter().map(row).collect()
    }

    /// Lifts the bans of a host, of one of its ports where one is named, on every way. Says how many there were.
    pub fn lift(&self, host: IpAddr, port: Option<u16>) -> usize {
        let mut bans = self.0.bans.lock();
        let before = bans.len();
        bans.retain(|(ip, at, _), _| *ip != host.to_canonical() || (port.is_some() && *at != port));
        before - bans.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn gate() -> PeerGate {
        PeerGate::new(EgressPolicy { allow_private: true }, HOUR)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn list(text: &str) -> AddressList {
        let mut list = AddressList::default();
        list.read(text);
        list.tidy();
        list
    }

    #[test]
    fn a_listed_host_is_neither_dialled_nor_let_in_unless_it_is_exempt() {
        let (gate, now) = (gate(), Instant::now());
        gate.set_lists(list("8.0.0.0/8"), list("8.8.8.8"));
        for (ip, passes) in
            [("8.1.2.3:1", false), ("[::ffff:8.1.2.3]:1", false), ("8.8.8.8:1", true), ("9.0.0.1:1", true)]
        {
            assert_eq!(gate.check_dial(now, at(ip), Way::Tcp).is_ok(), passes, "{ip}");
            assert_eq!(gate.check_accept(now, at(ip), Way::WebRtc).is_ok(), passes, "{ip}");
        }
        gate.set_lists(AddressList::default(), AddressList::default());
        assert_eq!(gate.check_dial(now, at("8.1.2.3:1"), Way::Tcp), Ok(()), "lists are changed while it stands");
    }

    #[test]
    fn the_egress_policy_is_asked_before_a_dial_alone() {
        let gate = PeerGate::new(EgressPolicy { allow_private: false }, HOUR);
        let (now, lan) = (Instant::now(), at("192.168.0.2:1"));
        assert!(matches!(gate.check_dial(now, lan, Way::Tcp), Err(GateRefused::Egress(_))));
        assert_eq!(gate.check_accept(now, lan, Way::Tcp), Ok(()));
    }

    #[test]
    fn a_ban_holds_a_public_host_on_one_way_for_its_time() {
        let (gate, now) = (gate(), Instant::now());
        let until = gate.ban(now, at("8.0.0.1:5"), Way::Tcp, "sent wrong bytes");
        assert_eq!(until, Some(now + HOUR));
        assert!(matches!(gate.check_accept(now, at("8.0.0.1:77"), Way::Tcp), Err(GateRefused::Banned { .. })));
        assert_eq!(gate.check_accept(now, at("8.0.0.1:77"), Way::Utp), Ok(()));
        assert_eq!(gate.check_accept(now + HOUR, at("8.0.0.1:77"), Way::Tcp), Ok(()));
        assert_eq!((gate.bans(now).len(), gate.bans(now + HOUR).len()), (1, 0));
    }

    #[test]
    fn in_a_house_the_port_alone_is_banned_and_a_ban_can_be_lifted() {
        let (gate, now) = (gate(), Instant::now());
        for port in [1, 2] {
            gate.ban(now, SocketAddr::from(([127, 0, 0, 1], port)), Way::Tcp, "sent wrong bytes");
        }
        assert!(gate.check_dial(now, at("127.0.0.1:1"), Way::Tcp).is_err());
        assert_eq!(gate.check_dial(now, at("127.0.0.1:3"), Way::Tcp), Ok(()));
        assert_eq!(gate.lift([127, 0, 0, 1].into(), Some(1)), 1);
        assert_eq!(gate.check_dial(now, at("127.0.0.1:1"), Way::Tcp), Ok(()));
        assert!(gate.check_dial(now, at("127.0.0.1:2"), Way::Tcp).is_err());
        assert_eq!((gate.lift([127, 0, 0, 1].into(), None), gate.bans(now).len()), (1, 0));
    }

    #[test]
    fn the_oldest_ban_gives_way_and_no_time_bans_nobody() {
        let (gate, now) = (gate(), Instant::now());
        let step = Duration::from_millis(1);
        for n in 0..=u32::try_from(MAX_BANS).unwrap() {
            gate.ban(now + step * n, SocketAddr::new(IpAddr::from((0x0800_0000 + n).to_be_bytes()), 1), Way::Tcp, "x");
        }
        assert_eq!(gate.bans(now).len(), MAX_BANS);
        assert_eq!(gate.check_accept(now, at("8.0.0.0:1"), Way::Tcp), Ok(()));
        let lenient = PeerGate::new(EgressPolicy { allow_private: true }, Duration::ZERO);
        assert_eq!(lenient.ban(now, at("8.0.0.1:1"), Way::Tcp, "x"), None);
    }
}
