//! Hybrid fetching as the configuration wants it: what it is lent, and what it decides by.

use std::sync::Arc;

use swarmgate_bittorrent::BitTorrentProtocol;
use swarmgate_config::Config;
use swarmgate_content::{Borrowed, DagLender, Protocol, TorrentLender};
use swarmgate_egress::{HttpClient, HttpError};
use swarmgate_hybrid::{BindingBook, HybridParts, HybridProtocol};
use swarmgate_hybrid_rules::{BreakerOptions, Breakers, Budget, BudgetOptions, Policies};
use swarmgate_ipfs::IpfsProtocol;
use swarmgate_store::{RecordError, Store};

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
pub async fn start(config: &Config, store: &Store, lenders: Lenders) -> Result<Arc<HybridProtocol>, HybridError> {
    let Lenders { bittorrent, ipfs } = lenders;
    let protocols =
        [bittorrent.clone().map(|it| it as Arc<dyn Protocol>), ipfs.clone().map(|it| it as Arc<dyn Protocol>)];
    Ok(HybridProtocol::start(HybridParts {
        protocols: protocols.into_iter().flatten().map(Borrowed::new).collect(),
        torrents: bittorrent.map(|it| it as Arc<dyn TorrentLender>),
        dags: ipfs.map(|it| it as Arc<dyn DagLender>),
        book: BindingBook::open(store.clone()).await?,
        mirrors: HttpClient::keeping(crate::app::egress(config), IDLE_CONNECTIONS)?,
        policies: Policies::default(),
        breakers: Breakers::new(BreakerOptions::default(), rand::random()),
        budget: Budget::new(BudgetOptions::default()),
        patience: config.deadlines.stall.duration(),
    }))
}
