//! Any datagrams to a DHT node, from any addresses: no panic, answers are bounded, and nothing grows without end.

#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::dht::{MAX_ANSWER_BYTES, MAX_ANSWER_FACTOR, Node, NodeOptions};
use swarmgate_content::InfoHash;

// The input is datagrams, each after two bytes: whom it comes from, and its length.
fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let options = NodeOptions { v4: true, v6: true, node_id: None, read_only: false, seed: [1; 32] };
    let mut node = Node::new(now, &options, None);
    node.add_node(now, from(1));
    node.seek(now, InfoHash::new([1; 20]), Some(1));
    let mut rest = input;
    while let [who, len, after @ ..] = rest {
        let (datagram, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        while node.poll_transmit().is_some() {}
        node.handle_input(now, from(*who), datagram);
        while let Some(transmit) = node.poll_transmit() {
            assert!(transmit.bytes.len() <= MAX_ANSWER_BYTES);
            if transmit.to == from(*who) && transmit.bytes.ends_with(b"1:y1:re") {
                assert!(transmit.bytes.len() <= datagram.len() * MAX_ANSWER_FACTOR);
            }
        }
        while node.poll_event().is_some() {}
        now += Duration::from_millis(100);
        node.handle_timeout(now);
    }
    assert!(node.poll_timeout().is_some());
});

fn from(who: u8) -> SocketAddr {
    match who % 3 {
        0 => SocketAddr::from(([90, 1, 1, who], 6881)),
        1 => SocketAddr::from(([127, 0, 0, 1], 6881)),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, who.into()], 6881)),
    }
}
