//! Message stream encryption over any byte stream: drives the handshake's rules, and carries the payload as they say.
//!
//! A stream that is not encrypted goes through the same type untouched, so that what a peer is reached by is one type.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use swarmgate_bittorrent_proto::mse::{
    Entropy, Initiator, Keystream, MAX_PAD, Methods, MseError, Payload, Responder, Secured,
};
use swarmgate_content::InfoHash;
use swarmgate_swarm::greeting::HandshakeError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes encrypted at once, and so the most that wait for the carrier: a few blocks.
const CHUNK: usize = 64 * 1024;
/// Bytes of a handshake read at once.
const READ: usize = 1024;

/// Whether connections to peers are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Never: neither asked for nor accepted.
    Off,
    /// Asked for first, then done without; both are accepted.
    #[default]
    Prefer,
    /// Always, payload and all: what is not encrypted is neither asked for nor accepted.
    Require,
}

/// A byte stream behind its handshake, encrypted or not.
#[derive(Debug)]
pub struct Obfuscated<S> {
    carrier: S,
    encryption: Option<Payload>,
    reading: Option<Keystream>,
    writing: Option<Keystream>,
    /// Payload that came with the handshake, in the clear.
    received: Bytes,
    /// What the carrier has not yet taken, as it goes on the wire.
    pending: BytesMut,
}

impl Encryption {
    /// The ways for the payload that are asked for and accepted; `None`: no encryption.
    #[must_use]
    pub const fn methods(self) -> Option<Methods> {
        match self {
            Self::Off => None,
            // The handshake tells who listens nothing; to encrypt the payload as well costs seconds of a core a gigabyte.
            Self::Prefer => Some(Methods::Either(Payload::Plain)),
            Self::Require => Some(Methods::Rc4),
        }
    }
}

impl<S> Obfuscated<S> {
    /// A stream without encryption, of which `received` was read already.
    #[must_use]
    pub fn plain(carrier: S, received: Bytes) -> Self {
        let pending = BytesMut::new();
        Self { carrier, encryption: None, reading: None, writing: None, received, pending }
    }

    fn secured(carrier: S, secured: Secured) -> Self {
        Self {
            carrier,
            encryption: Some(secured.payload),
            reading: secured.reading,
            writing: secured.writing,
            received: secured.received.into(),
            pending: BytesMut::new(),
        }
    }

    /// What carries it.
    #[must_use]
    pub const fn carrier(&self) -> &S {
        &self.carrier
    }

    /// How it is encrypted: `None` when it is not, and the payload in the clear when its handshake alone was.
    #[must_use]
    pub const fn encryption(&self) -> Option<Payload> {
        self.encryption
    }

    /// Bytes that are at hand without reading from the carrier.
    #[must_use]
    pub fn at_hand(&self) -> usize {
        self.received.len()
    }
}

/// Does the handshake of the side that dialled; `initial` goes along with it.
///
/// # Errors
/// [`HandshakeError::Io`], and [`HandshakeError::NotBitTorrent`] when the other side does not know this handshake.
pub async fn initiate<S: AsyncRead + AsyncWrite + Unpin>(
    mut carrier: S,
    skey: InfoHash,
    methods: Methods,
    initial: Vec<u8>,
) -> Result<Obfuscated<S>, HandshakeError> {
    let mut machine = Initiator::new(skey, methods, initial, entropy());
    let mut buffer = [0; READ];
    loop {
        if let Some(bytes) = machine.poll_transmit() {
            carrier.write_all(&bytes).await?;
        }
        let count = read_some(&mut carrier, &mut buffer).await?;
        if let Some(secured) = machine.handle_input(&buffer[..count]).map_err(|error| refused(&error))? {
            return Ok(Obfuscated::secured(carrier, secured));
        }
    }
}

/// Does the handshake of the side that was dialled, of which `first` was read already, about one of `torrents`. Its
/// last message is sent with the first bytes written, or by a flush. Gives the stream and its torrent.
///
/// # Errors
/// As [`initiate`], and [`HandshakeError::TurnedAway`] when its torrent is not among them.
pub async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
    mut carrier: S,
    first: &[u8],
    methods: Methods,
    torrents: impl Fn() -> Vec<InfoHash>,
) -> Result<(Obfuscated<S>, InfoHash), HandshakeError> {
    let mut machine = Responder::new(methods, entropy());
    let mut buffer = [0; READ];
    let mut input = first;
    loop {
        let done = machine.handle_input(input, &torrents).map_err(|error| refused(&error))?;
        let output = machine.poll_transmit().unwrap_or_default();
        if let Some(secured) = done {
            let skey = secured.skey;
            let mut stream = Obfuscated::secured(carrier, secured);
            stream.pending.extend_from_slice(&output);
            return Ok((stream, skey));
        }
        carrier.write_all(&output).await?;
        let count = read_some(&mut carrier, &mut buffer).await?;
        input = &buffer[..count];
    }
}

async fn read_some(carrier: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<usize, HandshakeError> {
    match carrier.read(buffer).await? {
        0 => Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof)),
        count => Ok(count),
    }
}

fn refused(error: &MseError) -> HandshakeError {
    tracing::debug!(%error, "encrypted handshake failed");
    match error {
        MseError::UnknownTorrent => HandshakeError::TurnedAway("its torrent is not active here"),
        MseError::NothingInCommon => HandshakeError::TurnedAway("it does not encrypt as is required here"),
        MseError::WeakKey | MseError::InTheClear | MseError::NoSync | MseError::Garbled | MseError::TooLong(..) => {
            HandshakeError::NotBitTorrent
        }
    }
}

fn entropy() -> Entropy {
    let mut pad = vec![0; rand::random_range(0..=MAX_PAD)];
    rand::fill(&mut pad[..]);
    Entropy { private: rand::random(), pad, inner_pad_len: rand::random_range(0..=64) }
}

impl<S: AsyncWrite + Unpin> Obfuscated<S> {
    /// Writes what is pending, until the carrier takes no more.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(Pin::new(&mut self.carrier).poll_write(cx, &self.pending))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts up to [`CHUNK`] bytes of the slices and hands on what the carrier takes at once; the rest goes before
    /// whatever is written next, or by a flush.
    fn poll_encrypt(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let before = self.pending.len();
        for slice in slices {
            let room = CHUNK.saturating_sub(self.pending.len() - before);
            self.pending.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = self.pending.len() - before;
        if let Some(cipher) = &mut self.writing {
            cipher.apply(&mut self.pending[before..]);
        }
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Obfuscated<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.received.is_empty() {
            let count = this.received.len().min(buf.remaining());
            buf.put_slice(&this.received.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.carrier).poll_read(cx, buf))?;
        if let Some(cipher) = &mut this.reading {
            cipher.apply(&mut buf.filled_mut()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Obfuscated<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writing.is_some() {
            // The end of the handshake is short, and goes in one packet with the first payload.
            if this.pending.len() > MAX_PAD * 2 {
                ready!(this.poll_drain(cx))?;
            }
            return this.poll_encrypt(cx, slices);
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.carrier).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.carrier).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.carrier).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    const TORRENT: InfoHash = InfoHash::new([7; 20]);

    /// Both ends of a stream through a pipe that takes `capacity` bytes at a time.
    async fn pair(methods: Methods, capacity: usize) -> [Obfuscated<DuplexStream>; 2] {
        let (near, far) = tokio::io::duplex(capacity);
        let near = initiate(near, TORRENT, methods, b"hello".to_vec());
        let far = async {
            let (mut stream, skey) = respond(far, b"", Methods::Either(Payload::Rc4), || vec![TORRENT]).await?;
            stream.flush().await?;
            assert_eq!((skey, stream.at_hand()), (TORRENT, 5));
            Ok::<_, HandshakeError>(stream)
        };
        let (near, far) = tokio::try_join!(near, far).unwrap();
        [near, far]
    }

    #[tokio::test]
    async fn what_the_carrier_takes_in_crumbs_arrives_whole_in_both_directions() {
        for methods in [Methods::Rc4, Methods::Plain] {
            // Room for one message of a handshake, which both sides may be writing at once.
            let [mut near, mut far] = pair(methods, 1024).await;
            assert_eq!(near.encryption(), far.encryption());
            far.read_exact(&mut [0; 5]).await.unwrap();
            let sent: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
            for _ in 0..2 {
                let writing = async {
                    near.write_all(&sent).await.unwrap();
                    near.flush().await.unwrap();
                };
                let mut received = vec![0; sent.len()];
                let reading = far.read_exact(&mut received);
                tokio::join!(writing, reading).1.unwrap();
                assert!(received == sent, "{methods:?}");
                std::mem::swap(&mut near, &mut far);
            }
        }
    }

    #[tokio::test]
    async fn a_stuck_carrier_is_given_no_more_than_a_chunk() {
        let [mut near, _far] = pair(Methods::Rc4, 4096).await;
        let block = [0; 16 * 1024];
        let mut taken = 0;
        while let Ok(count) = tokio::time::timeout(std::time::Duration::from_millis(20), near.write(&block)).await {
            taken += count.unwrap();
        }
        assert!(taken <= CHUNK + 4096 && near.pending.len() <= CHUNK, "{taken}, {}", near.pending.len());
    }
}
