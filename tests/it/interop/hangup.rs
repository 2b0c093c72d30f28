//! The configuration of a gateway that runs, read again when it is told to.

use std::process::Command;
use std::time::Duration;

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;

#[tokio::test]
async fn a_hangup_has_the_configuration_read_again_and_a_mistake_in_it_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("swarmgate.toml");
    std::fs::write(&file, "[limits]\nbandwidth = \"1MB/s\"\n").unwrap();
    let options = [("SWARMGATE_CONFIG", file.to_str().unwrap())];
    let Some(gateway) = Gateway::start_with(dir.path(), &options).await else {
        return;
    };
    let bandwidth = async || {
        let options = http::get(&gateway.url("/api/v1/config")).await.json();
        let rows = options["options"].as_array().unwrap();
        let row = rows.iter().find(|row| row["key"] == "limits.bandwidth").unwrap();
        row["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(bandwidth().await, "1000000/s");
    for (text, then) in [
        ("[limits]\nbandwidth = \"2MB/s\"\n", "2000000/s"),
        ("[limits]\nbandwidth = \"fast\"\n", "2000000/s"),
        ("[limits]\nbandwidth = 0\n[bittorrent]\nmax_peers = 7\n", "0"),
    ] {
        std::fs::write(&file, text).unwrap();
        let hangup = Command::new("kill").args(["-HUP", &gateway.pid().to_string()]).status().unwrap();
        assert!(hangup.success());
        // Long enough to be read, so that one with a mistake is seen to change nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bandwidth().await, then, "{text}");
    }
}
