//! What a content of IPFS is: what its CID says, and what its first block does.

use std::pin::Pin;

use indicatif::BinaryBytes;
use serde_json::{Map, Value, json};
use swarmgate_config::Config;
use swarmgate_content::{Cid, HashKind};
use swarmgate_ipfs::SessionOptions;
use swarmgate_ipfs_proto::codec::{self, Codec};
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};

use super::{Told, unless};
use crate::cli::Exit;
use crate::cli::dags::{Dags, Reach, fetch_failure, read_path};
use crate::cli::list::{kind, size_of};
use crate::cli::ls::printable;
use crate::cli::source::Failure;

/// Looks at what a path names; with `offline` at what the cache has of it.
pub(super) async fn look(
    config: &Config,
    uri: &str,
    offline: bool,
    interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<Told, Failure> {
    let path = read_path(uri)?;
    let Root::Ipfs(root) = &path.root else {
        if offline {
            let message = "--offline asks nobody where a name leads; name a CID";
            return Err(Failure::new(Exit::Usage, message));
        }
        return find(config, &path, Reach::Network, interrupted).await;
    };
    if !offline {
        return find(config, &path, Reach::Network, interrupted).await;
    }
    match find(config, &path, Reach::Cache, interrupted).await {
        // A CID says something by itself.
        Err(failure) if failure.exit == Exit::NotFound && path.segments().is_empty() => Ok(Facts::of(*root).told()),
        found => found,
    }
}

async fn find(
    config: &Config,
    path: &ContentPath,
    reach: Reach,
    interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<Told, Failure> {
    let dags = Dags::open_to_look(config, reach).await?;
    let found = unless(interrupted, facts(&dags, path, reach)).await;
    dags.shutdown().await;
    Ok(found?.told())
}

async fn facts(dags: &Dags, path: &ContentPath, reach: Reach) -> Result<Facts, Failure> {
    let session = match reach {
        Reach::Network => dags.session(),
        Reach::Cache => dags.protocol().session(SessionOptions { only_local: true, ..SessionOptions::default() }),
    };
    let end = dags.resolve(&session, path).await?;
    let block = session.block(&end.cid).await.map_err(|error| fetch_failure(&error))?;
    let size = size_of(&session, &end.cid, end.target).await?;
    let links = match Codec::new(end.cid.codec()) {
        Some(_) => codec::links(&end.cid, &block).map_err(|error| Failure::new(Exit::Integrity, error.to_string()))?,
        None => Vec::new(),
    };
    let seen = Seen { kind: kind(end.target), size, block_len: block.len(), links };
    Ok(Facts { seen: Some(seen), ..Facts::of(end.cid) })
}

/// What is known of it.
struct Facts {
    cid: Cid,
    seen: Option<Seen>,
}

/// What its first block says.
struct Seen {
    kind: &'static str,
    /// Of a file, in bytes.
    size: Option<u64>,
    block_len: usize,
    links: Vec<Cid>,
}

impl Facts {
    const fn of(cid: Cid) -> Self {
        Self { cid, seen: None }
    }

    fn told(&self) -> Told {
        let (codec, hash) = (codec_name(&self.cid), hash_name(&self.cid));
        let mut page = format!("{}\n", self.cid);
        let mut document = Map::new();
        let mut row = |label: &str, key: &str, text: String, value: Value| {
            page += &format!("{label:<10} {}\n", printable(&text));
            document.insert(key.to_owned(), value);
        };
        row("codec", "codec", codec.clone(), json!(codec));
        row("hash", "hash", hash.clone(), json!(hash));
        if let Some(Seen { kind, size, block_len, links }) = &self.seen {
            row("what", "kind", (*kind).to_owned(), json!(kind));
            if let Some(size) = size {
                row("size", "size", format!("{} ({size} bytes)", BinaryBytes(*size)), json!(size));
            }
            row("its block", "block_len", format!("{block_len} bytes"), json!(block_len));
            let cids: Vec<_> = links.iter().map(Cid::to_string).collect();
            row("links", "links", links.len().to_string(), json!(cids));
        } else {
            page += "It is not in the cache; without --offline it is looked for.\n";
        }
        document.insert("cid".to_owned(), json!(self.cid.to_string()));
        Told { page, document: Value::Object(document) }
    }
}

fn codec_name(cid: &Cid) -> String {
    Codec::new(cid.codec())
        .map_or_else(|| format!("unknown here (0x{:x})", cid.codec()), |codec| codec.name().to_owned())
}

/// As the table of multihashes calls it.
fn hash_name(cid: &Cid) -> String {
    const IDENTITY: u64 = 0;
    let (code, digest_bytes) = (cid.hash().code(), cid.hash().size());
    match HashKind::new(code, digest_bytes) {
        Some(HashKind::Sha1) => "sha1".to_owned(),
        Some(HashKind::Sha2_256) => "sha2-256".to_owned(),
        Some(HashKind::Sha2_512) => "sha2-512".to_owned(),
        Some(HashKind::Blake2b(bytes)) => format!("blake2b-{}", u32::from(bytes) * 8),
        Some(HashKind::Blake3) => "blake3".to_owned(),
        Some(HashKind::Piece) => "the root of a torrent's piece".to_owned(),
        None if code == IDENTITY => format!("none: the {digest_bytes} bytes are in the CID"),
        None => format!("unknown here (0x{code:x})"),
    }
}
