//! What can be changed while the gateway runs: whole sections, so that nobody need remember which option.

use crate::load::Loaded;
use crate::mistakes::ConfigErrors;
use crate::options::Config;
use crate::sources::{Flag, Sources};

/// The sections of which every option can be changed while the gateway runs. All others need a restart.
pub const LIVE_SECTIONS: [&str; 2] = ["seeding", "limits"];

impl Config {
    /// Takes over what can be changed while the gateway runs, and names the options that are otherwise and need a restart.
    pub fn take_live(&mut self, new: &Self) -> Vec<String> {
        self.seeding = new.seeding.clone();
        self.limits = new.limits.clone();
        let (old_options, new_options) = (options(self), options(new));
        let differs = |(key, value): &(String, String)| !new_options.contains(&(key.clone(), value.clone()));
        let mut restart: Vec<_> = old_options.into_iter().filter(differs).map(|(key, _)| key).collect();
        // Secrets look alike in every output.
        let secrets = [
            ("auth.token", self.auth.token != new.auth.token),
            ("auth.link_key", self.auth.link_key != new.auth.link_key),
            ("webtorrent.turn_password", self.webtorrent.turn_password != new.webtorrent.turn_password),
        ];
        for (key, _) in secrets.iter().filter(|(_, differs)| *differs) {
            if !restart.iter().any(|named| named == key) {
                restart.push((*key).to_owned());
            }
        }
        restart
    }

    /// The same configuration with some of its live options set to these texts.
    ///
    /// # Errors
    /// Every mistake in them, as at the start. An option that needs a restart is one.
    pub fn with_live(&self, changes: &[(String, String)]) -> Result<Self, ConfigErrors> {
        let is_live = |key: &str| LIVE_SECTIONS.iter().any(|section| key.split('.').next() == Some(section));
        let current = options(self).into_iter().filter(|(key, _)| is_live(key));
        let current = current.filter(|(key, _)| !changes.iter().any(|(changed, _)| changed == key));
        let flags = current.map(|(key, value)| Flag::new("current", &key, &value));
        let changed = changes.iter().map(|(key, value)| Flag::new("request", key, value));
        let sources = Sources {
            flags: flags.chain(changed).collect(),
            platform_cache_dir: Some(self.cache.dir.clone()),
            ..Sources::default()
        };
        let Loaded { config, .. } = Self::load(&sources)?;
        if let Some((key, value)) = changes.iter().find(|(key, _)| !is_live(key)) {
            return Err(ConfigErrors::needs_restart(key, value));
        }
        let mut new = self.clone();
        (new.seeding, new.limits) = (config.seeding, config.limits);
        Ok(new)
    }

    /// Every option that can be changed while the gateway runs, with its value as a text.
    #[must_use]
    pub fn live_options(&self) -> Vec<(String, String)> {
        let is_live = |key: &str| LIVE_SECTIONS.iter().any(|section| key.split('.').next() == Some(section));
        options(self).into_iter().filter(|(key, _)| is_live(key)).collect()
    }
}

/// Every option and its value as a text that [`Flag`] reads, secrets redacted.
fn options(config: &Config) -> Vec<(String, String)> {
    let table = toml::Table::try_from(config).expect("every option is a text, a number, a switch or a list of texts");
    let mut options = Vec::new();
    for (section, values) in &table {
        for (name, value) in values.as_table().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            options.push((format!("{section}.{name}"), text));
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rate;

    #[test]
    fn live_options_are_taken_over_and_others_are_named() {
        let (mut old, mut new) = (Config::default(), Config::default());
        new.seeding.upload_limit = Rate::from_bytes(1 << 20);
        new.bittorrent.max_peers = 7;
        new.auth.token = crate::Secret::new("s");
        assert_eq!(old.take_live(&new), ["auth.token", "bittorrent.max_peers"]);
        assert_eq!(old.seeding.upload_limit, Rate::from_bytes(1 << 20));
        assert_eq!(old.bittorrent, Config::default().bittorrent);
        (old.auth.token, new.auth.token) = (crate::Secret::new("s"), crate::Secret::new("t"));
        assert_eq!(old.take_live(&new), ["bittorrent.max_peers", "auth.token"]);
    }

    #[test]
    fn a_change_is_checked_as_at_the_start_and_leaves_the_rest() {
        let mut config = Config::default();
        config.cache.dir = "/var/cache".into();
        config.seeding.upload_slots = 3;
        let change = |key: &str, value: &str| config.with_live(&[(key.to_owned(), value.to_owned())]);
        let changed = change("limits.bandwidth", "2MiB/s").unwrap();
        assert_eq!(changed.limits.bandwidth, Rate::from_bytes(2 << 20));
        assert_eq!((changed.seeding.upload_slots, &changed.cache), (3, &config.cache));
        assert_eq!(change("seeding.ratio", "2.5").unwrap().seeding.ratio, 2.5);
        for (key, value) in [
            ("seeding.upload_slots", "0"),
            ("seeding.upload_limit", "fast"),
            ("seeding.uplod_limit", "1"),
            ("bittorrent.max_peers", "7"),
        ] {
            let errors = change(key, value).unwrap_err().to_string();
            assert!(errors.contains(key), "{errors}");
        }
    }
}
