//! The tracker at `/announce`, as its clients meet it: two of them find each other, and none can do it harm.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use swarmgate_config::TrackerAllow;
use swarmgate_tests::node::Node;
use swarmgate_tests::wait;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(10);
const HASH: &str = "aaaaaaaaaaaaaaaaaaaa";

/// A client's socket, and nothing behind it.
pub(super) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(super) async fn of(node: &Node) -> Self {
        let url = format!("ws://{}/announce", node.address());
        Self(connect_async(url).await.unwrap().0)
    }

    pub(super) async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message, or `None` when the gateway has closed the socket.
    pub(super) async fn hear(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the tracker answers")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

fn announce(peer: &str, offers: usize) -> Value {
    let offer = |n: usize| json!({ "offer_id": format!("{n:020}"), "offer": { "type": "offer", "sdp": "v=0" } });
    json!({
        "action": "announce", "info_hash": HASH, "peer_id": peer, "event": "started", "numwant": offers,
        "uploaded": 0, "downloaded": 0, "left": 1, "offers": (0..offers).map(offer).collect::<Vec<_>>(),
    })
}

pub(super) async fn open_tracker() -> Node {
    Node::with(|config| {
        config.webtorrent.tracker_allow = TrackerAllow::Any;
        config.webtorrent.tracker_sockets_per_ip = 2000;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_and_its_answer_pass_between_two_clients() {
    let node = open_tracker().await;
    let (mut one, mut other) = (Client::of(&node).await, Client::of(&node).await);
    one.say(&announce("-TT0001-111111111111", 0)).await;
    assert_eq!(one.hear().await.unwrap()["interval"], 120);
    other.say(&announce("-TT0001-222222222222", 1)).await;
    assert_eq!(other.hear().await.unwrap()["incomplete"], 2);
    let offer = one.hear().await.unwrap();
    assert_eq!((&offer["peer_id"], &offer["offer"]["sdp"]), (&json!("-TT0001-222222222222"), &json!("v=0")));
    let answer = json!({
        "action": "announce", "info_hash": HASH, "peer_id": "-TT0001-111111111111", "to_peer_id": offer["peer_id"],
        "offer_id": offer["offer_id"], "answer": { "type": "answer", "sdp": "v=0 too" },
    });
    one.say(&answer).await;
    assert_eq!(other.hear().await.unwrap()["answer"]["sdp"], "v=0 too");
    // The second answer to one offer goes nowhere; what follows shows that it was not only late.
    one.say(&answer).await;
    one.say(&json!({ "action": "scrape", "info_hash": HASH })).await;
    assert_eq!(one.hear().await.unwrap()["files"][HASH]["incomplete"], 2);
    other.say(&json!({ "action": "scrape", "info_hash": HASH })).await;
    assert_eq!(other.hear().await.unwrap()["action"], "scrape");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_swarms_are_refused_unless_the_operator_says_otherwise() {
    let node = Node::fresh().await;
    let mut client = Client::of(&node).await;
    client.say(&announce("-TT0001-111111111111", 0)).await;
    let refusal = client.hear().await.unwrap();
    assert!(refusal["failure reason"].as_str().unwrap().contains("does not serve"), "{refusal}");
    let classic = format!("/announce?info_hash={HASH}&peer_id=-TT0001-333333333333&port=7000&left=0");
    let refusal = node.connect().await.get(&classic, &[]).await;
    assert!(refusal.text().contains("14:failure reason"), "{}", refusal.text());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classic_clients_meet_at_the_same_path() {
    let node = open_tracker().await;
    let path = |id: u8, port: u16| {
        let id = format!("-TT0001-{}", id.to_string().repeat(12));
        format!("/announce?info_hash={HASH}&peer_id={id}&port={port}&left=0&compact=1")
    };
    let mut http = node.connect().await;
    http.get(&path(1, 0x1b58), &[]).await;
    let reply = http.get(&path(2, 0x1b59), &[]).await;
    assert!(reply.body.windows(6).any(|peer| peer == [127, 0, 0, 1, 0x1b, 0x58]), "{:?}", reply.body);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_ends_the_socket() {
    let node = open_tracker().await;
    for frame in ["not json".to_owned(), "x".repeat(65 * 1024)] {
        let mut client = Client::of(&node).await;
        client.0.send(Message::text(frame)).await.unwrap();
        // It may be told why first.
        while client.hear().await.is_some() {}
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_without_end_is_let_go_and_told_that_it_was_too_much() {
    /// Slow enough to read what comes, and a hundred times as fast as is allowed.
    const PACE: Duration = Duration::from_millis(1);
    let node = open_tracker().await;
    let mut client = Client::of(&node).await;
    let mut sent = 0;
    let frame = loop {
        client.say(&announce("-TT0001-111111111111", 0)).await;
        sent += 1;
        assert!(sent < 1000, "nobody minds");
        match tokio::time::timeout(PACE, client.0.next()).await {
            Ok(Some(Ok(Message::Close(frame)))) => break frame.unwrap(),
            Ok(Some(Ok(_))) | Err(_) => {}
            Ok(end) => panic!("let go without a word: {end:?}"),
        }
    };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Policy, "more than 10 messages a second"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_has_so_many_sockets_and_no_more() {
    let node = Node::with(|config| config.webtorrent.tracker_sockets_per_ip = 2).await;
    let (one, _other) = (Client::of(&node).await, Client::of(&node).await);
    let url = format!("ws://{}/announce", node.address());
    let refused = connect_async(&url).await.unwrap_err();
    assert!(refused.to_string().contains("429"), "{refused}");
    drop(one);
    wait::until("room for another", PATIENCE, async || connect_async(&url).await.ok()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_are_members_at_once_and_are_all_gone_when_they_leave() {
    let node = open_tracker().await;
    let mut clients = Vec::new();
    for n in 0..1000 {
        let mut client = Client::of(&node).await;
        client.say(&announce(&format!("-TT0001-{n:012}"), 1)).await;
        clients.push(client);
    }
    let scrape = json!({ "action": "scrape", "info_hash": HASH });
    let mut last = Client::of(&node).await;
    last.say(&scrape).await;
    assert_eq!(last.hear().await.unwrap()["files"][HASH]["incomplete"], 1000);
    drop(clients);
    wait::until("an empty swarm", PATIENCE, async || {
        let mut client = Client::of(&node).await;
        client.say(&scrape).await;
        (client.hear().await.unwrap()["files"][HASH]["incomplete"] == 0).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_a_tracker_has_none_and_names_none() {
    let node = Node::with(|config| config.webtorrent.builtin_tracker = false).await;
    assert_eq!(node.connect().await.get("/announce", &[]).await.status, 404);
    node.stop().await;
}
