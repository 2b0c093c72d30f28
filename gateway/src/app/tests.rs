//! The application as a whole, and what each option makes of its parts.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use swarmgate_config::{
    AnonymousContent, AuthMode, IpfsMode, PeerEncryption, PolicyMode, Rate, Secret, SeedingPolicy, Size, Span, Switch,
    TrackerAllow, Turns,
};
use swarmgate_webtorrent::WebTorrentOptions;

use super::options::hub_options;
use super::*;

/// Options that the parts' own options do not show: listeners, whether parts start at all, the log of `main`, and
/// who is told of requests, which has tests of its own (`gateway/tests/otel.rs`).
const ELSEWHERE: [&str; 16] = [
    "reload.watch",
    "server.tls_cert",
    "server.tls_key",
    "auth.link_key",
    "bittorrent.enabled",
    "bittorrent.dht",
    "bittorrent.lsd",
    "bittorrent.port_mapping",
    "webtorrent.enabled",
    "webtorrent.listen_ip",
    "webtorrent.listen_port",
    "ipfs.enabled",
    "hybrid.enabled",
    "observe.log",
    "observe.log_format",
    "observe.otlp_endpoint",
];

type Change = fn(&mut Config);

/// Every other option, changed to something that is not its default.
const CHANGES: [(&str, Change); 100] = [
    ("server.listen", |c| c.server.listen = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()]),
    ("server.trusted_proxies", |c| c.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]),
    ("server.public_url", |c| c.server.public_url = "https://media.example/".parse().ok()),
    ("server.base_path", |c| c.server.base_path = "/gate".to_owned()),
    ("server.allowed_hosts", |c| c.server.allowed_hosts = vec!["media.example".to_owned()]),
    ("server.max_streams", |c| c.server.max_streams = 7),
    ("server.max_streams_per_client", |c| c.server.max_streams_per_client = 7),
    ("server.torrent_url", |c| c.server.torrent_url = Switch::Off),
    ("auth.mode", |c| c.auth.mode = AuthMode::None),
    ("auth.token", |c| c.auth.token = Secret::default()),
    ("auth.credentials", |c| c.auth.credentials = "credentials.toml".into()),
    ("auth.link_ttl", |c| c.auth.link_ttl = Span::from_secs(7)),
    ("auth.anonymous_content", |c| c.auth.anonymous_content = AnonymousContent::Never),
    ("cache.dir", |c| c.cache.dir = "elsewhere".into()),
    ("cache.max_size", |c| c.cache.max_size = Size::mib(7)),
    ("cache.min_free", |c| c.cache.min_free = Size::mib(7)),
    ("cache.memory", |c| c.cache.memory = Size::mib(7)),
    ("cache.ephemeral", |c| c.cache.ephemeral = true),
    ("deadlines.resolve", |c| c.deadlines.resolve = Span::from_secs(7)),
    ("deadlines.first_byte", |c| c.deadlines.first_byte = Span::from_secs(7)),
    ("deadlines.stall", |c| c.deadlines.stall = Span::from_secs(7)),
    ("deadlines.max_wait", |c| c.deadlines.max_wait = Span::from_secs(7)),
    ("network.allow_private", |c| c.network.allow_private = true),
    ("bittorrent.listen_ip", |c| c.bittorrent.listen_ip = Ipv4Addr::LOCALHOST.into()),
    ("bittorrent.listen_port", |c| c.bittorrent.listen_port = 7),
    ("bittorrent.utp", |c| c.bittorrent.utp = false),
    ("bittorrent.encryption", |c| c.bittorrent.encryption = PeerEncryption::Require),
    ("bittorrent.proxy", |c| c.bittorrent.proxy = "socks5://127.0.0.1:7".parse().ok()),
    ("bittorrent.bind_interface", |c| c.bittorrent.bind_interface = "tun7".to_owned()),
    ("bittorrent.dht_port", |c| c.bittorrent.dht_port = 7),
    ("bittorrent.dht_bootstrap", |c| c.bittorrent.dht_bootstrap = Vec::new()),
    ("bittorrent.trackers", |c| c.bittorrent.trackers = vec!["udp://t.example:7".parse().unwrap()]),
    ("bittorrent.max_peers_per_torrent", |c| c.bittorrent.max_peers_per_torrent = 7),
    ("bittorrent.max_peers", |c| c.bittorrent.max_peers = 7),
    ("bittorrent.max_half_open", |c| c.bittorrent.max_half_open = 7),
    ("webtorrent.external_ip", |c| c.webtorrent.external_ip = "192.0.2.7".parse().ok()),
    ("webtorrent.trackers", |c| c.webtorrent.trackers = vec!["wss://t.example/".parse().unwrap()]),
    ("webtorrent.stun", |c| c.webtorrent.stun = vec!["stun:s.example".to_owned()]),
    ("webtorrent.turn", |c| c.webtorrent.turn = vec!["turn:other.example".to_owned()]),
    ("webtorrent.turn_username", |c| c.webtorrent.turn_username = "me".to_owned()),
    ("webtorrent.turn_password", |c| c.webtorrent.turn_password = Secret::new("p")),
    ("ipfs.mode", |c| c.ipfs.mode = IpfsMode::P2p),
    ("ipfs.public", |c| c.ipfs.public = true),
    ("ipfs.listen_ip", |c| c.ipfs.listen_ip = Ipv4Addr::LOCALHOST.into()),
    ("ipfs.listen_port", |c| c.ipfs.listen_port = 7),
    ("ipfs.bootstrap", |c| c.ipfs.bootstrap = vec!["/ip4/192.0.2.7/tcp/7/p2p/x".to_owned()]),
    ("ipfs.gateways", |c| c.ipfs.gateways = vec!["https://g.example".parse().unwrap()]),
    ("ipfs.routers", |c| c.ipfs.routers = vec!["https://r.example".parse().unwrap()]),
    ("ipfs.kubo_api", |c| c.ipfs.kubo_api = "http://127.0.0.1:5001".parse().ok()),
    ("ipfs.dns", |c| c.ipfs.dns = true),
    ("ipfs.dnslinks", |c| c.ipfs.dnslinks = vec!["a.example:/ipns/b.example".to_owned()]),
    ("ipfs.subdomain_hosts", |c| c.ipfs.subdomain_hosts = vec!["dweb.example".to_owned()]),
    ("hybrid.max_sources", |c| c.hybrid.max_sources = 7),
    ("hybrid.hedge_percent", |c| c.hybrid.hedge_percent = 0),
    ("hybrid.buffer", |c| c.hybrid.buffer = Span::from_secs(7)),
    ("hybrid.weight_bt", |c| c.hybrid.weight_bt = 7),
    ("hybrid.weight_ipfs", |c| c.hybrid.weight_ipfs = 7),
    ("hybrid.weight_http", |c| c.hybrid.weight_http = 7),
    ("hybrid.cost_bt", |c| c.hybrid.cost_bt = Span::from_secs(7)),
    ("hybrid.cost_ipfs", |c| c.hybrid.cost_ipfs = Span::from_secs(7)),
    ("hybrid.cost_http", |c| c.hybrid.cost_http = Span::from_secs(7)),
    ("policy.denylists", |c| c.policy.denylists = vec!["/nowhere/at/all".into()]),
    ("policy.mode", |c| c.policy.mode = PolicyMode::PinnedOnly),
    ("policy.allowlists", |c| {
        (c.policy.mode, c.policy.allowlists) = (PolicyMode::Allowlist, vec!["/nowhere/at/all".into()]);
    }),
    ("policy.legal_status", |c| c.policy.legal_status = 410),
    ("ipfs.ipns_max_ttl", |c| c.ipfs.ipns_max_ttl = Span::from_secs(7)),
    ("ipfs.total_wait", |c| c.ipfs.total_wait = Span::from_secs(7)),
    ("bittorrent.pex", |c| c.bittorrent.pex = false),
    ("bittorrent.peer_blocklists", |c| c.bittorrent.peer_blocklists = vec!["/etc/block".into()]),
    ("bittorrent.peer_allowlists", |c| c.bittorrent.peer_allowlists = vec!["/etc/allow".into()]),
    ("bittorrent.ban_time", |c| c.bittorrent.ban_time = Span::from_secs(7)),
    ("webtorrent.max_connections", |c| c.webtorrent.max_connections = 7),
    ("webtorrent.max_connections_per_torrent", |c| c.webtorrent.max_connections_per_torrent = 7),
    ("webtorrent.builtin_tracker", |c| c.webtorrent.builtin_tracker = false),
    ("webtorrent.tracker_allow", |c| c.webtorrent.tracker_allow = TrackerAllow::Any),
    ("webtorrent.tracker_origins", |c| c.webtorrent.tracker_origins = Vec::new()),
    ("webtorrent.tracker_sockets_per_ip", |c| c.webtorrent.tracker_sockets_per_ip = 7),
    ("webtorrent.tracker_messages_per_second", |c| c.webtorrent.tracker_messages_per_second = 7),
    ("webtorrent.tracker_sockets", |c| c.webtorrent.tracker_sockets = 7),
    ("seeding.policy", |c| c.seeding.policy = SeedingPolicy::Off),
    ("seeding.upload_slots", |c| c.seeding.upload_slots = 7),
    ("seeding.ratio", |c| (c.seeding.policy, c.seeding.ratio) = (SeedingPolicy::Ratio, 7.0)),
    ("seeding.max_time", |c| (c.seeding.policy, c.seeding.max_time) = (SeedingPolicy::Ratio, Span::from_secs(7))),
    ("seeding.turns", |c| c.seeding.turns = Turns::Fastest),
    ("seeding.upload_limit", |c| c.seeding.upload_limit = Rate::from_bytes(7)),
    ("seeding.download_limit", |c| c.seeding.download_limit = Rate::from_bytes(7)),
    ("seeding.item_upload_limit", |c| c.seeding.item_upload_limit = Rate::from_bytes(7)),
    ("seeding.item_download_limit", |c| c.seeding.item_download_limit = Rate::from_bytes(7)),
    ("limits.bandwidth", |c| c.limits.bandwidth = Rate::from_bytes(7)),
    ("limits.item_bandwidth", |c| c.limits.item_bandwidth = Rate::from_bytes(7)),
    ("limits.client_bandwidth", |c| c.limits.client_bandwidth = Rate::from_bytes(7)),
    ("limits.requests_per_minute", |c| c.limits.requests_per_minute = 7),
    ("limits.new_items_per_minute", |c| c.limits.new_items_per_minute = 7),
    ("items.max_active_downloads", |c| c.items.max_active_downloads = 7),
    ("items.max_active_seeds", |c| c.items.max_active_seeds = 7),
    ("items.idle_grace", |c| c.items.idle_grace = Span::from_secs(7)),
    ("items.max_active", |c| c.items.max_active = 7),
    ("publish.dirs", |c| c.publish.dirs = vec!["/srv/films".into()]),
    ("ui.webtorrent", |c| c.ui.webtorrent = "/nowhere/at/all".into()),
    ("observe.log_names", |c| c.observe.log_names = true),
];

/// What the parts are told, as text.
fn told(config: &Config) -> String {
    let (store, ephemeral) = store_options(config).unwrap();
    let bittorrent = bittorrent_options(config, egress(config));
    // The tracker is more than its options, and no two are alike.
    let webtorrent = WebTorrentOptions { hub: None, ..webtorrent_options(config, Vec::new(), Vec::new()) };
    let accounts: Vec<_> = webtorrent.rtc.turn.iter().map(|turn| (&turn.username, &turn.credential)).collect();
    format!(
        "{store:?} {ephemeral:?} {:?} {bittorrent:?} {webtorrent:?} {accounts:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        dht_options(config),
        ipfs::delivery_options(config),
        ipfs::names_options(config),
        ipfs::patience(config),
        denylists(config),
        hub_options(config),
        http_options(config),
        hybrid::policy(config),
        (config.hybrid.buffer, Live::new(config).limits())
    )
}

fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()];
    config.cache.dir = dir.to_owned();
    config.cache.max_size = Size::mib(8);
    config.cache.min_free = Size::from_bytes(0);
    config.bittorrent.listen_ip = Ipv4Addr::LOCALHOST.into();
    config.bittorrent.listen_port = 0;
    config.bittorrent.dht = false;
    config.webtorrent.listen_ip = Ipv4Addr::LOCALHOST.into();
    config.ipfs.listen_ip = Ipv4Addr::LOCALHOST.into();
    config.ipfs.listen_port = 0;
    config
}

async fn started(config: &Config) -> App {
    App::build(config, Listeners::bind(config).unwrap()).await.unwrap()
}

#[test]
fn each_option_changes_what_some_part_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut base = Config::default();
    base.cache.dir = dir.path().to_owned();
    base.auth.token = Secret::new("t");
    base.webtorrent.turn = vec!["turn:t.example".to_owned()];
    let before = told(&base);
    for (key, change) in CHANGES {
        let mut changed = base.clone();
        change(&mut changed);
        assert_ne!(told(&changed), before, "{key} changes nothing");
    }
}

#[test]
fn a_webtorrent_that_is_not_there_is_told_by_its_option() {
    let mut config = Config::default();
    config.ui.webtorrent = "/nowhere/at/all.js".into();
    let error = http_options(&config).unwrap_err().to_string();
    assert!(error.starts_with("ui.webtorrent /nowhere/at/all.js: "), "{error}");
}

#[tokio::test]
async fn a_gateway_without_bittorrent_has_no_engine_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.bittorrent.enabled = false;
    config.ipfs.enabled = false;
    config.bittorrent.dht = true;
    let app = started(&config).await;
    assert_eq!(app.sockets().len(), 1, "HTTP alone: {:?}", app.sockets());
    assert!(app.bittorrent().is_none() && app.manager().list().is_empty());
    let root = format!("http://{}", app.addresses()[0]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let magnet = "magnet:?xt=urn:btih:08ada5a7a6183aae1e09d831df6748d566095a10";
    let add = client.post(format!("{root}/api/v1/items")).header("content-type", "text/plain").body(magnet);
    let read = client.get(format!("{root}/bt/08ada5a7a6183aae1e09d831df6748d566095a10/"));
    let fetch = client.get(format!("{root}/torrent?url=http://127.0.0.1:9/a.torrent"));
    for request in [add, read, fetch] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 501, "{}", response.url());
    }
    assert_eq!(client.get(format!("{root}/readyz")).send().await.unwrap().status(), 503);
    app.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_ephemeral_cache_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.cache.ephemeral = true;
    let app = started(&config).await;
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    app.shutdown(Duration::ZERO).await;
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_list_of_changes_has_every_option() {
    let schema = swarmgate_config::schema();
    let properties = |of: &serde_json::Value| of["properties"].as_object().cloned().unwrap_or_default();
    let options = properties(&schema).into_iter().flat_map(|(section, schema)| {
        properties(&schema).into_iter().map(move |(name, _)| format!("{section}.{name}"))
    });
    let listed = CHANGES.iter().map(|(key, _)| *key).chain(ELSEWHERE);
    assert_eq!(options.collect::<BTreeSet<_>>(), listed.map(str::to_owned).collect());
}

#[tokio::test]
async fn what_the_cache_gives_up_is_told_to_whoever_listens() {
    let dir = tempfile::tempdir().unwrap();
    let app = started(&config(dir.path())).await;
    let mut events = app.manager().events().subscribe();
    let hash = swarmgate_content::BlockHash::sha1(ABC_SHA1);
    let block = app.store().verifier().verify(hash, bytes::Bytes::from_static(b"abc")).await.unwrap();
    app.store().put(block).await.unwrap();
    assert!(app.store().remove(&hash).await);
    let told = tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap();
    assert_eq!(told.event, Event::CacheEvicted { blocks: 1 });
    app.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn no_answer_tells_a_password_or_a_key_that_stands_in_an_option() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("http://me:hunter2@{closed}/");
    config.network.allow_private = true;
    config.ipfs.gateways = vec![server.parse().unwrap()];
    config.ipfs.routers = vec![server.parse().unwrap()];
    config.ipfs.kubo_api = server.parse().ok();
    config.bittorrent.trackers = vec![format!("{server}hunter2/announce?passkey=hunter2").parse().unwrap()];
    config.webtorrent.trackers = vec![format!("ws://me:hunter2@{closed}/hunter2").parse().unwrap()];
    let app = started(&config).await;
    let root = format!("http://{}", app.addresses()[0]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    let infohash = "08ada5a7a6183aae1e09d831df6748d566095a10";
    let ask = async |path: &str, accept: &str| {
        let response = client.get(format!("{root}{path}")).header("accept", accept).send().await.unwrap();
        let head = format!("{:?}", response.headers());
        (response.status().as_u16(), head, response.text().await.unwrap())
    };
    for accept in ["application/json", "text/html", "*/*"] {
        for path in [
            format!("/ipfs/{cid}?wait=1"),
            format!("/ipns/{name}?wait=1"),
            format!("/bt/{infohash}/?wait=1"),
            format!("/api/v1/items/{infohash}"),
            "/api/v1/status".to_owned(),
            "/readyz".to_owned(),
            "/metrics".to_owned(),
            "/".to_owned(),
        ] {
            let (status, head, body) = ask(&path, accept).await;
            assert!(!head.contains("hunter2") && !body.contains("hunter2"), "{path}: {status} {head}\n{body}");
        }
        let (status, _, body) = ask(&format!("/ipfs/{cid}?wait=1"), accept).await;
        assert!(status >= 500 && body.contains(&closed.to_string()), "it says who was tried: {status} {body}");
    }
    app.shutdown(Duration::ZERO).await;
}

/// The SHA-1 of `abc`.
const ABC_SHA1: [u8; 20] = *b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d";
