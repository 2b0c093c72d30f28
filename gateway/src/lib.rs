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
pub mod playlist;
pub mod pointers;
pub mod policy;
pub mod publish;
pub mod query;
pub mod range;
pub mod respond;
pub mod routes;
pub mod server;
pub mod settings;
pub mod state;
pub mod streams;
pub mod telemetry;
pub mod torrents;
pub mod tried;
pub mod ui;

#[cfg(test)]
mod stories;
#[cfg(test)]
mod testing;
