//! Any frame of a WebTorrent tracker: no panic, the bounds hold, and what is read survives being written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_webtorrent_proto::message::{MAX_MESSAGE_BYTES, MAX_SCRAPE_HASHES, ServerMessage};

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = ServerMessage::parse(input) {
        if let ServerMessage::Scraped(files) = &message {
            assert!(files.len() <= MAX_SCRAPE_HASHES);
        }
        // Escaping may lengthen it past the limit, which is the one way to fail.
        let written = message.encode();
        if written.len() <= MAX_MESSAGE_BYTES {
            assert_eq!(ServerMessage::parse(written.as_bytes()), Ok(message));
        }
    }
});
