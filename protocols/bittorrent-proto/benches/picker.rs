//! What one event costs the picker, among 200 peers, as the torrent grows: it should not.
//!
//! The world around it is as small as it can be: whatever is asked for arrives in the order of asking, a block each
//! millisecond, and the oldest verified piece is evicted once half of the torrent is there, so that it never ends.
//! `cargo xtask bench picker` runs it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use divan::Bencher;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::geometry::Geometry;
use swarmgate_bittorrent_proto::picker::{BlockOutcome, PeerKey, Picker, PickerAction, PickerLimits, ReaderKey};
use swarmgate_bittorrent_proto::wire::{BLOCK_LEN, BlockRequest, PieceIndex};

/// Pieces of the torrents.
const PIECES: [u32; 3] = [1_000, 10_000, 100_000];
/// Bytes of a piece.
const PIECE_LEN: u32 = 16 * BLOCK_LEN;
/// Peers; one in five has everything, the others a random half.
const PEERS: u64 = 200;
/// The one reader.
const READER: ReaderKey = ReaderKey(1);
/// Events measured.
const EVENTS: u32 = 5_000;
/// Events before the measuring begins, so that queues have found their length.
const WARM_UP: usize = 20_000;

fn main() {
    divan::main();
}

/// A block arrives, and the next are chosen, for a reader that goes on from there.
#[divan::bench(args = PIECES, sample_count = EVENTS)]
fn a_block_arrives_for_a_reader(bencher: Bencher, pieces: u32) {
    let mut world = World::new(pieces, Wanted::ByAReader);
    bencher.bench_local(|| world.block_arrives());
}

/// The same while the whole torrent is wanted, rarest first, and nobody reads.
#[divan::bench(args = PIECES, sample_count = EVENTS)]
fn a_block_arrives_while_all_is_wanted(bencher: Bencher, pieces: u32) {
    let mut world = World::new(pieces, Wanted::Everything);
    bencher.bench_local(|| world.block_arrives());
}

/// A peer has got one piece more, or has evicted one, while the whole torrent is wanted.
#[divan::bench(args = PIECES, sample_count = EVENTS)]
fn a_have_arrives(bencher: Bencher, pieces: u32) {
    let mut world = World::new(pieces, Wanted::Everything);
    bencher.bench_local(|| world.have_arrives());
}

/// A reader jumps to a place where nothing is.
#[divan::bench(args = PIECES, sample_count = EVENTS)]
fn a_reader_seeks(bencher: Bencher, pieces: u32) {
    let mut world = World::new(pieces, Wanted::ByAReader);
    bencher.bench_local(|| world.reader_seeks());
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    ByAReader,
    Everything,
}

struct World {
    picker: Picker,
    now: Instant,
    random: StdRng,
    /// What was asked for and not withdrawn, oldest first.
    asked: VecDeque<(PeerKey, BlockRequest)>,
    /// What is verified, oldest first.
    had: VecDeque<PieceIndex>,
    position: u64,
    block: Vec<u8>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
    fn new(pieces: u32, wanted: Wanted) -> Self {
        let geometry = Geometry::new(PIECE_LEN, u64::from(PIECE_LEN) * u64::from(pieces)).expect("it has pieces");
        let limits = PickerLimits { max_partial_bytes: 64 << 20 };
        let mut world = Self {
            picker: Picker::new(geometry.clone(), Bitfield::none(pieces), limits, 1),
            now: Instant::now(),
            random: StdRng::seed_from_u64(u64::from(pieces)),
            asked: VecDeque::new(),
            had: VecDeque::new(),
            position: 0,
            block: vec![0; BLOCK_LEN as usize],
        };
        (0..PEERS).map(PeerKey).for_each(|key| world.join(key));
        match wanted {
            Wanted::ByAReader => world.picker.open_reader(world.now, READER, 0..geometry.total_len()),
            Wanted::Everything => world.picker.want_everything(true),
        }
        world.settle();
        (0..WARM_UP).for_each(|_| world.block_arrives());
        world
    }

    fn join(&mut self, key: PeerKey) {
        let pieces = self.picker.geometry().pieces();
        let mut has = Bitfield::all(pieces);
        if !key.0.is_multiple_of(5) {
            (0..pieces).for_each(|piece| _ = has.set(PieceIndex(piece), self.random.random()));
        }
        self.picker.peer_joined(self.now, key);
        self.picker.peer_has_bitfield(key, has);
        self.picker.peer_unchoked(self.now, key);
    }

    fn settle(&mut self) {
        self.picker.schedule(self.now);
        while let Some(action) = self.picker.poll_action() {
            match action {
                PickerAction::Request(peer, request) => self.asked.push_back((peer, request)),
                PickerAction::Cancel(peer, request) => self.asked.retain(|asked| *asked != (peer, request)),
            }
        }
    }

    fn block_arrives(&mut self) {
        self.now += Duration::from_millis(1);
        let (peer, request) = self.asked.pop_front().expect("something is always wanted");
        let outcome = self.picker.on_block(self.now, peer, request.piece, request.begin, &self.block);
        if let BlockOutcome::PieceComplete(bytes) = outcome {
            self.picker.on_verified(request.piece, Some(&bytes));
            self.had.push_back(request.piece);
            self.read_on();
            self.evict();
        }
        self.settle();
    }

    /// The reader takes what has come, and begins again at the end.
    fn read_on(&mut self) {
        let geometry = self.picker.geometry().clone();
        while self.picker.have().get(geometry.piece_at(self.position)) {
            self.position += u64::from(PIECE_LEN);
            if self.position == geometry.total_len() {
                return self.seek(0);
            }
        }
        self.picker.advance_reader(self.now, READER, self.position);
    }

    fn evict(&mut self) {
        if self.had.len() > self.picker.geometry().pieces() as usize / 2 {
            let oldest = self.had.pop_front().expect("there are many");
            self.picker.on_evicted(oldest);
        }
    }

    fn have_arrives(&mut self) {
        self.now += Duration::from_micros(10);
        let peer = PeerKey(self.random.random_range(0..PEERS));
        let piece = PieceIndex(self.random.random_range(0..self.picker.geometry().pieces()));
        self.picker.peer_has(peer, piece, self.random.random());
        self.settle();
    }

    fn reader_seeks(&mut self) {
        self.now += Duration::from_millis(1);
        let piece = self.random.random_range(0..self.picker.geometry().pieces());
        self.seek(u64::from(piece) * u64::from(PIECE_LEN));
        self.settle();
    }

    fn seek(&mut self, position: u64) {
        self.position = position;
        self.picker.close_reader(READER);
        self.picker.open_reader(self.now, READER, position..self.picker.geometry().total_len());
    }
}
