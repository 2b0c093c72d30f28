//! Real nodes on loopback.

use super::*;
use futures_util::StreamExt;
use std::net::UdpSocket;
use std::time::Duration;
use swarmgate_bittorrent_proto::dht::{MutableItem, PublicKey};
use tokio::time::timeout;

const TORRENT: [u8; 20] = [0x5a; 20];

/// A node near the torrent, as the public network has for every torrent.
fn near(bootstrap: &[SocketAddr]) -> DhtOptions {
    let mut id = TORRENT;
    id[19] ^= 1;
    DhtOptions { node_id: Some(id), ..anywhere(bootstrap) }
}

fn anywhere(bootstrap: &[SocketAddr]) -> DhtOptions {
    DhtOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        key: "bittorrent.dht.listen",
        bootstrap: bootstrap.iter().map(ToString::to_string).collect(),
        node_id: None,
        read_only: false,
        store: None,
        others: None,
    }
}

async fn until(mut ready: impl FnMut() -> bool) {
    let wait = async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), wait).await.unwrap();
}

#[tokio::test]
async fn what_one_node_announces_another_finds_through_a_third() {
    let first = DhtNode::start(near(&[])).await.unwrap();
    let seeder = DhtNode::start(anywhere(&[first.address()])).await.unwrap();
    let reader = DhtNode::start(anywhere(&[first.address()])).await.unwrap();
    let (lends, borrows) = (seeder.handle(), reader.handle());
    until(|| [&lends, &borrows].iter().all(|dht| dht.stats().unwrap().nodes_v4 > 0)).await;
    let _announced = lends.get_peers(InfoHash::new(TORRENT), Some(4000));
    let found = timeout(Duration::from_secs(5), async {
        loop {
            let mut peers = borrows.get_peers(InfoHash::new(TORRENT), None);
            if let Ok(Some(peer)) = timeout(Duration::from_millis(200), peers.next()).await {
                return peer;
            }
        }
    });
    assert_eq!(found.await.unwrap(), SocketAddr::from(([127, 0, 0, 1], 4000)));
    for node in [reader, seeder, first] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn twenty_starts_on_one_port_each_leave_it_free() {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    for _ in 0..20 {
        let node = DhtNode::start(DhtOptions { address, ..anywhere(&[]) }).await.unwrap();
        address = node.address();
        let mut held = node.handle().get_peers(InfoHash::new(TORRENT), Some(1));
        node.shutdown().await;
        // This bind asks for the port alone, so it fails while any socket is left.
        UdpSocket::bind(address).unwrap();
        assert_eq!(held.next().await, None);
    }
}

#[tokio::test]
async fn a_node_without_bootstrap_lives_and_answers() {
    let node = DhtNode::start(anywhere(&[])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", node.address()).await.unwrap();
    let mut answer = [0; 512];
    timeout(Duration::from_secs(2), client.recv_from(&mut answer)).await.unwrap().unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn a_taken_port_fails_the_start_with_its_key() {
    let node = DhtNode::start(anywhere(&[])).await.unwrap();
    let again = DhtOptions { address: node.address(), ..anywhere(&[]) };
    let error = DhtNode::start(again).await.unwrap_err().to_string();
    assert!(error.contains("bittorrent.dht.listen") && error.contains("in use"), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_dropped_lookup_ends_and_a_handle_outlives_the_node() {
    let node = DhtNode::start(anywhere(&[])).await.unwrap();
    let handle = node.handle();
    drop(handle.get_peers(InfoHash::new(TORRENT), None));
    assert_eq!(handle.stats().unwrap().jobs, 0);
    node.shutdown().await;
    assert_eq!(handle.stats(), None);
    assert_eq!(handle.get_peers(InfoHash::new(TORRENT), None).next().await, None);
}

#[tokio::test]
async fn an_item_is_got_elsewhere_and_one_that_is_kept_survives_a_restart() {
    let dir = Store::open(swarmgate_store::StoreOptions::in_memory(1 << 20)).await.unwrap();
    let first = DhtNode::start(anywhere(&[])).await.unwrap();
    let with_store = || DhtOptions { store: Some(dir.clone()), ..anywhere(&[first.address()]) };
    let author = DhtNode::start(with_store()).await.unwrap();
    let reader = DhtNode::start(anywhere(&[first.address()])).await.unwrap();
    let item = MutableItem::sign(&[1; 32], b"salt", 5, Bytes::from_static(b"5:hello")).unwrap();
    let key = *item.key();
    let stored = author.handle().put_mutable(item.clone(), None, true).await.unwrap();
    assert!(stored.nodes > 0 && stored.newer.is_none(), "{stored:?}");
    assert_eq!(reader.handle().get_mutable(&key, b"salt").await.unwrap(), Some(item));
    assert_eq!(reader.handle().get_mutable(&PublicKey::new([2; 32]), b"salt").await.unwrap(), None);
    author.shutdown().await;
    let author = DhtNode::start(with_store()).await.unwrap();
    assert_eq!(author.handle().stats().unwrap().jobs, 1, "it is put again");
    until(|| author.handle().stats().unwrap().nodes_v4 > 0).await;
    author.handle().forget(*key.target(b"salt").as_bytes()).await;
    assert_eq!(author.handle().stats().unwrap().jobs, 0);
    for node in [author, reader, first] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_was_known_is_known_after_a_restart_without_bootstrap() {
    let store = Store::open(swarmgate_store::StoreOptions::in_memory(1 << 20)).await.unwrap();
    let first = DhtNode::start(anywhere(&[])).await.unwrap();
    let node = DhtNode::start(DhtOptions { store: Some(store.clone()), ..anywhere(&[first.address()]) }).await.unwrap();
    until(|| node.handle().stats().unwrap().nodes_v4 > 0).await;
    node.shutdown().await;
    let node = DhtNode::start(DhtOptions { store: Some(store), ..anywhere(&[]) }).await.unwrap();
    until(|| node.handle().stats().unwrap().nodes_v4 > 0).await;
    node.shutdown().await;
    first.shutdown().await;
}

#[tokio::test]
async fn datagrams_of_others_are_handed_on_and_answered_from_the_same_port() {
    let (others, mut received) = mpsc::channel(4);
    let node = DhtNode::start(DhtOptions { others: Some(others), ..anywhere(&[]) }).await.unwrap();
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    peer.send_to(b"\x41 a stream", node.address()).await.unwrap();
    let datagram = timeout(Duration::from_secs(2), received.recv()).await.unwrap().unwrap();
    assert_eq!((datagram.from, &datagram.bytes[..]), (peer.local_addr().unwrap(), &b"\x41 a stream"[..]));
    node.handle().send_other(datagram.from, b"back").unwrap();
    let mut buffer = [0; 16];
    let (len, from) = timeout(Duration::from_secs(2), peer.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((&buffer[..len], from), (&b"back"[..], node.address()));
    node.shutdown().await;
}

#[tokio::test]
async fn one_socket_serves_both_families() {
    let address = SocketAddr::from(([0_u16; 8], 0));
    let Ok(both) = DhtNode::start(DhtOptions { address, ..anywhere(&[]) }).await else {
        return; // a machine without IPv6
    };
    let port = both.address().port();
    let v4 = DhtNode::start(anywhere(&[SocketAddr::from(([127, 0, 0, 1], port))])).await.unwrap();
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1_u16], 0));
    let known = [SocketAddr::new(v6.ip(), port)];
    let v6 = DhtNode::start(DhtOptions { address: v6, ..anywhere(&known) }).await.unwrap();
    until(|| both.handle().stats().is_some_and(|stats| stats.nodes_v4 == 1 && stats.nodes_v6 == 1)).await;
    for node in [v4, v6, both] {
        node.shutdown().await;
    }
}
