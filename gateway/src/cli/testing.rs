//! A trustless gateway on loopback that has some blocks, and a command's configuration that knows no other source.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use swarmgate_config::{Config, IpfsMode, Size};
use swarmgate_content::Cid;
use swarmgate_ipfs_proto::block;
use swarmgate_ipfs_proto::build::{Block, Built, DirectoryBuilder, FileBuilder, Profile};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::dag_pb::{Link, encode};
use swarmgate_ipfs_proto::unixfs::{Kind, UnixFs};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The gateway; it ends with its guard.
#[derive(Debug)]
pub(super) struct BlockServer {
    url: String,
    asked: Arc<Mutex<Vec<Cid>>>,
    task: JoinHandle<()>,
}

impl BlockServer {
    /// Serves these blocks, but for those of which it says nothing, neither that it has them nor that it has not.
    pub(super) async fn start(blocks: &[Block], withheld: &[Cid]) -> Self {
        let blocks: BTreeMap<Cid, Option<Bytes>> = blocks
            .iter()
            .map(|block| (block.cid, (!withheld.contains(&block.cid)).then(|| block.bytes.clone())))
            .collect();
        let (blocks, asked) = (Arc::new(blocks), Arc::new(Mutex::new(Vec::new())));
        let noted = asked.clone();
        let answer = move |axum::extract::Path(cid): axum::extract::Path<String>| {
            let (blocks, cid): (_, Cid) = (blocks.clone(), cid.parse().unwrap());
            noted.lock().push(cid);
            async move {
                match blocks.get(&cid) {
                    None => (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "text/plain")], Bytes::new()),
                    Some(Some(bytes)) => (StatusCode::OK, [(CONTENT_TYPE, "application/vnd.ipld.raw")], bytes.clone()),
                    Some(None) => pending().await,
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/ipfs/{cid}", get(answer));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked, task }
    }

    /// Which blocks it was asked for, in order.
    pub(super) fn asked(&self) -> Vec<Cid> {
        self.asked.lock().clone()
    }

    /// The configuration of a command with a cache of its own, that asks here and nowhere else.
    pub(super) fn config(&self, cache: &Path) -> Config {
        let mut config = Config::default();
        config.cache.dir = cache.to_owned();
        config.cache.max_size = Size::mib(64);
        config.cache.min_free = Size::from_bytes(0);
        config.ipfs.mode = IpfsMode::TrustlessHttp;
        config.ipfs.gateways = vec![self.url.parse().unwrap()];
        config
    }
}

impl Drop for BlockServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A directory of IPFS that has one file, `film.mkv`, and who serves both.
#[derive(Debug)]
pub(super) struct FilmOfIpfs {
    /// The directory.
    pub(super) root: Cid,
    /// The file.
    pub(super) film: Cid,
    /// The file's bytes.
    pub(super) bytes: Vec<u8>,
    pub(super) server: BlockServer,
}

impl FilmOfIpfs {
    /// Serves one of so many bytes.
    pub(super) async fn serve(len: usize) -> Self {
        let bytes = noise(len);
        let (blocks, film) = file(Profile::V1_2025, &bytes);
        let mut builder = DirectoryBuilder::new(Profile::V1_2025);
        builder.add("film.mkv", film).unwrap();
        let (root, own) = builder.finish().unwrap();
        let server = BlockServer::start(&[blocks, own].concat(), &[]).await;
        Self { root: root.cid, film: film.cid, bytes, server }
    }
}

/// A file: its blocks in order, leaves before their nodes, and its root.
pub(super) fn file(profile: Profile, bytes: &[u8]) -> (Vec<Block>, Built) {
    let mut builder = FileBuilder::new(profile);
    builder.push(bytes);
    let built = builder.finish();
    (std::iter::from_fn(|| builder.poll_block()).collect(), built)
}

/// A directory with these names, whatever they are, in this order.
pub(super) fn directory(entries: &[(&[u8], Built)]) -> Block {
    let links =
        entries.iter().map(|(name, built)| Link { cid: built.cid, name: Some(name), tsize: Some(built.dag_bytes) });
    let bytes = encode(links, Some(&UnixFs::new(Kind::Directory).encode()));
    Block { cid: block::name(Codec::DagPb, &bytes), bytes: bytes.into() }
}

/// Bytes of which no two KiB are the same.
pub(super) fn noise(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(len).collect()
}

/// A certificate for another name than loopback's, with its key, in files of these names.
pub(super) fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let made = rcgen::generate_simple_self_signed(vec!["media.example".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}
