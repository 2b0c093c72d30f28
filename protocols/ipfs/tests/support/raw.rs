//! A peer by hand, with nothing of ours but the message's codec: a connection, and a stream for each message, as Kubo
//! does it.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse, Transport};
use libp2p::core::upgrade::Version as Multistream;
use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, noise, tcp, yamux};
use multistream_select::{Negotiated, dialer_select_proto, listener_select_proto};
use swarmgate_content::Cid;
use swarmgate_ipfs_proto::bitswap::Version;
use swarmgate_ipfs_proto::bitswap::message::{Entry, Message, Want, next_frame};
use tokio::sync::{mpsc, oneshot};

const PROTOCOL: &str = "/ipfs/bitswap/1.2.0";

/// A connection to a node, and what came on it.
pub(crate) struct RawPeer {
    streams: mpsc::UnboundedSender<oneshot::Sender<SubstreamBox>>,
    messages: mpsc::UnboundedReceiver<Message>,
    connection: tokio::task::JoinHandle<()>,
}

/// Drives a connection: hands out streams, and reads messages from those that come.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut wanted: mpsc::UnboundedReceiver<oneshot::Sender<SubstreamBox>>,
    messages: mpsc::UnboundedSender<Message>,
) {
    let mut waiting: Option<oneshot::Sender<SubstreamBox>> = None;
    std::future::poll_fn(|cx| {
        loop {
            if waiting.is_none()
                && let Poll::Ready(next) = wanted.poll_recv(cx)
            {
                match next {
                    Some(next) => waiting = Some(next),
                    None => return Poll::Ready(()),
                }
            }
            if waiting.is_some()
                && let Poll::Ready(stream) = muxer.poll_outbound_unpin(cx)
            {
                let (Ok(stream), Some(reply)) = (stream, waiting.take()) else { return Poll::Ready(()) };
                drop(reply.send(stream));
                continue;
            }
            match muxer.poll_inbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => {
                    tokio::spawn(read_stream(stream, messages.clone()));
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            return match Pin::new(&mut muxer).poll(cx) {
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            };
        }
    })
    .await;
}

async fn read_stream(stream: SubstreamBox, messages: mpsc::UnboundedSender<Message>) {
    // Identify and ping are asked for too, and are not spoken here.
    let Ok((_, mut stream)) = listener_select_proto(stream, [PROTOCOL]).await else { return };
    let (mut buffer, mut chunk) = (BytesMut::new(), vec![0; 64 << 10]);
    while let Ok(len @ 1..) = stream.read(&mut chunk).await {
        buffer.extend_from_slice(&chunk[..len]);
        while let Some(frame) = next_frame(&mut buffer).unwrap() {
            let _over = messages.send(Message::decode(&frame).unwrap());
        }
    }
}

impl RawPeer {
    pub(crate) async fn connect(address: Multiaddr) -> Self {
        let identity = Keypair::generate_ed25519();
        Self::try_connect(address, &identity).await.expect("the node listens there")
    }

    /// Connects as somebody; `None` when the handshake fails.
    pub(crate) async fn try_connect(address: Multiaddr, identity: &Keypair) -> Option<Self> {
        let mut transport = tcp::tokio::Transport::new(tcp::Config::new())
            .upgrade(Multistream::V1)
            .authenticate(noise::Config::new(identity).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (_, muxer) = transport.dial(address, options).unwrap().await.ok()?;
        let (streams, wanted) = mpsc::unbounded_channel();
        let (seen, messages) = mpsc::unbounded_channel();
        Some(Self { streams, messages, connection: tokio::spawn(drive(muxer, wanted, seen)) })
    }

    /// Sends bytes on a stream of their own, and closes it.
    pub(crate) async fn send_bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        let (reply, stream) = oneshot::channel();
        self.streams.send(reply).map_err(std::io::Error::other)?;
        let stream = stream.await.map_err(std::io::Error::other)?;
        let negotiated = dialer_select_proto(stream, [PROTOCOL], Multistream::V1).await;
        let (_, mut stream) = negotiated.map_err(std::io::Error::other)?;
        stream.write_all(bytes).await?;
        stream.close().await
    }

    /// Sends a message on a stream of its own.
    pub(crate) async fn send(&self, message: &Message) -> std::io::Result<()> {
        self.send_bytes(&message.encode_framed(Version::V1_2)).await
    }

    /// Opens a stream and keeps it, with part of a message on it.
    pub(crate) async fn hold_stream(&self) -> Option<Negotiated<SubstreamBox>> {
        let (reply, stream) = oneshot::channel();
        self.streams.send(reply).ok()?;
        let negotiated = dialer_select_proto(stream.await.ok()?, [PROTOCOL], Multistream::V1).await;
        let (_, mut stream) = negotiated.ok()?;
        stream.write_all(&[0xff, 0xff, 0x3f]).await.ok()?;
        stream.flush().await.ok()?;
        Some(stream)
    }

    /// The next message of the node; `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(super::support::PATIENCE, self.messages.recv()).await;
        next.expect("the node says something")
    }

    /// The next block that the node wants.
    pub(crate) async fn next_want(&mut self) -> Cid {
        loop {
            let message = self.next().await.expect("the connection stays");
            for entry in message.wantlist {
                if let Entry::Want { want: Want::Block, cid, .. } = entry {
                    return cid;
                }
            }
        }
    }

    /// Waits until the node has closed the connection.
    pub(crate) async fn closed(self) {
        let closed = tokio::time::timeout(super::support::PATIENCE, self.connection).await;
        closed.expect("the node closes the connection").unwrap();
    }

    /// Waits a little for the next message; `None` when there is none.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<Message> {
        tokio::time::timeout(time, self.messages.recv()).await.ok().flatten()
    }
}
