use std::convert::Infallible;
use std::sync::Arc;

use axum::Router as App;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;
use crate::http::testing::{BRISK, SOON, Server, cid_of, http};

const PEER: &str = "12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE";
const WEB: &str = r#"{"Schema":"peer","ID":"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n","Addrs":["/dns4/example.org/tcp/443/https"],"Protocols":["transport-ipfs-gateway-http"]}"#;

fn peer_line() -> String {
    let addrs = r#"["/ip4/192.0.2.1/tcp/4001","/dns4/x.example/tcp/80/http"]"#;
    format!("{{\"Schema\":\"peer\",\"ID\":\"{PEER}\",\"Addrs\":{addrs},\"Protocols\":[\"transport-bitswap\"]}}\n")
}

fn peer() -> Provider {
    Provider::Peer { id: PEER.parse().unwrap(), addrs: vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()] }
}

fn name() -> Cid {
    Name::from(PEER.parse::<libp2p::PeerId>().unwrap()).to_cid()
}

async fn serving(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Server, DelegatedRouter) {
    let server = Server::start(App::new().fallback(any(move || std::future::ready(answer())))).await;
    let router = DelegatedRouter::new(http(), server.base(), BRISK).unwrap();
    (server, router)
}

fn typed(media_type: &'static str, body: impl Into<Body>) -> Response {
    ([("content-type", media_type)], body.into()).into_response()
}

async fn providers(router: &DelegatedRouter) -> Result<Vec<Provider>, SourceError> {
    let found = Mutex::new(Vec::new());
    let result = router.providers(&cid_of(b"x"), &|provider| found.lock().push(provider)).await;
    result.map(|()| found.into_inner())
}

#[tokio::test]
async fn a_provider_is_told_of_before_the_list_is_whole() {
    let heard = Arc::new(Notify::new());
    let wait = heard.clone();
    let (_server, router) = serving(move || {
        let wait = wait.clone();
        let first = stream::once(std::future::ready(peer_line()));
        let rest = stream::once(async move {
            wait.notified().await;
            WEB.to_owned()
        });
        typed("application/x-ndjson; charset=utf-8", Body::from_stream(first.chain(rest).map(Ok::<_, Infallible>)))
    })
    .await;
    let found = Mutex::new(Vec::new());
    let tell = |provider: Provider| {
        found.lock().push(provider);
        heard.notify_one();
    };
    let cid = cid_of(b"x");
    timeout(SOON, router.providers(&cid, &tell)).await.expect("the rest comes when the first was heard of").unwrap();
    assert_eq!(found.into_inner(), [peer(), Provider::Gateway("https://example.org/".into())]);
}

#[tokio::test]
async fn a_list_is_asked_for_below_the_routers_url_and_taken_at_once_too() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let answer = move |request: Request| {
        kept.lock().push((request.uri().to_string(), request.headers()["accept"].clone()));
        std::future::ready(typed(JSON, format!("{{\"Providers\":[{},{WEB},7]}}", peer_line())))
    };
    let server = Server::start(App::new().fallback(any(answer))).await;
    for base in [server.base().to_owned(), format!("{}/routing/v1/", server.base())] {
        let router = DelegatedRouter::new(http(), &base, BRISK).unwrap();
        assert_eq!(router.name(), server.base());
        assert_eq!(providers(&router).await.unwrap(), [peer(), Provider::Gateway("https://example.org/".into())]);
        let (uri, accept) = asked.lock().pop().unwrap();
        assert_eq!(uri, format!("/routing/v1/providers/{}", cid_of(b"x")));
        assert_eq!(accept, ACCEPT);
    }
}

#[tokio::test]
async fn nobody_is_no_error_and_nonsense_is_the_routers_fault() {
    let (_server, router) = serving(|| StatusCode::NOT_FOUND.into_response()).await;
    assert_eq!(providers(&router).await, Ok(Vec::new()));
    let endless = || Body::from_stream(stream::repeat("{}\n").map(Ok::<_, Infallible>));
    let answers: [fn() -> Response; 5] = [
        || StatusCode::BAD_GATEWAY.into_response(),
        || typed("text/html", "<html>"),
        || typed(JSON, "<html>"),
        || typed(JSON, vec![b' '; MAX_BODY_BYTES + 1]),
        || typed(NDJSON, vec![b' '; MAX_BODY_BYTES]),
    ];
    for answer in answers {
        let (_server, router) = serving(answer).await;
        assert_eq!(providers(&router).await.unwrap_err().class, FailureClass::Source);
    }
    let (_server, router) = serving(move || typed(NDJSON, endless())).await;
    assert_eq!(timeout(SOON, providers(&router)).await.unwrap().unwrap_err().class, FailureClass::Source);
}

#[tokio::test]
async fn a_record_is_taken_as_a_record_only() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let answer = move |request: Request| {
        kept.lock().push((request.uri().to_string(), request.headers()["accept"].clone()));
        std::future::ready(typed(RECORD_MEDIA_TYPE, "a record"))
    };
    let server = Server::start(App::new().fallback(any(answer))).await;
    let router = DelegatedRouter::new(http(), server.base(), BRISK).unwrap();
    assert_eq!(router.ipns_record(&name()).await.unwrap(), "a record");
    let (uri, accept) = asked.lock().pop().unwrap();
    assert_eq!(uri, format!("/routing/v1/ipns/{}", Name::from_cid(&name()).unwrap()));
    assert_eq!(accept, RECORD_MEDIA_TYPE);
    assert_eq!(router.ipns_record(&cid_of(b"x")).await.unwrap_err().class, FailureClass::Neutral, "no name");

    let answers: [(fn() -> Response, FailureClass); 5] = [
        (|| StatusCode::NOT_FOUND.into_response(), FailureClass::Neutral),
        (|| typed("text/plain; charset=utf-8", "delegate error"), FailureClass::Neutral),
        (|| typed("text/html", "<html>"), FailureClass::Source),
        (|| StatusCode::INTERNAL_SERVER_ERROR.into_response(), FailureClass::Source),
        (|| typed(RECORD_MEDIA_TYPE, vec![0; MAX_RECORD_BYTES + 1]), FailureClass::Source),
    ];
    for (answer, class) in answers {
        let (_server, router) = serving(answer).await;
        assert_eq!(router.ipns_record(&name()).await.unwrap_err().class, class);
    }
}
