//! Any packet of a tracker, in both families: no panic, and the bounds hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::tracker::MAX_PEERS;
use swarmgate_bittorrent_proto::tracker::udp::{Family, UdpBody, parse};

fuzz_target!(|input: &[u8]| {
    for family in [Family::V4, Family::V6] {
        if let Ok(response) = parse(input, family)
            && let UdpBody::Announced(reply) = response.body
        {
            assert!(reply.peers.len() <= MAX_PEERS);
        }
    }
});
