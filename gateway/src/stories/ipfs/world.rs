//! A gateway on loopback over a store of blocks, and a source of more that answers as it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use libp2p_identity::Keypair;
use parking_lot::Mutex;
use swarmgate_content::{BoxFuture, Cid, EventBus, FailureClass, ProtocolManager, VerifiedBytes};
use swarmgate_ipfs::names::NamesOptions;
use swarmgate_ipfs::patience::Patience;
use swarmgate_ipfs::protocol::{IpfsParts, IpfsProtocol};
use swarmgate_ipfs::source::{BlockSource, SourceError, Want};
use swarmgate_ipfs_proto::block;
use swarmgate_ipfs_proto::build::{Block, Built, DirectoryBuilder, FileBuilder, Profile};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::denylist::Denylist;
use swarmgate_ipfs_proto::ipns::{Name, Record};
use swarmgate_store::{Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pace::ClientPace;
use crate::pinning::{Delegates, Pinning};
use crate::policy::{Admitted, Denylists};
use crate::rates::Rates;
use crate::server::{ServeLimits, router, serve};
use crate::state::{GatewayState, HttpOptions, Parts};
use crate::testing::{Answer, TestCatalogue, send};
use crate::torrents::NoTorrents;
use crate::traces::Traces;

/// Small chunks, so that small files have many blocks.
pub(super) const PROFILE: Profile = Profile { chunk_bytes: 1024, links_per_node: 8, ..Profile::V1_2025 };

/// What a gateway is told at its start.
#[derive(Debug, Default)]
pub(super) struct Setting {
    pub(super) options: HttpOptions,
    /// What hosts lead to.
    pub(super) links: Vec<(&'static str, String)>,
    pub(super) denylist: String,
    pub(super) legal: bool,
    pub(super) admitted: Admitted,
    /// Whether there is a source besides the store.
    pub(super) source: bool,
}

/// A running gateway.
#[derive(Debug)]
pub(super) struct IpfsWorld {
    pub(super) address: SocketAddr,
    pub(super) store: Store,
    pub(super) ipfs: Arc<IpfsProtocol>,
    pub(super) state: GatewayState,
    pub(super) source: Arc<Shelf>,
    _server: JoinHandle<()>,
}

/// A gateway that has what is put into its store, and nobody to ask.
pub(super) async fn world() -> IpfsWorld {
    IpfsWorld::start(Setting::default()).await
}

/// Where peers would reach such a gateway.
pub(super) const DELEGATE: &str = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";

/// The same for what pins.
pub(super) fn delegates() -> Delegates {
    Arc::new(|| vec![DELEGATE.to_owned()])
}

/// The options of a gateway whose content has origins of its own below `dweb.example`.
pub(super) fn subdomains() -> HttpOptions {
    let subdomain_hosts = vec!["dweb.example".to_owned()];
    HttpOptions { subdomain_hosts, allowed_hosts: vec!["*".to_owned()], ..HttpOptions::default() }
}

impl IpfsWorld {
    pub(super) async fn start(setting: Setting) -> Self {
        let store = Store::open(StoreOptions::in_memory(64 << 20)).await.unwrap();
        let source = Arc::new(Shelf::default());
        let sources: Vec<Arc<dyn BlockSource>> =
            if setting.source { vec![Arc::clone(&source) as Arc<dyn BlockSource>] } else { Vec::new() };
        let dnslinks: BTreeMap<_, _> = setting
            .links
            .iter()
            .map(|(host, path)| (host.parse().unwrap(), ContentPath::from_plain(path).unwrap()))
            .collect();
        let ipfs = IpfsProtocol::start(IpfsParts {
            store: store.clone(),
            sources,
            routers: Vec::new(),
            names: NamesOptions {
                max_ttl: Duration::from_secs(300),
                dnslinks,
                dns: false,
                timeout: Duration::from_secs(2),
            },
            patience: Patience::default(),
        });
        let shutdown = CancellationToken::new();
        let (tasks, may_ask, delegates) = (TaskTracker::new(), Arc::new(|| true), delegates());
        let pinning = Pinning::new(ipfs.clone(), Patience::default(), may_ask, delegates, tasks, shutdown.clone());
        let (rules, bad, _) = Denylist::parse(setting.denylist.as_bytes());
        assert!(bad.is_empty(), "{bad:?}");
        let state = GatewayState::new(Parts {
            manager: Arc::new(ProtocolManager::new(EventBus::new())),
            catalogue: Arc::new(TestCatalogue::default()),
            fetch_torrent: Arc::new(NoTorrents),
            ipfs: Some(Arc::clone(&ipfs)),
            webtorrent: None,
            pinning: Some(pinning),
            hybrid: None,
            publishing: None,
            pointers: None,
            denylists: Denylists::new(vec![("test".to_owned(), rules)], setting.legal)
                .taking_away_from(setting.admitted),
            tracker: None,
            mapping: None,
            gate: None,
            store: store.clone(),
            cache_status: Arc::new(|| serde_json::Value::Null),
            settings: Arc::new(|| serde_json::Value::Null),
            options: setting.options,
            live: None,
            reloader: None,
            pace: ClientPace::default(),
            rates: Rates::default(),
            traces: Traces::default(),
            closing: shutdown.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, router(state.clone()), shutdown, ServeLimits::default()));
        Self { address, store, ipfs, state, source, _server: server }
    }

    /// Puts blocks into the store.
    pub(super) async fn keep(&self, dag: &Dag) {
        for block in &dag.blocks {
            self.keep_block(block).await;
        }
    }

    pub(super) async fn keep_block(&self, block: &Block) {
        let hash = block::hash_of(&block.cid).unwrap();
        let verified = self.store.verifier().verify(hash, block.bytes.clone()).await.unwrap();
        self.store.put(verified).await.unwrap();
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[]).await
    }

    pub(super) async fn accept(&self, path: &str, accept: &str) -> Answer {
        self.send("GET", path, &[("Accept", accept)]).await
    }

    /// Asks at another host than `localhost`.
    pub(super) async fn at(&self, host: &str, path: &str) -> Answer {
        self.send("GET", path, &[("Host", host)]).await
    }

    pub(super) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(self.address, method, path, headers, b"").await
    }

    /// Publishes a path under a new name.
    pub(super) async fn publish(&self, path: &str, ttl: Duration) -> Name {
        let key = Keypair::generate_ed25519();
        let path = ContentPath::from_plain(path).unwrap();
        let expires = SystemTime::now() + Duration::from_secs(3600);
        let record = Record::sign(&key, &path, 1, expires, ttl).unwrap();
        self.ipfs.names().import(record.name(), record.as_bytes().clone()).await.unwrap();
        *record.name()
    }
}

/// Blocks, and what the last of them is the root of.
#[derive(Debug, Clone)]
pub(super) struct Dag {
    pub(super) blocks: Vec<Block>,
    pub(super) built: Built,
}

impl Dag {
    /// A file of these bytes.
    pub(super) fn file(bytes: &[u8]) -> Self {
        let mut builder = FileBuilder::new(PROFILE);
        builder.push(bytes);
        let built = builder.finish();
        Self { blocks: std::iter::from_fn(|| builder.poll_block()).collect(), built }
    }

    /// A directory of these.
    pub(super) fn directory(entries: &[(&str, &Self)]) -> Self {
        Self::of(entries, false)
    }

    /// The same in shards.
    pub(super) fn sharded(entries: &[(&str, &Self)]) -> Self {
        Self::of(entries, true)
    }

    fn of(entries: &[(&str, &Self)], sharded: bool) -> Self {
        let mut builder = DirectoryBuilder::new(PROFILE);
        let mut blocks = Vec::new();
        for (name, dag) in entries {
            builder.add(*name, dag.built).unwrap();
            blocks.extend(dag.blocks.iter().cloned());
        }
        let (built, own) = if sharded { builder.finish_sharded() } else { builder.finish() }.unwrap();
        blocks.extend(own);
        Self { blocks, built }
    }

    /// One block of data.
    pub(super) fn data(codec: Codec, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let cid = block::name(codec, &bytes);
        let built = Built { cid, file_bytes: 0, dag_bytes: bytes.len() as u64 };
        Self { blocks: vec![Block { cid, bytes }], built }
    }

    pub(super) fn cid(&self) -> Cid {
        self.built.cid
    }
}

/// Bytes of which no two KiB are the same.
pub(super) fn noise(len: usize) -> Vec<u8> {
    (0..u32::try_from(len).unwrap()).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(len).collect()
}

/// A source that has blocks in memory, and may stop to answer.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    blocks: Mutex<BTreeMap<Cid, Bytes>>,
    pub(super) asked: AtomicUsize,
    /// After so many answers it is silent, if any number.
    pub(super) silent_after: Mutex<Option<usize>>,
}

impl Shelf {
    /// Has the blocks of a DAG from now on.
    pub(super) fn offer(&self, dag: &Dag) {
        self.blocks.lock().extend(dag.blocks.iter().map(|block| (block.cid, block.bytes.clone())));
    }
}

impl BlockSource for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<VerifiedBytes, SourceError>> {
        Box::pin(async move {
            let before = self.asked.fetch_add(1, Ordering::SeqCst);
            if self.silent_after.lock().is_some_and(|after| before >= after) {
                std::future::pending::<()>().await;
            }
            let found = self.blocks.lock().get(&want.cid).cloned();
            match found {
                Some(bytes) => Ok(block::check(&want.cid, bytes).unwrap()),
                None => Err(SourceError { class: FailureClass::Neutral, detail: "not there".to_owned() }),
            }
        })
    }
}
