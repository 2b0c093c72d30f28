//! The way back from bytes to the block that has them: whether what lies somewhere is what a CID names.
//!
//! A raw leaf of a file is its bytes. A leaf in dag-pb has a frame around them that follows from them: it says that
//! they are a file, or a part of one, and how many there are. There are two such frames that programs write, and both
//! are tried. A leaf that says more than that, as permissions or a time, is not recognised; whoever asks has to fetch
//! it.

use bytes::Bytes;
use swarmgate_content::{Cid, VerifiedBytes};

use crate::block::{self, MAX_BLOCK_BYTES};
use crate::codec::Codec;
use crate::dag_pb;
use crate::unixfs::{Kind, UnixFs};

/// What leaves in dag-pb say that they are: the first those of balanced files, the second those of tries.
const KINDS: [Kind; 2] = [Kind::File, Kind::Raw];

/// The block of that name, if it is a leaf of a file that has `bytes` and nothing else. The bytes are hashed, those of
/// dag-pb twice at the most.
///
/// ```
/// use swarmgate_ipfs_proto::{block, codec::Codec, leaf};
///
/// let bytes = bytes::Bytes::from_static(b"hello world");
/// let cid = block::name(Codec::Raw, &bytes);
/// assert_eq!(leaf::recognise(&cid, bytes).unwrap().as_ref(), b"hello world");
/// assert!(leaf::recognise(&cid, "hello earth".into()).is_none());
/// ```
#[must_use]
pub fn recognise(cid: &Cid, bytes: Bytes) -> Option<VerifiedBytes> {
    candidates(cid, bytes).find_map(|candidate| block::check(cid, candidate).ok())
}

/// The blocks that a leaf of that name may be which has `bytes` and nothing else, for whoever hashes them himself: at
/// most two, each made when it is asked for, and none of more than [`MAX_BLOCK_BYTES`].
pub fn candidates(cid: &Cid, bytes: Bytes) -> impl Iterator<Item = Bytes> + Send + use<> {
    let (raw, kinds): (_, &[Kind]) = match Codec::new(cid.codec()) {
        Some(Codec::Raw) => (Some(bytes.clone()), &[]),
        Some(Codec::DagPb) if bytes.len() <= MAX_BLOCK_BYTES => (None, &KINDS),
        Some(Codec::DagPb | Codec::DagCbor | Codec::DagJson | Codec::Cbor | Codec::Json) | None => (None, &[]),
    };
    let framed = kinds.iter().map(move |kind| framed(*kind, &bytes));
    raw.into_iter().chain(framed).filter(|candidate| candidate.len() <= MAX_BLOCK_BYTES)
}

fn framed(kind: Kind, bytes: &[u8]) -> Bytes {
    let data = UnixFs { data: bytes, filesize: Some(bytes.len() as u64), ..UnixFs::new(kind) };
    dag_pb::encode([], Some(&data.encode())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{FileBuilder, Profile};

    #[test]
    fn the_leaves_of_a_file_are_recognised_by_its_bytes_however_they_are_framed() {
        let file: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for profile in [Profile::V1_2025, Profile::V0_2015] {
            let mut builder = FileBuilder::new(Profile { chunk_bytes: 1000, ..profile });
            builder.push(&file);
            builder.finish();
            let blocks: Vec<_> = std::iter::from_fn(|| builder.poll_block()).collect();
            for (leaf, bytes) in blocks.iter().zip(file.chunks(1000)) {
                let found = recognise(&leaf.cid, Bytes::copy_from_slice(bytes)).unwrap();
                assert_eq!(found.as_ref(), leaf.bytes, "the block itself, with its frame");
                assert!(recognise(&leaf.cid, Bytes::copy_from_slice(&bytes[1..])).is_none());
            }
            let root = blocks.last().unwrap();
            assert!(recognise(&root.cid, Bytes::copy_from_slice(&file)).is_none(), "a node of links is no leaf");
        }
    }

    #[test]
    fn a_leaf_of_a_trie_and_an_empty_file_are_recognised() {
        let trie = block::name(Codec::DagPb, &framed(Kind::Raw, b"hello world"));
        assert!(recognise(&trie, Bytes::from_static(b"hello world")).is_some());
        let empty: Cid = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH".parse().unwrap();
        assert!(recognise(&empty, Bytes::new()).is_some(), "as everybody names the empty file");
    }

    #[test]
    fn what_says_more_than_its_bytes_or_is_no_file_is_not_recognised() {
        let bytes = Bytes::from_static(b"hello world");
        let with_mode = UnixFs { data: &bytes, filesize: Some(11), mode: Some(0o644), ..UnixFs::new(Kind::File) };
        let block = dag_pb::encode([], Some(&with_mode.encode()));
        assert!(recognise(&block::name(Codec::DagPb, &block), bytes.clone()).is_none());
        assert!(recognise(&block::name(Codec::DagCbor, &bytes), bytes).is_none());
    }
}
