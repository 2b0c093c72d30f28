//! HTTP towards hosts that strangers named: every address is checked, every body has a limit.
//!
//! The guard sits in the resolver and in the redirect policy, so no request leaves this client unchecked. The client
//! reads no proxy settings of the environment, keeps no cookies and unpacks nothing.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt, Policy};
use url::Url;

use crate::http_answer::{HttpAnswer, HttpMethod, HttpRequest};
use crate::policy::{EgressPolicy, EgressRefused, ResolveError};

/// Redirects followed before a request is given up. Trackers redirect once, from http to https.
const MAX_REDIRECTS: usize = 5;
/// Longest URL fetched, in bytes. Announce URLs with a passkey stay under 1 KiB.
const MAX_URL_BYTES: usize = 8 * 1024;

/// Why a URL was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client could not be made; said once, at start-up.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
    /// Not a URL, or not one that is fetched over HTTP.
    #[error("not an http or https URL of at most {MAX_URL_BYTES} bytes: {0}")]
    Url(String),
    /// Its host, or the host of a redirect, has an address that is off limits.
    #[error(transparent)]
    Refused(#[from] EgressRefused),
    /// It redirects in circles.
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
    /// No complete answer in time.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// An answer other than success.
    #[error("answered with HTTP status {0}")]
    Status(u16),
    /// The body is longer than we read.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The connection failed or broke.
    #[error("the connection failed: {0}")]
    Connection(String),
}

/// Asks over HTTP under the egress policy. Clones share one set of connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    policy: EgressPolicy,
    route: HttpRoute,
}

/// The way that a client's connections take; the default is the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRoute {
    /// A proxy for everything, as `socks5h://…`: it resolves the names too, so that none is asked for around it, and
    /// what a name leads to is its network's to guard. Addresses in URLs obey the policy all the same.
    pub proxy: Option<String>,
    /// A network interface, by name.
    pub interface: Option<String>,
    /// An address of this machine.
    pub local_address: Option<IpAddr>,
}

impl HttpRoute {
    fn applied(&self, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, HttpError> {
        if let Some(proxy) = &self.proxy {
            // The error may quote the URL, and with it a password.
            let proxy =
                reqwest::Proxy::all(proxy).map_err(|_| HttpError::Setup("the proxy's URL is none".to_owned()))?;
            builder = builder.proxy(proxy);
        }
        if let Some(interface) = &self.interface {
            builder = by_interface(builder, interface)?;
        }
        Ok(builder.local_address(self.local_address))
    }
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn by_interface(builder: reqwest::ClientBuilder, name: &str) -> Result<reqwest::ClientBuilder, HttpError> {
    Ok(builder.interface(name))
}

#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn by_interface(_: reqwest::ClientBuilder, _: &str) -> Result<reqwest::ClientBuilder, HttpError> {
    Err(HttpError::Setup("this system cannot bind connections to an interface".to_owned()))
}

/// Resolves what the policy allows, of one family alone where one is named.
#[derive(Debug)]
struct GuardedResolver {
    policy: EgressPolicy,
    only: Option<IpFamily>,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

#[derive(Debug, thiserror::Error)]
#[error("too many redirects")]
struct TooManyRedirects;

impl HttpClient {
    /// Makes a client that obeys `policy` and keeps no connection: one for announces, which come every half hour, so
    /// that a connection kept for the next one is only a descriptor lost.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when the system has no certificate authorities to trust, for instance.
    pub fn new(policy: EgressPolicy) -> Result<Self, HttpError> {
        Self::keeping(policy, 0)
    }

    /// Makes a client that obeys `policy` and keeps up to `max_idle` connections to each host for the requests to come.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn keeping(policy: EgressPolicy, max_idle: usize) -> Result<Self, HttpError> {
        Self::made(policy, max_idle, HttpRoute::default(), None)
    }

    /// Makes a client as [`Self::new`] does, whose connections all take a route.
    ///
    /// # Errors
    /// As [`Self::new`], and when the system cannot take that route.
    pub fn by(policy: EgressPolicy, route: HttpRoute) -> Result<Self, HttpError> {
        Self::made(policy, 0, route, None)
    }

    /// Makes a client of the same policy and route that keeps no connection and looks names up in one family alone: to be
    /// seen by a server under both of our addresses, it is asked over each.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(&self, family: IpFamily) -> Result<Self, HttpError> {
        Self::made(self.policy, 0, self.route.clone(), Some(family))
    }

    fn made(
        policy: EgressPolicy,
        max_idle: usize,
        route: HttpRoute,
        only: Option<IpFamily>,
    ) -> Result<Self, HttpError> {
        let client = route
            .applied(reqwest::Client::builder().no_proxy())?
            .user_agent(concat!("swarmgate/", env!("CARGO_PKG_VERSION")))
            .referer(false)
            .redirect(Policy::custom(move |attempt| guard_redirect(policy, attempt)))
            .dns_resolver(Arc::new(GuardedResolver { policy, only }))
            .pool_max_idle_per_host(max_idle)
            .build()
            .map_err(|error| HttpError::Setup(root_cause(&error).to_string()))?;
        Ok(Self { client, policy, route })
    }

    /// Fetches a body of at most `max_bytes`, all of it within `timeout`.
    ///
    /// # Errors
    /// See [`HttpError`]; any status but 2xx is one.
    pub async fn get_bytes(&self, url: &str, max_bytes: usize, timeout: Duration) -> Result<Bytes, HttpError> {
        let answer = self.send(HttpRequest::get(url, timeout)).await?;
        if !answer.is_success() {
            return Err(HttpError::Status(answer.status()));
        }
        answer.read(max_bytes).await
    }

    /// Sends a request and waits for the head of its answer, whatever its status.
    ///
    /// # Errors
    /// See [`HttpError`]; a status is none here.
    pub async fn send(&self, request: HttpRequest<'_>) -> Result<HttpAnswer, HttpError> {
        let url = self.vet(request.url)?;
        let mut builder = match request.method {
            HttpMethod::Get => self.client.get(url),
            HttpMethod::Post => self.client.post(url),
        };
        if let Some(accept) = request.accept {
            builder = builder.header("accept", accept);
        }
        if let Some((first, last)) = request.bytes {
            builder = builder.header("range", format!("bytes={first}-{last}"));
        }
        let response = builder.timeout(request.timeout).send().await;
        let response = response.map_err(|error| explain(&error, request.timeout))?;
        Ok(HttpAnswer::new(response, request.timeout))
    }

    fn vet(&self, text: &str) -> Result<Url, HttpError> {
        let refuse = || HttpError::Url(shown(text));
        if text.len() > MAX_URL_BYTES {
            return Err(refuse());
        }
        let url = Url::parse(text).map_err(|_| refuse())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse());
        }
        self.policy.check_literal(&url)?;
        Ok(url)
    }
}

/// Of a URL that is refused, its scheme and host; of what is none, no user's name and password.
fn shown(text: &str) -> String {
    let url = Url::parse(text).ok();
    let site = url.and_then(|url| Some(format!("{}://{}", url.scheme(), url.host_str()?)));
    site.unwrap_or_else(|| text.rsplit('@').next().unwrap_or_default().chars().take(80).collect())
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { policy, only } = *self;
        Box::pin(async move {
            let mut found = policy.resolve(name.as_str(), 0).await?;
            found.retain(|address| only.is_none_or(|only| (only == IpFamily::V4) == address.is_ipv4()));
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn guard_redirect(policy: EgressPolicy, attempt: Attempt<'_>) -> Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(TooManyRedirects);
    }
    match policy.check_literal(attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(refused) => attempt.error(refused),
    }
}

/// The guard's own verdicts travel inside the library's error; they are what matters.
pub(crate) fn explain(error: &reqwest::Error, timeout: Duration) -> HttpError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(refused) = this.downcast_ref::<EgressRefused>() {
            return HttpError::Refused(*refused);
        }
        if let Some(ResolveError::Refused(refused)) = this.downcast_ref() {
            return HttpError::Refused(*refused);
        }
        if this.is::<TooManyRedirects>() {
            return HttpError::TooManyRedirects;
        }
        cause = this.source();
    }
    if error.is_timeout() {
        return HttpError::Timeout(timeout);
    }
    HttpError::Connection(root_cause(error).to_string())
}

/// The innermost error: it alone says what happened, and names no URL with a passkey in it.
fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::HttpStub;

    const SOON: Duration = Duration::from_secs(2);
    const HOME: EgressPolicy = EgressPolicy { allow_private: true };
    const STRICT: EgressPolicy = EgressPolicy { allow_private: false };

    fn client(policy: EgressPolicy) -> HttpClient {
        HttpClient::new(policy).unwrap()
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn redirect(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    }

    #[tokio::test]
    async fn a_small_body_arrives_whole() {
        let stub = HttpStub::start(|_| ok("hello")).await;
        assert_eq!(client(HOME).get_bytes(&stub.url("/x"), 5, SOON).await.unwrap(), "hello");
        let request = stub.requests().pop().unwrap();
        assert!(request.to_lowercase().contains("user-agent: swarmgate/"), "{request}");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_or_without_a_declared_length() {
        let declared = HttpStub::start(|_| ok("123456")).await;
        assert!(matches!(client(HOME).get_bytes(&declared.url("/"), 5, SOON).await, Err(HttpError::TooLarge(5))));
        let undeclared = HttpStub::start(|_| "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n123456".to_owned()).await;
        assert!(matches!(client(HOME).get_bytes(&undeclared.url("/"), 5, SOON).await, Err(HttpError::TooLarge(5))));
    }

    #[tokio::test]
    async fn an_answer_is_read_as_it_comes_and_says_what_it_is() {
        let stub =
            HttpStub::start(|_| "HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno".to_owned()).await;
        let url = stub.url("/x").replace("http://", "http://user:pass@");
        let request = HttpRequest { method: HttpMethod::Post, accept: Some("a/b"), ..HttpRequest::get(&url, SOON) };
        let mut answer = client(HOME).send(request).await.unwrap();
        assert_eq!((answer.status(), answer.header("retry-after"), answer.content_length()), (429, Some("7"), Some(2)));
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "no");
        assert_eq!(answer.chunk().await.unwrap(), None);
        let asked = stub.requests().pop().unwrap();
        assert!(asked.starts_with("POST /x HTTP/1.1") && asked.contains("accept: a/b\r\n"), "{asked}");
        assert!(asked.contains("authorization: Basic dXNlcjpwYXNz\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_body_shorter_than_its_declared_length_is_an_error() {
        let stub = HttpStub::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_owned()).await;
        let result = client(HOME).get_bytes(&stub.url("/"), 99, SOON).await;
        assert!(matches!(result, Err(HttpError::Connection(_))), "{result:?}");
    }

    #[tokio::test]
    async fn a_strict_client_refuses_loopback_by_literal_and_by_name() {
        let stub = HttpStub::start(|_| ok("secret")).await;
        for url in [stub.url("/"), format!("http://localhost:{}/", stub.port())] {
            assert!(matches!(client(STRICT).get_bytes(&url, 99, SOON).await, Err(HttpError::Refused(_))), "{url}");
        }
        assert!(stub.requests().is_empty());
    }

    #[tokio::test]
    async fn a_redirect_to_a_metadata_service_is_refused_even_at_home() {
        let stub = HttpStub::start(|_| redirect("http://169.254.169.254/latest/")).await;
        assert!(matches!(client(HOME).get_bytes(&stub.url("/"), 99, SOON).await, Err(HttpError::Refused(_))));
    }

    #[tokio::test]
    async fn a_strict_client_does_not_follow_a_redirect_to_loopback() {
        let inner = HttpStub::start(|_| ok("secret")).await;
        for target in [inner.url("/"), format!("http://localhost:{}/", inner.port())] {
            let outer = HttpStub::start(move |_| redirect(&target)).await;
            // Only the first hop is let through, in place of a public host: the redirect meets the strict policy.
            let client = HttpClient { policy: HOME, ..client(STRICT) };
            let result = client.get_bytes(&outer.url("/"), 99, SOON).await;
            assert!(matches!(result, Err(HttpError::Refused(_))), "{result:?}");
        }
        assert!(inner.requests().is_empty());
    }

    #[tokio::test]
    async fn redirects_in_a_circle_end_at_the_limit() {
        let stub = HttpStub::start(|_| redirect("/again")).await;
        let result = client(HOME).get_bytes(&stub.url("/"), 99, SOON).await;
        assert!(matches!(result, Err(HttpError::TooManyRedirects)), "{result:?}");
        assert_eq!(stub.requests().len(), 1 + MAX_REDIRECTS);
    }

    #[tokio::test]
    async fn other_schemes_and_silent_hosts_are_told_apart() {
        let client = client(HOME);
        for url in ["ftp://me:hunter2@host/hunter2", "file:///etc/passwd", "nonsense", "me:hunter2@x y"] {
            let error = client.get_bytes(url, 9, SOON).await.unwrap_err();
            assert!(matches!(error, HttpError::Url(_)) && !error.to_string().contains("hunter2"), "{url}: {error}");
        }
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let brief = Duration::from_millis(100);
        assert!(matches!(client.get_bytes(&url, 9, brief).await, Err(HttpError::Timeout(_))));
    }

    #[tokio::test]
    async fn an_error_status_is_not_a_body() {
        let stub = HttpStub::start(|_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
        assert!(matches!(client(HOME).get_bytes(&stub.url("/"), 9, SOON).await, Err(HttpError::Status(404))));
    }
}
