//! What the stories have in common.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use swarmgate_egress::EgressPolicy;
use swarmgate_webtorrent::rtc::{RtcManager, RtcOptions, RtcStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;
/// After this long a story has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One shared port, private addresses allowed, no pace.
pub(crate) fn shared_port() -> RtcOptions {
    RtcOptions {
        sockets: vec![UdpSocket::bind((LOOPBACK, 0)).unwrap()],
        egress: EgressPolicy { allow_private: true },
        new_connections_per_second: 1000,
        ..RtcOptions::default()
    }
}

/// A socket a connection.
pub(crate) fn own_sockets() -> RtcOptions {
    RtcOptions { sockets: Vec::new(), addresses: vec![LOOPBACK], ..shared_port() }
}

pub(crate) fn start(options: RtcOptions) -> RtcManager {
    RtcManager::start(options).unwrap()
}

/// Opens one connection; the offerer's end comes first.
pub(crate) async fn open(offerer: &RtcManager, answerer: &RtcManager) -> (RtcStream, RtcStream) {
    let offer = offerer.offer().await.unwrap();
    let answer = answerer.answer(offer.sdp()).await.unwrap();
    let sdp = answer.sdp().to_owned();
    let (near, far) = tokio::join!(offer.accept_answer(&sdp), answer.open());
    (near.unwrap(), far.unwrap())
}

/// Bytes that tell from each other where they stand.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at ^ seed).wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

/// Sends a pattern each way at once and checks what comes out.
pub(crate) async fn exchange(near: &mut RtcStream, far: &mut RtcStream, len: usize) {
    let (there, back) = (pattern(1, len), pattern(2, len));
    let one = send_and_receive(near, &there, &back);
    let other = send_and_receive(far, &back, &there);
    tokio::time::timeout(PATIENCE, async { tokio::join!(one, other) }).await.unwrap();
}

async fn send_and_receive(stream: &mut RtcStream, sent: &[u8], expected: &[u8]) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut got = vec![0; expected.len()];
    let (wrote, read) = tokio::join!(writer.write_all(sent), reader.read_exact(&mut got));
    wrote.unwrap();
    read.unwrap();
    assert!(got == expected, "bytes came out otherwise than they went in");
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
