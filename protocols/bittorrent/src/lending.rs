//! Lends torrents to whoever fetches them over other networks as well: see [`TorrentLoan`].
//!
//! A loan holds its swarm's handle and a place that keeps the torrent active, as a reader does. It reaches the engine
//! only while that lives, so that a loan which somebody forgot cannot keep a stopped network's sockets open.

use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{
    BoxFuture, ByteRange, ContentId, ContentMeta, ContentReader, FailureClass, FetchError, FetchErrorKind, InfoHash,
    LoanError, ProtocolStats, Stage, TorrentLender, TorrentLoan,
};
use swarmgate_swarm::{Known, ReadFault, Stay, SwarmHandle, SwarmReader};
use tokio::sync::watch;

use crate::items::{Engine, next_bytes};
use crate::protocol::BitTorrentProtocol;

/// Most bytes that one call of [`TorrentLoan::bytes`] gives; they are held in memory together.
const MAX_BYTES: u64 = 16 << 20;

/// One torrent on loan.
#[derive(Debug)]
struct Loan {
    engine: Weak<Engine>,
    handle: SwarmHandle,
    known: Arc<Known>,
    stats: Arc<ProtocolStats>,
    _stay: Stay,
}

impl TorrentLender for BitTorrentProtocol {
    fn lend_torrent(&self, infohash: InfoHash) -> BoxFuture<'_, Result<Arc<dyn TorrentLoan>, FetchError>> {
        Box::pin(async move {
            let infohash = self.engine.items.lock().key(infohash);
            let (torrent, known) = self.engine.informed(infohash, Stage::FirstByte).await?;
            if !known.has_range(0..known.geometry.total_len()) {
                torrent.seek_peers();
            }
            let handle = torrent.handle().clone();
            let stay = handle.stay();
            let stats = self.engine.environment.context.stats.clone();
            let loan = Loan { engine: Arc::downgrade(&self.engine), handle, known, stats, _stay: stay };
            Ok(Arc::new(loan) as Arc<dyn TorrentLoan>)
        })
    }
}

impl Loan {
    fn id(&self) -> ContentId {
        self.handle.id().content()
    }

    fn is_inside(&self, range: ByteRange) -> bool {
        range.end() <= self.known.geometry.total_len()
    }

    /// What is about to be asked for needs somebody to ask.
    fn seek(&self) {
        let Some(engine) = self.engine.upgrade() else { return };
        let torrent = engine.items.lock().active.get(&self.handle.infohash()).cloned();
        if let Some(torrent) = torrent {
            torrent.seek_peers();
        }
    }
}

impl TorrentLoan for Loan {
    fn meta(&self) -> &Arc<ContentMeta> {
        &self.known.meta
    }

    fn web_seeds(&self) -> Vec<String> {
        let engine = self.engine.upgrade();
        engine.map_or_else(Vec::new, |engine| engine.web_seeds(&self.handle.infohash(), &self.known))
    }

    fn has(&self, piece: u32) -> bool {
        self.handle.has(PieceIndex(piece))
    }

    fn has_range(&self, range: ByteRange) -> bool {
        self.is_inside(range) && self.known.has_range(range.start()..range.end())
    }

    fn fetch(&self, piece: u32) -> BoxFuture<'static, Result<(), LoanError>> {
        if !self.has(piece) {
            self.seek();
        }
        let handle = self.handle.clone();
        Box::pin(async move { handle.fetch(PieceIndex(piece)).await })
    }

    fn admit(&self, piece: u32, bytes: Bytes) -> BoxFuture<'static, Result<(), LoanError>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.admit(PieceIndex(piece), bytes).await })
    }

    fn received_bytes(&self) -> u64 {
        self.handle.received_bytes()
    }

    fn peers(&self) -> watch::Receiver<usize> {
        self.handle.peer_count()
    }

    fn seek_peers(&self) {
        self.seek();
    }

    fn read(&self, range: ByteRange) -> ContentReader {
        let id = self.id();
        if !self.is_inside(range) {
            let error = FetchError::new(id, Stage::Stream, FetchErrorKind::NotFound, "the range leaves the torrent");
            return ContentReader::new(stream::iter([Err(error)]));
        }
        let (reader, stats) = (self.handle.follow(&self.known, range.start()..range.end()), self.stats.clone());
        ContentReader::new(stream::unfold(reader, move |reader| next_bytes(id, reader, stats.clone())))
    }

    fn bytes(&self, range: ByteRange) -> BoxFuture<'static, Result<Bytes, LoanError>> {
        let refusal = match () {
            () if range.len() > MAX_BYTES => Some("more bytes than are got at once"),
            () if !self.is_inside(range) => Some("the range leaves the torrent"),
            () => None,
        };
        if let Some(refusal) = refusal {
            return Box::pin(std::future::ready(Err(LoanError::new(FailureClass::Neutral, refusal))));
        }
        if !self.has_range(range) {
            self.seek();
        }
        let (handle, known) = (self.handle.clone(), self.known.clone());
        Box::pin(async move { collect(handle.read(&known, range.start()..range.end())).await })
    }
}

async fn collect(mut reader: SwarmReader) -> Result<Bytes, LoanError> {
    let mut all = BytesMut::new();
    while let Some(bytes) = reader.next().await {
        all.extend_from_slice(bytes.map_err(loan_error)?.as_ref());
    }
    Ok(all.freeze())
}

fn loan_error(fault: ReadFault) -> LoanError {
    let class = match fault {
        ReadFault::Gone => FailureClass::Neutral,
        ReadFault::StoreIo => FailureClass::Local,
    };
    LoanError::new(class, fault.to_string())
}
