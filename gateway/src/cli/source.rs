//! What a person names on the command line: a magnet, an infohash, a `.torrent` file or the URL of one.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_bittorrent_proto::metainfo::{MAX_TORRENT_BYTES, Metainfo};
use swarmgate_content::{ContentId, Hints, TorrentId};
use swarmgate_egress::HttpClient;

use super::Exit;

/// How long the server of a `.torrent` URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// What to get.
#[derive(Debug)]
pub struct Source {
    /// The torrent.
    pub id: TorrentId,
    /// What may help to find it.
    pub hints: Hints,
    /// Its metainfo, when that was given.
    pub metainfo: Option<Metainfo>,
    /// The files that a magnet selects (BEP 53).
    pub select: Option<swarmgate_bittorrent_proto::magnet::Selection>,
}

/// A command that failed: the sentence for the person, the code for the script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// Why.
    pub message: String,
}

impl Failure {
    /// Makes one.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl Source {
    /// Reads what was typed; fetches it when it is a URL.
    ///
    /// # Errors
    /// When it is nothing of the kind, or the file or URL cannot be read.
    pub async fn read(text: &str, http: &HttpClient) -> Result<Self, Failure> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let fetched = http.get_bytes(text, MAX_TORRENT_BYTES, FETCH_TIMEOUT).await;
            let bytes = fetched.map_err(|error| Failure::new(Exit::Error, format!("{text}: {error}")))?;
            return Self::from_torrent(&bytes, text);
        }
        Self::read_here(text).await
    }

    /// Reads what was typed where nobody has to be asked: all but URLs.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_here(text: &str) -> Result<Self, Failure> {
        if text.starts_with("magnet:") {
            return Self::from_magnet(text);
        }
        match ContentId::parse_torrent(text) {
            Ok(ContentId::BtV1(v1)) => Ok(Self::named(v1.into())),
            Ok(ContentId::BtV2(v2)) => Ok(Self::named(v2.into())),
            Ok(ContentId::Ipfs(_)) => Err(Failure::new(Exit::Usage, "a CID is no torrent")),
            Err(not_id) => Self::from_file(text).await.map_err(|failure| {
                if failure.exit != Exit::NotFound {
                    return failure;
                }
                let message = format!("{text:?} is no magnet, file or URL, and as an infohash: {not_id}");
                Failure::new(Exit::Usage, message)
            }),
        }
    }

    fn named(id: TorrentId) -> Self {
        Self { id, hints: Hints::default(), metainfo: None, select: None }
    }

    fn from_magnet(text: &str) -> Result<Self, Failure> {
        let magnet = Magnet::parse(text).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        // Of a hybrid's two names the first is the one that more peers know.
        let named = magnet.v1.map(TorrentId::V1).or_else(|| magnet.v2.map(TorrentId::V2));
        let id = named.ok_or_else(|| Failure::new(Exit::Usage, "the magnet names no torrent"))?;
        Ok(Self { id, hints: magnet.hints, metainfo: None, select: magnet.select })
    }

    async fn from_file(text: &str) -> Result<Self, Failure> {
        let bytes = read_file(text, &format!(", which has at most {MAX_TORRENT_BYTES}")).await?;
        Self::from_torrent(&bytes, text)
    }

    fn from_torrent(bytes: &Bytes, name: &str) -> Result<Self, Failure> {
        let metainfo =
            Metainfo::parse(bytes).map_err(|error| Failure::new(Exit::Integrity, format!("{name}: {error}")))?;
        let hints = Hints { trackers: metainfo.announce.clone(), ..Hints::default() };
        Ok(Self { id: metainfo.id, hints, metainfo: Some(metainfo), select: None })
    }
}

/// Reads a `.torrent` file of bounded size, whatever is in it; `but` ends the sentence that refuses a longer one.
pub(super) async fn read_file(text: &str, but: &str) -> Result<Bytes, Failure> {
    let complain = |error: std::io::Error| Failure::new(Exit::from(&error), format!("{text}: {error}"));
    let path = Path::new(text);
    let len = tokio::fs::metadata(path).await.map_err(complain)?.len();
    if len > MAX_TORRENT_BYTES as u64 {
        return Err(Failure::new(Exit::Usage, format!("{text}: {len} bytes are too many for a .torrent file{but}")));
    }
    tokio::fs::read(path).await.map(Bytes::from).map_err(complain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_too_long_for_a_torrent_is_refused_by_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mkv");
        let len = MAX_TORRENT_BYTES as u64 + 1;
        std::fs::File::create(&path).unwrap().set_len(len).unwrap();
        let text = path.display().to_string();
        let failure = Source::read_here(&text).await.unwrap_err();
        let why = format!("{len} bytes are too many for a .torrent file, which has at most {MAX_TORRENT_BYTES}");
        assert_eq!((failure.exit, failure.message), (Exit::Usage, format!("{text}: {why}")));
    }
}
