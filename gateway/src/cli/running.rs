//! The gateway that runs already, spoken to over its API: by plain HTTP/1.1, at the address that the configuration names.
//! Nothing of TLS is set up for it, so that a probe starts at once and works where there are no certificates.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use swarmgate_config::Config;
use tokio::net::TcpStream;
use url::Url;

use super::Exit;
use super::ls::printable;
use super::source::Failure;

/// How long it may take to connect, and then to answer. A gateway answers these questions from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer read: 64 MiB, the items of a very busy gateway.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A gateway that may be running.
#[derive(Clone)]
pub struct Running {
    /// `host:port`.
    authority: String,
    /// What its paths begin with: empty, or a slash and more, without a slash at the end.
    base: String,
    token: Option<String>,
}

/// What it answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

impl Running {
    /// The gateway of a configuration, or the one at the URL `api`.
    ///
    /// # Errors
    /// [`Exit::Usage`] when neither says where it is.
    pub fn of(config: &Config, api: Option<&str>) -> Result<Self, Failure> {
        let (authority, base) = match api {
            Some(url) => parse(url)?,
            None => (listening(config)?, config.server.base_path.clone()),
        };
        let base = base.trim_matches('/');
        let base = if base.is_empty() { String::new() } else { format!("/{base}") };
        let token = config.auth.required_token().map(|token| token.expose().to_owned());
        Ok(Self { authority, base, token })
    }

    /// The URL of a path of it, for people.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.authority, self.base)
    }

    /// Asks, and takes any answer.
    ///
    /// # Errors
    /// [`Exit::NotFound`] when nobody listens there, [`Exit::Timeout`] when no answer comes.
    pub async fn ask(&self, method: Method, path: &str) -> Result<Reply, Failure> {
        self.ask_within(PATIENCE, method, path).await
    }

    /// Asks for something that may take so long.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_within(&self, patience: Duration, method: Method, path: &str) -> Result<Reply, Failure> {
        let late = |_| Failure::new(Exit::Timeout, format!("{}: no answer within {patience:?}", self.url(path)));
        tokio::time::timeout(patience, self.exchange(method, path)).await.map_err(late)?
    }

    /// Asks for a JSON document.
    ///
    /// # Errors
    /// As [`Self::ask`], and what the gateway says where it refuses.
    pub async fn document(&self, path: &str) -> Result<Value, Failure> {
        let reply = self.ask(Method::GET, path).await?.accepted()?;
        let no_json =
            |error| Failure::new(Exit::Error, format!("{}: not a swarmgate's answer: {error}", self.url(path)));
        serde_json::from_slice(&reply.body).map_err(no_json)
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Reply, Failure> {
        let nobody = |error: std::io::Error| {
            let message = format!("no gateway answers at {}: {error}; is it running?", self.authority);
            Failure::new(Exit::NotFound, message)
        };
        let broke = |error: &dyn fmt::Display| Failure::new(Exit::Error, format!("{}: {error}", self.url(path)));
        let stream = TcpStream::connect(&self.authority).await.map_err(nobody)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broke(&error))?;
        let request = self.request(method, path).map_err(|error| broke(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| broke(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok::<_, Failure>(Reply { status, body: body.map_err(|error| broke(&error))?.to_bytes() })
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The last bytes of an answer may come with the end of the connection.
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(broke(&error)),
            },
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Empty::new())
    }
}

impl Reply {
    /// The reply, where it is a success.
    ///
    /// # Errors
    /// The problem that it tells of, otherwise.
    pub fn accepted(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        let exit = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            StatusCode::NOT_FOUND => Exit::NotFound,
            StatusCode::BAD_REQUEST => Exit::Usage,
            _ => Exit::Error,
        };
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let words = [problem["title"].as_str(), problem["detail"].as_str()];
        let words: Vec<_> = words.into_iter().flatten().map(printable).collect();
        let what = if words.is_empty() { format!("the answer was {}", self.status) } else { words.join(": ") };
        let hint = if exit == Exit::Denied { "; give it as auth.token, or SWARMGATE_AUTH__TOKEN_FILE" } else { "" };
        Err(Failure::new(exit, format!("{what}{hint}")))
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("url", &self.url("/")).finish_non_exhaustive()
    }
}

/// Where the gateway of this configuration can be reached from this machine.
fn listening(config: &Config) -> Result<String, Failure> {
    let unknown = || {
        let message = "server.listen names no port that the gateway could be found at; say --api http://HOST:PORT";
        Failure::new(Exit::Usage, message)
    };
    if config.server.has_tls() {
        let message =
            "the addresses of server.listen speak TLS, which this command does not; say --api http://HOST:PORT";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut address = config.server.addresses().find(|address| address.port() != 0).ok_or_else(unknown)?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address.to_string())
}

/// Host with port, and path, of a URL.
fn parse(text: &str) -> Result<(String, String), Failure> {
    let usage = |why: &str| Failure::new(Exit::Usage, format!("--api {text}: {why}"));
    let url = Url::parse(text).map_err(|error| usage(&error.to_string()))?;
    if url.scheme() != "http" {
        return Err(usage("write http://HOST:PORT, the address that the gateway itself listens on"));
    }
    let host = url.host_str().ok_or_else(|| usage("it names no host"))?;
    Ok((format!("{host}:{}", url.port_or_known_default().unwrap_or(80)), url.path().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenHash;
    use crate::server::ServeLimits;
    use crate::state::{Anonymous, HttpOptions};
    use crate::testing::{Behaviour, World};
    use swarmgate_config::Secret;

    fn authority(listen: &[&str]) -> Result<String, Failure> {
        let mut config = Config::default();
        config.server.listen = listen.iter().map(|address| address.parse().unwrap()).collect();
        Running::of(&config, None).map(|running| running.authority)
    }

    #[test]
    fn a_gateway_that_listens_everywhere_is_reached_on_loopback() {
        assert_eq!(authority(&["0.0.0.0:8420"]).unwrap(), "127.0.0.1:8420");
        assert_eq!(authority(&["[::]:8420"]).unwrap(), "[::1]:8420");
        assert_eq!(authority(&["127.0.0.1:0", "10.0.0.7:80"]).unwrap(), "10.0.0.7:80");
        assert_eq!(authority(&["127.0.0.1:0"]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_url_stands_in_for_the_configuration() {
        let config = Config::default();
        let url = |api| Running::of(&config, Some(api)).map(|running| running.url("/healthz"));
        assert_eq!(url("http://gate.lan:8420/films/").unwrap(), "http://gate.lan:8420/films/healthz");
        assert_eq!(url("http://[::1]").unwrap(), "http://[::1]:80/healthz");
        for wrong in ["https://gate.lan/", "gate.lan:8420", "8420"] {
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
    async fn where_nobody_listens_it_says_so() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Running::of(&Config::default(), Some(&format!("http://{free}"))).unwrap();
        let failure = failure.ask(Method::GET, "/healthz").await.unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.message.contains("is it running?"), "{failure}");
    }
}
