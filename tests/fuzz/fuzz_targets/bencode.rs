//! Any bytes: the decoder never panics, and what it accepts strictly has one spelling only.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::bencode::{DecodeOptions, OwnedValue, decode, decode_prefix};

fuzz_target!(|input: &[u8]| {
    let strict = DecodeOptions::strict(1 << 20);
    if let Ok(value) = decode(input, strict) {
        assert_eq!(OwnedValue::from(value).encode(), input);
    }
    if let Ok((value, len)) = decode_prefix(input, strict.in_any_key_order()) {
        assert_eq!(OwnedValue::from(value).encode().len(), len);
    }
});
