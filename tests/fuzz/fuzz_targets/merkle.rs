//! Any request for hashes and any answer, of any tree: no panic, an answer that a tree gives is true, and no other is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::merkle::{HashRequest, MAX_GIVEN, Tree, height};
use swarmgate_content::merkle::{LEAF_BYTES, leaf};

fuzz_target!(|input: ([u8; 2], u8, [u32; 4], Vec<[u8; 32]>)| {
    let (count, base, [index, length, proof_layers, at], mut hashes) = input;
    let count = u16::from_be_bytes(count).max(1);
    let height = height(u64::from(count) * LEAF_BYTES as u64);
    let leaves = (0..count).map(|n| leaf(&n.to_be_bytes())).collect();
    let tree = Tree::new(0, height, leaves).expect("it has leaves, and no more than fit");
    let wild = HashRequest { root: tree.root(), base: base.into(), index, length, proof_layers };
    if wild.fits(height) {
        let answer = tree.answer(&wild).expect("it lies in the tree");
        assert!(answer.len() <= MAX_GIVEN as usize + 32);
    }
    assert!(wild.verify(height, &hashes).is_none() || wild.fits(height));
    let base = u32::from(base).min(height);
    let within = length % (height - base + 1).min(13);
    let index = index % (1 << (height - base - within)) << within;
    let request = HashRequest::proven(tree.root(), height, base, index, 1 << within);
    let mut answer = tree.answer(&request).expect("it lies in the tree");
    assert!(request.verify(height, &answer).is_some());
    let at = at as usize % answer.len();
    answer[at][0] ^= 1;
    assert!(request.verify(height, &answer).is_none());
    hashes.truncate(answer.len());
    assert!(request.verify(height, &hashes).is_none() || hashes.len() == answer.len());
});
