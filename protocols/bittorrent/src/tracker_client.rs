//! Announces to trackers of any kind: over HTTP through the guarded client, over UDP through the shared sockets.
//!
//! One client serves all torrents. It knows how to ask; when to ask is decided by each torrent's announcer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use swarmgate_bittorrent_proto::tracker::http::{self, MAX_RESPONSE_BYTES};
use swarmgate_bittorrent_proto::tracker::udp::{self, ConnectionId, Family, ScrapeCounts, UdpBody};
use swarmgate_bittorrent_proto::tracker::{AnnounceRequest, AnnounceResponse, TrackerError};
use swarmgate_content::InfoHash;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::udp_exchange::{UdpExchange, Wait};
use swarmgate_egress::{EgressPolicy, HttpClient, HttpError, IpFamily, ResolveError};

pub use crate::udp_exchange::ExchangeError;

/// How long one announce may take. BEP 15 repeats a lost packet after 15 s, so this allows for one loss.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(40);
/// Announces on their way at once, for all torrents; the others queue. Each HTTP one is a descriptor.
const MAX_CONCURRENT: usize = 64;
/// How long the answer over one family is held back for that over the other.
const OTHER_FAMILY_PATIENCE: Duration = Duration::from_secs(1);
/// Connection ids kept. Each is good for a minute only.
const MAX_CONNECTIONS: usize = 256;
/// Addresses of one tracker tried when sending to the one before failed at once.
const MAX_ADDRESSES: usize = 3;

/// Why an announce gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The tracker's URL or answer.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// Its host.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The way there and back over HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The way there and back over UDP.
    #[error(transparent)]
    Udp(#[from] ExchangeError),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The client is stopping.
    #[error("shutting down")]
    Stopped,
}

impl AnnounceError {
    /// Whether nothing was heard, as opposed to something bad.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Udp(ExchangeError::Timeout) | Self::Http(HttpError::Timeout(_)))
    }
}

impl From<AnnounceError> for TrackerError {
    /// What the rules of announcing need to know.
    fn from(error: AnnounceError) -> Self {
        match error {
            AnnounceError::Tracker(error) => error,
            AnnounceError::Resolve(_)
            | AnnounceError::Http(_)
            | AnnounceError::Udp(_)
            | AnnounceError::Timeout(_)
            | AnnounceError::Stopped => Self::Unreachable(error.to_string()),
        }
    }
}

/// The trackers' client of one application.
#[derive(Debug)]
pub struct TrackerClient {
    http: HttpClient,
    /// For trackers with a name, where there are both families.
    http_over: Option<[HttpClient; 2]>,
    udp: UdpExchange,
    policy: EgressPolicy,
    timeout: Duration,
    udp_wait: Wait,
    connections: Mutex<BTreeMap<SocketAddr, ConnectionId>>,
    slots: Semaphore,
    stop: CancellationToken,
}

impl TrackerClient {
    /// Takes the HTTP client and the sockets for UDP trackers, bound at start-up; a family without a socket is not
    /// asked. Starts a reading task for each socket, so it must be called within a runtime.
    #[must_use]
    pub fn new(http: HttpClient, policy: EgressPolicy, udp_v4: Option<UdpSocket>, udp_v6: Option<UdpSocket>) -> Self {
        let both = || Some([http.over(IpFamily::V4).ok()?, http.over(IpFamily::V6).ok()?]);
        let http_over = udp_v4.as_ref().zip(udp_v6.as_ref()).and_then(|_| both());
        Self {
            http,
            http_over,
            udp: UdpExchange::start(udp_v4, udp_v6),
            policy,
            timeout: ANNOUNCE_TIMEOUT,
            udp_wait: udp::wait_for_answer,
            connections: Mutex::default(),
            slots: Semaphore::new(MAX_CONCURRENT),
            stop: CancellationToken::new(),
        }
    }

    /// Changes how long one announce may take.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Announces to the tracker at `url` and waits for its answer.
    ///
    /// # Errors
    /// See [`AnnounceError`]; the client's timeout covers everything, queueing included.
    pub async fn announce(&self, url: &str, request: &AnnounceRequest) -> Result<AnnounceResponse, AnnounceError> {
        let deadline = Instant::now() + self.timeout;
        let announce = async {
            let _slot = self.slots.acquire().await.map_err(|_| AnnounceError::Stopped)?;
            match url.trim().split_once("://") {
                Some(("udp", _)) => self.announce_udp(url, request, deadline).await,
                Some(_) | None => self.announce_http(url, request).await,
            }
        };
        match self.stop.run_until_cancelled(timeout_at(deadline, announce)).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(AnnounceError::Timeout(self.timeout)),
            None => Err(AnnounceError::Stopped),
        }
    }

    /// Asks the tracker at `url` for a torrent's counters (BEP 48); `None` when it has no place to ask at.
    ///
    /// # Errors
    /// As [`Self::announce`].
    pub async fn scrape(&self, url: &str, infohash: InfoHash) -> Result<Option<ScrapeCounts>, AnnounceError> {
        let deadline = Instant::now() + self.timeout;
        let scrape = async {
            let _slot = self.slots.acquire().await.map_err(|_| AnnounceError::Stopped)?;
            match url.trim().split_once("://") {
                Some(("udp", _)) => self.scrape_udp(url, infohash, deadline).await,
                Some(_) | None => self.scrape_http(url, infohash).await,
            }
        };
        match self.stop.run_until_cancelled(timeout_at(deadline, scrape)).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(AnnounceError::Timeout(self.timeout)),
            None => Err(AnnounceError::Stopped),
        }
    }

    async fn scrape_http(&self, url: &str, infohash: InfoHash) -> Result<Option<ScrapeCounts>, AnnounceError> {
        let Some(url) = http::scrape_url(url, &infohash)? else { return Ok(None) };
        let body = self.http.get_bytes(url.as_str(), MAX_RESPONSE_BYTES, self.timeout).await?;
        Ok(Some(http::parse_scrape(&body, &infohash)?))
    }

    async fn scrape_udp(
        &self,
        url: &str,
        infohash: InfoHash,
        deadline: Instant,
    ) -> Result<Option<ScrapeCounts>, AnnounceError> {
        let (host, port, _) = parse_udp_url(url)?;
        self.udp.need_socket()?;
        let addresses = self.policy.resolve(&host, port).await?;
        let reached = addresses.into_iter().filter(|address| self.udp.reaches(address)).min_by_key(SocketAddr::is_ipv6);
        let address = reached.ok_or(ResolveError::NoAddress(host))?;
        let connection = match self.known_connection(address) {
            Some(connection) => connection,
            None => self.connect(address, deadline).await?,
        };
        let packet = |transaction| udp::encode_scrape(connection, transaction, &[infohash]);
        match self.ask(address, packet, deadline).await? {
            UdpBody::Scraped(counts) => Ok(counts.first().copied()),
            UdpBody::Connected(_) | UdpBody::Announced(_) => Err(TrackerError::Lacks("scrape answer").into()),
            UdpBody::Refused(reason) => {
                // It may have forgotten the connection: the next question makes a new one.
                self.connections.lock().remove(&address);
                Err(TrackerError::Refused { reason, retry_in: None }.into())
            }
        }
    }

    async fn announce_http(&self, url: &str, request: &AnnounceRequest) -> Result<AnnounceResponse, AnnounceError> {
        let url = http::announce_url(url, request)?;
        match &self.http_over {
            Some(clients) if url.domain().is_some() => {
                let announces = clients.iter().map(|client| self.announce_by(client, &url));
                first_and_other(announces.collect()).await.unwrap_or(Err(AnnounceError::Stopped))
            }
            Some(_) | None => self.announce_by(&self.http, &url).await,
        }
    }

    async fn announce_by(&self, client: &HttpClient, url: &Url) -> Result<AnnounceResponse, AnnounceError> {
        let body = client.get_bytes(url.as_str(), MAX_RESPONSE_BYTES, self.timeout).await?;
        Ok(http::parse_response(&body)?)
    }

    async fn announce_udp(
        &self,
        url: &str,
        request: &AnnounceRequest,
        deadline: Instant,
    ) -> Result<AnnounceResponse, AnnounceError> {
        let (host, port, url_data) = parse_udp_url(url)?;
        self.udp.need_socket()?;
        let addresses = self.policy.resolve(&host, port).await?;
        let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv4);
        // A peer of one family hears of us by that family's announce alone (BEP 7).
        let families = [v4, v6].into_iter().filter(|addresses| addresses.iter().any(|it| self.udp.reaches(it)));
        let announces = families.map(|addresses| self.announce_to_one_of(addresses, request, &url_data, deadline));
        let answered = first_and_other(announces.collect()).await;
        answered.unwrap_or_else(|| Err(ResolveError::NoAddress(host).into()))
    }

    /// Announces at one address after the other, as long as sending fails at once.
    async fn announce_to_one_of(
        &self,
        addresses: Vec<SocketAddr>,
        request: &AnnounceRequest,
        url_data: &str,
        deadline: Instant,
    ) -> Result<AnnounceResponse, AnnounceError> {
        let mut result = Err(ExchangeError::Timeout.into());
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            result = self.announce_at(address, request, url_data, deadline).await;
            if !matches!(result, Err(AnnounceError::Udp(ExchangeError::Send(_) | ExchangeError::NoSocket(_)))) {
                break;
            }
        }
        result
    }

    /// Announces with the connection id at hand. A tracker that refuses may have forgotten it, so once more with a
    /// new one.
    async fn announce_at(
        &self,
        address: SocketAddr,
        request: &AnnounceRequest,
        url_data: &str,
        deadline: Instant,
    ) -> Result<AnnounceResponse, AnnounceError> {
        if let Some(connection) = self.known_connection(address) {
            match self.announce_on(connection, address, request, url_data, deadline).await {
                Err(AnnounceError::Tracker(TrackerError::Refused { .. })) => {
                    self.connections.lock().remove(&address);
                }
                done => return done,
            }
        }
        let connection = self.connect(address, deadline).await?;
        self.announce_on(connection, address, request, url_data, deadline).await
    }

    async fn announce_on(
        &self,
        connection: u64,
        address: SocketAddr,
        request: &AnnounceRequest,
        url_data: &str,
        deadline: Instant,
    ) -> Result<AnnounceResponse, AnnounceError> {
        let packet = |transaction| udp::encode_announce(connection, transaction, request, url_data);
        match self.ask(address, packet, deadline).await? {
            UdpBody::Announced(response) => Ok(response),
            UdpBody::Connected(_) | UdpBody::Scraped(_) => Err(TrackerError::Lacks("announce answer").into()),
            UdpBody::Refused(reason) => Err(TrackerError::Refused { reason, retry_in: None }.into()),
        }
    }

    async fn connect(&self, address: SocketAddr, deadline: Instant) -> Result<u64, AnnounceError> {
        let packet = |transaction| udp::encode_connect(transaction).to_vec();
        match self.ask(address, packet, deadline).await? {
            UdpBody::Connected(id) => {
                self.remember_connection(address, id);
                Ok(id)
            }
            UdpBody::Announced(_) | UdpBody::Scraped(_) => Err(TrackerError::Lacks("connection id").into()),
            UdpBody::Refused(reason) => Err(TrackerError::Refused { reason, retry_in: None }.into()),
        }
    }

    async fn ask(
        &self,
        address: SocketAddr,
        packet: impl Fn(u32) -> Vec<u8>,
        deadline: Instant,
    ) -> Result<UdpBody, AnnounceError> {
        let datagram = self.udp.ask(address, packet, self.udp_wait, deadline).await?;
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        Ok(udp::parse(&datagram, family)?.body)
    }

    fn known_connection(&self, address: SocketAddr) -> Option<u64> {
        self.connections.lock().get(&address)?.at(Instant::now().into_std())
    }

    fn remember_connection(&self, address: SocketAddr, id: u64) {
        let now = Instant::now().into_std();
        let mut connections = self.connections.lock();
        if connections.len() >= MAX_CONNECTIONS {
            connections.retain(|_, connection| connection.at(now).is_some());
        }
        if connections.len() < MAX_CONNECTIONS {
            connections.insert(address, ConnectionId::new(id, now));
        }
    }

    /// Ends all announces on their way; the UDP sockets are closed when it returns.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.udp.shutdown().await;
    }
}

/// Host, port, and the path and query that BEP 41 carries along.
fn parse_udp_url(text: &str) -> Result<(String, u16, String), TrackerError> {
    let bad = || TrackerError::not_a_tracker(text);
    let url = Url::parse(text.trim()).map_err(|_| bad())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let port = url.port().filter(|&port| port != 0).ok_or_else(bad)?;
    Ok((host.to_owned(), port, url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()))
}

/// How an announce ended.
type Announced = Result<AnnounceResponse, AnnounceError>;

/// Waits for what a tracker answers over one family, and a little longer for the other: what the first has given should not
/// grow old. A failure waits for the other as long as it takes.
async fn first_and_other(mut asked: FuturesUnordered<impl Future<Output = Announced>>) -> Option<Announced> {
    let mut result = asked.next().await?;
    let patience = if result.is_ok() { OTHER_FAMILY_PATIENCE } else { ANNOUNCE_TIMEOUT };
    while let Ok(Some(other)) = timeout(patience, asked.next()).await {
        result = either(result, other);
    }
    Some(result)
}

/// What a tracker answered over both families: all peers, and what else the first says.
fn either(first: Announced, second: Announced) -> Announced {
    match (first, second) {
        (Ok(mut first), Ok(second)) => {
            first.peers.extend(second.peers);
            Ok(first)
        }
        (Err(_), Ok(second)) => Ok(second),
        (first, Err(_)) => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{UdpTrackerManners, UdpTrackerStub, announce_request, http_ok};
    use swarmgate_bittorrent_proto::tracker::AnnounceEvent;
    use swarmgate_egress::testing::HttpStub;

    const HOME: EgressPolicy = EgressPolicy { allow_private: true };
    const PEER: &str = "127.0.0.7:4321";

    async fn client_with(policy: EgressPolicy) -> TrackerClient {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut client = TrackerClient::new(HttpClient::new(policy).unwrap(), policy, Some(socket), None)
            .with_timeout(Duration::from_secs(2));
        client.udp_wait = |transmission| Some(Duration::from_millis(30) * 2u32.pow(transmission));
        client
    }

    fn knows_one() -> UdpTrackerManners {
        UdpTrackerManners { peers: vec![PEER.parse().unwrap()], ..UdpTrackerManners::default() }
    }

    #[tokio::test]
    async fn an_http_tracker_gives_its_peers() {
        let stub = HttpStub::start_bytes(|_| http_ok(b"d8:intervali900e5:peers6:\x7f\0\0\x07\x10\xe1e")).await;
        let client = client_with(HOME).await;
        let response =
            client.announce(&stub.url("/announce?passkey=k"), &announce_request(AnnounceEvent::Started)).await.unwrap();
        assert_eq!(response.peers, [PEER.parse().unwrap()]);
        let request = stub.requests().pop().unwrap();
        assert!(request.starts_with("GET /announce?passkey=k&info_hash=") && request.contains("event=started"));
    }

    #[tokio::test]
    async fn a_udp_tracker_is_connected_to_once_a_minute() {
        let stub = UdpTrackerStub::start(knows_one()).await;
        let client = client_with(HOME).await;
        for event in [AnnounceEvent::Started, AnnounceEvent::Interval] {
            let response = client.announce(&stub.url(), &announce_request(event)).await.unwrap();
            assert_eq!(response.peers, [PEER.parse().unwrap()]);
            assert_eq!(response.interval, Some(Duration::from_secs(1800)));
        }
        assert_eq!((stub.log().connects, stub.log().events), (1, vec![2, 0]));
        client.shutdown().await;
    }

    #[tokio::test]
    async fn a_tracker_of_both_families_hears_of_us_over_both_and_gives_the_peers_of_both() {
        let v4 = UdpTrackerStub::start(knows_one()).await;
        let Ok(v6) = UdpSocket::bind(SocketAddr::new("::1".parse().unwrap(), v4.port())).await else {
            return; // a machine without IPv6
        };
        let v6 = UdpTrackerStub::serve(v6, UdpTrackerManners::default());
        let here = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
        let sockets = [UdpSocket::bind(here("127.0.0.1")).await.unwrap(), UdpSocket::bind(here("::1")).await.unwrap()];
        let [own_v4, own_v6] = sockets;
        let client = TrackerClient::new(HttpClient::new(HOME).unwrap(), HOME, Some(own_v4), Some(own_v6));
        let url = format!("udp://localhost:{}/announce", v4.port());
        let response = client.announce(&url, &announce_request(AnnounceEvent::Started)).await.unwrap();
        assert_eq!(response.peers, [PEER.parse().unwrap()]);
        let both = tokio::net::lookup_host("localhost:1").await.unwrap().any(|address| address.is_ipv6());
        assert_eq!((v4.log().events.len(), v6.log().events.len()), (1, usize::from(both)));
        client.shutdown().await;
    }

    #[tokio::test]
    async fn an_http_tracker_of_both_families_hears_of_us_over_both() {
        let v4 = HttpStub::start_bytes(|_| http_ok(b"d8:intervali900e5:peers6:\x7f\0\0\x07\x10\xe1e")).await;
        let address: SocketAddr = v4.url("").trim_start_matches("http://").parse().unwrap();
        let (Ok(v6), Ok(own_v6)) =
            (tokio::net::TcpListener::bind(("::1", address.port())).await, UdpSocket::bind("[::1]:0").await)
        else {
            return; // a machine without IPv6
        };
        let own_v4 = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = TrackerClient::new(HttpClient::new(HOME).unwrap(), HOME, Some(own_v4), Some(own_v6));
        let url = format!("http://localhost:{}/announce", address.port());
        let both = tokio::net::lookup_host("localhost:1").await.unwrap().any(|address| address.is_ipv6());
        let request = announce_request(AnnounceEvent::Started);
        let (response, knocked) = tokio::join!(client.announce(&url, &request), async {
            timeout(Duration::from_secs(2), v6.accept()).await.is_ok()
        });
        assert_eq!(response.unwrap().peers, [PEER.parse().unwrap()], "what one family says is not lost with the other");
        assert_eq!((v4.requests().len(), knocked), (1, both));
        client.shutdown().await;
    }

    #[tokio::test]
    async fn counters_are_asked_for_over_either_transport() {
        let body = [&b"d5:filesd20:"[..], &[1; 20], b"d8:completei5e10:downloadedi50e10:incompletei10eeee"].concat();
        let stub = HttpStub::start_bytes(move |_| http_ok(&body)).await;
        let udp = UdpTrackerStub::start(knows_one()).await;
        let client = client_with(HOME).await;
        let infohash = InfoHash::new([1; 20]);
        let counts = Some(ScrapeCounts { complete: 5, downloaded: 50, incomplete: 10 });
        assert_eq!(client.scrape(&stub.url("/announce?passkey=k"), infohash).await.unwrap(), counts);
        let request = stub.requests().pop().unwrap();
        assert!(request.starts_with("GET /scrape?passkey=k&info_hash=%01"), "{request}");
        assert_eq!(client.scrape(&stub.url("/elsewhere"), infohash).await.unwrap(), None);
        for _ in 0..2 {
            assert_eq!(client.scrape(&udp.url(), infohash).await.unwrap(), counts);
        }
        assert_eq!(udp.log().connects, 1);
        client.shutdown().await;
    }

    #[tokio::test]
    async fn lost_packets_are_sent_again() {
        let stub = UdpTrackerStub::start(UdpTrackerManners { lost: 2, ..knows_one() }).await;
        let client = client_with(HOME).await;
        client.announce(&stub.url(), &announce_request(AnnounceEvent::Started)).await.unwrap();
        assert_eq!(stub.log().events, [2]);
    }

    #[tokio::test]
    async fn a_forgotten_connection_is_made_anew() {
        let forgetful = UdpTrackerManners { announces_a_connection: Some(1), ..knows_one() };
        let stub = UdpTrackerStub::start(forgetful).await;
        let client = client_with(HOME).await;
        for _ in 0..2 {
            client.announce(&stub.url(), &announce_request(AnnounceEvent::Interval)).await.unwrap();
        }
        let log = stub.log();
        assert_eq!((log.connects, log.strangers, log.events.len()), (2, 1, 2));
    }

    #[tokio::test]
    async fn strangers_cannot_send_us_to_loopback_over_either_transport() {
        let (http, udp) = (HttpStub::start_bytes(|_| http_ok(b"de")).await, UdpTrackerStub::start(knows_one()).await);
        let client = client_with(EgressPolicy { allow_private: false }).await;
        for url in [http.url("/announce"), udp.url(), udp.url().replace("127.0.0.1", "localhost")] {
            let error = client.announce(&url, &announce_request(AnnounceEvent::Started)).await.unwrap_err();
            assert!(error.to_string().contains("strangers may not send us"), "{url}: {error}");
        }
        assert_eq!((http.requests().len(), udp.log().connects), (0, 0));
    }

    #[tokio::test]
    async fn a_silent_tracker_times_out_and_a_refusing_one_says_why() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = client_with(HOME).await.with_timeout(Duration::from_millis(100));
        let url = format!("udp://{}", silent.local_addr().unwrap());
        let error = client.announce(&url, &announce_request(AnnounceEvent::Started)).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let stub = HttpStub::start_bytes(|_| http_ok(b"d14:failure reason7:go awaye")).await;
        let error = client.announce(&stub.url("/"), &announce_request(AnnounceEvent::Started)).await.unwrap_err();
        assert_eq!(error.to_string(), "the tracker refuses: go away");
    }

    #[tokio::test]
    async fn shutdown_ends_announces_on_their_way_and_closes_the_sockets() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let own = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = own.local_addr().unwrap();
        let client = TrackerClient::new(HttpClient::new(HOME).unwrap(), HOME, Some(own), None);
        let url = format!("udp://{}", silent.local_addr().unwrap());
        let request = announce_request(AnnounceEvent::Started);
        let (result, ()) = tokio::join!(client.announce(&url, &request), client.shutdown());
        assert!(matches!(result, Err(AnnounceError::Stopped | AnnounceError::Udp(ExchangeError::Stopped))));
        UdpSocket::bind(address).await.unwrap();
    }

    #[test]
    fn udp_urls_need_a_host_and_a_port() {
        assert_eq!(
            parse_udp_url("udp://t.example:80/announce?k=1").unwrap(),
            ("t.example".to_owned(), 80, "/announce?k=1".to_owned())
        );
        assert_eq!(parse_udp_url("udp://[::1]:80").unwrap(), ("[::1]".to_owned(), 80, String::new()));
        for bad in ["udp://t.example", "udp://:80", "udp:t", "udp://t.example:0"] {
            assert!(matches!(parse_udp_url(bad), Err(TrackerError::Url(_))), "{bad}");
        }
    }
}
