//! Lays the sources over each other and checks the result. Each setting is first tried alone over the defaults, so that
//! one wrong value hides no other; then the whole is checked for what only options together can get wrong.

use std::collections::{BTreeMap, BTreeSet};

use figment::Figment;
use figment::error::Kind;

use crate::catalogue::{Catalogue, OptionEntry};
use crate::mistakes::{ConfigErrors, Mistake};
use crate::options::Config;
use crate::sources::{Origin, Setting, Sources};
use crate::validate;

/// A configuration, and where each of its values comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The origin of every option by its dotted key, as `cache.max_size`.
    pub origins: BTreeMap<String, Origin>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// When anything is wrong; then with everything that is.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
        let catalogue = Catalogue::new();
        let mut mistakes = Vec::new();
        let settings = sources.read(&catalogue, &mut mistakes);
        let (loaded, winners) = merge(settings, &catalogue, sources, &mut mistakes);
        let all_was_read = mistakes.iter().all(|mistake| mistake.key.is_some());
        if all_was_read {
            mistakes.extend(broken_rules(&loaded, &winners, &mistakes));
        }
        mistakes.sort_by(|a, b| a.origin.cmp(&b.origin));
        if mistakes.is_empty() { Ok(loaded) } else { Err(ConfigErrors { mistakes }) }
    }
}

/// Merges the settings that are right by themselves, and keeps the strongest of each option.
fn merge(
    settings: Vec<Setting>,
    catalogue: &Catalogue,
    sources: &Sources,
    mistakes: &mut Vec<Mistake>,
) -> (Loaded, BTreeMap<String, Setting>) {
    let mut figment = Figment::new();
    let mut winners = BTreeMap::new();
    for setting in settings {
        let option = catalogue.option(&setting.key).expect("a source yields only options of the catalogue");
        match Figment::from(setting.clone()).extract::<Config>() {
            Ok(_) => {
                figment = figment.merge(setting.clone());
                winners.insert(setting.key.clone(), setting);
            }
            Err(why) => mistakes.push(mistake_of(&setting, reason(why, option))),
        }
    }
    let mut config: Config =
        figment.extract().expect("each setting deserialized alone, and a merge only puts them side by side");
    if config.cache.dir.as_os_str().is_empty() {
        config.cache.dir = sources.platform_cache_dir.clone().unwrap_or_default();
    }
    let origin = |key: &str| winners.get(key).map_or(Origin::BuiltIn, |setting: &Setting| setting.origin.clone());
    let origins = catalogue.keys().map(|key| (key.to_owned(), origin(key))).collect();
    (Loaded { config, origins }, winners)
}

/// Checks the rules whose options are all right by themselves.
fn broken_rules(loaded: &Loaded, winners: &BTreeMap<String, Setting>, mistakes: &[Mistake]) -> Vec<Mistake> {
    let wrong: BTreeSet<&str> = mistakes.iter().filter_map(|mistake| mistake.key.as_deref()).collect();
    let mut broken = Vec::new();
    for rule in validate::RULES.iter().filter(|rule| rule.keys.iter().all(|key| !wrong.contains(key))) {
        for reason in (rule.check)(&loaded.config) {
            // The first option of the rule that somebody set is the one to change.
            let set = rule.keys.iter().find_map(|key| winners.get(*key));
            broken.push(match set {
                Some(setting) => mistake_of(setting, reason),
                None => Mistake { key: Some(rule.keys[0].to_owned()), value: None, origin: Origin::BuiltIn, reason },
            });
        }
    }
    broken
}

fn mistake_of(setting: &Setting, reason: String) -> Mistake {
    Mistake {
        key: Some(setting.key.clone()),
        value: Some(setting.written.clone()),
        origin: setting.origin.clone(),
        reason,
    }
}

/// Why a value does not fit its option. Only a value of the right kind has a reason of its own; what a secret holds is
/// never repeated, and a secret of the right kind is always a value.
fn reason(error: figment::Error, option: &OptionEntry) -> String {
    match error.kind {
        Kind::Message(reason) => reason,
        Kind::InvalidType(..)
        | Kind::InvalidValue(..)
        | Kind::UnknownVariant(..)
        | Kind::UnknownField(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::InvalidLength(..)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => option.expectation(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::{Flag, LogFormat, Size, sample, show};

    const CACHE: &str = "/var/cache/swarmgate";

    /// Sources with a place for the cache and nothing else.
    fn nothing() -> Sources {
        Sources { platform_cache_dir: Some(PathBuf::from(CACHE)), ..Sources::default() }
    }

    fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn env<const N: usize>(variables: [(&str, &str); N]) -> Vec<(String, std::ffi::OsString)> {
        variables.map(|(name, value)| (name.to_owned(), value.into())).to_vec()
    }

    /// The errors as printed, with the test's directory replaced.
    fn errors(sources: &Sources, dir: &Path) -> String {
        let errors = Config::load(sources).unwrap_err().to_string();
        errors.replace(&dir.display().to_string(), "DIR")
    }

    #[test]
    fn nothing_given_is_the_defaults_with_the_platforms_cache() {
        let loaded = Config::load(&nothing()).unwrap();
        let mut expected = Config::default();
        expected.cache.dir = CACHE.into();
        assert_eq!(loaded.config, expected);
        assert!(loaded.origins.values().all(|origin| *origin == Origin::BuiltIn));
    }

    #[test]
    fn the_stronger_source_wins_and_each_value_names_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            system: Some(file(dir.path(), "system", "[cache]\nmax_size = \"1GiB\"\nmin_free = \"1GiB\"\n")),
            user: Some(file(dir.path(), "user", "[cache]\n\nmax_size = \"2GiB\"\nmemory = \"2MiB\"\n")),
            explicit: Some(file(dir.path(), "explicit", "[observe]\nlog = \"warn\"\nlog_format = \"human\"\n")),
            env: env([("SWARMGATE_OBSERVE__LOG_FORMAT", "json"), ("SWARMGATE_BITTORRENT__MAX_PEERS", "7")]),
            flags: vec![Flag::new("--log-level", "observe.log", "debug")],
            ..nothing()
        };
        let Loaded { config, origins } = Config::load(&sources).unwrap();
        assert_eq!((config.cache.max_size, config.cache.min_free), (Size::gib(2), Size::gib(1)));
        assert_eq!((config.observe.log.as_str(), config.observe.log_format), ("debug", LogFormat::Json));
        assert_eq!(config.bittorrent.max_peers, 7);

        let origin = |key| origins[key].to_string().replace(&dir.path().display().to_string(), "DIR");
        assert_eq!(origin("cache.max_size"), "file DIR/user, line 3");
        assert_eq!(origin("cache.min_free"), "file DIR/system, line 3");
        assert_eq!(origin("observe.log_format"), "env SWARMGATE_OBSERVE__LOG_FORMAT");
        assert_eq!(origin("observe.log"), "flag --log-level");
        assert_eq!(origin("auth.mode"), "built in");
    }

    #[test]
    fn the_environment_reads_lists_both_ways_and_keeps_digits_a_text() {
        let mut sources = nothing();
        for listen in ["127.0.0.1:1,[::1]:1", "[\"127.0.0.1:1\", \"[::1]:1\"]"] {
            sources.env = env([("SWARMGATE_SERVER__LISTEN", listen), ("SWARMGATE_AUTH__TOKEN", "12345678")]);
            let config = Config::load(&sources).unwrap().config;
            assert_eq!(config.server.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]);
            assert_eq!(config.auth.token.expose(), "12345678");
        }
        sources.env = env([("SWARMGATE_SERVER__LISTEN", "[::1]:1"), ("SWARMGATE_BITTORRENT__DHT_BOOTSTRAP", "")]);
        let config = Config::load(&sources).unwrap().config;
        assert_eq!(config.server.listen, ["[::1]:1".parse().unwrap()]);
        assert!(config.bittorrent.dht_bootstrap.is_empty());
    }

    #[test]
    fn a_secret_in_a_file_loses_only_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "token", "s3cret\n");
        let mut sources = nothing();
        sources.env = env([("SWARMGATE_AUTH__TOKEN_FILE", path.to_str().unwrap())]);
        assert_eq!(Config::load(&sources).unwrap().config.auth.token.expose(), "s3cret");
    }

    #[test]
    fn the_config_variable_names_a_file_unless_the_flag_does() {
        let dir = tempfile::tempdir().unwrap();
        let by_env = file(dir.path(), "env", "[items]\nmax_active = 1\n");
        let by_flag = file(dir.path(), "flag", "[items]\nmax_active = 2\n");
        let mut sources = nothing();
        sources.env = env([("SWARMGATE_CONFIG", by_env.to_str().unwrap())]);
        assert_eq!(Config::load(&sources).unwrap().config.items.max_active, 1);
        sources.explicit = Some(by_flag);
        assert_eq!(Config::load(&sources).unwrap().config.items.max_active, 2);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let system = "\
cache = 3
color = \"red\"

[serve]
listen = [\"0.0.0.0:80\"]

[deadlines]
stall = \"30\"
max_wait = \"20s\"

[bittorrent]
listen_port = 70000
max_peers = 0
dht = \"yes\"
max_peer = 3
trackers = [\"ftp://tracker.example/\", \"udp://tracker.example\"]
";
        let user = "\
[server]
listen = [\"localhost:8420\"]
max_streams = -1
allowed_hosts = \"localhost\"

[auth]
mode = \"open\"

[cache.max_size]
bytes = 3
";
        let sources = Sources {
            system: Some(file(dir.path(), "system.toml", system)),
            user: Some(file(dir.path(), "user.toml", user)),
            env: env([
                ("SWARMGATE_CACHE_MAX_SIZE", "1GiB"),
                ("SWARMGATE_CACHE__EPHEMERAL", "1"),
                ("SWARMGATE_PORT", "tcp://10.0.0.7:8420"),
                ("PATH", "/bin"),
            ]),
            flags: vec![
                Flag::new("--set", "cache.memory", "lots"),
                Flag::new("--set", "cache.memroy", "1GiB"),
                Flag::new("--set", "items.max_active", "many"),
            ],
            ..nothing()
        };
        insta::assert_snapshot!(errors(&sources, dir.path()));
    }

    #[test]
    fn rules_between_options_speak_once_all_sources_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = "\
[server]
listen = [\"127.0.0.1:8421\", \"0.0.0.0:8421\"]
base_path = \"gate/\"

[deadlines]
max_wait = \"20s\"

[bittorrent]
max_peers = 0
";
        let mut sources = Sources { explicit: Some(file(dir.path(), "config.toml", text)), ..nothing() };
        insta::assert_snapshot!("rules_speak", errors(&sources, dir.path()));

        sources.user = Some(file(dir.path(), "user.toml", "[auth]\ntoken = never closed\n"));
        insta::assert_snapshot!("rules_are_silent", errors(&sources, dir.path()));
    }

    #[test]
    fn a_file_that_was_asked_for_has_to_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.toml");
        let mut sources = Sources { user: Some(missing.clone()), ..nothing() };
        assert!(Config::load(&sources).is_ok());
        sources.explicit = Some(missing);
        assert!(errors(&sources, dir.path()).contains("file DIR/missing.toml: cannot be read: "));
    }

    #[test]
    fn no_mistake_repeats_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "token", "hunter2");
        let in_file = |text| Sources { explicit: Some(file(dir.path(), "config.toml", text)), ..nothing() };
        let in_env = |variables| Sources { env: variables, ..nothing() };
        let by_flag = |key: &str| Sources { flags: vec![Flag::new("--set", key, "hunter2 ")], ..nothing() };
        for sources in [
            in_file("[auth]\ntoken = [\"hunter2\"]\n"),
            in_file("[auth]\ntokn = \"hunter2\"\n"),
            in_file("[auth]\nmode = \"none\"\ntoken = \"hunter2\"\n"),
            in_file("[auth]\ntoken = hunter2\n"),
            in_file("token = \"hunter2\"\n"),
            in_env(env([
                ("SWARMGATE_AUTH__TOKEN", "hunter2 "),
                ("SWARMGATE_AUTH__TOKEN_FILE", path.to_str().unwrap()),
            ])),
            in_env(env([("SWARMGATE_TOKEN", "hunter2")])),
            by_flag("auth.token"),
            by_flag("auth.tokn"),
        ] {
            let errors = Config::load(&sources).unwrap_err();
            assert!(!errors.to_string().contains("hunter2"), "{errors}");
            assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
        }
        let good = Sources { flags: vec![Flag::new("--set", "auth.token", "hunter2")], ..nothing() };
        let loaded = Config::load(&good).unwrap();
        assert!(!show(&loaded, true).contains("hunter2"));
        assert!(!format!("{loaded:?}").contains("hunter2"));
    }

    #[test]
    fn no_output_shows_a_password_or_a_key_in_a_url() {
        let dir = tempfile::tempdir().unwrap();
        let text = "\
[server]
public_url = \"https://me:hunter2@media.example/\"

[bittorrent]
trackers = [\"udp://me:hunter2@t.example/hunter2\", \"https://me:hun/ter2@t.example\"]

[webtorrent]
trackers = [\"https://t.example/hunter2?key=hunter2\"]
stun = [\"stun:me:hunter2@s.example\"]
turn = [\"turn:me:hunter2@t.example\", \"turn://me:hunter2@t.example\"]
tracker_origins = [\"https://me:hunter2@a.example\"]

[ipfs]
gateways = [\"ftp://me:hunter2@g.example/\", \"https://g.example/?token=hunter2\"]
routers = { a = \"https://hunter2@r.example\" }
kubo_api = [\"http://me:hunter2@127.0.0.1:5001\"]
";
        let flag = |key: &str, value: &str| Flag::new("--set", key, value);
        for sources in [
            Sources { explicit: Some(file(dir.path(), "config.toml", text)), ..nothing() },
            Sources {
                env: env([
                    ("SWARMGATE_IPFS__GATEWAYS", "https://g.example, https://me:hun,ter2@g.example"),
                    ("SWARMGATE_IPFS__ROUTERS", "[\"https://me:hunter2@r.example/\", 3]"),
                    ("SWARMGATE_IPFS__KUBO_API", "me:hunter2@127.0.0.1:5001"),
                    ("SWARMGATE_WEBTORRENT__TRACKERS", "[\"https://me:hunter2@r.example/\""),
                ]),
                ..nothing()
            },
            Sources {
                flags: vec![
                    flag("ipfs.kubo_api", "hunter2@127.0.0.1"),
                    flag("bittorrent.trackers", "udp://me:hunter2@t.example"),
                    flag("webtorrent.stun", "[\"stun:me:hunter2@t.example\"]"),
                ],
                ..nothing()
            },
        ] {
            let errors = Config::load(&sources).unwrap_err();
            assert!(errors.mistakes.len() >= 3, "{errors}");
            for leaked in ["hunter2", "ter2", "hun/", "hun,"] {
                assert!(!errors.to_string().contains(leaked), "{leaked}: {errors}");
                assert!(!format!("{errors:?}").contains(leaked), "{leaked}: {errors:?}");
            }
        }
        let good = Sources {
            flags: vec![
                flag("ipfs.gateways", "https://me:hunter2@g.example/hunter2/,https://h.example"),
                flag("ipfs.routers", "https://hunter2@r.example"),
                flag("ipfs.kubo_api", "http://me:hunter2@127.0.0.1:5001"),
                flag("bittorrent.trackers", "https://t.example/hunter2/announce?passkey=hunter2"),
                flag("webtorrent.trackers", "wss://me:hunter2@w.example"),
            ],
            ..nothing()
        };
        let loaded = Config::load(&good).unwrap();
        assert_eq!(loaded.config.ipfs.kubo_api.as_ref().unwrap().password(), Some("hunter2"), "as it is used");
        let shown = show(&loaded, true);
        assert!(!shown.contains("hunter2") && !format!("{loaded:?}").contains("hunter2"), "{shown}");
        for line in [
            "ipfs.gateways = [\"https://me:<redacted>@g.example/<redacted>/\", \"https://h.example/\"]  # from flag",
            "bittorrent.trackers = [\"https://t.example/<redacted>/announce?<redacted>\"]  # from flag --set\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn a_collector_is_a_mistake_where_the_program_cannot_tell_it() {
        let flag = Flag::new("--set", "observe.otlp_endpoint", "http://me:hunter2@c.example:4318");
        let told = match Config::load(&Sources { flags: vec![flag], ..nothing() }) {
            Ok(loaded) => show(&loaded, true),
            Err(errors) => errors.to_string(),
        };
        assert!(told.contains("observe.otlp_endpoint = ") && !told.contains("hunter2"), "{told}");
        assert_eq!(told.contains("--features otel"), !cfg!(feature = "otel"), "{told}");
    }

    #[test]
    fn the_sample_uncommented_is_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let uncommented: String = sample()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(option) if !option.is_empty() && !option.starts_with(' ') => format!("{option}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert!(uncommented.contains("\nmax_size = "));
        let sources = Sources { explicit: Some(file(dir.path(), "sample.toml", &uncommented)), ..nothing() };
        let loaded = Config::load(&sources).unwrap();
        let untouched = Config::load(&nothing()).unwrap();
        assert_eq!(loaded.config, untouched.config);
        assert!(loaded.origins.values().all(|origin| *origin != Origin::BuiltIn));
    }
}
