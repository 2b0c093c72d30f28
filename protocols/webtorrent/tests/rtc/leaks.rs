//! What is dropped leaves nothing: no descriptor, no thread, no task, no connection.

use std::net::UdpSocket;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;

use crate::kit::{LOOPBACK, eventually, open, own_sockets, shared_port, start};
use swarmgate_webtorrent::rtc::{RtcError, RtcManager, RtcOptions};

/// Of this runtime alone, so that stories beside this one do not count.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// UDP sockets of this process in the ranges that only this story uses.
fn sockets_at(ip: std::net::IpAddr) -> usize {
    let std::net::IpAddr::V4(ip) = ip else { return 0 };
    let wanted = format!("{:08X}:", u32::from_le_bytes(ip.octets()));
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap();
    table.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|local| local.starts_with(&wanted))).count()
}

/// Names of this process's threads.
fn threads() -> impl Iterator<Item = String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
}

/// One cycle of six kinds, in turn; half are broken off.
async fn cycle(turn: usize, a: &RtcManager, b: &RtcManager) {
    match turn % 6 {
        0 => drop(a.offer().await.unwrap()),
        1 => {
            let offer = a.offer().await.unwrap();
            drop(b.answer(offer.sdp()).await.unwrap());
        }
        2 => {
            // The caller loses patience in the middle of the making.
            let offer = tokio::time::timeout(Duration::from_micros(300), a.offer()).await;
            drop(offer);
        }
        3 => {
            let (near, far) = open(a, b).await;
            drop(far);
            drop(near);
        }
        4 => {
            let (near, mut far) = open(b, a).await;
            drop(near);
            let _ = far.read(&mut [0]).await;
        }
        _ => {
            let (mut near, mut far) = open(a, b).await;
            near.write_all(&[1; 1000]).await.unwrap();
            near.shutdown().await.unwrap();
            far.read_exact(&mut [0; 1000]).await.unwrap();
        }
    }
}

async fn two_hundred_cycles(a: RtcOptions, b: RtcOptions, ip: std::net::IpAddr) {
    let (a, b) = (start(a), start(b));
    let idle = || a.stats().connections + a.stats().pending_offers + b.stats().connections == 0;
    for turn in 0..12 {
        cycle(turn, &a, &b).await;
    }
    eventually("idle after the first cycles", idle).await;
    eventually("the first cycles' tasks end", || tasks() <= 1).await;
    let sockets = sockets_at(ip);
    for turn in 0..200 {
        cycle(turn, &a, &b).await;
    }
    eventually("idle again", idle).await;
    eventually("no task is left", || tasks() <= 1).await;
    assert_eq!(sockets_at(ip), sockets);
    a.shutdown().await;
    b.shutdown().await;
    eventually("no socket is left", || sockets_at(ip) == 0).await;
}

fn at(ip: std::net::IpAddr, options: RtcOptions) -> RtcOptions {
    if options.sockets.is_empty() {
        return RtcOptions { addresses: vec![ip], ..options };
    }
    RtcOptions { sockets: vec![UdpSocket::bind((ip, 0)).unwrap()], ..options }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cycles_over_shared_ports_leave_nothing() {
    let ip = "127.0.7.1".parse().unwrap();
    two_hundred_cycles(at(ip, shared_port()), at(ip, shared_port()), ip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cycles_over_own_sockets_leave_nothing() {
    let ip = "127.0.7.2".parse().unwrap();
    two_hundred_cycles(at(ip, own_sockets()), at(ip, own_sockets()), ip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_everything_that_is_still_held() {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let (a, b) = (start(RtcOptions { sockets: vec![socket], ..shared_port() }), start(own_sockets()));
    let (mut near, mut far) = open(&a, &b).await;
    let pending = a.offer().await.unwrap();
    let answered = a.answer(b.offer().await.unwrap().sdp()).await.unwrap();
    assert!(threads().any(|name| name == format!("rtc-{}", address.port())));
    tokio::time::timeout(Duration::from_secs(5), a.shutdown()).await.unwrap();

    assert_eq!((a.stats().connections, a.stats().pending_offers), (0, 0));
    assert!(!matches!(near.read(&mut [0]).await, Ok(1..)));
    assert!(near.write_all(&[0; 200_000]).await.is_err());
    assert!(!matches!(far.read(&mut [0]).await, Ok(1..)));
    assert!(answered.open().await.is_err());
    assert!(pending.accept_answer("v=0").await.is_err());
    assert!(matches!(a.offer().await, Err(RtcError::ShutDown)));
    UdpSocket::bind(address).unwrap();
    assert!(!threads().any(|name| name == format!("rtc-{}", address.port())));
    b.shutdown().await;
}
