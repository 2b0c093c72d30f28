//! One torrent's members: those that meet over WebRTC, by socket, and classic ones, by address. Each is told of its own
//! kind only, since it can reach no other; the sizes count both.

use std::net::SocketAddr;
use std::time::Instant;

use rand::rngs::StdRng;
use swarmgate_bittorrent_proto::handshake::PeerId;

use super::SocketKey;
use super::roster::Roster;
use crate::message::{AnnounceEvent, SwarmSize};

/// Draws for one offer before it is given up. Seeds are passed over for a seed, so a swarm of seeds would be drawn to its
/// end.
const MAX_DRAWS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Swarm {
    pub(super) web: Roster<SocketKey, Member>,
    pub(super) tcp: Roster<SocketAddr, Member>,
    complete: u32,
    downloaded: u32,
}

#[derive(Debug)]
pub(super) struct Member {
    peer_id: PeerId,
    complete: bool,
    pub(super) seen: Instant,
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) peer_id: PeerId,
    pub(super) event: AnnounceEvent,
    pub(super) left: Option<u64>,
}

impl Report {
    /// Whether it has everything, when what was known before is `before`.
    const fn complete(&self, before: bool) -> bool {
        match (self.event, self.left) {
            (AnnounceEvent::Completed, _) | (_, Some(0)) => true,
            (_, Some(_)) => false,
            (_, None) => before,
        }
    }
}

impl Swarm {
    pub(super) const fn len(&self) -> usize {
        self.web.len() + self.tcp.len()
    }

    pub(super) fn size(&self) -> SwarmSize {
        let incomplete = u32::try_from(self.len()).unwrap_or(u32::MAX).saturating_sub(self.complete);
        SwarmSize { complete: self.complete, incomplete, downloaded: self.downloaded }
    }

    /// Takes a report in; gives back when the member was last seen, if it is no new one.
    pub(super) fn heard_web(&mut self, now: Instant, key: SocketKey, report: Report) -> Option<Instant> {
        let Self { web, complete, downloaded, .. } = self;
        heard(web, (complete, downloaded), now, key, report)
    }

    /// As [`Self::heard_web`], for a classic member.
    pub(super) fn heard_tcp(&mut self, now: Instant, key: SocketAddr, report: Report) -> Option<Instant> {
        let Self { tcp, complete, downloaded, .. } = self;
        heard(tcp, (complete, downloaded), now, key, report)
    }

    /// Takes a member out; gives back when it was last seen.
    pub(super) fn leave_web(&mut self, key: &SocketKey) -> Option<Instant> {
        let member = self.web.remove(key)?;
        self.complete -= u32::from(member.complete);
        Some(member.seen)
    }

    /// As [`Self::leave_web`], for a classic member.
    pub(super) fn leave_tcp(&mut self, key: &SocketAddr) -> Option<Instant> {
        let member = self.tcp.remove(key)?;
        self.complete -= u32::from(member.complete);
        Some(member.seen)
    }

    /// Whom to ask next: by lot, whoever was not asked for the longest time, but none of `asked`, not the client
    /// that offers, on this or another socket, and no seed for a seed.
    pub(super) fn draw_web(
        &mut self,
        offerer: SocketKey,
        asked: &[SocketKey],
        random: &mut StdRng,
    ) -> Option<SocketKey> {
        let from = self.web.get(&offerer)?;
        let (peer_id, complete) = (from.peer_id, from.complete);
        // Two rounds reach everybody who can be reached: the first may be nearly over.
        (0..MAX_DRAWS.min(2 * self.web.len())).find_map(|_| {
            let (key, member) = self.web.draw(random)?;
            let suits = member.peer_id != peer_id && !(complete && member.complete);
            (suits && !asked.contains(&key)).then_some(key)
        })
    }

    /// Up to `count` classic members by lot, but for `asker`.
    pub(super) fn draw_tcp(&mut self, asker: &SocketAddr, count: usize, random: &mut StdRng) -> Vec<SocketAddr> {
        let others = self.tcp.len().saturating_sub(1);
        if count >= others {
            return self.tcp.keys().filter(|key| key != asker).collect();
        }
        let mut drawn = std::collections::BTreeSet::new();
        while drawn.len() < count
            && let Some((key, _)) = self.tcp.draw(random)
        {
            if key != *asker {
                drawn.insert(key);
            }
        }
        drawn.into_iter().collect()
    }
}

fn heard<K: Copy + Ord>(
    roster: &mut Roster<K, Member>,
    (complete, downloaded): (&mut u32, &mut u32),
    now: Instant,
    key: K,
    report: Report,
) -> Option<Instant> {
    let known = roster.get(&key).map(|member| (member.complete, member.seen));
    let was_complete = known.is_some_and(|(complete, _)| complete);
    let is_complete = report.complete(was_complete);
    *complete = *complete + u32::from(is_complete) - u32::from(was_complete);
    if report.event == AnnounceEvent::Completed && !was_complete {
        *downloaded = downloaded.saturating_add(1);
    }
    let member = Member { peer_id: report.peer_id, complete: is_complete, seen: now };
    match roster.get_mut(&key) {
        Some(known) => *known = member,
        None => roster.insert(key, member),
    }
    known.map(|(_, seen)| seen)
}
