//! Links that need no credentials: signed, for one content or one file, until a time.
//!
//! Players take a URL and nothing else, and a URL is pasted, stored and logged. So what a playlist or a shared link
//! carries is no credential of anybody, but a statement of the gateway: *whoever has this may read that until then*
//! (`?exp=1780000000&sig=…`). It is an HMAC-SHA256 over the class of the methods (reading), what may be read, and the
//! time, with a key that never leaves the gateway.
//!
//! What a link is for is spelt in one way whatever the URL looked like, so that redirects to another spelling keep it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use swarmgate_content::{Cid, ContentId};
use url::form_urlencoded;

use super::private;
use crate::error::{Problem, ProblemKind};
use crate::{links, query};

/// How long a link may work, at most: 30 days. Who needs one for longer asks again.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The name of the key's file in the data directory.
pub const KEY_FILE: &str = "link-key";
/// Bytes of a key's file, at most.
const MAX_KEY_BYTES: u64 = 4096;
/// Bytes that a key has at least; those that the gateway makes have as many.
const KEY_BYTES: usize = 32;
/// What is signed begins with this, so that no other use of the key can be taken for a link.
const CONTEXT: &str = "swarmgate link 1\nread\n";

/// The key that links are signed with.
#[derive(Clone)]
pub struct LinkKey(hmac::Key);

/// What tells the time to whoever asks whether a link still works.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

/// What a link lets its holder read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A content with all its files and representations, as `/bt/<infohash>`.
    Content(String),
    /// What one path names, as `/bt/<infohash>/film.mkv`.
    File(String),
}

/// What a URL of content names, each in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The content.
    root: String,
    /// The path, where the URL's path is all that names it.
    path: Option<String>,
}

/// What a request's query says of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// Nothing.
    None,
    /// It lets its holder read until then, in seconds since 1970.
    Good {
        /// When it ends.
        expires: u64,
    },
    /// It did until a time that is over.
    Expired,
    /// It is for something else, or of no gateway with this key.
    Foreign,
}

impl LinkKey {
    /// Takes a key that an operator chose.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A key that lives as long as the process.
    #[must_use]
    pub fn random() -> Self {
        Self::new(&rand::random::<[u8; KEY_BYTES]>())
    }

    /// Reads the key in a directory, and makes one where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is too short to be a key.
    pub fn in_dir(dir: &Path) -> io::Result<Self> {
        let path = dir.join(KEY_FILE);
        let made = HEXLOWER.encode(&rand::random::<[u8; KEY_BYTES]>()) + "\n";
        match private::create(&path, made.as_bytes()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let bytes = private::read(&path, MAX_KEY_BYTES)?;
        let secret = bytes.trim_ascii();
        if secret.len() < KEY_BYTES {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "it is too short for a key; without it, a new one is made",
            ));
        }
        Ok(Self::new(secret))
    }

    /// The query that lets whoever has it read, until `expires`, in seconds since 1970.
    #[must_use]
    pub fn sign(&self, reach: &Reach, expires: u64) -> String {
        let tag = hmac::sign(&self.0, message(reach, expires).as_bytes());
        format!("exp={expires}&sig={}", BASE64URL_NOPAD.encode(tag.as_ref()))
    }

    /// What a query says about the right to read a place, `now` being in seconds since 1970.
    #[must_use]
    pub fn check(&self, place: Option<&Place>, query: Option<&str>, now: u64) -> Ticket {
        let Some((expires, tag)) = presented(query) else { return Ticket::None };
        let (Some(place), Some(expires), Some(tag)) = (place, expires, tag) else { return Ticket::Foreign };
        let signs = |reach: &Reach| hmac::verify(&self.0, message(reach, expires).as_bytes(), &tag).is_ok();
        let for_content = signs(&Reach::Content(place.root.clone()));
        let for_file = place.path.as_ref().is_some_and(|path| signs(&Reach::File(path.clone())));
        match (for_content || for_file, now < expires) {
            (true, true) => Ticket::Good { expires },
            (true, false) => Ticket::Expired,
            (false, _) => Ticket::Foreign,
        }
    }
}

/// What is signed.
fn message(reach: &Reach, expires: u64) -> String {
    let (kind, what) = match reach {
        Reach::Content(root) => ("content", root),
        Reach::File(path) => ("file", path),
    };
    // No spelling of a place has a line end in it.
    format!("{CONTEXT}{kind}\n{what}\n{expires}")
}

/// The time and the tag of a query that has either; what is there twice or cannot be read is nothing.
fn presented(query: Option<&str>) -> Option<(Option<u64>, Option<Vec<u8>>)> {
    let pairs = || form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let only = |name: &str| {
        let mut values = pairs().filter(|(key, _)| key == name).map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    };
    if !pairs().any(|(key, _)| key == "sig") {
        return None;
    }
    let expires = only("exp").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let tag = only("sig").and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
    Some((expires.and_then(|text| text.parse().ok()), tag))
}

impl Place {
    /// What a URL of content names, `path` being without the base path; `None` for what no link can be made to.
    #[must_use]
    pub fn of(path: &str, query: Option<&str>) -> Option<Self> {
        if path == "/magnet" {
            let magnet = query::magnet(query).ok()?;
            let id = magnet.v1.map(ContentId::BtV1).or_else(|| magnet.v2.map(ContentId::BtV2))?;
            return Some(Self { root: format!("/bt/{id}"), path: None });
        }
        let (mount, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (name, below) = rest.split_once('/').map_or((rest, None), |(name, below)| (name, Some(below)));
        let name = match mount {
            "bt" => torrent(name)?,
            "ipfs" => cid(name)?,
            "ipns" | "x" | "btpk" if !name.is_empty() => links::encode(&query::decode_segment(name)?),
            _ => return None,
        };
        let root = format!("/{mount}/{name}");
        let path = below.map(|below| {
            let segments = below.split('/').map(|segment| query::decode_segment(segment).map(|it| links::encode(&it)));
            Some(format!("{root}/{}", segments.collect::<Option<Vec<_>>>()?.join("/")))
        });
        Some(Self { path: path.flatten(), root })
    }

    /// Everything that belongs to the same content.
    #[must_use]
    pub fn content(&self) -> Reach {
        Reach::Content(self.root.clone())
    }

    /// What the path names; all of the content where it names no single file of it.
    #[must_use]
    pub fn file(&self) -> Reach {
        match &self.path {
            Some(path) if !path.ends_with('/') => Reach::File(path.clone()),
            Some(_) | None => self.content(),
        }
    }
}

/// The one spelling of an infohash, of which a playlist's or `.torrent`'s suffix is no part.
fn torrent(name: &str) -> Option<String> {
    let bare = [".m3u8", ".m3u", ".torrent", ".zip", ".tar"].iter().find_map(|suffix| name.strip_suffix(suffix));
    ContentId::parse_torrent(bare.unwrap_or(name)).ok().map(|id| id.to_string())
}

/// The one spelling of a CID: version 1 in base 32.
fn cid(name: &str) -> Option<String> {
    Cid::try_from(name).ok()?.into_v1().ok().map(|cid| cid.to_string())
}

impl Ticket {
    /// The problem that a link is which does not let its holder read.
    #[must_use]
    pub fn problem(self) -> Option<Problem> {
        let detail = match self {
            Self::Expired => "the link worked until a time that is over; ask for a new one where you have it from",
            Self::Foreign => "the link is not one of this gateway to what it is asked for",
            Self::None | Self::Good { .. } => return None,
        };
        Some(Problem::new(ProblemKind::LinkRefused, detail))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl Clock {
    /// A clock that somebody else moves.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time, in seconds since 1970.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        (self.0)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IH: &str = "abababababababababababababababababababab";

    fn place(path: &str) -> Option<Place> {
        Place::of(path, None)
    }

    fn check(key: &LinkKey, url: &str, now: u64) -> Ticket {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        key.check(Place::of(path, query).as_ref(), query, now)
    }

    #[test]
    fn a_link_works_until_its_time_and_not_a_second_longer() {
        let key = LinkKey::random();
        let query = key.sign(&place(&format!("/bt/{IH}/a.mkv")).unwrap().file(), 1000);
        let url = format!("/bt/{IH}/a.mkv?{query}");
        assert_eq!(check(&key, &url, 999), Ticket::Good { expires: 1000 });
        assert_eq!(check(&key, &url, 1000), Ticket::Expired);
        assert_eq!(check(&key, &url.replace("exp=1000", "exp=2000"), 999), Ticket::Foreign);
        assert_eq!(check(&LinkKey::random(), &url, 999), Ticket::Foreign);
    }

    #[test]
    fn a_link_to_a_file_is_one_to_that_file_and_a_link_to_a_content_to_all_of_it() {
        let key = LinkKey::random();
        let of = |reach: &Reach| key.sign(reach, 1000);
        let film = place(&format!("/bt/{IH}/a/film.mkv")).unwrap();
        let good = |path: &str, query: &str| matches!(check(&key, &format!("{path}?{query}"), 1), Ticket::Good { .. });
        let upper = IH.to_uppercase();
        for (path, by_file, by_content) in [
            (format!("/bt/{IH}/a/film.mkv"), true, true),
            (format!("/bt/{upper}/a/%66ilm.mkv"), true, true),
            (format!("/bt/{IH}/a%2Ffilm.mkv"), false, true),
            (format!("/bt/{IH}/a/film.mk"), false, true),
            (format!("/bt/{IH}/a/film.mkv/"), false, true),
            (format!("/bt/{IH}/"), false, true),
            (format!("/bt/{IH}.m3u8"), false, true),
            (format!("/bt/{IH}/@best"), false, true),
            (format!("/bt/{}/a/film.mkv", "cd".repeat(20)), false, false),
            (format!("/ipfs/{IH}/a/film.mkv"), false, false),
            ("/torrent".to_owned(), false, false),
            ("/api/v1/items".to_owned(), false, false),
        ] {
            assert_eq!(good(&path, &of(&film.file())), by_file, "{path}");
            assert_eq!(good(&path, &of(&film.content())), by_content, "{path}");
        }
        let magnet = format!("/magnet?xt=urn:btih:{IH}&{}", of(&film.content()));
        assert!(matches!(check(&key, &magnet, 1), Ticket::Good { .. }));
        let other = magnet.replace(IH, &"cd".repeat(20));
        assert_eq!(check(&key, &other, 1), Ticket::Foreign);
    }

    #[test]
    fn a_cid_in_another_spelling_is_the_same_content() {
        let v0 = place("/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG/readme").unwrap();
        let v1 = place("/ipfs/bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34/readme").unwrap();
        assert_eq!(v0, v1);
    }

    #[test]
    fn half_a_link_and_a_doubled_one_are_none() {
        let key = LinkKey::random();
        let query = key.sign(&place(&format!("/bt/{IH}/a")).unwrap().file(), 1000);
        let (exp, sig) = query.split_once('&').unwrap();
        let ticket = |query: &str| check(&key, &format!("/bt/{IH}/a?{query}"), 1);
        assert_eq!(ticket("download=true"), Ticket::None);
        assert_eq!(ticket(exp), Ticket::None, "a parameter of that name may be somebody else's");
        for bad in [
            sig.to_owned(),
            format!("{query}&exp=9"),
            format!("{query}&{sig}"),
            format!("exp=+1000&{sig}"),
            format!("exp=-1&{sig}"),
            format!("{exp}&sig=A"),
        ] {
            assert_eq!(ticket(&bad), Ticket::Foreign, "{bad}");
        }
        assert_eq!(ticket(&format!("filename=x&{query}&download=1")), Ticket::Good { expires: 1000 });
    }

    #[test]
    fn the_key_is_made_once_and_belongs_to_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let reach = Reach::Content("/bt/x".to_owned());
        let first = LinkKey::in_dir(dir.path()).unwrap().sign(&reach, 1);
        assert_eq!(LinkKey::in_dir(dir.path()).unwrap().sign(&reach, 1), first, "links live over a restart");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(dir.path().join(KEY_FILE), "short").unwrap();
        assert!(LinkKey::in_dir(dir.path()).is_err());
        assert_eq!(format!("{:?}", LinkKey::random()), "LinkKey(…)");
    }

    proptest! {
        #[test]
        fn no_url_panics_and_none_is_good_by_chance(path in "/[ -~]{0,60}", query in "(exp=[0-9]{0,30}&sig=)?[ -~]{0,60}") {
            let ticket = LinkKey::new(&[7; 32]).check(Place::of(&path, Some(&query)).as_ref(), Some(&query), 1);
            let good = matches!(ticket, Ticket::Good { .. });
            prop_assert!(!good);
        }
    }
}
