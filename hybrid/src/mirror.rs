//! Files that web servers have: web seeds (BEP 19) and mirrors, read by ranges (RFC 9110 §14).
//!
//! Nothing that a server sends is believed: what it gives is hashed by who asked for it. Every request passes the egress
//! guard, for strangers write the URLs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use swarmgate_content::{BoxFuture, ByteRange, ContentMeta, FileEntry};
use swarmgate_egress::{HttpAnswer, HttpClient, HttpError, HttpRequest};
use swarmgate_hybrid_rules::{Fault, Name, SourceSpec, class};
use url::Url;

use crate::lane::LaneFault;
use crate::lanes::{FileSource, http_spec};

/// How long one range may take. A server that is merely slow is given up by the plan before.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Most bytes of one request: a piece.
const MAX_BYTES: u64 = 16 << 20;
/// The unit of ranges (RFC 9110 §14.1).
const UNIT: &str = "bytes";
/// What of a path's component is written as it is (RFC 3986 §2.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One file at a web server.
#[derive(Debug)]
pub(crate) struct Mirror {
    client: HttpClient,
    url: Arc<str>,
    host: String,
    len: u64,
}

impl Mirror {
    /// A file of that length. `None` when its URL is none that has a host.
    pub(crate) fn new(client: HttpClient, url: &Url, len: u64) -> Option<Self> {
        let host = host_of(url)?;
        Some(Self { client, url: url.as_str().into(), host, len })
    }
}

/// A server's name with its port, by which its breaker is known. The URL's password is not in it.
pub(crate) fn host_of(url: &Url) -> Option<String> {
    let port = url.port_or_known_default()?;
    Some(format!("{}:{port}", url.host_str()?))
}

/// Where a web seed has a file (BEP 19): below its URL, or at its URL when it is one file's and no folder's.
pub(crate) fn seed_url(seed: &str, meta: &ContentMeta, file: &FileEntry) -> Option<Url> {
    let url = Url::parse(seed).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let single = meta.files.len() == 1;
    if single && !seed.ends_with('/') {
        return Some(url);
    }
    let mut text = seed.to_owned();
    if !text.ends_with('/') {
        text.push('/');
    }
    let name = std::iter::once(meta.name.as_str()).chain(file.path.iter().filter(|_| !single).map(String::as_str));
    let parts: Vec<_> = name.map(|part| utf8_percent_encode(part, PATH).to_string()).collect();
    text.push_str(&parts.join("/"));
    Url::parse(&text).ok()
}

impl FileSource for Mirror {
    fn spec(&self) -> SourceSpec {
        http_spec(&self.host)
    }

    fn read(&self, range: ByteRange, received: Arc<AtomicU64>) -> BoxFuture<'static, Result<Bytes, LaneFault>> {
        let (client, url, len) = (self.client.clone(), self.url.clone(), self.len);
        Box::pin(async move { get(&client, &url, range, len, &received).await })
    }

    fn vouches_for(&self) -> Option<Name> {
        None
    }
}

async fn get(
    client: &HttpClient,
    url: &str,
    range: ByteRange,
    len: u64,
    received: &AtomicU64,
) -> Result<Bytes, LaneFault> {
    if range.len() > MAX_BYTES {
        return Err(fault(Fault::BadRange, "more than 16 MiB at once"));
    }
    let request = HttpRequest { bytes: Some((range.start(), range.end() - 1)), ..HttpRequest::get(url, TIMEOUT) };
    let answer = client.send(request).await.map_err(|error| unanswered(&error))?;
    check_head(&answer, range, len)?;
    body(answer, range, received).await
}

/// Whether an answer is the range that was asked for (RFC 9110 §15.3.7). All of a file is one too, when all was wanted.
fn check_head(answer: &HttpAnswer, range: ByteRange, len: u64) -> Result<(), LaneFault> {
    match answer.status() {
        206 => {
            let said = answer.header("content-range").and_then(content_range);
            match said {
                Some((start, end, total)) if (start, end) == (range.start(), range.end()) => match total {
                    Some(total) if total != len => Err(fault(Fault::NotFound, "the server's file has another length")),
                    _ => Ok(()),
                },
                _ => Err(fault(Fault::Malformed, "the server answered with another range")),
            }
        }
        200 if range.start() == 0 && range.end() == len => Ok(()),
        200 => Err(fault(Fault::Malformed, "the server does not serve ranges")),
        404 | 410 => Err(fault(Fault::NotFound, "the server has not got it")),
        416 => Err(fault(Fault::BadRange, "the server's file is shorter")),
        429 | 503 => Err(fault(Fault::Throttled, "the server is busy")),
        status => Err(fault(Fault::Failed, format!("the server answered with status {status}"))),
    }
}

/// Reads `bytes 0-1023/4096`: start, end (exclusive), and the whole length unless it is `*`.
fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (_, range) = value.split_once(' ').filter(|(unit, _)| *unit == UNIT)?;
    let (span, total) = range.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?, total))
}

async fn body(mut answer: HttpAnswer, range: ByteRange, received: &AtomicU64) -> Result<Bytes, LaneFault> {
    let wanted = usize::try_from(range.len()).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::with_capacity(wanted);
    while let Some(chunk) = answer.chunk().await.map_err(|error| unanswered(&error))? {
        received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if bytes.len() + chunk.len() > wanted {
            return Err(fault(Fault::Malformed, "the server sent more than it was asked for"));
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() < wanted {
        return Err(fault(Fault::Malformed, "the server sent less than it was asked for"));
    }
    Ok(bytes.freeze())
}

fn fault(fault: Fault, detail: impl Into<String>) -> LaneFault {
    LaneFault::new(class(fault), detail)
}

fn unanswered(error: &HttpError) -> LaneFault {
    let kind = match error {
        HttpError::Timeout(_) => Fault::TimedOut,
        HttpError::Refused(_) | HttpError::Url(_) => Fault::NotFound,
        HttpError::Setup(_) => Fault::Local,
        HttpError::TooManyRedirects | HttpError::Status(_) | HttpError::TooLarge(_) => Fault::Malformed,
        HttpError::Connection(_) => Fault::Unreachable,
    };
    fault(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use swarmgate_content::{ContentId, InfoHash, PieceHashes, Verification};

    use super::*;

    fn meta(name: &str, paths: &[&[&str]]) -> ContentMeta {
        let entry = |path: &&[&str]| FileEntry {
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            len: 1,
            offset: 0,
            padding: false,
        };
        ContentMeta {
            id: ContentId::BtV1(InfoHash::new([1; 20])),
            name: name.to_owned(),
            total_len: 1,
            files: paths.iter().map(entry).collect(),
            private: false,
            verification: Verification::V1(PieceHashes { piece_len: 16, hashes: Bytes::new() }),
        }
    }

    #[test]
    fn a_seeds_url_names_a_file_or_the_folder_above() {
        let single = meta("a film.mkv", &[&["a film.mkv"]]);
        let many = meta("a set", &[&["cd 1", "ä#?.ogg"], &["b"]]);
        for (seed, meta, expected) in [
            ("http://w/x.mkv", &single, "http://w/x.mkv"),
            ("http://w/films/", &single, "http://w/films/a%20film.mkv"),
            ("https://w/y", &many, "https://w/y/a%20set/cd%201/%C3%A4%23%3F.ogg"),
            ("https://w/y/", &many, "https://w/y/a%20set/cd%201/%C3%A4%23%3F.ogg"),
        ] {
            assert_eq!(seed_url(seed, meta, &meta.files[0]).unwrap().as_str(), expected);
        }
        assert_eq!(seed_url("ftp://w/x", &single, &single.files[0]), None);
    }

    #[test]
    fn a_content_range_is_read_or_refused() {
        assert_eq!(content_range("bytes 0-1023/4096"), Some((0, 1024, Some(4096))));
        assert_eq!(content_range("bytes 5-5/*"), Some((5, 6, None)));
        for wrong in ["", "bytes */4096", "bytes 5/9", "items 0-1/2", "bytes 0-18446744073709551615/9", "bytes a-b/c"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_breaker_is_known_by_host_and_port() {
        let host = |url: &str| host_of(&url.parse().unwrap());
        assert_eq!(host("https://me:secret@W.example/x").unwrap(), "w.example:443");
        assert_eq!(host("http://[::1]:8080/").unwrap(), "[::1]:8080");
        assert_eq!(host("data:text/plain,x"), None);
    }
}
