use proptest::prelude::*;

use super::*;

const TORRENT: InfoHash = InfoHash::new([7; 20]);
const EITHER: Methods = Methods::Either(Payload::Rc4);

fn entropy(seed: u8, pad: usize, inner: u16) -> Entropy {
    Entropy { private: [seed; 20], pad: vec![seed; pad], inner_pad_len: inner }
}

/// Both sides, and what is on its way between them, dealt out in pieces of `piece` bytes.
struct Pair {
    initiator: Initiator,
    responder: Responder,
    piece: usize,
}

impl Pair {
    fn new(initiator: Methods, responder: Methods) -> Self {
        Self {
            initiator: Initiator::new(TORRENT, initiator, b"hello".to_vec(), entropy(3, 100, 9)),
            responder: Responder::new(responder, entropy(5, 200, 17)),
            piece: 1000,
        }
    }

    fn shake(mut self) -> Result<(Secured, Secured), MseError> {
        let (mut near, mut far) = (None, None);
        for _ in 0..4 {
            let to_responder = self.initiator.poll_transmit().unwrap_or_default();
            for piece in to_responder.chunks(self.piece) {
                far = self.responder.handle_input(piece, || [InfoHash::new([1; 20]), TORRENT])?.or(far);
            }
            let to_initiator = self.responder.poll_transmit().unwrap_or_default();
            for piece in to_initiator.chunks(self.piece) {
                near = self.initiator.handle_input(piece)?.or(near);
            }
        }
        Ok((near.expect("the initiator is through"), far.expect("the responder is through")))
    }
}

fn carries(from: &mut Option<Keystream>, to: &mut Option<Keystream>) -> bool {
    let mut bytes = *b"a block of a piece";
    from.iter_mut().for_each(|cipher| cipher.apply(&mut bytes));
    let hidden = bytes != *b"a block of a piece";
    to.iter_mut().for_each(|cipher| cipher.apply(&mut bytes));
    assert_eq!(&bytes, b"a block of a piece");
    hidden
}

#[test]
fn the_first_payload_comes_with_the_handshake_and_both_directions_are_hidden() {
    let (mut near, mut far) = Pair::new(EITHER, EITHER).shake().unwrap();
    assert_eq!((near.payload, far.payload, far.skey), (Payload::Rc4, Payload::Rc4, TORRENT));
    assert_eq!((far.received.as_slice(), near.received.as_slice()), (&b"hello"[..], &b""[..]));
    assert!(carries(&mut near.writing, &mut far.reading));
    assert!(carries(&mut far.writing, &mut near.reading));
}

#[test]
fn the_responder_chooses_among_what_the_initiator_provides() {
    let chosen = |initiator, responder| Pair::new(initiator, responder).shake().map(|(near, _)| near.payload);
    assert_eq!(chosen(EITHER, Methods::Either(Payload::Plain)), Ok(Payload::Plain));
    assert_eq!(chosen(Methods::Plain, EITHER), Ok(Payload::Plain));
    assert_eq!(chosen(Methods::Rc4, Methods::Either(Payload::Plain)), Ok(Payload::Rc4));
    assert_eq!(chosen(Methods::Rc4, Methods::Plain), Err(MseError::NothingInCommon));
}

#[test]
fn payload_in_the_clear_stays_so_behind_an_encrypted_first_part() {
    let mut responder = Responder::new(EITHER, entropy(5, 0, 0));
    let mut initiator = Initiator::new(TORRENT, Methods::Plain, b"hidden ".to_vec(), entropy(3, 0, 0));
    let torrents = || [TORRENT];
    assert!(responder.handle_input(&initiator.poll_transmit().unwrap(), torrents).unwrap().is_none());
    assert!(initiator.handle_input(&responder.poll_transmit().unwrap()).unwrap().is_none());
    let last = [initiator.poll_transmit().unwrap(), b"and clear".to_vec()].concat();
    let far = responder.handle_input(&last, torrents).unwrap().unwrap();
    assert_eq!(far.received, b"hidden and clear");
    let near = [responder.poll_transmit().unwrap(), b"answer".to_vec()].concat();
    assert_eq!(initiator.handle_input(&near).unwrap().unwrap().received, b"answer");
}

#[test]
fn a_torrent_that_is_not_here_is_told_from_noise() {
    let mut pair = Pair::new(EITHER, EITHER);
    pair.initiator = Initiator::new(InfoHash::new([9; 20]), EITHER, Vec::new(), entropy(3, 0, 0));
    assert_eq!(pair.shake().err(), Some(MseError::UnknownTorrent));
    let mut responder = Responder::new(EITHER, entropy(5, 0, 0));
    assert_eq!(responder.handle_input(&[b'G'; 2000], || [TORRENT]).err(), Some(MseError::NoSync));
}

#[test]
fn a_peer_that_answers_in_the_clear_is_known_by_its_first_bytes() {
    let mut initiator = Initiator::new(TORRENT, EITHER, Vec::new(), entropy(3, 0, 0));
    assert!(initiator.handle_input(b"\x13BitTorrent protoco").unwrap().is_none());
    assert_eq!(initiator.handle_input(b"l").err(), Some(MseError::InTheClear));
}

#[test]
fn nothing_is_said_before_the_initiators_key_has_come() {
    let mut responder = Responder::new(EITHER, entropy(5, 0, 0));
    assert!(responder.handle_input(&[2; KEY_LEN - 1], || [TORRENT]).unwrap().is_none());
    assert_eq!(responder.poll_transmit(), None);
    assert!(responder.handle_input(&[2], || [TORRENT]).unwrap().is_none());
    assert_eq!(responder.poll_transmit().unwrap().len(), KEY_LEN);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_keys_paddings_and_pieces_lead_to_one_stream(
        privates in any::<[[u8; 20]; 2]>(),
        pads in any::<[u16; 4]>(),
        piece in 1..700usize,
        initial in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assume!(privates.iter().all(|private| private[..19] != [0; 19]));
        let entropy = |at: usize| Entropy {
            private: privates[at],
            pad: vec![9; usize::from(pads[at]) % (MAX_PAD + 1)],
            inner_pad_len: pads[at + 2] % 513,
        };
        let pair = Pair {
            initiator: Initiator::new(TORRENT, EITHER, initial.clone(), entropy(0)),
            responder: Responder::new(EITHER, entropy(1)),
            piece,
        };
        let (mut near, mut far) = pair.shake().unwrap();
        prop_assert_eq!(&far.received, &initial);
        carries(&mut near.writing, &mut far.reading);
        carries(&mut far.writing, &mut near.reading);
    }

    #[test]
    fn noise_ends_in_an_error_or_waits_within_bounds(noise in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut responder = Responder::new(EITHER, entropy(5, 0, 0));
        let mut initiator = Initiator::new(TORRENT, EITHER, Vec::new(), entropy(3, 0, 0));
        for piece in noise.chunks(64) {
            if responder.handle_input(piece, || [TORRENT]).is_err() || initiator.handle_input(piece).is_err() {
                break;
            }
        }
        prop_assert!(responder.input.len() <= MAX_PAD + 20 + 64);
        prop_assert!(initiator.input.len() <= MAX_PAD + VC_LEN + 64);
    }
}
