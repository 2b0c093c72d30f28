//! Secrets stay where they were put: a gateway that is told many of them, and fails in all ways, says none of them.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use reqwest::header::HeaderMap;
use swarmgate_tests::gateway::{self, Gateway};
use swarmgate_tests::http;

/// What no output may have in it. Each option's secret is one of its own, so that a failure names the option.
const SECRETS: [&str; 11] = [
    "s3cret-operators-token",
    "s3cret-key-of-links-0123456789abcdef",
    "s3cret-turn-password",
    "s3cret-gateway-password",
    "s3cret-router-password",
    "s3cret-daemon-password",
    "s3cret-tracker-password",
    "s3cret-tracker-passkey",
    "s3cret-websocket-passkey",
    "s3cret-users-password",
    "s3cret-wrong-guess",
];

/// Requests that end well and in every kind of failure, with what they present.
const PATHS: [&str; 21] = [
    "/",
    "/metrics",
    "/readyz",
    "/nothing",
    "/api/v1/status",
    "/api/v1/config",
    "/api/v1/items",
    "/api/v1/breakers",
    "/api/v1/cache",
    "/api/v1/capabilities",
    "/api/v1/denylists",
    "/api/v1/items/none",
    "/bt/none/",
    "/bt/08ada5a7a6183aae1e09d831df6748d566095a10/?wait=1",
    "/bt/08ada5a7a6183aae1e09d831df6748d566095a10.m3u8?wait=1",
    "/api/v1/items/08ada5a7a6183aae1e09d831df6748d566095a10/trackers",
    "/api/v1/items/08ada5a7a6183aae1e09d831df6748d566095a10/sources",
    "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy?wait=1",
    "/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8?wait=1",
    "/magnet?xt=urn:btih:08ada5a7a6183aae1e09d831df6748d566095a10&wait=1",
    "/torrent?url=http%3A%2F%2F127.0.0.1%3A9%2Fa.torrent",
];

fn bearer(token: &str) -> HeaderMap {
    [(reqwest::header::AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"))].into_iter().collect()
}

/// Fails when a text has a secret in it.
fn assert_clean(what: &str, text: &str) {
    for secret in SECRETS {
        let at = text.find(secret);
        let around = at.map(|at| text[at.saturating_sub(300)..].chars().take(500).collect::<String>());
        assert!(at.is_none(), "{what} has {secret} in it: {}", around.unwrap_or_default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_answer_event_or_command_tells_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there, so that all of them fail.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = |user: &str, password: &str| format!("http://{user}:{password}@{closed}/");
    let credentials = dir.path().join("credentials.toml").display().to_string();
    let (gateways, routers) = (server("me", SECRETS[3]), server("me", SECRETS[4]));
    let daemon = server("me", SECRETS[5]);
    let tracker = format!("{}announce?passkey={}", server("me", SECRETS[6]), SECRETS[7]);
    let websocket = format!("ws://{closed}/{}/announce", SECRETS[8]);
    let options = [
        ("SWARMGATE_OBSERVE__LOG", "trace"),
        ("SWARMGATE_OBSERVE__LOG_NAMES", "true"),
        ("SWARMGATE_AUTH__TOKEN", SECRETS[0]),
        ("SWARMGATE_AUTH__LINK_KEY", SECRETS[1]),
        ("SWARMGATE_AUTH__CREDENTIALS", credentials.as_str()),
        ("SWARMGATE_AUTH__ANONYMOUS_CONTENT", "never"),
        ("SWARMGATE_WEBTORRENT__TURN", "turn:127.0.0.1:9"),
        ("SWARMGATE_WEBTORRENT__TURN_USERNAME", "me"),
        ("SWARMGATE_WEBTORRENT__TURN_PASSWORD", SECRETS[2]),
        ("SWARMGATE_WEBTORRENT__TRACKERS", websocket.as_str()),
        ("SWARMGATE_BITTORRENT__TRACKERS", tracker.as_str()),
        ("SWARMGATE_IPFS__GATEWAYS", gateways.as_str()),
        ("SWARMGATE_IPFS__ROUTERS", routers.as_str()),
        ("SWARMGATE_IPFS__KUBO_API", daemon.as_str()),
    ];
    let Some(mut gateway) = Gateway::start_with(dir.path(), &options).await else { return };

    // A user with a password, and a token, both made while the gateway runs.
    let told = |args: &[&str], input: &str| -> String {
        let mut command = gateway::command(swarmgate_tests::ports::free(), &dir.path().join("gateway-data")).unwrap();
        let piped = std::process::Stdio::piped;
        let child = command.envs(options).args(args).stdin(piped()).stdout(piped()).stderr(piped()).spawn();
        let mut child = child.unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let password = format!("{}\n", SECRETS[9]);
    assert_clean("token hash", &told(&["token", "hash", "--user", "anna", "--scope", "content,read"], &password));
    let token = told(&["token", "create", "tv"], "").trim().to_owned();
    let link = told(&["link", "08ada5a7a6183aae1e09d831df6748d566095a10/film.mkv", "--signed", "--expires", "1h"], "");
    let link = reqwest::Url::parse(link.trim()).unwrap();
    let signature = link.query_pairs().find(|(name, _)| name == "sig").unwrap().1.into_owned();
    for args in [&["config", "show", "--origin"][..], &["config", "show", "--output", "json"], &["token", "list"]] {
        assert_clean(&args.join(" "), &told(args, ""));
    }
    // The file with credentials is looked at once a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;

    let events = tokio::spawn(events(gateway.url("/api/v1/events")));
    let client = http::client();
    let mut seen = Vec::new();
    for path in PATHS {
        for accept in ["application/json", "text/html"] {
            let url = gateway.url(path);
            let anna = client.get(&url).basic_auth("anna", Some(SECRETS[9]));
            let guess = client.get(&url).basic_auth("anna", Some(SECRETS[10]));
            let asked = [
                client.get(&url),
                client.get(&url).headers(bearer(SECRETS[0])),
                client.get(&url).headers(bearer(SECRETS[10])),
                client.get(&url).headers(bearer(&token)),
                anna,
                guess,
            ];
            for request in asked {
                let response = request.header("accept", accept).send().await.unwrap();
                let (status, head) = (response.status().as_u16(), format!("{:?}", response.headers()));
                seen.push(status);
                assert_clean(path, &head);
                let body = response.text().await.unwrap();
                assert_clean(path, &body);
                assert!(!body.contains(&token), "{path} tells the token");
            }
        }
    }
    for expected in [200, 400, 401, 403, 404, 502] {
        assert!(seen.contains(&expected), "no request ended with {expected}: {seen:?}");
    }
    let signed = gateway.url(&format!("{}?wait=1&{}", link.path(), link.query().unwrap()));
    let answer = client.get(&signed).send().await.unwrap();
    assert!(answer.status().as_u16() >= 500, "it was let in, and nobody has the film: {}", answer.status());
    let expired = signed.replace("exp=", "exp=1");
    assert_eq!(client.get(&expired).send().await.unwrap().status(), 403);

    let heard = events.await.unwrap();
    assert!(heard.contains("event:"), "events were heard: {heard}");
    assert_clean("the events", &heard);
    gateway.assert_running();
    let log = gateway.log();
    assert!(log.contains("TRACE"), "it logs all that it does");
    assert_clean("the log", &log);
    assert!(!log.contains(&token), "the log has a token in it");
    assert!(!log.contains(&signature), "the log has a link's signature in it");
}

/// What is heard within a few seconds.
async fn events(url: String) -> String {
    let mut heard = String::new();
    let listen = async {
        let mut response =
            http::client().get(url).headers(bearer(SECRETS[0])).send().await.expect("the gateway answers");
        while let Ok(Some(chunk)) = response.chunk().await {
            heard += &String::from_utf8_lossy(&chunk);
        }
    };
    // A stream of events does not end by itself.
    let _ = tokio::time::timeout(Duration::from_secs(20), listen).await;
    heard
}
