//! Kubo has a DAG pinned at the gateway, by its own commands for pinning services, and needs not be there any more.

use serde_json::Value;
use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::kubo::Kubo;
use swarmgate_tests::payload::{bytes, digest};

use super::{MIB, scratch};

/// No command of this story takes longer, the one that waits for the DAG included.
const TIMEOUT: &str = "--timeout=90s";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const ALL: &str = "--status=queued,pinning,pinned,failed";

/// What the gateway's API says, to whoever has the token.
async fn told(gateway: &Gateway, path: &str) -> Value {
    let url = gateway.url(path);
    let answer = http::send(http::client().get(&url).bearer_auth(TOKEN), &url).await;
    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn kubo_pins_lists_and_removes_and_the_gateway_serves_without_it() {
    let dir = scratch();
    let Some(mut kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start_with(dir.path(), &[("SWARMGATE_AUTH__TOKEN", TOKEN)]).await else { return };
    let whole = bytes(211, 3 * MIB + 12_345);
    let cid = kubo.add(&whole);
    let endpoint = gateway.url("/api/v1");
    kubo.run(&["pin", "remote", "service", "add", "gate", &endpoint, TOKEN]);
    assert!(kubo.run(&["pin", "remote", "service", "ls"]).contains(&endpoint));

    let add = ["pin", "remote", "add", TIMEOUT, "--service=gate", "--name=a film", "--background=false", &cid];
    let added = kubo.run(&add);
    assert!(added.contains(&cid) && added.contains("a film") && added.contains("pinned"), "{added}");
    let listed = kubo.run(&["pin", "remote", "ls", TIMEOUT, "--service=gate"]);
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), [cid.as_str(), "pinned", "a", "film"]);
    let by_name = |name: &str| kubo.run(&["pin", "remote", "ls", TIMEOUT, "--service=gate", ALL, name]);
    assert!(by_name("--name=a film").contains(&cid));
    assert_eq!(by_name("--name=film").trim(), "", "a name is compared as a whole");
    let list = told(&gateway, "/api/v1/pins").await;
    let request = &list["results"][0];
    assert!(request["pin"]["origins"].to_string().contains(kubo.peer_id()), "Kubo names itself: {request}");
    assert!(request["delegates"].to_string().contains("/p2p/"), "the gateway says where it is: {request}");

    kubo.kill();
    let answer = http::get(&gateway.ipfs_url(&cid, &[])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
    assert_eq!(told(&gateway, &format!("/api/v1/items/{cid}/pin")).await["state"], "pinned");

    kubo.restart().await;
    kubo.run(&["pin", "remote", "rm", TIMEOUT, "--service=gate", "--name=a film"]);
    assert_eq!(kubo.run(&["pin", "remote", "ls", TIMEOUT, "--service=gate", ALL]).trim(), "");
    assert_eq!(told(&gateway, "/api/v1/pins?status=queued,pinning,pinned,failed").await["count"], 0);
    let url = gateway.url(&format!("/api/v1/items/{cid}/pin"));
    let gone = http::send(http::client().get(&url).bearer_auth(TOKEN), &url).await;
    assert_eq!(gone.status, 404, "nothing holds it any more: {}", gone.text());
}

#[tokio::test]
async fn kubo_lists_more_than_fit_into_an_answer() {
    const PINS: usize = 13;
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    kubo.run(&["pin", "remote", "service", "add", "gate", &gateway.url("/api/v1"), "any"]);
    let mut cids: Vec<_> = (0..PINS).map(|number| kubo.add(format!("file {number}").as_bytes())).collect();
    for cid in &cids {
        kubo.run(&["pin", "remote", "add", TIMEOUT, "--service=gate", cid]);
    }
    let listed = kubo.run(&["pin", "remote", "ls", TIMEOUT, "--service=gate"]);
    let mut listed: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    listed.sort_unstable();
    cids.sort_unstable();
    assert_eq!(listed, cids, "it asks for ten at a time");
}

#[tokio::test]
async fn kubo_understands_why_it_is_refused() {
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start_with(dir.path(), &[("SWARMGATE_AUTH__TOKEN", TOKEN)]).await else { return };
    let cid = kubo.add(b"not for strangers");
    kubo.run(&["pin", "remote", "service", "add", "gate", &gateway.url("/api/v1"), "no-token-of-this-gateway"]);
    let (done, said) = kubo.try_run(&["pin", "remote", "add", TIMEOUT, "--service=gate", &cid]);
    assert!(!done && said.contains("reason") && said.contains("UNAUTHORIZED"), "{said}");
}
