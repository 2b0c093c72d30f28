//! The list that comes over the API: taken whole or not at all, kept in the data directory, and read again at the start.
//!
//! Whoever sends it is there to mend it, so that a line that cannot be read refuses it; in files such lines are skipped.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use parking_lot::RwLock;
use swarmgate_ipfs_proto::denylist::{Denylist, LineError};

use super::{Denylists, List, ListError, Lists, Reading, Shared, load};
use crate::auth::private;

/// Its name among the lists, whatever its header says.
pub const KEPT_LIST: &str = "api";
/// The name of its file in the data directory.
const FILE: &str = "api.deny";
/// What it came by, for who reads why it cannot be read.
const ROUTE: &str = "the list of PUT /api/v1/denylists";

/// Why a list is not taken; then the one before still holds, and is the one that is kept.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Lines of it cannot be read.
    #[error("{in_all} of its lines cannot be read")]
    Lines {
        /// The first of them, a hundred at most.
        first: Vec<LineError>,
        /// How many there are.
        in_all: usize,
    },
    /// It cannot be written, or the one before cannot be removed.
    #[error("{}: {source}", path.display())]
    Keep {
        /// Where it is kept.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Denylists {
    /// The same with the list of the API, which is kept in this directory from now on, and read from there now.
    ///
    /// # Errors
    /// [`ListError`] when it is there and cannot be read.
    pub fn kept_in(self, dir: &Path) -> Result<Self, ListError> {
        let path = dir.join(FILE);
        let kept = match load(ROUTE, &path) {
            Ok(list) => Some(Arc::new(List { name: KEPT_LIST.to_owned(), ..list })),
            Err(error) if error.source.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (admitted, given) = self.shared.lists.read().of_files();
        let lists = RwLock::new(Lists { admitted, given, kept });
        let shared = Shared { lists, file: Some(path), ..Shared::default() };
        Ok(Self { shared: Arc::new(shared), ..self })
    }

    /// Puts a list in the place of the one that came over the API before; an empty text removes that. What is asked from
    /// then on is asked of the new one. Parses and writes, so for as long as that takes.
    ///
    /// # Errors
    /// [`ReplaceError`]; then nothing is changed.
    pub fn replace(&self, text: &[u8]) -> Result<(), ReplaceError> {
        let _turn = self.shared.turn.lock();
        let path = self.shared.file.as_ref();
        let list = if text.is_empty() { None } else { Some(Arc::new(parse(text, path.cloned())?)) };
        if let Some(path) = path {
            let kept = if list.is_some() { private::replace(path, text) } else { remove(path) };
            kept.map_err(|source| ReplaceError::Keep { path: path.clone(), source })?;
        }
        tracing::info!(rules = list.as_ref().map(|list| list.rules.len()), "the denylist of the API was replaced");
        // The old one is let go once the lock is.
        let _old = std::mem::replace(&mut self.shared.lists.write().kept, list);
        self.shared.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn parse(text: &[u8], path: Option<PathBuf>) -> Result<List, ReplaceError> {
    let (rules, first, in_all) = Denylist::parse(text);
    if in_all > 0 {
        return Err(ReplaceError::Lines { first, in_all });
    }
    let reading = Reading { path, at: SystemTime::now(), skipped: Vec::new(), skipped_in_all: 0 };
    Ok(List { name: KEPT_LIST.to_owned(), rules, reading: Some(reading) })
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use swarmgate_content::Cid;

    use super::*;

    /// A CID that holds its own bytes.
    const CID: &str = "bafkqabtimvwgy3yk";

    fn in_dir(dir: &Path) -> Denylists {
        Denylists::default().kept_in(dir).unwrap()
    }

    #[test]
    fn a_list_holds_for_all_who_share_it_and_is_read_again_at_the_next_start() {
        let (dir, cid) = (tempfile::tempdir().unwrap(), CID.parse::<Cid>().unwrap());
        let lists = in_dir(dir.path());
        let lent = lists.clone();
        assert!(lent.may_serve(&cid) && lists.changes() == 0);
        lists.replace(format!("name: another\n---\n/ipfs/{CID}\n").as_bytes()).unwrap();
        assert!(!lent.may_serve(&cid) && lent.changes() == 1);
        let again = in_dir(dir.path());
        assert!(!again.may_serve(&cid));
        for lists in [&lists, &again] {
            let status = &lists.list()[0];
            assert_eq!((status.name.as_str(), status.rules, status.skipped), (KEPT_LIST, 1, 0));
            assert!(status.file.as_ref().is_some_and(|file| file.ends_with(FILE)) && status.read.is_some());
        }

        again.replace(b"").unwrap();
        again.replace(b"").unwrap();
        assert!(again.may_serve(&cid) && again.list().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        assert!(in_dir(dir.path()).list().is_empty());
    }

    #[test]
    fn a_list_with_a_line_that_cannot_be_read_changes_nothing() {
        let (dir, cid) = (tempfile::tempdir().unwrap(), CID.parse::<Cid>().unwrap());
        let lists = in_dir(dir.path());
        lists.replace(format!("/ipfs/{CID}\n").as_bytes()).unwrap();
        let refused = lists.replace(b"# for now\n//nonsense\nwhat is this\n").unwrap_err();
        let ReplaceError::Lines { first, in_all } = refused else { panic!("refused for another reason") };
        assert_eq!((first.iter().map(|error| error.line).collect::<Vec<_>>(), in_all), (vec![2, 3], 2));
        assert!(!lists.may_serve(&cid) && !in_dir(dir.path()).may_serve(&cid) && lists.changes() == 1);
    }

    #[test]
    fn what_cannot_be_kept_does_not_hold() {
        let (dir, cid) = (tempfile::tempdir().unwrap(), CID.parse::<Cid>().unwrap());
        let lists = in_dir(&dir.path().join("cache"));
        std::fs::write(dir.path().join("cache"), "where the directory should be").unwrap();
        let refused = lists.replace(format!("/ipfs/{CID}\n").as_bytes()).unwrap_err();
        assert!(matches!(refused, ReplaceError::Keep { .. }), "{refused}");
        assert!(lists.may_serve(&cid) && lists.list().is_empty());
    }

    #[test]
    fn a_gateway_that_keeps_nothing_has_its_list_until_it_ends() {
        let (lists, cid) = (Denylists::default(), CID.parse::<Cid>().unwrap());
        lists.replace(format!("/ipfs/{CID}\n").as_bytes()).unwrap();
        assert!(!lists.may_serve(&cid));
        assert_eq!(lists.list()[0].file, None);
    }
}
