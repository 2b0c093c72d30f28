//! A BitTorrent peer written by hand, on the codec alone, that behaves as a story tells it to and writes down what it
//! is asked. It shares no decision with the product.

use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use swarmgate_bittorrent_proto::extension::{ExtensionHandshake, MetadataMessage};
use swarmgate_bittorrent_proto::handshake::{HANDSHAKE_LEN, Handshake, PeerId};
use swarmgate_bittorrent_proto::wire::{BlockRequest, Message, complete_frames, next_message};
use swarmgate_content::InfoHash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::node::Content;

/// The number under which it takes metadata messages (BEP 10).
const UT_METADATA: u8 = 7;

/// Whether a block is sent with a wrong byte.
type Lies = Arc<dyn Fn(&BlockRequest) -> bool + Send + Sync>;

/// How a peer behaves.
#[derive(Clone)]
pub struct Manners {
    infohash: InfoHash,
    info: Bytes,
    bytes: Bytes,
    piece_len: usize,
    lies: Lies,
    silent: bool,
    pace: Duration,
    leaves_after: Option<u64>,
}

/// What a peer was asked and did.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Connections that came as far as a handshake.
    pub connections: usize,
    /// Blocks asked for, and when.
    pub requests: Vec<(Instant, BlockRequest)>,
    /// Requests withdrawn, and when.
    pub cancels: Vec<(Instant, BlockRequest)>,
    /// Bytes of blocks sent.
    pub served: u64,
    /// Blocks sent with a wrong byte.
    pub lies: u64,
}

/// A running peer. Dropping it ends it.
#[derive(Debug)]
pub struct HostilePeer {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    _task: AbortOnDropHandle<()>,
}

impl Manners {
    /// An honest peer with all of a content.
    pub fn honest(content: &Content) -> Self {
        Self {
            infohash: content.infohash(),
            info: content.metainfo.info_bytes.clone(),
            bytes: content.bytes.clone(),
            piece_len: content.metainfo.info.piece_len as usize,
            lies: Arc::new(|_| false),
            silent: false,
            pace: Duration::ZERO,
            leaves_after: None,
        }
    }

    /// A peer that has nothing but metadata, whatever it is worth.
    pub fn only_metadata(infohash: InfoHash, info: Bytes) -> Self {
        Self {
            infohash,
            info,
            bytes: Bytes::new(),
            piece_len: 1,
            lies: Arc::new(|_| false),
            silent: true,
            pace: Duration::ZERO,
            leaves_after: None,
        }
    }

    /// Sends blocks with a wrong byte where `lies` says so.
    #[must_use]
    pub fn lying(mut self, lies: impl Fn(&BlockRequest) -> bool + Send + Sync + 'static) -> Self {
        self.lies = Arc::new(lies);
        self
    }

    /// Takes requests and never answers.
    #[must_use]
    pub const fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Sends one block each `pace`.
    #[must_use]
    pub const fn paced(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Closes the connection and its door after so many bytes, for good.
    #[must_use]
    pub const fn leaving_after(mut self, bytes: u64) -> Self {
        self.leaves_after = Some(bytes);
        self
    }
}

impl fmt::Debug for Manners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manners").field("infohash", &self.infohash).finish_non_exhaustive()
    }
}

impl HostilePeer {
    /// Starts listening on a port of its own.
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("a peer: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("a peer: {e}"));
        let log = Arc::new(Mutex::new(Log::default()));
        let task = tokio::spawn(accept(listener, manners, log.clone()));
        Self { address, log, _task: AbortOnDropHandle::new(task) }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    pub fn log(&self) -> Log {
        self.log.lock().clone()
    }
}

/// Serves everybody who comes until one of them has had the last byte it gives.
async fn accept(listener: TcpListener, manners: Manners, log: Arc<Mutex<Log>>) {
    let mut peers = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                peers.spawn(serve(stream, manners.clone(), log.clone()));
            }
            Some(ended) = peers.join_next() => {
                // A connection that ended by itself or by an error was the other side's choice.
                if matches!(ended, Ok(Ok(Left::ForGood))) {
                    return;
                }
            }
        }
    }
}

/// How a connection ended.
enum Left {
    TheyClosed,
    ForGood,
}

async fn serve(mut stream: TcpStream, manners: Manners, log: Arc<Mutex<Log>>) -> std::io::Result<Left> {
    stream.set_nodelay(true)?;
    let mut theirs = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut theirs).await?;
    // It knows no encryption, as many do not.
    Handshake::decode(&theirs).map_err(std::io::Error::other)?;
    stream.write_all(&Handshake::ours(manners.infohash, PeerId(*b"-XX0001-hostile-peer")).encode()).await?;
    log.lock().connections += 1;
    let mut peer = Serving { manners, log, queue: VecDeque::new(), their_metadata: 0, out: BytesMut::new() };
    peer.greet();
    let mut buffer = BytesMut::new();
    loop {
        stream.write_all(&peer.out.split()).await?;
        if peer.has_had_enough() {
            return Ok(Left::ForGood);
        }
        let pace = peer.manners.pace;
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok(Left::TheyClosed);
                }
                let complete = complete_frames(&buffer).map_err(std::io::Error::other)?;
                let mut frames = buffer.split_to(complete).freeze();
                while let Some(message) = next_message(&mut frames).map_err(std::io::Error::other)? {
                    peer.take(message);
                }
            }
            () = tokio::time::sleep(pace), if !peer.queue.is_empty() => peer.send_block(),
        }
    }
}

/// One connection.
struct Serving {
    manners: Manners,
    log: Arc<Mutex<Log>>,
    queue: VecDeque<BlockRequest>,
    their_metadata: u8,
    out: BytesMut,
}

impl Serving {
    fn greet(&mut self) {
        let hello = ExtensionHandshake {
            ut_metadata: Some(UT_METADATA),
            metadata_size: u32::try_from(self.manners.info.len()).ok(),
            ..ExtensionHandshake::default()
        };
        self.say(&Message::Extended { id: 0, payload: hello.encode().into() });
        self.say(&if self.manners.bytes.is_empty() { Message::HaveNone } else { Message::HaveAll });
        self.say(&Message::Unchoke);
    }

    fn say(&mut self, message: &Message) {
        message.encode(&mut self.out);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a peer of a story minds what the story is about")]
    fn take(&mut self, message: Message) {
        match message {
            Message::Request(request) => {
                self.log.lock().requests.push((Instant::now(), request));
                if !self.manners.silent {
                    self.queue.push_back(request);
                }
            }
            Message::Cancel(request) => {
                self.log.lock().cancels.push((Instant::now(), request));
                self.queue.retain(|queued| *queued != request);
                self.say(&Message::Reject(request));
            }
            Message::Extended { id: 0, payload } => {
                let hello = ExtensionHandshake::parse(&payload).unwrap_or_default();
                self.their_metadata = hello.ut_metadata.unwrap_or_default();
            }
            Message::Extended { id: UT_METADATA, payload } => {
                if let Ok(MetadataMessage::Request(piece)) = MetadataMessage::parse(&payload) {
                    let payload = MetadataMessage::answer(&self.manners.info, piece).encode();
                    self.say(&Message::Extended { id: self.their_metadata, payload });
                }
            }
            _ => {}
        }
    }

    fn send_block(&mut self) {
        let Some(request) = self.queue.pop_front() else { return };
        let start = request.piece.0 as usize * self.manners.piece_len + request.begin as usize;
        let mut data = BytesMut::from(&self.manners.bytes[start..start + request.len as usize]);
        let lie = (self.manners.lies)(&request);
        if lie {
            data[request.len as usize / 2] ^= 1;
        }
        {
            let mut log = self.log.lock();
            log.served += u64::from(request.len);
            log.lies += u64::from(lie);
        }
        self.say(&Message::Piece { piece: request.piece, begin: request.begin, data: data.freeze() });
    }

    fn has_had_enough(&self) -> bool {
        self.manners.leaves_after.is_some_and(|bytes| self.log.lock().served >= bytes)
    }
}
