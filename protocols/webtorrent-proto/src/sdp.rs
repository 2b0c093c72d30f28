//! Session descriptions, in and out (RFC 8866, RFC 8841, RFC 8839).
//!
//! A description comes from a stranger through a tracker. Of a remote one only what a data channel needs is read, each
//! field checked and bounded, and a new description is written from that: the library behind never parses a byte that
//! a stranger chose freely. Candidates that may not be dialled do not get into it. Our own descriptions are changed in
//! three places: a shared socket's port, the address outside a 1:1 NAT, and the largest message.

mod candidate;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

pub use crate::message::MAX_SDP_BYTES;
pub use candidate::{Candidate, CandidateKind};

/// Candidate lines that are looked at; what follows is ignored. A browser with many interfaces writes about ten.
pub const MAX_CANDIDATES: usize = 32;
/// Fingerprints that are kept of one description.
const MAX_FINGERPRINTS: usize = 4;
/// The largest message that we take, in bytes (RFC 8841 §6.1).
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// A remote that takes less than this at once, in bytes, would have us send bytes one by one.
pub const MIN_MESSAGE_BYTES: usize = 1024;
/// What the library is told in both directions, in bytes: it takes the smaller of both numbers as the limit of what it
/// *receives* too, and loses larger messages without a word, so that what is a little too long is told from what is
/// right. Each connection keeps a buffer of this size. Both real limits are kept by the stream.
pub const LIBRARY_MESSAGE_BYTES: usize = 96 * 1024;

/// Which of the two descriptions of a connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The first.
    Offer,
    /// The second.
    Answer,
}

/// Why a description is not used. Says nothing of its content, so that it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Longer than [`MAX_SDP_BYTES`].
    #[error("the description is longer than {MAX_SDP_BYTES} bytes")]
    TooLong,
    /// There is no section for a data channel, or it is rejected, or there are others.
    #[error("the description is not of one data channel alone")]
    NotOneDataChannel,
    /// Something necessary is not there.
    #[error("the description has no {0}")]
    Missing(&'static str),
    /// Something necessary cannot be read.
    #[error("the description's {0} is malformed")]
    Malformed(&'static str),
}

/// Who opens the DTLS connection (RFC 8842 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    Active,
    Passive,
    ActPass,
}

/// What is left of a stranger's description.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteDescription {
    role: Role,
    ufrag: String,
    password: String,
    fingerprints: Vec<String>,
    setup: Setup,
    mid: String,
    sctp_port: u16,
    lite: bool,
    max_message_bytes: usize,
    candidates: Vec<Candidate>,
    set_aside: usize,
}

impl fmt::Debug for RemoteDescription {
    /// Says no more than a log may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (candidates, set_aside) = (self.candidates.len(), self.set_aside);
        write!(f, "{:?} with {candidates} candidates, {set_aside} set aside", self.role)
    }
}

#[derive(Default)]
struct Draft {
    sections: usize,
    ufrag: Option<String>,
    password: Option<String>,
    fingerprints: Vec<String>,
    setup: Option<Setup>,
    mid: Option<String>,
    sctp_port: Option<u16>,
    lite: bool,
    max_message_bytes: Option<usize>,
    candidate_lines: usize,
    candidates: Vec<Candidate>,
}

impl RemoteDescription {
    /// Reads a stranger's description and drops the candidates whose addresses `may_dial` forbids, names (`.local` among
    /// them), TCP and what cannot be read. A description without any candidate is fine: the other side dials us.
    ///
    /// # Errors
    /// [`SdpError`] when it is too long, not of one data channel, or lacks what a connection needs.
    pub fn parse(text: &str, role: Role, may_dial: impl Fn(IpAddr) -> bool) -> Result<Self, SdpError> {
        if text.len() > MAX_SDP_BYTES {
            return Err(SdpError::TooLong);
        }
        let mut draft = Draft::default();
        for line in text.lines() {
            draft.read(line.trim_end(), &may_dial)?;
        }
        draft.finish(role)
    }

    /// Writes the description that the library gets to see.
    #[must_use]
    pub fn to_sdp(&self) -> String {
        let mut sdp = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n".to_owned();
        if self.lite {
            sdp.push_str("a=ice-lite\r\n");
        }
        // Writing into a string cannot fail.
        let _ = write!(
            sdp,
            "a=group:BUNDLE {mid}\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=setup:{}\r\na=mid:{mid}\r\na=sctp-port:{}\r\n\
             a=max-message-size:{LIBRARY_MESSAGE_BYTES}\r\n",
            self.ufrag,
            self.password,
            self.setup.as_str(),
            self.sctp_port,
            mid = self.mid,
        );
        for fingerprint in &self.fingerprints {
            let _ = write!(sdp, "a=fingerprint:{fingerprint}\r\n");
        }
        for candidate in &self.candidates {
            let _ = write!(sdp, "a={candidate}\r\n");
        }
        sdp
    }

    /// Whether it is an offer or an answer.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The password that the remote signs its STUN responses with.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The largest message that the remote takes, in bytes, at most [`MAX_MESSAGE_BYTES`].
    #[must_use]
    pub const fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// The candidates that were kept.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// How many candidates were not.
    #[must_use]
    pub const fn set_aside(&self) -> usize {
        self.set_aside
    }
}

impl Draft {
    fn read(&mut self, line: &str, may_dial: &impl Fn(IpAddr) -> bool) -> Result<(), SdpError> {
        if let Some(media) = line.strip_prefix("m=") {
            return self.section(media);
        }
        let Some(attribute) = line.strip_prefix("a=") else { return Ok(()) };
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            "candidate" => self.candidate(value, may_dial),
            "ice-ufrag" => self.ufrag = Some(ice_string(value, 4).ok_or(SdpError::Malformed("ice-ufrag"))?),
            "ice-pwd" => self.password = Some(ice_string(value, 22).ok_or(SdpError::Malformed("ice-pwd"))?),
            "ice-lite" => self.lite = true,
            "fingerprint" if self.fingerprints.len() < MAX_FINGERPRINTS => self.fingerprints.extend(fingerprint(value)),
            "setup" => self.setup = Some(Setup::parse(value).ok_or(SdpError::Malformed("setup"))?),
            "mid" => self.mid = Some(token(value).ok_or(SdpError::Malformed("mid"))?),
            "sctp-port" => self.sctp_port = Some(value.parse().map_err(|_| SdpError::Malformed("sctp-port"))?),
            "max-message-size" => {
                let size = value.parse().map_err(|_| SdpError::Malformed("max-message-size"))?;
                self.max_message_bytes = Some(size);
            }
            _ => {}
        }
        Ok(())
    }

    fn section(&mut self, media: &str) -> Result<(), SdpError> {
        self.sections += 1;
        let mut words = media.split(' ');
        let kind = words.next();
        let port = words.next().and_then(|port| port.parse::<u16>().ok());
        let protocol = words.next();
        let known = matches!(protocol, Some("UDP/DTLS/SCTP" | "TCP/DTLS/SCTP"));
        let alive = port.is_some_and(|port| port != 0);
        let ours = kind == Some("application") && known && alive && words.next() == Some("webrtc-datachannel");
        if ours && self.sections == 1 { Ok(()) } else { Err(SdpError::NotOneDataChannel) }
    }

    fn candidate(&mut self, value: &str, may_dial: &impl Fn(IpAddr) -> bool) {
        self.candidate_lines += 1;
        if self.candidate_lines > MAX_CANDIDATES {
            return;
        }
        let Some(candidate) = Candidate::parse(value) else { return };
        if may_dial(candidate.address.ip()) && !self.candidates.contains(&candidate) {
            self.candidates.push(candidate);
        }
    }

    fn finish(self, role: Role) -> Result<RemoteDescription, SdpError> {
        if self.sections != 1 {
            return Err(SdpError::NotOneDataChannel);
        }
        if self.fingerprints.is_empty() {
            return Err(SdpError::Missing("fingerprint"));
        }
        let setup = self.setup.ok_or(SdpError::Missing("setup"))?;
        if role == Role::Answer && setup == Setup::ActPass {
            return Err(SdpError::Malformed("setup"));
        }
        Ok(RemoteDescription {
            role,
            ufrag: self.ufrag.ok_or(SdpError::Missing("ice-ufrag"))?,
            password: self.password.ok_or(SdpError::Missing("ice-pwd"))?,
            fingerprints: self.fingerprints,
            setup,
            mid: self.mid.ok_or(SdpError::Missing("mid"))?,
            // RFC 8841 §5: the attribute is not optional, but there is one port that everybody uses.
            sctp_port: self.sctp_port.filter(|port| *port != 0).unwrap_or(5000),
            lite: self.lite,
            max_message_bytes: message_limit(self.max_message_bytes)?,
            set_aside: self.candidate_lines - self.candidates.len(),
            candidates: self.candidates,
        })
    }
}

/// RFC 8841 §6.1: 0 is no limit, and 64 KiB when nothing is said.
fn message_limit(said: Option<usize>) -> Result<usize, SdpError> {
    match said {
        None | Some(0) => Ok(MAX_MESSAGE_BYTES),
        Some(size) if size < MIN_MESSAGE_BYTES => Err(SdpError::Malformed("max-message-size")),
        Some(size) => Ok(size.min(MAX_MESSAGE_BYTES)),
    }
}

impl Setup {
    fn parse(value: &str) -> Option<Self> {
        match value {
            "active" => Some(Self::Active),
            "passive" => Some(Self::Passive),
            "actpass" => Some(Self::ActPass),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
        }
    }
}

/// RFC 8839 §5.4: up to 256 characters. More kinds of characters than there are pass, but none that has a meaning in a
/// description or in a USERNAME.
fn ice_string(value: &str, least: usize) -> Option<String> {
    let sound = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    (sound && (least..=256).contains(&value.len())).then(|| value.to_owned())
}

/// RFC 8866 §9, at most 32 characters.
fn token(value: &str) -> Option<String> {
    let sound = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&byte));
    (sound && (1..=32).contains(&value.len())).then(|| value.to_owned())
}

/// RFC 8122 §5, of the hashes that are still good; written in one canonical form.
fn fingerprint(value: &str) -> Option<String> {
    let (hash, digest) = value.split_once(' ')?;
    let hash = hash.to_ascii_lowercase();
    let bytes = match hash.as_str() {
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return None,
    };
    let hex = |pair: &str| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    let sound = digest.split(':').count() == bytes && digest.split(':').all(hex);
    sound.then(|| format!("{hash} {}", digest.to_ascii_uppercase()))
}

/// Makes a description of the library ours: for each pair of `shared` the candidates that name the first address name
/// the second's port, addresses that are not `is_public` become `external` where one of the same family is given, and
/// the largest message is [`MAX_MESSAGE_BYTES`]. Candidates of a second component go: there is none without media.
#[must_use]
pub fn publish(
    sdp: &str,
    shared: &[(SocketAddr, SocketAddr)],
    external: Option<IpAddr>,
    is_public: impl Fn(IpAddr) -> bool,
) -> String {
    let mut published = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        if let Some(candidate) = line.strip_prefix("a=candidate:") {
            if candidate.split(' ').nth(1) != Some("1") {
                continue;
            }
            published.push_str("a=candidate:");
            published.push_str(&candidate::publish(candidate, shared, external, &is_public));
        } else if line.starts_with("a=max-message-size:") {
            let _ = write!(published, "a=max-message-size:{MAX_MESSAGE_BYTES}");
        } else {
            published.push_str(line);
        }
        published.push_str("\r\n");
    }
    published
}

#[cfg(test)]
mod tests;
