//! A whole swarm in one thread and no time: many torrents, joined by links with latency and loss, driven by one seed.
//!
//! Nothing here waits or reads a clock. Links are ordered byte streams, as TCP is, so a lost packet is a pause and not a
//! hole. Each node has an upload rate, shared by its links, and a character: honest, liar, staller.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::geometry::Geometry;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::metainfo::{Info, Metainfo, TorrentBuilder, hash_pieces};
use swarmgate_bittorrent_proto::picker::{PeerKey, ReaderKey};
use swarmgate_bittorrent_proto::torrent::{DropReason, Torrent, TorrentConfig, TorrentEvent, Transport};
use swarmgate_bittorrent_proto::wire::{BLOCK_LEN, BlockRequest, PieceIndex};
use swarmgate_content::VerifiedBytes;

/// A node of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Character {
    /// Keeps the rules.
    Honest,
    /// Sends wrong bytes in this share of its blocks.
    Liar(f64),
    /// Sends nothing any more after this many bytes, and keeps its connections open.
    Staller(u64),
    /// Leaves the swarm after this many bytes.
    Leaver(u64),
    /// Keeps its rate on average and sends only at each multiple of this time, as clients with a rate limit do; sends
    /// nothing any more after so many bytes.
    Bursts(Duration, u64),
}

/// What a node is made of.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    /// Whether it has everything.
    pub seed: bool,
    /// Whether it knows the metadata at the start.
    pub knows_metadata: bool,
    /// Bytes a second it sends, over all links together.
    pub upload_rate: f64,
    /// How it behaves.
    pub character: Character,
}

/// A path between two nodes.
#[derive(Debug, Clone, Copy)]
pub struct LinkSpec {
    /// One way.
    pub latency: Duration,
    /// Share of messages that are lost once and sent again.
    pub loss: f64,
}

/// One reader's experience.
#[derive(Debug, Clone, Default)]
pub struct Viewing {
    /// From opening to the first byte.
    pub first_byte: Option<Duration>,
    /// From opening to the last byte.
    pub finished: Option<Duration>,
    /// Time without bytes after the first, while it wanted some.
    pub stalled: Duration,
    /// Longest single pause after the first byte.
    pub longest_stall: Duration,
}

struct Reader {
    node: NodeId,
    opened: Instant,
    position: u64,
    end: u64,
    rate: f64,
    waiting_since: Option<Instant>,
    viewing: Viewing,
}

struct Node {
    torrent: Torrent,
    store: BTreeMap<PieceIndex, Bytes>,
    spec: NodeSpec,
    up_free: Instant,
    sent: u64,
    banned: Vec<NodeId>,
    alive: bool,
    timer: Option<Instant>,
}

#[derive(Debug)]
enum Happening {
    Arrive { to: NodeId, from: NodeId, connection: u64, bytes: Bytes },
    Written { node: NodeId, peer: NodeId, connection: u64, bytes: usize },
    Read { node: NodeId, peer: PeerKey, request: BlockRequest },
    Verify { node: NodeId, piece: PieceIndex, bytes: Bytes },
    Timer { node: NodeId },
    Consume { reader: u64 },
}

struct Scheduled(Instant, u64, Happening);
impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// See the module's head.
pub struct SimWorld {
    start: Instant,
    now: Instant,
    rng: StdRng,
    metainfo: Metainfo,
    payload: Bytes,
    nodes: Vec<Node>,
    /// Connections by (whose, to whom): when the line is free, and its properties. The number tells one from the next.
    links: BTreeMap<(NodeId, NodeId), (LinkSpec, Instant, u64)>,
    agenda: BinaryHeap<Reverse<Scheduled>>,
    readers: BTreeMap<u64, Reader>,
    sequence: u64,
}

impl std::fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimWorld({} nodes, {:?} in)", self.nodes.len(), self.now - self.start)
    }
}

/// Random bytes, of which no two blocks are alike. Made from one block, since randomness takes longer than all the rest.
fn payload(rng: &mut StdRng, len: usize) -> Vec<u8> {
    let mut block = vec![0; BLOCK_LEN as usize];
    rng.fill(block.as_mut_slice());
    let mut payload = block.repeat(len.div_ceil(block.len()));
    for (number, block) in (0_u64..).zip(payload.chunks_mut(block.len())) {
        block[..8].copy_from_slice(&number.to_le_bytes());
    }
    payload.truncate(len);
    payload
}

impl SimWorld {
    /// An empty world with a torrent of `len` bytes in pieces of `piece_len`.
    ///
    /// # Panics
    /// When such a torrent cannot be.
    #[must_use]
    pub fn new(seed: u64, len: usize, piece_len: u32) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let payload = payload(&mut rng, len);
        let hashes = hash_pieces(&payload, piece_len);
        let metainfo =
            TorrentBuilder::single_file("payload.bin", len as u64, piece_len, hashes).build().expect("valid");
        let start = Instant::now();
        Self {
            start,
            now: start,
            rng,
            metainfo,
            payload: payload.into(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            readers: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Time passed since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn geometry(info: &Info) -> Geometry {
        Geometry::new(info.piece_len, info.total_len).expect("the metainfo is valid")
    }

    /// Adds a node.
    pub fn add_node(&mut self, spec: NodeSpec) -> NodeId {
        let id = NodeId(self.nodes.len());
        let config = TorrentConfig { max_partial_bytes: 64 << 20, upload_slots: 8, seed: id.0 as u64 };
        let mut torrent = Torrent::new(self.metainfo.infohash, config);
        let mut store = BTreeMap::new();
        let geometry = Self::geometry(&self.metainfo.info);
        let mut have = Bitfield::none(geometry.pieces());
        if spec.seed {
            have = Bitfield::all(geometry.pieces());
            for piece in have.iter() {
                let start = usize::try_from(geometry.start_of(piece)).expect("payloads are small");
                store.insert(piece, self.payload.slice(start..start + geometry.len_of(piece) as usize));
            }
        }
        if spec.knows_metadata || spec.seed {
            torrent.set_info(self.now, self.metainfo.info_bytes.clone(), geometry, have);
        }
        self.nodes.push(Node {
            torrent,
            store,
            spec,
            up_free: self.now,
            sent: 0,
            banned: Vec::new(),
            alive: true,
            timer: None,
        });
        id
    }

    /// Connects two nodes.
    pub fn connect(&mut self, a: NodeId, b: NodeId, link: LinkSpec) {
        self.sequence += 1;
        for (whose, to) in [(a, b), (b, a)] {
            self.links.insert((whose, to), (link, self.now, self.sequence));
            let peer_id = PeerId([u8::try_from(to.0 % 256).unwrap_or(0); 20]);
            let handshake = Handshake::ours(self.metainfo.infohash, peer_id);
            self.nodes[whose.0].torrent.add_peer(self.now, PeerKey(to.0 as u64), Transport::Tcp, &handshake);
        }
        self.settle(a);
        self.settle(b);
    }

    /// Opens a reader of `start..end` on a node that takes `rate` bytes a second when they are there.
    pub fn read(&mut self, node: NodeId, start: u64, end: u64, rate: f64) -> u64 {
        self.sequence += 1;
        let key = self.sequence;
        let reader = Reader {
            node,
            opened: self.now,
            position: start,
            end,
            rate,
            waiting_since: Some(self.now),
            viewing: Viewing::default(),
        };
        self.readers.insert(key, reader);
        self.nodes[node.0].torrent.open_reader(self.now, ReaderKey(key), start..end);
        self.settle(node);
        self.consume(key);
        key
    }

    /// Closes a reader.
    pub fn close(&mut self, key: u64) {
        if let Some(reader) = self.readers.remove(&key) {
            self.nodes[reader.node.0].torrent.close_reader(self.now, ReaderKey(key));
            self.settle(reader.node);
        }
    }

    /// Makes a node want the whole torrent.
    pub fn want_everything(&mut self, node: NodeId) {
        self.nodes[node.0].torrent.want_everything(self.now, true);
        self.settle(node);
    }

    /// What a reader has lived through.
    #[must_use]
    pub fn viewing(&self, key: u64) -> &Viewing {
        &self.readers[&key].viewing
    }

    /// A node's torrent.
    #[must_use]
    pub fn torrent(&self, node: NodeId) -> &Torrent {
        &self.nodes[node.0].torrent
    }

    /// Whom a node has banned.
    #[must_use]
    pub fn banned_by(&self, node: NodeId) -> &[NodeId] {
        &self.nodes[node.0].banned
    }

    /// Lets a node lose a piece.
    pub fn evict(&mut self, node: NodeId, piece: PieceIndex) {
        self.nodes[node.0].store.remove(&piece);
        self.nodes[node.0].torrent.piece_evicted(self.now, piece);
        self.settle(node);
    }

    /// Runs until `done` holds, or `limit` of simulated time has passed; tells whether it held.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            match self.agenda.pop() {
                Some(Reverse(Scheduled(at, _, happening))) if at <= end => {
                    self.now = at;
                    self.happen(happening);
                }
                Some(late) => {
                    self.agenda.push(late);
                    self.now = end;
                    return done(self);
                }
                None => return false,
            }
        }
        true
    }

    /// Whether every one of these readers got its last byte.
    #[must_use]
    pub fn all_finished(&self, readers: &[u64]) -> bool {
        readers.iter().all(|key| self.readers.get(key).is_none_or(|reader| reader.viewing.finished.is_some()))
    }

    fn at(&mut self, when: Instant, happening: Happening) {
        self.sequence += 1;
        self.agenda.push(Reverse(Scheduled(when, self.sequence, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Arrive { to, from, connection, bytes } => {
                if self.links.get(&(to, from)).is_some_and(|link| link.2 == connection) {
                    self.nodes[to.0].torrent.handle_input(now, PeerKey(from.0 as u64), bytes);
                    self.settle(to);
                }
            }
            Happening::Written { node, peer, connection, bytes } => {
                if self.links.get(&(node, peer)).is_some_and(|link| link.2 == connection) {
                    self.nodes[node.0].torrent.on_written(now, PeerKey(peer.0 as u64), bytes);
                    self.settle(node);
                }
            }
            Happening::Read { node, peer, request } => {
                let data = self.read_block(node, &request);
                self.nodes[node.0].torrent.block_read(now, peer, request, data);
                self.settle(node);
            }
            Happening::Verify { node, piece, bytes } => {
                let hash = self.metainfo.info.pieces.get(piece.0 as usize).expect("a piece of the torrent");
                let node_state = &mut self.nodes[node.0];
                if VerifiedBytes::check(&hash, bytes.clone()).is_ok() {
                    node_state.store.insert(piece, bytes.clone());
                    node_state.torrent.piece_verified(now, piece, Some(&bytes));
                } else {
                    node_state.torrent.piece_corrupt(now, piece, &bytes);
                }
                self.settle(node);
                let waiting: Vec<_> =
                    self.readers.iter().filter(|(_, reader)| reader.node == node).map(|(key, _)| *key).collect();
                waiting.into_iter().for_each(|key| self.consume(key));
            }
            Happening::Timer { node } => {
                if self.nodes[node.0].timer == Some(now) {
                    self.nodes[node.0].timer = None;
                    self.nodes[node.0].torrent.handle_timeout(now);
                    self.settle(node);
                }
            }
            Happening::Consume { reader } => self.consume(reader),
        }
    }

    fn read_block(&mut self, node: NodeId, request: &BlockRequest) -> Option<Bytes> {
        let range = request.begin as usize..(request.begin + request.len) as usize;
        let block = self.nodes[node.0].store.get(&request.piece).map(|piece| piece.slice(range))?;
        match self.nodes[node.0].spec.character {
            Character::Liar(share) if self.rng.random_bool(share) => {
                let mut wrong = BytesMut::from(block.as_ref());
                wrong[0] ^= 1;
                Some(wrong.freeze())
            }
            Character::Honest
            | Character::Liar(_)
            | Character::Staller(_)
            | Character::Leaver(_)
            | Character::Bursts(..) => Some(block),
        }
    }

    /// A reader takes what is there, in steps of a piece, at its own rate.
    fn consume(&mut self, key: u64) {
        let now = self.now;
        let Some(reader) = self.readers.get_mut(&key) else { return };
        let node = &mut self.nodes[reader.node.0];
        let geometry = Self::geometry(&self.metainfo.info);
        if reader.position >= reader.end {
            return;
        }
        let piece = geometry.piece_at(reader.position);
        let Some(bytes) = node.store.get(&piece) else {
            reader.waiting_since.get_or_insert(now);
            return;
        };
        match reader.waiting_since.take() {
            Some(since) if reader.viewing.first_byte.is_some() => {
                reader.viewing.stalled += now - since;
                reader.viewing.longest_stall = reader.viewing.longest_stall.max(now - since);
            }
            Some(_) | None => {}
        }
        reader.viewing.first_byte.get_or_insert(now - reader.opened);
        let piece_end = geometry.start_of(piece) + u64::from(geometry.len_of(piece));
        let to = piece_end.min(reader.end).min(reader.position + 64 * 1024);
        let offset = usize::try_from(reader.position - geometry.start_of(piece)).expect("within a piece");
        let len = usize::try_from(to - reader.position).expect("within a piece");
        let at = usize::try_from(reader.position).expect("payloads are small");
        assert_eq!(bytes[offset..offset + len], self.payload[at..at + len], "a reader was given wrong bytes");
        let took = Duration::from_secs_f64(len as f64 / reader.rate);
        reader.position = to;
        if reader.position == reader.end {
            reader.viewing.finished = Some(now - reader.opened);
        }
        let node_id = reader.node;
        node.torrent.advance_reader(now, ReaderKey(key), to);
        self.settle(node_id);
        self.at(now + took, Happening::Consume { reader: key });
    }

    /// Carries out what a node has decided.
    fn settle(&mut self, id: NodeId) {
        let now = self.now;
        while let Some(event) = self.nodes[id.0].torrent.poll_event() {
            match event {
                TorrentEvent::Metadata(info) => {
                    let info = info.into_bytes();
                    let parsed = Info::parse(&info).expect("the hash is right");
                    let geometry = Self::geometry(&parsed);
                    self.nodes[id.0].torrent.set_info(now, info, geometry.clone(), Bitfield::none(geometry.pieces()));
                }
                TorrentEvent::PieceComplete { piece, bytes } => {
                    self.at(now + Duration::from_millis(1), Happening::Verify { node: id, piece, bytes });
                }
                TorrentEvent::ReadBlock { peer, request } => {
                    self.at(now + Duration::from_micros(100), Happening::Read { node: id, peer, request });
                }
                TorrentEvent::Drop { peer, reason, .. } => {
                    let other = NodeId(usize::try_from(peer.0).expect("keys are node numbers"));
                    if reason == DropReason::Guilty {
                        self.nodes[id.0].banned.push(other);
                    }
                    self.disconnect(id, other);
                }
                // Nobody in this world has an address.
                TorrentEvent::PeersFound(_)
                | TorrentEvent::Listens { .. }
                | TorrentEvent::SeenAt { .. }
                | TorrentEvent::Punch(_) => {}
                TorrentEvent::Roots(_) | TorrentEvent::ReadLeaves { .. } => {
                    panic!("no torrent of this world is a v2 one")
                }
                other => panic!("the world does not know {other:?}"),
            }
        }
        while let Some((peer, batch)) = self.nodes[id.0].torrent.poll_transmit(now, |_| true) {
            let other = NodeId(usize::try_from(peer.0).expect("keys are node numbers"));
            let mut stream: Bytes = batch
                .into_iter()
                .fold(BytesMut::new(), |mut all, part| {
                    all.extend_from_slice(&part);
                    all
                })
                .freeze();
            while let Some((prefix, _)) = stream.split_first_chunk::<4>() {
                let len = 4 + u32::from_be_bytes(*prefix) as usize;
                self.transmit(id, other, stream.split_to(len));
            }
        }
        if let Some((at, _)) = self.nodes[id.0].torrent.poll_timeout() {
            let at = at.max(now + Duration::from_micros(1));
            if self.nodes[id.0].timer.is_none_or(|timer| at < timer) {
                self.nodes[id.0].timer = Some(at);
                self.at(at, Happening::Timer { node: id });
            }
        }
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        let now = self.now;
        let Some((link, line_free, connection)) = self.links.get(&(from, to)).copied() else { return };
        let node = &mut self.nodes[from.0];
        node.sent += bytes.len() as u64;
        match node.spec.character {
            Character::Staller(after) | Character::Bursts(_, after) if node.sent > after => return,
            Character::Leaver(after) if node.sent > after && node.alive => {
                node.alive = false;
                let others: Vec<_> =
                    self.links.keys().filter(|(whose, _)| *whose == from).map(|(_, other)| *other).collect();
                return others.into_iter().for_each(|other| self.disconnect(from, other));
            }
            Character::Honest
            | Character::Liar(_)
            | Character::Staller(_)
            | Character::Leaver(_)
            | Character::Bursts(..) => {}
        }
        let mut departs = node.up_free.max(now) + Duration::from_secs_f64(bytes.len() as f64 / node.spec.upload_rate);
        node.up_free = departs;
        if let Character::Bursts(every, _) = node.spec.character {
            let bursts = departs.duration_since(self.start).as_nanos().div_ceil(every.as_nanos());
            departs = self.start + every * u32::try_from(bursts).expect("simulations are short");
        }
        // Lost once, sent again a round trip later; what follows waits behind it.
        let lost = link.loss > 0.0 && self.rng.random_bool(link.loss);
        let again = if lost { 3 * link.latency } else { Duration::ZERO };
        let arrives = (departs + link.latency + again).max(line_free);
        self.links.insert((from, to), (link, arrives, connection));
        self.at(departs, Happening::Written { node: from, peer: to, connection, bytes: bytes.len() });
        self.at(arrives, Happening::Arrive { to, from, connection, bytes });
    }

    fn disconnect(&mut self, a: NodeId, b: NodeId) {
        for (whose, to) in [(a, b), (b, a)] {
            if self.links.remove(&(whose, to)).is_some() {
                self.nodes[whose.0].torrent.remove_peer(self.now, PeerKey(to.0 as u64));
            }
        }
        self.settle(a);
        self.settle(b);
    }
}
