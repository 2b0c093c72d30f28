//! Stories of the node: two of ours, and a peer by hand, all on loopback.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod arrivals;
mod dht;
mod loan;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::identity::Keypair;
use swarmgate_content::{BlockHash, Cid, HashKind, VerifiedBytes};
use swarmgate_egress::EgressPolicy;
use swarmgate_ipfs::node::{Node, NodeOptions, Shelf, StartError};
use swarmgate_ipfs::source::{BlockSource, Provider};
use swarmgate_ipfs_proto::bitswap::message::{Entry, Message, WireBlock};
use swarmgate_store::{Store, StoreOptions};

use raw::RawPeer;
use support::{PATIENCE, Peer, noise, options, read_file, session, until, want};

fn raw_block(bytes: &[u8]) -> WireBlock {
    let (hash, data) = VerifiedBytes::name(HashKind::Sha2_256, Bytes::copy_from_slice(bytes));
    WireBlock { cid: hash.to_cid(0x55), data }
}

fn blocks(blocks: Vec<WireBlock>) -> Message {
    Message { blocks, ..Message::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_from_another_node_whole() {
    let (ours, theirs) = (Peer::tcp().await, Peer::tcp().await);
    let file = noise(64 << 20, 1);
    let root = theirs.add_file(&file).await;
    ours.node.connect(theirs.address()).await.unwrap();
    let read = read_file(&ours.node, session(), root, |_| ()).await.unwrap();
    assert!(read == file, "{} bytes are not the file", read.len());
    let stats = ours.node.stats().client;
    assert_eq!(stats.duplicate_bytes + stats.unsolicited_bytes, 0, "{stats:?}");
    assert!(theirs.node.stats().server.bytes >= 64 << 20);
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_found_by_its_quic_address() {
    let quic = "/ip4/127.0.0.1/udp/0/quic-v1";
    let (ours, theirs) = (Peer::start(options(quic)).await, Peer::start(options(quic)).await);
    let file = noise(8 << 20, 2);
    let (root, session) = (theirs.add_file(&file).await, session());
    ours.node.provider(session, &Provider::Peer { id: theirs.node.peer_id(), addrs: vec![theirs.address()] });
    assert!(read_file(&ours.node, session, root, |_| ()).await.unwrap() == file);
    assert!(ours.node.sockets()[0].quic);
    until("the dial is written down", || !ours.node.attempts(session).is_empty()).await;
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test]
async fn a_fetch_that_is_dropped_is_withdrawn() {
    let ours = Peer::tcp().await;
    let mut peer = RawPeer::connect(ours.address()).await;
    let cid = raw_block(b"nobody has it").cid;
    // The peer is known once its first message is there.
    peer.send(&Message { wantlist: vec![Entry::want_have(cid, 1)], ..Message::default() }).await.unwrap();
    let node = Arc::clone(&ours.node);
    let fetch = tokio::spawn(async move { node.fetch(want(session(), cid)).await });
    assert_eq!(peer.next_want().await, cid);
    let dropped = Instant::now();
    fetch.abort();
    loop {
        let message = peer.next().await.expect("the connection stays");
        if message.wantlist.contains(&Entry::Cancel(cid)) {
            break;
        }
    }
    assert!(dropped.elapsed() < Duration::from_secs(1), "withdrawn after {:?}", dropped.elapsed());
    until("nothing is wanted", || ours.node.stats().wanted == 0).await;
    ours.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_peer_takes_over_when_one_vanishes() {
    let (ours, first, second) = (Peer::tcp().await, Peer::tcp().await, Peer::tcp().await);
    let file = noise(32 << 20, 3);
    let root = first.add_file(&file).await;
    assert_eq!(second.add_file(&file).await, root);
    let session = session();
    ours.node.provider(session, &Provider::Peer { id: first.node.peer_id(), addrs: vec![first.address()] });
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let vanish = async {
        told.await.unwrap();
        first.node.shutdown(Instant::now()).await;
        ours.node.provider(session, &Provider::Peer { id: second.node.peer_id(), addrs: vec![second.address()] });
    };
    let read = read_file(&ours.node, session, root, |len| {
        if len > 1 << 20
            && let Some(tell) = tell.take()
        {
            tell.send(()).unwrap();
        }
    });
    let (read, ()) = tokio::join!(read, vanish);
    assert!(read.unwrap() == file);
    let served = [&first, &second].map(|peer| peer.node.stats().server.bytes);
    assert!(served[0] < 32 << 20 && served[1] > 0, "one of them served nothing, or all: {served:?}");
    ours.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_lost_is_dialled_again() {
    let (ours, theirs) = (Peer::tcp().await, Peer::tcp().await);
    let session = session();
    ours.node.provider(session, &Provider::Peer { id: theirs.node.peer_id(), addrs: vec![theirs.address()] });
    until("they are connected", || ours.node.stats().peers == 1).await;
    let port = theirs.node.sockets()[0].address.port();
    let (identity, listen) = (theirs.identity.clone(), format!("/ip4/127.0.0.1/tcp/{port}"));
    // It stays longer than one that is not worth a second dial.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    theirs.stop().await;
    until("it is gone", || ours.node.stats().peers == 0).await;
    let theirs = Peer::start_as(identity, options(&listen)).await;
    let root = theirs.add_file(b"back again").await;
    let begun = Instant::now();
    assert_eq!(read_file(&ours.node, session, root, |_| ()).await.unwrap(), b"back again");
    assert!(begun.elapsed() < Duration::from_secs(10), "it was dialled after {:?}", begun.elapsed());
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test]
async fn a_peer_that_opens_a_stream_for_each_message_is_read() {
    let ours = Peer::tcp().await;
    let mut peer = RawPeer::connect(ours.address()).await;
    let wanted: Vec<_> = (0..100u32).map(|nth| raw_block(&nth.to_le_bytes().repeat(20_000))).collect();
    peer.send(&Message { wantlist: vec![Entry::want_have(wanted[0].cid, 1)], ..Message::default() }).await.unwrap();
    let (node, session) = (Arc::clone(&ours.node), session());
    let cids: Vec<Cid> = wanted.iter().map(|block| block.cid).collect();
    let fetched = tokio::spawn(async move {
        let fetches = cids.iter().map(|cid| node.fetch(want(session, *cid)));
        futures_util::future::join_all(fetches).await
    });
    let mut served = BTreeSet::new();
    while served.len() < wanted.len() {
        let message = peer.next().await.expect("the connection stays");
        for entry in message.wantlist {
            let Entry::Want { cid, .. } = entry else { continue };
            if !served.insert(cid) {
                continue;
            }
            let block = wanted.iter().find(|block| block.cid == cid).unwrap();
            peer.send(&blocks(vec![block.clone()])).await.unwrap();
        }
    }
    for (block, fetched) in wanted.iter().zip(fetched.await.unwrap()) {
        assert_eq!(fetched.unwrap().as_ref(), block.data.as_ref());
    }
    ours.stop().await;
}

#[tokio::test]
async fn a_peer_that_forges_blocks_is_banned() {
    let (ours, theirs) = (Peer::tcp().await, Peer::tcp().await);
    let identity = Keypair::generate_ed25519();
    let mut forger = RawPeer::try_connect(ours.address(), &identity).await.unwrap();
    let root = theirs.add_file(b"what it really says").await;
    forger.send(&Message { wantlist: vec![Entry::want_have(root, 1)], ..Message::default() }).await.unwrap();
    let (node, session) = (Arc::clone(&ours.node), session());
    let fetch = tokio::spawn(async move { node.fetch(want(session, root)).await });
    assert_eq!(forger.next_want().await, root);
    forger.send(&blocks(vec![raw_block(b"what it does not say")])).await.unwrap();
    forger.closed().await;
    until("it is banned", || ours.node.stats().banned == 1).await;
    if let Some(again) = RawPeer::try_connect(ours.address(), &identity).await {
        again.closed().await;
    }
    // Whoever waits gets the block from somebody honest.
    ours.node.provider(session, &Provider::Peer { id: theirs.node.peer_id(), addrs: vec![theirs.address()] });
    let block = fetch.await.unwrap().unwrap();
    assert!(block.as_ref().ends_with(b"what it really says"));
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test]
async fn a_peer_that_sends_rubbish_is_banned() {
    let ours = Peer::tcp().await;
    for rubbish in [&b"\x03\x08\x01\x00"[..], &[0xff; 10]] {
        let peer = RawPeer::connect(ours.address()).await;
        peer.send_bytes(rubbish).await.unwrap();
        peer.closed().await;
    }
    assert_eq!(ours.node.stats().banned, 2);
    ours.stop().await;
}

#[tokio::test]
async fn a_peer_gets_what_is_here_and_what_comes() {
    let ours = Peer::tcp().await;
    let mut peer = RawPeer::connect(ours.address()).await;
    let (here, later) = (noise(100_000, 4), noise(100_000, 5));
    let (here_cid, later_cid) = (raw_block(&here).cid, raw_block(&later).cid);
    ours.add_file(&here).await;
    let wantlist = vec![Entry::want_block(here_cid, 2), Entry::want_block(later_cid, 1)];
    peer.send(&Message { wantlist, ..Message::default() }).await.unwrap();
    let (mut got, mut lacks) = (Vec::new(), false);
    while got.len() < 2 {
        let message = peer.next().await.expect("the connection stays");
        lacks |= message.presences.iter().any(|presence| presence.cid == later_cid && !presence.has);
        got.extend(message.blocks.iter().map(|block| block.cid));
        if lacks && got == [here_cid] {
            assert_eq!(ours.add_file(&later).await, later_cid);
            ours.node.block_added(BlockHash::from_cid(&later_cid).unwrap());
        }
    }
    assert_eq!(got, [here_cid, later_cid]);
    ours.stop().await;
}

#[tokio::test]
async fn what_may_not_be_served_is_not_here() {
    let store = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
    let shelf = Shelf { store: store.clone(), may_serve: Arc::new(|_| false) };
    let node = Node::start(options("/ip4/127.0.0.1/tcp/0"), Keypair::generate_ed25519(), shelf).await.unwrap();
    let ours = Peer { node: Arc::new(node), store, identity: Keypair::generate_ed25519() };
    let cid = ours.add_file(&noise(100_000, 6)).await;
    let mut peer = RawPeer::connect(ours.address()).await;
    peer.send(&Message { wantlist: vec![Entry::want_block(cid, 1)], ..Message::default() }).await.unwrap();
    let answer = peer.next().await.unwrap();
    assert!(answer.blocks.is_empty() && answer.presences.iter().all(|presence| !presence.has), "{answer:?}");
    ours.stop().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_reset_and_the_connection_stays() {
    let ours = Peer::start(NodeOptions { max_inbound_streams: 4, ..options("/ip4/127.0.0.1/tcp/0") }).await;
    let mut peer = RawPeer::connect(ours.address()).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(peer.hold_stream().await.unwrap());
    }
    let cid = ours.add_file(b"in reach").await;
    let asked = Message { wantlist: vec![Entry::want_block(cid, 1)], ..Message::default() };
    // It may be written before the node resets it, but is not read.
    let _reset = peer.send(&asked).await;
    assert_eq!(peer.next_within(Duration::from_millis(300)).await, None);
    held.pop();
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        assert!(Instant::now() < deadline, "a stream that ended makes room");
        let _reset = peer.send(&asked).await;
        if let Some(answer) = peer.next_within(Duration::from_millis(100)).await {
            break answer;
        }
    };
    assert_eq!(answer.blocks[0].cid, cid);
    ours.stop().await;
}

#[tokio::test]
async fn a_message_that_stands_still_is_given_up() {
    let brief = Duration::from_millis(200);
    let bounds = NodeOptions { max_inbound_streams: 1, stall_timeout: brief, ..options("/ip4/127.0.0.1/tcp/0") };
    let ours = Peer::start(NodeOptions { idle_timeout: brief * 5, ..bounds }).await;
    let mut peer = RawPeer::connect(ours.address()).await;
    let cid = ours.add_file(b"behind it").await;
    let _stalled = peer.hold_stream().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "a stream that stands still makes room");
        let _reset = peer.send(&Message { wantlist: vec![Entry::want_block(cid, 1)], ..Message::default() }).await;
        if peer.next_within(Duration::from_millis(100)).await.is_some() {
            break;
        }
    }
    ours.stop().await;
}

#[tokio::test]
async fn a_node_may_not_be_sent_to_its_own_machine() {
    let (strict, other) = (
        NodeOptions { egress: EgressPolicy { allow_private: false }, ..options("/ip4/127.0.0.1/tcp/0") },
        Peer::tcp().await,
    );
    let strict = Peer::start(strict).await;
    let refused = strict.node.connect(other.address()).await.unwrap_err();
    assert!(refused.to_string().contains("loopback"), "{refused}");
    strict.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_or_an_address_that_is_none_is_an_error() {
    let mut both = options("/ip4/127.0.0.1/tcp/0");
    both.listen.push("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap());
    let taken = Peer::start(both).await;
    let listeners = taken.node.listeners().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(listeners.len(), 2);
    for address in listeners.into_iter().chain(["/ip4/192.0.2.1/tcp/0".to_owned(), "/dns/x/tcp/1".to_owned()]) {
        let store = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
        let shelf = Shelf { store, may_serve: Arc::new(|_| true) };
        let refused = Node::start(options(&address), Keypair::generate_ed25519(), shelf).await.unwrap_err();
        assert!(
            matches!(&refused, StartError::Listen { address: named, .. } if named.to_string() == address),
            "{refused}"
        );
    }
    taken.stop().await;
}

#[tokio::test]
async fn a_fetch_ends_with_its_time_or_with_the_node() {
    let ours = Peer::tcp().await;
    let cid = raw_block(b"nowhere").cid;
    let mut short = want(session(), cid);
    short.deadline = Instant::now() + Duration::from_millis(50);
    assert!(ours.node.fetch(short).await.unwrap_err().detail.contains("in time"));
    let (fetch, ()) = tokio::join!(ours.node.fetch(want(session(), cid)), ours.stop());
    assert!(fetch.unwrap_err().detail.contains("stopped"));
    assert!(ours.node.fetch(want(session(), cid)).await.unwrap_err().detail.contains("stopped"));
}

#[tokio::test]
async fn a_connection_that_nobody_needs_is_closed() {
    let brief = NodeOptions { idle_timeout: Duration::from_millis(100), ..options("/ip4/127.0.0.1/tcp/0") };
    let (ours, theirs) = (Peer::start(brief.clone()).await, Peer::start(brief).await);
    let root = theirs.add_file(b"soon read").await;
    ours.node.connect(theirs.address()).await.unwrap();
    read_file(&ours.node, session(), root, |_| ()).await.unwrap();
    assert_eq!(ours.node.stats().connections, 1);
    until("it is closed", || ours.node.stats().connections == 0).await;
    ours.stop().await;
    theirs.stop().await;
}
