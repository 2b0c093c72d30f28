//! The only maker of a [`VerifiedBlock`], and the only place that vouches for bytes hashed earlier.
//!
//! Hashing runs at 1.5 GiB/s: a 4 MiB piece holds a thread for 3 ms. So blocks beyond a few KiB go to blocking threads,
//! a fixed number at a time; the others wait their turn with their callers, which is the bound on the queue.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use swarmgate_content::{BlockHash, HashKind, HashMismatch, Naming, VerifiedBytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many blocks are hashed at once. Two keep up with 3 GiB/s, beyond any network this serves.
pub const HASH_THREADS: usize = 2;

/// Blocks up to this many bytes are hashed where they are: 20 µs, less than moving them to another thread and back.
const INLINE_HASH_BYTES: usize = 32 * 1024;

/// How many bytes of a file are read before they are hashed; small enough to be in cache, large enough for the disk.
const HASH_CHUNK_BYTES: usize = 256 * 1024;

/// A block whose bytes have the hash that names it. Only hashing makes one: [`Verifier::verify`] where a name is given,
/// [`VerifiedBlock::name`] where there is none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBlock {
    hash: BlockHash,
    bytes: VerifiedBytes,
}

impl VerifiedBlock {
    /// Hashes bytes that have no name yet, and makes them the block of the name that this gives. It holds its thread
    /// for 0.7 ms a MiB.
    #[must_use]
    pub fn name(kind: HashKind, data: Bytes) -> Self {
        let (hash, bytes) = VerifiedBytes::name(kind, data);
        Self { hash, bytes }
    }

    /// The block's name.
    #[must_use]
    pub const fn hash(&self) -> &BlockHash {
        &self.hash
    }

    /// All of the block's bytes.
    #[must_use]
    pub const fn bytes(&self) -> &VerifiedBytes {
        &self.bytes
    }

    fn check(hash: BlockHash, data: Bytes) -> Result<Self, HashMismatch> {
        let bytes = VerifiedBytes::check(&hash, data)?;
        Ok(Self { hash, bytes })
    }
}

/// Names a block that comes in parts and is not kept, because it stays where it lies.
#[derive(Debug)]
pub struct Namer {
    naming: Naming,
    len: u64,
}

/// The name of bytes that were hashed, and how many they were: what a reference needs to know of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedBytes {
    hash: BlockHash,
    len: u64,
}

impl Namer {
    /// Starts with nothing.
    #[must_use]
    pub fn new(kind: HashKind) -> Self {
        Self { naming: kind.naming(), len: 0 }
    }

    /// Adds the block's next bytes. Holds its thread for as long as hashing them takes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.naming.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Names all bytes seen.
    #[must_use]
    pub fn finish(self) -> NamedBytes {
        NamedBytes { hash: self.naming.finish(), len: self.len }
    }
}

impl NamedBytes {
    /// The block's name.
    #[must_use]
    pub const fn hash(&self) -> &BlockHash {
        &self.hash
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A small pool that hashes blocks. Clones share it.
#[derive(Debug, Clone)]
pub struct Verifier {
    turns: Arc<Semaphore>,
}

impl Verifier {
    /// Makes a pool that hashes `threads` blocks at once, at least one.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(threads.max(1))) }
    }

    /// Hashes `data` and makes it a block when it is the one that `hash` names.
    ///
    /// # Errors
    /// [`HashMismatch`] when it is not.
    pub async fn verify(&self, hash: BlockHash, data: Bytes) -> Result<VerifiedBlock, HashMismatch> {
        if data.len() <= INLINE_HASH_BYTES {
            return VerifiedBlock::check(hash, data);
        }
        let turn = self.turn().await;
        let shared = data.clone();
        let job = tokio::task::spawn_blocking(move || {
            let block = VerifiedBlock::check(hash, shared);
            drop(turn);
            block
        });
        // The job is lost only when the runtime stops; the caller still gets a true answer.
        job.await.unwrap_or_else(|_| VerifiedBlock::check(hash, data))
    }

    /// Waits for the right to hash one block; `None` never comes, for the pool is not closed.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

/// What hashing a stored block again has shown.
#[derive(Debug)]
pub(crate) enum Proof {
    /// It is whole, and this is the part of it that was to be kept.
    Whole(VerifiedBytes),
    /// It is not what its name says.
    Broken,
}

/// Hashes all `len` bytes that `source` gives and keeps those in `keep`: the very bytes that were hashed.
pub(crate) fn prove(hash: BlockHash, source: &mut impl Read, len: usize, keep: Range<usize>) -> io::Result<Proof> {
    let mut hasher = hash.hasher();
    let mut kept = Vec::with_capacity(keep.len());
    let mut chunk = vec![0; HASH_CHUNK_BYTES.min(len.max(1))];
    let mut seen = 0;
    loop {
        let count = match source.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (start, end) = (seen, seen + count);
        seen = end;
        // A file that grew beyond its recorded length is not worth reading to its end.
        if count == 0 || seen > len {
            break;
        }
        hasher.update(&chunk[..count]);
        let (from, to) = (keep.start.clamp(start, end), keep.end.clamp(start, end));
        kept.extend_from_slice(&chunk[from - start..to - start]);
    }
    Ok(match hasher.finish() {
        Ok(()) if seen == len => Proof::Whole(vouch(kept.into())),
        Ok(()) | Err(_) => Proof::Broken,
    })
}

/// Vouches for bytes read back from a place where only verified blocks are written, and proven since the last crash.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may: see the crate's essay on trust")]
pub(crate) const fn vouch(bytes: Bytes) -> VerifiedBytes {
    VerifiedBytes::vouched_for_by_store(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest;

    fn name(data: &[u8]) -> BlockHash {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data);
        BlockHash::sha1(digest.as_ref().try_into().unwrap())
    }

    #[tokio::test]
    async fn small_and_large_blocks_pass_only_under_their_own_name() {
        let verifier = Verifier::new(HASH_THREADS);
        for len in [0, 100, INLINE_HASH_BYTES + 1, 3 * 1024 * 1024] {
            let data = Bytes::from(vec![7; len]);
            let block = verifier.verify(name(&data), data.clone()).await.unwrap();
            assert_eq!((block.hash(), block.bytes().as_ref()), (&name(&data), data.as_ref()));
            let error = verifier.verify(name(b"other"), data).await.unwrap_err();
            assert_eq!(error.len, len as u64);
        }
    }

    #[tokio::test]
    async fn a_caller_that_leaves_gives_its_turn_back() {
        let verifier = Verifier::new(1);
        let data = Bytes::from(vec![1; 1024 * 1024]);
        for _ in 0..20 {
            let abandoned = tokio::spawn({
                let (verifier, data) = (verifier.clone(), data.clone());
                async move { verifier.verify(name(&data), data).await }
            });
            tokio::task::yield_now().await;
            abandoned.abort();
        }
        assert!(verifier.verify(name(&data), data).await.is_ok());
    }

    #[test]
    fn a_stored_block_is_proven_whole_or_found_out() {
        let data: Vec<u8> = (0..=250).cycle().take(HASH_CHUNK_BYTES * 2 + 17).collect();
        let hash = name(&data);
        let proof = |bytes: &[u8], keep| prove(hash, &mut &bytes[..], data.len(), keep).unwrap();
        let edge = HASH_CHUNK_BYTES;
        for keep in [0..data.len(), 0..0, 3..3, 1..10, edge - 1..edge + 1, edge..2 * edge, data.len() - 1..data.len()] {
            let expected = data[keep.clone()].to_vec();
            assert!(matches!(proof(&data, keep), Proof::Whole(kept) if kept.as_ref() == expected));
        }
        assert!(matches!(proof(&data[1..], 0..10), Proof::Broken));
        assert!(matches!(proof(&[&data[..], b"x"].concat(), 0..10), Proof::Broken));
    }
}
