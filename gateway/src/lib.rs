//! The HTTP gateway and its command line.
//!
//! A content request goes one way: [`server`] accepts it, [`guard`] lets it in, [`routes`] parse its path, [`exchange`]
//! resolves its content, [`conditional`] and [`range`] decide what to send, [`respond`] writes the headers and [`body`]
//! pumps the bytes. What fails becomes a [`error::Problem`], the only thing here that knows a status code.
//!
//! The application is put together in [`app`] and nowhere else.
//!
//! What is absent from the HTTP layer: peers, pieces, the cache. Bytes come through [`swarmgate_content::ProtocolManager`], items through
//! [`catalogue::Catalogue`].
//!
//! # Embedding it
//!
//! A program of yours can be a gateway: [`app::App`] is all of it, as a value. Nothing is global, so two of them in one
//! process do not meet; nothing is read from the environment or from files but what the program asks for.
//!
//! A configuration is plain data. [`demo::offline`] is one that touches nothing but loopback, on ports that the system
//! chooses; `swarmgate_config::Config::default()` is what `swarmgate serve` starts with, and
//! `swarmgate_config::Config::load` reads what operators write.
//!
//! 1. Bind the sockets: [`listeners::Listeners::bind`] takes all of them at once, before anything runs, or says which
//!    option names one that cannot be had.
//! 2. Start: [`app::App::build`]. What has started is stopped again when a later part fails.
//! 3. Use it: over HTTP at [`app::App::addresses`]; or without HTTP by [`app::App::manager`], which resolves contents and
//!    reads them.
//! 4. Stop: [`app::App::shutdown`], which waits. Nothing stops by being dropped.
//!
//! ```
//! use std::time::Duration;
//!
//! use swarmgate_gateway::app::App;
//! use swarmgate_gateway::demo::offline;
//! use swarmgate_gateway::listeners::Listeners;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let mut config = offline();
//! config.cache.dir = dir.path().to_owned();
//!
//! let app = App::build(&config, Listeners::bind(&config)?).await?;
//! let url = format!("http://{}/healthz", app.addresses()[0]);
//! assert_eq!(reqwest::Client::builder().no_proxy().build()?.get(url).send().await?.text().await?, "ok\n");
//!
//! // What runs can be asked without HTTP too.
//! let kinds: Vec<_> = app.manager().list().into_iter().map(|network| network.state).collect();
//! assert!(kinds.iter().all(|state| *state == "ready"));
//!
//! app.shutdown(Duration::from_secs(1)).await;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! While it runs, limits and the policy of uploading can be changed; what is wrong changes nothing:
//!
//! ```
//! use swarmgate_gateway::demo::offline;
//! use swarmgate_gateway::live::Live;
//!
//! let mut config = offline();
//! config.cache.dir = "films".into();
//! let live = Live::new(&config);
//! live.change(&[("limits.bandwidth".to_owned(), "2MiB/s".to_owned())]).unwrap();
//! let wrong = live.change(&[("limits.bandwith".to_owned(), "1MiB/s".to_owned())]).unwrap_err();
//! assert!(wrong.to_string().contains("did you mean"));
//! assert!(live.options().contains(&("limits.bandwidth".to_owned(), "2MiB/s".to_owned())));
//! ```
//!
//! [`reload::follow`] does so for a configuration in files. What happens is told by the event bus of the manager: the
//! examples `stream_range`, `watch_events` and `own_protocol` read a range, follow events, and add a network of one's
//! own to the manager.

pub mod admission;
pub mod api;
pub mod app;
pub mod archive;
pub mod auth;
pub mod body;
pub mod catalogue;
pub mod cli;
pub mod conditional;
pub mod demo;
pub mod disposition;
pub mod error;
pub mod exchange;
pub mod flow;
pub mod guard;
pub mod hybrid;
pub mod ipfs;
pub mod links;
pub mod listeners;
pub mod listing;
pub mod live;
pub mod media;
pub mod pace;
pub mod pages;
pub mod pinning;
pub mod playlist;
pub mod pointers;
pub mod policy;
pub mod prefetch;
pub mod proxies;
pub mod publish;
pub mod qr;
pub mod query;
pub mod range;
pub mod rates;
pub mod reload;
pub mod respond;
pub mod routes;
pub mod server;
pub mod settings;
pub mod state;
pub mod streams;
pub mod telemetry;
pub mod torrents;
pub mod traces;
pub mod tried;
pub mod ui;

#[cfg(test)]
mod stories;
#[cfg(test)]
mod testing;
