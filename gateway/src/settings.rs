//! The options in force, each with where its value comes from and what it means: what `config show --origin` says, for
//! whoever asks the running gateway. Secrets are shown as such and not said.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use swarmgate_config::{Loaded, schema};

use crate::live::Live;

/// Who sets options that came from no file, flag or variable: a program that embeds the gateway.
const EMBEDDER: &str = "the program that started the gateway";

/// Who set options that are otherwise than at the start.
const CHANGED: &str = "a change while it runs";

/// Every option in the order of their keys: `key`, `value`, `origin`, `doc`, and whether it is `live`: those have the value
/// that they were changed to, which may be of no origin that was known at the start.
#[must_use]
pub fn list(loaded: &Loaded, live: &Live) -> Value {
    let begun: BTreeMap<_, _> = Live::new(&loaded.config).options().into_iter().collect();
    let live: BTreeMap<_, _> = live.options().into_iter().collect();
    let values = serde_json::to_value(&loaded.config).unwrap_or_default();
    let schema = schema();
    let sections = values.as_object().into_iter().flatten();
    let options = sections.flat_map(|(section, options)| {
        options.as_object().into_iter().flatten().map(|(name, value)| (section.clone(), name.clone(), value.clone()))
    });
    let row = |(section, name, value): (String, String, Value)| {
        let key = format!("{section}.{name}");
        let origin = loaded.origins.get(&key).map_or_else(|| EMBEDDER.to_owned(), ToString::to_string);
        let doc = &schema["properties"][&section]["properties"][&name]["description"];
        let Some(now) = live.get(&key) else {
            return json!({ "key": key, "value": value, "origin": origin, "doc": doc, "live": false });
        };
        let origin = if begun.get(&key) == Some(now) { origin } else { CHANGED.to_owned() };
        json!({ "key": key, "value": now, "origin": origin, "doc": doc, "live": true })
    };
    Value::Array(options.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarmgate_config::{Config, Flag, Sources};

    #[test]
    fn each_option_tells_its_value_its_origin_and_its_meaning_but_no_secret() {
        let flags =
            vec![Flag::new("--set", "cache.max_size", "1GiB"), Flag::new("--set", "auth.token", "hunter2hunter2")];
        let sources = Sources { flags, platform_cache_dir: Some("/cache".into()), ..Sources::default() };
        let loaded = Config::load(&sources).unwrap();
        let live = Live::new(&loaded.config);
        live.change(&[("limits.bandwidth".to_owned(), "2MB/s".to_owned())]).unwrap();
        let all = list(&loaded, &live);
        let rows = all.as_array().unwrap();
        assert_eq!(rows.len(), loaded.origins.len());
        let size = rows.iter().find(|row| row["key"] == "cache.max_size").unwrap();
        assert_eq!((&size["value"], &size["origin"]), (&json!("1GiB"), &json!("flag --set")));
        let bandwidth = rows.iter().find(|row| row["key"] == "limits.bandwidth").unwrap();
        assert_eq!((&bandwidth["value"], &bandwidth["live"]), (&json!("2000000/s"), &json!(true)));
        assert_eq!(bandwidth["origin"], CHANGED);
        assert!(rows.iter().all(|row| row["doc"].as_str().is_some_and(|doc| !doc.is_empty())), "{all}");
        assert!(!all.to_string().contains("hunter2"));
    }

    #[test]
    fn what_a_program_has_set_is_its_own() {
        let loaded = Loaded { config: Config::default(), origins: Default::default() };
        assert!(
            list(&loaded, &Live::new(&loaded.config)).as_array().unwrap().iter().all(|row| row["origin"] == EMBEDDER)
        );
    }
}
