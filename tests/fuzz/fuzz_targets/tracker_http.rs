//! Any body of a tracker's reply: no panic, and the bounds hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::tracker::MAX_PEERS;
use swarmgate_bittorrent_proto::tracker::http::parse_response;

fuzz_target!(|input: &[u8]| {
    if let Ok(response) = parse_response(input) {
        assert!(response.peers.len() <= MAX_PEERS);
        assert!(response.peers.iter().all(|peer| peer.port() != 0));
    }
});
