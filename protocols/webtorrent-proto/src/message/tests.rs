use super::*;
use crate::testing::{hash, offer_id, peer, sdp};
use proptest::prelude::*;

/// The torrent of the recorded messages: Sintel, which everybody's examples use.
const SINTEL: &str = "08ada5a7a6183aae1e09d831df6748d566095a10";

/// Messages as npm's bittorrent-tracker 11 (webtorrent 3) and libtorrent 2.1.1 send them, recorded from their sockets; of
/// libtorrent's ten offers two are kept.
macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("vectors/", $name, ".json"))
    };
}

fn client(frame: &[u8]) -> ClientMessage {
    ClientMessage::parse(frame).unwrap()
}

fn server(frame: &[u8]) -> ServerMessage {
    ServerMessage::parse(frame).unwrap()
}

fn announce(frame: &[u8]) -> Announce {
    let ClientMessage::Announce(announce) = client(frame) else { panic!("no announce") };
    announce
}

#[test]
fn a_browsers_announce_is_read() {
    let announce = announce(recorded!("webtorrent_announce"));
    assert_eq!(announce.infohash.to_string(), SINTEL);
    assert_eq!(announce.peer_id, PeerId(*b"-WW0300-abcdefghijkl"));
    assert_eq!((announce.event, announce.numwant), (AnnounceEvent::Started, Some(2)));
    assert_eq!(announce.left, None, "null: its magnet has no metadata yet");
    assert_eq!(announce.offers.len(), 2);
    assert!(announce.offers.iter().all(|offer| offer.sdp.as_str().starts_with("v=0\r\n")));
    assert_eq!(announce.offers[0].offer_id.as_str().chars().count(), 20);
}

#[test]
fn libtorrents_announce_and_answer_are_read() {
    let announce = announce(recorded!("libtorrent_announce"));
    assert_eq!(announce.infohash.to_string(), SINTEL);
    assert_eq!((announce.left, announce.numwant, announce.offers.len()), (Some(16384), Some(10), 2));
    let ClientMessage::Answer(answer) = client(recorded!("libtorrent_answer")) else { panic!() };
    assert_eq!(answer.infohash.to_string(), SINTEL);
    assert_eq!(answer.to_peer_id, PeerId(*b"-WW0300-abcdefghijkl"));
    assert!(answer.sdp.as_str().contains("a=setup:active"));
}

#[test]
fn a_browsers_other_messages_are_read() {
    assert_eq!(announce(recorded!("webtorrent_completed")).event, AnnounceEvent::Completed);
    assert_eq!(announce(recorded!("webtorrent_stopped")).event, AnnounceEvent::Stopped);
    let scrape = client(recorded!("webtorrent_scrape"));
    assert_eq!(scrape, ClientMessage::Scrape(vec![SINTEL.parse().unwrap()]));
}

#[test]
fn a_trackers_messages_are_read() {
    let ServerMessage::Announced(announced) = server(recorded!("tracker_announced")) else { panic!() };
    assert_eq!(announced.infohash.to_string(), SINTEL);
    assert_eq!(announced.interval, Some(Duration::from_secs(120)));
    assert_eq!((announced.complete, announced.incomplete), (Some(1), Some(1)));
    let ServerMessage::Offer(offer) = server(recorded!("tracker_offer")) else { panic!() };
    assert_eq!(offer.peer_id, PeerId(*b"-WW0300-abcdefghijkl"));
    let ServerMessage::Answer(answer) = server(recorded!("tracker_answer")) else { panic!() };
    assert_eq!(answer.offer_id, offer.offer_id);
    let sizes = vec![(SINTEL.parse().unwrap(), SwarmSize { complete: 1, incomplete: 1, downloaded: 1 })];
    assert_eq!(server(recorded!("tracker_scraped")), ServerMessage::Scraped(sizes));
}

#[test]
fn a_trackers_refusals_are_read_with_and_without_their_torrent() {
    let nameless = ServerMessage::Failure { reason: "invalid info_hash".into(), infohash: None };
    assert_eq!(server(recorded!("tracker_failure")), nameless);
    let named = ServerMessage::Failure { reason: "invalid event".into(), infohash: Some(hash(b'a')) };
    assert_eq!(server(recorded!("tracker_failure_announce")), named);
}

#[test]
fn an_offer_id_comes_back_as_it_was_and_latin1_is_one_byte_a_character() {
    let ServerMessage::Offer(offer) = server(recorded!("tracker_offer")) else { panic!() };
    let first = &announce(recorded!("webtorrent_announce")).offers[0];
    assert_eq!(offer.offer_id, first.offer_id);
    let id = OfferId::from_bytes([0, 1, 9, 31, 34, 92, 127, 128, 160, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let relayed = Relayed { infohash: hash(0xff), peer_id: peer(0), offer_id: id, sdp: sdp("v=0") };
    let text = ServerMessage::Offer(relayed.clone()).encode();
    assert!(text.contains(&format!(r#""info_hash":"{}""#, "ÿ".repeat(20))), "{text}");
    assert!(text.contains(&format!(r#""peer_id":"{}""#, "\\u0000".repeat(20))), "{text}");
    assert_eq!(server(text.as_bytes()), ServerMessage::Offer(relayed));
}

#[test]
fn offer_ids_of_other_lengths_are_kept() {
    for id in ["", "x", "7f3a", "\u{20ac}uro", &"é".repeat(MAX_OFFER_ID_BYTES / 2)] {
        let relayed =
            Relayed { infohash: hash(1), peer_id: peer(1), offer_id: OfferId::new(id).unwrap(), sdp: sdp("v=0") };
        assert_eq!(server(ServerMessage::Answer(relayed.clone()).encode().as_bytes()), ServerMessage::Answer(relayed));
    }
    assert_eq!(OfferId::new(&"x".repeat(129)), Err(IdTooLong(129)));
}

#[test]
fn loose_numbers_and_missing_fields_are_tolerated() {
    let frame = br#"{"info_hash":["aaaaaaaaaaaaaaaaaaaa"],"peer_id":"bbbbbbbbbbbbbbbbbbbb","action":"announce",
        "left":"12","uploaded":3.0,"downloaded":-1,"numwant":{},"event":"paused","offers":null,"answer":null,"x":[[{}]]}"#;
    let read = announce(frame);
    assert_eq!((read.left, read.uploaded, read.downloaded, read.numwant), (Some(12), 3, 0, None));
    assert_eq!((read.event, read.offers.len()), (AnnounceEvent::Interval, 0));
    let least =
        announce(br#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"bbbbbbbbbbbbbbbbbbbb"}"#);
    assert_eq!((least.left, least.uploaded, least.event), (None, 0, AnnounceEvent::Interval));
}

#[test]
fn a_scrape_asks_for_one_or_several_but_never_for_all() {
    let one = ClientMessage::Scrape(vec![hash(b'a')]);
    assert_eq!(client(br#"{"action":"scrape","info_hash":"aaaaaaaaaaaaaaaaaaaa"}"#), one);
    assert_eq!(client(br#"{"action":"scrape","info_hash":["aaaaaaaaaaaaaaaaaaaa"]}"#), one);
    let two = client(br#"{"action":"scrape","info_hash":["aaaaaaaaaaaaaaaaaaaa","bbbbbbbbbbbbbbbbbbbb"]}"#);
    assert_eq!(two, ClientMessage::Scrape(vec![hash(b'a'), hash(b'b')]));
    assert_eq!(problem(br#"{"action":"scrape"}"#), "`info_hash` is missing");
}

fn problem(frame: &[u8]) -> String {
    ClientMessage::parse(frame).unwrap_err().to_string()
}

#[test]
fn errors_say_what_and_where_and_quote_nothing() {
    let announce = |rest: &str| {
        format!(r#"{{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"bbbbbbbbbbbbbbbbbbbb"{rest}}}"#)
    };
    let good = r#"{"offer_id":"i","offer":{"sdp":"v=0"}}"#;
    let list = |bad: &str| announce(&format!(r#","offers":[{good},{bad}]"#));
    let twenty = "20 characters up to U+00FF";
    let cases: [(String, String); 16] = [
        ("[]".into(), "not a JSON object: line 1, column 1".into()),
        ("{".into(), "not a JSON object: line 1, column 1".into()),
        ("{}}".into(), "not a JSON object: line 1, column 3".into()),
        ("{}".into(), "`action` is missing".into()),
        (r#"{"action":"v=0"}"#.into(), "`action` is none of announce, scrape".into()),
        (r#"{"action":"announce"}"#.into(), "`info_hash` is missing".into()),
        (r#"{"action":"announce","info_hash":"short"}"#.into(), format!("`info_hash` is not {twenty}")),
        (r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaa€"}"#.into(), format!("`info_hash` is not {twenty}")),
        (announce(r#","event":7"#), "`event` is none of started, completed, stopped, update, paused, empty".into()),
        (announce(r#","offers":{}"#), "`offers` is not a list".into()),
        (list("{}"), "`offers[1].offer_id` is missing".into()),
        (list(r#"{"offer_id":"x"}"#), "`offers[1].offer` is missing".into()),
        (list(r#"{"offer_id":"x","offer":"v=0"}"#), "`offers[1].offer` is not an object".into()),
        (list(r#"{"offer_id":"x","offer":{"sdp":5}}"#), "`offers[1].offer.sdp` is not text".into()),
        (announce(r#","answer":{"sdp":"v=0"},"offer_id":"x""#), "`to_peer_id` is missing".into()),
        (
            announce(r#","answer":{"type":"offer","sdp":""},"offer_id":"x","to_peer_id":"cccccccccccccccccccc""#),
            "`answer.type` is not answer".into(),
        ),
    ];
    for (frame, expected) in cases {
        assert_eq!(problem(frame.as_bytes()), expected, "{frame}");
    }
}

#[test]
fn bounds_hold_and_are_named() {
    let offers = |count: usize, sdp: &str| {
        let offer = format!(r#"{{"offer_id":"x","offer":{{"type":"offer","sdp":"{sdp}"}}}}"#);
        let offers = vec![offer; count].join(",");
        format!(
            r#"{{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"bbbbbbbbbbbbbbbbbbbb","offers":[{offers}]}}"#
        )
    };
    assert_eq!(announce(offers(MAX_OFFERS, "v=0").as_bytes()).offers.len(), MAX_OFFERS);
    assert_eq!(problem(offers(11, "v=0").as_bytes()), "`offers` has 11 items, more than 10");
    assert_eq!(problem(offers(700, "v=0").as_bytes()), "`offers` has 700 items, more than 10");
    assert_eq!(announce(offers(1, &"s".repeat(MAX_SDP_BYTES)).as_bytes()).offers[0].sdp.as_str().len(), 8192);
    let too_long = problem(offers(1, &"s".repeat(MAX_SDP_BYTES + 1)).as_bytes());
    assert_eq!(too_long, "`offers[0].offer.sdp` has 8193 bytes, more than 8192");
    let scrape = |count| ClientMessage::Scrape(vec![hash(b'a'); count]).encode();
    assert_eq!(client(scrape(MAX_SCRAPE_HASHES).as_bytes()), ClientMessage::Scrape(vec![hash(b'a'); 128]));
    assert_eq!(problem(scrape(129).as_bytes()), "`info_hash` has 129 items, more than 128");
    assert_eq!(problem(&vec![b' '; MAX_MESSAGE_BYTES + 1]), "a message of 65537 bytes, more than 65536");
    let id = offers(1, "v=0").replace(r#""x""#, &format!("{:?}", "i".repeat(129)));
    assert_eq!(problem(id.as_bytes()), "`offers[0].offer_id` has 129 bytes, more than 128");
}

#[test]
fn an_error_keeps_the_torrent_that_could_be_read() {
    let error = ClientMessage::parse(br#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa"}"#).unwrap_err();
    assert_eq!(error.infohash, Some(hash(b'a')));
    assert!(!error.problem.is_garbage());
    assert!(ClientMessage::parse(b"GET /").unwrap_err().problem.is_garbage());
}

#[test]
fn a_tree_too_deep_or_too_wide_is_skipped_not_built() {
    let deep = format!(
        r#"{{"action":"scrape","info_hash":"aaaaaaaaaaaaaaaaaaaa","x":{}{}}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    assert_eq!(client(deep.as_bytes()), ClientMessage::Scrape(vec![hash(b'a')]));
    let deeper = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert!(ClientMessage::parse(deeper.as_bytes()).is_err());
    let wide = format!(r#"{{"action":"scrape","info_hash":"aaaaaaaaaaaaaaaaaaaa","x":[{}0]}}"#, "0,".repeat(30_000));
    assert_eq!(client(wide.as_bytes()), ClientMessage::Scrape(vec![hash(b'a')]));
}

#[test]
fn a_field_that_comes_twice_counts_as_the_later() {
    let frame = br#"{"action":"x","action":"scrape","info_hash":"aaaaaaaaaaaaaaaaaaaa"}"#;
    assert_eq!(client(frame), ClientMessage::Scrape(vec![hash(b'a')]));
}

#[test]
fn no_form_for_a_log_shows_a_session_description() {
    let secret = "v=0\r\na=ice-pwd:secret\r\n";
    let offers = vec![ClientOffer { offer_id: offer_id(7), sdp: sdp(secret) }];
    let message = ClientMessage::Announce(Announce { offers, ..example() });
    let shown = format!("{message:?} {message:#?}");
    assert!(!shown.contains("secret") && !shown.contains("v=0"), "{shown}");
    assert!(shown.contains("Sdp(23 bytes)"), "{shown}");
    let relayed = Relayed { infohash: hash(1), peer_id: peer(1), offer_id: offer_id(1), sdp: sdp(secret) };
    assert!(!format!("{:?}", ServerMessage::Answer(relayed)).contains("secret"));
    // What cannot be read is not quoted either, whatever is wrong with it.
    for frame in [r#"{"action":"v=0 secret"}"#, r#"{"offer":{"sdp":"secret"}, secret"#, "secret"] {
        let error = ServerMessage::parse(frame.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn what_is_not_known_of_the_rest_is_left_out_rather_than_null() {
    let text = ClientMessage::Announce(Announce { left: None, ..example() }).encode();
    assert!(!text.contains("left") && !text.contains("null"), "{text}");
}

#[test]
fn a_trackers_text_is_made_safe_and_short() {
    let frame = format!(r#"{{"failure reason":"no\u001b[2J{}"}}"#, "x".repeat(1000));
    let ServerMessage::Failure { reason, .. } = server(frame.as_bytes()) else { panic!() };
    assert!(reason.starts_with("no\u{fffd}[2J") && reason.chars().count() == MAX_TEXT_CHARS);
}

#[test]
fn a_warning_stays_with_the_reply_it_came_in() {
    let alone = br#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","warning message":"w"}"#;
    assert_eq!(server(alone), ServerMessage::Warning { message: "w".into(), infohash: hash(b'a') });
    let reply =
        br#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","warning message":"w","interval":"99999999999"}"#;
    let longest = Some(Duration::from_secs(u64::from(u32::MAX)));
    let announced = Announced { interval: longest, warning: Some("w".into()), ..Announced::new(hash(b'a')) };
    assert_eq!(server(reply), ServerMessage::Announced(announced));
}

/// The longest relayed message: each byte of its description needs six in JSON.
#[test]
fn what_we_relay_is_never_longer_than_what_is_read() {
    let worst = Relayed {
        infohash: hash(0),
        peer_id: peer(0),
        offer_id: OfferId::new(&"\0".repeat(MAX_OFFER_ID_BYTES)).unwrap(),
        sdp: sdp(&"\u{1}".repeat(MAX_SDP_BYTES)),
    };
    let text = ServerMessage::Offer(worst).encode();
    assert!(text.len() <= MAX_MESSAGE_BYTES, "{}", text.len());
    let sizes = vec![(hash(0), SwarmSize { complete: u32::MAX, incomplete: u32::MAX, downloaded: u32::MAX }); 128];
    let text = ServerMessage::Scraped(sizes).encode();
    assert!(text.len() <= MAX_MESSAGE_BYTES, "{}", text.len());
}

fn example() -> Announce {
    Announce {
        infohash: hash(1),
        peer_id: peer(2),
        event: AnnounceEvent::Started,
        uploaded: 0,
        downloaded: 0,
        left: Some(1),
        numwant: None,
        offers: Vec::new(),
        tracker_id: None,
    }
}

fn any_event() -> impl Strategy<Value = AnnounceEvent> {
    prop_oneof![
        Just(AnnounceEvent::Interval),
        Just(AnnounceEvent::Started),
        Just(AnnounceEvent::Completed),
        Just(AnnounceEvent::Stopped)
    ]
}

fn any_hash() -> impl Strategy<Value = InfoHash> {
    any::<[u8; 20]>().prop_map(InfoHash::new)
}

fn any_peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 20]>().prop_map(PeerId)
}

fn any_sdp() -> impl Strategy<Value = Sdp> {
    "(?s).{0,60}".prop_map(|text| Sdp::new(text).unwrap())
}

fn any_offer_id() -> impl Strategy<Value = OfferId> {
    prop_oneof![any::<[u8; 20]>().prop_map(OfferId::from_bytes), "(?s).{0,30}".prop_map(|t| OfferId::new(&t).unwrap())]
}

fn any_client_message() -> impl Strategy<Value = ClientMessage> {
    let offer = (any_offer_id(), any_sdp()).prop_map(|(offer_id, sdp)| ClientOffer { offer_id, sdp });
    let offers = proptest::collection::vec(offer, 0..=MAX_OFFERS);
    let numbers = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u32>>());
    let tracker_id = proptest::option::of("(?s).{0,20}");
    let announce = (any_hash(), any_peer(), any_event(), numbers, offers, tracker_id.clone()).prop_map(
        |(infohash, peer_id, event, (uploaded, downloaded, left, numwant), offers, tracker_id)| {
            let announce =
                Announce { infohash, peer_id, event, uploaded, downloaded, left, numwant, offers, tracker_id };
            ClientMessage::Announce(announce)
        },
    );
    let answer = (any_hash(), any_peer(), any_peer(), any_offer_id(), any_sdp(), tracker_id).prop_map(
        |(infohash, peer_id, to_peer_id, offer_id, sdp, tracker_id)| {
            ClientMessage::Answer(ClientAnswer { infohash, peer_id, to_peer_id, offer_id, sdp, tracker_id })
        },
    );
    let scrape = proptest::collection::vec(any_hash(), 0..=MAX_SCRAPE_HASHES).prop_map(ClientMessage::Scrape);
    prop_oneof![announce, answer, scrape]
}

fn any_size() -> impl Strategy<Value = SwarmSize> {
    any::<(u32, u32, u32)>().prop_map(|(complete, incomplete, downloaded)| SwarmSize {
        complete,
        incomplete,
        downloaded,
    })
}

fn any_server_message() -> impl Strategy<Value = ServerMessage> {
    let text = "[ -~]{0,40}";
    let seconds = || any::<Option<u32>>().prop_map(|it| it.map(|s| Duration::from_secs(s.into())));
    let optional = (any::<Option<u32>>(), any::<Option<u32>>(), proptest::option::of(text), proptest::option::of(text));
    // A reply with nothing but a warning is a warning.
    let announced = (any_hash(), any::<u32>(), seconds(), optional).prop_map(
        |(infohash, interval, min_interval, (complete, incomplete, warning, tracker_id))| {
            let interval = Some(Duration::from_secs(interval.into()));
            let announced = Announced { infohash, interval, min_interval, complete, incomplete, warning, tracker_id };
            ServerMessage::Announced(announced)
        },
    );
    let relayed = || {
        (any_hash(), any_peer(), any_offer_id(), any_sdp()).prop_map(|(infohash, peer_id, offer_id, sdp)| Relayed {
            infohash,
            peer_id,
            offer_id,
            sdp,
        })
    };
    prop_oneof![
        announced,
        relayed().prop_map(ServerMessage::Offer),
        relayed().prop_map(ServerMessage::Answer),
        proptest::collection::vec((any_hash(), any_size()), 0..20).prop_map(ServerMessage::Scraped),
        (text, proptest::option::of(any_hash()))
            .prop_map(|(reason, infohash)| ServerMessage::Failure { reason, infohash }),
        (text, any_hash()).prop_map(|(message, infohash)| ServerMessage::Warning { message, infohash }),
    ]
}

proptest! {
    #[test]
    fn client_messages_survive_the_wire(message in any_client_message()) {
        prop_assert_eq!(ClientMessage::parse(message.encode().as_bytes()), Ok(message));
    }

    #[test]
    fn server_messages_survive_the_wire(message in any_server_message()) {
        prop_assert_eq!(ServerMessage::parse(message.encode().as_bytes()), Ok(message));
    }

    /// One byte of a good message changed: whatever is read can be written and read again.
    #[test]
    fn a_damaged_message_never_panics(message in any_client_message(), at: prop::sample::Index, byte: u8) {
        let mut frame = message.encode().into_bytes();
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = ServerMessage::parse(&frame);
        if let Ok(read) = ClientMessage::parse(&frame) {
            prop_assert_eq!(ClientMessage::parse(read.encode().as_bytes()), Ok(read));
        }
    }
}
