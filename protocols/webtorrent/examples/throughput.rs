//! How fast bytes go through one data channel between two managers of one process, on loopback, and at what cost.
//!
//! `cargo run --profile interop -p swarmgate-webtorrent --example throughput -- [MiB] [own|shared] [connections] [chunk]`
//!
//! Prints the time from answer to open channel, to the first byte, MB/s and CPU seconds for each GB, both ends together.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints, and has nobody to recover for")]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use swarmgate_egress::EgressPolicy;
use swarmgate_webtorrent::rtc::{RtcManager, RtcOptions, RtcStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MIB: usize = 1024 * 1024;

fn manager(shared: bool) -> RtcManager {
    let buffer = std::env::var("RECEIVE_BUFFER").ok().map(|bytes| bytes.parse().unwrap());
    let defaults = RtcOptions::default();
    RtcManager::start(RtcOptions {
        sockets: shared.then(|| UdpSocket::bind((LOOPBACK, 0)).unwrap()).into_iter().collect(),
        addresses: vec![LOOPBACK],
        egress: EgressPolicy { allow_private: true },
        new_connections_per_second: 1000,
        receive_buffer_bytes: buffer.unwrap_or(defaults.receive_buffer_bytes),
        ..defaults
    })
    .unwrap()
}

async fn open(offerer: &RtcManager, answerer: &RtcManager) -> (RtcStream, RtcStream, Duration) {
    let offer = offerer.offer().await.unwrap();
    let answer = answerer.answer(offer.sdp()).await.unwrap();
    let (sdp, begun) = (answer.sdp().to_owned(), Instant::now());
    let (near, far) = tokio::join!(offer.accept_answer(&sdp), answer.open());
    (near.unwrap(), far.unwrap(), begun.elapsed())
}

async fn write(mut stream: RtcStream, total: usize, chunk: usize) -> RtcStream {
    let bytes = vec![7; chunk];
    let mut left = total;
    while left > 0 {
        let count = left.min(chunk);
        stream.write_all(&bytes[..count]).await.unwrap();
        left -= count;
    }
    stream.flush().await.unwrap();
    stream
}

async fn read(mut stream: RtcStream, total: usize, begun: Instant) -> (RtcStream, Duration) {
    let mut buffer = vec![0; 128 * 1024];
    let (mut left, mut first) = (total, None);
    while left > 0 {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "{left} bytes are missing");
        first = first.or_else(|| Some(begun.elapsed()));
        left -= count;
    }
    (stream, first.unwrap_or_default())
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let total = arguments.next().map_or(256, |text| text.parse().unwrap()) * MIB;
    let shared = arguments.next().is_none_or(|text| text != "own");
    let connections: usize = arguments.next().map_or(1, |text| text.parse().unwrap());
    let chunk = arguments.next().map_or(16 * 1024 + 13, |text| text.parse().unwrap());
    let (a, b) = (manager(shared), manager(shared));
    let mut others = vec![b];
    others.resize_with(connections, || manager(shared));
    let mut pairs = Vec::new();
    for other in &others {
        pairs.push(open(&a, other).await);
    }
    let opened = pairs.iter().map(|(_, _, opened)| *opened).max().unwrap_or_default();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = Vec::new();
    for (near, far, _) in pairs {
        let writing = tokio::spawn(write(near, total / connections, chunk));
        tasks.push((writing, tokio::spawn(read(far, total / connections, begun))));
    }
    let mut first = Duration::ZERO;
    let mut ends = Vec::new();
    for (writing, reading) in tasks {
        let (far, first_byte) = reading.await.unwrap();
        first = first.max(first_byte);
        ends.push((far, writing.await.unwrap()));
    }
    let (seconds, spent) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let gigabytes = total as f64 / 1e9;
    println!(
        "open {opened:?}, first byte {first:?}, {:.1} MB/s, {:.1} CPU-s/GB, granted {} bytes, dropped {}",
        gigabytes * 1000.0 / seconds,
        spent / gigabytes,
        a.stats().receive_buffer_bytes,
        a.stats().dropped_datagrams + others.iter().map(|other| other.stats().dropped_datagrams).sum::<u64>(),
    );
    drop(ends);
    a.shutdown().await;
    for other in others {
        other.shutdown().await;
    }
}
