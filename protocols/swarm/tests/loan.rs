//! What a swarm lends: pieces asked for without reading them, pieces given to it, readers that ask for nothing. Beside
//! real swarms there is a peer that the story plays itself, to hear what it is asked.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its story fails")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::metainfo::{Metainfo, TorrentBuilder, hash_pieces};
use swarmgate_bittorrent_proto::wire::{BLOCK_LEN, BlockRequest, Message, PieceIndex, complete_frames, next_message};
use swarmgate_content::{BlockHash, EventBus, FailureClass, LoanError};
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::{
    Known, PeerEnd, PeerOrigin, ReadFault, Swarm, SwarmContext, SwarmHandle, SwarmOptions, SwarmReader,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const PIECE: u32 = 256 * 1024;
const PIECES: u32 = 16;
/// Everything here is done at once, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_that_are_fetched_fill_the_store_and_a_follower_reads_them() {
    let story = Story::new();
    let (seeder, leecher) = (story.node(64 << 20).await, story.node(64 << 20).await);
    story.seed(&seeder).await;
    story.join(&seeder, &leecher).await;
    let range = at(2) + 100..at(4) + 50;
    let reading = tokio::spawn(read_all(leecher.handle().follow(&leecher.known, range.clone())));
    for piece in [4, 2, 3] {
        soon(leecher.handle().fetch(PieceIndex(piece))).await.unwrap();
        assert!(leecher.store.contains(&story.hash(piece)) && leecher.handle().has(PieceIndex(piece)));
        soon(leecher.handle().fetch(PieceIndex(piece))).await.unwrap();
    }
    assert_eq!(soon(reading).await.unwrap().unwrap(), story.bytes(range));
    assert_eq!(leecher.handle().received_bytes(), 3 * u64::from(PIECE), "each piece once and nothing besides");
    assert!(!leecher.handle().has(PieceIndex(5)) && !leecher.handle().has(PieceIndex(PIECES)));
    seeder.stop().await;
    leecher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_from_elsewhere_wakes_a_follower_and_a_peer_downloads_it_from_us() {
    let story = Story::new();
    let (ours, peer) = (story.node(64 << 20).await, story.node(64 << 20).await);
    story.join(&ours, &peer).await;
    let range = at(3)..at(4);
    let following = tokio::spawn(read_all(ours.handle().follow(&ours.known, range.clone())));
    let theirs = tokio::spawn(read_all(peer.handle().read(&peer.known, range.clone())));
    soon(ours.handle().admit(PieceIndex(3), story.piece(3))).await.unwrap();
    assert!(ours.handle().has(PieceIndex(3)));
    assert_eq!(soon(following).await.unwrap().unwrap(), story.piece(3));
    assert_eq!(soon(theirs).await.unwrap().unwrap(), story.piece(3));
    assert_eq!(ours.handle().status().totals.uploaded, u64::from(PIECE));
    assert_eq!(ours.handle().received_bytes(), 0);
    peer.stop().await;
    ours.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_from_elsewhere_are_refused_and_blame_no_peer() {
    let story = Story::new();
    let (seeder, mut leecher) = (story.node(64 << 20).await, story.node(64 << 20).await);
    story.seed(&seeder).await;
    story.join(&seeder, &leecher).await;
    let handle = leecher.handle();
    let mut wrong = story.piece(6).to_vec();
    wrong[70_000] ^= 1;
    let class = |error: Result<(), LoanError>| error.unwrap_err().class;
    assert_eq!(class(soon(handle.admit(PieceIndex(6), wrong.into())).await), FailureClass::Corruption);
    assert_eq!(class(soon(handle.admit(PieceIndex(6), story.piece(6).slice(1..))).await), FailureClass::Corruption);
    assert_eq!(class(soon(handle.admit(PieceIndex(6), story.piece(7))).await), FailureClass::Corruption);
    assert_eq!(class(soon(handle.admit(PieceIndex(PIECES), story.piece(7))).await), FailureClass::Neutral);
    assert_eq!(class(soon(handle.fetch(PieceIndex(PIECES))).await), FailureClass::Neutral);
    assert!(!handle.has(PieceIndex(6)) && !leecher.store.contains(&story.hash(6)));
    // The peer is still there and as good as before.
    soon(handle.fetch(PieceIndex(6))).await.unwrap();
    let status = handle.status();
    assert_eq!((status.totals.corrupt, status.totals.wasted, status.peers), (0, 0, 1));
    assert!(leecher.ends.try_recv().is_err());
    seeder.stop().await;
    leecher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_from_elsewhere_withdraws_what_peers_were_asked_of_it() {
    let story = Story::new();
    let leecher = story.node(64 << 20).await;
    let mut peer = Played::join(&story, &leecher).await;
    peer.say(&[Message::HaveAll, Message::Unchoke]).await;
    let fetching = leecher.spawn_fetch(5);
    let mut asked = BTreeSet::from([peer.next_request().await]);
    soon(leecher.handle().admit(PieceIndex(5), story.piece(5))).await.unwrap();
    soon(fetching).await.unwrap().unwrap();
    peer.all_withdrawn(&mut asked).await;
    // The late answer to one of them is of no use and does no harm.
    let data = story.piece(5).slice(..BLOCK_LEN as usize);
    peer.say(&[Message::Piece { piece: PieceIndex(5), begin: 0, data }]).await;
    eventually(|| leecher.handle().received_bytes() == u64::from(BLOCK_LEN)).await;
    assert_eq!(leecher.handle().status().peers, 1);
    leecher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_room_hands_pieces_to_the_followers_that_are_at_them() {
    let story = Story::new();
    let (seeder, leecher) = (story.node(64 << 20).await, story.node(1 << 20).await);
    leecher.fill_with_pins().await;
    story.seed(&seeder).await;
    story.join(&seeder, &leecher).await;
    let handle = leecher.handle();
    let mut follower = handle.follow(&leecher.known, at(0)..at(2));
    // Nobody is at these: they come, and are gone again.
    assert_eq!(soon(handle.admit(PieceIndex(1), story.piece(1))).await.unwrap_err().class, FailureClass::Local);
    assert_eq!(soon(handle.fetch(PieceIndex(1))).await.unwrap_err().class, FailureClass::Local);
    // From elsewhere the first, from the swarm the second.
    soon(handle.admit(PieceIndex(0), story.piece(0))).await.unwrap();
    assert_eq!(soon(read(&mut follower, PIECE as usize)).await, story.piece(0));
    soon(handle.fetch(PieceIndex(1))).await.unwrap();
    assert_eq!(soon(read(&mut follower, PIECE as usize)).await, story.piece(1));
    assert!(soon(follower.next()).await.is_none());
    assert!(!handle.has(PieceIndex(0)) && !leecher.store.contains(&story.hash(1)));
    assert_eq!(handle.received_bytes(), 2 * u64::from(PIECE));
    drop(follower);
    seeder.stop().await;
    leecher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_is_dropped_is_withdrawn_within_50_ms() {
    let story = Story::new();
    let leecher = story.node(64 << 20).await;
    let mut peer = Played::join(&story, &leecher).await;
    peer.say(&[Message::HaveAll, Message::Unchoke]).await;
    let mut took = Vec::new();
    // What else the machine does may delay one; the rules would delay each.
    for piece in 0..5 {
        let fetching = leecher.spawn_fetch(piece);
        let first = peer.next_request().await;
        assert_eq!(first.piece, PieceIndex(piece));
        let mut asked = BTreeSet::from([first]);
        let dropped = Instant::now();
        fetching.abort();
        peer.all_withdrawn(&mut asked).await;
        took.push(dropped.elapsed());
    }
    assert!(took.iter().min().unwrap() < &Duration::from_millis(50), "{took:?}");
    leecher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_asks_no_peer_for_anything_and_bytes_are_counted_as_they_come() {
    let story = Story::new();
    let leecher = story.node(64 << 20).await;
    let mut peer = Played::join(&story, &leecher).await;
    peer.say(&[Message::HaveAll, Message::Unchoke]).await;
    let following = tokio::spawn(read_all(leecher.handle().follow(&leecher.known, at(2)..at(4))));
    eventually(|| leecher.handle().status().readers == 1).await;
    assert_eq!(leecher.handle().idle_for(Instant::now()), None);
    // Every block that it is asked for, until the piece is complete, is of the piece that is fetched.
    let fetching = leecher.spawn_fetch(5);
    for received in 1..=u64::from(PIECE / BLOCK_LEN) {
        let request = peer.next_request().await;
        assert_eq!(request.piece, PieceIndex(5));
        peer.answer(&story, request).await;
        eventually(|| leecher.handle().received_bytes() == received * u64::from(BLOCK_LEN)).await;
    }
    soon(fetching).await.unwrap().unwrap();
    soon(leecher.handle().admit(PieceIndex(3), story.piece(3))).await.unwrap();
    soon(leecher.handle().admit(PieceIndex(2), story.piece(2))).await.unwrap();
    assert_eq!(soon(following).await.unwrap().unwrap(), story.bytes(at(2)..at(4)));
    leecher.stop().await;
    let rest = peer.everything_else().await;
    assert!(!rest.iter().any(|message| matches!(message, Message::Request(_))), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stays_keeps_the_torrent_from_being_idle_and_a_shutdown_ends_every_wait() {
    let story = Story::new();
    let leecher = story.node(64 << 20).await;
    let handle = leecher.handle().clone();
    let stay = handle.stay();
    assert_eq!((handle.idle_for(Instant::now()), handle.status().readers), (None, 0));
    drop(stay);
    assert!(handle.idle_for(Instant::now()).is_some());
    let fetching = leecher.spawn_fetch(1);
    let following = tokio::spawn(read_all(handle.follow(&leecher.known, at(2)..at(4))));
    eventually(|| handle.status().readers == 1).await;
    soon(leecher.swarm.shutdown()).await;
    assert_eq!(soon(fetching).await.unwrap().unwrap_err().class, FailureClass::Neutral);
    assert_eq!(soon(following).await.unwrap(), Err(ReadFault::Gone));
    let late = soon(handle.admit(PieceIndex(0), story.piece(0))).await;
    assert_eq!(late.unwrap_err().class, FailureClass::Neutral);
}

// --- the kit -----------------------------------------------------------------------------------------------------

/// A torrent and its bytes.
struct Story {
    payload: Bytes,
    metainfo: Metainfo,
}

struct Node {
    swarm: Swarm,
    store: Store,
    ends: mpsc::Receiver<PeerEnd>,
    known: Arc<Known>,
}

impl Story {
    fn new() -> Self {
        let words = 0..PIECES * PIECE / 4;
        let payload: Bytes = words.flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>().into();
        let hashes = hash_pieces(&payload, PIECE);
        let metainfo = TorrentBuilder::single_file("f", payload.len() as u64, PIECE, hashes).build().unwrap();
        Self { payload, metainfo }
    }

    fn bytes(&self, range: Range<u64>) -> Bytes {
        self.payload.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
    }

    fn piece(&self, piece: u32) -> Bytes {
        self.bytes(at(piece)..at(piece + 1))
    }

    fn hash(&self, piece: u32) -> BlockHash {
        self.metainfo.info.pieces.get(piece as usize).unwrap()
    }

    /// A swarm that knows the metadata and has nothing.
    async fn node(&self, cache_bytes: u64) -> Node {
        let store = Store::open(StoreOptions::in_memory(cache_bytes)).await.unwrap();
        let context = SwarmContext::new(store.clone(), EventBus::new());
        let options =
            SwarmOptions { max_partial_bytes: 32 << 20, upload_slots: 4, max_peers: 8, keep_behind_bytes: 0, seed: 1 };
        let (sender, ends) = mpsc::channel(8);
        let swarm = Swarm::spawn(self.metainfo.infohash, options, context, sender);
        let (info, bytes) = (self.metainfo.info.clone(), self.metainfo.info_bytes.clone());
        swarm.handle().set_info(info, bytes).await.unwrap();
        let known = swarm.handle().wait_known().await.unwrap().unwrap();
        Node { swarm, store, ends, known }
    }

    async fn seed(&self, node: &Node) {
        for piece in 0..PIECES {
            let block = node.store.verifier().verify(self.hash(piece), self.piece(piece)).await.unwrap();
            node.store.put(block).await.unwrap();
        }
        node.handle().check_store().await.unwrap();
    }

    fn handshake(&self, id: u8) -> Handshake {
        Handshake::ours(self.metainfo.infohash, PeerId([id; 20]))
    }

    async fn join(&self, a: &Node, b: &Node) {
        let (left, right) = tokio::io::duplex(256 * 1024);
        a.handle().add_peer(left, PeerOrigin::webrtc(), self.handshake(1)).await.unwrap();
        b.handle().add_peer(right, PeerOrigin::webrtc(), self.handshake(2)).await.unwrap();
    }
}

impl Node {
    fn handle(&self) -> &SwarmHandle {
        self.swarm.handle()
    }

    fn spawn_fetch(&self, piece: u32) -> JoinHandle<Result<(), LoanError>> {
        let handle = self.handle().clone();
        tokio::spawn(async move { handle.fetch(PieceIndex(piece)).await })
    }

    /// Fills a store of 1 MiB with blocks that may not go.
    async fn fill_with_pins(&self) {
        // The metadata goes in by itself, and would be what is evicted.
        eventually(|| self.store.usage().blocks == 1).await;
        for n in 0..4_u8 {
            let data = Bytes::from(vec![n; PIECE as usize]);
            let hash = BlockHash::sha1(hash_pieces(&data, PIECE).as_ref().try_into().unwrap());
            self.store.put(self.store.verifier().verify(hash, data).await.unwrap()).await.unwrap();
            self.store.pin("keep", [hash]);
        }
    }

    async fn stop(self) {
        soon(self.swarm.shutdown()).await;
    }
}

/// A peer whose words the story chooses.
struct Played {
    io: DuplexStream,
    buffer: BytesMut,
    heard: Bytes,
}

impl Played {
    async fn join(story: &Story, node: &Node) -> Self {
        let (near, io) = tokio::io::duplex(256 * 1024);
        node.handle().add_peer(near, PeerOrigin::webrtc(), story.handshake(9)).await.unwrap();
        Self { io, buffer: BytesMut::new(), heard: Bytes::new() }
    }

    async fn say(&mut self, messages: &[Message]) {
        let mut bytes = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.io.write_all(&bytes).await.unwrap();
    }

    async fn answer(&mut self, story: &Story, request: BlockRequest) {
        let from = at(request.piece.0) + u64::from(request.begin);
        let data = story.bytes(from..from + u64::from(request.len));
        self.say(&[Message::Piece { piece: request.piece, begin: request.begin, data }]).await;
    }

    /// The next message, or `None` when the connection has ended.
    async fn hear(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = next_message(&mut self.heard).unwrap() {
                return Some(message);
            }
            if soon(self.io.read_buf(&mut self.buffer)).await.unwrap() == 0 {
                return None;
            }
            let complete = complete_frames(&self.buffer).unwrap();
            self.heard = self.buffer.split_to(complete).freeze();
        }
    }

    async fn next_request(&mut self) -> BlockRequest {
        loop {
            let message = self.hear().await.unwrap();
            assert!(!matches!(message, Message::Cancel(_)), "{message:?}");
            if let Message::Request(request) = message {
                return request;
            }
        }
    }

    /// Waits until all that was asked for is withdrawn.
    async fn all_withdrawn(&mut self, asked: &mut BTreeSet<BlockRequest>) {
        while !asked.is_empty() {
            let message = self.hear().await.unwrap();
            if let Message::Request(request) = message {
                assert!(asked.insert(request), "{request:?} asked for again");
            } else if let Message::Cancel(request) = message {
                assert!(asked.remove(&request), "{request:?} was not asked for");
            }
        }
    }

    async fn everything_else(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.hear().await {
            all.push(message);
        }
        all
    }
}

fn at(piece: u32) -> u64 {
    u64::from(piece) * u64::from(PIECE)
}

async fn read_all(mut reader: SwarmReader) -> Result<Bytes, ReadFault> {
    let mut all = BytesMut::new();
    while let Some(bytes) = reader.next().await {
        all.extend_from_slice(bytes?.as_ref());
    }
    Ok(all.freeze())
}

async fn read(reader: &mut SwarmReader, len: usize) -> Bytes {
    let mut all = BytesMut::new();
    while all.len() < len {
        all.extend_from_slice(reader.next().await.unwrap().unwrap().as_ref());
    }
    all.freeze()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

async fn eventually(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(reached).await;
}
