//! One server: how many requests it gets at a time, how long it is waited for, and until when it asked to be left alone.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use swarmgate_egress::{HttpAnswer, HttpClient, HttpMethod, HttpRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout, timeout_at};
use url::Url;

use super::fault::{at_fault, neutral, unanswered};
use crate::source::SourceError;

/// Longest URL of a server, in bytes.
const MAX_BASE_BYTES: usize = 2048;
/// Longest time that a server may ask to be left alone for; longer is taken as this.
const MAX_REST: Duration = Duration::from_secs(600);
/// How long a server is left alone that answers 429 and does not say for how long.
const DEFAULT_REST: Duration = Duration::from_secs(2);
/// Longest that a request waits for a server to want requests again; else it fails at once, for others to be asked.
const MAX_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is remembered at least how far away a server is, and at most twice as long.
const DISTANCE_MEMORY: Duration = Duration::from_secs(300);
/// How often one thing is asked for: again when the server asked to be left alone at first.
const MAX_TRIES: usize = 2;

/// What an operator may set for a server.
#[derive(Debug, Clone, Copy)]
pub struct EndpointOptions {
    /// Requests on their way at a time; the others queue. Each is a connection, and for a block up to 2 MiB of memory.
    /// Default 16.
    pub max_concurrent: usize,
    /// How long the head of an answer may take: a server that has not the block looks for it meanwhile. Default 30 s.
    pub head_timeout: Duration,
    /// How long the body of an answer may give nothing. Default 10 s.
    pub stall_timeout: Duration,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self { max_concurrent: 16, head_timeout: Duration::from_secs(30), stall_timeout: Duration::from_secs(10) }
    }
}

/// A text is no server's URL. It is not repeated: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server is an http or https URL of at most {MAX_BASE_BYTES} bytes, without a query")]
pub struct BadEndpoint;

/// One thing that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: HttpMethod,
    /// Path and query below the server's URL, with the slash.
    pub(super) path: &'a str,
    pub(super) accept: Option<&'a str>,
    pub(super) deadline: Instant,
}

pub(super) struct Endpoint {
    http: HttpClient,
    /// Its URL, with user and password, without a slash at the end.
    base: String,
    /// The same without user and password.
    name: String,
    options: EndpointOptions,
    slots: Arc<Semaphore>,
    rests_until: Mutex<Option<Instant>>,
    distance: Mutex<Distance>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The server at `base`, which may end in `suffix`, a path that requests begin with anyway.
    pub(super) fn new(
        http: HttpClient,
        base: &str,
        suffix: &str,
        options: EndpointOptions,
    ) -> Result<Self, BadEndpoint> {
        let mut url = Url::parse(base).map_err(|_| BadEndpoint)?;
        let fits = matches!(url.scheme(), "http" | "https") && url.as_str().len() <= MAX_BASE_BYTES;
        if !fits || url.query().is_some() || url.fragment().is_some() {
            return Err(BadEndpoint);
        }
        let bare = |url: &Url| {
            let text = url.as_str().trim_end_matches('/');
            text.strip_suffix(suffix).unwrap_or(text).to_owned()
        };
        let base = bare(&url);
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| BadEndpoint)?;
        let slots = Arc::new(Semaphore::new(options.max_concurrent.max(1)));
        let (rests_until, distance) = (Mutex::default(), Mutex::default());
        Ok(Self { http, base, name: bare(&url), options, slots, rests_until, distance })
    }

    /// Its URL, without user and password.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Requests that are on their way at a time.
    pub(super) const fn max_concurrent(&self) -> usize {
        self.options.max_concurrent
    }

    /// How soon an answer begins when the server is not busy; `None` before the first.
    pub(super) fn distance(&self) -> Option<Duration> {
        self.distance.lock().shortest()
    }

    /// Asks, and gives the answer whatever its status is, but for "too many requests".
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, SourceError> {
        let slot = self.slot(ask.deadline).await?;
        for _ in 0..MAX_TRIES {
            self.sit_out(ask.deadline).await?;
            let answer = self.send(&ask).await?;
            let Some(rest) = asks_for_rest(&answer) else {
                let (deadline, stall) = (ask.deadline, self.options.stall_timeout);
                return Ok(Answer { inner: answer, deadline, stall, _slot: slot });
            };
            *self.rests_until.lock() = Some(Instant::now() + rest);
        }
        Err(at_fault("it has too many requests"))
    }

    async fn slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, SourceError> {
        let slot = timeout_at(deadline.into(), self.slots.clone().acquire_owned()).await;
        let slot = slot.ok().and_then(Result::ok).filter(|_| Instant::now() < deadline);
        slot.ok_or_else(|| neutral("it was not asked: the time was over"))
    }

    /// Waits until the server wants requests again, unless that is too long.
    async fn sit_out(&self, deadline: Instant) -> Result<(), SourceError> {
        let until = *self.rests_until.lock();
        let Some(until) = until.filter(|until| *until > Instant::now()) else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        if left > MAX_PATIENCE || until >= deadline {
            return Err(at_fault(format!("it asked to be left alone for another {} s", left.as_secs() + 1)));
        }
        sleep(left).await;
        Ok(())
    }

    async fn send(&self, ask: &Ask<'_>) -> Result<HttpAnswer, SourceError> {
        let url = format!("{}{}", self.base, ask.path);
        let left = ask.deadline.saturating_duration_since(Instant::now());
        let request = HttpRequest { method: ask.method, url: &url, accept: ask.accept, bytes: None, timeout: left };
        let wait = left.min(self.options.head_timeout);
        let begun = Instant::now();
        match timeout(wait, self.http.send(request)).await {
            Ok(answer) => {
                let answer = answer.map_err(|error| unanswered(&error))?;
                self.distance.lock().learn(Instant::now(), begun.elapsed());
                Ok(answer)
            }
            Err(_) => Err(at_fault(format!("no answer within {wait:.1?}"))),
        }
    }
}

/// How far away a server is: the shortest time to the head of an answer, of late. The longer ones say how busy it is.
#[derive(Debug, Default)]
struct Distance {
    since: Option<Instant>,
    lately: Option<Duration>,
    before: Option<Duration>,
}

impl Distance {
    fn learn(&mut self, now: Instant, took: Duration) {
        if self.since.is_none_or(|since| now >= since + DISTANCE_MEMORY) {
            (self.since, self.before) = (Some(now), self.lately.take());
        }
        self.lately = Some(self.lately.map_or(took, |lately| lately.min(took)));
    }

    fn shortest(&self) -> Option<Duration> {
        self.lately.into_iter().chain(self.before).min()
    }
}

/// How long the server asks to be left alone (RFC 6585 §4, RFC 9110 §10.2.3).
fn asks_for_rest(answer: &HttpAnswer) -> Option<Duration> {
    let said = answer.header("retry-after").and_then(|value| retry_after(value, SystemTime::now()));
    match answer.status() {
        429 => Some(said.unwrap_or(DEFAULT_REST)),
        503 => said,
        _ => None,
    }
}

fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let rest = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(rest.min(MAX_REST))
}

/// An answer whose body is yet to be read. It keeps one of the server's slots until it is dropped.
#[derive(Debug)]
pub(super) struct Answer {
    inner: HttpAnswer,
    deadline: Instant,
    stall: Duration,
    _slot: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.inner.status()
    }

    /// The media type that it claims, without parameters.
    pub(super) fn media_type(&self) -> &str {
        let value = self.inner.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    pub(super) fn is(&self, media_type: &str) -> bool {
        self.media_type().eq_ignore_ascii_case(media_type)
    }

    /// Takes it only when it is what was asked for.
    pub(super) fn expect(&self, media_type: &str) -> Result<(), SourceError> {
        if self.is(media_type) { Ok(()) } else { Err(self.strange()) }
    }

    /// It is something else than was asked for.
    pub(super) fn strange(&self) -> SourceError {
        let said: String = self.media_type().chars().take(80).collect();
        at_fault(format!("it answered with {}", if said.is_empty() { "no media type" } else { said.as_str() }))
    }

    /// The next part of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        let until = self.deadline.min(Instant::now() + self.stall);
        match timeout_at(until.into(), self.inner.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| unanswered(&error)),
            Err(_) if until == self.deadline => Err(at_fault("its answer was not whole in time")),
            Err(_) => Err(at_fault(format!("its answer stood still for {:.1?}", self.stall))),
        }
    }

    /// The body, of at most so many bytes.
    pub(super) async fn body(mut self, max_bytes: usize) -> Result<Bytes, SourceError> {
        let too_long = || at_fault(format!("an answer of more than {max_bytes} bytes"));
        let declared = usize::try_from(self.inner.content_length().unwrap_or(0)).map_err(|_| too_long())?;
        if declared > max_bytes {
            return Err(too_long());
        }
        let mut body = BytesMut::with_capacity(declared);
        while let Some(chunk) = self.chunk().await? {
            if chunk.len() > max_bytes - body.len() {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str) -> Result<Endpoint, BadEndpoint> {
        Endpoint::new(crate::http::testing::http(), base, "/api/v0", EndpointOptions::default())
    }

    #[test]
    fn a_password_is_sent_and_never_told() {
        let endpoint = endpoint("http://me:secret@127.0.0.1:5001/api/v0/").unwrap();
        assert_eq!(endpoint.name(), "http://127.0.0.1:5001");
        assert_eq!(endpoint.base, "http://me:secret@127.0.0.1:5001");
        assert!(!format!("{endpoint:?}").contains("secret"));
    }

    #[test]
    fn a_server_is_a_url_without_a_query() {
        for bad in ["", "127.0.0.1:5001", "ftp://x/", "http://x/?a=b", "http://x/#a", &format!("http://x/{:3000}", 0)] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        assert_eq!(endpoint("https://x.example/sub/").unwrap().name(), "https://x.example/sub");
    }

    #[test]
    fn a_busy_server_is_not_farther_away_and_a_way_that_grew_is_noticed() {
        let (mut distance, start) = (Distance::default(), Instant::now());
        let [near, far] = [5, 80].map(Duration::from_millis);
        assert_eq!(distance.shortest(), None);
        for took in [far, near, far] {
            distance.learn(start, took);
        }
        distance.learn(start + DISTANCE_MEMORY, far);
        assert_eq!(distance.shortest(), Some(near));
        distance.learn(start + 2 * DISTANCE_MEMORY, far);
        assert_eq!(distance.shortest(), Some(far));
    }

    #[test]
    fn how_long_to_leave_a_server_alone_is_said_in_seconds_or_as_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("99999999999", Some(600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
