//! Any bytes into either side of the encrypted handshake, in pieces: no panic; and a stream only from who knows the
//! torrent. The first byte chooses: noise, or a true handshake with noise in its place.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::mse::{Entropy, Initiator, Methods, Payload, Responder};
use swarmgate_content::InfoHash;

const TORRENT: InfoHash = InfoHash::new([7; 20]);
const EITHER: Methods = Methods::Either(Payload::Rc4);

fn entropy(seed: u8) -> Entropy {
    Entropy { private: [seed; 20], pad: Vec::new(), inner_pad_len: 3 }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, piece], noise)) = input.split_first_chunk::<2>() else { return };
    let (mut initiator, mut responder) =
        (Initiator::new(TORRENT, EITHER, b"hello".to_vec(), entropy(3)), Responder::new(EITHER, entropy(5)));
    let opening = initiator.poll_transmit().unwrap_or_default();
    if kind & 1 == 1 {
        let _ = responder.handle_input(&opening, || [TORRENT]);
        let _ = initiator.handle_input(&responder.poll_transmit().unwrap_or_default());
    }
    if kind & 2 == 2 {
        // All but the last bytes of a true message, so that the noise is decrypted.
        let last = initiator.poll_transmit().unwrap_or_default();
        let cut = last.len().saturating_sub(usize::from(kind >> 2));
        let _ = responder.handle_input(&last[..cut], || [TORRENT]);
    }
    for piece in noise.chunks(usize::from(piece) + 1) {
        let near = initiator.handle_input(piece);
        let far = responder.handle_input(piece, || [TORRENT]);
        if let Ok(Some(secured)) = &far {
            assert_eq!(secured.skey, TORRENT);
        }
        if near.is_err() || far.is_err() {
            return;
        }
    }
});
