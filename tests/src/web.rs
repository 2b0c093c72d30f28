//! A small web server with ranges, for files in memory: a web seed, a mirror. It can be told to lie.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server. Dropping it ends it.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    files: BTreeMap<String, Bytes>,
    requests: AtomicU64,
    lies: AtomicBool,
}

impl WebServer {
    /// Serves each file at its path, which begins with `/` and is percent-encoded.
    pub async fn start(files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("a server: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("a server: {e}"));
        let shared = Arc::new(Shared {
            files: files.into_iter().collect(),
            requests: AtomicU64::new(0),
            lies: AtomicBool::new(false),
        });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serve(stream, &serving).await });
            }
        });
        Self { address, shared, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// From now on the first byte of every answer is wrong.
    pub fn lie(&self) {
        self.shared.lies.store(true, Ordering::Relaxed);
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Answers one connection's requests, until it ends.
async fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    loop {
        let (mut path, mut range) = (None, None);
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if path.is_none() {
                path = line.split(' ').nth(1).map(str::to_owned);
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("range")
            {
                range = value.trim().strip_prefix("bytes=").and_then(|range| {
                    let (first, last) = range.split_once('-')?;
                    Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
                });
            }
        }
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let answer = shared.answer(&path.unwrap_or_default(), range);
        if stream.get_mut().write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn answer(&self, path: &str, range: Option<(usize, usize)>) -> Vec<u8> {
        let Some(file) = self.files.get(path) else {
            return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
        };
        let (first, last) = range.unwrap_or((0, file.len() - 1));
        if first > last || last >= file.len() {
            return b"HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n".to_vec();
        }
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let (len, total) = (last + 1 - first, file.len());
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {len}\r\ncontent-range: bytes {first}-{last}/{total}\r\n\r\n"
        );
        let mut answer = head.into_bytes();
        let body = answer.len();
        answer.extend_from_slice(&file[first..=last]);
        if self.lies.load(Ordering::Relaxed) {
            answer[body] ^= 0xff;
        }
        answer
    }
}
