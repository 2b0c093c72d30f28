//! A byte stream that holds its place: something that is given back when the stream is dropped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream with a guard, such as a semaphore's permit, that lives as long as it. The stream is dropped first.
#[derive(Debug)]
pub struct Held<S, G> {
    stream: S,
    _guard: G,
}

impl<S, G> Held<S, G> {
    /// Has `stream` hold `guard`.
    #[must_use]
    pub const fn new(stream: S, guard: G) -> Self {
        Self { stream, _guard: guard }
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin, G: Unpin> AsyncRead for Held<S, G> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, G: Unpin> AsyncWrite for Held<S, G> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn the_place_is_free_again_when_both_halves_are_gone() {
        let places = Arc::new(Semaphore::new(1));
        let (near, mut far) = tokio::io::duplex(64);
        let (mut reading, mut writing) = tokio::io::split(Held::new(near, places.clone().try_acquire_owned().unwrap()));
        far.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        reading.read_exact(&mut heard).await.unwrap();
        writing.write_all(&heard).await.unwrap();
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!((&heard, places.available_permits()), (b"ping", 0));
        drop(reading);
        assert_eq!(places.available_permits(), 0);
        drop(writing);
        assert_eq!(places.available_permits(), 1);
        assert_eq!(far.read(&mut heard).await.unwrap(), 0);
    }
}
