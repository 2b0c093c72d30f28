//! What a person wants played, as a path of a gateway; and how it is found out whether it is there.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, LOCATION, RANGE};
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_content::{ContentId, Hints};
use url::form_urlencoded;

use crate::cli::dags::{is_ipfs, read_path};
use crate::cli::running::{Reply, Running};
use crate::cli::source::{Failure, read_file};
use crate::cli::{Exit, Selection};
use crate::links;

/// Bytes of trackers, peers and web seeds that a player's URL has, at most: 12 KiB, as servers read URLs of 16 KiB.
const MAX_HINT_BYTES: usize = 12 * 1024;

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What a path names as it is.
    Named(Target),
    /// A torrent that the gateway has to be given first.
    ToAdd {
        /// As `POST /api/v1/items` takes it.
        content_type: &'static str,
        /// The `.torrent` file, or its URL.
        body: Bytes,
        /// Which of its files.
        which: Which,
    },
}

/// Which of a torrent's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that a player should get.
    Best,
    /// By number.
    Number(usize),
    /// By its path, as a URL spells it.
    Path(String),
    /// Several, one after the other: `0,2-4`.
    List(String),
}

/// A path of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    path: String,
    query: String,
    kind: Kind,
}

/// What is at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A redirect to the file.
    Best,
    /// A file of a torrent. Its playlist is asked for, which is there as soon as the metadata is.
    File,
    /// A playlist.
    List,
    /// A file of IPFS. Its first byte is asked for.
    Ipfs,
}

impl Wanted {
    /// Reads what was typed, and the `.torrent` file if it is the path of one.
    ///
    /// # Errors
    /// [`Exit::Usage`] when it is nothing of the kind; else why the file cannot be read.
    pub(super) async fn read(uri: &str, select: Option<&Selection>) -> Result<Self, Failure> {
        let usage = |why: String| Failure::new(Exit::Usage, why);
        if is_ipfs(uri) {
            if select.is_some() {
                return Err(usage("a CID has no file numbers; name the file by its path below it".to_owned()));
            }
            let path = read_path(uri)?.to_string();
            return Ok(Self::Named(Target { path, query: String::new(), kind: Kind::Ipfs }));
        }
        let which = Which::of(select);
        if uri.starts_with("magnet:") {
            let magnet = Magnet::parse(uri).map_err(|error| usage(error.to_string()))?;
            let id = magnet.v1.map(|v1| v1.to_string()).or_else(|| magnet.v2.map(|v2| v2.to_string()));
            let id = id.ok_or_else(|| usage("the magnet names no torrent".to_owned()))?;
            let which = match magnet.select.as_ref().filter(|_| which == Which::Best) {
                Some(select) => match select.single() {
                    Some(number) => Which::Number(usize::try_from(number).unwrap_or(usize::MAX)),
                    None => Which::List(select.to_string()),
                },
                None => which,
            };
            return Ok(Self::Named(Target::of_torrent(&id, &which, hints(&magnet.hints))));
        }
        if uri.starts_with("http://") || uri.starts_with("https://") {
            let body = Bytes::from(uri.to_owned());
            return Ok(Self::ToAdd { content_type: "text/plain", body, which });
        }
        let (name, below) = uri.split_once('/').map_or((uri, ""), |(name, below)| (name, below.trim_matches('/')));
        match ContentId::parse_torrent(name) {
            Ok(_) if !below.is_empty() && select.is_some() => {
                Err(usage("a path and file numbers are two ways to say which file; say one".to_owned()))
            }
            Ok(id) => {
                let below = below.split('/').map(links::encode).collect::<Vec<_>>().join("/");
                let which = if below.is_empty() { which } else { Which::Path(below) };
                Ok(Self::Named(Target::of_torrent(&id.to_string(), &which, String::new())))
            }
            Err(not_id) => match read_file(uri, "; swarmgate plays contents by their names").await {
                Ok(body) => Ok(Self::ToAdd { content_type: "application/x-bittorrent", body, which }),
                Err(failure) if failure.exit == Exit::NotFound => {
                    Err(usage(format!("{uri:?} is no magnet, file, URL or CID, and as an infohash: {not_id}")))
                }
                Err(failure) => Err(failure),
            },
        }
    }
}

/// What helps to find a torrent, as parameters of a URL.
fn hints(hints: &Hints) -> String {
    let trackers = hints.trackers.iter().flatten().map(|tracker| ("tr", tracker.clone()));
    let peers = hints.peers.iter().map(|peer| ("x.pe", peer.to_string()));
    let seeds = hints.web_seeds.iter().map(|seed| ("ws", seed.clone()));
    let mut query = String::new();
    // Peers are the shortest, and the surest.
    for (name, value) in peers.chain(trackers).chain(seeds) {
        let pair = format!("{name}={}", form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>());
        if query.len() + pair.len() < MAX_HINT_BYTES {
            append(&mut query, &pair);
        }
    }
    query
}

fn append(query: &mut String, pair: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(pair);
}

impl Which {
    fn of(select: Option<&Selection>) -> Self {
        match select {
            None => Self::Best,
            Some(select) => select.single().map_or_else(|| Self::List(select.to_string()), Self::Number),
        }
    }
}

impl Target {
    /// Files of a torrent, `id` being its infohash.
    pub(super) fn of_torrent(id: &str, which: &Which, mut query: String) -> Self {
        let (path, kind) = match which {
            Which::Best => (format!("/bt/{id}/@best"), Kind::Best),
            Which::Number(number) => (format!("/bt/{id}/@{number}"), Kind::File),
            Which::Path(path) => (format!("/bt/{id}/{path}"), Kind::File),
            Which::List(list) => {
                append(&mut query, &format!("so={list}"));
                (format!("/bt/{id}.m3u8"), Kind::List)
            }
        };
        Self { path, query, kind }
    }

    /// The same, where the gateway may look for it so long.
    pub(super) fn waiting(mut self, wait: Duration) -> Self {
        append(&mut self.query, &format!("wait={}", wait.as_secs()));
        self
    }

    /// The same with another query.
    pub(super) fn with_query(self, query: String) -> Self {
        Self { query, ..self }
    }

    /// Path and query, as the player gets them.
    pub(super) fn path_and_query(&self) -> String {
        links::with_query(self.path.clone(), Some(&self.query))
    }

    /// The question whether it is there.
    ///
    /// # Errors
    /// When it is no path of a URL.
    pub(super) fn request(&self) -> Result<Request<Bytes>, Failure> {
        let mut path = self.path_and_query();
        if self.kind == Kind::File {
            path = format!("{path}{}format=m3u8", if self.query.is_empty() { '?' } else { '&' });
        }
        let mut request = Request::get(path);
        if self.kind == Kind::Ipfs {
            // As JSON it would be another representation.
            request = request.header(ACCEPT, "*/*").header(RANGE, "bytes=0-0");
        }
        request.body(Bytes::new()).map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", self.path)))
    }

    /// Path and query of what the player is to get, when the gateway has answered.
    ///
    /// # Errors
    /// What the gateway says where it has nothing; [`Exit::Usage`] for a folder.
    pub(super) fn found(&self, reply: Reply, gateway: &Running) -> Result<String, Failure> {
        let elsewhere = reply.status.is_redirection();
        if elsewhere && self.kind != Kind::Best {
            let message = format!("{} is a folder; name one of its files, as `swarmgate ls` shows them", self.path);
            return Err(Failure::new(Exit::Usage, message));
        }
        if !elsewhere {
            reply.accepted()?;
            return Ok(self.path_and_query());
        }
        let nowhere = || Failure::new(Exit::Error, format!("the gateway leads from {} to nowhere", self.path));
        let location = reply.header(&LOCATION).filter(|location| location.starts_with('/')).ok_or_else(nowhere)?;
        Ok(gateway.below_base(location).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IH: &str = "abababababababababababababababababababab";

    async fn path(uri: &str, select: Option<&str>) -> Result<String, Exit> {
        let select = select.map(|select| select.parse().unwrap());
        match Wanted::read(uri, select.as_ref()).await {
            Ok(Wanted::Named(target)) => Ok(target.path_and_query()),
            Ok(Wanted::ToAdd { content_type, .. }) => Ok(content_type.to_owned()),
            Err(failure) => Err(failure.exit),
        }
    }

    #[tokio::test]
    async fn whatever_names_a_film_is_a_path_of_the_gateway() {
        let cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
        let magnet = format!("magnet:?xt=urn:btih:{IH}&x.pe=127.0.0.1:1&tr=http%3A%2F%2Ft.example%2Fa%26b");
        let hints = "x.pe=127.0.0.1%3A1&tr=http%3A%2F%2Ft.example%2Fa%26b";
        for (uri, select, expected) in [
            (IH.to_owned(), None, format!("/bt/{IH}/@best")),
            (IH.to_uppercase(), Some("7"), format!("/bt/{IH}/@7")),
            (IH.to_owned(), Some("0,2-4"), format!("/bt/{IH}.m3u8?so=0,2-4")),
            (format!("{IH}/a b/ü.mkv"), None, format!("/bt/{IH}/a%20b/%C3%BC.mkv")),
            (magnet.clone(), None, format!("/bt/{IH}/@best?{hints}")),
            (format!("{magnet}&so=3"), None, format!("/bt/{IH}/@3?{hints}")),
            (format!("{magnet}&so=3"), Some("4"), format!("/bt/{IH}/@4?{hints}")),
            (format!("ipfs://{cid}/x"), None, format!("/ipfs/{cid}/x")),
            ("https://a.example/x.torrent".to_owned(), None, "text/plain".to_owned()),
        ] {
            assert_eq!(path(&uri, select).await, Ok(expected), "{uri}");
        }
        for (uri, select) in [
            ("no-such-file.torrent".to_owned(), None),
            ("magnet:?dn=x".to_owned(), None),
            (format!("ipfs://{cid}"), Some("1")),
            (format!("{IH}/a.mkv"), Some("1")),
        ] {
            assert_eq!(path(&uri, select).await, Err(Exit::Usage), "{uri}");
        }
    }

    #[test]
    fn a_magnet_with_more_trackers_than_a_url_holds_leaves_some_out() {
        let trackers = (0..100).map(|n| vec![format!("http://{n}.example/{}", "x".repeat(400))]).collect();
        let many = Hints { trackers, peers: vec!["192.0.2.1:1".parse().unwrap()], ..Hints::default() };
        let query = hints(&many);
        assert!(query.len() < MAX_HINT_BYTES && query.len() > MAX_HINT_BYTES / 2);
        assert!(query.starts_with("x.pe=192.0.2.1%3A1&tr=http"), "{query}");
    }
}
