//! What can be changed while the gateway runs, and how: limits and the policy of uploading.
//!
//! A change is a whole configuration, read and checked as at the start; what is wrong changes nothing. It comes by SIGHUP,
//! which reads the files and the environment again, or over the API, which changes single options until the next start.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use swarmgate_bittorrent::{BitTorrentProtocol, UploadPolicy, UploadRules};
use swarmgate_bittorrent_proto::choker::TurnOrder;
use swarmgate_config::{Config, ConfigErrors, SeedingPolicy, Turns};
use swarmgate_content::{Event, EventBus};
use swarmgate_pace::Limit;
use swarmgate_swarm::Pace;
use utoipa::ToSchema;

use crate::pace::ClientPace;
use crate::rates::Rates;

/// The limits in force.
#[derive(Debug, Clone, Default)]
struct Limits {
    upload: Limit,
    download: Limit,
    item_upload: Limit,
    item_download: Limit,
    clients: Limit,
    item: Limit,
    client: Limit,
    rates: Rates,
}

/// What became of a configuration that was taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Taken {
    /// Options that have another value from now on, in the order of their keys.
    pub changed: Vec<Changed>,
    /// Options that are otherwise than in the running gateway, and need a restart.
    pub restart: Vec<String>,
}

/// An option that has another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Changed {
    /// As in `seeding.upload_limit`.
    pub key: String,
    /// Its value until now, as a text.
    pub before: String,
    /// Its value from now on.
    pub now: String,
}

/// See the module's head.
#[derive(Debug)]
pub struct Live {
    config: Mutex<Config>,
    limits: Limits,
    peers: Pace,
    clients: ClientPace,
    engine: Mutex<Option<Arc<BitTorrentProtocol>>>,
    events: Mutex<Option<EventBus>>,
}

impl Live {
    /// Begins with this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        let limits = Limits::default();
        limits.follow(config);
        let Limits { upload, download, item_upload, item_download, clients, item, client, rates: _ } = limits.clone();
        Arc::new(Self {
            config: Mutex::new(config.clone()),
            limits,
            peers: Pace::new(upload, download, item_upload, item_download),
            clients: ClientPace::new(clients, item, client),
            engine: Mutex::new(None),
            events: Mutex::new(None),
        })
    }

    /// How fast peers give and take.
    #[must_use]
    pub fn peers(&self) -> Pace {
        self.peers.clone()
    }

    /// How fast clients are served.
    #[must_use]
    pub fn clients(&self) -> ClientPace {
        self.clients.clone()
    }

    /// How often strangers may ask.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.limits.rates.clone()
    }

    /// Has the torrent engine follow too.
    pub(crate) fn lead(&self, engine: &Arc<BitTorrentProtocol>) {
        *self.engine.lock() = Some(Arc::clone(engine));
    }

    /// Has this bus told of each configuration that is taken over or refused, from now on.
    pub fn tell_on(&self, events: &EventBus) {
        *self.events.lock() = Some(events.clone());
    }

    /// Tells whoever follows events.
    pub(crate) fn tell(&self, event: Event) {
        if let Some(events) = &*self.events.lock() {
            events.publish(event);
        }
    }

    /// Takes over from a configuration what can be changed while the gateway runs.
    pub fn take(&self, new: &Config) -> Taken {
        let mut config = self.config.lock();
        let before = config.live_options();
        let restart = config.take_live(new);
        // Each of them has a value at all times, so both lists have the same keys.
        let changed = before.into_iter().zip(config.live_options()).filter(|(before, now)| before != now);
        let changed: Vec<_> = changed.map(|((key, before), (_, now))| Changed { key, before, now }).collect();
        self.limits.follow(&config);
        if let Some(engine) = &*self.engine.lock() {
            engine.set_uploads(upload_rules(&config));
        }
        tracing::info!(needs_restart = ?restart, "the configuration was taken over");
        self.tell(Event::ConfigReloaded {
            changed: changed.iter().map(|option| option.key.clone()).collect(),
            restart: restart.clone(),
            error: None,
        });
        Taken { changed, restart }
    }

    /// Changes single options, by their keys and as texts.
    ///
    /// # Errors
    /// Every mistake in them; then nothing is changed.
    pub fn change(&self, changes: &[(String, String)]) -> Result<(), ConfigErrors> {
        let new = self.config.lock().with_live(changes)?;
        self.take(&new);
        Ok(())
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.lock().clone()
    }

    /// The limits in force, for who looks at them.
    #[cfg(test)]
    pub(crate) fn limits(&self) -> impl std::fmt::Debug {
        self.limits.clone()
    }

    /// Every option that can be changed, with its value.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        self.config.lock().live_options()
    }
}

impl Limits {
    fn follow(&self, config: &Config) {
        self.upload.set(config.seeding.upload_limit.bytes_per_second());
        self.download.set(config.seeding.download_limit.bytes_per_second());
        self.item_upload.set(config.seeding.item_upload_limit.bytes_per_second());
        self.item_download.set(config.seeding.item_download_limit.bytes_per_second());
        self.clients.set(config.limits.bandwidth.bytes_per_second());
        self.item.set(config.limits.item_bandwidth.bytes_per_second());
        self.client.set(config.limits.client_bandwidth.bytes_per_second());
        self.rates.set(config.limits.requests_per_minute, config.limits.new_items_per_minute);
    }
}

/// How uploading is done.
pub(crate) fn upload_rules(config: &Config) -> UploadRules {
    UploadRules {
        policy: match config.seeding.policy {
            SeedingPolicy::Off => UploadPolicy::Off,
            SeedingPolicy::WhileActive => UploadPolicy::WhileActive,
            SeedingPolicy::Ratio => UploadPolicy::Ratio {
                ratio: config.seeding.ratio,
                max_secs: config.seeding.max_time.duration().as_secs(),
            },
            SeedingPolicy::Forever => UploadPolicy::Forever,
        },
        slots: config.seeding.upload_slots,
        turns: match config.seeding.turns {
            Turns::RoundRobin => TurnOrder::RoundRobin,
            Turns::Fastest => TurnOrder::Fastest,
        },
    }
}
