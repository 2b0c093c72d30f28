//! What is served and fetched at all, before denylists take away from it: everything, what lists name, or what is kept.
//!
//! A client's id is what counts, asked before anybody is asked about it: what is reached through a listed content belongs
//! to it, whatever that is called elsewhere.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs_proto::allowlist::Allowlist;
use swarmgate_ipfs_proto::block::hash_of;
use swarmgate_ipfs_proto::content_path::Root;
use swarmgate_ipfs_proto::denylist::MAX_REPORTED;
use swarmgate_store::Store;

use super::ListError;
use crate::catalogue::{AddError, Catalogue, wire};
use crate::error::{Problem, ProblemKind};
use crate::routes::magnet;

/// What is served at all. Clones share it.
#[derive(Debug, Clone, Default)]
pub enum Admitted {
    /// Whatever is asked for.
    #[default]
    All,
    /// What is listed, by the id that is listed.
    Listed {
        /// All lists in one.
        list: Arc<Allowlist>,
        /// Where they were read; a list of a program's own comes from nowhere.
        files: Arc<[PathBuf]>,
    },
    /// Blocks that are pinned, and torrents that were added to stay.
    Kept,
}

impl Admitted {
    /// What a program has listed itself.
    #[must_use]
    pub fn listing(list: Allowlist) -> Self {
        Self::Listed { list: Arc::new(list), files: Arc::default() }
    }

    /// Reads lists from files, all into one; their bad lines are logged and list nothing.
    ///
    /// # Errors
    /// [`ListError`] when a file cannot be read.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ListError> {
        let mut list = Allowlist::default();
        for path in paths {
            read(path, &mut list).map_err(|source| ListError {
                option: "policy.allowlists",
                path: path.clone(),
                source,
            })?;
        }
        tracing::info!(contents = list.len(), "allow-lists read");
        Ok(Self::Listed { list: Arc::new(list), files: paths.into() })
    }

    /// The same by what its files say now.
    ///
    /// # Errors
    /// [`ListError`] when a file cannot be read.
    pub(super) fn read_again(&self) -> Result<Self, ListError> {
        match self {
            Self::Listed { files, .. } if !files.is_empty() => Self::load(files),
            Self::All | Self::Kept | Self::Listed { .. } => Ok(self.clone()),
        }
    }

    /// The torrents that may be taken up again; `None` when all may.
    #[must_use]
    pub fn torrents(&self) -> Option<Arc<BTreeSet<ContentId>>> {
        match self {
            Self::All | Self::Kept => None,
            Self::Listed { list, .. } => Some(Arc::new(list.torrents().clone())),
        }
    }

    /// Whether what is served today may be refused tomorrow, though no list has changed.
    #[must_use]
    pub const fn may_change(&self) -> bool {
        matches!(self, Self::Kept)
    }

    /// Asks for a torrent that a client wants to read. It is known by either of its names once its metadata is here.
    ///
    /// # Errors
    /// 403.
    pub fn check_torrent(&self, id: &ContentId, catalogue: &dyn Catalogue) -> Result<(), Problem> {
        let item = || catalogue.item(&wire(id)?);
        let fine = match self {
            Self::All => true,
            Self::Listed { list, .. } => {
                list.has(id)
                    || item().is_some_and(|item| {
                        let v2 = item.infohash_v2.map(ContentId::BtV2);
                        list.has(&ContentId::BtV1(item.infohash)) || v2.is_some_and(|v2| list.has(&v2))
                    })
            }
            Self::Kept => item().is_some_and(|item| item.kept),
        };
        if fine { Ok(()) } else { Err(self.refusal().item(*id)) }
    }

    /// Asks for a torrent that is about to be added by its magnet, to stay or not. What the magnet says of other names is
    /// its word alone.
    ///
    /// # Errors
    /// 403; 400 for a magnet that names no torrent.
    pub fn check_magnet(&self, magnet: &Magnet, keep: bool, catalogue: &dyn Catalogue) -> Result<(), Problem> {
        match self {
            Self::All => Ok(()),
            Self::Kept if keep => Ok(()),
            Self::Kept | Self::Listed { .. } => self.check_torrent(&magnet::id(magnet)?, catalogue),
        }
    }

    /// The same by its `.torrent` file, of which both names are known.
    ///
    /// # Errors
    /// 403; 422 for what is no such file.
    pub fn check_file(&self, torrent: &Bytes, keep: bool, catalogue: &dyn Catalogue) -> Result<(), Problem> {
        if matches!(self, Self::All) || (keep && matches!(self, Self::Kept)) {
            return Ok(());
        }
        let id = Metainfo::parse(torrent).map_err(|error| AddError::Invalid { reason: error.to_string() })?.id;
        let names = [id.v1().map(ContentId::BtV1), id.v2().map(ContentId::BtV2)];
        let refused = || Err(self.refusal().item(id.content()));
        names
            .iter()
            .flatten()
            .map(|name| self.check_torrent(name, catalogue))
            .find(Result::is_ok)
            .unwrap_or_else(refused)
    }

    /// Asks for the root of a path, as a client spells it. Where pinned blocks alone are served, names are followed:
    /// [`Self::check_target`] asks for what they lead to.
    ///
    /// # Errors
    /// 403.
    pub fn check_root(&self, root: &Root, store: &Store) -> Result<(), Problem> {
        let fine = match (self, root) {
            (Self::All, _) | (Self::Kept, Root::Key(_) | Root::Host(_)) => true,
            (Self::Listed { list, .. }, _) => list.has_root(root),
            (Self::Kept, Root::Ipfs(cid)) => is_pinned(cid, store),
        };
        if fine { Ok(()) } else { Err(self.refusal()) }
    }

    /// Asks for a DAG that is about to be pinned; where pinned ones alone are served, that is how it becomes one.
    ///
    /// # Errors
    /// 403.
    pub fn check_pin(&self, root: &Cid, store: &Store) -> Result<(), Problem> {
        match self {
            Self::All | Self::Kept => Ok(()),
            Self::Listed { .. } => self.check_root(&Root::Ipfs(*root), store),
        }
    }

    /// Asks for what a name led to.
    ///
    /// # Errors
    /// 403.
    pub fn check_target(&self, root: &Root, store: &Store) -> Result<(), Problem> {
        match self {
            Self::All | Self::Listed { .. } => Ok(()),
            Self::Kept => self.check_root(root, store),
        }
    }

    /// Whether peers that ask for single blocks may have this one. A block does not say to which content it belongs, so
    /// that of lists those alone count that are named themselves.
    #[must_use]
    pub fn may_give(&self, cid: &Cid, store: &Store) -> bool {
        match self {
            Self::All => true,
            Self::Listed { list, .. } => list.has_block(cid),
            Self::Kept => is_pinned(cid, store),
        }
    }

    /// Refuses what is not admitted.
    #[must_use]
    pub fn refusal(&self) -> Problem {
        let (detail, hint) = match self {
            Self::All | Self::Listed { .. } => {
                ("it is on none of the operator's lists", "policy.allowlists names the lists")
            }
            Self::Kept => {
                ("it is neither pinned nor was it added to stay", "add it with \"pin\": true, or pin its CID")
            }
        };
        Problem::new(ProblemKind::NotAdmitted, detail).hint(hint)
    }
}

/// A block without a hash of its own, one that is in its CID, cannot be pinned.
fn is_pinned(cid: &Cid, store: &Store) -> bool {
    hash_of(cid).is_ok_and(|hash| store.is_pinned(&hash))
}

fn read(path: &Path, list: &mut Allowlist) -> std::io::Result<()> {
    let mut file = BufReader::new(std::fs::File::open(path)?);
    let (mut line, mut number, mut bad) = (Vec::new(), 0_u64, 0_usize);
    while file.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        if let Err(why) = list.add(&line) {
            bad += 1;
            if bad <= MAX_REPORTED {
                tracing::warn!(list = %path.display(), line = number, %why, "a line of an allow-list is skipped");
            }
        }
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use swarmgate_content::{HashKind, TorrentId};
    use swarmgate_store::StoreOptions;

    use super::*;
    use crate::testing::{TestCatalogue, infohash, item};

    fn listed(text: &str) -> Admitted {
        let mut list = Allowlist::default();
        text.lines().for_each(|line| list.add(line.as_bytes()).unwrap());
        Admitted::listing(list)
    }

    fn raw(bytes: &[u8]) -> Cid {
        HashKind::Sha2_256.hash(bytes).to_cid(0x55)
    }

    #[test]
    fn a_torrent_is_served_by_what_is_listed_or_kept() {
        let (catalogue, other) = (TestCatalogue::default(), ContentId::BtV1("cd".repeat(20).parse().unwrap()));
        let id = ContentId::BtV1(infohash());
        let list = listed(&infohash().to_string());
        for (admitted, served) in [(Admitted::All, true), (list.clone(), true), (Admitted::Kept, false)] {
            assert_eq!(admitted.check_torrent(&id, &catalogue).is_ok(), served, "{admitted:?}");
        }
        let refused = list.check_torrent(&other, &catalogue).unwrap_err();
        assert_eq!((refused.kind(), refused.kind().status().as_u16()), (ProblemKind::NotAdmitted, 403));
        for (kept, served) in [(false, false), (true, true)] {
            catalogue.items.lock().insert(infohash(), item(infohash(), true, kept));
            assert_eq!(Admitted::Kept.check_torrent(&id, &catalogue).is_ok(), served, "kept: {kept}");
        }
    }

    #[test]
    fn a_hybrid_is_served_by_either_name_once_both_are_known() {
        let (catalogue, v2) = (TestCatalogue::default(), "ef".repeat(32));
        let (list, v1) = (listed(&v2), ContentId::BtV1(infohash()));
        assert!(list.check_torrent(&v1, &catalogue).is_err());
        let mut known = item(infohash(), true, false);
        known.infohash_v2 = v2.parse().ok();
        catalogue.items.lock().insert(infohash(), known);
        assert!(list.check_torrent(&v1, &catalogue).is_ok());
        let names = TorrentId::new(Some(infohash()), v2.parse().ok()).unwrap();
        assert!(list.check_torrent(&ContentId::BtV2(names.v2().unwrap()), &catalogue).is_ok());
    }

    #[test]
    fn a_magnet_is_taken_at_its_first_name_and_a_pin_at_its_word() {
        let catalogue = TestCatalogue::default();
        let magnet = |text: &str| Magnet::parse(text).unwrap();
        let stranger = format!("magnet:?xt=urn:btih:{}", "cd".repeat(20));
        // That both are one torrent is the magnet's word alone.
        let both = format!("{stranger}&xt=urn:btmh:1220{}", "ef".repeat(32));
        let list = listed(&"ef".repeat(32));
        assert!(list.check_magnet(&magnet(&both), true, &catalogue).is_err());
        assert!(Admitted::Kept.check_magnet(&magnet(&stranger), true, &catalogue).is_ok());
        assert!(Admitted::Kept.check_magnet(&magnet(&stranger), false, &catalogue).is_err());
        assert!(Admitted::All.check_magnet(&magnet(&stranger), false, &catalogue).is_ok());
    }

    #[test]
    fn a_file_that_is_none_is_told_apart_from_one_that_is_not_served() {
        let (catalogue, nonsense) = (TestCatalogue::default(), Bytes::from_static(b"de"));
        let kind = |admitted: &Admitted, keep| admitted.check_file(&nonsense, keep, &catalogue).map_err(|it| it.kind());
        assert_eq!(kind(&listed(""), true), Err(ProblemKind::InvalidTorrent));
        assert_eq!(kind(&Admitted::Kept, false), Err(ProblemKind::InvalidTorrent));
        assert_eq!(kind(&Admitted::Kept, true), Ok(()), "the engine says what it is");
        assert_eq!(kind(&Admitted::All, false), Ok(()));
    }

    #[tokio::test]
    async fn peers_are_given_listed_blocks_or_pinned_ones() {
        let store = Store::open(StoreOptions::in_memory(1 << 20)).await.unwrap();
        let (ours, other) = (raw(b"ours"), raw(b"other"));
        store.pin("ipfs:ours", [hash_of(&ours).unwrap()]);
        let list = listed(&ours.to_string());
        for admitted in [&list, &Admitted::Kept] {
            assert!(admitted.may_give(&ours, &store), "{admitted:?}");
            assert!(!admitted.may_give(&other, &store), "{admitted:?}");
        }
        assert!(Admitted::All.may_give(&other, &store));
        store.unpin("ipfs:ours");
        assert!(list.may_give(&ours, &store) && !Admitted::Kept.may_give(&ours, &store));
        store.close().await;
    }

    #[test]
    fn lists_are_read_from_files_and_one_that_is_missing_is_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        std::fs::write(&first, format!("# films\n{}\nnonsense\n", infohash())).unwrap();
        std::fs::write(&second, format!("{}", raw(b"ours"))).unwrap();
        let Admitted::Listed { list, .. } = Admitted::load(&[first, second]).unwrap() else {
            panic!("a list was read")
        };
        assert!(list.len() == 2 && list.has(&ContentId::BtV1(infohash())) && list.has_block(&raw(b"ours")));
        let missing = Admitted::load(&[dir.path().join("third")]).unwrap_err().to_string();
        assert!(missing.starts_with("policy.allowlists: ") && missing.contains("third"), "{missing}");
    }

    #[test]
    fn files_are_read_again_and_what_came_from_none_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, catalogue, id) = (dir.path().join("list"), TestCatalogue::default(), ContentId::BtV1(infohash()));
        std::fs::write(&file, "").unwrap();
        let before = Admitted::load(std::slice::from_ref(&file)).unwrap();
        std::fs::write(&file, infohash().to_string()).unwrap();
        let now = before.read_again().unwrap();
        assert!(before.check_torrent(&id, &catalogue).is_err() && now.check_torrent(&id, &catalogue).is_ok());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(now.read_again().unwrap_err().option(), "policy.allowlists");
        let ours = listed(&infohash().to_string()).read_again().unwrap();
        assert!(ours.check_torrent(&id, &catalogue).is_ok());
        assert!(matches!(Admitted::Kept.read_again().unwrap(), Admitted::Kept));
    }
}
