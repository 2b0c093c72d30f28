//! Who may do what: each kind of client at each kind of door, asked of a running gateway.

use std::time::{Duration, UNIX_EPOCH};

use data_encoding::BASE64;

use crate::auth::link::Place;
use crate::auth::{Clock, Credentials, LinkKey, Scope, TokenHash, password};
use crate::server::ServeLimits;
use crate::state::{Anonymous, HttpOptions};
use crate::testing::{Answer, Behaviour, IH, World};

const FILES: &[(&str, u64)] = &[("film.mkv", 100)];
/// The address of a client elsewhere, which the proxy on this machine names.
const ELSEWHERE: &str = "203.0.113.9";
/// The time at the gateway, in seconds since 1970.
const NOW: u64 = 1_780_000_000;

/// What a client sends along with each request.
#[derive(Debug, Clone, Default)]
struct Who {
    headers: Vec<(&'static str, String)>,
    query: String,
}

impl Who {
    /// The same from another network, where it has an address of its own: whoever is wrong too often waits.
    fn moved(&self, number: usize) -> Self {
        let moved = |value: &String| value.replace("198.51.100.", &format!("198.51.{number}."));
        let headers = self.headers.iter().map(|(name, value)| (*name, moved(value))).collect();
        Self { headers, ..self.clone() }
    }

    /// Somebody elsewhere.
    fn elsewhere() -> Self {
        Self::default().with("X-Forwarded-For", ELSEWHERE)
    }

    fn bearer(token: &str) -> Self {
        Self::elsewhere().with("Authorization", &format!("Bearer {token}"))
    }

    fn basic(pair: &str) -> Self {
        Self::elsewhere().with("Authorization", &format!("Basic {}", BASE64.encode(pair.as_bytes())))
    }

    fn link(query: String) -> Self {
        Self { query, ..Self::elsewhere() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// The doors, each with a request that it opens for.
const DOORS: [(&str, &str, &str, &str); 11] = [
    ("content", "GET", "/bt/{ih}/film.mkv", ""),
    ("listing", "GET", "/bt/{ih}/", ""),
    ("playlist", "GET", "/bt/{ih}.m3u8", ""),
    ("API: read", "GET", "/api/v1/status", ""),
    ("API: add", "POST", "/api/v1/items", IH),
    ("API: manage", "DELETE", "/api/v1/items/{ih}", ""),
    ("API: admin", "PATCH", "/api/v1/config", "{}"),
    ("metrics", "GET", "/metrics", ""),
    ("health", "GET", "/healthz", ""),
    ("UI", "GET", "/", ""),
    ("tracker", "GET", "/announce", ""),
];

/// What each client is answered at each door, in their order. Where a door opens, the status is what lies behind it:
/// this gateway has no such item (404), changes no options (501) and is no tracker (404).
const MATRIX: [(&str, [u16; 11]); 18] = [
    ("nobody, here", [200, 200, 200, 401, 401, 401, 401, 401, 200, 200, 404]),
    ("nobody, elsewhere", [401, 401, 401, 401, 401, 401, 401, 401, 200, 401, 401]),
    ("token: content", [200, 200, 200, 403, 403, 403, 403, 403, 200, 200, 404]),
    ("token: read", [403, 403, 403, 200, 403, 403, 403, 200, 200, 403, 403]),
    ("token: add", [403, 403, 403, 200, 202, 403, 403, 200, 200, 403, 403]),
    ("token: manage", [403, 403, 403, 200, 202, 404, 403, 200, 200, 403, 403]),
    ("token: admin", [200, 200, 200, 200, 202, 404, 501, 200, 200, 200, 404]),
    ("operator's token", [200, 200, 200, 200, 202, 404, 501, 200, 200, 200, 404]),
    ("user: content, add", [200, 200, 200, 200, 202, 403, 403, 200, 200, 200, 404]),
    ("wrong token", [401, 401, 401, 401, 401, 401, 401, 401, 200, 401, 401]),
    ("wrong password", [401, 401, 401, 401, 401, 401, 401, 401, 200, 401, 401]),
    ("link", [200, 200, 200, 401, 401, 401, 401, 401, 200, 403, 403]),
    ("link to the file", [200, 403, 403, 401, 401, 401, 401, 401, 200, 403, 403]),
    ("link, expired", [403, 403, 403, 401, 401, 401, 401, 401, 200, 403, 403]),
    ("link to another", [403, 403, 403, 401, 401, 401, 401, 401, 200, 403, 403]),
    ("link, forged", [403, 403, 403, 401, 401, 401, 401, 401, 200, 403, 403]),
    ("foreign page", [200, 200, 200, 200, 403, 403, 403, 200, 200, 200, 403]),
    ("own page", [200, 200, 200, 200, 202, 404, 501, 200, 200, 200, 403]),
];

/// A gateway with credentials of each kind, and who presents them.
fn everybody() -> (HttpOptions, Vec<Who>) {
    let mut credentials = Credentials::default();
    let mut token = |name: &str, scope: Scope| credentials.create_token(name, &[scope]).unwrap();
    let scopes = [Scope::Content, Scope::Read, Scope::Add, Scope::Manage, Scope::Admin];
    let tokens: Vec<_> = scopes.map(|scope| Who::bearer(&token(scope.word(), scope))).into();
    let phc = password::hash("correct horse").unwrap();
    credentials.create_user("anna", phc, &[Scope::Content, Scope::Add]).unwrap();
    let key = LinkKey::random();
    let film = Place::of(&format!("/bt/{IH}/film.mkv"), None).unwrap();
    let other = Place::of(&format!("/bt/{}/film.mkv", "cd".repeat(20)), None).unwrap();
    let operator = Who::bearer("the operator's own");
    let good = key.sign(&film.content(), NOW + 60);
    let forged = good.replace("exp=", "exp=9");
    let mut all = vec![Who::default(), Who::elsewhere()];
    all.extend(tokens);
    all.extend([
        operator.clone(),
        Who::basic("anna:correct horse"),
        // From addresses of their own: whoever is wrong too often waits.
        Who::bearer("a guess").with("X-Forwarded-For", "198.51.100.1"),
        Who::basic("anna:a guess").with("X-Forwarded-For", "198.51.100.2"),
        Who::link(good),
        Who::link(key.sign(&film.file(), NOW + 60)),
        Who::link(key.sign(&film.content(), NOW)),
        Who::link(key.sign(&other.content(), NOW + 60)),
        Who::link(forged),
        operator.clone().with("Origin", "https://evil.example").with("Sec-Fetch-Site", "cross-site"),
        operator.with("Origin", "http://localhost").with("Sec-Fetch-Site", "same-origin"),
    ]);
    let options = HttpOptions {
        token: Some(TokenHash::of("the operator's own")),
        credentials: Some(("/no/such/file".into(), credentials)),
        link_key: Some(key),
        clock: Clock::new(|| UNIX_EPOCH + Duration::from_secs(NOW)),
        trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
        ..HttpOptions::default()
    };
    (options, all)
}

async fn start(options: HttpOptions) -> World {
    World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await
}

async fn knock(world: &World, who: &Who, door: (&str, &str, &str, &str)) -> Answer {
    let (_, method, path, body) = door;
    let path = path.replace("{ih}", IH);
    let path = if who.query.is_empty() { path } else { format!("{path}?{}", who.query) };
    let mut headers: Vec<_> = who.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if method == "POST" {
        headers.push(("Content-Type", "text/plain"));
    }
    world.catalogue.items.lock().clear();
    world.send(method, &path, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn each_client_is_answered_at_each_door_as_the_table_says() {
    let (options, everybody) = everybody();
    let world = start(options).await;
    assert_eq!(everybody.len(), MATRIX.len());
    let mut wrong = Vec::new();
    for ((name, expected), who) in MATRIX.into_iter().zip(&everybody) {
        for (number, (door, expected)) in DOORS.into_iter().zip(expected).enumerate() {
            let answer = knock(&world, &who.moved(number), door).await;
            if answer.status != expected {
                wrong.push(format!("{name} at {}: {} and not {expected}", door.0, answer.status));
            }
            let refused = matches!(answer.status, 401 | 403);
            let opens = refused || door.0 != "content" || answer.body == world.protocol.file(0);
            assert!(opens, "{name}: the film is whole or refused");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn content_that_is_for_nobody_is_not_for_this_machine_and_what_is_for_everybody_is_for_all() {
    let (options, everybody) = everybody();
    let statuses = async |anonymous_content| {
        let world = start(HttpOptions { anonymous_content, ..options.clone() }).await;
        let mut statuses = Vec::new();
        for who in &everybody[..3] {
            statuses.push(knock(&world, who, DOORS[0]).await.status);
        }
        statuses
    };
    assert_eq!(statuses(Anonymous::Never).await, [401, 401, 200]);
    assert_eq!(statuses(Anonymous::Always).await, [200, 200, 200]);
}

#[tokio::test]
async fn a_client_cannot_say_that_it_is_on_this_machine() {
    let (options, _) = everybody();
    let world = start(options.clone()).await;
    let status = async |world: &World, rows: &[(&'static str, &str)]| {
        let who = rows.iter().fold(Who::default(), |who, (name, value)| who.with(name, value));
        knock(world, &who, DOORS[0]).await.status
    };
    for told in ["127.0.0.1, 203.0.113.9", "::1,203.0.113.9", "localhost", "unknown", "127.0.0.1,203.0.113.9,127.0.0.1"]
    {
        assert_eq!(status(&world, &[("X-Forwarded-For", told)]).await, 401, "{told}");
    }
    let both = [("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=127.0.0.1")];
    assert_eq!(status(&world, &both).await, 401, "the proxy wrote one of them, the client the other");
    let forwarded = [("Forwarded", "for=127.0.0.1, for=203.0.113.9")];
    assert_eq!(status(&world, &forwarded).await, 401);

    // A proxy that is not named is a client like any other, whatever it says.
    let elsewhere = start(HttpOptions { trusted_proxies: vec!["192.0.2.1/32".parse().unwrap()], ..options }).await;
    assert_eq!(status(&elsewhere, &[("X-Forwarded-For", "203.0.113.9")]).await, 200, "it is on this machine");
    let answer = elsewhere.send("GET", "/healthz", &[("X-Forwarded-Host", "evil.example")], b"").await;
    assert_eq!(answer.status, 200, "nobody is asked who that is");
}

#[tokio::test]
async fn who_guesses_is_told_to_wait_and_others_are_not() {
    let (options, _) = everybody();
    let world = start(options).await;
    let api = DOORS[3];
    for n in 0..10 {
        assert_eq!(knock(&world, &Who::bearer(&format!("guess {n}")), api).await.status, 401);
    }
    let refused = knock(&world, &Who::bearer("one more"), api).await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "too-many-attempts"));
    assert_eq!(refused.header("retry-after"), Some("6"));
    assert_eq!(knock(&world, &Who::elsewhere(), api).await.status, 401, "who presents nothing does not guess");
    let other = Who::bearer("the operator's own").with("X-Forwarded-For", "203.0.113.10");
    assert_eq!(knock(&world, &other, api).await.status, 200);
    assert_eq!(
        knock(&world, &Who::bearer("x").with("X-Forwarded-For", ELSEWHERE), ("", "GET", "/healthz", "")).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_wrong_passwords_leaves_the_gateway_answering() {
    let (options, _) = everybody();
    let world = std::sync::Arc::new(start(options).await);
    let flood: Vec<_> = (0..100)
        .map(|n| {
            let world = std::sync::Arc::clone(&world);
            tokio::spawn(async move {
                let who = Who::basic(&format!("anna:guess {n}")).with("X-Forwarded-For", &format!("198.51.{n}.7"));
                knock(&world, &who, DOORS[3]).await.status
            })
        })
        .collect();
    let started = std::time::Instant::now();
    assert_eq!(world.get(&format!("/bt/{IH}/film.mkv")).await.status, 200);
    assert!(started.elapsed() < Duration::from_secs(5), "content took {:?}", started.elapsed());
    let mut statuses = Vec::new();
    for request in flood {
        statuses.push(request.await.unwrap());
    }
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert!(statuses.contains(&429), "most of them are sent away before anything is hashed");
    let anna = Who::basic("anna:correct horse").with("X-Forwarded-For", "192.0.2.200");
    assert_eq!(knock(&world, &anna, DOORS[3]).await.status, 200);
}
