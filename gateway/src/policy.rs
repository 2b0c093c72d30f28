//! What the operator does not serve: denylists, asked before anything is looked up and again for what was found, and of
//! each block that a peer wants. [`Admitted`] says what is served at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::denylist::{Blocked, Denylist, LineError, Parser};
use utoipa::ToSchema;

use crate::error::{Problem, ProblemKind};

mod admitted;

pub use admitted::Admitted;

/// How much of a list's file is read at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// A list cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {path}: {source}", path = .path.display())]
pub struct ListError {
    /// The option that names it.
    option: &'static str,
    /// Which.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

/// The operator's lists, in order. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Denylists {
    lists: Arc<[List]>,
    legal: bool,
    admitted: Admitted,
}

#[derive(Debug)]
struct List {
    name: String,
    rules: Denylist,
    /// Where it was read from, when, and what of it was skipped; a list of a program's own comes from nowhere.
    file: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    path: PathBuf,
    at: SystemTime,
    /// The first lines that were skipped, and why.
    skipped: Vec<LineError>,
    skipped_in_all: usize,
}

/// A list, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ListStatus {
    /// The name in its header, or that of its file.
    pub name: String,
    /// Its file.
    pub file: Option<String>,
    /// How many rules it has.
    pub rules: usize,
    /// When it was read, in seconds since 1970; lists are read at the start.
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
        let lists = lists.into_iter().map(|(name, rules)| List { name, rules, file: None }).collect();
        Self { lists, legal, admitted: Admitted::All }
    }

    /// The same, where something else than everything is served in the first place.
    #[must_use]
    pub fn taking_away_from(self, admitted: Admitted) -> Self {
        Self { admitted, ..self }
    }

    /// What is served in the first place.
    #[must_use]
    pub const fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// Reads lists from files; their bad lines are logged and skipped.
    ///
    /// # Errors
    /// [`ListError`] when a file cannot be read: an operator who names a list wants it to hold.
    pub fn load(paths: &[PathBuf], legal: bool) -> Result<Self, ListError> {
        let lists = paths.iter().map(|path| load(path)).collect::<Result<_, _>>()?;
        Ok(Self { lists, legal, admitted: Admitted::All })
    }

    /// The lists, in the order in which they are asked.
    #[must_use]
    pub fn list(&self) -> Vec<ListStatus> {
        self.lists.iter().map(List::status).collect()
    }

    /// What is answered where something is denied.
    #[must_use]
    pub const fn problem(&self) -> ProblemKind {
        if self.legal { ProblemKind::BlockedByLaw } else { ProblemKind::Blocked }
    }

    /// What denies a path, as [`Self::check_path`] finds it.
    #[must_use]
    pub fn denial_of_path(&self, path: &ContentPath) -> Option<Denial> {
        self.first(|rules| rules.check(path)).map(|(list, blocked)| list.denial(blocked))
    }

    /// What denies a file of a content, or the content when `path` is empty, as [`Self::check_content`] finds it.
    #[must_use]
    pub fn denial_of_content(&self, id: &ContentId, path: &str) -> Option<Denial> {
        self.first(|rules| rules.check_content(id, path)).map(|(list, blocked)| list.denial(blocked))
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
        self.lists.iter().all(|list| list.rules.check_block(cid).is_none())
    }

    fn check(&self, ask: impl Fn(&Denylist) -> Option<Blocked>) -> Result<(), Problem> {
        match self.first(ask) {
            Some((list, blocked)) => Err(self.refusal(list, &blocked)),
            None => Ok(()),
        }
    }

    /// The first list that blocks something, and by which line.
    fn first(&self, ask: impl Fn(&Denylist) -> Option<Blocked>) -> Option<(&List, Blocked)> {
        self.lists.iter().find_map(|list| Some((list, ask(&list.rules)?)))
    }

    fn refusal(&self, list: &List, blocked: &Blocked) -> Problem {
        let problem = Problem::new(self.problem(), format!("line {} of the denylist {}", blocked.line, list.name));
        match &blocked.hints {
            Some(hints) => problem.hint(hints.clone()),
            None => problem,
        }
    }
}

impl List {
    fn path(&self) -> Option<String> {
        self.file.as_ref().map(|file| file.path.display().to_string())
    }

    fn status(&self) -> ListStatus {
        let since_epoch = |file: &Reading| file.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let errors = self.file.iter().flat_map(|file| &file.skipped).map(ToString::to_string).collect();
        ListStatus {
            name: self.name.clone(),
            file: self.path(),
            rules: self.rules.len(),
            read: self.file.as_ref().map(since_epoch),
            skipped: self.file.as_ref().map_or(0, |file| file.skipped_in_all),
            errors,
        }
    }

    fn denial(&self, blocked: Blocked) -> Denial {
        Denial { list: self.name.clone(), file: self.path(), line: blocked.line, hints: blocked.hints }
    }
}

fn load(path: &Path) -> Result<List, ListError> {
    let failed = |source| ListError { option: "policy.denylists", path: path.to_owned(), source };
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
    let file = Reading { path: path.to_owned(), at: SystemTime::now(), skipped, skipped_in_all };
    Ok(List { name, rules, file: Some(file) })
}
