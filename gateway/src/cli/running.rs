//! The gateway that runs already, spoken to over HTTP/1.1, at the address or the socket that the configuration names.
//!
//! Where the configuration has a certificate (`server.tls_cert`) that is over TLS, and that certificate alone is believed
//! (`running/pinned.rs`). Where it has none, nothing of TLS is set up, so that a probe starts at once.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use swarmgate_config::Config;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::Exit;
use super::ls::printable;
use super::source::Failure;
use crate::links;

mod pinned;
mod place;

use pinned::Pinned;
use place::{Found, Place};

/// How long it may take to connect, and then to answer. A gateway answers these questions from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer read: 64 MiB, the items of a very busy gateway.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Longest sentence repeated from an answer in words, in characters.
const MAX_SENTENCE_CHARS: usize = 400;

/// A gateway that may be running.
#[derive(Clone)]
pub struct Running {
    place: Place,
    /// What its paths begin with: empty, or a slash and more, without a slash at the end.
    base: String,
    token: Option<String>,
    /// Set where it speaks TLS.
    tls: Option<Pinned>,
}

/// What it answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The URL that was asked, for people.
    pub url: String,
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Running {
    /// The gateway of a configuration, or the one at `api`: a URL, or `unix:` and the path of its socket.
    ///
    /// # Errors
    /// [`Exit::Usage`] when neither says where it is.
    pub fn of(config: &Config, api: Option<&str>) -> Result<Self, Failure> {
        let Found { place, speaks_tls, base_path } = Found::of(config, api)?;
        let base = base_path.trim_matches('/');
        let base = if base.is_empty() { String::new() } else { format!("/{base}") };
        let token = config.auth.required_token().map(|token| token.expose().to_owned());
        let tls = speaks_tls.then(|| Pinned::read(&config.server.tls_cert)).transpose()?;
        Ok(Self { place, base, token, tls })
    }

    /// The gateway at an address of this machine, without a base path and without TLS.
    #[must_use]
    pub fn at(address: SocketAddr, token: Option<String>) -> Self {
        Self { place: Place::Address(address.to_string()), base: String::new(), token, tls: None }
    }

    /// The same for a client without credentials.
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// Whether the configuration has a token for it.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a player gets there by a URL. A certificate is for the gateway's name, and who is sent to its address on
    /// this machine is right not to believe it; of Unix sockets players know nothing.
    #[must_use]
    pub const fn is_for_players(&self) -> bool {
        self.tls.is_none() && matches!(self.place, Place::Address(_))
    }

    /// The URL of a path of it, for people.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let (scheme, base) = (if self.tls.is_some() { "https" } else { "http" }, &self.base);
        match &self.place {
            Place::Address(authority) => format!("{scheme}://{authority}{base}{path}"),
            Place::Unix(_) => format!("{}:{base}{path}", self.place),
        }
    }

    /// A path that the gateway has named, as [`Self::ask`] takes it: without the base path.
    #[must_use]
    pub fn below_base<'a>(&self, path: &'a str) -> &'a str {
        links::below_base(path, &self.base)
    }

    /// Asks, and takes any answer.
    ///
    /// # Errors
    /// [`Exit::NotFound`] when nobody listens there, [`Exit::Timeout`] when no answer comes; [`Exit::Denied`] for a socket
    /// that is not for this user.
    pub async fn ask(&self, method: Method, path: &str) -> Result<Reply, Failure> {
        self.ask_within(PATIENCE, method, path).await
    }

    /// Asks for something that may take so long.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_within(&self, patience: Duration, method: Method, path: &str) -> Result<Reply, Failure> {
        let request = Request::builder().method(method).uri(path).body(Bytes::new());
        self.send(request.map_err(|error| self.broke(path, &error))?, patience).await
    }

    /// Sends a request whose URI is a path of the gateway, with a query perhaps, and takes any answer within `patience`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn send(&self, request: Request<Bytes>, patience: Duration) -> Result<Reply, Failure> {
        // A query may have in it what is nobody's business, as a tracker's passkey.
        let path = request.uri().path().to_owned();
        let late = |_| Failure::new(Exit::Timeout, format!("{}: no answer within {patience:?}", self.url(&path)));
        tokio::time::timeout(patience, self.exchange(request.map(Full::new), &path)).await.map_err(late)?
    }

    /// Sends a request whose body may be long, and takes any answer. The gateway says how long it waits for more of it.
    ///
    /// # Errors
    /// As [`Self::ask`], without a time-out.
    pub async fn upload<B>(&self, request: Request<B>) -> Result<Reply, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path().to_owned();
        self.exchange(request, &path).await
    }

    /// Asks for a JSON document.
    ///
    /// # Errors
    /// As [`Self::ask`], and what the gateway says where it refuses.
    pub async fn document(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path).await?.json()
    }

    async fn exchange<B>(&self, request: Request<B>, path: &str) -> Result<Reply, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let nobody = |error: std::io::Error| self.place.unanswered(&error);
        let request = self.complete(request).map_err(|error| self.broke(path, &error))?;
        let authority = match &self.place {
            Place::Address(authority) => authority,
            #[cfg(unix)]
            Place::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(nobody)?;
                return self.converse(stream, request, path).await;
            }
            #[cfg(not(unix))]
            Place::Unix(_) => return Err(nobody(std::io::ErrorKind::Unsupported.into())),
        };
        let stream = TcpStream::connect(authority).await.map_err(nobody)?;
        match &self.tls {
            None => self.converse(stream, request, path).await,
            Some(tls) => {
                let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
                let greeted = tls.greet(host, stream).await;
                let stream = greeted.map_err(|error| self.broke(path, &pinned::complaint(&error)))?;
                self.converse(stream, request, path).await
            }
        }
    }

    async fn converse<B>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<B>,
        path: &str,
    ) -> Result<Reply, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broke(path, &error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.broke(path, &error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| self.broke(path, &error))?.to_bytes();
            Ok::<_, Failure>(Reply { url: self.url(path), status: head.status, headers: head.headers, body })
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The last bytes of an answer may come with the end of the connection.
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(self.broke(path, &error)),
            },
        }
    }

    fn broke(&self, path: &str, error: &dyn fmt::Display) -> Failure {
        Failure::new(Exit::Error, format!("{}: {error}", self.url(path)))
    }

    /// The request as it goes on the wire: below the base path, with what each has.
    fn complete<B>(&self, request: Request<B>) -> Result<Request<B>, http::Error> {
        let (head, body) = request.into_parts();
        let mut complete = Request::builder()
            .method(head.method)
            .uri(format!("{}{}", self.base, head.uri))
            .header(HOST, self.place.host());
        if !head.headers.contains_key(ACCEPT) {
            complete = complete.header(ACCEPT, "application/json");
        }
        if let Some(token) = &self.token {
            complete = complete.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in &head.headers {
            complete = complete.header(name, value);
        }
        complete.body(body)
    }
}

impl Reply {
    /// A header that is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first line of an answer in words, as errors about IPFS are.
    fn sentence(&self) -> Option<String> {
        let is_text = self.header(&CONTENT_TYPE)?.starts_with("text/plain");
        let line = std::str::from_utf8(&self.body).ok()?.lines().next()?;
        let line: String = line.chars().take(MAX_SENTENCE_CHARS).collect();
        (is_text && !line.is_empty()).then(|| printable(&line))
    }

    /// The reply, where it is a success.
    ///
    /// # Errors
    /// The problem that it tells of, otherwise.
    pub fn accepted(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = problem["type"].as_str().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default();
        let exit = match self.status {
            _ if matches!(kind, "no-source" | "name-unresolved" | "nothing-selected") => Exit::NotFound,
            _ if matches!(kind, "invalid-content" | "invalid-car") => Exit::Integrity,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            StatusCode::NOT_FOUND => Exit::NotFound,
            StatusCode::BAD_REQUEST => Exit::Usage,
            StatusCode::GATEWAY_TIMEOUT => Exit::Timeout,
            StatusCode::INSUFFICIENT_STORAGE => Exit::DiskFull,
            _ => Exit::Error,
        };
        let words = [problem["title"].as_str(), problem["detail"].as_str()];
        let words: Vec<_> = words.into_iter().flatten().map(printable).collect();
        let what = match words.is_empty() {
            true => self.sentence().unwrap_or_else(|| format!("the answer was {}", self.status)),
            false => words.join(": "),
        };
        let wants_token = matches!(kind, "unauthorized" | "missing-scope");
        let hint = if wants_token { "; give it as auth.token, or SWARMGATE_AUTH__TOKEN_FILE" } else { "" };
        Err(Failure::new(exit, format!("{what}{hint}")))
    }

    /// The document in the reply, where it is a success.
    ///
    /// # Errors
    /// As [`Self::accepted`], and when what answers is no swarmgate, or one whose documents look otherwise.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let reply = self.accepted()?;
        serde_json::from_slice(&reply.body)
            .map_err(|error| Failure::new(Exit::Error, format!("{}: not a swarmgate's answer: {error}", reply.url)))
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("url", &self.url("/")).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use swarmgate_config::Secret;
    use tokio::net::TcpListener;

    use super::*;
    use crate::auth::TokenHash;
    use crate::cli::testing::certificate;
    use crate::server::{HttpSocket, ServeLimits, Tls, router, serve};
    use crate::state::{Anonymous, HttpOptions};
    use crate::testing::{Behaviour, World, world};

    #[test]
    fn a_url_stands_in_for_the_configuration() {
        let config = Config::default();
        let url = |api| Running::of(&config, Some(api)).map(|running| running.url("/healthz"));
        assert_eq!(url("http://gate.lan:8420/films/").unwrap(), "http://gate.lan:8420/films/healthz");
        assert_eq!(url("http://[::1]").unwrap(), "http://[::1]:80/healthz");
        assert_eq!(url("unix:/run/gate.sock").unwrap(), "unix:/run/gate.sock:/healthz");
        for wrong in ["https://gate.lan/", "gate.lan:8420", "8420", "unix:gate.sock", "unix:"] {
            assert_eq!(url(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[tokio::test]
    async fn it_finds_the_gateway_below_its_base_path_and_shows_its_token() {
        let options = HttpOptions {
            base_path: "/films".to_owned(),
            token: Some(TokenHash::of("s3cret")),
            anonymous_content: Anonymous::Never,
            ..HttpOptions::default()
        };
        let world = World::start(&[("a", 1)], Behaviour::default(), options, ServeLimits::default()).await;
        let mut config = Config::default();
        config.server.listen = vec![world.address.into()];
        config.server.base_path = "/films".to_owned();
        let without = Running::of(&config, None).unwrap();
        assert_eq!(without.ask(Method::GET, "/healthz").await.unwrap().status, StatusCode::OK);
        let refused = without.document("/api/v1/status").await.unwrap_err();
        assert_eq!(refused.exit, Exit::Denied, "{refused}");
        config.auth.token = Secret::new("s3cret");
        let with = Running::of(&config, None).unwrap();
        assert_eq!(with.document("/api/v1/version").await.unwrap()["name"], "swarmgate");
        assert_eq!(with.document("/api/v1/items/ab").await.unwrap_err().exit, Exit::Usage);
        assert!(!format!("{with:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn over_tls_the_certificate_of_the_configuration_is_believed_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = certificate(dir.path(), "ours");
        let world = world(&[("a", 1)]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = HttpSocket::from(listener).with_tls(Some(Tls::load(&cert, &key).unwrap()));
        tokio::spawn(serve(socket, router(world.state.clone()), world.shutdown.clone(), ServeLimits::default()));

        let mut config = Config::default();
        config.server.listen = vec![address.into()];
        config.server.tls_cert = cert;
        let by_url = format!("https://{address}/");
        for api in [None, Some(by_url.as_str())] {
            let running = Running::of(&config, api).unwrap();
            assert_eq!(running.url("/healthz"), format!("https://{address}/healthz"));
            assert_eq!(running.document("/api/v1/version").await.unwrap()["name"], "swarmgate");
        }
        config.server.tls_cert = certificate(dir.path(), "another").0;
        let failure = Running::of(&config, None).unwrap().ask(Method::GET, "/healthz").await.unwrap_err();
        assert_eq!(failure.exit, Exit::Error);
        assert!(failure.message.contains("another certificate") && failure.message.contains("SIGHUP"), "{failure}");
        config.server.listen = vec![world.address.into()];
        let failure = Running::of(&config, None).unwrap().ask(Method::GET, "/healthz").await.unwrap_err();
        assert_eq!(failure.exit, Exit::Error, "what speaks no TLS: {failure}");
        config.server.tls_cert = dir.path().join("none.pem");
        let failure = Running::of(&config, None).unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains("server.tls_cert"), "{failure}");
    }

    #[test]
    fn an_answer_that_is_no_swarmgates_is_told_with_its_url() {
        let read = |status, body: &'static str| {
            let (url, headers) = ("http://gate.lan/x".to_owned(), HeaderMap::new());
            Reply { url, status, headers, body: Bytes::from_static(body.as_bytes()) }.json::<Vec<u8>>()
        };
        assert_eq!(read(StatusCode::OK, "[1]").unwrap(), [1]);
        assert_eq!(read(StatusCode::NOT_FOUND, "[1]").unwrap_err().exit, Exit::NotFound);
        for body in ["<html>", "", r#"{"a": 1}"#] {
            let failure = read(StatusCode::OK, body).unwrap_err();
            assert_eq!(failure.exit, Exit::Error, "{body}");
            assert!(failure.message.starts_with("http://gate.lan/x: not a swarmgate's answer"), "{failure}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_it_says_so() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Running::of(&Config::default(), Some(&format!("http://{free}"))).unwrap();
        let failure = failure.ask(Method::GET, "/healthz").await.unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.message.contains("is it running?"), "{failure}");
    }
}
