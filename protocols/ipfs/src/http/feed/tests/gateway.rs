//! A gateway that has blocks in memory, is as far away as a story has it, and makes CARs in many ways.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use swarmgate_content::{Cid, HashKind};
use swarmgate_ipfs_proto::block::check;
use swarmgate_ipfs_proto::build::Block;
use swarmgate_ipfs_proto::car::{header, section_head};
use swarmgate_ipfs_proto::export::{DagExport, EntityBytes, Scope};

use crate::http::testing::{Server, http};
use crate::http::{EndpointOptions, TrustlessGateway};
use crate::source::BlockSource;

/// How it answers a request for a CAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cars {
    Honest,
    /// With this status.
    Status(u16),
    /// With a web page that calls itself a success.
    Page,
    /// Never.
    Silent,
    /// With other bytes in the place of this block's.
    Forged(usize),
    /// Only up to this block.
    Cut(usize),
    /// Without this block.
    Lacking(usize),
    /// The last block first.
    Backwards,
    /// Every block twice.
    Twice,
    /// With blocks that nobody asked for, without end.
    Endless,
}

/// The running gateway.
pub(super) struct Gateway {
    server: Server,
    world: Arc<World>,
}

struct World {
    blocks: BTreeMap<Cid, Bytes>,
    delay: Duration,
    cars: Cars,
    asked: Mutex<Vec<String>>,
    /// Bytes of CARs, and how many CARs are being sent.
    sent: AtomicUsize,
    open: AtomicUsize,
}

impl Gateway {
    /// Starts one that takes `delay` for each answer.
    pub(super) async fn start(blocks: &[Block], delay: Duration, cars: Cars) -> Self {
        let world = Arc::new(World {
            blocks: blocks.iter().map(|block| (block.cid, block.bytes.clone())).collect(),
            delay,
            cars,
            asked: Mutex::default(),
            sent: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let server = Server::start(Router::new().fallback(any(answer)).with_state(world.clone())).await;
        Self { server, world }
    }

    pub(super) fn source(&self) -> Arc<dyn BlockSource> {
        let options = EndpointOptions::default();
        Arc::new(TrustlessGateway::new(http(), self.server.base(), options).unwrap())
    }

    /// The CARs that it was asked for.
    pub(super) fn cars(&self) -> Vec<String> {
        self.world.asked.lock().iter().filter(|uri| uri.contains("format=car")).cloned().collect()
    }

    /// How many single blocks it was asked for.
    pub(super) fn singles(&self) -> usize {
        self.world.asked.lock().iter().filter(|uri| uri.contains("format=raw")).count()
    }

    /// How many bytes of CARs were taken off its hands.
    pub(super) fn sent(&self) -> usize {
        self.world.sent.load(Ordering::SeqCst)
    }

    /// How many CARs are being sent.
    pub(super) fn open(&self) -> usize {
        self.world.open.load(Ordering::SeqCst)
    }
}

async fn answer(State(world): State<Arc<World>>, uri: Uri) -> Response {
    world.asked.lock().push(uri.to_string());
    tokio::time::sleep(world.delay).await;
    let cid: Cid = uri.path().trim_start_matches("/ipfs/").parse().unwrap();
    let query = uri.query().unwrap_or_default();
    if query.contains("format=raw") {
        return match world.blocks.get(&cid) {
            Some(bytes) => ([("content-type", "application/vnd.ipld.raw")], bytes.clone()).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    let bytes = query.split('&').find_map(|pair| pair.strip_prefix("entity-bytes="));
    let cars = world.cars;
    match cars {
        Cars::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Cars::Page => ([("content-type", "text/html")], "<html>").into_response(),
        Cars::Silent => std::future::pending().await,
        Cars::Honest
        | Cars::Forged(_)
        | Cars::Cut(_)
        | Cars::Lacking(_)
        | Cars::Backwards
        | Cars::Twice
        | Cars::Endless => car(world, cid, bytes.map(|text| text.parse().unwrap())),
    }
}

fn car(world: Arc<World>, root: Cid, bytes: Option<EntityBytes>) -> Response {
    let (cars, mut blocks) = (world.cars, export(&world, root, bytes));
    match cars {
        Cars::Forged(nth) => blocks[nth].1 = Bytes::from_static(b"a lie"),
        Cars::Lacking(nth) => drop(blocks.remove(nth)),
        Cars::Backwards => blocks.reverse(),
        Cars::Twice => blocks = blocks.into_iter().flat_map(|block| [block.clone(), block]).collect(),
        Cars::Honest | Cars::Status(_) | Cars::Page | Cars::Silent | Cars::Cut(_) | Cars::Endless => {}
    }
    let mut sections: Vec<Bytes> = blocks.iter().map(section).collect();
    if let Cars::Cut(nth) = cars {
        sections.truncate(nth + 1);
        let last = sections.len() - 1;
        sections[last].truncate(100);
    }
    let junk = (0_u64..).map(|n| Bytes::from(n.to_le_bytes().repeat(4096)));
    let junk = junk.map(|bytes| section(&(HashKind::Sha2_256.hash(&bytes).to_cid(0x55), bytes)));
    if cars == Cars::Endless {
        sections.clear();
    }
    let junk = junk.take(if cars == Cars::Endless { usize::MAX } else { 0 });
    let body = stream::iter(std::iter::once(Bytes::from(header(&[root]))).chain(sections).chain(junk));
    world.open.fetch_add(1, Ordering::SeqCst);
    let sending = Sending(world);
    let body = body.map(move |section| {
        sending.count(section.len());
        Ok::<_, Infallible>(section)
    });
    let headers = [("content-type", "application/vnd.ipld.car; version=1; order=dfs; dups=n")];
    (headers, Body::from_stream(body)).into_response()
}

/// A CAR on its way.
struct Sending(Arc<World>);

impl Sending {
    fn count(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes, Ordering::SeqCst);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The blocks of an entity, in order.
fn export(world: &World, root: Cid, bytes: Option<EntityBytes>) -> Vec<(Cid, Bytes)> {
    let mut export = DagExport::new(&[], root, Scope::Entity(bytes), false);
    let mut blocks = Vec::new();
    while !export.is_done() {
        while let Some(cid) = export.poll_want(8) {
            export.provide(&cid, &check(&cid, world.blocks[&cid].clone()).unwrap());
        }
        while let Some((cid, block)) = export.poll_block().unwrap() {
            blocks.push((cid, block.into_bytes()));
        }
    }
    blocks
}

fn section((cid, bytes): &(Cid, Bytes)) -> Bytes {
    [&section_head(cid, bytes.len())[..], bytes].concat().into()
}
