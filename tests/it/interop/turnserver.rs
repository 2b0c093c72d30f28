//! WebRTC through coturn. The two ends have no family of addresses in common: what is to pass between them passes through
//! the server, which lends both an address of IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use swarmgate_egress::EgressPolicy;
use swarmgate_tests::payload::bytes;
use swarmgate_tests::ports;
use swarmgate_tests::process::Process;
use swarmgate_tests::programs::{Program, skip};
use swarmgate_tests::wait;
use swarmgate_webtorrent::rtc::{RtcError, RtcManager, RtcOptions, RtcStream, TurnServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::scratch;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const USER: &str = "gateway";
const PASSWORD: &str = "of the story";
/// A program that binds a few sockets.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// coturn's own buffers are small: it loses what comes in one burst, and losses cost seconds.
const TRANSFER_WITHIN: Duration = Duration::from_secs(60);
/// How long two try to meet that can, on a busy machine, and that cannot.
const MEETING_WITHIN: Duration = Duration::from_secs(20);
const VAIN_TRY: Duration = Duration::from_secs(3);
const LEN: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carries_a_mib_each_way_between_two_that_cannot_reach_each_other() {
    let dir = scratch();
    let Some(server) = Server::start(dir.path()).await else { return };
    let (one, other) = [V4, V6].map(|ip| end(ip, Some(server.account(ip, PASSWORD)), MEETING_WITHIN)).into();
    let (mut near, mut far) = connect(&one, &other).await.expect("the server brings them together");
    for (stream, its_own) in [(&near, &one), (&far, &other)] {
        let peer = stream.remote_address().expect("it is open");
        assert!(peer.ip() == V4, "{peer} is no address of the other's, nor of {its_own:?}");
    }
    let lent = near.remote_address().map(|peer| peer.port());
    assert!(lent.is_some_and(|port| server.lends(port)), "{near:?}: not through the server");
    let (there, back) = (bytes(1, LEN), bytes(2, LEN));
    let begun = Instant::now();
    let both = async { tokio::join!(pass(&mut near, &there, &back), pass(&mut far, &back, &there)) };
    tokio::time::timeout(TRANSFER_WITHIN, both).await.expect("a MiB arrives");
    eprintln!("a MiB each way in {:?}", begun.elapsed());
    for manager in [one, other] {
        manager.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lends_nothing_to_who_has_another_password_and_they_do_not_meet() {
    let dir = scratch();
    let Some(server) = Server::start(dir.path()).await else { return };
    for account in [None, Some(server.account(V6, "of another story"))] {
        let (one, other) = (end(V4, None, VAIN_TRY), end(V6, account, VAIN_TRY));
        let met = connect(&one, &other).await;
        assert!(matches!(met, Err(RtcError::Timeout(_))), "{met:?}");
        for manager in [one, other] {
            manager.shutdown().await;
        }
    }
}

/// coturn on loopback, which knows one user.
struct Server {
    _process: Process,
    port: u16,
    lent: std::ops::RangeInclusive<u16>,
}

impl Server {
    /// How many addresses it may lend.
    const ADDRESSES: u16 = 50;

    async fn start(dir: &Path) -> Option<Self> {
        let program = Program::Turnserver.find()?;
        if UdpSocket::bind((V6, 0)).is_err() {
            skip("this machine has no IPv6, not even on loopback");
            return None;
        }
        let port = ports::free().port();
        // A port that is taken it passes over.
        let lent = 32_100..=32_100 + Self::ADDRESSES;
        let mut command = Command::new(program);
        command
            .args(["-n", "--listening-ip=127.0.0.1", "--listening-ip=::1", "--relay-ip=127.0.0.1"])
            .args(["--no-tls", "--no-dtls", "--no-tcp", "--no-cli", "--no-rfc5780", "--no-multicast-peers"])
            .args(["--allow-loopback-peers", "--lt-cred-mech", "--realm=story.test"])
            .args(["--log-file=stdout", "--simple-log"])
            .arg(format!("--listening-port={port}"))
            .arg(format!("--min-port={}", lent.start()))
            .arg(format!("--max-port={}", lent.end()))
            .arg(format!("--user={USER}:{PASSWORD}"))
            .arg(format!("--userdb={}", dir.join("turndb").display()))
            .arg(format!("--pidfile={}", dir.join("turn.pid").display()));
        let mut process = Process::start("turnserver", &command, dir);
        wait::until("coturn to listen", READY_WITHIN, async || {
            process.assert_running();
            [V4, V6].into_iter().all(|ip| answers(SocketAddr::new(ip, port))).then_some(())
        })
        .await;
        Some(Self { _process: process, port, lent })
    }

    fn account(&self, ip: IpAddr, password: &str) -> TurnServer {
        let url = format!("turn:{}", SocketAddr::new(ip, self.port));
        TurnServer { url, username: USER.to_owned(), credential: password.to_owned() }
    }

    fn lends(&self, port: u16) -> bool {
        self.lent.contains(&port)
    }
}

/// Whether somebody answers a binding request (RFC 8489 §6) at an address.
fn answers(server: SocketAddr) -> bool {
    const REQUEST: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42our question";
    let asked = UdpSocket::bind((server.ip(), 0)).and_then(|socket| {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send_to(&REQUEST, server)?;
        socket.recv(&mut [0; 500])
    });
    asked.is_ok()
}

/// One end, with an address of one family.
fn end(ip: IpAddr, turn: Option<TurnServer>, connect_timeout: Duration) -> RtcManager {
    let options = RtcOptions {
        addresses: vec![ip],
        turn: turn.into_iter().collect(),
        egress: EgressPolicy { allow_private: true },
        connect_timeout,
        ..RtcOptions::default()
    };
    RtcManager::start(options).expect("loopback has both families")
}

async fn connect(one: &RtcManager, other: &RtcManager) -> Result<(RtcStream, RtcStream), RtcError> {
    let offer = one.offer().await?;
    let answered = other.answer(offer.sdp()).await?;
    let answer = answered.sdp().to_owned();
    tokio::try_join!(offer.accept_answer(&answer), answered.open())
}

/// Sends all of one, and insists on all of the other.
async fn pass(stream: &mut RtcStream, sent: &[u8], expected: &[u8]) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut got = vec![0; expected.len()];
    let (wrote, read) = tokio::join!(writer.write_all(sent), reader.read_exact(&mut got));
    assert!(wrote.is_ok() && read.is_ok(), "{wrote:?}, {read:?}");
    assert!(got == expected, "bytes came out otherwise than they went in");
}
