//! The query parameters of content URLs, read once into typed values.
//!
//! What steers the answer (`wait`, `so`, `format`) is refused when it cannot be read. Hints and the selection mean on
//! every content URL what they mean in a magnet, so the magnet's own parser reads them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use swarmgate_bittorrent_proto::magnet::{Magnet, MagnetError};
use swarmgate_content::{ByteRange, ContentId};
use swarmgate_hybrid_rules::Network;
use url::form_urlencoded;

use crate::archive::Kind;
use crate::error::{Problem, ProblemKind};

/// Most parameters read of one query. A magnet with 50 trackers and 50 peers has 102.
const MAX_PARAMETERS: usize = 256;

/// How a content is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page for people.
    Html,
    /// The same as data.
    Json,
    /// A playlist.
    M3u8,
    /// The `.torrent` file.
    Torrent,
    /// A magnet link as text.
    Magnet,
    /// All files below a folder in one.
    Archive(Kind),
}

/// The parameters of a content URL.
#[derive(Debug, Clone, Default)]
pub struct ContentQuery {
    /// The name to offer for saving.
    pub filename: Option<String>,
    /// Whether to save rather than show.
    pub download: bool,
    /// Which representation; wins over `Accept`.
    pub format: Option<Format>,
    /// How long to wait before giving up.
    pub wait: Option<Duration>,
    /// The networks that may be asked, besides the cache: none, when it is wanted from there alone.
    pub sources: Option<BTreeSet<Network>>,
    /// What of a file is fetched into the cache beside what is answered.
    pub prefetch: BTreeSet<Ahead>,
}

/// A part of a file that its reader will want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ahead {
    /// The first 4 MiB, where players begin.
    Head,
    /// The last 4 MiB, where films may have their table of contents.
    Tail,
    /// So much of it from its beginning, of a hundred.
    Percent(u8),
}

impl Ahead {
    /// Bytes of a head or a tail.
    const END_BYTES: u64 = 4 * 1024 * 1024;

    fn parse(word: &str) -> Option<Self> {
        match word {
            "head" => Some(Self::Head),
            "tail" => Some(Self::Tail),
            _ => word.strip_suffix('%')?.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self::Percent),
        }
    }

    /// Where that is in a file of `len` bytes; `None` in an empty one.
    #[must_use]
    pub fn of(self, len: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::Head => (0, len.min(Self::END_BYTES)),
            Self::Tail => (len.saturating_sub(Self::END_BYTES), len),
            Self::Percent(percent) => {
                let end = (u128::from(len) * u128::from(percent)).div_ceil(100);
                (0, u64::try_from(end).unwrap_or(len))
            }
        };
        ByteRange::new(start, end)
    }
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Html,
        Self::Json,
        Self::M3u8,
        Self::Torrent,
        Self::Magnet,
        Self::Archive(Kind::Zip),
        Self::Archive(Kind::Tar),
    ];

    /// Reads the name that `?format=` and the suffix aliases use.
    ///
    /// # Errors
    /// 406 for a name this build has no representation for.
    pub fn parse(name: &str) -> Result<Self, Problem> {
        match name.to_ascii_lowercase().as_str() {
            "html" => Ok(Self::Html),
            "json" => Ok(Self::Json),
            "m3u8" | "m3u" => Ok(Self::M3u8),
            "torrent" => Ok(Self::Torrent),
            "magnet" => Ok(Self::Magnet),
            "tar" => Ok(Self::Archive(Kind::Tar)),
            "zip" => Ok(Self::Archive(Kind::Zip)),
            _ => Err(Problem::new(
                ProblemKind::NotAcceptable,
                "the formats are html, json, m3u8, m3u, torrent, magnet, tar and zip",
            )),
        }
    }
}

impl ContentQuery {
    /// Reads a raw query.
    ///
    /// # Errors
    /// 400 for a `wait` or `download` that cannot be read and for too many parameters, 406 for an unknown `format`.
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut read = Self::default();
        for (count, (name, value)) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()).enumerate() {
            if count == MAX_PARAMETERS {
                return Err(bad(format!("a query has at most {MAX_PARAMETERS} parameters")));
            }
            read.take(&name, value)?;
        }
        Ok(read)
    }

    fn take(&mut self, name: &str, value: Cow<'_, str>) -> Result<(), Problem> {
        match name {
            "filename" if !value.is_empty() => self.filename = Some(value.into_owned()),
            "download" => self.download = flag(&value)?,
            "format" => self.format = Some(Format::parse(&value)?),
            "wait" => self.wait = Some(seconds(&value)?),
            "source" => self.sources = Some(sources(&value)?),
            "prefetch" => self.prefetch = ahead(&value)?,
            _ => {}
        }
        Ok(())
    }
}

/// The magnet that names a torrent and says no more.
#[must_use]
pub fn topic(id: &ContentId) -> Magnet {
    let v2 = match id {
        ContentId::BtV2(hash) => Some(*hash),
        ContentId::BtV1(_) | ContentId::Ipfs(_) => None,
    };
    Magnet { v1: id.as_v1(), v2, ..Magnet::default() }
}

/// Reads a query that is a magnet.
///
/// # Errors
/// 400 when it names no torrent or selects files that cannot be read, 414 when it is too long.
pub fn magnet(query: Option<&str>) -> Result<Magnet, Problem> {
    Magnet::parse_query(query.unwrap_or_default()).map_err(|error| not_a_magnet(ProblemKind::BadMagnet, &error))
}

/// Reads the hints and the selection on a content's own URL.
///
/// # Errors
/// 400 when the files selected cannot be read, 414 when it is too long.
pub fn magnet_of(id: &ContentId, query: Option<&str>) -> Result<Magnet, Problem> {
    let topic = topic(id);
    let Some(query) = query else { return Ok(topic) };
    let link = format!("{topic}&{query}");
    Magnet::parse(&link).map_err(|error| not_a_magnet(ProblemKind::BadQuery, &error))
}

fn not_a_magnet(kind: ProblemKind, error: &MagnetError) -> Problem {
    let kind = if matches!(error, MagnetError::TooLong { .. }) { ProblemKind::UriTooLong } else { kind };
    Problem::new(kind, error.to_string())
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadQuery, detail)
}

fn flag(value: &str) -> Result<bool, Problem> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad("download is true or false")),
    }
}

fn ahead(value: &str) -> Result<BTreeSet<Ahead>, Problem> {
    let parts = value.split(',').map(Ahead::parse).collect::<Option<_>>();
    parts.ok_or_else(|| bad("prefetch is a list of head, tail and a percentage as 5%, with commas between them"))
}

/// Reads which networks may be asked: words between commas, of which `cache` adds none. WebRTC peers are in the swarms
/// of all others, so whoever may ask one may ask the other.
///
/// # Errors
/// 400 for any other word, and for none.
pub(crate) fn sources(value: &str) -> Result<BTreeSet<Network>, Problem> {
    let network = |word: &str| Network::ALL.into_iter().find(|network| network.word() == word);
    let read = |word: &str| match (word, network(word)) {
        ("cache", _) => Ok(None),
        (_, Some(network)) => Ok(Some(network)),
        (_, None) => Err(bad("source is a list of bt, webrtc, ipfs, http and cache, with commas between them")),
    };
    let words = value.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
    let mut networks: BTreeSet<_> = words.into_iter().flatten().collect();
    if networks.contains(&Network::WebTorrent) {
        networks.insert(Network::BitTorrent);
    }
    Ok(networks)
}

/// Reads a number of seconds.
///
/// # Errors
/// 400 for anything else.
pub(crate) fn seconds(value: &str) -> Result<Duration, Problem> {
    let seconds = value.strip_suffix('s').unwrap_or(value).parse::<u32>();
    seconds.map(|seconds| Duration::from_secs(seconds.into())).map_err(|_| bad("wait is a number of seconds"))
}

/// Reads a file's number: digits only, so that `+1` and ` 1` name nothing.
#[must_use]
pub fn file_number(text: &str) -> Option<usize> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Percent-decodes one path segment, or `None` when it is not UTF-8.
#[must_use]
pub fn decode_segment(segment: &str) -> Option<String> {
    percent_decode_str(segment).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(query: &str) -> ProblemKind {
        ContentQuery::parse(Some(query)).unwrap_err().kind()
    }

    #[test]
    fn parameters_become_typed_values() {
        let read = ContentQuery::parse(Some("filename=a%20b.mkv&download=true&format=m3u&wait=120&other=1")).unwrap();
        assert_eq!(read.filename.as_deref(), Some("a b.mkv"));
        assert!(read.download);
        assert_eq!((read.format, read.wait), (Some(Format::M3u8), Some(Duration::from_secs(120))));
    }

    #[test]
    fn what_is_fetched_ahead_is_named_by_its_place() {
        let places = |query: &str, len| {
            let read = ContentQuery::parse(Some(query)).unwrap().prefetch;
            let ranges = read.into_iter().filter_map(|part| part.of(len));
            ranges.map(|range| (range.start(), range.end())).collect::<Vec<_>>()
        };
        let mib = 1024 * 1024;
        assert_eq!(places("wait=1", 100), []);
        assert_eq!(places("prefetch=tail,head", 10 * mib), [(0, 4 * mib), (6 * mib, 10 * mib)]);
        assert_eq!(places("prefetch=head,tail", 10), [(0, 10), (0, 10)]);
        assert_eq!(places("prefetch=1%25", 1001), [(0, 11)], "a part of a percent counts as one");
        assert_eq!(places("prefetch=head,100%25", 0), [], "there is nothing of an empty file");
        for wrong in ["", "middle", "0%25", "101%25", "5", "head,,tail", "-1%25"] {
            assert_eq!(kind(&format!("prefetch={wrong}")), ProblemKind::BadQuery, "{wrong}");
        }
    }

    #[test]
    fn a_request_names_the_networks_it_wants() {
        let sources = |query| ContentQuery::parse(Some(query)).unwrap().sources;
        assert_eq!(sources("wait=1"), None);
        assert_eq!(sources("source=cache"), Some(BTreeSet::new()));
        assert_eq!(sources("source=http,cache,bt"), Some(BTreeSet::from([Network::BitTorrent, Network::Http])));
    }

    #[test]
    fn hints_and_selection_mean_what_they_mean_in_a_magnet() {
        let id = ContentId::parse_torrent(&"ab".repeat(20)).unwrap();
        let magnet = magnet_of(&id, Some("tr=udp%3A%2F%2Ft%3A1&x.pe=10.0.0.1:6881&so=0,2-3&wait=5")).unwrap();
        assert_eq!(magnet.v1, id.as_v1());
        assert_eq!(magnet.hints.trackers, [["udp://t:1"]]);
        assert_eq!(magnet.hints.peers, ["10.0.0.1:6881".parse::<std::net::SocketAddr>().unwrap()]);
        assert_eq!(magnet.select.unwrap().to_string(), "0,2-3");
        assert_eq!(magnet_of(&id, Some("so=x")).unwrap_err().kind(), ProblemKind::BadQuery);
        assert_eq!(magnet_of(&id, Some(&"a".repeat(20_000))).unwrap_err().kind(), ProblemKind::UriTooLong);
    }

    #[test]
    fn what_steers_the_answer_must_be_readable() {
        assert_eq!(kind("wait=soon"), ProblemKind::BadQuery);
        assert_eq!(kind("wait=-1"), ProblemKind::BadQuery);
        assert_eq!(kind("download=perhaps"), ProblemKind::BadQuery);
        for wrong in ["source=", "source=tcp", "source=bt,", "source=BT"] {
            assert_eq!(kind(wrong), ProblemKind::BadQuery, "{wrong}");
        }
        assert_eq!(kind("format=rar"), ProblemKind::NotAcceptable);
        assert_eq!(kind(&"tr=u&".repeat(300)), ProblemKind::BadQuery);
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "[ -~]{0,80}") {
            let _ = ContentQuery::parse(Some(&query));
        }
    }
}
