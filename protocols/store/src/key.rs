//! A block's name, packed for the index: a store of 100 GiB holds some 400 000 of them.

use swarmgate_content::BlockHash;

/// A [`BlockHash`] in 33 bytes instead of 80. The digest's length tells the two hashes a block may have apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    len: u8,
    digest: [u8; 32],
}

/// How many bytes [`Key::to_array`] gives.
pub(crate) const KEY_BYTES: usize = 33;

const SHA1_BYTES: usize = 20;
const SHA2_256_BYTES: usize = 32;

impl Key {
    /// Unpacks the name.
    pub(crate) fn hash(&self) -> BlockHash {
        match usize::from(self.len) {
            SHA1_BYTES => {
                BlockHash::sha1(self.digest[..SHA1_BYTES].try_into().expect("a slice of 20 bytes is an array of 20"))
            }
            _ => BlockHash::sha2_256(self.digest),
        }
    }

    /// The packed form, for files of the store's own.
    pub(crate) fn to_array(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[0] = self.len;
        bytes[1..].copy_from_slice(&self.digest);
        bytes
    }

    /// Reads [`Self::to_array`] back, or `None` when no such name can exist.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (&len, digest) = bytes.split_first()?;
        let digest: [u8; SHA2_256_BYTES] = digest.try_into().ok()?;
        matches!(usize::from(len), SHA1_BYTES | SHA2_256_BYTES).then_some(Self { len, digest })
    }

    /// The first byte of the digest: spreads blocks over directories and locks.
    pub(crate) const fn spread(&self) -> u8 {
        self.digest[0]
    }
}

impl From<&BlockHash> for Key {
    fn from(hash: &BlockHash) -> Self {
        let mut digest = [0; SHA2_256_BYTES];
        let given = hash.digest();
        digest[..given.len()].copy_from_slice(given);
        Self { len: if given.len() == SHA1_BYTES { 20 } else { 32 }, digest }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.hash(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_packing() {
        for hash in [BlockHash::sha1([9; 20]), BlockHash::sha2_256([7; 32])] {
            let key = Key::from(&hash);
            assert_eq!(key.hash(), hash);
            assert_eq!(Key::from_slice(&key.to_array()), Some(key));
        }
        assert_eq!(Key::from_slice(&[3; KEY_BYTES]), None, "no hash has three bytes");
    }
}
