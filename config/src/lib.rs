//! Configuration: every option with its unit, default and origin.
//!
//! [`Config`] is plain data. [`Config::load`] lays the sources over each other, later ones winning: built in, system file,
//! user file, `--config`, environment, flags. It either returns a whole configuration with the origin of every value,
//! or **all** the mistakes, each with its key, value, place and reason.
//!
//! ```
//! use swarmgate_config::{Config, Flag, Sources};
//!
//! let sources = Sources {
//!     flags: vec![Flag::new("--set", "cache.max_size", "20GiB")],
//!     platform_cache_dir: Some("/var/cache/swarmgate".into()),
//!     ..Sources::default()
//! };
//! let loaded = Config::load(&sources)?;
//! assert_eq!(loaded.config.cache.max_size.bytes(), 20 << 30);
//! assert_eq!(loaded.origins["cache.max_size"].to_string(), "flag --set");
//! # Ok::<(), swarmgate_config::ConfigErrors>(())
//! ```
//!
//! The doc comments of the option structs are the manual: [`sample`], [`schema`] and [`reference()`] are generated from
//! them.
//!
//! What is absent here: the process environment ([`Sources::from_process`] alone reads it), sockets, threads, reloading.
//! Files are read while loading, and only those the sources name.
//!
//! # Why does the crate read TOML and the environment itself, and leave only merging to figment?
//! A mistake has to name its line, and figment's TOML provider knows files only. Its environment provider guesses a
//! type from the text, so that a token of digits becomes a number; here the option's own type decides.

mod catalogue;
mod hybrid;
mod ipfs;
mod limits;
mod listen;
mod live;
mod load;
mod mistakes;
mod networks;
mod options;
mod reference;
mod render;
mod seeding;
mod sources;
mod ui;
mod urls;
mod validate;
mod values;

pub use hybrid::Hybrid;
pub use ipfs::{Ipfs, IpfsMode, Policy, PolicyMode};
pub use limits::Limits;
pub use listen::Listen;
pub use live::LIVE_SECTIONS;
pub use load::Loaded;
pub use mistakes::{ConfigErrors, Mistake};
pub use networks::{Bittorrent, Network, PeerEncryption, TrackerAllow, Webtorrent};
pub use options::{
    AnonymousContent, Auth, AuthMode, Cache, Config, Deadlines, Items, LogFormat, Observe, Publish, Reload, Server,
    Switch,
};
pub use reference::reference;
pub use render::{sample, schema, show};
pub use seeding::{Seeding, SeedingPolicy, Turns};
pub use sources::{ENV_PREFIX, Flag, Origin, Sources};
pub use ui::Ui;
pub use urls::ServerUrl;
pub use values::{Rate, Secret, Size, Span};
