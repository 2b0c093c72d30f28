use std::net::IpAddr;

use swarmgate_content::InfoHash;

use super::*;
use crate::exchange::{Contact, ExchangeOptions};
use crate::extension::{ExtensionHandshake, HolepunchMessage, PexMessage, PexPeer, encode_dont_have};
use crate::handshake::{Handshake, PeerId};
use crate::holepunch::FLAG_HOLEPUNCH;
use crate::metainfo::{TorrentBuilder, hash_pieces};
use crate::wire::{BLOCK_LEN, BlockRequest, PieceIndex, complete_frames, next_message};
use bytes::BytesMut;

const PIECE: u32 = 2 * BLOCK_LEN;
const PEER: PeerKey = PeerKey(1);

/// A torrent of four pieces whose only peer is the test.
struct Alone {
    torrent: Torrent,
    now: Instant,
}

impl Alone {
    fn knowing(have: Bitfield) -> Self {
        let mut alone = Self::cold();
        let (info, geometry) = Self::metadata();
        alone.torrent.set_info(alone.now, info, geometry, have);
        alone
    }

    fn metadata() -> (Bytes, Geometry) {
        let data = vec![7; 4 * PIECE as usize];
        let metainfo =
            TorrentBuilder::single_file("f", data.len() as u64, PIECE, hash_pieces(&data, PIECE)).build().unwrap();
        (metainfo.info_bytes, Geometry::new(PIECE, data.len() as u64).unwrap())
    }

    fn cold() -> Self {
        let config = TorrentConfig { max_partial_bytes: 1 << 20, upload_slots: 2, seed: 1 };
        Self { torrent: Torrent::new(InfoHash::new([1; 20]), config), now: crate::testing::start() }
    }

    fn join(&mut self) -> Vec<Message> {
        let handshake = Handshake::ours(InfoHash::new([1; 20]), PeerId([2; 20]));
        self.torrent.add_peer(self.now, PEER, Transport::Tcp, &handshake);
        self.sent()
    }

    fn say(&mut self, messages: &[Message]) -> Vec<Message> {
        let mut bytes = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.torrent.handle_input(self.now, PEER, bytes.freeze());
        self.sent()
    }

    fn sent(&mut self) -> Vec<Message> {
        let mut all = BytesMut::new();
        while let Some((_, batch)) = self.torrent.poll_transmit(self.now, |_| true) {
            batch.iter().for_each(|part| all.extend_from_slice(part));
        }
        assert_eq!(complete_frames(&all).unwrap(), all.len());
        let mut frames = all.freeze();
        std::iter::from_fn(|| next_message(&mut frames).unwrap()).collect()
    }

    fn dropped(&mut self) -> Option<DropReason> {
        std::iter::from_fn(|| self.torrent.poll_event())
            .find_map(|event| if let TorrentEvent::Drop { reason, .. } = event { Some(reason) } else { None })
    }
}

fn block(piece: u32, begin: u32) -> BlockRequest {
    BlockRequest { piece: PieceIndex(piece), begin, len: BLOCK_LEN }
}

#[test]
fn a_seed_says_have_all_and_a_newcomer_have_none() {
    assert!(Alone::knowing(Bitfield::all(4)).join().contains(&Message::HaveAll));
    assert!(Alone::cold().join().contains(&Message::HaveNone));
}

#[test]
fn an_interested_peer_is_unchoked_at_once_and_gets_the_block_it_asks_for() {
    let mut alone = Alone::knowing(Bitfield::all(4));
    alone.join();
    assert_eq!(alone.say(&[Message::Interested]), [Message::Unchoke]);
    assert_eq!(alone.say(&[Message::Request(block(2, 0))]), []);
    let Some(TorrentEvent::ReadBlock { peer, request }) = alone.torrent.poll_event() else { panic!("no read") };
    let data = Bytes::from(vec![7; BLOCK_LEN as usize]);
    alone.torrent.block_read(alone.now, peer, request, Some(data.clone()));
    assert_eq!(alone.sent(), [Message::Piece { piece: PieceIndex(2), begin: 0, data }]);
}

#[test]
fn what_cannot_be_served_is_refused_in_words() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    alone.say(&[Message::Interested]);
    assert_eq!(alone.say(&[Message::Request(block(2, 0))]), [Message::Reject(block(2, 0))], "we lack it");
    let wild = BlockRequest { piece: PieceIndex(900), begin: u32::MAX, len: u32::MAX };
    assert_eq!(alone.say(&[Message::Request(wild)]), [Message::Reject(wild)]);
    assert_eq!(alone.dropped(), None);
}

#[test]
fn a_rejected_block_is_not_asked_of_the_same_peer_for_ever() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    alone.torrent.open_reader(alone.now, ReaderKey(1), 0..10);
    let sent = alone.say(&[Message::HaveAll, Message::Unchoke]);
    assert!(sent.contains(&Message::Interested) && sent.contains(&Message::Request(block(0, 0))));
    let sent = alone.say(&[Message::Reject(block(0, 0)), Message::Reject(block(0, BLOCK_LEN))]);
    assert!(!sent.iter().any(|message| matches!(message, Message::Request(_))), "{sent:?}");
}

/// A reader comes and goes twice and comes again; the peer answers each of the two cancels with a refusal (BEP 6).
#[test]
fn a_block_withdrawn_twice_and_asked_for_again_is_not_taken_for_refused() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    alone.say(&[Message::HaveAll, Message::Unchoke]);
    let mut withdrawn = 0;
    for reader in 1..=3 {
        alone.torrent.open_reader(alone.now, ReaderKey(reader), 0..10);
        assert!(alone.sent().contains(&Message::Request(block(0, 0))));
        if reader < 3 {
            alone.torrent.close_reader(alone.now, ReaderKey(reader));
            withdrawn += usize::from(alone.sent().contains(&Message::Cancel(block(0, 0))));
        }
    }
    assert_eq!(withdrawn, 2);
    let reject = Message::Reject(block(0, 0));
    alone.say(&[reject.clone(), reject.clone()]);
    assert!(alone.torrent.peers()[0].outstanding > 1, "both blocks of the piece are still asked for");
    alone.say(&[reject]);
    assert_eq!(alone.torrent.peers()[0].outstanding, 1, "the third one is news");
}

#[test]
fn a_piece_that_came_another_way_while_it_is_asked_for_is_withdrawn_and_told() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    alone.torrent.open_reader(alone.now, ReaderKey(1), 0..10);
    let sent = alone.say(&[Message::Bitfield(Bytes::from_static(&[0b1000_0000])), Message::Unchoke]);
    assert!(sent.contains(&Message::Request(block(0, 0))) && sent.contains(&Message::Request(block(0, BLOCK_LEN))));
    let data = Bytes::from(vec![7; BLOCK_LEN as usize]);
    alone.say(&[Message::Piece { piece: PieceIndex(0), begin: 0, data: data.clone() }]);
    alone.torrent.piece_verified(alone.now, PieceIndex(0), Some(&[7; PIECE as usize]));
    let sent = alone.sent();
    assert!(sent.contains(&Message::Cancel(block(0, BLOCK_LEN))), "{sent:?}");
    assert!(sent.contains(&Message::Have(PieceIndex(0))), "{sent:?}");
    assert_eq!(alone.torrent.peers()[0].outstanding, 0);
    // What was on its way is not needed, blames nobody and completes nothing.
    alone.say(&[Message::Piece { piece: PieceIndex(0), begin: BLOCK_LEN, data }]);
    assert!(alone.torrent.poll_event().is_none());
    assert_eq!(alone.torrent.totals().wasted, u64::from(BLOCK_LEN));
}

#[test]
fn a_later_bitfield_replaces_the_first() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    alone.torrent.open_reader(alone.now, ReaderKey(1), 0..10);
    let full = Message::Bitfield(Bitfield::all(4).to_wire());
    let sent = alone.say(&[Message::HaveNone, Message::Unchoke, full]);
    assert!(sent.contains(&Message::Request(block(0, 0))), "{sent:?}");
    assert_eq!(alone.dropped(), None);
}

#[test]
fn have_all_and_have_none_together_and_a_bitfield_of_a_wrong_length_end_the_peer() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    alone.say(&[Message::HaveAll, Message::HaveNone]);
    assert_eq!(alone.dropped(), Some(DropReason::LateBitfield));
    alone.join();
    alone.say(&[Message::Bitfield(Bytes::from_static(&[0xff]))]);
    assert!(matches!(alone.dropped(), Some(DropReason::Bitfield(_))));
}

#[test]
fn an_evicted_piece_is_taken_back_in_words_and_no_longer_served() {
    let mut alone = Alone::knowing(Bitfield::all(4));
    alone.join();
    let hello = ExtensionHandshake { lt_donthave: Some(9), ..ExtensionHandshake::default() };
    alone.say(&[Message::Extended { id: 0, payload: hello.encode().into() }, Message::Interested]);
    alone.torrent.piece_evicted(alone.now, PieceIndex(2));
    let gone = Message::Extended { id: 9, payload: Bytes::copy_from_slice(&encode_dont_have(PieceIndex(2))) };
    assert!(alone.sent().contains(&gone));
    assert_eq!(alone.say(&[Message::Request(block(2, 0))]), [Message::Reject(block(2, 0))]);
}

#[test]
fn a_peer_that_floods_us_with_what_nobody_asked_for_is_dropped() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    let data = Bytes::from(vec![0; BLOCK_LEN as usize]);
    let unasked = Message::Piece { piece: PieceIndex(1), begin: 0, data };
    for _ in 0..1025 {
        alone.say(std::slice::from_ref(&unasked));
    }
    assert!(matches!(alone.dropped(), Some(DropReason::Unasked(_))));
}

#[test]
fn a_silent_connection_is_kept_alive_and_then_given_up() {
    let mut alone = Alone::knowing(Bitfield::none(4));
    alone.join();
    let mut kept_alive = 0;
    while let Some((at, _)) = alone.torrent.poll_timeout() {
        alone.now = at;
        alone.torrent.handle_timeout(at);
        kept_alive += alone.sent().iter().filter(|message| **message == Message::KeepAlive).count();
    }
    assert_eq!((kept_alive, alone.dropped()), (1, Some(DropReason::TimedOut)));
}

#[test]
fn haves_said_before_the_metadata_was_known_count_afterwards() {
    let mut alone = Alone::cold();
    alone.join();
    alone.torrent.open_reader(alone.now, ReaderKey(1), 0..10);
    alone.say(&[Message::HaveNone, Message::Have(PieceIndex(0)), Message::Unchoke]);
    let geometry = Geometry::new(PIECE, u64::from(PIECE) * 4).unwrap();
    alone.torrent.set_info(alone.now, Bytes::from_static(b"de"), geometry, Bitfield::none(4));
    let sent = alone.sent();
    assert!(sent.contains(&Message::Interested) && sent.contains(&Message::Request(block(0, 0))), "{sent:?}");
}

proptest::proptest! {
    #[test]
    fn no_sequence_of_messages_panics(frames in proptest::collection::vec((0..24u8, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)), 0..60)) {
        let mut alone = Alone::knowing(Bitfield::all(4));
        alone.join();
        alone.torrent.open_reader(alone.now, ReaderKey(1), 0..u64::from(PIECE));
        for (id, payload) in frames {
            let mut frame = BytesMut::new();
            frame.extend_from_slice(&u32::try_from(payload.len() + 1).unwrap().to_be_bytes());
            frame.extend_from_slice(&[id]);
            frame.extend_from_slice(&payload);
            alone.torrent.handle_input(alone.now, PEER, frame.freeze());
        }
    }
}

/// What a peer of [`Alone`] with an address tells, and is told.
fn exchanging(have: Bitfield) -> Alone {
    let mut alone = Alone::knowing(have);
    let is_public = |ip: IpAddr| !ip.is_loopback();
    alone.torrent.exchange_peers(ExchangeOptions { listen_port: Some(8421), holepunch: true, is_public });
    alone
}

fn hello(messages: &[Message]) -> ExtensionHandshake {
    let hello = messages
        .iter()
        .find_map(|message| if let Message::Extended { id: 0, payload } = message { Some(payload) } else { None });
    ExtensionHandshake::parse(hello.unwrap()).unwrap()
}

fn ext(id: u8, payload: Vec<u8>) -> Message {
    Message::Extended { id, payload: payload.into() }
}

fn contact(address: &str, dialled: bool) -> Contact {
    Contact { address: address.parse().unwrap(), dialled, utp: false }
}

#[test]
fn peers_with_an_address_are_offered_the_exchange_and_told_where_we_listen() {
    let offered = hello(&exchanging(Bitfield::none(4)).join());
    assert_eq!((offered.ut_pex, offered.listen_port), (Some(UT_PEX), Some(8421)));
    assert_eq!(offered.ut_holepunch, Some(UT_HOLEPUNCH));
    let mut browser = exchanging(Bitfield::none(4));
    let handshake = Handshake::ours(InfoHash::new([1; 20]), PeerId([2; 20]));
    browser.torrent.add_peer(browser.now, PEER, Transport::WebRtc, &handshake);
    let offered = hello(&browser.sent());
    assert_eq!((offered.ut_pex, offered.listen_port, offered.ut_holepunch), (None, None, None));
}

#[test]
fn what_a_peer_tells_of_others_comes_out_and_so_does_where_it_listens() {
    let mut alone = exchanging(Bitfield::none(4));
    alone.join();
    alone.torrent.set_contact(alone.now, PEER, contact("8.0.0.1:40000", false));
    let theirs = ExtensionHandshake { ut_pex: Some(5), listen_port: Some(6881), ..ExtensionHandshake::default() };
    alone.say(&[ext(0, theirs.encode())]);
    let told = PexMessage { added: vec![PexPeer { address: "8.0.0.2:2".parse().unwrap(), flags: 0 }], dropped: vec![] };
    alone.say(&[ext(UT_PEX, told.encode())]);
    let events: Vec<_> = std::iter::from_fn(|| alone.torrent.poll_event()).map(|event| format!("{event:?}")).collect();
    assert_eq!(events, ["Listens { peer: PeerKey(1), address: 8.0.0.1:6881 }", "PeersFound([8.0.0.2:2])"]);
}

#[test]
fn nobody_is_told_of_anybody_before_the_metadata_says_that_the_torrent_is_public() {
    let mut alone = Alone::cold();
    alone.torrent.exchange_peers(ExchangeOptions { listen_port: None, holepunch: true, is_public: |_| true });
    alone.join();
    alone.torrent.set_contact(alone.now, PEER, contact("8.0.0.1:1", true));
    let handshake = Handshake::ours(InfoHash::new([1; 20]), PeerId([3; 20]));
    alone.torrent.add_peer(alone.now, PeerKey(2), Transport::Tcp, &handshake);
    alone.torrent.set_contact(alone.now, PeerKey(2), contact("8.0.0.2:2", true));
    let theirs = ExtensionHandshake { ut_pex: Some(5), ..ExtensionHandshake::default() };
    alone.say(&[ext(0, theirs.encode())]);
    let pex = |alone: &mut Alone| {
        alone.now += crate::exchange::GATHER;
        alone.torrent.handle_timeout(alone.now);
        let sent = alone.sent();
        sent.iter().filter(|message| matches!(message, Message::Extended { id: 5, .. })).count()
    };
    assert_eq!(pex(&mut alone), 0);
    let known = Alone::metadata();
    alone.torrent.set_info(alone.now, known.0, known.1, Bitfield::none(4));
    assert_eq!(pex(&mut alone), 1, "as soon as it does");
}

#[test]
fn a_private_torrent_takes_its_offer_back_and_neither_tells_nor_hears() {
    let mut alone = exchanging(Bitfield::none(4));
    alone.join();
    alone.torrent.set_contact(alone.now, PEER, contact("8.0.0.1:1", true));
    alone.torrent.keep_private();
    let taken_back = alone.sent();
    let Some(Message::Extended { id: 0, payload }) = taken_back.first() else { panic!("{taken_back:?}") };
    let text = String::from_utf8_lossy(payload);
    assert!(
        text.contains("6:ut_pexi0e") && text.contains("12:ut_holepunchi0e") && text.contains("11:ut_metadatai1e"),
        "{text}"
    );
    let told = PexMessage { added: vec![PexPeer { address: "8.0.0.2:2".parse().unwrap(), flags: 0 }], dropped: vec![] };
    alone.say(&[ext(UT_PEX, told.encode())]);
    alone.say(&[ext(UT_HOLEPUNCH, HolepunchMessage::Connect("8.0.0.2:2".parse().unwrap()).encode())]);
    assert!(alone.torrent.poll_event().is_none());
    alone.torrent.remove_peer(alone.now, PEER);
    assert_eq!(hello(&alone.join()).ut_pex, None, "whoever comes later is offered nothing");
}

#[test]
fn a_peer_that_no_dial_reaches_is_asked_for_at_who_told_of_it_and_dialled_when_led_to() {
    let mut alone = exchanging(Bitfield::none(4));
    alone.join();
    alone.torrent.set_contact(alone.now, PEER, contact("8.0.0.1:1", true));
    let theirs = ExtensionHandshake { ut_pex: Some(5), ut_holepunch: Some(6), ..ExtensionHandshake::default() };
    let address = "8.0.0.2:2".parse().unwrap();
    let told = PexMessage { added: vec![PexPeer { address, flags: FLAG_HOLEPUNCH }], dropped: vec![] };
    alone.say(&[ext(0, theirs.encode()), ext(UT_PEX, told.encode())]);
    assert!(matches!(alone.torrent.poll_event(), Some(TorrentEvent::PeersFound(_))));
    alone.torrent.seek_introduction(alone.now, address);
    assert!(alone.sent().contains(&ext(6, HolepunchMessage::Rendezvous(address).encode())));
    alone.say(&[ext(UT_HOLEPUNCH, HolepunchMessage::Connect(address).encode())]);
    assert!(matches!(alone.torrent.poll_event(), Some(TorrentEvent::Punch(punched)) if punched == address));
    alone.say(&[ext(UT_HOLEPUNCH, vec![1])]);
    assert!(matches!(alone.dropped(), Some(DropReason::Extension(_))));
}

#[test]
fn nobody_is_led_to_anybody_before_the_metadata_says_that_the_torrent_is_public() {
    let mut alone = Alone::cold();
    alone.torrent.exchange_peers(ExchangeOptions { listen_port: None, holepunch: true, is_public: |_| true });
    let theirs = ExtensionHandshake { ut_holepunch: Some(6), ..ExtensionHandshake::default() };
    let handshake = Handshake::ours(InfoHash::new([1; 20]), PeerId([3; 20]));
    for (key, address) in [(PEER, "8.0.0.1:1"), (PeerKey(2), "8.0.0.2:2")] {
        alone.torrent.add_peer(alone.now, key, Transport::Tcp, &handshake);
        alone.torrent.set_contact(alone.now, key, contact(address, true));
        let mut frame = BytesMut::new();
        ext(0, theirs.encode()).encode(&mut frame);
        alone.torrent.handle_input(alone.now, key, frame.freeze());
    }
    let led = |alone: &mut Alone| {
        let ask = HolepunchMessage::Rendezvous("8.0.0.2:2".parse().unwrap());
        let said = alone.say(&[ext(UT_HOLEPUNCH, ask.encode())]);
        said.contains(&ext(6, HolepunchMessage::Connect("8.0.0.2:2".parse().unwrap()).encode()))
    };
    assert!(!led(&mut alone));
    let known = Alone::metadata();
    alone.torrent.set_info(alone.now, known.0, known.1, Bitfield::none(4));
    assert!(led(&mut alone));
}

#[test]
fn a_seed_says_that_it_wants_nothing_and_takes_it_back_when_a_piece_is_evicted() {
    let mut alone = Alone::knowing(Bitfield::all(4));
    assert!(hello(&alone.join()).upload_only);
    alone.torrent.piece_evicted(alone.now, PieceIndex(1));
    assert!(!hello(&alone.sent()).upload_only);
    alone.torrent.piece_evicted(alone.now, PieceIndex(2));
    assert!(!alone.sent().iter().any(|message| matches!(message, Message::Extended { id: 0, .. })), "once is enough");
    for piece in [1, 2] {
        alone.torrent.piece_verified(alone.now, PieceIndex(piece), None);
    }
    let again = hello(&alone.sent());
    assert!(again.upload_only && again.ut_metadata == Some(UT_METADATA), "and all that was said before");
}

#[test]
fn two_that_want_nothing_of_each_other_part_after_a_minute_and_others_do_not() {
    for (ours, theirs, part) in [
        (Bitfield::all(4), Some(true), true),
        (Bitfield::all(4), None, true),
        (Bitfield::all(4), Some(false), false),
        (Bitfield::none(4), Some(true), false),
    ] {
        let mut alone = Alone::knowing(ours);
        alone.join();
        match theirs {
            Some(upload_only) => {
                let hello = ExtensionHandshake { upload_only, ..ExtensionHandshake::default() };
                alone.say(&[ext(0, hello.encode())]);
            }
            None => _ = alone.say(&[Message::HaveAll]),
        }
        let pass = |alone: &mut Alone, seconds: u64| {
            for _ in 0..seconds {
                alone.now += Duration::from_secs(1);
                alone.torrent.handle_timeout(alone.now);
            }
            alone.dropped()
        };
        assert_eq!(pass(&mut alone, 60), None);
        assert_eq!(pass(&mut alone, 30), part.then_some(DropReason::Redundant), "{theirs:?}");
    }
}
