//! A file that is lent: its leaves come from a mirror, and peers give only what the mirror cannot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use swarmgate_content::{
    BlockHash, BoxFuture, ByteRange, DagLender, DagLoan, HashKind, Leaf, Leaves, Protocol, VerifiedBytes,
};
use swarmgate_ipfs::names::NamesOptions;
use swarmgate_ipfs::patience::Patience;
use swarmgate_ipfs::{IpfsParts, IpfsProtocol};

use crate::support::{Peer, noise};

/// Somewhere that has the first bytes of the file.
#[derive(Debug)]
struct Mirror {
    file: Bytes,
    loan: Arc<dyn DagLoan>,
}

impl Leaves for Mirror {
    fn leaf(&self, leaf: Leaf) -> Option<BoxFuture<'static, Option<VerifiedBytes>>> {
        let (start, end) = (usize::try_from(leaf.offset).unwrap(), usize::try_from(leaf.offset + leaf.len).unwrap());
        let admitted = (end <= self.file.len()).then(|| self.loan.admit(leaf, self.file.slice(start..end)))?;
        Some(Box::pin(async move { admitted.await.ok() }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_give_the_nodes_and_what_a_mirror_lacks() {
    let (ours, theirs) = (Peer::tcp().await, Peer::tcp().await);
    let file = noise((9 << 20) + 77, 10);
    let root = theirs.add_file(&file).await;
    let (store, node) = (ours.store.clone(), Arc::clone(&ours.node));
    let (names, patience) = (NamesOptions::default(), Patience::default());
    let ipfs = IpfsProtocol::start(IpfsParts { store, sources: vec![node], routers: Vec::new(), names, patience });
    ours.node.connect(theirs.address()).await.unwrap();

    let loan = ipfs.lend_dag(root);
    let mirror = Mirror { file: Bytes::copy_from_slice(&file[..7 << 20]), loan: loan.clone() };
    let reader = loan.read(ByteRange::full(file.len() as u64).unwrap(), Arc::new(mirror));
    let read = reader.map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await.unwrap();
    assert!(read == file, "{} bytes are not the file", read.len());
    let served = theirs.node.stats().server;
    assert_eq!(served.blocks, 4, "the root, two leaves and the last: {served:?}");
    ipfs.shutdown(Instant::now() + Duration::from_secs(5)).await;
    assert!(ours.store.contains(&BlockHash::from_cid(&root).unwrap()));
    assert!(ours.store.contains(&HashKind::Sha2_256.hash(&file[..1 << 20])), "as all blocks");
    ours.stop().await;
    theirs.stop().await;
}
