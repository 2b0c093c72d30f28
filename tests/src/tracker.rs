//! A small HTTP tracker on loopback (BEP 3, compact answers by BEP 23), in the process of the story.
//!
//! It runs on a thread of its own, so that a story which blocks does not stop its peers from finding each other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

/// Seconds between announces: short, so that whoever comes second is found within a story's patience.
const INTERVAL_SECONDS: u32 = 2;

/// A client that connects and says nothing is let go after this.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Ports announced a swarm, by the info hash's raw bytes as they stood in the query.
type Swarms = Arc<Mutex<BTreeMap<Vec<u8>, BTreeSet<u16>>>>;

/// A running tracker; dropped means closed.
#[derive(Debug)]
pub struct Tracker {
    address: SocketAddr,
    swarms: Swarms,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tracker {
    /// Starts on a free loopback port.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|e| panic!("tracker: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("tracker: {e}"));
        let (swarms, closing) = (Swarms::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (swarms, closing) = (Arc::clone(&swarms), Arc::clone(&closing));
            move || accept(&listener, &swarms, &closing)
        });
        Self { address, swarms, closing, thread: Some(thread) }
    }

    /// The announce URL.
    pub fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether nobody has announced anything yet.
    pub fn is_empty(&self) -> bool {
        self.swarms.lock().is_empty()
    }

    /// Tells whoever asks of a peer that listens on `port` of loopback and does not announce itself.
    pub fn introduce(&self, info_hash: &[u8], port: u16) {
        self.swarms.lock().entry(info_hash.to_vec()).or_default().insert(port);
    }

    /// Whether a peer that listens on `port` of loopback has announced itself.
    pub fn knows(&self, port: u16) -> bool {
        self.swarms.lock().values().any(|ports| ports.contains(&port))
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // The accepting thread wakes for a connection and then sees that it is to end.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, swarms: &Swarms, closing: &AtomicBool) {
    for stream in listener.incoming() {
        if closing.load(Ordering::Acquire) {
            return;
        }
        if let Ok(stream) = stream {
            let swarms = Arc::clone(swarms);
            // A connection whose thread cannot answer is one the client retries.
            std::thread::spawn(move || answer(&stream, &swarms));
        }
    }
}

fn answer(mut stream: &TcpStream, swarms: &Swarms) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    let mut request_line = String::new();
    reader.read_line(&mut request_line)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let target = request_line.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let body = if target.starts_with("/scrape") { scrape(query, swarms) } else { announce(query, swarms) };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

/// The value of one field of a query, as bytes; none when it is absent.
fn field(query: &str, name: &str) -> Vec<u8> {
    let found = query.split('&').filter_map(|kv| kv.split_once('=')).find(|(key, _)| *key == name);
    unescape(found.map_or("", |(_, value)| value))
}

/// Answers one scrape (BEP 48): everybody it knows counts as having everything.
fn scrape(query: &str, swarms: &Swarms) -> Vec<u8> {
    let infohash = field(query, "info_hash");
    let complete = swarms.lock().get(&infohash).map_or(0, BTreeSet::len);
    let mut body = format!("d5:filesd{}:", infohash.len()).into_bytes();
    body.extend_from_slice(&infohash);
    body.extend_from_slice(format!("d8:completei{complete}e10:downloadedi7e10:incompletei0eeee").as_bytes());
    body
}

/// Answers one announce: everyone else of the swarm, compact.
fn announce(query: &str, swarms: &Swarms) -> Vec<u8> {
    let field = |name: &str| field(query, name);
    let port = String::from_utf8_lossy(&field("port")).parse::<u16>().unwrap_or_default();
    let mut swarms = swarms.lock();
    let swarm = swarms.entry(field("info_hash")).or_default();
    if field("event") == b"stopped" {
        swarm.remove(&port);
    } else if port != 0 {
        swarm.insert(port);
    }
    let others: Vec<u16> = swarm.iter().copied().filter(|p| *p != port).collect();
    let mut body = format!(
        "d8:completei{n}e10:incompletei0e8:intervali{INTERVAL_SECONDS}e12:min intervali{INTERVAL_SECONDS}e5:peers{len}:",
        n = others.len(),
        len = others.len() * 6
    )
    .into_bytes();
    for other in others {
        body.extend_from_slice(&Ipv4Addr::LOCALHOST.octets());
        body.extend_from_slice(&other.to_be_bytes());
    }
    body.push(b'e');
    body
}

fn unescape(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_to_announce_hears_of_the_first() {
        let swarms = Swarms::default();
        let first = announce("info_hash=%01ab&port=7001", &swarms);
        assert!(first.ends_with(b"5:peers0:e"));
        let second = announce("info_hash=%01ab&port=7002&event=started", &swarms);
        assert!(second.ends_with(b"5:peers6:\x7f\0\0\x01\x1b\x59e"));
        announce("info_hash=%01ab&port=7001&event=stopped", &swarms);
        assert!(announce("info_hash=%01ab&port=7002", &swarms).ends_with(b"5:peers0:e"));
    }
}
