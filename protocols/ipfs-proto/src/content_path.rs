//! What a client asks for: `/ipfs/{cid}/{path…}` or `/ipns/{name or host}/{path…}`, however it is spelled.
//!
//! Three spellings parse into one type: the path of a URL ([`ContentPath::from_url_path`], percent-encoded), a URI
//! ([`ContentPath::from_uri`], `ipfs://…`), and the plain text that IPNS records and DNSLinks hold
//! ([`ContentPath::from_plain`], nothing encoded). Percent-decoding happens once and here alone, so `%2541` is the name
//! `%41`, never `A`.
//!
//! Names are taken as they are: a segment may be any text but `.`, `..`, and what has a slash or NUL in it, which no
//! UnixFS directory can hold (<https://specs.ipfs.tech/http-gateways/path-gateway/>).

use std::fmt;
use std::str::FromStr;

use multibase::Base;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use swarmgate_content::Cid;

use crate::dnslink::{HostName, host_of_label, label_of_host};
use crate::ipns::Name;

pub use crate::path::MAX_SEGMENTS;

/// Longest text that is looked at, in bytes.
pub const MAX_PATH_BYTES: usize = 16 << 10;
/// Longest DNS label (RFC 1035 §2.3.4).
pub const MAX_LABEL_BYTES: usize = 63;

/// What stays as it is in a printed segment: unreserved characters and those that paths may have (RFC 3986 §3.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The immutable or mutable thing at the head of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// `/ipfs/{cid}`.
    Ipfs(Cid),
    /// `/ipns/{key}`: a signed record says where it points.
    Key(Name),
    /// `/ipns/{host}`: a DNS record says where it points.
    Host(HostName),
}

/// A root and the names below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentPath {
    /// Where it begins.
    pub root: Root,
    /// Names to follow, decoded; none is empty, `.` or `..`, none has a slash or NUL.
    segments: Vec<String>,
    /// Whether it ends with a slash: a directory is meant.
    trailing_slash: bool,
}

/// Why a text is not a content path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePathError {
    /// It begins with neither `/ipfs/` nor `/ipns/`, nor with their URI schemes.
    #[error("a content path begins with /ipfs/, /ipns/, ipfs:// or ipns://")]
    Namespace,
    /// What follows `/ipfs/` is no CID.
    #[error("not a CID: {0}")]
    Cid(String),
    /// What follows `/ipns/` is neither a key nor a host.
    #[error("neither an IPNS key nor a host name: {0}")]
    Name(String),
    /// More than [`MAX_SEGMENTS`].
    #[error("a path of more than {MAX_SEGMENTS} names")]
    TooDeep,
    /// More than [`MAX_PATH_BYTES`].
    #[error("a path of more than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// A name is `..`, or has a slash or NUL in it.
    #[error("a name in the path is .. or has a slash or a NUL in it")]
    Segment,
    /// A name is not UTF-8 once decoded.
    #[error("a name in the path is not UTF-8")]
    Encoding,
}

/// Why a root has no DNS label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It would be longer than DNS allows.
    #[error("{0} characters, where a DNS label has {MAX_LABEL_BYTES} at most")]
    TooLong(usize),
}

impl ContentPath {
    /// A root with nothing below it.
    #[must_use]
    pub const fn new(root: Root) -> Self {
        Self { root, segments: Vec::new(), trailing_slash: false }
    }

    /// Reads the path of a URL, still percent-encoded, without its query.
    ///
    /// # Errors
    /// When it is not a content path.
    pub fn from_url_path(text: &str) -> Result<Self, ParsePathError> {
        let (namespace, rest) = split_namespace(text)?;
        Self::read(namespace, rest, decode)
    }

    /// Reads an `ipfs://` or `ipns://` URI. Its query and fragment are dropped.
    ///
    /// # Errors
    /// When it is none of these, or holds no content path.
    pub fn from_uri(text: &str) -> Result<Self, ParsePathError> {
        let (scheme, rest) = text.split_once("://").ok_or(ParsePathError::Namespace)?;
        let namespace = match scheme.to_ascii_lowercase().as_str() {
            "ipfs" => "ipfs",
            "ipns" => "ipns",
            _ => return Err(ParsePathError::Namespace),
        };
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        Self::read(namespace, &rest[..end], decode)
    }

    /// Reads what IPNS records and DNSLinks hold: nothing in it is encoded.
    ///
    /// # Errors
    /// When it is not a content path.
    pub fn from_plain(text: &str) -> Result<Self, ParsePathError> {
        let (namespace, rest) = split_namespace(text)?;
        Self::read(namespace, rest, |segment| Ok(segment.to_owned()))
    }

    /// Reads the label before `.ipfs.` or `.ipns.` of a subdomain gateway and the URL's path (subdomain gateway §2).
    ///
    /// # Errors
    /// When they are not a content path.
    pub fn from_subdomain(label: &str, namespace: &str, url_path: &str) -> Result<Self, ParsePathError> {
        if label.len() + url_path.len() > MAX_PATH_BYTES {
            return Err(ParsePathError::TooLong);
        }
        let root = match namespace {
            "ipfs" => read_cid(label)?,
            // A label is inlined, unless the host is there in full, as it may be without TLS.
            "ipns" if label.contains('.') => read_name(label)?,
            "ipns" => match Name::from_str(label) {
                Ok(name) => Root::Key(name),
                Err(_) => Root::Host(host_of_label(label).ok_or_else(|| ParsePathError::Name(excerpt(label)))?),
            },
            _ => return Err(ParsePathError::Namespace),
        };
        let mut path = Self::new(root);
        path.read_segments(url_path.trim_start_matches('/'), decode)?;
        Ok(path)
    }

    fn read(
        namespace: &str,
        rest: &str,
        decode: fn(&str) -> Result<String, ParsePathError>,
    ) -> Result<Self, ParsePathError> {
        if rest.len() > MAX_PATH_BYTES {
            return Err(ParsePathError::TooLong);
        }
        let (root, path) = rest.split_once('/').map_or((rest, None), |(root, path)| (root, Some(path)));
        let root = decode(root)?;
        let mut read = Self::new(if namespace == "ipfs" { read_cid(&root)? } else { read_name(&root)? });
        if let Some(path) = path {
            read.trailing_slash = path.is_empty();
            read.read_segments(path, decode)?;
        }
        Ok(read)
    }

    fn read_segments(
        &mut self,
        path: &str,
        decode: fn(&str) -> Result<String, ParsePathError>,
    ) -> Result<(), ParsePathError> {
        for segment in path.split('/') {
            let segment = decode(segment)?;
            match segment.as_str() {
                "" | "." => {}
                ".." => return Err(ParsePathError::Segment),
                name if name.contains(['/', '\0']) => return Err(ParsePathError::Segment),
                _ if self.segments.len() == MAX_SEGMENTS => return Err(ParsePathError::TooDeep),
                _ => self.segments.push(segment),
            }
        }
        self.trailing_slash |= path.ends_with('/');
        Ok(())
    }

    /// Reads only the names of a URL's path, as they follow any root.
    pub(crate) fn decode_segments(url_path: &str) -> Result<Vec<String>, ParsePathError> {
        let mut path = Self::new(Root::Ipfs(Cid::default()));
        path.read_segments(url_path, decode)?;
        Ok(path.segments)
    }

    /// The names below the root, decoded.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Whether it ends with a slash.
    #[must_use]
    pub const fn has_trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// `ipfs` or `ipns`.
    #[must_use]
    pub const fn namespace(&self) -> &'static str {
        match self.root {
            Root::Ipfs(_) => "ipfs",
            Root::Key(_) | Root::Host(_) => "ipns",
        }
    }

    /// What `/ipns/…` led to, with the names of this path below it.
    ///
    /// # Errors
    /// [`ParsePathError::TooDeep`].
    pub fn onto(&self, target: &Self) -> Result<Self, ParsePathError> {
        let segments: Vec<_> = target.segments.iter().chain(&self.segments).cloned().collect();
        if segments.len() > MAX_SEGMENTS {
            return Err(ParsePathError::TooDeep);
        }
        let trailing_slash = self.trailing_slash || self.segments.is_empty() && target.trailing_slash;
        Ok(Self { root: target.root.clone(), segments, trailing_slash })
    }

    /// The text that IPNS records and DNSLinks hold: nothing is encoded.
    #[must_use]
    pub fn to_plain(&self) -> String {
        self.print(|segment| segment.to_owned())
    }

    fn print(&self, encode: impl Fn(&str) -> String) -> String {
        let mut text = format!("/{}/{}", self.namespace(), self.root);
        for segment in &self.segments {
            text.push('/');
            text.push_str(&encode(segment));
        }
        if self.trailing_slash {
            text.push('/');
        }
        text
    }
}

fn split_namespace(text: &str) -> Result<(&str, &str), ParsePathError> {
    let below = |namespace| text.strip_prefix('/')?.strip_prefix(namespace)?.strip_prefix('/');
    below("ipfs")
        .map(|rest| ("ipfs", rest))
        .or_else(|| below("ipns").map(|rest| ("ipns", rest)))
        .ok_or(ParsePathError::Namespace)
}

fn decode(segment: &str) -> Result<String, ParsePathError> {
    percent_decode_str(segment).decode_utf8().map(|decoded| decoded.into_owned()).map_err(|_| ParsePathError::Encoding)
}

/// The head of a hostile text, for an error's sentence.
fn excerpt(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn read_cid(text: &str) -> Result<Root, ParsePathError> {
    // The parser would look for a CID behind a slash.
    let cid = if text.contains('/') { None } else { Cid::try_from(text).ok() };
    cid.map(Root::Ipfs).ok_or_else(|| ParsePathError::Cid(excerpt(text)))
}

fn read_name(text: &str) -> Result<Root, ParsePathError> {
    if let Ok(name) = Name::from_str(text) {
        return Ok(Root::Key(name));
    }
    let host = HostName::from_str(text).ok().filter(|host| host.as_str().contains('.'));
    host.map(Root::Host).ok_or_else(|| ParsePathError::Name(excerpt(text)))
}

impl Root {
    /// The label that names it below a subdomain gateway: base32 CIDv1, base36 for keys, hosts inlined.
    ///
    /// # Errors
    /// When it is too long for DNS in every spelling.
    pub fn subdomain_label(&self) -> Result<String, LabelError> {
        let fits = |label: String| {
            if label.len() <= MAX_LABEL_BYTES { Ok(label) } else { Err(LabelError::TooLong(label.len())) }
        };
        match self {
            Self::Ipfs(cid) => {
                let bytes = Cid::new_v1(cid.codec(), *cid.hash()).to_bytes();
                fits(multibase::encode(Base::Base32Lower, &bytes))
                    .or_else(|_| fits(multibase::encode(Base::Base36Lower, &bytes)))
            }
            Self::Key(name) => fits(name.to_string()),
            Self::Host(host) => fits(label_of_host(host)),
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipfs(cid) => cid.fmt(f),
            Self::Key(name) => name.fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}

impl fmt::Display for ContentPath {
    /// The canonical path of a URL: percent-encoded where that is needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(|segment| utf8_percent_encode(segment, ESCAPED).to_string()))
    }
}

impl FromStr for ContentPath {
    type Err = ParsePathError;

    /// Reads the path of a URL, or a URI.
    fn from_str(text: &str) -> Result<Self, ParsePathError> {
        if text.starts_with('/') { Self::from_url_path(text) } else { Self::from_uri(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use swarmgate_content::HashKind;

    const V0: &str = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
    const V1: &str = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

    fn path(text: &str) -> ContentPath {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_spelling_of_a_path_is_one_value() {
        let plain = path(&format!("/ipfs/{V1}/a b/c"));
        for text in
            [format!("/ipfs/{V1}/a%20b/c"), format!("ipfs://{V1}/a%20b//./c"), format!("IPFS://{V1}/a%20b/c?q=1#f")]
        {
            assert_eq!(path(&text), plain, "{text}");
        }
        assert_eq!(plain.to_string(), format!("/ipfs/{V1}/a%20b/c"));
        assert_eq!(ContentPath::from_plain(&plain.to_plain()), Ok(plain));
    }

    #[test]
    fn decoding_happens_once() {
        let once = path(&format!("/ipfs/{V0}/%2541"));
        assert_eq!(once.segments(), ["%41"]);
        assert_eq!(ContentPath::from_plain(&format!("/ipfs/{V0}/%41")), Ok(once.clone()));
        assert_eq!(path(&once.to_string()), once);
    }

    #[test]
    fn ipns_roots_are_keys_or_hosts() {
        assert!(matches!(path(&format!("/ipns/{KEY}")).root, Root::Key(_)));
        assert!(matches!(path("/ipns/12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE").root, Root::Key(_)));
        assert!(matches!(path("ipns://En.Wikipedia-on-IPFS.org/wiki/").root, Root::Host(_)));
        assert_eq!(path("ipns://En.Wikipedia-on-IPFS.org/wiki/").to_string(), "/ipns/en.wikipedia-on-ipfs.org/wiki/");
    }

    #[test]
    fn what_is_no_content_path_is_refused() {
        for (text, why) in [
            ("/ipld/x".to_owned(), ParsePathError::Namespace),
            ("http://x".to_owned(), ParsePathError::Namespace),
            ("/ipfs/".to_owned(), ParsePathError::Cid(String::new())),
            ("/ipfs/x%2Fipfs%2F".to_owned() + V0, ParsePathError::Cid("x/ipfs/".to_owned() + V0)),
            ("/ipns/nodots".to_owned(), ParsePathError::Name("nodots".to_owned())),
            (format!("/ipfs/{V0}/../x"), ParsePathError::Segment),
            (format!("/ipfs/{V0}/%2e%2e/x"), ParsePathError::Segment),
            (format!("/ipfs/{V0}/a%2Fb"), ParsePathError::Segment),
            (format!("/ipfs/{V0}/a%00"), ParsePathError::Segment),
            (format!("/ipfs/{V0}/%ff"), ParsePathError::Encoding),
            (format!("/ipfs/{V0}{}", "/x".repeat(129)), ParsePathError::TooDeep),
            (format!("/ipfs/{V0}/{}", "x".repeat(MAX_PATH_BYTES)), ParsePathError::TooLong),
        ] {
            assert_eq!(text.parse::<ContentPath>(), Err(why), "{text}");
        }
    }

    #[test]
    fn labels_of_subdomains_lead_back_to_their_roots() {
        for root in [V1, KEY, "en.wikipedia-on-ipfs.org"] {
            let namespace = if root == V1 { "ipfs" } else { "ipns" };
            let whole = path(&format!("/{namespace}/{root}/x"));
            let label = whole.root.subdomain_label().unwrap();
            assert!(label.len() <= MAX_LABEL_BYTES && !label.contains('.'), "{label}");
            assert_eq!(ContentPath::from_subdomain(&label, namespace, "/x"), Ok(whole));
        }
        let old = path(&format!("/ipfs/{V0}"));
        assert!(old.root.subdomain_label().unwrap().starts_with("bafybei"));
        let sha512 = HashKind::Sha2_512.hash(b"x").to_cid(0x55);
        assert!(Root::Ipfs(sha512).subdomain_label().is_err());
    }

    #[test]
    fn what_a_name_points_to_takes_the_rest_of_the_path() {
        let asked = path(&format!("/ipns/{KEY}/b/c/"));
        let target = path(&format!("/ipfs/{V1}/a"));
        assert_eq!(asked.onto(&target).unwrap().to_string(), format!("/ipfs/{V1}/a/b/c/"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,120}") {
            let _ = text.parse::<ContentPath>();
        }

        #[test]
        fn what_is_read_prints_to_what_reads_the_same(below in "(/[^\0]{0,12}){0,8}") {
            if let Ok(read) = ContentPath::from_url_path(&format!("/ipfs/{V1}{below}")) {
                prop_assert_eq!(&path(&read.to_string()), &read);
                prop_assert_eq!(&ContentPath::from_plain(&read.to_plain()).unwrap(), &read);
            }
        }
    }
}
