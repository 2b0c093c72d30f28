//! DAGs that are kept because somebody asked for it over the API.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use swarmgate_ipfs::patience::Patience;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::world::{Dag, IpfsWorld, Setting, delegates, noise};
use crate::pinning::{Kept, Pinning};
use crate::testing::{Answer, eventually};

const SOON: Duration = Duration::from_secs(10);

async fn with_a_source() -> (IpfsWorld, Dag, String) {
    let world = IpfsWorld::start(Setting { source: true, ..Setting::default() }).await;
    let dag = Dag::file(&noise(20_000));
    world.source.offer(&dag);
    let path = format!("/api/v1/items/{}/pin", dag.cid());
    (world, dag, path)
}

async fn until_pinned(world: &IpfsWorld, path: &str) -> Answer {
    for _ in 0..500 {
        let answer = world.get(path).await;
        if answer.json()["state"] == "pinned" {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path} is not pinned: {}", world.get(path).await.text());
}

#[tokio::test]
async fn a_dag_is_fetched_whole_pinned_and_let_go() {
    let (world, dag, path) = with_a_source().await;
    assert_eq!(world.get(&path).await.problem(), "no-such-item");
    let asked = world.send("PUT", &path, &[]).await;
    assert_eq!((asked.status, &asked.json()["state"]), (202, &"pinning".into()), "{}", asked.text());
    assert_eq!(asked.json()["id"], dag.cid().to_string());
    let pinned = until_pinned(&world, &path).await.json();
    let bytes: usize = dag.blocks.iter().map(|block| block.bytes.len()).sum();
    assert_eq!((&pinned["have_bytes"], &pinned["total_bytes"]), (&bytes.into(), &bytes.into()));
    assert_eq!(world.store.usage().pinned_bytes, bytes as u64);
    assert_eq!(world.send("PUT", &path, &[]).await.status, 200, "the second time it is there");
    assert_eq!(world.send("DELETE", &path, &[]).await.status, 204);
    assert_eq!((world.store.usage().pinned_bytes, world.get(&path).await.status), (0, 404));
    assert_eq!(world.send("DELETE", &path, &[]).await.problem(), "no-such-item");
}

#[tokio::test]
async fn what_is_wanted_survives_a_restart_and_can_be_let_go_before_it_has_come() {
    let (world, dag, path) = with_a_source().await;
    *world.source.silent_after.lock() = Some(0);
    assert_eq!(world.send("PUT", &path, &[]).await.status, 202);
    let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
    let ipfs = Arc::clone(&world.ipfs);
    let next = Pinning::new(ipfs, Patience::default(), Arc::new(|| true), delegates(), tasks.clone(), closing.clone());
    assert_eq!(next.get(&dag.cid()).await.unwrap(), None, "a gateway that has just started knows nothing");
    next.resume().await.unwrap();
    assert!(matches!(next.get(&dag.cid()).await.unwrap(), Some(Kept::Wanted { .. })));
    closing.cancel();
    tasks.close();
    tokio::time::timeout(SOON, tasks.wait()).await.expect("its attempts end with the gateway");
    assert_eq!(world.send("DELETE", &path, &[]).await.status, 204);
    eventually("nothing to be held", SOON, || world.store.pinned_roots().is_empty()).await;
    assert_eq!(world.get(&path).await.status, 404);
}

#[tokio::test]
async fn while_ipfs_is_switched_off_nobody_is_asked_and_that_is_told() {
    let (world, dag, _) = with_a_source().await;
    let (tasks, closing, ipfs) = (TaskTracker::new(), CancellationToken::new(), Arc::clone(&world.ipfs));
    let pinning = Pinning::new(ipfs, Patience::default(), Arc::new(|| false), delegates(), tasks, closing.clone());
    assert!(matches!(pinning.keep(dag.cid()).await.unwrap(), Kept::Wanted { error: None, .. }));
    let told = async {
        while !matches!(pinning.get(&dag.cid()).await.unwrap(), Some(Kept::Wanted { error: Some(_), .. })) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, told).await.expect("what failed is told");
    assert_eq!(world.source.asked.load(Ordering::SeqCst), 0);
    closing.cancel();
}

#[tokio::test]
async fn what_is_not_served_is_not_pinned() {
    let dag = Dag::file(b"denied");
    let denylist = format!("/ipfs/{}\n", dag.cid());
    let world = IpfsWorld::start(Setting { denylist, ..Setting::default() }).await;
    world.keep(&dag).await;
    let refused = world.send("PUT", &format!("/api/v1/items/{}/pin", dag.cid()), &[]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (410, "blocked"));
}
