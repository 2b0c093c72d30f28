//! Stands before an HTTP server and passes everything on, until it is told to spoil it: then answers look right, and
//! their bodies are other bytes of the same length.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::http;
use crate::payload;

/// No client of a story has a longer head of a request.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// What is passed on of a request's headers, and of an answer's.
const REQUEST_HEADERS: [&str; 4] = ["accept", "range", "if-none-match", "user-agent"];
const ANSWER_HEADERS: [&str; 5] = ["content-type", "content-range", "accept-ranges", "etag", "cache-control"];

/// A running one; dropped means closed.
#[derive(Debug)]
pub struct Spoiler {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    client: reqwest::Client,
    spoils: AtomicBool,
    requests: AtomicUsize,
    spoiled: AtomicUsize,
}

impl Spoiler {
    /// Starts one before the server with a base URL; it spoils nothing so far.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("spoiler: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("spoiler: {e}"));
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: http::client(),
            spoils: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            spoiled: AtomicUsize::new(0),
        });
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::clone(&shared))));
        Self { address, shared, _task: task }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Spoils from now on, or no more.
    pub fn spoil(&self, on: bool) {
        self.shared.spoils.store(on, Ordering::Release);
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// Answers that were spoiled.
    pub fn spoiled(&self) -> usize {
        self.shared.spoiled.load(Ordering::Acquire)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request a connection. A client that leaves is no news.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some(head) = read_head(&mut stream).await else { return };
    shared.requests.fetch_add(1, Ordering::AcqRel);
    let answer = match request(&head, &shared) {
        Some(request) => pass_on(request, head.starts_with("HEAD "), &shared).await,
        None => None,
    };
    let bad = || b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    let answer = answer.unwrap_or_else(bad);
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

/// Everything up to the empty line (RFC 9112 §2.1).
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD_BYTES || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

fn request(head: &str, shared: &Shared) -> Option<RequestBuilder> {
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let method: Method = words.next()?.parse().ok()?;
    let mut request = shared.client.request(method, format!("{}{}", shared.upstream, words.next()?));
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if REQUEST_HEADERS.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            let value = HeaderValue::from_str(value.trim()).ok()?;
            request = request.header(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
    }
    Some(request)
}

async fn pass_on(request: RequestBuilder, only_head: bool, shared: &Shared) -> Option<Vec<u8>> {
    let response = request.send().await.ok()?;
    let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", response.status());
    for name in ANSWER_HEADERS {
        if let Some(value) = response.headers().get(name).and_then(|value| value.to_str().ok()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let length = response.content_length();
    let mut body = response.bytes().await.ok()?.to_vec();
    if shared.spoils.load(Ordering::Acquire) && !body.is_empty() {
        let seed = shared.spoiled.fetch_add(1, Ordering::AcqRel) as u64;
        body = payload::bytes(seed, body.len());
    }
    let length = if only_head { length.unwrap_or_default() } else { body.len() as u64 };
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    Some([head.as_bytes(), &body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::Tracker;

    #[tokio::test]
    async fn what_is_spoiled_has_the_same_length_and_other_bytes() {
        // Any server will do.
        let server = Tracker::start();
        let spoiler = Spoiler::before(server.url().strip_suffix("/announce").unwrap()).await;
        let url = format!("{}/announce?info_hash=a&port=1", spoiler.url());
        let right = http::get(&url).await;
        assert!(right.status.is_success() && right.text().starts_with("d8:complete"), "{right:?}");
        spoiler.spoil(true);
        let wrong = http::get(&url).await;
        assert_eq!((wrong.status, wrong.body.len()), (right.status, right.body.len()));
        assert_ne!(wrong.body, right.body);
        spoiler.spoil(false);
        assert_eq!(http::get(&url).await.body, right.body);
        assert_eq!((spoiler.requests(), spoiler.spoiled()), (3, 1));
    }
}
