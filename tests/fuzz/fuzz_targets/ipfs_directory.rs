//! Any blocks as a directory, its shards and what a path leads through: no panic, and every machine comes to an end.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use swarmgate_content::{Cid, HashKind, VerifiedBytes};
use swarmgate_ipfs_proto::directory::{DirectoryWalk, Found, Lookup};
use swarmgate_ipfs_proto::path::{MAX_PATH_BLOCKS, PathState, PathWalk};

/// Blocks are given in turn, whatever their name.
struct Blocks(Vec<VerifiedBytes>, usize);

impl Blocks {
    fn next(&mut self) -> VerifiedBytes {
        self.1 += 1;
        self.0[self.1 % self.0.len()].clone()
    }
}

fn verified(bytes: &[u8]) -> VerifiedBytes {
    VerifiedBytes::check(&HashKind::Sha1.hash(bytes), Bytes::copy_from_slice(bytes)).expect("it has its own hash")
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.split(|byte| *byte == 0xfe);
    let name = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let blocks: Vec<_> = parts.map(verified).collect();
    if blocks.is_empty() {
        return;
    }
    let mut blocks = Blocks(blocks, 0);
    let root: Cid = HashKind::Sha1.hash(b"root").to_cid(0x70);

    let mut lookup = Lookup::new(root, name.clone());
    let mut fetched = 0;
    while let Found::Want(cid) = *lookup.state() {
        fetched += 1;
        assert!(fetched <= 22, "a hash has 64 bits");
        if lookup.provide(&cid, &blocks.next()).is_err() {
            break;
        }
    }

    let mut listing = DirectoryWalk::new(root);
    for _ in 0..2000 {
        while let Some(cid) = listing.poll_want() {
            assert!(listing.provide(&cid, &blocks.next()));
        }
        if listing.is_done() || listing.poll_entry().is_err() {
            break;
        }
    }

    let segments = name.split(|byte| *byte == b'/').map(Bytes::copy_from_slice);
    let Ok(mut walk) = PathWalk::new(root, segments, true) else { return };
    let mut fetched = 0;
    while let PathState::Want(cid) = *walk.state() {
        fetched += 1;
        assert!(fetched <= MAX_PATH_BLOCKS + 1);
        if walk.provide(&cid, &blocks.next()).is_err() {
            break;
        }
    }
});
