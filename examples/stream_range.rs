//! Embeds the gateway in a program of its own and reads a part of a torrent's file over HTTP.
//!
//! A seeder in this process has the torrent; the gateway knows its infohash and the seeder's address, as from a magnet
//! link, and nothing else. It fetches the metadata, then the pieces that the range touches, and checks each against its
//! hash before a byte of it is sent.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use swarmgate_gateway::app::App;
use swarmgate_gateway::demo::{Seeder, offline};
use swarmgate_gateway::listeners::Listeners;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let dir = tempfile::tempdir()?;
    let mut config = offline();
    config.cache.dir = dir.path().to_owned();
    let seeder = Seeder::start().await?;
    let app = App::build(&config, Listeners::bind(&config)?).await?;

    let address = app.addresses()[0];
    let url = format!("http://{address}/magnet?{}", seeder.magnet_query());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let response = client.get(&url).header("range", "bytes=1000000-1999999").send().await?;
    println!("{}", response.status());
    for name in ["content-range", "content-type", "etag", "x-bt-infohash"] {
        println!("  {name}: {}", response.headers()[name].to_str()?);
    }
    let part = response.error_for_status()?.bytes().await?;
    let whole = client.get(&url).send().await?.error_for_status()?.bytes().await?;
    println!("{} bytes, equal to those of the whole file: {}", part.len(), part == whole[1_000_000..2_000_000]);

    // Nothing stops by being dropped: the owner says when, and waits.
    app.shutdown(Duration::from_secs(1)).await;
    seeder.stop().await;
    Ok(())
}
