//! Any blocks as the parts of a file, in any order, and as a DAG to export: no panic; the range's bytes come in order
//! and no more than it has; what is known and what is in memory stay within their bounds.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use swarmgate_content::{ByteRange, Cid, HashKind, VerifiedBytes};
use swarmgate_ipfs_proto::export::{DagExport, Scope};
use swarmgate_ipfs_proto::walk::FileWalk;

const WINDOW_BYTES: u64 = 64;

fn verified(bytes: &[u8]) -> VerifiedBytes {
    VerifiedBytes::check(&HashKind::Sha1.hash(bytes), Bytes::copy_from_slice(bytes)).expect("it has its own hash")
}

fuzz_target!(|input: &[u8]| {
    let Some(([codec, start, len, order], rest)) = input.split_first_chunk() else { return };
    let blocks: Vec<_> = rest.split(|byte| *byte == 0xfe).map(verified).collect();
    let root: Cid = HashKind::Sha1.hash(b"root").to_cid(if codec & 1 == 0 { 0x70 } else { 0x55 });
    let Some(range) = ByteRange::new((*start).into(), u64::from(*start) + u64::from(*len)) else { return };
    let mut turn = 0;
    let mut next = || {
        turn += 1;
        &blocks[turn % blocks.len()]
    };

    let mut walk = FileWalk::new(root, range);
    let (mut open, mut read, mut failed) = (Vec::new(), 0, false);
    for _ in 0..500 {
        while let Ok(Some(want)) = walk.poll_want(WINDOW_BYTES) {
            open.push(want);
        }
        assert_eq!(open.iter().map(|want| want.estimated_bytes).sum::<u64>(), walk.in_flight_bytes());
        if let Some(bytes) = walk.poll_bytes() {
            read += bytes.len() as u64;
            assert_eq!(walk.position(), range.start() + read);
        } else if open.is_empty() {
            break;
        } else {
            let want = open.swap_remove(usize::from(*order) % open.len());
            match walk.provide(&want.cid, next()) {
                Ok(waited) => assert!(waited),
                Err(_) => failed = true,
            }
        }
        assert!(read <= range.len());
    }
    if walk.is_done() && !failed {
        let expected = walk.file_len().map_or(0, |len| len.min(range.end()).saturating_sub(range.start()));
        assert_eq!(read, expected);
    }

    let scope = if codec & 2 == 0 { Scope::All } else { Scope::Entity("1:-2".parse().ok()) };
    let mut export = DagExport::new(&[], root, scope, codec & 4 == 0);
    for _ in 0..500 {
        while let Some(cid) = export.poll_want(4) {
            assert!(export.provide(&cid, next()));
        }
        if export.is_done() || export.poll_block().is_err() {
            break;
        }
    }
});
