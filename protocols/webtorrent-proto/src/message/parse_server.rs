//! What a tracker says, as a client reads it.

use swarmgate_content::InfoHash;

use super::fields::{
    count, description, infohash, object, offer_id, peer_id, required, seconds, tracker_id, tracker_text, twenty_bytes,
};
use super::json::Json;
use super::{Announced, MAX_SCRAPE_HASHES, MessageError, Problem, Relayed, ServerMessage, SwarmSize};

/// The fields that make a message the reply to an announce.
const REPLY: [&str; 5] = ["interval", "min interval", "complete", "incomplete", "tracker id"];

impl ServerMessage {
    /// Reads a frame, text or binary.
    ///
    /// # Errors
    /// [`MessageError`], which names the field and quotes nothing.
    pub fn parse(frame: &[u8]) -> Result<Self, MessageError> {
        let json = object(frame)?;
        read(&json).map_err(|problem| MessageError { infohash: infohash(&json).ok(), problem })
    }
}

fn read(json: &Json<'_>) -> Result<ServerMessage, Problem> {
    if let Some(reason) = tracker_text(json, "failure reason") {
        return Ok(ServerMessage::Failure { reason, infohash: infohash(json).ok() });
    }
    let action = required(json, "action")?;
    match action.text() {
        Some("announce") => announce(json),
        Some("scrape") => scraped(json).map(ServerMessage::Scraped),
        _ => Err(Problem::Unknown { place: "action".into(), known: "announce, scrape" }),
    }
}

fn announce(json: &Json<'_>) -> Result<ServerMessage, Problem> {
    if json.get("offer").is_some() {
        return relayed(json, "offer").map(ServerMessage::Offer);
    }
    if json.get("answer").is_some() {
        return relayed(json, "answer").map(ServerMessage::Answer);
    }
    let infohash = infohash(json)?;
    let is_reply = REPLY.iter().any(|key| json.get(key).is_some());
    match tracker_text(json, "warning message") {
        Some(message) if !is_reply => Ok(ServerMessage::Warning { message, infohash }),
        warning => Ok(ServerMessage::Announced(announced(json, infohash, warning))),
    }
}

fn relayed(json: &Json<'_>, kind: &'static str) -> Result<Relayed, Problem> {
    Ok(Relayed {
        infohash: infohash(json)?,
        peer_id: peer_id(json, "peer_id")?,
        offer_id: offer_id(json, format_args!(""))?,
        sdp: description(json, kind, format_args!(""))?,
    })
}

fn announced(json: &Json<'_>, infohash: InfoHash, warning: Option<String>) -> Announced {
    Announced {
        infohash,
        interval: seconds(json, "interval"),
        min_interval: seconds(json, "min interval"),
        complete: count(json, "complete"),
        incomplete: count(json, "incomplete"),
        warning,
        tracker_id: tracker_id(json, "tracker id"),
    }
}

fn scraped(json: &Json<'_>) -> Result<Vec<(InfoHash, SwarmSize)>, Problem> {
    let files = required(json, "files")?;
    let Json::Object { entries, len } = files else {
        return Err(Problem::Kind { place: "files".into(), expected: "an object" });
    };
    if *len > MAX_SCRAPE_HASHES {
        return Err(Problem::TooMany { place: "files".into(), is: *len, max: MAX_SCRAPE_HASHES, unit: "entries" });
    }
    let size = |file: &Json<'_>| SwarmSize {
        complete: count(file, "complete").unwrap_or(0),
        incomplete: count(file, "incomplete").unwrap_or(0),
        downloaded: count(file, "downloaded").unwrap_or(0),
    };
    let file = |(key, file): &(std::borrow::Cow<'_, str>, Json<'_>)| {
        let hash = twenty_bytes(key).map(InfoHash::new);
        let wrong = || Problem::Kind { place: "files".into(), expected: "an object of infohashes" };
        hash.map(|hash| (hash, size(file))).ok_or_else(wrong)
    };
    entries.iter().map(file).collect()
}
