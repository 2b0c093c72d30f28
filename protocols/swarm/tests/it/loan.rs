//! What a swarm lends: pieces asked for without reading them, pieces given to it, readers that ask for nothing. Beside
//! real swarms there is a peer that the story plays itself, to hear what it is asked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::wire::{BLOCK_LEN, Message, PieceIndex};
use swarmgate_content::{FailureClass, LoanError};
use swarmgate_swarm::ReadFault;

use crate::kit::{PIECE, PIECES, Played, Story, at, eventually, read, read_all, soon};

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
