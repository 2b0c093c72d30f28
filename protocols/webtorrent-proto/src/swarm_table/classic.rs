//! Clients without WebRTC: they announce over HTTP, are known by address, and meet only each other.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use swarmgate_content::InfoHash;

use super::swarm::Report;
use super::{DEFAULT_CLASSIC_PEERS, MAX_CLASSIC_PEERS, MAX_PORTS_PER_HOST, SwarmTable, Violation, room_in};
use crate::classic::{ClassicAnnounce, ClassicReply};
use crate::message::AnnounceEvent;

impl SwarmTable {
    /// Takes an announce of a client without WebRTC, whose request came from `host`: that address is what others are
    /// told, whatever the request says.
    ///
    /// # Errors
    /// When a limit is reached, or the torrent is not served.
    pub fn announce_classic(
        &mut self,
        now: Instant,
        host: IpAddr,
        announce: &ClassicAnnounce,
    ) -> Result<ClassicReply, Violation> {
        self.handle_timeout(now);
        let infohash = announce.infohash;
        let address = SocketAddr::new(host.to_canonical(), announce.port);
        let joined = if !self.admits(&infohash) {
            Err(Violation::NotAdmitted { infohash })
        } else if announce.event == AnnounceEvent::Stopped {
            self.leave_classic(address, infohash);
            Ok(())
        } else {
            self.join_classic(now, address, announce)
        };
        joined.inspect_err(|_| self.stats.refused += 1)?;
        self.stats.announces += 1;
        let peers = self.classic_peers(&address, announce);
        Ok(ClassicReply { interval: self.options.interval, size: self.swarm_size(&infohash), peers })
    }

    fn join_classic(&mut self, now: Instant, address: SocketAddr, announce: &ClassicAnnounce) -> Result<(), Violation> {
        let infohash = announce.infohash;
        if !self.swarms.get(&infohash).is_some_and(|swarm| swarm.tcp.contains(&address)) {
            room_in(&self.swarms, &infohash, &self.options)?;
            let ports = SocketAddr::new(address.ip(), 0)..=SocketAddr::new(address.ip(), u16::MAX);
            let of_host = self.swarms.get(&infohash).map_or(0, |swarm| swarm.tcp.count(ports));
            if of_host >= MAX_PORTS_PER_HOST && !address.ip().is_loopback() {
                return Err(Violation::PortsPerHost);
            }
        }
        let report = Report { peer_id: announce.peer_id, event: announce.event, left: announce.left };
        let swarm = self.swarms.entry(infohash).or_default();
        if let Some(seen) = swarm.heard_tcp(now, address, report) {
            self.tcp_ages.remove(&(seen, address, infohash));
        }
        self.tcp_ages.insert((now, address, infohash));
        Ok(())
    }

    fn classic_peers(&mut self, address: &SocketAddr, announce: &ClassicAnnounce) -> Vec<SocketAddr> {
        if announce.event == AnnounceEvent::Stopped {
            return Vec::new();
        }
        let wanted = announce.numwant.map_or(DEFAULT_CLASSIC_PEERS, |wanted| wanted as usize).min(MAX_CLASSIC_PEERS);
        let swarm = self.swarms.get_mut(&announce.infohash);
        swarm.map(|swarm| swarm.draw_tcp(address, wanted, &mut self.random)).unwrap_or_default()
    }

    pub(super) fn leave_classic(&mut self, address: SocketAddr, infohash: InfoHash) {
        let Some(swarm) = self.swarms.get_mut(&infohash) else { return };
        if let Some(seen) = swarm.leave_tcp(&address) {
            self.tcp_ages.remove(&(seen, address, infohash));
        }
        self.forget_if_empty(infohash);
    }
}
