//! WebRTC connections as byte streams.
//!
//! A browser is reached over one WebRTC data channel: ICE finds a way through NATs, DTLS encrypts, SCTP orders. The
//! library behind (`webrtc`) does the protocols; this module makes of it what a swarm can use: an offer goes out or is
//! answered, an [`RtcStream`] comes back, and dropping anything frees everything. How descriptions travel is not its
//! affair: it takes and gives text.
//!
//! ```text
//! RtcManager ── offer() ──> PendingOffer ── accept_answer(sdp) ──┐
//!     │                                                          ├──> RtcStream
//!     └─────── answer(sdp) ──> Answered ────── open() ───────────┘
//! ```
//!
//! What a stranger sends is judged by rules apart from all I/O: those of [`swarmgate_webtorrent_proto`] (`sdp`:
//! descriptions are read, bounded and written anew; `stun` and `routes`: whose a datagram on a shared socket is), and
//! [`limits`] (buffers, pace). A description sends us nowhere that the egress guard forbids. Whoever dials us from such a
//! place, and signs with what only our description says, is answered: a browser on the same network hides its address
//! and can come in no other way.
//!
//! # Logs
//! The library logs through `log`, descriptions and passwords among them at its lower levels, and peers' mistakes as
//! errors. A subscriber should keep it quiet with [`QUIET_LIBRARY`].

mod connection;
mod error;
mod inbox;
mod lane;
pub mod limits;
mod manager;
mod mux;
mod offer;
mod options;
mod outbox;
mod socket;
mod stream;

pub use error::RtcError;
pub use manager::{RtcManager, RtcStats};
pub use offer::{Answered, PendingOffer};
pub use options::{RtcOptions, TurnServer};
pub use socket::outbound_addresses;
pub(crate) use stream::Line;
pub use stream::RtcStream;

/// Directives for a log filter that silence the library: what matters of it is said by this crate. Those of WebSockets, which
/// log the URLs of trackers with their passkeys, are silent with it.
pub const QUIET_LIBRARY: &str = "webrtc=off,rtc=off,rtc_ice=off,rtc_dtls=off,rtc_sctp=off,rtc_stun=off,rtc_turn=off,\
    rtc_mdns=off,rtc_crypto=off,quinn_udp=off,rtc_datachannel=off,rtc_sdp=off,rtc_srtp=off,rtc_interceptor=off,rtc_shared=off,\
    tokio_tungstenite=off,tungstenite=off";
