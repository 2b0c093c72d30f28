//! The tracker's side of an HTTP announce (BEP 3, 7, 23), for clients without WebRTC that find the same tracker: a query
//! in, a bencoded dictionary out. The client's side is in `swarmgate_bittorrent_proto::tracker::http`.

use std::net::SocketAddr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use swarmgate_bittorrent_proto::bencode::OwnedValue;
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_bittorrent_proto::tracker::compact;
use swarmgate_content::InfoHash;

use crate::message::{AnnounceEvent, SwarmSize};

/// Longest query read, in bytes. With all 40 bytes of both ids escaped, those in use have about 400.
pub const MAX_QUERY_BYTES: usize = 2048;

/// What a classic client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassicAnnounce {
    /// The torrent.
    pub infohash: InfoHash,
    /// The client.
    pub peer_id: PeerId,
    /// The port it listens on. Its address is the one that the request came from.
    pub port: u16,
    /// Why.
    pub event: AnnounceEvent,
    /// Bytes of the content it lacks; `None` when it does not say.
    pub left: Option<u64>,
    /// How many peers it would like.
    pub numwant: Option<u32>,
}

/// What a classic client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicReply {
    /// When to announce again.
    pub interval: Duration,
    /// How many are in the swarm, of both kinds.
    pub size: SwarmSize,
    /// Other classic members.
    pub peers: Vec<SocketAddr>,
}

/// A query is no announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is longer than any that is read.
    #[error("a query of {0} bytes, more than {MAX_QUERY_BYTES}")]
    TooLong(usize),
    /// A parameter is missing, or is not what it should be.
    #[error("`{0}` is missing or not valid")]
    Parameter(&'static str),
}

impl ClassicAnnounce {
    /// Reads the query of a request, what follows its `?`. Of a parameter that comes twice the first counts.
    ///
    /// # Errors
    /// [`QueryError`], which names the parameter.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(QueryError::TooLong(query.len()));
        }
        let port = number(query, "port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        Ok(Self {
            infohash: InfoHash::new(twenty_bytes(query, "info_hash")?),
            peer_id: PeerId(twenty_bytes(query, "peer_id")?),
            port: port.ok_or(QueryError::Parameter("port"))?,
            event: event(query)?,
            left: number(query, "left"),
            numwant: number(query, "numwant").map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        })
    }
}

/// A `+` is itself here: these are bytes of a URL (RFC 3986), not fields of a form.
fn parameter<'a>(query: &'a str, name: &str) -> Option<percent_encoding::PercentDecode<'a>> {
    let value = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
    value.map(|(_, value)| percent_decode_str(value))
}

fn twenty_bytes(query: &str, name: &'static str) -> Result<[u8; 20], QueryError> {
    let bytes: Option<Vec<u8>> = parameter(query, name).map(Iterator::collect);
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(QueryError::Parameter(name))
}

fn number(query: &str, name: &str) -> Option<u64> {
    parameter(query, name)?.decode_utf8().ok()?.parse().ok()
}

fn event(query: &str) -> Result<AnnounceEvent, QueryError> {
    let event = parameter(query, "event").map(|event| event.decode_utf8_lossy());
    match event.as_deref() {
        None | Some("" | "empty" | "update" | "paused") => Ok(AnnounceEvent::Interval),
        Some("started") => Ok(AnnounceEvent::Started),
        Some("completed") => Ok(AnnounceEvent::Completed),
        Some("stopped") => Ok(AnnounceEvent::Stopped),
        Some(_) => Err(QueryError::Parameter("event")),
    }
}

impl ClassicReply {
    /// The body of the response. Peers are compact, whatever was asked for: BEP 23 lets a tracker choose.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) = self.peers.iter().partition(|peer| peer.is_ipv4());
        let number = |number: u64| OwnedValue::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let mut entries = vec![
            ("complete", number(self.size.complete.into())),
            ("downloaded", number(self.size.downloaded.into())),
            ("incomplete", number(self.size.incomplete.into())),
            ("interval", number(self.interval.as_secs())),
            ("peers", OwnedValue::Bytes(compact::encode(v4))),
        ];
        if !v6.is_empty() {
            entries.push(("peers6", OwnedValue::Bytes(compact::encode(v6))));
        }
        OwnedValue::dict(entries).encode()
    }
}

/// The body that says why a request was refused; by custom its status is 200.
#[must_use]
pub fn failure(reason: &str) -> Vec<u8> {
    OwnedValue::dict([("failure reason", OwnedValue::from(reason))]).encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hash;
    use proptest::prelude::*;
    use swarmgate_bittorrent_proto::tracker::AnnounceRequest;
    use swarmgate_bittorrent_proto::tracker::http::{announce_url, parse_response};

    fn request(infohash: [u8; 20], peer_id: [u8; 20], event: AnnounceEvent) -> AnnounceRequest {
        AnnounceRequest {
            infohash: InfoHash::new(infohash),
            peer_id: PeerId(peer_id),
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: 5,
            event,
            numwant: Some(80),
            key: 1,
            tracker_id: None,
        }
    }

    proptest! {
        /// What our own client asks, our tracker reads.
        #[test]
        fn the_clients_query_is_read(infohash: [u8; 20], peer_id: [u8; 20], event in 0..4usize) {
            let events =
                [AnnounceEvent::Interval, AnnounceEvent::Started, AnnounceEvent::Completed, AnnounceEvent::Stopped];
            let url = announce_url("http://t/announce", &request(infohash, peer_id, events[event])).unwrap();
            let expected = ClassicAnnounce {
                infohash: InfoHash::new(infohash),
                peer_id: PeerId(peer_id),
                port: 6881,
                event: events[event],
                left: Some(5),
                numwant: Some(80),
            };
            prop_assert_eq!(ClassicAnnounce::parse(url.query().unwrap()), Ok(expected));
        }

        #[test]
        fn any_query_is_read_or_refused(query in "[a-z_=&%0-9+]{0,100}") {
            let _ = ClassicAnnounce::parse(&query);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let id = |name: &str| format!("{name}={}", "%01".repeat(20));
        let (hash, peer) = (id("info_hash"), id("peer_id"));
        for (query, wrong) in [
            (String::new(), "info_hash"),
            (format!("{}0", id("info_hash")), "info_hash"),
            (hash.clone(), "peer_id"),
            (format!("{hash}&{peer}"), "port"),
            (format!("{hash}&{peer}&port=0"), "port"),
            (format!("{hash}&{peer}&port=65536"), "port"),
            (format!("{hash}&{peer}&port=1&event=stop"), "event"),
        ] {
            let error = ClassicAnnounce::parse(&query).unwrap_err();
            assert_eq!(error, QueryError::Parameter(wrong), "{query}");
        }
        assert_eq!(ClassicAnnounce::parse(&"x".repeat(3000)), Err(QueryError::TooLong(3000)));
    }

    #[test]
    fn libtorrents_query_is_read() {
        let query = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-LT2110-bbbbbbbbbbbb&port=6881&uploaded=0&downloaded=0&left=0\
                     &corrupt=0&key=00C0FFEE&event=started&numwant=200&compact=1&no_peer_id=1&supportcrypto=1&redundant=0";
        let read = ClassicAnnounce::parse(query).unwrap();
        assert_eq!((read.infohash, read.left, read.numwant), (hash(b'a'), Some(0), Some(200)));
        assert_eq!(ClassicAnnounce::parse(&query.replace("bbbbbbbbbbbb", "b+b+b+b+b+b+")).unwrap().peer_id.0[9], b'+');
    }

    #[test]
    fn the_reply_is_what_clients_read() {
        let peers: Vec<SocketAddr> = vec!["198.51.100.1:7".parse().unwrap(), "[2001:db8::1]:8".parse().unwrap()];
        let size = SwarmSize { complete: 1, incomplete: 2, downloaded: 3 };
        let reply = ClassicReply { interval: Duration::from_secs(120), size, peers: peers.clone() };
        let read = parse_response(&reply.encode()).unwrap();
        assert_eq!(read.peers, peers);
        assert_eq!((read.interval, read.complete, read.incomplete), (Some(reply.interval), Some(1), Some(2)));
        assert!(parse_response(&failure("no")).unwrap_err().to_string().ends_with("no"));
    }
}
