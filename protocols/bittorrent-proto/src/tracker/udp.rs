//! Announcing over UDP (BEP 15): a connection id first, which proves our address, then the announce.
//!
//! The shell keeps one socket for all trackers, matches replies to requests by transaction id, and takes a reply only
//! from the address it asked.

use std::time::{Duration, Instant};

use swarmgate_content::InfoHash;

use super::{AnnounceEvent, AnnounceRequest, AnnounceResponse, MAX_PEERS, TrackerError, compact, tracker_text};

/// How long a connection id may be used: fixed by BEP 15.
pub const CONNECTION_ID_VALIDITY: Duration = Duration::from_secs(60);
/// Wait before the first repetition of a request: fixed by BEP 15, and doubled with each.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// Repetitions of a request: fixed by BEP 15, over two hours in all. A shell in a hurry stops earlier.
const MAX_RETRANSMITS: u32 = 8;
/// Torrents in one scrape: about as many as BEP 15 says fit a packet.
pub const MAX_SCRAPE: usize = 74;
/// Longest path and query sent (BEP 41), in bytes: eight options, so that the packet stays below any MTU.
const MAX_URL_DATA_BYTES: usize = 8 * 255;

const PROTOCOL_ID: u64 = 0x0417_2710_1980;
const ACTION_CONNECT: u32 = 0;
const ACTION_ANNOUNCE: u32 = 1;
const ACTION_SCRAPE: u32 = 2;
const ACTION_ERROR: u32 = 3;
/// BEP 41: the option that carries the URL's path and query.
const OPTION_URL_DATA: u8 = 2;

/// A tracker's proof that it has seen our address, and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId {
    id: u64,
    obtained: Instant,
}

/// The family of the addresses in a reply: that of the address the tracker was asked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 6 bytes a peer.
    V4,
    /// 18 bytes a peer.
    V6,
}

/// A packet from a tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpResponse {
    /// The number of the request it answers.
    pub transaction: u32,
    /// What it says.
    pub body: UdpBody,
}

/// What a packet from a tracker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UdpBody {
    /// The connection id; [`ConnectionId::new`] dates it.
    Connected(u64),
    /// The answer to an announce.
    Announced(AnnounceResponse),
    /// The answer to a scrape, in the order asked.
    Scraped(Vec<ScrapeCounts>),
    /// A refusal with its reason, untrusted text.
    Refused(String),
}

/// A torrent's counters at a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// Peers that have everything.
    pub complete: u32,
    /// Times it was completed.
    pub downloaded: u32,
    /// Peers that have not everything.
    pub incomplete: u32,
}

impl ConnectionId {
    /// Dates a connection id.
    #[must_use]
    pub const fn new(id: u64, obtained: Instant) -> Self {
        Self { id, obtained }
    }

    /// The number, while it may be used.
    #[must_use]
    pub fn at(&self, now: Instant) -> Option<u64> {
        (now.saturating_duration_since(self.obtained) < CONNECTION_ID_VALIDITY).then_some(self.id)
    }
}

/// How long to wait for the answer to transmission number `attempt`, counted from 0; `None` when it is time to give up.
#[must_use]
pub fn wait_for_answer(attempt: u32) -> Option<Duration> {
    (attempt <= MAX_RETRANSMITS).then(|| FIRST_WAIT * 2_u32.pow(attempt))
}

/// The packet that asks for a connection id.
#[must_use]
pub fn encode_connect(transaction: u32) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[..8].copy_from_slice(&PROTOCOL_ID.to_be_bytes());
    packet[8..12].copy_from_slice(&ACTION_CONNECT.to_be_bytes());
    packet[12..].copy_from_slice(&transaction.to_be_bytes());
    packet
}

/// The packet that announces. `url_data` is the path and query of the tracker's URL, sent where it is not empty (BEP 41):
/// trackers that want a passkey find it there.
#[must_use]
pub fn encode_announce(connection: u64, transaction: u32, request: &AnnounceRequest, url_data: &str) -> Vec<u8> {
    let event: u32 = match request.event {
        AnnounceEvent::Interval => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    };
    let mut packet = header(connection, ACTION_ANNOUNCE, transaction);
    packet.extend_from_slice(request.infohash.as_bytes());
    packet.extend_from_slice(&request.peer_id.0);
    for counter in [request.downloaded, request.left, request.uploaded] {
        packet.extend_from_slice(&counter.to_be_bytes());
    }
    packet.extend_from_slice(&event.to_be_bytes());
    packet.extend_from_slice(&[0; 4]); // our address: the sender's
    packet.extend_from_slice(&request.key.to_be_bytes());
    let numwant = request.numwant.map_or(-1, |numwant| i32::try_from(numwant).unwrap_or(i32::MAX));
    packet.extend_from_slice(&numwant.to_be_bytes());
    packet.extend_from_slice(&request.port.to_be_bytes());
    if url_data.len() <= MAX_URL_DATA_BYTES {
        for chunk in url_data.as_bytes().chunks(255) {
            packet.extend([OPTION_URL_DATA, u8::try_from(chunk.len()).expect("a chunk has at most 255 bytes")]);
            packet.extend_from_slice(chunk);
        }
    }
    packet
}

/// The packet that asks for the counters of at most [`MAX_SCRAPE`] torrents; more are left out.
#[must_use]
pub fn encode_scrape(connection: u64, transaction: u32, infohashes: &[InfoHash]) -> Vec<u8> {
    let mut packet = header(connection, ACTION_SCRAPE, transaction);
    for infohash in infohashes.iter().take(MAX_SCRAPE) {
        packet.extend_from_slice(infohash.as_bytes());
    }
    packet
}

fn header(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    [&connection.to_be_bytes()[..], &action.to_be_bytes(), &transaction.to_be_bytes()].concat()
}

/// Reads a packet from a tracker that was asked at an address of `family`.
///
/// # Errors
/// When it is too short for its kind, or of none.
pub fn parse(packet: &[u8], family: Family) -> Result<UdpResponse, TrackerError> {
    let (action, rest) = number(packet, "any", packet.len(), 8)?;
    let (transaction, rest) = number(rest, "any", packet.len(), 8)?;
    let body = match action {
        ACTION_CONNECT => {
            let (high, rest) = number(rest, "connect", packet.len(), 16)?;
            let (low, _) = number(rest, "connect", packet.len(), 16)?;
            UdpBody::Connected(u64::from(high) << 32 | u64::from(low))
        }
        ACTION_ANNOUNCE => UdpBody::Announced(announced(rest, family, packet.len())?),
        ACTION_SCRAPE => UdpBody::Scraped(scraped(rest)),
        ACTION_ERROR => UdpBody::Refused(tracker_text(rest)),
        other => return Err(TrackerError::Action(other)),
    };
    Ok(UdpResponse { transaction, body })
}

fn announced(rest: &[u8], family: Family, len: usize) -> Result<AnnounceResponse, TrackerError> {
    let (interval, rest) = number(rest, "announce", len, 20)?;
    let (incomplete, rest) = number(rest, "announce", len, 20)?;
    let (complete, rest) = number(rest, "announce", len, 20)?;
    let mut peers: Vec<_> = match family {
        Family::V4 => compact::parse_v4(rest).collect(),
        Family::V6 => compact::parse_v6(rest).collect(),
    };
    peers.retain(compact::dialable);
    peers.truncate(MAX_PEERS);
    Ok(AnnounceResponse {
        interval: Some(Duration::from_secs(interval.into())),
        complete: Some(complete),
        incomplete: Some(incomplete),
        peers,
        ..AnnounceResponse::default()
    })
}

fn scraped(rest: &[u8]) -> Vec<ScrapeCounts> {
    let counts = rest.as_chunks::<4>().0.as_chunks::<3>().0.iter().take(MAX_SCRAPE);
    counts
        .map(|[complete, downloaded, incomplete]| ScrapeCounts {
            complete: u32::from_be_bytes(*complete),
            downloaded: u32::from_be_bytes(*downloaded),
            incomplete: u32::from_be_bytes(*incomplete),
        })
        .collect()
}

/// Splits a number off. `len` is that of the whole packet and `min` what its kind needs, for the error.
fn number<'a>(bytes: &'a [u8], kind: &'static str, len: usize, min: usize) -> Result<(u32, &'a [u8]), TrackerError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(TrackerError::Short { kind, len, min })?;
    Ok((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::PeerId;
    use proptest::prelude::*;

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            infohash: InfoHash::new([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 0x1234,
            uploaded: 3,
            downloaded: 4,
            left: 5,
            event: AnnounceEvent::Started,
            numwant: None,
            key: 6,
            tracker_id: None,
        }
    }

    #[test]
    fn the_packets_are_those_of_bep_15() {
        let connect = encode_connect(0x0102_0304);
        assert_eq!(connect, [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 1, 2, 3, 4]);
        let announce = encode_announce(7, 8, &request(), "");
        assert_eq!(announce.len(), 98);
        assert_eq!(announce[..16], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 8]);
        assert_eq!((announce[63], announce[71], announce[79], announce[83]), (4, 5, 3, 2));
        assert_eq!(announce[84..], [0, 0, 0, 0, 0, 0, 0, 6, 255, 255, 255, 255, 0x12, 0x34]);
        assert_eq!(encode_scrape(1, 2, &[InfoHash::new([9; 20]); 100]).len(), 16 + 74 * 20);
    }

    #[test]
    fn a_long_path_is_cut_into_options() {
        let packet = encode_announce(7, 8, &request(), &"p".repeat(300));
        assert_eq!((packet[98], packet[99], packet[98 + 2 + 255], packet[98 + 3 + 255]), (2, 255, 2, 45));
        assert_eq!(packet.len(), 98 + 2 + 255 + 2 + 45);
    }

    #[test]
    fn replies_are_read_in_the_family_that_was_asked() {
        let head = |action: u8| [0, 0, 0, action, 0, 0, 0, 9];
        let announce = [&head(1)[..], &[0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2], &[127, 0, 0, 1, 0, 80]].concat();
        let UdpResponse { transaction: 9, body: UdpBody::Announced(reply) } = parse(&announce, Family::V4).unwrap()
        else {
            panic!("an announce")
        };
        assert_eq!(reply.peers, ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(
            (reply.interval, reply.incomplete, reply.complete),
            (Some(Duration::from_secs(1800)), Some(1), Some(2))
        );
        let v6 = [&announce[..20], &[0; 15], &[1, 0, 80]].concat();
        let UdpBody::Announced(reply) = parse(&v6, Family::V6).unwrap().body else { panic!("an announce") };
        assert_eq!(reply.peers, ["[::1]:80".parse().unwrap()]);
        let connected = parse(&[&head(0)[..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat(), Family::V4).unwrap();
        assert_eq!(connected.body, UdpBody::Connected(0x0102_0304_0506_0708));
        let refused = parse(&[&head(3)[..], b"go away"].concat(), Family::V4).unwrap();
        assert_eq!(refused.body, UdpBody::Refused("go away".to_owned()));
        let scraped = parse(&[&head(2)[..], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0]].concat(), Family::V4).unwrap();
        assert_eq!(scraped.body, UdpBody::Scraped(vec![ScrapeCounts { complete: 1, downloaded: 2, incomplete: 3 }]));
    }

    #[test]
    fn short_and_unknown_packets_are_refused() {
        let short = parse(&[0, 0, 0, 0, 0, 0, 0, 9, 1], Family::V4).unwrap_err();
        assert_eq!(short.to_string(), "the tracker's connect packet has 9 bytes, fewer than 16");
        assert!(parse(&[0; 7], Family::V4).is_err());
        assert_eq!(parse(&[0, 0, 0, 9, 0, 0, 0, 0], Family::V4), Err(TrackerError::Action(9)));
    }

    #[test]
    fn waits_double_from_fifteen_seconds_until_it_is_time_to_give_up() {
        let waits: Vec<_> = (0..10).map(|attempt| wait_for_answer(attempt).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits[..3], [Some(15), Some(30), Some(60)]);
        assert_eq!(waits[8..], [Some(3840), None]);
    }

    #[test]
    fn a_connection_id_is_good_for_a_minute() {
        let now = crate::testing::start();
        let id = ConnectionId::new(7, now);
        assert_eq!(id.at(now + Duration::from_secs(59)), Some(7));
        assert_eq!(id.at(now + Duration::from_secs(60)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(packet in proptest::collection::vec(any::<u8>(), 0..200), action in 0..5u8) {
            let _ = parse(&packet, Family::V4);
            let _ = parse(&[&[0, 0, 0, action][..], &packet].concat(), Family::V6);
        }
    }
}
