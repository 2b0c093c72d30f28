//! Two swarms in one process, over a stream in memory.

use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::metainfo::{Metainfo, TorrentBuilder, hash_pieces};
use swarmgate_content::EventBus;
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::{PeerEnd, PeerOrigin, Swarm, SwarmContext, SwarmOptions};
use tokio::sync::mpsc;

const PIECE: u32 = 256 * 1024;

struct Node {
    swarm: Swarm,
    store: Store,
    ends: mpsc::Receiver<PeerEnd>,
}

async fn node(metainfo: &Metainfo) -> Node {
    node_with_cache(metainfo, 64 << 20).await
}

async fn node_with_cache(metainfo: &Metainfo, cache_bytes: u64) -> Node {
    let store = Store::open(StoreOptions::in_memory(cache_bytes)).await.unwrap();
    let context = SwarmContext::new(store.clone(), EventBus::new());
    let options =
        SwarmOptions { max_partial_bytes: 32 << 20, upload_slots: 4, max_peers: 8, keep_behind_bytes: 0, seed: 1 };
    let (sender, ends) = mpsc::channel(8);
    Node { swarm: Swarm::spawn(metainfo.infohash, options, context, sender), store, ends }
}

async fn join(a: &Node, b: &Node, metainfo: &Metainfo) {
    let (left, right) = tokio::io::duplex(256 * 1024);
    let handshake = |id| Handshake::ours(metainfo.infohash, PeerId([id; 20]));
    a.swarm.handle().add_peer(left, PeerOrigin::webrtc(), handshake(1)).await.unwrap();
    b.swarm.handle().add_peer(right, PeerOrigin::webrtc(), handshake(2)).await.unwrap();
}

fn payload() -> Bytes {
    (0..24_u32 * 1024 * 1024 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>().into()
}

async fn seed(node: &Node, metainfo: &Metainfo, payload: &Bytes) {
    for (index, piece) in payload.chunks(PIECE as usize).enumerate() {
        let hash = metainfo.info.pieces.get(index).unwrap();
        let block = node.store.verifier().verify(hash, payload.slice_ref(piece)).await.unwrap();
        node.store.put(block).await.unwrap();
    }
    node.swarm.handle().set_info(metainfo.info.clone(), metainfo.info_bytes.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_swarm_reads_everything_from_a_seed_at_once() {
    let payload = payload();
    let hashes = hash_pieces(&payload, PIECE);
    let metainfo = TorrentBuilder::single_file("f", payload.len() as u64, PIECE, hashes).build().unwrap();
    let (seeder, mut leecher) = (node(&metainfo).await, node(&metainfo).await);
    seed(&seeder, &metainfo, &payload).await;
    join(&seeder, &leecher, &metainfo).await;
    let known = leecher.swarm.handle().wait_known().await.unwrap().unwrap();
    let started = Instant::now();
    let mut reader = leecher.swarm.handle().read(&known, 0..payload.len() as u64);
    let mut at = 0;
    while let Some(bytes) = reader.next().await {
        let bytes = bytes.unwrap();
        assert_eq!(bytes.as_ref(), &payload[at..at + bytes.len()]);
        at += bytes.len();
    }
    assert_eq!(at, payload.len());
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    drop(reader);
    assert_eq!(leecher.swarm.handle().status().totals.wasted, 0);
    seeder.swarm.shutdown().await;
    let end = leecher.ends.recv().await.unwrap();
    assert!(end.useful && end.evidence.is_none(), "{end:?}");
    leecher.swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_full_of_pins_still_streams_and_fetches_each_piece_once() {
    let payload = payload();
    let hashes = hash_pieces(&payload, PIECE);
    let metainfo = TorrentBuilder::single_file("f", payload.len() as u64, PIECE, hashes).build().unwrap();
    let (seeder, leecher) = (node(&metainfo).await, node_with_cache(&metainfo, 1 << 20).await);
    // Four other blocks fill the cache and may not go.
    for n in 0..4_u8 {
        let data = Bytes::from(vec![n; PIECE as usize]);
        let hash = swarmgate_content::BlockHash::sha1(hash_pieces(&data, PIECE).as_ref().try_into().unwrap());
        leecher.store.put(leecher.store.verifier().verify(hash, data).await.unwrap()).await.unwrap();
        leecher.store.pin("keep", [hash]);
    }
    seed(&seeder, &metainfo, &payload).await;
    join(&seeder, &leecher, &metainfo).await;
    let known = leecher.swarm.handle().wait_known().await.unwrap().unwrap();
    let mut reader = leecher.swarm.handle().read(&known, 0..4 << 20);
    let mut at = 0;
    while let Some(bytes) = reader.next().await {
        let bytes = bytes.unwrap();
        assert_eq!(bytes.as_ref(), &payload[at..at + bytes.len()]);
        at += bytes.len();
        // A client slower than the swarm: what comes meanwhile must have a place to wait in, or not be asked for.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(at, 4 << 20);
    let downloaded = leecher.swarm.handle().status().totals.downloaded;
    assert!(downloaded <= (4 << 20) + u64::from(PIECE), "{downloaded} bytes for 4 MiB");
    assert_eq!(leecher.store.usage().pinned_bytes, 1 << 20);
    drop(reader);
    seeder.swarm.shutdown().await;
    leecher.swarm.shutdown().await;
}
