//! Fields of a message, read with their names for the errors.

use std::fmt::Arguments;
use std::time::Duration;

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_bittorrent_proto::metainfo::display_text;
use swarmgate_content::InfoHash;

use super::error::Place;
use super::json::Json;
use super::{MAX_MESSAGE_BYTES, MAX_OFFER_ID_BYTES, MAX_SDP_BYTES, MAX_TEXT_CHARS, MAX_TRACKER_ID_BYTES};
use super::{OfferId, Problem, Sdp};

/// What 20 bytes look like.
const TWENTY: &str = "20 characters up to U+00FF";

/// Reads a frame as one object.
pub(super) fn object(frame: &[u8]) -> Result<Json<'_>, Problem> {
    if frame.len() > MAX_MESSAGE_BYTES {
        return Err(Problem::TooLong(frame.len()));
    }
    let json = Json::read(frame)?;
    if matches!(json, Json::Object { .. }) { Ok(json) } else { Err(Problem::NotJson { line: 1, column: 1 }) }
}

/// Reads one byte for each character, 20 of them.
pub(super) fn twenty_bytes(text: &str) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    let mut chars = text.chars();
    for byte in &mut bytes {
        *byte = u8::try_from(chars.next()?).ok()?;
    }
    chars.next().is_none().then_some(bytes)
}

fn twenty(value: &Json<'_>, place: impl Into<Place>) -> Result<[u8; 20], Problem> {
    let bytes = value.text().and_then(twenty_bytes);
    bytes.ok_or_else(|| Problem::Kind { place: place.into(), expected: TWENTY })
}

/// A field that must be there.
pub(super) fn required<'j, 'a>(message: &'j Json<'a>, key: &'static str) -> Result<&'j Json<'a>, Problem> {
    message.get(key).ok_or_else(|| Problem::Missing(key.into()))
}

/// The torrent of a message that has one; as a list of one it is as good.
pub(super) fn infohash(message: &Json<'_>) -> Result<InfoHash, Problem> {
    let value = required(message, "info_hash")?;
    let only = if let Json::List { items, len: 1 } = value { items.first() } else { None };
    twenty(only.unwrap_or(value), "info_hash").map(InfoHash::new)
}

/// One item of the list of torrents in a scrape.
pub(super) fn listed_infohash((index, value): (usize, &Json<'_>)) -> Result<InfoHash, Problem> {
    let bytes = value.text().and_then(twenty_bytes);
    let wrong = || Problem::Kind { place: format!("info_hash[{index}]").into(), expected: TWENTY };
    bytes.map(InfoHash::new).ok_or_else(wrong)
}

pub(super) fn peer_id(message: &Json<'_>, key: &'static str) -> Result<PeerId, Problem> {
    twenty(required(message, key)?, key).map(PeerId)
}

/// `offer_id` of a message or of an item, whose place is `within`.
pub(super) fn offer_id(object: &Json<'_>, within: Arguments<'_>) -> Result<OfferId, Problem> {
    let place = || Place::from(format!("{within}offer_id"));
    let value = object.get("offer_id").ok_or_else(|| Problem::Missing(place()))?;
    let text = value.text().ok_or_else(|| Problem::Kind { place: place(), expected: "text" })?;
    let too_long = |is| Problem::TooMany { place: place(), is, max: MAX_OFFER_ID_BYTES, unit: "bytes" };
    OfferId::new(text).map_err(|error| too_long(error.0))
}

/// The text of a session description, `{"type": kind, "sdp": …}`, at `key` of an object whose place is `within`.
pub(super) fn description(object: &Json<'_>, kind: &'static str, within: Arguments<'_>) -> Result<Sdp, Problem> {
    let place = |inner: &str| Place::from(format!("{within}{kind}{inner}"));
    let description = object.get(kind).ok_or_else(|| Problem::Missing(place("")))?;
    let Json::Object { .. } = description else {
        return Err(Problem::Kind { place: place(""), expected: "an object" });
    };
    if description.get("type").is_some_and(|it| it.text() != Some(kind)) {
        return Err(Problem::Kind { place: place(".type"), expected: kind });
    }
    let sdp = description.get("sdp").ok_or_else(|| Problem::Missing(place(".sdp")))?;
    let sdp = sdp.text().ok_or_else(|| Problem::Kind { place: place(".sdp"), expected: "text" })?;
    let too_long = |is| Problem::TooMany { place: place(".sdp"), is, max: MAX_SDP_BYTES, unit: "bytes" };
    if sdp.len() > MAX_SDP_BYTES {
        Err(too_long(sdp.len()))
    } else {
        Sdp::new(sdp.to_owned()).map_err(|e| too_long(e.0))
    }
}

/// A number that may be missing; one that cannot be read is as good as missing.
pub(super) fn number(message: &Json<'_>, key: &str) -> Option<u64> {
    message.get(key).and_then(Json::number)
}

/// A count that may be missing; a larger one is cut to 32 bits.
pub(super) fn count(message: &Json<'_>, key: &str) -> Option<u32> {
    number(message, key).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// Seconds that may be missing; more are cut to 32 bits, 136 years, so that no sum of times overflows.
pub(super) fn seconds(message: &Json<'_>, key: &str) -> Option<Duration> {
    count(message, key).map(|seconds| Duration::from_secs(seconds.into()))
}

/// What a tracker wants to be given back.
pub(super) fn tracker_id(message: &Json<'_>, key: &str) -> Option<String> {
    let id = message.get(key).and_then(Json::text);
    id.filter(|id| id.len() <= MAX_TRACKER_ID_BYTES).map(str::to_owned)
}

/// A tracker's text, safe to log.
pub(super) fn tracker_text(message: &Json<'_>, key: &str) -> Option<String> {
    message.get(key).map(|text| display_text(text.text().unwrap_or("(no text)"), MAX_TEXT_CHARS))
}
