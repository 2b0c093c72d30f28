//! Hybrid fetching as the configuration wants it: what it is lent, and what it decides by.

use std::collections::BTreeMap;
use std::sync::Arc;

use swarmgate_bittorrent::BitTorrentProtocol;
use swarmgate_config::Config;
use swarmgate_content::{Borrowed, DagLender, EventBus, Protocol, TorrentLender};
use swarmgate_egress::{HttpClient, HttpError};
use swarmgate_hybrid::{BindingBook, HybridParts, HybridProtocol};
use swarmgate_hybrid_rules::{BreakerOptions, Breakers, Budget, BudgetOptions, Network, Policies, Policy};
use swarmgate_ipfs::IpfsProtocol;
use swarmgate_store::RecordError;

/// Connections that are kept to each web server for the next piece.
const IDLE_CONNECTIONS: usize = 4;

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum HybridError {
    /// Which names are the same bytes cannot be read.
    #[error("the bindings between names cannot be read: {0}")]
    Bindings(#[from] RecordError),
    /// The client for web seeds and mirrors.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// The networks that are on.
#[derive(Debug, Default)]
pub struct Lenders {
    /// BitTorrent; WebRTC's peers are in its swarms.
    pub bittorrent: Option<Arc<BitTorrentProtocol>>,
    /// IPFS.
    pub ipfs: Option<Arc<IpfsProtocol>>,
}

/// Starts it over the networks that are on.
///
/// # Errors
/// [`HybridError`].
pub fn start(
    config: &Config,
    book: BindingBook,
    lenders: Lenders,
    events: EventBus,
) -> Result<Arc<HybridProtocol>, HybridError> {
    let Lenders { bittorrent, ipfs } = lenders;
    let protocols =
        [bittorrent.clone().map(|it| it as Arc<dyn Protocol>), ipfs.clone().map(|it| it as Arc<dyn Protocol>)];
    Ok(HybridProtocol::start(HybridParts {
        protocols: protocols.into_iter().flatten().map(Borrowed::new).collect(),
        torrents: bittorrent.map(|it| it as Arc<dyn TorrentLender>),
        dags: ipfs.map(|it| it as Arc<dyn DagLender>),
        book,
        mirrors: HttpClient::keeping(crate::app::egress(config), IDLE_CONNECTIONS)?,
        policies: Policies::new(BTreeMap::new(), policy(config)),
        breakers: Breakers::new(BreakerOptions::default(), rand::random()),
        budget: Budget::new(BudgetOptions::default()),
        patience: config.deadlines.stall.duration(),
        buffer: config.hybrid.buffer.duration(),
        events,
    }))
}

/// What the options say of the sources.
pub(crate) fn policy(config: &Config) -> Policy {
    let rows = [
        (Network::BitTorrent, config.hybrid.weight_bt, config.hybrid.cost_bt),
        (Network::WebTorrent, config.hybrid.weight_bt, config.hybrid.cost_bt),
        (Network::Ipfs, config.hybrid.weight_ipfs, config.hybrid.cost_ipfs),
        (Network::Http, config.hybrid.weight_http, config.hybrid.cost_http),
    ];
    Policy {
        weights: rows.iter().map(|(network, percent, _)| (*network, f64::from(*percent) / 100.0)).collect(),
        costs: rows.iter().map(|(network, _, cost)| (*network, cost.duration())).collect(),
        max_sources: config.hybrid.max_sources,
        hedge_share: f64::from(config.hybrid.hedge_percent) / 100.0,
        ..Policy::default()
    }
}
