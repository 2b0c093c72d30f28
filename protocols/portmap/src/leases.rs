//! What to ask of the router, and when: which way it understands, when a forwarding is to be renewed, when to begin anew.
//!
//! All ports go one way. It is tried with PCP, then NAT-PMP, then UPnP; where none works there is a rest, longer each time.
//! A forwarding is renewed at half its life. A router that has kept its mappings for less time than it should have forgot
//! ours (RFC 6887 §8.5), so all are asked for again at once.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::wire::{self, Answer, Nonce};

/// The life that is asked for.
pub const LIFETIME: Duration = Duration::from_secs(2 * 3600);
/// The longest life that is believed; a router that restarts loses its mappings anyhow.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The shortest life that is worth having: renewing is a packet each half of it.
pub const MIN_LIFETIME: Duration = Duration::from_secs(60);
/// How long an answer is waited for at first; doubled with each try (RFC 6886 §3.1).
pub const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Tries before a router counts as knowing nothing of a way: four, within 4 s.
pub const TRIES: u32 = 4;
/// Time between two rounds of tries for a forwarding that still holds.
pub const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// The first rest after no way worked; doubled each time.
pub const FIRST_REST: Duration = Duration::from_secs(5 * 60);
/// The longest.
pub const MAX_REST: Duration = Duration::from_secs(3600);
/// How long a port rests that the router refused, while it forwards others.
pub const REFUSED_REST: Duration = Duration::from_secs(15 * 60);
/// By how many seconds two clocks may be apart that run alike (RFC 6887 §8.5).
const EPOCH_SLACK: u64 = 2;

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of this machine that is to be reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Of what.
    pub transport: Transport,
    /// Its number here.
    pub port: u16,
}

/// How a router is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP's Internet Gateway Device.
    Upnp,
}

/// A port that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// What is.
    pub wanted: Wanted,
    /// The port outside.
    pub port: u16,
    /// The address outside, once it is known.
    pub address: Option<IpAddr>,
    /// Until when, unless it is renewed.
    pub until: Instant,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this to the router.
    Send(Vec<u8>),
    /// Ask for a forwarding by UPnP, and call [`Leases::on_upnp`].
    Upnp(Wanted),
    /// Take a forwarding back by UPnP: the port outside.
    UpnpDelete(Transport, u16),
}

/// A forwarding by UPnP, or why not.
pub type UpnpOutcome = Result<UpnpLease, String>;

/// What UPnP made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpnpLease {
    /// The port outside.
    pub port: u16,
    /// The address outside, if the router tells.
    pub address: Option<IpAddr>,
    /// For how long; zero is for ever.
    pub lifetime: Duration,
}

#[derive(Debug)]
struct Row {
    wanted: Wanted,
    nonce: Nonce,
    held: Option<Forwarding>,
    /// When to ask next, and how often that was done in vain.
    next: Instant,
    tries: u32,
    refused: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Leases {
    local: Ipv4Addr,
    rows: Vec<Row>,
    way: Way,
    /// The router's clock and ours when it was last heard.
    epoch: Option<(u32, Instant)>,
    address: Option<IpAddr>,
    resting: bool,
    rests: u32,
    trouble: Option<String>,
}

impl Leases {
    /// Nothing is forwarded yet. `local` is this machine's address as its router knows it; each port has a nonce.
    #[must_use]
    pub fn new(now: Instant, local: Ipv4Addr, ports: impl IntoIterator<Item = (Wanted, Nonce)>) -> Self {
        let row = |(wanted, nonce)| Row { wanted, nonce, held: None, next: now, tries: 0, refused: false };
        Self {
            local,
            rows: ports.into_iter().map(row).collect(),
            way: Way::Pcp,
            epoch: None,
            address: None,
            resting: false,
            rests: 0,
            trouble: None,
        }
    }

    /// By which way the router is asked now.
    #[must_use]
    pub const fn way(&self) -> Way {
        self.way
    }

    /// What is forwarded.
    pub fn forwardings(&self) -> impl Iterator<Item = Forwarding> {
        let address = self.address;
        self.rows
            .iter()
            .filter_map(|row| row.held)
            .map(move |held| Forwarding { address: held.address.or(address), ..held })
    }

    /// Why something is not, in words.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether no way works, for now: then the router may be another one when the rest is over.
    #[must_use]
    pub const fn is_resting(&self) -> bool {
        self.resting
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.rows.iter().map(|row| row.held.map_or(row.next, |held| row.next.min(held.until))).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Step> {
        for row in &mut self.rows {
            if row.held.is_some_and(|held| held.until <= now) {
                row.held = None;
                self.trouble = Some(format!("the router did not renew {:?} {}", row.wanted.transport, row.wanted.port));
            }
        }
        if self.resting && self.rows.iter().any(|row| row.next <= now) {
            self.begin(now, Way::Pcp);
        }
        let in_vain = |row: &Row| row.next <= now && row.tries >= TRIES && row.held.is_none();
        if self.rows.iter().any(in_vain) && !self.holds_any() {
            self.fall_back(now, "the router does not answer");
        }
        let mut steps = Vec::new();
        for index in 0..self.rows.len() {
            steps.extend(self.ask(now, index));
        }
        steps
    }

    fn ask(&mut self, now: Instant, index: usize) -> Vec<Step> {
        let (way, local, address) = (self.way, self.local, self.address);
        let Some(row) = self.rows.get_mut(index).filter(|row| row.next <= now && !self.resting) else {
            return Vec::new();
        };
        if row.tries >= TRIES {
            // It still holds, or others do: the router is there, and will be asked again.
            (row.tries, row.next) = (0, now + RENEW_PAUSE);
            return Vec::new();
        }
        row.next = now + FIRST_WAIT * 2_u32.pow(row.tries);
        row.tries += 1;
        let suggested = row.held.map_or(row.wanted.port, |held| held.port);
        match way {
            Way::Pcp => vec![Step::Send(wire::pcp_map(local, row.wanted, &row.nonce, suggested, LIFETIME))],
            Way::NatPmp => {
                let ask = Step::Send(wire::nat_pmp_map(row.wanted, suggested, LIFETIME));
                let address = address.is_none().then(|| Step::Send(wire::nat_pmp_address().to_vec()));
                address.into_iter().chain([ask]).collect()
            }
            Way::Upnp => {
                // Asked once: whoever carries it out knows whether it was heard, and by when.
                (row.tries, row.next) = (0, now + RENEW_PAUSE);
                vec![Step::Upnp(row.wanted)]
            }
        }
    }

    /// Takes a datagram of the router's.
    pub fn on_datagram(&mut self, now: Instant, bytes: &[u8]) {
        let Some(answer) = Answer::parse(bytes) else { return };
        match (self.way, answer) {
            // One comes for each question; those that come late are no word on the next way.
            (Way::Pcp, Answer::OtherVersion(_)) if !self.holds_any() => {
                self.fall_back(now, "the router knows another version");
            }
            (Way::Pcp, Answer::Pcp { result, lifetime, epoch, about }) => {
                let Some(about) = about else { return };
                let row = self.rows.iter().position(|row| row.nonce == about.nonce && row.wanted == about.wanted);
                let Some(row) = row else { return };
                self.heard(now, epoch);
                if result == 0 {
                    self.hold(now, row, about.external_port, Some(about.external_ip), lifetime);
                } else {
                    self.refuse(now, row, &format!("refused by PCP, result {result}"));
                }
            }
            (Way::NatPmp, Answer::Address { result, epoch, address }) => {
                self.heard(now, epoch);
                self.address = Some(IpAddr::V4(address)).filter(|_| result == 0 && !address.is_unspecified());
            }
            (Way::NatPmp, Answer::Mapping { result, epoch, wanted, external, lifetime }) => {
                let Some(row) = self.rows.iter().position(|row| row.wanted == wanted) else { return };
                self.heard(now, epoch);
                if result == 0 {
                    self.hold(now, row, external, None, lifetime);
                } else {
                    self.refuse(now, row, &format!("refused by NAT-PMP, result {result}"));
                }
            }
            (_, Answer::OtherVersion(_) | Answer::Pcp { .. } | Answer::Address { .. } | Answer::Mapping { .. }) => {}
        }
    }

    /// UPnP came to an end for one port.
    pub fn on_upnp(&mut self, now: Instant, wanted: Wanted, outcome: UpnpOutcome) {
        let Some(row) = self.rows.iter().position(|row| row.wanted == wanted).filter(|_| self.way == Way::Upnp) else {
            return;
        };
        match outcome {
            Ok(lease) => {
                let lifetime = if lease.lifetime.is_zero() { LIFETIME } else { lease.lifetime };
                self.hold(now, row, lease.port, lease.address, lifetime);
            }
            Err(why) => self.refuse(now, row, &why),
        }
    }

    /// Takes back everything, as far as the router hears it.
    pub fn release(&mut self) -> Vec<Step> {
        let (way, local) = (self.way, self.local);
        let take = |row: &mut Row| Some((row.held.take()?, row.nonce));
        let step = |(held, nonce): (Forwarding, Nonce)| match way {
            Way::Pcp => Step::Send(wire::pcp_map(local, held.wanted, &nonce, 0, Duration::ZERO)),
            Way::NatPmp => Step::Send(wire::nat_pmp_map(held.wanted, 0, Duration::ZERO)),
            Way::Upnp => Step::UpnpDelete(held.wanted.transport, held.port),
        };
        self.rows.iter_mut().filter_map(take).map(step).collect()
    }

    fn holds_any(&self) -> bool {
        self.rows.iter().any(|row| row.held.is_some())
    }

    fn hold(&mut self, now: Instant, row: usize, port: u16, address: Option<IpAddr>, lifetime: Duration) {
        if port == 0 || lifetime < MIN_LIFETIME {
            return self.refuse(now, row, "forwarded for too short a time");
        }
        let lifetime = lifetime.min(MAX_LIFETIME);
        let Some(row) = self.rows.get_mut(row) else { return };
        row.held = Some(Forwarding { wanted: row.wanted, port, address, until: now + lifetime });
        (row.next, row.tries, row.refused) = (now + lifetime / 2, 0, false);
        (self.rests, self.trouble) = (0, None);
    }

    fn refuse(&mut self, now: Instant, row: usize, why: &str) {
        let Some(row) = self.rows.get_mut(row) else { return };
        let Wanted { transport, port } = row.wanted;
        (row.next, row.tries, row.refused) = (now + REFUSED_REST, 0, row.held.is_none());
        if self.rows.iter().all(|row| row.refused) {
            self.fall_back(now, why);
        }
        self.trouble = Some(format!("{transport:?} {port}: {why}"));
    }

    /// The next way, or a rest after the last.
    fn fall_back(&mut self, now: Instant, why: &str) {
        self.trouble = Some(why.to_owned());
        match self.way {
            Way::Pcp => self.begin(now, Way::NatPmp),
            Way::NatPmp => self.begin(now, Way::Upnp),
            Way::Upnp => {
                self.resting = true;
                let rest = (FIRST_REST * 2_u32.pow(self.rests.min(8))).min(MAX_REST);
                self.rests += 1;
                for row in &mut self.rows {
                    row.next = now + rest;
                }
            }
        }
    }

    fn begin(&mut self, now: Instant, way: Way) {
        (self.way, self.epoch, self.address, self.resting) = (way, None, None, false);
        for row in &mut self.rows {
            (row.next, row.tries, row.refused) = (now, 0, false);
        }
    }

    /// Compares the router's clock with ours.
    fn heard(&mut self, now: Instant, epoch: u32) {
        let before = self.epoch.replace((epoch, now));
        let Some((theirs, ours)) = before else { return };
        let passed = now.saturating_duration_since(ours).as_secs();
        let forgot = match epoch.checked_sub(theirs).map(u64::from) {
            // It may have been heard out of order by a second.
            None => u64::from(theirs - epoch) > 1,
            Some(told) => passed + EPOCH_SLACK < told - told / 16 || told + EPOCH_SLACK < passed - passed / 16,
        };
        if forgot {
            for row in self.rows.iter_mut().filter(|row| row.held.is_some()) {
                (row.next, row.tries) = (now, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
