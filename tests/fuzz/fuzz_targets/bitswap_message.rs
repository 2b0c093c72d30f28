//! Any bytes of a Bitswap stream: no panic, the bounds hold, what is read survives being written; and a ledger that is
//! given it keeps its budgets.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use swarmgate_content::{HashKind, VerifiedBytes};
use swarmgate_ipfs_proto::bitswap::message::{MAX_BLOCKS, MAX_ENTRIES, MAX_PRESENCES, next_frame};
use swarmgate_ipfs_proto::bitswap::server::MAX_LEDGER;
use swarmgate_ipfs_proto::bitswap::{Message, PeerKey, Server, ServerEvent, ServerOptions, Version};

const PEER: PeerKey = PeerKey(1);

fn check(input: &Bytes) -> Option<Message> {
    let mut message = Message::decode(input).ok()?;
    assert!(message.wantlist.len() <= MAX_ENTRIES && message.presences.len() <= MAX_PRESENCES);
    assert!(message.blocks.len() <= MAX_BLOCKS);
    message.unreadable_bytes = 0;
    assert_eq!(Message::decode(&message.encode(Version::V1_2).into()).as_ref(), Ok(&message));
    Some(message)
}

fuzz_target!(|input: &[u8]| {
    let data = VerifiedBytes::name(HashKind::Sha2_256, Bytes::from_static(b"data")).1;
    let mut server = Server::new(ServerOptions::default());
    assert!(server.join(PEER, Version::V1_2));
    let mut messages: Vec<_> = check(&Bytes::copy_from_slice(input)).into_iter().collect();
    let mut stream = BytesMut::from(input);
    while let Ok(Some(frame)) = next_frame(&mut stream) {
        messages.extend(check(&frame));
    }
    for message in messages {
        server.handle_message(PEER, &message);
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::Find { peer, cid } => {
                    let first = u64::from(cid.hash().digest().first().copied().unwrap_or(0));
                    server.on_found(peer, &cid, (first % 3 != 0).then_some(first * 1000));
                }
                ServerEvent::Read { peer, cid } => server.on_read(peer, &cid, Some(data.clone())),
            }
        }
        assert!(server.wanted_by(PEER) <= MAX_LEDGER);
        assert!(server.held_bytes() <= ServerOptions::default().max_bytes);
        while let Some((peer, _)) = server.poll_transmit() {
            server.on_sent(peer);
        }
    }
});
