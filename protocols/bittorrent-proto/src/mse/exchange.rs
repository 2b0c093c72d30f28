//! The key exchange, and what is hashed out of its secret.

use aws_lc_rs::digest;
use num_bigint::BigUint;
use swarmgate_content::InfoHash;

use super::cipher::Keystream;
use super::{KEY_LEN, MAX_PAD, MseError};

/// The specification's prime, with generator 2.
const PRIME: [u8; KEY_LEN] = {
    let mut prime = [0; KEY_LEN];
    let words: [u64; 12] = [
        0xFFFF_FFFF_FFFF_FFFF,
        0xC90F_DAA2_2168_C234,
        0xC4C6_628B_80DC_1CD1,
        0x2902_4E08_8A67_CC74,
        0x020B_BEA6_3B13_9B22,
        0x514A_0879_8E34_04DD,
        0xEF95_19B3_CD3A_431B,
        0x302B_0A6D_F25F_1437,
        0x4FE1_356D_6D51_C245,
        0xE485_B576_625E_7EC6,
        0xF44C_42E9_A63A_3621,
        0x0000_0000_0009_0563,
    ];
    let mut at = 0;
    while at < KEY_LEN {
        prime[at] = words[at / 8].to_be_bytes()[at % 8];
        at += 1;
    }
    prime
};

/// The randomness of one handshake.
#[derive(Clone)]
pub struct Entropy {
    /// The private key: 160 bits.
    pub private: [u8; 20],
    /// The padding after the public key; cut at [`MAX_PAD`].
    pub pad: Vec<u8>,
    /// Length of the padding within the encrypted part, in bytes; at most [`MAX_PAD`].
    pub inner_pad_len: u16,
}

/// One side's keys.
pub(super) struct KeyPair {
    private: BigUint,
    pub(super) public: [u8; KEY_LEN],
}

/// What both sides know and nobody else: S.
pub(super) struct Secret([u8; KEY_LEN]);

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entropy({} + {} bytes of padding)", self.pad.len(), self.inner_pad_len)
    }
}

impl Entropy {
    /// The public key and its padding: what each side says first.
    pub(super) fn opening(&self, pair: &KeyPair) -> Vec<u8> {
        [&pair.public, &self.pad[..self.pad.len().min(MAX_PAD)]].concat()
    }

    /// The padding within the encrypted part, behind its length: zeros, which the cipher hides.
    pub(super) fn inner_pad(&self) -> Vec<u8> {
        let len = usize::from(self.inner_pad_len).min(MAX_PAD);
        let mut bytes = vec![0; 2 + len];
        bytes[..2].copy_from_slice(&field(len));
        bytes
    }
}

/// A length as the handshake writes it; what is longer than it can say does not come here.
pub(super) fn field(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

impl KeyPair {
    pub(super) fn new(private: [u8; 20]) -> Self {
        let private = BigUint::from_bytes_be(&private);
        let public = padded(&BigUint::from(2_u8).modpow(&private, &prime()));
        Self { private, public }
    }

    /// The secret shared with the owner of a public key.
    pub(super) fn agree(&self, theirs: &[u8; KEY_LEN]) -> Result<Secret, MseError> {
        let (theirs, prime) = (BigUint::from_bytes_be(theirs), prime());
        let one = BigUint::from(1_u8);
        if theirs <= one || theirs >= &prime - &one {
            return Err(MseError::WeakKey);
        }
        Ok(Secret(padded(&theirs.modpow(&self.private, &prime))))
    }
}

fn prime() -> BigUint {
    BigUint::from_bytes_be(&PRIME)
}

/// 96 bytes, most significant first. Everything that comes here is less than the prime.
fn padded(number: &BigUint) -> [u8; KEY_LEN] {
    let bytes = number.to_bytes_be();
    let mut padded = [0; KEY_LEN];
    let from = KEY_LEN.saturating_sub(bytes.len());
    padded[from..].copy_from_slice(&bytes[bytes.len().saturating_sub(KEY_LEN)..]);
    padded
}

impl Secret {
    /// The mark that tells the responder where PadA ends.
    pub(super) fn mark(&self) -> [u8; 20] {
        hash(&[b"req1", &self.0])
    }

    /// Hides which torrent it is about, or unhides it: the same bytes are added either way.
    pub(super) fn blind(&self, hidden: [u8; 20]) -> [u8; 20] {
        let mut blind = hash(&[b"req3", &self.0]);
        blind.iter_mut().zip(hidden).for_each(|(a, b)| *a ^= b);
        blind
    }

    /// The keystream of what the initiator sends.
    pub(super) fn of_initiator(&self, skey: &InfoHash) -> Keystream {
        Keystream::new(&hash(&[b"keyA", &self.0, skey.as_bytes()]))
    }

    /// The keystream of what the responder sends.
    pub(super) fn of_responder(&self, skey: &InfoHash) -> Keystream {
        Keystream::new(&hash(&[b"keyB", &self.0, skey.as_bytes()]))
    }
}

/// What stands for a torrent in the handshake: an initiator sends it blinded, a responder compares it with that of
/// each torrent it has.
#[must_use]
pub(super) fn torrent_mark(skey: &InfoHash) -> [u8; 20] {
    hash(&[b"req2", skey.as_bytes()])
}

fn hash(parts: &[&[u8]]) -> [u8; 20] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 20];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agree_and_a_third_does_not() {
        let [a, b, c] = [[1; 20], [2; 20], [3; 20]].map(KeyPair::new);
        let secret = |own: &KeyPair, theirs: &KeyPair| own.agree(&theirs.public).unwrap().0;
        assert_eq!(secret(&a, &b), secret(&b, &a));
        assert_ne!(secret(&a, &b), secret(&a, &c));
    }

    #[test]
    fn keys_that_give_the_secret_away_are_refused() {
        let own = KeyPair::new([7; 20]);
        let mut below_prime = PRIME;
        below_prime[KEY_LEN - 1] -= 1;
        let mut one = [0; KEY_LEN];
        one[KEY_LEN - 1] = 1;
        for key in [[0; KEY_LEN], one, below_prime, PRIME, [0xFF; KEY_LEN]] {
            assert_eq!(own.agree(&key).err(), Some(MseError::WeakKey));
        }
    }
}
