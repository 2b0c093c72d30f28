//! `/denylists`: what the operator does not serve, and whether it denies something. Files are read at the start and at each
//! reload; one more list comes over this API and is kept.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs_proto::content_path::ContentPath;
use url::Url;
use utoipa::ToSchema;

use super::items::{MAX_TEXT_BYTES, read};
use crate::error::{Problem, ProblemKind};
use crate::links::below_base;
use crate::policy::{Denial, Denylists, ListStatus, ReplaceError};
use crate::state::GatewayState;

/// Longest list that is taken over the API, in bytes: 16 MiB, some 250,000 lines. Longer ones are files.
const MAX_LIST_BYTES: usize = 16 << 20;
/// Lines that are told when they cannot be read; of more the number.
const MOST_TOLD: usize = 10;

/// The lists.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Lists {
    /// In the order in which they are asked; one that denies something is enough.
    denylists: Vec<ListStatus>,
}

/// What `POST /denylists/check` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// A magnet, an infohash, a CID with a path, `/ipfs/…`, `/ipns/…`, `ipfs://…`, `/bt/…`, or a URL of this gateway.
    uri: String,
}

/// Whether something is denied.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    /// Whether it is.
    denied: bool,
    /// What who asks for it is answered, 410 or 451; null where it is served.
    status: Option<u16>,
    /// By what; null where it is served.
    by: Option<Denial>,
}

/// What may be denied: names of content, as routes know them.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// A path of IPFS.
    Path(ContentPath),
    /// A torrent, or a file of it.
    Content(ContentId, String),
}

/// Lists the denylists: their files, how many rules each has, and what of them could not be read.
#[utoipa::path(
    get,
    path = "/api/v1/denylists",
    tag = "policy",
    responses(
        (status = OK, description = "The lists", body = Lists),
    ),
)]
pub async fn list(State(state): State<GatewayState>) -> Response {
    std::future::ready(shown(&state)).await
}

fn shown(state: &GatewayState) -> Response {
    super::json(StatusCode::OK, &Lists { denylists: state.denylists.list() })
}

/// Replaces the list that is sent over the API, named `api`; an empty body removes it.
/// It holds beside those of files, for all that is asked from then on and after a restart. What is being sent goes on.
///
/// # Errors
/// 422 when a line cannot be read, 503 when the list cannot be written; then nothing is changed. 413 for more than 16 MiB,
/// 400 for a body that ends early.
#[utoipa::path(
    put,
    path = "/api/v1/denylists",
    tag = "policy",
    request_body(content = Option<String>, description = "A list in the compact denylist format, at most 16 MiB; an empty one removes what is there", content_type = "text/plain"),
    responses(
        (status = OK, description = "The lists that hold now", body = Lists),
        (status = BAD_REQUEST, description = "The body ends early"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 16 MiB"),
        (status = UNPROCESSABLE_ENTITY, description = "Lines cannot be read, of which the first are named with their numbers; nothing is changed"),
        (status = SERVICE_UNAVAILABLE, description = "The list cannot be written; nothing is changed"),
    ),
)]
pub async fn replace(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let text = read(request.into_body(), MAX_LIST_BYTES).await?;
    let lists = state.denylists.clone();
    let replaced = tokio::task::spawn_blocking(move || lists.replace(&text)).await;
    let replaced = replaced.map_err(|error| Problem::internal(format!("the denylist was not read: {error}")))?;
    replaced.map_err(|error| refusal(&error))?;
    Ok(shown(&state))
}

fn refusal(error: &ReplaceError) -> Problem {
    match error {
        ReplaceError::Lines { first, in_all } => {
            let detail = format!("lines that cannot be read: {in_all}; nothing is changed");
            let problem = Problem::new(ProblemKind::BadDenylist, detail);
            first.iter().take(MOST_TOLD).fold(problem, |problem, line| problem.hint(line.to_string()))
        }
        ReplaceError::Keep { .. } => {
            tracing::error!(%error, "the denylist of the API cannot be kept");
            Problem::new(ProblemKind::CacheFailed, "the list cannot be written, the log says why; nothing is changed")
        }
    }
}

/// Says whether something is denied, and by which line of which list. Names of IPNS are not followed.
///
/// # Errors
/// 400 for what names no content, 413 for a body that is too large.
#[utoipa::path(
    post,
    path = "/api/v1/denylists/check",
    tag = "policy",
    request_body = Question,
    responses(
        (status = OK, description = "Whether it is denied", body = Answer),
        (status = BAD_REQUEST, description = "That names no content"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
    ),
)]
pub async fn check(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let body = read(request.into_body(), MAX_TEXT_BYTES).await?;
    let bad = |detail: String| Problem::new(ProblemKind::BadBody, detail);
    let question: Question =
        serde_json::from_slice(&body).map_err(|error| bad(format!("send {{\"uri\": …}}: {error}")))?;
    let asked = asked(question.uri.trim(), &state.options.base_path).map_err(bad)?;
    let by = asked.iter().find_map(|asked| denial(&state.denylists, asked));
    let status = by.is_some().then(|| state.denylists.problem().status().as_u16());
    Ok(super::json(StatusCode::OK, &Answer { denied: by.is_some(), status, by }))
}

fn denial(lists: &Denylists, asked: &Asked) -> Option<Denial> {
    match asked {
        // Who may not have the root may not have what is below it.
        Asked::Path(path) => {
            lists.denial_of_path(&ContentPath::new(path.root.clone())).or_else(|| lists.denial_of_path(path))
        }
        Asked::Content(id, path) => lists.denial_of_content(id, "").or_else(|| lists.denial_of_content(id, path)),
    }
}

/// All names that a text has for one content: a magnet may have two.
fn asked(uri: &str, base_path: &str) -> Result<Vec<Asked>, String> {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("magnet") => {
            let magnet = Magnet::parse(uri).map_err(|error| error.to_string())?;
            let ids = magnet.v1.map(ContentId::BtV1).into_iter().chain(magnet.v2.map(ContentId::BtV2));
            Ok(ids.map(|id| Asked::Content(id, String::new())).collect())
        }
        Some("ipfs" | "ipns") => {
            ContentPath::from_uri(uri).map(|path| vec![Asked::Path(path)]).map_err(|error| error.to_string())
        }
        Some("http" | "https") => {
            let url = Url::parse(uri).map_err(|error| error.to_string())?;
            one(below_base(url.path(), base_path))
        }
        Some(_) | None => one(uri),
    }
}

/// The content that a path of this gateway, an infohash or a CID names.
fn one(text: &str) -> Result<Vec<Asked>, String> {
    if let Some(rest) = text.strip_prefix("/bt/") {
        let (id, path) = rest.split_once('/').unwrap_or((rest, ""));
        let id = ContentId::parse_torrent(id).map_err(|error| error.to_string())?;
        let path = percent_decode_str(path).decode_utf8().map_err(|_| "the path is not UTF-8".to_owned())?;
        return Ok(vec![Asked::Content(id, path.into_owned())]);
    }
    if let Ok(id) = ContentId::parse_torrent(text) {
        return Ok(vec![Asked::Content(id, String::new())]);
    }
    let begins_with_a_cid = text.split('/').next().is_some_and(|begin| begin.parse::<Cid>().is_ok());
    let path = if begins_with_a_cid {
        ContentPath::from_url_path(&format!("/ipfs/{text}"))
    } else {
        ContentPath::from_url_path(text)
    };
    let no_content = |error| format!("neither a magnet, nor an infohash, nor a CID; as a path: {error}");
    path.map(|path| vec![Asked::Path(path)]).map_err(no_content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkqabtimvwgy3yk";

    #[test]
    fn each_spelling_of_a_content_names_it() {
        let v1 = "ab".repeat(20);
        let torrent = |path: &str| vec![Asked::Content(ContentId::parse_torrent(&v1).unwrap(), path.to_owned())];
        for uri in [v1.clone(), v1.to_uppercase(), format!("/bt/{v1}"), format!("magnet:?xt=urn:btih:{v1}&dn=x")] {
            assert_eq!(asked(&uri, "").unwrap(), torrent(""), "{uri}");
        }
        assert_eq!(asked(&format!("http://gate.lan/films/bt/{v1}/a%20b/c"), "/films").unwrap(), torrent("a b/c"));
        let path = |text: &str| vec![Asked::Path(ContentPath::from_url_path(text).unwrap())];
        for uri in [format!("{CID}/a%20b"), format!("/ipfs/{CID}/a%20b"), format!("ipfs://{CID}/a%20b")] {
            assert_eq!(asked(&uri, "").unwrap(), path(&format!("/ipfs/{CID}/a%20b")), "{uri}");
        }
        assert_eq!(asked("ipns://example.org", "").unwrap(), path("/ipns/example.org"));
    }

    #[test]
    fn a_magnet_with_two_names_asks_for_both() {
        let (v1, v2) = ("ab".repeat(20), "cd".repeat(32));
        let both = asked(&format!("magnet:?xt=urn:btih:{v1}&xt=urn:btmh:1220{v2}"), "").unwrap();
        let id = |text: &str| Asked::Content(ContentId::parse_torrent(text).unwrap(), String::new());
        assert_eq!(both, [id(&v1), id(&v2)]);
    }

    #[test]
    fn what_names_no_content_is_refused_with_what_would() {
        for wrong in ["", "film.mkv", "magnet:?dn=x", "/bt/xyz", "/ipfs/xyz", "http://", "https://example.org/"] {
            assert!(asked(wrong, "").is_err(), "{wrong}");
        }
        assert!(asked("film.mkv", "").unwrap_err().contains("/ipfs/"));
    }
}
