//! Which names are the same bytes: a file of a torrent, a CID, a mirror's URL. Neither can be derived from the other,
//! so somebody has to say it, and whoever says it may be wrong.
//!
//! Bytes are always checked by the name that the client asked for. When bytes that are right by one name are wrong by
//! the other, the two are not the same, whoever said so: the pair is refuted and not believed again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};
use swarmgate_content::ContentId;

/// Bindings known at most; the least trusted goes first, and of those the oldest.
pub const MAX_BINDINGS: usize = 65_536;
/// Names in one binding.
pub const MAX_NAMES_OF_A_BINDING: usize = 16;
/// Refuted pairs remembered, of which the oldest go first.
pub const MAX_REFUTED: usize = 16_384;
/// Longest URL of a mirror, in bytes.
pub const MAX_MIRROR_URL_BYTES: usize = 2048;

/// One name of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// A file of a torrent, by its number in the metainfo.
    Torrent {
        /// The infohash, of either version.
        id: ContentId,
        /// The file's place, padding files counted (BEP 47).
        file: u32,
    },
    /// A file of IPFS.
    Ipfs(ContentId),
    /// Where an HTTP server has it.
    Mirror(String),
}

impl Name {
    fn is_sound(&self) -> bool {
        match self {
            Self::Torrent { id, .. } => !matches!(id, ContentId::Ipfs(_)),
            Self::Ipfs(id) => matches!(id, ContentId::Ipfs(_)),
            Self::Mirror(url) => {
                let web = url.starts_with("https://") || url.starts_with("http://");
                web && url.len() <= MAX_MIRROR_URL_BYTES && url.chars().all(|c| c.is_ascii_graphic())
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torrent { id, file } => write!(f, "/bt/{id}/@{file}"),
            Self::Ipfs(id) => write!(f, "/ipfs/{id}"),
            Self::Mirror(url) => f.write_str(url),
        }
    }
}

/// Who says that names are the same bytes. Orders by trust.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// A magnet link or a metainfo file (`ws=`, `xs=`, BEP 19): anybody can write one.
    Hint,
    /// A manifest that this Ed25519 key signed, in hexadecimal.
    Manifest(String),
    /// The operator's configuration.
    Operator,
    /// This gateway, which has read the bytes.
    Published,
}

/// Names of one file's bytes, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentBinding {
    /// The names, at least two.
    pub names: BTreeSet<Name>,
    /// The file's length in bytes, when it is known.
    pub len: Option<u64>,
    /// Its path in the torrent, to be shown.
    pub path: Vec<String>,
    /// Who says so.
    pub said_by: Authority,
}

/// Why a binding is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingError {
    /// It has fewer than two names, or more than [`MAX_NAMES_OF_A_BINDING`].
    Count(usize),
    /// One of its names is of the wrong kind, or no URL.
    Name,
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "a binding has 2 to {MAX_NAMES_OF_A_BINDING} names, not {count}"),
            Self::Name => f.write_str("a name is a torrent's file, a CID or an http(s) URL"),
        }
    }
}

impl std::error::Error for BindingError {}

impl ContentBinding {
    /// Checks what somebody said, or what was read from an index.
    ///
    /// # Errors
    /// When it has too few names or too many, or names that are none.
    pub fn check(&self) -> Result<(), BindingError> {
        if !(2..=MAX_NAMES_OF_A_BINDING).contains(&self.names.len()) {
            return Err(BindingError::Count(self.names.len()));
        }
        if self.names.iter().all(Name::is_sound) { Ok(()) } else { Err(BindingError::Name) }
    }
}

/// All bindings, as the index keeps them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Bindings {
    bindings: BTreeMap<u64, ContentBinding>,
    /// By trust, then by age: what goes first when there are too many.
    order: BTreeSet<(Authority, u64)>,
    by_name: BTreeMap<Name, BTreeSet<u64>>,
    refuted: BTreeSet<(Name, Name)>,
    refuted_order: VecDeque<(Name, Name)>,
    next: u64,
}

/// What a change has pushed out, so that whoever keeps an index forgets it too.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PushedOut {
    /// Bindings: evicted, or left with nothing to say.
    pub bindings: Vec<ContentBinding>,
    /// The refuted pair that is no longer remembered.
    pub refuted: Option<(Name, Name)>,
}

/// The form in the index. What does not check is left out when it is read.
#[derive(Serialize, Deserialize)]
struct Kept {
    bindings: Vec<ContentBinding>,
    refuted: Vec<(Name, Name)>,
}

impl Clone for Bindings {
    fn clone(&self) -> Self {
        Self::from(Kept::from_ref(self))
    }
}

impl Kept {
    fn from_ref(table: &Bindings) -> Self {
        let bindings = table.bindings.values().cloned().collect();
        Self { bindings, refuted: table.refuted_order.iter().cloned().collect() }
    }
}

impl From<Bindings> for Kept {
    fn from(table: Bindings) -> Self {
        Self::from_ref(&table)
    }
}

impl From<Kept> for Bindings {
    fn from(kept: Kept) -> Self {
        let mut table = Self::default();
        for (one, other) in kept.refuted {
            let _forgotten = table.note_refuted(one, other);
        }
        for binding in kept.bindings {
            let _left_out_when_unsound = table.insert(binding);
        }
        table
    }
}

fn pair(one: Name, other: Name) -> (Name, Name) {
    if one <= other { (one, other) } else { (other, one) }
}

impl Bindings {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Takes what somebody says. Said again, it is kept once for each who says it. What went for it is returned, which
    /// is itself when all that it says is refuted.
    ///
    /// # Errors
    /// When it does not check; nothing is kept then.
    pub fn insert(&mut self, binding: ContentBinding) -> Result<PushedOut, BindingError> {
        binding.check()?;
        let first = binding.names.first().and_then(|name| self.by_name.get(name)).into_iter().flatten();
        if first.filter_map(|id| self.bindings.get(id)).any(|known| *known == binding) {
            return Ok(PushedOut::default());
        }
        let mut gone = PushedOut::default();
        if self.bindings.len() >= MAX_BINDINGS
            && let Some((_, id)) = self.order.first().cloned()
        {
            gone.bindings.extend(self.remove(id));
        }
        let id = self.next;
        self.next += 1;
        for name in &binding.names {
            self.by_name.entry(name.clone()).or_default().insert(id);
        }
        self.order.insert((binding.said_by.clone(), id));
        self.bindings.insert(id, binding);
        gone.bindings.extend(self.drop_hollow(id));
        Ok(gone)
    }

    /// The other names of the same bytes, and who says so: the most trusted first, no name twice.
    #[must_use]
    pub fn others(&self, name: &Name) -> Vec<(Name, Authority)> {
        let ids = self.by_name.get(name).into_iter().flatten();
        let mut said: Vec<_> = ids.filter_map(|id| self.bindings.get(id)).collect();
        said.sort_by(|one, other| other.said_by.cmp(&one.said_by));
        let mut seen = BTreeSet::from([name]);
        let mut others = Vec::new();
        for binding in said {
            for other in binding.names.iter().filter(|other| !self.is_refuted(name, other)) {
                if seen.insert(other) {
                    others.push((other.clone(), binding.said_by.clone()));
                }
            }
        }
        others
    }

    /// The bindings that speak of a name.
    pub fn about(&self, name: &Name) -> impl Iterator<Item = &ContentBinding> {
        self.by_name.get(name).into_iter().flatten().filter_map(|id| self.bindings.get(id))
    }

    /// Bytes that are right by the name `used` were wrong by the name `asked`: the two are not the same. Bindings that
    /// are left with nothing to say are dropped, and returned.
    pub fn refute(&mut self, asked: &Name, used: &Name) -> PushedOut {
        if asked == used {
            return PushedOut::default();
        }
        let refuted = self.note_refuted(asked.clone(), used.clone());
        let ids: Vec<u64> = self.by_name.get(asked).into_iter().flatten().copied().collect();
        PushedOut { bindings: ids.into_iter().filter_map(|id| self.drop_hollow(id)).collect(), refuted }
    }

    /// Forgets what one authority has said: its key is not trusted any more.
    pub fn forget(&mut self, said_by: &Authority) -> PushedOut {
        let ids: Vec<u64> =
            self.order.range((said_by.clone(), 0)..=(said_by.clone(), u64::MAX)).map(|(_, id)| *id).collect();
        PushedOut { bindings: ids.into_iter().filter_map(|id| self.remove(id)).collect(), refuted: None }
    }

    fn is_refuted(&self, one: &Name, other: &Name) -> bool {
        self.refuted.contains(&pair(one.clone(), other.clone()))
    }

    /// Remembers a pair, and returns the oldest when there are too many.
    fn note_refuted(&mut self, one: Name, other: Name) -> Option<(Name, Name)> {
        let pair = pair(one, other);
        if self.refuted.insert(pair.clone()) {
            self.refuted_order.push_back(pair);
        }
        if self.refuted_order.len() <= MAX_REFUTED {
            return None;
        }
        let oldest = self.refuted_order.pop_front()?;
        self.refuted.remove(&oldest);
        Some(oldest)
    }

    /// Drops a binding of which every pair is refuted.
    fn drop_hollow(&mut self, id: u64) -> Option<ContentBinding> {
        let binding = self.bindings.get(&id)?;
        let names: Vec<_> = binding.names.iter().collect();
        let pairs =
            names.iter().enumerate().flat_map(|(at, one)| names[at + 1..].iter().map(move |other| (one, other)));
        if pairs.into_iter().all(|(one, other)| self.is_refuted(one, other)) { self.remove(id) } else { None }
    }

    fn remove(&mut self, id: u64) -> Option<ContentBinding> {
        let binding = self.bindings.remove(&id)?;
        for name in &binding.names {
            if let Some(ids) = self.by_name.get_mut(name) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        self.order.remove(&(binding.said_by.clone(), id));
        Some(binding)
    }
}

#[cfg(test)]
mod tests;
