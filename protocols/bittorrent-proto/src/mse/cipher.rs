//! RC4 as the handshake uses it: keyed by a hash, its first KiB thrown away.

use rc4::{KeyInit, Rc4, StreamCipher};

/// Bytes of the keystream that are thrown away, since they betray the key.
const DISCARDED: usize = 1024;

/// One direction's keystream; encrypting and decrypting are the same.
pub struct Keystream(Rc4);

impl Keystream {
    /// The keystream of a key, behind its weak beginning.
    pub(super) fn new(key: &[u8; 20]) -> Self {
        let mut cipher = Rc4::new_from_slice(key).expect("RC4 takes keys of 1 to 256 bytes, and this has 20");
        cipher.apply_keystream(&mut [0; DISCARDED]);
        Self(cipher)
    }

    /// Encrypts or decrypts in place, and goes on by as many bytes.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply_keystream(bytes);
    }
}

impl std::fmt::Debug for Keystream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keystream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_rc4_from_its_second_kib_on() {
        // RFC 6229, the 40-bit key 0102030405: keystream at 1024 and at 1536.
        let mut cipher = Rc4::new_from_slice(&[1, 2, 3, 4, 5]).unwrap();
        cipher.apply_keystream(&mut [0; DISCARDED]);
        let mut stream = Keystream(cipher);
        let mut bytes = [0; 16];
        stream.apply(&mut bytes);
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), "30abbcc7c20b01609f23ee2d5f6bb7df");
        stream.apply(&mut [0; 1536 - 1024 - 16]);
        let mut bytes = [0; 16];
        stream.apply(&mut bytes);
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), "d8729db41882259bee4f825325f5a130");
    }
}
