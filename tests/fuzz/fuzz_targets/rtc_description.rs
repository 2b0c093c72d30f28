//! Any text as a remote's description, offer and answer, and as the library's own: no panic, the bounds hold, nowhere
//! forbidden is dialled, and what is written of it is plain, is read again and is written the same.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use swarmgate_webtorrent_proto::sdp::{
    MAX_CANDIDATES, MAX_MESSAGE_BYTES, MAX_SDP_BYTES, MIN_MESSAGE_BYTES, RemoteDescription, Role, publish,
};

fuzz_target!(|input: &str| {
    for role in [Role::Offer, Role::Answer] {
        if let Ok(remote) = RemoteDescription::parse(input, role, may_dial) {
            assert!(input.len() <= MAX_SDP_BYTES);
            check(&remote);
        }
    }
    ours(input);
});

fn may_dial(ip: IpAddr) -> bool {
    !ip.is_loopback()
}

fn check(remote: &RemoteDescription) {
    assert!(remote.candidates().len() <= MAX_CANDIDATES);
    assert!(remote.candidates().iter().all(|it| may_dial(it.address.ip()) && it.address.port() != 0));
    assert!((MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&remote.max_message_bytes()));
    let written = remote.to_sdp();
    let is_plain = |byte: u8| byte.is_ascii_graphic() || b" \r\n".contains(&byte);
    assert!(written.bytes().all(is_plain), "{written:?}");
    let again = RemoteDescription::parse(&written, remote.role(), may_dial).expect("what was written can be read");
    assert_eq!((again.candidates(), again.password()), (remote.candidates(), remote.password()));
    assert_eq!((again.set_aside(), again.to_sdp()), (0, written));
}

/// The library writes what is published, yet parts of it are what a STUN server says.
fn ours(input: &str) {
    let shared = [(SocketAddr::from(([10, 0, 0, 5], 40001)), SocketAddr::from(([10, 0, 0, 5], 6881)))];
    let outside = Some(IpAddr::from([5, 6, 7, 8]));
    let published = publish(input, &shared, outside, |ip| !matches!(ip, IpAddr::V4(ip) if ip.is_private()));
    assert!(published.lines().count() <= input.lines().count());
    assert_eq!(publish(&published, &shared, outside, |_| true), published, "twice is not once");
}
