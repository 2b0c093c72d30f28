//! Content for stories: pseudo-random bytes from a seed, so that every run and every failure has the same ones.

use std::fmt::Write as _;
use std::path::Path;

use aws_lc_rs::digest;

/// `len` bytes that only `seed` decides. They do not compress and no two pieces are alike.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(len + size_of::<u64>());
    while out.len() < len {
        out.extend_from_slice(&split_mix(&mut state).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// SplitMix64: one multiplication chain a word, and any seed is a good one.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SHA-256 in lower-case hex: how stories compare whole files.
pub fn digest(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The digest of a file on disk, or `None` while it is not there.
pub fn digest_of(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|b| digest(&b))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        write!(s, "{b:02x}").expect("writing to a String cannot fail");
        s
    })
}

/// One file of a payload: its path below the torrent's root, and its bytes.
#[derive(Debug, Clone)]
pub struct PayloadFile {
    /// Path components below the root.
    pub path: Vec<String>,
    /// The whole content.
    pub bytes: Vec<u8>,
}

/// Named content, a single file or a tree, that can be laid out on disk and made into a torrent.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The file's name, or the name of the tree's root folder.
    pub name: String,
    /// One entry with an empty path for a single file; otherwise the tree.
    pub files: Vec<PayloadFile>,
}

impl Payload {
    /// A single file. An odd `len` leaves a short last piece and a short last block.
    pub fn single(name: &str, seed: u64, len: usize) -> Self {
        let file = PayloadFile { path: Vec::new(), bytes: bytes(seed, len) };
        Self { name: name.to_owned(), files: vec![file] }
    }

    /// A small tree with what trips readers up: a file that ends inside a piece, an empty one, a deep one, names
    /// beyond ASCII and with a percent sign.
    pub fn tree(name: &str, seed: u64) -> Self {
        let shape: [(&[&str], usize); 5] = [
            (&["film.mkv"], 1_500_001),
            (&["subs", "film.de.srt"], 777),
            (&["empty.txt"], 0),
            (&["extras", "übung №1", "100% clip.webm"], 300_003),
            (&["zz last"], 65_536),
        ];
        let files = (seed..)
            .zip(shape)
            .map(|(seed, (path, len))| PayloadFile {
                path: path.iter().map(|&p| p.to_owned()).collect(),
                bytes: bytes(seed, len),
            })
            .collect();
        Self { name: name.to_owned(), files }
    }

    /// All files one after the other, as a torrent's pieces see them.
    pub fn joined(&self) -> Vec<u8> {
        self.files.iter().flat_map(|f| f.bytes.iter().copied()).collect()
    }

    /// Writes the payload below `dir` in the layout that BitTorrent clients expect.
    pub fn lay_out(&self, dir: &Path) {
        for file in &self.files {
            let path = file.path.iter().fold(dir.join(&self.name), |p, part| p.join(part));
            let parent = path.parent().expect("the path was joined onto a folder");
            std::fs::create_dir_all(parent).unwrap_or_else(|e| panic!("cannot create {}: {e}", parent.display()));
            std::fs::write(&path, &file.bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        }
    }

    /// Whether `dir` holds exactly this payload.
    pub fn is_in(&self, dir: &Path) -> bool {
        self.files.iter().all(|file| self.holds(dir, file))
    }

    /// Whether `dir` holds every byte of this payload. Not every client creates the files that have none.
    pub fn bytes_are_in(&self, dir: &Path) -> bool {
        self.files.iter().all(|file| file.bytes.is_empty() || self.holds(dir, file))
    }

    fn holds(&self, dir: &Path, file: &PayloadFile) -> bool {
        let path = file.path.iter().fold(dir.join(&self.name), |p, part| p.join(part));
        std::fs::read(path).is_ok_and(|b| b == file.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_payload() {
        assert_eq!(bytes(7, 1001), bytes(7, 1001));
        assert_ne!(bytes(7, 1001), bytes(8, 1001));
        assert_eq!(bytes(7, 10), bytes(7, 1001)[..10]);
    }

    #[test]
    fn a_tree_is_found_again_where_it_was_laid_out() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Payload::tree("set", 3);
        assert!(!tree.is_in(dir.path()));
        tree.lay_out(dir.path());
        assert!(tree.is_in(dir.path()));
        std::fs::write(dir.path().join("set/subs/film.de.srt"), "other").unwrap();
        assert!(!tree.is_in(dir.path()));
    }
}
