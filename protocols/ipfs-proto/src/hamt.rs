//! Directories in many blocks: which bucket of which shard a name is in (UnixFS specification, "HAMTDirectory").
//!
//! A shard has a bucket for each value of the next few bits of the name's hash. A bucket is a link: named by the
//! bucket's number in hexadecimal, it leads to a shard of the next level; named by the number and an entry's name, to
//! that entry.

use crate::block::Flaw;
use crate::dag_pb::PbNode;
use crate::unixfs::{Kind, UnixFs};

/// Multicodec number of the hash of names: the first 64 bits of MurmurHash3 x64-128.
pub const MURMUR3_X64_64_CODE: u64 = 0x22;
/// The most buckets that a shard may have; each is a link.
pub const MAX_FANOUT: u64 = 1024;

/// How the shards of one directory are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fanout {
    buckets: u16,
}

impl Fanout {
    /// A power of two from 8 to [`MAX_FANOUT`], else `None`.
    #[must_use]
    pub fn new(buckets: u64) -> Option<Self> {
        let known = buckets.is_power_of_two() && (8..=MAX_FANOUT).contains(&buckets);
        known.then(|| Self { buckets: u16::try_from(buckets).expect("1,024 at most") })
    }

    /// How many buckets a shard has.
    #[must_use]
    pub const fn buckets(self) -> u16 {
        self.buckets
    }

    const fn bits(self) -> u32 {
        self.buckets.trailing_zeros()
    }

    /// How many characters a bucket's number has: those of the highest.
    #[must_use]
    pub const fn prefix_len(self) -> usize {
        self.bits().div_ceil(4) as usize
    }

    /// How many levels there can be before the hash is used up.
    #[must_use]
    pub const fn max_levels(self) -> u32 {
        64 / self.bits()
    }

    /// The bucket of a name's hash on a level, from 0; `None` when the hash is used up.
    #[must_use]
    pub fn bucket(self, hash: u64, level: u32) -> Option<u16> {
        let used = self.bits().checked_mul(level.checked_add(1)?).filter(|used| *used <= 64)?;
        u16::try_from(hash >> (64 - used) & u64::from(self.buckets - 1)).ok()
    }

    /// A bucket's number as links spell it.
    #[must_use]
    pub fn prefix(self, bucket: u16) -> String {
        format!("{bucket:0width$X}", width = self.prefix_len())
    }
}

/// Checks that a node is a shard that can be read here, and says how it is cut.
///
/// # Errors
/// [`Flaw::Malformed`] when its hash is another, or it has fewer or more buckets than can be; [`Flaw::TooManyLinks`]
/// when it has more links than buckets; [`Flaw::Kind`] when it is no shard.
pub fn read_shard(node: &PbNode<'_>, data: &UnixFs<'_>) -> Result<Fanout, Flaw> {
    let malformed = |why| Flaw::malformed("sharded directory", why);
    if data.kind != Kind::HamtShard {
        return Err(Flaw::Kind { found: data.kind.noun(), expected: "a sharded directory" });
    }
    if data.hash_type != Some(MURMUR3_X64_64_CODE) {
        return Err(malformed("its hash is not murmur3-x64-64"));
    }
    let fanout =
        data.fanout.and_then(Fanout::new).ok_or_else(|| malformed("its fanout is no power of 2 up to 1024"))?;
    if node.link_count() > usize::from(fanout.buckets) {
        return Err(Flaw::TooManyLinks);
    }
    Ok(fanout)
}

/// The hash of an entry's name.
#[must_use]
pub fn hash_name(name: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let mut blocks = name.chunks_exact(16);
    for block in &mut blocks {
        h1 ^= mix1(little_endian(&block[..8]));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix2(little_endian(&block[8..]));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = blocks.remainder().split_at(blocks.remainder().len().min(8));
    h2 ^= mix2(little_endian(high));
    h1 ^= mix1(little_endian(low));
    let len = name.len() as u64;
    h1 ^= len;
    h2 ^= len;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    avalanche(h1).wrapping_add(avalanche(h2))
}

/// Up to eight bytes as a number.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

const fn avalanche(mut value: u64) -> u64 {
    value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value = (value ^ value >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_hash_as_everywhere() {
        for (name, hash) in [
            (&b""[..], 0),
            (b"hello", 0xcbd8_a7b3_41bd_9b02),
            (b"hello, world", 0x342f_ac62_3a5e_bc8e),
            (b"19 Jan 2038 at 3:14:07 AM", 0xb89e_5988_b737_affc),
            (b"The quick brown fox jumps over the lazy dog.", 0xcd99_481f_9ee9_02c9),
        ] {
            assert_eq!(hash_name(name), hash, "{}", String::from_utf8_lossy(name));
        }
    }

    /// From the UnixFS specification, "HAMTDirectory Path Resolution".
    #[test]
    fn a_name_is_where_the_specification_says() {
        let fanout = Fanout::new(256).unwrap();
        for (name, second) in [("470.txt", "6E"), ("742.txt", "FF")] {
            let hash = hash_name(name.as_bytes());
            assert_eq!(fanout.prefix(fanout.bucket(hash, 0).unwrap()), "00");
            assert_eq!(fanout.prefix(fanout.bucket(hash, 1).unwrap()), second);
        }
    }

    #[test]
    fn buckets_end_with_the_hash() {
        for (buckets, levels, prefix) in [(8, 21, "7"), (16, 16, "F"), (256, 8, "FF"), (1024, 6, "3FF")] {
            let fanout = Fanout::new(buckets).unwrap();
            assert_eq!(fanout.max_levels(), levels);
            assert_eq!(fanout.prefix(fanout.buckets() - 1), prefix);
            assert_eq!(fanout.bucket(u64::MAX, levels - 1), Some(fanout.buckets() - 1));
            assert_eq!(fanout.bucket(u64::MAX, levels), None);
            assert_eq!(fanout.bucket(u64::MAX, u32::MAX), None);
        }
        assert!([0, 1, 4, 12, 2048, u64::MAX].iter().all(|buckets| Fanout::new(*buckets).is_none()));
    }

    proptest! {
        #[test]
        fn the_bits_of_a_hash_are_used_from_the_first_to_the_last(hash: u64) {
            let fanout = Fanout::new(256).unwrap();
            let bytes = (0..8).map(|level| u8::try_from(fanout.bucket(hash, level).unwrap()).unwrap());
            prop_assert_eq!(bytes.collect::<Vec<_>>(), hash.to_be_bytes());
        }
    }
}
