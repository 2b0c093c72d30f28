//! The pages for people: the start page, which the application takes over where scripts run, and where its form leads.

use axum::Router;
use axum::extract::{OriginalUri, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{StatusCode, Uri};
use swarmgate_content::ContentId;
use swarmgate_ipfs_proto::content_path::ContentPath;
use url::form_urlencoded;

use crate::auth::{Access, Scope};
use crate::error::{Problem, ProblemKind};
use crate::guard;
use crate::routes::ui;
use crate::state::GatewayState;
use crate::{links, pages};

/// The routes.
pub fn routes(state: &GatewayState) -> Router<GatewayState> {
    Router::new()
        .route("/", get(home))
        .route("/open", get(open))
        .merge(ui::routes())
        .route_layer(from_fn_with_state(state.clone(), guard::page))
}

/// The start page at the base path with its slash, which nesting the other routes leaves out.
pub fn home_at(base: &str, state: &GatewayState) -> Router<GatewayState> {
    Router::new().route(&format!("{base}/"), get(home)).route_layer(from_fn_with_state(state.clone(), guard::page))
}

/// The start page. Below a base path its URL must end in a slash for its links to work.
pub async fn home(State(state): State<GatewayState>, OriginalUri(uri): OriginalUri, request: Request) -> Response {
    let access = Access::of(request.extensions());
    let home = || {
        if !uri.path().ends_with('/') {
            return links::redirect(StatusCode::MOVED_PERMANENTLY, &format!("{}/", state.options.base_path));
        }
        // What there is, is the API's to tell.
        let may_see = access.allows(Scope::Read);
        let items = if may_see { state.catalogue.items() } else { Vec::new() };
        let policy = pages::application_policy(&state.options.subdomain_hosts);
        let rows = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, policy.as_str()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-store"),
        ];
        (rows, pages::home(&items, may_see).into_string()).into_response()
    };
    std::future::ready(home()).await
}

async fn open(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    std::future::ready(destination(&state, request.uri())).await.map(|to| links::redirect(StatusCode::SEE_OTHER, &to))
}

/// Where a link leads that somebody pasted: a magnet, an infohash, a CID, or the URL of a `.torrent`.
fn destination(state: &GatewayState, uri: &Uri) -> Result<String, Problem> {
    let mut parameters = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let pasted =
        parameters.find(|(name, _)| name == "uri").map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    let base = &state.options.base_path;
    let scheme = pasted.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("magnet") => {
            let query = pasted.split_once('?').map_or("", |(_, query)| query);
            let well_formed: Uri = format!("{base}/magnet?{query}").parse().map_err(|_| bad_magnet())?;
            Ok(well_formed.to_string())
        }
        Some("http" | "https") => Ok(format!("{base}/torrent?url={}", links::encode(&pasted))),
        Some(_) | None => match (ContentId::parse_torrent(&pasted), ipfs_path(&pasted)) {
            (Ok(id), _) => Ok(links::listing(&state.options, &id)),
            (Err(_), Some(path)) => Ok(format!("{base}{path}")),
            (Err(error), None) => Err(error.into()),
        },
    }
}

/// A path of IPFS, spelt as a path, a URI, or a CID with what is below it.
fn ipfs_path(pasted: &str) -> Option<ContentPath> {
    let path = pasted.parse().ok();
    path.or_else(|| ContentPath::from_uri(&format!("ipfs://{pasted}")).ok())
}

fn bad_magnet() -> Problem {
    Problem::new(ProblemKind::BadMagnet, "it has characters that no URL may have")
}
