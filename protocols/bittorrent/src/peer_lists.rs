//! The operator's lists of peers: read at the start, and again when their files change.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use swarmgate_egress::{AddressList, PeerGate};
use tokio_util::sync::CancellationToken;

use crate::finding::FindingOptions;

/// How often the files are looked at. A change is taken within this.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Longest file read, in bytes: 64 MiB. The longest list in use has about 30.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A list of peers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("{option}: {}: {source}", .path.display())]
    Read {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is longer than any list.
    #[error("{option}: {} has {len} bytes, more than {MAX_FILE_BYTES}", .path.display())]
    TooLong {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// No line of it makes sense.
    #[error("{option}: {} names no address in any known form", .path.display())]
    Nonsense {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// The files, and how they were when they were read.
#[derive(Debug, Clone)]
pub(crate) struct PeerLists {
    files: Vec<(&'static str, PathBuf)>,
    seen: Vec<Stamp>,
}

/// Tells one state of a file from the next; `None` when it is not there.
type Stamp = Option<(SystemTime, u64)>;

const BLOCK: &str = "bittorrent.peer_blocklists";
const ALLOW: &str = "bittorrent.peer_allowlists";

impl PeerLists {
    /// Reads the files that the options name into the gate.
    pub(crate) async fn load(options: &FindingOptions, gate: &PeerGate) -> Result<Self, ListError> {
        let blocked = options.blocklists.iter().map(|path| (BLOCK, path.clone()));
        let allowed = options.allowlists.iter().map(|path| (ALLOW, path.clone()));
        let mut lists = Self { files: blocked.chain(allowed).collect(), seen: Vec::new() };
        lists.read(gate).await?;
        Ok(lists)
    }

    async fn read(&mut self, gate: &PeerGate) -> Result<(), ListError> {
        self.seen = self.stamps();
        let files = self.files.clone();
        let reading = tokio::task::spawn_blocking(move || read_all(&files));
        // A thread that panicked has said so; its lists stay what they were.
        let Ok(lists) = reading.await else { return Ok(()) };
        let (blocked, allowed) = lists?;
        tracing::info!(blocked = blocked.len(), allowed = allowed.len(), "lists of peers were read");
        gate.set_lists(blocked, allowed);
        Ok(())
    }

    fn stamps(&self) -> Vec<Stamp> {
        self.files.iter().map(|(_, path)| stamp(path)).collect()
    }

    /// Reads the files again whenever one has changed. What cannot be read leaves the lists as they were.
    pub(crate) async fn follow(mut self, gate: PeerGate, stop: CancellationToken) {
        while !self.files.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            if self.stamps() == self.seen {
                continue;
            }
            if let Err(error) = self.read(&gate).await {
                tracing::warn!(%error, "the lists of peers stay as they were");
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn read_all(files: &[(&'static str, PathBuf)]) -> Result<(AddressList, AddressList), ListError> {
    let (mut blocked, mut allowed) = (AddressList::default(), AddressList::default());
    for (option, path) in files {
        let list = if *option == BLOCK { &mut blocked } else { &mut allowed };
        read_one(option, path, list)?;
    }
    blocked.tidy();
    allowed.tidy();
    Ok((blocked, allowed))
}

fn read_one(option: &'static str, path: &Path, list: &mut AddressList) -> Result<(), ListError> {
    let failed = |source| ListError::Read { option, path: path.to_owned(), source };
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > MAX_FILE_BYTES {
        return Err(ListError::TooLong { option, path: path.to_owned(), len });
    }
    // The names in such lists are in all sorts of encodings, and are not used.
    let bytes = std::fs::read(path).map_err(failed)?;
    let count = list.read(&String::from_utf8_lossy(&bytes));
    if count.refused > 0 && count.ranges == 0 {
        return Err(ListError::Nonsense { option, path: path.to_owned() });
    }
    if count.refused > 0 {
        tracing::warn!(list = %path.display(), lines = count.refused, "lines of a list of peers are passed over");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Instant;
    use swarmgate_egress::{EgressPolicy, Way};

    fn blocks(gate: &PeerGate, ip: &str) -> bool {
        let address = SocketAddr::new(ip.parse().unwrap(), 1);
        gate.check_accept(Instant::now(), address, Way::Tcp).is_err()
    }

    fn gate() -> PeerGate {
        PeerGate::new(EgressPolicy { allow_private: true }, Duration::from_secs(1))
    }

    fn options(dir: &Path) -> FindingOptions {
        FindingOptions {
            blocklists: vec![dir.join("block.p2p"), dir.join("block.dat")],
            allowlists: vec![dir.join("allow")],
            ..FindingOptions::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_are_read_from_all_files_and_again_when_one_changes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("block.p2p", "an old \u{e9} name:8.1.0.0-8.1.0.255\nnonsense\n");
        write("block.dat", "008.002.000.000 - 008.002.000.255 , 000 , x\n");
        write("allow", "8.1.0.7\n");
        let gate = gate();
        let lists = PeerLists::load(&options(dir.path()), &gate).await.unwrap();
        let all = |gate: &PeerGate| ["8.1.0.1", "8.1.0.7", "8.2.0.1", "8.3.0.1"].map(|ip| blocks(gate, ip));
        assert_eq!(all(&gate), [true, false, true, false]);
        let stop = CancellationToken::new();
        let following = tokio::spawn(lists.follow(gate.clone(), stop.clone()));
        std::fs::remove_file(dir.path().join("allow")).unwrap();
        tokio::time::sleep(LOOK_INTERVAL * 2).await;
        assert_eq!(all(&gate), [true, false, true, false], "what cannot be read changes nothing");
        write("allow", "");
        write("block.dat", "8.3.0.0/24");
        let deadline = Instant::now() + Duration::from_secs(5);
        while all(&gate) != [true, true, false, true] {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        stop.cancel();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn a_list_that_is_not_there_or_none_says_so_with_its_option() {
        let dir = tempfile::tempdir().unwrap();
        let only = |path: &str| FindingOptions { blocklists: vec![dir.path().join(path)], ..FindingOptions::default() };
        let error = PeerLists::load(&only("nowhere"), &gate()).await.unwrap_err().to_string();
        assert!(error.starts_with("bittorrent.peer_blocklists: ") && error.contains("nowhere"), "{error}");
        std::fs::write(dir.path().join("page"), "<html>\nhello").unwrap();
        let error = PeerLists::load(&only("page"), &gate()).await.unwrap_err().to_string();
        assert!(error.contains("names no address"), "{error}");
    }
}
