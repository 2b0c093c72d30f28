//! The mark of a clean close: which blocks were proven when the store was closed, in the order of their last use.
//!
//! A block is trusted at the next start only if the manifest has its name, its length and its file's time of change, so
//! a stale manifest can name no block that was written or altered since. The manifest is deleted at start, before
//! anything is written.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;

use crate::key::{KEY_BYTES, Key};

const HEAD: &[u8] = b"swarmgate-store clean 2\n";
const LINE_BYTES: usize = KEY_BYTES + 4 + 8 + 4;
const SUM_BYTES: usize = 32;

/// What must be unchanged for a block to be trusted without a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) len: u32,
    /// When its bytes were last changed, to the nanosecond; a second for rows of the index.
    pub(crate) changed: Duration,
}

/// The blocks that were proven at the last clean close, each with its place in the order of use.
#[derive(Debug, Default)]
pub(crate) struct Manifest(HashMap<Key, (usize, Seal)>);

impl Manifest {
    /// A block's place in the order of use, if it is as it was sealed.
    pub(crate) fn rank(&self, key: &Key, seal: Seal) -> Option<usize> {
        self.0.get(key).filter(|(_, sealed)| *sealed == seal).map(|(rank, _)| *rank)
    }

    /// Reads what `write` wrote, or `None` when it is damaged.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
        let lines = body.strip_prefix(HEAD)?;
        if digest::digest(&digest::SHA256, body).as_ref() != sum || lines.len() % LINE_BYTES != 0 {
            return None;
        }
        let lines = lines.chunks_exact(LINE_BYTES).enumerate();
        lines
            .map(|(rank, line)| read_line(line).map(|(key, seal)| (key, (rank, seal))))
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// Writes a manifest of blocks in the order of use.
pub(crate) fn write(blocks: impl IntoIterator<Item = (Key, Seal)>) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    for (key, seal) in blocks {
        bytes.extend_from_slice(&key.to_array());
        bytes.extend_from_slice(&seal.len.to_be_bytes());
        bytes.extend_from_slice(&seal.changed.as_secs().to_be_bytes());
        bytes.extend_from_slice(&seal.changed.subsec_nanos().to_be_bytes());
    }
    let sum = digest::digest(&digest::SHA256, &bytes);
    bytes.extend_from_slice(sum.as_ref());
    bytes
}

/// A time of the system's clock as a seal has it.
pub(crate) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn read_line(line: &[u8]) -> Option<(Key, Seal)> {
    let (key, rest) = line.split_at_checked(KEY_BYTES)?;
    let (len, rest) = rest.split_first_chunk()?;
    let (secs, rest) = rest.split_first_chunk()?;
    let nanos = u32::from_be_bytes(rest.try_into().ok()?);
    let changed = Duration::from_secs(u64::from_be_bytes(*secs)).checked_add(Duration::from_nanos(nanos.into()))?;
    Some((Key::from_slice(key)?, Seal { len: u32::from_be_bytes(*len), changed }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarmgate_content::BlockHash;

    #[test]
    fn a_manifest_survives_its_file_and_any_damage_voids_it() {
        let block = |number: u8| {
            let seal = Seal { len: 7 * u32::from(number), changed: Duration::new(1_700_000_000, 5) };
            (Key::from(&BlockHash::sha1([number; 20])), seal)
        };
        let bytes = write([block(3), block(1)]);
        let manifest = Manifest::parse(&bytes).unwrap();
        assert_eq!(manifest.rank(&block(1).0, block(1).1), Some(1));
        assert_eq!(manifest.rank(&block(1).0, block(3).1), None, "another length is another block");
        assert_eq!(manifest.rank(&block(2).0, block(2).1), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Manifest::parse(&damaged).is_none());
            assert!(Manifest::parse(&bytes[..at]).is_none());
        }
    }
}
