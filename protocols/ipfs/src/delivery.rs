//! Everything that delivers blocks, started as the operator wants it: the libp2p node, the gateways, the Kubo daemon.
//!
//! Its owner hands [`Delivery::sources`] and [`Delivery::routers`] to the protocol and stops it after the protocol.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use parking_lot::Mutex;
use swarmgate_content::{Attempt, BlockHash, BoxFuture, Cid, VerifiedBytes};
use swarmgate_egress::{EgressPolicy, HttpClient, HttpError};
use swarmgate_store::{RecordError, Store};
use url::Url;

use crate::gateways::FoundGateways;
use crate::http::{DelegatedRouter, EndpointOptions, KuboRpc, TrustlessGateway};
use crate::node::{KadMode, Node, NodeOptions, Shelf, StartError};
use crate::source::{BlockSource, Provider, Router, SessionId, SourceError, Want};

/// Connections that are kept to each server for the requests to come.
const IDLE_CONNECTIONS: usize = 16;
/// Readings to which the operator's peers were introduced that are remembered.
const MAX_MET: usize = 4096;
/// Where the store keeps who we are to peers.
const TABLE: &str = "ipfs-node";
const IDENTITY: &[u8] = b"identity";

/// Whom to listen for and whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// The node's addresses as multiaddrs, TCP and QUIC; `None` starts no node.
    pub listen: Option<Vec<String>>,
    /// Peers of the operator's choice, as multiaddrs with `/p2p/…`: they are asked for every content, and introduce the
    /// node to the DHT.
    pub peers: Vec<String>,
    /// Peers that only introduce the node to the DHT, as multiaddrs with `/p2p/…`.
    pub introducers: Vec<String>,
    /// Trustless gateways to ask.
    pub gateways: Vec<Url>,
    /// Whether gateways that requests hint at and routers find may be asked.
    pub found_gateways: bool,
    /// Delegated routing servers to ask.
    pub routers: Vec<Url>,
    /// The Kubo daemon to ask.
    pub kubo_api: Option<Url>,
    /// Which addresses may be dialled that strangers name. What the operator names may be anywhere.
    pub egress: EgressPolicy,
}

/// Why something that delivers did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// An address of a peer, or one to listen on, is none.
    #[error("`{0}` is not a peer's address, as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…")]
    Address(String),
    /// A server's URL is none.
    #[error("{option}: `{host}` is not a server that can be asked")]
    Server {
        /// The option.
        option: &'static str,
        /// The URL's host: there may be a password in the rest.
        host: String,
    },
    /// The node.
    #[error(transparent)]
    Node(#[from] StartError),
    /// HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The node's key cannot be kept.
    #[error("the node's key cannot be kept: {0}")]
    Identity(#[from] RecordError),
}

/// What was started. Its owner must call [`Self::shutdown`].
#[derive(Debug, Default)]
pub struct Delivery {
    node: Option<Arc<Node>>,
    sources: Vec<Arc<dyn BlockSource>>,
    routers: Vec<Arc<dyn Router>>,
}

impl Delivery {
    /// Starts it all. `may_serve` says which blocks of the store peers may have.
    ///
    /// # Errors
    /// [`DeliveryError`]; what was started is stopped again.
    pub async fn start(
        options: &DeliveryOptions,
        store: &Store,
        may_serve: Arc<dyn Fn(&Cid) -> bool + Send + Sync>,
    ) -> Result<Self, DeliveryError> {
        let mut delivery = Self::default();
        delivery.add_servers(options)?;
        if let Some(listen) = &options.listen {
            let shelf = Shelf { store: store.clone(), may_serve };
            delivery.add_node(options, listen, shelf).await?;
        }
        Ok(delivery)
    }

    fn add_servers(&mut self, options: &DeliveryOptions) -> Result<(), DeliveryError> {
        let chosen = HttpClient::keeping(EgressPolicy { allow_private: true }, IDLE_CONNECTIONS)?;
        let asked = EndpointOptions::default;
        let bad = |option, url: &Url| {
            let host = url.host_str().unwrap_or_default().to_owned();
            move |_| DeliveryError::Server { option, host }
        };
        if let Some(url) = &options.kubo_api {
            let daemon = KuboRpc::new(chosen.clone(), url.as_str(), asked()).map_err(bad("ipfs.kubo_api", url))?;
            let daemon = Arc::new(daemon);
            self.sources.push(daemon.clone());
            self.routers.push(daemon);
        }
        for url in &options.gateways {
            let gateway = TrustlessGateway::new(chosen.clone(), url.as_str(), asked());
            self.sources.push(Arc::new(gateway.map_err(bad("ipfs.gateways", url))?));
        }
        for url in &options.routers {
            let router = DelegatedRouter::new(chosen.clone(), url.as_str(), asked());
            self.routers.push(Arc::new(router.map_err(bad("ipfs.routers", url))?));
        }
        if options.found_gateways {
            let strict = HttpClient::keeping(options.egress, IDLE_CONNECTIONS)?;
            self.sources.push(FoundGateways::new(Box::new(move |url: &str| -> Option<Arc<dyn BlockSource>> {
                let gateway = TrustlessGateway::new(strict.clone(), url, EndpointOptions::default()).ok()?;
                Some(Arc::new(gateway))
            })));
        }
        Ok(())
    }

    async fn add_node(
        &mut self,
        options: &DeliveryOptions,
        listen: &[String],
        shelf: Shelf,
    ) -> Result<(), DeliveryError> {
        let read = |texts: &[String]| texts.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>();
        let (peers, introducers) = (read(&options.peers)?, read(&options.introducers)?);
        let known = peers.iter().map(provider).collect::<Option<Vec<_>>>();
        let known = known.ok_or_else(|| DeliveryError::Address(options.peers.join(", ")))?;
        let bootstrap: Vec<Multiaddr> = peers.into_iter().chain(introducers).collect();
        let node_options = NodeOptions {
            listen: read(listen)?,
            kad: if bootstrap.is_empty() { KadMode::Off } else { KadMode::Client },
            bootstrap,
            egress: options.egress,
            ..NodeOptions::default()
        };
        let identity = identity(&shelf.store).await?;
        let node = Arc::new(Node::start(node_options, identity, shelf).await?);
        let source = Acquainted { node: node.clone(), peers: known, met: Mutex::default() };
        self.sources.insert(0, Arc::new(source));
        self.routers.insert(0, node.clone());
        self.node = Some(node);
        Ok(())
    }

    /// Where blocks come from, the preferred first.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<dyn BlockSource>> {
        self.sources.clone()
    }

    /// Who knows who has a block, and IPNS records.
    #[must_use]
    pub fn routers(&self) -> Vec<Arc<dyn Router>> {
        self.routers.clone()
    }

    /// The libp2p node, where there is one.
    #[must_use]
    pub const fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// Every socket that it listens on, with its transport.
    #[must_use]
    pub fn sockets(&self) -> Vec<(&'static str, SocketAddr)> {
        let sockets = self.node.iter().flat_map(|node| node.sockets());
        sockets.map(|socket| (if socket.quic { "udp" } else { "tcp" }, socket.address)).collect()
    }

    /// Stops it, after whoever reads through it.
    pub async fn shutdown(self, deadline: Instant) {
        if let Some(node) = &self.node {
            node.shutdown(deadline).await;
        }
    }
}

fn address(text: &str) -> Result<Multiaddr, DeliveryError> {
    text.parse().map_err(|_| DeliveryError::Address(text.to_owned()))
}

/// The peer at an address that ends with who it is.
fn provider(address: &Multiaddr) -> Option<Provider> {
    let Some(Protocol::P2p(id)) = address.iter().last() else { return None };
    Some(Provider::Peer { id, addrs: vec![address.clone()] })
}

/// Who we are to peers: made once for a store, since peers remember us by it.
async fn identity(store: &Store) -> Result<Keypair, RecordError> {
    let kept = store.get_record(TABLE, IDENTITY).await?;
    if let Some(key) = kept.and_then(|bytes| Keypair::from_protobuf_encoding(&bytes).ok()) {
        return Ok(key);
    }
    let key = Keypair::generate_ed25519();
    if let Ok(bytes) = key.to_protobuf_encoding() {
        store.put_record(TABLE, IDENTITY, bytes.into()).await?;
    }
    Ok(key)
}

/// The node, and the operator's peers, who are introduced to every reading: the node lets go connections that nobody
/// uses, and dials whom a reading names.
#[derive(Debug)]
struct Acquainted {
    node: Arc<Node>,
    peers: Vec<Provider>,
    met: Mutex<BTreeSet<SessionId>>,
}

impl BlockSource for Acquainted {
    fn name(&self) -> &str {
        BlockSource::name(&*self.node)
    }

    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<VerifiedBytes, SourceError>> {
        let news = {
            let mut met = self.met.lock();
            met.len() < MAX_MET && met.insert(want.session)
        };
        if news {
            self.peers.iter().for_each(|peer| self.node.provider(want.session, peer));
        }
        self.node.fetch(want)
    }

    fn provider(&self, session: SessionId, provider: &Provider) {
        self.node.provider(session, provider);
    }

    fn end_session(&self, session: SessionId) {
        self.met.lock().remove(&session);
        self.node.end_session(session);
    }

    fn landed(&self, hash: &BlockHash) {
        self.node.block_added(*hash);
    }

    fn kept(&self, root: &Cid) {
        self.node.kept(root);
    }

    fn let_go(&self, root: &Cid) {
        self.node.let_go(root);
    }

    fn attempts(&self, session: SessionId) -> Vec<Attempt> {
        self.node.attempts(session)
    }
}
