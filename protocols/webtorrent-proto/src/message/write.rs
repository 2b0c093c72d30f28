//! Messages as text, in the form that every implementation in use reads.

use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;

use super::{Announce, AnnounceEvent, Announced, ClientAnswer, ClientMessage, ClientOffer};
use super::{Relayed, Sdp, ServerMessage, SwarmSize};

impl ClientMessage {
    /// The text of one frame.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }
}

impl ServerMessage {
    /// The text of one frame.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }
}

fn encode(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("maps with text for keys can be written, and writing to a string never fails")
}

/// 20 bytes as 20 characters.
struct Latin1<'a>(&'a [u8; 20]);

impl Serialize for Latin1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut utf8 = [0; 40];
        let mut len = 0;
        for &byte in self.0 {
            len += char::from(byte).encode_utf8(&mut utf8[len..]).len();
        }
        serializer.serialize_str(std::str::from_utf8(&utf8[..len]).map_err(S::Error::custom)?)
    }
}

const fn hash(infohash: &InfoHash) -> Latin1<'_> {
    Latin1(infohash.as_bytes())
}

const fn id(peer_id: &PeerId) -> Latin1<'_> {
    Latin1(&peer_id.0)
}

/// `{"type": …, "sdp": …}`.
struct Description<'a>(&'static str, &'a Sdp);

impl Serialize for Description<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", self.0)?;
        map.serialize_entry("sdp", self.1.as_str())?;
        map.end()
    }
}

impl Serialize for ClientOffer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("offer", &Description("offer", &self.sdp))?;
        map.serialize_entry("offer_id", self.offer_id.as_str())?;
        map.end()
    }
}

impl Serialize for ClientMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Announce(announce) => announce.serialize(serializer),
            Self::Answer(answer) => answer.serialize(serializer),
            Self::Scrape(hashes) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("action", "scrape")?;
                map.serialize_entry("info_hash", &hashes.iter().map(hash).collect::<Vec<_>>())?;
                map.end()
            }
        }
    }
}

impl Serialize for Announce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("action", "announce")?;
        map.serialize_entry("info_hash", &hash(&self.infohash))?;
        map.serialize_entry("peer_id", &id(&self.peer_id))?;
        map.serialize_entry("uploaded", &self.uploaded)?;
        map.serialize_entry("downloaded", &self.downloaded)?;
        // Left out when it is not known: null counts as 0, a seed, with npm's tracker.
        if let Some(left) = self.left {
            map.serialize_entry("left", &left)?;
        }
        match self.event {
            AnnounceEvent::Interval => {}
            AnnounceEvent::Started => map.serialize_entry("event", "started")?,
            AnnounceEvent::Completed => map.serialize_entry("event", "completed")?,
            AnnounceEvent::Stopped => map.serialize_entry("event", "stopped")?,
        }
        if let Some(numwant) = self.numwant {
            map.serialize_entry("numwant", &numwant)?;
        }
        if !self.offers.is_empty() {
            map.serialize_entry("offers", &self.offers)?;
        }
        if let Some(tracker_id) = &self.tracker_id {
            map.serialize_entry("trackerid", tracker_id)?;
        }
        map.end()
    }
}

impl Serialize for ClientAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("action", "announce")?;
        map.serialize_entry("info_hash", &hash(&self.infohash))?;
        map.serialize_entry("peer_id", &id(&self.peer_id))?;
        map.serialize_entry("to_peer_id", &id(&self.to_peer_id))?;
        map.serialize_entry("answer", &Description("answer", &self.sdp))?;
        map.serialize_entry("offer_id", self.offer_id.as_str())?;
        if let Some(tracker_id) = &self.tracker_id {
            map.serialize_entry("trackerid", tracker_id)?;
        }
        map.end()
    }
}

impl Serialize for ServerMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Announced(announced) => announced.serialize(serializer),
            Self::Offer(offer) => relayed(serializer, offer, "offer"),
            Self::Answer(answer) => relayed(serializer, answer, "answer"),
            Self::Scraped(files) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("action", "scrape")?;
                map.serialize_entry("files", &Files(files))?;
                map.end()
            }
            Self::Failure { reason, infohash } => text(serializer, infohash.as_ref(), "failure reason", reason),
            Self::Warning { message, infohash } => text(serializer, Some(infohash), "warning message", message),
        }
    }
}

impl Serialize for Announced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("action", "announce")?;
        map.serialize_entry("info_hash", &hash(&self.infohash))?;
        if let Some(interval) = self.interval {
            map.serialize_entry("interval", &interval.as_secs())?;
        }
        if let Some(min_interval) = self.min_interval {
            map.serialize_entry("min interval", &min_interval.as_secs())?;
        }
        if let Some(complete) = self.complete {
            map.serialize_entry("complete", &complete)?;
        }
        if let Some(incomplete) = self.incomplete {
            map.serialize_entry("incomplete", &incomplete)?;
        }
        if let Some(warning) = &self.warning {
            map.serialize_entry("warning message", warning)?;
        }
        if let Some(tracker_id) = &self.tracker_id {
            map.serialize_entry("tracker id", tracker_id)?;
        }
        map.end()
    }
}

fn relayed<S: Serializer>(serializer: S, relayed: &Relayed, kind: &'static str) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(5))?;
    map.serialize_entry("action", "announce")?;
    map.serialize_entry("info_hash", &hash(&relayed.infohash))?;
    map.serialize_entry("peer_id", &id(&relayed.peer_id))?;
    map.serialize_entry("offer_id", relayed.offer_id.as_str())?;
    map.serialize_entry(kind, &Description(kind, &relayed.sdp))?;
    map.end()
}

/// Without an action webtorrent drops the whole socket, and without `info_hash` it throws; an empty one it passes over.
fn text<S: Serializer>(
    serializer: S,
    infohash: Option<&InfoHash>,
    key: &'static str,
    text: &str,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(3))?;
    map.serialize_entry("action", "announce")?;
    match infohash {
        Some(infohash) => map.serialize_entry("info_hash", &hash(infohash))?,
        None => map.serialize_entry("info_hash", "")?,
    }
    map.serialize_entry(key, text)?;
    map.end()
}

/// Sizes of swarms by infohash.
struct Files<'a>(&'a [(InfoHash, SwarmSize)]);

impl Serialize for Files<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(infohash, size)| (hash(infohash), Size(size))))
    }
}

struct Size<'a>(&'a SwarmSize);

impl Serialize for Size<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("complete", &self.0.complete)?;
        map.serialize_entry("incomplete", &self.0.incomplete)?;
        map.serialize_entry("downloaded", &self.0.downloaded)?;
        map.end()
    }
}
