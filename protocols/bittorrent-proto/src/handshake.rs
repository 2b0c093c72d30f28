//! The 68 bytes that open every peer connection (BEP 3), and the reserved bits in it.

use swarmgate_content::InfoHash;

/// Length of the handshake in bytes: fixed by BEP 3.
pub const HANDSHAKE_LEN: usize = 68;

/// The first bytes of every handshake (BEP 3): a length, and the protocol's name.
pub const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// A peer's 20-byte id (BEP 3): chosen by its client, so a label and never an identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

/// The opening message of a peer connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// Feature bits.
    pub reserved: [u8; 8],
    /// The torrent.
    pub infohash: InfoHash,
    /// The sender.
    pub peer_id: PeerId,
}

/// The first 20 bytes are not those of BitTorrent's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the first 20 bytes are not a BitTorrent handshake")]
pub struct NotBitTorrent;

impl PeerId {
    /// Makes our id from 12 random bytes: Azureus style, `-SG0100-` before them (BEP 20).
    #[must_use]
    pub fn ours(random: [u8; 12]) -> Self {
        let mut id = *b"-SG0100-............";
        id[8..].copy_from_slice(&random);
        Self(id)
    }

    /// Whether it says that it is of this software, in whatever version (BEP 20).
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.0.starts_with(b"-SG")
    }
}

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerId({})", self.0.escape_ascii())
    }
}

impl Handshake {
    /// Our handshake: extension protocol (BEP 10) and fast extension (BEP 6) offered.
    #[must_use]
    pub const fn ours(infohash: InfoHash, peer_id: PeerId) -> Self {
        Self { reserved: [0, 0, 0, 0, 0, 0x10, 0, 0x04], infohash, peer_id }
    }

    /// The same of somebody who would rather speak of the torrent's v2 half (BEP 52).
    #[must_use]
    pub const fn or_v2(mut self) -> Self {
        self.reserved[7] |= 0x10;
        self
    }

    /// Whether the sender would rather speak of the torrent's v2 half (BEP 52), and may be answered for that.
    #[must_use]
    pub const fn v2(&self) -> bool {
        self.reserved[7] & 0x10 != 0
    }

    /// Whether the sender speaks the extension protocol (BEP 10).
    #[must_use]
    pub const fn extended(&self) -> bool {
        self.reserved[5] & 0x10 != 0
    }

    /// Whether the sender speaks the fast extension (BEP 6).
    #[must_use]
    pub const fn fast(&self) -> bool {
        self.reserved[7] & 0x04 != 0
    }

    /// The 68 bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved);
        bytes[28..48].copy_from_slice(self.infohash.as_bytes());
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads the 68 bytes.
    ///
    /// # Errors
    /// When they do not begin as BEP 3 says.
    pub fn decode(bytes: &[u8; HANDSHAKE_LEN]) -> Result<Self, NotBitTorrent> {
        let (protocol, rest) = bytes.split_at(20);
        if protocol != PROTOCOL {
            return Err(NotBitTorrent);
        }
        let mut reserved = [0; 8];
        reserved.copy_from_slice(&rest[..8]);
        let mut infohash = [0; 20];
        infohash.copy_from_slice(&rest[8..28]);
        let mut peer_id = [0; 20];
        peer_id.copy_from_slice(&rest[28..]);
        Ok(Self { reserved, infohash: InfoHash::new(infohash), peer_id: PeerId(peer_id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_survives_the_wire() {
        let sent = Handshake::ours(InfoHash::new([7; 20]), PeerId::ours([1; 12]));
        let bytes = sent.encode();
        assert_eq!(&bytes[..20], b"\x13BitTorrent protocol");
        let received = Handshake::decode(&bytes).unwrap();
        assert_eq!(received, sent);
        assert!(received.extended() && received.fast() && !received.v2());
        assert!(Handshake::decode(&sent.or_v2().encode()).unwrap().v2());
    }

    #[test]
    fn another_protocol_is_refused() {
        let mut bytes = Handshake::ours(InfoHash::new([7; 20]), PeerId::ours([1; 12])).encode();
        bytes[0] = 18;
        assert_eq!(Handshake::decode(&bytes), Err(NotBitTorrent));
    }
}
