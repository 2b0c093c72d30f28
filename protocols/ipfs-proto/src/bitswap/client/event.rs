//! What the client is told at first, and what it tells.

use swarmgate_content::{Cid, VerifiedBytes};

use crate::bitswap::PeerKey;

/// A DAG that is being read, by one reader or several: an opaque number that the shell chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// What an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// Bytes asked of one peer at a time, at most. The least that fills the path is asked; a default Kubo sends about a
    /// mebibyte in a round trip whatever it is asked for. Default 2 MiB.
    pub max_peer_bytes: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { max_peer_bytes: 2 << 20 }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A wanted block came. It is wanted no more.
    Block {
        /// Its name, as it was first wanted.
        cid: Cid,
        /// Its bytes.
        data: VerifiedBytes,
        /// Who sent it.
        from: PeerKey,
    },
    /// A peer has a block that is wanted.
    Have {
        /// Which.
        cid: Cid,
        /// Who.
        from: PeerKey,
    },
    /// A peer has not a block that is wanted.
    DontHave {
        /// Which.
        cid: Cid,
        /// Who.
        from: PeerKey,
    },
    /// Nobody who is connected has the block, or those who should do not deliver it: find providers. Said again every
    /// 15 seconds at most, while that stays so.
    Exhausted(Cid),
    /// A peer sent what nobody asked for, which is how forged blocks look. Nothing is asked of it any more.
    Misbehaved(PeerKey),
}

/// Why a want is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No bytes could be known as this block: identity CIDs hold theirs, and other hashes are not computed here.
    #[error("the block's hash is none that can be checked")]
    Hash,
    /// Too many wants.
    #[error("{} blocks are wanted already", super::MAX_WANTS)]
    Wants,
    /// Too many sessions.
    #[error("{} sessions are open already", super::MAX_SESSIONS)]
    Sessions,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Wanted blocks that came.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came again.
    pub duplicate_bytes: u64,
    /// Bytes that came after nobody wanted them any more.
    pub unneeded_bytes: u64,
    /// Bytes that nobody ever asked for.
    pub unsolicited_bytes: u64,
    /// Blocks asked for again.
    pub re_requests: u64,
    /// Times that a peer fell silent while it owed something.
    pub silences: u64,
    /// Messages sent.
    pub messages: u64,
}
