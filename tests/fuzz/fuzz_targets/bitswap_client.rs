//! Any history of a client, its readers and its peers: no panic, no busy timer, the bounds hold, cancels travel alone; and
//! what is wanted in the end comes from a peer that has it.

#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use swarmgate_content::{BlockHash, Cid, HashKind, VerifiedBytes};
use swarmgate_ipfs_proto::bitswap::client::MAX_SENT_ENTRIES;
use swarmgate_ipfs_proto::bitswap::{
    Client, ClientOptions, Entry, Message, PeerKey, Presence, SessionKey, Version, Want, WireBlock,
};

const BUDGET: u64 = 1 << 20;
const GOOD: PeerKey = PeerKey(1000);

fn cid(n: u8) -> Cid {
    BlockHash::sha2_256([n; 32]).to_cid(0x55)
}

fn block(n: u8) -> WireBlock {
    let data = VerifiedBytes::name(HashKind::Sha2_256, Bytes::from(vec![n; usize::from(n)])).1;
    WireBlock { cid: cid(n), data }
}

struct World {
    client: Client,
    now: Instant,
}

impl World {
    /// Everything that is sent; the good peer's answers, if it is there.
    fn drain(&mut self) {
        while let Some((peer, message)) = self.client.poll_transmit() {
            let cancels = message.wantlist.iter().filter(|entry| matches!(entry, Entry::Cancel(_))).count();
            assert!(cancels == 0 || cancels == message.wantlist.len());
            assert!((1..=MAX_SENT_ENTRIES).contains(&message.wantlist.len()));
            if peer == GOOD {
                self.answer(&message);
            }
        }
        while self.client.poll_event().is_some() {}
    }

    fn answer(&mut self, message: &Message) {
        let mut answer = Message::default();
        for entry in &message.wantlist {
            let n = entry.cid().hash().digest()[0];
            match entry {
                Entry::Want { want: Want::Block, .. } => answer.blocks.push(block(n)),
                Entry::Want { want: Want::Have, cid, .. } => answer.presences.push(Presence { cid: *cid, has: true }),
                Entry::Cancel(_) => {}
            }
        }
        self.client.handle_message(self.now, GOOD, answer);
    }

    fn timer(&mut self) {
        if let Some((at, _)) = self.client.poll_timeout() {
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
            assert!(self.client.poll_timeout().is_none_or(|(at, _)| at > self.now), "{:?}", self.client.poll_timeout());
        }
    }

    fn step(&mut self, op: u8, a: u8, b: u8) {
        let (peer, session, now) = (PeerKey((a % 12).into()), SessionKey((b % 4).into()), self.now);
        match op % 12 {
            0 | 1 => self.client.want(now, session, cid(a), i32::from(b), Some(u32::from(b) << 10)).expect("few wants"),
            2 => self.client.cancel(now, session, &cid(a)),
            3 => {
                self.client.join(now, peer, Version::ALL[usize::from(b % 3)]);
            }
            4 => self.client.leave(now, peer),
            5 => self.client.provides(now, session, peer),
            6 => self.client.handle_message(now, peer, Message { blocks: vec![block(b)], ..Message::default() }),
            7 => {
                let presences = (0..a % 8).map(|n| Presence { cid: cid(b.wrapping_add(n)), has: a > 127 }).collect();
                self.client.handle_message(now, peer, Message { presences, ..Message::default() });
            }
            8 if b % 8 == 0 => self.client.end_session(now, session),
            8 => self.client.on_bytes(now, peer),
            9 => self.now += Duration::from_millis(u64::from(a) * u64::from(b) / 8),
            10 => self.timer(),
            _ => self.drain(),
        }
        for peer in (0..12).map(PeerKey) {
            let outstanding = self.client.outstanding_bytes(peer);
            assert!(outstanding <= BUDGET, "{outstanding} bytes of {peer}");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let client = Client::new(ClientOptions { max_peer_bytes: BUDGET });
    let mut world = World { client, now: Instant::now() };
    for step in input.chunks_exact(3).take(400) {
        world.step(step[0], step[1], step[2]);
    }
    world.drain();
    assert!(world.client.join(world.now, GOOD, Version::V1_2));
    for round in 0.. {
        world.drain();
        if world.client.wanted() == 0 {
            break;
        }
        assert!(round < 5_000, "{} are still wanted", world.client.wanted());
        world.timer();
    }
});
