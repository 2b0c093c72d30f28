//! The routes, by who uses them: content for players, pages for people, health for operators.

pub mod announce;
pub mod bt;
pub mod bt_path;
pub mod btpk;
pub mod ipfs;
pub mod magnet;
pub mod ops;
pub mod pages;
pub mod represent;
pub mod torrent_url;
pub mod ui;
pub mod x;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::error::{Problem, ProblemKind, method_not_allowed as wrong_method};
use crate::guard;
use crate::state::GatewayState;

/// What is named by its bytes, readable from any origin.
pub fn content(state: &GatewayState) -> Router<GatewayState> {
    let wrong = || async { wrong_method(guard::CONTENT_METHODS) };
    let ipfs = Router::new()
        .route("/ipfs/", get(ipfs::get).fallback(wrong))
        .route("/ipfs/{*rest}", get(ipfs::get).fallback(wrong))
        .route("/ipns/", get(ipfs::get).fallback(wrong))
        .route("/ipns/{*rest}", get(ipfs::get).fallback(wrong))
        .route_layer(from_fn_with_state(state.clone(), guard::ipfs));
    let torrents = Router::new()
        .route("/bt/{*rest}", get(bt::get).fallback(wrong))
        .route("/btpk/{*rest}", get(btpk::get).fallback(wrong))
        .route("/magnet", get(magnet::get).fallback(wrong))
        .route("/x/{*rest}", get(x::get).fallback(wrong))
        .route("/torrent", get(torrent_url::get).fallback(wrong))
        .route_layer(from_fn_with_state(state.clone(), guard::content));
    torrents.merge(ipfs)
}

/// What browsers show.
pub fn pages(state: &GatewayState) -> Router<GatewayState> {
    pages::routes(state)
}

/// The tracker that WebTorrent clients meet at.
pub fn tracker(state: &GatewayState) -> Router<GatewayState> {
    announce::routes(state)
}

/// What operators watch.
pub fn ops(state: &GatewayState) -> Router<GatewayState> {
    ops::routes(state)
}

/// The answer where no route is.
#[must_use]
pub fn no_route() -> Response {
    Problem::new(ProblemKind::NoRoute, "content is at /bt/{infohash}/ and /ipfs/{cid}, the API at /api/v1/")
        .into_response()
}

/// The answer where a route has other methods; the router adds which.
#[must_use]
pub fn method_not_allowed() -> Response {
    Problem::new(ProblemKind::MethodNotAllowed, "this path does not take that method").into_response()
}
