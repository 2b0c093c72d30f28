//! What the commands for IPFS share: the cache with its pins, a reading, and what a person may type for a content.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmgate_config::Config;
use swarmgate_content::{Cid, FetchError, Protocol};
use swarmgate_ipfs::delivery::Delivery;
use swarmgate_ipfs::names::{NameError, NameErrorKind};
use swarmgate_ipfs::patience::Patience;
use swarmgate_ipfs::pins::{PinError, Pins};
use swarmgate_ipfs::{IpfsProtocol, Session, SessionOptions};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::path::Resolved;
use swarmgate_store::{OpenError, Store, StoreOptions};

use super::Exit;
use super::holder::{self, Holder};
use super::running::Running;
use super::source::Failure;
use crate::{app, ipfs};

/// Bytes of cache where the one on disk is in use by a gateway: what is on its way to its file.
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// How long all waits of a command may take together: whoever typed it can end it sooner.
const WHOLE_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long what is under way may take to end.
const GOODBYE: Duration = Duration::from_secs(3);

/// Where a command's blocks may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// From what is here: nothing is listened on and nobody is asked.
    Cache,
    /// From wherever the configuration says.
    Network,
}

/// IPFS for one command. Its owner must call [`Self::shutdown`].
#[derive(Debug)]
pub(super) struct Dags {
    protocol: Arc<IpfsProtocol>,
    delivery: Delivery,
    store: Store,
    patience: Patience,
}

impl Dags {
    /// Opens the cache that the gateway uses, to change what is kept in it.
    ///
    /// # Errors
    /// When a gateway has it open, and when it cannot be opened.
    pub(super) async fn open(config: &Config, reach: Reach) -> Result<Self, Failure> {
        let store = Store::open(on_disk(config)).await.map_err(|error| in_use(&error))?;
        Self::start_tidy(config, store, reach).await
    }

    /// The same, but finds the gateway that holds it, where one does. With `api` that one is meant.
    ///
    /// # Errors
    /// When it cannot be opened; when it is held, and the gateway of this configuration is not who holds it.
    pub(super) async fn open_or_ask(config: &Config, api: Option<&str>, reach: Reach) -> Result<Holder<Self>, Failure> {
        if api.is_some() {
            return Running::of(config, api).map(Holder::Gateway);
        }
        match Store::open(on_disk(config)).await {
            Err(OpenError::InUse { path }) => holder::gateway(config, &path).await.map(Holder::Gateway),
            Err(error) => Err(in_use(&error)),
            Ok(store) => Self::start_tidy(config, store, reach).await.map(Holder::Command),
        }
    }

    async fn start_tidy(config: &Config, store: Store, reach: Reach) -> Result<Self, Failure> {
        let dags = Self::start(config, store, reach).await?;
        dags.pins().tidy().await.map_err(|error| pin_failure(&error))?;
        Ok(dags)
    }

    /// Opens the gateway's cache, or one in memory while a gateway has it open: reading works either way, since that gateway
    /// is asked for blocks like any other.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) async fn open_to_read(config: &Config) -> Result<Self, Failure> {
        Self::open_to_look(config, Reach::Network).await
    }

    /// The same for who may have to do with what is here.
    ///
    /// # Errors
    /// As [`Self::open_to_read`].
    pub(super) async fn open_to_look(config: &Config, reach: Reach) -> Result<Self, Failure> {
        let mut config = Cow::Borrowed(config);
        let opened = match Store::open(on_disk(&config)).await {
            Err(OpenError::InUse { path }) => {
                if reach == Reach::Network {
                    // Where it does not answer, whoever else has the blocks is asked.
                    let holder = holder::gateway(&config, &path).await.ok().filter(Running::is_for_players);
                    let url = holder.and_then(|holder| holder.url("/").parse().ok());
                    config.to_mut().ipfs.gateways.extend(url);
                }
                Store::open(StoreOptions::in_memory(MEMORY_BYTES)).await
            }
            opened => opened,
        };
        let store = opened.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        Self::start(&config, store, reach).await
    }

    async fn start(config: &Config, store: Store, reach: Reach) -> Result<Self, Failure> {
        if !config.ipfs.enabled {
            let off = "ipfs.enabled is false in the configuration, and this command uses IPFS";
            return Err(Failure::new(Exit::Usage, format!("{off}; --set ipfs.enabled=true switches it on")));
        }
        // On a port that the system chooses, so that it runs beside a gateway.
        let mut config = config.clone();
        config.ipfs.listen_port = 0;
        let delivery = match reach {
            Reach::Cache => Ok(Delivery::default()),
            Reach::Network => {
                let denylists = app::denylists(&config);
                let denylists = denylists.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
                ipfs::start_delivery(&config, &store, &denylists).await
            }
        };
        let delivery = delivery.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        let protocol = ipfs::start(&config, store.clone(), &delivery);
        let protocol = protocol.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let patience = Patience { total: WHOLE_WAIT, ..ipfs::patience(&config) };
        Ok(Self { protocol, delivery, store, patience })
    }

    pub(super) fn pins(&self) -> &Pins {
        self.protocol.pins()
    }

    pub(super) const fn protocol(&self) -> &Arc<IpfsProtocol> {
        &self.protocol
    }

    pub(super) fn session(&self) -> Session {
        self.protocol.session(SessionOptions { patience: Some(self.patience), ..SessionOptions::default() })
    }

    /// Follows what was typed to its end.
    ///
    /// # Errors
    /// When a name or the path leads nowhere.
    pub(super) async fn resolve(&self, session: &Session, path: &ContentPath) -> Result<Resolved, Failure> {
        let named = self.protocol.names().resolve(path).await.map_err(|error| name_failure(&error))?;
        session.follow_path(&named.path).await.map_err(|error| fetch_failure(&error))
    }

    /// Ends what is under way and closes the cache.
    pub(super) async fn shutdown(self) {
        let deadline = Instant::now() + GOODBYE;
        self.protocol.shutdown(deadline).await;
        self.delivery.shutdown(deadline).await;
        self.store.close().await;
    }
}

fn on_disk(config: &Config) -> StoreOptions {
    StoreOptions {
        dir: Some(config.cache.dir.clone()),
        max_bytes: config.cache.max_size.bytes(),
        min_free_bytes: config.cache.min_free.bytes(),
        memory_bytes: config.cache.memory.bytes(),
    }
}

fn in_use(error: &OpenError) -> Failure {
    let message = if let OpenError::InUse { path } = error {
        let dir = path.display();
        format!(
            "a gateway is running on {dir} and holds its cache: stop it, run this, and start it again \
             (or name another directory with --data-dir)"
        )
    } else {
        error.to_string()
    };
    Failure::new(Exit::Error, message)
}

/// Reads what a person typed: a CID, a path below one, `/ipfs/…`, `/ipns/…`, or a URI.
///
/// # Errors
/// When it is none of these.
pub(super) fn read_path(text: &str) -> Result<ContentPath, Failure> {
    let read = match text {
        uri if uri.contains("://") => ContentPath::from_uri(uri),
        path if path.starts_with('/') => ContentPath::from_plain(path),
        bare => ContentPath::from_plain(&format!("/ipfs/{bare}")),
    };
    read.map_err(|error| Failure::new(Exit::Usage, format!("{text:?} is no content of IPFS: {error}")))
}

/// Whether what was typed means a content of IPFS rather than a torrent.
pub(super) fn is_ipfs(text: &str) -> bool {
    let spelt = ["/ipfs/", "/ipns/"].iter().any(|root| text.starts_with(root));
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let root = text.split('/').next().unwrap_or_default();
    let torrent = swarmgate_content::ContentId::parse_torrent(root).is_ok();
    spelt || matches!(scheme.as_deref(), Some("ipfs" | "ipns")) || !torrent && root.parse::<Cid>().is_ok()
}

/// Reads a CID, or `/ipfs/` with a CID alone.
///
/// # Errors
/// When it is neither.
pub(super) fn read_cid(text: &str) -> Result<Cid, Failure> {
    let bare = text.strip_prefix("/ipfs/").unwrap_or(text).trim_end_matches('/');
    let bad = |error: &dyn std::error::Error| Failure::new(Exit::Usage, format!("{text:?} is no CID: {error}"));
    bare.parse().map_err(|error| bad(&error))
}

pub(super) fn fetch_failure(error: &FetchError) -> Failure {
    Failure::new(Exit::from(error), error.to_string())
}

pub(super) fn name_failure(error: &NameError) -> Failure {
    let exit = match error.kind {
        NameErrorKind::NotFound => Exit::NotFound,
        NameErrorKind::Expired | NameErrorKind::Invalid | NameErrorKind::Loop => Exit::Integrity,
        NameErrorKind::TimedOut => Exit::Timeout,
        NameErrorKind::Disabled => Exit::Usage,
        NameErrorKind::StoreIo => Exit::Error,
        // The enum may grow in its own crate; a new kind is an error until it has a code.
        _ => Exit::Error,
    };
    Failure::new(exit, error.to_string())
}

pub(super) fn pin_failure(error: &PinError) -> Failure {
    let exit = match error {
        PinError::Car(_) | PinError::Block(_) | PinError::NoRoots | PinError::Missing { .. } => Exit::Integrity,
        PinError::Read(error) => Exit::from(error),
        PinError::Fetch(error) => Exit::from(error),
        PinError::Refused(_) => Exit::Denied,
        PinError::Store(_) => Exit::DiskFull,
        PinError::TooLarge(_) | PinError::Refer(_) | PinError::StoreRead(_) | PinError::Record(_) => Exit::Error,
        // As above.
        _ => Exit::Error,
    };
    Failure::new(exit, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    #[test]
    fn a_content_of_ipfs_is_told_from_a_torrent() {
        for text in [CID, &format!("{CID}/a"), &format!("/ipfs/{CID}"), "ipns://docs.example.org", "/ipns/x.example/a"]
        {
            assert!(is_ipfs(text), "{text}");
            assert!(read_path(text).is_ok(), "{text}");
        }
        let infohash = "08ada5a7a6183aae1e09d831df6748d566095a10";
        for text in [infohash, "magnet:?xt=urn:btih:x", "film.torrent", "./a/b", "https://a.example/x.torrent"] {
            assert!(!is_ipfs(text), "{text}");
        }
        assert_eq!(read_path("/ipfs/nocid").unwrap_err().exit, Exit::Usage);
        assert_eq!(read_cid(&format!("/ipfs/{CID}/")).unwrap().to_string(), CID);
        assert!(read_cid("x").is_err());
    }
}
