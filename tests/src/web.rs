//! A small web server with ranges, for files in memory: a web seed, a mirror. It can be told to lie now and then, and to
//! take its time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
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
    /// Every so many answers one is wrong; 0: none.
    lies_each: AtomicU64,
    lies: AtomicU64,
    /// Milliseconds before an answer begins.
    holds_ms: AtomicU64,
    log: Mutex<Vec<Served>>,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// When it had been read.
    pub begun: Instant,
    /// When its answer was begun to be sent; `None` before.
    pub ended: Option<Instant>,
}

impl WebServer {
    /// Serves each file at its path, which begins with `/` and is percent-encoded.
    pub async fn start(files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("a server: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("a server: {e}"));
        let shared = Arc::new(Shared {
            files: files.into_iter().collect(),
            lies_each: AtomicU64::new(0),
            lies: AtomicU64::new(0),
            holds_ms: AtomicU64::new(0),
            log: Mutex::default(),
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
        self.shared.log.lock().len() as u64
    }

    /// From now on the first byte of every answer is wrong.
    pub fn lie(&self) {
        self.lie_each(1);
    }

    /// From now on the first byte of one answer in so many is wrong.
    pub fn lie_each(&self, answers: u64) {
        self.shared.lies_each.store(answers, Ordering::Relaxed);
    }

    /// Answers that were wrong.
    pub fn lies(&self) -> u64 {
        self.shared.lies.load(Ordering::Relaxed)
    }

    /// From now on every answer begins so long after its request.
    pub fn hold(&self, span: Duration) {
        self.shared.holds_ms.store(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// All requests so far, in the order in which they came.
    pub fn log(&self) -> Vec<Served> {
        self.shared.log.lock().clone()
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
        let number = shared.begin();
        let mut answer = shared.answer(&path.unwrap_or_default(), range);
        shared.spoil(number, &mut answer);
        let span = Duration::from_millis(shared.holds_ms.load(Ordering::Relaxed));
        if !span.is_zero() {
            tokio::time::sleep(span).await;
        }
        // Noted before: whoever has all of it may ask for more at once.
        shared.end(number);
        if stream.get_mut().write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Notes a request, and tells its number, from 0.
    fn begin(&self) -> usize {
        let mut log = self.log.lock();
        log.push(Served { begun: Instant::now(), ended: None });
        log.len() - 1
    }

    fn end(&self, number: usize) {
        self.log.lock()[number].ended = Some(Instant::now());
    }

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
        [head.as_bytes(), &file[first..=last]].concat()
    }

    /// Makes the first byte of an answer's body wrong, when it is its turn.
    fn spoil(&self, number: usize, answer: &mut [u8]) {
        let each = self.lies_each.load(Ordering::Relaxed);
        let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        if each > 0 && (number as u64 + 1).is_multiple_of(each) && body < answer.len() {
            answer[body] ^= 0xff;
            self.lies.fetch_add(1, Ordering::Relaxed);
        }
    }
}
