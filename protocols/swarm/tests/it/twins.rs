//! Torrents that share pieces, in one application: what one has, the others have.

use std::collections::BTreeSet;

use bytes::Bytes;
use swarmgate_bittorrent_proto::bencode::OwnedValue;
use swarmgate_bittorrent_proto::merkle::{Tree, height};
use swarmgate_bittorrent_proto::metainfo::{Metainfo, TorrentBuilder};
use swarmgate_bittorrent_proto::wire::{Message, PieceIndex};
use swarmgate_content::merkle::{LEAF_BYTES, Root, leaf};
use swarmgate_store::{Origin, Part, Reference};
use swarmgate_swarm::SwarmContext;

use crate::kit::{Node, PIECE, PIECES, Played, Story, application, at, eventually, read_all, soon};

/// A cache with room for everything.
const ROOM: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_torrent_left_in_the_store_another_has_from_its_start() {
    let (context, one, other) = (application(ROOM).await, Story::named("one"), Story::named("other"));
    let first = one.node_in(&context).await;
    for piece in [2, 3, 7] {
        soon(first.handle().admit(PieceIndex(piece), one.piece(piece))).await.unwrap();
    }
    first.stop().await;
    let second = other.node_in(&context).await;
    assert_eq!(second.known.have_bytes(), 3 * u64::from(PIECE));
    let mut peer = Played::join(&other, &second).await;
    peer.say(&[Message::HaveNone]).await;
    let told = peer.hears(|message| matches!(message, Message::Bitfield(_))).await;
    assert_eq!(told, Message::Bitfield(Bytes::from_static(&[0b0011_0001, 0])), "peers are told at once");
    assert_eq!(
        soon(read_all(second.handle().read(&second.known, at(2)..at(4)))).await.unwrap(),
        one.bytes(at(2)..at(4))
    );
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_a_file_of_somebody_elses_is_had_from_the_start_too() {
    let (context, story) = (application(ROOM).await, Story::new());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, &story.payload).unwrap();
    let origin = std::sync::Arc::new(Origin::new(&path, &std::fs::metadata(&path).unwrap()).unwrap());
    let mut references = Vec::new();
    for piece in 0..PIECES {
        let block = context.store.verifier().verify(story.hash(piece), story.piece(piece)).await.unwrap();
        let part = Part { origin: origin.clone(), offset: at(piece), len: PIECE };
        references.push(Reference::new(&block, vec![part]).unwrap());
    }
    context.store.refer("in place", &references).await.unwrap();
    let node = Story::named("other").node_in(&context).await;
    assert_eq!(node.known.have_bytes(), at(PIECES));
    assert_eq!(soon(read_all(node.handle().read(&node.known, 0..at(PIECES)))).await.unwrap(), story.payload);
    assert!(context.store.usage().bytes < u64::from(PIECE), "nothing was copied");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_that_comes_to_one_torrent_is_withdrawn_from_the_others_peers_who_are_told_of_it() {
    let (context, one, other) = (application(ROOM).await, Story::named("one"), Story::named("other"));
    let (first, second) = (one.node_in(&context).await, other.node_in(&context).await);
    let mut seed = Played::join(&other, &second).await;
    seed.say(&[Message::HaveAll, Message::Unchoke]).await;
    let mut leech = Played::join(&other, &second).await;
    leech.say(&[Message::HaveNone]).await;
    let fetching = second.spawn_fetch(5);
    let mut asked = BTreeSet::from([seed.next_request().await]);
    soon(first.handle().admit(PieceIndex(5), one.piece(5))).await.unwrap();
    soon(fetching).await.unwrap().unwrap();
    seed.all_withdrawn(&mut asked).await;
    leech.hears(|message| *message == Message::Have(PieceIndex(5))).await;
    assert!(second.handle().has(PieceIndex(5)));
    assert_eq!(second.handle().received_bytes(), 0);
    let (mine, theirs) = (first.handle().status().totals, second.handle().status().totals);
    assert_eq!((mine.verified, theirs.verified), (1, 0), "it was hashed once");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_a_peer_is_woken_by_the_pieces_of_another_torrent() {
    let (context, one, other) = (application(ROOM).await, Story::named("one"), Story::named("other"));
    let (first, second) = (one.node_in(&context).await, other.node_in(&context).await);
    let reading = tokio::spawn(read_all(second.handle().read(&second.known, at(3) + 9..at(6))));
    eventually(|| second.handle().status().readers == 1).await;
    for piece in [5, 4, 3] {
        assert!(!reading.is_finished());
        soon(first.handle().admit(PieceIndex(piece), one.piece(piece))).await.unwrap();
    }
    assert_eq!(soon(reading).await.unwrap().unwrap(), other.bytes(at(3) + 9..at(6)));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_finds_what_somebody_put_into_the_store_and_told_nobody_of() {
    let (context, story) = (application(ROOM).await, Story::new());
    let node = story.node_in(&context).await;
    let block = context.store.verifier().verify(story.hash(4), story.piece(4)).await.unwrap();
    context.store.put(block).await.unwrap();
    assert!(!node.handle().has(PieceIndex(4)));
    assert_eq!(soon(read_all(node.handle().read(&node.known, at(4)..at(5)))).await.unwrap(), story.piece(4));
    assert!(node.handle().has(PieceIndex(4)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_piece_is_gone_from_both_and_comes_back_to_both() {
    let (context, one, other) = (application(ROOM).await, Story::named("one"), Story::named("other"));
    let (first, second) = (one.node_in(&context).await, other.node_in(&context).await);
    let both_have = |it: bool| [&first, &second].iter().all(|node| node.known.has_range(at(5)..at(6)) == it);
    for _ in 0..3 {
        soon(first.handle().admit(PieceIndex(5), one.piece(5))).await.unwrap();
        eventually(|| both_have(true)).await;
        assert!(context.store.remove(&one.hash(5)).await);
        eventually(|| both_have(false)).await;
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torrent_that_starts_while_another_downloads_misses_nothing() {
    let (context, one, other) = (application(ROOM).await, Story::named("one"), Story::named("other"));
    let first = one.node_in(&context).await;
    for piece in 0..PIECES {
        let (admitted, second) =
            tokio::join!(first.handle().admit(PieceIndex(piece), one.piece(piece)), other.node_in(&context));
        admitted.unwrap();
        eventually(|| second.known.has_range(0..at(piece + 1))).await;
        second.stop().await;
    }
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_names_a_block_of_another_length_has_no_such_piece() {
    let (context, honest) = (application(ROOM).await, Story::named("honest"));
    let (first, pieces) = (honest.node_in(&context).await, &honest.metainfo.info.pieces.hashes);
    soon(first.handle().admit(PieceIndex(0), honest.piece(0))).await.unwrap();
    // Pieces of twice the length, the last one short, by the names of others.
    let liar = TorrentBuilder::single_file("liar", 3 * u64::from(PIECE) - 9, 2 * PIECE, pieces.slice(..40));
    let liar = Story { payload: Bytes::new(), metainfo: liar.build().unwrap() };
    let (lying, third) = (liar.node_in(&context).await, Story::named("third").node_in(&context).await);
    assert_eq!((lying.known.have_bytes(), third.known.have_bytes()), (0, u64::from(PIECE)));
    soon(first.handle().admit(PieceIndex(1), honest.piece(1))).await.unwrap();
    eventually(|| third.known.have_bytes() == at(2)).await;
    lying.handle().check_store().await.unwrap();
    assert_eq!(lying.known.have_bytes(), 0);
    let mut reader = lying.handle().read(&lying.known, 0..10);
    let read = tokio::time::timeout(std::time::Duration::from_millis(100), reader.next()).await;
    assert!(read.is_err(), "no bytes have that name and that length: {read:?}");
    drop(reader);
    for node in [first, lying, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_two_v2_torrents_have_is_had_by_both() {
    let context = application(ROOM).await;
    let payload = Story::new().payload;
    // Other bytes than any piece of the film.
    let (shared, own) = (payload.slice(..5 * PIECE as usize + 777), payload.slice(9..2 * PIECE as usize));
    let alone = start(&context, v2("alone", &[("film.mkv", &shared)])).await;
    // There the file begins at another piece, and has another name.
    let among = start(&context, v2("among", &[("a.txt", &own), ("b.mkv", &shared)])).await;
    for piece in 0..6 {
        let bytes = shared.slice(piece * PIECE as usize..shared.len().min((piece + 1) * PIECE as usize));
        soon(alone.handle().admit(PieceIndex(u32::try_from(piece).unwrap()), bytes)).await.unwrap();
    }
    let file = among.known.meta.files[1].clone();
    eventually(|| among.known.has_range(file.offset..file.offset + file.len)).await;
    assert!(!among.known.has_range(0..1));
    let read = read_all(among.handle().read(&among.known, file.offset..file.offset + file.len));
    assert_eq!(soon(read).await.unwrap(), shared);
    alone.stop().await;
    among.stop().await;
}

async fn start(context: &SwarmContext, metainfo: Metainfo) -> Node {
    Story { payload: Bytes::new(), metainfo }.node_in(context).await
}

/// A v2 torrent of these files, in their order.
fn v2(name: &str, files: &[(&str, &Bytes)]) -> Metainfo {
    let layer = (PIECE as usize / LEAF_BYTES).trailing_zeros();
    let (mut tree, mut layers) = (Vec::new(), Vec::new());
    for (path, bytes) in files {
        let leaves = bytes.chunks(LEAF_BYTES).map(leaf).collect();
        let whole = Tree::new(0, height(bytes.len() as u64), leaves).unwrap();
        let pieces = bytes.len().div_ceil(PIECE as usize);
        let roots: Vec<Root> =
            (0..u32::try_from(pieces).unwrap()).map(|piece| whole.at(layer, piece).unwrap()).collect();
        layers.push((whole.root().to_vec(), OwnedValue::from(roots.concat())));
        let length = OwnedValue::from(i64::try_from(bytes.len()).unwrap());
        let file = OwnedValue::dict([("length", length), ("pieces root", whole.root().to_vec().into())]);
        tree.push((*path, OwnedValue::dict([("", file)])));
    }
    let info = OwnedValue::dict([
        ("file tree", OwnedValue::dict(tree)),
        ("meta version", 2.into()),
        ("name", name.into()),
        ("piece length", i64::from(PIECE).into()),
    ]);
    let whole = OwnedValue::dict([("info", info), ("piece layers", OwnedValue::dict(layers))]);
    Metainfo::parse(&whole.encode().into()).unwrap()
}
