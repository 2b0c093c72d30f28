//! The accept loop, and the router that it serves.
//!
//! One task accepts, one task a connection, all owned by [`serve`]: when it returns they are gone. A connection is over
//! TCP, TLS or a Unix socket, and speaks HTTP/1.1 or HTTP/2. Its socket takes no more than 128 KiB that the network has
//! not asked for yet, so a slow client holds back the reader instead of filling kernel memory; a response that fails
//! half-way resets the connection, or its stream.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use futures_util::future::Either;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower::util::Oneshot;

use crate::state::GatewayState;
use crate::{api, guard, proxies, routes};

mod http2;
mod socket;
mod tls;
mod wire;

pub use socket::HttpSocket;
#[cfg(unix)]
pub use socket::UnixSocket;
pub use tls::{Tls, TlsError};
use wire::{Accepted, Socket, Version};

/// Bytes in a socket's send buffer that the network has not taken yet, at most (`TCP_NOTSENT_LOWAT`): 128 KiB. Enough to
/// keep a fast path busy between two wake-ups, and what a slow client costs.
const NOT_SENT_BYTES: u32 = 128 * 1024;

/// Bytes of a response gathered for one vectored write, and of a request's head: 256 KiB.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// A connection with nothing to say is probed after this long, so that a vanished client is noticed.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How long to wait when the system is out of descriptors before accepting again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections at once; more wait in the listener's backlog. Default 4096.
    pub max_connections: usize,
    /// Time for a request's head, and for the next request on an idle connection. Default 10 s.
    pub header_read_timeout: Duration,
    /// Time for running responses to end after shutdown begins; then they are cut. Default 10 s.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { max_connections: 4096, header_read_timeout: Duration::from_secs(10), drain: Duration::from_secs(10) }
    }
}

/// The client at the other end of a connection: an extension of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address; that of a proxy's client where the proxy is believed.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
    reset: Arc<AtomicBool>,
    cut: CancellationToken,
}

impl Peer {
    /// Makes the peer of a new connection.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, tls: false, reset: Arc::default(), cut: CancellationToken::new() }
    }

    /// The same client as one of many requests on its connection, which ends without the others.
    fn stream(&self) -> Self {
        Self { reset: Arc::default(), cut: self.cut.child_token(), ..self.clone() }
    }

    /// Makes the connection end with a reset rather than an orderly close: a response was cut short.
    pub fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// Ends the connection with a reset at once, whatever runs on it.
    pub fn cut(&self) {
        self.reset_on_close();
        self.cut.cancel();
    }
}

/// All that a gateway answers. Clones are the same.
#[derive(Debug, Clone)]
pub struct Routes {
    state: GatewayState,
    router: Router,
}

/// The gateway's routes.
pub fn router(state: GatewayState) -> Routes {
    let base = state.options.base_path.clone();
    let routes = Router::new()
        .merge(routes::content(&state))
        .merge(routes::pages(&state))
        .merge(routes::tracker(&state))
        .merge(routes::ops(&state))
        .merge(api::routes(&state))
        .method_not_allowed_fallback(|| async { routes::method_not_allowed() })
        .with_state(state.clone());
    // A proxy may strip the base path or keep it.
    let published = if base.is_empty() {
        routes
    } else {
        let home = routes::pages::home_at(&base, &state).with_state(state.clone());
        routes.clone().nest(&base, routes).merge(home)
    };
    let router = published
        .fallback(|| async { routes::no_route() })
        .layer(from_fn_with_state(state.clone(), routes::ipfs::by_host))
        .layer(from_fn_with_state(state.clone(), guard::edge));
    Routes { state, router }
}

/// An answer that is there, or that a route is asked for.
type Answer = Either<Ready<Result<Response, Infallible>>, Oneshot<Router, Request<Body>>>;

impl Routes {
    /// Answers a request. What is known and in memory needs no route: layers around a handler cost as much as it does.
    fn answer(&self, connection: &Peer, mut request: Request<Incoming>) -> Answer {
        let peer = proxies::introduce(&self.state.options, connection, &mut request);
        match guard::answer_at_once(&self.state, &peer, &request) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => Either::Right(self.route(peer, request)),
        }
    }

    /// Hands a request to the routes.
    fn route(&self, peer: Peer, request: Request<Incoming>) -> Oneshot<Router, Request<Body>> {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        self.router.clone().oneshot(request)
    }
}

/// Serves until `shutdown` is cancelled and the last connection has ended or the drain time has passed.
pub async fn serve(socket: impl Into<HttpSocket>, routes: Routes, shutdown: CancellationToken, limits: ServeLimits) {
    let socket = socket.into();
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&socket, &room) => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note_panic(&ended);
                continue;
            }
            () = shutdown.cancelled() => break,
        };
        let Some((accepted, address, permit)) = accepted else { continue };
        let peer = Peer { tls: socket.tls().is_some(), ..Peer::new(address) };
        let connection = connection(accepted, socket.tls().cloned(), peer, routes.clone(), shutdown.clone(), limits);
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(socket);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, all_ended).await.is_err() {
        tracing::debug!(connections = connections.len(), "drain time over, cutting connections");
        connections.shutdown().await;
    }
}

fn note_panic(ended: &Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Waits for room, then for a connection; `None` after an error that was waited out.
async fn accept(socket: &HttpSocket, room: &Arc<Semaphore>) -> Option<(Accepted, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok((accepted, address)) => Some((accepted, address, permit)),
        Err(error) if is_about_one_connection(&error) => None,
        Err(error) => {
            tracing::warn!(%error, "accepting failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(
    accepted: Accepted,
    tls: Option<Tls>,
    peer: Peer,
    routes: Routes,
    shutdown: CancellationToken,
    limits: ServeLimits,
) {
    let beginning = Socket::begin(accepted, tls.as_ref(), peer.clone());
    let begun = tokio::select! {
        begun = timeout(limits.header_read_timeout, beginning) => begun,
        () = shutdown.cancelled() => return,
    };
    let ended = match begun {
        Ok(Ok((socket, Version::Http1))) => http1(socket, peer, routes, &shutdown, limits).await,
        Ok(Ok((socket, Version::Http2))) => {
            http2::serve(socket, peer, routes, &shutdown, limits.header_read_timeout).await
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "connection did not begin");
            return;
        }
        Err(_) => return,
    };
    if let Err(error) = ended {
        // A client that leaves in the middle is an everyday thing.
        tracing::debug!(%error, "connection ended early");
    }
}

/// Serves a connection of HTTP/1.1 until it ends.
async fn http1(
    socket: Socket,
    peer: Peer,
    routes: Routes,
    shutdown: &CancellationToken,
    limits: ServeLimits,
) -> hyper::Result<()> {
    let socket = TokioIo::new(socket);
    let (answers, client) = (routes.clone(), peer.clone());
    let tunnel: Arc<Mutex<Option<OnUpgrade>>> = Arc::default();
    let wanted = Arc::clone(&tunnel);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let connects = request.method() == Method::CONNECT;
        if connects {
            *wanted.lock() = Some(hyper::upgrade::on(&mut request));
        }
        let answer = (!connects).then(|| answers.answer(&client, request));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Ok(Response::new(Body::empty())),
            }
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_read_timeout).max_buf_size(WRITE_BUFFER_BYTES);
    let mut served = std::pin::pin!(http.serve_connection(socket, service).with_upgrades());
    let serving = async {
        tokio::select! {
            ended = served.as_mut() => ended,
            () = shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        }
    };
    let ended = tokio::select! {
        ended = serving => ended,
        () = peer.cut.cancelled() => return Ok(()),
    };
    let tunnel = tunnel.lock().take();
    match (ended, tunnel) {
        (Ok(()), Some(upgrade)) => within(&http, upgrade, routes, peer, shutdown).await,
        (ended, _) => ended,
    }
}

/// Serves what comes through a tunnel that a client asked for with CONNECT, as clients do that take the gateway for
/// their proxy. It leads nowhere but here, and into no further tunnel.
async fn within(
    http: &http1::Builder,
    upgrade: OnUpgrade,
    routes: Routes,
    peer: Peer,
    shutdown: &CancellationToken,
) -> hyper::Result<()> {
    let tunnel = upgrade.await?;
    let client = peer.clone();
    let service = service_fn(move |request: Request<Incoming>| routes.answer(&client, request));
    let mut served = std::pin::pin!(http.serve_connection(tunnel, service));
    tokio::select! {
        ended = served.as_mut() => ended,
        () = peer.cut.cancelled() => Ok(()),
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }
}
