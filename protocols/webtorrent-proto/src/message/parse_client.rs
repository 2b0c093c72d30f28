//! What a client says, as a tracker reads it.

use super::fields::{
    count, description, infohash, listed_infohash, number, object, offer_id, peer_id, required, tracker_id,
};
use super::json::Json;
use super::{Announce, AnnounceEvent, ClientAnswer, ClientMessage, ClientOffer};
use super::{MAX_OFFERS, MAX_SCRAPE_HASHES, MessageError, Problem};

impl ClientMessage {
    /// Reads a frame, text or binary.
    ///
    /// # Errors
    /// [`MessageError`], which names the field and quotes nothing.
    pub fn parse(frame: &[u8]) -> Result<Self, MessageError> {
        let json = object(frame)?;
        read(&json).map_err(|problem| MessageError { infohash: infohash(&json).ok(), problem })
    }
}

fn read(json: &Json<'_>) -> Result<ClientMessage, Problem> {
    let action = required(json, "action")?;
    match action.text() {
        // An answer is an announce too, to some clients; offers beside it would have come with an announce of its own.
        Some("announce") if json.get("answer").is_some() => answer(json).map(ClientMessage::Answer),
        Some("announce") => announce(json).map(ClientMessage::Announce),
        Some("scrape") => scrape(json).map(ClientMessage::Scrape),
        _ => Err(Problem::Unknown { place: "action".into(), known: "announce, scrape" }),
    }
}

fn announce(json: &Json<'_>) -> Result<Announce, Problem> {
    Ok(Announce {
        infohash: infohash(json)?,
        peer_id: peer_id(json, "peer_id")?,
        event: event(json)?,
        uploaded: number(json, "uploaded").unwrap_or(0),
        downloaded: number(json, "downloaded").unwrap_or(0),
        left: number(json, "left"),
        numwant: count(json, "numwant"),
        offers: offers(json)?,
        tracker_id: tracker_id(json, "trackerid"),
    })
}

fn event(json: &Json<'_>) -> Result<AnnounceEvent, Problem> {
    let unknown =
        Problem::Unknown { place: "event".into(), known: "started, completed, stopped, update, paused, empty" };
    let Some(event) = json.get("event") else { return Ok(AnnounceEvent::Interval) };
    match event.text() {
        Some("started") => Ok(AnnounceEvent::Started),
        Some("completed") => Ok(AnnounceEvent::Completed),
        Some("stopped") => Ok(AnnounceEvent::Stopped),
        // `paused` is a partial seed (BEP 21): it wants nothing more, which a tracker need not know.
        Some("update" | "empty" | "paused" | "") => Ok(AnnounceEvent::Interval),
        _ => Err(unknown),
    }
}

fn offers(json: &Json<'_>) -> Result<Vec<ClientOffer>, Problem> {
    let Some(list) = json.get("offers") else { return Ok(Vec::new()) };
    let Json::List { items, len } = list else {
        return Err(Problem::Kind { place: "offers".into(), expected: "a list" });
    };
    if *len > MAX_OFFERS {
        return Err(Problem::TooMany { place: "offers".into(), is: *len, max: MAX_OFFERS, unit: "items" });
    }
    let offer = |(index, item)| {
        let offer_id = offer_id(item, format_args!("offers[{index}]."))?;
        Ok(ClientOffer { offer_id, sdp: description(item, "offer", format_args!("offers[{index}]."))? })
    };
    items.iter().enumerate().map(offer).collect()
}

fn answer(json: &Json<'_>) -> Result<ClientAnswer, Problem> {
    Ok(ClientAnswer {
        infohash: infohash(json)?,
        peer_id: peer_id(json, "peer_id")?,
        to_peer_id: peer_id(json, "to_peer_id")?,
        offer_id: offer_id(json, format_args!(""))?,
        sdp: description(json, "answer", format_args!(""))?,
        tracker_id: tracker_id(json, "trackerid"),
    })
}

/// A scrape of everything, which is what no `info_hash` means to some trackers, is refused: it would list who has what.
fn scrape(json: &Json<'_>) -> Result<Vec<swarmgate_content::InfoHash>, Problem> {
    let Some(Json::List { items, len }) = json.get("info_hash") else {
        return infohash(json).map(|one| vec![one]);
    };
    if *len > MAX_SCRAPE_HASHES {
        return Err(Problem::TooMany { place: "info_hash".into(), is: *len, max: MAX_SCRAPE_HASHES, unit: "items" });
    }
    items.iter().enumerate().map(listed_infohash).collect()
}
