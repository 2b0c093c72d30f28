//! Any frame to the embedded tracker, and any query of a classic client: no panic, the bounds hold, and what is read
//! survives being written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_webtorrent_proto::classic::ClassicAnnounce;
use swarmgate_webtorrent_proto::message::{ClientMessage, MAX_MESSAGE_BYTES, MAX_OFFERS, MAX_SCRAPE_HASHES};

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = ClientMessage::parse(input) {
        match &message {
            ClientMessage::Announce(announce) => assert!(announce.offers.len() <= MAX_OFFERS),
            ClientMessage::Scrape(hashes) => assert!(hashes.len() <= MAX_SCRAPE_HASHES),
            ClientMessage::Answer(_) => {}
        }
        // Escaping and spelling out may lengthen it past the limit, which is the one way to fail.
        let written = message.encode();
        if written.len() <= MAX_MESSAGE_BYTES {
            assert_eq!(ClientMessage::parse(written.as_bytes()), Ok(message));
        }
    }
    if let Ok(query) = std::str::from_utf8(input) {
        let _ = ClassicAnnounce::parse(query);
    }
});
