//! What the DHT knows: who has a block, where a peer is, what a name stands for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, RecordKey};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, noise as noise_handshake, tcp, yamux};
use parking_lot::Mutex;
use swarmgate_content::Cid;
use swarmgate_ipfs::node::{KadMode, Node, NodeOptions, Shelf};
use swarmgate_ipfs::source::{BlockSource, Provider, Router};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::ipns;
use swarmgate_store::{Store, StoreOptions};

use crate::raw_block;
use crate::support::{PATIENCE, Peer, options, read_file, session, until};

/// What a stranger's DHT server knows.
enum Knows {
    Nothing,
    ItHas(RecordKey),
    Record(RecordKey, Vec<u8>),
    Peer(PeerId, Multiaddr),
}

/// A stranger's DHT server: it knows what it is given, and nobody else.
async fn dht_server(knows: Knows) -> (Multiaddr, tokio::task::JoinHandle<()>) {
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::new(), noise_handshake::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let peer = key.public().to_peer_id();
            kad::Behaviour::new(peer, MemoryStore::new(peer))
        })
        .unwrap()
        .build();
    swarm.behaviour_mut().set_mode(Some(kad::Mode::Server));
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.add_external_address(address.clone());
    let dht = swarm.behaviour_mut();
    match knows {
        Knows::Nothing => {}
        Knows::ItHas(key) => {
            dht.start_providing(key).unwrap();
        }
        Knows::Record(key, value) => {
            dht.put_record(kad::Record::new(key, value), kad::Quorum::One).unwrap();
        }
        Knows::Peer(peer, address) => {
            dht.add_address(&peer, address);
        }
    }
    let address = address.with_p2p(*swarm.local_peer_id()).unwrap();
    (address, tokio::spawn(swarm.for_each(|_| std::future::ready(()))))
}

fn in_the_dht(bootstrap: Multiaddr) -> NodeOptions {
    NodeOptions { kad: KadMode::Client, bootstrap: vec![bootstrap], ..options("/ip4/127.0.0.1/tcp/0") }
}

#[tokio::test]
async fn the_dht_says_who_has_a_block_and_where() {
    let cid = raw_block(b"somewhere").cid;
    let (server, task) = dht_server(Knows::ItHas(RecordKey::from(*cid.hash()))).await;
    let ours = Peer::start(in_the_dht(server.clone())).await;
    let found = providers(&ours, cid).await;
    let [Provider::Peer { id, addrs }] = &found[..] else { panic!("{found:?}") };
    assert!(server.to_string().ends_with(&id.to_string()));
    assert!(addrs.iter().any(|address| server.to_string().starts_with(&address.to_string())), "{addrs:?}");
    ours.stop().await;
    task.abort();
}

#[tokio::test]
async fn what_is_kept_is_found_in_the_dht_and_fetched() {
    let (server, task) = dht_server(Knows::Nothing).await;
    let (ours, theirs) = (Peer::start(in_the_dht(server.clone())).await, Peer::start(in_the_dht(server)).await);
    let root = ours.add_file(b"kept for others").await;
    ours.node.kept(&root);
    until("it is announced", || ours.node.stats().announced == 1).await;
    let session = session();
    let found = providers(&theirs, root).await;
    let [provider @ Provider::Peer { id, addrs }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*id, ours.node.peer_id());
    assert!(!addrs.is_empty(), "it said where it is");
    theirs.node.provider(session, provider);
    assert_eq!(read_file(&theirs.node, session, root, |_| ()).await.unwrap(), b"kept for others");
    ours.stop().await;
    theirs.stop().await;
    task.abort();
}

#[tokio::test]
async fn who_is_asked_itself_says_what_it_keeps_and_not_what_it_may_not_serve() {
    let options = NodeOptions { kad: KadMode::Server, ..options("/ip4/127.0.0.1/tcp/0") };
    let store = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
    let denied = raw_block(b"kept, and denied").cid;
    let shelf = Shelf { store: store.clone(), may_serve: Arc::new(move |cid| *cid != denied) };
    let identity = Keypair::generate_ed25519();
    let node = Arc::new(Node::start(options, identity.clone(), shelf).await.unwrap());
    let ours = Peer { node, store, identity };
    let fine = raw_block(b"kept").cid;
    [denied, fine].iter().for_each(|root| ours.node.kept(root));
    let theirs = Peer::start(in_the_dht(ours.address())).await;
    let deadline = Instant::now() + PATIENCE;
    while providers(&theirs, fine).await.is_empty() {
        assert!(Instant::now() < deadline, "it is found");
    }
    assert!(providers(&theirs, denied).await.is_empty());
    ours.stop().await;
    theirs.stop().await;
}

async fn providers(peer: &Peer, cid: Cid) -> Vec<Provider> {
    let found = Mutex::new(Vec::new());
    peer.node.providers(&cid, &|provider| found.lock().push(provider)).await.unwrap();
    found.into_inner()
}

#[tokio::test]
async fn the_dht_has_the_record_of_a_name() {
    let key = Keypair::generate_ed25519();
    let path = "/ipfs/bafkqaaa".parse::<ContentPath>().unwrap();
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let record = ipns::Record::sign(&key, &path, 7, expires, Duration::from_secs(60)).unwrap();
    let name = ipns::Name::of_key(&key.public());
    let knows = Knows::Record(RecordKey::from(name.routing_key()), record.as_bytes().to_vec());
    let (server, task) = dht_server(knows).await;
    let ours = Peer::start(in_the_dht(server)).await;
    assert_eq!(ours.node.ipns_record(&name.to_cid()).await.unwrap(), *record.as_bytes());
    let nobody = ipns::Name::of_key(&Keypair::generate_ed25519().public()).to_cid();
    assert!(ours.node.ipns_record(&nobody).await.is_err());
    ours.stop().await;
    task.abort();
}

#[tokio::test]
async fn a_provider_whose_address_nobody_told_is_searched_in_the_dht() {
    let theirs = Peer::tcp().await;
    let root = theirs.add_file(b"found after all").await;
    let listens = theirs.node.listeners().remove(0);
    let (server, task) = dht_server(Knows::Peer(theirs.node.peer_id(), listens)).await;
    let (ours, session) = (Peer::start(in_the_dht(server)).await, session());
    ours.node.provider(session, &Provider::Peer { id: theirs.node.peer_id(), addrs: Vec::new() });
    assert_eq!(read_file(&ours.node, session, root, |_| ()).await.unwrap(), b"found after all");
    ours.stop().await;
    theirs.stop().await;
    task.abort();
}
