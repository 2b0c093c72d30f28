//! The engine of a one-shot command: BitTorrent over a small cache in memory, without HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmgate_bittorrent::BitTorrentProtocol;
use swarmgate_bittorrent::dht::{DhtNode, DhtOptions};
use swarmgate_config::Config;
use swarmgate_content::{ContentMeta, EventBus, Protocol, ResolveRequest};
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::SwarmContext;

use super::Exit;
use super::source::{Failure, Source};
use crate::app::{bittorrent_options, dht_options, egress};
use crate::listeners::bind_peers;

/// Bytes of cache: what is on its way to its file.
const MEMORY_BYTES: u64 = 32 * 1024 * 1024;
/// How long trackers are given to hear our goodbye.
const GOODBYE: Duration = Duration::from_secs(3);
/// How long a one-shot command waits for metadata. A person can end it sooner, and cold magnets do take minutes.
const METADATA_PATIENCE: Duration = Duration::from_secs(600);

/// See the module's head. Its owner must call [`Self::shutdown`].
#[derive(Debug)]
pub struct Engine {
    bittorrent: Arc<BitTorrentProtocol>,
    dht: Option<DhtNode>,
    store: Store,
}

impl Engine {
    /// Starts on ports that the system chooses, so that it runs beside a gateway.
    ///
    /// # Errors
    /// When BitTorrent is switched off, or a part does not start.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        if !config.bittorrent.enabled {
            let off = "bittorrent.enabled is false in the configuration, and this command uses BitTorrent";
            return Err(Failure::new(Exit::Usage, format!("{off}; --set bittorrent.enabled=true switches it on")));
        }
        let fail = |error: &dyn std::error::Error| Failure::new(Exit::Error, error.to_string());
        let mut config = config.clone();
        config.bittorrent.listen_port = 0;
        config.bittorrent.dht_port = 0;
        let store = Store::open(StoreOptions::in_memory(MEMORY_BYTES)).await.map_err(|error| fail(&error))?;
        let context = SwarmContext::new(store.clone(), EventBus::new());
        let sockets = bind_peers(&config).map_err(|error| fail(&error))?;
        let dht = match config.bittorrent.has_dht() {
            // What runs a moment is nobody's neighbour.
            true => {
                let options = DhtOptions { read_only: true, ..dht_options(&config) };
                Some(DhtNode::start(options).await.map_err(|error| fail(&error))?)
            }
            false => None,
        };
        let mut options = bittorrent_options(&config, egress(&config));
        options.max_partial_bytes = MEMORY_BYTES / 2;
        options.keep_behind_bytes = 0;
        let handle = dht.as_ref().map(DhtNode::handle);
        let bittorrent =
            BitTorrentProtocol::start(options, sockets, handle, context).await.map_err(|error| fail(&error))?;
        Ok(Self { bittorrent, dht, store })
    }

    /// The torrent engine.
    #[must_use]
    pub const fn bittorrent(&self) -> &Arc<BitTorrentProtocol> {
        &self.bittorrent
    }

    /// Makes the source's torrent active and waits for its metadata.
    ///
    /// # Errors
    /// When nobody has it, or it is malformed.
    pub async fn resolve(&self, source: &Source) -> Result<Arc<ContentMeta>, Failure> {
        if let Some(metainfo) = source.metainfo.clone() {
            let added = self.bittorrent.add_metainfo(metainfo, true).await;
            added.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        }
        let request = ResolveRequest {
            id: source.id.content(),
            hints: source.hints.clone(),
            deadline: Instant::now() + METADATA_PATIENCE,
        };
        self.bittorrent.resolve(request).await.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
    }

    /// Where peers can dial this engine.
    #[must_use]
    pub fn listen_address(&self) -> Option<SocketAddr> {
        self.bittorrent.listen_address()
    }

    /// Stops everything.
    pub async fn shutdown(self) {
        self.bittorrent.shutdown(Instant::now() + GOODBYE).await;
        if let Some(dht) = self.dht {
            dht.shutdown().await;
        }
        self.store.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Output;
    use crate::cli::get::GetOptions;
    use crate::cli::{get, ls};

    #[tokio::test]
    async fn a_command_that_needs_bittorrent_is_refused_where_it_is_switched_off() {
        let mut config = Config::default();
        config.bittorrent.enabled = false;
        config.bittorrent.dht = false;
        let uri = format!("magnet:?xt=urn:btih:{}", "ab".repeat(20));
        let listed = within(ls::run(&config, &uri, Output::Human, std::future::pending(), &mut Vec::new())).await;
        let dir = tempfile::tempdir().unwrap();
        let options = GetOptions { uri, out: dir.path().to_owned(), select: None };
        let got = within(get::run(&config, options, std::future::pending(), &mut Vec::new())).await;
        for outcome in [listed, got] {
            let failure = outcome.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{failure}");
            assert!(failure.message.contains("bittorrent.enabled"), "{failure}");
        }
    }

    async fn within(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        tokio::time::timeout(Duration::from_secs(5), command).await.expect("a refusal does not wait for anybody")
    }
}
