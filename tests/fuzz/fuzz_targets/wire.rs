//! Any bytes from a peer, cut into messages, given to a torrent: no panic, and what is read survives being written.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::exchange::{Contact, ExchangeOptions};
use swarmgate_bittorrent_proto::geometry::Geometry;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::picker::{PeerKey, ReaderKey};
use swarmgate_bittorrent_proto::torrent::{Torrent, TorrentConfig, Transport};
use swarmgate_bittorrent_proto::wire::{complete_frames, next_message};
use swarmgate_content::InfoHash;

const PEER: PeerKey = PeerKey(1);

fuzz_target!(|input: &[u8]| {
    let Ok(complete) = complete_frames(input) else { return };
    let frames = Bytes::copy_from_slice(&input[..complete]);
    let mut rest = frames.clone();
    while let Ok(Some(message)) = next_message(&mut rest) {
        let mut written = BytesMut::new();
        message.encode(&mut written);
        if let Ok(Some(again)) = next_message(&mut written.freeze()) {
            assert_eq!(again, message);
        }
    }
    let now = std::time::Instant::now();
    let infohash = InfoHash::new([1; 20]);
    let config = TorrentConfig { max_partial_bytes: 1 << 20, upload_slots: 2, seed: 1 };
    let mut torrent = Torrent::new(infohash, config);
    torrent.exchange_peers(ExchangeOptions {
        listen_port: Some(1),
        holepunch: true,
        is_public: |ip| !ip.is_loopback(),
    });
    torrent.add_peer(now, PEER, Transport::Tcp, &Handshake::ours(infohash, PeerId([2; 20])));
    torrent.set_contact(now, PEER, Contact { address: ([8, 0, 0, 1], 1).into(), dialled: false, utp: true });
    // The first byte decides whether the metadata is known before the peer speaks, or only afterwards.
    let geometry = Geometry::new(32 * 1024, 200_000).expect("a valid shape");
    let know = |torrent: &mut Torrent| {
        torrent.set_info(now, Bytes::from_static(b"de"), geometry.clone(), Bitfield::all(geometry.pieces()))
    };
    let early = input.first().is_some_and(|first| first % 2 == 0);
    if early {
        know(&mut torrent);
    }
    torrent.open_reader(now, ReaderKey(1), 0..100_000);
    torrent.handle_input(now, PEER, frames);
    if !early {
        know(&mut torrent);
    }
    while torrent.poll_event().is_some() {}
    while torrent.poll_transmit(now, |_| true).is_some() {}
});
