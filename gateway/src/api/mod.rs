//! `/api/v1`: the control API, JSON, for the operator's own tools. No script of another origin may read it.
//!
//! A handler stands below what the description says of it, and both are given to the router by one name, so there is no
//! route without a description. What other crates say as JSON is described in [`shapes`].

pub mod actions;
pub mod bans;
pub mod breakers;
pub mod btpk;
pub mod cache;
pub mod capabilities;
mod choices;
pub mod config;
pub mod dags;
pub mod denylists;
pub mod description;
pub mod details;
pub mod diagnose;
mod docs;
pub mod events;
pub mod history;
mod idempotency;
pub mod item_list;
pub mod items;
pub mod links;
pub mod networks;
pub mod peers;
pub mod pieces;
pub mod pin;
pub mod pins;
pub mod prefetch;
pub mod publish;
pub mod qr;
pub mod shapes;
pub mod status;
pub mod streams;
mod waiting;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Problem;
use crate::guard;
use crate::state::GatewayState;

/// The routes.
pub fn routes(state: &GatewayState) -> Router<GatewayState> {
    let (routes, mut description) = described().split_for_parts();
    description::complete(&mut description, &state.options.base_path);
    routes
        .route_layer(from_fn_with_state(Arc::default(), idempotency::layer))
        .merge(docs::routes(&description))
        .route_layer(from_fn_with_state(state.clone(), guard::api))
}

/// What the API takes and answers, as OpenAPI 3.1.
#[must_use]
pub fn describe(base_path: &str) -> OpenApi {
    let mut description = described().into_openapi();
    description::complete(&mut description, base_path);
    description
}

fn described() -> OpenApiRouter<GatewayState> {
    OpenApiRouter::with_openapi(description::head())
        .routes(routes!(status::version))
        .routes(routes!(status::status))
        .routes(routes!(capabilities::show))
        .routes(routes!(item_list::list, items::add))
        .routes(routes!(items::one, items::remove, items::change))
        .routes(routes!(peers::list, actions::add_peers))
        .routes(routes!(pieces::one))
        .routes(routes!(details::files))
        .routes(routes!(details::trackers, actions::add_trackers))
        .routes(routes!(actions::announce))
        .routes(routes!(prefetch::begin))
        .routes(routes!(actions::pause))
        .routes(routes!(actions::resume))
        .routes(routes!(details::sources))
        .routes(routes!(items::recheck))
        .routes(routes!(pin::show, pin::pin, pin::unpin))
        .routes(routes!(dags::list))
        .routes(routes!(dags::one))
        .routes(routes!(pins::list, pins::add))
        .routes(routes!(pins::one, pins::replace, pins::remove))
        .routes(routes!(config::show, config::change))
        .routes(routes!(config::reload))
        .routes(routes!(publish::list, publish::begin))
        .routes(routes!(publish::one))
        .routes(routes!(links::make))
        .routes(routes!(qr::draw))
        .routes(routes!(btpk::publish))
        .routes(routes!(events::stream))
        .routes(routes!(streams::list))
        .routes(routes!(streams::end))
        .routes(routes!(cache::show, cache::purge))
        .routes(routes!(cache::collect))
        .routes(routes!(networks::list))
        .routes(routes!(networks::change))
        .routes(routes!(diagnose::run))
        .routes(routes!(denylists::list, denylists::replace))
        .routes(routes!(denylists::check))
        .routes(routes!(bans::list))
        .routes(routes!(bans::lift))
        .routes(routes!(breakers::list))
        .routes(routes!(breakers::reset))
}

/// A JSON answer.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            let rows = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
            (status, rows, text + "\n").into_response()
        }
        Err(error) => Problem::internal(format!("an answer cannot be printed: {error}")).into_response(),
    }
}
