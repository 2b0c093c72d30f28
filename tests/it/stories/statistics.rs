//! The numbers: what the gateway says it did is what its peer and its client saw.

use swarmgate_content::Event;
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::wait;

use super::{KIB, MIB};

/// The value of one series of `/metrics`.
fn series(page: &str, name: &str) -> u64 {
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {page}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_status_and_events_agree_to_the_byte_with_what_the_peer_sent() {
    let content = Content::single("film.mkv", 51, 8 * MIB + 99, 128 * 1024);
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    let mut events = node.app.manager().events().subscribe();
    node.learn(&content, &[seeder.address()]).await;
    let mut client = node.connect().await;
    let rows = [(0, 300 * KIB), (200 * KIB, 300 * KIB), (5 * MIB + 1, 6 * MIB + 1), (8 * MIB, 8 * MIB + 99)];
    let mut sent = 0;
    for (start, end) in rows {
        let answer = client.get_range(&content.path(0), start, end).await;
        assert!(answer.body == content.bytes[start..end]);
        sent += (end - start) as u64;
    }
    client.get(&content.path(0), &[("if-none-match", "*")]).await;
    client.ask("HEAD", &content.path(0), &[], b"").await;
    let needed = content.covering(0, 300 * KIB)
        + content.covering(5 * MIB + 1, 6 * MIB + 1)
        + content.covering(8 * MIB, 8 * MIB + 99);
    let closed = async || (client_streams(&node).await == 0).then_some(());
    wait::until("the streams to be closed", std::time::Duration::from_secs(5), closed).await;

    assert_eq!(seeder.stats().bytes_uploaded, needed, "every covering piece was sent once");
    let page = client.get("/metrics", &[]).await.text();
    let network = |name: &str| series(&page, &format!("swarmgate_{name}_total{{network=\"bittorrent\"}}"));
    let status = client.get("/api/v1/status", &[]).await.json();
    let stats = &status["networks"][0]["stats"];
    for (name, expected) in [
        ("bytes_downloaded", needed),
        ("bytes_uploaded", 0),
        ("bytes_wasted", 0),
        ("bytes_delivered", sent),
        ("blocks_verified", needed.div_ceil(128 * 1024)),
        ("blocks_corrupt", 0),
        ("opened", rows.len() as u64),
        ("read_failed", 0),
        ("peers_connected", 1),
        ("peers_banned", 0),
        ("resolve_failed", 0),
    ] {
        assert_eq!(network(name), expected, "{name} in /metrics");
        assert_eq!(stats[name], expected, "{name} in /api/v1/status");
    }
    assert_eq!(series(&page, "swarmgate_http_stream_bytes_total"), sent);
    assert_eq!(series(&page, "swarmgate_http_streams_failed_total"), 0);
    assert_eq!(series(&page, "swarmgate_http_first_byte_seconds_count"), rows.len() as u64);
    assert_eq!(status["http"]["stream_bytes"], sent);
    let info = content.metainfo.info_bytes.len() as u64;
    assert_eq!(status["cache"]["bytes"], needed + info, "the pieces and the metadata");

    let item = client.get(&format!("/api/v1/items/{}", content.infohash()), &[]).await.json();
    assert_eq!((&item["downloaded"], &item["have_bytes"]), (&needed.into(), &needed.into()), "{item}");
    let (mut added, mut metadata, mut opened, mut closed_bytes) = (0, 0, 0, 0);
    let mut last = 0;
    while let Ok(Some(event)) = events.try_recv() {
        assert!(event.number > last, "numbers grow");
        last = event.number;
        let event = event.event;
        if let Event::ItemAdded { item } = event {
            added += u32::from(item.as_v1() == Some(content.infohash()));
        } else if let Event::ItemMetadata { total_len, files, .. } = event {
            assert_eq!((total_len, files), (content.bytes.len() as u64, 1));
            metadata += 1;
        } else if let Event::StreamOpen { .. } = event {
            opened += 1;
        } else if let Event::StreamClose { bytes, failed, .. } = event {
            assert!(!failed);
            closed_bytes += bytes;
        } else {
            assert!(matches!(event, Event::ItemProgress { .. }), "{event:?}");
        }
    }
    assert_eq!((added, metadata, opened, closed_bytes), (1, 1, rows.len(), sent));
    node.stop().await;
    seeder.stop().await;
}

async fn client_streams(node: &Node) -> u64 {
    let status = node.connect().await.get("/api/v1/status", &[]).await.json();
    status["http"]["streams_open"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_uploads_is_what_another_downloads() {
    let content = Content::single("film.mkv", 52, 4 * MIB + 1, 128 * 1024);
    let seeder = Seeder::start(&content).await;
    let (first, second) = (Node::fresh().await, Node::fresh().await);
    first.learn(&content, &[seeder.address()]).await;
    assert!(first.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    seeder.stop().await;
    let peer = first.app.bittorrent().unwrap().listen_address().unwrap();
    second.learn(&content, &[peer]).await;
    assert!(second.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    let len = content.bytes.len() as u64;
    assert_eq!((first.stats().bytes_uploaded, second.stats().bytes_downloaded), (len, len));
    first.stop().await;
    second.stop().await;
}
