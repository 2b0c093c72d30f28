//! Any payload of an extended message: no panic, and what is read survives being written.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::extension::{ExtensionHandshake, MetadataMessage, PexMessage, parse_dont_have};

fuzz_target!(|input: &[u8]| {
    if let Ok(hello) = ExtensionHandshake::parse(input) {
        assert_eq!(ExtensionHandshake::parse(&hello.encode()), Ok(hello));
    }
    if let Ok(message) = MetadataMessage::parse(&Bytes::copy_from_slice(input)) {
        assert_eq!(MetadataMessage::parse(&message.encode()), Ok(message));
    }
    if let Ok(message) = PexMessage::parse(input) {
        assert_eq!(PexMessage::parse(&message.encode()), Ok(message));
    }
    let _ = parse_dont_have(input);
});
