//! A long way on loopback: each byte that passes arrives so much later, in either direction, and none is held back longer.
//!
//! `delay-relay MILLISECONDS UPSTREAM...` listens on a port for each of the addresses, prints the ports as one line of
//! JSON, and relays until it is ended. What a path has besides its length, a rate and losses, this one has not.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Reads that are on their way in one direction: 64 MiB, which at 25 ms is more than any of these programs sends.
const ON_THE_WAY: usize = 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let delay = Duration::from_millis(args.next().ok_or("no delay")?.parse()?);
    let mut ports = Vec::new();
    let mut listening = Vec::new();
    for upstream in args {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ports.push(listener.local_addr()?.port());
        listening.push(accept(listener, upstream.parse()?, delay));
    }
    println!("{}", serde_json::json!(ports));
    futures_util::future::join_all(listening).await;
    Ok(())
}

async fn accept(listener: TcpListener, upstream: SocketAddr, delay: Duration) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(relay(near, upstream, delay));
    }
}

/// A connection that cannot be made is one that ends at once.
async fn relay(near: TcpStream, upstream: SocketAddr, delay: Duration) {
    let Ok(far) = TcpStream::connect(upstream).await else { return };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(one_way(near_in, far_out, delay), one_way(far_in, near_out, delay));
}

/// The end of a direction travels like its bytes.
async fn one_way(mut from: OwnedReadHalf, to: OwnedWriteHalf, delay: Duration) {
    let (sender, arriving) = mpsc::channel(ON_THE_WAY);
    let deliver = tokio::spawn(deliver(arriving, to));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let read = from.read_buf(&mut buffer).await.unwrap_or_default();
        if sender.send((Instant::now() + delay, buffer.split().freeze())).await.is_err() || read == 0 {
            break;
        }
    }
    drop(sender);
    let _ = deliver.await;
}

/// An empty read is the end.
async fn deliver(mut arriving: mpsc::Receiver<(Instant, Bytes)>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = arriving.recv().await {
        tokio::time::sleep_until(due).await;
        if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
