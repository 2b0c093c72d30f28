//! `/api/v1/events`: what happens, as server-sent events.
//!
//! A stream starts with a `snapshot` of the state. A client who comes back with `Last-Event-ID` gets what it missed
//! instead, or, when that is no longer remembered, a `resync` and the snapshot. A client who reads too slowly is told
//! `resync` too and goes on from the present. A comment every 15 s keeps proxies from closing a quiet stream.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use http::{HeaderName, HeaderValue, Uri};
use serde_json::json;
use swarmgate_content::{ContentId, EventReceiver, EventRecvError};
use url::form_urlencoded;

use crate::admission::Slot;
use crate::api::history::{Missed, Told};
use crate::error::Problem;
use crate::server::Peer;
use crate::state::GatewayState;

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Most contents or types that one filter may name.
const MAX_FILTER: usize = 256;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Which events a client wants; an empty set means all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    items: BTreeSet<ContentId>,
    types: BTreeSet<String>,
}

/// One client's stream.
struct Feed {
    state: GatewayState,
    filter: Filter,
    live: EventReceiver,
    /// To be sent before anything live.
    first: VecDeque<Sse>,
    /// Numbers that were sent, or are part of the snapshot, and may come once more through `live`.
    known: BTreeSet<u64>,
    _slot: Slot,
}

/// Opens an event stream.
///
/// # Errors
/// 400 for a filter that cannot be read, 429 or 503 when no slot is free.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "gateway",
    params(
        ("items" = Option<String>, Query, description = "Infohashes between commas: events of these alone"),
        ("types" = Option<String>, Query, description = "Types between commas, these alone: item.added, item.metadata, item.progress, item.removed, stream.open, stream.stall, stream.close, prefetch.ready, peer.banned, cache.evicted, source.up, source.down, breaker, network, config.reloaded"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last one that was seen: those after it come first"),
    ),
    responses(
        (status = OK, description = "Events as they happen, each with its number; a comment every 15 s", content_type = "text/event-stream", body = String),
        (status = BAD_REQUEST, description = "The filter cannot be read"),
        (status = TOO_MANY_REQUESTS, description = "The client has too many streams open"),
        (status = SERVICE_UNAVAILABLE, description = "The limit on streams is reached"),
    ),
)]
pub async fn stream(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let feed = std::future::ready(Feed::open(state, &request)).await?;
    let closing = feed.state.closing.clone();
    let sse = axum::response::Sse::new(until(feed.into_stream(), closing));
    let mut response = sse.keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // nginx would otherwise hold events back until its buffer is full.
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

impl Feed {
    fn open(state: GatewayState, request: &Request) -> Result<Self, Problem> {
        let filter = Filter::parse(request.uri())?;
        let client = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        let slot = state.admission.admit(client)?;
        let moment = state.history.subscribe();
        let last = request.headers().get(LAST_EVENT_ID).map(|last| last.to_str().ok().and_then(|it| it.parse().ok()));
        let missed = last.map(|last| last.map_or(Missed::TooMuch, |last| moment.missed_since(last)));
        let first = match missed {
            Some(Missed::Events(events)) => events.iter().filter(|told| filter.wants(told)).map(print).collect(),
            Some(Missed::TooMuch) => {
                [resync("the events asked for are no longer remembered"), snapshot(&state, moment.newest)].into()
            }
            None => [snapshot(&state, moment.newest)].into(),
        };
        let known = moment.recent.iter().map(|told| told.id).collect();
        Ok(Self { state, filter, live: moment.live, first, known, _slot: slot })
    }

    fn into_stream(self) -> impl Stream<Item = Result<Sse, Infallible>> {
        stream::unfold(self, |mut feed| async move { feed.next().await.map(|event| (Ok(event), feed)) })
    }

    async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(event) = self.first.pop_front() {
                return Some(event);
            }
            match self.live.recv().await {
                Ok(event) => {
                    let told = self.state.history.tell(&event);
                    if !self.known.remove(&told.id) && self.filter.wants(&told) {
                        return Some(print(&told));
                    }
                }
                Err(EventRecvError::Lagged(lost)) => {
                    self.first.push_back(snapshot(&self.state, self.state.history.subscribe().newest));
                    return Some(resync(&format!("{lost} events were lost because they were not read in time")));
                }
                Err(EventRecvError::Closed) => return None,
            }
        }
    }
}

/// Ends a stream when the gateway begins to stop, so that it does not hold up the shutdown.
fn until<S: Stream>(stream: S, closing: tokio_util::sync::CancellationToken) -> impl Stream<Item = S::Item> {
    use futures_util::StreamExt as _;
    stream.take_until(async move { closing.cancelled().await })
}

impl Filter {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut filter = Self::default();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let words = value.split(',').filter(|word| !word.is_empty()).take(MAX_FILTER);
            match &*name {
                "items" => filter.items = words.map(ContentId::parse_torrent).collect::<Result<_, _>>()?,
                "types" => filter.types = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        Ok(filter)
    }

    /// Events about no content in particular pass every filter by content.
    fn wants(&self, told: &Told) -> bool {
        let of_item = self.items.is_empty() || told.item.is_none_or(|item| self.items.contains(&item));
        of_item && (self.types.is_empty() || self.types.contains(told.name))
    }
}

fn print(told: &Told) -> Sse {
    Sse::default().id(told.id.to_string()).event(told.name).data(&told.json)
}

fn snapshot(state: &GatewayState, newest: u64) -> Sse {
    let document =
        json!({ "type": "snapshot", "items": state.catalogue.items(), "status": super::status::document(state) });
    Sse::default().id(newest.to_string()).event("snapshot").data(document.to_string())
}

fn resync(reason: &str) -> Sse {
    Sse::default().event("resync").data(json!({ "type": "resync", "reason": reason }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProblemKind;
    use swarmgate_content::InfoHash;

    fn told(byte: Option<u8>, name: &'static str) -> Told {
        let item = byte.map(|byte| ContentId::BtV1(InfoHash::new([byte; 20])));
        Told { id: 1, name, item, json: String::new() }
    }

    fn filter(query: &str) -> Filter {
        Filter::parse(&format!("/?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn filters_narrow_by_content_and_by_type() {
        let one = filter(&format!("items={}", "01".repeat(20)));
        assert!(one.wants(&told(Some(1), "item.added")) && !one.wants(&told(Some(2), "item.added")));
        assert!(one.wants(&told(None, "network")));
        let some = filter("types=network,item.added");
        assert!(some.wants(&told(Some(2), "item.added")) && !some.wants(&told(Some(2), "stream.open")));
        assert!(filter("").wants(&told(Some(9), "stream.open")));
    }

    #[test]
    fn a_filter_that_names_no_content_is_refused() {
        let error = Filter::parse(&"/?items=xyz".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ProblemKind::BadId);
    }
}
