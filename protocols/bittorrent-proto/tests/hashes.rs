//! Two torrents, one of which has nothing but a v2 infohash (BEP 52): metadata, roots of pieces and leaves go over the wire,
//! and a block can be read before its piece is whole.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what else a torrent says is a failure of the story")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::merkle::HashRequest;
use swarmgate_bittorrent_proto::metainfo::{Info, Metainfo};
use swarmgate_bittorrent_proto::picker::{PeerKey, ReaderKey};
use swarmgate_bittorrent_proto::torrent::{DropReason, Torrent, TorrentConfig, TorrentEvent, Transport};
use swarmgate_bittorrent_proto::wire::{Message, PieceIndex};
use swarmgate_content::merkle::{LEAF_BYTES, leaf};
use swarmgate_content::{BlockHash, VerifiedBytes};

const V2: &[u8] = include_bytes!("vectors/v2.torrent");
const PIECE: usize = 64 << 10;
const PEER: PeerKey = PeerKey(1);
const CONFIG: TorrentConfig = TorrentConfig { max_partial_bytes: 1 << 20, upload_slots: 4, seed: 1 };

/// The first file of the torrent, which begins with piece 0.
fn file() -> Bytes {
    (0..150_000_usize).map(|at| u8::try_from((at * 7 + 1) % 251).unwrap()).collect()
}

fn metainfo() -> Metainfo {
    Metainfo::parse(&Bytes::from_static(V2)).unwrap()
}

fn handshake(metainfo: &Metainfo, id: u8) -> Handshake {
    Handshake::ours(metainfo.infohash, PeerId([id; 20]))
}

#[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
fn first_moment() -> Instant {
    Instant::now()
}

/// A torrent that is told the metadata and has every piece, or none.
fn informed(now: Instant, seed: bool) -> Torrent {
    let Metainfo { id, info, info_bytes, .. } = metainfo();
    let mut torrent = Torrent::new(id, CONFIG);
    torrent.set_tree(id, info.tree.clone().unwrap(), info.roots.clone());
    let geometry = info.geometry();
    let have = if seed { Bitfield::all(geometry.pieces()) } else { Bitfield::none(geometry.pieces()) };
    torrent.set_info(now, info_bytes, geometry, have);
    torrent
}

fn frames(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.freeze()
}

/// Takes what is to be written to the peer.
fn written(now: Instant, torrent: &mut Torrent) -> Bytes {
    let mut all = BytesMut::new();
    while let Some((peer, batch)) = torrent.poll_transmit(now, |_| true) {
        let len = batch.iter().map(Bytes::len).sum();
        batch.iter().for_each(|part| all.extend_from_slice(part));
        torrent.on_written(now, peer, len);
    }
    all.freeze()
}

/// The messages among what is to be written to the peer.
fn said(now: Instant, torrent: &mut Torrent) -> Vec<Message> {
    let mut bytes = written(now, torrent);
    std::iter::from_fn(|| swarmgate_bittorrent_proto::wire::next_message(&mut bytes).unwrap()).collect()
}

/// What a shell with all of the first file in its store does.
fn serve(now: Instant, seeder: &mut Torrent) {
    while let Some(event) = seeder.poll_event() {
        match event {
            TorrentEvent::ReadBlock { peer, request } => {
                let start = request.piece.0 as usize * PIECE + request.begin as usize;
                let bytes = file().slice(start..start + request.len as usize);
                seeder.block_read(now, peer, request, Some(bytes));
            }
            TorrentEvent::ReadLeaves { peer, piece, request } => {
                let start = piece.0 as usize * PIECE;
                let bytes = file().slice(start..(start + PIECE).min(150_000));
                seeder.leaves_read(now, peer, request, Some(bytes.chunks(LEAF_BYTES).map(leaf).collect()));
            }
            other => panic!("the seeder is asked for {other:?}"),
        }
    }
}

#[test]
fn from_an_infohash_to_a_block_that_is_read_before_its_piece_is_whole() {
    let now = first_moment();
    let whole = metainfo();
    let (mut seeder, mut leech) = (informed(now, true), Torrent::new(whole.id, CONFIG));
    seeder.add_peer(now, PEER, Transport::Tcp, &handshake(&whole, 1));
    leech.add_peer(now, PEER, Transport::Tcp, &handshake(&whole, 2));
    // Block 6 of the file: the third of its second piece.
    let position = 6 * LEAF_BYTES as u64 + 5;
    leech.open_reader(now, ReaderKey(1), position..150_000);
    let mut rootless = None;
    for _ in 0..100 {
        let bytes = written(now, &mut seeder);
        leech.handle_input(now, PEER, bytes);
        while let Some(event) = leech.poll_event() {
            match event {
                TorrentEvent::Metadata(bytes) => {
                    let bytes = bytes.into_bytes();
                    let info = Info::parse(&bytes).unwrap();
                    assert!(info.lacks_roots());
                    leech.set_tree(whole.id, info.tree.clone().unwrap(), None);
                    leech.seek_roots(now);
                    rootless = Some((info, bytes));
                }
                TorrentEvent::Roots(roots) => {
                    let (mut info, bytes) = rootless.take().unwrap();
                    assert!(info.set_roots(roots));
                    assert_eq!(info.roots, whole.info.roots);
                    let geometry = info.geometry();
                    let have = Bitfield::none(geometry.pieces());
                    leech.set_info(now, bytes, geometry, have);
                }
                TorrentEvent::PieceComplete { .. } => {}
                other => panic!("the leech says {other:?}"),
            }
        }
        if let Some(block) = leech.received_block(position) {
            assert_eq!(block.start, 6 * LEAF_BYTES as u64);
            let bytes = VerifiedBytes::check(&BlockHash::sha2_256(block.leaf), block.bytes).unwrap();
            assert_eq!(bytes.as_ref(), &file()[6 * LEAF_BYTES..7 * LEAF_BYTES]);
            return;
        }
        // One message at a time, so that the piece is not whole when the first block is here.
        let mut bytes = written(now, &mut leech);
        while let Some(message) = swarmgate_bittorrent_proto::wire::next_message(&mut bytes).unwrap() {
            seeder.handle_input(now, PEER, frames(&message));
            serve(now, &mut seeder);
            if matches!(message, Message::Request(_)) {
                break;
            }
        }
    }
    panic!("the block never came");
}

#[test]
fn a_wrong_block_convicts_its_sender_before_the_piece_is_whole() {
    let now = first_moment();
    let whole = metainfo();
    let (mut seeder, mut leech) = (informed(now, true), informed(now, false));
    seeder.add_peer(now, PEER, Transport::Tcp, &handshake(&whole, 1));
    leech.add_peer(now, PEER, Transport::Tcp, &handshake(&whole, 2));
    leech.open_reader(now, ReaderKey(1), 0..150_000);
    for message in [Message::HaveAll, Message::Unchoke] {
        leech.handle_input(now, PEER, frames(&message));
    }
    let asked = said(now, &mut leech);
    let requests: Vec<_> = asked.iter().filter(|it| matches!(it, Message::HashRequest(_))).collect();
    assert!(!requests.is_empty(), "{asked:?}");
    for request in requests {
        seeder.handle_input(now, PEER, frames(request));
        serve(now, &mut seeder);
    }
    for answer in said(now, &mut seeder) {
        if matches!(answer, Message::Hashes { .. }) {
            leech.handle_input(now, PEER, frames(&answer));
        }
    }
    let wrong = Message::Piece { piece: PieceIndex(0), begin: 0, data: vec![9; LEAF_BYTES].into() };
    leech.handle_input(now, PEER, frames(&wrong));
    let block = leech.received_block(0).unwrap();
    assert!(VerifiedBytes::check(&BlockHash::sha2_256(block.leaf), block.bytes).is_err());
    leech.block_wrong(now, 0);
    assert!(leech.received_block(0).is_none());
    assert!(matches!(leech.poll_event(), Some(TorrentEvent::Drop { reason: DropReason::Guilty, .. })));
}

#[test]
fn false_hashes_cost_their_sender_the_connection_and_refused_ones_are_asked_of_another() {
    let now = first_moment();
    let whole = metainfo();
    let mut leech = informed(now, false);
    for (key, id) in [(PeerKey(1), 1), (PeerKey(2), 2)] {
        leech.add_peer(now, key, Transport::Tcp, &handshake(&whole, id));
        leech.handle_input(now, key, frames(&Message::HaveAll));
    }
    leech.open_reader(now, ReaderKey(1), 0..10);
    let asked_of = |leech: &mut Torrent, now| {
        let mut asked = Vec::new();
        while let Some((peer, batch)) = leech.poll_transmit(now, |_| true) {
            let mut bytes: Bytes = batch.iter().flat_map(|part| part.iter().copied()).collect();
            while let Some(message) = swarmgate_bittorrent_proto::wire::next_message(&mut bytes).unwrap() {
                if let Message::HashRequest(request) = message {
                    asked.push((peer, request));
                }
            }
        }
        asked
    };
    let asked: Vec<(PeerKey, HashRequest)> = asked_of(&mut leech, now);
    let (first, request) = asked[0];
    leech.handle_input(now, first, frames(&Message::HashReject(request)));
    let (second, again) = asked_of(&mut leech, now).into_iter().find(|(_, again)| *again == request).unwrap();
    assert!(second != first && again == request);
    // Nobody else is left, so it waits; and what is too late is asked again of who refused once that is forgiven.
    let hashes = vec![0; (request.length + request.uncles()) as usize * 32].into();
    leech.handle_input(now, second, frames(&Message::Hashes { request, hashes }));
    assert!(matches!(leech.poll_event(), Some(TorrentEvent::Drop { reason: DropReason::FalseHashes, .. })));
    let later = now + Duration::from_secs(25);
    leech.handle_timeout(later);
    assert!(asked_of(&mut leech, later).contains(&(first, request)));
}

#[test]
fn a_peer_has_its_share_of_hashing_and_no_more() {
    let now = first_moment();
    let whole = metainfo();
    let root = whole.info.tree.as_ref().unwrap().files()[0].root;
    let mut seeder = informed(now, true);
    seeder.add_peer(now, PEER, Transport::Tcp, &handshake(&whole, 1));
    said(now, &mut seeder);
    let request = |index| HashRequest::proven(root, 4, 0, index, 2);
    let asked = |seeder: &mut Torrent, now, index| {
        seeder.handle_input(now, PEER, frames(&Message::HashRequest(request(index))));
        std::iter::from_fn(|| seeder.poll_event()).any(|it| matches!(it, TorrentEvent::ReadLeaves { .. }))
    };
    // Two at a time; the others are refused in words.
    assert!(asked(&mut seeder, now, 0) && asked(&mut seeder, now, 2) && !asked(&mut seeder, now, 4));
    assert_eq!(said(now, &mut seeder), [Message::HashReject(request(4))]);
    for index in [0, 2] {
        seeder.leaves_read(now, PEER, request(index), None);
    }
    assert_eq!(said(now, &mut seeder), [0, 2].map(|index| Message::HashReject(request(index))));
    // 64 MiB are a thousand of these pieces.
    let mut served = 2;
    while asked(&mut seeder, now, 0) {
        seeder.leaves_read(now, PEER, request(0), None);
        served += 1;
    }
    assert_eq!(served, 1024);
    let later = now + Duration::from_secs(11);
    seeder.handle_timeout(later);
    assert!(asked(&mut seeder, later, 0));
}

#[test]
fn what_we_do_not_have_and_what_makes_no_sense_is_refused() {
    let now = first_moment();
    let whole = metainfo();
    let root = whole.info.tree.as_ref().unwrap().files()[0].root;
    let mut torrent = informed(now, false);
    torrent.add_peer(now, PEER, Transport::Tcp, &handshake(&whole, 1));
    said(now, &mut torrent);
    let height = 4;
    for request in [
        HashRequest::proven(root, height, 0, 0, 4),
        HashRequest::proven([7; 32], height, 2, 0, 4),
        HashRequest { length: 3, ..HashRequest::proven(root, height, 2, 0, 4) },
        HashRequest { index: u32::MAX, ..HashRequest::proven(root, height, 2, 0, 4) },
        HashRequest { base: u32::MAX, ..HashRequest::proven(root, height, 2, 0, 4) },
    ] {
        torrent.handle_input(now, PEER, frames(&Message::HashRequest(request)));
        assert_eq!(said(now, &mut torrent), [Message::HashReject(request)]);
        assert!(torrent.poll_event().is_none());
    }
    let roots = HashRequest::proven(root, height, 2, 0, 4);
    torrent.handle_input(now, PEER, frames(&Message::HashRequest(roots)));
    assert!(matches!(&said(now, &mut torrent)[..], [Message::Hashes { request, .. }] if *request == roots));
}
