//! One file: bytes in, blocks out, the root last.

use std::collections::VecDeque;

use swarmgate_content::Cid;

use super::{Block, Built, Profile};
use crate::codec::Codec;
use crate::dag_pb::{Link, encode};
use crate::unixfs::{Kind, UnixFs};

/// Builds a file from its bytes in order. Give it a chunk or less at a time and take the blocks out in between: what it
/// holds is then one chunk, a block, and a row of links for each level.
#[derive(Debug)]
pub struct FileBuilder {
    profile: Profile,
    chunk: Vec<u8>,
    /// Parts that have no parent yet: leaves first, then a row for each level above. Full rows wait for one part more.
    rows: Vec<Vec<Built>>,
    ready: VecDeque<Block>,
}

impl FileBuilder {
    /// An empty file.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self { profile, chunk: Vec::new(), rows: Vec::new(), ready: VecDeque::new() }
    }

    /// Appends bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.profile.chunk_bytes - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == self.profile.chunk_bytes {
                self.add_leaf();
            }
        }
    }

    /// Appends a leaf whose block was made elsewhere: a raw block of this name and so many bytes. All of a file's leaves
    /// come this way or none, and all but the last have [`Profile::chunk_bytes`]; else the file gets a CID that nobody
    /// else gives it.
    pub fn push_leaf(&mut self, cid: Cid, bytes: u64) {
        self.add(0, Built { cid, file_bytes: bytes, dag_bytes: bytes });
    }

    /// The next block that is ready.
    pub fn poll_block(&mut self) -> Option<Block> {
        self.ready.pop_front()
    }

    /// Ends the file. Blocks that are still to be taken out come after this, the root last.
    pub fn finish(&mut self) -> Built {
        if !self.chunk.is_empty() || self.rows.is_empty() {
            self.add_leaf();
        }
        let mut level = 0;
        while level + 1 < self.rows.len() || self.rows[level].len() > 1 {
            let node = self.close_row(level);
            self.add(level + 1, node);
            level += 1;
        }
        self.rows[level][0]
    }

    fn add_leaf(&mut self) {
        let bytes = std::mem::take(&mut self.chunk);
        let file_bytes = bytes.len() as u64;
        let block = if self.profile.legacy {
            let data = UnixFs { data: &bytes, filesize: Some(file_bytes), ..UnixFs::new(Kind::File) };
            self.profile.block(Codec::DagPb, encode([], Some(&data.encode())))
        } else {
            self.profile.block(Codec::Raw, bytes)
        };
        let leaf = Built { cid: block.cid, file_bytes, dag_bytes: block.bytes.len() as u64 };
        self.ready.push_back(block);
        self.add(0, leaf);
    }

    fn add(&mut self, level: usize, part: Built) {
        if self.rows.len() == level {
            self.rows.push(Vec::new());
        }
        if self.rows[level].len() == self.profile.links_per_node {
            let node = self.close_row(level);
            self.add(level + 1, node);
        }
        self.rows[level].push(part);
    }

    /// Makes a node over all parts of a row.
    fn close_row(&mut self, level: usize) -> Built {
        let parts = std::mem::take(&mut self.rows[level]);
        let file_bytes = parts.iter().map(|part| part.file_bytes).sum();
        let block_sizes = parts.iter().map(|part| part.file_bytes).collect();
        let data = UnixFs { filesize: Some(file_bytes), block_sizes, ..UnixFs::new(Kind::File) };
        let links = parts.iter().map(|part| Link { cid: part.cid, name: Some(b""), tsize: Some(part.dag_bytes) });
        let block = self.profile.block(Codec::DagPb, encode(links, Some(&data.encode())));
        let below: u64 = parts.iter().map(|part| part.dag_bytes).sum();
        let node = Built { cid: block.cid, file_bytes, dag_bytes: block.bytes.len() as u64 + below };
        self.ready.push_back(block);
        node
    }
}
