//! What the operator does not serve: denylists, asked before anything is looked up and again for what was found, and of
//! each block that a peer wants. [`Admitted`] says what is served at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::denylist::{Blocked, Denylist, Parser};

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
}

impl Denylists {
    /// Takes lists that were read, each with a name; `legal` when what they block is withheld for legal reasons.
    #[must_use]
    pub fn new(lists: Vec<(String, Denylist)>, legal: bool) -> Self {
        let lists = lists.into_iter().map(|(name, rules)| List { name, rules }).collect();
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
        let lists = paths.iter().map(|path| load(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(lists, legal))
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
        for list in self.lists.iter() {
            if let Some(blocked) = ask(&list.rules) {
                return Err(self.refusal(list, &blocked));
            }
        }
        Ok(())
    }

    fn refusal(&self, list: &List, blocked: &Blocked) -> Problem {
        let kind = if self.legal { ProblemKind::BlockedByLaw } else { ProblemKind::Blocked };
        let problem = Problem::new(kind, format!("line {} of the denylist {}", blocked.line, list.name));
        match &blocked.hints {
            Some(hints) => problem.hint(hints.clone()),
            None => problem,
        }
    }
}

fn load(path: &Path) -> Result<(String, Denylist), ListError> {
    let failed = |source| ListError { option: "policy.denylists", path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut parser, mut buffer) = (Parser::default(), vec![0; READ_BYTES]);
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => break,
            read => parser.push(&buffer[..read]),
        }
    }
    let (rules, bad, count) = parser.finish();
    for line in &bad {
        tracing::warn!(list = %path.display(), %line, "a line of a denylist is skipped");
    }
    tracing::info!(list = %path.display(), rules = rules.len(), skipped = count, "denylist read");
    let file_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok((rules.name().map_or(file_name, str::to_owned), rules))
}
