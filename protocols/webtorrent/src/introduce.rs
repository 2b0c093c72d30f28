//! From an open data channel to a peer of a swarm.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use swarmgate_bittorrent_proto::handshake::Handshake;
use swarmgate_swarm::PeerOrigin;
use swarmgate_swarm::directory::ActiveSwarm;
use swarmgate_swarm::greeting::{HandshakeError, check_handshake, read_handshake, within, write_handshake};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::rtc::RtcStream;

/// How long both handshakes may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Places for WebRTC connections of one torrent, over all its trackers.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// Changes when a place has become free, anywhere.
    freed: Arc<watch::Sender<u64>>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<watch::Sender<u64>>,
}

impl Places {
    pub(crate) fn new(max: usize, freed: Arc<watch::Sender<u64>>) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), freed }
    }

    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }

    pub(crate) fn take(&self) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(Place { permit: Some(permit), freed: self.freed.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.freed.send_modify(|count| *count += 1);
    }
}

/// Exchanges handshakes and gives the peer to the swarm.
pub(crate) async fn lead_in(mut stream: RtcStream, place: Place, swarm: &ActiveSwarm) -> Result<(), HandshakeError> {
    let ours = Handshake::ours(swarm.handle.infohash(), swarm.peer_id);
    let exchange = async {
        write_handshake(&mut stream, &ours).await?;
        read_handshake(&mut stream).await
    };
    let theirs = within(HANDSHAKE_TIMEOUT, exchange).await?;
    check_handshake(&ours, &theirs)?;
    let stream = Placed { stream, _place: place };
    let added = swarm.handle.add_peer(stream, PeerOrigin::webrtc(), theirs).await;
    added.map_err(|_| HandshakeError::TurnedAway("the torrent is no longer active"))
}

/// A connection that holds its torrent's place for it.
#[derive(Debug)]
struct Placed {
    stream: RtcStream,
    _place: Place,
}

impl AsyncRead for Placed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
