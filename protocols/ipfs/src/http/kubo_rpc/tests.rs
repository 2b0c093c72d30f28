use axum::Router as App;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use parking_lot::Mutex;
use swarmgate_content::FailureClass;

use super::*;
use crate::http::testing::{BRISK, SOON, Server, cid_of, http, want};
use crate::source::BlockSource;

const DATA: &[u8] = b"a block of the daemon";
const PEER: &str = "12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE";

fn kubo(base: &str) -> KuboRpc {
    KuboRpc::new(http(), base, BRISK).unwrap()
}

/// What Kubo says of a command that failed.
fn failure(message: &str) -> Response {
    let body = serde_json::json!({ "Message": message, "Code": 0, "Type": "error" }).to_string();
    (StatusCode::INTERNAL_SERVER_ERROR, [("content-type", "application/json")], body).into_response()
}

fn name() -> Cid {
    Name::from(PEER.parse::<libp2p::PeerId>().unwrap()).to_cid()
}

async fn serving(command: &str, answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Server, KuboRpc) {
    let app = App::new().route(command, post(move || std::future::ready(answer())));
    let server = Server::start(app).await;
    let daemon = kubo(server.base());
    (server, daemon)
}

async fn providers(daemon: &KuboRpc) -> Result<Vec<Provider>, SourceError> {
    let found = Mutex::new(Vec::new());
    let result = daemon.providers(&cid_of(DATA), &|provider| found.lock().push(provider)).await;
    result.map(|()| found.into_inner())
}

#[tokio::test]
async fn a_block_is_had_by_post_and_checked() {
    async fn answer(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
        assert_eq!(query, Some(format!("arg={}", cid_of(DATA))));
        assert_eq!(headers["authorization"], "Basic bWU6c2VjcmV0");
        ([("content-type", "text/plain")], DATA).into_response()
    }
    let server = Server::start(App::new().route("/api/v0/block/get", post(answer))).await;
    let daemon = kubo(&server.base().replace("http://", "http://me:secret@"));
    assert_eq!(daemon.fetch(want(cid_of(DATA), SOON)).await.unwrap().as_ref(), DATA);
    assert_eq!(BlockSource::name(&daemon), server.base());

    let (_server, liar) = serving("/api/v0/block/get", || "something else".into_response()).await;
    assert_eq!(liar.fetch(want(cid_of(DATA), SOON)).await.unwrap_err().class, FailureClass::Corruption);
}

#[tokio::test]
async fn a_block_that_the_daemon_cannot_find_is_told_from_a_daemon_in_trouble() {
    for (message, class) in [
        ("block was not found locally (offline): ipld: could not find bafkqaaa", FailureClass::Neutral),
        ("blockservice: key not found", FailureClass::Neutral),
        ("no such block", FailureClass::Neutral),
        ("context deadline exceeded", FailureClass::Source),
        ("lookup x: no such host", FailureClass::Source),
    ] {
        let (_server, daemon) = serving("/api/v0/block/get", move || failure(message)).await;
        let error = daemon.fetch(want(cid_of(DATA), SOON)).await.unwrap_err();
        assert_eq!(error, SourceError { class, detail: message.to_owned() });
    }
    let (_server, daemon) = serving("/api/v0/elsewhere", || DATA.into_response()).await;
    let error = daemon.fetch(want(cid_of(DATA), SOON)).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Source, "404 is no Kubo: {error}");
    let html = || ([("content-type", "text/html; charset=utf-8")], "<html>").into_response();
    let (_server, page) = serving("/api/v0/block/get", html).await;
    assert_eq!(page.fetch(want(cid_of(DATA), SOON)).await.unwrap_err().class, FailureClass::Source);
    let long = || failure(&"\u{1b}x".repeat(1000));
    let (_server, daemon) = serving("/api/v0/block/get", long).await;
    assert_eq!(daemon.fetch(want(cid_of(DATA), SOON)).await.unwrap_err().detail, "x".repeat(MAX_DETAIL_CHARS));
    let huge = || failure(&"x".repeat(MAX_SMALL_BYTES));
    let (_server, daemon) = serving("/api/v0/block/get", huge).await;
    assert!(daemon.fetch(want(cid_of(DATA), SOON)).await.unwrap_err().detail.contains("more than"));
}

#[tokio::test]
async fn providers_come_as_the_daemon_finds_them() {
    let lines = format!(
        "{}\n{}\nnot json\n{}\n{}\n{}",
        r#"{"Extra":"","ID":"x","Responses":null,"Type":6}"#,
        r#"{"Extra":"","ID":"","Responses":[{"Addrs":null,"ID":"nobody"}],"Type":4}"#,
        format_args!(r#"{{"Responses":[{{"Addrs":["/ip4/192.0.2.1/tcp/4001","strange"],"ID":"{PEER}"}}],"Type":4}}"#),
        format_args!(r#"{{"Responses":[{{"Addrs":[],"ID":"{PEER}"}}],"Type":1}}"#),
        format_args!(r#"{{"Responses":[{{"Addrs":null,"ID":"{PEER}"}}],"Type":4}}"#),
    );
    let (_server, daemon) = serving("/api/v0/routing/findprovs", move || lines.clone().into_response()).await;
    let found = providers(&daemon).await.unwrap();
    let id = PEER.parse().unwrap();
    let near = Provider::Peer { id, addrs: vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()] };
    assert_eq!(found, [near, Provider::Peer { id, addrs: vec![] }]);
}

#[tokio::test]
async fn providers_have_a_bound_however_many_there_are() {
    let line = format!("{{\"Responses\":[{{\"Addrs\":null,\"ID\":\"{PEER}\"}}],\"Type\":4}}\n");
    let many = line.repeat(2 * MAX_PROVIDERS);
    let (_server, daemon) = serving("/api/v0/routing/findprovs", move || many.clone().into_response()).await;
    assert_eq!(providers(&daemon).await.unwrap().len(), MAX_PROVIDERS);

    let (_server, daemon) = serving("/api/v0/routing/findprovs", || "x".repeat(5 << 20).into_response()).await;
    assert_eq!(providers(&daemon).await.unwrap_err().class, FailureClass::Source, "a line without an end");
    let (_server, daemon) = serving("/api/v0/routing/findprovs", || {
        format!("{{\"x\":\"{}\"}}\n", "y".repeat(1000)).repeat(5 << 10).into_response()
    })
    .await;
    assert_eq!(providers(&daemon).await.unwrap_err().class, FailureClass::Source, "lines without an end");
}

#[tokio::test]
async fn a_record_comes_in_base64() {
    async fn answer(RawQuery(query): RawQuery) -> String {
        assert_eq!(query, Some(format!("arg=/ipns/{}", Name::from_cid(&name()).unwrap())));
        format!("{{\"Type\":6}}\n{{\"Type\":5,\"Extra\":\"{}\"}}\n", BASE64.encode(b"a record"))
    }
    let server = Server::start(App::new().route("/api/v0/routing/get", post(answer))).await;
    assert_eq!(kubo(server.base()).ipns_record(&name()).await.unwrap(), "a record");

    let large = BASE64.encode(&[0; MAX_RECORD_BYTES + 1]);
    let events =
        [format!("{{\"Type\":5,\"Extra\":\"{large}\"}}"), r#"{"Type":5,"Extra":"?"}"#.to_owned(), String::new()];
    for event in events {
        let (_server, daemon) = serving("/api/v0/routing/get", move || event.clone().into_response()).await;
        assert_eq!(daemon.ipns_record(&name()).await.unwrap_err().class, FailureClass::Neutral);
    }
    let (_server, daemon) = serving("/api/v0/routing/get", || failure("routing: not found")).await;
    assert_eq!(daemon.ipns_record(&name()).await.unwrap_err().class, FailureClass::Neutral);
    assert_eq!(daemon.ipns_record(&cid_of(DATA)).await.unwrap_err().class, FailureClass::Neutral, "no name");
}

#[tokio::test]
async fn a_daemon_is_well_when_it_says_its_version() {
    let version = || r#"{"Version":"0.40.1","Commit":"","Repo":"18","System":"amd64/linux","Golang":"go1.26"}"#;
    let (_server, daemon) = serving("/api/v0/version", move || version().into_response()).await;
    assert_eq!(daemon.version().await.unwrap(), "0.40.1");
    let other = Server::start(App::new().fallback(any(|| std::future::ready("hello")))).await;
    assert_eq!(kubo(other.base()).version().await.unwrap_err().class, FailureClass::Source);
}
