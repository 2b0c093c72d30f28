//! What a request for IPFS content asks for beside its path: a format, a part of the DAG, a name to save it under.
//!
//! `?format=` decides, then `Accept` (IPIP-523). Who accepts anything besides what it named gets what the content is by
//! itself where that format cannot represent it; everybody else is told so. On a website's own host the query is the
//! website's as well, so what cannot be read of it there means nothing instead of being an error.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderMap;
use multiaddr::{Multiaddr, Protocol};
use swarmgate_hybrid_rules::Network;
use swarmgate_ipfs::session::MAX_HINTS;
use swarmgate_ipfs::source::Provider;
use swarmgate_ipfs_proto::export::Scope;
use url::form_urlencoded;

use crate::error::{Problem, ProblemKind};
use crate::query;
use crate::routes::ipfs::accept::MediaRange;

/// A format that content is asked for in by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One block as it is.
    Raw,
    /// Blocks that prove the answer.
    Car,
    /// A tree of files.
    Tar,
    /// The same for those who have no program for tars; the specification has none.
    Zip,
    /// A dag-json block.
    DagJson,
    /// A dag-cbor block.
    DagCbor,
    /// JSON of any kind.
    Json,
    /// CBOR of any kind.
    Cbor,
    /// The signed record of a name.
    IpnsRecord,
}

/// How blocks are put into a CAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarAsk {
    /// What is sent of what the path ends at.
    pub scope: Scope,
    /// Whether a block is sent as often as it occurs.
    pub duplicates: bool,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The format, unless the content may choose.
    pub format: Option<Format>,
    /// Whether the content's own format will do where that one cannot represent it.
    pub negotiable: bool,
    /// Whether HTML is accepted by name.
    pub html: bool,
    /// For CARs.
    pub car: CarAsk,
    /// The name to offer for saving.
    pub filename: Option<String>,
    /// Whether to save rather than show.
    pub download: bool,
    /// How long to wait before giving up.
    pub wait: Option<Duration>,
    /// The networks that may be asked, besides the cache.
    pub sources: Option<BTreeSet<Network>>,
    /// Who may have the content, as `?provider=` says; untrusted.
    pub hints: Vec<Provider>,
    /// The query that asks for the same without `Accept`, where that is another.
    pub location_query: Option<String>,
}

impl Format {
    const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Raw, "raw", "application/vnd.ipld.raw"),
        (Self::Car, "car", "application/vnd.ipld.car"),
        (Self::Tar, "tar", "application/x-tar"),
        (Self::Zip, "zip", "application/zip"),
        (Self::DagJson, "dag-json", "application/vnd.ipld.dag-json"),
        (Self::DagCbor, "dag-cbor", "application/vnd.ipld.dag-cbor"),
        (Self::Json, "json", "application/json"),
        (Self::Cbor, "cbor", "application/cbor"),
        (Self::IpnsRecord, "ipns-record", "application/vnd.ipfs.ipns-record"),
    ];

    /// The names of all in `?format=`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(|(_, name, _)| name)
    }

    fn row(self) -> (Self, &'static str, &'static str) {
        Self::ALL.into_iter().find(|(format, ..)| *format == self).unwrap_or(Self::ALL[0])
    }

    /// Its name in `?format=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        self.row().2
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, its, _)| *its == name).map(|(format, ..)| format)
    }

    pub(super) fn by_media_type(essence: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(.., its)| *its == essence).map(|(format, ..)| format)
    }
}

/// The parameters of a query that mean something here.
#[derive(Debug, Default)]
struct Query<'a> {
    format: Option<Cow<'a, str>>,
    filename: Option<Cow<'a, str>>,
    download: bool,
    wait: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    scope: Option<Cow<'a, str>>,
    bytes: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
    order: Option<Cow<'a, str>>,
    duplicates: Option<Cow<'a, str>>,
    hints: Vec<Provider>,
}

impl<'a> Query<'a> {
    fn read(text: &'a str) -> Self {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "format" => read.format = Some(value),
                "filename" if !value.is_empty() => read.filename = Some(value),
                "download" => read.download = value == "true" || value == "1",
                "wait" => read.wait = Some(value),
                "source" => read.source = Some(value),
                "dag-scope" => read.scope = Some(value),
                "entity-bytes" => read.bytes = Some(value),
                "car-version" => read.version = Some(value),
                "car-order" => read.order = Some(value),
                "car-dups" => read.duplicates = Some(value),
                "provider" if read.hints.len() < MAX_HINTS => read.hints.extend(provider(&value)),
                _ => {}
            }
        }
        read
    }
}

impl Ask {
    /// Reads a raw query and the headers; `strict` where the query is meant for the gateway alone.
    ///
    /// # Errors
    /// 400 for a parameter that cannot be read, 406 for a format or a kind of CAR that there is not.
    pub fn parse(text: Option<&str>, headers: &HeaderMap, strict: bool) -> Result<Self, Problem> {
        let text = text.unwrap_or_default();
        let query = Query::read(text);
        let ranges = MediaRange::all(headers);
        let named = match query.format.as_deref().map(|name| (name, Format::by_name(name))) {
            Some((name, None)) if strict && !name.is_empty() => return Err(unknown_format()),
            Some((_, format)) => format,
            None => None,
        };
        let accepted = accepted(&ranges);
        let format = named.or(accepted);
        let wait = match query.wait.as_deref().map(query::seconds) {
            Some(Err(problem)) if strict => return Err(problem),
            Some(wait) => wait.ok(),
            None => None,
        };
        // On a website's own host the word is the website's.
        let sources = query.source.as_deref().filter(|_| strict).map(query::sources).transpose()?;
        let car = if format == Some(Format::Car) { CarAsk::read(&query, &ranges)? } else { CarAsk::default() };
        let location_query =
            format.filter(|format| named != Some(*format)).map(|format| explicit(text, format, &ranges));
        Ok(Self {
            format,
            negotiable: named.is_none() && ranges.iter().any(|range| range.is_any() || range.essence == "text/html"),
            html: named.is_none() && ranges.iter().any(|range| range.essence == "text/html"),
            car,
            filename: query.filename.map(Cow::into_owned),
            download: query.download,
            wait,
            sources,
            hints: query.hints,
            location_query,
        })
    }
}

/// Reads a hint: a peer's multiaddr that ends in its id, or the base URL of a trustless gateway. What is neither helps
/// nobody.
fn provider(text: &str) -> Option<Provider> {
    if text.starts_with("https://") || text.starts_with("http://") {
        return Some(Provider::Gateway(text.to_owned()));
    }
    peer(text)
}

/// Reads a peer's multiaddr, which ends in its id.
pub(crate) fn peer(text: &str) -> Option<Provider> {
    let mut address: Multiaddr = text.parse().ok()?;
    let Some(Protocol::P2p(id)) = address.pop() else { return None };
    let addrs = if address.is_empty() { Vec::new() } else { vec![address] };
    Some(Provider::Peer { id, addrs })
}

/// The format that is wanted most, unless HTML or anything at all is wanted more.
fn accepted(ranges: &[MediaRange]) -> Option<Format> {
    let first = ranges.iter().find(|range| range.format().is_some() || range.essence == "text/html")?;
    let format = first.format()?;
    let anything = ranges.iter().any(|range| range.is_any() && range.quality > first.quality);
    (!anything).then_some(format)
}

/// The query that asks for a format by name, for caches to keep the answer under.
fn explicit(text: &str, format: Format, ranges: &[MediaRange]) -> String {
    let kept = form_urlencoded::parse(text.as_bytes()).filter(|(name, _)| name != "format");
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(kept.clone()).append_pair("format", format.name());
    let range = ranges.iter().find(|range| format == Format::Car && range.format() == Some(format));
    for (name, value) in range.iter().flat_map(|range| &range.parameters) {
        let name = format!("car-{name}");
        if kept.clone().all(|(its, _)| its != name) {
            query.append_pair(&name, value);
        }
    }
    query.finish()
}

impl Default for CarAsk {
    fn default() -> Self {
        Self { scope: Scope::All, duplicates: false }
    }
}

impl CarAsk {
    fn read(query: &Query<'_>, ranges: &[MediaRange]) -> Result<Self, Problem> {
        let scope = match (&query.bytes, &query.scope) {
            (Some(bytes), _) => Scope::Entity(Some(bytes.parse().map_err(bad)?)),
            (None, Some(scope)) => scope.parse().map_err(bad)?,
            (None, None) => Scope::All,
        };
        let cars: Vec<_> = ranges.iter().filter(|range| range.format() == Some(Format::Car)).collect();
        let duplicates = match cars.as_slice() {
            [] => Self::duplicates(query, None),
            some => some.iter().find_map(|range| Self::duplicates(query, Some(*range))),
        };
        Ok(Self { scope, duplicates: duplicates.ok_or_else(no_such_car)? })
    }

    /// Whether duplicates are wanted; `None` when that kind of CAR cannot be made. The query outranks `Accept`.
    fn duplicates(query: &Query<'_>, range: Option<&MediaRange>) -> Option<bool> {
        let of = |named: &Option<Cow<'_, str>>, parameter: &str| {
            let accepted = || range.and_then(|range| range.parameter(parameter)).map(str::to_owned);
            named.as_deref().map(str::to_owned).or_else(accepted).unwrap_or_default()
        };
        let version = matches!(of(&query.version, "version").as_str(), "" | "1");
        // Whoever takes any order takes ours.
        let order = matches!(of(&query.order, "order").as_str(), "" | "dfs" | "unk");
        let duplicates = match of(&query.duplicates, "dups").as_str() {
            "" | "n" => Some(false),
            "y" => Some(true),
            _ => None,
        };
        duplicates.filter(|_| version && order)
    }
}

fn bad(error: swarmgate_ipfs_proto::export::ParseScopeError) -> Problem {
    Problem::new(ProblemKind::BadQuery, error.to_string())
}

fn no_such_car() -> Problem {
    Problem::new(ProblemKind::NotAcceptable, "a CAR has version=1, order=dfs or order=unk, and dups=y or dups=n")
}

fn unknown_format() -> Problem {
    let names: Vec<_> = Format::ALL.iter().map(|(_, name, _)| *name).collect();
    Problem::new(ProblemKind::NotAcceptable, format!("the formats are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT;
    use proptest::prelude::*;

    fn ask(query: &str, accept: &str) -> Result<Ask, Problem> {
        Ask::parse(Some(query), &accepting(accept), true)
    }

    fn accepting(accept: &str) -> HeaderMap {
        let value = (!accept.is_empty()).then(|| (ACCEPT, accept.parse().unwrap()));
        value.into_iter().collect()
    }

    fn format(query: &str, accept: &str) -> Option<Format> {
        ask(query, accept).unwrap().format
    }

    #[test]
    fn the_query_outranks_the_header() {
        assert_eq!(format("format=car", "application/vnd.ipld.raw"), Some(Format::Car));
        assert_eq!(format("format=raw", ""), Some(Format::Raw));
        assert_eq!(format("", "application/vnd.ipld.raw"), Some(Format::Raw));
        assert_eq!(format("", ""), None);
        assert_eq!(format("format=zip", ""), Some(Format::Zip));
        assert_eq!(ask("format=rar", "").unwrap_err().kind(), ProblemKind::NotAcceptable);
    }

    #[test]
    fn the_header_says_what_is_wanted_most() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", None),
            ("*/*", None),
            ("application/json, text/plain, */*", Some(Format::Json)),
            ("application/vnd.ipld.dag-json;q=0.5, text/html", None),
            ("text/html;q=0.4, application/vnd.ipld.dag-json;q=0.5", Some(Format::DagJson)),
            ("application/vnd.ipld.raw;q=0.1, */*", None),
            ("application/vnd.ipld.raw;q=0", None),
            ("APPLICATION/VND.IPLD.CAR; version=1", Some(Format::Car)),
        ] {
            assert_eq!(format("", accept), expected, "{accept}");
        }
    }

    #[test]
    fn who_names_one_format_only_takes_no_other() {
        assert!(!ask("", "application/json").unwrap().negotiable);
        assert!(ask("", "application/json, */*").unwrap().negotiable);
        assert!(!ask("format=json", "*/*").unwrap().negotiable);
    }

    #[test]
    fn cars_are_asked_for_in_the_query_or_the_header_or_both() {
        let car = |query, accept| ask(query, accept).map(|ask| ask.car);
        let dups = "application/vnd.ipld.car; version=1; order=dfs; dups=y";
        assert!(car("", dups).unwrap().duplicates);
        assert!(car("format=car", dups).unwrap().duplicates);
        assert!(!car("format=car&car-dups=n", dups).unwrap().duplicates);
        assert!(car("format=car&car-dups=y", "application/vnd.ipld.car; dups=n").unwrap().duplicates);
        assert!(!car("format=car", "application/vnd.ipld.car; order=unk").unwrap().duplicates);
        let second = "application/vnd.ipld.car; order=foo, application/vnd.ipld.car; order=dfs; dups=y; q=0.5";
        assert!(car("", second).unwrap().duplicates);
        for bad in ["format=car&car-version=2", "format=car&car-order=bfs", "format=car&car-dups=maybe"] {
            assert_eq!(car(bad, "").unwrap_err().kind(), ProblemKind::NotAcceptable, "{bad}");
        }
    }

    #[test]
    fn bytes_of_an_entity_imply_its_scope() {
        let scope = |query: &str| ask(query, "").unwrap().car.scope;
        assert_eq!(scope("format=car"), Scope::All);
        assert_eq!(scope("format=car&dag-scope=block"), Scope::Block);
        assert_eq!(scope("format=car&entity-bytes=0:1"), Scope::Entity("0:1".parse().ok()));
        for bad in ["format=car&dag-scope=some", "format=car&entity-bytes=x"] {
            assert_eq!(ask(bad, "").unwrap_err().kind(), ProblemKind::BadQuery, "{bad}");
        }
        assert!(ask("dag-scope=some", "").is_ok(), "it means something for CARs alone");
    }

    #[test]
    fn what_was_negotiated_has_a_url_of_its_own() {
        let location = |query, accept| ask(query, accept).unwrap().location_query;
        assert_eq!(location("", "application/vnd.ipld.raw").as_deref(), Some("format=raw"));
        assert_eq!(location("format=raw", "application/vnd.ipld.car"), None);
        assert_eq!(
            location("x=1", "application/vnd.ipld.car; order=dfs; dups=y").as_deref(),
            Some("x=1&format=car&car-order=dfs&car-dups=y")
        );
    }

    #[test]
    fn hints_name_peers_and_gateways() {
        let peer = "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";
        let address = format!("provider=%2Fip4%2F192.0.2.7%2Ftcp%2F4001%2Fp2p%2F{peer}");
        let query = format!("{address}&provider=/p2p/{peer}&provider=https://g.example&provider=x");
        let hints = ask(&query, "").unwrap().hints;
        let id = peer.parse().unwrap();
        let addrs = vec!["/ip4/192.0.2.7/tcp/4001".parse().unwrap()];
        let gateway = Provider::Gateway("https://g.example".to_owned());
        assert_eq!(hints, [Provider::Peer { id, addrs }, Provider::Peer { id, addrs: Vec::new() }, gateway]);
        assert_eq!(ask(&"provider=http://g&".repeat(100), "").unwrap().hints.len(), MAX_HINTS);
    }

    #[test]
    fn a_websites_own_parameters_are_no_mistakes() {
        let site = |query| Ask::parse(Some(query), &HeaderMap::new(), false);
        assert_eq!(site("format=large&wait=never&download=perhaps").unwrap().format, None);
        assert_eq!(site("format=raw").unwrap().format, Some(Format::Raw));
    }

    proptest! {
        #[test]
        fn no_request_panics(query in "[ -~]{0,80}", accept in "[ -~]{0,80}") {
            let _ = ask(&query, &accept);
        }
    }
}
