//! What was answered before: who asks for the same again is answered from memory, at once.
//!
//! An immutable address leads to the same bytes with the same headers for ever, so finding out what these are is done
//! once ([`KnownAnswers`]). What is left of a request is what differs from one to the next: whether it may be answered at
//! all, its conditions, its range. No path is followed then, no reading begins, nothing waits; and whatever is unusual
//! about a request leads to the long way, which alone knows how to refuse, to search and to explain.
//!
//! Denylists need no second look: nothing that they block is known, and when they change, all is to be found out again.
//! Where pinned blocks alone are served, nothing is known: a pin may go.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body;
use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, ETAG, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use parking_lot::Mutex;
use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs::session::SessionOptions;
use swarmgate_ipfs_proto::content_path::Root;

use crate::auth::keyring::AtOnce;
use crate::auth::{Access, Entry};
use crate::body::{Open, Pump, Segment};
use crate::conditional::{self, Condition};
use crate::exchange::Patience;
use crate::range::{self, Selection};
use crate::respond::{self, Plan, SERVER_TIMING};
use crate::routes::ipfs::accept::MediaRange;
use crate::routes::ipfs::address::Mount;
use crate::routes::ipfs::deliver::{self, Body};
use crate::routes::ipfs::host::{self, Role};
use crate::routes::ipfs::inquiry::{Inquiry, waits};
use crate::server::Peer;
use crate::state::GatewayState;
use crate::traces::Streamed;
use crate::{auth, guard, links, rates};

/// Answers that are kept; some 2 KiB of memory each, with the longest target 3 KiB.
const MAX_KNOWN: usize = 1024;
/// The longest target, with its query, that is kept, in bytes.
const MAX_TARGET_BYTES: usize = 1024;

/// What an answer was.
#[derive(Debug)]
pub struct Known {
    /// Its headers but those that differ from one request to the next.
    pub headers: HeaderMap,
    /// What was sent.
    pub cid: Cid,
    /// How many bytes it has.
    pub len: u64,
    /// As what.
    pub body: Body,
    /// Which denylists it was checked against, as [`Denylists::changes`](crate::policy::Denylists::changes) counts them.
    pub lists: u64,
}

/// Answers by the target of their request: the path with its query, as the client spelt it.
#[derive(Debug, Default)]
pub struct KnownAnswers(Mutex<Generations>);

/// Two of them: what is used is in the young one. When that is full it is the old one, and the old one is gone.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<String, Arc<Known>>,
    old: HashMap<String, Arc<Known>>,
}

impl Known {
    /// The answer to a request with the target that it is known by; `None` when another request with that target may
    /// need another answer.
    #[must_use]
    pub fn of(inquiry: &Inquiry, known: Self) -> Option<(String, Self)> {
        let (address, ask) = (&inquiry.address, &inquiry.ask);
        let asks_nobody = ask.wait.is_none() && ask.hints.is_empty() && ask.sources.is_none();
        let is_immutable = matches!((&address.mount, &address.path.root), (Mount::Path(_), Root::Ipfs(_)));
        let may_be_refused = inquiry.state.denylists.admitted().may_change();
        if may_be_refused || inquiry.head || !asks_nobody || !is_immutable || !is_plain(&inquiry.headers) {
            return None;
        }
        let target = match &address.query {
            Some(query) => format!("{}?{query}", address.url_path),
            None => address.url_path.clone(),
        };
        let Self { mut headers, cid, len, body, lists } = known;
        guard::let_scripts_read(&mut headers);
        (target.len() <= MAX_TARGET_BYTES).then_some((target, Self { headers, cid, len, body, lists }))
    }
}

impl KnownAnswers {
    /// Keeps an answer.
    pub fn put(&self, target: String, known: Known) {
        self.0.lock().put(target, Arc::new(known));
    }

    fn get(&self, target: &str) -> Option<Arc<Known>> {
        self.0.lock().get(target)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let kept = self.0.lock();
        kept.young.len() + kept.old.len()
    }
}

impl Generations {
    fn get(&mut self, target: &str) -> Option<Arc<Known>> {
        if let Some(known) = self.young.get(target) {
            return Some(Arc::clone(known));
        }
        let (target, known) = self.old.remove_entry(target)?;
        self.put(target, Arc::clone(&known));
        Some(known)
    }

    fn put(&mut self, target: String, known: Arc<Known>) {
        if self.young.len() >= MAX_KNOWN / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(target, known);
    }
}

/// Whether headers ask for nothing that an answer to the same target without them would not be: no other format, and no
/// limit to where the content may come from.
fn is_plain(headers: &HeaderMap) -> bool {
    if headers.contains_key(CACHE_CONTROL) || headers.contains_key("service-worker") {
        return false;
    }
    match headers.get(ACCEPT) {
        None => true,
        Some(anything) if anything == "*/*" => true,
        Some(_) => {
            MediaRange::all(headers).iter().all(|range| range.format().is_none() && range.essence != "text/html")
        }
    }
}

/// Answers a request whose answer is known, when its first bytes are in memory. `None` says nothing about it: it is to be
/// answered as any other.
#[must_use]
pub fn answer<B>(state: &GatewayState, peer: &Peer, request: &Request<B>, asked: Instant) -> Option<Response> {
    let headers = request.headers();
    let known = state.known.get(request.uri().path_and_query()?.as_str())?;
    let (client, uri) = (peer.address.ip(), request.uri());
    let is_local = client.to_canonical().is_loopback();
    let AtOnce::Known(access) = state.keys.at_once(headers, Some(client), asked) else { return None };
    let may_have = *request.method() == Method::GET
        && known.lists == state.denylists.changes()
        && is_plain(headers)
        && host::role(&state.options, uri, headers, is_local) == Role::Gateway
        && let_in(state, access, client, uri);
    if !may_have {
        return None;
    }
    let ranged = match conditional::evaluate(headers, known.headers.get(ETAG)?.to_str().ok()?) {
        Condition::Proceed => true,
        Condition::ProceedWhole => false,
        Condition::NotModified | Condition::Failed => return None,
    };
    let header = headers.get(RANGE).filter(|_| ranged).and_then(|range| range.to_str().ok());
    let selection = range::select(header, known.len);
    if !matches!(selection, Selection::Full | Selection::Partial(_)) {
        return None;
    }
    let mut rows = known.headers.clone();
    let plan = Plan::of(selection, known.len, &mut rows).ok()?;
    rows.insert(CONTENT_LENGTH, HeaderValue::from(plan.segments.iter().map(Segment::len).sum::<u64>()));
    if let Some(stranger) = rates::stranger(&state.options, access, client) {
        // Refusals are told on the long way.
        state.rates.request(stranger, asked).ok()?;
    }
    let slot = state.admission.admit(Some(client)).ok()?;
    let id = ContentId::Ipfs(known.cid);
    let pump = Pump::over(state, id, far(state, &known), plan.segments, slot, Some(peer.clone()));
    let pump = pump.with_near(deliver::near(state, known.cid, known.body)).prime_at_once(asked)?;
    let took = asked.elapsed();
    rows.insert(SERVER_TIMING, respond::timing(took, Some(took)));
    respond::tell_sources(&mut rows, &pump);
    Some(respond::stream(plan.status, rows, Streamed::of(pump.row()), body::Body::new(pump)))
}

/// Whether a client may read without a link: answers to links say a word more.
fn let_in(state: &GatewayState, access: Access, client: IpAddr, uri: &Uri) -> bool {
    let path = links::below_base(uri.path(), &state.options.base_path);
    let entry = auth::check_content(state, access, Some(client), path, uri.query());
    matches!(entry, Ok(Entry::Open | Entry::Credentials))
}

/// Reads what is not in memory when its turn comes, as a request of its own would.
fn far(state: &GatewayState, known: &Known) -> Open {
    let (state, cid, body) = (state.clone(), known.cid, known.body);
    Box::new(move |range| {
        let patience = Patience::of(&state.options, None, &HeaderMap::new(), Instant::now());
        let options = SessionOptions { patience: Some(waits(&state.options, patience)), ..SessionOptions::default() };
        let session = state.ipfs.as_ref().map(|ipfs| ipfs.session(options));
        Box::pin(async move {
            let session = session.ok_or_else(|| stopped(cid))?;
            match body {
                Body::File => Ok(session.file(cid, range)),
                Body::Block => {
                    let block = session.block(&cid).await?;
                    deliver::of_bytes(block)(range).await
                }
            }
        })
    })
}

fn stopped(cid: Cid) -> swarmgate_content::FetchError {
    use swarmgate_content::{FetchError, FetchErrorKind, Stage};
    FetchError::new(ContentId::Ipfs(cid), Stage::Stream, FetchErrorKind::Internal, "IPFS is switched off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_another_answer_is_not_plain() {
        let plain = |rows: &[(&'static str, &str)]| {
            let rows = rows.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            is_plain(&rows.collect())
        };
        assert!(plain(&[]) && plain(&[("accept", "*/*")]) && plain(&[("range", "bytes=0-1"), ("host", "x")]));
        assert!(plain(&[("accept", "image/avif,image/webp,*/*;q=0.8")]));
        for accept in ["text/html,*/*;q=0.8", "application/vnd.ipld.car", "application/JSON", "*/*, application/x-tar"]
        {
            assert!(!plain(&[("accept", accept)]), "{accept}");
        }
        assert!(!plain(&[("cache-control", "only-if-cached")]) && !plain(&[("service-worker", "script")]));
    }

    #[test]
    fn what_is_kept_has_a_bound_and_what_is_used_stays() {
        let mut kept = Generations::default();
        let known = || {
            let headers = HeaderMap::new();
            Arc::new(Known { headers, cid: Cid::default(), len: 0, body: Body::File, lists: 0 })
        };
        for n in 0..3 * MAX_KNOWN {
            kept.put(n.to_string(), known());
            assert!(kept.get("0").is_some(), "0 is used all the time");
            assert!(kept.young.len() + kept.old.len() <= MAX_KNOWN + 1);
        }
        assert!(kept.get("1").is_none());
    }
}
