//! Offer ids and session descriptions: text of strangers, bounded, and in the one case never shown.

use std::fmt;
use std::sync::Arc;

use rand::Rng;

use super::{MAX_OFFER_ID_BYTES, MAX_SDP_BYTES};

/// The name of an offer, chosen by who makes it: by custom 20 random bytes as latin1. Trackers and answerers give it back
/// exactly, so it is kept as the text that it was. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(Arc<str>);

/// A session description (SDP, RFC 8866), opaque here. It holds addresses and a password, so its [`fmt::Debug`] form is
/// only its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Sdp(String);

/// An offer id is longer than [`MAX_OFFER_ID_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an offer id of {0} bytes, more than {MAX_OFFER_ID_BYTES}")]
pub struct IdTooLong(pub usize);

/// A session description is longer than [`MAX_SDP_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session description of {0} bytes, more than {MAX_SDP_BYTES}")]
pub struct SdpTooLong(pub usize);

impl OfferId {
    /// Takes the text of an id.
    ///
    /// # Errors
    /// When it has more than [`MAX_OFFER_ID_BYTES`].
    pub fn new(text: &str) -> Result<Self, IdTooLong> {
        if text.len() > MAX_OFFER_ID_BYTES {
            return Err(IdTooLong(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// The id of 20 bytes, one character for each.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes.iter().copied().map(char::from).collect::<String>().into())
    }

    /// A new id. Who can foretell it can answer in another's place, so the generator should be a strong one.
    pub fn random(random: &mut impl Rng) -> Self {
        let mut bytes = [0; 20];
        random.fill_bytes(&mut bytes);
        Self::from_bytes(bytes)
    }

    /// The text on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OfferId({})", self.0.escape_default())
    }
}

impl Sdp {
    /// Takes a session description as it is.
    ///
    /// # Errors
    /// When it has more than [`MAX_SDP_BYTES`].
    pub fn new(text: String) -> Result<Self, SdpTooLong> {
        if text.len() > MAX_SDP_BYTES {
            return Err(SdpTooLong(text.len()));
        }
        Ok(Self(text))
    }

    /// The text, not for logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, not for logs.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sdp({} bytes)", self.0.len())
    }
}
