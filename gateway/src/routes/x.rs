//! `/x/{object}/…`: what has names on several networks. The object is the CID of a signed manifest, or the infohash of
//! a torrent that was published here.
//!
//! A manifest is fetched and checked, what it binds is noted, and the client is sent on to the torrent's own URL, where
//! every byte is checked by the torrent's hashes, whichever network it comes from. So what a manifest says can make a
//! file slow, and never wrong. `?format=json` at the root gives what the manifest says.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;
use swarmgate_content::{Cid, ContentId, InfoHash};
use swarmgate_hybrid::manifest::{Manifest, ManifestFile, SignedManifest};
use swarmgate_ipfs::SessionOptions;
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::content_path::Root;
use url::form_urlencoded;

use crate::error::{Problem, ProblemKind};
use crate::links;
use crate::publish::Jobs;
use crate::server::Peer;
use crate::state::GatewayState;

/// Answers a GET or HEAD.
///
/// # Errors
/// 400 for an id that is none, 404 for a torrent that was not published here, 422 for a block that is no manifest; else
/// whatever fetching the manifest meets.
pub async fn get(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let uri = request.uri();
    let rest = uri.path().strip_prefix("/x/").unwrap_or_default();
    let (object, path) = rest.split_once('/').unwrap_or((rest, ""));
    let off = || Problem::new(ProblemKind::Unsupported, "objects need BitTorrent and IPFS, and one is switched off");
    let jobs = state.publishing.as_ref().ok_or_else(off)?;
    let client = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
    let _slot = state.admission.admit(client)?;
    if let Ok(id) = ContentId::parse_torrent(object) {
        let infohash = published(jobs, id).await?;
        return Ok(onward(&state, infohash, path, uri.query(), &[]));
    }
    let bad = |_| Problem::new(ProblemKind::BadId, "an object is the CID of a manifest, or an infohash");
    let cid: Cid = object.parse().map_err(bad)?;
    let signed = manifest(&state, &cid).await?;
    let noted = jobs.publisher().book().add_all(signed.bindings().collect()).await;
    if let Err(error) = noted {
        tracing::warn!(%cid, %error, "what a manifest says is not kept");
    }
    if path.is_empty() && wants_json(uri.query()) {
        return Ok(shown(&signed));
    }
    let Manifest { infohash, trackers, .. } = &signed.manifest;
    Ok(onward(&state, *infohash, path, uri.query(), trackers))
}

async fn published(jobs: &Jobs, id: ContentId) -> Result<InfoHash, Problem> {
    let none = || Problem::new(ProblemKind::NoSuchItem, "no such torrent was published here").item(id);
    let record = jobs.publisher().published(&id).await;
    let record = record.map_err(|error| Problem::internal(format!("what was published cannot be read: {error}")))?;
    record.ok_or_else(none)
}

async fn manifest(state: &GatewayState, cid: &Cid) -> Result<SignedManifest, Problem> {
    let id = ContentId::Ipfs(*cid);
    let none = |why: String| Problem::new(ProblemKind::NotAManifest, why).item(id);
    if cid.codec() != Codec::DagCbor.code() {
        return Err(none("a manifest is a block of DAG-CBOR".to_owned()));
    }
    let off = || Problem::new(ProblemKind::Unsupported, "IPFS is switched off").item(id);
    let ipfs = state.ipfs.as_ref().ok_or_else(off)?;
    state.denylists.admitted().check_root(&Root::Ipfs(*cid), ipfs.pins().store())?;
    state.denylists.check_cid(cid)?;
    let block = ipfs.session(SessionOptions::default()).block(cid).await?;
    SignedManifest::read(block.as_ref()).map_err(|error| none(error.to_string()))
}

/// Sends the client to the torrent's own URL.
fn onward(state: &GatewayState, infohash: InfoHash, path: &str, query: Option<&str>, trackers: &[String]) -> Response {
    let location = format!("{}{path}", links::listing(&state.options, &ContentId::BtV1(infohash)));
    let mut pairs = form_urlencoded::Serializer::new(query.unwrap_or_default().to_owned());
    for tracker in trackers {
        pairs.append_pair("tr", tracker);
    }
    links::redirect(StatusCode::TEMPORARY_REDIRECT, &links::with_query(location, Some(&pairs.finish())))
}

fn wants_json(query: Option<&str>) -> bool {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.any(|(key, value)| key == "format" && value == "json")
}

fn shown(signed: &SignedManifest) -> Response {
    let Manifest { name, infohash, root, trackers, files } = &signed.manifest;
    let file = |file: &ManifestFile| {
        let ManifestFile { file, path, len, cid, mirrors } = file;
        json!({ "number": file, "path": path, "len": len, "cid": cid.to_string(), "mirrors": mirrors })
    };
    let said = json!({
        "name": name,
        "infohash": infohash,
        "cid": root.to_string(),
        "key": data_encoding::HEXLOWER.encode(&signed.key),
        "trackers": trackers,
        "files": files.iter().map(file).collect::<Vec<_>>(),
    });
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=29030400, immutable")];
    (StatusCode::OK, headers, format!("{said:#}\n")).into_response()
}
