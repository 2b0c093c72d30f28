//! What the operator does not serve: denylists, asked before anything is looked up and again for what was found, and of
//! each block that a peer wants. [`Admitted`] says what is served at all.
//!
//! The lists are files, which are read at the start and at each reload, and one more that comes over the API and is kept
//! in the data directory. A list that has changed holds for what is asked from then on; what is being sent goes on. Files
//! that were read again hold all at once, those that deny and those that admit, or none of them does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::denylist::{Blocked, Denylist, LineError, Parser};
use utoipa::ToSchema;

use crate::error::{Problem, ProblemKind};

mod admitted;
mod kept;

pub use admitted::Admitted;
pub use kept::{KEPT_LIST, ReplaceError};

/// What names the files.
const FILES_OPTION: &str = "policy.denylists";
/// How much of a list's file is read at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// A list cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {path}: {source}", path = .path.display())]
pub struct ListError {
    /// What names it: an option, or the route that it came by.
    option: &'static str,
    /// Which.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

impl ListError {
    /// What names the list.
    #[must_use]
    pub const fn option(&self) -> &'static str {
        self.option
    }
}

/// The operator's lists, in order. Clones share them, and what becomes of them.
#[derive(Debug, Clone, Default)]
pub struct Denylists {
    shared: Arc<Shared>,
    legal: bool,
}

#[derive(Debug, Default)]
struct Shared {
    lists: RwLock<Lists>,
    /// How often they have changed.
    changes: AtomicU64,
    /// Where the list of the API is kept; without, it lasts as long as the gateway.
    file: Option<PathBuf>,
    /// One list of the API at a time, so that the one that is kept is the one that holds.
    turn: Mutex<()>,
}

/// What holds now.
#[derive(Debug, Default)]
struct Lists {
    /// What the others take away from.
    admitted: Admitted,
    /// Those that were given at the start.
    given: Vec<Arc<List>>,
    /// That of the API.
    kept: Option<Arc<List>>,
}

impl Lists {
    fn iter(&self) -> impl Iterator<Item = &List> {
        self.given.iter().chain(&self.kept).map(|list| &**list)
    }

    /// What was given at the start.
    fn of_files(&self) -> (Admitted, Vec<Arc<List>>) {
        (self.admitted.clone(), self.given.clone())
    }
}

/// Lists that were read again and do not hold yet.
#[derive(Debug)]
pub struct Reread {
    given: Vec<Arc<List>>,
    admitted: Admitted,
}

#[derive(Debug)]
struct List {
    name: String,
    rules: Denylist,
    /// Where and when it was read, and what of it was skipped; a list of a program's own comes from nowhere.
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    /// Its file, where it has one.
    path: Option<PathBuf>,
    at: SystemTime,
    /// The first lines that were skipped, and why.
    skipped: Vec<LineError>,
    skipped_in_all: usize,
}

/// A list, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ListStatus {
    /// The name in its header, or that of its file; `api` for the one that was sent over the API.
    pub name: String,
    /// Its file.
    pub file: Option<String>,
    /// How many rules it has.
    pub rules: usize,
    /// When it was read, in seconds since 1970; files are read at the start and at each reload.
    pub read: Option<u64>,
    /// Lines that cannot be read; the others hold.
    pub skipped: usize,
    /// The first of them, a hundred at most, each with its number and what is wrong with it.
    pub errors: Vec<String>,
}

/// What denies something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Denial {
    /// The name of the list.
    pub list: String,
    /// Its file.
    pub file: Option<String>,
    /// The number of the line, from 1.
    pub line: u32,
    /// What the line has after the rule.
    pub hints: Option<String>,
}

impl Denylists {
    /// Takes lists that were read, each with a name; `legal` when what they block is withheld for legal reasons.
    #[must_use]
    pub fn new(lists: Vec<(String, Denylist)>, legal: bool) -> Self {
        let list = |(name, rules)| Arc::new(List { name, rules, reading: None });
        Self::of(lists.into_iter().map(list).collect(), legal)
    }

    fn of(given: Vec<Arc<List>>, legal: bool) -> Self {
        let lists = RwLock::new(Lists { given, ..Lists::default() });
        Self { shared: Arc::new(Shared { lists, ..Shared::default() }), legal }
    }

    /// The same, where something else than everything is served in the first place.
    #[must_use]
    pub fn taking_away_from(self, admitted: Admitted) -> Self {
        self.shared.lists.write().admitted = admitted;
        self
    }

    /// What is served in the first place, as of now.
    #[must_use]
    pub fn admitted(&self) -> Admitted {
        self.shared.lists.read().admitted.clone()
    }

    /// Reads lists from files; their bad lines are logged and skipped.
    ///
    /// # Errors
    /// [`ListError`] when a file cannot be read: an operator who names a list wants it to hold.
    pub fn load(paths: &[PathBuf], legal: bool) -> Result<Self, ListError> {
        let lists = paths.iter().map(|path| load(FILES_OPTION, path).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self::of(lists, legal))
    }

    /// Reads the same files again, of what is served and of what is not. Nothing of it holds until it is
    /// [taken over](Self::take_over).
    ///
    /// # Errors
    /// [`ListError`] when a file cannot be read.
    pub fn read_again(&self) -> Result<Reread, ListError> {
        let (admitted, given) = self.shared.lists.read().of_files();
        let again = |list: Arc<List>| match list.path() {
            Some(path) => load(FILES_OPTION, path).map(Arc::new),
            None => Ok(list),
        };
        let given = given.into_iter().map(again).collect::<Result<_, _>>()?;
        Ok(Reread { given, admitted: admitted.read_again()? })
    }

    /// Has lists that were read again hold from now on.
    pub fn take_over(&self, reread: Reread) {
        let Reread { given, admitted } = reread;
        // The old ones are let go once the lock is.
        let _old = {
            let mut lists = self.shared.lists.write();
            (std::mem::replace(&mut lists.given, given), std::mem::replace(&mut lists.admitted, admitted))
        };
        self.shared.changes.fetch_add(1, Ordering::Release);
    }

    /// How often the lists have changed. What was checked when this number was read is to be checked again when it is
    /// another.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// The lists, in the order in which they are asked.
    #[must_use]
    pub fn list(&self) -> Vec<ListStatus> {
        self.shared.lists.read().iter().map(List::status).collect()
    }

    /// What is answered where something is denied.
    #[must_use]
    pub const fn problem(&self) -> ProblemKind {
        if self.legal { ProblemKind::BlockedByLaw } else { ProblemKind::Blocked }
    }

    /// What denies a path, as [`Self::check_path`] finds it.
    #[must_use]
    pub fn denial_of_path(&self, path: &ContentPath) -> Option<Denial> {
        self.first(|rules| rules.check(path), List::denial)
    }

    /// What denies a file of a content, or the content when `path` is empty, as [`Self::check_content`] finds it.
    #[must_use]
    pub fn denial_of_content(&self, id: &ContentId, path: &str) -> Option<Denial> {
        self.first(|rules| rules.check_content(id, path), List::denial)
    }

    /// Asks for a path as a client spells it, or as a name resolved to.
    ///
    /// # Errors
    /// 410 or 451.
    pub fn check_path(&self, path: &ContentPath) -> Result<(), Problem> {
        self.check(|rules| rules.check(path))
    }

    /// Asks for a block, whatever path led to it.
    ///
    /// # Errors
    /// 410 or 451.
    pub fn check_cid(&self, cid: &Cid) -> Result<(), Problem> {
        self.check(|rules| rules.check_cid(cid))
    }

    /// Asks for a file of a content, or for the content when `path` is empty.
    ///
    /// # Errors
    /// 410 or 451.
    pub fn check_content(&self, id: &ContentId, path: &str) -> Result<(), Problem> {
        self.check(|rules| rules.check_content(id, path)).map_err(|problem| problem.item(*id))
    }

    /// Whether peers that ask for single blocks may have this one. A block does not say which path leads to it, so that
    /// rules about paths hold for clients of the gateway alone; rules that name a CID or its double hash hold here too,
    /// whatever codec the peer asks by.
    #[must_use]
    pub fn may_serve(&self, cid: &Cid) -> bool {
        self.shared.lists.read().iter().all(|list| list.rules.check_block(cid).is_none())
    }

    fn check(&self, ask: impl Fn(&Denylist) -> Option<Blocked>) -> Result<(), Problem> {
        match self.first(ask, |list, blocked| self.refusal(list, blocked)) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// What is to be said of the first list that blocks something, and of the line by which it does.
    fn first<T>(&self, ask: impl Fn(&Denylist) -> Option<Blocked>, say: impl Fn(&List, Blocked) -> T) -> Option<T> {
        self.shared.lists.read().iter().find_map(|list| Some(say(list, ask(&list.rules)?)))
    }

    fn refusal(&self, list: &List, blocked: Blocked) -> Problem {
        let problem = Problem::new(self.problem(), format!("line {} of the denylist {}", blocked.line, list.name));
        match blocked.hints {
            Some(hints) => problem.hint(hints),
            None => problem,
        }
    }
}

impl List {
    fn path(&self) -> Option<&Path> {
        self.reading.as_ref()?.path.as_deref()
    }

    fn file(&self) -> Option<String> {
        self.path().map(|path| path.display().to_string())
    }

    fn status(&self) -> ListStatus {
        let since_epoch = |it: &Reading| it.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let errors = self.reading.iter().flat_map(|reading| &reading.skipped).map(ToString::to_string).collect();
        ListStatus {
            name: self.name.clone(),
            file: self.file(),
            rules: self.rules.len(),
            read: self.reading.as_ref().map(since_epoch),
            skipped: self.reading.as_ref().map_or(0, |reading| reading.skipped_in_all),
            errors,
        }
    }

    fn denial(&self, blocked: Blocked) -> Denial {
        Denial { list: self.name.clone(), file: self.file(), line: blocked.line, hints: blocked.hints }
    }
}

/// Reads a list from a file that `option` names; its bad lines are logged and skipped.
fn load(option: &'static str, path: &Path) -> Result<List, ListError> {
    let failed = |source| ListError { option, path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut parser, mut buffer) = (Parser::default(), vec![0; READ_BYTES]);
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => break,
            read => parser.push(&buffer[..read]),
        }
    }
    let (rules, skipped, skipped_in_all) = parser.finish();
    for line in &skipped {
        tracing::warn!(list = %path.display(), %line, "a line of a denylist is skipped");
    }
    tracing::info!(list = %path.display(), rules = rules.len(), skipped = skipped_in_all, "denylist read");
    let file_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let name = rules.name().map_or(file_name, str::to_owned);
    let reading = Reading { path: Some(path.to_owned()), at: SystemTime::now(), skipped, skipped_in_all };
    Ok(List { name, rules, reading: Some(reading) })
}
