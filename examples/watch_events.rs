//! Follows what happens in a gateway while a client reads: the same events that `/api/v1/events` sends.
//!
//! A subscription made before the request sees all of it. The bus never waits for a subscriber; one that is slow loses
//! its oldest events and is told how many.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use swarmgate_content::{Event, EventReceiver, EventRecvError};
use swarmgate_gateway::app::App;
use swarmgate_gateway::demo::{Seeder, offline};
use swarmgate_gateway::listeners::Listeners;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let mut config = offline();
    config.cache.dir = dir.path().to_owned();
    let seeder = Seeder::start().await?;
    let app = App::build(&config, Listeners::bind(&config)?).await?;

    let events = app.manager().events().subscribe();
    let url = format!("http://{}/magnet?{}", app.addresses()[0], seeder.magnet_query());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let read = async {
        let body = client.get(&url).send().await?.error_for_status()?.bytes().await?;
        Ok::<usize, Failure>(body.len())
    };
    let (read, seen) = tokio::join!(read, follow(events));
    println!("read {} bytes, saw {} events", read?, seen?);

    app.shutdown(Duration::from_secs(1)).await;
    seeder.stop().await;
    Ok(())
}

/// Prints events until a stream has ended, and returns how many there were.
async fn follow(mut events: EventReceiver) -> Result<usize, Failure> {
    let mut seen = 0;
    loop {
        let event = match events.recv().await {
            Ok(numbered) => numbered.event,
            Err(EventRecvError::Lagged(lost)) => {
                println!("{lost} events were lost");
                continue;
            }
            Err(EventRecvError::Closed) => return Ok(seen),
        };
        seen += 1;
        println!("{}", sentence(&event));
        if matches!(event, Event::StreamClose { .. }) {
            return Ok(seen);
        }
    }
}

/// What happened, with the numbers that say how far it has come. The API sends the same events as JSON.
fn sentence(event: &Event) -> String {
    if let Event::ItemMetadata { name, total_len, files, .. } = event {
        return format!("{}: {name}, {files} file, {total_len} bytes", event.name());
    }
    if let Event::ItemProgress { have_bytes, total_len, .. } = event {
        return format!("{}: {have_bytes} of {total_len} bytes verified", event.name());
    }
    if let Event::StreamClose { bytes, .. } = event {
        return format!("{}: the client has {bytes} bytes", event.name());
    }
    event.name().to_owned()
}
