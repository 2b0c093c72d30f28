//! Allow-lists: what alone an operator serves, one content a line.
//!
//! | line | lists |
//! |---|---|
//! | an infohash of v1 or v2, or `/bt/INFOHASH` | that torrent |
//! | a CID, or `/ipfs/CID` | what has its multihash, and all that is reached through it |
//! | a key or a host of IPNS, or `/ipns/NAME` | whatever that name leads to |
//!
//! What follows the first word of a line is a remark, and so is a line that begins with `#`. Contents are listed whole:
//! a line with a path is refused, since it would look as if the rest were shut. A line that cannot be read lists nothing.

use std::collections::BTreeSet;

use swarmgate_content::{Cid, ContentId, ParseIdError};

use crate::content_path::{ContentPath, ParsePathError, Root};
use crate::denylist::{MAX_LINE_BYTES, MAX_RULES};

/// The codec of CIDs that name a key rather than a block (multicodec `libp2p-key`).
const LIBP2P_KEY: u64 = 0x72;

/// What is listed. No line takes away from it, so lists may be read one after the other into one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowlist {
    torrents: BTreeSet<ContentId>,
    /// By their binary multihash, of whatever kind.
    blocks: BTreeSet<Box<[u8]>>,
    names: BTreeSet<Root>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Neither a CID nor a name of IPNS, nor the path of one.
    #[error("{0}")]
    Path(#[from] ParsePathError),
    /// A torrent's id that cannot be read.
    #[error("{0}")]
    Torrent(#[from] ParseIdError),
    /// It has a path.
    #[error("contents are listed whole, without a path")]
    Below,
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// There are [`MAX_RULES`] already.
    #[error("more than {MAX_RULES} contents")]
    TooMany,
}

/// What a line lists.
enum Entry {
    Torrent(ContentId),
    Root(Root),
}

impl Allowlist {
    /// Takes a line of a list, with its end or without.
    ///
    /// # Errors
    /// When it cannot be read; nothing is listed by it then.
    pub fn add(&mut self, line: &[u8]) -> Result<(), Why> {
        if line.len() > MAX_LINE_BYTES {
            return Err(Why::TooLong);
        }
        let line = std::str::from_utf8(line).map_err(|_| Why::Encoding)?;
        let Some(text) = line.split_whitespace().next().filter(|word| !word.starts_with('#')) else { return Ok(()) };
        if self.len() >= MAX_RULES {
            return Err(Why::TooMany);
        }
        match read(text)? {
            Entry::Torrent(id) => self.torrents.insert(id),
            Entry::Root(Root::Ipfs(cid)) => self.blocks.insert(cid.hash().to_bytes().into()),
            Entry::Root(name @ (Root::Key(_) | Root::Host(_))) => self.names.insert(name),
        };
        Ok(())
    }

    /// How many contents it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.torrents.len() + self.blocks.len() + self.names.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The torrents, by the infohashes that are in the list.
    #[must_use]
    pub const fn torrents(&self) -> &BTreeSet<ContentId> {
        &self.torrents
    }

    /// Whether a content is listed by this id.
    #[must_use]
    pub fn has(&self, id: &ContentId) -> bool {
        match id {
            ContentId::Ipfs(cid) => self.has_block(cid),
            ContentId::BtV1(_) | ContentId::BtV2(_) => self.torrents.contains(id),
        }
    }

    /// Whether what this root leads to is listed.
    #[must_use]
    pub fn has_root(&self, root: &Root) -> bool {
        match root {
            Root::Ipfs(cid) => self.has_block(cid),
            Root::Key(_) | Root::Host(_) => self.names.contains(root),
        }
    }

    /// Whether a block is listed itself, under whichever codec it is asked for.
    #[must_use]
    pub fn has_block(&self, cid: &Cid) -> bool {
        self.blocks.contains(cid.hash().to_bytes().as_slice())
    }
}

fn read(text: &str) -> Result<Entry, Why> {
    if let Some(id) = text.strip_prefix("/bt/") {
        let (id, below) = id.split_once('/').unwrap_or((id, ""));
        return if below.is_empty() { Ok(Entry::Torrent(ContentId::parse_torrent(id)?)) } else { Err(Why::Below) };
    }
    if text.starts_with('/') {
        return root(text);
    }
    if let Ok(id) = ContentId::parse_torrent(text) {
        return Ok(Entry::Torrent(id));
    }
    match root(&format!("/ipfs/{text}")) {
        Ok(Entry::Root(Root::Ipfs(cid))) if cid.codec() != LIBP2P_KEY => Ok(Entry::Root(Root::Ipfs(cid))),
        Err(Why::Below) => Err(Why::Below),
        Ok(_) | Err(_) => root(&format!("/ipns/{text}")),
    }
}

fn root(text: &str) -> Result<Entry, Why> {
    let path = ContentPath::from_url_path(text)?;
    if path.segments().is_empty() { Ok(Entry::Root(path.root)) } else { Err(Why::Below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    const OTHER: &str = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i";
    const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

    fn list(text: &str) -> Allowlist {
        let mut list = Allowlist::default();
        for line in text.split_inclusive('\n') {
            list.add(line.as_bytes()).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        list
    }

    fn has(list: &Allowlist, path: &str) -> bool {
        list.has_root(&path.parse::<ContentPath>().unwrap().root)
    }

    fn torrent(text: &str) -> ContentId {
        ContentId::parse_torrent(text).unwrap()
    }

    #[test]
    fn each_kind_of_id_is_listed_bare_or_as_a_path() {
        let (v1, v2) = ("ab".repeat(20), "cd".repeat(32));
        for spelt in [
            format!("{v1}\r\n{v2} a film\n\n# nothing\n{CID}\n{KEY}\ndocs.example.org\n"),
            format!("/bt/{v1}/\n/bt/{v2}\n/ipfs/{CID}\n/ipns/{KEY}\n/ipns/docs.example.org"),
        ] {
            let list = list(&spelt);
            assert_eq!(list.len(), 5, "{spelt}");
            assert!(list.has(&torrent(&v1)) && list.has(&torrent(&v2)), "{spelt}");
            assert!(!list.has(&torrent(&"ab".repeat(32))) && !list.has(&torrent(&"cd".repeat(20))));
            assert!(has(&list, &format!("/ipfs/{CID}/a/b")) && !has(&list, &format!("/ipfs/{OTHER}")), "{spelt}");
            assert!(has(&list, &format!("/ipns/{KEY}")) && has(&list, "/ipns/docs.example.org/a"), "{spelt}");
            assert!(!has(&list, "/ipns/example.org"), "{spelt}");
        }
    }

    #[test]
    fn a_block_is_listed_whatever_its_codec() {
        let cid = Cid::try_from(CID).unwrap();
        let other_codec = Cid::new_v1(0x71, *cid.hash());
        assert!(list(CID).has_block(&other_codec));
        assert!(list(CID).has(&ContentId::Ipfs(other_codec)));
        assert!(!list(OTHER).has_block(&cid));
    }

    #[test]
    fn a_line_that_cannot_be_read_lists_nothing_and_says_why() {
        let mut list = Allowlist::default();
        assert_eq!(list.add(format!("{CID}/a").as_bytes()), Err(Why::Below));
        assert_eq!(list.add(format!("/bt/{}/a.mkv", "ab".repeat(20)).as_bytes()), Err(Why::Below));
        assert_eq!(list.add(&[0xff, b'a']), Err(Why::Encoding));
        assert_eq!(list.add(&vec![b'a'; MAX_LINE_BYTES + 1]), Err(Why::TooLong));
        assert!(matches!(list.add(b"/bt/nonsense"), Err(Why::Torrent(_))));
        for nonsense in ["nonsense", "/etc/passwd", "!/ipfs/x", "//abc", "/ipfs/nocid"] {
            assert!(matches!(list.add(nonsense.as_bytes()), Err(Why::Path(_))), "{nonsense}");
        }
        assert!(list.is_empty());
    }
}
