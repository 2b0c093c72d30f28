//! What comes into the store by another way than Bitswap goes to the peers that wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use swarmgate_content::{BlockHash, Cid, DagLender, Leaf, Protocol as _};
use swarmgate_egress::EgressPolicy;
use swarmgate_ipfs::delivery::{Delivery, DeliveryOptions};
use swarmgate_ipfs::names::NamesOptions;
use swarmgate_ipfs::patience::Patience;
use swarmgate_ipfs::{Blocks, IpfsParts, IpfsProtocol, SessionOptions};
use swarmgate_ipfs_proto::bitswap::message::{Entry, Message, WireBlock};
use swarmgate_store::{Store, StoreOptions};
use tokio::task::JoinHandle;
use url::Url;

use crate::raw::RawPeer;
use crate::raw_block;
use crate::support::noise;

/// A trustless gateway that has one block.
async fn gateway(cid: Cid, block: Bytes) -> (Url, JoinHandle<()>) {
    let answer = move || std::future::ready(([("content-type", "application/vnd.ipld.raw")], block.clone()));
    let app = axum::Router::new().route(&format!("/ipfs/{cid}"), axum::routing::get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    (url, tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }))
}

async fn deliver(gateways: Vec<Url>, store: &Store) -> Delivery {
    let options = DeliveryOptions {
        listen: Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
        peers: Vec::new(),
        introducers: Vec::new(),
        gateways,
        found_gateways: false,
        routers: Vec::new(),
        kubo_api: None,
        egress: EgressPolicy { allow_private: true },
    };
    Delivery::start(&options, store, Arc::new(|_| true)).await.unwrap()
}

#[tokio::test]
async fn a_peer_that_waits_gets_what_a_gateway_brings() {
    let block = raw_block(&noise(100_000, 7));
    let (url, server) = gateway(block.cid, block.data.clone().into_bytes()).await;
    let store = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
    let delivery = deliver(vec![url], &store).await;
    let node = delivery.node().unwrap();
    let mut peer = RawPeer::connect(node.listeners().remove(0).with(Protocol::P2p(node.peer_id()))).await;
    peer.send(&Message { wantlist: vec![Entry::want_block(block.cid, 1)], ..Message::default() }).await.unwrap();
    let answer = peer.next().await.unwrap();
    assert!(answer.presences.iter().any(|presence| presence.cid == block.cid && !presence.has), "{answer:?}");

    let blocks = Blocks::new(store.clone(), delivery.sources(), Vec::new(), Patience::default());
    let read = blocks.session(SessionOptions::default()).block(&block.cid).await.unwrap();
    assert_eq!(read.as_ref(), block.data.as_ref());
    // The peer asks no second time.
    assert_eq!(next_block(&mut peer).await, block);
    assert!(store.contains(&BlockHash::from_cid(&block.cid).unwrap()));
    delivery.shutdown(Instant::now() + Duration::from_secs(5)).await;
    server.abort();
}

#[tokio::test]
async fn a_peer_that_waits_gets_a_leaf_that_was_admitted_and_is_not_asked_for_it_any_more() {
    let (block, begun) = (raw_block(&noise(100_000, 8)), raw_block(&noise(100, 9)));
    let store = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
    let delivery = deliver(Vec::new(), &store).await;
    let node = delivery.node().unwrap();
    let (sources, routers, names) = (delivery.sources(), Vec::new(), NamesOptions::default());
    let ipfs = IpfsProtocol::start(IpfsParts { store, sources, routers, names, patience: Patience::default() });
    let mut peer = RawPeer::connect(node.listeners().remove(0).with(Protocol::P2p(node.peer_id()))).await;
    peer.send(&Message { wantlist: vec![Entry::want_block(block.cid, 1)], ..Message::default() }).await.unwrap();
    let answer = peer.next().await.unwrap();
    assert!(answer.presences.iter().any(|presence| presence.cid == block.cid && !presence.has), "{answer:?}");

    let loan = ipfs.lend_dag(begun.cid);
    let leaf = Leaf { cid: block.cid, offset: 100, len: 100_000 };
    let fetch = tokio::spawn(loan.fetch(leaf));
    assert_eq!(peer.next_want().await, block.cid);
    loan.admit(leaf, block.data.clone().into_bytes()).await.unwrap();
    assert_eq!(fetch.await.unwrap().unwrap(), block.data);
    let (mut sent, mut cancelled) = (false, false);
    while !(sent && cancelled) {
        let message = peer.next().await.expect("the connection stays");
        sent |= message.blocks.contains(&block);
        cancelled |= message.wantlist.contains(&Entry::Cancel(block.cid));
    }
    ipfs.shutdown(Instant::now() + Duration::from_secs(5)).await;
    delivery.shutdown(Instant::now() + Duration::from_secs(5)).await;
}

async fn next_block(peer: &mut RawPeer) -> WireBlock {
    loop {
        let message = peer.next().await.expect("the connection stays");
        if let Some(sent) = message.blocks.into_iter().next() {
            return sent;
        }
    }
}
