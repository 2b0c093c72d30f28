//! Reads the environment: `SWARMGATE_CACHE__MAX_SIZE=50GiB`, or `SWARMGATE_AUTH__TOKEN_FILE=/run/secrets/token` for a
//! value that lies in a file.

use std::ffi::OsString;
use std::path::Path;

use super::{CONFIG_VARIABLE, ENV_PREFIX, Origin, Setting, file};
use crate::catalogue::{Catalogue, env_name};
use crate::mistakes::Mistake;

/// What a variable ends with when it names a file that holds the value.
const FILE_SUFFIX: &str = "_FILE";

/// 64 KiB. The longest value expected is a list of trackers; a larger file is a wrong path.
const MAX_VALUE_BYTES: u64 = 64 << 10;

pub(super) fn read(env: &[(String, OsString)], catalogue: &Catalogue, mistakes: &mut Vec<Mistake>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX) && name != CONFIG_VARIABLE) {
        match read_one(name, value, env, catalogue) {
            Ok(setting) => settings.extend(setting),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    settings
}

fn read_one(
    name: &str,
    value: &OsString,
    env: &[(String, OsString)],
    catalogue: &Catalogue,
) -> Result<Option<Setting>, Mistake> {
    let origin = Origin::Env { name: name.to_owned() };
    let Some(text) = value.to_str() else {
        return Err(Mistake::of_source(origin, "the value is not UTF-8"));
    };
    if let Some(key) = catalogue.key_of_env(name) {
        return setting(key, text, origin, catalogue).map(Some);
    }
    if let Some(key) = name.strip_suffix(FILE_SUFFIX).and_then(|direct| catalogue.key_of_env(direct)) {
        let direct = env_name(key);
        // The mistake names the option, so that no rule complains that the option is not set.
        let mistake = |reason| Mistake { key: Some(key.to_owned()), value: None, origin: origin.clone(), reason };
        if env.iter().any(|(other, _)| *other == direct) {
            return Err(mistake(format!("{direct} is set too; keep one of the two")));
        }
        let content = file::read_bounded(Path::new(text), MAX_VALUE_BYTES)
            .map_err(|why| mistake(format!("cannot read {text}: {why}")))?;
        return setting(key, content.trim_end_matches(['\r', '\n']), origin, catalogue).map(Some);
    }
    if is_service_link(name, text) {
        return Ok(None);
    }
    Err(Mistake::of_source(origin, catalogue.unknown_env(name)))
}

fn setting(key: &str, text: &str, origin: Origin, catalogue: &Catalogue) -> Result<Setting, Mistake> {
    let option = catalogue.option(key).expect("the key comes from the catalogue");
    Setting::from_text(key, text, option, origin.clone()).map_err(|reason| Mistake {
        key: Some(key.to_owned()),
        value: Some(option.shown_text(text)),
        origin,
        reason,
    })
}

/// Whether Kubernetes made this variable: for a service named `swarmgate` it puts `SWARMGATE_PORT=tcp://10.0.0.7:8420`,
/// `SWARMGATE_SERVICE_HOST` and relatives into every container of the namespace. They are nobody's typing mistake.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_port_of_protocol = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok()) && matches!(parts.next(), Some("TCP" | "UDP"))
    });
    let is_url = name.ends_with("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://"));
    is_port_of_protocol || is_url || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_kubernetes_makes_are_nobodys_mistake() {
        for (name, value) in [
            ("SWARMGATE_PORT", "tcp://10.0.0.7:8420"),
            ("SWARMGATE_SERVICE_HOST", "10.0.0.7"),
            ("SWARMGATE_SERVICE_PORT_HTTP", "8420"),
            ("SWARMGATE_PORT_8420_TCP_ADDR", "10.0.0.7"),
            ("SWARMGATE_WEB_PORT_8421_UDP", "udp://10.0.0.7:8421"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for name in ["SWARMGATE_PORT", "SWARMGATE_BITTORRENT_LISTEN_PORT", "SWARMGATE_PORT_ALL_TCP"] {
            assert!(!is_service_link(name, "8420"), "{name}");
        }
    }
}
