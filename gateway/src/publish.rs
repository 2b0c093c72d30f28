//! What a file or folder becomes on every network: a torrent that is kept, a DAG that is pinned, the binding between
//! them, and a signed manifest that says the same to other gateways.
//!
//! The reading is [`swarmgate_hybrid::publish`]; here is what the gateway adds, in an order in which a kill leaves
//! nothing that is half true: the DAG's pin, the bindings, the item's record, and at last the seal.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;
use swarmgate_bittorrent::keep_item;
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_config::Config;
use swarmgate_content::{Cid, ContentId, HashKind, Hints, InfoHash};
use swarmgate_hybrid::BindingBook;
use swarmgate_hybrid::book::BookError;
use swarmgate_hybrid::manifest::{
    MAX_MANIFEST_FILES, MAX_MANIFEST_TRACKERS, MAX_MIRRORS, Manifest, ManifestError, ManifestFile, ManifestKey,
};
use swarmgate_hybrid::publish::{
    Draft, MAX_PIECE_BYTES, MIN_PIECE_BYTES, Progress, PublishError, PublishOptions, PublishedFile, publish,
};
use swarmgate_hybrid_rules::{Authority, ContentBinding, MAX_MIRROR_URL_BYTES, Name};
use swarmgate_ipfs::pins::{PinError, Pins};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_store::{RecordError, VerifiedBlock};
use url::Url;

use crate::links;

mod jobs;

pub use jobs::{Jobs, Refusal};

/// The file of the key with which manifests are signed, in the data directory.
const KEY_FILE: &str = "publish.key";
/// The store's table of what was published: by infohash, the CID of the manifest, or nothing; by the v2 infohash of a
/// hybrid, its other one.
const PUBLISHED: &str = "published";
/// Schemes that trackers have.
const TRACKERS: [&str; 5] = ["http", "https", "udp", "ws", "wss"];
/// Schemes that web seeds have.
const WEB_SEEDS: [&str; 2] = ["http", "https"];
/// What of `cache.memory` the longest piece may take that is chosen here: longer ones would be read and hashed whole for
/// every range.
const PIECE_SHARE: u64 = 8;

/// Publishes into one store. Clones are one.
#[derive(Debug, Clone)]
pub struct Publisher {
    pins: Pins,
    book: BindingBook,
    key_file: PathBuf,
    longest_chosen: u32,
}

/// What was published.
#[derive(Debug, Clone)]
pub struct Published {
    /// The torrent.
    pub metainfo: Metainfo,
    /// The root of the DAG.
    pub root: Cid,
    /// The block of the signed manifest; none when there are more files than one can name.
    pub manifest: Option<Cid>,
    /// The files, in the torrent's order.
    pub files: Vec<PublishedFile>,
    /// Bytes that were read of the files.
    pub read_bytes: u64,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishFailure {
    /// The reading, or the store.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The DAG was not pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The bindings were not kept.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The index cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// There is no key to sign with.
    #[error("{}: {error}", path.display())]
    Key {
        /// Where it is looked for.
        path: PathBuf,
        /// Why it is none.
        error: std::io::Error,
    },
}

impl Publisher {
    /// Publishes into the store of these pins.
    #[must_use]
    pub fn new(config: &Config, pins: Pins, book: BindingBook) -> Self {
        let longest = config.cache.memory.bytes() / PIECE_SHARE;
        Self {
            pins,
            book,
            key_file: config.cache.dir.join(KEY_FILE),
            longest_chosen: u32::try_from(longest).unwrap_or(u32::MAX),
        }
    }

    /// Publishes what lies at a path. Dropped meanwhile, it is gone on with by the next call for the same path.
    ///
    /// # Errors
    /// [`PublishFailure`]; then nothing is published that was not before.
    pub async fn publish(
        &self,
        mut options: PublishOptions,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Published, PublishFailure> {
        options.longest_chosen = self.longest_chosen;
        let key = self.key().await?;
        let mut draft = publish(self.pins.store(), &options, progress).await?;
        let was_pinned = self.pins.contains(&draft.root).await?;
        match self.finish(&mut draft, &options, &key).await {
            Ok(manifest) => {
                let Draft { metainfo, root, read_bytes, .. } = &draft;
                let (metainfo, root, read_bytes) = (metainfo.clone(), *root, *read_bytes);
                let published = Published { metainfo, root, manifest, files: draft.files.clone(), read_bytes };
                draft.seal().await?;
                Ok(published)
            }
            Err(failure) => {
                if !was_pinned {
                    self.pins.remove(&draft.root).await?;
                }
                draft.let_go().await?;
                Err(failure)
            }
        }
    }

    /// The infohash of something that was published here by this name; `None` when nothing was.
    ///
    /// # Errors
    /// [`RecordError`] when the index fails.
    pub async fn published(&self, id: &ContentId) -> Result<Option<InfoHash>, RecordError> {
        let store = self.pins.store();
        match id {
            ContentId::BtV1(v1) => Ok(store.get_record(PUBLISHED, v1.as_bytes()).await?.map(|_| *v1)),
            ContentId::BtV2(v2) => {
                let other = store.get_record(PUBLISHED, v2.as_bytes()).await?;
                Ok(other.and_then(|bytes| InfoHash::from_slice(&bytes)))
            }
            ContentId::Ipfs(_) => Ok(None),
        }
    }

    /// The bindings.
    #[must_use]
    pub const fn book(&self) -> &BindingBook {
        &self.book
    }

    async fn key(&self) -> Result<ManifestKey, PublishFailure> {
        let path = self.key_file.clone();
        let loaded = tokio::task::spawn_blocking(move || ManifestKey::load_or_make(&path)).await;
        let loaded = loaded.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        loaded.map_err(|error| PublishFailure::Key { path: self.key_file.clone(), error })
    }

    async fn finish(
        &self,
        draft: &mut Draft,
        options: &PublishOptions,
        key: &ManifestKey,
    ) -> Result<Option<Cid>, PublishFailure> {
        let signed = manifest(draft, options, key);
        let manifest = signed.as_ref().map(|block| block.hash().to_cid(Codec::DagCbor.code()));
        if let Some(block) = signed {
            draft.put(block).await?;
        }
        self.pins.keep(&draft.root, false).await?;
        self.book.add_all(draft.bindings().collect()).await?;
        self.book.add_all(mirror_bindings(draft, options)).await?;
        let (store, infohash) = (self.pins.store(), draft.metainfo.infohash);
        let named = manifest.map(|cid| cid.to_bytes()).unwrap_or_default();
        store.put_record(PUBLISHED, infohash.as_bytes(), named.into()).await?;
        if let Some(v2) = draft.metainfo.id.v2() {
            let other = infohash.as_bytes().to_vec();
            store.put_record(PUBLISHED, v2.as_bytes(), other.into()).await?;
        }
        keep_item(store, &draft.metainfo).await?;
        if let Some(cid) = &manifest {
            self.pins.keep(cid, false).await?;
        }
        Ok(manifest)
    }
}

/// The signed manifest, unless there is more to say than one can hold.
fn manifest(draft: &Draft, options: &PublishOptions, key: &ManifestKey) -> Option<VerifiedBlock> {
    if draft.files.len() > MAX_MANIFEST_FILES {
        tracing::warn!(files = draft.files.len(), "more files than a manifest can name, so there is none");
        return None;
    }
    let mut trackers = options.trackers.clone();
    trackers.truncate(MAX_MANIFEST_TRACKERS);
    let file = |file: &PublishedFile| ManifestFile {
        file: file.number,
        path: file.path.clone(),
        len: file.len,
        cid: file.cid,
        mirrors: mirrors(draft, options, file).filter(|url| url.starts_with("https://")).take(MAX_MIRRORS).collect(),
    };
    let manifest = Manifest {
        name: draft.metainfo.info.name.clone(),
        infohash: draft.metainfo.infohash,
        root: draft.root,
        trackers,
        files: draft.files.iter().map(file).collect(),
    };
    match manifest.sign(key) {
        Ok(block) => Some(VerifiedBlock::name(HashKind::Sha2_256, block.into())),
        Err(error @ (ManifestError::TooLong(_) | ManifestError::Field(_))) => {
            tracing::warn!(%error, "what is published does not fit a manifest, so there is none");
            None
        }
        Err(error @ (ManifestError::Spelling | ManifestError::Version | ManifestError::Signature)) => {
            tracing::error!(%error, "a manifest was not signed");
            None
        }
    }
}

/// Where the web seeds have a file (BEP 19).
fn mirrors<'a>(
    draft: &'a Draft,
    options: &'a PublishOptions,
    file: &'a PublishedFile,
) -> impl Iterator<Item = String> + 'a {
    let info = &draft.metainfo.info;
    let url = move |seed: &String| match (info.single_file, seed.strip_suffix('/')) {
        (true, None) => seed.clone(),
        (true, Some(folder)) => format!("{folder}/{}", links::encode(&info.name)),
        (false, folder) => {
            let folder = folder.unwrap_or(seed);
            format!("{folder}/{}/{}", links::encode(&info.name), links::encode_path(&file.path))
        }
    };
    options.web_seeds.iter().map(url).filter(|url| url.len() <= MAX_MIRROR_URL_BYTES)
}

/// What the operator says of web seeds: their bytes were not read here.
fn mirror_bindings(draft: &Draft, options: &PublishOptions) -> Vec<ContentBinding> {
    let id = draft.metainfo.id.content();
    let files = draft.files.iter().filter(|file| file.len > 0);
    let binding = |file: &PublishedFile| {
        let urls = mirrors(draft, options, file).take(MAX_MIRRORS).map(Name::Mirror);
        let names = urls.chain([Name::Torrent { id, file: file.number }]).collect();
        ContentBinding { names, len: Some(file.len), path: file.path.clone(), said_by: Authority::Operator }
    };
    files.map(binding).filter(|binding| binding.names.len() > 1).collect()
}

impl Published {
    /// All files together, in bytes; without the padding of a hybrid.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    /// A magnet link with every infohash, its trackers and web seeds. Where the DAG is stands as an exact source (`xs=ipfs://…`): a
    /// client that does not know the scheme leaves it alone there, and would try to fetch it as a web seed.
    #[must_use]
    pub fn magnet(&self) -> String {
        let hints = Hints {
            name: Some(self.metainfo.info.name.clone()),
            trackers: self.metainfo.announce.clone(),
            web_seeds: self.metainfo.web_seeds.clone(),
            ..Hints::default()
        };
        let exact_sources = vec![format!("ipfs://{}", self.root)];
        let id = self.metainfo.id;
        Magnet { v1: id.v1(), v2: id.v2(), hints, exact_sources, ..Magnet::default() }.to_string()
    }

    /// Where a gateway whose address is `base` has it.
    #[must_use]
    pub fn links(&self, base: &str) -> Links {
        let (infohash, root) = (self.metainfo.infohash, self.root);
        let (bt, ipfs) = match self.metainfo.info.files.first() {
            Some(entry) if self.metainfo.info.single_file => {
                let file = links::file(0, entry);
                (format!("{base}/bt/{infohash}/{file}"), format!("{base}/ipfs/{root}?filename={file}"))
            }
            Some(_) | None => (format!("{base}/bt/{infohash}/"), format!("{base}/ipfs/{root}/")),
        };
        let object = self.manifest.map_or_else(|| infohash.to_string(), |manifest| manifest.to_string());
        Links { bt, ipfs, x: format!("{base}/x/{object}/") }
    }

    /// As the API and `--json` show it.
    #[must_use]
    pub fn to_json(&self, base: &str) -> serde_json::Value {
        let file = |file: &PublishedFile| json!({ "number": file.number, "path": file.path, "len": file.len, "cid": file.cid.to_string() });
        json!({
            "infohash": self.metainfo.infohash,
            "infohash_v2": self.metainfo.id.v2(),
            "cid": self.root.to_string(),
            "manifest": self.manifest.map(|cid| cid.to_string()),
            "name": self.metainfo.info.name,
            "len": self.total_len(),
            "piece_len": self.metainfo.info.piece_len,
            "read_bytes": self.read_bytes,
            "magnet": self.magnet(),
            "links": self.links(base),
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
        })
    }
}

/// Where a gateway has what was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Links {
    /// As a torrent.
    pub bt: String,
    /// As a DAG.
    pub ipfs: String,
    /// As both.
    pub x: String,
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}", self.bt, self.ipfs, self.x)
    }
}

/// Whether a torrent's pieces may have so many bytes.
#[must_use]
pub const fn is_piece_len(bytes: u32) -> bool {
    bytes.is_power_of_two() && MIN_PIECE_BYTES <= bytes && bytes <= MAX_PIECE_BYTES
}

/// Checks that trackers and web seeds are URLs of those.
///
/// # Errors
/// Which is none, and what it has to be.
pub fn check_urls(trackers: &[String], web_seeds: &[String]) -> Result<(), String> {
    let check = |what: &str, urls: &[String], schemes: &[&str]| {
        let sound =
            |text: &&String| Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host());
        match urls.iter().find(|text| !sound(text)) {
            Some(text) => Err(format!("{what} {text}: has to be a URL of {}", schemes.join(", "))),
            None => Ok(()),
        }
    };
    check("tracker", trackers, &TRACKERS)?;
    check("web seed", web_seeds, &WEB_SEEDS)
}

/// The address of the gateway that a configuration describes, without a slash at its end.
#[must_use]
pub fn base(config: &Config) -> String {
    if let Some(public) = &config.server.public_url {
        return public.as_str().trim_end_matches('/').to_owned();
    }
    let mut listen = config.server.addresses().next().unwrap_or_else(|| ([127, 0, 0, 1], 8420).into());
    if listen.ip().is_unspecified() {
        listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let path = config.server.base_path.trim_matches('/');
    let separator = if path.is_empty() { "" } else { "/" };
    let scheme = if config.server.has_tls() { "https" } else { "http" };
    format!("{scheme}://{listen}{separator}{path}")
}
