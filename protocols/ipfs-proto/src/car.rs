//! CAR: blocks one after another in a file or a stream (IPLD CAR specifications, versions 1 and 2).
//!
//! The reader takes bytes as they come and gives blocks as they are whole; it does not hash. Whoever takes a block from
//! a stranger's CAR gives it to [`crate::block::check`] first, as from any stranger.

use swarmgate_content::Cid;

use crate::block::MAX_BLOCK_BYTES;
use crate::protobuf::put_varint;

mod reader;

pub use reader::{CarError, CarEvent, CarReader};

/// The longest header, in bytes: some 1,500 roots. Those in the wild have one.
pub const MAX_HEADER_BYTES: usize = 64 << 10;
/// The longest CID, in bytes: four numbers and 128 bytes of its own.
pub const MAX_CID_BYTES: usize = 168;
/// The longest section, in bytes: a CID and a block.
pub const MAX_SECTION_BYTES: usize = MAX_BLOCK_BYTES + MAX_CID_BYTES;

/// What a CAR of version 1 begins with.
#[must_use]
pub fn header(roots: &[Cid]) -> Vec<u8> {
    // The map {roots: [...], version: 1} in DAG-CBOR.
    let mut map = vec![0xa2, 0x65];
    map.extend_from_slice(b"roots");
    put_cbor_head(&mut map, 4, roots.len());
    for root in roots {
        let bytes = root.to_bytes();
        map.extend_from_slice(&[0xd8, 42]);
        put_cbor_head(&mut map, 2, bytes.len() + 1);
        map.push(0);
        map.extend_from_slice(&bytes);
    }
    map.extend_from_slice(b"\x67version\x01");
    let mut out = Vec::with_capacity(map.len() + 3);
    put_varint(&mut out, map.len() as u64);
    out.extend_from_slice(&map);
    out
}

fn put_cbor_head(out: &mut Vec<u8>, major: u8, count: usize) {
    let bytes = (count as u64).to_be_bytes();
    match count {
        0..=23 => out.push(major << 5 | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major << 5 | 24, bytes[7]]),
        0x100..=0xffff => out.extend_from_slice(&[major << 5 | 25, bytes[6], bytes[7]]),
        _ => {
            out.push(major << 5 | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// What stands before a block of so many bytes. The block itself follows as it is, uncopied.
#[must_use]
pub fn section_head(cid: &Cid, block_bytes: usize) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut out = Vec::with_capacity(cid.len() + 4);
    put_varint(&mut out, (cid.len() + block_bytes) as u64);
    out.extend_from_slice(&cid);
    out
}

#[cfg(test)]
mod tests;
