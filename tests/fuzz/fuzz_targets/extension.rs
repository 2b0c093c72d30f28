//! Any payload of an extended message, and any call in the local network: no panic, and what is read survives being written.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::extension::{
    ExtensionHandshake, HolepunchMessage, MetadataMessage, PexMessage, parse_dont_have,
};
use swarmgate_bittorrent_proto::lsd::Call;

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
    if let Ok(Some(message)) = HolepunchMessage::parse(input) {
        assert_eq!(HolepunchMessage::parse(&message.encode()), Ok(Some(message)));
    }
    if let Some(call) = Call::parse(input) {
        let again = Call::parse(&call.encode("h")).expect("what is written is a call");
        assert_eq!((again.port, again.infohashes), (call.port, call.infohashes));
    }
    let _ = parse_dont_have(input);
});
