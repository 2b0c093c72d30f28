//! Any datagram as a message of the DHT: no panic, and what was read is written, and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::dht::krpc::Message;

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = Message::parse(input) {
        // Written anew it may be longer than what is read of a datagram.
        let written = message.encode();
        if let Ok(read) = Message::parse(&written) {
            assert_eq!(read.encode(), written);
        }
    }
});
