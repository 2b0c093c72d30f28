//! `swarmgate play`: a player for a content, and a gateway for the player.
//!
//! The gateway that runs by the same configuration is taken, with a signed link where it wants credentials. Where none
//! runs, or the one that does speaks TLS or has a Unix socket alone, one is started for as long as the player does: over
//! plain HTTP, on a port of loopback that the system chooses, with the configuration's networks and its cache, or one of
//! its own where that is in use. What others of its contents wait to be seeded goes on waiting.
//!
//! Nothing is started before it is known that the content is there: who has no content gets a sentence and an exit code
//! rather than a player with a blank window.

mod player;
mod target;

use std::io::Write;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use data_encoding::HEXLOWER;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use swarmgate_config::Config;

use super::args::Output;
use super::link::sign;
use super::own_gateway::{own_config, start};
use super::running::{Reply, Running};
use super::source::Failure;
use super::{Exit, Selection};
use crate::app::{App, link_key};

use player::Player;
pub use player::Surroundings;
use target::{Target, Wanted};

/// How long a gateway of our own looks for the content. A person can end it sooner, and cold magnets do take minutes.
const PATIENCE: Duration = Duration::from_secs(600);
/// How much later than it was told to a gateway may say that it has found nothing.
const GRACE: Duration = Duration::from_secs(10);
/// How long what a gateway of our own does may take to end.
const DRAIN: Duration = Duration::from_secs(1);

/// `play`.
#[derive(Debug, Clone, Args)]
pub struct Play {
    /// Magnet, infohash with a path perhaps, .torrent file or the URL of one, or CID with a path
    pub uri: String,
    /// mpv, vlc, ffplay, another program, or a whole command with {url} in it; the first of the three that there is when
    /// not given
    #[arg(long, value_name = "PLAYER")]
    pub player: Option<String>,
    /// File numbers as `ls` shows them, as 0,2-4; the file that a player should get when not given
    #[arg(long, visible_alias = "file", value_name = "LIST")]
    pub select: Option<Selection>,
}

/// Plays it until the player ends, or `interrupted` resolves: then the player is ended too.
///
/// # Errors
/// [`Exit::Usage`] when there is no such player, [`Exit::Error`] when it ends with anything but success; else why the
/// content cannot be had.
pub async fn run(
    config: &Config,
    command: &Play,
    surroundings: &Surroundings,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let player = Player::choose(command.player.as_deref(), surroundings)?;
    let wanted = Wanted::read(&command.uri, command.select.as_ref()).await?;
    let host = Host::find_or_start(config).await?;
    let played = play(config, &host, &player, &wanted, output, pin!(interrupted), out).await;
    host.leave().await;
    played
}

async fn play(
    config: &Config,
    host: &Host,
    player: &Player,
    wanted: &Wanted,
    output: Output,
    mut interrupted: Pin<&mut impl Future<Output = ()>>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let url = tokio::select! {
        url = host.url_of(config, wanted) => url?,
        () = &mut interrupted => return Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    let said = match output {
        Output::Human => writeln!(out, "{url}"),
        Output::Json => writeln!(out, "{:#}", json!({ "url": url, "player": player.name() })),
    };
    // Who closed the pipe wants to see the film all the same.
    let _ = said.and_then(|()| out.flush());
    player.play(&url, interrupted).await
}

/// The gateway that the player is sent to.
struct Host {
    running: Running,
    /// How long it may look for the content.
    wait: Duration,
    /// It itself, where it is ours.
    own: Option<App>,
}

impl Host {
    async fn find_or_start(config: &Config) -> Result<Self, Failure> {
        if let Some(running) = running(config).await {
            return Ok(Self { running, wait: config.deadlines.max_wait.duration(), own: None });
        }
        let token = HEXLOWER.encode(&rand::random::<[u8; 32]>());
        let app = start(&own_config(config, &token, PATIENCE)).await?;
        let Some(address) = app.addresses().first().copied() else {
            app.shutdown(DRAIN).await;
            return Err(Failure::new(Exit::Error, "the gateway listens nowhere"));
        };
        Ok(Self { running: Running::at(address, Some(token)), wait: PATIENCE, own: Some(app) })
    }

    /// The URL at which the player gets it, once it is known to be there.
    async fn url_of(&self, config: &Config, wanted: &Wanted) -> Result<String, Failure> {
        let target = match wanted {
            Wanted::Named(target) => target.clone(),
            Wanted::ToAdd { content_type, body, which } => {
                let infohash = self.add(content_type, body.clone()).await?;
                Target::of_torrent(&infohash, which, String::new())
            }
        };
        let mut target = target.waiting(self.wait);
        let anybody = self.running.without_credentials();
        let look = async |target: &Target| anybody.send(target.request()?, self.wait + GRACE).await;
        let mut reply = look(&target).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            target = self.signed(config, target).await?;
            reply = look(&target).await?;
        }
        let path = target.found(reply, &self.running)?;
        Ok(self.running.url(&path))
    }

    /// Has the gateway take a torrent that is forgotten again when nobody reads it, and says its infohash.
    async fn add(&self, content_type: &'static str, body: Bytes) -> Result<String, Failure> {
        let reply = self.post("/api/v1/items?pin=false", content_type, body).await?;
        let item = document(&reply)?;
        let infohash = item["infohash"].as_str().or_else(|| item["infohash_v2"].as_str());
        infohash.map(str::to_owned).ok_or_else(|| no_sense(&reply))
    }

    /// The same place with a signature, which is good for all of its content: by the gateway itself, or by the key that it
    /// shares with us, where only hashes of tokens are known.
    async fn signed(&self, config: &Config, target: Target) -> Result<Target, Failure> {
        let path = target.path_and_query();
        let signed = if self.running.has_token() {
            let body = json!({ "path": path, "kind": "content" }).to_string();
            let reply = self.post("/api/v1/links", "application/json", body.into()).await?;
            document(&reply)?["path"].as_str().map(str::to_owned).ok_or_else(|| no_sense(&reply))?
        } else {
            let key = link_key(config).map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
            let signed = sign(&key, &path, true, config.auth.link_ttl.duration());
            let refused = "the gateway wants credentials, and no link can be signed to that";
            signed.map(|(signed, _)| signed).ok_or_else(|| Failure::new(Exit::Denied, refused))?
        };
        let query = signed.split_once('?').map(|(_, query)| query.to_owned());
        Ok(target.with_query(query.unwrap_or_default()))
    }

    async fn post(&self, path: &str, content_type: &'static str, body: Bytes) -> Result<Reply, Failure> {
        let request = Request::post(path).header(CONTENT_TYPE, content_type).body(body);
        let request = request.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        self.running.send(request, self.wait + GRACE).await?.accepted()
    }

    async fn leave(self) {
        if let Some(app) = self.own {
            app.shutdown(DRAIN).await;
        }
    }
}

fn document(reply: &Reply) -> Result<Value, Failure> {
    serde_json::from_slice(&reply.body).map_err(|_| no_sense(reply))
}

fn no_sense(reply: &Reply) -> Failure {
    Failure::new(Exit::Error, format!("the gateway answered {} with what is no answer to that", reply.status))
}

/// The gateway that runs by this configuration, if one does, is not about to stop, and can be read by players.
async fn running(config: &Config) -> Option<Running> {
    let running = Running::of(config, None).ok().filter(Running::is_for_players)?;
    let reply = running.ask(Method::GET, "/readyz").await.ok()?;
    let document: Value = serde_json::from_slice(&reply.body).ok()?;
    (document["networks"].is_array() && document["closing"] != true).then_some(running)
}
