//! `/btpk/{key}[/{salt}]/…`: a torrent that is named by a key, whose owner says in the DHT which one it is (BEP 46).
//!
//! The client is sent on to the torrent's own URL, which names the same bytes for ever; how long the way there may be
//! remembered is the answer's `max-age`. The second part of the path is a salt when the key has an item with it, and
//! else the beginning of a path in the torrent of the key's item without.

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use swarmgate_bittorrent::dht::LookupError;
use swarmgate_bittorrent_proto::dht::PublicKey;
use swarmgate_bittorrent_proto::dht::item::MAX_SALT_BYTES;
use swarmgate_content::{ContentId, InfoHash};

use crate::auth;
use crate::error::{Problem, ProblemKind};
use crate::links;
use crate::pointers::{Pointer, Pointers};
use crate::server::Peer;
use crate::state::GatewayState;

/// Answers a GET or HEAD.
///
/// # Errors
/// 400 for a key that is none, 501 without the DHT, 502 when nobody knows an item of the key that names a torrent.
pub async fn get(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/btpk/").unwrap_or_default();
    let (key, rest) = path.split_once('/').unwrap_or((path, ""));
    let bad = |_| Problem::new(ProblemKind::BadId, "a public key has 64 hex digits");
    let key: PublicKey = key.parse().map_err(bad)?;
    let pointers = pointers(&state)?;
    let _slot = state.admission.admit(client(&parts))?;
    let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
    let salt: Vec<u8> = percent_decode_str(first).collect();
    let (salted, plain) = tokio::join!(
        async {
            let may_be = !salt.is_empty() && salt.len() <= MAX_SALT_BYTES;
            if may_be { pointers.resolve(&key, &salt).await } else { Ok(None) }
        },
        pointers.resolve(&key, &[])
    );
    let (salted, plain) = (salted.map_err(unasked)?, plain.map_err(unasked)?);
    let (pointer, path) = match (salted, plain) {
        (Some(salted), _) => (salted, below),
        (None, Some(plain)) => (plain, rest),
        (None, None) => return Err(nowhere(&key)),
    };
    Ok(onward(&state, &pointer, path, parts.uri.query()))
}

/// Finds out which torrent a key names now.
///
/// # Errors
/// As [`get`].
pub async fn follow(state: &GatewayState, parts: &Parts, key: &PublicKey, salt: &[u8]) -> Result<InfoHash, Problem> {
    let _slot = state.admission.admit(client(parts))?;
    let pointer = pointers(state)?.resolve(key, salt).await.map_err(unasked)?;
    pointer.map(|pointer| pointer.infohash).ok_or_else(|| nowhere(key))
}

/// What resolves keys.
///
/// # Errors
/// 501 when the DHT is switched off.
pub fn pointers(state: &GatewayState) -> Result<&Pointers, Problem> {
    let off = || Problem::new(ProblemKind::Unsupported, "torrents named by keys need the DHT, and it is switched off");
    state.pointers.as_ref().ok_or_else(off)
}

/// Why the DHT was not asked.
#[must_use]
pub fn unasked(error: LookupError) -> Problem {
    let kind = match error {
        LookupError::Stopped => ProblemKind::ShuttingDown,
        LookupError::Busy => ProblemKind::Busy,
        LookupError::Item(_) => ProblemKind::BadBody,
    };
    Problem::new(kind, error.to_string())
}

fn nowhere(key: &PublicKey) -> Problem {
    Problem::new(ProblemKind::NameUnresolved, format!("nobody in the DHT has an item of {key} that names a torrent"))
}

fn client(parts: &Parts) -> Option<std::net::IpAddr> {
    parts.extensions.get::<Peer>().map(|peer| peer.address.ip())
}

/// Sends the client to the torrent's own URL.
fn onward(state: &GatewayState, pointer: &Pointer, path: &str, query: Option<&str>) -> Response {
    let location = format!("{}{path}", links::listing(&state.options, &ContentId::BtV1(pointer.infohash)));
    let mut response = links::redirect(StatusCode::TEMPORARY_REDIRECT, &links::with_query(location, query));
    let whose = if auth::content_is_open(&state.options) { "public" } else { "private" };
    let rows = [
        (CACHE_CONTROL, format!("{whose}, max-age={}", pointer.fresh.as_secs())),
        (http::HeaderName::from_static("x-bt-infohash"), pointer.infohash.to_string()),
    ];
    for (name, value) in rows {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
