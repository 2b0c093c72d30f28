//! Load for an HTTP server: connections that ask again as soon as they have their answer.
//!
//! `http-load URL CONNECTIONS SECONDS [BYTES SPAN]` prints one line of JSON: answers a second, bytes of bodies a second, and
//! how many answers were none. With `BYTES` and `SPAN` each request is for a range of that span at a random place of so
//! many bytes.
//!
//! A client must cost less than a server, or the bench would measure the load. One that copies each body out of the kernel
//! only to forget it takes as long for large ones as the server does. So the head is read, and of the body no more than
//! came with it; the rest is counted and dropped where it lies (`MSG_TRUNC`, tcp(7)).
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::io;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once: a head, and what came with it.
const READ_BYTES: usize = 8 * 1024;
/// Bytes dropped at once.
const DROP_BYTES: usize = 1 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What every connection asks for.
#[derive(Debug, Clone)]
struct Asks {
    authority: String,
    target: String,
    /// The length of the whole, and of each range.
    ranges: Option<(u64, u64)>,
    until: Instant,
}

/// What came of it.
#[derive(Debug, Default)]
struct Count {
    answers: u64,
    bytes: u64,
    refused: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize| args.get(at).map(String::as_str).ok_or("URL CONNECTIONS SECONDS [BYTES SPAN]");
    let (authority, path) = arg(0)?.strip_prefix("http://").and_then(|it| it.split_once('/')).ok_or("not http://")?;
    let (connections, seconds): (usize, u64) = (arg(1)?.parse()?, arg(2)?.parse()?);
    let ranges = if args.len() > 3 { Some((arg(3)?.parse()?, arg(4)?.parse()?)) } else { None };
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let asks = Asks { authority: authority.to_owned(), target: format!("/{path}"), ranges, until };
    let running: Vec<_> = (0..connections).map(|_| tokio::spawn(run(asks.clone()))).collect();
    let mut all = Count::default();
    for connection in running {
        let count = connection.await??;
        all.answers += count.answers;
        all.bytes += count.bytes;
        all.refused += count.refused;
    }
    let took = began.elapsed().as_secs_f64();
    let (answers, bytes) = (all.answers, all.bytes);
    #[expect(clippy::cast_precision_loss, reason = "more answers than a double can count are none of ours")]
    let rate = |count: u64| count as f64 / took;
    let told = json!({
        "answers": answers, "answers_per_second": rate(answers), "bytes_per_second": rate(bytes), "refused": all.refused,
    });
    println!("{told}");
    Ok(())
}

/// One connection, until the time is over.
async fn run(asks: Asks) -> Result<Count, Failure> {
    let mut stream = TcpStream::connect(&asks.authority).await?;
    stream.set_nodelay(true)?;
    let (mut count, mut head, mut dropped) = (Count::default(), vec![0; READ_BYTES], vec![0; DROP_BYTES]);
    let plain = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", asks.target, asks.authority);
    while Instant::now() < asks.until {
        match asks.ranges {
            None => stream.write_all(plain.as_bytes()).await?,
            Some(ranges) => stream.write_all(ranged(&asks, ranges).as_bytes()).await?,
        }
        let (is_good, len, mut left) = answer(&mut stream, &mut head).await?;
        while left > 0 {
            left = left.checked_sub(forget(&stream, &mut dropped, left).await?).ok_or("more than was announced")?;
        }
        count.answers += u64::from(is_good);
        count.refused += u64::from(!is_good);
        count.bytes += len as u64;
    }
    Ok(count)
}

fn ranged(asks: &Asks, (bytes, span): (u64, u64)) -> String {
    let first = rand::random::<u64>() % (bytes - span + 1);
    let Asks { target, authority, .. } = asks;
    format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\nRange: bytes={first}-{}\r\n\r\n", first + span - 1)
}

/// Reads a head: whether it is that of a success, how long the body is, and how much of it is yet to come.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(bool, usize, usize), Failure> {
    let mut have = 0;
    loop {
        let read = stream.read(&mut buffer[have..]).await?;
        if read == 0 {
            return Err("the server hung up, or sent too long a head".into());
        }
        have += read;
        let Some(end) = buffer[..have].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end])?;
        let length = head.lines().filter_map(|line| line.split_once(':'));
        let length = length.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let len: usize = length.ok_or("an answer without a length")?.1.trim().parse()?;
        let here = have - end - 4;
        return Ok((head.as_bytes().get(9) == Some(&b'2'), len, len.checked_sub(here).ok_or("too long a body")?));
    }
}

/// Waits for bytes of a body and drops them; how many.
async fn forget(stream: &TcpStream, buffer: &mut [u8], most: usize) -> io::Result<usize> {
    let most = most.min(buffer.len());
    loop {
        stream.readable().await?;
        match stream.try_io(tokio::io::Interest::READABLE, || discard(stream, &mut buffer[..most])) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

#[cfg(target_os = "linux")]
fn discard(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    use rustix::net::{RecvFlags, recv};
    Ok(recv(stream, buffer, RecvFlags::TRUNC)?.1)
}

/// Elsewhere they are copied.
#[cfg(not(target_os = "linux"))]
fn discard(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    stream.try_read(buffer)
}
