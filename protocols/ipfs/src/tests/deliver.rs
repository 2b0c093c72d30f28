use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use libp2p::multiaddr::Protocol;
use swarmgate_content::ByteRange;
use swarmgate_egress::EgressPolicy;
use swarmgate_store::Store;

use crate::blocks::Blocks;
use crate::delivery::{Delivery, DeliveryError, DeliveryOptions};
use crate::intake::Intake;
use crate::pins::Pins;
use crate::session::SessionOptions;
use crate::source::Provider;
use crate::testing::{Dag, PATIENCE, noise, store};

fn options(peers: &[String]) -> DeliveryOptions {
    DeliveryOptions {
        listen: Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
        peers: peers.to_vec(),
        introducers: Vec::new(),
        gateways: Vec::new(),
        found_gateways: true,
        routers: Vec::new(),
        kubo_api: None,
        egress: EgressPolicy { allow_private: true },
    }
}

async fn start(peers: &[String], store: &Store) -> Delivery {
    Delivery::start(&options(peers), store, Arc::new(|_| true)).await.unwrap()
}

async fn read(blocks: &Arc<Blocks>, dag: &Dag, hints: Vec<Provider>) -> Vec<u8> {
    let session = blocks.session(SessionOptions { hints, ..SessionOptions::default() });
    let reader = session.file(dag.root(), ByteRange::full(u64::MAX).unwrap());
    reader.map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_from_the_operators_peer_and_from_the_one_that_a_request_names() {
    let dag = Dag::file(&noise(300_000));
    let (theirs, goodbye) = (store(8 << 20).await, Instant::now() + Duration::from_secs(60));
    let mut intake = Intake::new(&Pins::new(theirs.clone()));
    for block in &dag.blocks {
        intake.put(&block.cid, block.bytes.clone()).await.unwrap();
    }
    intake.finish(&[dag.root()], false).await.unwrap();
    let they = start(&[], &theirs).await;
    let node = they.node().unwrap();
    let address = node.listeners()[0].clone().with(Protocol::P2p(node.peer_id()));

    let chosen = start(&[address.to_string()], &store(8 << 20).await).await;
    let blocks = Blocks::new(store(8 << 20).await, chosen.sources(), chosen.routers(), PATIENCE);
    assert!(read(&blocks, &dag, Vec::new()).await == noise(300_000));
    assert_eq!(blocks.status()[0].name, "bitswap");
    blocks.shutdown().await;

    let strangers = start(&[], &store(8 << 20).await).await;
    let blocks = Blocks::new(store(8 << 20).await, strangers.sources(), strangers.routers(), PATIENCE);
    let hint = Provider::Peer { id: node.peer_id(), addrs: vec![address] };
    assert!(read(&blocks, &dag, vec![hint]).await == noise(300_000));
    blocks.shutdown().await;
    for delivery in [chosen, strangers, they] {
        delivery.shutdown(goodbye).await;
    }
}

#[tokio::test]
async fn a_peer_without_a_name_is_refused() {
    let store = store(1 << 20).await;
    let anonymous = ["/ip4/192.0.2.1/tcp/4001".to_owned()];
    let refused = Delivery::start(&options(&anonymous), &store, Arc::new(|_| true)).await;
    assert!(matches!(refused, Err(DeliveryError::Address(_))), "{refused:?}");
}
