//! HTTP/2: many requests on one connection, each with bounds of its own.
//!
//! What holds for a connection of HTTP/1.1 holds for a stream here: a response that fails half-way resets it, a client
//! that takes nothing is read nothing for, and whoever ends a stream ends that stream alone. What a connection may cost
//! is bounded by the constants below; a flood of resets or of header frames ends it (h2 counts them).

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{KEEPALIVE_AFTER, Peer, Routes};

/// Requests at once on one connection. Browsers open one connection for everything; players read a few ranges.
const MAX_STREAMS: u32 = 64;
/// Bytes of a response that wait in memory because the client takes no more, for each stream: what `NOT_SENT_BYTES` is for
/// a connection.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Bytes of a request's header fields: the longest URL (16 KiB) with room for as much again.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Bytes of a request's body that may arrive unasked, for a stream and for the connection.
const WINDOW_BYTES: u32 = 256 * 1024;
/// Streams that a client resets before they were looked at ("rapid reset"), until the connection ends.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that end with an error of the client's making, until the connection ends.
const MAX_ERROR_RESETS: usize = 64;
/// A client that does not answer a ping for so long is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection until it ends, `shutdown` is cancelled and its requests are answered, or nothing was asked on it
/// for `idle`.
pub(super) async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Routes,
    shutdown: &CancellationToken,
    idle: Duration,
) -> hyper::Result<()> {
    let work = Arc::new(Work::default());
    let (client, running) = (peer.clone(), Arc::clone(&work));
    let service = service_fn(move |request: Request<Incoming>| {
        let (stream, done) = (client.stream(), Running::begin(&running));
        // A tunnel is of HTTP/1.1 alone.
        let answer = (*request.method() != Method::CONNECT).then(|| routes.answer(&stream, request));
        async move {
            let response = match answer {
                Some(answer) => answer.await?,
                None => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            };
            Ok::<Response, std::convert::Infallible>(
                response.map(|body| Body::new(StreamBody::new(body, stream, done))),
            )
        }
    });
    let mut http = http2::Builder::new(Tasks::default());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(KEEPALIVE_AFTER)
        .keep_alive_timeout(PING_TIMEOUT);
    let mut served = pin!(http.serve_connection(TokioIo::new(socket), service));
    // Looked at as often as that, so that none is idle for twice as long.
    let (mut look, mut closing) = (Instant::now() + idle, false);
    loop {
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = peer.cut.cancelled() => return Ok(()),
            () = shutdown.cancelled(), if !closing => {
                closing = true;
                served.as_mut().graceful_shutdown();
            }
            () = sleep_until(look) => {
                if work.is_idle() {
                    if closing {
                        // It was told, and says nothing.
                        return Ok(());
                    }
                    closing = true;
                    served.as_mut().graceful_shutdown();
                }
                look = Instant::now() + idle;
            }
        }
    }
}

/// How much goes on on a connection.
#[derive(Debug, Default)]
struct Work {
    running: AtomicUsize,
    /// Requests since it was looked at last.
    begun: AtomicUsize,
}

impl Work {
    /// Whether nothing runs, and nothing has begun since this was asked last.
    fn is_idle(&self) -> bool {
        let begun = self.begun.swap(0, Ordering::AcqRel);
        begun == 0 && self.running.load(Ordering::Acquire) == 0
    }
}

/// A request that is not answered yet to its last byte.
#[derive(Debug)]
struct Running(Arc<Work>);

impl Running {
    fn begin(work: &Arc<Work>) -> Self {
        work.begun.fetch_add(1, Ordering::AcqRel);
        work.running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(work))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A response's body, which ends with an error, and so with a reset of its stream, when somebody cuts it.
struct StreamBody {
    body: Body,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _running: Running,
}

impl StreamBody {
    fn new(body: Body, peer: Peer, running: Running) -> Self {
        Self { body, cut: Box::pin(peer.cut.cancelled_owned()), _running: running }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was cut");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The tasks of one connection's streams: they end with it.
#[derive(Debug, Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
