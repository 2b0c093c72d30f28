//! Load for a WebTorrent tracker: many clients, each of which announces again as soon as it has its reply.
//!
//! `tracker-load URL CLIENTS SWARMS OFFERS SECONDS` prints one line of JSON: announces answered a second, and how long
//! the replies took. Offers that are relayed are read and not answered.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::Barrier;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// As long as a browser's description of a data channel.
const SDP_BYTES: usize = 600;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn announce(client: usize, swarms: usize, offers: usize) -> String {
    let offer = |n: usize| json!({ "offer_id": format!("{client:010}{n:010}"), "offer": { "type": "offer", "sdp": "v".repeat(SDP_BYTES) } });
    let message = json!({
        "action": "announce", "info_hash": format!("{:020}", client % swarms), "peer_id": format!("-TT0001-{client:012}"),
        "numwant": offers, "uploaded": 0, "downloaded": 0, "left": 1000,
        "offers": (0..offers).map(offer).collect::<Vec<_>>(),
    });
    message.to_string()
}

/// Announces until the time is over; returns how long each reply took.
async fn client(
    url: String,
    message: String,
    start: Arc<Barrier>,
    over: Arc<AtomicBool>,
) -> Result<Vec<Duration>, Failure> {
    let (mut socket, _) = connect_async(url).await?;
    let mut took = Vec::new();
    start.wait().await;
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        socket.send(Message::text(message.clone())).await?;
        loop {
            let frame = socket.next().await.ok_or("the tracker has closed a socket")??;
            if frame.to_text().is_ok_and(|text| text.contains("\"interval\"")) {
                break;
            }
        }
        took.push(asked.elapsed());
    }
    Ok(took)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("URL CLIENTS SWARMS OFFERS SECONDS")?;
    let mut number =
        || arguments.next().ok_or("CLIENTS SWARMS OFFERS SECONDS")?.parse::<usize>().map_err(Failure::from);
    let (clients, swarms, offers, seconds) = (number()?, number()?, number()?, number()?);
    let (start, over) = (Arc::new(Barrier::new(clients + 1)), Arc::new(AtomicBool::new(false)));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..clients {
        tasks.spawn(client(url.clone(), announce(n, swarms, offers), start.clone(), over.clone()));
    }
    tokio::select! {
        _ = start.wait() => {}
        Some(failed) = tasks.join_next() => return Err(failed?.err().unwrap_or_else(|| "a client ended early".into())),
    }
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    over.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    while let Some(task) = tasks.join_next().await {
        took.extend(task??);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0.0, |took| took.as_secs_f64() * 1e3);
    println!("{}", json!({ "announces_per_second": took.len() as f64 / elapsed, "p50_ms": at(50), "p99_ms": at(99) }));
    Ok(())
}
