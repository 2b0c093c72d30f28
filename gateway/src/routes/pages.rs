//! The pages for people: the start page, which the application takes over where scripts run, and where its form leads.

use axum::Router;
use axum::extract::{OriginalUri, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{StatusCode, Uri};
use maud::Markup;
use swarmgate_content::ContentId;
use swarmgate_ipfs_proto::content_path::ContentPath;
use url::form_urlencoded;

use crate::auth::{self, Access, Scope};
use crate::error::{Problem, ProblemKind};
use crate::guard;
use crate::pages::Facts;
use crate::routes::ui;
use crate::state::GatewayState;
use crate::{links, pages};

/// The routes.
pub fn routes(state: &GatewayState) -> Router<GatewayState> {
    Router::new()
        .route("/", get(home))
        .route("/open", get(open))
        .route("/ui/watch", get(watch))
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
        let items = if access.allows(Scope::Read) { state.catalogue.items() } else { Vec::new() };
        let policy = pages::application_policy(&state.options.subdomain_hosts);
        answer(&policy, pages::home(&items, facts(&state, access)))
    };
    std::future::ready(home()).await
}

/// Where a browser watches as a peer; 404 where the operator has installed nothing for that.
async fn watch(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let page = if state.options.webtorrent.is_some() {
        Ok(answer(pages::WATCH_POLICY, pages::watch(facts(&state, Access::of(request.extensions())))))
    } else {
        Err(ui::none_installed())
    };
    std::future::ready(page).await
}

/// What the application is told before it asks.
fn facts(state: &GatewayState, access: Access) -> Facts {
    Facts {
        may_see: access.allows(Scope::Read),
        signs_links: !auth::content_is_open(&state.options),
        peers: state.options.webtorrent.is_some() && state.tracker.is_some(),
    }
}

fn answer(policy: &str, page: Markup) -> Response {
    let rows = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    (rows, page.into_string()).into_response()
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
