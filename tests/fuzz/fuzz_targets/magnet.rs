//! Any text: no panic, and what is read prints to a text that reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::magnet::Magnet;

fuzz_target!(|input: &str| {
    let _ = Magnet::parse_query(input);
    if let Ok(magnet) = Magnet::parse(input) {
        // Escaping may lengthen it past the limit, which is the one way to fail.
        let printed = magnet.to_string();
        if printed.len() < 16 << 10 {
            assert_eq!(Magnet::parse(&printed).as_ref(), Ok(&magnet));
        }
    }
});
