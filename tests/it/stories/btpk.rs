//! A torrent that is named by a key: the owner says in the DHT which one it is, and the gateway follows (BEP 46).

use std::net::SocketAddr;
use std::time::Duration;

use swarmgate_bittorrent::dht::{DhtNode, DhtOptions};
use swarmgate_bittorrent_proto::dht::MutableItem;
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::wait;

use super::KIB;

const PATIENCE: Duration = Duration::from_secs(10);

/// A node that begins a network of its own.
async fn lone() -> DhtNode {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = DhtOptions {
        address,
        key: "bittorrent.dht_port",
        bootstrap: Vec::new(),
        node_id: None,
        read_only: false,
        store: None,
        others: None,
    };
    DhtNode::start(options).await.unwrap()
}

async fn gateway(dht: &DhtNode) -> Node {
    let bootstrap = dht.address().to_string();
    let node = Node::with(|config| {
        config.bittorrent.dht = true;
        config.bittorrent.dht_bootstrap = vec![bootstrap];
    })
    .await;
    let evidence = || node.app.manager().list()[0].health.evidence.clone();
    let met = async || (!evidence().contains(" 0 DHT nodes")).then_some(());
    wait::until("the DHT node to be met", PATIENCE, met).await;
    node
}

async fn name(node: &Node, body: &serde_json::Value) -> serde_json::Value {
    let kind = [("content-type", "application/json")];
    let answer = node.connect().await.ask("PUT", "/api/v1/btpk", &kind, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_names_by_a_key_another_serves() {
    let dht = lone().await;
    let (author, reader) = (gateway(&dht).await, gateway(&dht).await);
    let film = Content::single("film.mkv", 71, 256 * KIB, 16 * 1024);
    let other = Content::single("other.bin", 72, 64 * KIB, 16 * 1024);
    let seeder = Seeder::start(&film).await;
    let secret = "07".repeat(32);

    let said = name(&author, &serde_json::json!({ "infohash": other.infohash(), "secret": secret })).await;
    assert_eq!((said["seq"].as_i64(), said["newer"].as_i64()), (Some(0), None), "{said}");
    let said = name(&author, &serde_json::json!({ "infohash": film.infohash(), "secret": secret })).await;
    assert_eq!(said["seq"], 1, "{said}");
    let plain = said["path"].as_str().unwrap().to_owned();
    let key = said["key"].as_str().unwrap().to_owned();
    let salted = serde_json::json!({ "infohash": other.infohash(), "secret": secret, "salt": "b side" });
    let said = name(&author, &salted).await;
    assert_eq!(said["path"], format!("/btpk/{key}/b%20side/"), "{said}");

    let mut client = reader.connect().await;
    let answer = client.get(&format!("{plain}film.mkv?wait=5"), &[]).await;
    assert_eq!(answer.status, 307, "{}", answer.text());
    assert_eq!(answer.head.header("location"), format!("/bt/{}/film.mkv?wait=5", film.infohash()));
    let control = answer.head.header("cache-control").to_owned();
    let age: u64 = control.strip_prefix("public, max-age=").unwrap().parse().unwrap();
    assert!(age <= 60, "{control}");
    let answer = client.get(&format!("/btpk/{key}/b%20side/@0"), &[]).await;
    assert_eq!(answer.head.header("location"), format!("/bt/{}/@0", other.infohash()), "{}", answer.text());

    let magnet = format!("/magnet?xs=urn:btpk:{key}&x.pe={}", seeder.address());
    let answer = client.get(&magnet, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == film.bytes);

    // What was signed elsewhere is taken as it is, and what is older than what is known is not put.
    let old = MutableItem::sign(&[7; 32], b"", 0, MutableItem::pointer(&film.infohash())).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signed = serde_json::json!({
        "infohash": film.infohash(), "key": key, "seq": 0, "signature": hex(old.signature()),
    });
    assert_eq!(name(&reader, &signed).await["newer"], 1);

    for (path, status) in [("/btpk/xyz/", 400), (&*format!("/btpk/{}/", "00".repeat(32)), 502)] {
        let answer = client.get(path, &[]).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    seeder.stop().await;
    reader.stop().await;
    author.stop().await;
    dht.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_dht_keys_name_nothing() {
    let node = Node::fresh().await;
    let answer = node.connect().await.get(&format!("/btpk/{}/", "07".repeat(32)), &[]).await;
    assert_eq!(answer.status, 501, "{}", answer.text());
    node.stop().await;
}
