//! How peers are found and which are let in: the options, and what is made of them at the start.

use std::path::PathBuf;
use std::time::Duration;

use swarmgate_bittorrent_proto::exchange::ExchangeOptions;
use swarmgate_egress as egress;

/// How peers are found and which are let in.
#[derive(Debug, Clone)]
pub struct FindingOptions {
    /// Whether peers of public torrents are told of each other (BEP 11).
    pub pex: bool,
    /// How long a peer that broke the rules stays banned; zero bans nobody.
    pub ban_time: Duration,
    /// Files of addresses that are neither dialled nor let in.
    pub blocklists: Vec<PathBuf>,
    /// Files of addresses that are exempt from those.
    pub allowlists: Vec<PathBuf>,
}

impl Default for FindingOptions {
    fn default() -> Self {
        Self { pex: true, ban_time: Duration::from_secs(3600), blocklists: Vec::new(), allowlists: Vec::new() }
    }
}

impl FindingOptions {
    /// How peers are told of each other and, over uTP, led to each other, if they are.
    pub(crate) fn exchange(&self, listen_port: Option<u16>, utp: bool) -> Option<ExchangeOptions> {
        self.pex.then_some(ExchangeOptions { listen_port, holepunch: utp, is_public: egress::is_public })
    }
}
