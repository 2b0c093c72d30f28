//! DNSLink: a TXT record says what a host name points to (<https://dnslink.dev/>), and host names as one DNS label.
//!
//! ```
//! use swarmgate_ipfs_proto::dnslink::{HostName, choose, query_names};
//!
//! let host: HostName = "en.wikipedia-on-ipfs.org".parse()?;
//! assert_eq!(query_names(&host), ["_dnslink.en.wikipedia-on-ipfs.org", "en.wikipedia-on-ipfs.org"]);
//! let found = choose(["v=spf1 -all", "dnslink=/ipns/docs.ipfs.tech/a b"]).expect("one of them is a link");
//! assert_eq!(found.to_plain(), "/ipns/docs.ipfs.tech/a b");
//! # Ok::<(), swarmgate_ipfs_proto::dnslink::HostError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use crate::content_path::{ContentPath, MAX_LABEL_BYTES, Root};

/// Names followed one after another until something immutable is found, as others bound it.
pub const MAX_DEPTH: usize = 32;
/// TXT records of one name that are looked at.
pub const MAX_RECORDS: usize = 64;

/// What a record with a link begins with.
const PREFIX: &str = "dnslink=";

/// A DNS name in lower case, without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// Why a text is no host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host name has labels of 1 to 63 letters, digits, - and _, and 253 characters at most")]
pub struct HostError;

/// Why a chain of names was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A name leads back to itself.
    #[error("{0} leads back to itself")]
    Loop(String),
    /// More than [`MAX_DEPTH`] names.
    #[error("more than {MAX_DEPTH} names, one leading to the next")]
    TooDeep,
}

/// The names that were followed so far, from `/ipns/…` to `/ipns/…`.
#[derive(Debug, Clone, Default)]
pub struct Chain(Vec<Root>);

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if text.len() > 253 || !text.split('.').all(fits) {
            return Err(HostError);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names to ask for TXT records: the second when the first has no link.
#[must_use]
pub fn query_names(host: &HostName) -> [String; 2] {
    [format!("_dnslink.{host}"), host.0.clone()]
}

/// Reads one TXT record; `None` when it holds no link that can be followed.
#[must_use]
pub fn parse_record(text: &str) -> Option<ContentPath> {
    ContentPath::from_plain(text.strip_prefix(PREFIX)?.trim()).ok()
}

/// The link among the TXT records of a name. When there are several, the one whose text sorts first: every resolver
/// then chooses the same, in whatever order they come.
#[must_use]
pub fn choose<'a>(records: impl IntoIterator<Item = &'a str>) -> Option<ContentPath> {
    let links = records.into_iter().take(MAX_RECORDS).filter_map(|text| Some((text, parse_record(text)?)));
    links.min_by_key(|(text, _)| *text).map(|(_, path)| path)
}

/// Spells a host name as one label: `.` is `-`, and `-` is `--` (subdomain gateway specification).
#[must_use]
pub fn label_of_host(host: &HostName) -> String {
    host.0.replace('-', "--").replace('.', "-")
}

/// Reads what [`label_of_host`] writes; `None` when that is no host name with a dot.
#[must_use]
pub fn host_of_label(label: &str) -> Option<HostName> {
    // A NUL is in no label, so it can stand for the dashes meanwhile.
    let text = label.replace("--", "\0").replace('-', ".").replace('\0', "-");
    text.parse().ok().filter(|host: &HostName| host.0.contains('.') && !label.contains('.'))
}

impl Chain {
    /// Follows one more name. What is immutable ends the chain and is always fine.
    ///
    /// # Errors
    /// When the name was followed before, or the chain is too long.
    pub fn follow(&mut self, root: &Root) -> Result<(), ChainError> {
        match root {
            Root::Ipfs(_) => Ok(()),
            Root::Key(_) | Root::Host(_) if self.0.contains(root) => Err(ChainError::Loop(root.to_string())),
            Root::Key(_) | Root::Host(_) if self.0.len() == MAX_DEPTH => Err(ChainError::TooDeep),
            Root::Key(_) | Root::Host(_) => {
                self.0.push(root.clone());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    #[test]
    fn of_several_links_the_first_in_the_alphabet_wins() {
        let (a, b) = (format!("dnslink=/ipfs/{CID}/a"), format!("dnslink=/ipfs/{CID}/b"));
        for records in [[a.as_str(), &b], [&b, &a]] {
            assert_eq!(choose(records).unwrap().segments(), ["a"]);
        }
    }

    #[test]
    fn what_is_no_link_is_passed_over() {
        for text in ["", "dnslink=", "dnslink=https://x", "DNSLINK=/ipfs/x", "dnslink=/ipfs/nocid", "/ipns/x.org"] {
            assert_eq!(parse_record(text), None, "{text}");
        }
    }

    #[test]
    fn a_host_is_one_label_and_back() {
        let host: HostName = "en.wikipedia-on-ipfs.org".parse().unwrap();
        assert_eq!(label_of_host(&host), "en-wikipedia--on--ipfs-org");
        assert_eq!(host_of_label("en-wikipedia--on--ipfs-org"), Some(host));
        assert_eq!(host_of_label("localhost"), None);
    }

    #[test]
    fn chains_end() {
        let name = |n: usize| Root::Host(format!("h{n}.example").parse().unwrap());
        let mut chain = Chain::default();
        for n in 0..MAX_DEPTH {
            chain.follow(&name(n)).unwrap();
        }
        assert_eq!(chain.follow(&name(5)), Err(ChainError::Loop("h5.example".to_owned())));
        assert_eq!(chain.follow(&name(99)), Err(ChainError::TooDeep));
        assert_eq!(chain.follow(&Root::Ipfs(CID.parse().unwrap())), Ok(()));
    }

    proptest! {
        // Where a dash stands beside a dot the label has two readings; no host that can be registered has that.
        #[test]
        fn labels_lead_back_to_their_hosts(text in "[a-z0-9]{1,5}(--?[a-z0-9]{1,5})?(\\.[a-z0-9]{1,5}(-[a-z0-9]{1,5})?){1,3}") {
            let host: HostName = text.parse().unwrap();
            prop_assert_eq!(host_of_label(&label_of_host(&host)), Some(host));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = (text.parse::<HostName>(), parse_record(&text), host_of_label(&text));
        }
    }
}
