//! Any datagrams from anywhere at a socket that connections come to and go from: no panic, the tables stay small, and
//! nothing reaches a connection but what is addressed to it, answers it, or comes from where it has been proved to be.

#![no_main]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use libfuzzer_sys::fuzz_target;
use swarmgate_webtorrent_proto::routes::{MAX_ADDRESSES, MAX_QUESTIONS, MAX_TRANSACTIONS, PeerKey, Routes};
use swarmgate_webtorrent_proto::stun::{Class, StunMessage, TransactionId, looks_like_stun, parcels};

const CONNECTIONS: u8 = 4;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;

struct World {
    now: Instant,
    routes: Routes,
    here: BTreeSet<PeerKey>,
    /// Where somebody has signed for a connection.
    proved: BTreeSet<(PeerKey, SocketAddr)>,
    /// Under which ids a connection has sent requests where, as they went out.
    asked: BTreeSet<(PeerKey, SocketAddr, TransactionId)>,
}

fuzz_target!(|input: &[u8]| {
    let here = BTreeSet::new();
    let (proved, asked) = (BTreeSet::new(), BTreeSet::new());
    let mut world = World { now: Instant::now(), routes: Routes::new(1), here, proved, asked };
    for key in 0..CONNECTIONS {
        world.come(key);
    }
    let mut rest = input;
    while let [step, who, place, argument, after @ ..] = rest {
        let wanted = if step % 10 < 3 { usize::from(*argument) } else { 0 };
        let (bytes, after) = after.split_at(wanted.min(after.len()));
        rest = after;
        world.step(step % 10, who % CONNECTIONS, address(*place), *argument, bytes);
        world.check_bounds();
    }
    world.check_addresses();
});

/// One of 256, in both families.
fn address(place: u8) -> SocketAddr {
    match place % 2 {
        0 => SocketAddr::from(([192, 0, 2, 1], 1 + u16::from(place))),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 1 + u16::from(place))),
    }
}

fn ufrag(key: u8) -> String {
    format!("ufrag{key}")
}

fn password(key: u8) -> String {
    format!("password of {key}")
}

fn remote_password(key: u8) -> String {
    format!("remote password of {key}")
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u16::try_from(value.len()).expect("it is short").to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let len = u16::try_from(bytes.len() - 20).expect("it is short");
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
}

/// A message of RFC 8489, signed when there is a password.
fn message(kind: u16, id: TransactionId, username: Option<&str>, password: Option<&str>) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
    bytes.extend(id);
    if let Some(name) = username {
        attribute(&mut bytes, 0x0006, name.as_bytes());
    }
    if let Some(password) = password {
        let mut signed = bytes.clone();
        attribute(&mut signed, 0x0008, &[0; 20]);
        signed.truncate(bytes.len());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        attribute(&mut bytes, 0x0008, hmac::sign(&key, &signed).as_ref());
    }
    bytes
}

impl World {
    fn step(&mut self, step: u8, who: u8, place: SocketAddr, argument: u8, bytes: &[u8]) {
        let id = [argument % 8; 12];
        match step {
            0 => self.deliver(place, bytes),
            1 => self.send(who, place, bytes),
            2 => check_parcels(bytes, usize::from(who) * 7),
            // Whom it names, and whose password it is signed with.
            3 => {
                let signer = password(argument % CONNECTIONS);
                self.deliver(place, &message(REQUEST, id, Some(&format!("{}:x", ufrag(who))), Some(&signer)));
            }
            4 => self.send(who, place, &message(REQUEST, id, Some(&format!("x:{}", ufrag(who))), None)),
            5 => self.deliver(place, &message(SUCCESS, id, None, Some(&remote_password(who)))),
            6 => self.send(who, place, &message(REQUEST, [0; 12], None, None)),
            7 => self.answer(place, argument),
            8 => self.now += Duration::from_millis(u64::from(argument) * 50),
            _ if argument % 2 == 0 => self.go(who),
            _ => self.come(who),
        }
    }

    fn come(&mut self, key: u8) {
        self.go(key);
        self.routes.insert(PeerKey(key.into()), &ufrag(key), &password(key));
        self.routes.expect(PeerKey(key.into()), &remote_password(key), [address(key)].into_iter());
        self.here.insert(PeerKey(key.into()));
    }

    fn go(&mut self, key: u8) {
        let key = PeerKey(key.into());
        self.routes.remove(key);
        self.here.remove(&key);
        self.proved.retain(|(it, _)| *it != key);
        self.asked.retain(|(it, ..)| *it != key);
    }

    fn send(&mut self, who: u8, to: SocketAddr, datagram: &[u8]) {
        let key = PeerKey(who.into());
        let out = self.routes.sent(self.now, key, to, datagram);
        assert!(out.len() <= datagram.len());
        let request = |bytes| StunMessage::parse(bytes).filter(|it| it.class == Class::Request);
        let Some(message) = request(&out).filter(|_| looks_like_stun(datagram)) else {
            return assert_eq!(out, datagram, "what is no request was changed");
        };
        assert!(message.username.is_none() || out == datagram, "what is signed was changed");
        if self.here.contains(&key) {
            self.asked.insert((key, to, message.transaction));
        }
    }

    /// A STUN server answers something that was asked.
    fn answer(&mut self, from: SocketAddr, which: u8) {
        let asked = self.asked.iter().nth(usize::from(which) % self.asked.len().max(1)).copied();
        if let Some((_, to, id)) = asked {
            let from = if which % 3 == 0 { from } else { to };
            self.deliver(from, &message(SUCCESS, id, None, None));
        }
    }

    fn deliver(&mut self, from: SocketAddr, datagram: &[u8]) {
        let Some((key, out)) = self.routes.deliver(self.now, from, datagram) else { return };
        assert!(self.here.contains(&key), "it is gone");
        if !looks_like_stun(datagram) {
            assert!(self.proved.contains(&(key, from)), "nobody has proved to be there");
            return;
        }
        let message = StunMessage::parse(datagram).expect("what is malformed is nobody's");
        match message.class {
            Class::Request => {
                let named = message.wanted().expect("a request names somebody");
                assert_eq!(named, format!("ufrag{}", key.0), "it is for another");
                let signed = message.is_signed_with(&format!("password of {}", key.0));
                assert!(signed || self.proved.contains(&(key, from)), "it proves nothing");
                self.proved.insert((key, from));
            }
            Class::Response => {
                assert!(self.asked.contains(&(key, from, message.transaction)), "nobody asked for it");
                match out {
                    Cow::Owned(answer) => assert!(answer.len() <= datagram.len()),
                    Cow::Borrowed(_) => {
                        assert!(message.is_signed_with(&format!("remote password of {}", key.0)));
                        self.proved.insert((key, from));
                    }
                }
            }
            Class::Indication => assert!(self.proved.contains(&(key, from)), "nobody has proved to be there"),
        }
    }

    fn check_bounds(&self) {
        let (questions, checks) = self.routes.waiting();
        assert_eq!(self.routes.len(), self.here.len());
        assert!(questions <= MAX_QUESTIONS && checks <= MAX_TRANSACTIONS * self.here.len());
    }

    /// Each connection has so many addresses at most, and one where it expects its peer.
    fn check_addresses(&self) {
        let taken = (0..=255).filter(|place| self.routes.is_taken(address(*place), None)).count();
        assert!(taken <= (MAX_ADDRESSES + 1) * self.here.len());
    }
}

/// What the kernel joined is cut without a loss, and each STUN message stands alone.
fn check_parcels(bytes: &[u8], stride: usize) {
    let cut: Vec<_> = parcels(bytes, stride).collect();
    assert_eq!(cut.concat(), bytes);
    assert!(cut.iter().all(|parcel| !looks_like_stun(parcel) || parcel.len() <= stride.max(1)));
}
