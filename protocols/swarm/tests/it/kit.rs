//! What the stories share: a torrent with its bytes, swarms in this process, and a peer that a story plays itself, to hear
//! what it is asked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::metainfo::{Metainfo, TorrentBuilder, hash_pieces};
use swarmgate_bittorrent_proto::wire::{BlockRequest, Message, PieceIndex, complete_frames, next_message};
use swarmgate_content::{BlockHash, EventBus, LoanError};
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::{
    Known, PeerEnd, PeerOrigin, ReadFault, Swarm, SwarmContext, SwarmHandle, SwarmOptions, SwarmReader,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) const PIECE: u32 = 256 * 1024;
pub(crate) const PIECES: u32 = 16;
/// Everything here is done at once, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(20);

/// A torrent and its bytes.
pub(crate) struct Story {
    pub(crate) payload: Bytes,
    pub(crate) metainfo: Metainfo,
}

pub(crate) struct Node {
    pub(crate) swarm: Swarm,
    pub(crate) store: Store,
    pub(crate) ends: mpsc::Receiver<PeerEnd>,
    pub(crate) known: Arc<Known>,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::named("f")
    }

    /// The same bytes by another name: another torrent, with the same pieces.
    pub(crate) fn named(name: &str) -> Self {
        let words = 0..PIECES * PIECE / 4;
        let payload: Bytes = words.flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>().into();
        let hashes = hash_pieces(&payload, PIECE);
        let metainfo = TorrentBuilder::single_file(name, payload.len() as u64, PIECE, hashes).build().unwrap();
        Self { payload, metainfo }
    }

    pub(crate) fn bytes(&self, range: Range<u64>) -> Bytes {
        self.payload.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
    }

    pub(crate) fn piece(&self, piece: u32) -> Bytes {
        self.bytes(at(piece)..at(piece + 1))
    }

    pub(crate) fn hash(&self, piece: u32) -> BlockHash {
        self.metainfo.info.pieces.get(piece as usize).unwrap()
    }

    /// A swarm that knows the metadata and has nothing.
    pub(crate) async fn node(&self, cache_bytes: u64) -> Node {
        self.node_in(&application(cache_bytes).await).await
    }

    /// The same, among other swarms of one application.
    pub(crate) async fn node_in(&self, context: &SwarmContext) -> Node {
        let options =
            SwarmOptions { max_partial_bytes: 32 << 20, upload_slots: 4, max_peers: 8, keep_behind_bytes: 0, seed: 1 };
        let (sender, ends) = mpsc::channel(8);
        let swarm = Swarm::spawn(self.metainfo.id, options, context.clone(), sender);
        let (info, bytes) = (self.metainfo.info.clone(), self.metainfo.info_bytes.clone());
        swarm.handle().set_info(info, bytes).await.unwrap();
        let known = swarm.handle().wait_known().await.unwrap().unwrap();
        Node { swarm, store: context.store.clone(), ends, known }
    }

    pub(crate) async fn seed(&self, node: &Node) {
        for piece in 0..PIECES {
            let block = node.store.verifier().verify(self.hash(piece), self.piece(piece)).await.unwrap();
            node.store.put(block).await.unwrap();
        }
        node.handle().check_store().await.unwrap();
    }

    pub(crate) fn handshake(&self, id: u8) -> Handshake {
        Handshake::ours(self.metainfo.infohash, PeerId([id; 20]))
    }

    pub(crate) async fn join(&self, a: &Node, b: &Node) {
        let (left, right) = tokio::io::duplex(256 * 1024);
        a.handle().add_peer(left, PeerOrigin::webrtc(), self.handshake(1)).await.unwrap();
        b.handle().add_peer(right, PeerOrigin::webrtc(), self.handshake(2)).await.unwrap();
    }
}

impl Node {
    pub(crate) fn handle(&self) -> &SwarmHandle {
        self.swarm.handle()
    }

    pub(crate) fn spawn_fetch(&self, piece: u32) -> JoinHandle<Result<(), LoanError>> {
        let handle = self.handle().clone();
        tokio::spawn(async move { handle.fetch(PieceIndex(piece)).await })
    }

    /// Fills a store of 1 MiB with blocks that may not go.
    pub(crate) async fn fill_with_pins(&self) {
        // The metadata goes in by itself, and would be what is evicted.
        eventually(|| self.store.usage().blocks == 1).await;
        for n in 0..4_u8 {
            let data = Bytes::from(vec![n; PIECE as usize]);
            let hash = BlockHash::sha1(hash_pieces(&data, PIECE).as_ref().try_into().unwrap());
            self.store.put(self.store.verifier().verify(hash, data).await.unwrap()).await.unwrap();
            self.store.pin("keep", [hash]);
        }
    }

    pub(crate) async fn stop(self) {
        soon(self.swarm.shutdown()).await;
    }
}

/// A peer whose words the story chooses.
pub(crate) struct Played {
    io: DuplexStream,
    buffer: BytesMut,
    heard: Bytes,
}

impl Played {
    pub(crate) async fn join(story: &Story, node: &Node) -> Self {
        let (near, io) = tokio::io::duplex(256 * 1024);
        node.handle().add_peer(near, PeerOrigin::webrtc(), story.handshake(9)).await.unwrap();
        Self { io, buffer: BytesMut::new(), heard: Bytes::new() }
    }

    pub(crate) async fn say(&mut self, messages: &[Message]) {
        let mut bytes = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.io.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, story: &Story, request: BlockRequest) {
        let from = at(request.piece.0) + u64::from(request.begin);
        let data = story.bytes(from..from + u64::from(request.len));
        self.say(&[Message::Piece { piece: request.piece, begin: request.begin, data }]).await;
    }

    /// The next message, or `None` when the connection has ended.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
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

    /// The next message of that kind.
    pub(crate) async fn hears(&mut self, kind: impl Fn(&Message) -> bool) -> Message {
        loop {
            let message = self.hear().await.unwrap();
            if kind(&message) {
                return message;
            }
        }
    }

    pub(crate) async fn next_request(&mut self) -> BlockRequest {
        loop {
            let message = self.hear().await.unwrap();
            assert!(!matches!(message, Message::Cancel(_)), "{message:?}");
            if let Message::Request(request) = message {
                return request;
            }
        }
    }

    /// Waits until all that was asked for is withdrawn.
    pub(crate) async fn all_withdrawn(&mut self, asked: &mut BTreeSet<BlockRequest>) {
        while !asked.is_empty() {
            let message = self.hear().await.unwrap();
            if let Message::Request(request) = message {
                assert!(asked.insert(request), "{request:?} asked for again");
            } else if let Message::Cancel(request) = message {
                assert!(asked.remove(&request), "{request:?} was not asked for");
            }
        }
    }

    pub(crate) async fn everything_else(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.hear().await {
            all.push(message);
        }
        all
    }
}

/// What the swarms of an application share, with a cache of that size.
pub(crate) async fn application(cache_bytes: u64) -> SwarmContext {
    let store = Store::open(StoreOptions::in_memory(cache_bytes)).await.unwrap();
    SwarmContext::new(store, EventBus::new())
}

pub(crate) fn at(piece: u32) -> u64 {
    u64::from(piece) * u64::from(PIECE)
}

pub(crate) async fn read_all(mut reader: SwarmReader) -> Result<Bytes, ReadFault> {
    let mut all = BytesMut::new();
    while let Some(bytes) = reader.next().await {
        all.extend_from_slice(bytes?.as_ref());
    }
    Ok(all.freeze())
}

pub(crate) async fn read(reader: &mut SwarmReader, len: usize) -> Bytes {
    let mut all = BytesMut::new();
    while all.len() < len {
        all.extend_from_slice(reader.next().await.unwrap().unwrap().as_ref());
    }
    all.freeze()
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(reached).await;
}
