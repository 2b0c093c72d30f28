//! A slow way to a server on loopback, that can be cut: what the demo kills.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Bytes that pass at a time.
const CHUNK: usize = 16 * 1024;

/// The way. Dropping it cuts it.
#[derive(Debug)]
pub(super) struct Line {
    /// Where clients connect.
    pub(super) address: SocketAddr,
    cut: CancellationToken,
}

impl Line {
    /// A way to `to` over which each connection is given so many bytes a second.
    pub(super) async fn to(to: SocketAddr, bytes_per_second: u32) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, cut) = (listener.local_addr()?, CancellationToken::new());
        let pause = Duration::from_secs(1) * u32::try_from(CHUNK).unwrap_or(u32::MAX) / bytes_per_second.max(1);
        let ended = cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = accept(listener, to, pause, &ended) => {}
            }
        });
        Ok(Self { address, cut })
    }

    /// Ends every connection, and takes no more.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, pause: Duration, cut: &CancellationToken) {
    while let Ok((client, _)) = listener.accept().await {
        let cut = cut.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(to).await else { return };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = cut.cancelled() => {}
                ((), ()) = async {
                    tokio::join!(pass(from_client, to_server, Duration::ZERO), pass(from_server, to_client, pause))
                } => {}
            }
        });
    }
}

/// Passes bytes on, resting after each chunk as long as it takes at the line's rate.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, pause: Duration) {
    let mut chunk = vec![0; CHUNK];
    let mut free_at = tokio::time::Instant::now();
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
        let share = pause.mul_f64(count as f64 / CHUNK as f64);
        free_at = free_at.max(tokio::time::Instant::now()) + share;
        tokio::time::sleep_until(free_at).await;
    }
}
