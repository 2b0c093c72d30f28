//! Bytes arrive, all of them, in order, soon, and no faster than they are read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::{KIB, MIB, PATIENCE, eventually, exchange, open, own_sockets, pattern, shared_port, start};

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_whoever_offers_and_whatever_the_sockets() {
    for (a, b) in [
        (shared_port(), shared_port()),
        (shared_port(), own_sockets()),
        (own_sockets(), shared_port()),
        (own_sockets(), own_sockets()),
    ] {
        let (a, b) = (start(a), start(b));
        let (mut near, mut far) = open(&a, &b).await;
        exchange(&mut near, &mut far, MIB).await;
        let (sent, received) = (a.stats(), b.stats());
        assert_eq!((sent.bytes_out, sent.bytes_in, sent.connections), (MIB as u64, MIB as u64, 1));
        assert_eq!((received.bytes_out, received.bytes_in), (MIB as u64, MIB as u64));
        drop((near, far));
        a.shutdown().await;
        b.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_open_soon_after_the_answer() {
    let (a, b) = (start(shared_port()), start(shared_port()));
    let offer = a.offer().await.unwrap();
    let answer = b.answer(offer.sdp()).await.unwrap();
    let sdp = answer.sdp().to_owned();
    let begun = Instant::now();
    let (near, far) = tokio::join!(offer.accept_answer(&sdp), answer.open());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let opened = begun.elapsed();
    near.write_all(b"x").await.unwrap();
    far.read_exact(&mut [0]).await.unwrap();
    println!("open after {opened:?}, first byte after {:?}", begun.elapsed());
    // Without the hurry it takes 600 ms; with it some 25, on a machine that does nothing else.
    assert!(opened < Duration::from_millis(500), "{opened:?}");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_stops_the_writer_and_loses_nothing() {
    const TOTAL: usize = 64 * MIB;
    /// The library's queues, SCTP's window and what may be on its way, with messages of 32 KiB.
    const BOUND: u64 = 24 * MIB as u64;
    let (a, b) = (start(shared_port()), start(shared_port()));
    let (mut near, mut far) = open(&a, &b).await;
    let writing = tokio::spawn(async move {
        for block in 0..TOTAL / (16 * KIB) {
            near.write_all(&pattern(block, 16 * KIB)).await.unwrap();
        }
        near
    });
    let mut before = u64::MAX;
    while before != a.stats().bytes_out {
        before = a.stats().bytes_out;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(before < BOUND, "{before} bytes were taken while nobody read");
    let mut block = vec![0; 16 * KIB];
    for at in 0..TOTAL / (16 * KIB) {
        tokio::time::timeout(PATIENCE, far.read_exact(&mut block)).await.unwrap().unwrap();
        assert!(block == pattern(at, 16 * KIB), "block {at}");
    }
    writing.await.unwrap().shutdown().await.unwrap();
    assert_eq!(far.read(&mut block).await.unwrap(), 0, "nothing follows the last byte");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_a_shutdown_arrives() {
    let (a, b) = (start(shared_port()), start(own_sockets()));
    let (mut near, mut far) = open(&a, &b).await;
    let sent = pattern(3, 300 * KIB);
    near.write_all(&sent).await.unwrap();
    near.shutdown().await.unwrap();
    assert!(near.write_all(b"more").await.is_err());
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, far.read_to_end(&mut got)).await.unwrap().unwrap();
    assert!(got == sent);
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_ends_the_other_side_at_once() {
    let (a, b) = (start(shared_port()), start(shared_port()));
    for offerer_leaves in [true, false] {
        let (near, far) = open(&a, &b).await;
        let (leaves, mut stays) = if offerer_leaves { (near, far) } else { (far, near) };
        let begun = Instant::now();
        drop(leaves);
        let end = tokio::time::timeout(PATIENCE, stays.read(&mut [0])).await.unwrap();
        assert!(!matches!(end, Ok(1..)));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}: not by a goodbye but by silence", begun.elapsed());
    }
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_connections_at_once_share_one_port() {
    let (hub, spokes) = (start(shared_port()), start(own_sockets()));
    let one = |_| {
        let (hub, spokes) = (hub.clone(), spokes.clone());
        tokio::spawn(async move {
            let (mut near, mut far) = open(&hub, &spokes).await;
            exchange(&mut near, &mut far, MIB).await;
            let seen = far.remote_address().unwrap();
            (near, far, seen)
        })
    };
    let tasks: Vec<_> = (0..20).map(one).collect();
    let mut streams = Vec::new();
    for task in tasks {
        streams.push(task.await.unwrap());
    }
    assert_eq!(hub.stats().connections, 20);
    let ports: BTreeSet<_> = streams.iter().map(|(_, _, address)| *address).collect();
    assert_eq!(ports.len(), 1, "the spokes see one address: {ports:?}");
    let others: BTreeSet<_> = streams.iter().map(|(near, _, _)| near.remote_address()).collect();
    assert_eq!(others.len(), 20);
    drop(streams);
    eventually("all are closed", || hub.stats().connections == 0 && spokes.stats().connections == 0).await;
    hub.shutdown().await;
    spokes.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_shared_ports_have_several_connections_in_both_directions() {
    let (a, b) = (start(shared_port()), start(shared_port()));
    let mut streams = Vec::new();
    for turn in 0..4 {
        let (mut near, mut far) = if turn % 2 == 0 { open(&a, &b).await } else { open(&b, &a).await };
        exchange(&mut near, &mut far, 100 * KIB).await;
        streams.push((near, far));
    }
    for (near, far) in &mut streams {
        exchange(near, far, 100 * KIB).await;
    }
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_kernel_buffer_is_reported_and_does_not_lose_bytes() {
    let small = || swarmgate_webtorrent::rtc::RtcOptions { receive_buffer_bytes: 100 * KIB, ..shared_port() };
    let (a, b) = (start(small()), start(small()));
    assert!(a.stats().receive_buffer_bytes <= 200 * KIB);
    let (mut near, mut far) = open(&a, &b).await;
    exchange(&mut near, &mut far, 8 * MIB).await;
    a.shutdown().await;
    b.shutdown().await;
}
