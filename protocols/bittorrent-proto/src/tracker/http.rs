//! Announcing over HTTP: a query string there (BEP 3), a bencoded dictionary back (BEP 3, 7, 23, 31).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use swarmgate_content::InfoHash;
use url::Url;

use super::udp::ScrapeCounts;
use super::{AnnounceEvent, AnnounceRequest, AnnounceResponse, MAX_PEERS, TrackerError, compact, tracker_text};
use crate::bencode::{DecodeOptions, Dict, List, Value, decode_prefix};

/// Longest reply read, in bytes: 2 MiB. [`MAX_PEERS`] in the long form have about 200 KiB.
pub const MAX_RESPONSE_BYTES: usize = 2 << 20;
/// Values in one reply: 4 for each of many peers in the long form.
const MAX_NODES: usize = 100_000;
/// Longest tracker id given back, in bytes.
const MAX_TRACKER_ID_BYTES: usize = 256;
/// Longest pause a tracker may ask for with `retry in` (BEP 31): a day. A longer one, or "never", is cut to it.
const MAX_RETRY: Duration = Duration::from_secs(24 * 3600);

/// RFC 3986 §2.3: what stays as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URL to get. The tracker's own query, often a passkey, stays in front.
///
/// # Errors
/// When `tracker` is not an HTTP URL.
pub fn announce_url(tracker: &str, request: &AnnounceRequest) -> Result<Url, TrackerError> {
    let parsed = Url::parse(tracker.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut url = parsed.ok_or_else(|| TrackerError::not_a_tracker(tracker))?;
    let query = match url.query() {
        Some(own) if !own.is_empty() => format!("{own}&{}", query(request)),
        _ => query(request),
    };
    url.set_query(Some(&query));
    url.set_fragment(None);
    Ok(url)
}

fn query(request: &AnnounceRequest) -> String {
    let mut query = format!(
        "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact=1&key={:08x}",
        percent_encode(request.infohash.as_bytes(), UNRESERVED),
        percent_encode(&request.peer_id.0, UNRESERVED),
        request.port,
        request.uploaded,
        request.downloaded,
        request.left,
        request.key,
    );
    let event = match request.event {
        AnnounceEvent::Interval => "",
        AnnounceEvent::Started => "&event=started",
        AnnounceEvent::Completed => "&event=completed",
        AnnounceEvent::Stopped => "&event=stopped",
    };
    query.push_str(event);
    if let Some(numwant) = request.numwant {
        write!(query, "&numwant={numwant}").expect("writing to a string never fails");
    }
    if let Some(id) = &request.tracker_id {
        write!(query, "&trackerid={}", percent_encode(id, UNRESERVED)).expect("writing to a string never fails");
    }
    query
}

/// The URL that tells a torrent's counters (BEP 48): that of the announce with `scrape` in its place. `None` when the
/// tracker's path does not end as the convention has it, and so has none.
///
/// # Errors
/// When `tracker` is not an HTTP URL.
pub fn scrape_url(tracker: &str, infohash: &InfoHash) -> Result<Option<Url>, TrackerError> {
    let parsed = Url::parse(tracker.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut url = parsed.ok_or_else(|| TrackerError::not_a_tracker(tracker))?;
    let Some((folder, last)) = url.path().rsplit_once('/') else { return Ok(None) };
    let Some(rest) = last.strip_prefix("announce") else { return Ok(None) };
    let path = format!("{folder}/scrape{rest}");
    url.set_path(&path);
    let wanted = format!("info_hash={}", percent_encode(infohash.as_bytes(), UNRESERVED));
    let query = url.query().filter(|own| !own.is_empty()).map(|own| format!("{own}&{wanted}"));
    url.set_query(Some(&query.unwrap_or(wanted)));
    url.set_fragment(None);
    Ok(Some(url))
}

/// Reads a torrent's counters from the reply to a scrape.
///
/// # Errors
/// When the tracker refuses, or the body tells nothing of that torrent.
pub fn parse_scrape(body: &[u8], infohash: &InfoHash) -> Result<ScrapeCounts, TrackerError> {
    let options = DecodeOptions::strict(MAX_RESPONSE_BYTES).in_any_key_order().with_max_nodes(MAX_NODES);
    let dict = decode_prefix(body, options)?.0.as_dict().ok_or(TrackerError::Lacks("dictionary"))?;
    if let Some(reason) = dict.bytes("failure reason") {
        return Err(TrackerError::Refused { reason: tracker_text(reason), retry_in: retry_in(dict) });
    }
    let files = dict.get("files").and_then(|files| files.as_dict()).ok_or(TrackerError::Lacks("`files`"))?;
    let file = files.get(infohash.as_bytes()).and_then(|file| file.as_dict());
    let file = file.ok_or(TrackerError::Lacks("counters of the torrent"))?;
    let counter = |key| count(file, key).unwrap_or_default();
    Ok(ScrapeCounts {
        complete: counter("complete"),
        downloaded: counter("downloaded"),
        incomplete: counter("incomplete"),
    })
}

/// Reads a reply's body. What follows the dictionary, as the line feed of some trackers, is ignored.
///
/// # Errors
/// When the tracker refuses, or the body is not a reply.
pub fn parse_response(body: &[u8]) -> Result<AnnounceResponse, TrackerError> {
    let options = DecodeOptions::strict(MAX_RESPONSE_BYTES).in_any_key_order().with_max_nodes(MAX_NODES);
    let dict = decode_prefix(body, options)?.0.as_dict().ok_or(TrackerError::Lacks("dictionary"))?;
    if let Some(reason) = dict.bytes("failure reason") {
        return Err(TrackerError::Refused { reason: tracker_text(reason), retry_in: retry_in(dict) });
    }
    let mut peers: Vec<SocketAddr> = match dict.get("peers") {
        Some(Value::Bytes(bytes)) => compact::parse_v4(bytes).collect(),
        Some(Value::List(list)) => long_form(list).take(MAX_PEERS).collect(),
        Some(Value::Int(_) | Value::Dict(_)) => return Err(TrackerError::Lacks("`peers`")),
        None => Vec::new(),
    };
    peers.extend(compact::parse_v6(dict.bytes("peers6").unwrap_or_default()));
    peers.retain(compact::dialable);
    peers.truncate(MAX_PEERS);
    Ok(AnnounceResponse {
        interval: seconds(dict, "interval"),
        min_interval: seconds(dict, "min interval"),
        complete: count(dict, "complete"),
        incomplete: count(dict, "incomplete"),
        peers,
        warning: dict.bytes("warning message").map(tracker_text),
        tracker_id: dict.bytes("tracker id").filter(|id| id.len() <= MAX_TRACKER_ID_BYTES).map(<[u8]>::to_vec),
    })
}

/// The long form (BEP 3): a dictionary a peer. Host names are left out: nothing here resolves names for strangers.
fn long_form(list: List<'_>) -> impl Iterator<Item = SocketAddr> {
    list.iter().filter_map(|peer| {
        let peer = peer.as_dict()?;
        let ip: IpAddr = peer.str("ip")?.parse().ok()?;
        Some(SocketAddr::new(ip, u16::try_from(peer.int("port")?).ok()?))
    })
}

fn seconds(dict: Dict<'_>, key: &str) -> Option<Duration> {
    dict.int(key).and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

fn count(dict: Dict<'_>, key: &str) -> Option<u32> {
    dict.int(key).and_then(|count| u32::try_from(count).ok())
}

/// BEP 31: minutes, or "never".
fn retry_in(dict: Dict<'_>) -> Option<Duration> {
    let minutes = match dict.get("retry in")? {
        Value::Int(minutes) => u64::try_from(minutes).ok()?,
        Value::Bytes(b"never") => u64::MAX,
        Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        Value::List(_) | Value::Dict(_) => return None,
    };
    Some(Duration::from_secs(minutes.saturating_mul(60)).min(MAX_RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::PeerId;
    use proptest::prelude::*;

    fn request() -> AnnounceRequest {
        let mut hash = [0xff; 20];
        hash[..4].copy_from_slice(b"aZ ~");
        AnnounceRequest {
            infohash: InfoHash::new(hash),
            peer_id: PeerId(*b"-SG0100-abcdefghijkl"),
            port: 8421,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: AnnounceEvent::Started,
            numwant: Some(80),
            key: 0xbeef,
            tracker_id: None,
        }
    }

    #[test]
    fn the_query_follows_the_trackers_own_and_binary_is_escaped() {
        let url = announce_url(" http://127.0.0.1:1/announce?passkey=x%2Fy#top", &request()).unwrap();
        let hash = format!("aZ%20~{}", "%FF".repeat(16));
        assert_eq!(
            url.as_str(),
            format!(
                "http://127.0.0.1:1/announce?passkey=x%2Fy&info_hash={hash}&peer_id=-SG0100-abcdefghijkl&port=8421\
                 &uploaded=1&downloaded=2&left=3&compact=1&key=0000beef&event=started&numwant=80"
            )
        );
    }

    #[test]
    fn an_interval_announce_has_no_event_and_a_tracker_id_is_given_back() {
        let request = AnnounceRequest {
            event: AnnounceEvent::Interval,
            numwant: None,
            tracker_id: Some(b"\x01x".to_vec()),
            ..request()
        };
        let url = announce_url("https://t.example/a", &request).unwrap();
        assert!(url.as_str().ends_with("&key=0000beef&trackerid=%01x"), "{url}");
        assert!(matches!(announce_url("udp://t.example:1", &request), Err(TrackerError::Url(_))));
        for (url, told) in [
            ("ftp://me:hunter2@t.example/hunter2?hunter2", "not the URL of an HTTP or UDP tracker: ftp://t.example"),
            ("https://me:hun/ter2@t.example", "not the URL of an HTTP or UDP tracker: no URL at all"),
        ] {
            assert_eq!(announce_url(url, &request).unwrap_err().to_string(), told, "a key stays untold");
        }
    }

    #[test]
    fn peers_come_compact_in_both_families() {
        let body = [&b"d8:completei5e10:incompletei6e8:intervali1800e12:min intervali60e5:peers12:\x7f\0\0\x01\0\x01\x7f\0\0\x02\0\x006:peers618:"[..], &[0; 15], b"\x01\0\x07e\n"].concat();
        let reply = parse_response(&body).unwrap();
        let peers: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:7".parse().unwrap()];
        assert_eq!(reply.peers, peers, "a port of 0 is left out");
        assert_eq!(
            (reply.interval, reply.min_interval),
            (Some(Duration::from_secs(1800)), Some(Duration::from_secs(60)))
        );
        assert_eq!((reply.complete, reply.incomplete), (Some(5), Some(6)));
    }

    #[test]
    fn peers_come_as_dictionaries_and_host_names_are_left_out() {
        let body = b"d5:peersld2:ip9:127.0.0.14:porti1eed2:ip3:::14:porti2eed2:ip9:localhost4:porti3eed2:ip9:127.0.0.14:porti99999eeee";
        let peers: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
        assert_eq!(parse_response(body).unwrap().peers, peers);
    }

    #[test]
    fn a_refusal_keeps_its_reason_and_when_to_retry() {
        let refused = |body: &[u8]| match parse_response(body) {
            Err(TrackerError::Refused { reason, retry_in }) => (reason, retry_in),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(b"d14:failure reason4:no\x1b!e"), ("no\u{fffd}!".to_owned(), None));
        assert_eq!(refused(b"d14:failure reason1:x8:retry in1:5e").1, Some(Duration::from_secs(300)));
        assert_eq!(refused(b"d14:failure reason1:x8:retry in5:nevere").1, Some(MAX_RETRY));
        assert_eq!(refused(b"d14:failure reason1:x8:retry ini9223372036854775807ee").1, Some(MAX_RETRY));
    }

    #[test]
    fn a_scrape_is_asked_for_beside_the_announce_where_the_convention_has_it() {
        let hash = InfoHash::new([0xff; 20]);
        let url = |text: &str| scrape_url(text, &hash).unwrap().map(|url| url.to_string());
        let query = format!("info_hash={}", "%FF".repeat(20));
        assert_eq!(url("http://t.example/x/announce?k=1"), Some(format!("http://t.example/x/scrape?k=1&{query}")));
        assert_eq!(url("http://t.example/announce.php"), Some(format!("http://t.example/scrape.php?{query}")));
        for without in ["http://t.example/a", "http://t.example/announce/x", "http://t.example/x%064announce"] {
            assert_eq!(url(without), None, "{without}");
        }
        assert!(scrape_url("udp://t.example:1/announce", &hash).is_err());
    }

    #[test]
    fn a_scrape_tells_of_the_torrent_that_was_asked_for() {
        let hash = InfoHash::new([0xfe; 20]);
        let raw = |of: u8| [&b"20:"[..], &[of; 20], b"d8:completei5e10:downloadedi50e10:incompletei10ee"].concat();
        let body = [&b"d5:filesd"[..], &raw(0xfd), &raw(0xfe), b"ee"].concat();
        assert_eq!(parse_scrape(&body, &hash), Ok(ScrapeCounts { complete: 5, downloaded: 50, incomplete: 10 }));
        assert!(parse_scrape(&body, &InfoHash::new([1; 20])).is_err());
        assert!(matches!(parse_scrape(b"d14:failure reason2:noe", &hash), Err(TrackerError::Refused { .. })));
    }

    #[test]
    fn a_web_page_is_not_a_reply() {
        assert!(matches!(parse_response(b"<html>"), Err(TrackerError::Bencode(_))));
        assert!(matches!(parse_response(&vec![b'x'; MAX_RESPONSE_BYTES + 1]), Err(TrackerError::Bencode(_))));
    }

    #[test]
    fn peers_past_the_limit_are_dropped() {
        let addresses = (1..=5000).map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut body = b"d5:peers30000:".to_vec();
        body.extend(compact::encode(addresses));
        body.push(b'e');
        assert_eq!(parse_response(&body).unwrap().peers.len(), MAX_PEERS);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_response(&body);
            let _ = parse_scrape(&body, &InfoHash::new([1; 20]));
            let _ = parse_response(&[b"d5:peers".as_slice(), &body, b"e"].concat());
        }
    }
}
