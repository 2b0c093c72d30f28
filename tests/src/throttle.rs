//! A way to a server on loopback that is as wide as a story wants it, and can be cut, clogged and mended.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes that pass at a time.
const CHUNK: usize = 16 * 1024;
/// What may pass at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(10);

/// What the way does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Connections stay, and nothing passes.
    Clogged,
    /// Connections are reset, and new ones closed at once.
    Cut,
}

/// The way. Dropping it closes it.
#[derive(Debug)]
pub struct Throttle {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    rate: AtomicU64,
    state: watch::Sender<State>,
    /// When the next byte towards the client may pass: all connections share the rate.
    free_at: Mutex<Instant>,
    passed: AtomicU64,
}

impl Throttle {
    /// A way to `to` that lets so many bytes a second pass towards the client.
    pub async fn start(to: SocketAddr, bytes_per_second: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("a throttle: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("a throttle: {e}"));
        let shared = Arc::new(Shared {
            to,
            rate: AtomicU64::new(bytes_per_second.max(1)),
            state: watch::Sender::new(State::Open),
            free_at: Mutex::new(Instant::now()),
            passed: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accepting }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have passed towards clients.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Resets every connection and lets none be made.
    pub fn cut(&self) {
        self.shared.state.send_replace(State::Cut);
    }

    /// Lets connections be, and nothing pass.
    pub fn clog(&self) {
        self.shared.state.send_replace(State::Clogged);
    }

    /// Lets bytes pass again.
    pub fn mend(&self) {
        self.shared.state.send_replace(State::Open);
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if *shared.state.borrow() == State::Cut {
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(shared.to).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let mut state = shared.state.subscribe();
            tokio::select! {
                () = pass(from_client, to_server, &shared, false) => {}
                () = pass(from_server, to_client, &shared, true) => {}
                _ = state.wait_for(|state| *state == State::Cut) => {}
            }
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, metered: bool) {
    let mut state = shared.state.subscribe();
    let mut chunk = vec![0; CHUNK];
    while let Ok(count) = from.read(&mut chunk).await {
        if count == 0 || state.wait_for(|state| *state != State::Clogged).await.is_err() {
            break;
        }
        if metered {
            shared.wait_for_turn(count).await;
            shared.passed.fetch_add(count as u64, Ordering::Relaxed);
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            break;
        }
    }
    // The other direction may still have something to say.
    let _ = to.shutdown().await;
    std::future::pending::<()>().await;
}

impl Shared {
    async fn wait_for_turn(&self, bytes: usize) {
        let at = {
            let mut free_at = self.free_at.lock().await;
            let now = Instant::now();
            let at = (*free_at).max(now.checked_sub(BURST).unwrap_or(now));
            *free_at = at + Duration::from_secs_f64(bytes as f64 / self.rate.load(Ordering::Relaxed) as f64);
            at
        };
        tokio::time::sleep_until(at).await;
    }
}
