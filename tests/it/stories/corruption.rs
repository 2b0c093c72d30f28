//! A peer that lies now and then among honest ones: no wrong byte, one ban, no second chance.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::wire::{BlockRequest, PieceIndex};
use swarmgate_content::Event;
use swarmgate_tests::hostile::{HostilePeer, Manners};
use swarmgate_tests::node::{Content, Node, Seeder};

use super::{MIB, bulk_mib};

/// Honest peers beside the liar.
const HONEST: usize = 4;

/// One block in ten of those that the liar is asked for, each whenever it is asked for again. It is slower than the others
/// and asked for few, so of the whole that is about one in a hundred at first; and some come too late to be looked at.
#[derive(Default)]
struct Lies {
    asked: usize,
    blocks: BTreeSet<(PieceIndex, u32)>,
}

impl Lies {
    fn lies_about(&mut self, request: &BlockRequest) -> bool {
        let block = (request.piece, request.begin);
        self.asked += 1;
        if self.asked % 10 == 9 {
            self.blocks.insert(block);
        }
        self.blocks.contains(&block)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_of_one_percent_among_honest_peers_is_banned_and_no_wrong_byte_passes() {
    let content = Content::single("film.mkv", 11, bulk_mib(128) * MIB + 777, 256 * 1024);
    let mut honest = Vec::new();
    for _ in 0..HONEST {
        honest.push(Seeder::start(&content).await);
    }
    let lies = Mutex::new(Lies::default());
    let liar =
        HostilePeer::start(Manners::honest(&content).lying(move |request| lies.lock().lies_about(request))).await;
    let node = Node::fresh().await;
    let mut events = node.app.manager().events().subscribe();
    let mut peers: Vec<_> = honest.iter().map(Seeder::address).collect();
    peers.insert(0, liar.address());
    node.learn(&content, &peers).await;

    let mut client = node.connect().await;
    client.send("GET", &content.path(0), &[]).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut read = 0;
    while read < content.bytes.len() {
        let some = client.some(content.bytes.len() - read).await.unwrap();
        assert!(some == content.bytes[read..read + some.len()], "other bytes after {read}");
        read += some.len();
    }

    let (stats, log) = (node.stats(), liar.log());
    eprintln!(
        "the liar sent {} blocks, {} of them wrong; {} pieces failed",
        log.served / 16384,
        log.lies,
        stats.blocks_corrupt
    );
    assert!(log.lies > 0, "the liar was asked for a block that it lies about");
    // A piece that fails is asked of one peer alone, which may be the liar: it can fail twice, but never without a lie.
    assert!(stats.blocks_corrupt > 0 && stats.blocks_corrupt <= log.lies);
    assert_eq!(stats.peers_banned, 1, "the liar and nobody else");
    assert_eq!(log.connections, 1, "it was not dialled again");
    let mut bans = 0;
    while let Ok(Some(event)) = events.try_recv() {
        bans += usize::from(
            matches!(event.event, Event::PeerBanned { item, .. } if item.as_v1() == Some(content.infohash())),
        );
    }
    assert_eq!(bans, 1);
    for seeder in honest {
        assert!(seeder.stats().bytes_uploaded > 0, "honest peers go on being asked");
        seeder.stop().await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_only_peer_that_lies_gives_no_byte_and_is_not_dialled_again() {
    let content = Content::single("film.mkv", 12, MIB, 64 * 1024);
    let liar = HostilePeer::start(Manners::honest(&content).lying(|_| true)).await;
    let node = Node::fresh().await;
    node.learn(&content, &[liar.address()]).await;
    let mut client = node.connect().await;
    // A peer that only left would be dialled again after 10 s.
    let path = format!("{}?wait=12&x.pe={}", content.path(0), liar.address());
    let answer = client.get(&path, &[]).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!((liar.log().connections, node.stats().peers_banned), (1, 1));
    node.stop().await;
}
