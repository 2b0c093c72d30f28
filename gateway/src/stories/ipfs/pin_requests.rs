//! DAGs that are kept because somebody asked for it over the IPFS Pinning Service API.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use swarmgate_ipfs::patience::Patience;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::world::{DELEGATE, Dag, IpfsWorld, Setting, delegates, noise};
use crate::pinning::{Kept, Pinning};
use crate::testing::{Answer, send};

const PINS: &str = "/api/v1/pins";
/// All that is asked for comes from memory; the rest is for a machine that does other things too.
const SOON: Duration = Duration::from_secs(30);

async fn with_a_source(dags: &[&Dag]) -> IpfsWorld {
    let world = IpfsWorld::start(Setting { source: true, ..Setting::default() }).await;
    dags.iter().for_each(|dag| world.source.offer(dag));
    world
}

async fn post(world: &IpfsWorld, path: &str, body: &Value) -> Answer {
    send(world.address, "POST", path, &[], body.to_string().as_bytes()).await
}

/// Asks for a DAG, and returns the request's id.
async fn ask(world: &IpfsWorld, body: &Value) -> String {
    let answer = post(world, PINS, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["requestid"].as_str().unwrap().to_owned()
}

async fn until_pinned(world: &IpfsWorld, id: &str) -> Value {
    let pinned = async {
        loop {
            let told = world.get(&format!("{PINS}/{id}")).await.json();
            if told["status"] == "pinned" {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, pinned).await.expect("it is pinned")
}

/// The names of the requests that are listed, and how many there are.
async fn listed(world: &IpfsWorld, query: &str) -> (Vec<String>, u64) {
    let answer = world.get(&format!("{PINS}?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    let name = |row: &Value| row["pin"]["name"].as_str().unwrap_or_default().to_owned();
    (list["results"].as_array().unwrap().iter().map(name).collect(), list["count"].as_u64().unwrap())
}

fn bytes_of(dag: &Dag) -> u64 {
    dag.blocks.iter().map(|block| block.bytes.len() as u64).sum()
}

#[tokio::test]
async fn a_request_has_its_dag_fetched_whole_and_held_until_it_is_removed() {
    let dag = Dag::file(&noise(20_000));
    let world = with_a_source(&[&dag]).await;
    let body = json!({
        "cid": dag.cid().to_string(),
        "name": "a film",
        "origins": ["/ip4/192.0.2.9/tcp/4001"],
        "meta": { "app": "player" },
    });
    let asked = post(&world, PINS, &body).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    let asked = asked.json();
    assert_eq!((&asked["pin"], &asked["delegates"]), (&body, &json!([DELEGATE])));
    assert!(["queued", "pinning", "pinned"].contains(&asked["status"].as_str().unwrap()), "{asked}");
    let id = asked["requestid"].as_str().unwrap();
    let pinned = until_pinned(&world, id).await;
    assert_eq!((&pinned["requestid"], &pinned["created"]), (&asked["requestid"], &asked["created"]));
    assert_eq!(pinned["info"]["dag_size"], bytes_of(&dag).to_string());
    assert_eq!(world.store.usage().pinned_bytes, bytes_of(&dag));
    assert_eq!(world.get(&format!("/api/v1/items/{}/pin", dag.cid())).await.json()["state"], "pinned");
    assert_eq!(listed(&world, "").await, (vec!["a film".to_owned()], 1));

    let path = format!("{PINS}/{id}");
    let removed = world.send("DELETE", &path, &[]).await;
    assert_eq!((removed.status, removed.body.len()), (202, 0));
    assert_eq!((world.store.usage().pinned_bytes, listed(&world, "").await), (0, (Vec::new(), 0)));
    assert_eq!(world.get(&path).await.status, 404);
    assert_eq!(world.send("DELETE", &path, &[]).await.status, 404);
}

#[tokio::test]
async fn a_dag_is_let_go_with_the_last_request_for_it_and_not_where_it_was_kept_before() {
    let (dag, kept) = (Dag::file(&noise(5_000)), Dag::file(b"kept before"));
    let world = with_a_source(&[&dag, &kept]).await;
    let put = format!("/api/v1/items/{}/pin", kept.cid());
    assert!([200, 202].contains(&world.send("PUT", &put, &[]).await.status));
    let one = ask(&world, &json!({ "cid": dag.cid().to_string() })).await;
    let other = ask(&world, &json!({ "cid": dag.cid().to_string() })).await;
    let beside = ask(&world, &json!({ "cid": kept.cid().to_string() })).await;
    assert_ne!(one, other);
    for id in [&one, &other, &beside] {
        until_pinned(&world, id).await;
    }
    let all = bytes_of(&dag) + bytes_of(&kept);
    for (id, left) in [(&one, all), (&beside, all), (&other, bytes_of(&kept))] {
        assert_eq!(world.send("DELETE", &format!("{PINS}/{id}"), &[]).await.status, 202);
        assert_eq!(world.store.usage().pinned_bytes, left);
    }
    assert_eq!(world.get(&put).await.json()["state"], "pinned");
}

#[tokio::test]
async fn what_was_let_go_by_other_means_has_failed_and_says_so() {
    let dag = Dag::file(b"let go");
    let world = with_a_source(&[&dag]).await;
    let id = ask(&world, &json!({ "cid": dag.cid().to_string(), "name": "gone" })).await;
    until_pinned(&world, &id).await;
    assert_eq!(world.send("DELETE", &format!("/api/v1/items/{}/pin", dag.cid()), &[]).await.status, 204);
    let told = world.get(&format!("{PINS}/{id}")).await.json();
    assert_eq!(told["status"], "failed");
    assert!(told["info"]["status_details"].as_str().unwrap().contains("let go"), "{told}");
    assert_eq!(listed(&world, "").await.1, 0, "pinned ones are listed where nobody says which");
    assert_eq!(listed(&world, "status=queued,failed").await, (vec!["gone".to_owned()], 1));
}

#[tokio::test]
async fn a_request_is_replaced_by_one_with_an_id_of_its_own() {
    let (old, new) = (Dag::file(&noise(5_000)), Dag::file(b"new"));
    let world = with_a_source(&[&old, &new]).await;
    let first = ask(&world, &json!({ "cid": old.cid().to_string(), "name": "first" })).await;
    until_pinned(&world, &first).await;
    let body = json!({ "cid": new.cid().to_string(), "name": "second" });
    let replaced = post(&world, &format!("{PINS}/{first}"), &body).await;
    assert_eq!(replaced.status, 202, "{}", replaced.text());
    let second = replaced.json()["requestid"].as_str().unwrap().to_owned();
    until_pinned(&world, &second).await;
    assert_ne!(first, second);
    assert_eq!(world.get(&format!("{PINS}/{first}")).await.status, 404);
    assert_eq!(world.store.usage().pinned_bytes, bytes_of(&new));
    assert_eq!(listed(&world, "").await, (vec!["second".to_owned()], 1));
    let unknown = post(&world, &format!("{PINS}/{first}"), &body).await;
    assert_eq!((unknown.status, listed(&world, "").await.1), (404, 1));
}

#[tokio::test]
async fn requests_survive_a_restart() {
    let (here, awaited) = (Dag::file(b"here"), Dag::file(b"awaited"));
    let world = with_a_source(&[&here, &awaited]).await;
    let pinned = ask(&world, &json!({ "cid": here.cid().to_string(), "name": "here", "meta": { "a": "b" } })).await;
    until_pinned(&world, &pinned).await;
    *world.source.silent_after.lock() = Some(0);
    let waiting = ask(&world, &json!({ "cid": awaited.cid().to_string(), "name": "awaited" })).await;

    let (tasks, closing, ipfs) = (TaskTracker::new(), CancellationToken::new(), Arc::clone(&world.ipfs));
    let may_ask = Arc::new(|| true);
    let next = Pinning::new(ipfs, Patience::default(), may_ask, delegates(), tasks.clone(), closing.clone());
    assert!(next.requests().is_empty(), "a gateway that has just started knows nothing");
    next.resume().await.unwrap();
    let names: Vec<_> = next.requests().iter().map(|request| request.wish.name.clone().unwrap()).collect();
    assert_eq!(names, ["awaited", "here"], "the latest is the first");
    let request = next.requested(&pinned).unwrap();
    assert_eq!((request.root, request.wish.meta["a"].as_str()), (here.cid(), "b"));
    assert!(matches!(next.get(&here.cid()).await.unwrap(), Some(Kept::Pinned(_))));
    let all = next.all().await.unwrap();
    assert!(matches!(all[&awaited.cid()], Kept::Wanted { .. }) && matches!(all[&here.cid()], Kept::Pinned(_)));
    assert!(next.withdraw(&waiting).await.unwrap() && !next.withdraw(&waiting).await.unwrap());
    assert_eq!(next.get(&awaited.cid()).await.unwrap(), None);
    closing.cancel();
    tasks.close();
    tokio::time::timeout(SOON, tasks.wait()).await.expect("its attempts end with the gateway");
}

#[tokio::test]
async fn the_list_is_narrowed_and_paged_by_time() {
    let dags = [b"one".as_slice(), b"two", b"three"].map(Dag::file);
    let world = with_a_source(&dags.each_ref()).await;
    for (dag, name) in dags.iter().zip(["A film", "a film, too", "music"]) {
        let body = json!({ "cid": dag.cid().to_string(), "name": name, "meta": { "kind": &name[..1] } });
        let id = ask(&world, &body).await;
        until_pinned(&world, &id).await;
    }
    let found = async |query: String| listed(&world, &query).await.0.join(" | ");
    assert_eq!(found(String::new()).await, "music | a film, too | A film");
    assert_eq!(found("name=A+film".to_owned()).await, "A film");
    assert_eq!(found("name=a+FILM&match=iexact".to_owned()).await, "A film");
    assert_eq!(found("name=film&match=partial".to_owned()).await, "a film, too | A film");
    assert_eq!(found("name=FILM,&match=ipartial".to_owned()).await, "a film, too");
    assert_eq!(found(format!("cid={},{}", dags[0].cid(), dags[2].cid())).await, "music | A film");
    assert_eq!(found("meta=%7B%22kind%22:%22m%22%7D".to_owned()).await, "music");
    assert_eq!(found("status=queued,pinning,failed".to_owned()).await, "");

    let (mut seen, mut query) = (Vec::new(), "limit=1".to_owned());
    for left in [3, 2, 1] {
        let page = world.get(&format!("{PINS}?{query}")).await.json();
        assert_eq!((page["count"].as_u64(), page["results"].as_array().unwrap().len()), (Some(left), 1));
        let last = &page["results"][0];
        seen.push(last["pin"]["name"].as_str().unwrap().to_owned());
        query = format!("limit=1&before={}", last["created"].as_str().unwrap());
    }
    assert_eq!(seen, ["music", "a film, too", "A film"]);
    assert_eq!(listed(&world, &query).await.1, 0);
    let after = query.replace("before", "after");
    assert_eq!(listed(&world, &after).await, (vec!["music".to_owned()], 2), "all that came after the first");
}

#[tokio::test]
async fn what_fails_is_told_in_the_words_of_that_api() {
    let dag = Dag::file(b"denied");
    let denylist = format!("/ipfs/{}\n", dag.cid());
    let world = IpfsWorld::start(Setting { denylist, ..Setting::default() }).await;
    let (nothing, unknown) = (json!({}), format!("{PINS}/{}", "0".repeat(28)));
    for (answer, status, reason) in [
        (post(&world, PINS, &nothing).await, 400, "BAD_BODY"),
        (post(&world, PINS, &json!({ "cid": "nocid" })).await, 400, "BAD_BODY"),
        (post(&world, PINS, &json!({ "cid": dag.cid().to_string(), "name": 7 })).await, 400, "BAD_BODY"),
        (post(&world, PINS, &json!({ "cid": dag.cid().to_string() })).await, 410, "BLOCKED"),
        (post(&world, PINS, &json!({ "cid": "x".repeat(61 * 1024) })).await, 413, "BODY_TOO_LARGE"),
        (world.get(&format!("{PINS}?limit=0")).await, 400, "BAD_QUERY"),
        (world.get(&unknown).await, 404, "NO_SUCH_PIN"),
        (world.send("PUT", PINS, &[("Host", "evil.example")]).await, 421, "UNKNOWN_HOST"),
    ] {
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")), "{reason}");
        let told = answer.json();
        assert_eq!((&told["error"]["reason"], &told["status"]), (&reason.into(), &status.into()));
        assert!(told["error"]["details"].as_str().is_some_and(|details| details.len() > 8), "{told}");
    }
    assert_eq!(listed(&world, "status=queued,pinning,pinned,failed").await.1, 0);
}
