//! Any datagram as a message of the DHT: no panic, and what was read is written and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::dht::krpc::Message;

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = Message::parse(input) {
        let again = message.encode();
        if let Ok(mut read) = Message::parse(&again) {
            // Sorted by family, nodes come out in another order than a stranger wrote them.
            read.transaction.clone_from(&message.transaction);
            assert_eq!(read.encode(), again);
        }
    }
});
