//! HTTP/1.1 by hand, for stories about what happens on the socket: who closes, when, and how.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Read at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// No story waits longer for the next byte, so that one whose byte never comes fails instead of hanging.
const NEXT_BYTE: Duration = Duration::from_secs(45);

/// One connection of one client.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Its head, status included.
    pub head: Head,
    /// Its body.
    pub body: Bytes,
}

impl Head {
    /// A header's value; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The names of all its headers, in small letters.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.headers.iter().map(|(name, _)| name.to_ascii_lowercase())
    }

    /// The announced length of the body; 0 when none is.
    pub fn content_length(&self) -> usize {
        self.header("content-length").parse().unwrap_or(0)
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        Self { stream, buffer: BytesMut::new() }
    }

    /// Sends a request with no body.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        self.send_body(method, path, headers, b"").await
    }

    /// Sends a request with a body.
    pub async fn send_body(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str("host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.write_all(body).await
    }

    /// Sends some of a body whose length was announced.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads the head of the answer. May be cancelled and called again.
    pub async fn head(&mut self) -> io::Result<Head> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.fill().await?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.advance(end + 4);
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text.clone()))?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Ok(Head { status, headers })
    }

    /// Reads some more of the body, at most `max` bytes of it. An orderly end of the connection is an error of kind
    /// `UnexpectedEof`, so that it cannot be taken for the end of a body.
    pub async fn some(&mut self, max: usize) -> io::Result<Bytes> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let len = self.buffer.len().min(max);
        Ok(self.buffer.split_to(len).freeze())
    }

    /// Reads from the socket as much as one call gives.
    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(CHUNK);
        match timeout(NEXT_BYTE, self.stream.read_buf(&mut self.buffer)).await?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads exactly `len` bytes of a body.
    pub async fn exactly(&mut self, len: usize) -> io::Result<Bytes> {
        while self.buffer.len() < len {
            self.fill().await?;
        }
        Ok(self.buffer.split_to(len).freeze())
    }

    /// Sends a request and reads the whole answer, whose body has an announced length.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = async {
            self.send_body(method, path, headers, body).await?;
            let head = self.head().await?;
            let bodiless = method == "HEAD" || matches!(head.status, 204 | 304);
            let len = if bodiless { 0 } else { head.content_length() };
            io::Result::Ok(Answer { status: head.status, body: self.exactly(len).await?, head })
        };
        answer.await.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// GET.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, b"").await
    }

    /// GET of `start..end` of a file.
    pub async fn get_range(&mut self, path: &str, start: usize, end: usize) -> Answer {
        let range = format!("bytes={start}-{}", end - 1);
        self.get(path, &[("range", &range)]).await
    }
}
