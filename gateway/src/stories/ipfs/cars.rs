//! DAGs that a CAR brings over the API, and the list of those that are kept.

use swarmgate_ipfs_proto::car;

use super::world::{Dag, IpfsWorld, Setting, noise, world};
use crate::testing::{Answer, send};

fn car(dags: &[&Dag]) -> Vec<u8> {
    let mut bytes = car::header(&dags.iter().map(|dag| dag.cid()).collect::<Vec<_>>());
    for block in dags.iter().flat_map(|dag| &dag.blocks) {
        bytes.extend(car::section_head(&block.cid, block.bytes.len()));
        bytes.extend_from_slice(&block.bytes);
    }
    bytes
}

async fn post(world: &IpfsWorld, query: &str, body: &[u8]) -> Answer {
    let headers = [("Content-Type", "application/vnd.ipld.car"), ("Idempotency-Key", "the same each time")];
    send(world.address, "POST", &format!("/api/v1/items{query}"), &headers, body).await
}

#[tokio::test]
async fn the_roots_of_a_car_are_pinned_served_and_listed() {
    let world = world().await;
    let (film, text) = (Dag::file(&noise(300_000)), Dag::file(b"hello world"));
    let taken = post(&world, "", &car(&[&film, &text])).await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    let dags = taken.json()["dags"].clone();
    let blocks = film.blocks.len();
    let row = &dags[0];
    assert_eq!((&row["root"], &row["state"]), (&film.cid().to_string().into(), &"pinned".into()), "{row}");
    assert_eq!((&row["blocks"], &row["missing"]), (&blocks.into(), &0.into()), "{row}");
    assert_eq!(world.get(&format!("/ipfs/{}", film.cid())).await.body, noise(300_000));
    assert_eq!(world.get(&format!("/api/v1/items/{}/pin", text.cid())).await.json()["state"], "pinned");
    assert_eq!(world.get(&format!("/api/v1/dags/{}", film.cid())).await.json(), *row);

    let all = world.get("/api/v1/dags").await.json();
    assert!(all["next"].is_null() && all["dags"].as_array().unwrap().len() == 2, "{all}");
    let first = world.get("/api/v1/dags?limit=1").await.json();
    let after = format!("/api/v1/dags?limit=1&after={}", first["next"].as_str().unwrap());
    let second = world.get(&after).await.json();
    assert_eq!((&first["dags"][0], &second["dags"][0]), (&all["dags"][0], &all["dags"][1]));
    assert!(second["next"].is_null(), "{second}");

    assert_eq!(world.send("DELETE", &format!("/api/v1/items/{}/pin", film.cid()), &[]).await.status, 204);
    assert_eq!(world.get(&format!("/api/v1/dags/{}", film.cid())).await.problem(), "no-such-item");
    for (query, problem) in [("?limit=0", "bad-query"), ("?after=x", "bad-query"), ("/x", "bad-content-path")] {
        assert_eq!(world.get(&format!("/api/v1/dags{query}")).await.problem(), problem, "{query}");
    }
}

#[tokio::test]
async fn of_a_car_that_is_wrong_nothing_is_kept_and_gaps_are_for_who_allows_them() {
    let film = Dag::file(&noise(300_000));
    let whole = car(&[&film]);
    let holed = car(&[&Dag { blocks: film.blocks[1..].to_vec(), built: film.built }]);
    let mut lie = whole.clone();
    *lie.last_mut().unwrap() ^= 1;
    let cut = &whole[..whole.len() - 1];
    for (what, body) in [("no CAR", &b"hello world"[..]), ("cut", cut), ("a lie", &lie), ("holed", &holed)] {
        // Blocks that were right stay as what they are, cached: the next one's gap would be none.
        let world = world().await;
        let refused = post(&world, "", body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (422, "invalid-car"), "{what}");
        assert_eq!(world.get("/api/v1/dags").await.json()["dags"], serde_json::json!([]), "{what}");
        assert_eq!(world.store.usage().pinned_bytes, 0, "{what}");
    }
    let world = world().await;
    for query in ["?pin=false", "?allow_missing=perhaps"] {
        assert_eq!(post(&world, query, &whole).await.problem(), "bad-query", "{query}");
    }
    let taken = post(&world, "?allow_missing=true", &holed).await;
    assert_eq!((taken.status, &taken.json()["dags"][0]["missing"]), (201, &1.into()), "{}", taken.text());
    assert_eq!(world.get("/api/v1/dags").await.json()["dags"][0]["missing"], 1);
    assert_eq!(post(&world, "", &whole).await.json()["dags"][0]["missing"], 0, "the second time it is whole");
}

#[tokio::test]
async fn what_nobody_delivers_is_brought_by_a_car() {
    let world = IpfsWorld::start(Setting { source: true, ..Setting::default() }).await;
    let film = Dag::file(&noise(300_000));
    *world.source.silent_after.lock() = Some(0);
    let pin = format!("/api/v1/items/{}/pin", film.cid());
    assert_eq!(world.send("PUT", &pin, &[]).await.status, 202);
    assert_eq!(world.get("/api/v1/dags").await.json()["dags"][0]["state"], "pinning");
    assert_eq!(post(&world, "", &car(&[&film])).await.status, 201);
    assert_eq!(world.get(&pin).await.json()["state"], "pinned");
}

#[tokio::test]
async fn a_root_that_is_not_served_is_not_taken_nor_what_comes_with_it() {
    let (film, denied) = (Dag::file(&noise(300_000)), Dag::file(b"denied"));
    let denylist = format!("/ipfs/{}\n", denied.cid());
    let world = IpfsWorld::start(Setting { denylist, ..Setting::default() }).await;
    let refused = post(&world, "", &car(&[&film, &denied])).await;
    assert_eq!((refused.status, refused.problem().as_str()), (410, "blocked"));
    assert_eq!(world.store.usage().blocks, 0, "it is known before the blocks come");
}
