//! v2 torrents (BEP 52) between two swarms in one process: from an infohash to every byte, and a reader that has the first
//! blocks of a piece while its rest is held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use swarmgate_bittorrent_proto::bencode::OwnedValue;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::merkle::{Tree, height};
use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_content::merkle::{LEAF_BYTES, Root, leaf};
use swarmgate_content::{ContentId, EventBus, TorrentId};
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::{PeerEnd, PeerOrigin, Swarm, SwarmContext, SwarmOptions, roots};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, mpsc};

const PIECE: usize = 16 << 20;
/// The payload: two pieces, the second short.
const LEN: usize = PIECE + (5 << 20) + 777;
/// No step of these stories takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    swarm: Swarm,
    store: Store,
    _ends: mpsc::Receiver<PeerEnd>,
}

async fn node(id: TorrentId) -> Node {
    let store = Store::open(StoreOptions::in_memory(64 << 20)).await.unwrap();
    let context = SwarmContext::new(store.clone(), EventBus::new());
    let options =
        SwarmOptions { max_partial_bytes: 64 << 20, upload_slots: 4, max_peers: 8, keep_behind_bytes: 0, seed: 1 };
    let (sender, ends) = mpsc::channel(8);
    Node { swarm: Swarm::spawn(id, options, context, sender), store, _ends: ends }
}

fn payload() -> Bytes {
    let words = u32::try_from(LEN / 4 + 1).unwrap();
    let bytes: Vec<u8> = (0..words).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    Bytes::from(bytes).slice(..LEN)
}

/// The payload as the one file of a v2 torrent.
fn torrent(payload: &Bytes) -> Metainfo {
    let height = height(LEN as u64);
    let tree = Tree::new(0, height, payload.chunks(LEAF_BYTES).map(leaf).collect()).unwrap();
    let layer = (PIECE / LEAF_BYTES).trailing_zeros();
    let roots: Vec<Root> = (0..2).map(|piece| tree.at(layer, piece).unwrap()).collect();
    let file = OwnedValue::dict([
        ("length", OwnedValue::from(i64::try_from(LEN).unwrap())),
        ("pieces root", tree.root().to_vec().into()),
    ]);
    let info = OwnedValue::dict([
        ("file tree", OwnedValue::dict([("film.mkv", OwnedValue::dict([("", file)]))])),
        ("meta version", 2.into()),
        ("name", "film.mkv".into()),
        ("piece length", i64::try_from(PIECE).unwrap().into()),
    ]);
    let layers = OwnedValue::dict([(tree.root().to_vec(), roots.concat().into())]);
    let whole = OwnedValue::dict([("info", info), ("piece layers", layers)]);
    Metainfo::parse(&whole.encode().into()).unwrap()
}

async fn seed(node: &Node, metainfo: &Metainfo, payload: &Bytes) {
    for (piece, bytes) in (0..).zip(payload.chunks(PIECE)) {
        let hash = metainfo.info.piece_hash(piece).unwrap();
        let block = node.store.verifier().verify(hash, payload.slice_ref(bytes)).await.unwrap();
        node.store.put(block).await.unwrap();
    }
    node.swarm.handle().set_info(metainfo.info.clone(), metainfo.info_bytes.clone()).await.unwrap();
}

/// A way from the seeder to the leecher that lets so many bytes pass, and the rest when it is opened.
struct Gate {
    budget: AtomicUsize,
    opened: Notify,
}

async fn pass(
    gate: Arc<Gate>,
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        while gate.budget.load(Ordering::SeqCst) < count {
            gate.opened.notified().await;
        }
        gate.budget.fetch_sub(count, Ordering::SeqCst);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn join(seeder: &Node, leecher: &Node, metainfo: &Metainfo, budget: usize) -> Arc<Gate> {
    let gate = Arc::new(Gate { budget: AtomicUsize::new(budget), opened: Notify::new() });
    let handshake = |id| Handshake::ours(metainfo.infohash, PeerId([id; 20]));
    let ((left, near), (right, far)) = (tokio::io::duplex(64 << 10), tokio::io::duplex(64 << 10));
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    let free = Arc::new(Gate { budget: AtomicUsize::new(usize::MAX / 2), opened: Notify::new() });
    tokio::spawn(pass(gate.clone(), near_read, far_write));
    tokio::spawn(pass(free, far_read, near_write));
    seeder.swarm.handle().add_peer(left, PeerOrigin::webrtc(), handshake(1)).await.unwrap();
    leecher.swarm.handle().add_peer(right, PeerOrigin::webrtc(), handshake(2)).await.unwrap();
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_has_blocks_of_a_piece_whose_rest_is_held_back_and_then_everything() {
    let payload = payload();
    let metainfo = torrent(&payload);
    let (seeder, leecher) = (node(metainfo.id).await, node(metainfo.id).await);
    seed(&seeder, &metainfo, &payload).await;
    let gate = join(&seeder, &leecher, &metainfo, 1 << 20).await;
    let known = tokio::time::timeout(PATIENCE, leecher.swarm.handle().wait_known()).await.unwrap().unwrap().unwrap();
    assert!(matches!(known.meta.id, ContentId::BtV2(_)));
    // From within a block of the first piece, past the first run of leaves.
    let from = (9 << 20) + 5;
    let mut reader = leecher.swarm.handle().read(&known, from as u64..LEN as u64);
    let mut at = from;
    while at < from + (100 << 10) {
        let bytes = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(bytes.as_ref(), &payload[at..at + bytes.len()]);
        at += bytes.len();
    }
    assert_eq!(known.have_bytes(), 0, "neither piece can be whole");
    gate.budget.store(usize::MAX / 2, Ordering::SeqCst);
    gate.opened.notify_one();
    while let Some(bytes) = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap() {
        let bytes = bytes.unwrap();
        assert_eq!(bytes.as_ref(), &payload[at..at + bytes.len()]);
        at += bytes.len();
    }
    assert_eq!(at, LEN);
    drop(reader);
    // What was learnt of the pieces is in the store, so that a restart need not ask.
    let stored = roots::stored(&leecher.store, metainfo.id.v2().unwrap()).await;
    assert_eq!(stored, metainfo.info.roots);
    assert_eq!(leecher.swarm.handle().status().totals.corrupt, 0);
    seeder.swarm.shutdown().await;
    leecher.swarm.shutdown().await;
}
