//! From a root and a path to what the path names, block by block (path gateway specification; UnixFS, "UnixFS Paths").
//!
//! A [`PathWalk`] goes through UnixFS directories, whole or sharded, through plain dag-pb nodes by the names of their
//! links, and through maps, lists and links of dag-cbor and dag-json. Symlinks are followed inside of the DAG and never
//! out of it: an absolute one begins at the root again, and above the root there is nothing.

use bytes::Bytes;
use swarmgate_content::{Cid, VerifiedBytes};

use crate::block::{BadBlock, Flaw};
use crate::codec::{Codec, link_target, step};
use crate::directory::{Found, Lookup};
use crate::unixfs::{Entity, Kind};

/// The most segments that a path may have, with those that symlinks put in.
pub const MAX_SEGMENTS: usize = 128;
/// The most symlinks that are followed for one path.
pub const MAX_SYMLINKS: u8 = 32;
/// The longest target of a symlink, in bytes.
pub const MAX_TARGET_BYTES: usize = 4096;
/// The most blocks that one path is followed through; only symlinks that lead in circles need so many.
pub const MAX_PATH_BLOCKS: usize = 1024;

/// Why a path names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A directory, or a value, has nothing of that name.
    #[error("no link named {name:?} under {parent}")]
    NoLink {
        /// The name; what is no text in it is replaced.
        name: String,
        /// The block that should have it.
        parent: Box<Cid>,
    },
    /// The path goes on below something that has nothing below it.
    #[error("{parent} is {found}, not a directory, and has nothing named {name:?}")]
    NotADirectory {
        /// The name.
        name: String,
        /// Below which block.
        parent: Box<Cid>,
        /// What that is.
        found: &'static str,
    },
    /// `..` leads out of the root, or a symlink does.
    #[error("the path leads above its root")]
    AboveRoot,
    /// More than [`MAX_SEGMENTS`] segments or [`MAX_PATH_BLOCKS`] blocks.
    #[error("the path has more than {MAX_SEGMENTS} segments")]
    TooLong,
    /// More than [`MAX_SYMLINKS`] symlinks.
    #[error("the path leads over more than {MAX_SYMLINKS} symlinks")]
    TooManySymlinks,
    /// A block on the way cannot be used.
    #[error(transparent)]
    Block(#[from] BadBlock),
}

/// What a path ends at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A file.
    File,
    /// A directory, in one block or sharded.
    Directory,
    /// A symlink that was not followed.
    Symlink,
    /// UnixFS metadata, or a dag-pb node that is not UnixFS.
    Node,
    /// IPLD data of this codec.
    Data(Codec),
    /// A block of a codec that is not known here; its bytes can still be had.
    Opaque(u64),
}

/// The end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The last block.
    pub cid: Cid,
    /// What it is.
    pub target: Target,
    /// The last block itself, where it was needed to know.
    pub block: Option<VerifiedBytes>,
    /// What of the path lies within the last block, where that is data.
    pub remainder: Vec<Bytes>,
    /// The root, what each segment led to, and the last block: `X-Ipfs-Roots`.
    pub roots: Vec<Cid>,
    /// All blocks that prove the way, without the last one; shards too, in the order of the way.
    pub way: Vec<Cid>,
}

/// How far a [`PathWalk`] has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathState {
    /// This block must be fetched, and given to [`PathWalk::provide`].
    Want(Cid),
    /// The end.
    Resolved(Box<Resolved>),
}

/// Follows one path.
#[derive(Debug)]
pub struct PathWalk {
    root: Cid,
    current: Cid,
    /// Above the current block, the root first.
    above: Vec<Cid>,
    /// What is left of the path, the next segment last.
    rest: Vec<Bytes>,
    way: Vec<Cid>,
    symlinks: u8,
    follow_last: bool,
    lookup: Option<Lookup>,
    state: PathState,
}

/// What a block led to.
enum Turn {
    Want(Cid),
    /// On with [`PathWalk::current`].
    On,
    End(Target, Vec<Bytes>),
}

impl PathWalk {
    /// Starts at `root`. Segments are percent-decoded already; empty ones and `.` are dropped, and `..` is taken
    /// together with what is before it. `follow_last` says whether a symlink at the end is followed.
    ///
    /// # Errors
    /// [`PathError::TooLong`], [`PathError::AboveRoot`]; and any, when the root is in its own CID.
    pub fn new<S: Into<Bytes>>(
        root: Cid,
        segments: impl IntoIterator<Item = S>,
        follow_last: bool,
    ) -> Result<Self, PathError> {
        let mut rest: Vec<Bytes> = Vec::new();
        for segment in segments {
            match segment.into() {
                dot if dot.is_empty() || dot.as_ref() == b"." => {}
                up if up.as_ref() == b".." => {
                    rest.pop().ok_or(PathError::AboveRoot)?;
                }
                _ if rest.len() == MAX_SEGMENTS => return Err(PathError::TooLong),
                name => rest.push(name),
            }
        }
        rest.reverse();
        let mut walk = Self {
            root,
            current: root,
            above: Vec::new(),
            rest,
            way: Vec::new(),
            symlinks: 0,
            follow_last,
            lookup: None,
            state: PathState::Want(root),
        };
        walk.run()?;
        Ok(walk)
    }

    /// What to do, or what came out.
    #[must_use]
    pub const fn state(&self) -> &PathState {
        &self.state
    }

    /// Takes the block that is wanted; any other is left alone.
    ///
    /// # Errors
    /// Why the path names nothing. It is then at its end.
    pub fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<&PathState, PathError> {
        if self.state == PathState::Want(*cid) {
            self.take(cid, block)?;
            self.run()?;
        }
        Ok(&self.state)
    }

    /// Goes on through blocks that are there without asking.
    fn run(&mut self) -> Result<(), PathError> {
        while let PathState::Want(cid) = self.state {
            let codec = Codec::new(cid.codec());
            let Some(target) = (match codec {
                _ if !self.rest.is_empty() || self.lookup.is_some() => None,
                Some(Codec::Raw) => Some(Target::File),
                Some(codec @ (Codec::Cbor | Codec::Json)) => Some(Target::Data(codec)),
                None => Some(Target::Opaque(cid.codec())),
                Some(_) => None,
            }) else {
                let Some(block) = VerifiedBytes::inline(&cid) else { return Ok(()) };
                self.take(&cid, &block)?;
                continue;
            };
            self.end(cid, target, None, Vec::new());
        }
        Ok(())
    }

    fn end(&mut self, cid: Cid, target: Target, block: Option<VerifiedBytes>, remainder: Vec<Bytes>) {
        let mut roots = self.above.clone();
        roots.push(cid);
        let way = std::mem::take(&mut self.way);
        self.state = PathState::Resolved(Box::new(Resolved { cid, target, block, remainder, roots, way }));
    }

    fn take(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<(), PathError> {
        let turn = match self.lookup.take() {
            Some(lookup) => self.look(lookup, cid, block)?,
            None => self.arrive(cid, block)?,
        };
        self.state = match turn {
            Turn::End(target, remainder) => {
                self.end(*cid, target, Some(block.clone()), remainder);
                return Ok(());
            }
            Turn::Want(shard) => PathState::Want(shard),
            Turn::On => PathState::Want(self.current),
        };
        if self.way.len() == MAX_PATH_BLOCKS {
            return Err(PathError::TooLong);
        }
        self.way.push(*cid);
        Ok(())
    }

    /// At the block that the path has led to so far.
    fn arrive(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<Turn, PathError> {
        let entity = Entity::read(cid, block)?;
        let target = match &entity {
            Entity::Value(codec) => return self.enter_value(*codec, cid, block),
            Entity::Bytes(_) => Target::File,
            Entity::Node(node) if node.data().is_none_or(<[u8]>::is_empty) => Target::Directory,
            Entity::Node(_) => Target::Node,
            Entity::UnixFs(_, data) => match data.kind {
                Kind::File | Kind::Raw => Target::File,
                Kind::Directory | Kind::HamtShard => Target::Directory,
                Kind::Metadata => Target::Node,
                Kind::Symlink if self.rest.is_empty() && !self.follow_last => Target::Symlink,
                Kind::Symlink => return self.follow(cid, data.data),
            },
        };
        let Some(name) = self.pop_segment()? else { return Ok(Turn::End(target, Vec::new())) };
        let Some(name) = name else { return Ok(Turn::On) };
        match (target, &entity) {
            (Target::Directory, _) => self.look(Lookup::new(*cid, name), cid, block),
            (Target::Node, Entity::Node(node)) => {
                let link = node.links().find(|link| link.name.unwrap_or_default() == name);
                let link = link.ok_or_else(|| no_link(&name, cid))?;
                Ok(self.descend(link.cid))
            }
            _ => Err(PathError::NotADirectory { name: text(&name), parent: Box::new(*cid), found: entity.noun() }),
        }
    }

    /// The next segment. `Some(None)` when it led upwards: only symlinks still have such segments.
    fn pop_segment(&mut self) -> Result<Option<Option<Bytes>>, PathError> {
        let Some(name) = self.rest.pop() else { return Ok(None) };
        if name.as_ref() != b".." {
            return Ok(Some(Some(name)));
        }
        self.current = self.above.pop().ok_or(PathError::AboveRoot)?;
        Ok(Some(None))
    }

    fn descend(&mut self, to: Cid) -> Turn {
        self.above.push(self.current);
        self.current = to;
        Turn::On
    }

    fn look(&mut self, mut lookup: Lookup, cid: &Cid, block: &VerifiedBytes) -> Result<Turn, PathError> {
        match lookup.provide(cid, block)? {
            Found::Entry(entry) => {
                let to = entry.cid;
                Ok(self.descend(to))
            }
            Found::Nothing => Err(no_link(lookup.name(), &self.current)),
            Found::Want(shard) => {
                let shard = *shard;
                self.lookup = Some(lookup);
                Ok(Turn::Want(shard))
            }
        }
    }

    /// Goes into a block of data, to its next link or to the end of the path.
    fn enter_value(&mut self, codec: Codec, cid: &Cid, block: &VerifiedBytes) -> Result<Turn, PathError> {
        if self.rest.is_empty() {
            return Ok(Turn::End(Target::Data(codec), Vec::new()));
        }
        let value = codec.decode(block.as_ref()).map_err(|flaw| flaw.of(cid))?;
        let mut inside = Vec::new();
        let mut at = &value;
        while let Some(name) = self.rest.pop() {
            at = step(at, &name).ok_or_else(|| no_link(&name, cid))?;
            inside.push(name);
            if let Some(to) = link_target(at) {
                return Ok(self.descend(to));
            }
        }
        Ok(Turn::End(Target::Data(codec), inside))
    }

    /// Puts a symlink's target in front of what is left of the path.
    fn follow(&mut self, cid: &Cid, target: &[u8]) -> Result<Turn, PathError> {
        if self.symlinks == MAX_SYMLINKS {
            return Err(PathError::TooManySymlinks);
        }
        self.symlinks += 1;
        if target.len() > MAX_TARGET_BYTES {
            return Err(Flaw::malformed("symlink", "its target has more than 4096 bytes").of(cid).into());
        }
        if target.first() == Some(&b'/') {
            self.above.clear();
            self.current = self.root;
        } else {
            self.current = self.above.pop().ok_or(PathError::AboveRoot)?;
        }
        let segments = target.split(|byte| *byte == b'/').rev();
        let segments = segments.filter(|segment| !segment.is_empty() && *segment != b".");
        self.rest.extend(segments.map(Bytes::copy_from_slice));
        if self.rest.len() > MAX_SEGMENTS { Err(PathError::TooLong) } else { Ok(Turn::On) }
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn no_link(name: &[u8], parent: &Cid) -> PathError {
    PathError::NoLink { name: text(name), parent: Box::new(*parent) }
}

#[cfg(test)]
mod tests;
