//! What our descriptions say about where we are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use swarmgate_webtorrent::rtc::RtcOptions;

use crate::kit::{KIB, LOOPBACK, PATIENCE, exchange, open, own_sockets, shared_port, start};

/// The address that the STUN server of these stories sees everybody at.
const SEEN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Answers binding requests (RFC 8489 §7.3.1) until the story ends, but none before so many different ones have come: all
/// of them wait at the same time, and the last is answered first.
fn stun_server(at_once: usize) -> SocketAddr {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut request, mut waiting) = ([0; 1500], Vec::new());
        while let Ok((len, from)) = socket.recv_from(&mut request) {
            assert!(len >= 20);
            let question = (request[8..20].to_vec(), from);
            if !waiting.contains(&question) {
                waiting.push(question);
            }
            if waiting.len() >= at_once {
                for (transaction, from) in waiting.iter().rev() {
                    let _ = socket.send_to(&binding_response(transaction, from.port()), from);
                }
            }
        }
    });
    address
}

fn binding_response(transaction: &[u8], port: u16) -> Vec<u8> {
    let mut response = vec![1, 1, 0, 12];
    response.extend(MAGIC_COOKIE);
    response.extend(transaction);
    response.extend([0, 0x20, 0, 8, 0, 1]);
    response.extend((port ^ 0x2112).to_be_bytes());
    response.extend(SEEN.octets().iter().zip(MAGIC_COOKIE).map(|(byte, mask)| byte ^ mask));
    response
}

fn candidates(sdp: &str) -> Vec<&str> {
    sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stun_server_tells_each_of_many_offers_over_one_port_where_it_is_seen() {
    const OFFERS: usize = 10;
    // Two servers: what one connection asks of each has to be told apart as well.
    let stun = [stun_server(OFFERS), stun_server(OFFERS)].map(|server| format!("stun:{server}")).to_vec();
    let options = shared_port();
    let port = options.sockets[0].local_addr().unwrap().port();
    let manager = start(RtcOptions { stun, gather_timeout: PATIENCE, ..options });
    let offers = futures_util::future::join_all((0..OFFERS).map(|_| manager.offer())).await;
    for offer in offers {
        let offer = offer.unwrap();
        let lines = candidates(offer.sdp());
        assert!(lines.iter().any(|line| line.contains(&format!(" 127.0.0.1 {port} typ host"))), "{lines:?}");
        let reflexive = format!(" {SEEN} {port} typ srflx raddr 127.0.0.1 rport {port}");
        assert!(lines.iter().any(|line| line.contains(&reflexive)), "{lines:?}");
    }
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stun_server_costs_no_more_than_the_gather_timeout() {
    let silent = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let stun = vec![format!("stun:{}", silent.local_addr().unwrap())];
    let gather_timeout = Duration::from_millis(200);
    for options in [shared_port(), own_sockets()] {
        let manager = start(RtcOptions { stun: stun.clone(), gather_timeout, ..options });
        let begun = Instant::now();
        let offer = manager.offer().await.unwrap();
        assert!((gather_timeout..Duration::from_secs(2)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(candidates(offer.sdp()).len(), 1);
        manager.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_one_to_one_nat_the_outside_address_is_told_and_the_inside_one_is_not() {
    let external_ip = Some(IpAddr::V4(SEEN));
    let (a, b) = (start(RtcOptions { external_ip, ..shared_port() }), start(own_sockets()));
    let offer = a.offer().await.unwrap();
    let lines = candidates(offer.sdp());
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(&SEEN.to_string())), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("127.0.0.1")), "{lines:?}");
    // What is inside works as before.
    let c = start(shared_port());
    let (mut near, mut far) = open(&b, &c).await;
    exchange(&mut near, &mut far, KIB).await;
    for manager in [a, b, c] {
        manager.shutdown().await;
    }
}
