//! One question to a device over HTTP and its answer, with bounds. Version 1.0 is spoken, so that an answer is never cut into
//! chunks; what devices say of themselves in HTTP is too often wrong to be worth more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer read, in bytes. Descriptions have 2 to 10 KiB.
const MAX_BYTES: u64 = 256 << 10;
/// How long a device in the same house may take for one answer.
const WITHIN: Duration = Duration::from_secs(3);

/// An answer: its status and its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks for what is at a path.
pub(crate) async fn get(host: SocketAddr, path: &str) -> io::Result<Answered> {
    ask(host, format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

/// Asks for an action (SOAP).
pub(crate) async fn act(host: SocketAddr, path: &str, action: &str, body: &str) -> io::Result<Answered> {
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
         SOAPAction: {action}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    ask(host, head + body).await
}

async fn ask(host: SocketAddr, request: String) -> io::Result<Answered> {
    let exchange = async {
        let mut stream = TcpStream::connect(host).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut limited = stream.take(MAX_BYTES);
        loop {
            if limited.read_buf(&mut answer).await? == 0 || is_whole(&answer) {
                return read(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
            }
        }
    };
    tokio::time::timeout(WITHIN, exchange).await?
}

/// Whether the body is as long as the head says; some devices leave the connection open.
fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = parts(answer) else { return false };
    let len = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    len.is_some_and(|len| body.len() >= len)
}

fn read(answer: &[u8]) -> Option<Answered> {
    let (head, body) = parts(answer)?;
    let status = head.split(' ').nth(1).filter(|_| head.starts_with("HTTP/1."))?.get(..3)?.parse().ok()?;
    Some(Answered { status, body: String::from_utf8_lossy(body).into_owned() })
}

fn parts(answer: &[u8]) -> Option<(String, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A device that answers one question with `answer` and then leaves the connection open.
    async fn device(answer: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&answer).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        address
    }

    #[tokio::test]
    async fn an_answer_is_done_when_it_is_as_long_as_it_says() {
        let host = device(b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno".to_vec()).await;
        assert_eq!(act(host, "/ctl", "\"x\"", "<a/>").await.unwrap(), Answered { status: 500, body: "no".to_owned() });
    }

    #[tokio::test]
    async fn who_never_ends_is_given_up_and_who_says_too_much_cut_short() {
        let silent = device(b"HTTP/1.1 200 OK\r\n\r\n<a>".to_vec()).await;
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 300 << 10]].concat();
        let endless = device(endless).await;
        let nonsense = device(b"hello\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        let (silent, endless, nonsense) = tokio::join!(get(silent, "/"), get(endless, "/"), get(nonsense, "/"));
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(endless.is_ok_and(|answer| answer.body.len() < 256 << 10));
        assert_eq!(nonsense.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
