//! Naming a torrent by a key (BEP 46): `PUT /btpk` puts a version of a key's item into the DHT and keeps it there.
//!
//! Whoever has the key signs elsewhere and sends the signature, or sends the key's secret and has the gateway sign;
//! the secret is not kept.

use axum::extract::{Request, State};
use axum::response::Response;
use data_encoding::HEXLOWER_PERMISSIVE;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use swarmgate_bittorrent_proto::dht::{MutableItem, PublicKey};
use swarmgate_content::InfoHash;
use utoipa::ToSchema;

use super::items;
use super::shapes::PutAnswer;
use crate::error::{Problem, ProblemKind};
use crate::pointers::Pointers;
use crate::routes::btpk::{pointers, unasked};
use crate::state::GatewayState;

/// What `PUT /btpk` takes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutRequest {
    /// The torrent that the key names.
    #[schema(value_type = String)]
    infohash: InfoHash,
    /// Text; at most 64 bytes.
    #[serde(default)]
    salt: String,
    /// The seed of an Ed25519 key, 64 hex digits.
    secret: Option<String>,
    /// The public key, 64 hex digits.
    key: Option<String>,
    /// The signature of the item, 128 hex digits.
    signature: Option<String>,
    /// The version. With a secret it may be left out: the one after the latest.
    seq: Option<i64>,
    /// The version to be replaced, and no other.
    cas: Option<i64>,
}

/// Names a torrent by a key, in the DHT, and keeps the name there.
///
/// # Errors
/// 400 for what cannot be read or is not signed, 501 without the DHT. A later version in the way is told, and no error.
#[utoipa::path(
    put,
    path = "/api/v1/btpk",
    tag = "publishing",
    request_body = PutRequest,
    responses(
        (status = OK, description = "Where it is kept, or which later version there is", body = PutAnswer),
        (status = BAD_REQUEST, description = "It cannot be read, or is not signed"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
        (status = NOT_IMPLEMENTED, description = "There is no DHT"),
        (status = SERVICE_UNAVAILABLE, description = "Too much is asked of the DHT now"),
    ),
)]
pub async fn publish(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let pointers = pointers(&state)?;
    let body = items::read(request.into_body(), items::MAX_TEXT_BYTES).await?;
    let wanted: PutRequest = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let item = item(pointers, &wanted).await?;
    let (key, seq) = (*item.key(), item.seq());
    let stored = pointers.publish(item, wanted.cas).await.map_err(unasked)?;
    let salt = if wanted.salt.is_empty() { String::new() } else { format!("{}/", crate::links::encode(&wanted.salt)) };
    let said = json!({
        "key": key.to_string(),
        "salt": wanted.salt,
        "seq": seq,
        "infohash": wanted.infohash,
        "nodes": stored.nodes,
        "newer": stored.newer,
        "path": format!("{}/btpk/{key}/{salt}", state.options.base_path),
    });
    Ok(super::json(StatusCode::OK, &said))
}

/// The item that is asked for, signed.
async fn item(pointers: &Pointers, wanted: &PutRequest) -> Result<MutableItem, Problem> {
    let (salt, value) = (wanted.salt.as_bytes(), MutableItem::pointer(&wanted.infohash));
    if let Some(secret) = &wanted.secret {
        let seed: [u8; 32] = bytes(secret).ok_or_else(|| bad("a secret has 64 hex digits"))?;
        let unversioned = MutableItem::sign(&seed, salt, 0, value.clone()).map_err(|error| bad(error.to_string()))?;
        let seq = match wanted.seq {
            Some(seq) => seq,
            None => {
                let latest = pointers.resolve(unversioned.key(), salt).await.map_err(unasked)?;
                latest.map_or(0, |latest| latest.seq.saturating_add(1))
            }
        };
        return MutableItem::sign(&seed, salt, seq, value).map_err(|error| bad(error.to_string()));
    }
    let lacks = || bad("without a secret there are a key, a signature and a seq");
    let key: PublicKey = wanted.key.as_ref().and_then(|key| key.parse().ok()).ok_or_else(lacks)?;
    let signature = wanted.signature.as_ref().and_then(|signature| bytes(signature)).ok_or_else(lacks)?;
    let seq = wanted.seq.ok_or_else(lacks)?;
    MutableItem::checked(key, salt, seq, value, signature).map_err(|error| bad(error.to_string()))
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?.try_into().ok()
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadBody, detail)
}
