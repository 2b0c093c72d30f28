//! The command line: what can be typed ([`args`]), how it ends ([`exit`]), and the one-shot commands.
//!
//! Nothing here reads the process environment or writes to a stream of its own accord: sources and outputs are handed in.
//! The one exception is [`progress`], which exists to draw on stderr.

pub mod add;
pub mod args;
pub mod cache;
pub mod config_command;
mod dags;
pub mod diagnose;
mod download;
pub mod engine;
pub mod exit;
pub mod fetch;
mod files;
pub mod get;
pub mod health;
mod holder;
pub mod import;
pub mod info;
pub mod items;
mod kept;
pub mod link;
mod list;
pub mod ls;
pub mod manual;
mod names;
pub mod openapi;
mod own_gateway;
pub mod packed;
mod part;
pub mod pick;
pub mod play;
pub mod pour;
pub mod progress;
pub mod publish;
pub mod recheck;
pub mod running;
pub mod running_commands;
pub mod selection;
pub mod source;
pub mod token;
mod tree;
pub mod version;

pub use args::{Cli, Command};
pub use exit::Exit;
pub use pick::Pick;
pub use progress::Progress;
pub use selection::Selection;

#[cfg(test)]
mod dag_stories;
#[cfg(test)]
mod fetch_stories;
#[cfg(test)]
mod holder_stories;
#[cfg(test)]
mod in_place_stories;
#[cfg(test)]
mod info_stories;
#[cfg(test)]
mod list_stories;
#[cfg(test)]
mod play_stories;
#[cfg(test)]
mod publish_stories;
#[cfg(test)]
mod socket_stories;
#[cfg(test)]
mod testing;
