//! Message stream encryption (MSE/PE): the handshake that hides a peer connection from those who sort traffic by its
//! first bytes.
//!
//! It is obfuscation and no more: the key exchange is unauthenticated, 768 bits long, and the cipher is RC4. Whoever
//! knows the infohash and sits between the two reads everything. What it is for is that nobody can tell by a pattern
//! what the stream is; what is in it is verified by hash anyway.
//!
//! [`Initiator`] and [`Responder`] are the two sides: bytes in, bytes out, and at the end a [`Secured`] stream. The
//! initiator sends its first payload along with its last message, so that no round trip is lost for it. Randomness
//! comes from the caller, as [`Entropy`].
//!
//! ```text
//! A -> B   Ya, PadA
//! B -> A   Yb, PadB
//! A -> B   H('req1', S), H('req2', skey) xor H('req3', S), RC4(VC, provide, len PadC, PadC, len IA), RC4(IA)
//! B -> A   RC4(VC, select, len PadD, PadD), payload
//! ```

mod cipher;
mod exchange;
mod initiator;
mod responder;
mod sync;

use swarmgate_content::InfoHash;

pub use cipher::Keystream;
pub use exchange::Entropy;
pub use initiator::Initiator;
pub use responder::Responder;

/// Length of a public key in bytes: 768 bits.
pub const KEY_LEN: usize = 96;
/// Longest padding of each of the four, in bytes: the specification's.
pub const MAX_PAD: usize = 512;
/// Longest first payload taken from an initiator, in bytes. It holds a handshake and perhaps the messages after it,
/// which are well under 1 KiB; the field allows 64 KiB, which strangers would make us keep.
pub const MAX_INITIAL_BYTES: usize = 8 * 1024;

/// The verification constant: eight zero bytes.
const VC_LEN: usize = 8;

/// How the payload goes after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// In the clear: only the handshake was hidden.
    Plain,
    /// Encrypted with RC4.
    Rc4,
}

/// Ways for the payload that one side can go along with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    /// RC4 alone.
    Rc4,
    /// The clear alone.
    Plain,
    /// Either; whoever chooses prefers what is named.
    Either(Payload),
}

/// What came of a handshake.
#[derive(Debug)]
pub struct Secured {
    /// Which torrent it is about.
    pub skey: InfoHash,
    /// How the payload goes from here on.
    pub payload: Payload,
    /// Payload that came already, in the clear.
    pub received: Vec<u8>,
    /// Decrypts what comes; `None` when it comes in the clear.
    pub reading: Option<Keystream>,
    /// Encrypts what goes; `None` when it goes in the clear.
    pub writing: Option<Keystream>,
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MseError {
    /// A public key that gives the secret away.
    #[error("a degenerate public key")]
    WeakKey,
    /// The other side answers with a handshake in the clear: it does not know this one.
    #[error("it answers in the clear")]
    InTheClear,
    /// The mark that ends the padding did not come within [`MAX_PAD`] bytes: no such handshake, or another torrent's.
    #[error("the padding has no end")]
    NoSync,
    /// It is about a torrent that is not here.
    #[error("its torrent is not here")]
    UnknownTorrent,
    /// The decrypted bytes are not those of this handshake.
    #[error("the decrypted handshake makes no sense")]
    Garbled,
    /// Padding longer than [`MAX_PAD`], or a first payload longer than [`MAX_INITIAL_BYTES`].
    #[error("{0} bytes are announced where {1} are allowed")]
    TooLong(usize, usize),
    /// The two have no way for the payload in common.
    #[error("no way for the payload in common")]
    NothingInCommon,
}

impl Payload {
    const fn bit(self) -> u32 {
        match self {
            Self::Plain => 1,
            Self::Rc4 => 2,
        }
    }
}

impl Methods {
    /// The bits of `crypto_provide`.
    const fn bits(self) -> u32 {
        match self {
            Self::Plain => Payload::Plain.bit(),
            Self::Rc4 => Payload::Rc4.bit(),
            Self::Either(_) => Payload::Plain.bit() | Payload::Rc4.bit(),
        }
    }

    /// What to select of what the other side provides.
    fn select(self, provided: u32) -> Option<Payload> {
        let order = match self {
            Self::Plain | Self::Either(Payload::Plain) => [Payload::Plain, Payload::Rc4],
            Self::Rc4 | Self::Either(Payload::Rc4) => [Payload::Rc4, Payload::Plain],
        };
        order.into_iter().find(|payload| payload.bit() & self.bits() & provided != 0)
    }

    /// What the other side selected, if it was among these.
    fn selected(self, bits: u32) -> Option<Payload> {
        [Payload::Plain, Payload::Rc4].into_iter().find(|payload| payload.bit() == bits && bits & self.bits() != 0)
    }
}

#[cfg(test)]
mod tests;
