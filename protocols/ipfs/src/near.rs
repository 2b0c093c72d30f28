//! Bytes of files that are in memory, without a task, a timer or a wait.
//!
//! Most of what a gateway answers it has answered before. The blocks of that are in the store's memory, and what is left
//! to do for a range is to go from the root down to its leaves. Nodes are as long as the ways through them are short: one
//! of 174 links takes 10 µs to read, for one of them. So what they say is kept beside them ([`Layouts`]).
//!
//! What is not near is no error: the same bytes come by a [`crate::Session`], which waits and asks.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use swarmgate_content::{ByteRange, Cid, VerifiedBytes};
use swarmgate_ipfs_proto::block::{MAX_BLOCK_BYTES, MAX_DEPTH, hash_of};
use swarmgate_ipfs_proto::walk::{Layout, Place};

use crate::blocks::Blocks;

/// Links that are kept, some 100 bytes of memory each: those of 8 GiB of files in leaves of 256 KiB.
const MAX_LINKS: usize = 32 << 10;

/// What nodes of files say, of those that were used lately.
#[derive(Debug, Default)]
pub(crate) struct Layouts(Mutex<Generations>);

/// Two of them: what is used is in the young one. When that is full it is the old one, and the old one is gone.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Cid, Arc<Layout>>,
    old: HashMap<Cid, Arc<Layout>>,
    /// Of the young.
    links: usize,
}

impl Layouts {
    /// What a block says; `None` when it is no part of a file.
    fn of(&self, cid: &Cid, block: &VerifiedBytes) -> Option<Arc<Layout>> {
        if let Some(kept) = self.0.lock().get(cid) {
            return Some(kept);
        }
        let layout = Arc::new(Layout::read(cid, block).ok()?);
        // A leaf says next to nothing.
        if layout.parts() > 0 {
            self.0.lock().put(*cid, Arc::clone(&layout));
        }
        Some(layout)
    }
}

impl Generations {
    fn get(&mut self, cid: &Cid) -> Option<Arc<Layout>> {
        if let Some(layout) = self.young.get(cid) {
            return Some(Arc::clone(layout));
        }
        let layout = self.old.remove(cid)?;
        self.put(*cid, Arc::clone(&layout));
        Some(layout)
    }

    fn put(&mut self, cid: Cid, layout: Arc<Layout>) {
        self.links += layout.parts();
        if self.links > MAX_LINKS / 2 {
            self.links = layout.parts();
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(cid, layout);
    }
}

impl Blocks {
    /// A block that is in its CID or in the store's memory. `None` says nothing of whether it can be had.
    #[must_use]
    pub fn near_block(&self, cid: &Cid) -> Option<VerifiedBytes> {
        if let Some(inline) = VerifiedBytes::inline(cid) {
            return Some(inline);
        }
        let block = self.store.read_at_once(&hash_of(cid).ok()?)?;
        // Pieces of torrents are blocks too, and may be larger than any that a DAG has.
        (block.len() <= MAX_BLOCK_BYTES).then_some(block)
    }

    /// The first bytes of a range of a file, at least one and at most the range, if they are in the store's memory. `None`
    /// says nothing of whether they can be had: it is the answer too when a block is not what its parent says.
    #[must_use]
    pub fn near(&self, root: &Cid, range: ByteRange) -> Option<VerifiedBytes> {
        let (mut cid, mut range, mut said) = (*root, range, None);
        for _ in 0..=MAX_DEPTH {
            let block = self.near_block(&cid)?;
            let layout = self.layouts.of(&cid, &block)?;
            if said.is_some_and(|said| said != layout.total()) {
                return None;
            }
            match layout.place(range.start())? {
                Place::Here(held) => {
                    let most = usize::try_from(range.len()).unwrap_or(usize::MAX);
                    let bytes = block.slice(held.start..held.start + held.len().min(most));
                    self.stats.bytes_delivered(bytes.len() as u64);
                    return Some(bytes);
                }
                Place::Part { cid: part, start, len } => {
                    range = ByteRange::new(range.start() - start, (range.end() - start).min(len))?;
                    (cid, said) = (part, Some(len));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use futures_util::{StreamExt, TryStreamExt};

    use crate::session::SessionOptions;
    use crate::testing::{Dag, Habit, Shelf, blocks, noise};

    fn whole(blocks: &Blocks, root: &Cid, mut range: ByteRange) -> Option<Vec<u8>> {
        let mut read = Vec::new();
        loop {
            let bytes = blocks.near(root, range)?;
            read.extend_from_slice(bytes.as_ref());
            match ByteRange::new(range.start() + bytes.len() as u64, range.end()) {
                Some(rest) => range = rest,
                None => return Some(read),
            }
        }
    }

    #[tokio::test]
    async fn what_was_read_is_near_and_nothing_else_is() {
        let bytes = noise(100 * 1024 + 7);
        let dag = Dag::file(&bytes);
        let shelf = Shelf::new("a", Habit::Honest, Duration::ZERO).with(&dag);
        let blocks = blocks([shelf.clone()]).await;
        let range = |start, end| ByteRange::new(start, end).unwrap();
        assert_eq!(blocks.near(&dag.root(), range(0, 1)), None);
        assert!(shelf.asked_for().is_empty(), "nobody is asked");
        let session = blocks.session(SessionOptions::default());
        let mut reader = session.file(dag.root(), range(0, bytes.len() as u64));
        while reader.next().await.transpose().unwrap().is_some() {}
        blocks.tasks.close();
        blocks.tasks.wait().await;
        for (start, end) in [(0, bytes.len()), (1000, 1100), (1023, 5000), (bytes.len() - 1, bytes.len())] {
            let near = whole(&blocks, &dag.root(), range(start as u64, end as u64)).unwrap();
            assert!(near == bytes[start..end], "{start}..{end}");
        }
        let end = bytes.len() as u64;
        assert_eq!(blocks.near(&dag.root(), range(end, end + 1)), None, "past the end there is nothing");
        blocks.store.clear().await;
        assert_eq!(blocks.near(&dag.root(), range(0, 1)), None, "what was evicted is not near");
    }

    #[tokio::test]
    async fn a_part_of_another_length_than_its_parent_says_is_not_near() {
        use bytes::Bytes;
        use swarmgate_ipfs_proto::block::name;
        use swarmgate_ipfs_proto::codec::Codec;
        use swarmgate_ipfs_proto::dag_pb::{Link, encode};
        use swarmgate_ipfs_proto::unixfs::{Kind, UnixFs};
        let leaf = Bytes::from_static(b"leaf");
        let cid = name(Codec::Raw, &leaf);
        let mut data = UnixFs { filesize: Some(5), ..UnixFs::new(Kind::File) };
        data.block_sizes.push(5);
        let node = Bytes::from(encode([Link { cid, name: Some(b""), tsize: None }], Some(&data.encode())));
        let root = name(Codec::DagPb, &node);
        let blocks = blocks([]).await;
        for (cid, bytes) in [(cid, leaf), (root, node)] {
            let block = blocks.store.verifier().verify(hash_of(&cid).unwrap(), bytes).await.unwrap();
            blocks.store.put(block).await.unwrap();
        }
        assert!(blocks.near_block(&root).is_some());
        assert_eq!(blocks.near(&root, ByteRange::full(5).unwrap()), None);
        let session = blocks.session(SessionOptions::default());
        let read: Result<Vec<_>, _> = session.file(root, ByteRange::full(5).unwrap()).try_collect().await;
        assert!(read.is_err());
    }

    #[test]
    fn what_is_kept_has_a_bound_and_what_is_used_stays() {
        let mut kept = Generations::default();
        let cid = |n: u32| swarmgate_content::HashKind::Sha2_256.hash(&n.to_be_bytes()).to_cid(0x70);
        let layout = Arc::new(layout_of(100));
        for n in 0..2000 {
            kept.put(cid(n), layout.clone());
            assert!(kept.get(&cid(0)).is_some(), "0 is used all the time");
            let links = (kept.young.len() + kept.old.len()) * 100;
            assert!(links <= MAX_LINKS + 200, "{links} links");
        }
        assert!(kept.get(&cid(1)).is_none());
    }

    fn layout_of(links: usize) -> Layout {
        use bytes::Bytes;
        use swarmgate_ipfs_proto::block::{check, name};
        use swarmgate_ipfs_proto::codec::Codec;
        use swarmgate_ipfs_proto::dag_pb::{Link, encode};
        use swarmgate_ipfs_proto::unixfs::{Kind, UnixFs};
        let cid = name(Codec::Raw, b"x");
        let mut data = UnixFs { filesize: Some(links as u64), ..UnixFs::new(Kind::File) };
        data.block_sizes.extend(std::iter::repeat_n(1, links));
        let link = Link { cid, name: Some(b""), tsize: None };
        let node = Bytes::from(encode(std::iter::repeat_n(link, links), Some(&data.encode())));
        let root = name(Codec::DagPb, &node);
        Layout::read(&root, &check(&root, node).unwrap()).unwrap()
    }
}
