//! IPFS over HTTP: the path, trustless, subdomain and DNSLink gateways (<https://specs.ipfs.tech/http-gateways/>).
//!
//! A request goes one way. [`host`] says what its host is and [`address`] what content it names; both may send the
//! client elsewhere. [`ask`] reads which format is wanted. [`inquiry`] follows the names and the path to a block, and by
//! what that is and what is wanted one of these answers: [`file`](mod@file), [`directory`], [`data`], [`block`], [`car`],
//! [`archive`],
//! [`record`]. What a website does not have goes to [`website`], which asks its `_redirects` file.
//!
//! What was answered once with content that never changes is answered from memory the next time, where the content is
//! there: [`known`].
//!
//! # What is an origin of its own good for?
//! Below `/ipfs/` all content shares the gateway's origin, so documents that could run scripts are put into a sandbox and
//! `_redirects` is not read. On `{cid}.ipfs.{host}` and on a website's own host there is one content to an origin, and
//! its pages may do what pages do.

mod accept;
pub mod address;
pub mod archive;
pub mod ask;
pub mod block;
pub mod car;
pub mod data;
pub mod deliver;
pub mod directory;
pub mod file;
pub mod headers;
pub mod host;
pub mod inquiry;
pub mod known;
pub mod listing;
pub mod page;
pub mod record;
pub mod site_rules;
pub mod sniff;
pub mod website;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use swarmgate_ipfs::names::NameErrorKind;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::path::Target;

use crate::archive::Kind;
use crate::error::{Problem, ProblemKind, method_not_allowed};
use crate::routes::ipfs::address::{Address, Elsewhere};
use crate::routes::ipfs::ask::{Ask, Format};
use crate::routes::ipfs::host::Role;
use crate::routes::ipfs::inquiry::{Found, Inquiry, is_absent};
use crate::server::Peer;
use crate::state::GatewayState;
use crate::{guard, links};

/// Answers a GET or HEAD below `/ipfs/` or `/ipns/`.
///
/// # Errors
/// 400 for a path that cannot be before anything is looked up; else whatever resolving and reading meet.
pub async fn get(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    if let Some(to) = address::uri_router(&parts)? {
        return Ok(links::redirect(StatusCode::MOVED_PERMANENTLY, &format!("{}{to}", state.options.base_path)));
    }
    match Address::of_path(&state.options, &parts.uri)? {
        Ok(address) => answer(state, &parts, address).await,
        Err(Elsewhere { location, status }) => Ok(links::redirect(status, &location)),
    }
}

/// Answers for hosts that stand for content, before any route is looked at.
pub async fn by_host(State(state): State<GatewayState>, request: Request, next: Next) -> Response {
    let Some(ipfs) = state.ipfs.as_ref() else { return next.run(request).await };
    let local = request.extensions().get::<Peer>().is_some_and(|peer| peer.address.ip().to_canonical().is_loopback());
    match host::role(&state.options, request.uri(), request.headers(), local) {
        Role::Gateway => next.run(request).await,
        Role::Parent(authority) if address::is_content(request.uri().path()) => {
            let redirect =
                |request: Request| std::future::ready(to_subdomain(&state, &request, &authority).into_response());
            guard::answer_ipfs(&state, request, redirect).await
        }
        Role::Parent(_) => next.run(request).await,
        Role::Subdomain { label, namespace, parent } => {
            let address = |parts: &Parts| Address::of_subdomain(&state.options, parts, &label, namespace, &parent);
            let path = format!("/{namespace}/{label}{}", request.uri().path());
            guard::answer_ipfs_at(&state, &path, request, |request| isolated(&state, request, address)).await
        }
        Role::Website { name, authority } => {
            let root = Root::Host(name);
            match ipfs.names().resolve(&ContentPath::new(root.clone())).await {
                // It is no website: one more name of the gateway.
                Err(error) if error.name == root && is_no_link(error.kind) => next.run(request).await,
                Ok(_) | Err(_) => {
                    let address = |parts: &Parts| Address::of_website(parts, &root, &authority).map(Ok);
                    guard::answer_ipfs(&state, request, |request| isolated(&state, request, address)).await
                }
            }
        }
    }
}

/// Whether a host has no link, as far as can be known.
const fn is_no_link(kind: NameErrorKind) -> bool {
    matches!(kind, NameErrorKind::NotFound | NameErrorKind::Disabled | NameErrorKind::TimedOut)
}

/// Sends a client from `/ipfs/…` on a host with subdomains to the origin of that content.
fn to_subdomain(state: &GatewayState, request: &Request, authority: &str) -> Result<Response, Problem> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(method_not_allowed(guard::CONTENT_METHODS));
    }
    let location = address::subdomain_url(&state.options, request.uri(), request.headers(), authority)?;
    Ok(links::redirect(StatusCode::MOVED_PERMANENTLY, &location))
}

/// Answers on an origin of its own.
async fn isolated(
    state: &GatewayState,
    request: Request,
    address: impl FnOnce(&Parts) -> Result<Result<Address, Elsewhere>, Problem>,
) -> Response {
    let (parts, _) = request.into_parts();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return method_not_allowed(guard::CONTENT_METHODS).into_response();
    }
    match address(&parts) {
        Ok(Ok(address)) => answer(state.clone(), &parts, address).await.into_response(),
        Ok(Err(Elsewhere { location, status })) => links::redirect(status, &location),
        Err(problem) => problem.into_response(),
    }
}

/// Answers for an address.
async fn answer(state: GatewayState, parts: &Parts, address: Address) -> Result<Response, Problem> {
    address.refuse_wide_service_worker(&parts.headers)?;
    let ask = Ask::parse(parts.uri.query(), &parts.headers, !address.is_isolated())?;
    let inquiry = Inquiry::begin(state, parts, address, ask)?;
    if inquiry.ask.format == Some(Format::IpnsRecord) {
        return record::answer(inquiry).await;
    }
    let place = inquiry.place().await?;
    match inquiry.follow(&place.path).await {
        Ok(resolved) => {
            let name = place.path.segments().last().cloned();
            by_kind(inquiry, Found { resolved, name, lifetime: place.lifetime }).await
        }
        Err(problem) if is_absent(&problem) && website::may_decide(&inquiry) => {
            website::absent(inquiry, &place, problem).await
        }
        Err(problem) => Err(problem),
    }
}

/// Answers with what was found, in the format that was asked for or in its own.
async fn by_kind(mut inquiry: Inquiry, found: Found) -> Result<Response, Problem> {
    if inquiry.ask.format.is_some_and(|format| !represents(format, &found)) && inquiry.ask.negotiable {
        inquiry.ask.format = None;
        inquiry.ask.location_query = None;
    }
    match (inquiry.ask.format, found.resolved.target) {
        (Some(Format::Car), _) => car::answer(inquiry, &found).await,
        _ if !found.resolved.remainder.is_empty() => {
            let detail = format!("the path goes on within the block {}", found.resolved.cid);
            Err(Problem::new(ProblemKind::PathIntoData, detail).hint("the whole block is there with ?format=raw"))
        }
        (Some(Format::Raw), _) => block::answer(inquiry, &found).await,
        (Some(Format::Tar), Target::File | Target::Directory | Target::Symlink) => {
            archive::answer(inquiry, &found, Kind::Tar).await
        }
        (Some(Format::Zip), Target::File | Target::Directory | Target::Symlink) => {
            archive::answer(inquiry, &found, Kind::Zip).await
        }
        (format, Target::Data(codec)) => data::answer(inquiry, &found, format, codec).await,
        (None | Some(Format::Json), Target::File) => file::answer(inquiry, &found).await,
        (None, Target::Directory) => directory::answer(inquiry, &found).await,
        (None, Target::Symlink) => file::symlink(inquiry, &found).await,
        (None, Target::Node | Target::Opaque(_)) => Err(unreadable(&found)),
        (Some(format), _) => Err(mismatch(format, &found)),
    }
}

/// Whether a format can represent what was found, as far as its block alone says.
const fn represents(format: Format, found: &Found) -> bool {
    match (format, found.resolved.target) {
        (Format::Raw | Format::Car, _)
        | (Format::Tar | Format::Zip, Target::File | Target::Directory | Target::Symlink) => true,
        (Format::DagJson | Format::DagCbor | Format::Json | Format::Cbor, Target::Data(codec)) => {
            data::represents(format, codec)
        }
        (Format::Json, Target::File) => true,
        (_, _) => false,
    }
}

/// What can be had of any block.
const OTHER_FORMATS: &str = "its block is there with ?format=raw, its whole DAG with ?format=car";

/// 406: conversions are the client's to do (IPIP-524).
fn mismatch(format: Format, found: &Found) -> Problem {
    let detail = format!("{} cannot be given as {}", found.resolved.cid, format.name());
    Problem::new(ProblemKind::NotAcceptable, detail).hint(OTHER_FORMATS)
}

fn unreadable(found: &Found) -> Problem {
    let detail = format!("{} is no file, directory or data that is known here", found.resolved.cid);
    Problem::new(ProblemKind::NotAcceptable, detail).hint(OTHER_FORMATS)
}
