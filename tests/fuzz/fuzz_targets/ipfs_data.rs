//! Any bytes as IPLD data: no panic, no more memory than the limits say, and what is read can be written and read
//! again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_ipfs_proto::codec::Codec;

fuzz_target!(|input: &[u8]| {
    for codec in [Codec::DagCbor, Codec::DagJson, Codec::DagPb] {
        let Ok(value) = codec.decode(input) else { continue };
        for other in [codec, Codec::DagCbor] {
            // What one codec can spell another may not, such as numbers of more than 64 bits.
            if let Ok(written) = other.encode(&value) {
                let again = other.decode(&written).expect("what was written can be read");
                // Not compared as values: a float that is no number equals nothing.
                assert_eq!(other.encode(&again).expect("it was written before"), written);
            }
        }
        let _ = Codec::DagJson.encode(&value);
    }
});
