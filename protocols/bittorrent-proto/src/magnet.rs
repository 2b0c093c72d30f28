//! Magnet links: `magnet:?xt=urn:btih:…` (BEP 9), with v2 infohashes (BEP 52) and file selection (BEP 53).
//!
//! The same parameters are the query of the gateway's `/magnet` route, so a magnet's query parses alone too. What is
//! not known is ignored; lists are cut at their limits; a topic or selection that cannot be read is an error, since
//! going on would give other content than was asked for.

mod select;

use std::fmt;
use std::net::SocketAddr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use swarmgate_content::{ContentId, Hints, InfoHash, InfoHashV2, ParseIdError};

use crate::dht::PublicKey;
use crate::dht::item::MAX_SALT_BYTES;
use crate::metainfo::{MAX_URL_BYTES, display_text};
use crate::tracker::compact;

pub use select::{MAX_SELECTED_RANGES, Selection, SelectionError};

/// Longest magnet read, in bytes: 16 KiB, in which 100 trackers fit.
pub const MAX_MAGNET_BYTES: usize = 16 << 10;
/// Trackers, peers, web seeds and exact sources kept, of each; more are dropped.
pub const MAX_HINTS: usize = 100;
/// Longest name kept, in characters.
const MAX_NAME_CHARS: usize = 255;

/// RFC 3986 §2.3 unreserved characters stay, and so do those that addresses and URNs are easier to read with.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// What a magnet link says. It names at least one of a v1 infohash, a v2 infohash, and a key that says which (BEP 46).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Magnet {
    /// The v1 infohash (`xt=urn:btih:`).
    pub v1: Option<InfoHash>,
    /// The v2 infohash (`xt=urn:btmh:`).
    pub v2: Option<InfoHashV2>,
    /// Trackers (`tr`, each a tier of its own), peers (`x.pe`), web seeds (`ws`) and a name (`dn`). What `ws` or `xs` names
    /// in IPFS (`ipfs://`, `ipns://`) is the content itself in either, so it is among the web seeds.
    pub hints: Hints,
    /// The files asked for (`so`).
    pub select: Option<Selection>,
    /// Other places for the metadata (`xs`).
    pub exact_sources: Vec<String>,
    /// The key whose item in the DHT names the torrent (`xs=urn:btpk:`, BEP 46).
    pub public_key: Option<PublicKey>,
    /// Which of the key's items (`s`).
    pub salt: Vec<u8>,
}

/// Why a text is not a magnet that names a torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// It does not begin as magnets do.
    #[error("a magnet begins with \"magnet:?\"")]
    NotMagnet,
    /// It is too long.
    #[error("the magnet has {len} bytes, more than {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// It names no torrent.
    #[error("the magnet names no torrent: it has no xt=urn:btih: or xt=urn:btmh:")]
    NoTopic,
    /// Its infohash cannot be read.
    #[error("the magnet's topic is malformed: {0}")]
    Topic(#[from] ParseIdError),
    /// It names two torrents.
    #[error("the magnet names two different torrents")]
    TwoTopics,
    /// Its file selection cannot be read.
    #[error("the magnet's so= is malformed: {0}")]
    Selection(#[from] SelectionError),
}

impl Magnet {
    /// A magnet of an infohash and nothing else.
    #[must_use]
    pub fn from_v1(infohash: InfoHash) -> Self {
        Self { v1: Some(infohash), ..Self::default() }
    }

    /// Reads `magnet:?…`.
    ///
    /// # Errors
    /// When it is no magnet, names no torrent, or asks for something that cannot be read.
    pub fn parse(text: &str) -> Result<Self, MagnetError> {
        let text = text.trim();
        let (scheme, query) = text.split_once('?').ok_or(MagnetError::NotMagnet)?;
        if !scheme.eq_ignore_ascii_case("magnet:") {
            return Err(MagnetError::NotMagnet);
        }
        Self::parse_query(query)
    }

    /// Reads the part after the question mark, still percent-encoded.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_query(query: &str) -> Result<Self, MagnetError> {
        if query.len() > MAX_MAGNET_BYTES {
            return Err(MagnetError::TooLong { len: query.len(), max: MAX_MAGNET_BYTES });
        }
        let mut magnet = Self::default();
        for pair in query.split('&') {
            // A magnet copied out of a page's source has its ampersands escaped.
            let pair = pair.strip_prefix("amp;").unwrap_or(pair);
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            magnet.add(key, value)?;
        }
        let named = magnet.v1.is_some() || magnet.v2.is_some() || magnet.public_key.is_some();
        if !named { Err(MagnetError::NoTopic) } else { Ok(magnet) }
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        let text = || percent_decode_str(value).decode_utf8().ok().map(|text| text.trim().to_owned());
        // Several of a kind may be numbered: `tr.1`, `tr.2`.
        let numbered = key.rsplit_once('.').filter(|(_, n)| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()));
        match numbered.map_or(key, |(key, _)| key) {
            "xt" => self.add_topic(&text().unwrap_or_default())?,
            "dn" => self.hints.name = name(value).or_else(|| self.hints.name.take()),
            "tr" => {
                let url = text().filter(|url| is_url(url) && !self.hints.trackers.iter().flatten().any(|t| t == url));
                push(&mut self.hints.trackers, url.map(|url| vec![url]));
            }
            "ws" => push(&mut self.hints.web_seeds, text().filter(|url| is_url(url))),
            "xs" => match text().filter(|url| is_url(url)) {
                Some(url) if public_key(&url).is_some() => self.public_key = public_key(&url),
                Some(url) if is_ipfs(&url) => push(&mut self.hints.web_seeds, Some(url)),
                url => push(&mut self.exact_sources, url),
            },
            "x.pe" => {
                // A host name is left out: nothing here resolves names for strangers.
                let address = text().and_then(|text| text.parse::<SocketAddr>().ok());
                push(&mut self.hints.peers, address.filter(compact::dialable));
            }
            "s" => {
                let salt = text().and_then(|text| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok());
                self.salt = salt.filter(|salt| salt.len() <= MAX_SALT_BYTES).unwrap_or_default();
            }
            "so" => self.select = Some(text().unwrap_or_default().parse()?),
            _ => {}
        }
        Ok(())
    }

    /// Other networks' topics (`urn:sha1:`, `urn:ed2k:`) are ignored.
    fn add_topic(&mut self, topic: &str) -> Result<(), MagnetError> {
        let prefixed = |prefix: &str| {
            topic.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &topic[prefix.len()..])
        };
        if let Some(btih) = prefixed("urn:btih:") {
            set(&mut self.v1, btih.parse()?)
        } else if let Some(btmh) = prefixed("urn:btmh:") {
            match ContentId::parse_torrent(&btmh.to_ascii_lowercase())? {
                ContentId::BtV2(hash) if btmh.len() == 68 => set(&mut self.v2, hash),
                ContentId::BtV1(_) | ContentId::BtV2(_) | ContentId::Ipfs(_) => Err(ParseIdError::Multihash.into()),
            }
        } else {
            Ok(())
        }
    }
}

fn set<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), MagnetError> {
    match slot {
        Some(before) if *before != value => Err(MagnetError::TwoTopics),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    list.extend(item.filter(|item| list.len() < MAX_HINTS && !list.contains(item)));
}

fn is_url(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_URL_BYTES && !text.contains(char::is_control)
}

fn public_key(url: &str) -> Option<PublicKey> {
    let (prefix, key) = url.split_at_checked("urn:btpk:".len())?;
    prefix.eq_ignore_ascii_case("urn:btpk:").then(|| key.parse().ok()).flatten()
}

fn is_ipfs(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("ipfs" | "ipns"))
}

/// Names are the one place where writers put `+` for a space; in a URL a plus is a plus.
fn name(value: &str) -> Option<String> {
    let spaced = value.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8_lossy();
    // Cutting may leave white space at the end, which reading it again would trim.
    let name = display_text(text.trim(), MAX_NAME_CHARS);
    Some(name.trim_end().replace('\n', "\u{fffd}")).filter(|name| !name.is_empty())
}

impl std::str::FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, MagnetError> {
        Self::parse(text)
    }
}

impl fmt::Display for Magnet {
    /// Prints the canonical magnet; tiers of trackers are flattened, as magnets have none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "magnet:?";
        let mut pair = |key: &str, value: &dyn fmt::Display| {
            let escaped = value.to_string();
            write!(f, "{}{key}={}", std::mem::replace(&mut separator, "&"), utf8_percent_encode(&escaped, ESCAPED))
        };
        self.v1.iter().try_for_each(|hash| pair("xt", &format_args!("urn:btih:{hash}")))?;
        self.v2.iter().try_for_each(|hash| pair("xt", &format_args!("urn:btmh:1220{hash}")))?;
        self.hints.name.iter().try_for_each(|name| pair("dn", name))?;
        self.hints.trackers.iter().flatten().try_for_each(|url| pair("tr", url))?;
        self.hints.web_seeds.iter().try_for_each(|url| pair("ws", url))?;
        self.exact_sources.iter().try_for_each(|url| pair("xs", url))?;
        self.public_key.iter().try_for_each(|key| pair("xs", &format_args!("urn:btpk:{key}")))?;
        (!self.salt.is_empty()).then_some(&self.salt).iter().try_for_each(|salt| pair("s", &HEXLOWER.encode(salt)))?;
        self.hints.peers.iter().try_for_each(|peer| pair("x.pe", peer))?;
        self.select.iter().try_for_each(|select| pair("so", select))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1: &str = "08ada5a7a6183aae1e09d831df6748d566095a10";

    #[test]
    fn a_magnet_with_everything_is_read_and_printed_canonically() {
        let v2 = "ab".repeat(32);
        let text = format!(
            "magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{v2}&dn=Big+Film%20%26+more&tr=udp%3A%2F%2Ft.example%3A1&tr.2=http://u/a?b%3D1+2\
             &tr=udp%3A%2F%2Ft.example%3A1&ws=https%3A%2F%2Fw%2F&xs=http://x/y.torrent&x.pe=127.0.0.1:6881&x.pe=[::1]:6882&x.pe=host.example:1&x.pe=127.0.0.1:0\
             &so=7,0,2-4,3&xt=urn:ed2k:1234&unknown=1"
        );
        let magnet = Magnet::parse(&text).unwrap();
        assert_eq!(magnet.v1.unwrap().to_string(), V1);
        assert_eq!(magnet.v2.unwrap().to_string(), v2);
        assert_eq!(magnet.hints.name.as_deref(), Some("Big Film & more"));
        assert_eq!(magnet.hints.trackers, [["udp://t.example:1"], ["http://u/a?b=1+2"]]);
        let peers: Vec<SocketAddr> = vec!["127.0.0.1:6881".parse().unwrap(), "[::1]:6882".parse().unwrap()];
        assert_eq!(magnet.hints.peers, peers);
        assert_eq!(
            magnet.to_string(),
            format!(
                "magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{v2}&dn=Big%20Film%20%26%20more&tr=udp://t.example:1&tr=http://u/a%3Fb%3D1%2B2\
                 &ws=https://w/&xs=http://x/y.torrent&x.pe=127.0.0.1:6881&x.pe=%5B::1%5D:6882&so=0%2C2-4%2C7"
            )
        );
    }

    #[test]
    fn a_magnet_of_a_key_needs_no_topic() {
        let key = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e";
        let text = format!("magnet:?xs=urn:btpk:{key}&s=6e");
        let magnet = Magnet::parse(&text).unwrap();
        assert_eq!(magnet.public_key.unwrap().to_string(), key);
        assert_eq!(magnet.salt, b"n");
        assert_eq!(magnet.to_string(), text);
        assert_eq!(Magnet::parse("magnet:?xs=urn:btpk:12"), Err(MagnetError::NoTopic));
    }

    #[test]
    fn every_spelling_of_the_topic_is_the_same_torrent() {
        let want = Magnet::parse_query(&format!("xt=urn:btih:{V1}")).unwrap();
        let base32 = data_encoding::BASE32.encode(want.v1.unwrap().as_bytes());
        for query in [
            format!("xt=URN:BTIH:{}", V1.to_uppercase()),
            format!("xt=urn%3Abtih%3A{base32}"),
            format!("dn=&amp;xt.1=urn:btih:{}", base32.to_lowercase()),
            format!("xt=urn:btih:{V1}&xt=urn:btih:{base32}"),
        ] {
            assert_eq!(Magnet::parse_query(&query), Ok(want.clone()), "{query}");
        }
        assert_eq!(Magnet::parse(&format!(" MAGNET:?xt=urn:btih:{V1}\n")), Ok(want));
    }

    #[test]
    fn a_magnet_that_names_no_one_torrent_says_why() {
        let other = "ff".repeat(20);
        for (text, message) in [
            ("http://x/?xt=1".to_owned(), "a magnet begins with \"magnet:?\""),
            ("magnet:?dn=x".to_owned(), "the magnet names no torrent: it has no xt=urn:btih: or xt=urn:btmh:"),
            (format!("magnet:?xt=urn:btih:{V1}&xt=urn:btih:{other}"), "the magnet names two different torrents"),
            (
                "magnet:?xt=urn:btih:xyz".to_owned(),
                "the magnet's topic is malformed: an infohash has 40 hex digits, 32 base32 letters or 64 hex digits, not 3 characters",
            ),
            (
                format!("magnet:?xt=urn:btmh:1114{V1}"),
                "the magnet's topic is malformed: a torrent's multihash is sha1 (1114…) or sha2-256 (1220…)",
            ),
            (format!("magnet:?xt=urn:btih:{V1}&so=4-2"), "the magnet's so= is malformed: the range 4-2 runs backwards"),
        ] {
            assert_eq!(Magnet::parse(&text).unwrap_err().to_string(), message);
        }
        let long = format!("magnet:?xt=urn:btih:{V1}&dn={}", "x".repeat(MAX_MAGNET_BYTES));
        assert!(matches!(Magnet::parse(&long), Err(MagnetError::TooLong { .. })));
    }

    #[test]
    fn what_ipfs_has_of_it_is_a_web_seed_wherever_it_is_named() {
        let cid = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
        let text = format!(
            "magnet:?xt=urn:btih:{V1}&ws=ipfs%3A%2F%2F{cid}%2Fa%2520b.bin&xs=IPFS://{cid}&xs=ipns://example.org/f&xs=http://x/y.torrent\
             &xs=ipfs://{cid}/a%2520b.bin&ws=https://w/"
        );
        let magnet = Magnet::parse(&text).unwrap();
        let seeds = [
            format!("ipfs://{cid}/a%20b.bin"),
            format!("IPFS://{cid}"),
            "ipns://example.org/f".to_owned(),
            "https://w/".to_owned(),
        ];
        assert_eq!(magnet.hints.web_seeds, seeds);
        assert_eq!(magnet.exact_sources, ["http://x/y.torrent"]);
        assert!(
            magnet
                .to_string()
                .contains(&format!("&ws=ipfs://{cid}/a%2520b.bin&ws=IPFS://{cid}&ws=ipns://example.org/f"))
        );
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn lists_are_cut_at_their_limits() {
        let trackers: String = (0..300).map(|n| format!("&tr=http://{n}")).collect();
        let magnet = Magnet::parse_query(&format!("xt=urn:btih:{V1}{trackers}")).unwrap();
        assert_eq!(magnet.hints.trackers.len(), MAX_HINTS);
    }

    proptest! {
        #[test]
        fn any_query_never_panics_and_what_is_read_prints_to_the_same(tail in "(&(tr|ws|dn|xs|x\\.pe|so|tr\\.1)=[0-9a-z%:/+,\\[\\]\\-]{0,20}){0,6}", noise in ".{0,40}") {
            let _ = Magnet::parse_query(&noise);
            if let Ok(magnet) = Magnet::parse_query(&format!("xt=urn:btih:{V1}{tail}&{noise}")) {
                prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
            }
        }
    }
}
