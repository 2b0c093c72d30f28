//! Any bytes as a dag-pb node with UnixFS data: no panic, and what is read survives being written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_ipfs_proto::dag_pb::{PbNode, encode, encoded_link_len};
use swarmgate_ipfs_proto::unixfs::UnixFs;

fuzz_target!(|input: &[u8]| {
    if let Ok(node) = PbNode::decode(input) {
        assert_eq!(node.links().count(), node.link_count());
        let written = encode(node.links(), node.data());
        let again = PbNode::decode(&written).expect("what was written can be read");
        assert!(again.links().eq(node.links()) && again.data() == node.data());
        let data = node.data().map_or(0, |data| encode([], Some(data)).len());
        assert_eq!(written.len(), data + node.links().map(|link| encoded_link_len(&link)).sum::<usize>());
    }
    let inner = PbNode::decode(input).ok().and_then(|node| node.data());
    for message in [Some(input), inner].into_iter().flatten() {
        if let Ok(data) = UnixFs::decode(message) {
            let written = data.encode();
            assert_eq!(UnixFs::decode(&written), Ok(data));
        }
    }
});
