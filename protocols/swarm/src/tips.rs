//! What a torrent's peers tell of where peers are, for whoever dials.

use std::net::{IpAddr, SocketAddr};

use swarmgate_bittorrent_proto::peer_priority::OwnAddresses;
use tokio::sync::broadcast;

use crate::{Command, SwarmHandle};

/// Tips kept for a slow dialler before it loses the oldest. Each holds up to a hundred addresses.
const MAX_TIPS: usize = 32;

/// News of where peers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tip {
    /// A peer tells of others (BEP 11).
    Told(Vec<SocketAddr>),
    /// A peer leads us to another that nobody can dial, as it leads that one to us (BEP 55): to be dialled by uTP, at once.
    Punch(SocketAddr),
    /// A peer that dialled us listens here, and is connected.
    Listens(SocketAddr),
    /// A peer says at which address it sees us (BEP 10 `yourip`).
    SeenAt {
        /// The peer's host.
        by: IpAddr,
        /// Where it sees us.
        at: IpAddr,
    },
}

#[derive(Debug)]
pub(crate) struct Tips(broadcast::Sender<Tip>);

impl Tips {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(MAX_TIPS))
    }

    pub(crate) fn tell(&self, tip: Tip) {
        // Nobody listens where nobody dials.
        let _ = self.0.send(tip);
    }
}

impl SwarmHandle {
    /// What peers tell of where peers are, from now on.
    #[must_use]
    pub fn tips(&self) -> broadcast::Receiver<Tip> {
        self.shared.tips.0.subscribe()
    }

    /// Tells that no dial reaches a peer: whoever told of it may lead us to it (BEP 55). What finds no room is not told; the
    /// next dial that fails says it again.
    pub fn seek_introduction(&self, address: SocketAddr) {
        let _ = self.commands.try_send(Command::SeekIntroduction(address));
    }

    /// Tells by which port the world reaches us: peers are told that one from now on.
    pub fn set_listen_port(&self, port: Option<u16>) {
        // Without room those who connect now are told the number before.
        let _ = self.commands.try_send(Command::SetListenPort(port));
    }

    /// Tells where the world sees us: a full swarm keeps the peers that rank high for us (BEP 40).
    pub fn set_own(&self, own: OwnAddresses) {
        *self.shared.own.lock() = own;
    }
}
