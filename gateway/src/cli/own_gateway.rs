//! A gateway of a command's own: all networks of the configuration, for as long as the command runs, beside a gateway that
//! may run by another configuration or have the same cache.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use swarmgate_config::{Auth, Config, Secret, Span};
use swarmgate_store::OpenError;

use super::Exit;
use super::source::Failure;
use crate::app::{App, StartupError};
use crate::listeners::Listeners;

/// What such a gateway runs by. It listens on loopback, on a port that the system chooses; its content is for this
/// machine, its API for who has the token. A request may wait as long as `patience`.
pub(super) fn own_config(config: &Config, token: &str, patience: Duration) -> Config {
    let mut config = config.clone();
    config.server.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()];
    config.server.tls_cert = PathBuf::new();
    config.server.tls_key = PathBuf::new();
    config.server.public_url = None;
    "/".clone_into(&mut config.server.base_path);
    config.server.trusted_proxies.clear();
    config.auth = Auth { token: Secret::new(token), link_key: Secret::new(token), ..Auth::default() };
    config.deadlines.max_wait = Span::from(patience.max(config.deadlines.max_wait.duration()));
    // What runs for an evening takes no port that is another's, asks nothing of the router, and is nobody's tracker.
    config.bittorrent.listen_port = 0;
    config.bittorrent.dht_port = 0;
    config.bittorrent.port_mapping = false;
    config.webtorrent.listen_port = 0;
    config.webtorrent.builtin_tracker = false;
    config.ipfs.listen_port = 0;
    // What was added to stay is not what the command is about.
    config.items.max_active_downloads = 0;
    config.items.max_active_seeds = 0;
    config
}

/// Starts it over the configuration's cache, or over one that goes with it where that is in use. Its owner must call
/// [`App::shutdown`].
///
/// # Errors
/// When a part does not start.
pub(super) async fn start(config: &Config) -> Result<App, Failure> {
    let built = match build(config).await {
        Err(StartupError::Store(OpenError::InUse { .. })) => {
            let mut config = config.clone();
            config.cache.ephemeral = true;
            build(&config).await
        }
        built => built,
    };
    built.map_err(|error| Failure::new(Exit::Error, error.to_string()))
}

async fn build(config: &Config) -> Result<App, StartupError> {
    App::build(config, Listeners::bind(config)?).await
}
