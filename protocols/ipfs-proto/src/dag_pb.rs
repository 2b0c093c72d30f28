//! dag-pb: a node of bytes and named links, the codec of UnixFS (IPLD dag-pb specification).
//!
//! A node is read in place: decoding checks every link and keeps none, so a directory of 48,000 entries costs no more
//! memory than its block. Names are bytes; most are UTF-8, and nothing makes them so.

use swarmgate_content::Cid;

use crate::block::{Flaw, read_cid};
use crate::protobuf::{Fields, Wire, bytes_len, put_bytes, put_number, varint_len};

/// A link from a node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<'a> {
    /// Where it leads.
    pub cid: Cid,
    /// Its name, which may be empty, or absent.
    pub name: Option<&'a [u8]>,
    /// How many bytes all blocks below it are said to have together. Only a hint.
    pub tsize: Option<u64>,
}

/// A node, borrowed from its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PbNode<'a> {
    block: &'a [u8],
    data: Option<&'a [u8]>,
    links: usize,
}

impl<'a> PbNode<'a> {
    /// Reads a block. Data may stand before or after the links.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] when it is not dag-pb, or a link is not a CID.
    pub fn decode(block: &'a [u8]) -> Result<Self, Flaw> {
        let malformed = |why| Flaw::malformed("dag-pb", why);
        let mut node = Self { block, data: None, links: 0 };
        for field in Fields::new(block) {
            match field.map_err(malformed)? {
                (1, Wire::Bytes(data)) if node.data.is_none() => node.data = Some(data),
                (2, Wire::Bytes(link)) => {
                    read_link(link).map_err(malformed)?;
                    node.links += 1;
                }
                (1, _) => return Err(malformed("its data is there twice, or no bytes")),
                _ => return Err(malformed("it has a field that no node has")),
            }
        }
        Ok(node)
    }

    /// Its data, which may be empty, or absent.
    #[must_use]
    pub const fn data(&self) -> Option<&'a [u8]> {
        self.data
    }

    /// How many links it has.
    #[must_use]
    pub const fn link_count(&self) -> usize {
        self.links
    }

    /// Its links, in the order of the block.
    #[must_use]
    pub const fn links(&self) -> Links<'a> {
        Links { fields: Fields::new(self.block) }
    }
}

/// The links of a block that was decoded before, from a place that [`Links::cursor`] gave for it. Of bytes that are no
/// node, the links end at the first error.
#[must_use]
pub(crate) fn links_from(block: &[u8], cursor: usize) -> Links<'_> {
    Links { fields: Fields::new(block.get(cursor..).unwrap_or_default()) }
}

/// The links of a [`PbNode`].
#[derive(Debug, Clone)]
pub struct Links<'a> {
    fields: Fields<'a>,
}

impl Links<'_> {
    /// The place in a block of `len` bytes where the next link is looked for.
    #[must_use]
    pub(crate) const fn cursor(&self, len: usize) -> usize {
        len.saturating_sub(self.fields.left())
    }
}

impl<'a> Iterator for Links<'a> {
    type Item = Link<'a>;

    fn next(&mut self) -> Option<Link<'a>> {
        // Decoding found no error, so reading the same bytes again finds none.
        self.fields.by_ref().flatten().find_map(|field| match field {
            (2, Wire::Bytes(link)) => read_link(link).ok(),
            _ => None,
        })
    }
}

fn read_link(message: &[u8]) -> Result<Link<'_>, &'static str> {
    let (mut cid, mut name, mut tsize) = (None, None, None);
    for field in Fields::new(message) {
        match field? {
            (1, Wire::Bytes(bytes)) if cid.is_none() => cid = Some(read_cid(bytes)?),
            (2, Wire::Bytes(bytes)) if name.is_none() => name = Some(bytes),
            (3, Wire::Varint(size)) if tsize.is_none() => tsize = Some(size),
            _ => return Err("a link has a field twice, or one that no link has"),
        }
    }
    Ok(Link { cid: cid.ok_or("a link leads nowhere")?, name, tsize })
}

/// Writes a node as every implementation does: links in the order given, then data.
#[must_use]
pub fn encode<'a>(links: impl IntoIterator<Item = Link<'a>>, data: Option<&[u8]>) -> Vec<u8> {
    let mut block = Vec::new();
    let mut message = Vec::new();
    for link in links {
        message.clear();
        put_bytes(&mut message, 1, &link.cid.to_bytes());
        if let Some(name) = link.name {
            put_bytes(&mut message, 2, name);
        }
        if let Some(size) = link.tsize {
            put_number(&mut message, 3, size);
        }
        put_bytes(&mut block, 2, &message);
    }
    if let Some(data) = data {
        put_bytes(&mut block, 1, data);
    }
    block
}

/// How many bytes [`encode`] writes for a link.
#[must_use]
pub fn encoded_link_len(link: &Link<'_>) -> usize {
    let name = link.name.map_or(0, |name| bytes_len(name.len()));
    let tsize = link.tsize.map_or(0, |size| 1 + varint_len(size));
    bytes_len(bytes_len(link.cid.encoded_len()) + name + tsize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::any_cid;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    /// From the IPLD codec fixtures: what each block is.
    #[test]
    fn the_fixtures_of_the_codec_are_read() {
        for (block, links, names, data) in [
            ("", 0, 0, None),
            ("0a00", 0, 0, Some(0)),
            ("0a050001020304", 0, 0, Some(5)),
            ("120b0a09015500050001020304", 1, 0, None),
            ("120d0a090155000500010203041200", 1, 1, None),
            ("12160a090155000500010203041209736f6d65206e616d65", 1, 1, None),
            ("12140a0901550005000102030418ffffffffffffff0f", 1, 0, None),
            (
                "120b0a0901550005000102030412100a09015500050001020304120362617212100a090155000500010203041203666f6f",
                3,
                2,
                None,
            ),
        ] {
            let block = hex(block);
            let node = PbNode::decode(&block).unwrap();
            assert_eq!((node.link_count(), node.data().map(<[u8]>::len)), (links, data));
            assert_eq!(node.links().filter(|link| link.name.is_some()).count(), names);
            assert_eq!(encode(node.links(), node.data()), block);
        }
    }

    #[test]
    fn data_may_stand_before_the_links_and_nothing_may_stand_twice() {
        let link = "120b0a09015500050001020304";
        for good in [format!("{link}0a0101"), format!("0a0101{link}"), format!("{link}0a0101{link}")] {
            assert_eq!(PbNode::decode(&hex(&good)).unwrap().data(), Some(&[1][..]), "{good}");
        }
        for bad in ["0a01010a0101", "1200", "120412020102", "1a0101", "0801", "120c0a09015500050001020304ff"] {
            assert!(PbNode::decode(&hex(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reader_of_links_can_go_on_where_it_stopped() {
        let block = hex("120b0a0901550005000102030412100a090155000500010203041203666f6f");
        let node = PbNode::decode(&block).unwrap();
        let mut links = node.links();
        links.next();
        let cursor = links.cursor(block.len());
        assert_eq!(links_from(&block, cursor).next().unwrap().name, Some(&b"foo"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(node) = PbNode::decode(&bytes) {
                prop_assert_eq!(node.links().count(), node.link_count());
            }
        }

        #[test]
        fn what_is_written_is_read(
            links in proptest::collection::vec((any_cid(), any::<Option<Vec<u8>>>(), any::<Option<u64>>()), 0..5),
            data: Option<Vec<u8>>,
        ) {
            let links = || links.iter().map(|(cid, name, tsize)| Link { cid: *cid, name: name.as_deref(), tsize: *tsize });
            let block = encode(links(), data.as_deref());
            let node = PbNode::decode(&block).unwrap();
            prop_assert!(node.links().eq(links()));
            prop_assert_eq!(node.data(), data.as_deref());
            let sizes = links().map(|link| encoded_link_len(&link)).sum::<usize>();
            prop_assert_eq!(sizes + data.map_or(0, |data| bytes_len(data.len())), block.len());
        }
    }
}
