//! Load for a WebTorrent tracker: many clients, each of which announces again as soon as it has its reply.
//!
//! `tracker-load URL CLIENTS SWARMS OFFERS SECONDS` prints one line of JSON: announces answered a second, offers that
//! came to another client for each of them, and how long the replies took. Each offer has an id of its own, as it has
//! with real clients: a tracker may pass over one that it has relayed already. They are read and not answered.
//!
//! A client must cost less than a tracker, or the bench would measure the load. So it knows just enough of WebSockets
//! (RFC 6455 §5.2) to say one message again and again and to tell a reply from an offer.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_tungstenite::{MaybeTlsStream, connect_async};

/// What a browser says of a data channel.
const SDP: &str = "v=0\r\no=- 3546004397921447048 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 49203 UDP/DTLS/SCTP webrtc-datachannel\r\n\
    c=IN IP4 198.51.100.7\r\na=candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ host generation 0\r\n\
    a=candidate:1853887674 1 udp 1518280447 198.51.100.7 49203 typ srflx raddr 192.168.0.196 rport 46243 generation 0\r\n\
    a=ice-ufrag:ETEn\r\na=ice-pwd:OtSK0WpNtpUjkY4+86js7ZQl\r\na=fingerprint:sha-256 19:E2:1C:3B:4B:9F:81:E6:B8:5C:F4:\
    A5:A8:D8:73:04:BB:05:2F:70:9F:04:A9:0E:05:E9:26:33:E8:70:88:A2\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n\
    a=max-message-size:262144\r\n";
/// Digits at the end of an offer id that count the announces.
const COUNTER: usize = 10;
/// A client's mask, which hides nothing (RFC 6455 §5.3).
const MASK: [u8; 4] = *b"\x5a\xc3\x17\x9e";
/// Bytes read at once.
const READ_BYTES: usize = 32 * 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn announce(client: usize, swarms: usize, offers: usize) -> String {
    let offer = |n: usize| json!({ "offer_id": format!("{client:07}{n:03}{:010}", 0), "offer": { "type": "offer", "sdp": SDP } });
    let message = json!({
        "action": "announce", "info_hash": format!("{:020}", client % swarms), "peer_id": format!("-TT0001-{client:012}"),
        "numwant": offers, "uploaded": 0, "downloaded": 0, "left": 1000,
        "offers": (0..offers).map(offer).collect::<Vec<_>>(),
    });
    message.to_string()
}

/// One client's message as a masked frame, in which the counters of the offer ids are turned.
struct Frame {
    bytes: Vec<u8>,
    counters: Vec<usize>,
    head: usize,
    said: u64,
}

impl Frame {
    fn of(text: &str) -> Result<Self, Failure> {
        let long = u16::try_from(text.len())?.to_be_bytes();
        let mut bytes = match u8::try_from(text.len()) {
            Ok(short @ 0..126) => vec![0x81, 0x80 | short],
            _ => vec![0x81, 0x80 | 126, long[0], long[1]],
        };
        bytes.extend(MASK);
        let head = bytes.len();
        bytes.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let key = "\"offer_id\":\"";
        let counters = text.match_indices(key).map(|(at, _)| at + key.len() + 20 - COUNTER).collect();
        Ok(Self { bytes, counters, head, said: 0 })
    }

    fn next(&mut self) -> &[u8] {
        self.said += 1;
        let digits = format!("{:0COUNTER$}", self.said);
        for &counter in &self.counters {
            for (at, digit) in (counter..).zip(digits.bytes()) {
                self.bytes[self.head + at] = digit ^ MASK[at % 4];
            }
        }
        &self.bytes
    }
}

/// Where the first message lies in what was read, once all of it is there.
fn whole_text(read: &[u8]) -> Result<Option<std::ops::Range<usize>>, Failure> {
    let (head, len) = match *read {
        [0x81, len @ 0..126, ..] => (2, usize::from(len)),
        [0x81, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [] | [0x81] | [0x81, 126] | [0x81, 126, _] => return Ok(None),
        _ => return Err("the tracker sends something else than short text, or goes away".into()),
    };
    Ok((read.len() >= head + len).then_some(head..head + len))
}

#[derive(Default)]
struct Outcome {
    took: Vec<Duration>,
    offers: usize,
}

/// Announces until the time is over.
async fn client(url: String, message: String, start: Arc<Barrier>, over: Arc<AtomicBool>) -> Result<Outcome, Failure> {
    // The tracker says nothing of its own accord, so nothing is lost with the WebSocket around the connection.
    let MaybeTlsStream::Plain(mut stream) = connect_async(url).await?.0.into_inner() else {
        return Err("not a ws URL".into());
    };
    stream.set_nodelay(true)?;
    let (mut frame, mut read, mut outcome) = (Frame::of(&message)?, BytesMut::new(), Outcome::default());
    start.wait().await;
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        stream.write_all(frame.next()).await?;
        outcome.offers += hear_reply(&mut stream, &mut read).await?;
        outcome.took.push(asked.elapsed());
    }
    Ok(outcome)
}

/// Reads up to the reply to an announce; tells how many offers came before it.
async fn hear_reply(stream: &mut TcpStream, read: &mut BytesMut) -> Result<usize, Failure> {
    let mut offers = 0;
    loop {
        while let Some(at) = whole_text(read)? {
            let text = std::str::from_utf8(&read[at.clone()])?;
            let is_offer = text.contains("\"offer\"");
            if !is_offer && !text.contains("\"interval\"") {
                return Err(text.into());
            }
            read.advance(at.end);
            if !is_offer {
                return Ok(offers);
            }
            offers += 1;
        }
        read.reserve(READ_BYTES);
        if stream.read_buf(read).await? == 0 {
            return Err("the tracker has closed a socket".into());
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("URL CLIENTS SWARMS OFFERS SECONDS")?;
    let mut number =
        || arguments.next().ok_or("CLIENTS SWARMS OFFERS SECONDS")?.parse::<usize>().map_err(Failure::from);
    let (clients, swarms, offers, seconds) = (number()?, number()?, number()?, number()?);
    let (start, over) = (Arc::new(Barrier::new(clients + 1)), Arc::new(AtomicBool::new(false)));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..clients {
        tasks.spawn(client(url.clone(), announce(n, swarms, offers), start.clone(), over.clone()));
    }
    tokio::select! {
        _ = start.wait() => {}
        Some(failed) = tasks.join_next() => return Err(failed?.err().unwrap_or_else(|| "a client ended early".into())),
    }
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    over.store(true, Ordering::Relaxed);
    let (mut took, mut relayed) = (Vec::new(), 0);
    while let Some(task) = tasks.join_next().await {
        let outcome = task??;
        took.extend(outcome.took);
        relayed += outcome.offers;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0.0, |took| took.as_secs_f64() * 1e3);
    let announces = took.len() as f64;
    println!(
        "{}",
        json!({
            "announces": took.len(), "announces_per_second": announces / elapsed, "offers": relayed as f64 / announces,
            "p50_ms": at(50), "p99_ms": at(99),
        })
    );
    Ok(())
}
