//! `/announce`: the tracker in this process. A WebSocket is a WebTorrent client, a plain GET a classic one (BEP 3).

use std::iter::once;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::SinkExt as _;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use swarmgate_webtorrent::hub::{HubSocket, ServerMessage};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::error::{Problem, ProblemKind};
use crate::guard;
use crate::server::Peer;
use crate::state::GatewayState;

/// Longest message of a client read, in bytes: 64 KiB.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Room for what is read of a client at once, in bytes: 8 KiB, an announce with five offers. Each socket has this much, and
/// it is cleared before each read, so the default of 128 KiB would cost more than all else that is done for a message.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// How long what waits for a client may take to be written. Then it does not read, and is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The tracker's route. Any site's page may open a WebSocket here, so its origin is looked at first.
pub fn routes(state: &GatewayState) -> Router<GatewayState> {
    Router::new()
        .route("/announce", get(announce))
        .route_layer(from_fn_with_state(state.clone(), check_origin))
        .route_layer(from_fn_with_state(state.clone(), guard::content))
}

/// Refuses pages of sites that the operator has not named. What is no browser sends no origin.
async fn check_origin(State(state): State<GatewayState>, request: Request, next: Next) -> Response {
    if origin_is_welcome(&state.options.tracker_origins, request.headers()) {
        return next.run(request).await;
    }
    let problem = Problem::new(ProblemKind::ForeignPage, "pages of that site may not use this tracker");
    problem.hint("add the site to webtorrent.tracker_origins").into_response()
}

fn origin_is_welcome(welcome: &[String], headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    welcome.iter().any(|site| site == "*" || origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(site)))
}

async fn announce(
    State(state): State<GatewayState>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    RawQuery(query): RawQuery,
    peer: Option<axum::Extension<Peer>>,
) -> Response {
    let Some(hub) = &state.tracker else {
        return Problem::new(ProblemKind::NoRoute, "this gateway is no tracker").into_response();
    };
    let client = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip().to_canonical());
    let Ok(upgrade) = upgrade else {
        let body = hub.announce_classic(client, query.as_deref().unwrap_or_default());
        return ([(CONTENT_TYPE, "text/plain"), (CACHE_CONTROL, "no-store")], body).into_response();
    };
    match hub.open(client) {
        Ok(socket) => {
            let (closing, token) = (hub.closing(), hub.task_token());
            let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
            upgrade.read_buffer_size(READ_BUFFER_BYTES).on_upgrade(async move |websocket| {
                let _running = token;
                let served = serve(websocket, socket);
                tokio::select! {
                    () = served => {}
                    () = closing.cancelled() => {}
                }
            })
        }
        Err(violation) => Problem::new(ProblemKind::TooManySockets, violation.to_string()).into_response(),
    }
}

/// Passes frames to the tracker and messages to the client, until one of them is done.
///
/// Before it is written to, others have a turn: what they make the tracker say to this client goes out with its reply. A
/// busy tracker so writes once where it would have written three times.
async fn serve(mut websocket: WebSocket, mut socket: HubSocket) {
    loop {
        let message = tokio::select! {
            biased;
            frame = websocket.recv() => {
                let taken = match &frame {
                    Some(Ok(Message::Text(text))) => socket.handle_frame(text.as_bytes()),
                    Some(Ok(Message::Binary(bytes))) => socket.handle_frame(bytes),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                if let Err(violation) = taken {
                    tracing::debug!(limit = violation.limit(), "a tracker's client is refused something");
                    if violation.closes() {
                        return let_go(websocket, &violation.to_string()).await;
                    }
                }
                // To look for another frame first would cost as much as to read one.
                let Some(message) = socket.waiting().next() else { continue };
                message
            }
            message = socket.next() => match message {
                Some(message) => message,
                None => return let_go(websocket, "silent or slow for too long").await,
            },
        };
        yield_now().await;
        let messages = once(message).chain(socket.waiting());
        if !matches!(timeout(WRITE_TIMEOUT, write(&mut websocket, messages)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn write(websocket: &mut WebSocket, messages: impl Iterator<Item = ServerMessage>) -> Result<(), axum::Error> {
    for message in messages {
        websocket.feed(Message::text(message.encode())).await?;
    }
    websocket.flush().await
}

async fn let_go(mut websocket: WebSocket, reason: &str) {
    // A reason has 123 bytes at most (RFC 6455 §5.5).
    let reason: String = reason.chars().take(60).collect();
    let frame = CloseFrame { code: close_code::POLICY, reason: reason.into() };
    // Whether it hears is its affair.
    let _ = timeout(WRITE_TIMEOUT, websocket.send(Message::Close(Some(frame)))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &str) -> HeaderMap {
        [(ORIGIN, origin.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_site_must_be_named_and_what_is_no_browser_need_not() {
        let named = ["https://a.example".to_owned()];
        assert!(origin_is_welcome(&named, &HeaderMap::new()));
        assert!(origin_is_welcome(&named, &from("https://A.example")));
        for other in ["https://b.example", "http://a.example", "null"] {
            assert!(!origin_is_welcome(&named, &from(other)), "{other}");
            assert!(origin_is_welcome(&["*".to_owned()], &from(other)), "{other}");
        }
    }
}
