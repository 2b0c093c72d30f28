//! Messages to and from one tracker, whatever is in between: a WebSocket, or a channel to the tracker in this process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use swarmgate_egress::{EgressPolicy, EgressRefused, ResolveError};
use swarmgate_webtorrent_proto::message::{ClientMessage, MAX_MESSAGE_BYTES, ServerMessage};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// How long a WebSocket may take to open, from the name's look-up to the server's upgrade.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often we say that we are still here; proxies close what is silent for a minute.
const PING_INTERVAL: Duration = Duration::from_secs(45);
/// A tracker that has not answered two pings is gone.
const SILENCE: Duration = Duration::from_secs(120);
/// How long one message may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Messages that may wait on either side.
pub(crate) const QUEUE: usize = 64;

/// Both ends of a conversation with a tracker. Dropping it ends the conversation.
#[derive(Debug)]
pub(crate) struct Wire {
    /// To the tracker.
    pub(crate) out: mpsc::Sender<ClientMessage>,
    /// From it; closed when the conversation is over.
    pub(crate) inbox: mpsc::Receiver<ServerMessage>,
    /// What carries the messages.
    pub(crate) carrier: Option<AbortOnDropHandle<WireError>>,
}

/// Why there is no conversation, or no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Its URL is none of a WebSocket.
    #[error("not a ws or wss URL")]
    Url,
    /// Its address is off limits.
    #[error(transparent)]
    Refused(#[from] EgressRefused),
    /// Its name leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The WebSocket failed.
    #[error("{0}")]
    WebSocket(String),
    /// Too slow.
    #[error("no WebSocket within {0:?}")]
    Timeout(Duration),
    /// It says nothing.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// We or it closed the conversation.
    #[error("closed")]
    Closed,
}

impl WireError {
    /// Whether it is about time, rather than about a refusal.
    pub(crate) const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Silent(_))
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl From<tungstenite::Error> for WireError {
    fn from(error: tungstenite::Error) -> Self {
        let over = matches!(error, tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed);
        if over { Self::Closed } else { Self::WebSocket(error.to_string()) }
    }
}

/// Opens WebSockets under the egress policy. Clones share one TLS configuration.
#[derive(Clone)]
pub(crate) struct Opener {
    policy: EgressPolicy,
    tls: Arc<rustls::ClientConfig>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Opener {
    /// An opener that trusts whom the system trusts.
    pub(crate) fn new(policy: EgressPolicy) -> Result<Self, rustls::Error> {
        use rustls_platform_verifier::BuilderVerifierExt;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = builder.with_platform_verifier()?.with_no_client_auth();
        Ok(Self { policy, tls: Arc::new(tls) })
    }

    /// Opens a conversation with the tracker at `url`.
    pub(crate) async fn open(&self, url: &str) -> Result<Wire, WireError> {
        let socket = timeout(OPEN_TIMEOUT, self.connect(url)).await.map_err(|_| WireError::Timeout(OPEN_TIMEOUT))??;
        let (out, outgoing) = mpsc::channel(QUEUE);
        let (incoming, inbox) = mpsc::channel(QUEUE);
        let carrier = tokio::spawn(carry(socket, outgoing, incoming));
        Ok(Wire { out, inbox, carrier: Some(AbortOnDropHandle::new(carrier)) })
    }

    async fn connect(&self, text: &str) -> Result<Socket, WireError> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "ws" | "wss")).ok_or(WireError::Url)?;
        self.policy.check_literal(&url)?;
        let host = url.host_str().ok_or(WireError::Url)?;
        let port = url.port_or_known_default().ok_or(WireError::Url)?;
        let stream = dial(&self.policy.resolve(host, port).await?).await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .max_write_buffer_size(4 * MAX_MESSAGE_BYTES);
        let connector = Connector::Rustls(self.tls.clone());
        let opened = tokio_tungstenite::client_async_tls_with_config(text, stream, Some(config), Some(connector)).await;
        Ok(opened?.0)
    }
}

/// Connects to the first address that answers.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn carry(
    mut socket: Socket,
    mut outgoing: mpsc::Receiver<ClientMessage>,
    incoming: mpsc::Sender<ServerMessage>,
) -> WireError {
    let mut heard = Instant::now();
    let mut ping = tokio::time::interval_at(heard + PING_INTERVAL, PING_INTERVAL);
    loop {
        let step = tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => write(&mut socket, Message::text(message.encode())).await,
                None => {
                    // The tracker learns at once that we are gone; whether it does makes no difference to us.
                    let _ = timeout(WRITE_TIMEOUT, socket.close(None)).await;
                    return WireError::Closed;
                }
            },
            frame = socket.next() => {
                heard = Instant::now();
                match frame {
                    Some(Ok(frame)) => take(&frame, &incoming).await,
                    Some(Err(error)) => Err(error.into()),
                    None => Err(WireError::Closed),
                }
            }
            _ = ping.tick() => match heard.elapsed() > SILENCE {
                true => Err(WireError::Silent(SILENCE)),
                false => write(&mut socket, Message::Ping(bytes::Bytes::new())).await,
            },
        };
        if let Err(error) = step {
            return error;
        }
    }
}

async fn write(socket: &mut Socket, message: Message) -> Result<(), WireError> {
    let written = timeout(WRITE_TIMEOUT, socket.send(message)).await;
    Ok(written.map_err(|_| WireError::Timeout(WRITE_TIMEOUT))??)
}

/// Hands on what a tracker says. What cannot be read is passed over: the next message may be fine.
async fn take(frame: &Message, incoming: &mpsc::Sender<ServerMessage>) -> Result<(), WireError> {
    let bytes = match frame {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) => bytes,
        Message::Close(_) => return Err(WireError::Closed),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
    };
    match ServerMessage::parse(bytes) {
        Ok(message) => incoming.send(message).await.map_err(|_| WireError::Closed),
        Err(error) => {
            tracing::debug!(%error, "a tracker's message makes no sense");
            Ok(())
        }
    }
}
