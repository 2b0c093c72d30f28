//! What only the meaning of an option, or several options together, can get wrong. A rule is a function of the
//! configuration that returns the reasons it is broken for; adding one is a function and a line in [`RULES`].

use std::net::{IpAddr, SocketAddr};

use url::Host;

use crate::listen::Listen;
use crate::options::{AnonymousContent, AuthMode, Config};
use crate::values::{Size, Span};

mod ipfs;
mod peers;

/// A rule, and the options it reads. It is skipped while one of them is wrong by itself.
pub(crate) struct Rule {
    pub(crate) keys: &'static [&'static str],
    pub(crate) check: fn(&Config) -> Vec<String>,
}

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    Rule { keys: &["server.listen"], check: listens_somewhere },
    Rule { keys: &["server.listen"], check: listens_once },
    Rule { keys: &["server.listen", "auth.mode", "auth.token", "auth.credentials"], check: strangers_are_asked },
    Rule { keys: &["server.tls_cert", "server.tls_key"], check: tls_has_both_files },
    Rule { keys: &["server.public_url"], check: public_url_is_a_web_address },
    Rule { keys: &["server.base_path"], check: base_path_is_a_path },
    Rule { keys: &["server.allowed_hosts"], check: allowed_hosts_are_names },
    Rule { keys: &["server.max_streams"], check: |c| not_zero(c.server.max_streams) },
    Rule { keys: &["server.max_streams_per_client"], check: |c| not_zero(c.server.max_streams_per_client) },
    Rule { keys: &["auth.mode", "auth.token", "auth.credentials"], check: mode_fits_credentials },
    Rule { keys: &["auth.anonymous_content", "auth.token", "auth.credentials"], check: keeping_out_needs_a_token },
    Rule { keys: &["auth.token"], check: token_fits_a_header },
    Rule { keys: &["auth.link_key"], check: link_key_is_long },
    Rule { keys: &["auth.link_ttl"], check: |c| not_instant(c.auth.link_ttl) },
    Rule { keys: &["cache.dir"], check: cache_has_a_place },
    Rule { keys: &["cache.max_size"], check: |c| not_empty(c.cache.max_size) },
    Rule { keys: &["cache.memory"], check: |c| not_empty(c.cache.memory) },
    Rule { keys: &["deadlines.resolve"], check: |c| not_instant(c.deadlines.resolve) },
    Rule { keys: &["deadlines.first_byte"], check: |c| not_instant(c.deadlines.first_byte) },
    Rule { keys: &["deadlines.stall"], check: |c| not_instant(c.deadlines.stall) },
    Rule { keys: &["deadlines.max_wait", "deadlines.resolve"], check: asking_for_patience_resolves_no_shorter },
    Rule { keys: &["deadlines.max_wait", "deadlines.first_byte"], check: asking_for_patience_waits_no_shorter },
    Rule {
        keys: &["bittorrent.listen_port", "bittorrent.listen_ip", "server.listen"],
        check: peers::peers_have_their_own_port,
    },
    Rule { keys: &["bittorrent.dht_bootstrap"], check: peers::bootstrap_hosts_have_ports },
    Rule { keys: &["bittorrent.proxy"], check: peers::proxy_is_one },
    Rule { keys: &["bittorrent.dht_port", "bittorrent.listen_port"], check: peers::dht_and_utp_share_no_port },
    Rule { keys: &["bittorrent.trackers"], check: peers::trackers_can_be_asked },
    Rule { keys: &["bittorrent.max_peers_per_torrent"], check: |c| not_zero(c.bittorrent.max_peers_per_torrent) },
    Rule { keys: &["bittorrent.max_peers"], check: |c| not_zero(c.bittorrent.max_peers) },
    Rule { keys: &["bittorrent.lsd", "network.allow_private"], check: peers::neighbours_may_be_dialled },
    Rule { keys: &["bittorrent.max_half_open"], check: |c| not_zero(c.bittorrent.max_half_open) },
    Rule {
        keys: &["webtorrent.listen_port", "webtorrent.listen_ip", "bittorrent.dht_port", "bittorrent.listen_port"],
        check: peers::webrtc_has_its_own_port,
    },
    Rule { keys: &["webtorrent.trackers"], check: peers::websocket_trackers_can_be_asked },
    Rule { keys: &["webtorrent.stun"], check: |c| peers::ice_servers(&c.webtorrent.stun, &["stun"]) },
    Rule { keys: &["webtorrent.turn"], check: |c| peers::ice_servers(&c.webtorrent.turn, &["turn", "turns"]) },
    Rule {
        keys: &["webtorrent.turn", "webtorrent.turn_username", "webtorrent.turn_password"],
        check: peers::turn_servers_know_us,
    },
    Rule { keys: &["webtorrent.max_connections"], check: |c| not_zero(c.webtorrent.max_connections) },
    Rule {
        keys: &["webtorrent.max_connections_per_torrent"],
        check: |c| not_zero(c.webtorrent.max_connections_per_torrent),
    },
    Rule { keys: &["webtorrent.tracker_origins"], check: peers::tracker_origins_are_sites },
    Rule { keys: &["webtorrent.tracker_sockets_per_ip"], check: |c| not_zero(c.webtorrent.tracker_sockets_per_ip) },
    Rule {
        keys: &["webtorrent.tracker_messages_per_second"],
        check: |c| not_zero(c.webtorrent.tracker_messages_per_second as usize),
    },
    Rule { keys: &["webtorrent.tracker_sockets"], check: |c| not_zero(c.webtorrent.tracker_sockets) },
    Rule {
        keys: &["ipfs.listen_port", "ipfs.listen_ip", "bittorrent.listen_port", "bittorrent.listen_ip"],
        check: ipfs::node_and_torrents_share_no_port,
    },
    Rule {
        keys: &["ipfs.listen_port", "ipfs.listen_ip", "bittorrent.dht_port", "bittorrent.listen_port"],
        check: ipfs::node_and_dht_share_no_port,
    },
    Rule { keys: &["ipfs.listen_port", "ipfs.listen_ip", "server.listen"], check: ipfs::node_and_server_share_no_port },
    Rule { keys: &["ipfs.bootstrap"], check: ipfs::bootstrap_peers_are_addresses },
    Rule { keys: &["ipfs.gateways"], check: |c| ipfs::are_web_servers(&c.ipfs.gateways) },
    Rule { keys: &["ipfs.routers"], check: |c| ipfs::are_web_servers(&c.ipfs.routers) },
    Rule { keys: &["ipfs.kubo_api"], check: |c| ipfs::are_web_servers(c.ipfs.kubo_api.as_slice()) },
    Rule { keys: &["ipfs.dnslinks"], check: ipfs::dnslinks_lead_somewhere },
    Rule { keys: &["ipfs.subdomain_hosts"], check: ipfs::subdomain_hosts_are_names },
    Rule { keys: &["ipfs.total_wait"], check: |c| not_instant(c.ipfs.total_wait) },
    Rule { keys: &["hybrid.max_sources"], check: |c| not_zero(c.hybrid.max_sources) },
    Rule { keys: &["hybrid.hedge_percent"], check: hedges_are_few },
    Rule { keys: &["hybrid.buffer"], check: |c| not_instant(c.hybrid.buffer) },
    Rule { keys: &["hybrid.weight_bt"], check: |c| weighs_something(c.hybrid.weight_bt) },
    Rule { keys: &["hybrid.weight_ipfs"], check: |c| weighs_something(c.hybrid.weight_ipfs) },
    Rule { keys: &["hybrid.weight_http"], check: |c| weighs_something(c.hybrid.weight_http) },
    Rule { keys: &["policy.legal_status"], check: ipfs::legal_status_is_one },
    Rule { keys: &["policy.allowlists", "policy.mode"], check: ipfs::allowlists_fit_the_mode },
    Rule { keys: &["seeding.upload_slots"], check: upload_has_a_slot },
    Rule { keys: &["seeding.ratio"], check: ratio_is_a_share },
    Rule { keys: &["items.max_active"], check: |c| not_zero(c.items.max_active) },
    Rule { keys: &["items.max_active_downloads"], check: |c| not_zero(c.items.max_active_downloads) },
    Rule { keys: &["items.max_active_seeds"], check: |c| not_zero(c.items.max_active_seeds) },
    Rule { keys: &["observe.log"], check: log_levels_exist },
    Rule { keys: &["observe.otlp_endpoint"], check: |c| ipfs::are_web_servers(c.observe.otlp_endpoint.as_slice()) },
    Rule { keys: &["observe.otlp_endpoint"], check: |c| collector_can_be_told(c, cfg!(feature = "otel")) },
];

fn when(broken: bool, reason: impl FnOnce() -> String) -> Vec<String> {
    broken.then(reason).into_iter().collect()
}

fn not_zero(count: usize) -> Vec<String> {
    when(count == 0, || "has to be at least 1".to_owned())
}

fn not_empty(size: Size) -> Vec<String> {
    when(size.bytes() == 0, || "has to be more than nothing".to_owned())
}

fn not_instant(span: Span) -> Vec<String> {
    when(span.duration().is_zero(), || "leaves no time at all".to_owned())
}

fn hedges_are_few(config: &Config) -> Vec<String> {
    when(config.hybrid.hedge_percent > 5, || "has to be at most 5: more would be asked for twice".to_owned())
}

fn weighs_something(percent: u32) -> Vec<String> {
    when(!(1..=100_000).contains(&percent), || "has to be from 1 to 100000 percent".to_owned())
}

fn asking_for_patience_resolves_no_shorter(config: &Config) -> Vec<String> {
    within_longest_wait(config, "deadlines.resolve", config.deadlines.resolve)
}

fn asking_for_patience_waits_no_shorter(config: &Config) -> Vec<String> {
    within_longest_wait(config, "deadlines.first_byte", config.deadlines.first_byte)
}

fn within_longest_wait(config: &Config, stage: &str, span: Span) -> Vec<String> {
    let longest = config.deadlines.max_wait;
    when(span > longest, || {
        format!(
            "{stage} = {span} is longer than deadlines.max_wait = {longest}: a client that asks for patience would get \
             less than one that does not"
        )
    })
}

fn listens_somewhere(config: &Config) -> Vec<String> {
    when(config.server.listen.is_empty(), || "names no address to listen on".to_owned())
}

fn listens_once(config: &Config) -> Vec<String> {
    let listen = &config.server.listen;
    let clash = |(index, place): (usize, &Listen)| {
        let earlier = listen[..index].iter().find(|earlier| clashes(earlier, place))?;
        let twice = format!("{place} is named twice");
        Some(if earlier == place { twice } else { format!("{earlier} and {place} cannot both be listened on") })
    };
    listen.iter().enumerate().filter_map(clash).collect()
}

fn clashes(a: &Listen, b: &Listen) -> bool {
    match (a.tcp(), b.tcp()) {
        (Some(a), Some(b)) => overlap(&a, &b),
        (Some(_), None) | (None, Some(_)) => false,
        (None, None) => a == b,
    }
}

/// Whether binding one address keeps the other from being bound: the same port, on the same address or on all of them.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    // `::` takes IPv4 along.
    let covers = |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

fn strangers_are_asked(config: &Config) -> Vec<String> {
    let unguarded = config.auth.mode == AuthMode::Auto && !config.auth.has_credentials();
    let public = config.server.listen.iter().find(|place| !place.is_local());
    public.filter(|_| unguarded).map(open_to_strangers).into_iter().collect()
}

fn open_to_strangers(place: &Listen) -> String {
    format!(
        "other machines can reach {place} and nothing asks who they are: set a token \
         (SWARMGATE_AUTH__TOKEN_FILE or auth.token), name a file of credentials \
         (auth.credentials), or let everyone in with auth.mode = \"none\""
    )
}

fn tls_has_both_files(config: &Config) -> Vec<String> {
    let (cert, key) = (&config.server.tls_cert, &config.server.tls_key);
    when(cert.as_os_str().is_empty() != key.as_os_str().is_empty(), || {
        "is one half: TLS needs server.tls_cert and server.tls_key".to_owned()
    })
}

fn mode_fits_credentials(config: &Config) -> Vec<String> {
    let auth = &config.auth;
    match auth.mode {
        AuthMode::Token => when(!auth.has_credentials(), || {
            "asks for a token, but auth.token is empty and so is auth.credentials".to_owned()
        }),
        AuthMode::None => {
            let ignored = [("auth.token", auth.token.is_set()), ("auth.credentials", auth.has_credentials())];
            let ignored = ignored.iter().find(|(_, set)| *set);
            let reason =
                |(key, _): &(&str, bool)| format!("asks for nothing, so {key} would be ignored; drop one of the two");
            ignored.map(reason).into_iter().collect()
        }
        AuthMode::Auto => Vec::new(),
    }
}

/// Behind a proxy this would leave everything open to everybody, and look shut.
fn keeping_out_needs_a_token(config: &Config) -> Vec<String> {
    let shut = config.auth.anonymous_content == AnonymousContent::Never;
    when(shut && !config.auth.has_credentials(), || {
        "keeps nobody out while auth.token and auth.credentials are empty".to_owned()
    })
}

/// RFC 6750 §2.1: a bearer token is letters, digits and `-._~+/`, then `=`.
fn token_fits_a_header(config: &Config) -> Vec<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let token = config.auth.token.expose();
    let body = token.trim_end_matches('=');
    when(config.auth.token.is_set() && (body.is_empty() || !body.bytes().all(allowed)), || {
        "cannot be sent in a header: a bearer token has letters, digits and -._~+/ only, and = at its end".to_owned()
    })
}

/// Characters of a key for links that an operator chooses, at least: whoever guesses it reads everything.
const MIN_LINK_KEY: usize = 32;

fn link_key_is_long(config: &Config) -> Vec<String> {
    let key = &config.auth.link_key;
    when(key.is_set() && key.expose().len() < MIN_LINK_KEY, || {
        format!("has to have at least {MIN_LINK_KEY} characters, as from `openssl rand -hex 32`")
    })
}

fn public_url_is_a_web_address(config: &Config) -> Vec<String> {
    let Some(url) = &config.server.public_url else { return Vec::new() };
    let mut reasons =
        when(!matches!(url.scheme(), "http" | "https"), || "has to start with http:// or https://".to_owned());
    reasons.extend(when(url.query().is_some() || url.fragment().is_some(), || "cannot have a ? or # part".to_owned()));
    reasons
        .extend(when(!url.username().is_empty() || url.password().is_some(), || "cannot have credentials".to_owned()));
    reasons
}

fn base_path_is_a_path(config: &Config) -> Vec<String> {
    let path = config.server.base_path.as_str();
    if path == "/" {
        return Vec::new();
    }
    let allowed = |segment: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
    };
    let plain = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(allowed));
    when(!plain, || {
        "has to be / or segments of letters, digits and -._~ as /media/gate, with no / at the end".to_owned()
    })
}

fn allowed_hosts_are_names(config: &Config) -> Vec<String> {
    let is_host = |host: &str| host == "*" || Host::parse(host).is_ok() || host.parse::<IpAddr>().is_ok();
    let bad = config.server.allowed_hosts.iter().filter(|host| !is_host(host));
    bad.map(|host| format!("`{host}` is not a host name; give it without scheme and port, or `*` alone")).collect()
}

fn cache_has_a_place(config: &Config) -> Vec<String> {
    when(config.cache.dir.as_os_str().is_empty(), || {
        "this system names no cache directory for the user; say where content may lie".to_owned()
    })
}

fn ratio_is_a_share(config: &Config) -> Vec<String> {
    let ratio = config.seeding.ratio;
    when(!ratio.is_finite() || ratio < 0.0, || "has to be a number of at least 0".to_owned())
}

fn upload_has_a_slot(config: &Config) -> Vec<String> {
    when(config.seeding.upload_slots == 0, || {
        "has to be at least 1; to upload nothing say seeding.policy = \"off\"".to_owned()
    })
}

fn collector_can_be_told(config: &Config, built_with_otel: bool) -> Vec<String> {
    when(config.observe.otlp_endpoint.is_some() && !built_with_otel, || {
        "this program was built without OpenTelemetry: build it with `--features otel`, or leave this empty".to_owned()
    })
}

fn log_levels_exist(config: &Config) -> Vec<String> {
    let is_level = |word: &str| {
        let word = word.to_ascii_lowercase();
        ["off", "error", "warn", "info", "debug", "trace"].contains(&word.as_str())
    };
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    };
    let is_directive = |directive: &str| match directive.split_once('=') {
        Some((part, level)) => is_part(part) && is_level(level),
        None => is_level(directive),
    };
    let bad = config.observe.log.split(',').map(str::trim).filter(|directive| !is_directive(directive));
    bad.map(|directive| {
        format!("`{directive}` is neither a level (off, error, warn, info, debug, trace) nor PART=LEVEL")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reasons of one rule for the defaults with a change.
    pub(super) fn reasons(check: fn(&Config) -> Vec<String>, change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config)
    }

    fn listen(addresses: &[&str]) -> Vec<Listen> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn the_defaults_break_no_rule_but_the_place_of_the_cache() {
        let config = Config::default();
        let broken: Vec<&str> =
            RULES.iter().filter(|rule| !(rule.check)(&config).is_empty()).map(|rule| rule.keys[0]).collect();
        assert_eq!(broken, ["cache.dir"]);
    }

    #[test]
    fn every_rule_reads_options_that_exist() {
        let catalogue = crate::catalogue::Catalogue::new();
        for key in RULES.iter().flat_map(|rule| rule.keys) {
            assert!(catalogue.option(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_public_address_needs_a_token_or_a_word() {
        let public = |config: &mut Config| config.server.listen = listen(&["127.0.0.1:1", "0.0.0.0:8420"]);
        assert_eq!(reasons(strangers_are_asked, public).len(), 1);
        let with_token = |config: &mut Config| {
            public(config);
            config.auth.token = crate::Secret::new("t");
        };
        assert!(reasons(strangers_are_asked, with_token).is_empty());
        let with_file = |config: &mut Config| {
            public(config);
            config.auth.credentials = "credentials.toml".into();
        };
        assert!(reasons(strangers_are_asked, with_file).is_empty());
        assert_eq!(reasons(strangers_are_asked, |config| config.server.listen = listen(&["systemd"])).len(), 1);
        let with_word = |config: &mut Config| {
            public(config);
            config.auth.mode = AuthMode::None;
        };
        assert!(reasons(strangers_are_asked, with_word).is_empty());
    }

    #[test]
    fn tls_needs_a_certificate_and_its_key() {
        assert_eq!(reasons(tls_has_both_files, |config| config.server.tls_cert = "a.pem".into()).len(), 1);
        let both = |config: &mut Config| (config.server.tls_cert, config.server.tls_key) = ("a".into(), "b".into());
        assert!(reasons(tls_has_both_files, both).is_empty());
    }

    #[test]
    fn a_key_for_links_is_no_password() {
        let key =
            |text: &'static str| reasons(link_key_is_long, |config| config.auth.link_key = crate::Secret::new(text));
        assert_eq!(key("hunter2").len(), 1);
        assert!(key("0123456789abcdef0123456789abcdef").is_empty() && key("").is_empty());
    }

    #[test]
    fn content_for_nobody_without_a_token_needs_a_token() {
        let shut = |config: &mut Config| config.auth.anonymous_content = AnonymousContent::Never;
        assert_eq!(reasons(keeping_out_needs_a_token, shut).len(), 1);
        let with_token = |config: &mut Config| {
            shut(config);
            config.auth.token = crate::Secret::new("t");
        };
        assert!(reasons(keeping_out_needs_a_token, with_token).is_empty());
    }

    #[test]
    fn addresses_that_keep_each_other_from_being_bound_are_found() {
        for (addresses, clashes) in [
            (&["127.0.0.1:1", "127.0.0.1:2", "[::1]:1"][..], 0),
            (&["127.0.0.1:0", "127.0.0.1:0"], 0),
            (&["127.0.0.1:1", "127.0.0.1:1"], 1),
            (&["127.0.0.1:1", "0.0.0.0:1"], 1),
            (&["[::]:1", "127.0.0.1:1"], 1),
            (&["0.0.0.0:1", "[::1]:1"], 0),
            (&["unix:/run/a", "unix:/run/b", "systemd"], 0),
            (&["unix:/run/a", "unix:/run/a"], 1),
        ] {
            let found = reasons(listens_once, |config| config.server.listen = listen(addresses));
            assert_eq!(found.len(), clashes, "{addresses:?}: {found:?}");
        }
        let on_peers_port = |config: &mut Config| config.server.listen = listen(&["127.0.0.1:8421"]);
        assert_eq!(reasons(peers::peers_have_their_own_port, on_peers_port).len(), 1);
    }

    #[test]
    fn a_token_is_what_a_header_can_carry() {
        for (token, fits) in
            [("", true), ("abc-._~+/123==", true), ("two words", false), ("naïve", false), ("==", false)]
        {
            let found = reasons(token_fits_a_header, |config| config.auth.token = crate::Secret::new(token));
            assert_eq!(found.is_empty(), fits, "{token}");
        }
    }

    #[test]
    fn a_base_path_is_plain_segments() {
        for (path, fits) in [
            ("/", true),
            ("/gate", true),
            ("/media/gate-1", true),
            ("", false),
            ("gate", false),
            ("/gate/", false),
            ("//gate", false),
            ("/../gate", false),
            ("/g%41te", false),
            ("/gate?x", false),
        ] {
            let found = reasons(base_path_is_a_path, |config| config.server.base_path = path.to_owned());
            assert_eq!(found.is_empty(), fits, "{path}");
        }
    }

    #[test]
    fn hosts_bootstrap_nodes_and_trackers_have_their_shapes() {
        let hosts = ["localhost", "*", "media.example.org", "192.168.1.2", "::1", "http://x", "x:80", ""];
        let found =
            reasons(allowed_hosts_are_names, |config| config.server.allowed_hosts = hosts.map(str::to_owned).to_vec());
        assert_eq!(found.len(), 3, "{found:?}");

        let nodes = ["router.example.org:6881", "10.0.0.1:6881", "[::1]:6881", "router.example.org", "x:0", ":1"];
        let found = reasons(peers::bootstrap_hosts_have_ports, |config| {
            config.bittorrent.dht_bootstrap = nodes.map(str::to_owned).to_vec();
        });
        assert_eq!(found.len(), 3, "{found:?}");

        let trackers = [
            "http://t.example/announce",
            "udp://t.example:80",
            "udp://t.example",
            "wss://t.example",
            "udp://t.example:80",
        ];
        let found = reasons(peers::trackers_can_be_asked, |config| {
            config.bittorrent.trackers = trackers.map(|tracker| tracker.parse().unwrap()).to_vec();
        });
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_log_filter_names_levels_that_exist() {
        for (filter, fits) in [
            ("info", true),
            ("INFO", true),
            ("info, swarmgate_swarm=debug,hyper::proto=off", true),
            ("inof", false),
            ("swarm=loud", false),
            ("", false),
        ] {
            let found = reasons(log_levels_exist, |config| config.observe.log = filter.to_owned());
            assert_eq!(found.is_empty(), fits, "{filter}");
        }
    }

    #[test]
    fn a_collector_wants_a_program_that_was_built_to_tell_it() {
        let mut config = Config::default();
        assert!(collector_can_be_told(&config, false).is_empty());
        config.observe.otlp_endpoint = "http://me:hunter2@127.0.0.1:4318".parse().ok();
        assert!(collector_can_be_told(&config, true).is_empty());
        let told = collector_can_be_told(&config, false).concat();
        assert!(told.contains("--features otel") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn the_longest_wait_is_no_shorter_than_what_clients_get_unasked() {
        let short = |config: &mut Config| config.deadlines.max_wait = Span::from_secs(20);
        assert!(reasons(asking_for_patience_resolves_no_shorter, short).is_empty());
        assert_eq!(
            reasons(asking_for_patience_waits_no_shorter, short),
            [
                "deadlines.first_byte = 30s is longer than deadlines.max_wait = 20s: a client that asks for patience would get \
              less than one that does not"
            ]
        );
    }
}
