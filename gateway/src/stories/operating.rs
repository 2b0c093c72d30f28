//! What an operator does to a running gateway over the API: has its configuration read again.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use swarmgate_config::{Config, Sources};

use crate::live::Live;
use crate::reload::Reloader;
use crate::testing::{World, world, world_with};

const FILES: &[(&str, u64)] = &[("film.mkv", 1000)];

/// A gateway whose configuration is this file, as it is now.
async fn configured_by(file: &Path) -> (World, Arc<Live>) {
    let explicit = Some(file.to_owned());
    let sources = Sources { explicit, platform_cache_dir: Some("/cache".into()), ..Sources::default() };
    let live = Live::new(&Config::load(&sources).unwrap().config);
    let reloader = Reloader::new(Arc::clone(&live), None, sources);
    let followed = Arc::clone(&live);
    let exchange = |parts: &mut crate::state::Parts| {
        parts.live = Some(followed);
        parts.reloader = Some(Arc::new(reloader));
    };
    (world_with(FILES, exchange).await, live)
}

#[tokio::test]
async fn a_reload_tells_what_has_changed_and_what_needs_a_restart_and_mistakes_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("swarmgate.toml");
    std::fs::write(&file, "[limits]\nbandwidth = \"1MB/s\"\n").unwrap();
    let (world, live) = configured_by(&file).await;
    let reload = async || world.send("POST", "/api/v1/config/reload", &[], b"").await;
    assert_eq!(reload().await.json(), json!({ "changed": [], "restart": [] }));

    std::fs::write(&file, "[limits]\nbandwidth = \"2MB/s\"\n[bittorrent]\nmax_peers = 7\n").unwrap();
    let changed = json!([{ "key": "limits.bandwidth", "before": "1000000/s", "now": "2000000/s" }]);
    assert_eq!(reload().await.json(), json!({ "changed": changed, "restart": ["bittorrent.max_peers"] }));

    let in_force = live.options();
    std::fs::write(&file, "[limits]\nbandwidth = \"fast\"\nitem_bandwith = 7\n").unwrap();
    let refused = reload().await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "bad-configuration"));
    let hints = refused.json()["hints"].to_string();
    for told in ["limits.bandwidth", "fast", "item_bandwith", "swarmgate.toml"] {
        assert!(hints.contains(told), "{told}: {hints}");
    }
    assert_eq!(live.options(), in_force);
}

#[tokio::test]
async fn a_gateway_that_was_started_from_no_configuration_reads_none_again() {
    let answer = world(FILES).await.send("POST", "/api/v1/config/reload", &[], b"").await;
    assert_eq!((answer.status, answer.problem().as_str()), (501, "unsupported"));
}
